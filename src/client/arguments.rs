//! What `staunch login` is asked for, and what of it was remembered from the last time. Opens no file.

use super::callback;
use super::fault::Fault;
use super::profile::{IssuerSettings, Method, Profile, Settings, TokenUse};
use super::secrets::Reference;
use std::path::{PathBuf, absolute};

/// `staunch login`.
#[derive(Debug, Default, clap::Args)]
pub struct Arguments {
    /// Under which name the login is kept; one for each gateway or role.
    #[arg(long, env = "STAUNCH_PROFILE", value_name = "NAME", default_value_t)]
    pub profile: Profile,

    /// The issuer, exactly as it names itself: https://host[:port][/path].
    #[arg(long, env = "STAUNCH_ISSUER", value_name = "URL")]
    pub issuer: Option<String>,
    /// The client that the issuer knows this program by.
    #[arg(long, env = "STAUNCH_CLIENT_ID", value_name = "ID")]
    pub client_id: Option<String>,
    /// Where the client's secret stands, if it has one: env:NAME or file:PATH. Public clients have none.
    #[arg(long, value_name = "REFERENCE")]
    pub client_secret: Option<String>,
    /// Scopes, with spaces between them. Default: "openid offline_access" as far as the issuer offers it.
    #[arg(long)]
    pub scope: Option<String>,
    /// For whom the token shall be, as some issuers ask for it (parameter `audience`).
    #[arg(long)]
    pub audience: Option<String>,
    /// For whom the token shall be, as RFC 8707 has it (parameter `resource`).
    #[arg(long, value_name = "URI")]
    pub resource: Option<String>,
    /// Authorities that vouch for the issuer's server, in PEM, in place of the system's.
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// Which token the gateway is shown. Default: access.
    ///
    /// The gateway takes a JWT whose `aud` is listed for the issuer in its configuration. Choose `id` where access
    /// tokens are not such; its `aud` is the client's id.
    #[arg(long = "use", value_name = "WHICH")]
    pub token_use: Option<TokenUse>,
    /// The issuer's `prompt` parameter, for instance select_account. Default: consent, if offline access is asked for.
    #[arg(long)]
    pub prompt: Option<String>,
    /// The redirect as registered with the issuer. Default: http://127.0.0.1/callback with a random port.
    #[arg(long, value_name = "URL")]
    pub redirect: Option<String>,

    #[command(flatten)]
    /// How.
    pub way: Way,
    /// Print the address and open no browser.
    #[arg(long)]
    pub no_browser: bool,
}

/// One way to a token; the last one if none is named.
#[derive(Debug, Default, clap::Args)]
#[group(multiple = false)]
pub struct Way {
    /// Log in with a browser on this machine. The default.
    #[arg(long)]
    pub browser: bool,
    /// Log in with a code that is typed in on any other machine.
    #[arg(long)]
    pub device: bool,
    /// Log in as a program, with the client's secret.
    #[arg(long)]
    pub client_credentials: bool,
    /// Take the token from a file that something else renews, each time it is needed.
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
}

impl Arguments {
    /// What is asked for now, and for the rest what was remembered.
    pub(super) fn settle(self, remembered: Option<Settings>) -> Result<Settings, Fault> {
        let here = |path: PathBuf| {
            absolute(&path).map_err(|error| Fault::Usage(format!("{}: {error}", path.display())))
        };
        if let Some(path) = self.way.token_file {
            return here(path).map(Settings::TokenFile);
        }
        let remembered = match remembered {
            Some(Settings::TokenFile(path)) if self.issuer.is_none() => return Ok(Settings::TokenFile(path)),
            Some(Settings::Issuer(settings)) => Some(*settings),
            _ => None,
        };
        // Nothing that was meant for one issuer goes to another, least of all a secret.
        let old = remembered.filter(|old| self.issuer.as_ref().is_none_or(|issuer| *issuer == old.issuer));
        // Nor does a secret go with another client of the same issuer.
        let old_secret = old
            .as_ref()
            .filter(|old| self.client_id.as_ref().is_none_or(|id| *id == old.client_id))
            .and_then(|old| old.client_secret.clone());
        let missing =
            |what: &str| Fault::Usage(format!("profile '{}' is new; give {what}, once", self.profile));
        let given = self.client_secret.map(|text| text.parse().map_err(Fault::Usage)).transpose()?;
        let given = given.map(Reference::absolute).transpose();
        let given = given.map_err(|error| Fault::Usage(format!("--client-secret: {error}")))?;
        let method = match &self.way {
            Way { browser: true, .. } => Some(Method::Browser),
            Way { device: true, .. } => Some(Method::Device),
            Way { client_credentials: true, .. } => Some(Method::ClientCredentials),
            _ => None,
        };
        if let Some(redirect) = &self.redirect {
            callback::place(redirect)?;
        }
        let method = method.or(old.as_ref().map(|old| old.method)).unwrap_or(Method::Browser);
        let client_secret = given.or(old_secret);
        if method == Method::ClientCredentials && client_secret.is_none() {
            return Err(Fault::Usage(
                "a program logs in with its secret; give --client-secret env:NAME or file:PATH".into(),
            ));
        }
        let ca = self.ca.map(here).transpose()?;
        macro_rules! or_old {
            ($field:ident) => {
                self.$field.or_else(|| old.as_ref().and_then(|old| old.$field.clone()))
            };
        }
        Ok(Settings::Issuer(Box::new(IssuerSettings {
            scope: or_old!(scope),
            audience: or_old!(audience),
            resource: or_old!(resource),
            prompt: or_old!(prompt),
            redirect: or_old!(redirect),
            ca: ca.or_else(|| old.as_ref().and_then(|old| old.ca.clone())),
            client_secret,
            method,
            token_use: self.token_use.or(old.as_ref().map(|old| old.token_use)).unwrap_or_default(),
            client_id: self
                .client_id
                .or(old.as_ref().map(|old| old.client_id.clone()))
                .ok_or_else(|| missing("--issuer URL and --client-id ID"))?,
            issuer: self
                .issuer
                .or(old.map(|old| old.issuer))
                .ok_or_else(|| missing("--issuer URL and --client-id ID"))?,
        })))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settled(arguments: Arguments, remembered: Option<&Settings>) -> Result<IssuerSettings, String> {
        match arguments.settle(remembered.cloned()) {
            Ok(Settings::Issuer(settings)) => Ok(*settings),
            Ok(Settings::TokenFile(path)) => Err(path.display().to_string()),
            Err(fault) => Err(fault.to_string()),
        }
    }

    fn asked(issuer: Option<&str>, client: Option<&str>) -> Arguments {
        Arguments {
            issuer: issuer.map(str::to_owned),
            client_id: client.map(str::to_owned),
            ..Arguments::default()
        }
    }

    fn first() -> Settings {
        let mut arguments = asked(Some("https://i"), Some("cli"));
        arguments.client_secret = Some("env:SECRET".into());
        arguments.way.device = true;
        arguments.token_use = Some(TokenUse::Id);
        Settings::Issuer(Box::new(settled(arguments, None).unwrap()))
    }

    #[test]
    fn a_login_is_remembered_and_changed_piece_by_piece() {
        let first = first();
        let Settings::Issuer(old) = &first else { unreachable!() };
        assert_eq!(settled(Arguments::default(), Some(&first)).as_ref(), Ok(&**old));
        let mut change = Arguments { scope: Some("openid".into()), ..Arguments::default() };
        change.way.browser = true;
        let changed = settled(change, Some(&first)).unwrap();
        assert_eq!((changed.method, changed.scope.as_deref()), (Method::Browser, Some("openid")));
        assert_eq!((changed.token_use, changed.client_id.as_str()), (TokenUse::Id, "cli"));
    }

    #[test]
    fn nothing_remembered_goes_to_another_issuer_and_no_secret_to_another_client() {
        let first = first();
        let elsewhere = settled(asked(Some("https://j"), Some("cli")), Some(&first)).unwrap();
        assert_eq!((elsewhere.client_secret, elsewhere.method), (None, Method::Browser));
        assert!(settled(asked(Some("https://j"), None), Some(&first)).unwrap_err().contains("--client-id"));
        assert_eq!(settled(asked(None, Some("other")), Some(&first)).unwrap().client_secret, None);
        assert!(settled(asked(None, None), None).unwrap_err().contains("--issuer"));
    }

    #[test]
    fn a_secret_on_the_command_line_is_refused_and_not_repeated() {
        let mut arguments = asked(Some("https://i"), Some("cli"));
        arguments.client_secret = Some("hunter2".into());
        let fault = settled(arguments, None).unwrap_err();
        assert!(fault.contains("env:NAME") && !fault.contains("hunter2"), "{fault}");
    }

    #[test]
    fn a_token_file_is_remembered_until_an_issuer_is_named() {
        let mut arguments = Arguments::default();
        arguments.way.token_file = Some("/run/token".into());
        assert_eq!(settled(arguments, Some(&first())), Err("/run/token".into()));
        let file = Settings::TokenFile("/run/token".into());
        assert_eq!(settled(Arguments::default(), Some(&file)), Err("/run/token".into()));
        assert!(settled(asked(Some("https://i"), Some("cli")), Some(&file)).is_ok());
    }
}
