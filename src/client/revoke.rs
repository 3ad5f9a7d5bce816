//! `staunch revoke`: shuts somebody out of a running gateway.

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
}

/// Revokes, and says what came of it in one line.
pub fn run(arguments: &Arguments) -> Result<String, Fault> {
    let RevokeTarget { subject, issuer, group, token_id, serial, email, session_id } = &arguments.whom;
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
    Ok(format!("{} sessions ended; stands until {until}, {kept}", done["sessions"]))
}
