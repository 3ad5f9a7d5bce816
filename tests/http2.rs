//! HTTP/2 routes through a whole gateway, with the h2 crate as client and as upstream.

mod common;

use common::{Http, Wish};
use h2::client::SendRequest;
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::{HeaderMap, Request, Response};
use hyper::body::Bytes;
use staunch::policy::OnExpiry;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::server::TlsStream;

const SOON: Duration = Duration::from_secs(20);

fn wish() -> Wish {
    Wish { upstream_alpn: vec!["h2"], ..Wish::default() }
}

/// Opens a client connection; its driver runs by itself.
async fn client(http: &Http) -> SendRequest<Bytes> {
    let (client, connection) = h2::client::handshake(http.connect("h2").await).await.unwrap();
    tokio::spawn(async move {
        // How it ends is each test's own question.
        let _ = connection.await;
    });
    client.ready().await.unwrap()
}

/// Serves every upstream connection with `handle`, one task for each request.
async fn upstream<F>(http: &Http, handle: fn(Request<RecvStream>, SendResponse<Bytes>) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    loop {
        let tcp = http.rig.accept().await;
        tokio::spawn(async move {
            let mut builder = h2::server::Builder::new();
            builder.initial_window_size(1 << 20).initial_connection_window_size(1 << 20);
            let Ok(mut connection) = builder.handshake::<_, Bytes>(tcp).await else { return };
            while let Some(Ok((request, respond))) = connection.accept().await {
                tokio::spawn(handle(request, respond));
            }
        });
    }
}

/// Runs a test beside its upstream.
async fn beside<F>(
    http: &Http,
    handle: fn(Request<RecvStream>, SendResponse<Bytes>) -> F,
    test: impl Future<Output = ()>,
) where
    F: Future<Output = ()> + Send + 'static,
{
    tokio::select! {
        () = upstream(http, handle) => {}
        done = timeout(SOON, test) => done.expect("in time"),
    }
}

/// Answers with the request's fields as text, then with its body, then with a trailer.
async fn echo(request: Request<RecvStream>, mut respond: SendResponse<Bytes>) {
    let (head, mut body) = request.into_parts();
    let response = Response::builder().status(200).header("x-path", head.uri.path());
    let mut send = respond.send_response(response.body(()).unwrap(), false).unwrap();
    let authority = head.uri.authority().map_or("", |a| a.as_str());
    let text = format!("{} {authority} {:?}\n", head.method, head.headers);
    send_all(&mut send, text.into()).await;
    while let Some(chunk) = body.data().await {
        let Ok(chunk) = chunk else { return };
        body.flow_control().release_capacity(chunk.len()).unwrap();
        send_all(&mut send, chunk).await;
    }
    let mut trailers = HeaderMap::new();
    trailers.insert("x-end", "here".parse().unwrap());
    let _ = send.send_trailers(trailers);
}

/// Answers with the request's body in one frame.
async fn whole(request: Request<RecvStream>, mut respond: SendResponse<Bytes>) {
    let (head, mut body) = request.into_parts();
    let response = Response::builder().header("x-path", head.uri.path()).body(()).unwrap();
    let Ok(text) = read(&mut body).await else { return };
    let mut send = respond.send_response(response, false).unwrap();
    let _ = send.send_data(text.into(), true);
}

async fn send_all(send: &mut h2::SendStream<Bytes>, mut data: Bytes) {
    while !data.is_empty() {
        send.reserve_capacity(data.len());
        let Some(Ok(room)) = std::future::poll_fn(|cx| send.poll_capacity(cx)).await else { return };
        if send.send_data(data.split_to(room.min(data.len())), false).is_err() {
            return;
        }
    }
}

/// Reads a body whole.
async fn read(body: &mut RecvStream) -> Result<Vec<u8>, h2::Error> {
    let mut all = Vec::new();
    while let Some(chunk) = body.data().await {
        let chunk = chunk?;
        body.flow_control().release_capacity(chunk.len())?;
        all.extend_from_slice(&chunk);
    }
    Ok(all)
}

fn get(token: &str) -> Request<()> {
    let request =
        Request::get("https://route.test/v1/models?x=1").header("authorization", format!("Bearer {token}"));
    request.header("x-keep", "1").body(()).unwrap()
}

#[tokio::test]
async fn the_token_goes_out_and_the_credential_goes_in() {
    let http = Http::start(wish()).await;
    let test = async {
        let token = http.token(60);
        let mut client = client(&http).await;
        let (response, _) = client.send_request(get(&token), true).unwrap();
        let (head, mut body) = response.await.unwrap().into_parts();
        assert_eq!((head.status.as_u16(), head.headers["x-path"].to_str().unwrap()), (200, "/v1/models"));
        let text = String::from_utf8(read(&mut body).await.unwrap()).unwrap();
        assert!(text.starts_with("GET upstream.test "), "{text}");
        assert!(!text.contains(&token) && text.contains("Bearer stored-key"), "{text}");
        assert!(
            text.contains("x-keep") && text.contains("x-request-id") && text.contains("x-forwarded-for"),
            "{text}"
        );
        assert_eq!(body.trailers().await.unwrap().unwrap()["x-end"], "here");
    };
    beside(&http, echo, test).await;
}

#[tokio::test]
async fn a_field_of_tokens_that_stands_twice_is_refused_as_on_http_1_1() {
    let http = Http::start(wish()).await;
    let test = async {
        let token = http.token(60);
        let mut client = client(&http).await;
        for (name, value) in [("authorization", format!("Bearer {token}")), ("x-api-key", token.clone())] {
            for other in [&value, "Basic YTpi", ""] {
                let request = Request::get("https://route.test/").header(name, &value).header(name, other);
                let (response, _) = client.send_request(request.body(()).unwrap(), true).unwrap();
                let head = response.await.unwrap().into_parts().0;
                let challenge = head.headers["www-authenticate"].to_str().unwrap();
                assert_eq!(head.status.as_u16(), 400, "{name}: {other}");
                assert!(challenge.contains("invalid_request"), "{name}: {other}: {challenge}");
            }
        }
        let (response, _) = client.send_request(get(&token), true).unwrap();
        assert_eq!(response.await.unwrap().status().as_u16(), 200, "the connection goes on");
    };
    beside(&http, echo, test).await;
}

#[tokio::test]
async fn large_bodies_flow_both_ways_at_once() {
    let http = Http::start(wish()).await;
    let test = async {
        let request =
            Request::post("https://route.test/upload").header("x-api-key", http.token(60)).body(()).unwrap();
        let mut client = client(&http).await;
        let (response, mut send) = client.send_request(request, false).unwrap();
        let data: Vec<u8> = (0..5_000_000u32).map(|n| (n.wrapping_mul(n) / 7) as u8).collect();
        let sent = Bytes::from(data.clone());
        let sender = async move {
            send_all(&mut send, sent).await;
            send.send_data(Bytes::new(), true).unwrap();
        };
        let receiver = async move { read(&mut response.await.unwrap().into_body()).await.unwrap() };
        let ((), got) = tokio::join!(sender, receiver);
        let head = got.iter().position(|byte| *byte == b'\n').unwrap() + 1;
        assert!(got[head..] == data[..], "the body came back changed");
    };
    beside(&http, echo, test).await;
}

#[tokio::test]
async fn a_refused_stream_leaves_the_others_alone() {
    let http = Http::start(wish()).await;
    let test = async {
        let mut client = client(&http).await;
        let good = http.token(60);
        for round in 0..50 {
            // The very first stream is refused before there is an upstream.
            let bad = Request::post("https://route.test/bad").header("authorization", "Bearer a.b.c");
            let (refused, mut send) = client.send_request(bad.body(()).unwrap(), false).unwrap();
            // More than a window's worth in all rounds together: it must be given back.
            send.reserve_capacity(16_000);
            let _ = send.send_data(vec![0; 4_000].into(), true);
            let refused = refused.await.unwrap();
            assert_eq!(refused.status(), 401, "round {round}");
            assert!(refused.headers()["www-authenticate"].to_str().unwrap().contains("invalid_token"));
            let (response, _) = client.send_request(get(&good), true).unwrap();
            let mut body = response.await.unwrap().into_body();
            assert!(!read(&mut body).await.unwrap().is_empty());
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
    };
    beside(&http, echo, test).await;
}

#[tokio::test]
async fn grpc_is_refused_with_trailers_only() {
    let http = Http::start(wish()).await;
    let test = async {
        let stranger = http.issuer.token("eve", &[], Duration::from_secs(60));
        let mut client = client(&http).await;
        let table = [("a.b.c".to_owned(), "16"), (stranger, "7")];
        for (token, status) in table {
            let request = Request::post("https://route.test/pkg.Service/Method")
                .header("content-type", "application/grpc")
                .header("te", "trailers")
                .header("authorization", format!("Bearer {token}"));
            let (response, _) = client.send_request(request.body(()).unwrap(), true).unwrap();
            let response = response.await.unwrap();
            assert_eq!(response.status(), 200);
            assert_eq!(response.headers()["grpc-status"], status);
            assert!(response.into_body().is_end_stream());
        }
    };
    beside(&http, echo, test).await;
}

#[tokio::test]
async fn a_hundred_streams_run_at_once() {
    let http = Http::start(wish()).await;
    let test = async {
        let token = http.token(60);
        let mut client = client(&http).await;
        let mut responses = Vec::new();
        for n in 0..100 {
            let request = Request::post(format!("https://route.test/{n}")).header("api-key", &token);
            client = client.ready().await.unwrap();
            let (response, mut send) = client.send_request(request.body(()).unwrap(), false).unwrap();
            send.send_data(format!("body {n}").into(), true).unwrap();
            responses.push(response);
        }
        for (n, response) in responses.into_iter().enumerate() {
            let (head, mut body) = response.await.unwrap().into_parts();
            assert_eq!(head.headers["x-path"].to_str().unwrap(), format!("/{n}"));
            let text = String::from_utf8(read(&mut body).await.unwrap()).unwrap();
            assert!(text.ends_with(&format!("body {n}")), "{text}");
        }
    };
    beside(&http, whole, test).await;
}

/// Sends a first byte at once and a last one after three seconds.
async fn slow(_: Request<RecvStream>, mut respond: SendResponse<Bytes>) {
    let mut send = respond.send_response(Response::new(()), false).unwrap();
    send_all(&mut send, "a".into()).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let _ = send.send_data("z".into(), true);
}

#[tokio::test]
async fn expiry_drains_by_default_and_resets_the_stream_where_told() {
    for (on_expiry, cut) in [(OnExpiry::Drain, false), (OnExpiry::Cut, true)] {
        let http = Http::start(Wish { on_expiry, ..wish() }).await;
        let test = async {
            let mut client = client(&http).await;
            let (response, _) = client.send_request(get(&http.token(2)), true).unwrap();
            let mut body = response.await.unwrap().into_body();
            let ended = read(&mut body).await;
            match cut {
                false => assert_eq!(ended.unwrap(), b"az"),
                true => assert_eq!(ended.unwrap_err().reason(), Some(Reason::CANCEL)),
            }
            // The connection goes on for whoever has a fresh token.
            let (response, _) = client.send_request(get(&http.token(60)), true).unwrap();
            assert_eq!(response.await.unwrap().status(), 200);
        };
        beside(&http, slow, test).await;
    }
}

#[tokio::test]
async fn draining_says_goaway_and_lets_streams_finish() {
    let http = Http::start(wish()).await;
    let test = async {
        let mut client = client(&http).await;
        let (response, _) = client.send_request(get(&http.token(60)), true).unwrap();
        let mut body = response.await.unwrap().into_body();
        http.rig.workers.drain();
        tokio::time::sleep(Duration::from_millis(200)).await;
        let refused = match client.ready().await {
            Ok(mut client) => client.send_request(get(&http.token(60)), true).unwrap().0.await.err(),
            Err(error) => Some(error),
        };
        assert!(refused.is_some(), "a new stream after GOAWAY");
        assert_eq!(read(&mut body).await.unwrap(), b"az");
    };
    beside(&http, slow, test).await;
}

#[tokio::test]
async fn a_client_of_http2_gets_no_route_that_speaks_only_http11() {
    let http = Http::start(Wish { upstream_alpn: vec!["http/1.1"], ..Wish::default() }).await;
    let test = async {
        let mut config = (*http.rig.client).clone();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let refused = http.rig.connect(std::sync::Arc::new(config)).await.unwrap_err();
        assert!(refused.to_string().contains("NoApplicationProtocol"), "{refused}");
        // A client that can do both is given what the upstream can.
        let mut config = (*http.rig.client).clone();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let both = http.rig.connect(std::sync::Arc::new(config)).await.unwrap();
        assert_eq!(both.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    };
    beside(&http, echo, test).await;
}

/// How many requests a connection may have refused before one is permitted.
const REFUSALS: usize = 64;

#[tokio::test]
async fn enough_refusals_before_a_permit_end_the_connection_and_one_permit_ends_the_count() {
    let http = Http::start(wish()).await;
    let refuse = async |client: &mut SendRequest<Bytes>| {
        let (response, _) = client.send_request(get("a.b.c"), true)?;
        let status = response.await?.status();
        // The answer is there before the GOAWAY behind it.
        tokio::time::sleep(Duration::from_millis(2)).await;
        Ok::<_, h2::Error>(status)
    };
    let test = async {
        let mut eve = client(&http).await;
        for n in 0..REFUSALS {
            assert_eq!(refuse(&mut eve).await.unwrap(), 401, "request {n}");
        }
        assert!(eve.ready().await.is_err(), "a connection that only tries goes on");

        let mut ann = client(&http).await;
        let (response, _) = ann.send_request(get(&http.token(60)), true).unwrap();
        assert_eq!(response.await.unwrap().status(), 200);
        for n in 0..2 * REFUSALS {
            assert_eq!(refuse(&mut ann).await.unwrap(), 401, "request {n} behind a permit");
        }
        let (response, _) = ann.send_request(get(&http.token(60)), true).unwrap();
        assert_eq!(response.await.unwrap().status(), 200);
    };
    beside(&http, echo, test).await;
}

/// How an upstream leaves that has sent all of its answer.
#[derive(Clone, Copy, Debug)]
enum Leaving {
    CloseNotify,
    Fin,
    Reset,
}

/// A refusal's body took window of which the upstream does not know, so that the end of its answer waits for credit.
#[tokio::test]
async fn an_upstream_that_leaves_while_its_answer_waits_for_credit_takes_nothing_of_it_along() {
    for leaving in [Leaving::CloseNotify, Leaving::Fin, Leaving::Reset] {
        for ends in [true, false] {
            let http = Http::start(wish()).await;
            let ask = async {
                let mut client = http.connect("h2").await;
                let asked = [
                    &b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..],
                    &frame(SETTINGS, 0, 0, &[]),
                    &frame(HEADERS, END_STREAM | END_HEADERS, 1, &get_block("a.b.c")),
                    &frame(HEADERS, END_STREAM | END_HEADERS, 3, &get_block(&http.token(60))),
                ];
                client.write_all(&asked.concat()).await.unwrap();
                client
            };
            let both = async { tokio::join!(ask, answer(&http, ends)) };
            let (mut client, upstream) = timeout(SOON, both).await.unwrap();
            let (mut debt, mut got, mut last) = (0, 0, 0);
            while debt == 0 || got + debt < WINDOW {
                match timeout(SOON, read_frame(&mut client)).await.unwrap() {
                    (DATA, _, 1, payload) => debt += payload.len(),
                    (DATA, flags, 3, payload) => (got, last) = (got + payload.len(), flags),
                    (RST_STREAM | GOAWAY, _, stream, payload) => panic!("{leaving:?}: {stream} {payload:?}"),
                    _ => {}
                }
            }
            assert_eq!(last, 0, "{leaving:?}: there is more");
            leave(upstream, leaving).await;
            // Credit of one octet at a time: each goes on to an upstream that is gone.
            while got < WINDOW {
                client.write_all(&frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1])).await.unwrap();
                let (kind, flags, stream, payload) = timeout(SOON, read_frame(&mut client)).await.unwrap();
                assert_eq!((kind, stream, payload.len()), (DATA, 3, 1), "{leaving:?}: {got}");
                (got, last) = (got + 1, flags);
            }
            match ends {
                true => assert_eq!(last, END_STREAM, "{leaving:?}"),
                false => loop {
                    let (kind, _, stream, _) = timeout(SOON, read_frame(&mut client)).await.unwrap();
                    if kind == RST_STREAM {
                        break assert_eq!(stream, 3, "{leaving:?}");
                    }
                },
            }
        }
    }
}

const WINDOW: usize = 65_535;
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = &(payload.len() as u32).to_be_bytes()[1..];
    [length, &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A GET's header block, in literals.
fn get_block(token: &str) -> Vec<u8> {
    let mut block = vec![0x82, 0x84, 0x87, 0x01, 10];
    block.extend_from_slice(b"route.test");
    let value = format!("Bearer {token}");
    block.extend_from_slice(&[0x0f, 8, 0x7f]);
    // Lengths from 127 on go on in septets (RFC 7541 section 5.1).
    let rest = value.len().checked_sub(127);
    match rest {
        None => *block.last_mut().unwrap() = value.len() as u8,
        Some(rest) => block.extend_from_slice(&[0x80 | (rest % 128) as u8, (rest / 128) as u8]),
    }
    block.extend_from_slice(value.as_bytes());
    block
}

async fn read_frame(from: &mut (impl AsyncRead + Unpin)) -> (u8, u8, u32, Vec<u8>) {
    let mut head = [0; 9];
    from.read_exact(&mut head).await.unwrap();
    let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
    from.read_exact(&mut payload).await.unwrap();
    (head[3], head[4], u32::from_be_bytes([head[5], head[6], head[7], head[8]]), payload)
}

/// The upstream: takes the request and answers with as much as the window allows.
async fn answer(http: &Http, ends: bool) -> TlsStream<TcpStream> {
    let mut preface = [0; 24];
    let mut tls = loop {
        let mut tls = http.rig.accept().await;
        // Before the first request the gateway asks what the upstream speaks, and leaves.
        if tls.read_exact(&mut preface).await.is_ok() {
            break tls;
        }
    };
    let stream = loop {
        if let (HEADERS, _, stream, _) = read_frame(&mut tls).await {
            break stream;
        }
    };
    let mut said = [frame(SETTINGS, 0, 0, &[]), frame(HEADERS, END_HEADERS, stream, &[0x88])].concat();
    for _ in 0..3 {
        said.extend(frame(DATA, 0, stream, &[1; 16_384]));
    }
    said.extend(frame(DATA, 0, stream, &[1; 8_000]));
    tls.write_all(&said).await.unwrap();
    // In a record of its own: who has passed on some of it has read all of it.
    let last = frame(DATA, if ends { END_STREAM } else { 0 }, stream, &[2; WINDOW - 3 * 16_384 - 8_000]);
    tls.write_all(&last).await.unwrap();
    tls.flush().await.unwrap();
    tls
}

async fn leave(mut tls: TlsStream<TcpStream>, leaving: Leaving) {
    match leaving {
        Leaving::CloseNotify => tls.shutdown().await.unwrap(),
        Leaving::Fin => {}
        Leaving::Reset => tls.get_ref().0.set_zero_linger().unwrap(),
    }
}
