//! What can be protected, and what is usual for each.

/// Where nothing but Ollama itself listens, without TLS.
const OLLAMAS_PORT: &str = ":11434";

/// A kind of service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    /// OpenAI, or anything that speaks its API.
    #[value(name = "openai")]
    OpenAi,
    /// Anthropic.
    Anthropic,
    /// Azure OpenAI.
    Azure,
    /// Gemini.
    Gemini,
    /// Ollama on this machine, or elsewhere behind TLS.
    Ollama,
    /// A gRPC service.
    Grpc,
    /// PostgreSQL.
    #[value(name = "postgres", alias = "postgresql")]
    Postgres,
    /// MySQL or MariaDB.
    #[value(name = "mysql", alias = "mariadb")]
    Mysql,
    /// Redis or Valkey.
    Redis,
    /// Any other TCP service, through `staunch connect`.
    Raw,
}

impl Kind {
    /// All of them, in the order of questions.
    pub const ALL: [Kind; 10] = [
        Kind::OpenAi,
        Kind::Anthropic,
        Kind::Azure,
        Kind::Gemini,
        Kind::Ollama,
        Kind::Grpc,
        Kind::Postgres,
        Kind::Mysql,
        Kind::Redis,
        Kind::Raw,
    ];

    /// The word for it, which is also its route's name.
    pub fn name(self) -> &'static str {
        match self {
            Kind::OpenAi => "openai",
            Kind::Anthropic => "anthropic",
            Kind::Azure => "azure",
            Kind::Gemini => "gemini",
            Kind::Ollama => "ollama",
            Kind::Grpc => "grpc",
            Kind::Postgres => "postgres",
            Kind::Mysql => "mysql",
            Kind::Redis => "redis",
            Kind::Raw => "raw",
        }
    }

    /// The route's `protocol`.
    pub(super) fn protocol(self) -> &'static str {
        match self {
            Kind::OpenAi | Kind::Anthropic | Kind::Azure | Kind::Gemini | Kind::Ollama | Kind::Grpc => "http",
            other => other.name(),
        }
    }

    /// Where it is when nothing else is said.
    pub(super) fn usual_upstream(self) -> Option<&'static str> {
        match self {
            Kind::OpenAi => Some("tls://api.openai.com:443"),
            Kind::Anthropic => Some("tls://api.anthropic.com:443"),
            Kind::Gemini => Some("tls://generativelanguage.googleapis.com:443"),
            Kind::Ollama => Some("tcp://127.0.0.1:11434"),
            _ => None,
        }
    }

    /// The service's own port.
    fn own_port(self) -> u16 {
        match self {
            Kind::Postgres => 5432,
            Kind::Mysql => 3306,
            Kind::Redis => 6379,
            _ => 8443,
        }
    }

    /// An upstream with what everybody knows of it: the port of databases and of model services, and that Ollama beside the
    /// gateway has no TLS.
    pub(super) fn completed(self, upstream: String) -> String {
        let is_http = self.protocol() == "http";
        let here = upstream.strip_prefix("http://").filter(|_| is_http).or(match self {
            Kind::Ollama if !upstream.contains("://") && upstream.ends_with(OLLAMAS_PORT) => {
                Some(upstream.as_str())
            }
            _ => None,
        });
        let here = here.map(|rest| rest.trim_end_matches('/')).and_then(|rest| rest.rsplit_once(':'));
        if let Some(("localhost" | "127.0.0.1" | "[::1]", port)) = here {
            let host = if upstream.contains("[::1]") { "[::1]" } else { "127.0.0.1" };
            return format!("tcp://{host}:{port}");
        }
        let is_bare = !upstream.is_empty() && !upstream.contains([':', '/', ' ', '@']);
        match self {
            _ if !is_bare => upstream,
            Kind::Postgres | Kind::Mysql | Kind::Redis => format!("{upstream}:{}", self.own_port()),
            Kind::OpenAi | Kind::Anthropic | Kind::Azure | Kind::Gemini => format!("{upstream}:443"),
            Kind::Ollama | Kind::Grpc | Kind::Raw => upstream,
        }
    }

    /// The gateway's port: for databases the service's own, and ten thousand more where the service may stand beside it.
    pub(super) fn usual_port(self, is_local: bool) -> u16 {
        match self.own_port() {
            port if is_local && port < 8443 => port + 10_000,
            port => port,
        }
    }

    /// The header that carries the stored credential, and its value around `{}`.
    pub(super) fn header(self) -> Option<(&'static str, &'static str)> {
        match self {
            Kind::OpenAi | Kind::Ollama | Kind::Grpc => Some(("authorization", "Bearer {}")),
            Kind::Anthropic => Some(("x-api-key", "{}")),
            Kind::Azure => Some(("api-key", "{}")),
            Kind::Gemini => Some(("x-goog-api-key", "{}")),
            _ => None,
        }
    }

    /// True where the gateway logs in with an account.
    pub(super) fn has_account(self) -> bool {
        matches!(self, Kind::Postgres | Kind::Mysql | Kind::Redis)
    }

    /// True where nothing works without a stored credential.
    pub(super) fn needs_secret(self) -> bool {
        self.has_account() || matches!(self, Kind::OpenAi | Kind::Anthropic | Kind::Azure | Kind::Gemini)
    }

    /// How the stored credential is called, and the end of its file's name.
    pub(super) fn secret(self) -> (&'static str, &'static str) {
        if self.has_account() { ("password", "password") } else { ("API key", "key") }
    }

    /// A host to show in a question for the upstream.
    pub(super) fn example(self) -> &'static str {
        match self {
            Kind::Azure => "YOUR-RESOURCE.openai.azure.com:443",
            Kind::Grpc => "grpc.internal:443",
            Kind::Postgres => "pg.internal:5432",
            Kind::Mysql => "db.internal:3306",
            Kind::Redis => "redis.internal:6379",
            _ => "queue.internal:5671",
        }
    }
}
