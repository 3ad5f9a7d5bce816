//! `staunch-load`: both ends of the work, and the processor time of the relay between them.
//!
//! Exit codes: 0 the run is clean, 1 it found errors, 2 wrong usage.

mod account;
mod relay;
mod tls;
mod upstream;
mod work;

use clap::{Parser, Subcommand, ValueEnum};
use hdrhistogram::Histogram;
use serde_json::{Value, json};
use std::error::Error;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Instant;
use tokio::task::JoinSet;

type Outcome<T> = Result<T, Box<dyn Error>>;

#[derive(Parser)]
#[command(version, about = "Measures what a TLS relay costs per unit of work")]
struct Cli {
    /// The built-in relay between the two ends
    #[arg(long, global = true, value_enum, default_value = "tls")]
    peer: Peer,
    /// Write the result as JSON to this file
    #[arg(long, global = true)]
    out: Option<PathBuf>,
    #[command(subcommand)]
    shape: Shape,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Peer {
    Direct,
    Tls,
    Plain,
}

#[derive(Clone, Subcommand)]
enum Shape {
    /// Download in bulk; every byte is checked
    Bulk {
        #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..))]
        connections: u32,
        #[arg(long, default_value_t = 16384, value_parser = clap::value_parser!(u32).range(1..=16384))]
        record: u32,
        /// Records per connection
        #[arg(long, default_value_t = 16384, value_parser = clap::value_parser!(u32).range(1..))]
        records: u32,
    },
    /// Paced events, open loop
    Stream {
        #[arg(long, default_value_t = 400, value_parser = clap::value_parser!(u32).range(1..))]
        streams: u32,
        /// Events per second on each stream
        #[arg(long, default_value_t = 25, value_parser = clap::value_parser!(u32).range(1..=100_000))]
        rate: u32,
        #[arg(long, default_value_t = 120, value_parser = clap::value_parser!(u32).range(8..=16384))]
        size: u32,
        #[arg(long, default_value_t = 11, value_parser = clap::value_parser!(u32).range(1..=3600))]
        seconds: u32,
    },
    /// New connections, one after the other
    Connect {
        #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..))]
        count: u32,
        /// Resume the client's TLS session
        #[arg(long)]
        resume: bool,
    },
    /// Memory of idle connections
    Idle {
        #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
        connections: u32,
    },
    /// A built-in relay; reads its certificates from standard input
    #[command(hide = true)]
    Relay {
        #[arg(long)]
        upstream: SocketAddr,
    },
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(&cli) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(errors) => {
            eprintln!("staunch-load: {errors} connections failed");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("staunch-load: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> Outcome<u64> {
    raise_descriptors()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    if let Shape::Relay { upstream } = cli.shape {
        pin(1);
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text)?;
        let material = if text.is_empty() {
            None
        } else {
            let v: Value = serde_json::from_str(&text)?;
            let field = |k: &str| v[k].as_str().unwrap_or_default().to_owned();
            Some(tls::Material { ca: field("ca"), chain: field("chain"), key: field("key") })
        };
        runtime.block_on(relay::serve(upstream, material))?;
        return Ok(0);
    }
    pin(0);
    runtime.block_on(measure(cli))
}

/// Pins to core `n` where the machine has more than one; else proxy and load share the one there is.
fn pin(n: usize) {
    if let Some(core) = core_affinity::get_core_ids().and_then(|ids| ids.get(n).copied()) {
        core_affinity::set_for_current(core);
    }
}

fn raise_descriptors() -> Outcome<()> {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    Ok(setrlimit(Resource::Nofile, limit)?)
}

/// The relay process; it ends with this value.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Failing means that it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(upstream: SocketAddr, material: Option<&tls::Material>) -> Outcome<(Running, SocketAddr)> {
    let child = Command::new(std::env::current_exe()?)
        .args(["relay", "--upstream", &upstream.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut running = Running(child);
    let mut input = running.0.stdin.take().ok_or("the relay has no input")?;
    if let Some(m) = material {
        input.write_all(json!({"ca": m.ca, "chain": m.chain, "key": m.key}).to_string().as_bytes())?;
    }
    drop(input);
    let mut line = String::new();
    BufReader::new(running.0.stdout.take().ok_or("the relay has no output")?).read_line(&mut line)?;
    let at = line.trim().parse().map_err(|_| "the relay did not start")?;
    Ok((running, at))
}

async fn measure(cli: &Cli) -> Outcome<u64> {
    let material = (cli.peer != Peer::Plain).then(tls::make).transpose()?;
    let listener = socket_listener()?;
    let far = listener.local_addr()?;
    let acceptor = material.as_ref().map(tls::server).transpose()?.map(Into::into);
    tokio::spawn(upstream::serve(listener, acceptor));
    let (running, at) = match cli.peer {
        Peer::Direct => (None, far),
        _ => start(far, material.as_ref()).map(|(r, at)| (Some(r), at))?,
    };
    let resume = matches!(cli.shape, Shape::Connect { resume: true, .. });
    let client = material.as_ref().map(|m| tls::client(m, resume)).transpose()?;
    let door = work::Door { at, tls: client };
    let pid = running.as_ref().map(|r| r.0.id());
    let (before, started) = (pid.map(account::cpu_ns).transpose()?, Instant::now());
    let rss = pid.map(account::rss_kib).transpose()?;
    let mut result = json!({"peer": cli.peer.to_possible_value().map(|v| v.get_name().to_owned())});
    let mut errors = 0_u64;
    let mut note = |error: String| {
        if errors == 0 {
            eprintln!("first failure: {error}");
        }
        errors += 1;
    };
    let units: f64;
    match cli.shape {
        Shape::Bulk { connections, record, records } => {
            let mut set = JoinSet::new();
            for n in 0..connections as usize {
                set.spawn(work::bulk(door.clone(), n, record, records));
            }
            let mut bytes = 0;
            while let Some(done) = set.join_next().await {
                match done? {
                    Ok(n) => bytes += n,
                    Err(e) => note(e.to_string()),
                }
            }
            result["bytes"] = json!(bytes);
            result["unit"] = json!("GiB");
            units = bytes as f64 / f64::from(1 << 30);
        }
        Shape::Stream { streams, rate, size, seconds } => {
            let mut set = JoinSet::new();
            for n in 0..streams as usize {
                set.spawn(work::stream(door.clone(), n, size, rate * seconds, 1_000_000 / rate));
            }
            let mut all = Histogram::<u64>::new(3)?;
            while let Some(done) = set.join_next().await {
                match done? {
                    Ok(h) => all.add(h)?,
                    Err(e) => note(e.to_string()),
                }
            }
            for (name, q) in [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999), ("max", 1.0)] {
                result["latency_us"][name] = json!(all.value_at_quantile(q) as f64 / 1e3);
            }
            result["unit"] = json!("event");
            units = all.len() as f64;
        }
        Shape::Connect { count, .. } => {
            let mut good = 0_u32;
            for n in 0..count as usize {
                match work::connect(&door, n).await {
                    Ok(_) => good += 1,
                    Err(e) => note(e.to_string()),
                }
            }
            result["unit"] = json!("connection");
            units = good.into();
        }
        Shape::Idle { connections } => {
            let mut held = Vec::new();
            for n in 0..connections as usize {
                match work::connect(&door, n).await {
                    Ok(s) => held.push(s),
                    Err(e) => note(e.to_string()),
                }
            }
            if let (Some(pid), Some(rss)) = (pid, rss) {
                let grown = account::rss_kib(pid)?.saturating_sub(rss);
                result["kib_per_connection"] = json!(grown as f64 / held.len().max(1) as f64);
            }
            result["unit"] = json!("connection");
            units = held.len() as f64;
        }
        Shape::Relay { .. } => return Err("the relay is not a measurement".into()),
    }
    let seconds = started.elapsed().as_secs_f64();
    result["units"] = json!(units);
    result["seconds"] = json!(seconds);
    result["units_per_second"] = json!(units / seconds);
    if let (Some(pid), Some(before)) = (pid, before) {
        let cpu = (account::cpu_ns(pid)? - before) as f64 / 1e9;
        result["cpu_seconds"] = json!(cpu);
        if units > 0.0 {
            result["cpu_seconds_per_unit"] = json!(cpu / units);
        }
    }
    result["errors"] = json!(errors);
    let text = serde_json::to_string_pretty(&result)?;
    println!("{text}");
    if let Some(path) = &cli.out {
        std::fs::write(path, text + "\n")?;
    }
    Ok(errors)
}

fn socket_listener() -> Outcome<tokio::net::TcpListener> {
    let socket = tokio::net::TcpSocket::new_v4()?;
    socket.bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
    Ok(socket.listen(4096)?)
}
