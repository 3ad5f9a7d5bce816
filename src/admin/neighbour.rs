//! The local user behind a loopback connection: not every user of the machine may end sessions.
//!
//! The kernel is asked for the one socket (sock_diag(7)); a table of all of them takes it tens of milliseconds where there are
//! thousands of sessions, and is read only where it does not answer.

use socket2::{Domain, Protocol, Socket, Type};
use std::fs;
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

/// True when the other end of a connection belongs to root, or to the user as whom the gateway runs. False where that cannot
/// be told.
pub(super) fn is_own(peer: SocketAddr, listener: SocketAddr) -> bool {
    let owner = asked_owner(peer, listener).or_else(|| listed_owner(peer, listener.port()));
    owner.is_some_and(|user| user == 0 || user == rustix::process::geteuid().as_raw())
}

/// Messages of sock_diag(7), which have the byte order of the machine, addresses and ports that of the network.
mod diag {
    pub(super) const NETLINK: i32 = 16;
    pub(super) const SOCK_DIAG: i32 = 4;
    pub(super) const BY_FAMILY: u16 = 20;
    pub(super) const REQUEST: u16 = 1;
    pub(super) const TCP: u8 = 6;
    pub(super) const ESTABLISHED: u8 = 1;
    pub(super) const REQUEST_BYTES: usize = 72;
    /// Header, and `inet_diag_msg` up to and with the inode.
    pub(super) const ANSWER_BYTES: usize = 16 + 72;
    /// Where `inet_diag_msg` has the state, the user and the inode, behind the header.
    pub(super) const STATE: usize = 16 + 1;
    pub(super) const USER: usize = 16 + 64;
    pub(super) const INODE: usize = 16 + 68;
}

/// The user of the socket at the other end, as the kernel says. `None`: it does not say.
fn asked_owner(peer: SocketAddr, listener: SocketAddr) -> Option<u32> {
    let canonical = |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
    let (peer, own) = (canonical(peer), canonical(listener));
    if own.ip().is_unspecified() || peer.is_ipv4() != own.is_ipv4() {
        // Which of the listener's addresses was reached is not known.
        return None;
    }
    let protocol = Some(Protocol::from(diag::SOCK_DIAG));
    let socket = Socket::new(Domain::from(diag::NETLINK), Type::RAW, protocol).ok()?;
    socket.set_read_timeout(Some(Duration::from_millis(100))).ok()?;
    socket.send(&request(peer, own)).ok()?;
    let mut answer = [0; 512];
    let length = (&socket).read(&mut answer).ok()?;
    owner_told(&answer[..length])
}

/// Asks for the socket whose own end is `peer` and whose other end is `own`.
fn request(peer: SocketAddr, own: SocketAddr) -> Vec<u8> {
    let mut out = Vec::with_capacity(diag::REQUEST_BYTES);
    out.extend((diag::REQUEST_BYTES as u32).to_ne_bytes());
    out.extend(diag::BY_FAMILY.to_ne_bytes());
    out.extend(diag::REQUEST.to_ne_bytes());
    // Sequence and port: there is one answer.
    out.extend([0; 8]);
    let family = if peer.is_ipv4() { 2_u8 } else { 10 };
    out.extend([family, diag::TCP, 0, 0]);
    // All states.
    out.extend(u32::MAX.to_ne_bytes());
    out.extend(peer.port().to_be_bytes());
    out.extend(own.port().to_be_bytes());
    for address in [peer.ip(), own.ip()] {
        let mut bytes = [0; 16];
        match address {
            IpAddr::V4(address) => bytes[..4].copy_from_slice(&address.octets()),
            IpAddr::V6(address) => bytes = address.octets(),
        }
        out.extend(bytes);
    }
    // Any interface, any cookie.
    out.extend([0; 4]);
    out.extend([0xff; 8]);
    out
}

/// The user that an answer names. A socket that its process has closed is nobody's.
fn owner_told(answer: &[u8]) -> Option<u32> {
    let number = |at: usize| Some(u32::from_ne_bytes(answer.get(at..at + 4)?.try_into().ok()?));
    let kind = u16::from_ne_bytes(answer.get(4..6)?.try_into().ok()?);
    let is_it = answer.len() >= diag::ANSWER_BYTES
        && kind == diag::BY_FAMILY
        && answer[diag::STATE] == diag::ESTABLISHED
        && number(diag::INODE)? != 0;
    if is_it { number(diag::USER) } else { None }
}

/// The same from the kernel's tables of all sockets.
fn listed_owner(peer: SocketAddr, listener_port: u16) -> Option<u32> {
    // `self`: where a service sees only its own part of /proc, this stands there, too.
    let tables = ["/proc/self/net/tcp", "/proc/self/net/tcp6"]
        .into_iter()
        .filter_map(|path| fs::read_to_string(path).ok());
    tables.into_iter().find_map(|table| owner_in(&table, peer, listener_port))
}

/// The user of the established socket from `peer` to a port of this machine (proc_pid_net(5)). A socket that its process has
/// closed is nobody's, and said to be root's: it is passed over.
fn owner_in(table: &str, peer: SocketAddr, port: u16) -> Option<u32> {
    let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
    table.lines().skip(1).find_map(|line| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let (local, remote, state) = (fields.next()?, fields.next()?, fields.next()?);
        let user = fields.nth(3)?;
        let inode = fields.nth(1)?;
        let is_it =
            state == "01" && inode != "0" && address(local)? == peer && address(remote)?.port() == port;
        if is_it { user.parse().ok() } else { None }
    })
}

/// An address as the kernel prints it: words of the address as numbers of this machine, in hex.
fn address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let words = ip.as_bytes().chunks(8).map(|word| {
        let word = u32::from_str_radix(std::str::from_utf8(word).ok()?, 16).ok()?;
        Some(word.to_ne_bytes())
    });
    let bytes = words.collect::<Option<Vec<_>>>()?.concat();
    let ip: IpAddr = match bytes.len() {
        4 => Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?).into(),
        _ => Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?).into(),
    };
    Some(SocketAddr::new(ip.to_canonical(), u16::from_str_radix(port, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn the_owner_is_read_from_the_row_of_the_live_connection_only() {
        let row = |local: &str, remote: &str, state: &str, user: u32, inode: u32| {
            format!(
                "  7: {local} {remote} {state} 00000000:00000000 00:00000000 00000000 {user:5} 0 {inode} 1 0 20 4 0 10 -1"
            )
        };
        let table = |rows: &[String]| format!("  sl  local_address …\n{}\n", rows.join("\n"));
        let peer: SocketAddr = "127.0.0.1:40000".parse().unwrap();
        let [mine, admin, other] = ["0100007F:9C40", "0100007F:26AD", "0100007F:26AE"];
        let mapped = "0000000000000000FFFF00000100007F:9C40";
        for (rows, owner) in [
            (vec![row(mine, admin, "01", 1000, 9)], Some(1000)),
            (vec![row(mapped, "0000000000000000FFFF00000100007F:26AD", "01", 1001, 9)], Some(1001)),
            // Our own end, another port, a socket that was closed or is nobody's.
            (vec![row(admin, mine, "01", 0, 9)], None),
            (vec![row(mine, other, "01", 0, 9)], None),
            (vec![row(mine, admin, "04", 0, 0)], None),
            (vec![row(mine, admin, "06", 0, 0)], None),
            (vec![row(mine, admin, "01", 0, 0)], None),
            (vec!["x".into(), row("zz", "", "01", 1, 1)], None),
        ] {
            assert_eq!(owner_in(&table(&rows), peer, 9901), owner, "{rows:?}");
        }
    }

    #[test]
    fn a_connection_of_this_process_is_its_own() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let (_accepted, peer) = listener.accept().unwrap();
        let own = listener.local_addr().unwrap();
        let elsewhere = SocketAddr::new(own.ip(), port.wrapping_add(1));
        // The kernel's answer and its tables agree.
        assert_eq!(asked_owner(peer, own), listed_owner(peer, port));
        assert!(asked_owner(peer, own).is_some() && asked_owner(peer, elsewhere).is_none());
        assert!(is_own(peer, own));
        assert!(!is_own(peer, elsewhere));
        drop(stream);
        assert!(!is_own(peer, own), "a socket that was closed is nobody's");
    }

    #[test]
    fn what_the_kernel_answers_is_read_at_its_place_and_faults_name_nobody() {
        let mut answer = vec![0; diag::ANSWER_BYTES];
        answer[4..6].copy_from_slice(&diag::BY_FAMILY.to_ne_bytes());
        answer[diag::STATE] = diag::ESTABLISHED;
        answer[diag::USER..][..4].copy_from_slice(&1000_u32.to_ne_bytes());
        answer[diag::INODE..][..4].copy_from_slice(&9_u32.to_ne_bytes());
        assert_eq!(owner_told(&answer), Some(1000));
        for (at, byte) in [(4, 2), (diag::STATE, 8), (diag::INODE, 0)] {
            let mut wrong = answer.clone();
            wrong[at] = byte;
            assert_eq!(owner_told(&wrong), None, "{at}");
        }
        (0..answer.len()).for_each(|cut| assert_eq!(owner_told(&answer[..cut]), None));
        assert_eq!(
            request("127.0.0.1:1".parse().unwrap(), "127.0.0.1:2".parse().unwrap()).len(),
            diag::REQUEST_BYTES
        );
    }
}
