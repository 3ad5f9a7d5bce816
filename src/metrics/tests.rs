use super::*;
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
    workers[1].session_closed(Close::NotTls(Plaintext::Ssh));
    workers[0].bytes(Direction::Up, 10);
    workers[1].bytes(Direction::Up, 32);
    workers[1].not_tls(Plaintext::Ssh);
    let text = render(&workers, &ProcessFacts { version: "1.2.3", ..Default::default() });
    assert_eq!(line(&text, "staunch_accepted_total{worker=\"1\"}"), "staunch_accepted_total{worker=\"1\"} 2");
    assert_eq!(line(&text, "staunch_sessions{worker=\"0\"}"), "staunch_sessions{worker=\"0\"} 1");
    assert_eq!(line(&text, "staunch_sessions{worker=\"1\"}"), "staunch_sessions{worker=\"1\"} 0");
    assert_eq!(
        line(&text, "staunch_bytes_total{direction=\"up\"}"),
        "staunch_bytes_total{direction=\"up\"} 42"
    );
    assert_eq!(line(&text, "staunch_not_tls_total{kind=\"ssh\"}"), "staunch_not_tls_total{kind=\"ssh\"} 1");
    assert_eq!(
        line(&text, "staunch_sessions_closed_total"),
        "staunch_sessions_closed_total{reason=\"not_tls\",culprit=\"client\"} 1"
    );
    let others = text.lines().filter(|l| l.contains("worker=")).map(|l| l.split('{').next().unwrap());
    assert!(others.into_iter().all(|n| n == "staunch_accepted_total" || n == "staunch_sessions"));
}

#[test]
fn every_family_has_help_and_type_once_and_counters_end_in_total() {
    let worker = Arc::new(WorkerMetrics::default());
    worker.session_opened();
    worker.session_closed(Close::Done);
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
    worker.refused("forbidden");
    worker.refused("brand_new");
    let text = render(&[worker], &ProcessFacts::default());
    assert!(text.contains("staunch_refused_total{reason=\"forbidden\"} 1\n"));
    assert!(text.contains("staunch_refused_total{reason=\"other\"} 1\n"));
}

#[test]
fn requests_in_flight_are_those_begun_and_not_over() {
    let worker = Arc::new(WorkerMetrics::default());
    (0..4).for_each(|_| worker.request_begun());
    worker.request(Some(204));
    worker.request(None);
    worker.request(Some(999));
    assert_eq!(worker.in_flight(), 1);
    let text = render(&[worker], &ProcessFacts::default());
    assert!(text.contains("staunch_requests_total{status=\"2xx\"} 1\n"));
    assert!(text.contains("staunch_requests_total{status=\"none\"} 2\n"));
    assert!(text.contains("staunch_requests_in_flight 1\n"));
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
