//! System calls that no library wraps safely: the one file with `unsafe`, which the rest of the crate denies.
//!
//! `TCP_INFO` of tcp(7): what Linux knows of the sending direction of a TCP connection.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// A part of `struct tcp_info` of linux/tcp.h.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpInfo {
    /// Segments that were sent and not acknowledged.
    pub unacked: u32,
    /// Bytes that were written and not sent yet.
    pub not_sent: u32,
    /// The peer's receive window in bytes; `None` before Linux 5.4.
    pub send_window: Option<u32>,
}

/// Bytes of the structure up to the last field that is looked at.
const LENGTH: usize = 232;

impl TcpInfo {
    /// Asks the kernel. An error for what is no TCP socket.
    pub fn of(socket: impl AsFd) -> io::Result<Self> {
        let mut bytes = [0_u8; LENGTH];
        let mut length = LENGTH as libc::socklen_t;
        #[allow(unsafe_code, reason = "getsockopt(2) takes pointers; no library wraps this option")]
        // SAFETY: the kernel writes at most `length` bytes to `bytes`, which outlives the call, and says in `length` how
        // many it wrote; the descriptor is borrowed for as long.
        let status = unsafe {
            libc::getsockopt(
                socket.as_fd().as_raw_fd(),
                libc::IPPROTO_TCP,
                libc::TCP_INFO,
                bytes.as_mut_ptr().cast(),
                &mut length,
            )
        };
        if status != 0 {
            return Err(io::Error::last_os_error());
        }
        let field = |at: usize| {
            let field = bytes.get(at..at + 4)?.first_chunk::<4>()?;
            (at + 4 <= length as usize).then(|| u32::from_ne_bytes(*field))
        };
        let missing = || io::Error::from(io::ErrorKind::Unsupported);
        Ok(TcpInfo {
            unacked: field(24).ok_or_else(missing)?,
            not_sent: field(144).ok_or_else(missing)?,
            send_window: field(228),
        })
    }

    /// True when bytes wait that the peer has no room for: it is there and does not read.
    pub fn is_window_closed(&self) -> bool {
        self.not_sent > 0 && (self.unacked == 0 || self.send_window == Some(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::net::UnixStream;
    use std::thread::sleep;
    use std::time::Duration;

    #[test]
    fn a_peer_that_does_not_read_closes_its_window_and_opens_it_when_it_reads() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut sender = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut receiver, _) = listener.accept().unwrap();
        assert!(!TcpInfo::of(&sender).unwrap().is_window_closed(), "nothing was written");
        sender.set_nonblocking(true).unwrap();
        let block = vec![7; 64 * 1024];
        let mut written = 0;
        for _ in 0..20 {
            while let Ok(n) = sender.write(&block) {
                written += n;
            }
            sleep(Duration::from_millis(20));
        }
        assert!(TcpInfo::of(&sender).unwrap().is_window_closed());
        let mut read = 0;
        while read < written {
            read += receiver.read(&mut vec![0; 1 << 20]).unwrap();
        }
        let info = TcpInfo::of(&sender).unwrap();
        assert!(!info.is_window_closed() && info.not_sent == 0, "{info:?}");
    }

    #[test]
    fn what_is_no_tcp_socket_is_an_error() {
        assert!(TcpInfo::of(UnixStream::pair().unwrap().0).is_err());
    }
}
