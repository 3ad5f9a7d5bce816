//! What to type next: each command as it stands can be copied.

use super::files::service_group;
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
    let name = &plan.name;
    match plan.ca() {
        _ if plan.is_local() => {}
        Some(ca) => {
            text += &format!(
                "{name} must lead here. Clients trust {} until your own certificate stands in the configuration.\n",
                ca.display()
            );
        }
        None => {
            let port = if plan.is_challenged_by_http() { 80 } else { 443 };
            text += &format!(
                "{name} must lead here, port {port} included, where the authority looks whose name it is.\n"
            );
        }
    }
    text
}

fn start(plan: &Plan, program: &str) -> String {
    // The unit of the packages reads this file and no other.
    if plan.folder == Path::new("/etc/staunch") && service_group(&plan.folder).is_some() {
        return "systemctl enable --now staunch".into();
    }
    format!("{program} serve --config {}", quote(&plan.configuration()))
}

fn login(plan: &Plan, program: &str) -> String {
    let ca = plan.issuer_ca.as_ref().map(|ca| format!(" --ca {}", quote(ca))).unwrap_or_default();
    let issuer = quote(Path::new(&plan.issuer));
    format!("{program} login --issuer {issuer} --client-id {}{ca}", quote(Path::new(&plan.client_id)))
}

/// Words that make a program trust the test authority, around its file; none where the certificate is ordered.
fn trust(plan: &Plan, before: &str, after: &str) -> String {
    plan.ca().map(|ca| format!("{before}{}{after}", quote(&ca))).unwrap_or_default()
}

/// What libpq is to trust.
fn libpq_trust(plan: &Plan) -> String {
    plan.ca().map_or_else(|| "system".into(), |ca| ca.display().to_string())
}

/// With the tool that everybody has.
fn request(plan: &Plan, program: &str) -> (&'static str, String) {
    let token = format!("$({program} token)");
    let (name, port) = (&plan.name, plan.port);
    // Never in a command line, which every account of the machine can read.
    let curl = |header: &str, more: &str, path: &str| {
        let ca = trust(plan, "--cacert ", " ");
        format!("{program} token --header{header} | curl {ca}-H @- {more}https://{name}:{port}{path}")
    };
    match plan.kind {
        Kind::OpenAi => ("curl", curl("", "", "/v1/models")),
        Kind::Anthropic => ("curl", curl(" x-api-key", "-H 'anthropic-version: 2023-06-01' ", "/v1/models")),
        Kind::Azure => ("curl", curl(" api-key", "", "/openai/v1/models")),
        Kind::Gemini => ("curl", curl("", "", "/v1beta/models")),
        Kind::Ollama => ("curl", curl("", "", "/api/tags")),
        Kind::Grpc => (
            "grpcurl",
            format!(
                "TOKEN={token} grpcurl {}-expand-headers -H 'authorization: Bearer ${{TOKEN}}' {name}:{port} list",
                trust(plan, "-cacert ", " ")
            ),
        ),
        Kind::Postgres => (
            "psql",
            format!(
                "PGPASSWORD={token} psql \"host={name} port={port} dbname=postgres user=me sslmode=verify-full sslrootcert={}\" \\\n  \
                 -c 'select current_user'",
                libpq_trust(plan)
            ),
        ),
        Kind::Mysql => (
            "mariadb",
            format!(
                "MYSQL_PWD={token} mariadb --protocol=tcp --host {name} --port {port} {ca}--ssl-verify-server-cert \\\n  \
                 --user me -e 'select current_user()'",
                ca = trust(plan, "--ssl-ca=", " ")
            ),
        ),
        Kind::Redis => (
            "redis-cli",
            format!(
                "REDISCLI_AUTH={token} redis-cli --tls {ca}--sni {name} -h {name} -p {port} ping",
                ca = trust(plan, "--cacert ", " ")
            ),
        ),
        Kind::Raw => ("a local port", connect(plan, program)),
    }
}

/// A plaintext port of this machine that leads to the route.
fn connect(plan: &Plan, program: &str) -> String {
    let ca = trust(plan, "--ca ", " ");
    format!("{program} connect --gateway {}:{} {ca}{}", plan.name, plan.port, plan.kind.name())
}

/// With the libraries that programs use.
fn with_library(plan: &Plan, program: &str) -> Vec<(&'static str, String)> {
    let token = format!("$({program} token)");
    let (for_python, for_node) =
        (trust(plan, "SSL_CERT_FILE=", " "), trust(plan, "NODE_EXTRA_CA_CERTS=", " "));
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
                        &format!("{for_python}{set}"),
                        "from openai import OpenAI; print(OpenAI().models.list())",
                    ),
                ),
                (
                    "the Node SDK",
                    node(
                        &format!("{for_node}{set}"),
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
                        &format!("{for_python}{set}"),
                        "from anthropic import Anthropic; print(Anthropic().models.list())",
                    ),
                ),
                (
                    "the Node SDK",
                    node(
                        &format!("{for_node}{set}"),
                        "import Anthropic from \"@anthropic-ai/sdk\"; console.log(await new Anthropic().models.list())",
                    ),
                ),
            ]
        }
        Kind::Gemini => vec![(
            "the Python SDK",
            python(
                &format!("{for_python}TOKEN={token}"),
                &format!(
                    "import os; from google import genai; c = genai.Client(api_key=\"none\", http_options={{\"base_url\": \"{base}\", \"headers\": {{\"Authorization\": \"Bearer \" + os.environ[\"TOKEN\"]}}}}); print([m.name for m in c.models.list()])"
                ),
            ),
        )],
        Kind::Ollama => vec![(
            "the Python library",
            python(
                &format!("{for_python}TOKEN={token}"),
                &format!(
                    "import os, ollama; print(ollama.Client(\"{base}\", headers={{\"Authorization\": \"Bearer \" + os.environ[\"TOKEN\"]}}).list())"
                ),
            ),
        )],
        Kind::Grpc => vec![(
            "Python: a health check, where b\"\\x08\\x01\" is SERVING",
            python(
                &format!("TOKEN={token}"),
                &format!(
                    "import grpc, os; c = grpc.secure_channel(\"{name}:{port}\", grpc.ssl_channel_credentials({})); print(c.unary_unary(\"/grpc.health.v1.Health/Check\")(b\"\", metadata=[(\"authorization\", \"Bearer \" + os.environ[\"TOKEN\"])]))",
                    plan.ca()
                        .map(|ca| format!("open(\"{}\", \"rb\").read()", ca.display()))
                        .unwrap_or_default()
                ),
            ),
        )],
        Kind::Postgres => vec![(
            "psycopg",
            python(
                &format!("PGPASSWORD={token}"),
                &format!(
                    "import psycopg; print(psycopg.connect(\"host={name} port={port} dbname=postgres user=me sslmode=verify-full sslrootcert={}\").execute(\"select current_user\").fetchone())",
                    libpq_trust(plan)
                ),
            ),
        )],
        Kind::Mysql => vec![(
            "PyMySQL",
            python(
                &format!("TOKEN={token}"),
                &format!(
                    "import os, ssl, pymysql; c = pymysql.connect(host=\"{name}\", port={port}, user=\"me\", password=os.environ[\"TOKEN\"], ssl=ssl.create_default_context({})).cursor(); c.execute(\"select current_user()\"); print(c.fetchone())",
                    plan.ca().map(|ca| format!("cafile=\"{}\"", ca.display())).unwrap_or_default()
                ),
            ),
        )],
        Kind::Redis => vec![(
            "redis-py",
            python(
                &format!("TOKEN={token}"),
                &format!(
                    "import os, redis; print(redis.Redis(host=\"{name}\", port={port}, ssl=True, {}password=os.environ[\"TOKEN\"]).ping())",
                    plan.ca().map(|ca| format!("ssl_ca_certs=\"{}\", ", ca.display())).unwrap_or_default()
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
