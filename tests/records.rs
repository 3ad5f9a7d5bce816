//! Raw routes with peers that make every record and every TCP segment themselves: cuts at random places, alerts that
//! no library would send, tickets where they do not belong.

mod common;

use common::{Rig, TLS12, TLS13, Version, Wish};
use ring::digest::{SHA256, digest};
use rustls::client::{ClientSessionMemoryCache, ClientSessionStore, Resumption};
use rustls::client::{Tls12ClientSessionValue, Tls13ClientSessionValue};
use rustls::pki_types::ServerName;
use rustls::{CipherSuite, ClientConfig, ExtractedSecrets, HandshakeKind, NamedGroup, ProtocolVersion};
use staunch::tls::record::{Content, MAX_PLAINTEXT, Opener, Sealer, Secrets, record_length};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

const SOON: Duration = Duration::from_secs(10);
const VERSIONS: [Version; 2] = [TLS12, TLS13];

/// One end of a TLS connection whose records are made by hand.
struct Peer {
    tcp: TcpStream,
    sealer: Sealer,
    opener: Opener,
    version: ProtocolVersion,
    unread: Vec<u8>,
}

impl Peer {
    fn new(tcp: TcpStream, secrets: ExtractedSecrets, version: ProtocolVersion) -> Self {
        tcp.set_nodelay(true).unwrap();
        let (rx, rx_secret) = secrets.rx;
        let (tx, tx_secret) = secrets.tx;
        let opener = Opener::new(&Secrets::from_rustls(&rx_secret, version).unwrap(), rx).unwrap();
        let sealer = Sealer::new(&Secrets::from_rustls(&tx_secret, version).unwrap(), tx, u64::MAX).unwrap();
        Peer { tcp, sealer, opener, version, unread: Vec::new() }
    }

    async fn send(&mut self, content: Content, body: &[u8]) {
        let mut wire = Vec::new();
        self.sealer.seal(content, body, &mut wire).unwrap();
        self.tcp.write_all(&wire).await.unwrap();
    }

    /// The next record's content and plaintext; `None` when the connection ended, however it did.
    async fn next(&mut self) -> Option<(Content, Vec<u8>)> {
        loop {
            if let Some(length) = record_length(&self.unread).unwrap()
                && length <= self.unread.len()
            {
                let mut record: Vec<u8> = self.unread.drain(..length).collect();
                let opened = self.opener.open(&mut record).unwrap();
                return Some((opened.content, record[opened.start..opened.end].to_vec()));
            }
            match self.tcp.read_buf(&mut self.unread).await {
                Ok(0) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    /// Application data until there is as much as was asked for.
    async fn data(&mut self, length: usize) -> Vec<u8> {
        let mut got = Vec::with_capacity(length);
        while got.len() < length {
            let (content, body) = self.next().await.expect("the connection ended early");
            match content {
                Content::Data => got.extend_from_slice(&body),
                // Session tickets.
                Content::Handshake => {}
                Content::Alert => panic!("alert {body:?}"),
            }
        }
        got
    }

    /// Alerts until the connection ends.
    async fn alerts(&mut self) -> Vec<Vec<u8>> {
        let mut alerts = Vec::new();
        while let Some((content, body)) = self.next().await {
            if content == Content::Alert {
                alerts.push(body);
            }
        }
        alerts
    }

    /// Seals `data` in records cut at random, some empty and some padded where the version has that, and writes them
    /// in segments cut at random.
    async fn send_cut(&mut self, data: &[u8], dice: &mut Dice, record: usize, segment: usize) {
        let (mut wire, mut left) = (Vec::new(), data);
        while !left.is_empty() {
            let (now, later) = left.split_at(dice.roll(record).min(left.len()));
            match self.version {
                ProtocolVersion::TLSv1_3 if dice.roll(4) == 1 => {
                    self.seal_padded(&[], dice.roll(9), &mut wire);
                    self.seal_padded(now, dice.roll(99), &mut wire);
                }
                _ => self.sealer.seal(Content::Data, now, &mut wire).unwrap(),
            }
            left = later;
        }
        while !wire.is_empty() {
            let now = dice.roll(segment).min(wire.len());
            self.tcp.write_all(&wire[..now]).await.unwrap();
            wire.drain(..now);
            if dice.roll(2) == 1 {
                tokio::task::yield_now().await;
            }
        }
    }

    /// A record of TLS 1.3 with padding (RFC 8446 section 5.4).
    fn seal_padded(&mut self, data: &[u8], padding: usize, wire: &mut Vec<u8>) {
        const TAG: usize = 16;
        // Padding counts towards the largest plaintext.
        let inside = (data.len() + 1 + padding).min(MAX_PLAINTEXT + 1);
        let mut record = [23, 3, 3, ((inside + TAG) >> 8) as u8, (inside + TAG) as u8].to_vec();
        record.extend_from_slice(data);
        record.push(23);
        record.resize(5 + inside + TAG, 0);
        self.sealer.reseal(&mut record).unwrap();
        wire.extend_from_slice(&record);
    }
}

/// Deterministic chance.
struct Dice(u64);

impl Dice {
    /// From 1 to `sides`.
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        1 + (self.0 >> 33) as usize % sides
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.roll(256) as u8).collect()
    }
}

/// Both peers of a session, with their keys in hand. `suite` is the only one that the client offers.
async fn peers(rig: &Rig, suite: Option<CipherSuite>) -> (Peer, Peer) {
    let mut config = (*rig.client).clone();
    config.enable_secret_extraction = true;
    if let Some(suite) = suite {
        let mut provider = (**config.crypto_provider()).clone();
        provider.cipher_suites.retain(|offered| offered.suite() == suite);
        let version = if suite.as_str().unwrap().starts_with("TLS13") { TLS13 } else { TLS12 };
        let leaf = rig.authority.leaf("ann.test");
        config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(rig.authority.roots())
            .with_client_auth_cert(leaf.chain, leaf.key)
            .unwrap();
        config.enable_secret_extraction = true;
    }
    let mut server = (**rig.acceptor.config()).clone();
    server.enable_secret_extraction = true;
    let acceptor = TlsAcceptor::from(Arc::new(server));
    let accept = async { acceptor.accept(rig.upstream.accept().await.unwrap().0).await.unwrap() };
    let (client, upstream) = tokio::join!(rig.connect(Arc::new(config)), accept);
    let (tcp, connection) = client.unwrap().into_inner();
    let version = connection.protocol_version().unwrap();
    let client = Peer::new(tcp, connection.dangerous_extract_secrets().unwrap(), version);
    let (tcp, connection) = upstream.into_inner();
    let version = connection.protocol_version().unwrap();
    let upstream = Peer::new(tcp, connection.dangerous_extract_secrets().unwrap(), version);
    (client, upstream)
}

/// Waits until this many sessions were closed for this reason by this culprit.
async fn closed(rig: &Rig, reason: &str, culprit: &str, count: u64) {
    let line = format!("staunch_sessions_closed_total{{reason=\"{reason}\",culprit=\"{culprit}\",");
    let is_counted = |text: &str| {
        let all = text.lines().filter(|one| one.starts_with(&line));
        all.filter_map(|one| one.rsplit(' ').next()?.parse::<u64>().ok()).sum::<u64>() == count
    };
    let seen = async {
        while !is_counted(&staunch::metrics::render(&rig.workers.metrics, &Default::default())) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    if timeout(SOON, seen).await.is_err() {
        let text = staunch::metrics::render(&rig.workers.metrics, &Default::default());
        let all: Vec<&str> = text.lines().filter(|l| l.contains("sessions_closed")).collect();
        panic!("no {line}: {all:?}");
    }
}

const CLOSE_NOTIFY: [u8; 2] = [1, 0];
const HANDSHAKE_FAILURE: [u8; 2] = [2, 40];
const USER_CANCELED: [u8; 2] = [1, 90];
const UNEXPECTED_MESSAGE: [u8; 2] = [2, 10];

#[tokio::test]
async fn a_fatal_alert_of_one_peer_is_an_unclean_end_for_the_other() {
    for version in VERSIONS {
        let rig = Rig::raw(Wish { client: version, upstream: version, ..Wish::default() }).await;
        for (count, culprit) in [(1, "client"), (1, "upstream"), (2, "client"), (2, "upstream")] {
            let (mut client, mut upstream) = peers(&rig, None).await;
            client.send(Content::Data, b"up").await;
            upstream.send(Content::Data, b"down").await;
            assert_eq!(upstream.data(2).await, b"up");
            assert_eq!(client.data(4).await, b"down");
            let (from, to) =
                if culprit == "client" { (&mut client, &mut upstream) } else { (&mut upstream, &mut client) };
            from.send(Content::Alert, &HANDSHAKE_FAILURE).await;
            let heard = timeout(SOON, to.alerts()).await.expect("the other leg stays open");
            assert!(!heard.contains(&CLOSE_NOTIFY.to_vec()), "{culprit}: it looks like an end: {heard:?}");
            let back = timeout(SOON, from.alerts()).await.expect("the leg that sent the alert stays open");
            assert_eq!(back, [[0; 2]; 0], "a fatal alert is not answered");
            closed(&rig, "alert", culprit, count).await;
        }
    }
}

#[tokio::test]
async fn four_warnings_pass_and_the_fifth_ends_the_connection() {
    for version in VERSIONS {
        for culprit in ["client", "upstream"] {
            let rig = Rig::raw(Wish { client: version, upstream: version, ..Wish::default() }).await;
            let (mut client, mut upstream) = peers(&rig, None).await;
            let (from, to) =
                if culprit == "client" { (&mut client, &mut upstream) } else { (&mut upstream, &mut client) };
            for _ in 0..4 {
                from.send(Content::Alert, &USER_CANCELED).await;
            }
            from.send(Content::Data, b"still here").await;
            assert_eq!(timeout(SOON, to.data(10)).await.unwrap(), b"still here");
            from.send(Content::Alert, &USER_CANCELED).await;
            assert_eq!(timeout(SOON, from.alerts()).await.unwrap(), [UNEXPECTED_MESSAGE]);
            let heard = timeout(SOON, to.alerts()).await.unwrap();
            assert!(!heard.contains(&CLOSE_NOTIFY.to_vec()), "{culprit}: {heard:?}");
            closed(&rig, "record", culprit, 1).await;
        }
    }
}

#[tokio::test]
async fn a_warning_other_than_user_canceled_is_fatal_in_tls13() {
    let rig = Rig::raw(Wish::default()).await;
    let (mut client, mut upstream) = peers(&rig, None).await;
    client.send(Content::Alert, &[1, 40]).await;
    assert_eq!(timeout(SOON, upstream.alerts()).await.unwrap(), [[0; 2]; 0]);
    closed(&rig, "alert", "client", 1).await;
}

/// The alerts that RFC 8446 section 6.2 names for what a peer can do wrong once both legs stand, by version and by leg.
#[tokio::test]
async fn each_fault_of_an_established_leg_gets_its_own_alert_on_either_leg() {
    const DECODE_ERROR: [u8; 2] = [2, 50];
    const ILLEGAL_PARAMETER: [u8; 2] = [2, 47];
    const KEY_UPDATE: u8 = 24;
    const CLIENT_HELLO: u8 = 1;
    const FINISHED: u8 = 20;
    let both: &[(&str, Content, Vec<u8>, [u8; 2])] = &[
        ("an alert of one byte", Content::Alert, vec![1], DECODE_ERROR),
        ("an alert of three bytes", Content::Alert, vec![1, 0, 0], DECODE_ERROR),
        ("a second handshake", Content::Handshake, vec![CLIENT_HELLO, 0, 0, 0], UNEXPECTED_MESSAGE),
        ("a second Finished", Content::Handshake, vec![FINISHED, 0, 0, 1, 0], UNEXPECTED_MESSAGE),
        ("no such message", Content::Handshake, vec![99, 0, 0, 0], UNEXPECTED_MESSAGE),
        ("a message without end", Content::Handshake, vec![4, 0xff, 0xff, 0xff], DECODE_ERROR),
        ("two alerts in one record", Content::Alert, vec![1, 90, 1, 90], DECODE_ERROR),
        ("a ServerHello", Content::Handshake, vec![2, 0, 0, 0], UNEXPECTED_MESSAGE),
        ("a certificate", Content::Handshake, vec![11, 0, 0, 4, 0, 0, 0, 0], UNEXPECTED_MESSAGE),
        ("a proof of a certificate", Content::Handshake, vec![15, 0, 0, 4, 8, 4, 0, 0], UNEXPECTED_MESSAGE),
    ];
    let tls13: &[(&str, Content, Vec<u8>, [u8; 2])] = &[
        ("a key update that asks for 2", Content::Handshake, vec![KEY_UPDATE, 0, 0, 1, 2], ILLEGAL_PARAMETER),
        ("a key update of no byte", Content::Handshake, vec![KEY_UPDATE, 0, 0, 0], DECODE_ERROR),
        ("a key update of two bytes", Content::Handshake, vec![KEY_UPDATE, 0, 0, 2, 0, 0], DECODE_ERROR),
        (
            "a key update that does not end its record",
            Content::Handshake,
            vec![KEY_UPDATE, 0, 0, 1, 0, KEY_UPDATE, 0, 0, 1, 0],
            UNEXPECTED_MESSAGE,
        ),
        (
            "a key update that asks for 255",
            Content::Handshake,
            vec![KEY_UPDATE, 0, 0, 1, 255],
            ILLEGAL_PARAMETER,
        ),
        (
            "a key update with a byte behind it",
            Content::Handshake,
            vec![KEY_UPDATE, 0, 0, 1, 0, 4],
            UNEXPECTED_MESSAGE,
        ),
        ("the end of early data", Content::Handshake, vec![5, 0, 0, 0], UNEXPECTED_MESSAGE),
        ("encrypted extensions", Content::Handshake, vec![8, 0, 0, 2, 0, 0], UNEXPECTED_MESSAGE),
        ("a request for a certificate", Content::Handshake, vec![13, 0, 0, 3, 0, 0, 0], UNEXPECTED_MESSAGE),
        ("a message hash", Content::Handshake, vec![254, 0, 0, 0], UNEXPECTED_MESSAGE),
    ];
    for version in VERSIONS {
        let kinds = both.iter().chain(tls13.iter().filter(|_| version == TLS13));
        for (kind, content, body, expected) in kinds {
            for of_client in [true, false] {
                let wish = Wish { client: version, upstream: version, ..Wish::default() };
                let rig = Rig::raw(wish).await;
                let (mut client, mut upstream) = peers(&rig, None).await;
                client.send(Content::Data, b"before").await;
                assert_eq!(timeout(SOON, upstream.data(6)).await.unwrap(), b"before");
                let (guilty, other) =
                    if of_client { (&mut client, &mut upstream) } else { (&mut upstream, &mut client) };
                guilty.send(*content, body).await;
                let Ok(got) = timeout(SOON, guilty.alerts()).await else {
                    panic!("{kind} is put up with, {version:?}")
                };
                assert_eq!(got, [*expected], "{kind} of the client: {of_client}, {version:?}");
                let got = timeout(SOON, other.alerts()).await.unwrap();
                assert!(
                    !got.contains(&CLOSE_NOTIFY.to_vec()),
                    "{kind} looks like an end to the other: {got:?}"
                );
            }
        }
    }
}

#[tokio::test]
async fn tickets_that_an_upstream_sends_late_are_passed_by() {
    // RFC 8446 section 4.6.1: a lifetime of a day, no age added, an empty nonce, a ticket of one byte, no extension.
    let ticket = [4, 0, 0, 14, 0, 1, 0x51, 0x80, 0, 0, 0, 0, 0, 0, 1, 7, 0, 0];
    let rig = Rig::raw(Wish { client: TLS13, upstream: TLS13, ..Wish::default() }).await;
    let (mut client, mut upstream) = peers(&rig, None).await;
    for round in 0..3 {
        client.send(Content::Data, b"question").await;
        assert_eq!(timeout(SOON, upstream.data(8)).await.unwrap(), b"question", "round {round}");
        upstream.send(Content::Handshake, &ticket).await;
        upstream.send(Content::Data, b"answer").await;
        assert_eq!(timeout(SOON, client.data(6)).await.unwrap(), b"answer", "round {round}");
    }
}

#[tokio::test]
async fn data_behind_close_notify_is_not_passed_on() {
    let rig = Rig::raw(Wish::default()).await;
    let (mut client, mut upstream) = peers(&rig, None).await;
    let mut wire = Vec::new();
    client.sealer.seal(Content::Data, b"last", &mut wire).unwrap();
    client.sealer.seal(Content::Alert, &CLOSE_NOTIFY, &mut wire).unwrap();
    client.sealer.seal(Content::Data, b"never", &mut wire).unwrap();
    client.tcp.write_all(&wire).await.unwrap();
    assert_eq!(timeout(SOON, upstream.data(4)).await.unwrap(), b"last");
    // RFC 8446 section 6.1: data received after a closure alert is ignored. It is not passed on.
    assert_eq!(timeout(SOON, upstream.next()).await.unwrap(), Some((Content::Alert, CLOSE_NOTIFY.to_vec())));
    assert_eq!(timeout(SOON, upstream.next()).await.unwrap(), None);
}

/// Seeds in all, over every mix of versions and suites.
const SEEDS: u64 = 10_000;

#[tokio::test]
async fn records_and_segments_cut_at_ten_thousand_random_places_arrive_equal() {
    const SUITES: [CipherSuite; 6] = [
        CipherSuite::TLS13_AES_128_GCM_SHA256,
        CipherSuite::TLS13_AES_256_GCM_SHA384,
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256,
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
        CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    ];
    // The largest message, record and segment.
    const SIZES: [(usize, usize, usize); 5] =
        [(12, 3, 2), (300, 40, 60), (3_000, 700, 400), (20_000, 9_000, 4_000), (60_000, 16_384, 40_000)];
    let mut seed = 0;
    for upstream in VERSIONS {
        let rig = Rig::raw(Wish { upstream, ..Wish::default() }).await;
        for suite in SUITES {
            let (mut client, mut upstream) = peers(&rig, Some(suite)).await;
            let last = seed + SEEDS.div_ceil(12);
            while seed < last {
                let mut dice = Dice(seed);
                let (message, record, segment) = SIZES[seed as usize % SIZES.len()];
                let (length_up, length_down) = (dice.roll(message), dice.roll(message));
                let (up, down) = (dice.bytes(length_up), dice.bytes(length_down));
                let (mut cut_up, mut cut_down) = (Dice(seed ^ 1 << 40), Dice(seed ^ 2 << 40));
                let exchanged = async {
                    tokio::join!(
                        client.send_cut(&up, &mut cut_up, record, segment),
                        upstream.send_cut(&down, &mut cut_down, record, segment)
                    );
                    tokio::join!(upstream.data(up.len()), client.data(down.len()))
                };
                let (got_up, got_down) =
                    timeout(SOON, exchanged).await.unwrap_or_else(|_| panic!("seed {seed} hangs"));
                let same = |a: &[u8], b: &[u8]| digest(&SHA256, a).as_ref() == digest(&SHA256, b).as_ref();
                assert!(same(&up, &got_up), "up, {suite:?}, seed {seed}");
                assert!(same(&down, &got_down), "down, {suite:?}, seed {seed}");
                seed += 1;
            }
        }
    }
    assert!(seed >= SEEDS, "{seed} seeds");
}

/// Counts the tickets that a client gets and presents.
#[derive(Debug)]
struct Counting {
    store: ClientSessionMemoryCache,
    presented: AtomicUsize,
    received: AtomicUsize,
}

impl Counting {
    fn new() -> Arc<Self> {
        let store = ClientSessionMemoryCache::new(8);
        Arc::new(Counting { store, presented: 0.into(), received: 0.into() })
    }
}

impl ClientSessionStore for Counting {
    fn set_kx_hint(&self, server: ServerName<'static>, group: NamedGroup) {
        self.store.set_kx_hint(server, group);
    }

    fn kx_hint(&self, server: &ServerName<'_>) -> Option<NamedGroup> {
        self.store.kx_hint(server)
    }

    fn set_tls12_session(&self, server: ServerName<'static>, value: Tls12ClientSessionValue) {
        self.store.set_tls12_session(server, value);
    }

    fn tls12_session(&self, server: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        let session = self.store.tls12_session(server);
        self.presented.fetch_add(session.is_some().into(), Ordering::Relaxed);
        session
    }

    fn remove_tls12_session(&self, server: &ServerName<'static>) {
        self.store.remove_tls12_session(server);
    }

    fn insert_tls13_ticket(&self, server: ServerName<'static>, value: Tls13ClientSessionValue) {
        self.received.fetch_add(1, Ordering::Relaxed);
        self.store.insert_tls13_ticket(server, value);
    }

    fn take_tls13_ticket(&self, server: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        let ticket = self.store.take_tls13_ticket(server);
        self.presented.fetch_add(ticket.is_some().into(), Ordering::Relaxed);
        ticket
    }
}

#[tokio::test]
async fn a_client_that_nobody_speaks_to_gets_its_ticket_all_the_same() {
    let rig = Rig::raw(Wish::default()).await;
    let mut config = (*Rig::client_config(&rig.authority, "ann.test", TLS13)).clone();
    let store = Counting::new();
    config.resumption = Resumption::store(store.clone());
    let (client, _upstream) = tokio::join!(rig.connect(Arc::new(config)), rig.accept());
    let mut client = client.unwrap();
    let ticket = async {
        while store.received.load(Ordering::Relaxed) == 0 {
            let silence = timeout(Duration::from_millis(20), client.read(&mut [0])).await;
            assert!(silence.is_err(), "{silence:?}");
        }
    };
    timeout(SOON, ticket).await.expect("a ticket");
}

#[tokio::test]
async fn a_ticket_resumes_on_its_own_route_and_on_no_other() {
    for version in VERSIONS {
        // Two routes of one name, so that the client has every reason to present the ticket.
        let (first, second) = (Rig::raw(Wish::default()).await, Rig::raw(Wish::default()).await);
        let mut roots = first.authority.roots();
        roots.add(second.authority.certificate()).unwrap();
        let client = |rig: &Rig, store: &Arc<Counting>| {
            let leaf = rig.authority.leaf("ann.test");
            let mut config = ClientConfig::builder_with_provider(common::provider())
                .with_protocol_versions(&[version])
                .unwrap()
                .with_root_certificates(roots.clone())
                .with_client_auth_cert(leaf.chain, leaf.key)
                .unwrap();
            config.resumption = Resumption::store(store.clone());
            Arc::new(config)
        };
        let store = Counting::new();
        // rustls takes a ticket back only for the verifier and the certificates that it came with.
        let config = client(&first, &store);
        let visit = async |rig: &Rig, config: &Arc<ClientConfig>| {
            let (connected, mut upstream) = tokio::join!(rig.connect(config.clone()), rig.accept());
            let mut connected = connected.unwrap();
            upstream.write_all(b"x").await.unwrap();
            upstream.flush().await.unwrap();
            timeout(SOON, connected.read_exact(&mut [0])).await.unwrap().unwrap();
            connected.get_ref().1.handshake_kind().unwrap()
        };
        assert_eq!(visit(&first, &config).await, HandshakeKind::Full);
        assert_eq!(visit(&first, &config).await, HandshakeKind::Resumed, "on its own route");
        assert_eq!(store.presented.load(Ordering::Relaxed), 1);
        // On the other route, where ann of the first authority is nobody, it neither resumes nor gets in.
        let strange = async {
            let mut connected = second.connect(config.clone()).await?;
            let kind = connected.get_ref().1.handshake_kind();
            connected.read_exact(&mut [0]).await?;
            std::io::Result::Ok(kind)
        };
        let refused = timeout(SOON, strange).await.unwrap();
        assert!(refused.is_err(), "another route took the ticket: {refused:?}");
        assert_eq!(store.presented.load(Ordering::Relaxed), 2, "the ticket was not presented");
    }
}

#[tokio::test]
async fn a_certificate_that_has_expired_is_not_let_in_by_a_ticket() {
    for version in VERSIONS {
        let rig = Rig::raw(Wish::default()).await;
        let end = SystemTime::now() + Duration::from_secs(3);
        let leaf = rig.authority.leaf_until("ann.test", end);
        let mut config = ClientConfig::builder_with_provider(common::provider())
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(rig.authority.roots())
            .with_client_auth_cert(leaf.chain, leaf.key)
            .unwrap();
        let store = Counting::new();
        config.resumption = Resumption::store(store.clone());
        let config = Arc::new(config);
        let (connected, mut upstream) = tokio::join!(rig.connect(config.clone()), rig.accept());
        let mut connected = connected.unwrap();
        upstream.write_all(b"x").await.unwrap();
        upstream.flush().await.unwrap();
        timeout(SOON, connected.read_exact(&mut [0])).await.unwrap().unwrap();
        tokio::time::sleep(Duration::from_millis(4_100)).await;
        let late = async {
            let mut connected = rig.connect(config).await?;
            connected.read_exact(&mut [0]).await
        };
        let refused = timeout(SOON, late).await.unwrap().unwrap_err();
        assert_eq!(store.presented.load(Ordering::Relaxed), 1, "the ticket was not presented");
        assert!(refused.to_string().contains("CertificateExpired"), "{refused}");
    }
}
