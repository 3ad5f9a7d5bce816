//! `staunch-load`: both ends of the work, and the processor time of what stands between them.
//!
//! ```text
//!   main ─▶ run ─▶ pki, upstream, peers      what is started
//!               └▶ work ─▶ client            what is done, added up in a meter
//!   compare ─▶ run …, plot                   peers in turn
//! ```

mod account;
mod awake;
mod client;
mod compare;
mod databases;
mod faults;
mod looks;
mod masks;
mod meter;
mod options;
mod order;
mod pace;
mod peers;
mod pki;
mod plot;
mod postgres;
mod relay;
mod report;
mod run;
mod scale;
mod upstream;
mod work;

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{CommandFactory, FromArgMatches};
use options::{Cli, Command, Common, Shape};
use plot::{Axes, Line};
use report::Report;
use std::error::Error;
use std::io::IsTerminal;
use std::path::Path;
use std::process::ExitCode;

type Outcome<T> = Result<T, Box<dyn Error>>;

/// The shell's code for a program that an interrupt ended.
const INTERRUPTED: u8 = 130;

fn main() -> ExitCode {
    match start(&parsed(std::env::args_os()).unwrap_or_else(|error| error.exit())) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("staunch-load: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The command line. An option that this command would not heed is wrong usage.
fn parsed(
    words: impl IntoIterator<Item = impl Into<std::ffi::OsString> + Clone>,
) -> Result<Cli, clap::Error> {
    let mut program = Cli::command();
    let matches = program.try_get_matches_from_mut(words)?;
    let cli = Cli::from_arg_matches(&matches)?;
    if let Some((name, given)) = matches.subcommand() {
        let unheeded = cli.command.unheeded();
        if let Some(option) =
            unheeded.iter().find(|option| given.value_source(option) == Some(ValueSource::CommandLine))
        {
            let words = format!("{name} does not heed --{}", option.replace('_', "-"));
            return Err(program.error(ErrorKind::ArgumentConflict, words));
        }
    }
    Ok(cli)
}

fn start(cli: &Cli) -> Outcome<ExitCode> {
    raise_descriptors()?;
    // Before anything is pinned.
    peers::cores();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let common = &cli.common;
    if !matches!(cli.command, Command::Relay { .. } | Command::Table { .. }) {
        peers::pin(&common.load_cores)?;
    }
    match &cli.command {
        Command::Relay { upstream, folder, relay_pq } => {
            runtime.block_on(relay::serve(*upstream, folder.as_deref(), *relay_pq))?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Upstream { listen, chain, key } => {
            runtime.block_on(far_end(*listen, chain, key))?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Compare { rounds, peers, work, quick } => {
            runtime.block_on(compare::compare(common, *rounds, peers, work, *quick))
        }
        Command::Postgres(wish) => runtime.block_on(postgres::run(common, wish)),
        Command::Faults { scale, only, peers } => {
            runtime.block_on(faults::faults(common, *scale, only, peers))
        }
        &Command::Masks { rounds, streams, rate, size, seconds, protocol } => {
            let shape =
                Shape::Stream { streams, per_connection: 10, rate, size, seconds, protocol, storm: 0 };
            runtime.block_on(masks::masks(common, rounds, &shape))
        }
        Command::Scale { quick } => runtime.block_on(scale::scale(common, *quick)),
        Command::Table { results, into } => compare::table(results, into).map(|()| ExitCode::SUCCESS),
        Command::Run(shape) => {
            let bars = std::io::stderr().is_terminal();
            let report = runtime.block_on(run::run(common, common.peer, shape, bars))?;
            finish(common, &report)
        }
    }
}

fn finish(common: &Common, report: &Report) -> Outcome<ExitCode> {
    print!("{}", report.text());
    if let Some(file) = &common.out {
        std::fs::write(file, serde_json::to_string_pretty(report)? + "\n")?;
    }
    if let Some(folder) = &common.plots {
        draw(folder, report)?;
    }
    Ok(match (report.interrupted, report.errors) {
        (true, _) => ExitCode::from(INTERRUPTED),
        (false, 0) if report.units > 0.0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    })
}

fn draw(folder: &Path, report: &Report) -> Outcome<()> {
    std::fs::create_dir_all(folder)?;
    let name = report.peer.name();
    let line = |points| vec![Line { name: name.clone(), points }];
    if let Some(latency) = &report.latency_us {
        let axes = Axes { title: "Latency", x: "percentile", y: "µs", log_x: false };
        plot::lines(&folder.join("latency.svg"), &axes, &line(latency.curve.clone()))?;
    }
    let rates: Vec<(f64, f64)> = report
        .samples
        .windows(2)
        .map(|w| (w[1].second, (w[1].units - w[0].units) / (w[1].second - w[0].second).max(1e-9)))
        .collect();
    let unit = format!("{} per second", report.unit);
    let axes = Axes { title: "Throughput", x: "seconds", y: &unit, log_x: false };
    plot::lines(&folder.join("throughput.svg"), &axes, &line(rates))?;
    let memory = report.samples.iter().map(|s| (s.second, s.rss_kib as f64 / 1024.0)).collect();
    let axes = Axes { title: "Resident memory", x: "seconds", y: "MiB", log_x: false };
    plot::lines(&folder.join("memory.svg"), &axes, &line(memory))?;
    let open = report.samples.iter().map(|s| (s.second, s.descriptors as f64)).collect();
    let axes = Axes { title: "Open descriptors", x: "seconds", y: "descriptors", log_x: false };
    plot::lines(&folder.join("descriptors.svg"), &axes, &line(open))
}

async fn far_end(listen: std::net::SocketAddr, chain: &Path, key: &Path) -> Outcome<()> {
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    let certificates = CertificateDer::pem_file_iter(chain)?.collect::<Result<Vec<_>, _>>()?;
    let provider = staunch::tls::provider(staunch::tls::PostQuantum::Prefer).ok_or("no cryptography")?;
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(certificates, PrivateKeyDer::from_pem_file(key)?)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let listener = tokio::net::TcpListener::bind(listen).await?;
    eprintln!("upstream on {}", listener.local_addr()?);
    let acceptor = tokio_rustls::TlsAcceptor::from(std::sync::Arc::new(config));
    Ok(upstream::serve(listener, Some(acceptor)).await?)
}

fn raise_descriptors() -> Outcome<()> {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    Ok(setrlimit(Resource::Nofile, limit)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_option_that_would_not_be_heeded_is_wrong_usage() {
        let with = |line: &str| parsed(line.split(' ')).map(drop).map_err(|error| error.to_string());
        assert_eq!(with("staunch-load --peer envoy stream"), Ok(()));
        assert_eq!(with("staunch-load compare --out a.json --peers envoy"), Ok(()));
        for line in ["staunch-load compare --peer envoy", "staunch-load --peer envoy compare"] {
            assert!(with(line).unwrap_err().contains("compare does not heed --peer"), "{line}");
        }
        assert!(with("staunch-load table --out a b.json").unwrap_err().contains("table does not heed --out"));
        let cores = with("staunch-load upstream --chain a --key b --peer-cores 1").unwrap_err();
        assert!(cores.contains("upstream does not heed --peer-cores"), "{cores}");
    }

    #[test]
    fn the_options_that_are_not_heeded_exist() {
        let mut program = Cli::command();
        program.build();
        for command in ["compare", "faults", "scale", "postgres", "table", "upstream", "bulk"] {
            let words = match command {
                "table" => "staunch-load table a",
                "upstream" => "staunch-load upstream --chain a --key b",
                other => &format!("staunch-load {other}"),
            };
            let cli = parsed(words.split(' ')).unwrap();
            let known = program.find_subcommand(command).unwrap();
            for option in cli.command.unheeded() {
                assert!(
                    known.get_arguments().any(|argument| argument.get_id() == option),
                    "{command}: {option}"
                );
            }
        }
    }
}
