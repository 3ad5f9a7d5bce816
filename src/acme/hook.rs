//! The program that sets and removes the DNS records of DNS-01 challenges.
//!
//! It is called with the action (`present` or `cleanup`), the record's name and its value behind its own first arguments,
//! and ends with 0 once every server of the zone answers with the record. A name may need several values at a time: `present`
//! adds one, `cleanup` removes that one.

use std::process::Stdio;
use std::time::Duration;
use tokio::process::Command;

/// How long a program may take: providers need minutes until a record is everywhere.
const TIMEOUT: Duration = Duration::from_secs(600);
/// Bytes of its words that go into a fault.
const MAX_WORDS: usize = 300;
/// Environment variables that the hook inherits.
const PASSED_ENVIRONMENT: [&str; 4] = ["PATH", "HOME", "LANG", "CREDENTIALS_DIRECTORY"];

/// A TXT record.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) name: String,
    pub(super) value: String,
}

/// What is done to a record.
#[derive(Clone, Copy, Debug)]
pub(super) enum Action {
    Present,
    Cleanup,
}

impl Action {
    fn name(self) -> &'static str {
        match self {
            Action::Present => "present",
            Action::Cleanup => "cleanup",
        }
    }
}

/// Runs the program to its end.
pub(super) async fn run(hook: &[String], action: Action, record: &Record) -> Result<(), String> {
    let [program, arguments @ ..] = hook else { return Err("there is no dns_hook".into()) };
    let kept = PASSED_ENVIRONMENT.iter().filter_map(|name| Some((*name, std::env::var_os(name)?)));
    let run = Command::new(program)
        .args(arguments)
        .args([action.name(), &record.name, &record.value])
        .env_clear()
        .envs(kept)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .output();
    let to_fault = |why: String| format!("{program} {} {}: {why}", action.name(), record.name);
    let output = tokio::time::timeout(TIMEOUT, run)
        .await
        .map_err(|_| to_fault(format!("not done within {} s", TIMEOUT.as_secs())))?
        .map_err(|error| to_fault(error.to_string()))?;
    if output.status.success() {
        return Ok(());
    }
    let words = output.stderr.trim_ascii();
    let words = String::from_utf8_lossy(&words[words.len().saturating_sub(MAX_WORDS)..]).into_owned();
    Err(to_fault(format!("{}; {words}", output.status)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hook(script: &str) -> Vec<String> {
        ["/bin/sh", "-c", script, "hook"].map(String::from).to_vec()
    }

    fn record() -> Record {
        Record { name: "_acme-challenge.a.example".into(), value: "v4l".into() }
    }

    #[tokio::test]
    async fn it_gets_action_name_and_value_and_nothing_of_the_environment() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("out");
        let script = format!("echo \"$@\" > {0}; env | grep -c CARGO >> {0}; true", out.display());
        run(&hook(&script), Action::Present, &record()).await.unwrap();
        assert_eq!(std::fs::read_to_string(&out).unwrap(), "present _acme-challenge.a.example v4l\n0\n");
        run(&hook(&script), Action::Cleanup, &record()).await.unwrap();
        assert!(std::fs::read_to_string(&out).unwrap().starts_with("cleanup "));
    }

    #[tokio::test]
    async fn a_program_that_fails_is_quoted() {
        let fault =
            run(&hook("echo no such zone >&2; exit 3"), Action::Present, &record()).await.unwrap_err();
        assert!(fault.contains("exit status: 3; no such zone"), "{fault}");
        let fault = run(&["/no/such/program".into()], Action::Present, &record()).await.unwrap_err();
        assert!(fault.contains("/no/such/program present _acme-challenge.a.example"), "{fault}");
    }
}
