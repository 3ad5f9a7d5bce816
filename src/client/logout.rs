//! `staunch logout`: revokes at the issuer and removes the tokens.

use super::fault::Fault;
use super::grant::Client;
use super::issuer::Issuer;
use super::profile::Profile;
use super::settings::{IssuerSettings, Settings};
use super::store::{Store, Tokens};
use super::terminal::say;

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
        _ => Ok(Revoked::Foreign),
    };
    let removed = store.remove_tokens(profile, &lock)?;
    if arguments.forget {
        store.remove_settings(profile, &lock)?;
    }
    if !removed {
        say(&format!("Profile '{profile}' was not logged in."));
        return Ok(());
    }
    match told {
        Ok(revoked) => say(&format!("Logged out. {}", revoked.meaning())),
        Err(fault) => {
            say("The tokens are removed here, but the issuer was not told: copies work until they expire.");
            return Err(fault);
        }
    }
    Ok(())
}

/// What was revoked at the issuer.
enum Revoked {
    Refresh,
    Access,
    Nothing,
    /// The tokens were not asked for here.
    Foreign,
}

impl Revoked {
    fn meaning(&self) -> &'static str {
        match self {
            Revoked::Refresh => {
                "The issuer renews nothing more; a token that was printed works until it expires."
            }
            Revoked::Access => "The issuer revoked the token.",
            Revoked::Nothing => "The issuer revokes no such tokens: copies work until they expire.",
            Revoked::Foreign => "There was nothing to revoke.",
        }
    }
}

/// The refresh token, with which the issuer also ends what was made from it (RFC 7009 section 2.1); else the access
/// token.
async fn revoke(settings: &IssuerSettings, tokens: &Tokens) -> Result<Revoked, Fault> {
    if tokens.issuer != settings.issuer || tokens.client_id != settings.client_id {
        return Ok(Revoked::Foreign);
    }
    let issuer = Issuer::discover(&settings.issuer, settings.ca.as_deref()).await?;
    let Some(url) = issuer.revocation() else { return Ok(Revoked::Nothing) };
    let client = Client::new(&issuer, settings)?;
    let revoked = match (&tokens.refresh, &tokens.access) {
        (Some(refresh), _) => {
            client.revoke(&url, refresh, "refresh_token").await?.then_some(Revoked::Refresh)
        }
        (None, Some(access)) => client.revoke(&url, access, "access_token").await?.then_some(Revoked::Access),
        (None, None) => None,
    };
    Ok(revoked.unwrap_or(Revoked::Nothing))
}
