//! Connecting a leg: TCP, the protocol's own steps before TLS, and TLS.

use super::application::{Application, Negotiation};
use super::fault::DialFault;
use super::plaintext::PlaintextUpstream;
use super::resolver;
use super::socket::{ConnectDeadline, connect_to};
use super::upstream::{Dialled, Kind, Tls, Upstream};
use crate::names::Reached;
use crate::protocol::mysql::{self, Agreed, ServerGreeting};
use crate::protocol::postgres;
use crate::tls::handshake::{self, HandshakeFault, connect};
use rustls::AlertDescription;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{timeout, timeout_at};

impl Upstream {
    pub(super) async fn open(
        &self,
        application: Application,
        at: Option<SocketAddr>,
        deadline: ConnectDeadline,
        records_per_key: u64,
    ) -> Result<Dialled, DialFault> {
        let opened = match &self.kind {
            Kind::Tls(tls) => {
                let opening = self.open_tls(tls, application, at, deadline, records_per_key);
                timeout_at(deadline.at, opening).await
            }
            Kind::Plaintext(address) => timeout_at(deadline.at, open_plaintext(address, application)).await,
        };
        opened.map_err(|_| DialFault::Timeout(deadline.limit))?
    }

    async fn open_tls(
        &self,
        tls: &Tls,
        application: Application,
        at: Option<SocketAddr>,
        deadline: ConnectDeadline,
        records_per_key: u64,
    ) -> Result<Dialled, DialFault> {
        let (mut tcp, address) = match at {
            Some(address) => (connect_to(address).await?, address),
            None => tls.connect(deadline).await?,
        };
        if self.negotiation == Negotiation::Request {
            request_tls(&mut tcp, address).await?;
        }
        let mysql = read_greeting(&mut tcp, &address.into(), application).await?;
        if let Some(Agreed { greeting, flags }) = &mysql {
            if greeting.capabilities & mysql::capability::SSL == 0 {
                return Err(DialFault::NoTls(address));
            }
            let mut request = Vec::new();
            mysql::write(&mut request, 1, &mysql::response::tls_request(*flags));
            tcp.write_all(&request).await.map_err(|error| DialFault::Connect(address, error))?;
        }
        let config = match application {
            Application::None | Application::Mysql(_) => tls.plain.clone(),
            Application::Http1 => tls.http1.clone(),
            Application::Http2 => tls.http2.clone(),
            Application::Postgres => tls.postgresql.clone(),
            Application::Named(name) => {
                let mut config = (*tls.plain).clone();
                config.alpn_protocols = vec![name.as_bytes().to_vec()];
                Arc::new(config)
            }
        };
        let established = connect(tcp, config, tls.server_name.clone(), records_per_key).await;
        let established = established.map_err(|fault| {
            if let HandshakeFault::Tls(rustls::Error::AlertReceived(
                AlertDescription::NoApplicationProtocol,
            )) = &fault
            {
                self.known.lock().learn(application, false);
                return DialFault::Alpn(address, application);
            }
            DialFault::Tls(address, fault)
        })?;
        // A server without ALPN speaks HTTP/1.1 if it speaks HTTP (RFC 9113 section 3.3 wants ALPN for HTTP/2), and
        // PostgreSQL if it was asked for TLS in PostgreSQL's way; without that way it must name it.
        let may_be_silent = match application {
            Application::None | Application::Http1 | Application::Mysql(_) => true,
            Application::Http2 | Application::Named(_) => false,
            Application::Postgres => self.negotiation == Negotiation::Request,
        };
        // One name was offered, so none but that one is agreed on.
        let speaks = established.facts.alpn.is_some() || may_be_silent;
        self.known.lock().learn(application, speaks);
        if !speaks {
            return Err(DialFault::Alpn(address, application));
        }
        Ok(Dialled { established, address: address.into(), mysql })
    }
}

impl Tls {
    /// Tries the addresses in order. Each has an equal share of the time that is left, so that one that swallows
    /// packets does not take it all.
    async fn connect(&self, deadline: ConnectDeadline) -> Result<(TcpStream, SocketAddr), DialFault> {
        let fault = |error| DialFault::Resolve(self.host.clone(), error);
        let addresses = resolver::system().resolve(&self.host, self.dns_ttl).await.map_err(fault)?;
        let mut last = fault(Arc::new(io::ErrorKind::NotFound.into()));
        for (tried, ip) in addresses.iter().enumerate() {
            let address = SocketAddr::new(*ip, self.port);
            match timeout(deadline.share(addresses.len() - tried), connect_to(address)).await {
                Ok(Ok(tcp)) => return Ok((tcp, address)),
                Ok(Err(fault)) => last = fault,
                Err(_) => last = DialFault::Connect(address, io::ErrorKind::TimedOut.into()),
            }
        }
        Err(last)
    }
}

async fn open_plaintext(address: &PlaintextUpstream, application: Application) -> Result<Dialled, DialFault> {
    let (mut tcp, address) = address.connect().await?;
    let mut mysql = read_greeting(&mut tcp, &address, application).await?;
    if let Some(agreed) = &mut mysql {
        agreed.flags &= !mysql::capability::SSL;
    }
    Ok(Dialled { established: handshake::none(tcp), address, mysql })
}

/// Reads exactly the bytes of a MySQL server's greeting: whatever else came in clear is left to the handshake, which fails on
/// it. `None` for all other protocols.
async fn read_greeting(
    tcp: &mut TcpStream,
    address: &Reached,
    application: Application,
) -> Result<Option<Agreed>, DialFault> {
    let Application::Mysql(wanted) = application else { return Ok(None) };
    let broken = |fault: &dyn std::fmt::Display| DialFault::Greeting(address.clone(), fault.to_string());
    let mut packet = vec![0; mysql::HEAD];
    tcp.read_exact(&mut packet).await.map_err(|error| broken(&error))?;
    let length = u32::from_le_bytes([packet[0], packet[1], packet[2], 0]) as usize;
    if length > mysql::MAX_LOGIN_PACKET {
        return Err(broken(&"a greeting of an impossible length"));
    }
    let mut payload = vec![0; length];
    tcp.read_exact(&mut payload).await.map_err(|error| broken(&error))?;
    let greeting = ServerGreeting::read(&payload).map_err(|fault| broken(&fault))?;
    let flags = mysql::capability::for_upstream(wanted, greeting.capabilities);
    let flags = flags.ok_or_else(|| broken(&"it cannot do what clients were promised"))?;
    Ok(Some(Agreed { greeting, flags }))
}

/// Reads exactly one byte: whatever else came in clear is left to the handshake, which fails on it (CVE-2021-23222).
async fn request_tls(tcp: &mut TcpStream, address: SocketAddr) -> Result<(), DialFault> {
    let broken = |error| DialFault::Connect(address, error);
    tcp.write_all(&postgres::SSL_REQUEST).await.map_err(broken)?;
    match tcp.read_u8().await.map_err(broken)? {
        postgres::TLS_ACCEPTED => Ok(()),
        _ => Err(DialFault::NoTls(address)),
    }
}
