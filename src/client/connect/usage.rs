//! What to tell people and programs: where each route is, and how what it speaks is used.

use super::place::Address;
use crate::client::fault::Fault;
use std::cell::OnceCell;
use std::io::Write;
use std::rc::Rc;

/// A route that is served.
pub(super) struct ExposedRoute {
    pub(super) route: String,
    /// What it speaks, once the gateway has said so.
    protocol: OnceCell<String>,
    at: Address,
    /// What HTTP clients must send as their key; `None`: any.
    key: Option<String>,
}

/// The database that nearly every server has. Without one, clients ask for a database with the name of who runs them.
const ANY_DATABASE: &str = "postgres";

impl ExposedRoute {
    pub(super) fn new(
        route: String,
        protocol: Option<String>,
        at: Address,
        key: Option<String>,
    ) -> ExposedRoute {
        ExposedRoute { route, protocol: protocol.map(OnceCell::from).unwrap_or_default(), at, key }
    }

    pub(super) fn protocol(&self) -> Option<&str> {
        self.protocol.get().map(String::as_str)
    }

    /// True if that was not known before.
    pub(super) fn learn(&self, protocol: String) -> bool {
        self.protocol.set(protocol).is_ok()
    }

    /// The gateway takes out whatever key is sent; clients refuse to start without one.
    fn key(&self) -> &str {
        self.key.as_deref().unwrap_or("none")
    }

    /// Whose programs look for this route, as far as its name says so.
    fn api(&self) -> Api {
        let name = self.route.to_ascii_lowercase();
        let is = |words: &[&str]| words.iter().any(|word| name.contains(word));
        match () {
            () if is(&["anthropic", "claude"]) => Api::Anthropic,
            () if is(&["azure"]) => Api::Azure,
            () if is(&["ollama"]) => Api::Ollama,
            () => Api::OpenAi,
        }
    }

    fn shown(&self) -> String {
        match &self.at {
            Address::Tcp(address) => address.to_string(),
            Address::Unix(path) => format!("unix:{}", path.display()),
        }
    }

    /// Lines that can be copied.
    fn advice(&self) -> Vec<String> {
        let at = self.shown();
        let (host, port) = match &self.at {
            Address::Tcp(address) => (address.ip().to_string(), address.port().to_string()),
            Address::Unix(path) => return self.advice_of_socket(&path.display().to_string()),
        };
        match self.protocol() {
            Some("http") => {
                let set: Vec<String> = self
                    .api()
                    .variables(&at, self.key())
                    .into_iter()
                    .map(|(name, value)| format!("{name}={value}"))
                    .collect();
                vec![set.join(" "), format!("gRPC without TLS: {at}")]
            }
            Some("postgres") => {
                vec![format!("psql \"host={host} port={port} dbname={ANY_DATABASE} sslmode=disable\"")]
            }
            Some("mysql") => vec![format!("mariadb --host={host} --port={port} --skip-ssl")],
            Some("redis") => vec![format!("redis-cli -h {host} -p {port}")],
            _ => Vec::new(),
        }
    }

    fn advice_of_socket(&self, path: &str) -> Vec<String> {
        match self.protocol() {
            Some("http") => {
                vec![
                    format!("curl --unix-socket {path} http://localhost/"),
                    format!("gRPC without TLS: unix:{path}"),
                ]
            }
            Some("postgres") => match postgres_socket(path) {
                Some((folder, port)) => {
                    vec![format!("psql \"host={folder} port={port} dbname={ANY_DATABASE}\"")]
                }
                None => vec![
                    "psql finds sockets that are called .s.PGSQL.5432 in the folder that is its host".into(),
                ],
            },
            Some("mysql") => vec![format!("mariadb --socket={path}")],
            Some("redis") => vec![format!("redis-cli -s {path}")],
            _ => Vec::new(),
        }
    }

    /// What programs read from their environment.
    fn variables(&self) -> Vec<(String, String)> {
        let own = |what: &str| {
            let name = self.route.to_ascii_uppercase().replace(|c: char| !c.is_ascii_alphanumeric(), "_");
            format!("STAUNCH_{name}_{what}")
        };
        let usual = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        let mut all = vec![(own("ADDRESS"), self.shown())];
        match &self.at {
            Address::Tcp(address) => {
                let (host, port) = (address.ip().to_string(), address.port().to_string());
                all.extend([(own("HOST"), host.clone()), (own("PORT"), port.clone())]);
                let (host, port) = (host.as_str(), port.as_str());
                all.extend(match self.protocol() {
                    Some("http") => {
                        let set = self.api().variables(&address.to_string(), self.key());
                        set.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
                    }
                    Some("postgres") => usual(&[
                        ("PGHOST", host),
                        ("PGPORT", port),
                        ("PGSSLMODE", "disable"),
                        ("PGGSSENCMODE", "disable"),
                    ]),
                    Some("mysql") => usual(&[("MYSQL_HOST", host), ("MYSQL_TCP_PORT", port)]),
                    Some("redis") => usual(&[("REDIS_URL", &format!("redis://{address}"))]),
                    _ => Vec::new(),
                });
            }
            Address::Unix(path) => {
                let path = path.display().to_string();
                all.push((own("SOCKET"), path.clone()));
                all.extend(match (self.protocol(), postgres_socket(&path)) {
                    (Some("postgres"), Some((folder, port))) => usual(&[
                        ("PGHOST", folder),
                        ("PGPORT", port),
                        ("PGSSLMODE", "disable"),
                        ("PGGSSENCMODE", "disable"),
                    ]),
                    // The name that stands for the socket.
                    (Some("mysql"), _) => usual(&[("MYSQL_HOST", "localhost"), ("MYSQL_UNIX_PORT", &path)]),
                    (Some("redis"), _) => usual(&[("REDIS_URL", &format!("unix://{path}"))]),
                    _ => Vec::new(),
                });
            }
        }
        all
    }
}

/// A kind of model API, by the variables that its programs read.
enum Api {
    OpenAi,
    Anthropic,
    Azure,
    Ollama,
}

impl Api {
    fn variables(&self, at: &str, key: &str) -> Vec<(&'static str, String)> {
        let key = key.to_owned();
        match self {
            Api::OpenAi => vec![("OPENAI_BASE_URL", format!("http://{at}/v1")), ("OPENAI_API_KEY", key)],
            Api::Anthropic => {
                vec![("ANTHROPIC_BASE_URL", format!("http://{at}")), ("ANTHROPIC_API_KEY", key)]
            }
            Api::Azure => {
                vec![("AZURE_OPENAI_ENDPOINT", format!("http://{at}")), ("AZURE_OPENAI_API_KEY", key)]
            }
            Api::Ollama => vec![("OLLAMA_HOST", format!("http://{at}"))],
        }
    }
}

/// The folder and the port by which PostgreSQL's clients know a socket.
fn postgres_socket(path: &str) -> Option<(&str, &str)> {
    path.rsplit_once("/.s.PGSQL.")
}

/// The environment of a program that is run. Where two routes speak the same, the first has the usual names.
pub(super) fn environment(offers: &[Rc<ExposedRoute>]) -> Vec<(String, String)> {
    let mut all: Vec<(String, String)> = Vec::new();
    for (name, value) in offers.iter().flat_map(|offer| offer.variables()) {
        if !all.iter().any(|(known, _)| *known == name) {
            all.push((name, value));
        }
    }
    all
}

/// Prints where each route is, and how it is used.
pub(super) fn print<'a>(offers: impl IntoIterator<Item = &'a ExposedRoute>) -> Result<(), Fault> {
    let mut text = String::new();
    for offer in offers {
        let protocol = offer.protocol().map(|protocol| format!(" ({protocol})")).unwrap_or_default();
        text += &format!("{}{protocol}: {}\n", offer.route, offer.shown());
        offer.advice().iter().for_each(|line| text += &format!("    {line}\n"));
    }
    let mut out = std::io::stdout().lock();
    let printed = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    Ok(printed?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer(route: &str, protocol: &str, at: &str) -> Rc<ExposedRoute> {
        let at = match at.strip_prefix("unix:") {
            Some(path) => Address::Unix(path.into()),
            None => Address::Tcp(at.parse().unwrap()),
        };
        Rc::new(ExposedRoute::new(route.into(), Some(protocol.into()), at, None))
    }

    fn value<'a>(all: &'a [(String, String)], name: &str) -> Option<&'a str> {
        all.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    #[test]
    fn programs_find_their_routes_under_the_usual_names_and_under_the_routes_own() {
        let all = environment(&[
            offer("open-ai.eu", "http", "127.0.0.1:1"),
            offer("other", "http", "127.0.0.1:2"),
            offer("pg", "postgres", "[::1]:3"),
            offer("cache", "redis", "unix:/run/r"),
            offer("sales", "mysql", "127.0.0.1:4"),
        ]);
        assert_eq!(value(&all, "STAUNCH_OPEN_AI_EU_ADDRESS"), Some("127.0.0.1:1"));
        assert_eq!(value(&all, "OPENAI_BASE_URL"), Some("http://127.0.0.1:1/v1"));
        assert_eq!(value(&all, "STAUNCH_OTHER_PORT"), Some("2"));
        let two =
            environment(&[offer("openai", "http", "127.0.0.1:1"), offer("anthropic", "http", "127.0.0.1:2")]);
        assert_eq!(value(&two, "OPENAI_BASE_URL"), Some("http://127.0.0.1:1/v1"));
        assert_eq!(value(&two, "ANTHROPIC_BASE_URL"), Some("http://127.0.0.1:2"));
        assert_eq!(value(&two, "ANTHROPIC_API_KEY"), Some("none"));
        assert_eq!((value(&all, "PGHOST"), value(&all, "PGPORT")), (Some("::1"), Some("3")));
        assert_eq!(value(&all, "PGSSLMODE"), Some("disable"));
        assert_eq!(value(&all, "REDIS_URL"), Some("unix:///run/r"));
        assert_eq!(value(&all, "MYSQL_TCP_PORT"), Some("4"));
    }

    #[test]
    fn advice_for_sockets_fits_what_clients_can_find() {
        let good = offer("pg", "postgres", "unix:/run/x/.s.PGSQL.5432").advice();
        assert_eq!(good, ["psql \"host=/run/x port=5432 dbname=postgres\""]);
        assert!(offer("pg", "postgres", "unix:/run/x/pg").advice()[0].contains(".s.PGSQL.5432"));
        assert_eq!(offer("r", "redis", "unix:/r").advice(), ["redis-cli -s /r"]);
        assert!(offer("x", "raw", "127.0.0.1:1").advice().is_empty());
    }

    #[test]
    fn what_a_route_speaks_is_learned_once() {
        let offer = ExposedRoute::new("r".into(), None, Address::Unix("/r".into()), None);
        assert_eq!((offer.protocol(), offer.advice().is_empty()), (None, true));
        assert!(offer.learn("redis".into()) && !offer.learn("redis".into()));
        assert_eq!(offer.advice(), ["redis-cli -s /r"]);
    }
}
