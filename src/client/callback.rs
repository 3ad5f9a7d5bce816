//! The loopback redirect (RFC 8252 section 7.3): a listener that takes one answer and then is gone.
//!
//! Other programs and web pages of this machine can reach it. What has not the path, the host and the `state` of this
//! login is refused and the waiting goes on; nothing that is answered holds a code or a token.

use super::fault::Fault;
use super::loopback::Loopback;
use super::secrets::same;
use crate::net::bounded::{BoundedConnection, BoundedListener, Bounds};
use crate::secret::Secret;
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, REFERRER_POLICY};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;

/// How long a person may take at the issuer: second factors and password changes included.
const DEADLINE: Duration = Duration::from_secs(5 * 60);
/// One request of one browser. Browsers also open connections on which they say nothing, and so can any other program.
const BOUNDS: Bounds =
    Bounds { connections: 16, head: Duration::from_secs(1), silence: Duration::from_secs(5) };

/// The answer of the issuer, as the browser brought it (RFC 6749 section 4.1.2).
pub(super) struct Callback {
    pub(super) code: Option<Secret>,
    pub(super) error: Option<String>,
    pub(super) error_description: Option<String>,
    pub(super) iss: Option<String>,
}

/// A bound loopback redirect.
pub(super) struct Redirect {
    listener: BoundedListener,
    /// The other family of a name.
    second: Option<BoundedListener>,
    uri: String,
    expected: Expected,
}

/// What a request must contain to be the issuer's answer.
#[derive(Clone)]
struct Expected {
    host: String,
    path: String,
}

impl Redirect {
    /// Listens on 127.0.0.1, and for `localhost` on ::1 as well. `wanted`: `http://127.0.0.1[:port][/path]`, or
    /// `localhost` for issuers that take no other name; without a port, a random one.
    pub(super) async fn bind(wanted: Option<&str>) -> Result<Redirect, Fault> {
        let (name, port, path) = place(wanted.unwrap_or("http://127.0.0.1/callback"))?;
        let fault = |error| Fault::Machine(format!("127.0.0.1:{port} cannot be listened on: {error}"));
        // A browser may try either address of a name first.
        let listener = match name.as_str() {
            "localhost" => Loopback::bind_both(port),
            _ => Loopback::bind((Ipv4Addr::LOCALHOST, port).into()),
        };
        let listener = listener.map_err(fault)?;
        let port = listener.address().port();
        // A browser leaves the default port out of `Host`, and asks for `/` where there is no path.
        let host = if port == 80 { name } else { format!("{name}:{port}") };
        let uri = format!("http://{host}{path}");
        let path = if path.is_empty() { "/".into() } else { path };
        let mut listeners =
            listener.into_listeners().into_iter().map(|one| BoundedListener::new(one, BOUNDS));
        let (Some(listener), second) = (listeners.next(), listeners.next()) else {
            return Err(fault(std::io::ErrorKind::AddrNotAvailable.into()));
        };
        Ok(Redirect { listener, second, uri, expected: Expected { host, path } })
    }

    /// `redirect_uri`.
    pub(super) fn uri(&self) -> &str {
        &self.uri
    }

    /// Waits for the one request that is the answer.
    pub(super) async fn wait(self, state: &str) -> Result<Callback, Fault> {
        tokio::time::timeout(DEADLINE, self.serve(state)).await.unwrap_or_else(|_| {
            let minutes = DEADLINE.as_secs() / 60;
            Err(Fault::Person(format!("nobody logged in within {minutes} minutes; run the command again")))
        })
    }

    async fn serve(mut self, state: &str) -> Result<Callback, Fault> {
        let state: Arc<str> = state.into();
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                (tcp, _) = self.listener.accept() => {
                    connections.spawn(connection(tcp, self.expected.clone(), state.clone()));
                }
                (tcp, _) = accept(&mut self.second) => {
                    connections.spawn(connection(tcp, self.expected.clone(), state.clone()));
                }
                // Only when the connection is over, so that the browser has its page.
                Some(ended) = connections.join_next(), if !connections.is_empty() => {
                    if let Ok(Some(callback)) = ended {
                        return Ok(callback);
                    }
                }
            }
        }
    }
}

/// A connection of the second listener, if there is one.
async fn accept(listener: &mut Option<BoundedListener>) -> (BoundedConnection, SocketAddr) {
    match listener {
        Some(listener) => listener.accept().await,
        None => std::future::pending().await,
    }
}

/// Serves one request; the answer of the issuer if it was that.
async fn connection(tcp: BoundedConnection, expected: Expected, state: Arc<str>) -> Option<Callback> {
    let found = Mutex::new(None);
    let service = service_fn(|request: Request<Incoming>| {
        let host = request.headers().get(HOST).and_then(|host| host.to_str().ok());
        let page = match judge(request.method(), host, request.uri(), &expected, &state) {
            Ok(callback) => {
                let text = match callback.error {
                    None => "The login came through. You can close this page; the terminal tells the rest.",
                    Some(_) => "The login was refused. You can close this page; the terminal tells why.",
                };
                *found.lock() = Some(callback);
                page(StatusCode::OK, text)
            }
            Err(StatusCode::NOT_FOUND) => page(StatusCode::NOT_FOUND, "There is nothing here."),
            Err(status) => page(status, "This is not the answer to the login that is waiting here."),
        };
        async { Ok::<_, Infallible>(page) }
    });
    let served = hyper::server::conn::http1::Builder::new()
        .keep_alive(false)
        .max_buf_size(HEAD)
        .serve_connection(TokioIo::new(tcp), service);
    // Whatever became of the connection, what it brought counts.
    let _ = served.await;
    found.into_inner()
}

/// A request head: codes and states of some issuers are several KiB.
const HEAD: usize = 32 * 1024;

/// Is this the answer? If not, what to say.
fn judge(
    method: &Method,
    host: Option<&str>,
    uri: &Uri,
    expected: &Expected,
    state: &str,
) -> Result<Callback, StatusCode> {
    if uri.path() != expected.path || method != Method::GET {
        return Err(StatusCode::NOT_FOUND);
    }
    // A web page whose name was made to point at 127.0.0.1 (DNS rebinding) says another name.
    if !host.is_some_and(|host| host.eq_ignore_ascii_case(&expected.host)) {
        return Err(StatusCode::BAD_REQUEST);
    }
    let pairs: Vec<_> = form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes()).collect();
    let field = |name: &str| {
        let mut values =
            pairs.iter().filter(|(found, _)| found == name).map(|(_, value)| value.clone().into_owned());
        match (values.next(), values.next()) {
            // RFC 6749 section 3.1: no parameter twice.
            (Some(_), Some(_)) => Err(StatusCode::BAD_REQUEST),
            (value, _) => Ok(value),
        }
    };
    if !field("state")?.is_some_and(|found| same(&found, state)) {
        return Err(StatusCode::BAD_REQUEST);
    }
    Ok(Callback {
        code: field("code")?.map(|code| Secret::new(code.into_bytes())),
        error: field("error")?,
        error_description: field("error_description")?,
        iss: field("iss")?,
    })
}

fn page(status: StatusCode, text: &str) -> Response<Full<Bytes>> {
    let html = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Staunch</title>\
         <body style=\"font-family: sans-serif; margin: 4em\"><h1>Staunch</h1><p>{text}</p></html>\n"
    );
    Response::builder()
        .status(status)
        .header(CONTENT_TYPE, "text/html; charset=utf-8")
        .header(CACHE_CONTROL, "no-store")
        // The address of this page holds the code.
        .header(REFERRER_POLICY, "no-referrer")
        .header(CONTENT_SECURITY_POLICY, "default-src 'none'; style-src 'unsafe-inline'")
        .body(Full::from(html))
        .expect("constants make a response")
}

/// Name, port (0: any) and path, which may be empty, of a loopback redirect.
pub(super) fn place(uri: &str) -> Result<(String, u16, String), Fault> {
    let wrong = || {
        Fault::Usage(format!(
            "{uri:?} is no loopback redirect; write http://127.0.0.1[:port][/path], or localhost if the issuer wants it"
        ))
    };
    let parsed: Uri = uri.parse().map_err(|_| wrong())?;
    let authority = parsed.authority().ok_or_else(wrong)?;
    let name = authority.host();
    let port = match authority.as_str().strip_prefix(name) {
        Some("") => 0,
        Some(_) => authority.port_u16().ok_or_else(wrong)?,
        None => return Err(wrong()),
    };
    let loopback = matches!(name, "127.0.0.1" | "localhost") && parsed.scheme_str() == Some("http");
    match loopback && parsed.query().is_none() && !uri.contains('#') {
        // Issuers compare text: what was given without a path is sent without one.
        true if parsed.path() == "/" && !uri.ends_with('/') => Ok((name.to_owned(), port, String::new())),
        true => Ok((name.to_owned(), port, parsed.path().to_owned())),
        false => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    fn judged(method: &Method, host: &str, uri: &str) -> Result<Callback, u16> {
        let expected = Expected { host: "127.0.0.1:4000".into(), path: "/callback".into() };
        let uri = uri.parse().unwrap();
        judge(method, Some(host).filter(|h| !h.is_empty()), &uri, &expected, "s1").map_err(|s| s.as_u16())
    }

    #[test]
    fn only_path_host_and_state_of_this_login_are_the_answer() {
        let get = |uri: &str| judged(&Method::GET, "127.0.0.1:4000", uri).map(|_| ());
        assert_eq!(get("/callback?code=c&state=s1"), Ok(()));
        assert_eq!(get("/callback?error=access_denied&state=s1"), Ok(()));
        for (uri, status) in [
            ("/", 404),
            ("/favicon.ico", 404),
            ("/callback/?code=c&state=s1", 404),
            ("/callback", 400),
            ("/callback?code=c", 400),
            ("/callback?code=c&state=s2", 400),
            ("/callback?code=c&state=", 400),
            ("/callback?code=c&state=s1&state=s1", 400),
            ("/callback?code=c&code=d&state=s1", 400),
        ] {
            assert_eq!(get(uri), Err(status), "{uri}");
        }
        let good = "/callback?code=c&state=s1";
        assert_eq!(judged(&Method::POST, "127.0.0.1:4000", good).err(), Some(404));
        for host in ["", "evil.example:4000", "127.0.0.1", "127.0.0.1:4001"] {
            assert_eq!(judged(&Method::GET, host, good).err(), Some(400), "{host}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_is_waited_for_longer_than_the_deadline() {
        let redirect = Redirect::bind(None).await.unwrap();
        let begun = tokio::time::Instant::now();
        let fault = redirect.wait("s1").await.err().unwrap();
        assert!(begun.elapsed() >= DEADLINE && begun.elapsed() < DEADLINE + Duration::from_secs(1));
        assert!(fault.to_string().contains("within 5 minutes"), "{fault}");
    }

    #[tokio::test]
    async fn connections_that_say_nothing_do_not_keep_the_answer_out() {
        let redirect = Redirect::bind(Some("http://localhost")).await.unwrap();
        let uri = redirect.uri().to_owned();
        let address = redirect.listener.local_addr().unwrap();
        assert_eq!(uri, format!("http://localhost:{}", address.port()));
        let asking = tokio::spawn(async move {
            let mut silent = Vec::new();
            for _ in 0..120 {
                silent.push(TcpStream::connect(address).await.unwrap());
            }
            let begin = std::time::Instant::now();
            let mut tcp = TcpStream::connect(address).await.unwrap();
            let request = format!("GET /?code=c&state=s1 HTTP/1.1\r\nHost: {}\r\n\r\n", &uri[7..]);
            tcp.write_all(request.as_bytes()).await.unwrap();
            let mut page = String::new();
            tcp.read_to_string(&mut page).await.unwrap();
            assert!(begin.elapsed() < BOUNDS.head, "it waited for the silent");
            page
        });
        let callback = redirect.wait("s1").await.ok().unwrap();
        assert_eq!(callback.code.unwrap().expose(), b"c");
        let page = asking.await.unwrap();
        assert!(page.starts_with("HTTP/1.1 200 ") && page.ends_with("</html>\n"), "{page}");
    }

    #[test]
    fn a_redirect_is_loopback_or_nothing() {
        let read = |uri: &str| place(uri).map_err(|fault| fault.to_string());
        assert_eq!(read("http://127.0.0.1/callback"), Ok(("127.0.0.1".into(), 0, "/callback".into())));
        assert_eq!(read("http://localhost:8400"), Ok(("localhost".into(), 8400, "".into())));
        assert_eq!(read("http://localhost/"), Ok(("localhost".into(), 0, "/".into())));
        for bad in [
            "https://127.0.0.1/",
            "http://0.0.0.0/",
            "http://127.0.0.1.evil.example/",
            "http://127.0.0.1@evil.example/",
            "http://u@127.0.0.1/",
            "http://127.0.0.1:x/",
            "http://127.0.0.1:99999/",
            "http://127.0.0.1/?a=b",
            "http://127.0.0.1/#a",
            "/callback",
            "",
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
