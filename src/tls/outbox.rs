//! The one creator of ciphertext: what a leg sends is sealed here, queued here and written from here.
//!
//! Whatever a peer will see of a leg after its handshake passes [`Outbox`], and nothing outside this file can call the
//! sealer (`tests/architecture.rs`). So a [`Tap`] that stands here sees every byte of the leg's ciphertext once, in the
//! order in which it goes on the wire. Off, it costs one test for each batch.
//!
//! ```text
//!   unsent   | on the wire already | sealed and still to be written |
//!            0                     written                          unsent.len()
//! ```
//! What stands here is as it goes on the wire and is never sealed again: a short write only moves `written`.

use super::fault::LegFault;
use super::record::{Content, MAX_PLAINTEXT, Opener, RecordFault, Sealer, Secrets};
use rustix::net::SendFlags;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncWrite, Interest};
use tokio::net::TcpStream;

/// Bytes of replies to what the peer asked of the connection itself (key updates, renegotiation) that may wait to be
/// written: a peer that does not read them must not make us hoard them. Data, and what we say of our own accord, does not
/// count: that is no fault of the peer's.
const MAX_UNSENT_REPLIES: usize = 64 * 1024;

/// Sees ciphertext on its way out.
pub(super) trait Tap {
    /// These bytes go on the wire next, behind all that were seen before. One call for a batch of records.
    fn sealed(&mut self, ciphertext: &[u8]);
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
    tap: Option<Box<dyn Tap>>,
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
}

/// Why something is said that is not data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Occasion {
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

    /// Shows all ciphertext from now on to `tap`.
    #[cfg_attr(not(test), expect(dead_code, reason = "a recording will stand here"))]
    pub(super) fn set_tap(&mut self, tap: Box<dyn Tap>) {
        self.tap = Some(tap);
    }

    /// True for a leg with TLS 1.3, whose key can be renewed.
    pub(super) fn can_rekey(&self) -> bool {
        self.sealer.as_ref().is_some_and(Sealer::can_rekey)
    }

    /// True when the key wants renewing before the next record.
    pub(super) fn is_worn(&self) -> bool {
        self.sealer.as_ref().is_some_and(Sealer::is_worn)
    }

    /// True when records that `opener` opened can be sealed in place.
    pub(super) fn fits(&self, opener: &Opener) -> bool {
        self.sealer.as_ref().is_some_and(|sealer| sealer.fits(opener))
    }

    /// The last word that was queued.
    pub(super) fn end(&self) -> End {
        self.end
    }

    /// Changes to the next generation of keys.
    pub(super) fn rekey(&mut self, secrets: &Secrets<'_>) -> Result<(), RecordFault> {
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
        let from = self.unsent.len();
        sealer.seal(Content::Data, piece, &mut self.unsent)?;
        self.show(from);
        Ok(piece.len())
    }

    /// Queues a record without data, where the key can carry one.
    pub(super) fn queue_empty(&mut self) -> Result<(), LegFault> {
        let from = self.unsent.len();
        if let (Some(sealer), End::Open) = (&mut self.sealer, self.end)
            && !sealer.is_worn()
        {
            sealer.seal_empty(&mut self.unsent)?;
            self.show(from);
        }
        Ok(())
    }

    /// Says something about the connection itself, which only TLS has words for.
    pub(super) fn queue_control(
        &mut self,
        content: Content,
        body: &[u8],
        occasion: Occasion,
    ) -> Result<(), LegFault> {
        let Some(sealer) = &mut self.sealer else { return Ok(()) };
        if occasion == Occasion::Reply && self.replies > MAX_UNSENT_REPLIES {
            return Err(LegFault::Message("control messages that it does not read the answers to"));
        }
        let from = self.unsent.len();
        sealer.seal(content, body, &mut self.unsent)?;
        if occasion == Occasion::Reply {
            self.replies += self.unsent.len() - from;
        }
        self.show(from);
        Ok(())
    }

    /// Queues the last word of a leg, once. Without TLS there are no words for it.
    pub(super) fn queue_end(&mut self, end: End, alert: &[u8; 2]) -> Result<(), LegFault> {
        if self.end == End::Open {
            self.queue_control(Content::Alert, alert, Occasion::Own)?;
            self.end = end;
        }
        Ok(())
    }

    /// Puts ciphertext that was sealed in place behind everything that is still unsent.
    pub(super) fn queue_sealed(&mut self, sealed: &[u8]) {
        let from = self.unsent.len();
        self.unsent.extend_from_slice(sealed);
        self.show(from);
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

    /// Writes sealed bytes past `unsent`, which must be empty; returns how many went.
    pub(super) fn poll_write_sealed(
        &mut self,
        tcp: &mut TcpStream,
        cx: &mut Context<'_>,
        sealed: &[u8],
    ) -> Poll<io::Result<usize>> {
        debug_assert_eq!(self.unsent(), 0);
        let written = ready!(Pin::new(tcp).poll_write(cx, sealed))?;
        if let Some(tap) = &mut self.tap {
            tap.sealed(&sealed[..written]);
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
        if self.end == End::Alerted && self.unsent() > 0 && !self.shut {
            // The leg is being dropped: there is nobody to tell of a failure.
            let _ = tcp.try_write(&self.unsent[self.written..]);
        }
    }

    fn sent_all(&mut self) {
        self.unsent.clear();
        (self.written, self.replies) = (0, 0);
    }

    /// Shows what was appended to `unsent` to the tap.
    fn show(&mut self, from: usize) {
        if let Some(tap) = &mut self.tap {
            tap.sealed(&self.unsent[from..]);
        }
    }
}

/// Writes what is to leave together with what follows.
fn send_more(tcp: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
    let flags = SendFlags::MORE | SendFlags::NOSIGNAL;
    tcp.try_io(Interest::WRITABLE, || Ok(rustix::net::send(tcp, bytes, flags)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::record::{Suite, Version};
    use std::cell::RefCell;
    use std::rc::Rc;
    use tokio::io::AsyncReadExt;
    use tokio::net::TcpListener;

    const KEY: Secrets<'static> =
        Secrets { version: Version::Tls13, suite: Suite::Aes128Gcm, key: &[7; 16], iv: [3; 12] };

    struct Tape(Rc<RefCell<Vec<u8>>>);

    impl Tap for Tape {
        fn sealed(&mut self, ciphertext: &[u8]) {
            self.0.borrow_mut().extend_from_slice(ciphertext);
        }
    }

    #[tokio::test]
    async fn a_tap_sees_what_the_peer_sees_byte_for_byte_whichever_way_it_went_out() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut tcp = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut peer, _) = listener.accept().await.unwrap();
        let (mut outbox, tape) = (Outbox::new(&KEY, 0, 100).unwrap(), Rc::new(RefCell::new(Vec::new())));
        outbox.set_tap(Box::new(Tape(tape.clone())));
        let mut elsewhere = Outbox::new(&KEY, 0, 100).unwrap();
        let mut opener = Opener::new(&KEY, 0).unwrap();
        elsewhere.queue(b"resealed").unwrap();
        let mut record = elsewhere.unsent_buffer().clone();
        opener.open(&mut record).unwrap();
        outbox.reseal(&mut record).unwrap();
        let written = std::future::poll_fn(|cx| outbox.poll_write_sealed(&mut tcp, cx, &record[..9])).await;
        outbox.queue_sealed(&record[written.unwrap()..]);
        outbox.queue(b"data").unwrap();
        outbox.queue_empty().unwrap();
        outbox.queue_control(Content::Handshake, &[24, 0, 0, 1, 0], Occasion::Own).unwrap();
        outbox.queue_end(End::Notified, &[1, 0]).unwrap();
        outbox.queue_end(End::Alerted, &[2, 80]).unwrap();
        assert!(outbox.queue(b"too late").is_err(), "nothing follows the last word");
        std::future::poll_fn(|cx| outbox.poll_finish(&mut tcp, cx)).await.unwrap();
        let mut seen = Vec::new();
        peer.read_to_end(&mut seen).await.unwrap();
        assert_eq!(seen, *tape.borrow());
        let mut opener = Opener::new(&KEY, 0).unwrap();
        let mut kinds = Vec::new();
        while let Some(length) = crate::tls::record::record_length(&seen).unwrap() {
            kinds.push(opener.open(&mut seen[..length]).unwrap().content);
            seen.drain(..length);
        }
        let data = [Content::Data; 3];
        assert_eq!(kinds, [&data[..], &[Content::Handshake, Content::Alert]].concat());
    }

    #[test]
    fn replies_are_bounded_and_neither_data_nor_our_own_words_count_among_them() {
        let mut outbox = Outbox::new(&KEY, 0, u64::MAX).unwrap();
        for _ in 0..40 {
            outbox.queue(&[0; MAX_PLAINTEXT]).unwrap();
            outbox.queue_control(Content::Handshake, &[24, 0, 0, 1, 0], Occasion::Own).unwrap();
        }
        let mut replies = 0;
        while outbox.queue_control(Content::Handshake, &[24, 0, 0, 1, 0], Occasion::Reply).is_ok() {
            replies += 1;
        }
        assert!((1_000..10_000).contains(&replies), "{replies}");
    }
}
