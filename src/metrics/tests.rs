use super::words::{CLOSE_REASONS, CULPRITS};
use super::*;
use crate::close::Close;
use crate::names::{IssuerName, RouteName};
use std::sync::Arc;
use std::time::SystemTime;

fn line<'a>(text: &'a str, start: &str) -> &'a str {
    text.lines().find(|l| l.starts_with(start)).unwrap_or_else(|| panic!("no {start} in\n{text}"))
}

#[test]
fn workers_are_summed_and_only_sessions_and_accepts_tell_them_apart() {
    let workers = [Arc::new(WorkerMetrics::default()), Arc::new(WorkerMetrics::default())];
    workers[0].accepted();
    workers[1].accepted();
    workers[1].accepted();
    workers[0].session_opened();
    workers[1].session_opened();
    workers[1].unrouted().session_closed(Close::NotTls(Plaintext::Ssh));
    workers[0].unrouted().bytes(Direction::Up, 10);
    workers[1].unrouted().bytes(Direction::Up, 32);
    workers[1].not_tls(Plaintext::Ssh);
    let text = render(&workers, &ProcessFacts { version: "1.2.3", ..Default::default() });
    assert_eq!(line(&text, "staunch_accepted_total{worker=\"1\"}"), "staunch_accepted_total{worker=\"1\"} 2");
    assert_eq!(line(&text, "staunch_sessions{worker=\"0\"}"), "staunch_sessions{worker=\"0\"} 1");
    assert_eq!(line(&text, "staunch_sessions{worker=\"1\"}"), "staunch_sessions{worker=\"1\"} 0");
    assert_eq!(
        line(&text, "staunch_bytes_total{direction=\"up\",route=\"\"}"),
        "staunch_bytes_total{direction=\"up\",route=\"\"} 42"
    );
    assert_eq!(line(&text, "staunch_not_tls_total{kind=\"ssh\"}"), "staunch_not_tls_total{kind=\"ssh\"} 1");
    assert_eq!(
        line(&text, "staunch_sessions_closed_total"),
        "staunch_sessions_closed_total{reason=\"not_tls\",culprit=\"client\",route=\"\"} 1"
    );
    let others = text.lines().filter(|l| l.contains("worker=")).map(|l| l.split('{').next().unwrap());
    assert!(others.into_iter().all(|n| n == "staunch_accepted_total" || n == "staunch_sessions"));
}

#[test]
fn every_family_has_help_and_type_once_and_counters_end_in_total() {
    let worker = Arc::new(WorkerMetrics::default());
    worker.session_opened();
    worker.unrouted().session_closed(Close::Done);
    let facts = ProcessFacts {
        version: "0",
        started: Some(SystemTime::UNIX_EPOCH + Duration::from_secs(7)),
        reload: Some((false, SystemTime::UNIX_EPOCH + Duration::from_secs(9))),
        certificates: vec![(RouteName("a\"b\\c\n".into()), SystemTime::UNIX_EPOCH + Duration::from_secs(11))],
        key_ages: vec![
            (IssuerName("corp".into()), Some(Duration::from_secs(12))),
            (IssuerName("down".into()), None),
        ],
        open_descriptors: Some(1),
        max_descriptors: Some(2),
        resident_bytes: Some(3),
        ..Default::default()
    };
    let text = render(&[worker], &facts);
    let mut families = std::collections::BTreeMap::new();
    let mut last = "";
    for l in text.lines() {
        if let Some(rest) = l.strip_prefix("# HELP ") {
            last = rest.split_once(' ').unwrap().0;
        } else if let Some(rest) = l.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert_eq!(name, last, "HELP stands before TYPE");
            assert!(families.insert(name, kind).is_none(), "{name} twice");
            assert_eq!(kind == "counter", name.ends_with("_total"), "{name}");
        } else {
            let name = l.split(['{', ' ']).next().unwrap();
            assert!(name.starts_with(last), "{name} stands in the family {last}");
            assert!(l.rsplit_once(' ').unwrap().1.parse::<f64>().is_ok(), "{l}");
        }
    }
    assert!(families.len() > 25, "{families:?}");
    assert!(text.contains("staunch_certificate_not_after_seconds{route=\"a\\\"b\\\\c\\n\"} 11\n"));
    assert!(
        text.contains("staunch_issuer_keys_age_seconds{issuer=\"corp\"} 12\n")
            && !text.contains("issuer=\"down\"")
    );
    assert!(text.contains("staunch_reload_success 0\n") && text.contains("staunch_reload_time_seconds 9\n"));
    assert!(text.contains("staunch_process_start_time_seconds 7\n"));
}

#[test]
fn histogram_buckets_are_cumulative_and_take_their_upper_bound() {
    let worker = Arc::new(WorkerMetrics::default());
    worker.handshake(Side::Client, false, true, Duration::from_millis(1));
    worker.handshake(Side::Client, true, false, Duration::from_nanos(1_000_001));
    worker.handshake(Side::Client, true, false, Duration::from_secs(61));
    let text = render(&[worker], &ProcessFacts::default());
    for (le, n) in [("0.0005", 0), ("0.001", 1), ("0.0025", 2), ("60", 2), ("+Inf", 3)] {
        let start = format!("staunch_handshake_seconds_bucket{{leg=\"client\",le=\"{le}\"}}");
        assert_eq!(line(&text, &start), format!("{start} {n}"));
    }
    assert!(text.contains("staunch_handshake_seconds_count{leg=\"client\"} 3\n"));
    assert!(text.contains("staunch_handshake_seconds_sum{leg=\"client\"} 61.002000001\n"));
    assert!(text.contains("staunch_handshake_seconds_count{leg=\"upstream\"} 0\n"));
    let start = "staunch_handshakes_total{leg=\"client\",resumed=\"true\",post_quantum=\"false\"}";
    assert_eq!(line(&text, start), format!("{start} 2"));
}

#[test]
fn a_refusal_with_a_code_nobody_knows_is_still_counted() {
    let worker = Arc::new(WorkerMetrics::default());
    worker.unrouted().refused("forbidden");
    worker.unrouted().refused("brand_new");
    let text = render(&[worker], &ProcessFacts::default());
    assert!(text.contains("staunch_refused_total{reason=\"forbidden\",route=\"\"} 1\n"));
    assert!(text.contains("staunch_refused_total{reason=\"other\",route=\"\"} 1\n"));
}

#[test]
fn requests_in_flight_are_those_begun_and_not_over() {
    let worker = Arc::new(WorkerMetrics::default());
    (0..4).for_each(|_| worker.unrouted().request_begun());
    worker.unrouted().request(Some(204));
    worker.unrouted().request(None);
    worker.unrouted().request(Some(999));
    assert_eq!(worker.in_flight(), 1);
    let text = render(&[worker], &ProcessFacts::default());
    assert!(text.contains("staunch_requests_total{status=\"2xx\",route=\"\"} 1\n"));
    assert!(text.contains("staunch_requests_total{status=\"none\",route=\"\"} 2\n"));
    assert!(text.contains("staunch_requests_in_flight{route=\"\"} 1\n"));
}

#[test]
fn the_tables_of_words_match_the_vocabulary() {
    assert_eq!(Close::ALL.map(Close::name), CLOSE_REASONS);
    let kinds = [
        Plaintext::Http,
        Plaintext::Http2,
        Plaintext::Postgres,
        Plaintext::PostgresCancel,
        Plaintext::Mysql,
        Plaintext::Ssh,
        Plaintext::OldTls,
        Plaintext::Other,
    ];
    assert_eq!(kinds.map(Plaintext::name), PLAINTEXTS);
    let culprits = [Culprit::Client, Culprit::Upstream, Culprit::Gateway, Culprit::Nobody];
    assert_eq!(culprits.map(Culprit::name), CULPRITS);
}

#[test]
fn what_was_counted_for_a_route_stands_under_its_name_and_configured_routes_begin_at_zero() {
    let workers = [Arc::new(WorkerMetrics::default()), Arc::new(WorkerMetrics::default())];
    let api = RouteName("api".into());
    for worker in &workers {
        worker.route(&api).refused("forbidden");
        worker.route(&api).dialled(Duration::from_millis(1));
        worker.route(&api).request_begun();
    }
    workers[1].route(&api).request(Some(200));
    let facts = ProcessFacts { routes: vec![RouteName("new".into())], ..Default::default() };
    let text = render(&workers, &facts);
    for wanted in [
        "staunch_refused_total{reason=\"forbidden\",route=\"api\"} 2\n",
        "staunch_refused_total{reason=\"forbidden\",route=\"\"} 0\n",
        "staunch_requests_total{status=\"2xx\",route=\"new\"} 0\n",
        "staunch_requests_in_flight{route=\"api\"} 1\n",
        "staunch_dial_seconds_count{route=\"api\"} 2\n",
        "staunch_dial_seconds_sum{route=\"api\"} 0.002\n",
        "staunch_bytes_total{direction=\"up\",route=\"new\"} 0\n",
    ] {
        assert!(text.contains(wanted), "{wanted} in\n{text}");
    }
    assert_eq!(totals(&workers).refused["forbidden"], 2);
}

#[test]
fn what_the_process_tells_is_shown_as_it_is() {
    let worker = Arc::new(WorkerMetrics::default());
    worker.handed_off();
    worker.worker_stalled();
    worker.dialled_ahead(true);
    (0..2).for_each(|_| worker.dialled_ahead(false));
    MaskCounters::new("shown", "up", ["card"].into_iter()).unmaskable();
    let recordings = RecordingFacts {
        no_space: 3,
        written_bytes: 5,
        segments: 7,
        has_space: true,
        witnesses: vec![WitnessFacts { name: "w".into(), size: 17, requests: [19, 23, 29], time: 31 }],
        timestamps: Some(TimestampFacts { size: 37, time: 41, requests: [43, 47, 53] }),
        ..RecordingFacts::default()
    };
    let facts = ProcessFacts { memory: Some((11, 13)), recordings: Some(recordings), ..Default::default() };
    let text = render(&[worker], &facts);
    for wanted in [
        "staunch_handed_off_total 1",
        "staunch_worker_stalls_total 1",
        "staunch_dialled_ahead_total{used=\"true\"} 1",
        "staunch_dialled_ahead_total{used=\"false\"} 2",
        "staunch_mask_unmaskable_total{route=\"shown\",direction=\"up\"} 1",
        "staunch_memory_limit_bytes 11",
        "staunch_memory_used_bytes 13",
        "staunch_recording_refused_total 3",
        "staunch_recording_written_bytes_total 5",
        "staunch_recording_segments_total 7",
        "staunch_recording_witness_requests_total{witness=\"w\",outcome=\"refused\"} 23",
        "staunch_recording_witness_entries{witness=\"w\"} 17",
        "staunch_recording_witness_last_timestamp_seconds{witness=\"w\"} 31",
        "staunch_recording_timestamp_requests_total{outcome=\"refused\"} 47",
        "staunch_recording_timestamp_entries 37",
        "staunch_recording_timestamp_last_timestamp_seconds 41",
        "staunch_recording_failing{what=\"space\"} 0",
        "staunch_recording_failing{what=\"log\"} 1",
    ] {
        assert!(text.contains(&format!("{wanted}\n")), "{wanted} in\n{text}");
    }
}
