//! MySQL (MariaDB's server) behind Staunch and HAProxy.

use super::{CLIENTS, Client, DIRECT, Done, Ground, Way};
use crate::Outcome;
use crate::options::Common;
use crate::peers::{self, Running};
use crate::pki::Pki;
use crate::postgres::server::user_of;
use staunch::demo::ca::Folder;
use std::fs::{self, Permissions};
use std::net::SocketAddr;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

const STAUNCH: (&str, &str) = ("staunch-mysql.toml", include_str!("../../peers/staunch-mysql.toml"));
const HAPROXY: (&str, &str) = ("haproxy-tcp.cfg", include_str!("../../peers/haproxy-tcp.cfg"));
/// What the gateway's stored account has for a password.
const PASSWORD: &str = "sk-stored-for-the-upstream";
/// Queries of a run for each second that it is to take.
const PER_SECOND: u32 = 8_000;

/// mariadb-slap on one way.
pub(super) struct Slap {
    program: PathBuf,
    at: SocketAddr,
    ca: PathBuf,
    user: &'static str,
    password: String,
}

impl Slap {
    pub(super) async fn run(&self, seconds: u32) -> Outcome<Done> {
        let queries = seconds * PER_SECOND;
        let mut command = tokio::process::Command::new(&self.program);
        command.args([
            "--no-defaults",
            "--protocol=tcp",
            "-h",
            "127.0.0.1",
            "-P",
            &self.at.port().to_string(),
        ]);
        command.args([
            "-u",
            self.user,
            "--ssl",
            "--iterations=1",
            "--create-schema=slap",
            "--query=select 1",
            "--csv",
        ]);
        command.arg(format!("--ssl-ca={}", self.ca.display())).arg(format!("--concurrency={CLIENTS}"));
        command
            .arg(format!("--number-of-queries={queries}"))
            .env("MYSQL_PWD", &self.password)
            .kill_on_drop(true);
        let done = command.output().await?;
        let (said, complained) =
            (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
        // It says how long it took also where nothing was done.
        let all = parse(&said).filter(|_| complained.is_empty());
        let all = all.ok_or_else(|| format!("mariadb-slap: {said}{complained}"))?;
        let latency_us = all * 1e6 * f64::from(CLIENTS) / f64::from(queries);
        Ok(Done { transactions: f64::from(queries), latency_us })
    }
}

/// Seconds for all queries: `,mixed,2.345,2.345,2.345,8,5000`.
fn parse(said: &str) -> Option<f64> {
    said.lines().find(|line| line.contains(",mixed,"))?.split(',').nth(2)?.parse().ok()
}

pub(super) async fn ground(common: &Common) -> Outcome<Ground> {
    let pki = Pki::new(common.secure.certificate)?;
    let program = peers::find("mariadb-slap", "mariadb-client")?;
    let (server, folder) = server(common, &pki)?;
    let token = pki.tokens(1).swap_remove(0);
    let way = |name, running: Option<Running>, at: SocketAddr, user, password: &str| {
        let (program, ca, password) = (program.clone(), pki.file("ca.pem"), password.to_owned());
        Way { name, running, client: Client::Slap(Slap { program, at, ca, user, password }) }
    };
    let gateway = peers::gateway(common, &pki, STAUNCH, server.at, &[])?;
    let at = gateway.at;
    let mut ways = vec![
        way(DIRECT, None, server.at, "stored", PASSWORD),
        way("staunch", Some(gateway), at, "anybody", &token),
    ];
    let mut missing = Vec::new();
    match peers::program_of_template(common, &pki, "haproxy", &["-db", "-f"], HAPROXY, server.at) {
        Ok(running) => {
            let at = running.at;
            ways.push(way("haproxy-tcp", Some(running), at, "stored", PASSWORD));
        }
        Err(error) => missing.push(format!("haproxy: {error}")),
    }
    Ok(Ground { ways, missing, _held: vec![Box::new(server), Box::new(folder), Box::new(pki)] })
}

/// A server of this run: TLS alone, and an account with a password.
fn server(common: &Common, pki: &Pki) -> Outcome<(Running, Folder)> {
    let (folder, at) = (Folder::new()?, peers::free()?);
    let owner = rustix::process::geteuid().is_root().then(|| user_of(&["mysql", "nobody"])).transpose()?;
    let owned = |mut command: Command| {
        if let Some((uid, gid)) = owner {
            command.uid(uid).gid(gid);
        }
        command.current_dir("/");
        command
    };
    for (name, source) in [("server.pem", "chain.pem"), ("server.key", "key.pem")] {
        fs::copy(pki.file(source), folder.path().join(name))?;
        fs::set_permissions(folder.path().join(name), Permissions::from_mode(0o600))?;
    }
    folder.write("my.cnf", "[mysqld]\n")?;
    folder.write(
        "init.sql",
        &format!(
            "create database slap;\ncreate user stored@'127.0.0.1' identified by '{PASSWORD}';\ngrant all on *.* to stored@'127.0.0.1';\n"
        ),
    )?;
    fs::create_dir(folder.path().join("data"))?;
    for file in ["", "server.pem", "server.key", "my.cnf", "init.sql", "data"] {
        if let Some((uid, gid)) = owner {
            chown(folder.path().join(file), Some(uid), Some(gid))?;
        }
    }
    let here = folder.path().display();
    let common_arguments = [format!("--defaults-file={here}/my.cnf"), format!("--datadir={here}/data")];
    let mut install = Command::new(peers::find("mariadb-install-db", "mariadb-server")?);
    install.args(&common_arguments).args(["--auth-root-authentication-method=normal", "--skip-test-db"]);
    let done = owned(install).output()?;
    if !done.status.success() {
        return Err(format!("mariadb-install-db: {}", String::from_utf8_lossy(&done.stderr).trim()).into());
    }
    let program = peers::find("mariadbd", "mariadb-server")?;
    let mut command = Command::new(&program);
    command.args(&common_arguments).args([
        "--bind-address=127.0.0.1",
        "--skip-log-bin",
        "--require-secure-transport=ON",
    ]);
    command.arg(format!("--port={}", at.port()));
    for (option, file) in [
        ("socket", "server.sock"),
        ("pid-file", "pid"),
        ("ssl-cert", "server.pem"),
        ("ssl-key", "server.key"),
        ("init-file", "init.sql"),
    ] {
        command.arg(format!("--{option}={here}/{file}"));
    }
    let mut of_load = common.clone();
    of_load.peer_cores = common.load_cores.clone();
    let running = peers::launch_other(&of_load, pki, "mariadb", (owned(command), program), at)?;
    Ok((running, folder))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_mariadb_slap_says_is_understood() {
        assert_eq!(parse(",mixed,2.345,2.345,2.345,8,5000\n"), Some(2.345));
        assert_eq!(parse("mariadb-slap: Error when connecting\n"), None);
    }
}
