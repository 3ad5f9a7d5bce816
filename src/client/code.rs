//! Authorisation code with PKCE on a loopback redirect (RFC 6749 section 4.1, RFC 7636, RFC 8252).

use super::callback::{Callback, Redirect};
use super::claims::Claims;
use super::fault::{Fault, IssuerOffence, Refusal};
use super::grant::{Client, Outcome};
use super::issuer_http::Form;
use super::secrets::{random, random_bytes, same};
use super::store::Tokens;
use super::terminal::say;
use crate::secret::Secret;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest::{SHA256, digest};
use std::fs::Permissions;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use tempfile::NamedTempFile;

/// Sends the person to the issuer and comes back with tokens.
pub(super) async fn log_in(
    client: &Client<'_>,
    scope: &str,
    browser: bool,
    folder: &Path,
) -> Result<Tokens, Fault> {
    let issuer = client.issuer;
    let endpoint = issuer.authorization()?;
    let redirect = Redirect::bind(client.settings.redirect.as_deref()).await?;
    let (pkce, state, nonce) = (Pkce::new(&random_bytes()), random(), random());
    let uri = redirect.uri().to_owned();
    let url = question(endpoint, client, scope, &uri, &state, &nonce, &pkce.challenge);
    let page = show(&url, browser, folder);

    let callback = redirect.wait(&state).await?;
    drop(page);
    let code = answer(&callback, &issuer.url, issuer.requires_iss()).map_err(|o| issuer.blame(o))?;
    let form = Form::default()
        .field("grant_type", "authorization_code")
        .secret("code", code)
        .field("redirect_uri", &uri)
        .secret("code_verifier", &pkce.verifier)
        .maybe("resource", client.settings.resource.as_deref());
    // OpenID Connect Core 1.0 section 3.1.3.7, 11: else the ID token may be one that was stolen elsewhere.
    let check = |claims: &Claims| match claims.text("nonce").is_some_and(|found| same(found, &nonce)) {
        true => Ok(()),
        false => Err("its ID token has not the nonce that was sent".to_owned()),
    };
    match client.grant(form, check).await? {
        Outcome::Tokens(tokens) => Ok(tokens),
        Outcome::Refused(refusal) => Err(issuer.blame(IssuerOffence::Refused(refusal))),
    }
}

/// Proof Key for Code Exchange: whoever steals the code has not the verifier.
struct Pkce {
    verifier: Secret,
    challenge: String,
}

impl Pkce {
    /// RFC 7636 section 4.1 and 4.2, method S256.
    fn new(random: &[u8; 32]) -> Pkce {
        let verifier = URL_SAFE_NO_PAD.encode(random);
        let challenge = URL_SAFE_NO_PAD.encode(digest(&SHA256, verifier.as_bytes()));
        Pkce { verifier: Secret::new(verifier.into_bytes()), challenge }
    }
}

/// The URL that the browser opens (RFC 6749 section 4.1.1, OpenID Connect Core 1.0 section 3.1.2.1).
fn question(
    endpoint: &str,
    client: &Client<'_>,
    scope: &str,
    redirect: &str,
    state: &str,
    nonce: &str,
    challenge: &str,
) -> String {
    let settings = client.settings;
    // OpenID Connect Core 1.0 section 11: offline access is ignored where nobody consents to it.
    let offline = scope.split(' ').any(|scope| scope == "offline_access");
    let prompt = settings.prompt.as_deref().or(offline.then_some("consent"));
    let mut query = form_urlencoded::Serializer::new(String::new());
    query
        .append_pair("response_type", "code")
        .append_pair("client_id", &settings.client_id)
        .append_pair("redirect_uri", redirect)
        .append_pair("scope", scope)
        .append_pair("state", state)
        .append_pair("nonce", nonce)
        .append_pair("code_challenge", challenge)
        .append_pair("code_challenge_method", "S256");
    let others = [
        ("prompt", prompt),
        ("audience", settings.audience.as_deref()),
        ("resource", settings.resource.as_deref()),
    ];
    for (name, value) in others {
        if let Some(value) = value {
            query.append_pair(name, value);
        }
    }
    // A query that the endpoint already has stays (RFC 6749 section 3.1).
    let join = if endpoint.contains('?') { '&' } else { '?' };
    format!("{endpoint}{join}{}", query.finish())
}

/// Judges what came back on the redirect with the right `state`.
fn answer<'a>(callback: &'a Callback, issuer: &str, requires_iss: bool) -> Result<&'a Secret, IssuerOffence> {
    // RFC 9207 section 2.4: before anything else is believed, and error answers too.
    match &callback.iss {
        Some(iss) if iss != issuer => {
            return Err(IssuerOffence::Broken(
                "another issuer answered on the redirect (iss, RFC 9207)".into(),
            ));
        }
        None if requires_iss => {
            return Err(IssuerOffence::Broken("its answer on the redirect lacks iss (RFC 9207)".into()));
        }
        _ => {}
    }
    match (&callback.code, &callback.error) {
        (Some(code), None) => Ok(code),
        (_, Some(error)) => {
            Err(IssuerOffence::Refused(Refusal::new(error, callback.error_description.as_deref())))
        }
        (None, None) => {
            Err(IssuerOffence::Broken("its answer on the redirect has neither code nor error".into()))
        }
    }
}

/// Opens the browser where there is one, and prints the URL in any case. The page that it opens goes with what is returned.
///
/// The URL is not given to the opener: every user of the machine sees the arguments of programs, and whoever opens it
/// first logs in, as somebody else. A file that only its owner can read leads there, as Jupyter does it.
fn show(url: &str, browser: bool, folder: &Path) -> Option<NamedTempFile> {
    // Without a display, openers start a text browser inside this terminal.
    let display = ["DISPLAY", "WAYLAND_DISPLAY", "WSL_DISTRO_NAME"];
    let display = display.iter().any(|name| std::env::var_os(name).is_some_and(|value| !value.is_empty()));
    let page = (browser && display).then(|| page(url, folder)).and_then(Result::ok);
    let page = page.filter(|page| open::that_detached(page.path()).is_ok());
    match (&page, browser) {
        (Some(_), _) => say("The browser opens for the login. If it does not, go to"),
        (None, true) => {
            say("There is no browser here. Open this on this machine (elsewhere: staunch login --device):")
        }
        (None, false) => say("Open this in a browser on this machine:"),
    }
    say(&format!("\n  {url}\n"));
    page
}

/// A page that leads to the URL.
fn page(url: &str, folder: &Path) -> io::Result<NamedTempFile> {
    let escaped: String = url
        .chars()
        .map(|c| match c {
            '&' => "&amp;".into(),
            '"' => "&quot;".into(),
            '<' => "&lt;".into(),
            '>' => "&gt;".into(),
            other => other.to_string(),
        })
        .collect();
    let html = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"referrer\" content=\"no-referrer\">\
         <meta http-equiv=\"refresh\" content=\"0;url={escaped}\"><title>Staunch</title>\
         <p>To the login: <a href=\"{escaped}\">{escaped}</a></html>\n"
    );
    let mode = Permissions::from_mode(0o600);
    let mut file =
        tempfile::Builder::new().prefix("login-").suffix(".html").permissions(mode).tempfile_in(folder)?;
    file.write_all(html.as_bytes())?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::super::secrets::text;
    use super::*;

    #[test]
    fn the_challenge_is_that_of_rfc_7636_appendix_b() {
        let octets = [
            116, 24, 223, 180, 151, 153, 224, 37, 79, 250, 96, 125, 216, 173, 187, 186, 22, 212, 37, 77, 105,
            214, 191, 240, 91, 88, 5, 88, 83, 132, 141, 121,
        ];
        let pkce = Pkce::new(&octets);
        assert_eq!(text(&pkce.verifier), "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk");
        assert_eq!(pkce.challenge, "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM");
    }

    #[test]
    fn the_page_that_leads_to_the_issuer_is_its_owners_alone() {
        let folder = tempfile::tempdir().unwrap();
        let page = page("https://i/a?x=1&state=\"s\"><script>", folder.path()).unwrap();
        assert_eq!(page.as_file().metadata().unwrap().permissions().mode() & 0o777, 0o600);
        let text = std::fs::read_to_string(page.path()).unwrap();
        assert!(
            text.contains("content=\"0;url=https://i/a?x=1&amp;state=&quot;s&quot;&gt;&lt;script&gt;\""),
            "{text}"
        );
        let path = page.path().to_owned();
        drop(page);
        assert!(!path.exists());
    }

    #[test]
    fn an_answer_is_believed_only_from_the_issuer_that_was_asked() {
        let callback = |code: Option<&str>, error: Option<&str>, iss: Option<&str>| Callback {
            code: code.map(|code| Secret::new(code.into())),
            error: error.map(str::to_owned),
            error_description: None,
            iss: iss.map(str::to_owned),
        };
        let judge = |c: Callback, announced| {
            answer(&c, "https://i", announced).map(|code| text(code).to_owned()).map_err(|o| o.to_string())
        };
        assert_eq!(judge(callback(Some("c"), None, None), false).as_deref(), Ok("c"));
        assert_eq!(judge(callback(Some("c"), None, Some("https://i")), true).as_deref(), Ok("c"));
        for (c, announced, why) in [
            (callback(Some("c"), None, None), true, "lacks iss"),
            (callback(Some("c"), None, Some("https://j")), false, "another issuer"),
            (callback(None, Some("access_denied"), Some("https://j")), true, "another issuer"),
            (callback(None, Some("access_denied"), None), false, "access_denied"),
            (callback(Some("c"), Some("access_denied"), None), false, "access_denied"),
            (callback(None, None, None), false, "neither"),
        ] {
            let fault = judge(c, announced).unwrap_err();
            assert!(fault.contains(why), "{fault}");
        }
    }
}
