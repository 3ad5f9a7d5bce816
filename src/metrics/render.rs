//! Prometheus' text exposition format, version 0.0.4.

use super::histogram::{BOUNDS, Snapshot};
use super::masking::{self, Kind};
use super::route::RouteMetrics;
use super::signals;
use super::spans::{SpanOutcome, spans};
use super::summary::{ByRoute, by_route};
use super::words::{CLOSE_REASONS, CULPRITS, Counter, PLAINTEXTS, REFUSALS};
use super::{AcceptFault, Histogram, LimitHit, WorkerMetrics};
use crate::names::{IssuerName, RouteName};
use std::fmt::{Display, Write};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Facts about the process as a whole, given by the caller: nothing here reads a clock or `/proc`.
#[derive(Clone, Debug, Default)]
pub struct ProcessFacts {
    /// The program's version.
    pub version: &'static str,
    /// When the process began.
    pub started: Option<SystemTime>,
    /// Whether the last reload succeeded, and when it was. `None`: there was none.
    pub reload: Option<(bool, SystemTime)>,
    /// The configured routes.
    pub routes: Vec<RouteName>,
    /// When each route's certificate ends.
    pub certificates: Vec<(RouteName, SystemTime)>,
    /// How the orders of each certificate do that is ordered.
    pub acme: Vec<AcmeFacts>,
    /// The issuers whose security events are obeyed.
    pub signals: Vec<IssuerName>,
    /// Whether traces are exported.
    pub traces: bool,
    /// How long ago each issuer's keys were fetched; `None` where they never were.
    pub key_ages: Vec<(IssuerName, Option<Duration>)>,
    /// Descriptors in use.
    pub open_descriptors: Option<u64>,
    /// Descriptors that the process may use.
    pub max_descriptors: Option<u64>,
    /// Resident memory in bytes.
    pub resident_bytes: Option<u64>,
    /// Memory that the process' control group may use and uses, in bytes; `None` without a limit.
    pub memory: Option<(u64, u64)>,
    /// The log's counters.
    pub log: LogFacts,
    /// Recordings; `None` where nothing is recorded.
    pub recordings: Option<RecordingFacts>,
    /// True while the gateway drains.
    pub draining: bool,
}

/// How the orders of a certificate do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcmeFacts {
    /// The route that shows it.
    pub route: RouteName,
    /// True once it was issued.
    pub is_there: bool,
    /// Orders that failed since the last success.
    pub failures: u32,
    /// No order before this moment.
    pub next_attempt: Option<SystemTime>,
}

/// How the log does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogFacts {
    /// Lines that it took.
    pub lines: u64,
    /// Lines that it had no room for: of those who were not permitted, diagnostics, evidence of permitted work.
    pub dropped: [u64; 3],
    /// Bytes that wait to be written.
    pub waiting_bytes: u64,
    /// How often nothing could be written for 3 seconds.
    pub stalls: u64,
    /// How often writing failed.
    pub errors: u64,
    /// It cannot be written now.
    pub failing: bool,
}

/// How recordings do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecordingFacts {
    /// Sessions that were recorded.
    pub recorded: u64,
    /// Sessions that were not.
    pub unrecorded: u64,
    /// Sessions that were refused for want of space.
    pub no_space: u64,
    /// Segments that a failed write or sync damaged.
    pub damaged: u64,
    /// Bytes that `record = "async"` forwarded and did not record.
    pub lost_bytes: u64,
    /// Times that the disk began to make writers wait.
    pub disk_stalls: u64,
    /// Bytes written to segments.
    pub written_bytes: u64,
    /// Segments that are complete.
    pub segments: u64,
    /// False while new recorded sessions are refused.
    pub has_space: bool,
    /// False while the log cannot be written or signed.
    pub has_log: bool,
    /// Witnesses that are asked to cosign the log.
    pub witnesses: Vec<WitnessFacts>,
    /// Time-stamps of the log; `None`: nobody is asked for them.
    pub timestamps: Option<TimestampFacts>,
}

/// How time-stamps of the log of recordings do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TimestampFacts {
    /// Entries of the log that are stamped.
    pub size: u64,
    /// The newest one's time, seconds since 1970.
    pub time: u64,
    /// Requests that were stamped, whose answer did not count, and that had no answer.
    pub requests: [u64; 3],
}

/// How a witness of the log of recordings does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WitnessFacts {
    /// The name of its key.
    pub name: String,
    /// Entries of the log that it has cosigned.
    pub size: u64,
    /// When it has cosigned last, seconds since 1970; 0: never.
    pub time: u64,
    /// Requests that it cosigned, refused, and did not answer.
    pub requests: [u64; 3],
}

fn security_events(out: &mut Text, configured: &[IssuerName]) {
    let mut is_begun = false;
    signals::each(configured, |issuer, outcome, count| {
        if !std::mem::replace(&mut is_begun, true) {
            let help = "Security events that issuers sent, by issuer and what became of them.";
            out.family("security_events_total", "counter", help);
        }
        out.sample("security_events_total", &[("issuer", issuer), ("outcome", outcome)], count);
    });
}

/// All metrics, summed over the workers.
pub fn render(workers: &[Arc<WorkerMetrics>], process: &ProcessFacts) -> String {
    let mut out = Text(String::with_capacity(16 * 1024));
    let sum =
        |pick: &dyn Fn(&WorkerMetrics) -> &Counter| -> u64 { workers.iter().map(|w| pick(w).get()).sum() };

    out.family("accepted_total", "counter", "Connections accepted, by the worker that accepted them.");
    for (n, worker) in workers.iter().enumerate() {
        out.sample("accepted_total", &[("worker", &n.to_string())], worker.accepted.get());
    }
    out.family("sessions", "gauge", "Sessions alive, by worker.");
    for (n, worker) in workers.iter().enumerate() {
        out.sample("sessions", &[("worker", &n.to_string())], worker.sessions());
    }
    out.single("handed_off_total", "Connections handed to a less loaded worker.", sum(&|w| &w.handed_off));
    out.family("accept_errors_total", "counter", "Accepts that failed, by kind.");
    for kind in AcceptFault::ALL {
        let n = sum(&|w| &w.accept_errors[kind as usize]);
        out.sample("accept_errors_total", &[("kind", kind.name())], n);
    }
    out.family("limits_total", "counter", "Connections that met a limit, by limit.");
    for hit in LimitHit::ALL {
        out.sample("limits_total", &[("limit", hit.name())], sum(&|w| &w.limits[hit as usize]));
    }
    out.family(
        "not_tls_total",
        "counter",
        "Connections whose first byte was not TLS, by what they looked like.",
    );
    for (i, kind) in PLAINTEXTS.iter().enumerate() {
        out.sample("not_tls_total", &[("kind", kind)], sum(&|w| &w.not_tls[i]));
    }
    handshakes(&mut out, workers);
    out.single(
        "plaintext_upstream_total",
        "Upstream legs opened without TLS (unsafe_plaintext_upstream).",
        sum(&|w| &w.plaintext_upstreams),
    );
    out.single(
        "alarms_total",
        "Sessions, and requests to the operator's listener, in which a honeytoken was shown.",
        sum(&|w| &w.alarms),
    );
    let routes = by_route(workers, &process.routes);
    traffic(&mut out, &routes);
    out.single(
        "worker_stalls_total",
        "How often a worker did not come back to its reactor for a second; the log names the session.",
        sum(&|w| &w.stalls),
    );
    out.single(
        "relay_polls_total",
        "How often the relays of sessions that ended were polled; many polls for few records: they spin.",
        sum(&|w| &w.relay_polls),
    );
    out.single("sessions_opened_total", "Sessions that began.", sum(&|w| &w.sessions_opened));
    ends(&mut out, &routes);
    out.family(
        "token_cache_total",
        "counter",
        "Tokens looked up among those judged before, good or bad, by outcome.",
    );
    out.sample("token_cache_total", &[("outcome", "hit")], sum(&|w| &w.tokens_hit));
    out.sample("token_cache_total", &[("outcome", "miss")], sum(&|w| &w.tokens_missed));
    out.family(
        "dialled_ahead_total",
        "counter",
        "Upstream connections dialled ahead, by whether one was used.",
    );
    for (used, word) in [(false, "false"), (true, "true")] {
        let n = sum(&|w| &w.dialled_ahead[usize::from(used)]);
        out.sample("dialled_ahead_total", &[("used", word)], n);
    }
    masks(&mut out);
    latencies(&mut out, &routes);
    facts(&mut out, process);
    out.0
}

/// What requests and sessions of other protocols came to, by route.
fn traffic(out: &mut Text, routes: &ByRoute) {
    let help = "HTTP requests, and sessions of other protocols, that policy permitted, by route.";
    out.family("permitted_total", "counter", help);
    for (route, counted) in routes {
        out.sample("permitted_total", &[("route", &route.0)], sum(counted, |r| &r.permitted));
    }
    let help = "Requests and raw connections that were refused, by reason and route; without a route: before one was known.";
    out.family("refused_total", "counter", help);
    for (route, counted) in routes {
        for (i, code) in REFUSALS.iter().chain(["other"].iter()).enumerate() {
            let labels = [("reason", *code), ("route", &*route.0)];
            out.sample("refused_total", &labels, sum(counted, |r| &r.refused[i]));
        }
    }
    let help = "Permitted requests that are over, by class of status and route; none: no response.";
    out.family("requests_total", "counter", help);
    for (route, counted) in routes {
        for (i, class) in ["none", "1xx", "2xx", "3xx", "4xx", "5xx"].iter().enumerate() {
            let labels = [("status", *class), ("route", &*route.0)];
            out.sample("requests_total", &labels, sum(counted, |r| &r.requests[i]));
        }
    }
    out.family("requests_in_flight", "gauge", "Permitted requests under way, by route.");
    for (route, counted) in routes {
        let under_way = counted.iter().map(|one| one.in_flight()).sum();
        out.sample("requests_in_flight", &[("route", &route.0)], under_way);
    }
    for (name, help, pick) in [
        (
            "bytes_total",
            "Payload bytes relayed, by direction and route; of a live session at most 30 seconds late.",
            (|r, i| &r.bytes[i]) as fn(&RouteMetrics, usize) -> &Counter,
        ),
        ("records_total", "TLS records relayed, by direction and route; as late as bytes.", |r, i| {
            &r.records[i]
        }),
    ] {
        out.family(name, "counter", help);
        for (route, counted) in routes {
            for (i, direction) in DIRECTIONS.iter().enumerate() {
                let labels = [("direction", *direction), ("route", &*route.0)];
                out.sample(name, &labels, sum(counted, |r| pick(r, i)));
            }
        }
    }
}

fn ends(out: &mut Text, routes: &ByRoute) {
    out.family("sessions_closed_total", "counter", "Sessions that ended, by reason, culprit and route.");
    for (route, counted) in routes {
        for (i, reason) in CLOSE_REASONS.iter().enumerate() {
            for (j, culprit) in CULPRITS.iter().enumerate() {
                // Most pairs cannot happen; only those that did are worth a series.
                let n = sum(counted, |r| &r.sessions_closed[i][j]);
                if n > 0 {
                    let labels = [("reason", *reason), ("culprit", *culprit), ("route", &*route.0)];
                    out.sample("sessions_closed_total", &labels, n);
                }
            }
        }
    }
}

fn latencies(out: &mut Text, routes: &ByRoute) {
    for (name, help, pick) in [
        (
            "dial_seconds",
            "Name resolution, connect and TLS handshake with the upstream, by route.",
            (|r| &r.dial_seconds) as fn(&RouteMetrics) -> &Histogram,
        ),
        ("first_byte_seconds", "From a request's permit to its response's first byte, by route.", |r| {
            &r.first_byte_seconds
        }),
    ] {
        out.family(name, "histogram", help);
        for (route, counted) in routes {
            out.histogram(name, ("route", &route.0), counted, pick);
        }
    }
}

fn sum<'a>(counted: &'a [Arc<RouteMetrics>], pick: impl Fn(&'a RouteMetrics) -> &'a Counter) -> u64 {
    counted.iter().map(|one| pick(one).get()).sum()
}

fn masks(out: &mut Text) {
    // Without a route that masks there is nothing to show.
    let mut any = false;
    masking::each(Kind::Values, |_, _, _, _| any = true);
    if !any {
        return;
    }
    out.family("masked_total", "counter", "Values that masks found, by route, direction and rule.");
    masking::each(Kind::Values, |route, direction, rule, n| {
        out.sample("masked_total", &[("route", route), ("direction", direction), ("rule", rule)], n);
    });
    out.family(
        "mask_hold_limit_total",
        "counter",
        "Times that something was held for as long as the route allows.",
    );
    masking::each(Kind::HoldLimit, |route, direction, _, n| {
        out.sample("mask_hold_limit_total", &[("route", route), ("direction", direction)], n);
    });
    out.family("mask_unmaskable_total", "counter", "Bodies that could not be masked, and did not pass.");
    masking::each(Kind::Unmaskable, |route, direction, _, n| {
        out.sample("mask_unmaskable_total", &[("route", route), ("direction", direction)], n);
    });
}

fn handshakes(out: &mut Text, workers: &[Arc<WorkerMetrics>]) {
    out.family(
        "handshakes_total",
        "counter",
        "TLS handshakes completed, by leg, resumption and post-quantum key exchange.",
    );
    for (i, leg) in SIDES.iter().enumerate() {
        for resumed in [0, 1] {
            for pq in [0, 1] {
                let n = workers.iter().map(|w| w.handshakes[i][resumed][pq].get()).sum();
                let labels = [("leg", *leg), ("resumed", BOOLEANS[resumed]), ("post_quantum", BOOLEANS[pq])];
                out.sample("handshakes_total", &labels, n);
            }
        }
    }
    for (name, help, pick) in [
        (
            "handshakes_failed_total",
            "TLS handshakes that failed, by leg.",
            (|w, i| &w.handshakes_failed[i]) as fn(&WorkerMetrics, usize) -> &Counter,
        ),
        ("key_updates_total", "TLS 1.3 keys renewed, by leg.", |w, i| &w.key_updates[i]),
    ] {
        out.family(name, "counter", help);
        for (i, leg) in SIDES.iter().enumerate() {
            out.sample(name, &[("leg", leg)], workers.iter().map(|w| pick(w, i).get()).sum());
        }
    }
    out.family("handshake_seconds", "histogram", "Duration of completed TLS handshakes, by leg.");
    for (i, leg) in SIDES.iter().enumerate() {
        out.histogram("handshake_seconds", ("leg", leg), workers, |w| &w.handshake_seconds[i]);
    }
}

fn recordings(out: &mut Text, facts: &RecordingFacts) {
    out.family("recording_sessions_total", "counter", "Sessions, by whether they were recorded.");
    out.sample("recording_sessions_total", &[("recorded", "yes")], facts.recorded);
    out.sample("recording_sessions_total", &[("recorded", "no")], facts.unrecorded);
    out.single(
        "recording_refused_total",
        "Sessions refused since there was no space to record them.",
        facts.no_space,
    );
    out.single(
        "recording_damaged_segments_total",
        "Segments given up after a failed write or sync; their sessions ended.",
        facts.damaged,
    );
    let lost = "Bytes that record = \"async\" forwarded and did not record.";
    out.single("recording_lost_bytes_total", lost, facts.lost_bytes);
    let stalls = "Times that the disk of recordings began to make writers wait.";
    out.single("recording_disk_stalls_total", stalls, facts.disk_stalls);
    out.single("recording_written_bytes_total", "Bytes written to segments.", facts.written_bytes);
    out.single("recording_segments_total", "Segments completed.", facts.segments);
    out.family("recording_failing", "gauge", "1 while something of recordings fails, by what.");
    out.sample("recording_failing", &[("what", "space")], u64::from(!facts.has_space));
    out.sample("recording_failing", &[("what", "log")], u64::from(!facts.has_log));
    if !facts.witnesses.is_empty() {
        witnesses(out, &facts.witnesses);
    }
    if let Some(facts) = &facts.timestamps {
        timestamps(out, facts);
    }
}

fn timestamps(out: &mut Text, facts: &TimestampFacts) {
    let help = "Requests for a time-stamp of the log of recordings, by what became of them.";
    out.family("recording_timestamp_requests_total", "counter", help);
    for (outcome, count) in ["stamped", "refused", "silent"].into_iter().zip(facts.requests) {
        out.sample("recording_timestamp_requests_total", &[("outcome", outcome)], count);
    }
    let name = "recording_timestamp_entries";
    out.family(name, "gauge", "Entries of the log of recordings that are time-stamped.");
    out.sample(name, &[], facts.size);
    let name = "recording_timestamp_last_timestamp_seconds";
    out.family(name, "gauge", "The newest time-stamp's time; 0: none since the start.");
    out.sample(name, &[], facts.time);
}

fn witnesses(out: &mut Text, witnesses: &[WitnessFacts]) {
    let help = "Requests for a cosignature of the log of recordings, by witness and what became of them.";
    out.family("recording_witness_requests_total", "counter", help);
    for witness in witnesses {
        for (outcome, count) in ["cosigned", "refused", "silent"].into_iter().zip(witness.requests) {
            let labels = [("witness", witness.name.as_str()), ("outcome", outcome)];
            out.sample("recording_witness_requests_total", &labels, count);
        }
    }
    let help = "Entries of the log of recordings that a witness has cosigned.";
    out.family("recording_witness_entries", "gauge", help);
    for witness in witnesses {
        out.sample("recording_witness_entries", &[("witness", &witness.name)], witness.size);
    }
    let help = "When a witness has cosigned last; 0: never.";
    out.family("recording_witness_last_timestamp_seconds", "gauge", help);
    for witness in witnesses {
        out.sample("recording_witness_last_timestamp_seconds", &[("witness", &witness.name)], witness.time);
    }
}

fn log(out: &mut Text, log: &LogFacts) {
    out.single("log_lines_total", "Lines that the log took.", log.lines);
    out.family(
        "log_dropped_lines_total",
        "counter",
        "Lines that the log had no room for, by whose they were.",
    );
    for (kind, lines) in ["unpermitted", "diagnostics", "evidence"].into_iter().zip(log.dropped) {
        out.sample("log_dropped_lines_total", &[("kind", kind)], lines);
    }
    out.family("log_waiting_bytes", "gauge", "Bytes of lines that wait to be written.");
    out.sample("log_waiting_bytes", &[], log.waiting_bytes);
    out.family(
        "log_failing",
        "gauge",
        "1 while the log cannot be written: it fails, or took nothing for 3 seconds.",
    );
    out.sample("log_failing", &[], u64::from(log.failing));
    out.single("log_stalls_total", "Times the log took nothing for 3 seconds.", log.stalls);
    out.single(
        "log_errors_total",
        "Failed writes of the log; the lines are kept and tried again.",
        log.errors,
    );
}

fn facts(out: &mut Text, process: &ProcessFacts) {
    log(out, &process.log);
    process.recordings.iter().for_each(|facts| recordings(out, facts));
    if let Some((limit, used)) = process.memory {
        out.family("memory_limit_bytes", "gauge", "Memory that the process' control group may use.");
        out.sample("memory_limit_bytes", &[], limit);
        out.family(
            "memory_used_bytes",
            "gauge",
            "Memory that it uses and the kernel cannot take back at once.",
        );
        out.sample("memory_used_bytes", &[], used);
    }
    if !process.acme.is_empty() {
        out.family("acme_certificate", "gauge", "1: the certificate is there; 0: it was not issued yet.");
        for one in &process.acme {
            out.sample("acme_certificate", &[("route", &one.route.0)], u64::from(one.is_there));
        }
        out.family("acme_failures", "gauge", "Orders of a certificate that failed since the last success.");
        for one in &process.acme {
            out.sample("acme_failures", &[("route", &one.route.0)], u64::from(one.failures));
        }
        let held = || process.acme.iter().filter_map(|one| Some((one, one.next_attempt?)));
        if held().next().is_some() {
            out.family("acme_next_attempt_seconds", "gauge", "No order before this moment, Unix time.");
            for (one, at) in held() {
                out.sample("acme_next_attempt_seconds", &[("route", &one.route.0)], unix(at));
            }
        }
    }
    if !process.certificates.is_empty() {
        out.family("certificate_not_after_seconds", "gauge", "When a route's certificate ends, Unix time.");
        for (route, end) in &process.certificates {
            out.sample("certificate_not_after_seconds", &[("route", &route.0)], unix(*end));
        }
    }
    if process.key_ages.iter().any(|(_, age)| age.is_some()) {
        out.family("issuer_keys_age_seconds", "gauge", "How long ago an issuer's keys were fetched.");
        for (issuer, age) in &process.key_ages {
            if let Some(age) = age {
                out.sample("issuer_keys_age_seconds", &[("issuer", &issuer.0)], age.as_secs());
            }
        }
    }
    security_events(out, &process.signals);
    if process.traces {
        let help = "Spans of traces that were exported, rejected by the collector, and dropped for want of room or of a collector.";
        out.family("trace_spans_total", "counter", help);
        for (outcome, label) in SpanOutcome::ALL {
            out.sample("trace_spans_total", &[("outcome", label)], spans(outcome));
        }
    }
    if let Some((success, at)) = process.reload {
        out.gauge(
            "reload_success",
            "1 if the last reload was taken, 0 if the old configuration was kept.",
            success.into(),
        );
        out.gauge("reload_time_seconds", "When the last reload was, Unix time.", unix(at));
    }
    out.gauge("draining", "1 while the gateway drains.", process.draining.into());
    out.family("build_info", "gauge", "Always 1; the version is the label.");
    out.sample("build_info", &[("version", process.version)], 1);
    for (name, help, value) in [
        ("process_start_time_seconds", "When the process began, Unix time.", process.started.map(unix)),
        ("process_open_descriptors", "Descriptors in use.", process.open_descriptors),
        ("process_max_descriptors", "Descriptors that the process may use.", process.max_descriptors),
        ("process_resident_memory_bytes", "Resident memory.", process.resident_bytes),
    ] {
        if let Some(value) = value {
            out.gauge(name, help, value);
        }
    }
}

/// The text so far.
struct Text(String);

impl Text {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP staunch_{name} {help}\n# TYPE staunch_{name} {kind}");
    }

    fn single(&mut self, name: &str, help: &str, value: u64) {
        self.family(name, "counter", help);
        self.sample(name, &[], value);
    }

    fn gauge(&mut self, name: &str, help: &str, value: u64) {
        self.family(name, "gauge", help);
        self.sample(name, &[], value);
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: u64) {
        self.sample_of(name, labels, value);
    }

    fn sample_of(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        let _ = write!(self.0, "staunch_{name}");
        for (i, (label, text)) in labels.iter().enumerate() {
            let _ = write!(self.0, "{}{label}=\"", if i == 0 { '{' } else { ',' });
            // A label value escapes exactly these three; a route's name is the operator's text.
            for c in text.chars() {
                match c {
                    '\\' => self.0.push_str("\\\\"),
                    '"' => self.0.push_str("\\\""),
                    '\n' => self.0.push_str("\\n"),
                    c => self.0.push(c),
                }
            }
            self.0.push('"');
        }
        let _ = writeln!(self.0, "{} {value}", if labels.is_empty() { "" } else { "}" });
    }

    fn histogram<T>(
        &mut self,
        name: &str,
        label: (&str, &str),
        counted: &[Arc<T>],
        pick: impl Fn(&T) -> &Histogram,
    ) {
        let mut total = Snapshot::default();
        counted.iter().for_each(|one| pick(one).add_to(&mut total));
        let bounds = BOUNDS.iter().map(|(_, le)| *le).chain(["+Inf"]);
        let mut below = 0;
        for (le, n) in bounds.zip(total.buckets) {
            below += n;
            self.sample(&format!("{name}_bucket"), &[label, ("le", le)], below);
        }
        self.sample_of(&format!("{name}_sum"), &[label], total.sum as f64 / 1e9);
        self.sample(&format!("{name}_count"), &[label], below);
    }
}

fn unix(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

const SIDES: [&str; 2] = ["client", "upstream"];
const DIRECTIONS: [&str; 2] = ["up", "down"];
const BOOLEANS: [&str; 2] = ["false", "true"];
