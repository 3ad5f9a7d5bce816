use super::*;
use crate::tls::record::Version;
use std::cell::RefCell;
use std::rc::Rc;
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;

const KEY: Secrets<'static> =
    Secrets { version: Version::Tls13, suite: Suite::Aes128Gcm, key: &[7; 16], iv: [3; 12] };

/// Keeps what it takes: bytes, and the calls for them. Takes no more than `left` calls.
#[derive(Default)]
struct Taken {
    bytes: Vec<u8>,
    calls: usize,
    left: usize,
    is_slow: bool,
}

struct Tape(Rc<RefCell<Taken>>);

impl Tap for Tape {
    fn records(&mut self, records: &[u8]) -> Result<(), TapFault> {
        let mut taken = self.0.borrow_mut();
        taken.left = taken.left.checked_sub(1).ok_or(TapFault)?;
        taken.bytes.extend_from_slice(records);
        taken.calls += 1;
        Ok(())
    }

    fn plaintext(&mut self, data: &[u8]) -> Result<(), TapFault> {
        self.records(data)
    }

    fn rekey(&mut self) -> Result<(), TapFault> {
        self.records(b"REKEY")
    }

    fn poll_recorded(&mut self, _: &mut Context<'_>) -> Poll<Result<(), TapFault>> {
        match self.0.borrow().is_slow {
            true => Poll::Pending,
            false => Poll::Ready(Ok(())),
        }
    }
}

fn tape(calls: usize) -> (Rc<RefCell<Taken>>, Box<dyn Tap>) {
    let taken = Rc::new(RefCell::new(Taken { left: calls, ..Taken::default() }));
    (taken.clone(), Box::new(Tape(taken)))
}

async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let tcp = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    (tcp, listener.accept().await.unwrap().0)
}

#[tokio::test]
async fn a_tap_sees_what_the_peer_sees_byte_for_byte_whichever_way_it_went_out() {
    let (mut tcp, mut peer) = pair().await;
    let (mut outbox, (taken, tape)) = (Outbox::new(&KEY, 0, 100).unwrap(), tape(100));
    outbox.set_tap(tape, Takes::Records);
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
    outbox.queue_control(Content::Handshake, &[24, 0, 0, 1, 0], ControlCause::Own).unwrap();
    outbox.queue_end(End::Notified, &[1, 0]).unwrap();
    outbox.queue_end(End::Alerted, &[2, 80]).unwrap();
    assert!(outbox.queue(b"too late").is_err(), "nothing follows the last word");
    std::future::poll_fn(|cx| outbox.poll_finish(&mut tcp, cx)).await.unwrap();
    let mut seen = Vec::new();
    peer.read_to_end(&mut seen).await.unwrap();
    assert_eq!(seen, taken.borrow().bytes);
    assert_eq!(taken.borrow().calls, 2, "one call for each batch");
    let mut opener = Opener::new(&KEY, 0).unwrap();
    let mut kinds = Vec::new();
    while let Some(length) = crate::tls::record::record_length(&seen).unwrap() {
        kinds.push(opener.open(&mut seen[..length]).unwrap().content);
        seen.drain(..length);
    }
    let data = [Content::Data; 3];
    assert_eq!(kinds, [&data[..], &[Content::Handshake, Content::Alert]].concat());
}

#[tokio::test]
async fn a_tap_of_data_sees_no_records_and_no_control_messages() {
    let (mut tcp, mut peer) = pair().await;
    let (mut outbox, (taken, tape)) = (Outbox::new(&KEY, 0, 100).unwrap(), tape(100));
    outbox.queue(b"before").unwrap();
    outbox.set_tap(tape, Takes::Data);
    assert!(!outbox.fits(&Opener::new(&KEY, 0).unwrap()), "what is sealed in place would not be seen");
    outbox.queue(b"one ").unwrap();
    outbox.queue(b"two").unwrap();
    outbox.queue_end(End::Notified, &[1, 0]).unwrap();
    std::future::poll_fn(|cx| outbox.poll_finish(&mut tcp, cx)).await.unwrap();
    peer.read_to_end(&mut Vec::new()).await.unwrap();
    assert_eq!((&taken.borrow().bytes[..], taken.borrow().calls), (&b"one two"[..], 1));
}

#[tokio::test]
async fn what_a_tap_does_not_take_is_not_written_and_nothing_follows_it() {
    let (mut tcp, mut peer) = pair().await;
    let (mut outbox, (taken, tape)) = (Outbox::new(&KEY, 0, 100).unwrap(), tape(1));
    outbox.set_tap(tape, Takes::Records);
    outbox.queue(b"taken").unwrap();
    std::future::poll_fn(|cx| outbox.poll_flush(&mut tcp, cx)).await.unwrap();
    outbox.queue(b"not taken").unwrap();
    let fault = std::future::poll_fn(|cx| outbox.poll_flush(&mut tcp, cx)).await.unwrap_err();
    assert_eq!(fault.to_string(), TapFault.to_string());
    assert!(outbox.queue(b"more").is_err());
    outbox.queue_end(End::Alerted, &[2, 80]).unwrap();
    outbox.send_alert_now(&tcp);
    std::future::poll_fn(|cx| outbox.poll_finish(&mut tcp, cx)).await.unwrap();
    let mut seen = Vec::new();
    peer.read_to_end(&mut seen).await.unwrap();
    assert_eq!(seen, taken.borrow().bytes);
}

#[tokio::test]
async fn a_sealed_batch_that_is_not_taken_is_not_written() {
    let (mut tcp, mut peer) = pair().await;
    let (mut outbox, (_, tape)) = (Outbox::new(&KEY, 0, 100).unwrap(), tape(0));
    outbox.set_tap(tape, Takes::Records);
    let wrote = std::future::poll_fn(|cx| outbox.poll_write_sealed(&mut tcp, cx, b"batch")).await;
    assert!(wrote.is_err());
    drop(tcp);
    let mut seen = Vec::new();
    peer.read_to_end(&mut seen).await.unwrap();
    assert_eq!(seen, b"");
}

#[tokio::test]
async fn a_key_update_is_taken_under_the_old_key_before_the_next() {
    let (mut outbox, (taken, tape)) = (Outbox::new(&KEY, 0, 100).unwrap(), tape(100));
    outbox.set_tap(tape, Takes::Records);
    outbox.queue(b"old").unwrap();
    outbox.queue_control(Content::Handshake, &[24, 0, 0, 1, 0], ControlCause::Own).unwrap();
    let old = outbox.unsent_buffer().clone();
    outbox.rekey(&KEY).unwrap();
    assert_eq!(taken.borrow().bytes, [&old[..], b"REKEY"].concat());
}

#[test]
fn replies_are_bounded_and_neither_data_nor_our_own_words_count_among_them() {
    let mut outbox = Outbox::new(&KEY, 0, u64::MAX).unwrap();
    for _ in 0..40 {
        outbox.queue(&[0; MAX_PLAINTEXT]).unwrap();
        outbox.queue_control(Content::Handshake, &[24, 0, 0, 1, 0], ControlCause::Own).unwrap();
    }
    let mut replies = 0;
    while outbox.queue_control(Content::Handshake, &[24, 0, 0, 1, 0], ControlCause::Reply).is_ok() {
        replies += 1;
    }
    assert!((1_000..10_000).contains(&replies), "{replies}");
}

#[tokio::test]
async fn nothing_is_written_before_what_was_taken_is_recorded_whichever_way_it_goes_out() {
    let (mut tcp, mut peer) = pair().await;
    for takes in [Takes::Records, Takes::Data, Takes::Nothing] {
        let cx = &mut Context::from_waker(Waker::noop());
        let (mut outbox, (taken, tape)) = (Outbox::new(&KEY, 0, 100).unwrap(), tape(100));
        outbox.set_tap(tape, takes);
        taken.borrow_mut().is_slow = true;
        let mut expected = Vec::new();
        if takes != Takes::Data {
            let sealed = [23, 3, 3, 0, 1, 7];
            assert!(outbox.poll_write_sealed(&mut tcp, cx, &sealed).is_pending());
            outbox.queue_sealed(&sealed);
            expected.extend_from_slice(&sealed);
        }
        let before = expected.len();
        outbox.queue(b"data").unwrap();
        expected.extend_from_slice(&outbox.unsent_buffer().clone()[before..]);
        assert!(outbox.poll_flush(&mut tcp, cx).is_pending());
        assert!(outbox.poll_finish(&mut tcp, cx).is_pending());
        assert!(outbox.awaits_tap());
        assert_eq!(outbox.unsent(), expected.len(), "nothing went out");
        taken.borrow_mut().is_slow = false;
        std::future::poll_fn(|cx| outbox.poll_flush(&mut tcp, cx)).await.unwrap();
        assert!(!outbox.awaits_tap());
        let mut got = vec![0; expected.len()];
        peer.read_exact(&mut got).await.unwrap();
        assert_eq!(got, expected);
        let shown = match takes {
            Takes::Records => expected,
            Takes::Data => b"data".to_vec(),
            Takes::Nothing => Vec::new(),
        };
        assert_eq!(taken.borrow().bytes, shown);
        // An alert of a leg that is given up does not wait, and is not sent either.
        taken.borrow_mut().is_slow = true;
        outbox.queue_end(End::Alerted, &[2, 80]).unwrap();
        let unsent = outbox.unsent();
        outbox.send_alert_now(&tcp);
        assert_eq!(outbox.unsent(), unsent);
    }
    drop(tcp);
    assert_eq!(peer.read(&mut [0; 100]).await.unwrap(), 0, "and nothing came");
}
