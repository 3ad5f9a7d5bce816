//! `staunch revoke`: shuts somebody out of a running gateway, and takes that back.

use super::fault::Fault;
use super::operator::Place;
use serde_json::{Map, Value};

/// Target and reason.
#[derive(clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    whom: RevokeTarget,
    /// Why; it stands in the log.
    #[arg(long)]
    reason: Option<String>,
    /// How many days it stands at least; ten years where nothing is said.
    #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u64).range(1..=3660))]
    days: Option<u64>,
    #[command(flatten)]
    place: Place,
}

/// All names that are given must fit.
#[derive(clap::Args)]
#[group(required = true, multiple = true)]
struct RevokeTarget {
    /// `sub` of the token, or the name taken from the certificate.
    #[arg(long)]
    subject: Option<String>,
    /// The issuer's or certificate authority's name in the configuration.
    #[arg(long)]
    issuer: Option<String>,
    /// A group of the identity.
    #[arg(long)]
    group: Option<String>,
    /// `jti` of the token.
    #[arg(long)]
    token_id: Option<String>,
    /// Serial number of the client's certificate, in hex.
    #[arg(long)]
    serial: Option<String>,
    /// E-mail address in the token: `email`, `preferred_username`, `upn` or `sub`.
    #[arg(long)]
    email: Option<String>,
    /// The issuer's session: `sid` of the token.
    #[arg(long)]
    session_id: Option<String>,
    /// Take back the revocation of this id instead; `staunch revoke` and `--list` print them.
    #[arg(long, value_name = "ID", conflicts_with_all = NAMES, conflicts_with = "days")]
    withdraw: Option<String>,
    /// Print the revocations that stand instead.
    #[arg(long, conflicts_with_all = NAMES, conflicts_with_all = ["withdraw", "days", "reason"])]
    list: bool,
}

const NAMES: [&str; 7] = ["subject", "issuer", "group", "token_id", "serial", "email", "session_id"];

/// Does what was ordered, and says what came of it.
pub fn run(arguments: &Arguments) -> Result<String, Fault> {
    match &arguments.whom {
        RevokeTarget { withdraw: Some(id), .. } => withdraw(arguments, id),
        RevokeTarget { list: true, .. } => list(arguments),
        _ => revoke(arguments),
    }
}

fn withdraw(arguments: &Arguments, id: &str) -> Result<String, Fault> {
    if id.len() != 16 || !id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(Fault::Usage(
            "--withdraw: an id has 16 digits of hex, as `staunch revoke --list` prints it".into(),
        ));
    }
    let id = id.to_ascii_lowercase();
    let why: Map<String, Value> =
        arguments.reason.iter().map(|reason| ("reason".to_owned(), reason.clone().into())).collect();
    arguments.place.client()?.delete(&format!("/api/revocations/{id}"), &Value::Object(why))?;
    Ok(format!("revocation {id} taken back; sessions that it ended stay ended"))
}

fn list(arguments: &Arguments) -> Result<String, Fault> {
    let answer = arguments.place.client()?.get("/api/revocations")?;
    let all = answer["revocations"].as_array().map(Vec::as_slice).unwrap_or_default();
    let text = |one: &Value, name: &str| one[name].as_str().map(without_controls);
    let line = |one: &Value| {
        let names = NAMES.iter().filter_map(|name| Some(format!("{name}={} ", text(one, name)?)));
        let (id, until) = (text(one, "id").unwrap_or_default(), text(one, "until").unwrap_or_default());
        format!("{id} {}until {until}", names.collect::<String>())
    };
    match all {
        [] => Ok("nobody is revoked".into()),
        all => Ok(all.iter().map(line).collect::<Vec<_>>().join("\n")),
    }
}

/// Names that others chose must not steer the terminal.
fn without_controls(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Revokes, and says what came of it in one line.
fn revoke(arguments: &Arguments) -> Result<String, Fault> {
    let RevokeTarget { subject, issuer, group, token_id, serial, email, session_id, .. } = &arguments.whom;
    let names = [
        ("subject", subject),
        ("issuer", issuer),
        ("group", group),
        ("token_id", token_id),
        ("serial", serial),
        ("email", email),
        ("session_id", session_id),
        ("reason", &arguments.reason),
    ];
    let named = names.into_iter().filter_map(|(name, text)| Some((name.to_owned(), text.clone()?.into())));
    let mut order: Map<String, Value> = named.collect();
    if let Some(days) = arguments.days {
        order.insert("seconds".into(), (days * 86_400).into());
    }
    let done = arguments.place.client()?.post("/api/revoke", &Value::Object(order))?;
    let kept = match done["kept"].as_bool() {
        Some(true) => "kept over a restart",
        _ => "forgotten by a restart: [admin] revocations names no file",
    };
    let until = done["until"].as_str().unwrap_or_default();
    let id = done["id"].as_str().unwrap_or_default();
    Ok(format!(
        "{} sessions ended; stands until {until}, {kept}; `staunch revoke --withdraw {id}` takes it back",
        done["sessions"]
    ))
}
