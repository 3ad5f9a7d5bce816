//! The head that opens a tunnel: no bytes make it panic, cuts change nothing, and what opens is the name of a route.

use staunch::names::{RequestId, SessionId};
use staunch::protocol::HttpDate;
use staunch::protocol::http1::Limits;
use staunch::protocol::http1::connect::{Connect, ConnectHead, NotOpened, not_opened};

/// One input.
pub fn run(data: &[u8]) {
    let [step, rest @ ..] = data else { return };
    let limits = Limits { head_bytes: 1024, fields: 16, ..Limits::default() };
    let whole = ConnectHead::default().read(rest, &limits);
    check(&whole, rest, &limits);
    // As the session reads: the same bytes from their beginning, and some more each time.
    let step = usize::from(*step).max(1);
    let ends = (0..rest.len()).step_by(step).chain([rest.len()]);
    let mut head = ConnectHead::default();
    let first = ends.map(|end| head.read(&rest[..end], &limits)).find(|read| !matches!(read, Ok(None)));
    match (whole, first) {
        (Ok(Some(whole)), Some(Ok(Some(first)))) => {
            assert_eq!((&whole.route, whole.length), (&first.route, first.length));
            assert_eq!(whole.authorization(), first.authorization());
        }
        (Err(whole), Some(Err(first))) => assert_eq!(whole.why, first.why),
        (Ok(None), None) => {}
        (whole, first) => panic!("{whole:?} in one piece, {first:?} in pieces"),
    }
}

fn check(read: &Result<Option<Connect>, NotOpened>, bytes: &[u8], limits: &Limits) {
    match read {
        Ok(None) => assert!(bytes.len() <= limits.head_bytes, "what has no end is refused"),
        Ok(Some(opened)) => {
            let head = &bytes[..opened.length];
            assert!(head.starts_with(b"CONNECT ") && head.ends_with(b"\r\n\r\n"));
            assert!(opened.length <= limits.head_bytes);
            let is_name = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
            assert!(
                !opened.route.is_empty() && opened.route.bytes().all(is_name),
                "no address opens anything"
            );
            if let Some(value) = opened.authorization() {
                assert!(!value.iter().any(|byte| b"\r\n\0".contains(byte)));
            }
            // Its own words may be in a token, so they are all that may be told.
            assert_eq!(format!("{opened:?}"), format!("Connect {{ route: {:?}, .. }}", opened.route));
        }
        Err(fault) => {
            let mut told = Vec::new();
            not_opened(&mut told, fault.why, RequestId { session: SessionId(1), number: 0 }, HttpDate(0));
            assert!(told.starts_with(b"HTTP/1.1 4"), "whoever breaks a rule is to blame");
        }
    }
}
