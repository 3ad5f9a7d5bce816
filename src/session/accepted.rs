//! From a TCP connection to a client leg, and to where its name leads.

use super::acme;
use super::admission::{Admitted, Bounds};
use super::authorise::identify_certificate;
use super::leg_close::{LINGER, close_leg, discard_input};
use super::mysql;
use super::plaintext::{self, HTTP_ANSWER, NO_APPLICATION_PROTOCOL, PEEK_BYTES, UNRECOGNIZED_NAME};
use super::postgres::before_tls;
use super::stage::Secured;
use super::state::{Origin, Session};
use super::trail::Trail;
use crate::close::{Close, Plaintext};
use crate::dial::{AlpnName, Application, H2, HTTP11, Negotiation};
use crate::gateway::{Named, Route, RouteProtocol};
use crate::metrics::LimitHit;
use crate::names::{Remote, Side};
use crate::protocol::postgres::ALPN as POSTGRESQL;
use crate::tls::handshake::{self, Established, Hello};
use crate::tls::handshake_queue;
use proxy_header::{ParseConfig, ProxyHeader, Tlv};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::SystemTime;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

/// The longest PROXY protocol header: version 2 with 64 KiB of options would be absurd; 536 is the specification's advice.
const MAX_PROXY_HEADER: usize = 2048;

/// The alert certificate_expired (RFC 8446 section 6).
const CERTIFICATE_EXPIRED: u8 = 45;

/// A TCP connection, nothing more.
pub struct Accepted {
    pub(super) origin: Origin,
    pub(super) tcp: TcpStream,
}

impl Accepted {
    /// PROXY header if the listener believes one, first byte, ClientHello, route, handshake.
    pub async fn handshake(mut self, admitted: &Admitted, trail: &mut Trail) -> Result<Secured, Close> {
        let mut first = Vec::new();
        if self.origin.listener.proxy_protocol_from.iter().any(|n| n.contains(self.origin.remote.0.ip())) {
            let header = self.read_proxy_header(&mut first, trail).await;
            let client = header.inspect_err(|_| self.origin.shared.metrics.limit(LimitHit::ProxyProtocol))?;
            if let Some(client) = client {
                self.origin.remote = Remote(client);
                trail.set_remote(self.origin.remote);
                self.recount_address(admitted, trail).await?;
            }
        }
        self.origin.limit_reached = admitted.limit_reached();
        self.origin.limit_reached.into_iter().for_each(|full| self.origin.shared.metrics.limit(full.into()));
        let negotiation = match self.origin.listener.mysql.clone() {
            Some(greets) => {
                let greeting = mysql::before_tls::greeting(&greets, &self.origin.shared.cancels);
                mysql::before_tls::agree_on_tls(&mut self.tcp, &mut first, &greeting, self.origin.id, trail)
                    .await?;
                Negotiation::Greeting
            }
            None => self.refuse_plaintext(&mut first, trail).await?,
        };
        let hello = handshake::read_hello(&mut self.tcp, first).await.map_err(|fault| {
            trail.explain(fault);
            Close::Handshake(Side::Client)
        })?;
        trail.set_sni(hello.sni.as_deref());
        if acme::is_challenge(&hello) {
            let Some(config) = acme::challenge(&self.origin.gateway, &hello) else {
                trail.explain("no ACME challenge is under way for this name");
                self.write_and_linger(&UNRECOGNIZED_NAME).await;
                return Err(Close::NoRoute);
            };
            let records_per_key = self.origin.gateway.limits.records_per_key;
            return Err(acme::answer(self.tcp, hello, config, records_per_key, trail).await);
        }
        let Some(named) = self.named(&hello) else {
            trail.explain(match (&hello.sni, &self.origin.listener.mysql) {
                (Some(_), _) => "no route has this name",
                (None, None) => "no name was sent, and the listener has no default_route",
                (None, Some(_)) => "no name was sent, and the listener's mysql has no route",
            });
            self.write_and_linger(&UNRECOGNIZED_NAME).await;
            return Err(Close::NoRoute);
        };
        let asked = Instant::now();
        let application = match &named {
            Named::Route(route) => application(route, &hello, negotiation).await,
            Named::Tunnel(_) => application_of_tunnel(&hello, negotiation),
        };
        let server = match &named {
            Named::Route(route) => route.server.as_ref(),
            Named::Tunnel(tunnel) => Some(&tunnel.server),
        };
        let spent_connecting = asked.elapsed();
        let (Some(application), Some(server)) = (application, server) else {
            trail.explain("the client and the upstream have no application protocol in common");
            self.write_and_linger(&NO_APPLICATION_PROTOCOL).await;
            return Err(Close::Handshake(Side::Client));
        };
        let records_per_key = self.origin.gateway.limits.records_per_key;
        let config = server.offering(application.alpn());
        let established = handshake::accept(self.tcp, hello, config, records_per_key).await;
        let Established { mut leg, facts, early } = established.map_err(|fault| {
            if let Some(problem) = acme::missing(&self.origin.gateway, &named) {
                trail.explain(problem);
                return Close::NoCertificate;
            }
            trail.explain(fault);
            Close::Handshake(Side::Client)
        })?;
        // A handshake that is resumed does not look at the certificate again.
        let certificate = facts.peer_certificate.clone();
        if certificate.as_ref().is_some_and(|leaf| leaf.has_expired(SystemTime::now())) {
            trail.explain("the client certificate has expired");
            leg.queue_alert(CERTIFICATE_EXPIRED);
            close_leg(leg, false).await;
            return Err(Close::Handshake(Side::Client));
        }
        let tunnelled = matches!(named, Named::Tunnel(_));
        let session = Rc::new(Session::new(self.origin, tunnelled, certificate));
        session.spent_connecting.set(spent_connecting);
        trail.record_client_handshake(&session, facts);
        if let Named::Route(route) = &named {
            trail.set_route(route);
            if let Err(denial) = identify_certificate(&session, route) {
                trail.explain(denial.detail);
            }
        }
        Ok(Secured { session, named, leg, early, application })
    }

    /// Resolves the SNI name, or the listener's default route without one.
    fn named(&self, hello: &Hello) -> Option<Named> {
        let default = || {
            let listener = &self.origin.listener;
            let route = match &listener.mysql {
                Some(mysql) => mysql.route.as_ref(),
                None => listener.default_route.as_ref(),
            }?;
            self.origin.gateway.called(&route.0).cloned().map(Named::Route)
        };
        match &hello.sni {
            Some(sni) => self.origin.gateway.named(self.origin.listener.number, sni),
            None => default(),
        }
    }

    /// Waits for its turn among connections of the same address, without reading a byte.
    pub(super) async fn turn(&self, admitted: &Admitted) {
        if admitted.is_queued() {
            self.origin.shared.metrics.limit(LimitHit::Queued);
            admitted.turn().await;
        }
    }

    /// Counts the connection under its client's address instead of its balancer's, and waits for its turn there.
    async fn recount_address(&self, admitted: &Admitted, trail: &mut Trail) -> Result<(), Close> {
        let counted =
            admitted.set_client(self.origin.remote.0.ip(), Bounds::from(&self.origin.gateway.limits));
        if let Err(full) = counted {
            self.origin.shared.metrics.limit(full.into());
            trail.explain(format_args!("no room: limits.{}", full.name()));
            return Err(Close::Limit);
        }
        self.turn(admitted).await;
        Ok(())
    }

    /// Reads the header of the PROXY protocol and leaves the bytes behind it in `first`. `None`: the balancer speaks for
    /// itself (LOCAL: its health check).
    async fn read_proxy_header(
        &mut self,
        first: &mut Vec<u8>,
        trail: &mut Trail,
    ) -> Result<Option<SocketAddr>, Close> {
        loop {
            self.read_some(first).await?;
            match proxy_header(first) {
                Ok((source, length)) => {
                    first.drain(..length);
                    return Ok(source);
                }
                Err(proxy_header::Error::BufferTooShort) if first.len() < MAX_PROXY_HEADER => {}
                Err(fault) => {
                    trail.explain(format_args!("PROXY protocol header: {fault}"));
                    return Err(Close::Protocol(Side::Client));
                }
            }
        }
    }

    /// The first byte decides: what is not a TLS handshake is refused here, unless it asks for one as PostgreSQL does.
    async fn refuse_plaintext(
        &mut self,
        first: &mut Vec<u8>,
        trail: &mut Trail,
    ) -> Result<Negotiation, Close> {
        while first.len() < 2 {
            self.read_some(first).await?;
        }
        let Some(mut kind) = plaintext::look(first) else { return Ok(Negotiation::Direct) };
        // The length of a packet below 64 KiB; no other protocol begins so.
        if first.starts_with(&[0, 0]) && self.origin.gateway.expects_postgres() {
            let cancels = &self.origin.shared.cancels;
            let cancels = self.origin.listener.cancel_in_clear.then_some(&**cancels);
            before_tls::agree_on_tls(&mut self.tcp, first, cancels, trail).await?;
            return match plaintext::look(first) {
                None => Ok(Negotiation::Request),
                Some(kind) => Err(Close::NotTls(kind)),
            };
        }
        // A few bytes more tell what it is; nobody is waited for long.
        while kind == Plaintext::Other && first.len() < PEEK_BYTES {
            match timeout(LINGER / 10, self.read_some(first)).await {
                Ok(Ok(())) => kind = plaintext::look(first).unwrap_or(kind),
                _ => break,
            }
        }
        if kind == Plaintext::Http {
            self.write_and_linger(HTTP_ANSWER).await;
        }
        Err(Close::NotTls(kind))
    }

    async fn read_some(&mut self, first: &mut Vec<u8>) -> Result<(), Close> {
        first.reserve(1024);
        handshake_queue::wait_to_hear(&self.tcp).await.map_err(|_| Close::Reset(Side::Client))?;
        match self.tcp.read_buf(first).await {
            Ok(0) => Err(Close::Truncated(Side::Client)),
            Ok(_) => Ok(()),
            Err(_) => Err(Close::Reset(Side::Client)),
        }
    }

    /// Writes a plaintext message, then lingers so that the client can read it.
    async fn write_and_linger(&mut self, words: &[u8]) {
        let last_words = async {
            self.tcp.write_all(words).await?;
            self.tcp.shutdown().await?;
            discard_input(&mut self.tcp).await
        };
        // Whether it was read or not: the connection ends.
        let _ = timeout(LINGER, last_words).await;
    }
}

/// Where the client stands according to the PROXY protocol header at the start of `bytes`, and the header's length.
///
/// The options are not used, and are checked all the same: a header with a length that does not fit is not what a balancer
/// wrote, and nor is then the address in it.
fn proxy_header(bytes: &[u8]) -> Result<(Option<SocketAddr>, usize), proxy_header::Error> {
    let (header, length) = ProxyHeader::parse(bytes, ParseConfig::default())?;
    // A header that is there whole cannot lack bytes.
    let malformed = |_| proxy_header::Error::Invalid;
    for option in header.tlvs() {
        if let Tlv::Ssl(details) = option.map_err(malformed)? {
            for detail in details.tlvs() {
                detail.map_err(malformed)?;
            }
        }
    }
    if !checksum_holds(&bytes[..length]) || !is_plain_line(&bytes[..length]) {
        return Err(proxy_header::Error::Invalid);
    }
    Ok((header.proxied_address().map(|address| address.source), length))
}

/// True unless a header of version 1 is longer than one may be, or spells its blanks and ports otherwise than balancers do
/// (PROXY protocol, section 2.1).
fn is_plain_line(header: &[u8]) -> bool {
    const LONGEST_LINE: usize = 107;
    let Some(line) = header.strip_suffix(b"\r\n").filter(|_| header[0] == b'P') else { return true };
    let mut words = line.split(|byte| *byte == b' ');
    let is_port =
        |word: &[u8]| matches!(word, [b'0'] | [b'1'..=b'9', ..]) && word.iter().all(u8::is_ascii_digit);
    let is_spelt = match (words.next(), words.next()) {
        (Some(b"PROXY"), Some(b"UNKNOWN")) => true,
        (Some(b"PROXY"), Some(b"TCP4" | b"TCP6")) => words.skip(2).all(is_port),
        _ => false,
    };
    is_spelt && header.len() <= LONGEST_LINE
}

/// True unless a header of version 2 has a CRC32c that is not that of its bytes (PROXY protocol, section 2.2.3). In version 1,
/// which is one line of text, there is none.
fn checksum_holds(header: &[u8]) -> bool {
    const CRC32C: u8 = 3;
    const FIXED: usize = 16;
    let addresses = match header.get(FIXED - 3).filter(|_| header[0] == b'\r').map(|family| family >> 4) {
        Some(0) => 0,
        Some(1) => 12,
        Some(2) => 36,
        Some(3) => 216,
        _ => return true,
    };
    let mut at = FIXED + addresses;
    while let Some(&[kind, high, low]) = header.get(at..).and_then(|rest| rest.first_chunk()) {
        let value = at + 3..at + 3 + usize::from(u16::from_be_bytes([high, low]));
        if kind == CRC32C {
            let told =
                header.get(value.clone()).and_then(|bytes| Some(u32::from_be_bytes(*bytes.first_chunk()?)));
            let zeroed =
                [&header[..value.start], &[0; 4], header.get(value.end..).unwrap_or_default()].concat();
            return told == Some(crc32c::crc32c(&zeroed));
        }
        at = value.end;
    }
    true
}

/// The application protocol for both legs: what the client offers, the route allows and the upstream speaks.
///
/// TLS that was asked for as PostgreSQL does it leads to a PostgreSQL route; without that way the name of the protocol
/// must be offered, as PostgreSQL 17 has it, so that no other protocol's bytes are taken for a login (ALPACA).
async fn application(route: &Route, hello: &Hello, negotiation: Negotiation) -> Option<Application> {
    let offered = |name: &[u8]| hello.alpn.iter().any(|offer| offer == name);
    match (route.protocol, negotiation) {
        (RouteProtocol::Postgres, Negotiation::Request) if hello.alpn.is_empty() => {
            return Some(Application::None);
        }
        (RouteProtocol::Postgres, _) => return offered(POSTGRESQL).then_some(Application::Postgres),
        (_, Negotiation::Request) => return None,
        // MySQL has no name either, and its clients come to a listener that greets them.
        (RouteProtocol::Mysql, Negotiation::Greeting) if hello.alpn.is_empty() => {
            return Some(Application::None);
        }
        (RouteProtocol::Mysql, _) | (_, Negotiation::Greeting) => return None,
        // Redis has no name: a client that offers one speaks another protocol (ALPACA).
        (RouteProtocol::Redis, _) => return hello.alpn.is_empty().then_some(Application::None),
        (_, Negotiation::Direct) => {}
    }
    if route.protocol == RouteProtocol::Raw {
        return Some(application_of_raw(route, hello).await);
    }
    if hello.alpn.is_empty() {
        // That means HTTP/1.1, which a plaintext upstream was perhaps not said to speak and cannot be asked for.
        let spoken = route.alpn.http1() || !route.upstream.is_plaintext();
        return spoken.then_some(Application::None);
    }
    let mut wanted = Vec::with_capacity(2);
    if route.alpn.http2() && offered(H2) {
        wanted.push(Application::Http2);
    }
    if route.alpn.http1() && offered(HTTP11) {
        wanted.push(Application::Http1);
    }
    route.upstream.choose(&wanted, route.timeouts.connect).await
}

/// What is spoken on a raw route: the first name that the client offers and the upstream settles on. Where there is none, or
/// no TLS upstream, nothing is said of it to either, as between a client and a server without ALPN.
async fn application_of_raw(route: &Route, hello: &Hello) -> Application {
    let mut wanted: Vec<Application> = Vec::new();
    for name in hello.alpn.iter().filter_map(|name| AlpnName::new(name)) {
        let application = Application::Named(name);
        if wanted.len() < MAX_OFFERED && !wanted.contains(&application) {
            wanted.push(application);
        }
    }
    if wanted.is_empty() || route.upstream.is_plaintext() {
        return Application::None;
    }
    route.upstream.choose(&wanted, route.timeouts.connect).await.unwrap_or(Application::None)
}

/// Names of a client that a raw route's upstream is asked for; curl offers two, a browser three.
const MAX_OFFERED: usize = 8;

/// ALPN of a tunnel: `http/1.1`, or none.
fn application_of_tunnel(hello: &Hello, negotiation: Negotiation) -> Option<Application> {
    let http1 = hello.alpn.iter().any(|offer| offer == HTTP11);
    match negotiation {
        Negotiation::Request | Negotiation::Greeting => None,
        Negotiation::Direct if http1 => Some(Application::Http1),
        Negotiation::Direct => hello.alpn.is_empty().then_some(Application::None),
    }
}

#[cfg(test)]
mod tests {
    use super::proxy_header;
    use proxy_header::Error;

    const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

    fn version_2(command: u8, options: &[u8]) -> Vec<u8> {
        let addresses = [192, 0, 2, 1, 192, 0, 2, 9, 0x30, 0x39, 0x01, 0xbb];
        let length = (addresses.len() + options.len()) as u16;
        [SIGNATURE, &[0x20 | command, 0x11], &length.to_be_bytes(), &addresses, options, b"behind"].concat()
    }

    #[test]
    fn a_proxy_header_tells_the_client_and_ends_where_it_says() {
        let client = "192.0.2.1:12345".parse().unwrap();
        // ALPN, a NOOP, an unknown one, and TLS details with a version within.
        let options =
            [&[1, 0, 2][..], b"h2", &[4, 0, 0, 0xe0, 0, 1, 7, 0x20, 0, 15, 1, 0, 0, 0, 0, 0x21, 0, 7]]
                .concat();
        let options = [&options[..], b"TLSv1.3"].concat();
        for options in [&[][..], &options] {
            assert_eq!(proxy_header(&version_2(1, options)), Ok((Some(client), 28 + options.len())));
            assert_eq!(proxy_header(&version_2(0, options)), Ok((None, 28 + options.len())));
        }
        let text = b"PROXY TCP4 192.0.2.1 192.0.2.9 12345 443\r\nbehind";
        assert_eq!(proxy_header(text), Ok((Some(client), text.len() - 6)));
    }

    #[test]
    fn a_line_that_is_spelt_otherwise_than_balancers_do_is_a_fault() {
        for plain in [
            &b"PROXY UNKNOWN\r\n"[..],
            b"PROXY UNKNOWN ::1 ::1 0 +7\r\n",
            b"PROXY TCP6 2001:db8::1 ::1 1 65535\r\n",
        ] {
            assert!(proxy_header(plain).is_ok(), "{}", String::from_utf8_lossy(plain));
        }
        let long = format!("PROXY UNKNOWN {}\r\n", "x".repeat(92));
        for odd in [
            "PROXY-TCP4 192.0.2.1 192.0.2.9 12345 443\r\n",
            "PROXY\0UNKNOWN\r\n\0\0\0",
            "PROXY UNKNOWNS\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.9 +1234 443\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.9 012345 443\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.9 12345 443 \r\n",
            "PROXY TCP4 192.0.2.01 192.0.2.9 12345 443\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.9 12345 65536\r\n",
            "PROXY TCP4 192.0.2.1  192.0.2.9 12345 443\r\n",
            "PROXY tcp4 192.0.2.1 192.0.2.9 12345 443\r\n",
            "proxy TCP4 192.0.2.1 192.0.2.9 12345 443\r\n",
            "PROXY TCP4 2001:db8::1 ::1 1 2\r\n",
            &long,
        ] {
            assert_eq!(proxy_header(odd.as_bytes()), Err(Error::Invalid), "{odd}");
        }
    }

    #[test]
    fn an_option_of_a_length_that_does_not_fit_is_a_fault() {
        let wrong: &[&[u8]] = &[
            &[4],
            &[4, 0],
            &[4, 0, 1],
            &[4, 0xff, 0xff, 0],
            &[1, 0, 2, b'h', b'2', 4, 0, 9, 0],
            // TLS details: too short, and with an option within that is too long.
            &[0x20, 0, 4, 1, 0, 0, 0],
            &[0x20, 0, 8, 1, 0, 0, 0, 0, 0x21, 0, 9],
        ];
        for options in wrong {
            assert_eq!(proxy_header(&version_2(1, options)), Err(Error::Invalid), "{options:x?}");
        }
    }

    #[test]
    fn a_checksum_is_held_against_the_header() {
        // A checksum, an id, and what is known of TLS; the checksum was made bit by bit, by RFC 4960's polynomial.
        let text =
            b"\x21\x11\x00\x68\x7f\x00\x00\x01\xc0\xa8\x00\x01\x30\x39\x01\xbb\x03\x00\x04\x81\x21\x46\xe0\
            \x05\x00\x041234\x20\x00\x4b\x07\x00\x00\x00\x00\x21\x00\x07TLSv1.3\x22\x00\x09localhost\
            \x25\x00\x07RSA4096\x24\x00\x0aRSA-SHA256\x23\x00\x16TLS_AES_256_GCM_SHA384";
        let whole = [SIGNATURE, text].concat();
        assert_eq!(proxy_header(&whole), Ok((Some("127.0.0.1:12345".parse().unwrap()), whole.len())));
        // The client's address, its port, the id, the checksum itself, and its length.
        for at in [16, 25, 37, 31, 30] {
            let mut other = whole.clone();
            other[at] ^= 1;
            assert_eq!(proxy_header(&other), Err(Error::Invalid), "byte {at}");
        }
    }

    #[test]
    fn a_proxy_header_that_is_not_there_whole_is_waited_for() {
        let whole = version_2(1, &[4, 0, 1, 0]);
        for length in 0..whole.len() - 6 {
            assert_eq!(proxy_header(&whole[..length]), Err(Error::BufferTooShort), "{length}");
        }
    }
}
