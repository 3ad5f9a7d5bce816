//! Redis behind Staunch, HAProxy and Envoy.

use super::{CLIENTS, Client, DIRECT, Done, Ground, Way};
use crate::Outcome;
use crate::options::Common;
use crate::peers::{self, Running};
use crate::pki::{Pki, REDIS};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;

const STAUNCH: (&str, &str) = ("staunch-redis.toml", include_str!("../../peers/staunch-redis.toml"));
const HAPROXY: (&str, &str) = ("haproxy-redis.cfg", include_str!("../../peers/haproxy-redis.cfg"));
const ENVOY: (&str, &str) = ("envoy-redis.yaml", include_str!("../../peers/envoy-redis.yaml"));
/// What the gateway's stored account has for a password.
const PASSWORD: &str = "sk-stored-for-the-upstream";
/// Requests of a run for each second that it is to take.
const PER_SECOND: u32 = 10_000;

/// redis-benchmark on one way.
pub(super) struct Benchmark {
    program: PathBuf,
    at: SocketAddr,
    sni: &'static str,
    ca: PathBuf,
    password: String,
}

impl Benchmark {
    pub(super) async fn run(&self, seconds: u32) -> Outcome<Done> {
        let requests = seconds * PER_SECOND;
        let mut command = tokio::process::Command::new(&self.program);
        command.args([
            "-h",
            "127.0.0.1",
            "-p",
            &self.at.port().to_string(),
            "--tls",
            "--sni",
            self.sni,
            "--cacert",
        ]);
        command.arg(&self.ca).args(["-a", &self.password, "-t", "get", "--csv"]);
        command.args(["-c", &CLIENTS.to_string(), "-n", &requests.to_string()]).kill_on_drop(true);
        let done = command.output().await?;
        let (said, complained) =
            (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
        let latency_us = parse(&said).ok_or_else(|| format!("redis-benchmark: {said}{complained}"))?;
        Ok(Done { transactions: f64::from(requests), latency_us })
    }
}

/// The mean latency in µs: `"GET","14265.3","0.486",…` under a line of names.
fn parse(said: &str) -> Option<f64> {
    let line = said.lines().find(|line| line.starts_with("\"GET\","))?;
    let latency: f64 = line.split(',').nth(2)?.trim_matches('"').parse().ok()?;
    Some(latency * 1e3)
}

pub(super) async fn ground(common: &Common) -> Outcome<Ground> {
    let pki = Pki::new(common.secure.certificate)?;
    let program = peers::find("redis-benchmark", "redis-tools")?;
    let server = server(common, &pki)?;
    let token = pki.tokens(1).swap_remove(0);
    let way = |name, running: Option<Running>, at: SocketAddr, sni, password: &str| {
        let (program, ca, password) = (program.clone(), pki.file("ca.pem"), password.to_owned());
        Way { name, running, client: Client::Redis(Benchmark { program, at, sni, ca, password }) }
    };
    let gateway = peers::gateway(common, &pki, STAUNCH, server.at, &[])?;
    let at = gateway.at;
    let mut ways = vec![
        way(DIRECT, None, server.at, "localhost", PASSWORD),
        way("staunch", Some(gateway), at, REDIS, &token),
    ];
    let mut missing = Vec::new();
    let others: [(_, _, &[&str], _); 2] = [
        ("haproxy", "haproxy", &["-db", "-f"], HAPROXY),
        (
            "envoy-redis",
            "envoy",
            &["--disable-hot-restart", "--log-level", "error", "--concurrency", "1", "-c"],
            ENVOY,
        ),
    ];
    for (name, program, arguments, template) in others {
        match peers::program_of_template(common, &pki, program, arguments, template, server.at) {
            Ok(running) => {
                let at = running.at;
                ways.push(way(name, Some(running), at, "localhost", PASSWORD));
            }
            Err(error) => missing.push(format!("{name}: {error}")),
        }
    }
    Ok(Ground { ways, missing, _held: vec![Box::new(server), Box::new(pki)] })
}

/// A server of this run: TLS alone, and a password.
fn server(common: &Common, pki: &Pki) -> Outcome<Running> {
    let (program, at) = (peers::find("redis-server", "redis-server")?, peers::free()?);
    let mut command = Command::new(&program);
    command.args(["--port", "0", "--bind", "127.0.0.1", "--save", "", "--tls-auth-clients", "no"]);
    command
        .args(["--requirepass", PASSWORD, "--tls-port", &at.port().to_string()])
        .current_dir(pki.folder.path());
    for (option, file) in
        [("--tls-cert-file", "chain.pem"), ("--tls-key-file", "key.pem"), ("--tls-ca-cert-file", "ca.pem")]
    {
        command.arg(option).arg(pki.file(file));
    }
    let mut here = common.clone();
    here.peer_cores = common.load_cores.clone();
    peers::launch_other(&here, pki, "redis", (command, program), at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_redis_benchmark_says_is_understood() {
        let said = "\"test\",\"rps\",\"avg_latency_ms\",\"min_latency_ms\",\"p50_latency_ms\"\n\
            \"GET\",\"14265.34\",\"0.486\",\"0.112\",\"0.471\"\n";
        assert_eq!(parse(said), Some(486.0));
        assert_eq!(parse("WARN: nothing"), None);
    }
}
