//! The configuration as it is written: each line with what a reader would ask about it.

use super::arguments::LETS_ENCRYPT;
use super::kind::Kind;
use super::plan::{Plan, text_of};
use std::path::Path;

/// The whole file.
pub(super) fn configuration(plan: &Plan) -> String {
    let mut text = format!(
        "# Staunch in front of {}. `staunch check --config staunch.toml` names every fault; `staunch schema` is for editors.\n\
         # Paths are relative to this file.\n",
        plan.kind.name()
    );
    text += &listener(plan);
    text += &issuer(plan);
    text += &acme(plan);
    text += &secrets(plan);
    text += &route(plan);
    text
}

fn listener(plan: &Plan) -> String {
    let (address, who) = match plan.is_local() {
        true => ("127.0.0.1", "this machine alone; \"[::]\" for everybody"),
        false => ("[::]", "both families"),
    };
    let mut text =
        line("\n[[listener]]\n", &format!("address = {}", quoted(&format!("{address}:{}", plan.port))), who);
    match plan.kind {
        Kind::Mysql => {
            text += "# Clients wait for the server to begin, so this listener greets them, and serves nothing else.\n";
            text += "mysql = { route = \"mysql\" }\n";
        }
        Kind::Raw => {
            text += "# The name that `staunch connect --gateway` is given; it leads to every route.\n";
            text += &format!("tunnel = {{ sni = {}, {} }}\n", quoted(&plan.name), certificate(plan));
        }
        _ => {}
    }
    text
}

fn issuer(plan: &Plan) -> String {
    let mut text = line("\n[[issuer]]\n", "name = \"corp\"", "how routes call it");
    text += &line("", &format!("oidc = {}", quoted(&plan.issuer)), "exactly as `iss` of its tokens");
    text += &line("", &format!("audience = {}", list(&plan.audience)), "what `aud` of a token must hold");
    text += &line(
        "",
        &format!("groups_claim = {}", quoted(&plan.groups_claim)),
        "realm_access.roles for Keycloak's roles",
    );
    if let Some(host) = &plan.keys_host {
        let hosts = format!("jwks_hosts = {}", list(std::slice::from_ref(host)));
        text += &line("", &hosts, "its keys stand there, by its own word");
    }
    if let Some(ca) = &plan.issuer_ca {
        text += &line("", &format!("ca = {}", quoted(&text_of(ca))), "who vouches for the issuer's server");
    }
    text
}

fn secrets(plan: &Plan) -> String {
    let Some(file) = plan.secret_file() else { return String::new() };
    let what = format!("stored = {}", quoted(&format!("file:{file}")));
    line("\n[secrets]\n", &what, "chmod 600; or env:NAME, credential:NAME (systemd)")
}

fn route(plan: &Plan) -> String {
    let kind = plan.kind;
    let mut text =
        line("\n[[route]]\n", &format!("name = {}", quoted(kind.name())), "how logs and metrics call it");
    if kind != Kind::Raw {
        text += &line("", &format!("sni = {}", quoted(&plan.name)), "the name that clients ask for");
    }
    text += &format!("protocol = \"{}\"\n", kind.protocol());
    text += &upstream(plan);
    if kind != Kind::Raw {
        text += match plan.acme {
            None => "# A test certificate: put your own in its place, and the authority is needed no more.\n",
            Some(_) => "# Ordered at the start and renewed in time; `check` and /readyz say how that goes.\n",
        };
        text += &format!("{}\n", certificate(plan));
    }
    let mut rule = "issuer = \"corp\"".to_owned();
    for (word, names) in [("groups", &plan.groups), ("subjects", &plan.subjects)] {
        if !names.is_empty() {
            rule += &format!(", {word} = {}", list(names));
        }
    }
    let who = match plan.groups.is_empty() && plan.subjects.is_empty() {
        true => "everybody of the issuer; narrow it with groups = [\"…\"]",
        false => "nobody else",
    };
    text += &line("", &format!("allow = [{{ {rule} }}]"), who);
    text += &inject(plan);
    text += &line("", "on_expiry = \"drain\"", "what was admitted may finish; \"cut\", \"grace 5m\"");
    if kind.protocol() == "http" && kind != Kind::Grpc {
        text += &line("", "timeouts = { idle = \"30m\" }", "models think for minutes before the first byte");
    }
    text
}

fn upstream(plan: &Plan) -> String {
    let mut text = match &plan.upstream_ca {
        Some(ca) if !plan.is_plaintext() => {
            format!("upstream = {{ address = {}, ca = {} }}\n", quoted(&plan.upstream), quoted(&text_of(ca)))
        }
        _ if plan.is_plaintext() => {
            let text =
                line("", &format!("upstream = {}", quoted(&plan.upstream)), "without TLS: this machine only");
            format!("{text}unsafe_plaintext_upstream = true\n")
        }
        _ => line(
            "",
            &format!("upstream = {}", quoted(&plan.upstream)),
            "verified with the system's authorities",
        ),
    };
    match plan.kind {
        Kind::Grpc => text += "alpn = \"h2\"\n",
        _ if plan.is_plaintext() && plan.kind.protocol() == "http" => text += "alpn = \"http/1.1\"\n",
        _ => {}
    }
    text
}

fn inject(plan: &Plan) -> String {
    if plan.secret.is_none() {
        return String::new();
    }
    match plan.kind.header() {
        Some((header, value)) => format!(
            "inject = {{ header = \"{header}\", value = \"{}\" }}\n",
            value.replace("{}", "{secret:stored}")
        ),
        None => {
            let user =
                plan.user.as_ref().map(|user| format!("user = {}, ", quoted(user))).unwrap_or_default();
            format!("inject = {{ {user}password = \"{{secret:stored}}\" }}\n")
        }
    }
}

fn certificate(plan: &Plan) -> String {
    let Some(acme) = &plan.acme else {
        return "certificate = { chain = \"gateway.pem\", key = \"gateway.key\" }".into();
    };
    let authority = if acme.authority == LETS_ENCRYPT { LETS_ENCRYPT } else { OWN_AUTHORITY };
    let challenge = if plan.is_challenged_by_http() { ", challenge = \"http-01\"" } else { "" };
    format!("certificate = {{ acme = {}{challenge} }}", quoted(authority))
}

fn acme(plan: &Plan) -> String {
    let Some(acme) = &plan.acme else { return String::new() };
    let mut text = match is_below_etc(&plan.folder) {
        // No service may write there; the default is systemd's state directory.
        true => "\n[acme]\n".to_owned(),
        false => {
            line("\n[acme]\n", "state = \"acme\"", "account keys and certificates, this service's alone")
        }
    };
    if let Some(contact) = &acme.contact {
        text += &line(
            "",
            &format!("contact = {}", list(std::slice::from_ref(contact))),
            "where the authority may write to",
        );
    }
    if plan.is_challenged_by_http() {
        text += &line("", "http = \"[::]:80\"", "answers challenges and nothing else");
    }
    if acme.authority != LETS_ENCRYPT {
        text += &format!("\n[acme.authority.{OWN_AUTHORITY}]\ndirectory = {}\n", quoted(&acme.authority));
        if let Some(ca) = &acme.ca {
            text += &line("", &format!("ca = {}", quoted(&text_of(ca))), "who vouches for its server");
        }
    }
    text
}

/// True where a service's configuration stands.
pub(super) fn is_below_etc(folder: &Path) -> bool {
    std::path::absolute(folder).is_ok_and(|folder| folder.starts_with("/etc"))
}

/// How the configuration calls an authority that is given by its directory.
const OWN_AUTHORITY: &str = "own";

/// The column in which remarks begin.
const REMARKS: usize = 45;

/// A line with a remark behind it.
fn line(before: &str, text: &str, remark: &str) -> String {
    format!("{before}{text:<REMARKS$} # {remark}\n")
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

fn list(texts: &[String]) -> String {
    format!("[{}]", texts.iter().map(|text| quoted(text)).collect::<Vec<_>>().join(", "))
}
