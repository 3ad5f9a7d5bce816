//! Whose a connection from this machine is: a loopback port is open to all its users, and not all of them may end sessions.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// True when the other end of a connection belongs to root, or to the user as whom the gateway runs. False where that cannot
/// be told.
pub(super) fn is_own(peer: SocketAddr, listener_port: u16) -> bool {
    // `self`: where a service sees only its own part of /proc, this stands there, too.
    let tables = ["/proc/self/net/tcp", "/proc/self/net/tcp6"]
        .into_iter()
        .filter_map(|path| fs::read_to_string(path).ok());
    let owner = tables.into_iter().find_map(|table| owner_in(&table, peer, listener_port));
    owner.is_some_and(|user| user == 0 || user == rustix::process::geteuid().as_raw())
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
        assert!(is_own(peer, port));
        assert!(!is_own(peer, port.wrapping_add(1)));
        drop(stream);
        assert!(!is_own(peer, port), "a socket that was closed is nobody's");
    }
}
