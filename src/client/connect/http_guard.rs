//! HTTP on a loopback port: what web pages send is refused, on every request of a connection.
//!
//! A browser lets every page send requests to 127.0.0.1, and a page whose name was made to point there (DNS rebinding)
//! reads the answers. The token that the tunnel brings would be theirs to use. So `Host` or `:authority` must be a name of
//! this machine, and `Origin` and `Sec-Fetch-Site` must not speak of a foreign page. HTTP/1.1, HTTP/2 and WebSocket alike.

use super::place::Stream;
use crate::identify::slots::{self, Found, Slot};
use crate::names::{RequestId, SessionId};
use crate::protocol::http1::Http1;
use crate::protocol::http2::Http2;
use crate::protocol::{Edit, Http, Refusal, RefusalReason, Request, Rewrite, Sniffed, Up, sniff};
use crate::secret::Secret;
use bytes::{Buf, BytesMut};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split};

/// What requests must have.
#[derive(Debug, Default)]
pub(super) struct HttpGuard {
    /// Must stand in the place of a token, if there is one.
    pub(super) secret: Option<Secret>,
}

/// Bytes that wait for the other side, each way.
const BUFFER: usize = 64 * 1024;

const SLOTS: [Slot; 4] = [Slot::Bearer, Slot::Token, Slot::XApiKey, Slot::ApiKey];
const UNCHANGED: Rewrite<'_> = Rewrite { strip: &[], set: &[], authority: None };

impl HttpGuard {
    /// Whether a request may pass; if not, why, for the program and for the terminal.
    fn judge(&self, request: &Request) -> Result<(), (RefusalReason, String)> {
        if let Some(why) = request.barred {
            return Err((why, "no request like this can pass".into()));
        }
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let hosts = request.fields.all("host").map(text);
        let target = text(&request.target);
        let of_target =
            target.split_once("://").map(|(_, rest)| rest.split(['/', '?']).next().unwrap_or(rest));
        let named =
            std::iter::once(text(&request.authority)).chain(hosts).chain(of_target.map(str::to_owned));
        for host in named {
            if !is_local(&host) {
                return Err((RefusalReason::Misdirected, format!("a request for the host {host:?}")));
            }
        }
        for origin in request.fields.all("origin").map(text) {
            let host = origin.split_once("://").map_or("", |(_, host)| host);
            if !is_local(host) {
                return Err((RefusalReason::Forbidden, format!("a request of the web page {origin:?}")));
            }
        }
        if request
            .fields
            .all("sec-fetch-site")
            .any(|site| site.trim_ascii().eq_ignore_ascii_case(b"cross-site"))
        {
            return Err((RefusalReason::Forbidden, "a request of a web page of another site".into()));
        }
        let Some(secret) = &self.secret else { return Ok(()) };
        match slots::find(&SLOTS, &request.fields) {
            Found::One { token, .. } if same(token, secret.expose()) => Ok(()),
            Found::None => Err((RefusalReason::NoToken, "a request without the key of this run".into())),
            _ => {
                Err((RefusalReason::InvalidToken, "a request with another key than that of this run".into()))
            }
        }
    }

    /// Passes requests and answers on until both sides have ended. `early` came first from the program. Returns the bytes
    /// that went up and down.
    pub(super) async fn relay(
        &self,
        local: &mut impl Stream,
        upstream: &mut (impl AsyncRead + AsyncWrite + Unpin),
        early: &[u8],
        tell: impl Fn(&str),
    ) -> io::Result<(u64, u64)> {
        let mut first = BytesMut::from(early);
        let sniffed = loop {
            match sniff(&first) {
                Some(sniffed) => break sniffed,
                None if local.read_buf(&mut first).await? == 0 => return Ok((0, 0)),
                None => {}
            }
        };
        let http: Box<dyn Http> = match sniffed {
            Sniffed::Http2 => Box::new(Http2::new(Default::default())),
            // What is neither gets its answer in HTTP/1.1.
            _ => Box::new(Http1::new(Default::default())),
        };
        let mut state = Relay { http, up: Half { input: first, ..Half::default() }, down: Half::default() };
        let (mut from_local, mut to_local) = split(local);
        let (mut from_upstream, mut to_upstream) = split(upstream);
        let (mut unflushed, mut fault) = (false, None);
        loop {
            // After a fault nothing more goes up; the last answer to the program goes down.
            if fault.is_none() {
                fault = state.turn(self, &tell).err();
            }
            state.answer();
            let Relay { http, up, down } = &mut state;
            let over = fault.is_some() || http.is_over();
            if over && !http.wants_down() && down.output.is_empty() {
                // A program that is gone already needs no end.
                let _ = to_local.shutdown().await;
                let _ = to_upstream.shutdown().await;
                return fault.map_or(Ok((up.passed, down.passed)), Err);
            }
            if up.is_to_be_closed() {
                up.closed = true;
                to_upstream.shutdown().await?;
            }
            if down.is_to_be_closed() {
                down.closed = true;
                to_local.shutdown().await?;
            }
            let writes = !up.output.is_empty();
            tokio::select! {
                read = from_local.read_buf(&mut up.input), if up.is_to_be_read() && !over => up.ended |= read? == 0,
                read = from_upstream.read_buf(&mut down.input), if down.is_to_be_read() && !over => {
                    down.ended |= read? == 0;
                }
                written = async {
                    match writes {
                        true => to_upstream.write(&up.output).await,
                        false => to_upstream.flush().await.map(|()| 0),
                    }
                }, if (writes || unflushed) && !over => {
                    up.written(written?);
                    unflushed = writes;
                }
                written = to_local.write(&down.output), if !down.output.is_empty() => down.written(written?),
                else => return Ok((up.passed, down.passed)),
            }
        }
    }
}

/// Both directions of one connection.
struct Relay {
    http: Box<dyn Http>,
    up: Half,
    down: Half,
}

/// One direction: what came in and is not dealt with, and what is to go out.
#[derive(Default)]
struct Half {
    input: BytesMut,
    output: BytesMut,
    passed: u64,
    /// Nothing more comes in.
    ended: bool,
    /// The protocol was told of the end.
    told: bool,
    /// The end was passed on.
    closed: bool,
}

impl Half {
    fn is_to_be_read(&self) -> bool {
        !self.ended && self.output.is_empty() && self.input.len() < BUFFER
    }

    fn is_to_be_closed(&self) -> bool {
        self.told && !self.closed && self.output.is_empty()
    }

    fn written(&mut self, bytes: usize) {
        self.output.advance(bytes);
        self.passed += bytes as u64;
    }
}

impl Relay {
    /// Deals with what has come in, as far as there is room for it.
    fn turn(&mut self, guard: &HttpGuard, tell: &impl Fn(&str)) -> io::Result<()> {
        let broken =
            |fault: crate::protocol::Fault| io::Error::new(io::ErrorKind::InvalidData, fault.to_string());
        if self.down.output.is_empty() && !self.down.input.is_empty() {
            let http = &mut self.http;
            deal(&mut self.down, |edit| http.down(edit)).map_err(broken)?;
        }
        if self.down.ended && !self.down.told && self.down.input.is_empty() {
            self.down.told = true;
            self.http.down_ended().map_err(broken)?;
        }
        if self.up.output.is_empty() && (!self.up.input.is_empty() || self.http.wants_up()) {
            let http = &mut self.http;
            let dealt = deal(&mut self.up, |edit| {
                while let Up::Request = http.up(edit)? {
                    let Err((why, what)) = guard.judge(http.request()) else {
                        http.permit(edit, &UNCHANGED);
                        continue;
                    };
                    tell(&format!("{what} was refused"));
                    let id = RequestId { session: SessionId(0), number: http.request().key };
                    http.refuse(&Refusal { id, why });
                }
                Ok(())
            });
            dealt.map_err(broken)?;
        }
        if self.up.ended && !self.up.told && self.up.input.is_empty() {
            self.up.told = true;
            self.http.up_ended().map_err(broken)?;
        }
        Ok(())
    }

    /// Puts into its place what this side has to say by itself: refusals, and the last words before an end.
    fn answer(&mut self) {
        if self.down.output.is_empty() && self.http.wants_down() {
            let http = &mut self.http;
            // What it says by itself breaks no rule; a fault would be the upstream's, and is found by the next turn.
            let _ = deal(&mut self.down, |edit| http.down(edit));
        }
    }
}

/// Lets the protocol deal with a half's input; what comes out goes to its output. Nothing does after a fault.
fn deal(
    half: &mut Half,
    step: impl FnOnce(&mut Edit<'_>) -> Result<(), crate::protocol::Fault>,
) -> Result<(), crate::protocol::Fault> {
    let mut out = Vec::new();
    let mut edit = Edit::new(&mut half.input, &mut out);
    let dealt = step(&mut edit);
    let (position, diverged) = (edit.position(), edit.diverged());
    dealt?;
    match diverged {
        true => half.output.extend_from_slice(&out),
        false => half.output.extend_from_slice(&half.input[..position]),
    }
    half.input.advance(position);
    Ok(())
}

/// True for a name or an address of this machine, with or without a port.
fn is_local(authority: &str) -> bool {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((host, "")) => (host, "0"),
            Some((host, port)) => (host, port.strip_prefix(':').unwrap_or("no port")),
            None => return false,
        },
        None => authority.split_once(':').unwrap_or((authority, "0")),
    };
    let name = host.to_ascii_lowercase();
    // The dot that ends a name in the DNS changes nothing: RFC 6761 section 6.3 keeps these names to this machine in any form.
    let name = name.strip_suffix('.').unwrap_or(&name);
    let known = match authority.starts_with('[') {
        true => host.parse::<Ipv6Addr>().is_ok_and(|ip| ip.to_canonical().is_loopback()),
        false => {
            matches!(name, "localhost" | "ip6-localhost" | "ip6-loopback")
                || name.ends_with(".localhost")
                || name.parse::<Ipv4Addr>().is_ok_and(|ip| ip.is_loopback())
        }
    };
    known && port.parse::<u16>().is_ok()
}

/// Compares digests, so that the time tells nothing of the secret.
fn same(a: &[u8], b: &[u8]) -> bool {
    use ring::digest::{SHA256, digest};
    digest(&SHA256, a).as_ref() == digest(&SHA256, b).as_ref()
}

#[cfg(test)]
#[path = "http_guard_tests.rs"]
mod tests;
