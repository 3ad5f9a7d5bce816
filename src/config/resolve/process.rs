//! What holds for the whole process: limits, workers, the listener for the operator, the log.

use super::context::duration;
use crate::audit::{self, Format, Room, WhenFull};
use crate::config::fault::FaultCollector;
use crate::config::{Log, model, units};
use crate::gateway::Limits;
use crate::worker::Layout;
use std::time::Duration;

/// AES-GCM's limit for one key (RFC 8446 section 5.5; rustls keeps the same).
const MAX_RECORDS_PER_KEY: u64 = 1 << 24;
/// A worker that stays awake longer never sleeps in practice, and nobody wants that by a slip of the unit.
const MAX_BUSY_POLL: Duration = Duration::from_secs(1);
/// More threads of the data path than any machine has cores.
const MAX_WORKERS: usize = 1024;
/// More than so many take turns on a core, and that is probably not meant.
const WORKERS_PER_CORE: usize = 4;
/// Descriptors for everything that is not a session.
const SPARE_DESCRIPTORS: u64 = 512;
/// Less would refuse work for a single burst, more would hide for minutes that nothing is written.
const LOG_BUFFER: std::ops::RangeInclusive<usize> = 16 << 10..=1 << 30;
/// Below this many connections, all of them may be half-open unless configured.
const MIN_HALF_OPEN: usize = 64;

/// `room`: connections that fit into the memory that the process may use, where that is limited.
pub(super) fn limits(
    written: &model::Limits,
    room: Option<usize>,
    notes: &mut FaultCollector<'_>,
) -> Option<Limits> {
    let permit_deadline = duration(&written.permit_deadline, Duration::from_secs(10), notes);
    let drain = duration(&written.drain, Duration::from_secs(30), notes);
    let head = match &written.head {
        None => Some(32 * 1024),
        Some(text) => notes.take(text.span(), units::size(text.get_ref())),
    };
    if let (Some(head), Some(text)) = (head, &written.head)
        && !(1024..=256 * 1024).contains(&head)
    {
        notes.fault(text.span(), "head must lie between 1KiB and 256KiB");
    }
    let mut bounded = |value: Option<(u64, std::ops::Range<usize>)>, default: u64, most: u64| match value {
        None => default,
        Some((value, span)) => {
            if value == 0 || value > most {
                notes.fault(span, format!("{value} is out of range; write 1 to {most}"));
            }
            value
        }
    };
    let fields = bounded(written.fields.as_ref().map(|v| (*v.get_ref() as u64, v.span())), 100, 128);
    let streams = bounded(written.streams.as_ref().map(|v| (u64::from(*v.get_ref()), v.span())), 100, 10_000);
    let resets = bounded(written.resets.as_ref().map(|v| (u64::from(*v.get_ref()), v.span())), 100, 100_000);
    let resets_per_second =
        bounded(written.resets_per_second.as_ref().map(|v| (u64::from(*v.get_ref()), v.span())), 33, 100_000);
    let records_per_key = bounded(
        written.records_per_key.as_ref().map(|v| (*v.get_ref(), v.span())),
        MAX_RECORDS_PER_KEY,
        MAX_RECORDS_PER_KEY,
    );
    let most = default_connections().min(room.unwrap_or(usize::MAX));
    let connections = written.connections.unwrap_or(most);
    if let Some(room) = room.filter(|room| connections == 0 || connections > *room) {
        let text = "limits.connections is more than the memory of this control group is good for while clients are slow";
        notes.warn(0..0, format!("{text}: write {room} or less, or leave it out"));
    }
    Some(Limits {
        permit_deadline: permit_deadline?,
        connections,
        half_open: written.half_open.unwrap_or(match written.half_open_per_address {
            // Who lifts the one limit does not want the other.
            Some(0) => 0,
            _ => default_half_open(connections),
        }),
        connections_per_address: written.connections_per_address,
        half_open_per_address: written.half_open_per_address.unwrap_or(256),
        drain: drain?,
        head: head?,
        fields: fields as usize,
        streams: streams as u32,
        resets: resets as u32,
        resets_per_second: resets_per_second as u32,
        records_per_key,
    })
}

/// Each session takes two descriptors, and some are for everything else.
fn default_connections() -> usize {
    let descriptors = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum;
    descriptors.map_or(100_000, |all| (all.saturating_sub(SPARE_DESCRIPTORS) / 2).max(1) as usize)
}

/// Three quarters of the connections are out of reach for those without a permit.
fn default_half_open(connections: usize) -> usize {
    // Of a handful, a share would be nothing: 0 would be no limit.
    connections.div_ceil(4).max(connections.min(MIN_HALF_OPEN))
}

pub(super) fn layout(written: &model::Workers, notes: &mut FaultCollector<'_>) -> Option<Layout> {
    let busy_poll = match &written.busy_poll {
        None => Duration::ZERO,
        Some(text) => notes.take(text.span(), units::duration(text.get_ref()))?,
    };
    if let Some(text) = written.busy_poll.as_ref().filter(|_| busy_poll > MAX_BUSY_POLL) {
        notes.fault(
            text.span(),
            "a worker stays awake without work for 1s at most; write for example \"1ms\"",
        );
    }
    let count = written.count.as_ref().map_or(0, |count| *count.get_ref());
    if let Some(place) = written.count.as_ref().map(toml::Spanned::span) {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        if count > MAX_WORKERS {
            let text = format!("{count} is out of range; write 1 to {MAX_WORKERS}, or 0 for one per core");
            notes.fault(place, text);
        } else if count > cores * WORKERS_PER_CORE {
            let text = format!(
                "{count} threads take turns on the {cores} cores of this machine, each with listeners and buffers of its own; \
                 write 0 for one per core"
            );
            notes.warn(place, text);
        }
    }
    Some(Layout { count, pin: written.pin, busy_poll })
}

/// `most`: bytes that may wait where nothing is written.
pub(super) fn log(written: &model::Log, most: usize, notes: &mut FaultCollector<'_>) -> Option<Log> {
    let format = match written.format.as_ref().map(|text| (text.get_ref().as_str(), text.span())) {
        None | Some(("auto", _)) => Format::Auto,
        Some(("json", _)) => Format::Json,
        Some(("human", _)) => Format::Human,
        Some((other, span)) => {
            notes.fault(span, format!("{other:?} is no format; write \"json\", \"human\" or \"auto\""));
            return None;
        }
    };
    let when_full = match written.when_full.as_ref().map(|text| (text.get_ref().as_str(), text.span())) {
        None | Some(("refuse", _)) => WhenFull::Refuse,
        Some(("drop", _)) => WhenFull::Drop,
        Some((other, span)) => {
            notes.fault(span, format!("{other:?} is not known; write \"refuse\" or \"drop\""));
            return None;
        }
    };
    let buffer = match &written.buffer {
        None => most,
        Some(text) => notes.take(text.span(), units::size(text.get_ref()))?,
    };
    if let Some(text) = written.buffer.as_ref().filter(|_| !LOG_BUFFER.contains(&buffer)) {
        notes.fault(text.span(), "buffer must lie between 16KiB and 1GiB");
    }
    if let Some(filter) = &written.filter {
        match audit::filter_warning(filter.get_ref()) {
            Ok(None) => {}
            Ok(Some(doubt)) => notes.warn(filter.span(), doubt),
            Err(fault) => notes.fault(filter.span(), fault.to_string()),
        }
    }
    Some(Log {
        format,
        room: Room::new(buffer, when_full),
        filter: written.filter.as_ref().map_or_else(|| "info".into(), |filter| filter.get_ref().clone()),
    })
}
