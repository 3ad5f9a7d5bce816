//! `staunch logout`: the issuer is told, the tokens are gone.

use super::fault::Fault;
use super::grant::Client;
use super::issuer::Issuer;
use super::profile::{IssuerSettings, Profile, Settings};
use super::say;
use super::store::{Store, Tokens};

/// `staunch logout`.
#[derive(Debug, Default, clap::Args)]
pub struct Arguments {
    /// Which login.
    #[arg(long, env = "STAUNCH_PROFILE", value_name = "NAME", default_value_t)]
    pub profile: Profile,
    /// Forget the login's settings too, so that the next one names its issuer again.
    #[arg(long)]
    pub forget: bool,
}

/// Revokes what can be revoked and removes the tokens, whether the issuer could be told or not.
pub async fn run(arguments: &Arguments) -> Result<(), Fault> {
    let (store, profile) = (Store::open()?, &arguments.profile);
    let lock = store.lock(profile).await?;
    // Files that cannot be read can still be removed.
    let settings = store.settings(profile).ok().flatten();
    let tokens = store.tokens(profile).ok().flatten();
    let told = match (&settings, &tokens) {
        (Some(Settings::Issuer(settings)), Some(tokens)) => revoke(settings, tokens).await,
        _ => Ok(Revoked::Nothing),
    };
    let removed = store.remove_tokens(profile, &lock)?;
    if arguments.forget {
        store.remove_settings(profile, &lock)?;
    }
    match (told, removed) {
        (Err(fault), _) => {
            say(
                "The tokens are removed here, but the issuer was not told; until they expire, copies of them work.",
            );
            return Err(fault);
        }
        (Ok(_), false) => say(&format!("Profile '{profile}' was not logged in.")),
        (Ok(Revoked::Refresh), true) => {
            say(
                "Logged out: the issuer renews nothing more. Tokens that gateways have seen end when they expire.",
            );
        }
        (Ok(Revoked::Access), true) => say("Logged out: the issuer revoked the token."),
        (Ok(Revoked::Nothing), true) => {
            say("Logged out here. The issuer revokes no such tokens: copies of them work until they expire.");
        }
    }
    Ok(())
}

enum Revoked {
    Refresh,
    Access,
    Nothing,
}

/// The refresh token, with which the issuer also ends what was made from it (RFC 7009 section 2.1); else the access
/// token.
async fn revoke(settings: &IssuerSettings, tokens: &Tokens) -> Result<Revoked, Fault> {
    if tokens.issuer != settings.issuer || tokens.client_id != settings.client_id {
        return Ok(Revoked::Nothing);
    }
    let issuer = Issuer::discover(&settings.issuer, settings.ca.as_deref()).await?;
    let Some(place) = issuer.revocation() else { return Ok(Revoked::Nothing) };
    let client = Client::new(&issuer, settings)?;
    let revoked = match (&tokens.refresh, &tokens.access) {
        (Some(refresh), _) => {
            client.revoke(place, refresh, "refresh_token").await?.then_some(Revoked::Refresh)
        }
        (None, Some(access)) => {
            client.revoke(place, access, "access_token").await?.then_some(Revoked::Access)
        }
        (None, None) => None,
    };
    Ok(revoked.unwrap_or(Revoked::Nothing))
}
