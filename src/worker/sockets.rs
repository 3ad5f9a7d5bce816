//! Listening sockets: one for each listener and worker, bound before any worker runs.

use super::{Layout, listen_fault};
use crate::gateway::Listener;
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use std::io;
use std::net::{SocketAddr, TcpListener};

/// Connections that may wait in the kernel for each socket.
const BACKLOG: i32 = 4096;

/// The listening sockets of all workers, bound.
pub struct Bound {
    /// For each worker, one socket per listener.
    pub(super) sockets: Vec<Vec<(Listener, TcpListener)>>,
}

impl Bound {
    /// Binds every listener once for each worker.
    pub fn bind(listeners: &[Listener], layout: Layout) -> io::Result<Self> {
        Self::with_inherited(listeners, layout, &mut Inherited::default())
    }

    /// The same, but a socket that was inherited for a listener's address serves all workers.
    pub fn with_inherited(
        listeners: &[Listener],
        layout: Layout,
        inherited: &mut Inherited,
    ) -> io::Result<Self> {
        let count = match layout.count {
            0 => std::thread::available_parallelism()?.get(),
            count => count,
        };
        let mut listeners = listeners.to_vec();
        let taken: Vec<_> = listeners.iter().map(|listener| inherited.take(listener.address)).collect();
        let mut sockets = Vec::with_capacity(count);
        for worker in 0..count {
            let mut of_worker = Vec::with_capacity(listeners.len());
            for (listener, taken) in listeners.iter_mut().zip(&taken) {
                let share = if worker == 0 { PortSharing::Afterwards } else { PortSharing::Already };
                let socket = match taken {
                    // The port is another user's, who may not even be known here: no second socket can share it.
                    Some(socket) => socket.try_clone()?,
                    None => bind(listener.address, share)?,
                };
                // Port 0 is chosen by the first worker's socket and shared by the others.
                listener.address = socket.local_addr()?;
                of_worker.push((listener.clone(), socket));
            }
            sockets.push(of_worker);
        }
        Ok(Bound { sockets })
    }

    /// The addresses in use, ports filled in.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.sockets.first().into_iter().flatten().map(|(listener, _)| listener.address).collect()
    }
}

/// Listening sockets that a service manager opened before this process began.
#[derive(Debug, Default)]
pub struct Inherited(Vec<(SocketAddr, TcpListener)>);

impl Inherited {
    /// Makes sockets ready to serve.
    pub fn new(listeners: Vec<TcpListener>) -> io::Result<Self> {
        let ready = |listener: TcpListener| {
            let address = listener.local_addr()?;
            set_options(&SockRef::from(&listener))?;
            listener.set_nonblocking(true)?;
            Ok((address, listener))
        };
        listeners.into_iter().map(ready).collect::<io::Result<_>>().map(Inherited)
    }

    /// Takes the socket of an address.
    pub fn take(&mut self, address: SocketAddr) -> Option<TcpListener> {
        let at = self.0.iter().position(|(own, _)| *own == address)?;
        Some(self.0.swap_remove(at).1)
    }

    /// Finds fault with sockets that nobody took: connections to them would wait for ever.
    pub fn expect_none(&self) -> io::Result<()> {
        match self.0.first() {
            None => Ok(()),
            Some((address, _)) => Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!(
                    "the service manager passes a socket on {address}, where the configuration has no listener; \
                     write the same address in both"
                ),
            )),
        }
    }
}

/// When `SO_REUSEPORT` is set on a socket.
#[derive(Clone, Copy, PartialEq, Eq)]
enum PortSharing {
    /// Once it has the port to itself. With `SO_REUSEPORT` from the start, a second gateway of the same user would get half
    /// of the connections, and nobody would know.
    Afterwards,
    /// From the start: the port is this process' already.
    Already,
}

fn bind(address: SocketAddr, share: PortSharing) -> io::Result<TcpListener> {
    let bound = || {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        if address.is_ipv6() {
            // A wildcard is dual stack; a single address is only itself.
            socket.set_only_v6(!address.ip().is_unspecified())?;
        }
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(share == PortSharing::Already)?;
        set_options(&SockRef::from(&socket))?;
        socket.bind(&address.into())?;
        socket.set_reuse_port(true)?;
        socket.listen(BACKLOG)?;
        socket.set_nonblocking(true)?;
        Ok(socket.into())
    };
    bound().map_err(|error| listen_fault(address, error))
}

/// What accepted sockets inherit, which saves five system calls for each connection.
fn set_options(socket: &SockRef<'_>) -> io::Result<()> {
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_user_timeout(Some(crate::dial::USER_TIMEOUT))?;
    let keepalive = TcpKeepalive::new().with_time(crate::dial::KEEPALIVE);
    socket.set_tcp_keepalive(&keepalive.with_interval(crate::dial::KEEPALIVE / 4))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpStream;
    use std::time::Duration;

    fn listener(address: &str) -> Listener {
        Listener {
            number: 0,
            address: address.parse().unwrap(),
            mysql: None,
            cancel_in_clear: false,
            proxy_protocol_from: Vec::new(),
            routes: None,
            default_route: None,
        }
    }

    #[test]
    fn every_worker_gets_a_socket_on_the_same_port() {
        let bound = Bound::bind(
            &[listener("127.0.0.1:0")],
            Layout { count: 3, pin: false, busy_poll: Duration::ZERO },
        )
        .unwrap();
        let ports: Vec<u16> =
            bound.sockets.iter().map(|sockets| sockets[0].1.local_addr().unwrap().port()).collect();
        assert_eq!(ports, [bound.addresses()[0].port(); 3]);
    }

    #[test]
    fn a_taken_port_is_an_error_that_names_the_address_and_the_process() {
        let layout = Layout { count: 2, pin: false, busy_poll: Duration::ZERO };
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        // Another gateway's, which shares its port among its own workers.
        let gateway = Bound::bind(&[listener("127.0.0.1:0")], layout).unwrap();
        for address in [taken.local_addr().unwrap(), gateway.addresses()[0]] {
            let all = SocketAddr::new([0, 0, 0, 0].into(), address.port());
            for wanted in [address, all].map(|address| address.to_string()) {
                let error = Bound::bind(&[listener(&wanted)], layout).err().unwrap().to_string();
                let owner = format!("process {} (", std::process::id());
                assert!(error.starts_with(&wanted) && error.contains(&owner), "{error}");
            }
        }
    }

    #[test]
    fn accepted_sockets_inherit_their_options() {
        let socket = bind("127.0.0.1:0".parse().unwrap(), PortSharing::Afterwards).unwrap();
        socket.set_nonblocking(false).unwrap();
        let _client = TcpStream::connect(socket.local_addr().unwrap()).unwrap();
        let accepted = socket2::SockRef::from(&socket.accept().unwrap().0).tcp_nodelay();
        assert!(accepted.unwrap());
    }

    #[test]
    fn an_inherited_socket_serves_all_workers_and_one_that_no_listener_wants_is_a_fault() {
        let layout = Layout { count: 2, pin: false, busy_poll: Duration::ZERO };
        let made = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = made.local_addr().unwrap();
        let mut inherited = Inherited::new(vec![made]).unwrap();
        assert!(inherited.expect_none().unwrap_err().to_string().contains(&address.to_string()));
        let bound = Bound::with_inherited(&[listener(&address.to_string())], layout, &mut inherited).unwrap();
        assert!(inherited.expect_none().is_ok());
        assert_eq!(bound.addresses(), [address]);
        let _client = TcpStream::connect(address).unwrap();
        let accepted = bound.sockets.iter().filter(|sockets| sockets[0].1.accept().is_ok()).count();
        assert_eq!(accepted, 1, "one queue, and nobody waits for it");
    }

    #[test]
    fn a_wildcard_of_ipv6_is_dual_stack() {
        let socket = bind("[::]:0".parse().unwrap(), PortSharing::Afterwards).unwrap();
        let port = socket.local_addr().unwrap().port();
        assert!(TcpStream::connect(("127.0.0.1", port)).is_ok());
        assert!(TcpStream::connect(("::1", port)).is_ok());
    }
}
