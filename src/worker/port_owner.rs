//! Finds the process that listens on a port, from Linux' `/proc`.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// A listen error with the address and, where known, the process that has it.
pub fn listen_fault(address: SocketAddr, error: io::Error) -> io::Error {
    let owner = match error.kind() {
        io::ErrorKind::AddrInUse => format!(" by {}; end it, or configure another port", owner(address)),
        io::ErrorKind::AddrNotAvailable => {
            format!("; this machine has no such address: configure one that `ip addr` lists, or [::]:{}", address.port())
        }
        io::ErrorKind::PermissionDenied if address.port() < 1024 => {
            "; ports below 1024 need CAP_NET_BIND_SERVICE, as the systemd unit gives it, or configure another port".into()
        }
        _ => String::new(),
    };
    io::Error::new(error.kind(), format!("{address}: {error}{owner}"))
}

/// `process 4711 (nginx)`, or that it cannot be told: other users' processes may hide theirs.
fn owner(address: SocketAddr) -> String {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"];
    let inode = tables.iter().find_map(|table| listening_inode(&fs::read_to_string(table).ok()?, address));
    inode.and_then(|inode| process_of(&inode)).unwrap_or_else(|| "a process that cannot be seen".into())
}

/// The inode of a socket that listens on an address or on one that covers it (proc(5): `local_address`, `st`, `inode`).
fn listening_inode(table: &str, wanted: SocketAddr) -> Option<String> {
    table.lines().skip(1).find_map(|line| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let (local, state, inode) = (fields.get(1)?, *fields.get(3)?, *fields.get(9)?);
        let (ip, port) = local.split_once(':')?;
        let (ip, port) = (address_in(ip)?, u16::from_str_radix(port, 16).ok()?);
        let clashes = ip == wanted.ip() || ip.is_unspecified() || wanted.ip().is_unspecified();
        (state == LISTEN && port == wanted.port() && clashes).then(|| inode.to_owned())
    })
}

/// TCP_LISTEN of the kernel.
const LISTEN: &str = "0A";

/// An address as the kernel prints it: words of 32 bits in the machine's order.
fn address_in(hex: &str) -> Option<IpAddr> {
    let word = |at: usize| Some(u32::from_str_radix(hex.get(at..at + 8)?, 16).ok()?.to_ne_bytes());
    match hex.len() {
        8 => Some(Ipv4Addr::from(word(0)?).into()),
        32 => {
            let bytes: Vec<u8> = [word(0)?, word(8)?, word(16)?, word(24)?].concat();
            Some(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?).into())
        }
        _ => None,
    }
}

fn process_of(inode: &str) -> Option<String> {
    let link = format!("socket:[{inode}]");
    fs::read_dir("/proc").ok()?.flatten().find_map(|process| {
        let pid = process.file_name().into_string().ok().filter(|name| name.parse::<u32>().is_ok())?;
        let mut descriptors = fs::read_dir(process.path().join("fd")).ok()?.flatten();
        descriptors.find(|fd| fs::read_link(fd.path()).is_ok_and(|to| to.as_os_str() == link.as_str()))?;
        let name = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
        Some(format!("process {pid} ({})", name.trim_end()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn the_process_that_listens_is_named() {
        let me = format!("process {} (", std::process::id());
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let listener = TcpListener::bind(address).unwrap();
            let address = listener.local_addr().unwrap();
            assert!(owner(address).starts_with(&me), "{}", owner(address));
            // Whoever wants all addresses meets it, too.
            let all = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), address.port());
            assert!(owner(all).starts_with(&me));
        }
    }

    #[test]
    fn a_table_is_read_by_port_and_state() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
            0: 0100007F:0050 00000000:0000 01 00000000:00000000 00:00000000 00000000     0        0 1 1\n\
            1: 0100007F:0051 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 2 1\n\
            2: 00000000:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 3 1\n\
            garbage\n";
        let inode = |address: &str| listening_inode(table, address.parse().unwrap());
        assert_eq!(inode("127.0.0.1:80").as_deref(), Some("3"));
        assert_eq!(inode("127.0.0.1:81").as_deref(), Some("2"));
        assert_eq!(inode("192.0.2.1:81"), None);
        assert_eq!(inode("127.0.0.1:82"), None);
    }
}
