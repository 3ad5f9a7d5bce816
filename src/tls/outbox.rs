//! The one creator of ciphertext: what a leg sends is sealed here, queued here and written from here.
//!
//! Whatever a peer will see of a leg after its handshake passes [`Outbox`], and nothing outside this file can call the
//! sealer (`tests/architecture.rs`). So a [`Tap`] that stands here sees all of it once, in the order in which it goes on
//! the wire, and before it does: nothing is written that the tap has not taken. Off, it costs one test for each batch.
//!
//! ```text
//!   unsent   | on the wire already | taken by the tap | sealed and not shown to the tap |
//!            0                     written            tapped                           unsent.len()
//! ```
//! What stands here is as it goes on the wire and is never sealed again: a short write only moves `written`.

use super::fault::LegFault;
use super::record::{Content, MAX_PLAINTEXT, Opener, RecordFault, Sealer, Secrets, Suite};
use rustix::net::SendFlags;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};
use tokio::io::{AsyncWrite, Interest};
use tokio::net::TcpStream;

/// Bytes of replies to what the peer asked of the connection itself (key updates, renegotiation) that may wait to be
/// written: a peer that does not read them must not make us hoard them. Data, and what we say of our own accord, does not
/// count: that is no fault of the peer's.
const MAX_UNSENT_REPLIES: usize = 64 * 1024;

/// Takes what a leg sends before it is written. After an `Err` nothing of the leg is written any more.
pub trait Tap {
    /// Takes whole records, which go on the wire behind all that were taken before. One call for a batch; all of one key.
    fn records(&mut self, records: &[u8]) -> Result<(), TapFault>;
    /// Takes data in the place of records, on a leg whose records it cannot use: one without TLS 1.3.
    fn plaintext(&mut self, data: &[u8]) -> Result<(), TapFault>;
    /// The records to come are of the next key.
    fn rekey(&mut self) -> Result<(), TapFault>;
    /// Ready once all that was taken may be written: asked before each write.
    fn poll_recorded(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), TapFault>>;
}

/// What a [`Tap`] takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Takes {
    Records,
    /// The data within.
    Data,
    /// Nothing: it only says when something may be written.
    Nothing,
}

/// A [`Tap`] could not take what was to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("what was to be sent could not be recorded")]
pub struct TapFault;

/// A tap in its place.
struct Tapped {
    tap: Box<dyn Tap>,
    takes: Takes,
    /// Data that it has not taken yet, where it takes that.
    data: Vec<u8>,
    /// Bytes at the front of what is unsent that it has taken, or does not want.
    tapped: usize,
    /// Bytes that it has taken and that were neither written nor queued yet.
    ahead: usize,
    /// It was not ready when it was asked last.
    is_awaited: bool,
}

/// The sending direction of a leg.
pub(super) struct Outbox {
    /// `None` on a leg without TLS.
    sealer: Option<Sealer>,
    unsent: Vec<u8>,
    written: usize,
    /// Bytes of replies that were queued since nothing was unsent.
    replies: usize,
    end: End,
    /// Our direction of the TCP connection has ended.
    shut: bool,
    tap: Option<Box<Tapped>>,
}

/// The last word that was queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// None: data may follow.
    Open,
    /// close_notify; without TLS the FIN will say it.
    Notified,
    /// A fatal alert.
    Alerted,
    /// Nothing: what was to be sent must not be, and nothing may stand behind it.
    Silenced,
}

/// Why something is said that is not data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ControlCause {
    /// The peer asked for it.
    Reply,
    /// Of our own accord.
    Own,
}

impl Outbox {
    /// Takes the sending secrets of a leg; `None` when they do not fit the suite.
    pub(super) fn new(secrets: &Secrets<'_>, sequence: u64, records_per_key: u64) -> Option<Self> {
        Some(Self::with(Some(Sealer::new(secrets, sequence, records_per_key)?)))
    }

    /// The sending direction of a leg without TLS: what is queued is written as it is.
    pub(super) fn plaintext() -> Self {
        Self::with(None)
    }

    fn with(sealer: Option<Sealer>) -> Self {
        let (unsent, end) = (Vec::new(), End::Open);
        Outbox { sealer, unsent, written: 0, replies: 0, end, shut: false, tap: None }
    }

    /// Shows to `tap` what is queued from now on.
    pub(super) fn set_tap(&mut self, tap: Box<dyn Tap>, takes: Takes) {
        let (data, tapped) = (Vec::new(), self.unsent.len());
        self.tap = Some(Box::new(Tapped { tap, takes, data, tapped, ahead: 0, is_awaited: false }));
    }

    /// True while what is unsent waits for the tap.
    pub(super) fn awaits_tap(&self) -> bool {
        self.tap.as_ref().is_some_and(|tapped| tapped.is_awaited)
    }

    /// The suite and the number of the next record; `None` without TLS.
    pub(super) fn position(&self) -> Option<(Suite, u64)> {
        self.sealer.as_ref().map(Sealer::position)
    }

    /// Discards what is unsent, and lets nothing follow.
    pub(super) fn discard_unsent(&mut self) {
        self.unsent.clear();
        (self.written, self.replies, self.end) = (0, 0, End::Silenced);
    }

    /// True for a leg with TLS 1.3, whose key can be renewed.
    pub(super) fn can_rekey(&self) -> bool {
        self.sealer.as_ref().is_some_and(Sealer::can_rekey)
    }

    /// True when the key wants renewing before the next record.
    pub(super) fn needs_rekey(&self) -> bool {
        self.sealer.as_ref().is_some_and(Sealer::needs_rekey)
    }

    /// True when records that `opener` opened can be sealed in place.
    pub(super) fn fits(&self, opener: &Opener) -> bool {
        let takes_data = || self.tap.as_ref().is_some_and(|tapped| tapped.takes == Takes::Data);
        self.sealer.as_ref().is_some_and(|sealer| sealer.fits(opener)) && !takes_data()
    }

    /// The last word that was queued.
    pub(super) fn end(&self) -> End {
        self.end
    }

    /// Changes to the next generation of keys.
    pub(super) fn rekey(&mut self, secrets: &Secrets<'_>) -> Result<(), RecordFault> {
        if self.tap.is_some() && self.show_unsent().is_ok() {
            let rekeyed = self.tap.as_mut().map_or(Ok(()), |tapped| tapped.tap.rekey());
            if rekeyed.is_err() {
                self.discard_unsent();
            }
        }
        self.sealer.as_mut().map_or(Err(RecordFault::Unexpected), |sealer| sealer.rekey(secrets))
    }

    /// Seals an opened record of a fitting leg in place. The caller passes it to [`Outbox::poll_write_sealed`] or
    /// [`Outbox::queue_sealed`], in the order of sealing. The key must not be worn.
    pub(super) fn reseal(&mut self, record: &mut [u8]) -> Result<(), LegFault> {
        // A leg without TLS fits none.
        let Some(sealer) = &mut self.sealer else { return Err(LegFault::Message("a record without TLS")) };
        Ok(sealer.reseal(record)?)
    }

    /// Seals one piece of data of at most [`MAX_PLAINTEXT`] bytes behind everything that is still unsent; returns how much
    /// of `data` that was. Without TLS all of it is put there as it is.
    pub(super) fn queue(&mut self, data: &[u8]) -> Result<usize, LegFault> {
        if self.end != End::Open {
            return Err(LegFault::Io(io::ErrorKind::BrokenPipe.into()));
        }
        let Some(sealer) = &mut self.sealer else {
            self.unsent.extend_from_slice(data);
            return Ok(data.len());
        };
        let piece = &data[..data.len().min(MAX_PLAINTEXT)];
        sealer.seal(Content::Data, piece, &mut self.unsent)?;
        if let Some(tapped) = self.tap.as_mut().filter(|tapped| tapped.takes == Takes::Data) {
            tapped.data.extend_from_slice(piece);
        }
        Ok(piece.len())
    }

    /// Queues a record without data, where the key can carry one.
    pub(super) fn queue_empty(&mut self) -> Result<(), LegFault> {
        if let (Some(sealer), End::Open) = (&mut self.sealer, self.end)
            && !sealer.needs_rekey()
        {
            sealer.seal_empty(&mut self.unsent)?;
        }
        Ok(())
    }

    /// Says something about the connection itself, which only TLS has words for.
    pub(super) fn queue_control(
        &mut self,
        content: Content,
        body: &[u8],
        occasion: ControlCause,
    ) -> Result<(), LegFault> {
        let Some(sealer) = &mut self.sealer else { return Ok(()) };
        if self.end == End::Silenced {
            return Ok(());
        }
        if occasion == ControlCause::Reply && self.replies > MAX_UNSENT_REPLIES {
            return Err(LegFault::Message("control messages that it does not read the answers to"));
        }
        let from = self.unsent.len();
        sealer.seal(content, body, &mut self.unsent)?;
        if occasion == ControlCause::Reply {
            self.replies += self.unsent.len() - from;
        }
        Ok(())
    }

    /// Queues the last word of a leg, once. Without TLS there are no words for it.
    pub(super) fn queue_end(&mut self, end: End, alert: &[u8; 2]) -> Result<(), LegFault> {
        if self.end == End::Open {
            self.queue_control(Content::Alert, alert, ControlCause::Own)?;
            self.end = end;
        }
        Ok(())
    }

    /// Puts ciphertext that was sealed in place behind everything that is still unsent: also what
    /// [`Outbox::poll_write_sealed`] has left, before anything else is queued.
    pub(super) fn queue_sealed(&mut self, sealed: &[u8]) {
        self.unsent.extend_from_slice(sealed);
        if let Some(tapped) = &mut self.tap {
            tapped.tapped += std::mem::take(&mut tapped.ahead);
        }
    }

    /// Gives the kernel handshake bytes that are in no hurry: they leave with the next data, and by themselves when there
    /// is none for 200 ms. Nothing may be unsent.
    pub(super) fn leave_with_next(&mut self, tcp: &TcpStream, bytes: &[u8]) {
        debug_assert_eq!(self.unsent(), 0);
        // What it does not take, or why not, is for the next write to find out.
        let taken = if bytes.is_empty() { 0 } else { send_more(tcp, bytes).unwrap_or(0) };
        self.queue_handshake(&bytes[taken..]);
    }

    /// Puts handshake bytes that rustls sealed before the keys were handed over behind everything that is unsent. A tap
    /// begins after the handshake.
    pub(super) fn queue_handshake(&mut self, bytes: &[u8]) {
        self.unsent.extend_from_slice(bytes);
    }

    /// How many bytes wait to be written.
    pub(super) fn unsent(&self) -> usize {
        self.unsent.len() - self.written
    }

    /// The buffer behind `unsent`, to be lent while there is something to send and taken back when there is not.
    pub(super) fn unsent_buffer(&mut self) -> &mut Vec<u8> {
        &mut self.unsent
    }

    /// Writes what is unsent. `Ready` when nothing is left.
    pub(super) fn poll_flush(&mut self, tcp: &mut TcpStream, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.tap.is_some() && self.written < self.unsent.len() {
            ready!(self.poll_taken(cx))?;
        }
        while self.written < self.unsent.len() {
            let n = ready!(Pin::new(&mut *tcp).poll_write(cx, &self.unsent[self.written..]))?;
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written += n;
        }
        self.sent_all();
        Poll::Ready(Ok(()))
    }

    /// Writes sealed bytes past `unsent`, which must be empty; returns how many went. The others, all of them while it is
    /// pending, are to be passed to [`Outbox::queue_sealed`] next.
    pub(super) fn poll_write_sealed(
        &mut self,
        tcp: &mut TcpStream,
        cx: &mut Context<'_>,
        sealed: &[u8],
    ) -> Poll<io::Result<usize>> {
        debug_assert_eq!(self.unsent(), 0);
        if self.tap.is_some() {
            ready!(self.poll_sealed_taken(cx, sealed))?;
        }
        let written = ready!(Pin::new(tcp).poll_write(cx, sealed))?;
        if let Some(tapped) = &mut self.tap {
            tapped.ahead -= written;
        }
        Poll::Ready(Ok(written))
    }

    /// Writes what is unsent and ends our direction of the TCP connection, once. `Err` when the last bytes cannot be
    /// written; that the end itself cannot be told means that the peer is gone already.
    ///
    /// The last bytes wait in the kernel for the FIN, so that both leave in one segment.
    pub(super) fn poll_finish(&mut self, tcp: &mut TcpStream, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.shut {
            return Poll::Ready(Ok(()));
        }
        if self.tap.is_some() && self.unsent() > 0 {
            ready!(self.poll_taken(cx))?;
        }
        while self.unsent() > 0 {
            ready!(tcp.poll_write_ready(cx))?;
            match send_more(tcp, &self.unsent[self.written..]) {
                Ok(n) => self.written += n,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        self.sent_all();
        // A socket's shutdown does not wait.
        let _ = ready!(Pin::new(tcp).poll_shutdown(cx));
        self.shut = true;
        Poll::Ready(Ok(()))
    }

    /// Writes what the socket takes at once of an alert that nobody waited for.
    pub(super) fn send_alert_now(&mut self, tcp: &TcpStream) {
        let cx = &mut Context::from_waker(Waker::noop());
        let is_owed = self.end == End::Alerted && self.unsent() > 0 && !self.shut;
        if is_owed && matches!(self.poll_taken(cx), Poll::Ready(Ok(()))) {
            // The leg is being dropped: there is nobody to tell of a failure.
            let _ = tcp.try_write(&self.unsent[self.written..]);
        }
    }

    fn sent_all(&mut self) {
        self.unsent.clear();
        (self.written, self.replies) = (0, 0);
        if let Some(tapped) = &mut self.tap {
            tapped.tapped = 0;
        }
    }

    /// Ready when what is unsent may be written: the tap has taken it, and has recorded what it has taken.
    /// Not inlined: most sessions have no tap.
    #[inline(never)]
    fn poll_taken(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.show_unsent()?;
        self.poll_tap(cx)
    }

    /// The same for records that were sealed elsewhere.
    #[inline(never)]
    fn poll_sealed_taken(&mut self, cx: &mut Context<'_>, sealed: &[u8]) -> Poll<io::Result<()>> {
        let Some(tapped) = &mut self.tap else { return Poll::Ready(Ok(())) };
        let taken = match tapped.takes {
            Takes::Nothing => Ok(()),
            // In place nothing is sealed that is to be shown as data.
            Takes::Records | Takes::Data => tapped.tap.records(sealed),
        };
        if taken.is_err() {
            self.discard_unsent();
            return Poll::Ready(Err(io::Error::other(TapFault)));
        }
        tapped.ahead = sealed.len();
        self.poll_tap(cx)
    }

    fn poll_tap(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(tapped) = &mut self.tap else { return Poll::Ready(Ok(())) };
        let recorded = tapped.tap.poll_recorded(cx);
        tapped.is_awaited = recorded.is_pending();
        recorded.map_err(|not_recorded| {
            self.discard_unsent();
            io::Error::other(not_recorded)
        })
    }

    /// Has the tap take what is unsent; `Err`: nothing of it may be written.
    fn show_unsent(&mut self) -> io::Result<()> {
        let Some(tapped) = &mut self.tap else { return Ok(()) };
        let taken = match tapped.takes {
            Takes::Data if !tapped.data.is_empty() => {
                tapped.tap.plaintext(&tapped.data).inspect(|()| tapped.data.clear())
            }
            Takes::Records if tapped.tapped != self.unsent.len() => {
                tapped.tap.records(&self.unsent[tapped.tapped..])
            }
            Takes::Data | Takes::Records | Takes::Nothing => Ok(()),
        };
        tapped.tapped = self.unsent.len();
        taken.map_err(|not_taken| {
            self.discard_unsent();
            io::Error::other(not_taken)
        })
    }
}

/// Writes what is to leave together with what follows.
fn send_more(tcp: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
    let flags = SendFlags::MORE | SendFlags::NOSIGNAL;
    tcp.try_io(Interest::WRITABLE, || Ok(rustix::net::send(tcp, bytes, flags)?))
}

#[cfg(test)]
mod tests;
