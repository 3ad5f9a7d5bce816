//! Redis routes through a whole gateway, with a server that breaks every rule it can.

mod common;

use common::{Http, TLS12, Wish};
use staunch::policy::OnExpiry;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_rustls::{client, server};

const SOON: Duration = Duration::from_secs(10);
const LOGIN: &[u8] = b"*3\r\n$4\r\nAUTH\r\n$3\r\nsvc\r\n$15\r\nstored-password\r\n";
const OK: &[u8] = b"+OK\r\n";

type Client = client::TlsStream<TcpStream>;
type Upstream = server::TlsStream<TcpStream>;

fn command(words: &[&str]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len());
    words.iter().for_each(|word| bytes += &format!("${}\r\n{word}\r\n", word.len()));
    bytes.into_bytes()
}

async fn exactly(from: &mut (impl AsyncReadExt + Unpin), length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    timeout(SOON, from.read_exact(&mut bytes)).await.unwrap().unwrap();
    bytes
}

async fn line(from: &mut (impl AsyncReadExt + Unpin)) -> String {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n") {
        bytes.extend(exactly(from, 1).await);
    }
    String::from_utf8(bytes).unwrap()
}

/// All that comes until the end, and whether that end was a clean one.
async fn rest(mut from: impl AsyncReadExt + Unpin) -> (String, bool) {
    let mut bytes = Vec::new();
    let clean = timeout(SOON, from.read_to_end(&mut bytes)).await.unwrap().is_ok();
    (String::from_utf8_lossy(&bytes).into_owned(), clean)
}

async fn connect(http: &Http) -> Client {
    let mut config = (*http.rig.client).clone();
    config.alpn_protocols = Vec::new();
    http.rig.connect(config.into()).await.unwrap()
}

async fn with_token(http: &Http, lifetime: u64) -> Client {
    let mut client = connect(http).await;
    client.write_all(&command(&["AUTH", &http.token(lifetime)])).await.unwrap();
    client
}

/// The gateway's connection to the upstream, up to its login.
async fn upstream(http: &Http) -> Upstream {
    let mut upstream = http.rig.accept().await;
    assert_eq!(exactly(&mut upstream, LOGIN.len()).await, LOGIN);
    upstream
}

/// Both ends of a session that may begin.
async fn session(http: &Http, lifetime: u64) -> (Client, Upstream) {
    let (mut client, mut upstream) = tokio::join!(with_token(http, lifetime), upstream(http));
    upstream.write_all(OK).await.unwrap();
    assert_eq!(exactly(&mut client, OK.len()).await, OK);
    (client, upstream)
}

/// The mark at the front of what goes up, and its name.
async fn mark(upstream: &mut Upstream) -> String {
    assert_eq!(line(upstream).await, "*1\r\n");
    line(upstream).await;
    let name = line(upstream).await;
    assert!(name.starts_with("STAUNCH-"), "{name}");
    format!("-ERR unknown command '{}', with args beginning with: \r\n", name.trim_end())
}

#[tokio::test]
async fn logins_that_break_a_rule_end_and_the_client_hears_nothing_of_the_account() {
    let table: &[(&str, &[u8], &str)] = &[
        ("refused", b"-WRONGPASS bad svc canary\r\n", "does not let the gateway in"),
        ("no password there", b"-ERR AUTH canary\r\n", "does not let the gateway in"),
        ("loading", b"-LOADING canary\r\n", "is not ready"),
        ("full", b"-ERR max number of clients reached\r\n", "is not ready"),
        ("another reply", b"$2\r\nOK\r\n", "does not let the gateway in"),
        ("nonsense", b"HTTP/1.1 400 canary\r\n", "does not let the gateway in"),
        ("endless", &[b'+'; 5000], "does not let the gateway in"),
        ("gone", b"", "broke before it was ready"),
    ];
    for (what, said, words) in table {
        let http = Http::redis(Wish::default()).await;
        let server = async {
            let mut upstream = upstream(&http).await;
            upstream.write_all(said).await.unwrap();
            if said.is_empty() {
                upstream.shutdown().await.unwrap();
            }
            rest(upstream).await
        };
        let (client, _) = tokio::join!(with_token(&http, 600), server);
        let (told, clean) = rest(client).await;
        assert!(told.starts_with("-ERR the ") && told.contains(words) && clean, "{what}: {told}");
        assert!(told.contains("127.0.0.1") && told.contains("session "), "{what}: {told}");
        for secret in ["svc", "canary", "stored"] {
            assert!(!told.contains(secret), "{what}: {told}");
        }
    }
}

#[tokio::test]
async fn a_server_that_takes_too_long_over_the_login_is_given_up() {
    let http = Http::redis(Wish { connect: Duration::from_secs(1), ..Wish::default() }).await;
    let (client, _upstream) = tokio::join!(with_token(&http, 600), upstream(&http));
    assert!(rest(client).await.0.contains("broke before it was ready"));
}

#[tokio::test]
async fn bytes_come_through_one_by_one_and_in_order() {
    for client_version in [common::TLS13, TLS12] {
        let http = Http::redis(Wish { client: client_version, ..Wish::default() }).await;
        let (mut client, mut upstream) = session(&http, 600).await;
        let asked = [command(&["SET", "k", "v\r\n"]), b"PING\r\n".to_vec()].concat();
        for byte in &asked {
            client.write_all(&[*byte]).await.unwrap();
            client.flush().await.unwrap();
        }
        assert_eq!(exactly(&mut upstream, asked.len()).await, asked);
        let answer = b"+OK\r\n%1\r\n$1\r\na\r\n*2\r\n:1\r\n_\r\n>1\r\n+x\r\n";
        for byte in answer {
            upstream.write_all(&[*byte]).await.unwrap();
            upstream.flush().await.unwrap();
        }
        assert_eq!(exactly(&mut client, answer.len()).await, answer);
        client.shutdown().await.unwrap();
        assert_eq!(rest(upstream).await, (String::new(), true));
    }
}

#[tokio::test]
async fn what_is_pipelined_behind_the_token_waits_for_the_login() {
    let http = Http::redis(Wish::default()).await;
    let first =
        [command(&["HELLO", "3", "AUTH", "x", &http.token(600), "SETNAME", "me"]), command(&["PING"])];
    let client = async {
        let mut client = connect(&http).await;
        client.write_all(&first.concat()).await.unwrap();
        client
    };
    let (mut client, mut upstream) = tokio::join!(client, upstream(&http));
    let early = timeout(Duration::from_millis(200), upstream.read_u8()).await;
    assert!(early.is_err(), "nothing comes before the login is taken");
    upstream.write_all(OK).await.unwrap();
    let expected = [command(&["HELLO", "3", "SETNAME", "me"]), command(&["PING"])].concat();
    assert_eq!(exactly(&mut upstream, expected.len()).await, expected);
    upstream.write_all(b"%0\r\n+PONG\r\n").await.unwrap();
    assert_eq!(exactly(&mut client, 11).await, b"%0\r\n+PONG\r\n");
}

#[tokio::test]
async fn a_later_login_is_answered_in_its_place_and_no_token_goes_up() {
    let http = Http::redis(Wish::default()).await;
    let (mut client, mut upstream) = session(&http, 600).await;
    let token = http.token(600);
    let said = [
        command(&["GET", "a"]),
        command(&["AUTH", "canary"]),
        command(&["AUTH", &token]),
        command(&["HELLO", "2", "AUTH", "x", &token]),
        command(&["GET", "b"]),
    ];
    client.write_all(&said.concat()).await.unwrap();
    let first = command(&["GET", "a"]);
    assert_eq!(exactly(&mut upstream, first.len()).await, first);
    let refused = mark(&mut upstream).await;
    let auth = mark(&mut upstream).await;
    assert_eq!(exactly(&mut upstream, LOGIN.len()).await, LOGIN);
    upstream.write_all(format!("$1\r\n1\r\n{refused}{auth}+OK\r\n").as_bytes()).await.unwrap();
    assert_eq!(exactly(&mut client, 7).await, b"$1\r\n1\r\n");
    assert!(line(&mut client).await.starts_with("-WRONGPASS the token"));
    assert_eq!(exactly(&mut client, 5).await, b"+OK\r\n");
    // What stands behind a login goes up when that is decided.
    let again = mark(&mut upstream).await;
    let hello = command(&["HELLO", "2", "AUTH", "svc", "stored-password"]);
    assert_eq!(exactly(&mut upstream, hello.len()).await, hello);
    assert!(timeout(Duration::from_millis(200), upstream.read_u8()).await.is_err());
    upstream.write_all(format!("{again}%0\r\n").as_bytes()).await.unwrap();
    assert_eq!(exactly(&mut client, 4).await, b"%0\r\n");
    let next = command(&["GET", "b"]);
    assert_eq!(exactly(&mut upstream, next.len()).await, next);
    upstream.write_all(b":2\r\n").await.unwrap();
    assert_eq!(exactly(&mut client, 4).await, b":2\r\n");
    // Upstream, RESET leads to another user; the account is put in force again before the next command.
    client.write_all(&[command(&["RESET"]), command(&["PING"])].concat()).await.unwrap();
    let reset = command(&["RESET"]);
    assert_eq!(exactly(&mut upstream, reset.len()).await, reset);
    let marked = mark(&mut upstream).await;
    let expected = [LOGIN, &command(&["PING"])].concat();
    assert_eq!(exactly(&mut upstream, expected.len()).await, expected);
    upstream.write_all(format!("+RESET\r\n{marked}+OK\r\n+PONG\r\n").as_bytes()).await.unwrap();
    assert_eq!(exactly(&mut client, 15).await, b"+RESET\r\n+PONG\r\n");
}

#[tokio::test]
async fn a_guesser_gets_sixteen_tries() {
    let http = Http::redis(Wish::default()).await;
    let (mut client, upstream) = session(&http, 600).await;
    client.write_all(&command(&["AUTH", "guess"]).repeat(20)).await.unwrap();
    let (told, _) = rest(client).await;
    assert_eq!(told, "-ERR too many logins were refused\r\n");
    assert_eq!(rest(upstream).await.0.matches("STAUNCH-").count(), 16);
    // Before the permit there are 64.
    let mut client = connect(&http).await;
    client.write_all(&command(&["PING"]).repeat(100)).await.unwrap();
    assert_eq!(rest(client).await.0.matches("-NOAUTH ").count(), 64);
}

#[tokio::test]
async fn a_login_that_the_server_refuses_changes_nothing() {
    let cut = Wish { on_expiry: OnExpiry::Cut, ..Wish::default() };
    let http = Http::redis(cut).await;
    let (mut client, mut upstream) = session(&http, 600).await;
    // Its expiry would be near.
    let said = [command(&["AUTH", &http.token(1)]), command(&["GET", "a"])].concat();
    client.write_all(&said).await.unwrap();
    let marked = mark(&mut upstream).await;
    exactly(&mut upstream, LOGIN.len()).await;
    upstream.write_all(format!("{marked}-WRONGPASS canary\r\n").as_bytes()).await.unwrap();
    assert_eq!(line(&mut client).await, "-ERR the upstream does not let the gateway in\r\n");
    let next = command(&["GET", "a"]);
    assert_eq!(exactly(&mut upstream, next.len()).await, next);
    tokio::time::sleep(Duration::from_millis(2500)).await;
    upstream.write_all(b"$1\r\n1\r\n").await.unwrap();
    assert_eq!(exactly(&mut client, 7).await, b"$1\r\n1\r\n");
}

#[tokio::test]
async fn a_login_in_a_transaction_is_refused_and_the_permit_stays() {
    for ends in ["DISCARD", "EXEC"] {
        let http = Http::redis(Wish { on_expiry: OnExpiry::Cut, ..Wish::default() }).await;
        let (mut client, mut upstream) = session(&http, 600).await;
        let said = [command(&["MULTI"]), command(&["AUTH", &http.token(1)]), command(&[ends])].concat();
        client.write_all(&said).await.unwrap();
        let multi = command(&["MULTI"]);
        assert_eq!(exactly(&mut upstream, multi.len()).await, multi);
        let marked = mark(&mut upstream).await;
        let end = command(&[ends]);
        assert_eq!(exactly(&mut upstream, end.len()).await, end, "no account goes up");
        upstream.write_all(format!("+OK\r\n{marked}+END\r\n").as_bytes()).await.unwrap();
        assert_eq!(line(&mut client).await, "+OK\r\n");
        assert!(line(&mut client).await.starts_with("-ERR no login is taken inside MULTI"));
        assert_eq!(line(&mut client).await, "+END\r\n");
        tokio::time::sleep(Duration::from_millis(2500)).await;
        client.write_all(&command(&["GET", "a"])).await.unwrap();
        assert_eq!(exactly(&mut upstream, command(&["GET", "a"]).len()).await, command(&["GET", "a"]));
    }
}

#[tokio::test]
async fn a_login_that_the_server_takes_changes_the_permit() {
    let http = Http::redis(Wish { on_expiry: OnExpiry::Cut, ..Wish::default() }).await;
    let (mut client, mut upstream) = session(&http, 2).await;
    client.write_all(&command(&["AUTH", &http.token(600)])).await.unwrap();
    let marked = mark(&mut upstream).await;
    exactly(&mut upstream, LOGIN.len()).await;
    upstream.write_all(format!("{marked}+OK\r\n").as_bytes()).await.unwrap();
    assert_eq!(line(&mut client).await, "+OK\r\n");
    tokio::time::sleep(Duration::from_millis(3000)).await;
    client.write_all(&command(&["GET", "a"])).await.unwrap();
    assert_eq!(exactly(&mut upstream, command(&["GET", "a"]).len()).await, command(&["GET", "a"]));
}

#[tokio::test]
async fn a_blocked_client_that_leaves_takes_the_upstream_along_and_nobody_is_blamed() {
    let http = Http::redis(Wish::default()).await;
    let (mut client, mut upstream) = session(&http, 600).await;
    client.write_all(&command(&["BRPOP", "list", "0"])).await.unwrap();
    let blocked = command(&["BRPOP", "list", "0"]);
    assert_eq!(exactly(&mut upstream, blocked.len()).await, blocked);
    client.shutdown().await.unwrap();
    // Redis closes at once and has no close_notify to say.
    assert_eq!(rest(&mut upstream).await, (String::new(), true));
    drop(upstream.into_inner().0);
    assert_eq!(rest(client).await, (String::new(), true));
}

#[tokio::test]
async fn a_reply_that_is_cut_off_ends_uncleanly_and_one_that_is_awaited_is_told_of() {
    for (sent, told) in [(&b"$9\r\nab"[..], ""), (&b":1\r\n"[..], "-ERR the connection")] {
        let http = Http::redis(Wish::default()).await;
        let (mut client, mut upstream) = session(&http, 600).await;
        client.write_all(&command(&["GET", "a"]).repeat(2)).await.unwrap();
        upstream.write_all(sent).await.unwrap();
        upstream.flush().await.unwrap();
        assert_eq!(exactly(&mut client, sent.len()).await, sent);
        // Gone without close_notify.
        drop(upstream.into_inner().0);
        let (said, clean) = rest(client).await;
        assert!(!clean, "an end that the server did not mean must not look like one");
        assert!(said.starts_with(told) && said.is_empty() == told.is_empty(), "{said:?}");
    }
}

#[tokio::test]
async fn a_server_that_breaks_the_framing_is_found_out() {
    let http = Http::redis(Wish::default()).await;
    let (client, mut upstream) = session(&http, 600).await;
    upstream.write_all(b"?\r\n").await.unwrap();
    let (said, clean) = rest(client).await;
    assert!(said.is_empty() && !clean, "{said}");
}

#[tokio::test]
async fn an_expired_permit_waits_for_the_end_of_a_reply_but_not_for_long() {
    let cut = || Wish { on_expiry: OnExpiry::Cut, ..Wish::default() };
    let http = Http::redis(cut()).await;
    // Tokens end with a whole second of the wall clock.
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    tokio::time::sleep(Duration::from_nanos(1_000_000_000 - u64::from(now.subsec_nanos()))).await;
    let began = Instant::now();
    let (mut client, mut upstream) = session(&http, 2).await;
    upstream.write_all(b"$4\r\nab").await.unwrap();
    assert_eq!(exactly(&mut client, 6).await, b"$4\r\nab");
    tokio::time::sleep_until(began + Duration::from_millis(2300)).await;
    upstream.write_all(b"cd\r\n:1\r\n").await.unwrap();
    let (said, clean) = rest(client).await;
    assert!(said.starts_with("cd\r\n-NOAUTH the permit") && clean, "{said}");
    // It does not come: the end is an unclean one, for nobody can tell where the reply would have ended.
    let http = Http::redis(cut()).await;
    let (mut client, mut upstream) = session(&http, 1).await;
    upstream.write_all(b"$4\r\nab").await.unwrap();
    assert_eq!(exactly(&mut client, 6).await, b"$4\r\nab");
    assert_eq!(rest(client).await, (String::new(), false));
}

#[tokio::test]
async fn an_idle_session_ends_without_a_word() {
    let http = Http::redis(Wish { idle: Duration::from_secs(1), ..Wish::default() }).await;
    let (client, upstream) = session(&http, 600).await;
    assert_eq!(rest(client).await, (String::new(), true));
    drop(upstream);
}
