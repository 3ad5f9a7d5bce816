//! One run: both ends, the peer between them, the work, and what it cost.

use crate::awake::Awake;
use crate::client::Door;
use crate::looks::Looks;
use crate::meter::Meter;
use crate::options::{Common, Peer, Shape};
use crate::peers::{self, Running};
use crate::pki::Pki;
use crate::report::{Growth, Report};
use crate::work::{self, Site};
use crate::{Outcome, account, looks, order, upstream};
use indicatif::{ProgressBar, ProgressStyle};
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::{TcpListener, TcpSocket};
use tokio_rustls::TlsAcceptor;

/// Does one shape of work through one peer. `bars`: show progress where a person looks on.
pub(crate) async fn run(common: &Common, peer: Peer, shape: &Shape, bars: bool) -> Outcome<Report> {
    if common.target.is_none() && shape.connections() > account::most_connections() {
        let (asked, most) = (shape.connections(), account::most_connections());
        return Err(format!(
            "{asked} connections are more than {most}, for which this machine has descriptors: raise the hard limit of \
             open files (ulimit -Hn), or ask for fewer"
        )
        .into());
    }
    if common.busy_poll.is_some() && common.target.is_some() {
        return Err("a target polls as it is configured: no --busy-poll with --target".into());
    }
    if common.busy_poll.is_some()
        && !matches!(peer, Peer::Staunch | Peer::StaunchRecording | Peer::Haproxy | Peer::HaproxyJwt)
    {
        return Err(format!("{} has no busy polling", peer.name()).into());
    }
    if let Some(text) = common.mask {
        if common.target.is_some() || peer != Peer::Staunch || is_raw(shape) {
            return Err("--mask is for Staunch's http route, started by this run".into());
        }
        order::fill_with(text);
    }
    let people = if let Shape::Requests { identities, .. } = shape { *identities } else { 16 };
    let (door, running, upstream, _pki);
    match &common.target {
        Some(target) => {
            (door, running, upstream, _pki) = (Door::to_target(target, common)?, None, None, None);
        }
        None => {
            let pki = Pki::new(common.secure.certificate)?;
            let bare = peer == Peer::Plain && is_raw(shape);
            if peer == Peer::Plain && !bare {
                return Err("the plain relay carries raw bytes only: --protocol raw".into());
            }
            let listener = listen()?;
            let far = listener.local_addr()?;
            let acceptor = (!bare).then(|| pki.server(common.secure.pq.into())).transpose()?;
            upstream = Some(tokio::spawn(upstream::serve(listener, acceptor.map(TlsAcceptor::from))));
            running = match peer {
                Peer::Direct => None,
                _ => Some(peers::start(peer, common, &pki, far)?),
            };
            let at = running.as_ref().map_or(far, |running| running.at);
            door = Door::to_peer(at, &pki, common, bare, people)?;
            _pki = Some(pki);
        }
    }
    let site = Site { door: Arc::new(door), meter: Arc::new(Meter::new()) };
    let report = measure(common, peer, shape, site, running.as_ref(), bars).await;
    if let Some(upstream) = upstream {
        upstream.abort();
    }
    report
}

fn is_raw(shape: &Shape) -> bool {
    use crate::options::Protocol::Raw;
    match shape {
        Shape::Bulk { protocol, .. }
        | Shape::Stream { protocol, .. }
        | Shape::Requests { protocol, .. }
        | Shape::Connect { protocol, .. }
        | Shape::Idle { protocol, .. } => *protocol == Raw,
        Shape::Soak { .. } => false,
    }
}

fn listen() -> Outcome<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
    Ok(socket.listen(4096)?)
}

async fn measure(
    common: &Common,
    peer: Peer,
    shape: &Shape,
    site: Site,
    running: Option<&Running>,
    bars: bool,
) -> Outcome<Report> {
    let meter = site.meter.clone();
    let (unit, scale) = unit(shape);
    let bar = if bars { bar(shape) } else { ProgressBar::hidden() };
    let cores = [&common.load_cores[..], &common.peer_cores].concat();
    let _awake = common.awake.then(|| Awake::keep(&cores)).transpose()?;
    let mut looks = Looks::begin(running, meter.clone(), scale, cores)?;
    let mut look = tokio::time::interval(looks::SAMPLE_INTERVAL);
    let mut work = std::pin::pin!(work::run(shape, site));
    // One listener for the whole run, so that no interrupt falls between two.
    let mut interrupt = std::pin::pin!(tokio::signal::ctrl_c());
    let mut held = work::Held::new();
    let interrupted = loop {
        tokio::select! {
            done = &mut work => {
                held = done;
                break false;
            }
            _ = &mut interrupt => break true,
            _ = look.tick() => {
                looks.look()?;
                bar.set_position(meter.units());
            }
        }
    };
    looks.look()?;
    bar.finish_and_clear();
    let holders = match shape {
        Shape::Stream { streams, .. } => Some(*streams as usize),
        Shape::Idle { .. } => Some(held.len().max(1)),
        _ => None,
    };
    let memory = looks.memory(holders);
    let last = looks.samples.last().copied().unwrap_or_default();
    Ok(Report {
        peer,
        peer_version: running.map_or_else(String::new, |r| r.version.clone()),
        target: common.target.clone(),
        shape: shape.clone(),
        secure: common.secure.clone(),
        unit,
        units: last.units,
        seconds: last.second,
        cpu_seconds: running.map(|_| last.cpu_seconds),
        memory,
        growth: matches!(shape, Shape::Soak { .. }).then(|| Growth::of(&looks.samples)).flatten(),
        latency_us: meter.latencies(),
        calm_us: meter.calm_latencies(),
        first_us: meter.firsts(),
        samples: looks.samples,
        errors: meter.errors(),
        first_error: meter.first_error(),
        interrupted,
    })
}

/// The unit of a shape, and how many counts make one.
fn unit(shape: &Shape) -> (&'static str, f64) {
    match shape {
        Shape::Bulk { .. } => ("GiB", f64::from(1 << 30)),
        Shape::Stream { .. } => ("event", 1.0),
        Shape::Requests { .. } => ("request", 1.0),
        Shape::Connect { .. } | Shape::Idle { .. } => ("connection", 1.0),
        Shape::Soak { .. } => ("visit", 1.0),
    }
}

fn bar(shape: &Shape) -> ProgressBar {
    let total = match shape {
        Shape::Bulk { connections, record, records, .. } => {
            Some(u64::from(*connections) * u64::from(*record) * u64::from(*records))
        }
        Shape::Stream { streams, rate, seconds, .. } => {
            Some(u64::from(*streams) * u64::from(*rate) * u64::from(*seconds))
        }
        Shape::Connect { count, .. } => Some((*count).into()),
        Shape::Idle { connections, .. } => Some((*connections).into()),
        Shape::Requests { .. } | Shape::Soak { .. } => None,
    };
    let bar = total.map_or_else(ProgressBar::new_spinner, ProgressBar::new);
    let template = if total.is_some() {
        "{elapsed_precise} {bar:40} {percent:>3} %"
    } else {
        "{elapsed_precise} {spinner} {human_pos}"
    };
    bar.with_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()))
}
