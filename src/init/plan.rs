//! What is to be written, with every question answered.

use super::arguments::Arguments;
use super::kind::Kind;
use super::question::Terminal;
use crate::client::{Fault, login};
use crate::secret::Secret;
use rustls::pki_types::ServerName;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf, absolute};

/// What is to be written.
pub(super) struct Plan {
    pub(super) folder: PathBuf,
    pub(super) kind: Kind,
    pub(super) issuer: String,
    pub(super) issuer_ca: Option<PathBuf>,
    pub(super) audience: Vec<String>,
    pub(super) groups: Vec<String>,
    pub(super) subjects: Vec<String>,
    pub(super) groups_claim: String,
    /// With its scheme.
    pub(super) upstream: String,
    pub(super) upstream_ca: Option<PathBuf>,
    pub(super) user: Option<String>,
    pub(super) secret: Option<Secret>,
    pub(super) name: String,
    pub(super) port: u16,
    pub(super) client_id: String,
}

/// What stands behind an issuer's name when its discovery document was copied in its place.
const WELL_KNOWN: &str = "/.well-known/openid-configuration";

/// Ports that are tried where the usual one is taken.
const PORTS_TRIED: u16 = 20;

impl Plan {
    /// Takes what was given and asks for the rest. Where nobody can be asked, all that is missing is named at once.
    pub(super) fn settle(arguments: Arguments, terminal: &mut Terminal) -> Result<Plan, Fault> {
        let Arguments { folder, protect, issuer, upstream, user, secret, name, .. } = arguments;
        if !terminal.is_there() {
            let needs = |yes: bool, flag: &'static str| yes.then_some(flag);
            let is = |question: fn(Kind) -> bool| protect.is_some_and(question);
            let missing: Vec<&str> = [
                needs(protect.is_none(), "--protect WHAT"),
                needs(issuer.is_none(), "--issuer URL"),
                needs(upstream.is_none() && is(|k| k.usual_upstream().is_none()), "--upstream HOST:PORT"),
                needs(user.is_none() && is(|k| k.has_account() && k != Kind::Redis), "--user NAME"),
                needs(secret.is_none() && is(Kind::needs_secret), "--secret env:NAME or file:PATH"),
            ]
            .into_iter()
            .flatten()
            .collect();
            if !missing.is_empty() {
                return Err(Fault::Usage(format!(
                    "there is no terminal to ask at; give {}",
                    missing.join(", ")
                )));
            }
        }
        let usage = |flag: &str, text: &str, read: fn(&str) -> Result<String, String>| {
            read(text).map_err(|why| Fault::Usage(format!("{flag}: {why}")))
        };
        let kind = match protect {
            Some(kind) => kind,
            None => {
                let words = Kind::ALL.map(Kind::name).join(", ");
                terminal.ask(&format!("What is to be protected ({words})?"), "openai", read_kind)?
            }
        };
        let asked = issuer.is_none();
        let issuer = match issuer {
            Some(url) => usage("--issuer", &url, read_issuer)?,
            None => terminal.ask("Who issues your tokens (https://…)?", "", read_issuer)?,
        };
        let upstream = match (upstream, kind.usual_upstream()) {
            (Some(text), _) => usage("--upstream", &text, read_upstream)?,
            (None, Some(usual)) => usual.to_owned(),
            (None, None) => {
                terminal.ask(&format!("Where is it (such as {})?", kind.example()), "", read_upstream)?
            }
        };
        let user = match user {
            None if kind.has_account() && kind != Kind::Redis => {
                Some(terminal.ask("As whom shall the gateway log in there?", "", read_word)?)
            }
            given => given,
        };
        let (noun, _) = kind.secret();
        let secret = match secret {
            Some(_) if kind == Kind::Raw => {
                return Err(Fault::Usage(
                    "a raw route has no place for a stored credential; leave --secret out".into(),
                ));
            }
            Some(reference) => Some(reference.read()?),
            None if kind.needs_secret() => Some(terminal.ask_secret(&format!("The service's {noun}"))?),
            None => None,
        };
        let groups = match asked && arguments.group.is_empty() && arguments.subject.is_empty() {
            true => terminal.ask(
                "Which groups may use it (with commas; none: everybody of the issuer)?",
                "",
                read_list,
            )?,
            false => arguments.group,
        };
        let name = usage("--name", &name, read_name)?;
        let port = arguments.port.unwrap_or_else(|| port(kind, &name));
        let here = |path: PathBuf| absolute(path).map_err(|error| Fault::Usage(error.to_string()));
        Ok(Plan {
            folder,
            kind,
            issuer,
            issuer_ca: arguments.issuer_ca.map(here).transpose()?,
            audience: arguments.audience,
            groups,
            subjects: arguments.subject,
            groups_claim: arguments.groups_claim,
            upstream,
            upstream_ca: arguments.upstream_ca.map(here).transpose()?,
            user,
            secret,
            name,
            port,
            client_id: arguments.client_id,
        })
    }

    /// The file that `staunch serve` takes.
    pub(super) fn configuration(&self) -> PathBuf {
        self.folder.join("staunch.toml")
    }

    /// The authority that clients trust.
    pub(super) fn ca(&self) -> PathBuf {
        self.folder.join("ca.pem")
    }

    /// True when only this machine's programs reach the gateway.
    pub(super) fn is_local(&self) -> bool {
        is_local(&self.name)
    }

    /// True when the upstream has no TLS.
    pub(super) fn is_plaintext(&self) -> bool {
        !self.upstream.starts_with("tls://")
    }

    /// The secret's file, from the folder.
    pub(super) fn secret_file(&self) -> Option<String> {
        let (_, end) = self.kind.secret();
        self.secret.is_some().then(|| format!("secrets/{}.{end}", self.kind.name()))
    }

    /// The login that follows.
    pub(super) fn login(&self) -> login::Arguments {
        login::Arguments {
            issuer: Some(self.issuer.clone()),
            client_id: Some(self.client_id.clone()),
            ca: self.issuer_ca.clone(),
            ..login::Arguments::default()
        }
    }
}

fn is_local(name: &str) -> bool {
    name == "localhost" || name.ends_with(".localhost")
}

/// The usual port, or on this machine alone the next one that nobody listens on.
fn port(kind: Kind, name: &str) -> u16 {
    let usual = kind.usual_port(is_local(name));
    let is_free = |port: &u16| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
    match is_local(name) {
        true => (usual..usual + PORTS_TRIED).find(is_free).unwrap_or(usual),
        false => usual,
    }
}

fn read_kind(text: &str) -> Result<Kind, String> {
    clap::ValueEnum::from_str(text, true).map_err(|_| format!("{text:?} is none of these"))
}

fn read_issuer(text: &str) -> Result<String, String> {
    let url = text.trim_end_matches(WELL_KNOWN);
    match url.strip_prefix("https://") {
        Some(rest) if !rest.is_empty() && !rest.contains(['?', '#', ' ']) => Ok(url.to_owned()),
        _ => Err(format!("{text:?} is no issuer; write https://host[:port][/path]")),
    }
}

fn read_upstream(text: &str) -> Result<String, String> {
    if text.starts_with("unix:/") {
        return Ok(text.to_owned());
    }
    let (scheme, rest) = text.split_once("://").unwrap_or(("tls", text));
    let port = rest.trim_end_matches('/').rsplit_once(':').map(|(host, port)| (host, port.parse::<u16>()));
    match (scheme, port) {
        ("tls" | "tcp", Some((host, Ok(1..)))) if !host.is_empty() => {
            Ok(format!("{scheme}://{}", rest.trim_end_matches('/')))
        }
        ("https", None) if !rest.is_empty() && !rest.trim_end_matches('/').contains('/') => {
            Ok(format!("tls://{}:443", rest.trim_end_matches('/')))
        }
        ("https", Some((host, Ok(1..)))) if !host.is_empty() => {
            Ok(format!("tls://{}", rest.trim_end_matches('/')))
        }
        _ => Err(format!(
            "{text:?} is no upstream; write host:port, or without TLS tcp://127.0.0.1:PORT or unix:/path"
        )),
    }
}

fn read_name(text: &str) -> Result<String, String> {
    match ServerName::try_from(text) {
        Ok(ServerName::DnsName(_)) => Ok(text.to_ascii_lowercase()),
        _ => Err(format!(
            "{text:?} is no DNS name, and clients of an address send none in their TLS handshake; write localhost, or \
             a name such as gw.example.com"
        )),
    }
}

fn read_word(text: &str) -> Result<String, String> {
    if text.is_empty() { Err("a name is needed".into()) } else { Ok(text.to_owned()) }
}

fn read_list(text: &str) -> Result<Vec<String>, String> {
    Ok(text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect())
}

/// A path as it stands in the configuration.
pub(super) fn text_of(path: &Path) -> String {
    path.display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(arguments: Arguments) -> String {
        Plan::settle(arguments, &mut Terminal::nobody()).err().expect("something is missing").to_string()
    }

    #[test]
    fn where_nobody_can_be_asked_all_that_is_missing_is_named_at_once() {
        let all = fault(Arguments { protect: Some(Kind::Postgres), ..Arguments::default() });
        for flag in ["--issuer", "--upstream", "--user", "--secret"] {
            assert!(all.contains(flag), "{all}");
        }
        assert!(fault(Arguments::default()).contains("--protect"));
        let ollama = fault(Arguments { protect: Some(Kind::Ollama), ..Arguments::default() });
        assert!(
            ollama.contains("--issuer") && !ollama.contains("--upstream") && !ollama.contains("--secret")
        );
    }

    #[test]
    fn what_people_copy_is_understood() {
        assert_eq!(read_issuer("https://i/r/.well-known/openid-configuration").unwrap(), "https://i/r");
        assert_eq!(read_issuer("https://i/").unwrap(), "https://i/");
        assert!(read_issuer("http://i").is_err() && read_issuer("i.example.com").is_err());
        for (written, read) in [
            ("pg.internal:5432", "tls://pg.internal:5432"),
            ("tls://pg.internal:5432", "tls://pg.internal:5432"),
            ("https://r.openai.azure.com/", "tls://r.openai.azure.com:443"),
            ("https://r.openai.azure.com:8443", "tls://r.openai.azure.com:8443"),
            ("tcp://127.0.0.1:6379", "tcp://127.0.0.1:6379"),
            ("unix:/run/pg", "unix:/run/pg"),
        ] {
            assert_eq!(read_upstream(written).as_deref(), Ok(read), "{written}");
        }
        for bad in ["pg.internal", "pg:0", "pg:x", "https://a/b", "http://a:1", ""] {
            assert!(read_upstream(bad).is_err(), "{bad}");
        }
        assert!(read_name("127.0.0.1").is_err() && read_name("gw.example.com").is_ok());
    }
}
