//! The `staunch` command: arguments in, exit code out.

use clap::{CommandFactory, Parser, Subcommand, ValueEnum};
use staunch::audit::{self, Format};
use staunch::client::{Fault, connect, login, logout, revoke, token, top, whoami};
use staunch::demo;
use staunch::evidence::{EvidenceFault, keygen, report, sessions};
use staunch::init;
use staunch::mask_try;
use staunch::reference;
use staunch::sandbox;
use staunch::serve::{End, Overrides, Running, Sockets, StartFault, harden, without_core_dumps};
use std::io::{IsTerminal, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Identity-aware TLS gateway for streaming traffic.
///
/// Ends the client's TLS, checks who the client is, opens its own verified TLS session to the service with a
/// credential that the client never sees, moves bytes at close to the speed of the kernel, and keeps evidence.
#[derive(Parser)]
#[command(version, after_help = "Exit codes: 0 done or drained, 1 fault or drain deadline, 2 usage.")]
struct Arguments {
    #[command(subcommand)]
    command: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Run the gateway.
    ///
    /// TERM drains and exits 0, or 1 when sessions had to be cut at the deadline; a second TERM, or INT, stops now.
    /// HUP reads configuration, secrets and certificates again and keeps the old ones when the new are bad.
    Serve {
        #[command(flatten)]
        file: ConfigFile,
        /// Worker threads, in place of the file's [workers] count; 0: one per core.
        #[arg(long, env = "STAUNCH_WORKERS")]
        workers: Option<usize>,
        /// How the log is written, in place of the file's [log] format.
        #[arg(long, env = "STAUNCH_LOG_FORMAT")]
        log_format: Option<LogFormat>,
        /// Which diagnostics are logged, in place of the file's [log] filter. Evidence lines are always written.
        #[arg(long, env = "STAUNCH_LOG")]
        log: Option<String>,
    },
    /// Write a configuration for an issuer and a service, and say what to type next. Overwrites nothing.
    ///
    /// Asks for what is not given, where there is a terminal. Makes a test certificate, stores the service's key for its owner
    /// alone, runs `check`, and prints the first request, for the command line and for the libraries in use.
    #[command(after_help = INIT_HELP)]
    Init(Box<init::Arguments>),
    /// Check a configuration: every fault at once, with file and line. Opens no sockets.
    ///
    /// Prints the resolved routes and exits 0, or prints the faults on standard error and exits 1.
    Check {
        #[command(flatten)]
        file: ConfigFile,
        /// Print the resolved routes as JSON.
        #[arg(long)]
        json: bool,
        /// Take warnings for faults: exit 1 where there is any.
        #[arg(long)]
        strict: bool,
        /// Say what the gateway sees in the token of this file (`-`: standard input), which routes it opens, and why not the
        /// others. Its signature is not verified: that takes the issuer's keys.
        #[arg(long, value_name = "FILE")]
        token: Option<PathBuf>,
    },
    /// Masking: try a route's masks on a body.
    #[command(subcommand)]
    Mask(MaskAction),
    /// Print the JSON schema of the configuration, for editors.
    Schema {
        /// Print the reference of configuration keys, log fields and metrics instead, as Markdown.
        #[arg(long)]
        markdown: bool,
    },
    /// Print what a shell needs to complete this command's arguments.
    ///
    /// Bash: staunch completions bash >~/.local/share/bash-completion/completions/staunch
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Write manual pages, one for each command, into a folder.
    #[command(hide = true)]
    Man {
        /// The folder, which must exist.
        folder: PathBuf,
    },
    /// Log in at an OIDC issuer and keep the token, for clients of a gateway.
    ///
    /// The first time, name the issuer and the client; later, `staunch login` alone does the same again. Tokens are
    /// renewed while the issuer allows it, and kept in $XDG_STATE_HOME/staunch or ~/.local/state/staunch, readable
    /// by their owner only. An option that is given as "" takes back what was remembered of it.
    #[command(after_help = LOGIN_HELP)]
    Login(Box<login::Arguments>),
    /// Print a token that is good now, renewed if less than a minute is left of it.
    ///
    /// Standard output has the token and nothing else: PGPASSWORD=$(staunch token) psql …, or, where it would stand in a
    /// command line, a header field with it: staunch token --header | curl -H @- …
    /// Exits 1 when there is none, and says on standard error what to do.
    Token(token::Arguments),
    /// Say as whom this login speaks to gateways: subject, issuer, audience, groups. With --route, ask the gateway, too.
    Whoami(whoami::Arguments),
    /// Revoke the login at its issuer and remove its tokens. The settings stay, unless they are to be forgotten.
    Logout(logout::Arguments),
    /// Reach routes of a gateway as plaintext ports or sockets of this machine, with tokens that stay fresh.
    ///
    /// For programs that can do neither TLS nor tokens. Each connection gets a tunnel of its own to the gateway's tunnel
    /// name, once it has something to say. Any program of this machine can use a port; a Unix socket is its owner's alone.
    #[command(after_help = CONNECT_HELP)]
    Connect(Box<connect::Arguments>),
    /// Keys of auditors, who read recordings.
    #[command(subcommand)]
    Audit(AuditAction),
    /// Recorded sessions: list, show, replay, export, verify, hold, release, erase.
    #[command(subcommand, after_help = SESSIONS_HELP)]
    Sessions(sessions::Command),
    /// Shut somebody out of a running gateway: end live sessions, and refuse proofs that were issued before.
    #[command(after_help = REVOKE_HELP)]
    Revoke(revoke::Arguments),
    /// The live sessions of a gateway in this terminal, new each second, with the encryption of both legs.
    Top(top::Arguments),
    /// Write a report of how sessions of a period were encrypted, recorded and kept; signed by the gateway's log.
    #[command(after_help = EVIDENCE_HELP)]
    Evidence(Box<report::Arguments>),
    /// Show the main job on this machine: issuer, model service, gateway, and what happens on each leg.
    Demo {
        /// End after the tour; exit 1 if any step failed.
        #[arg(long)]
        once: bool,
        /// The gateway's port. Default: 8443 if it is free.
        #[arg(long)]
        port: Option<u16>,
    },
}

#[derive(Subcommand)]
enum MaskAction {
    /// Show what a route's masks do to a body: on standard output as it would arrive, on standard error which rule overwrote
    /// what, and how many events were held.
    Try(mask_try::Arguments),
}

#[derive(Subcommand)]
enum AuditAction {
    /// Make an auditor's key: the gateway gets the public half, age's tools read the secret one.
    Keygen(keygen::Arguments),
}

#[derive(clap::Args)]
struct ConfigFile {
    /// The configuration, in TOML.
    #[arg(long, short, env = "STAUNCH_CONFIG", value_name = "FILE")]
    config: PathBuf,
}

#[derive(Clone, Copy, ValueEnum)]
enum LogFormat {
    Json,
    Human,
    Auto,
}

impl From<LogFormat> for Format {
    fn from(format: LogFormat) -> Self {
        match format {
            LogFormat::Json => Format::Json,
            LogFormat::Human => Format::Human,
            LogFormat::Auto => Format::Auto,
        }
    }
}

const LOGIN_HELP: &str = "\
Examples:
  staunch login --issuer https://idp.example.com --client-id staunch-cli
  staunch login --device                       # no browser here
  staunch login --profile ci --issuer https://idp.example.com --client-id ci-job \\
      --client-credentials --client-secret env:CI_SECRET
  staunch login --profile job --token-file /var/run/secrets/tokens/staunch

Exit codes: 0 logged in, 1 fault or refusal, 2 usage.";

const INIT_HELP: &str = "\
Examples:
  staunch init                                 # asks
  staunch init --protect openai --issuer https://idp.example.com --client-id staunch-cli --group ml \\
      --secret env:OPENAI_API_KEY --login
  staunch init warehouse --protect postgres --issuer https://idp.example.com --group analytics \\
      --upstream pg.internal:5432 --upstream-ca internal-ca.pem --user svc_ro --secret file:svc_ro.password
  staunch init gw --protect ollama --issuer https://idp.example.com --name ollama.gw.example.com

Exit codes: 0 done, 1 fault, 2 usage.";

const REVOKE_HELP: &str = "\
Examples:
  staunch revoke --subject ann --issuer corp --reason 'stolen laptop'
  staunch revoke --serial 0A:1B:2C
  staunch revoke --withdraw 4f6c0e1d2b3a5978 --reason 'it was found'
  staunch revoke --group contractors --admin 127.0.0.1:9902 --key-file /etc/staunch/admin.key

All names that are given must fit. Each gateway has its own revocations: tell all of a fleet.
Exit codes: 0 done, 1 fault or refusal, 2 usage.";

const SESSIONS_HELP: &str = "\
Examples:
  staunch sessions list -d /var/lib/staunch/recordings --where route=openai
  staunch sessions show 5f3a… -d /var/lib/staunch/recordings --identity auditor.key
  staunch sessions verify -d /var/lib/staunch/recordings --identity auditor.key --gateway 9c41…

Exit codes: 0 done and nothing wrong, 1 fault or a bad verdict, 2 usage.";

const EVIDENCE_HELP: &str = "\
Examples:
  staunch evidence -d /var/lib/staunch/recordings --from 2026-10-01 --to 2027-01-01 -o evidence-2026-q4
  staunch evidence -d recordings --from 30d --sample 25 --seed audit-7 --identity auditor.key -o evidence

Exit codes: 0 written and nothing wrong, 1 fault or a bad verdict, 2 usage.";

const CONNECT_HELP: &str = "\
Examples:
  staunch connect --gateway tunnel.gw.example.com warehouse=5432 openai=8080
  staunch connect --gateway tunnel.gw.example.com warehouse=unix:$XDG_RUNTIME_DIR/.s.PGSQL.5432
  staunch connect --gateway tunnel.gw.example.com openai warehouse --exec python3 agent.py

--exec sets STAUNCH_<ROUTE>_ADDRESS, _HOST and _PORT for each route, and what programs look for by themselves:
OPENAI_BASE_URL and OPENAI_API_KEY, PGHOST, PGPORT, PGSSLMODE and PGGSSENCMODE, MYSQL_HOST and MYSQL_TCP_PORT, REDIS_URL.

The first INT or TERM lets connections finish for up to 30 s, the second ends them.
Exit codes: 0 done, 1 fault or connections cut, 2 usage; with --exec, the program's own.";

fn main() -> ExitCode {
    let code = match Arguments::parse().command {
        Action::Serve { file, workers, log_format, log } => {
            serve(&file.config, &Overrides { workers, log_format: log_format.map(Format::from), log })
        }
        Action::Init(arguments) => alone(init::run(*arguments), |code| code),
        Action::Check { file, token: Some(token), .. } => check_token(&file.config, &token),
        Action::Check { file, json, strict, .. } => check(&file.config, json, strict),
        Action::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "staunch", &mut script);
            print(&String::from_utf8_lossy(&script))
        }
        Action::Man { folder } => match clap_mangen::generate_to(Arguments::command(), &folder) {
            Ok(()) => 0,
            Err(error) => {
                say(&format_args!("{}: {error}", folder.display()));
                1
            }
        },
        Action::Mask(MaskAction::Try(arguments)) => {
            let colour = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
            printing(|out| {
                let tried = mask_try::run(&arguments, out, &mut std::io::stderr(), colour);
                tried.map_err(|fault| (fault, 1))
            })
        }
        Action::Schema { markdown: true } => print(&reference::markdown()),
        Action::Schema { markdown: false } => print(&format!("{:#}\n", staunch::config::schema())),
        Action::Login(arguments) => alone(login::run(*arguments), |()| 0),
        Action::Token(arguments) => alone(token::run(&arguments), |()| 0),
        Action::Whoami(arguments) => alone(whoami::run(&arguments), |()| 0),
        Action::Logout(arguments) => alone(logout::run(&arguments), |()| 0),
        Action::Connect(arguments) => alone(connect::run(*arguments), |code| code),
        Action::Audit(AuditAction::Keygen(arguments)) => read(|out, told| keygen::run(&arguments, out, told)),
        Action::Sessions(command) => read(|out, told| sessions::run(command, out, told)),
        Action::Revoke(arguments) => told(revoke::run(&arguments).map(|said| say_out(&said))),
        Action::Top(arguments) => printing(|out| {
            let shown = top::run(&arguments, out).map(|()| 0);
            shown.map_err(|fault| (format!("staunch: {fault}"), fault.exit_code()))
        }),
        Action::Evidence(arguments) => read(|out, told| report::run(&arguments, out, told)),
        Action::Demo { once, port } => {
            let colour = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
            let options = demo::Options { once, port, colour };
            match demo::beside::Signals::catch() {
                Ok(signals) => printing(|out| {
                    Ok::<_, (String, u8)>(demo::run(&options, out, |files| signals.start(files)) as u8)
                }),
                Err(error) => {
                    say(&format_args!("the demo cannot begin: {error}"));
                    1
                }
            }
        }
    };
    ExitCode::from(code)
}

/// Runs a command of the client's side to its end, which has a code.
fn alone<T>(command: impl Future<Output = Result<T, Fault>>, code: fn(T) -> u8) -> u8 {
    without_core_dumps();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let done = match runtime {
        Ok(runtime) => runtime.block_on(command),
        Err(error) => Err(Fault::Machine(format!("no runtime: {error}"))),
    };
    done.map_or_else(|fault| end(&fault), code)
}

/// Says why a command of the client's side failed; gives the exit code.
fn end(fault: &Fault) -> u8 {
    match fault {
        Fault::Output(error) => end_of_output(error),
        fault => {
            say(&format_args!("staunch: {fault}"));
            fault.exit_code()
        }
    }
}

/// The exit code of a command whose standard output cannot be written. A reader that has gone (`| head`) had what it wanted:
/// nothing is said, and the code is the one that shells give to programs which SIGPIPE ends.
fn end_of_output(error: &std::io::Error) -> u8 {
    const ENDED_BY_SIGPIPE: u8 = 128 + 13;
    if error.kind() == std::io::ErrorKind::BrokenPipe {
        return ENDED_BY_SIGPIPE;
    }
    say(&format_args!("staunch: standard output: {error}"));
    1
}

/// Standard output, and why it could not be written.
struct StandardOutput {
    to: std::io::Stdout,
    fault: Option<std::io::Error>,
}

impl StandardOutput {
    fn note<T>(&mut self, done: std::io::Result<T>) -> std::io::Result<T> {
        done.inspect_err(|error| {
            self.fault.get_or_insert_with(|| error.kind().into());
        })
    }
}

impl Write for StandardOutput {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.to.write(bytes);
        self.note(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        let flushed = self.to.flush();
        self.note(flushed)
    }
}

/// Runs a command that prints: to its end, or until nobody reads any more. A fault comes with its exit code.
fn printing<E: std::fmt::Display>(command: impl FnOnce(&mut StandardOutput) -> Result<u8, (E, u8)>) -> u8 {
    let mut out = StandardOutput { to: std::io::stdout(), fault: None };
    let done = command(&mut out);
    // What stands in its buffer counts, too.
    let _ = out.flush();
    match (out.fault, done) {
        (Some(error), _) => end_of_output(&error),
        (None, Ok(code)) => code,
        (None, Err((fault, code))) => {
            say(&fault);
            code
        }
    }
}

/// The exit code of a command that asks a gateway.
fn told(done: Result<(), Fault>) -> u8 {
    done.map_or_else(|fault| end(&fault), |()| 0)
}

fn say_out(text: &str) {
    // Nobody reads: what was ordered was done all the same.
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// Runs a command that reads recordings.
fn read(command: impl FnOnce(&mut StandardOutput, &mut std::io::Stderr) -> Result<u8, EvidenceFault>) -> u8 {
    without_core_dumps();
    printing(|out| {
        let done = command(out, &mut std::io::stderr());
        done.map_err(|fault| (format!("staunch: {fault}"), fault.exit_code()))
    })
}

fn serve(path: &Path, overrides: &Overrides) -> u8 {
    let fault = |fault: &dyn std::fmt::Display| {
        say(fault);
        1
    };
    let loaded = match staunch::config::load(path) {
        Ok(loaded) => loaded,
        Err(faults) => return fault(&faults),
    };
    let sockets = match Sockets::bind(&loaded, overrides.workers) {
        Ok(sockets) => sockets,
        Err(error) => return fault(&error),
    };
    // Before there is any other thread: what is in force here is in force for all that come.
    let confinement = match sandbox::confine(loaded.sandbox.clone()) {
        Ok(confinement) => confinement,
        Err(why) => return fault(&StartFault::Sandbox(why)),
    };
    let format = overrides.log_format.unwrap_or(loaded.log.format);
    let filter = overrides.log.as_deref().unwrap_or(&loaded.log.filter);
    // Not through the standard library's buffer: what was written and what was not must be known to the byte.
    let log = match std::io::stdout().as_fd().try_clone_to_owned() {
        Ok(descriptor) => std::fs::File::from(descriptor),
        Err(error) => return fault(&format_args!("standard output cannot be written: {error}")),
    };
    let guard = match audit::init(format, filter, loaded.log.room, log) {
        Ok(guard) => guard,
        Err(error) => return fault(&error),
    };
    std::panic::set_hook(Box::new(|panic| {
        audit::print_to_stderr(&panic.to_string());
        tracing::error!(%panic, "a fault of the gateway itself");
    }));
    harden();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fault(&error),
    };
    let ended = runtime.block_on(async {
        Running::start(path, loaded, sockets, confinement, Some(guard.sink().clone()))?.run().await
    });
    // A look-up of an issuer's name that hangs in the system's resolver does not hold up the end.
    runtime.shutdown_background();
    match ended {
        Ok(End::Drained) => 0,
        Ok(End::Cut) => 1,
        Err(error) => fault(&error),
    }
}

fn check(path: &Path, json: bool, strict: bool) -> u8 {
    match staunch::config::load(path) {
        Ok(loaded) => {
            let count = loaded.warnings.list.len();
            if count > 0 {
                say(&loaded.warnings.as_warnings());
                if strict {
                    say(&format_args!(
                        "{}: {count} warnings, which count as faults (--strict)",
                        path.display()
                    ));
                    return 1;
                }
            }
            let text = match json {
                true => {
                    serde_json::to_string_pretty(&loaded.summary).map_or(String::new(), |text| text + "\n")
                }
                false => loaded.summary.to_string(),
            };
            print(&text)
        }
        Err(faults) => {
            say(&faults);
            1
        }
    }
}

/// Exits 0 if the token opens a route.
fn check_token(path: &Path, token: &Path) -> u8 {
    without_core_dumps();
    let judged = staunch::config::load(path).map_err(|faults| faults.to_string()).and_then(|loaded| {
        let report = staunch::config::token_report(&loaded, token)?;
        Ok(report)
    });
    match judged {
        Ok((text, opens)) => print(&text).max(u8::from(!opens)),
        Err(fault) => {
            say(&fault);
            1
        }
    }
}

/// Says something on standard error. Where nobody reads it, there is no one to tell.
fn say(text: &dyn std::fmt::Display) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Prints to standard output.
fn print(text: &str) -> u8 {
    printing(|out| {
        // What comes of it is known to `out`.
        let _ = out.write_all(text.as_bytes());
        Ok::<_, (String, u8)>(0)
    })
}
