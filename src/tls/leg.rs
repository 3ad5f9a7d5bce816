//! One TLS connection after its handshake: the socket, the keys of both directions, and what is kept for key updates and
//! tickets.
//!
//! A leg knows what records mean (data, alerts, key updates, tickets) and answers for them with every guard that
//! rustls' own connection would have had. It does not know who is on the other leg: that is the relay.
//!
//! A leg can also be one without TLS (`Leg::plaintext`), for an upstream that cannot do any better. The relay moves
//! pieces of up to [`MAX_PLAINTEXT`] bytes through it as if they were records, and its ends are TCP's: a FIN is the end
//! that close_notify is elsewhere, since nothing better exists. A leg with TLS never becomes one without.

mod control;

pub use super::fault::LegFault;
pub use super::outbox::{Tap, TapFault};
pub(super) use control::{Agreed, Tickets};

use super::outbox::{End, Outbox, Takes};
use super::record::{Content, MAX_PLAINTEXT, MAX_RECORD, Opener, RecordFault, Secrets, Suite, record_length};
use crate::system::TcpInfo;
use rustix::io::Errno;
use rustix::net::RecvFlags;
use rustls::{ExtractedSecrets, ProtocolVersion};
use socket2::SockRef;
use std::cell::RefCell;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, Interest, ReadBuf};
use tokio::net::TcpStream;

/// A TLS connection whose records are in our own hands, or a connection without any.
pub struct Leg {
    /// The socket.
    pub tcp: TcpStream,
    /// What comes in.
    pub rx: Rx,
    /// What goes out.
    tx: Outbox,
    agreed: Agreed,
    /// Keys renewed because of the record limit.
    renewals: u64,
    /// `TCP_USER_TIMEOUT` is extended for a peer whose window is closed.
    window_closed: bool,
}

/// How long data may go unacknowledged until the kernel gives the connection up (`TCP_USER_TIMEOUT`, tcp(7)): a partition. The
/// kernel counts a closed window, too, which is no partition but a peer that pauses: see [`Leg::allow_closed_window`].
pub const USER_TIMEOUT: Duration = Duration::from_secs(30);

/// Where the sending direction of a leg stands.
pub struct Sending<'a> {
    /// Its cipher suite.
    pub suite: Suite,
    /// The number of the next record.
    pub number: u64,
    /// The traffic secret (RFC 8446 section 7.1), on a client's leg with TLS 1.3.
    pub secret: Option<&'a [u8]>,
}

/// The receiving direction of a leg.
pub struct Rx {
    /// `None` on a leg without TLS.
    opener: Option<Opener>,
    /// What was read and not opened: at most a record that is not whole, or what waits for its turn.
    pub partial: Vec<u8>,
    /// A handshake message that is not whole.
    message: Vec<u8>,
    /// Key updates since the last data.
    updates: u8,
    /// Warning alerts so far.
    warnings: u8,
    /// True once the peer said that it has said all: close_notify, or a FIN where there is no TLS.
    pub closed: bool,
    /// The reactor was told to forget that there are bytes to read: see [`Leg::poll_end_behind_unread`].
    readiness_cleared: bool,
}

/// The meaning of a received record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// Application data at these bytes of the record.
    Data(usize, usize),
    /// A control record that the leg has processed.
    Control,
    /// close_notify: the peer will send nothing more.
    Closed,
}

/// Peer state, as the socket shows it without a read.
#[derive(Debug)]
pub enum PeerState {
    /// There is nothing to read; the task is woken when that changes.
    Quiet,
    /// Bytes wait. Nobody is woken when an end comes behind them, unless by [`Leg::poll_end_behind_unread`].
    Unread,
    /// The peer will send nothing more than what waits.
    Ended,
    /// The peer's end came, and a reset behind it: it reads nothing any more. Said once; afterwards it is `Ended`.
    Gone,
    /// The connection was reset or failed before the peer's end came.
    Broken(io::Error),
}

impl Leg {
    /// Takes over after the handshake. `left` is what was read beyond it and not opened.
    pub(super) fn new(
        tcp: TcpStream,
        secrets: ExtractedSecrets,
        version: ProtocolVersion,
        agreed: Agreed,
        left: Vec<u8>,
        records_per_key: u64,
    ) -> Option<Self> {
        let (rx_sequence, rx_secret) = secrets.rx;
        let (tx_sequence, tx_secret) = secrets.tx;
        let opener = Opener::new(&Secrets::from_rustls(&rx_secret, version)?, rx_sequence)?;
        let tx = Outbox::new(&Secrets::from_rustls(&tx_secret, version)?, tx_sequence, records_per_key)?;
        Some(Self::with(tcp, Some(opener), tx, agreed, left))
    }

    /// A leg without TLS, on a fresh connection. What is written on it can be read on the way.
    pub(super) fn plaintext(tcp: TcpStream) -> Self {
        Self::with(tcp, None, Outbox::plaintext(), Agreed::Nothing, Vec::new())
    }

    fn with(tcp: TcpStream, opener: Option<Opener>, tx: Outbox, agreed: Agreed, partial: Vec<u8>) -> Self {
        let rx = Rx {
            opener,
            partial,
            message: Vec::new(),
            updates: 0,
            warnings: 0,
            closed: false,
            readiness_cleared: false,
        };
        Leg { tcp, rx, tx, agreed, renewals: 0, window_closed: false }
    }

    /// Where the sending direction stands; `None` without TLS.
    pub fn sending(&self) -> Option<Sending<'_>> {
        let (suite, number) = self.tx.position()?;
        Some(Sending { suite, number, secret: self.agreed.sending_secret() })
    }

    /// Shows to `tap` what is queued from now on: records where [`Leg::sending`] has a secret for them, else data.
    pub fn set_tap(&mut self, tap: Box<dyn Tap>) {
        let takes = if self.agreed.sending_secret().is_some() { Takes::Records } else { Takes::Data };
        self.tx.set_tap(tap, takes);
    }

    /// Writes nothing from now on before `tap` has recorded what it has taken elsewhere. It is shown nothing.
    pub fn set_write_gate(&mut self, tap: Box<dyn Tap>) {
        self.tx.set_tap(tap, Takes::Nothing);
    }

    /// True while what is unsent waits to be recorded.
    pub fn awaits_recording(&self) -> bool {
        self.tx.awaits_tap()
    }

    /// Discards what is unsent, and lets nothing follow.
    pub fn discard_unsent(&mut self) {
        self.tx.discard_unsent();
    }

    /// False for a leg without TLS.
    pub fn is_tls(&self) -> bool {
        self.rx.opener.is_some()
    }

    /// The length of the record at the front of what was read, whole or not; `None` while it cannot be told. Without
    /// TLS it is whatever there is, as far as a record could carry it.
    pub fn next_record(&self, bytes: &[u8]) -> Result<Option<usize>, RecordFault> {
        match self.rx.opener {
            Some(_) => record_length(bytes),
            None if bytes.is_empty() => Ok(None),
            None => Ok(Some(bytes.len().min(MAX_PLAINTEXT))),
        }
    }

    /// Reads from the socket, without waiting beyond `cx`. `Ok(0)`: the end of the stream.
    pub fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        if self.rx.readiness_cleared
            && let Some(read) = self.read_past_reactor(buffer)
        {
            return Poll::Ready(read);
        }
        let mut buffer = ReadBuf::new(buffer);
        match Pin::new(&mut self.tcp).poll_read(cx, &mut buffer) {
            Poll::Ready(read) => Poll::Ready(read.map(|()| buffer.filled().len())),
            Poll::Pending => {
                self.agreed.forget_tickets();
                Poll::Pending
            }
        }
    }

    /// Reads what the reactor was told to forget; `None` when there is nothing of that left.
    #[cold]
    fn read_past_reactor(&mut self, buffer: &mut [u8]) -> Option<io::Result<usize>> {
        loop {
            match rustix::net::recv(&self.tcp, &mut *buffer, RecvFlags::DONTWAIT) {
                Ok((_, n)) => return Some(Ok(n)),
                Err(Errno::INTR) => {}
                Err(Errno::WOULDBLOCK) => {
                    self.rx.readiness_cleared = false;
                    return None;
                }
                Err(errno) => return Some(Err(errno.into())),
            }
        }
    }

    /// Waits for the connection's end although bytes wait that are not to be read yet: `cx` is woken when something more
    /// arrives, be it bytes, a FIN or a reset.
    ///
    /// A socket with unread bytes is ready to be read, and who waits for that is not told of anything new. So the reactor
    /// is made to forget it. The kernel tells it of each arrival anew (epoll(7), edge-triggered); what stood there before is
    /// found by the next read, which asks the kernel first.
    pub fn poll_end_behind_unread(&mut self, cx: &mut Context<'_>) {
        self.rx.readiness_cleared = true;
        let forget = || Err::<(), _>(io::ErrorKind::WouldBlock.into());
        // What is cleared is the readiness that was seen, so that nothing that arrives meanwhile is lost. That a direction
        // has ended is never forgotten.
        _ = self.tcp.try_io(Interest::READABLE, forget);
        if self.tcp.poll_read_ready(cx).is_ready() {
            cx.waker().wake_by_ref();
        }
    }

    /// Looks for the connection's end without reading. Costs no system call while it stands.
    pub fn poll_peer_state(&self, cx: &mut Context<'_>) -> PeerState {
        if self.tcp.poll_read_ready(cx).is_pending() {
            return PeerState::Quiet;
        }
        let known = pin!(self.tcp.ready(Interest::READABLE | Interest::ERROR));
        match known.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Err(error)) => PeerState::Broken(error),
            Poll::Ready(Ok(ready)) if ready.is_error() => match self.tcp.take_error() {
                // So Linux calls a reset that comes behind a FIN.
                Ok(Some(error)) if error.kind() == io::ErrorKind::BrokenPipe => PeerState::Gone,
                Ok(Some(error)) | Err(error) => PeerState::Broken(error),
                Ok(None) => PeerState::Ended,
            },
            Poll::Ready(Ok(ready)) if ready.is_read_closed() => PeerState::Ended,
            Poll::Ready(Ok(_)) | Poll::Pending => PeerState::Unread,
        }
    }

    /// Opens one whole record in place and deals with it unless it is data.
    pub fn receive(&mut self, record: &mut [u8]) -> Result<Received, LegFault> {
        if self.rx.closed {
            return Err(LegFault::Message("data after close_notify"));
        }
        let Some(opener) = &mut self.rx.opener else { return Ok(Received::Data(0, record.len())) };
        let opened = opener.open(record)?;
        match opened.content {
            Content::Data => {
                if !self.rx.message.is_empty() {
                    return Err(LegFault::Message("data inside a fragmented handshake message"));
                }
                if opened.start != opened.end {
                    self.rx.updates = 0;
                }
                Ok(Received::Data(opened.start, opened.end))
            }
            Content::Alert => self.alert(&record[opened.start..opened.end]),
            Content::Handshake => {
                self.rx.message.extend_from_slice(&record[opened.start..opened.end]);
                self.messages()?;
                Ok(Received::Control)
            }
        }
    }

    /// True when this leg's outgoing records fit the other leg's incoming ones: they can be sealed in place.
    pub fn fits(&self, source: &Leg) -> bool {
        source.rx.opener.as_ref().is_some_and(|opener| self.tx.fits(opener))
    }

    /// Seals an opened record of a fitting leg in place; the caller writes it. The key must not be worn.
    pub fn reseal(&mut self, record: &mut [u8]) -> Result<(), LegFault> {
        self.tx.reseal(record)
    }

    /// True when the next data must go through [`Leg::queue`], because the key wants renewing first.
    pub fn needs_rekey(&self) -> bool {
        self.tx.needs_rekey()
    }

    /// Seals data behind everything that is still unsent, renewing the key where its limit falls. Without TLS it is
    /// put there as it is.
    pub fn queue(&mut self, mut data: &[u8]) -> Result<(), LegFault> {
        while !data.is_empty() {
            self.rekey_if_needed()?;
            data = &data[self.tx.queue(data)?..];
        }
        Ok(())
    }

    /// Queues a record without data, unless the leg can carry none any more.
    pub fn queue_empty(&mut self) -> Result<(), LegFault> {
        self.tx.queue_empty()
    }

    /// Puts ciphertext that was sealed in place behind everything that is still unsent.
    pub fn queue_sealed(&mut self, sealed: &[u8]) {
        self.tx.queue_sealed(sealed);
    }

    /// Puts the end of the handshake behind everything that is unsent; `urgent`: the peer waits for it.
    pub(super) fn queue_handshake(&mut self, bytes: &[u8], urgent: bool) {
        match urgent {
            true => self.tx.queue_handshake(bytes),
            false => self.tx.leave_with_next(&self.tcp, bytes),
        }
    }

    /// How many sealed bytes wait to be written.
    pub fn unsent(&self) -> usize {
        self.tx.unsent()
    }

    /// How often the sending key was renewed.
    pub fn renewals(&self) -> u64 {
        self.renewals
    }

    /// True once a fatal alert was queued.
    pub fn has_alerted(&self) -> bool {
        self.tx.end() == End::Alerted
    }

    /// Writes what is unsent. `Ready` when nothing is left.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.tx.poll_flush(&mut self.tcp, cx)
    }

    /// Writes sealed bytes past `unsent`, which must be empty; returns how many went.
    pub fn poll_write_sealed(&mut self, cx: &mut Context<'_>, sealed: &[u8]) -> Poll<io::Result<usize>> {
        self.tx.poll_write_sealed(&mut self.tcp, cx, sealed)
    }

    /// The buffer behind `unsent`, to be lent while there is something to send and taken back when there is not.
    pub fn unsent_buffer(&mut self) -> &mut Vec<u8> {
        self.tx.unsent_buffer()
    }

    /// Writes what is unsent and ends our direction of the TCP connection, once. `Err` when the last bytes cannot be
    /// written; that the end itself cannot be told means that the peer is gone already.
    pub fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.tx.poll_finish(&mut self.tcp, cx)
    }

    /// Lets the kernel bear with a peer that is there and does not read, as long as `pause`, and with one that is not there
    /// no longer than [`USER_TIMEOUT`]. To be called more often than that while anything is under way; returns whether it
    /// is.
    pub fn allow_closed_window(&mut self, pause: Duration) -> bool {
        // An error: not TCP, which knows neither windows nor partitions.
        let Ok(info) = TcpInfo::of(&self.tcp) else { return false };
        let closed = info.is_window_closed();
        if closed != self.window_closed {
            let limit = if closed { pause } else { USER_TIMEOUT };
            // Where it cannot be set, the kernel's limit is the old one.
            let _ = SockRef::from(&self.tcp).set_tcp_user_timeout(Some(limit));
            self.window_closed = closed;
        }
        info.unacked > 0 || info.not_sent > 0
    }

    /// Leaves it to the kernel how long it tries to deliver what was written, for a leg that is given up.
    pub fn leave_to_kernel(&self) {
        let under_way = TcpInfo::of(&self.tcp).is_ok_and(|info| info.unacked > 0 || info.not_sent > 0);
        if under_way {
            // As above.
            let _ = SockRef::from(&self.tcp).set_tcp_user_timeout(None);
        }
    }

    /// True where the peer is a client of the gateway.
    pub fn is_clients(&self) -> bool {
        matches!(self.agreed, Agreed::Server(_))
    }

    /// Reads and throws away what the peer still sends, without opening it. `Ok(0)`: the end of the stream.
    pub fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        READ.with_borrow_mut(|read| self.poll_read(cx, read))
    }

    /// Waits for data and appends it to `plaintext`; false at a clean end. For the stages before the relay.
    ///
    /// Given up half-way, it loses nothing: the next call goes on.
    pub async fn read(&mut self, plaintext: &mut Vec<u8>) -> Result<bool, LegFault> {
        loop {
            while let Some(length) = self.next_record(&self.rx.partial)? {
                if self.rx.partial.len() < length {
                    break;
                }
                let mut partial = std::mem::take(&mut self.rx.partial);
                let received = self.receive(&mut partial[..length]);
                if let Ok(Received::Data(start, end)) = received {
                    plaintext.extend_from_slice(&partial[start..end]);
                }
                partial.drain(..length);
                if !partial.is_empty() {
                    self.rx.partial = partial;
                }
                match received? {
                    Received::Data(start, end) if start != end => return Ok(true),
                    Received::Data(..) => {}
                    Received::Control => self.flush().await?,
                    Received::Closed => return Ok(false),
                }
            }
            if std::future::poll_fn(|cx| self.poll_partial(cx)).await? == 0 {
                return self.on_eof().map(|()| false);
            }
        }
    }

    /// The connection came to its end without close_notify. That is a truncation, except where there is no TLS.
    pub fn on_eof(&mut self) -> Result<(), LegFault> {
        if self.is_tls() {
            return Err(LegFault::Truncated);
        }
        self.rx.closed = true;
        Ok(())
    }

    /// Reads behind what is not opened yet. `Ok(0)`: the end of the stream.
    fn poll_partial(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        READ.with_borrow_mut(|read| {
            let n = ready!(self.poll_read(cx, read))?;
            self.rx.partial.extend_from_slice(&read[..n]);
            Poll::Ready(Ok(n))
        })
    }

    /// Waits until everything queued is written.
    pub async fn flush(&mut self) -> Result<(), LegFault> {
        Ok(std::future::poll_fn(|cx| self.poll_flush(cx)).await?)
    }
}

impl Drop for Leg {
    /// An alert that is queued leaves, wherever its leg is given up.
    fn drop(&mut self) {
        self.tx.send_alert_now(&self.tcp);
    }
}

thread_local! {
    /// What stages before the relay read into: a leg that waits keeps what came, not room for a whole record.
    static READ: RefCell<Box<[u8]>> = RefCell::new(vec![0; MAX_RECORD].into_boxed_slice());
}
