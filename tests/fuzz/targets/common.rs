//! Drives an HTTP state machine with what the input says.

use staunch::names::{RequestId, SessionId};
use staunch::protocol::{Edit, Http, Refusal, RefusalReason, Rewrite, Up};

/// Feeds bytes from the client, deciding each request by `permit`; returns what goes up, or `None` after a fault.
pub fn feed_up(http: &mut dyn Http, bytes: &[u8], permit: bool, out: &mut Vec<u8>) -> bool {
    let mut data = bytes.to_vec();
    let mut edited = Vec::new();
    let mut edit = Edit::new(&mut data, &mut edited);
    let good = loop {
        match http.up(&mut edit) {
            Err(_) => break false,
            Ok(Up::Done) => {
                assert!(edit.is_done());
                break true;
            }
            Ok(Up::Wait) => break false,
            Ok(Up::Request) if permit => {
                let set: [(&str, &[u8]); 2] = [("x-request-id", b"1"), ("authorization", b"Bearer stored")];
                let strip = ["authorization", "x-api-key", "api-key", "x-request-id"];
                http.permit(&mut edit, &Rewrite { strip: &strip, set: &set, authority: Some("upstream") });
            }
            Ok(Up::Request) => {
                let id = RequestId { session: SessionId(1), number: http.request().key };
                http.refuse(&Refusal { id, why: RefusalReason::NoToken });
            }
        }
    };
    let (position, diverged) = (edit.position(), edit.diverged());
    out.extend_from_slice(if diverged { &edited } else { &data[..position] });
    while http.event().is_some() {}
    good
}

/// Feeds bytes from the upstream; false after a fault.
pub fn feed_down(http: &mut dyn Http, bytes: &[u8]) -> bool {
    let mut data = bytes.to_vec();
    let mut edited = Vec::new();
    let good = http.down(&mut Edit::new(&mut data, &mut edited)).is_ok();
    while http.event().is_some() {}
    good
}

/// A run: pieces for both directions, cut as the input says.
pub fn run(http: &mut dyn Http, data: &[u8]) {
    let mut rest = data;
    let mut up = Vec::new();
    while let [control, length, tail @ ..] = rest {
        let (piece, later) = tail.split_at(usize::from(*length).min(tail.len()));
        rest = later;
        let good = match control % 8 {
            0..=4 => feed_up(http, piece, control & 0x80 == 0, &mut up),
            5 | 6 => feed_down(http, piece),
            _ => {
                match control >> 3 {
                    0..=7 => http.drain(),
                    8..=15 => drop(http.cut(u32::from(*length))),
                    16..=23 => drop(http.up_ended()),
                    _ => drop(http.down_ended()),
                }
                true
            }
        };
        if http.wants_down() {
            feed_down(http, &[]);
        }
        let _ = (http.wants_up(), http.in_flight(), http.is_over(), http.is_tunnel());
        if !good {
            return;
        }
    }
}

/// The same bytes in one piece and in pieces must go up as the same bytes, as long as no rule is broken.
pub fn same_however_cut(mut make: impl FnMut() -> Box<dyn Http>, data: &[u8], step: usize) {
    let (mut whole, mut cut) = (Vec::new(), Vec::new());
    let good = feed_up(&mut *make(), data, true, &mut whole);
    let mut http = make();
    let in_pieces = data.chunks(step.max(1)).all(|piece| feed_up(&mut *http, piece, true, &mut cut));
    if good && in_pieces {
        assert_eq!(whole, cut);
    }
}

/// The same from the upstream: the same bytes go down, and a fault is found either way.
pub fn same_however_cut_down(mut make: impl FnMut() -> Box<dyn Http>, data: &[u8], step: usize) {
    let down = |http: &mut dyn Http, bytes: &[u8], out: &mut Vec<u8>| {
        let (mut data, mut edited) = (bytes.to_vec(), Vec::new());
        let mut edit = Edit::new(&mut data, &mut edited);
        let good = http.down(&mut edit).is_ok();
        let (position, diverged) = (edit.position(), edit.diverged());
        out.extend_from_slice(if diverged { &edited } else { &data[..position] });
        good
    };
    let (mut whole, mut cut) = (Vec::new(), Vec::new());
    let good = down(&mut *make(), data, &mut whole);
    let mut http = make();
    let in_pieces = data.chunks(step.max(1)).all(|piece| down(&mut *http, piece, &mut cut));
    assert_eq!(good, in_pieces, "a fault is one however it is cut");
    if good {
        assert_eq!(whole, cut);
    }
}
