//! Listening where only programs of this machine can connect.
//!
//! A name such as `localhost` stands for two addresses, and a program may try either first. Whoever takes only one of
//! them leaves the other to any user of the machine.

use std::future::poll_fn;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::task::Poll;
use tokio::net::{TcpListener, TcpStream};

/// Bound loopback addresses of one port.
pub(in crate::client) struct Loopback {
    /// IPv4 first, where there are both.
    listeners: Vec<TcpListener>,
    address: SocketAddr,
}

/// How often a free port is looked for that both families have.
const MAX_TRIES: usize = 16;

impl Loopback {
    /// Listens on both loopback addresses. `port` 0: one that is free on both.
    pub(in crate::client) fn bind_both(port: u16) -> io::Result<Loopback> {
        for _ in 0..MAX_TRIES {
            let four = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
            let chosen = four.local_addr()?.port();
            return match std::net::TcpListener::bind((Ipv6Addr::LOCALHOST, chosen)) {
                Ok(six) => Self::listen(vec![four, six]),
                Err(error) if error.kind() == io::ErrorKind::AddrInUse && port == 0 => continue,
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                    let why = format!(
                        "somebody listens on [::1]:{chosen}, where programs that say localhost would land"
                    );
                    Err(io::Error::new(io::ErrorKind::AddrInUse, why))
                }
                // No IPv6 on this machine, so that nobody can listen there.
                Err(_) => Self::listen(vec![four]),
            };
        }
        Err(io::Error::new(io::ErrorKind::AddrInUse, "no port is free on 127.0.0.1 and on [::1]"))
    }

    /// Listens on one address, which programs will be told as it is.
    pub(in crate::client) fn bind(address: SocketAddr) -> io::Result<Loopback> {
        Self::listen(vec![std::net::TcpListener::bind(address)?])
    }

    fn listen(sockets: Vec<std::net::TcpListener>) -> io::Result<Loopback> {
        let mut listeners = Vec::new();
        for socket in sockets {
            socket.set_nonblocking(true)?;
            listeners.push(TcpListener::from_std(socket)?);
        }
        Ok(Loopback { address: listeners[0].local_addr()?, listeners })
    }

    /// The address that programs are told.
    pub(in crate::client) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The listeners themselves, one or two.
    pub(in crate::client) fn into_listeners(self) -> Vec<TcpListener> {
        self.listeners
    }

    /// The next connection on any of the addresses.
    pub(in crate::client) async fn accept(&self) -> io::Result<TcpStream> {
        poll_fn(|cx| {
            let mut accepted = self.listeners.iter().map(|listener| listener.poll_accept(cx));
            accepted.find(Poll::is_ready).unwrap_or(Poll::Pending)
        })
        .await
        .map(|(tcp, _)| tcp)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn both_families_of_localhost_lead_here_and_nobody_else_gets_one_of_them() {
        let here = Loopback::bind_both(0).unwrap();
        let port = here.address().port();
        let mut reached = vec![SocketAddr::from((Ipv4Addr::LOCALHOST, port))];
        if here.listeners.len() == 2 {
            reached.push((Ipv6Addr::LOCALHOST, port).into());
            assert!(std::net::TcpListener::bind((Ipv6Addr::LOCALHOST, port)).is_err());
        }
        for address in reached {
            let (connected, accepted) = tokio::join!(TcpStream::connect(address), here.accept());
            assert_eq!(connected.unwrap().local_addr().unwrap(), accepted.unwrap().peer_addr().unwrap());
        }
    }

    #[tokio::test]
    async fn a_port_of_which_somebody_has_one_family_is_not_used() {
        let Ok(other) = std::net::TcpListener::bind((Ipv6Addr::LOCALHOST, 0)) else { return };
        let port = other.local_addr().unwrap().port();
        let fault = Loopback::bind_both(port).err().unwrap().to_string();
        assert!(fault.contains(&format!("[::1]:{port}")), "{fault}");
    }
}
