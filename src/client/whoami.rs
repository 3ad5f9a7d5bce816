//! `staunch whoami`: as whom this user speaks to gateways, and whether one of them opens a route for that.

use super::claims::Claims;
use super::connect::try_route;
use super::fault::{Fault, shown};
use super::profile::Profile;
use super::secrets::text;
use super::token::fresh;
use crate::identify::oidc::Mistaken;
use std::io::Write;
use std::path::PathBuf;
use std::time::SystemTime;

/// `staunch whoami`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Which login.
    #[arg(long, env = "STAUNCH_PROFILE", value_name = "NAME", default_value_t)]
    pub profile: Profile,
    /// Ask the gateway whether this login opens a route.
    #[arg(long, value_name = "ROUTE", requires = "gateway")]
    pub route: Option<String>,
    /// The gateway's tunnel name, and its port if that is not 443.
    #[arg(long, env = "STAUNCH_GATEWAY", value_name = "NAME[:PORT]")]
    pub gateway: Option<String>,
    /// Authorities that vouch for the gateway, in PEM, in place of the system's.
    #[arg(long, env = "STAUNCH_CA", value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// The claim that holds groups.
    #[arg(long, value_name = "CLAIM", default_value = "groups")]
    pub groups_claim: String,
}

/// Prints what the token says, and what the gateway says to it. Never the token.
pub async fn run(arguments: &Arguments) -> Result<(), Fault> {
    let token = fresh(&arguments.profile).await?.token;
    print(&describe_token(text(&token), &arguments.groups_claim, SystemTime::now()))?;
    let (Some(route), Some(gateway)) = (&arguments.route, &arguments.gateway) else { return Ok(()) };
    let protocol = try_route(gateway, arguments.ca.as_deref(), arguments.profile.clone(), route).await?;
    print(&format!("route     {route} is open ({protocol})\n"))
}

/// What a token says, a line each.
fn describe_token(token: &str, groups_claim: &str, now: SystemTime) -> String {
    if let Some(mistaken) = Mistaken::of(token.as_bytes()) {
        return format!("This is {mistaken}: {}.\n", mistaken.remedy());
    }
    let Some(claims) = Claims::of(token) else {
        return "This is no token that can be read: was it cut or changed on the way?\n".into();
    };
    let mut out = String::new();
    for (what, claim) in [
        ("subject", "sub"),
        ("issuer", "iss"),
        ("audience", "aud"),
        ("groups", groups_claim),
        ("client", "azp"),
    ] {
        let values = claims.texts(claim);
        let all = match values.is_empty() {
            true if claim == "azp" => continue,
            true if claims.has(claim) => {
                format!("none (the claim {claim:?} holds no text and no list of texts)")
            }
            true => format!("none (the token has no claim {claim:?})"),
            false => values.iter().map(|value| shown(value)).collect::<Vec<_>>().join(", "),
        };
        out += &format!("{what:<9} {all}\n");
    }
    let left = claims.expires().map(|until| until.duration_since(now).map_or(0, |left| left.as_secs()));
    out + &match left {
        Some(seconds) => format!("good for  {seconds} s\n"),
        None => "good for  unknown: it has no exp (seconds since 1970), and no gateway takes that\n".into(),
    }
}

fn print(text: &str) -> Result<(), Fault> {
    let mut out = std::io::stdout().lock();
    let printed = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    Ok(printed?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use std::time::{Duration, UNIX_EPOCH};

    #[test]
    fn a_token_says_who_for_whom_and_for_how_long() {
        let claims = r#"{"sub":"ann","iss":"https://i","aud":["a","b"],"realm":{"roles":["ml"]},"exp":1600}"#;
        let token = format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims));
        let said = describe_token(&token, "realm.roles", UNIX_EPOCH + Duration::from_secs(1_000));
        for line in
            ["subject   ann", "issuer    https://i", "audience  a, b", "groups    ml", "good for  600 s"]
        {
            assert!(said.contains(line), "{said}");
        }
        assert!(describe_token(&token, "groups", UNIX_EPOCH).contains("no claim \"groups\""));
        let key = describe_token("sk-live-123", "groups", UNIX_EPOCH);
        assert!(key.contains("token of your issuer") && !key.contains("sk-live"));
    }
}
