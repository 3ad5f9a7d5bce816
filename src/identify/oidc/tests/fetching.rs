//! Discovery and keys from a real HTTPS server on loopback.

use super::*;
use rustls::pki_types::CertificateDer;
use std::collections::HashMap;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

const ES: Algorithm = Algorithm::Es256;
const UNAVAILABLE: &str = "the issuer's keys are not available";
const DISCOVERY: &str = "/.well-known/openid-configuration";

/// An issuer's server: answers by path, counts requests by path.
struct Server {
    url: String,
    ca: CertificateDer<'static>,
    site: Arc<Mutex<Site>>,
}

#[derive(Default)]
struct Site {
    answers: HashMap<String, Vec<u8>>,
    asked: HashMap<String, usize>,
    /// Accepts and never answers.
    silent: bool,
}

fn answer(status: &str, extra: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n{extra}connection: close\r\n\r\n{body}", body.len())
        .into()
}

impl Server {
    async fn start() -> Server {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec!["127.0.0.1".into()]).unwrap();
        let certificate = params.self_signed(&key).unwrap().der().clone();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.clone()], key.serialize_der().try_into().unwrap())
            .unwrap();
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(tls));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap());
        let site: Arc<Mutex<Site>> = Arc::default();
        let shared = site.clone();
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let (acceptor, site) = (acceptor.clone(), shared.clone());
                tokio::spawn(async move {
                    let Ok(mut stream) = acceptor.accept(tcp).await else { return };
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") && head.len() < 8_192 {
                        match stream.read_u8().await {
                            Ok(byte) => head.push(byte),
                            Err(_) => return,
                        }
                    }
                    let path =
                        String::from_utf8_lossy(&head).split(' ').nth(1).unwrap_or_default().to_owned();
                    let (answer, silent) = {
                        let mut site = site.lock();
                        *site.asked.entry(path.clone()).or_default() += 1;
                        let gone = || answer("404 Not Found", "", "");
                        (site.answers.get(&path).cloned().unwrap_or_else(gone), site.silent)
                    };
                    if silent {
                        return std::future::pending().await;
                    }
                    // The client may have left: an answer that is too large is not read to its end.
                    let _ = stream.write_all(&answer).await;
                    let _ = stream.shutdown().await;
                });
            }
        });
        let server = Server { url, ca: certificate, site };
        server.discovery(&server.url, &format!("{}/jwks", server.url));
        server
    }

    fn put(&self, path: &str, answer: Vec<u8>) {
        self.site.lock().answers.insert(path.into(), answer);
    }

    fn discovery(&self, issuer: &str, jwks: &str) {
        self.put(DISCOVERY, answer("200 OK", "", &json!({"issuer": issuer, "jwks_uri": jwks}).to_string()));
    }

    fn keys(&self, jwks: &[Value]) {
        self.put(
            "/jwks",
            answer("200 OK", "cache-control: max-age=900\r\n", &json!({"keys": jwks}).to_string()),
        );
    }

    fn asked(&self, path: &str) -> usize {
        self.site.lock().asked.get(path).copied().unwrap_or(0)
    }

    fn settings(&self) -> IssuerSettings {
        IssuerSettings { ca: Some(vec![self.ca.clone()]), ..settings(&self.url, &[ES]) }
    }

    fn issuers(&self, limits: Limits) -> Arc<Issuers> {
        let issuers = Issuers::with_limits(vec![self.settings()], limits).unwrap();
        issuers.start(&tokio::runtime::Handle::current());
        issuers
    }

    fn token(&self, signer: &Signer, kid: &str) -> Vec<u8> {
        signer.good(ES, kid, &with(json!({"iss": self.url, "exp": seconds() + 600, "iat": seconds()})))
    }
}

fn seconds() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()
}

/// Short waits, so that what must not come is known not to come soon.
fn quick() -> Limits {
    Limits { exchange: Duration::from_millis(500), wait: Duration::from_millis(700), ..Limits::default() }
}

/// What a session does: verify, wait once for keys, verify again.
async fn judge(issuers: &Issuers, token: &[u8]) -> String {
    judge_with(&mut TokenCache::new(), issuers, token).await
}

async fn judge_with(cache: &mut TokenCache, issuers: &Issuers, token: &[u8]) -> String {
    match issuers.verify(cache, token, SystemTime::now()) {
        Verdict::Fetch(wanted) => {
            let fault = wanted.fault();
            wanted.wait().await;
            match issuers.verify(cache, token, SystemTime::now()) {
                Verdict::Fetch(_) => fault.to_string(),
                other => said(other),
            }
        }
        other => said(other),
    }
}

#[tokio::test]
async fn the_first_token_waits_for_discovery_and_keys() {
    let (server, signer) = (Server::start().await, Signer::ec("P-256"));
    server.keys(&[signer.jwk("k")]);
    let issuers = server.issuers(Limits::default());
    assert_eq!(judge(&issuers, &server.token(&signer, "k")).await, "verified ann");
    assert_eq!((server.asked(DISCOVERY), server.asked("/jwks")), (1, 1));
}

#[tokio::test]
async fn a_rotated_key_is_fetched_once_and_a_storm_of_unknown_keys_fetches_no_more() {
    let (server, old, new) = (Server::start().await, Signer::ec("P-256"), Signer::ec("P-256"));
    server.keys(&[old.jwk("old")]);
    let issuers = server.issuers(Limits::default());
    assert_eq!(judge(&issuers, &server.token(&old, "old")).await, "verified ann");
    server.keys(&[old.jwk("old"), new.jwk("new")]);
    let token = server.token(&new, "new");
    let (a, b) = tokio::join!(judge(&issuers, &token), judge(&issuers, &token));
    assert_eq!((a.as_str(), b.as_str()), ("verified ann", "verified ann"));
    assert_eq!((server.asked(DISCOVERY), server.asked("/jwks")), (1, 2));
    for n in 0..1_000 {
        let token = server.token(&new, &format!("storm-{n}"));
        // Not looked up, so nobody can say that it is wrong.
        assert_eq!(verdict_now(&issuers, &token), UNAVAILABLE, "at once");
    }
    assert_eq!((server.asked(DISCOVERY), server.asked("/jwks")), (1, 2));
}

#[tokio::test]
async fn one_forged_token_delays_a_rotated_key_by_the_budget_and_is_itself_refused_for_good() {
    let (server, old, new) = (Server::start().await, Signer::ec("P-256"), Signer::ec("P-256"));
    server.keys(&[old.jwk("old")]);
    let issuers = server.issuers(Limits { unscheduled: Duration::from_millis(300), ..quick() });
    assert_eq!(judge(&issuers, &server.token(&old, "old")).await, "verified ann");
    let mut cache = TokenCache::new();
    let forged = server.token(&new, "forged");
    assert_eq!(judge_with(&mut cache, &issuers, &forged).await, "unknown key");
    server.keys(&[old.jwk("old"), new.jwk("new")]);
    let token = server.token(&new, "new");
    assert_eq!(judge_with(&mut cache, &issuers, &token).await, UNAVAILABLE);
    assert_eq!(judge_with(&mut cache, &issuers, &forged).await, "unknown key", "remembered");
    tokio::time::sleep(Duration::from_millis(350)).await;
    assert_eq!(judge_with(&mut cache, &issuers, &token).await, "verified ann");
    assert_eq!(server.asked("/jwks"), 3);
}

#[tokio::test]
async fn fetches_that_tokens_cause_do_not_put_off_the_scheduled_one() {
    let (server, signer) = (Server::start().await, Signer::ec("P-256"));
    server.keys(&[signer.jwk("k")]);
    let usual = Duration::from_millis(400);
    let limits =
        Limits { usual, shortest: usual, longest: usual, unscheduled: Duration::from_millis(50), ..quick() };
    let issuers = server.issuers(limits);
    assert_eq!(judge(&issuers, &server.token(&signer, "k")).await, "verified ann");
    for n in 0..20 {
        judge(&issuers, &server.token(&signer, &format!("storm-{n}"))).await;
        tokio::time::sleep(Duration::from_millis(60)).await;
    }
    // The scheduled one reads the discovery document again.
    assert!(server.asked(DISCOVERY) >= 3, "{}", server.asked(DISCOVERY));
}

#[tokio::test]
async fn while_the_issuer_is_down_a_new_key_is_unavailable_and_not_unknown() {
    let (server, signer) = (Server::start().await, Signer::ec("P-256"));
    server.keys(&[signer.jwk("k")]);
    let issuers = server.issuers(quick());
    assert_eq!(judge(&issuers, &server.token(&signer, "k")).await, "verified ann");
    server.put("/jwks", answer("500 Internal Server Error", "", ""));
    assert_eq!(judge(&issuers, &server.token(&signer, "new")).await, UNAVAILABLE);
    assert_eq!(judge(&issuers, &server.token(&signer, "k")).await, "verified ann");
}

#[tokio::test]
async fn a_key_that_was_withdrawn_goes_with_a_reload() {
    let (server, kept, withdrawn) = (Server::start().await, Signer::ec("P-256"), Signer::ec("P-256"));
    server.keys(&[kept.jwk("kept"), withdrawn.jwk("withdrawn")]);
    let before = server.issuers(Limits::default());
    assert_eq!(judge(&before, &server.token(&withdrawn, "withdrawn")).await, "verified ann");
    server.keys(&[kept.jwk("kept")]);
    let limits = Limits { reloaded: Duration::from_millis(50), ..Limits::default() };
    let after = Issuers::with_limits(vec![server.settings()], limits).unwrap();
    after.adopt(&before);
    assert_eq!(
        verdict_now(&after, &server.token(&withdrawn, "withdrawn")),
        "verified ann",
        "nothing is lost"
    );
    after.start(&tokio::runtime::Handle::current());
    let mut cache = TokenCache::new();
    for _ in 0..200 {
        let verdict = after.verify(&mut cache, &server.token(&withdrawn, "withdrawn"), SystemTime::now());
        if !matches!(verdict, Verdict::Verified(_)) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(judge(&after, &server.token(&withdrawn, "withdrawn")).await, "unknown key");
    assert_eq!(judge(&after, &server.token(&kept, "kept")).await, "verified ann");
    let (name, age) = after.key_ages().pop().unwrap();
    assert!(&*name.0 == "corp" && age.unwrap() < Duration::from_secs(5));
}

#[tokio::test]
async fn a_storm_of_a_thousand_unknown_keys_at_once_causes_one_fetch() {
    let (server, signer) = (Server::start().await, Signer::ec("P-256"));
    server.keys(&[signer.jwk("k")]);
    let issuers = server.issuers(Limits::default());
    assert_eq!(judge(&issuers, &server.token(&signer, "k")).await, "verified ann");
    let storm: Vec<_> = (0..1_000)
        .map(|n| {
            let (issuers, token) = (issuers.clone(), server.token(&signer, &format!("storm-{n}")));
            tokio::spawn(async move { judge(&issuers, &token).await })
        })
        .collect();
    for one in storm {
        assert_eq!(one.await.unwrap(), "unknown key");
    }
    assert_eq!((server.asked(DISCOVERY), server.asked("/jwks")), (1, 2));
    assert_eq!(judge(&issuers, &server.token(&signer, "k")).await, "verified ann");
}

fn verdict_now(issuers: &Issuers, token: &[u8]) -> String {
    said(issuers.verify(&mut TokenCache::new(), token, SystemTime::now()))
}

#[tokio::test]
async fn known_keys_serve_while_the_issuer_fails_in_every_way() {
    let (server, signer) = (Server::start().await, Signer::ec("P-256"));
    server.keys(&[signer.jwk("k")]);
    // Every refresh is due after 20 ms here, so that failures come at once.
    let often = Duration::from_millis(20);
    let limits = Limits {
        usual: often,
        shortest: often,
        longest: often,
        first_retry: often,
        last_retry: often,
        ..quick()
    };
    let issuers = server.issuers(limits);
    assert_eq!(judge(&issuers, &server.token(&signer, "k")).await, "verified ann");
    let broken = [
        answer("500 Internal Server Error", "", "{}"),
        answer("200 OK", "", "no json"),
        answer("200 OK", "", r#"{"keys":[]}"#),
        answer("200 OK", "", &" ".repeat(600 * 1024)),
        answer("302 Found", &format!("location: {}/jwks2\r\n", server.url), ""),
        b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{".to_vec(),
        b"garbage".to_vec(),
    ];
    let token = server.token(&signer, "k");
    for bad in broken {
        server.put("/jwks", bad);
        let before = server.asked("/jwks");
        for _ in 0..500 {
            assert_eq!(verdict_now(&issuers, &token), "verified ann");
            if server.asked("/jwks") >= before + 2 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert!(server.asked("/jwks") >= before + 2, "the schedule goes on");
    }
    server.site.lock().silent = true;
    for _ in 0..20 {
        assert_eq!(verdict_now(&issuers, &token), "verified ann");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    server.site.lock().silent = false;
    assert_eq!(server.asked("/jwks2"), 0, "the redirect was not followed");
    let next = Signer::ec("P-256");
    server.keys(&[next.jwk("next")]);
    for _ in 0..500 {
        if verdict_now(&issuers, &token) != "verified ann" {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(verdict_now(&issuers, &server.token(&next, "next")), "verified ann", "recovered");
}

#[tokio::test]
async fn an_issuer_without_keys_is_unavailable_and_recovers() {
    let (server, signer) = (Server::start().await, Signer::ec("P-256"));
    server.put("/jwks", answer("500 Internal Server Error", "", ""));
    let issuers = server.issuers(Limits { first_retry: Duration::from_millis(50), ..quick() });
    let token = server.token(&signer, "k");
    assert_eq!(judge(&issuers, &token).await, "the issuer's keys are not available");
    assert!(!issuers.ready(SystemTime::now()));
    server.keys(&[signer.jwk("k")]);
    let mut last = String::new();
    for _ in 0..20 {
        last = judge(&issuers, &token).await;
        if last == "verified ann" {
            break;
        }
    }
    assert_eq!(last, "verified ann");
}

/// Starts with this discovery document; the keys must never be asked for.
async fn discovery_is_refused(issuer: impl Fn(&Server) -> String, jwks: impl Fn(&Server) -> String) {
    let (server, signer) = (Server::start().await, Signer::ec("P-256"));
    server.keys(&[signer.jwk("k")]);
    server.discovery(&issuer(&server), &jwks(&server));
    let issuers = server.issuers(quick());
    assert_eq!(judge(&issuers, &server.token(&signer, "k")).await, "the issuer's keys are not available");
    assert!(server.asked(DISCOVERY) >= 1);
    assert_eq!(server.asked("/jwks"), 0);
}

#[tokio::test]
async fn a_discovery_document_for_another_issuer_is_refused() {
    discovery_is_refused(|s| format!("{}/", s.url), |s| format!("{}/jwks", s.url)).await;
}

#[tokio::test]
async fn a_jwks_uri_without_tls_is_refused() {
    discovery_is_refused(|s| s.url.clone(), |s| format!("{}/jwks", s.url.replace("https", "http"))).await;
}

#[tokio::test]
async fn a_jwks_uri_on_another_host_or_port_is_refused_unless_listed() {
    let other = Server::start().await;
    let elsewhere = format!("{}/jwks", other.url);
    discovery_is_refused(|s| s.url.clone(), |_| elsewhere.clone()).await;
    assert_eq!(other.asked("/jwks"), 0);

    let (server, signer) = (Server::start().await, Signer::ec("P-256"));
    server.discovery(&server.url, &elsewhere);
    other.keys(&[signer.jwk("k")]);
    let mut listed = server.settings();
    listed.jwks_hosts = vec![other.url.trim_start_matches("https://").to_owned()];
    listed.ca.as_mut().unwrap().push(other.ca.clone());
    let issuers = Issuers::with_limits(vec![listed], quick()).unwrap();
    issuers.start(&tokio::runtime::Handle::current());
    assert_eq!(judge(&issuers, &server.token(&signer, "k")).await, "verified ann");
    assert_eq!(other.asked("/jwks"), 1);
}

#[tokio::test]
async fn a_redirected_discovery_is_not_followed() {
    let (server, signer) = (Server::start().await, Signer::ec("P-256"));
    server.put(
        DISCOVERY,
        answer("301 Transferred Permanently", &format!("location: {}/moved\r\n", server.url), ""),
    );
    let issuers = server.issuers(quick());
    assert_eq!(judge(&issuers, &server.token(&signer, "k")).await, "the issuer's keys are not available");
    assert_eq!((server.asked("/moved"), server.asked("/jwks")), (0, 0));
}

#[tokio::test]
async fn a_server_that_no_configured_authority_vouches_for_is_not_believed() {
    let (server, stranger, signer) = (Server::start().await, Server::start().await, Signer::ec("P-256"));
    server.keys(&[signer.jwk("k")]);
    let mut wrong = server.settings();
    wrong.ca = Some(vec![stranger.ca.clone()]);
    let issuers = Issuers::with_limits(vec![wrong], quick()).unwrap();
    issuers.start(&tokio::runtime::Handle::current());
    assert_eq!(judge(&issuers, &server.token(&signer, "k")).await, "the issuer's keys are not available");
    assert_eq!(server.asked(DISCOVERY), 0);
}

#[tokio::test]
async fn a_hundred_reloads_fetch_once_more_and_dropping_the_issuers_ends_their_tasks() {
    let (server, signer) = (Server::start().await, Signer::ec("P-256"));
    server.keys(&[signer.jwk("k")]);
    let mut issuers = server.issuers(Limits::default());
    assert_eq!(judge(&issuers, &server.token(&signer, "k")).await, "verified ann");
    for _ in 0..100 {
        let next = Issuers::with_limits(vec![server.settings()], Limits::default()).unwrap();
        next.adopt(&issuers);
        next.start(&tokio::runtime::Handle::current());
        issuers = next;
        assert_eq!(verdict_now(&issuers, &server.token(&signer, "k")), "verified ann");
    }
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert_eq!((server.asked(DISCOVERY), server.asked("/jwks")), (2, 2));
    let keeper = Arc::downgrade(&issuers.list[0]);
    drop(issuers);
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert!(keeper.upgrade().is_none(), "nothing holds the keeper");
}

#[tokio::test]
async fn stopped_issuers_serve_known_keys_and_let_nobody_wait() {
    let (server, signer) = (Server::start().await, Signer::ec("P-256"));
    server.keys(&[signer.jwk("k")]);
    let issuers = server.issuers(Limits::default());
    assert_eq!(judge(&issuers, &server.token(&signer, "k")).await, "verified ann");
    issuers.stop();
    assert_eq!(verdict_now(&issuers, &server.token(&signer, "k")), "verified ann");
    assert_eq!(verdict_now(&issuers, &server.token(&signer, "new")), UNAVAILABLE);
    issuers.start(&tokio::runtime::Handle::current());
    assert_eq!(judge(&issuers, &server.token(&signer, "new")).await, "unknown key");
    assert_eq!(server.asked("/jwks"), 2, "asked for again after the start");
}
