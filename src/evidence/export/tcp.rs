//! A fabricated TCP connection.

use super::pcapng::write_packet;
use crate::recording::format::frame::Plane;
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// Payload of a packet at most.
const SEGMENT: usize = 16_000;

const FIN: u8 = 1;
const SYN: u8 = 2;
const PSH: u8 = 8;
const ACK: u8 = 16;

/// Client and server.
pub(super) struct Ends {
    client: SocketAddr,
    server: SocketAddr,
}

impl Ends {
    /// The addresses of the audit lines where they are known and of one family, else those for documentation (RFC 5737).
    /// The server's port is `port`.
    pub(super) fn new(remote: &str, listener: &str, port: u16) -> Self {
        let parse = |text: &str| text.parse::<SocketAddr>().ok();
        let canonical = |end: SocketAddr| SocketAddr::new(end.ip().to_canonical(), end.port());
        let client = parse(remote).map(canonical);
        let server = parse(listener).map(canonical);
        let (client, server) = match (client, server) {
            (Some(client), Some(server)) if client.is_ipv4() == server.is_ipv4() => (client, server),
            _ => (
                (Ipv4Addr::new(192, 0, 2, 1), client.map_or(40_000, |client| client.port())).into(),
                (Ipv4Addr::new(192, 0, 2, 2), port).into(),
            ),
        };
        // A client's port that a capture tool would take for another service's.
        let client = if client.port() < 1024 { SocketAddr::new(client.ip(), 40_000) } else { client };
        Ends { client, server: SocketAddr::new(server.ip(), port) }
    }
}

/// The connection while packets are made of it.
pub(super) struct Stream {
    ends: Ends,
    /// Next sequence numbers, by plane of the sender.
    next: [u32; 2],
    /// Times never go back.
    time: u64,
}

impl Stream {
    pub(super) fn new(ends: Ends) -> Self {
        Stream { ends, next: [1_000, 2_000], time: 0 }
    }

    /// Three packets.
    pub(super) fn open(&mut self, time: u64, out: &mut impl Write) -> io::Result<()> {
        self.packet(time, Plane::Up, SYN, &[], out)?;
        self.packet(time, Plane::Down, SYN | ACK, &[], out)?;
        self.packet(time, Plane::Up, ACK, &[], out)
    }

    /// As many packets as the bytes need, and an acknowledgement.
    pub(super) fn send(
        &mut self,
        time: u64,
        plane: Plane,
        bytes: &[u8],
        out: &mut impl Write,
    ) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        for chunk in bytes.chunks(SEGMENT) {
            self.packet(time, plane, PSH | ACK, chunk, out)?;
        }
        self.packet(time, other(plane), ACK, &[], out)
    }

    /// Both sides end.
    pub(super) fn close(&mut self, time: u64, out: &mut impl Write) -> io::Result<()> {
        self.packet(time, Plane::Up, FIN | ACK, &[], out)?;
        self.packet(time, Plane::Down, FIN | ACK, &[], out)?;
        self.packet(time, Plane::Up, ACK, &[], out)
    }

    fn packet(
        &mut self,
        time: u64,
        sender: Plane,
        flags: u8,
        payload: &[u8],
        out: &mut impl Write,
    ) -> io::Result<()> {
        self.time = self.time.max(time);
        let (from, to) = match sender {
            Plane::Up => (self.ends.client, self.ends.server),
            Plane::Down => (self.ends.server, self.ends.client),
        };
        let acknowledged = if flags & ACK == 0 { 0 } else { self.next[other(sender).index()] };
        let mut segment = Vec::with_capacity(20 + payload.len());
        segment.extend(from.port().to_be_bytes());
        segment.extend(to.port().to_be_bytes());
        segment.extend(self.next[sender.index()].to_be_bytes());
        segment.extend(acknowledged.to_be_bytes());
        segment.extend([5 << 4, flags, 0xff, 0xff, 0, 0, 0, 0]);
        segment.extend(payload);
        let own = payload.len() as u32 + u32::from(flags & (SYN | FIN) != 0);
        let next = &mut self.next[sender.index()];
        *next = next.wrapping_add(own);
        let packet = ip_packet(from.ip(), to.ip(), segment);
        write_packet(out, self.time, &packet)
    }
}

fn other(plane: Plane) -> Plane {
    match plane {
        Plane::Up => Plane::Down,
        Plane::Down => Plane::Up,
    }
}

fn ip_packet(from: IpAddr, to: IpAddr, mut segment: Vec<u8>) -> Vec<u8> {
    const TCP: u8 = 6;
    let length = segment.len() as u16;
    let (mut head, pseudo) = match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let [high, low] = (20 + length).to_be_bytes();
            let mut head = vec![0x45, 0, high, low, 0, 0, 0x40, 0, 64, TCP, 0, 0];
            head.extend(from.octets());
            head.extend(to.octets());
            let sum = checksum(&[&head]);
            head[10..12].copy_from_slice(&sum.to_be_bytes());
            let pseudo = [&from.octets()[..], &to.octets(), &[0, TCP], &length.to_be_bytes()].concat();
            (head, pseudo)
        }
        (from, to) => {
            let octets = |end: IpAddr| match end {
                IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
                IpAddr::V6(v6) => v6.octets(),
            };
            let [high, low] = length.to_be_bytes();
            let mut head = vec![0x60, 0, 0, 0, high, low, TCP, 64];
            head.extend(octets(from));
            head.extend(octets(to));
            let length = u32::from(length).to_be_bytes();
            let pseudo = [&octets(from)[..], &octets(to), &length, &[0, 0, 0, TCP]].concat();
            (head, pseudo)
        }
    };
    let sum = checksum(&[&pseudo, &segment]);
    segment[16..18].copy_from_slice(&sum.to_be_bytes());
    head.extend(segment);
    head
}

/// The Internet checksum (RFC 1071). All parts but the last have even lengths.
fn checksum(parts: &[&[u8]]) -> u16 {
    let words = parts.iter().flat_map(|part| part.chunks(2));
    let word = |pair: &[u8]| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0));
    let mut sum: u32 = words.map(word).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}
