//! Issuer and upstream by themselves, over TLS.

use super::super::ca::Ca;
use super::super::client::Client;
use super::super::issuer::{Issuer, User};
use super::super::upstream::{ANSWER, Upstream};
use bytes::Bytes;
use http_body_util::Full;
use hyper::{Method, Request, StatusCode};
use serde_json::{Value, json};
use std::net::SocketAddr;

fn send(ca: &Ca, address: SocketAddr, request: Request<Full<Bytes>>) -> (StatusCode, String) {
    let reply = Client::new(ca.roots()).unwrap().send(address, "127.0.0.1", request, |_| {}).unwrap();
    (reply.status, String::from_utf8(reply.body).unwrap())
}

fn request(
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: impl Into<Bytes>,
) -> Request<Full<Bytes>> {
    let builder = Request::builder().method(method).uri(path).header("host", "x");
    let builder = headers.iter().fold(builder, |b, (name, value)| b.header(*name, *value));
    builder.body(Full::from(body.into())).unwrap()
}

#[test]
fn discovery_leads_to_keys_and_a_token_endpoint_that_wants_the_secret() {
    let ca = Ca::new("test").unwrap();
    let users = ["ann", "eve"].map(|s| User { subject: s.into(), groups: vec![format!("{s}s")] });
    let issuer = Issuer::start(ca.leaf(&["127.0.0.1"]).unwrap(), "aud", users.into()).unwrap();
    let address = issuer.url().strip_prefix("https://").unwrap().parse().unwrap();
    let get = |path: &str| {
        let (status, body) = send(&ca, address, request(Method::GET, path, &[], ""));
        assert_eq!(status, 200);
        serde_json::from_str::<Value>(&body).unwrap()
    };
    let discovery = get("/.well-known/openid-configuration");
    assert_eq!(discovery["issuer"], issuer.url());
    let path = |name: &str| discovery[name].as_str().unwrap().strip_prefix(issuer.url()).unwrap().to_owned();
    let jwks = get(&path("jwks_uri"));
    assert_eq!((&jwks["keys"][0]["kty"], &jwks["keys"][0]["alg"]), (&json!("EC"), &json!("ES256")));
    assert_eq!(jwks["keys"][0].get("d"), None, "the private key stays");

    let (id, secret) = (&issuer.client().id, &issuer.client().secret);
    let ask = |headers: &[(&str, &str)], body: String| {
        let (status, body) =
            send(&ca, address, request(Method::POST, &path("token_endpoint"), headers, body));
        (status.as_u16(), serde_json::from_str::<Value>(&body).unwrap())
    };
    let post = format!("client_id={id}&client_secret={secret}");
    use base64::Engine;
    let claims = |body: &Value| -> Value {
        let part = body["access_token"].as_str().unwrap().split('.').nth(1).unwrap().to_owned();
        serde_json::from_slice(&base64::prelude::BASE64_URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
    };
    let (status, body) = ask(&[], format!("grant_type=client%5Fcredentials&{post}&user=eve"));
    assert_eq!(status, 200, "{body}");
    assert_eq!(claims(&body)["sub"], "eve");
    assert_eq!(claims(&body)["groups"], json!(["eves"]));
    assert_eq!(claims(&body)["aud"], "aud");

    let basic = format!("Basic {}", base64::prelude::BASE64_STANDARD.encode(format!("{id}:{secret}")));
    let (status, body) = ask(&[("authorization", &basic)], "grant_type=client_credentials".into());
    assert_eq!((status, &claims(&body)["sub"]), (200, &json!("ann")), "the first user by default");

    for (body, status, error) in [
        (format!("grant_type=client_credentials&client_id={id}&client_secret=x"), 401, "invalid_client"),
        ("grant_type=client_credentials".into(), 401, "invalid_client"),
        (format!("grant_type=password&{post}"), 400, "unsupported_grant_type"),
        (format!("grant_type=client_credentials&{post}&user=mallory"), 400, "invalid_grant"),
        ("%zz=1".into(), 400, "invalid_request"),
    ] {
        let (got, answer) = ask(&[], body.clone());
        assert_eq!((got, &answer["error"]), (status, &json!(error)), "{body}");
        assert_eq!(answer.get("access_token"), None);
    }
}

#[test]
fn the_upstream_answers_its_key_alone_streaming_or_not() {
    let ca = Ca::new("test").unwrap();
    let upstream = Upstream::start(ca.leaf(&["127.0.0.1"]).unwrap(), "sk-right").unwrap();
    let ask = |method, path, key: &str, body: Value| {
        let key = format!("Bearer {key}");
        send(&ca, upstream.address(), request(method, path, &[("authorization", &key)], body.to_string()))
    };
    let question = |stream| json!({"model": "demo-1", "stream": stream, "messages": []});
    let chat = "/v1/chat/completions";

    let (status, body) = ask(Method::POST, chat, "sk-wrong", question(false));
    assert!(status == 401 && body.contains("invalid_api_key") && !body.contains("Watertight"), "{body}");
    assert!(!upstream.seen()[0].authorised && upstream.seen()[0].contains("sk-wrong"));

    let (status, body) = ask(Method::POST, chat, "sk-right", question(false));
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status.as_u16(), &body["choices"][0]["message"]["content"]), (200, &json!(ANSWER)));
    assert!(upstream.seen()[1].authorised && !upstream.seen()[1].contains("sk-wrong"));
    assert_eq!(upstream.seen()[1].encryption.version, "TLS 1.3");

    let (status, body) = ask(Method::POST, chat, "sk-right", question(true));
    let events: Vec<&str> =
        body.split_terminator("\n\n").map(|e| e.strip_prefix("data: ").unwrap()).collect();
    assert_eq!((status.as_u16(), *events.last().unwrap()), (200, "[DONE]"));
    let words = events[..events.len() - 1].iter().filter_map(|e| {
        let chunk: Value = serde_json::from_str(e).unwrap();
        assert_eq!(chunk["object"], "chat.completion.chunk");
        chunk["choices"][0]["delta"]["content"].as_str().map(String::from)
    });
    assert_eq!(words.collect::<String>(), ANSWER);

    let (status, body) = ask(Method::GET, "/v1/models", "sk-right", Value::Null);
    assert!(status == 200 && body.contains("demo-1"), "{body}");
    assert_eq!(ask(Method::POST, chat, "sk-right", json!({"messages": 1})).0, 400);
    assert_eq!(ask(Method::GET, "/v1/none", "sk-right", Value::Null).0, 404);
}
