//! Device authorisation (RFC 8628): a code that is typed in on any machine with a browser, and polling until it was.

use super::fault::{Fault, IssuerOffence, Refusal, shown};
use super::grant::{Client, Outcome, refusal};
use super::issuer_http::Form;
use super::store::Tokens;
use super::terminal::say;
use crate::net::https::HttpsUrl;
use crate::secret::Secret;
use hyper::StatusCode;
use serde::Deserialize;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Shows the code and polls until somebody typed it in.
pub(super) async fn log_in(client: &Client<'_>, scope: &str) -> Result<Tokens, Fault> {
    let issuer = client.issuer;
    let form = Form::default()
        .field("scope", scope)
        .maybe("audience", client.settings.audience.as_deref())
        .maybe("resource", client.settings.resource.as_deref());
    let (answer, form) = client.post(&issuer.device_authorization()?, form).await?;
    let started = Instant::now();
    if answer.status != StatusCode::OK {
        let refused = refusal(&answer, &form).map(IssuerOffence::Refused);
        return Err(issuer.blame(refused.unwrap_or_else(|offence| offence)));
    }
    let invitation: DeviceAuthorization = serde_json::from_slice(answer.body.expose()).map_err(|_| {
        issuer
            .broken("its device authorisation endpoint does not answer with the JSON of RFC 8628 section 3.2")
    })?;
    let mut polling = Polling::new(&invitation);
    invite(&invitation).map_err(|what| issuer.broken(what))?;

    let code = Secret::new(invitation.device_code.into_bytes());
    loop {
        sleep(polling.interval.min(polling.lasts.saturating_sub(started.elapsed()))).await;
        if started.elapsed() >= polling.lasts {
            return Err(Fault::Person(NOBODY.into()));
        }
        let form = Form::default()
            .field("grant_type", "urn:ietf:params:oauth:grant-type:device_code")
            .secret("device_code", &code)
            .maybe("resource", client.settings.resource.as_deref());
        let refusal = match client.grant(form, |_| Ok(())).await {
            Ok(Outcome::Tokens(tokens)) => return Ok(tokens),
            Ok(Outcome::Refused(refusal)) => refusal,
            Err(Fault::Issuer { offence: IssuerOffence::Unreachable(_), .. }) => {
                polling.unreachable();
                continue;
            }
            Err(fault) => return Err(fault),
        };
        polling.refused(refusal).map_err(|refusal| match refusal.code.as_str() {
            "expired_token" => Fault::Person(NOBODY.into()),
            _ => issuer.blame(IssuerOffence::Refused(refusal)),
        })?;
    }
}

/// RFC 8628 section 3.2.
#[derive(Deserialize)]
struct DeviceAuthorization {
    device_code: String,
    user_code: String,
    #[serde(alias = "verification_url")]
    verification_uri: String,
    verification_uri_complete: Option<String>,
    expires_in: u64,
    interval: Option<u64>,
}

/// When to ask again. Pure: the caller has the clock.
struct Polling {
    interval: Duration,
    lasts: Duration,
}

impl Polling {
    fn new(invitation: &DeviceAuthorization) -> Self {
        // RFC 8628 section 3.2: 5 seconds where the issuer names none.
        let interval =
            Duration::from_secs(invitation.interval.unwrap_or(5)).clamp(MIN_POLL_INTERVAL, MAX_POLL_INTERVAL);
        Polling { interval, lasts: Duration::from_secs(invitation.expires_in).min(MAX_CODE_LIFETIME) }
    }

    /// RFC 8628 section 3.5.
    fn refused(&mut self, refusal: Refusal) -> Result<(), Refusal> {
        match refusal.code.as_str() {
            "authorization_pending" => Ok(()),
            "slow_down" => {
                self.interval = (self.interval + SLOW_DOWN_STEP).min(MAX_POLL_INTERVAL);
                Ok(())
            }
            _ => Err(refusal),
        }
    }

    /// RFC 8628 section 3.5: back off, and go on.
    fn unreachable(&mut self) {
        self.interval = (self.interval * 2).min(MAX_POLL_INTERVAL);
    }
}

const NOBODY: &str = "nobody typed the code in while it was good; run the command again";

const MIN_POLL_INTERVAL: Duration = Duration::from_secs(1);
/// What `slow_down` adds (RFC 8628 section 3.5).
const SLOW_DOWN_STEP: Duration = Duration::from_secs(5);
/// A person who has typed the code in does not wait longer than this.
const MAX_POLL_INTERVAL: Duration = Duration::from_secs(60);
/// Codes live for minutes; nobody waits longer, whatever the issuer says.
const MAX_CODE_LIFETIME: Duration = Duration::from_secs(30 * 60);

/// Tells the person where to go and what to type.
fn invite(invitation: &DeviceAuthorization) -> Result<(), String> {
    let link = |url: &str| {
        let https = url.parse::<HttpsUrl>();
        https.map(|_| shown(url)).map_err(|()| "its verification_uri is no https URL")
    };
    let place = link(&invitation.verification_uri)?;
    say(&format!(
        "On any machine with a browser, open\n\n  {place}\n\nand type in the code\n\n  {}\n",
        shown(&invitation.user_code)
    ));
    if let Some(complete) = &invitation.verification_uri_complete {
        say(&format!("or open this, and see that it shows the same code:\n\n  {}\n", link(complete)?));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn polling(interval: Option<u64>, expires_in: u64) -> Polling {
        Polling::new(&DeviceAuthorization {
            device_code: "d".into(),
            user_code: "u".into(),
            verification_uri: "https://i/device".into(),
            verification_uri_complete: None,
            expires_in,
            interval,
        })
    }

    fn refused(polling: &mut Polling, code: &str) -> Result<u64, String> {
        polling.refused(Refusal::new(code, None)).map(|()| polling.interval.as_secs()).map_err(|r| r.code)
    }

    #[test]
    fn polling_follows_the_issuers_pace() {
        let mut p = polling(None, 600);
        assert_eq!(p.interval, Duration::from_secs(5));
        assert_eq!(refused(&mut p, "authorization_pending"), Ok(5));
        assert_eq!(refused(&mut p, "slow_down"), Ok(10));
        assert_eq!(refused(&mut p, "authorization_pending"), Ok(10));
        assert_eq!(refused(&mut p, "slow_down"), Ok(15));
        p.unreachable();
        assert_eq!(p.interval, Duration::from_secs(30));
        p.unreachable();
        p.unreachable();
        assert_eq!(p.interval, MAX_POLL_INTERVAL);
        for last in ["access_denied", "expired_token", "invalid_grant", ""] {
            assert_eq!(refused(&mut p, last), Err(last.into()));
        }
    }

    #[test]
    fn no_issuer_makes_anybody_wait_for_ever_or_poll_without_pause() {
        let p = polling(Some(0), u64::MAX);
        assert_eq!((p.interval, p.lasts), (MIN_POLL_INTERVAL, MAX_CODE_LIFETIME));
        assert_eq!(polling(Some(u64::MAX), 1).interval, MAX_POLL_INTERVAL);
    }

    #[test]
    fn a_place_to_type_a_code_in_is_https() {
        let mut invitation = DeviceAuthorization {
            device_code: "d".into(),
            user_code: "u".into(),
            verification_uri: "javascript:alert(1)".into(),
            verification_uri_complete: None,
            expires_in: 1,
            interval: None,
        };
        assert!(invite(&invitation).is_err());
        invitation.verification_uri = "http://i/device".into();
        assert!(invite(&invitation).is_err());
    }
}
