//! Arguments of `staunch login`, merged with the remembered settings. Opens no file.

use super::callback;
use super::fault::Fault;
use super::profile::Profile;
use super::secrets::Reference;
use super::settings::{IssuerSettings, Method, Settings, TokenUse};
use std::path::{PathBuf, absolute};

/// `staunch login`. Has no `Debug`: somebody may have written a secret itself in the place of its reference.
#[derive(Default, clap::Args)]
pub struct Arguments {
    /// Under which name the login is kept; one for each gateway or role.
    #[arg(long, env = "STAUNCH_PROFILE", value_name = "NAME", default_value_t)]
    pub profile: Profile,

    /// The issuer, exactly as it names itself: `https://host[:port][/path]`.
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
    /// The redirect as registered with the issuer. Default: `http://127.0.0.1/callback` with a random port.
    #[arg(long, value_name = "URL")]
    pub redirect: Option<String>,

    /// Take the login although somebody else logged in before, without asking.
    #[arg(long)]
    pub switch_user: bool,
    /// Print the address and open no browser.
    #[arg(long)]
    pub no_browser: bool,
    /// How.
    #[command(flatten)]
    pub method_flags: MethodFlags,
}

/// One way to a token; the last one if none is named.
#[derive(Debug, Default, clap::Args)]
#[group(multiple = false)]
pub struct MethodFlags {
    /// Log in with a browser on this machine. The default.
    #[arg(long, help_heading = WAYS)]
    pub browser: bool,
    /// Log in with a code that is typed in on any other machine.
    #[arg(long, help_heading = WAYS)]
    pub device: bool,
    /// Log in as a program, with the client's secret.
    #[arg(long, help_heading = WAYS)]
    pub client_credentials: bool,
    /// Take the token from a file that something else renews, each time it is needed.
    #[arg(long, value_name = "FILE", help_heading = WAYS)]
    pub token_file: Option<PathBuf>,
}

const WAYS: &str = "Ways, of which one is taken";

impl Arguments {
    /// Merges the arguments with the remembered settings.
    pub(super) fn settle(self, remembered: Option<Settings>) -> Result<Settings, Fault> {
        // An environment variable that is set to nothing says nothing.
        let named = |text: Option<String>| text.filter(|text| !text.is_empty());
        let (issuer, client_id) = (named(self.issuer), named(self.client_id));
        let here = |path: PathBuf| {
            absolute(&path).map_err(|error| Fault::Usage(format!("{}: {error}", path.display())))
        };
        let mut settings = match (self.method_flags.token_file, remembered) {
            (Some(path), _) => return here(path).map(Settings::TokenFile),
            (None, Some(Settings::TokenFile(path))) if issuer.is_none() => {
                return Ok(Settings::TokenFile(path));
            }
            // Nothing that was meant for one issuer goes to another, least of all a secret.
            (None, Some(Settings::Issuer(old))) if issuer.as_ref().is_none_or(|i| *i == old.issuer) => *old,
            _ => match (issuer, &client_id) {
                (Some(issuer), Some(client_id)) => IssuerSettings::new(issuer, client_id.clone()),
                _ => {
                    let profile = &self.profile;
                    let what = "give --issuer URL and --client-id ID; they are remembered for profile";
                    return Err(Fault::Usage(format!("{what} '{profile}'")));
                }
            },
        };
        if let Some(id) = client_id.filter(|id| *id != settings.client_id) {
            // Nor does one client's secret go with another.
            settings.client_secret = None;
            settings.client_id = id;
        }
        if let Some(text) = self.client_secret {
            let reference: Reference = text.parse().map_err(Fault::Usage)?;
            let absolute = reference.absolute();
            settings.client_secret =
                Some(absolute.map_err(|error| Fault::Usage(format!("--client-secret: {error}")))?);
        }
        if let Some(redirect) = self.redirect.as_deref().filter(|redirect| !redirect.is_empty()) {
            callback::place(redirect)?;
        }
        let texts = [
            (&mut settings.scope, self.scope),
            (&mut settings.audience, self.audience),
            (&mut settings.resource, self.resource),
            (&mut settings.prompt, self.prompt),
            (&mut settings.redirect, self.redirect),
        ];
        for (kept, given) in texts {
            // An empty text takes back what was remembered.
            *kept = given.or(kept.take()).filter(|text| !text.is_empty());
        }
        settings.ca = self.ca.map(here).transpose()?.or(settings.ca);
        settings.token_use = self.token_use.unwrap_or(settings.token_use);
        settings.method = match self.method_flags {
            MethodFlags { browser: true, .. } => Method::Browser,
            MethodFlags { device: true, .. } => Method::Device,
            MethodFlags { client_credentials: true, .. } => Method::ClientCredentials,
            _ => settings.method,
        };
        if settings.method == Method::ClientCredentials && settings.client_secret.is_none() {
            let what = "a program logs in with its secret; give --client-secret env:NAME or file:PATH";
            return Err(Fault::Usage(what.into()));
        }
        Ok(Settings::Issuer(Box::new(settings)))
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
        arguments.method_flags.device = true;
        arguments.token_use = Some(TokenUse::Id);
        Settings::Issuer(Box::new(settled(arguments, None).unwrap()))
    }

    #[test]
    fn a_login_is_remembered_and_changed_piece_by_piece() {
        let first = first();
        let Settings::Issuer(old) = &first else { unreachable!() };
        assert_eq!(settled(Arguments::default(), Some(&first)).as_ref(), Ok(&**old));
        let mut change = Arguments { scope: Some("openid".into()), ..Arguments::default() };
        change.method_flags.browser = true;
        let changed = settled(change, Some(&first)).unwrap();
        assert_eq!((changed.method, changed.scope.as_deref()), (Method::Browser, Some("openid")));
        assert_eq!((changed.token_use, changed.client_id.as_str()), (TokenUse::Id, "cli"));
        let back = Arguments { scope: Some(String::new()), ..Arguments::default() };
        assert_eq!(settled(back, Some(&Settings::Issuer(Box::new(changed)))).unwrap().scope, None);
    }

    #[test]
    fn nothing_remembered_goes_to_another_issuer_and_no_secret_to_another_client() {
        let first = first();
        let elsewhere = settled(asked(Some("https://j"), Some("cli")), Some(&first)).unwrap();
        assert_eq!((elsewhere.client_secret, elsewhere.method), (None, Method::Browser));
        assert!(settled(asked(Some("https://j"), None), Some(&first)).unwrap_err().contains("--client-id"));
        assert_eq!(settled(asked(None, Some("other")), Some(&first)).unwrap().client_secret, None);
        assert!(settled(asked(None, None), None).unwrap_err().contains("--issuer"));
        assert!(settled(asked(Some(""), Some("")), Some(&first)).unwrap().client_secret.is_some());
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
        arguments.method_flags.token_file = Some("/run/token".into());
        assert_eq!(settled(arguments, Some(&first())), Err("/run/token".into()));
        let file = Settings::TokenFile("/run/token".into());
        assert_eq!(settled(Arguments::default(), Some(&file)), Err("/run/token".into()));
        assert!(settled(asked(Some("https://i"), Some("cli")), Some(&file)).is_ok());
    }
}
