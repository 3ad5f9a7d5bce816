//! `staunch login`: one of four ways to a token.

use super::fault::{Fault, shown};
use super::grant::Client;
use super::issuer::Issuer;
use super::settings::{IssuerSettings, Method, Settings, TokenUse};
use super::store::{Store, Tokens};
use super::terminal::say;
use super::{code, device, token_file};
use crate::identify::oidc::Mistaken;
use std::io::{self, BufRead, IsTerminal, Read};
use std::path::Path;
use std::time::{Duration, SystemTime};

pub use super::arguments::{Arguments, MethodFlags};

/// Logs in and keeps settings and tokens.
pub async fn run(arguments: Arguments) -> Result<(), Fault> {
    run_in(&Store::open()?, arguments).await
}

/// As [`run`], with another store.
pub async fn run_in(store: &Store, arguments: Arguments) -> Result<(), Fault> {
    let (profile, browser) = (arguments.profile.clone(), !arguments.no_browser);
    let switch = arguments.switch_user;
    let settings = arguments.settle(store.settings(&profile)?)?;
    let tokens = match &settings {
        Settings::TokenFile(path) => {
            let (token, _) = token_file::read(path)?;
            if let Some(mistaken) = Mistaken::of(token.expose()) {
                say(&format!("Note: the file holds {mistaken}: {}.", mistaken.remedy()));
            }
            None
        }
        Settings::Issuer(settings) => Some(tokens(settings, browser, store.folder()).await?),
    };
    if let (Some(new), Ok(Some(old))) = (&tokens, store.tokens(&profile))
        && !switch
    {
        confirm_person(&old, new)?;
    }
    // Not before: waiting for a person must not keep other processes from their tokens.
    let lock = store.lock(&profile).await?;
    // From a file that something else renews nothing is kept; that there was a login is.
    store.keep_tokens(&profile, tokens.as_ref().unwrap_or(&Tokens::default()), &lock)?;
    store.keep_settings(&profile, &settings, &lock)?;
    say(&describe_login(&settings, tokens.as_ref()));
    Ok(())
}

async fn tokens(settings: &IssuerSettings, browser: bool, folder: &Path) -> Result<Tokens, Fault> {
    let issuer = Issuer::discover(&settings.issuer, settings.ca.as_deref()).await?;
    let client = Client::new(&issuer, settings)?;
    let scope = settings.scope.as_deref().unwrap_or_else(|| issuer.scope());
    let tokens = match settings.method {
        Method::Browser => code::log_in(&client, scope, browser, folder).await?,
        Method::Device => device::log_in(&client, scope).await?,
        Method::ClientCredentials => client.client_credentials().await?,
    };
    let openid =
        settings.method != Method::ClientCredentials && scope.split(' ').any(|scope| scope == "openid");
    // Without it, neither the person nor the nonce is known (OpenID Connect Core 1.0 section 3.1.3.3).
    if tokens.id.is_none() && (openid || settings.token_use == TokenUse::Id) {
        return Err(issuer.broken("it gave no ID token"));
    }
    Ok(tokens)
}

/// Asks when somebody else has logged in than before: it may have been somebody else's doing.
fn confirm_person(old: &Tokens, new: &Tokens) -> Result<(), Fault> {
    let (Some(before), Some(now)) = (&old.subject, &new.subject) else { return Ok(()) };
    if old.issuer != new.issuer || before == now {
        return Ok(());
    }
    say(&format!("This logs in {}; before it was {}.", person(new), person(old)));
    let agreed = io::stdin().is_terminal() && {
        say("Go on as this person? Write yes:");
        let mut answer = String::new();
        // No answer is no.
        let _ = io::stdin().lock().take(MAX_ANSWER).read_line(&mut answer);
        answer.trim().eq_ignore_ascii_case("yes")
    };
    match agreed {
        true => Ok(()),
        false => Err(Fault::Person(
            "nothing was kept; log in as the same person, or give --switch-user if it was meant".into(),
        )),
    }
}

/// Who has logged in, for people to read.
fn person(tokens: &Tokens) -> String {
    match (tokens.person.as_deref().map(shown), tokens.subject.as_deref().map(shown)) {
        (Some(name), Some(subject)) if name != subject => format!("{name} ({subject})"),
        (_, Some(subject)) => subject,
        (name, None) => name.unwrap_or_default(),
    }
}

/// Bytes of an answer at the terminal.
const MAX_ANSWER: u64 = 64;

/// The sentence at the end.
fn describe_login(settings: &Settings, tokens: Option<&Tokens>) -> String {
    let (settings, tokens) = match (settings, tokens) {
        (Settings::Issuer(settings), Some(tokens)) => (settings, tokens),
        (Settings::TokenFile(path), _) => return format!("Tokens come from {} from now on.", path.display()),
        (Settings::Issuer(_), None) => return String::new(),
    };
    let who = match tokens.subject {
        Some(_) => person(tokens),
        None => settings.client_id.clone(),
    };
    let left = match tokens.left(settings.token_use, SystemTime::now()) {
        Some(Duration::MAX) | None => "for as long as the issuer takes it".to_owned(),
        Some(left) if left.as_secs() < 120 => format!("for {} s", left.as_secs()),
        Some(left) => format!("for {} min", left.as_secs() / 60),
    };
    let renewed = match (&tokens.refresh, settings.method) {
        (Some(_), _) | (_, Method::ClientCredentials) => ", and renewed when it is needed",
        _ => "; the issuer gave none to renew it with",
    };
    let token = match settings.token_use {
        TokenUse::Access => &tokens.access,
        TokenUse::Id => &tokens.id,
    };
    let note = match token.as_ref().map(|token| Mistaken::of(token.expose())) {
        Some(None) => String::new(),
        Some(Some(mistaken @ Mistaken::Encrypted)) => {
            format!("\nNote: this is {mistaken}, which gateways do not take: {}.", mistaken.remedy())
        }
        _ => "\nNote: this access token is no JWT, and gateways take nothing else. Ask for one with --audience or \
              --resource, or show the ID token with --use id."
            .into(),
    };
    format!(
        "Logged in as {who} at {}. The {} is good {left}{renewed}.{note}",
        settings.issuer,
        settings.token_use.name()
    )
}
