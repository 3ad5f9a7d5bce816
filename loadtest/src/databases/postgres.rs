//! PostgreSQL behind Staunch, PgBouncer and HAProxy.

use super::{CLIENTS, Client, DIRECT, Done, Ground, Way};
use crate::Outcome;
use crate::options::{Common, Mode, Postgres, Script};
use crate::peers::{self, Running};
use crate::pki::{POSTGRES, Pki};
use crate::postgres::bench::{self, bench};
use crate::postgres::conninfo;
use crate::postgres::server::{OPEN, PASSWORD, Server};
use std::path::PathBuf;
use std::process::Command;

const STAUNCH: (&str, &str) = ("staunch-postgres.toml", include_str!("../../peers/staunch-postgres.toml"));
const HAPROXY: (&str, &str) = ("haproxy-tcp.cfg", include_str!("../../peers/haproxy-tcp.cfg"));
const PGBOUNCER: &str = include_str!("../../peers/pgbouncer.ini");

/// pgbench on one way.
pub(super) struct Pgbench {
    program: PathBuf,
    way: bench::Way,
}

impl Pgbench {
    pub(super) async fn run(&self, seconds: u32) -> Outcome<Done> {
        let wish = Postgres {
            rounds: 1,
            seconds,
            clients: CLIENTS,
            modes: vec![Mode::Simple],
            script: Script::Select,
            mib: 0,
            row: 1,
            statements: false,
            database: "postgres".into(),
            direct: None,
        };
        let done = bench(&self.program, &self.way, Mode::Simple, &wish).await?;
        Ok(Done { transactions: done.transactions as f64, latency_us: done.latency_ms * 1e3 })
    }
}

pub(super) async fn ground(common: &Common) -> Outcome<Ground> {
    let pki = Pki::new(common.secure.certificate)?;
    let server = Server::start(&pki)?;
    server.fill()?;
    let forwarders = ["forwarder", "asking_forwarder"].map(|key| (key, server.at.to_string()));
    let gateway = peers::gateway(common, &pki, STAUNCH, server.at, &forwarders)?;
    let (ca, token) = (pki.file("ca.pem").display().to_string(), pki.tokens(1).swap_remove(0));
    let way = |name, running: Option<Running>, host: &str, user: &str, password: &str| {
        let at = running.as_ref().map_or(server.at, |running| running.at);
        let conninfo = conninfo(host, at, "postgres", user, Some(&ca));
        let way = bench::Way { conninfo, password: password.into() };
        Way { name, running, client: Client::Pgbench(Pgbench { program: server.program("pgbench"), way }) }
    };
    let mut ways = vec![
        way(DIRECT, None, "localhost", OPEN, ""),
        way("staunch", Some(gateway), POSTGRES, "anybody", &token),
    ];
    let mut missing = Vec::new();
    match pgbouncer(common, &pki, &server) {
        Ok(running) => ways.push(way("pgbouncer", Some(running), "localhost", "stored", PASSWORD)),
        Err(error) => missing.push(format!("pgbouncer: {error}")),
    }
    match peers::program_of_template(common, &pki, "haproxy", &["-db", "-f"], HAPROXY, server.at) {
        Ok(running) => ways.push(way("haproxy-tcp", Some(running), "localhost", OPEN, "")),
        Err(error) => missing.push(format!("haproxy: {error}")),
    }
    Ok(Ground { ways, missing, _held: vec![Box::new(server), Box::new(pki)] })
}

/// PgBouncer does not run as root; it has the server's user.
fn pgbouncer(common: &Common, pki: &Pki, server: &Server) -> Outcome<Running> {
    let (program, at) = (peers::find("pgbouncer", "pgbouncer")?, peers::free()?);
    let text = PGBOUNCER
        .replace("@folder@", &server.folder().display().to_string())
        .replace("@upstream_port@", &server.at.port().to_string())
        .replace("@port@", &at.port().to_string())
        .replace("@password@", PASSWORD);
    server.give("pgbouncer.ini", &text)?;
    server.give("users.txt", &format!("\"stored\" \"{PASSWORD}\"\n"))?;
    server.give("ca.pem", &std::fs::read_to_string(pki.file("ca.pem"))?)?;
    let mut command = Command::new(&program);
    command.arg("-q").arg(server.folder().join("pgbouncer.ini"));
    peers::launch_other(common, pki, "pgbouncer", (server.owned(command), program), at)
}
