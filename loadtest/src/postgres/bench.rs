//! pgbench, and what it says of itself.

use crate::Outcome;
use crate::options::{Mode, Postgres, Script};
use std::path::Path;

/// How libpq gets in somewhere.
#[derive(Clone)]
pub(crate) struct Way {
    /// `host=… hostaddr=…`, without the password.
    pub(crate) conninfo: String,
    /// Kept off the command line, which other users of the machine can read.
    pub(crate) password: String,
}

/// What a run came to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Bench {
    pub(crate) transactions: u64,
    pub(crate) per_second: f64,
    pub(crate) latency_ms: f64,
}

/// Runs pgbench for a while.
pub(crate) async fn bench(program: &Path, way: &Way, mode: Mode, wish: &Postgres) -> Outcome<Bench> {
    let mut command = tokio::process::Command::new(program);
    command.args([
        "-n",
        "-M",
        name(mode),
        "-c",
        &wish.clients.to_string(),
        "-j",
        "1",
        "-T",
        &wish.seconds.to_string(),
    ]);
    if wish.script == Script::Select {
        command.arg("-S");
    }
    command.env("PGPASSWORD", &way.password).env("PGCONNECT_TIMEOUT", "20").kill_on_drop(true);
    let done = command.arg(&way.conninfo).output().await?;
    let (said, complained) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    if !done.status.success() {
        return Err(format!("pgbench: {}", complained.trim()).into());
    }
    Ok(parse(&said).ok_or_else(|| format!("pgbench said nothing that is understood: {said}"))?)
}

pub(crate) fn name(mode: Mode) -> &'static str {
    match mode {
        Mode::Simple => "simple",
        Mode::Extended => "extended",
        Mode::Prepared => "prepared",
    }
}

fn parse(said: &str) -> Option<Bench> {
    let after = |start: &str| {
        let rest = said.lines().find_map(|line| line.strip_prefix(start))?;
        rest.trim().split([' ', '/']).next()
    };
    if after("number of failed transactions:").is_some_and(|failed| failed != "0") {
        return None;
    }
    Some(Bench {
        transactions: after("number of transactions actually processed:")?.parse().ok()?,
        per_second: after("tps =")?.parse().ok()?,
        latency_ms: after("latency average =")?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAID: &str = "pgbench (15.14 (Debian 15.14-0+deb12u1))\ntransaction type: <builtin: select only>\n\
        number of transactions actually processed: 71283\nnumber of failed transactions: 0 (0.000%)\n\
        latency average = 0.561 ms\ninitial connection time = 52.411 ms\n\
        tps = 14262.511 (without initial connection time)\n";

    #[test]
    fn what_pgbench_says_is_understood() {
        assert_eq!(
            parse(SAID),
            Some(Bench { transactions: 71283, per_second: 14262.511, latency_ms: 0.561 })
        );
        assert_eq!(
            parse(&SAID.replace(": 0 (0.000%)", ": 3 (0.004%)")),
            None,
            "work that was not done has no price"
        );
        assert_eq!(parse("tps = 1"), None);
    }
}
