//! What is to be written, with every question answered.

use super::arguments::{Arguments, LETS_ENCRYPT};
use super::kind::Kind;
use super::question::Terminal;
use crate::client::{Fault, login};
use crate::config::{advice, pasted};
use crate::net::https::HttpsUrl;
use crate::secret::Secret;
use crate::secret::shown_url;
use rustls::pki_types::ServerName;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf, absolute};

/// What is to be written.
pub(super) struct Plan {
    pub(super) folder: PathBuf,
    pub(super) kind: Kind,
    pub(super) issuer: String,
    pub(super) issuer_ca: Option<PathBuf>,
    /// Where the issuer's keys stand, if not on its own host.
    pub(super) keys_host: Option<String>,
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
    pub(super) acme: Option<Acme>,
}

/// How the certificate is ordered.
pub(super) struct Acme {
    /// `letsencrypt`, or a directory's URL.
    pub(super) authority: String,
    /// Who vouches for the directory's server.
    pub(super) ca: Option<PathBuf>,
    pub(super) contact: Option<String>,
}

/// The port on which authorities look for the answer to a TLS-ALPN-01 challenge.
const HTTPS: u16 = 443;

/// Ports that are tried where the usual one is taken.
const PORT_ATTEMPTS: u16 = 20;

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
        if arguments.acme.is_some() && is_local(&name) {
            return Err(Fault::Usage(
                "--acme: no authority issues for localhost; give --name NAME, which leads here in the DNS"
                    .into(),
            ));
        }
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
            (Some(text), _) => usage("--upstream", &kind.completed(text), read_upstream)?,
            (None, Some(usual)) => usual.to_owned(),
            (None, None) => {
                let read = |text: &str| read_upstream(&kind.completed(text.to_owned()));
                terminal.ask(&format!("Where is it (such as {})?", kind.example()), "", read)?
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
            Some(reference) => {
                let secret = without_blanks(kind, reference.read()?);
                check_secret(kind, &secret).map_err(|why| Fault::Usage(format!("--secret: {why}")))?;
                Some(secret)
            }
            None if kind.needs_secret() => {
                let check = |secret: &Secret| check_secret(kind, secret);
                Some(without_blanks(kind, terminal.ask_secret(&format!("The service's {noun}"), check)?))
            }
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
        let usual =
            || if arguments.acme.is_some() && kind.protocol() == "http" { HTTPS } else { port(kind, &name) };
        let port = arguments.port.unwrap_or_else(usual);
        let acme = match arguments.acme {
            Some(text) => Some(Acme {
                authority: usage("--acme", &text, read_authority)?,
                ca: arguments.acme_ca.map(|path| file("--acme-ca", path)).transpose()?,
                contact: arguments.acme_contact,
            }),
            None => None,
        };
        Ok(Plan {
            folder,
            kind,
            issuer,
            issuer_ca: arguments.issuer_ca.map(|path| file("--issuer-ca", path)).transpose()?,
            keys_host: None,
            audience: arguments.audience,
            groups,
            subjects: arguments.subject,
            groups_claim: arguments.groups_claim,
            upstream,
            upstream_ca: arguments.upstream_ca.map(|path| file("--upstream-ca", path)).transpose()?,
            user,
            secret,
            name,
            port,
            client_id: arguments.client_id,
            acme,
        })
    }

    /// The file that `staunch serve` takes.
    pub(super) fn configuration(&self) -> PathBuf {
        self.folder.join("staunch.toml")
    }

    /// The test authority that clients trust; `None` where those of the system do.
    pub(super) fn ca(&self) -> Option<PathBuf> {
        self.acme.is_none().then(|| self.folder.join("ca.pem"))
    }

    /// True where authorities look for the challenge's answer on port 80, since port 443 is not this gateway's.
    pub(super) fn is_challenged_by_http(&self) -> bool {
        self.acme.is_some() && self.port != HTTPS
    }

    /// True when only this machine's programs reach the gateway.
    pub(super) fn is_local(&self) -> bool {
        is_local(&self.name)
    }

    /// What stands in the way of the port, as far as can be seen now.
    pub(super) fn port_note(&self) -> Option<String> {
        let address = if self.is_local() { Ipv4Addr::LOCALHOST } else { Ipv4Addr::UNSPECIFIED };
        let error = TcpListener::bind((address, self.port)).err()?;
        let port = self.port;
        match error.kind() {
            ErrorKind::AddrInUse => Some(format!(
                "warning: something listens on port {port} already; stop it before the gateway starts, or take another with --port"
            )),
            ErrorKind::PermissionDenied => Some(format!(
                "warning: port {port} takes root or CAP_NET_BIND_SERVICE, which the packages' unit has; or take one above 1023 with --port"
            )),
            _ => None,
        }
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

/// A file that must be there, from anywhere.
fn file(flag: &str, path: PathBuf) -> Result<PathBuf, Fault> {
    match absolute(&path) {
        Ok(path) if path.is_file() => Ok(path),
        Ok(path) => Err(Fault::Usage(format!("{flag}: there is no file {}", path.display()))),
        Err(error) => Err(Fault::Usage(format!("{flag}: {error}"))),
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
        true => (usual..usual + PORT_ATTEMPTS).find(is_free).unwrap_or(usual),
        false => usual,
    }
}

fn read_kind(text: &str) -> Result<Kind, String> {
    clap::ValueEnum::from_str(text, true).map_err(|_| format!("{text:?} is none of these"))
}

/// Blanks around a key are never part of it; of a password they may be.
fn without_blanks(kind: Kind, secret: Secret) -> Secret {
    match kind.has_account() {
        true => secret,
        false => Secret::new(secret.expose().trim_ascii().to_vec()),
    }
}

/// Refuses what cannot be the key that was meant.
fn check_secret(kind: Kind, secret: &Secret) -> Result<(), String> {
    let (noun, _) = kind.secret();
    let text = std::str::from_utf8(secret.expose()).map_err(|_| format!("the {noun} is no text"))?;
    let fault = match kind.has_account() {
        true if text.chars().any(char::is_control) => Some("it holds control characters"),
        true => None,
        false => pasted::fault(text.trim()),
    };
    fault.map_or(Ok(()), |why| Err(format!("the {noun} cannot be stored so: {why}")))
}

fn read_issuer(text: &str) -> Result<String, String> {
    let url = without_document(text);
    let (scheme, rest) = url.split_once("://").unwrap_or(("", &url));
    let meant = format!("https://{rest}");
    match meant.parse::<HttpsUrl>() {
        Ok(_) if url.contains(['?', '#', ' ', '\\', '"']) => {}
        Ok(_) if scheme.eq_ignore_ascii_case("https") => return Ok(meant),
        Ok(_) => {
            return Err(format!(
                "{} is no issuer, whose URL is always https; write {meant:?}",
                shown_url(text)
            ));
        }
        Err(()) => {}
    }
    let shown = shown_url(text);
    Err(format!("{shown} is no issuer; write https://host[:port][/path], as in `iss` of its tokens"))
}

/// An issuer whose metadata document was copied in its place (OpenID Connect Discovery 1.0 section 4, RFC 8414 section 3.1).
fn without_document(text: &str) -> String {
    let Some((before, document)) = text.split_once("/.well-known/") else { return text.to_owned() };
    match document.split_once('/').map(|(_, path)| path.trim_matches('/')) {
        Some(path) if !path.is_empty() => format!("{before}/{path}"),
        _ => before.to_owned(),
    }
}

fn read_authority(text: &str) -> Result<String, String> {
    match text == LETS_ENCRYPT || text.starts_with("https://") {
        true => Ok(text.to_owned()),
        false => Err(format!(
            "{} is no authority; write {LETS_ENCRYPT}, or a directory's URL (https://…)",
            shown_url(text)
        )),
    }
}

fn read_upstream(text: &str) -> Result<String, String> {
    if text.starts_with("unix:/") {
        return Ok(text.to_owned());
    }
    let (scheme, rest) = text.split_once("://").unwrap_or(("tls", text));
    let port = rest.trim_end_matches('/').rsplit_once(':').map(|(host, port)| (host, port.parse::<u16>()));
    match (scheme, port) {
        ("tcp", Some((host, Ok(1..)))) if !is_loopback(host) => Err(format!(
            "{text:?} has no TLS and is not on this machine; write \"tls://{}\"",
            rest.trim_end_matches('/')
        )),
        ("tls" | "tcp", Some((host, Ok(1..)))) if !host.is_empty() => {
            Ok(format!("{scheme}://{}", rest.trim_end_matches('/')))
        }
        ("https", None) if !rest.is_empty() && !rest.trim_end_matches('/').contains('/') => {
            Ok(format!("tls://{}:443", rest.trim_end_matches('/')))
        }
        ("https", Some((host, Ok(1..)))) if !host.is_empty() => {
            Ok(format!("tls://{}", rest.trim_end_matches('/')))
        }
        // What stands before an `@` may be a password.
        _ if text.contains('@') => {
            Err("an upstream has no user and no password in its address; write host:port, and give \
                                        --user and --secret"
                .into())
        }
        _ => Err(format!("{} is no upstream; {}", shown_url(text), advice::upstream(text))),
    }
}

/// True for an address of this machine alone, as it must be written.
fn is_loopback(host: &str) -> bool {
    host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

fn read_name(text: &str) -> Result<String, String> {
    match ServerName::try_from(text) {
        Ok(ServerName::DnsName(_)) => Ok(text.to_ascii_lowercase()),
        _ if text.trim_matches(['[', ']']).parse::<IpAddr>().is_ok() => Err(format!(
            "{text:?} is no DNS name, and clients of an address send none in their TLS handshake; write localhost, or \
             a name such as gw.example.com"
        )),
        _ if text.contains('*') => Err(format!(
            "{text:?} is no name that a request can go to; write one of those it stands for, and add the rest to `sni` later"
        )),
        _ if text.contains([' ', ',']) => {
            Err(format!("{text:?} is no DNS name; write one, such as gw.example.com"))
        }
        _ => Err(format!("{text:?} is no DNS name; {}", advice::name(text))),
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
            ("HTTPS://i/R", "https://i/R"),
            ("https://i/.well-known/openid-configuration/", "https://i"),
            ("https://i/.well-known/oauth-authorization-server/r", "https://i/r"),
        ] {
            assert_eq!(read_issuer(written).as_deref(), Ok(read));
        }
        for bad in [
            "https://me:secret@i",
            "https://i:99999",
            "https://i:x",
            "https://",
            "https://i?a",
            "",
            "https://i i",
            "i",
            "https:/i",
        ] {
            let why = read_issuer(bad).unwrap_err();
            assert!(why.contains("https://") && !why.contains("secret"), "{bad}: {why}");
        }
        assert!(read_name("*.example.com").unwrap_err().contains("one of those it stands for"));
        let stored = |kind, text: &str| check_secret(kind, &Secret::new(text.as_bytes().to_vec()));
        assert!(stored(Kind::OpenAi, "\"sk-abc\"").is_err() && stored(Kind::OpenAi, " sk-abc ").is_ok());
        assert!(stored(Kind::Postgres, "\"it's b\"").is_ok() && stored(Kind::Postgres, "a\u{1b}").is_err());
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
        for (bad, advice) in [
            ("pg.internal", "write \"tls://pg.internal:443\""),
            ("pg:0", "0 is no port"),
            ("pg:x", "write"),
            ("https://a.b/c", "write \"tls://a.b:443\"; paths are the clients' own"),
            ("http://a:1", "write \"tls://a:443\""),
            ("tcp://10.0.0.1:6379", "write \"tls://10.0.0.1:6379\""),
            ("postgres://me:secret@pg/app", "give --user and --secret"),
            ("", "write"),
        ] {
            let why = read_upstream(bad).unwrap_err();
            assert!(why.contains(advice) && !why.contains("secret@"), "{bad}: {why}");
        }
        for (kind, written, read) in [
            (Kind::Postgres, "pg.internal", "pg.internal:5432"),
            (Kind::Azure, "r.openai.azure.com", "r.openai.azure.com:443"),
            (Kind::Grpc, "grpc.internal", "grpc.internal"),
            (Kind::Ollama, "localhost:11434", "tcp://127.0.0.1:11434"),
            (Kind::Ollama, "http://localhost:11434/", "tcp://127.0.0.1:11434"),
            (Kind::OpenAi, "http://127.0.0.1:8000", "tcp://127.0.0.1:8000"),
            (Kind::Ollama, "ollama.internal:443", "ollama.internal:443"),
            (Kind::Ollama, "127.0.0.1:8443", "127.0.0.1:8443"),
            (Kind::Postgres, "localhost:5432", "localhost:5432"),
        ] {
            assert_eq!(kind.completed(written.into()), read, "{kind:?} {written}");
        }
        assert!(read_issuer("http://i").unwrap_err().contains("write \"https://i\""));
        assert!(read_issuer("i.example.com/r").unwrap_err().contains("write \"https://i.example.com/r\""));
        assert!(read_name("127.0.0.1").unwrap_err().contains("clients of an address"));
        assert!(read_name("https://gw.example.com").unwrap_err().contains("write \"gw.example.com\""));
        assert!(read_name("gw.example.com").is_ok());
        assert!(
            read_authority("letsencrypt").is_ok()
                && read_authority("zerossl").unwrap_err().contains("directory")
        );
    }
}
