//! A token that is good now: the kept one, or a new one in its place.

use super::claims::Claims;
use super::fault::{Fault, IssuerOffence};
use super::grant::{Client, Outcome};
use super::issuer::Issuer;
use super::issuer_http::Form;
use super::profile::Profile;
use super::settings::{IssuerSettings, Method, Settings, TokenUse};
use super::store::{Lock, Store, Tokens};
use super::terminal::say;
use super::token_file;
use crate::secret::Secret;
use std::io::{self, Write};
use std::time::{Duration, SystemTime};

/// `staunch token`.
#[derive(Debug, Default, clap::Args)]
pub struct Arguments {
    /// Which login.
    #[arg(long, env = "STAUNCH_PROFILE", value_name = "NAME", default_value_t)]
    pub profile: Profile,
    /// Which token, in place of what the login chose.
    #[arg(long = "use", value_name = "WHICH")]
    pub token_use: Option<TokenUse>,
    /// Print it as a header field, `Authorization: Bearer …` unless another is named, for `curl -H @-`: what stands in a
    /// command line is seen by everybody on the machine.
    #[arg(long, value_name = "NAME", num_args = 0..=1, default_missing_value = AUTHORIZATION)]
    pub header: Option<String>,
}

const AUTHORIZATION: &str = "Authorization";

/// What stands before the token.
fn prefix(header: Option<&str>) -> String {
    match header {
        None => String::new(),
        Some(name) if name.eq_ignore_ascii_case(AUTHORIZATION) => format!("{name}: Bearer "),
        Some(name) => format!("{name}: "),
    }
}

/// Prints the token alone on standard output.
pub async fn run(arguments: &Arguments) -> Result<(), Fault> {
    let store = Store::open()?;
    let fresh = fresh_in(&store, &arguments.profile, arguments.token_use).await?;
    if let Some(fault) = &fresh.warning {
        say(&format!("staunch: warning: {fault}"));
    }
    let mut out = io::stdout().lock();
    let mut print = || {
        out.write_all(prefix(arguments.header.as_deref()).as_bytes())?;
        out.write_all(fresh.token.expose())?;
        out.write_all(b"\n")?;
        out.flush()
    };
    Ok(print()?)
}

/// A token is renewed when less than this is left of it: enough to be typed, sent and checked, with clocks that differ.
pub const REFRESH_BEFORE: Duration = Duration::from_secs(60);

/// A token that is good now.
#[derive(Debug)]
pub struct Fresh {
    /// The token.
    pub token: Secret,
    /// Its end, if it is known.
    pub expires: Option<SystemTime>,
    /// Why it could not be renewed although less than [`REFRESH_BEFORE`] is left, or not be kept when it was.
    pub warning: Option<Fault>,
}

/// The token of a profile of this user, renewed if need be. For `staunch connect` and all else that needs one.
pub async fn fresh(profile: &Profile) -> Result<Fresh, Fault> {
    fresh_in(&Store::open()?, profile, None).await
}

/// As [`fresh`], from another store, or of another use than the login chose.
pub async fn fresh_in(store: &Store, profile: &Profile, token_use: Option<TokenUse>) -> Result<Fresh, Fault> {
    let logged_out = |why: &str| Fault::LoggedOut { profile: profile.clone(), why: why.into() };
    let ended = format!("profile '{profile}' is logged out");
    let settings = match store.settings(profile)? {
        Some(Settings::Issuer(settings)) => settings,
        Some(Settings::TokenFile(path)) => {
            return match store.tokens(profile)? {
                Some(_) => {
                    let (token, expires) = token_file::read(&path)?;
                    Ok(Fresh { token, expires, warning: None })
                }
                None => Err(logged_out(&ended)),
            };
        }
        None => return Err(logged_out(&format!("nobody has logged in as profile '{profile}'"))),
    };
    let token_use = token_use.unwrap_or(settings.token_use);
    // The file is there from login to logout, whatever stands in it.
    let read = || store.tokens(profile)?.ok_or_else(|| logged_out(&ended));
    let left = |tokens: &Tokens| tokens.left(token_use, SystemTime::now()).unwrap_or_default();
    let found = |mut tokens: Tokens, warning| match tokens.take(token_use) {
        Some((token, expires)) => Ok(Fresh { token, expires, warning }),
        None => Err(logged_out("there is no token")),
    };

    let tokens = read()?;
    if left(&tokens) >= REFRESH_BEFORE {
        return found(tokens, None);
    }
    let lock = store.lock(profile).await?;
    // Another process may have renewed it meanwhile; its refresh token replaced ours.
    let tokens = read()?;
    if left(&tokens) >= REFRESH_BEFORE {
        return found(tokens, None);
    }
    match renew(store, profile, &settings, &tokens, &lock).await {
        Ok((new, unkept)) if left(&new) > Duration::ZERO => found(new, unkept),
        Ok(_) => Err(logged_out(&format!("the issuer renewed the login, but not its {}", token_use.name()))),
        // What is left of it is better than nothing.
        Err(fault) if left(&tokens) > Duration::ZERO => found(tokens, Some(fault)),
        Err(fault) => Err(fault),
    }
}

/// Gets new tokens and keeps them; where that fails they serve at least this once. The caller holds the lock from
/// before `old` was read.
async fn renew(
    store: &Store,
    profile: &Profile,
    settings: &IssuerSettings,
    old: &Tokens,
    lock: &Lock,
) -> Result<(Tokens, Option<Fault>), Fault> {
    let logged_out = |why: String| Fault::LoggedOut { profile: profile.clone(), why };
    let own = old.issuer == settings.issuer && old.client_id == settings.client_id;
    let mut new = match (settings.method, &old.refresh) {
        (Method::ClientCredentials, _) => {
            let issuer = Issuer::discover(&settings.issuer, settings.ca.as_deref()).await?;
            Client::new(&issuer, settings)?.client_credentials().await?
        }
        (_, Some(refresh)) if own => {
            let issuer = Issuer::discover(&settings.issuer, settings.ca.as_deref()).await?;
            let client = Client::new(&issuer, settings)?;
            match refreshed(&client, refresh, old.subject.as_deref()).await? {
                Outcome::Tokens(new) => new,
                Outcome::Refused(refusal) if refusal.code == "invalid_grant" => {
                    return Err(logged_out(format!("the issuer ended this login: {refusal}")));
                }
                Outcome::Refused(refusal) => return Err(issuer.blame(IssuerOffence::Refused(refusal))),
            }
        }
        _ => {
            return Err(logged_out(
                "the token is at its end and the issuer gave none to refresh it with".into(),
            ));
        }
    };
    // An ID token need not come again (OpenID Connect Core 1.0 section 12.2); the first one is good to its end.
    if new.id.is_none() {
        new.id = old.id.as_ref().map(|id| Secret::new(id.expose().to_vec()));
        new.id_expires = old.id_expires;
    }
    let unkept = store.keep_tokens(profile, &new, lock).err();
    Ok((new, unkept))
}

/// RFC 6749 section 6, OpenID Connect Core 1.0 section 12.
async fn refreshed(client: &Client<'_>, refresh: &Secret, subject: Option<&str>) -> Result<Outcome, Fault> {
    let form = Form::default()
        .field("grant_type", "refresh_token")
        .secret("refresh_token", refresh)
        .maybe("resource", client.settings.resource.as_deref());
    let same_person = |claims: &Claims| match subject.is_none_or(|before| claims.text("sub") == Some(before))
    {
        true => Ok(()),
        false => Err("its ID token is suddenly for somebody else".to_owned()),
    };
    let mut outcome = client.grant(form, same_person).await?;
    if let Outcome::Tokens(new) = &mut outcome {
        // An issuer that rotates gives the next one; one that does not expects the old one again.
        if new.refresh.is_none() {
            new.refresh = Some(Secret::new(refresh.expose().to_vec()));
        }
        new.subject = new.subject.take().or_else(|| subject.map(str::to_owned));
    }
    Ok(outcome)
}
