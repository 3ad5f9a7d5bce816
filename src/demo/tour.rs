//! The steps of the tour. Each shows what happens and checks it.

use super::Running;
use super::client::Reply;
use super::screen::Screen;
use super::server::Encryption;
use super::setup::{NAME, PERMITTED, ROUTE, STRANGER, Setup};
use super::text::{Events, printable, wrap};
use super::upstream::{ANSWER, CARD, MODEL, Seen};
use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use hyper::{Method, Request, StatusCode};
use serde_json::{Value, json};
use std::fs;
use std::io;
use std::time::{Duration, Instant};

/// Steps that failed, by number, and why.
pub(super) type Faults = Vec<(usize, String)>;

/// A step tells what went wrong; it can also fail to print.
type Step<T = ()> = io::Result<Result<T, String>>;

/// Gives back from the step with the fault.
macro_rules! check {
    ($result:expr) => {
        match $result {
            Ok(value) => value,
            Err(fault) => return Ok(Err(fault)),
        }
    };
}

/// Walks through all steps. Without a token or an answer there is nothing to show, so the tour ends there.
pub(super) fn walk(setup: &Setup, screen: &mut Screen<'_>, gateway: &mut dyn Running) -> io::Result<Faults> {
    let mut faults = Faults::new();
    screen.step(1, "A token from the issuer")?;
    let token = match token(setup, screen)? {
        Ok(token) => token,
        Err(fault) => return Ok(vec![(1, fault)]),
    };
    screen.step(2, "A request through the gateway")?;
    let chat = match chat(setup, screen, &token, gateway)? {
        Ok(seen) => seen,
        Err(fault) => return Ok(vec![(2, fault)]),
    };
    let mut note = |step, result: Result<(), String>| faults.extend(result.err().map(|fault| (step, fault)));
    screen.step(3, "Without TLS")?;
    note(3, plaintext(setup, screen)?);
    screen.step(4, "With a token that is no good")?;
    note(4, refusals(setup, screen, &token)?);
    screen.step(5, "What the upstream saw")?;
    note(5, proof(setup, screen, &token, &chat)?);
    screen.step(6, "What the gateway wrote down")?;
    note(6, evidence(setup, screen, &token, gateway)?);
    screen.step(7, "A card number in the answer")?;
    note(7, masked(setup, screen, &token)?);
    screen.step(8, "What auditors find")?;
    note(8, recorded(setup, screen, &token, gateway)?);
    Ok(faults)
}

fn token(setup: &Setup, screen: &mut Screen<'_>) -> Step<String> {
    let url = setup.issuer.url();
    let address = url.trim_start_matches("https://");
    let client = setup.issuer.client();
    let (user, group) = PERMITTED;
    let form = format!(
        "grant_type=client_credentials&client_id={}&client_secret={}&user={user}",
        client.id, client.secret
    );
    let request = Request::post("/token")
        .header(HOST, address)
        .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
        .body(Full::from(form))
        .expect("the request is well-formed");
    let address = check!(address.parse().map_err(|_| format!("'{url}' has no address")));
    let reply = check!(setup.client.send(address, "127.0.0.1", request, |_| {}));
    let body: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
    let Some(token) = body["access_token"].as_str().filter(|_| reply.status == StatusCode::OK) else {
        return Ok(Err(format!("the token endpoint answered {}", reply.status)));
    };
    check!(setup.folder.write("token", token).map_err(|e| format!("the token's file: {e}")));
    screen.fact("subject", &format!("{user}, in the group '{group}'"))?;
    screen.fact("token", &format!("JWT, ES256, {} bytes, good for {} s", token.len(), body["expires_in"]))?;
    screen.done("the issuer's token endpoint gave a token")?;
    Ok(Ok(token.to_owned()))
}

fn chat(setup: &Setup, screen: &mut Screen<'_>, token: &str, gateway: &mut dyn Running) -> Step<Seen> {
    check!(wait_until_ready(setup, token, gateway));
    screen.line("")?;
    screen.piece("   ")?;
    let body =
        json!({"model": MODEL, "stream": true, "messages": [{"role": "user", "content": "Is it tight?"}]});
    let (mut events, mut said, mut printed) = (Events::default(), String::new(), Ok(()));
    let begin = Instant::now();
    let (mut first, mut last) = (None, Duration::ZERO);
    let reply = setup.client.send(
        setup.gateway,
        NAME,
        ask(Method::POST, "/v1/chat/completions", Some(token), body),
        |piece| {
            for word in events.push(piece) {
                first.get_or_insert(begin.elapsed());
                last = begin.elapsed();
                if printed.is_ok() {
                    printed = screen.piece(&wrap(&said, &word));
                }
                said.push_str(&word);
            }
        },
    );
    printed?;
    screen.line("\n")?;
    let reply = check!(reply);
    if reply.status != StatusCode::OK {
        return Ok(Err(format!("the gateway answered {}", describe(&reply))));
    }
    if said != ANSWER || !events.done {
        return Ok(Err("the answer is not what the upstream said".into()));
    }
    let seen = setup.upstream.seen().pop();
    let seen = check!(seen.ok_or_else(|| String::from("the upstream saw no request")));
    screen.fact("identity", &format!("{} (token, issuer 'demo')", PERMITTED.0))?;
    screen.fact("route", &format!("{ROUTE}: {NAME} → {}", setup.upstream.address()))?;
    screen.fact("client leg", &show(&reply.encryption, "as the client sees it"))?;
    screen.fact("upstream leg", &show(&seen.encryption, "as the upstream sees it"))?;
    let first = first.unwrap_or_default();
    screen.fact(
        "time",
        &format!("first word after {} ms, last after {} ms", first.as_millis(), last.as_millis()),
    )?;
    // The upstream takes about a second to say it; an answer that was held back comes all at once.
    if last - first < Duration::from_millis(200) {
        return Ok(Err("the answer was held back and came all at once".into()));
    }
    screen.done("the answer came word by word, as the upstream said it")?;
    Ok(Ok(seen))
}

fn masked(setup: &Setup, screen: &mut Screen<'_>, token: &str) -> Step {
    let body = json!({"model": MODEL, "stream": true, "messages": [{"role": "user", "content": "Which card is it?"}]});
    let (mut events, mut words, mut gaps) = (Events::default(), Vec::new(), Vec::new());
    let mut last = Instant::now();
    let request = ask(Method::POST, "/v1/chat/completions", Some(token), body);
    let reply = setup.client.send(setup.gateway, NAME, request, |piece| {
        let more = events.push(piece);
        if !more.is_empty() {
            gaps.push(last.elapsed());
            last = Instant::now();
        }
        words.extend(more);
    });
    let reply = check!(reply);
    screen.fact("said", &CARD.join("|"))?;
    screen.fact("arrived", &words.join("|"))?;
    let longest = gaps.into_iter().skip(1).max().unwrap_or_default();
    screen.fact("longest pause", &format!("{} ms", longest.as_millis()))?;
    if reply.status != StatusCode::OK || words.concat() != "The card is 4111 11** **** 1111." {
        return Ok(Err("the card number did not arrive masked".into()));
    }
    if longest > Duration::from_secs(3) {
        return Ok(Err("the answer stalled".into()));
    }
    screen.done("masked over eleven tokens, at equal length; the rest came as it was said")?;
    Ok(Ok(()))
}

fn recorded(setup: &Setup, screen: &mut Screen<'_>, token: &str, gateway: &mut dyn Running) -> Step {
    let (log, _) = check!(logged_request(setup, gateway));
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    // The first: what was asked in step 2.
    let mut chats = lines.filter(|line| line["event"] == "request" && line["path"] == "/v1/chat/completions");
    let line = check!(chats.next().ok_or_else(|| String::from("the log has no line for the request")));
    super::recorded::show(setup, screen, &line, token)
}

fn plaintext(setup: &Setup, screen: &mut Screen<'_>) -> Step {
    let before = setup.upstream.seen().len();
    let request = format!("GET /v1/models HTTP/1.1\r\nHost: {NAME}\r\nConnection: close\r\n\r\n");
    let answer = check!(setup.client.plaintext(setup.gateway, &request));
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.lines().next().unwrap_or_default();
    screen.fact("sent", &format!("GET http://{NAME}:{}/v1/models", setup.gateway.port()))?;
    screen.fact("answer", &printable(&format!("{status}  {body}")))?;
    if !status.starts_with("HTTP/1.1 400 ") {
        return Ok(Err(format!("a plaintext request was answered '{}', not 400", printable(status))));
    }
    check!(untouched(setup, before));
    screen.done("refused at the first byte; nothing reached the upstream")?;
    Ok(Ok(()))
}

fn refusals(setup: &Setup, screen: &mut Screen<'_>, token: &str) -> Step {
    let before = setup.upstream.seen().len();
    let stranger = setup.issuer.token(STRANGER.0, &[STRANGER.1.into()], Duration::from_secs(300));
    let table = [
        ("no token", None, StatusCode::UNAUTHORIZED, "Bearer"),
        ("a forged one", Some(forged(token)), StatusCode::UNAUTHORIZED, "error=\"invalid_token\""),
        ("eve's", Some(stranger), StatusCode::FORBIDDEN, "error=\"insufficient_scope\""),
    ];
    for (name, token, status, challenge) in table {
        let request = ask(Method::GET, "/v1/models", token.as_deref(), Value::Null);
        let reply = check!(setup.client.send(setup.gateway, NAME, request, |_| {}));
        screen.fact(name, &describe(&reply))?;
        if reply.status != status {
            return Ok(Err(format!("{name}: the gateway answered {}, not {status}", reply.status)));
        }
        if !reply.challenge.as_deref().is_some_and(|c| c.contains(challenge)) {
            return Ok(Err(format!("{name}: the answer has no WWW-Authenticate with {challenge}")));
        }
    }
    check!(untouched(setup, before));
    screen.done("each refused with its reason; nothing reached the upstream")?;
    Ok(Ok(()))
}

fn proof(setup: &Setup, screen: &mut Screen<'_>, token: &str, chat: &Seen) -> Step {
    let shown = &setup.stored_key[.."sk-demo-".len() + 4];
    let signature = token.rsplit('.').next().unwrap_or(token);
    if !chat.authorised {
        return Ok(Err("the upstream did not get the stored key".into()));
    }
    screen.fact("authorization", &format!("Bearer {shown}… (the stored key)"))?;
    if setup.upstream.seen().iter().any(|seen| seen.contains(token) || seen.contains(signature)) {
        return Ok(Err("the user's token arrived at the upstream".into()));
    }
    screen.fact(
        "looked through",
        &format!("{} requests: targets, headers, bodies", setup.upstream.seen().len()),
    )?;
    screen.done("the stored key arrived, the user's token did not")?;
    Ok(Ok(()))
}

fn evidence(setup: &Setup, screen: &mut Screen<'_>, token: &str, gateway: &mut dyn Running) -> Step {
    let (log, line) = check!(logged_request(setup, gateway));
    for field in ["route", "subject", "method", "path", "status", "down_bytes"] {
        screen.fact(field, &printable(line[field].to_string().trim_matches('"')))?;
    }
    if line["subject"] != PERMITTED.0 || line["route"] != ROUTE || line["verdict"] != "permitted" {
        return Ok(Err(format!("the log tells another story: {line}")));
    }
    let signature = token.rsplit('.').next().unwrap_or(token);
    if log.contains(signature) || log.contains(&setup.stored_key) {
        return Ok(Err("the token or the stored key stands in the log".into()));
    }
    screen.done("who, what and whether; neither the token nor the key")?;
    Ok(Ok(()))
}

/// The log, and the line of the chat in it. It may come a moment after the answer.
fn logged_request(setup: &Setup, gateway: &mut dyn Running) -> Result<(String, Value), String> {
    let end = Instant::now() + Duration::from_secs(5);
    loop {
        let log = fs::read_to_string(&setup.log).unwrap_or_default();
        let mut lines = log.lines().filter_map(|l| serde_json::from_str::<Value>(l).ok());
        if let Some(line) = lines.rfind(|l| l["event"] == "request" && l["path"] == "/v1/chat/completions") {
            return Ok((log, line));
        }
        if gateway.ended() || Instant::now() > end {
            return Err("the log has no line for the request".into());
        }
        std::thread::sleep(POLL_INTERVAL);
    }
}

/// The gateway may still be starting, or fetching the issuer's keys (503).
fn wait_until_ready(setup: &Setup, token: &str, gateway: &mut dyn Running) -> Result<(), String> {
    let end = Instant::now() + Duration::from_secs(15);
    loop {
        let request = ask(Method::GET, "/v1/models", Some(token), Value::Null);
        let why = match setup.client.send(setup.gateway, NAME, request, |_| {}) {
            Ok(reply) if reply.status != StatusCode::SERVICE_UNAVAILABLE => return Ok(()),
            Ok(reply) => describe(&reply),
            Err(why) => why,
        };
        if gateway.ended() {
            return Err("the gateway ended before it was ready".into());
        }
        if Instant::now() > end {
            return Err(format!("the gateway does not get ready: {why}"));
        }
        std::thread::sleep(POLL_INTERVAL);
    }
}

/// Between two looks at something that is about to happen.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

fn untouched(setup: &Setup, before: usize) -> Result<(), String> {
    if setup.upstream.seen().len() == before { Ok(()) } else { Err("it reached the upstream".into()) }
}

/// Keeps a session alive for the live page; one that is ended there comes again after a while.
pub(super) fn hold_stream_open(setup: &mut Setup) {
    let (Some(client), Ok(token)) = (setup.watched.take(), fs::read_to_string(&setup.token_file)) else {
        return;
    };
    let gateway = setup.gateway;
    let body =
        json!({"model": MODEL, "stream": true, "messages": [{"role": "user", "content": "Still tight?"}]});
    // It ends with the process.
    std::thread::spawn(move || {
        loop {
            let request = || ask(Method::POST, "/v1/chat/completions", Some(token.trim()), body.clone());
            // How it ends is for the page to tell.
            let _ = client.keep_asking(gateway, NAME, request);
            std::thread::sleep(STREAM_PAUSE);
        }
    });
}

/// Until a stream that was ended comes again.
const STREAM_PAUSE: Duration = Duration::from_secs(10);

fn ask(method: Method, path: &str, token: Option<&str>, body: Value) -> Request<Full<Bytes>> {
    let mut request = Request::builder().method(method).uri(path).header(HOST, NAME);
    if let Some(token) = token {
        request = request.header(AUTHORIZATION, format!("Bearer {token}"));
    }
    let body = if body.is_null() { String::new() } else { body.to_string() };
    request.header(CONTENT_TYPE, "application/json").body(body.into()).expect("the request is well-formed")
}

/// The same token with one bit of its signature turned over.
fn forged(token: &str) -> String {
    let at = token.rfind('.').map_or(0, |dot| dot + 1);
    let other = if token[at..].starts_with('A') { "B" } else { "A" };
    format!("{}{other}{}", &token[..at], &token[at + 1..])
}

fn show(leg: &Encryption, who: &str) -> String {
    format!("{}  {}  {}  ({who})", leg.version, leg.cipher, leg.group)
}

/// Status and the message of the gateway's JSON body.
fn describe(reply: &Reply) -> String {
    let body: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
    printable(&format!("{}  {}", reply.status, body["error"]["message"].as_str().unwrap_or_default()))
}
