//! A model service with the OpenAI API's shape: it answers only to its own key, and remembers what it was sent.

use super::ca::Leaf;
use super::server::{Answer, Encryption, Handler, Server, bind};
use bytes::Bytes;
use hyper::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use parking_lot::Mutex;
use ring::digest::{SHA256, digest};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// The running upstream; it ends when dropped.
pub struct Upstream {
    inner: Arc<Inner>,
    server: Server,
}

struct Inner {
    key: String,
    seen: Mutex<Vec<Seen>>,
}

/// One request, as it arrived. Kept in the demo's memory only.
#[derive(Clone)]
pub struct Seen {
    /// Path and query.
    pub target: String,
    /// Every header, as sent.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The body.
    pub body: Bytes,
    /// How its connection was encrypted.
    pub encryption: Encryption,
    /// It carried the stored key.
    pub authorised: bool,
}

impl Seen {
    /// True when `needle` stands anywhere in it.
    pub fn contains(&self, needle: &str) -> bool {
        let find = |text: &[u8]| memchr::memmem::find(text, needle.as_bytes()).is_some();
        find(self.target.as_bytes()) || find(&self.body) || self.headers.iter().any(|(_, value)| find(value))
    }
}

impl Upstream {
    /// Starts it on a loopback port with a certificate that names `127.0.0.1`; it answers to `key` alone.
    pub fn start(leaf: Leaf, key: &str) -> Result<Upstream, String> {
        let listener = bind().map_err(|e| format!("the upstream's socket: {e}"))?;
        let inner = Arc::new(Inner { key: key.into(), seen: Mutex::default() });
        let server = Server::start("upstream", listener, leaf, inner.clone())?;
        Ok(Upstream { inner, server })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.server.address
    }

    /// What arrived so far, the last [`REQUESTS_CAPACITY`] requests.
    pub fn seen(&self) -> Vec<Seen> {
        self.inner.seen.lock().clone()
    }
}

impl Handler for Inner {
    fn answer(&self, encryption: &Encryption, request: Request<Bytes>) -> Response<Answer> {
        let authorised = request.headers().get(AUTHORIZATION).is_some_and(|value| {
            let expected = format!("Bearer {}", self.key);
            digest(&SHA256, value.as_bytes()).as_ref() == digest(&SHA256, expected.as_bytes()).as_ref()
        });
        let headers = request.headers().iter();
        let mut seen = self.seen.lock();
        if seen.len() == REQUESTS_CAPACITY {
            seen.remove(0);
        }
        seen.push(Seen {
            target: request.uri().to_string(),
            headers: headers.map(|(name, value)| (name.to_string(), value.as_bytes().to_vec())).collect(),
            body: request.body().clone(),
            encryption: encryption.clone(),
            authorised,
        });
        drop(seen);
        if !authorised {
            return error(StatusCode::UNAUTHORIZED, "invalid_api_key", "Incorrect API key provided.");
        }
        match (request.method(), request.uri().path()) {
            (&Method::GET, "/v1/models") => {
                let model =
                    json!({"id": MODEL, "object": "model", "created": CREATED, "owned_by": "staunch"});
                Answer::json(StatusCode::OK, &json!({"object": "list", "data": [model]}))
            }
            (&Method::POST, "/v1/chat/completions") => {
                match serde_json::from_slice::<Value>(request.body()) {
                    Ok(question) if question["messages"].is_array() => complete(&question),
                    _ => error(StatusCode::BAD_REQUEST, "invalid_request", "'messages' must be an array."),
                }
            }
            _ => error(StatusCode::NOT_FOUND, "not_found", "There is no such endpoint."),
        }
    }
}

/// Requests that are remembered: the tour needs the last few.
pub const REQUESTS_CAPACITY: usize = 64;

/// The only model.
pub(super) const MODEL: &str = "demo-1";

/// What it says, whatever the question.
pub(super) const ANSWER: &str = "Watertight. Your token stayed at the gateway, my key never reached you, \
    and every word of this came through two TLS sessions, moved in place.";

/// What it says when it is asked for a card: one token of a model's each.
pub(super) const CARD: [&str; 16] =
    ["The", " card", " is", " ", "411", "1", " ", "111", "1", " ", "111", "1", " ", "111", "1", "."];

const CREATED: u64 = 1_790_000_000;

/// About as fast as a model speaks.
const TOKEN_INTERVAL: Duration = Duration::from_millis(30);

fn complete(question: &Value) -> Response<Answer> {
    let finished =
        |words: usize| json!({"prompt_tokens": 8, "completion_tokens": words, "total_tokens": words + 8});
    let asked = question["messages"].as_array().and_then(|all| all.last()?["content"].as_str());
    let words: Vec<&str> = match asked {
        Some(text) if text.contains("card") => CARD.to_vec(),
        _ => ANSWER.split_inclusive(' ').collect(),
    };
    if question["stream"] != true {
        return Answer::json(
            StatusCode::OK,
            &json!({
                "id": "chatcmpl-demo", "object": "chat.completion", "created": CREATED, "model": MODEL,
                "choices": [{"index": 0, "finish_reason": "stop", "logprobs": null,
                    "message": {"role": "assistant", "content": words.concat(), "refusal": null}}],
                "usage": finished(words.len()),
            }),
        );
    }
    let event = |delta: Value, reason: Option<&str>| {
        let chunk = json!({
            "id": "chatcmpl-demo", "object": "chat.completion.chunk", "created": CREATED, "model": MODEL,
            "choices": [{"index": 0, "delta": delta, "logprobs": null, "finish_reason": reason}],
        });
        Bytes::from(format!("data: {chunk}\n\n"))
    };
    let mut events = vec![event(json!({"role": "assistant", "content": ""}), None)];
    events.extend(words.iter().map(|word| event(json!({"content": word}), None)));
    events.push(event(json!({}), Some("stop")));
    events.push(Bytes::from_static(b"data: [DONE]\n\n"));
    let mut response = Response::new(Answer::paced(events, TOKEN_INTERVAL));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

fn error(status: StatusCode, code: &str, message: &str) -> Response<Answer> {
    let kind = "invalid_request_error";
    Answer::json(status, &json!({"error": {"message": message, "type": kind, "param": null, "code": code}}))
}
