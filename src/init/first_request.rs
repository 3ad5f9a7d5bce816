//! What to type next: each command as it stands can be copied.

use super::kind::Kind;
use super::plan::Plan;
use std::path::Path;

/// The commands from here to the first answer.
pub(super) fn advice(plan: &Plan, program: &str, with_login: bool) -> String {
    let mut steps = vec![("Start the gateway".to_owned(), start(plan, program))];
    if with_login {
        steps.push(("Log in, once; `--device` where there is no browser".to_owned(), login(plan, program)));
    }
    let (tool, request) = request(plan, program);
    steps.push((format!("The first request, with {tool}"), request));
    steps.extend(with_library(plan, program).into_iter().map(|(what, text)| (format!("With {what}"), text)));
    let mut text = String::new();
    for (title, command) in steps {
        text += &format!("# {title}\n{command}\n\n");
    }
    if !plan.is_local() {
        text += &format!(
            "{name} must lead here. Clients trust {ca} until your own certificate stands in the configuration.\n",
            name = plan.name,
            ca = plan.ca().display()
        );
    }
    text
}

fn start(plan: &Plan, program: &str) -> String {
    format!("{program} serve --config {}", quote(&plan.configuration()))
}

fn login(plan: &Plan, program: &str) -> String {
    let ca = plan.issuer_ca.as_ref().map(|ca| format!(" --ca {}", quote(ca))).unwrap_or_default();
    let issuer = quote(Path::new(&plan.issuer));
    format!("{program} login --issuer {issuer} --client-id {}{ca}", quote(Path::new(&plan.client_id)))
}

/// With the tool that everybody has.
fn request(plan: &Plan, program: &str) -> (&'static str, String) {
    let (ca, token) = (quote(&plan.ca()), format!("$({program} token)"));
    let (name, port) = (&plan.name, plan.port);
    let curl = |header: &str, more: &str, path: &str| {
        format!("curl --cacert {ca} -H \"{header}{token}\" {more}https://{name}:{port}{path}")
    };
    match plan.kind {
        Kind::OpenAi => ("curl", curl("Authorization: Bearer ", "", "/v1/models")),
        Kind::Anthropic => ("curl", curl("X-Api-Key: ", "-H 'anthropic-version: 2023-06-01' ", "/v1/models")),
        Kind::Azure => ("curl", curl("api-key: ", "", "/openai/v1/models")),
        Kind::Ollama => ("curl", curl("Authorization: Bearer ", "", "/api/tags")),
        Kind::Grpc => (
            "grpcurl",
            format!("grpcurl -cacert {ca} -H \"authorization: Bearer {token}\" {name}:{port} list"),
        ),
        Kind::Postgres => (
            "psql",
            format!(
                "PGPASSWORD={token} psql \"host={name} port={port} dbname=postgres user=me sslmode=verify-full sslrootcert={}\" \\\n  \
                 -c 'select current_user'",
                plan.ca().display()
            ),
        ),
        Kind::Mysql => (
            "mariadb",
            format!(
                "mariadb --protocol=tcp --host {name} --port {port} --ssl-ca={ca} --ssl-verify-server-cert \\\n  \
                 --user me --password=\"{token}\" -e 'select current_user()'"
            ),
        ),
        Kind::Redis => (
            "redis-cli",
            format!(
                "REDISCLI_AUTH={token} redis-cli --tls --cacert {ca} --sni {name} -h {name} -p {port} ping"
            ),
        ),
        Kind::Raw => ("a local port", connect(plan, program)),
    }
}

/// A plaintext port of this machine that leads to the route.
fn connect(plan: &Plan, program: &str) -> String {
    let ca = quote(&plan.ca());
    format!("{program} connect --gateway {}:{} --ca {ca} {}", plan.name, plan.port, plan.kind.name())
}

/// With the libraries that programs use.
fn with_library(plan: &Plan, program: &str) -> Vec<(&'static str, String)> {
    let (ca, token) = (quote(&plan.ca()), format!("$({program} token)"));
    let (name, port) = (&plan.name, plan.port);
    let base = format!("https://{name}:{port}");
    let python = |environment: &str, code: &str| format!("{environment} \\\n  python3 -c '{code}'");
    let node =
        |environment: &str, code: &str| format!("{environment} \\\n  node --input-type=module -e '{code}'");
    match plan.kind {
        Kind::OpenAi | Kind::Azure => {
            let path = if plan.kind == Kind::Azure { "/openai/v1" } else { "/v1" };
            let set = format!("OPENAI_BASE_URL={base}{path} OPENAI_API_KEY={token}");
            vec![
                (
                    "the Python SDK",
                    python(
                        &format!("SSL_CERT_FILE={ca} {set}"),
                        "from openai import OpenAI; print(OpenAI().models.list())",
                    ),
                ),
                (
                    "the Node SDK",
                    node(
                        &format!("NODE_EXTRA_CA_CERTS={ca} {set}"),
                        "import OpenAI from \"openai\"; console.log(await new OpenAI().models.list())",
                    ),
                ),
            ]
        }
        Kind::Anthropic => {
            let set = format!("ANTHROPIC_BASE_URL={base} ANTHROPIC_API_KEY={token}");
            vec![
                (
                    "the Python SDK",
                    python(
                        &format!("SSL_CERT_FILE={ca} {set}"),
                        "from anthropic import Anthropic; print(Anthropic().models.list())",
                    ),
                ),
                (
                    "the Node SDK",
                    node(
                        &format!("NODE_EXTRA_CA_CERTS={ca} {set}"),
                        "import Anthropic from \"@anthropic-ai/sdk\"; console.log(await new Anthropic().models.list())",
                    ),
                ),
            ]
        }
        Kind::Ollama => vec![(
            "the Python library",
            python(
                &format!("SSL_CERT_FILE={ca} TOKEN={token}"),
                &format!(
                    "import os, ollama; print(ollama.Client(\"{base}\", headers={{\"Authorization\": \"Bearer \" + os.environ[\"TOKEN\"]}}).list())"
                ),
            ),
        )],
        Kind::Grpc => vec![(
            "Python",
            format!(
                "channel = grpc.secure_channel(\"{name}:{port}\", grpc.ssl_channel_credentials(open(\"{}\", \"rb\").read()))\n\
                 stub.Method(request, metadata=[(\"authorization\", f\"Bearer {{token}}\")])",
                plan.ca().display()
            ),
        )],
        Kind::Postgres => vec![(
            "psycopg",
            python(
                &format!("PGPASSWORD={token}"),
                &format!(
                    "import psycopg; print(psycopg.connect(\"host={name} port={port} dbname=postgres user=me sslmode=verify-full sslrootcert={}\").execute(\"select current_user\").fetchone())",
                    plan.ca().display()
                ),
            ),
        )],
        Kind::Mysql => vec![(
            "PyMySQL",
            python(
                &format!("TOKEN={token}"),
                &format!(
                    "import os, pymysql; c = pymysql.connect(host=\"{name}\", port={port}, user=\"me\", password=os.environ[\"TOKEN\"], ssl={{\"ca\": \"{}\", \"check_hostname\": True}}).cursor(); c.execute(\"select current_user()\"); print(c.fetchone())",
                    plan.ca().display()
                ),
            ),
        )],
        Kind::Redis => vec![(
            "redis-py",
            python(
                &format!("TOKEN={token}"),
                &format!(
                    "import os, redis; print(redis.Redis(host=\"{name}\", port={port}, ssl=True, ssl_ca_certs=\"{}\", password=os.environ[\"TOKEN\"]).ping())",
                    plan.ca().display()
                ),
            ),
        )],
        Kind::Raw => Vec::new(),
    }
}

/// A word as a shell reads it.
pub(super) fn quote(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-:@%+=,".contains(c);
    match !text.is_empty() && text.chars().all(plain) {
        true => text,
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_where_a_shell_would_read_them_otherwise() {
        assert_eq!(quote(Path::new("staunch/ca.pem")), "staunch/ca.pem");
        assert_eq!(quote(Path::new("my files/ca.pem")), "'my files/ca.pem'");
        assert_eq!(quote(Path::new("it's")), r"'it'\''s'");
        assert_eq!(quote(Path::new("$HOME")), "'$HOME'");
    }
}
