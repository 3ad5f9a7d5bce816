//! Whose program connected: on a machine with several users a loopback port is open to all of them.

use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};
use tokio::net::TcpStream;

/// Refuses a connection of another user. root and this process's own user may connect. Where the kernel's table cannot be
/// read, nobody can be told apart and everybody may.
pub(super) fn check(tcp: &TcpStream) -> Result<(), String> {
    let (Ok(peer), Ok(here)) = (tcp.peer_addr(), tcp.local_addr()) else {
        return Err("it is gone already".into());
    };
    let mut readable = false;
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        let Ok(text) = std::fs::read_to_string(table) else { continue };
        readable = true;
        if let Some(owner) = owner(&text, peer, here) {
            let own = rustix::process::geteuid().as_raw();
            return match owner {
                Some(uid) if uid == own || uid == 0 => Ok(()),
                Some(uid) => Err(format!("a program of user {uid} connected; --any-user would let it in")),
                None => Err("a program connected that is gone already, so nobody knows whose it was".into()),
            };
        }
    }
    match readable {
        true => Err("nobody knows whose program connected; --any-user would let it in".into()),
        false => Ok(()),
    }
}

/// The user of the socket that is at `from` and connected to `to`. Inside: `None` for one that no process holds any more,
/// which the kernel shows as root's.
fn owner(table: &str, from: SocketAddr, to: SocketAddr) -> Option<Option<u32>> {
    let wanted: Vec<(String, String)> = match (from.ip(), to.ip()) {
        // A program may have connected to the IPv4 address by a socket of IPv6.
        (IpAddr::V4(a), IpAddr::V4(b)) => vec![
            (shown(from), shown(to)),
            (shown((a.to_ipv6_mapped(), from.port()).into()), shown((b.to_ipv6_mapped(), to.port()).into())),
        ],
        _ => vec![(shown(from), shown(to))],
    };
    table.lines().skip(1).find_map(|line| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let (local, remote) = (fields.next()?, fields.next()?);
        if !wanted.iter().any(|(from, to)| from == local && to == remote) {
            return None;
        }
        // st tx:rx tr:when retrnsmt uid timeout inode
        let (uid, inode) = (fields.nth(4)?, fields.nth(1)?);
        Some(uid.parse().ok().filter(|_| inode != "0"))
    })
}

/// As the kernel writes an address: 32-bit words in the machine's own order.
fn shown(address: SocketAddr) -> String {
    let octets = match address.ip() {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    let mut text = String::new();
    for word in octets.chunks_exact(4) {
        let word = u32::from_ne_bytes([word[0], word[1], word[2], word[3]]);
        // A `String` takes all that is written to it.
        let _ = write!(text, "{word:08X}");
    }
    format!("{text}:{:04X}", address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
        0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 111 1 0 100 0 0 10 0\n\
        1: 0100007F:C350 0100007F:1F90 01 00000000:00000000 00:00000000 00000000  1001        0 222 1 0 20 4 30 10 -1\n\
        2: 0100007F:C351 0100007F:1F90 05 00000000:00000000 00:00000000 00000000     0        0 0 1 0 20 4 30 10 -1\n";

    #[test]
    fn the_user_of_a_connection_stands_in_the_kernels_table() {
        let at = |port| SocketAddr::from(([127, 0, 0, 1], port));
        if cfg!(target_endian = "little") {
            assert_eq!(owner(TABLE, at(50_000), at(8_080)), Some(Some(1_001)));
            assert_eq!(owner(TABLE, at(50_001), at(8_080)), Some(None), "nobody's, though it says root");
        }
        assert_eq!(owner(TABLE, at(50_002), at(8_080)), None);
        assert_eq!(owner(TABLE, at(8_080), at(50_000)), None, "the other end is not asked for");
        assert_eq!(owner("", at(1), at(2)), None);
    }

    #[tokio::test]
    async fn a_program_of_ones_own_is_let_in_by_either_family() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = tokio::net::TcpListener::bind(address).await else { continue };
            let at = listener.local_addr().unwrap();
            let (_client, accepted) = tokio::join!(TcpStream::connect(at), listener.accept());
            assert_eq!(check(&accepted.unwrap().0), Ok(()), "{address}");
        }
    }
}
