//! Messages: of WebSocket and of gRPC.

use super::*;

/// A WebSocket frame; a client's has a key.
pub(super) fn ws(kind: u8, payload: &[u8], key: Option<[u8; 4]>) -> Vec<u8> {
    let mark = if key.is_some() { 0x80 } else { 0 };
    let mut frame = vec![kind];
    match payload.len() {
        short @ 0..126 => frame.push(mark | short as u8),
        long => {
            frame.push(mark | 126);
            frame.extend_from_slice(&(long as u16).to_be_bytes());
        }
    }
    frame.extend_from_slice(key.as_ref().map_or(&[][..], |key| &key[..]));
    let key = key.unwrap_or_default();
    frame.extend(payload.iter().enumerate().map(|(n, byte)| byte ^ key[n % 4]));
    frame
}

#[test]
fn websocket_messages_are_overwritten_in_their_frames_under_the_client_s_key_too() {
    let long = format!("{{\"pin\":\"{}\"}}", "7".repeat(130));
    let masked_long = format!("{{\"pin\":\"{}\"}}", "*".repeat(130));
    let frames: [(u8, &[u8], &[u8]); 14] = [
        (
            0x81,
            b"{\"type\":\"response.text.delta\",\"delta\":\"4111 1111\"}",
            b"{\"type\":\"response.text.delta\",\"delta\":\"4111 11**\"}",
        ),
        (0x89, b"4111111111111111", b"4111111111111111"),
        (
            0x81,
            b"{\"type\":\"response.audio.delta\",\"delta\":\"QUJD\"}",
            b"{\"type\":\"response.audio.delta\",\"delta\":\"QUJD\"}",
        ),
        (0x01, b"{\"type\":\"response.text.delta\",\"del", b"{\"type\":\"response.text.delta\",\"del"),
        (0x80, b"ta\":\" 1111 1111\"}", b"ta\":\" **** 1111\"}"),
        (0x82, b"4111111111111111", b"4111111111111111"),
        (0x02, b"", b""),
        (
            0x00,
            b"{\"serverContent\":{\"modelTurn\":{\"parts\":[{\"text\":\"4111 11",
            b"{\"serverContent\":{\"modelTurn\":{\"parts\":[{\"text\":\"4111 11",
        ),
        (0x80, b"\"}]}}}", b"\"}]}}}"),
        (
            0x82,
            b"{\"serverContent\":{\"modelTurn\":{\"parts\":[{\"text\":\"11 1111 1111\"}]}}}",
            b"{\"serverContent\":{\"modelTurn\":{\"parts\":[{\"text\":\"** **** 1111\"}]}}}",
        ),
        (0x82, b"{\x00\xff\"", b"{\x00\xff\""),
        (0x81, b"plain 4111 1111 1111 1111 text", b"plain 4111 11** **** 1111 text"),
        (0x81, long.as_bytes(), masked_long.as_bytes()),
        (0x88, b"", b""),
    ];
    for key in [None, Some([0x11, 0xfe, 0, 0x80])] {
        let wire: Vec<u8> = frames.iter().flat_map(|(kind, from, _)| ws(*kind, from, key)).collect();
        let expected: Vec<u8> = frames.iter().flat_map(|(kind, _, to)| ws(*kind, to, key)).collect();
        for step in [1, 2, 3, 7, 50, wire.len()] {
            let parts: Vec<&[u8]> = wire.chunks(step).collect();
            assert_eq!(
                pieces(&mut Stream::new(rules(), Format::Frames), &parts).concat(),
                expected,
                "step {step}"
            );
        }
    }
    let mut stream = Stream::new(rules(), Format::Frames);
    assert!(stream.take(&mut ws(0xc1, b"deflated", None), Kind::Payload).is_err());
}

/// A field with a length, of protocol buffers.
pub(super) fn field(number: u8, content: &[u8]) -> Vec<u8> {
    assert!(content.len() < 128);
    [&[number << 3 | 2, content.len() as u8][..], content].concat()
}

pub(super) fn grpc(message: &[u8]) -> Vec<u8> {
    [&[0][..], &(message.len() as u32).to_be_bytes(), message].concat()
}

#[test]
fn texts_in_grpc_messages_are_masked_field_by_field_however_they_are_cut() {
    let of = |card: &[u8], mail: &[u8], key: &[u8]| {
        // The tag behind the card reads as a digit, that behind the address as a letter, and the key's length as a digit.
        let inner =
            [field(5, card), field(6, b"x"), field(1, mail), field(9, b"more"), field(4, key)].concat();
        let message = [&[0x08, 0x96, 0x01][..], &field(2, &inner), &field(3, b"plain")].concat();
        [grpc(&message), grpc(b""), grpc(&field(1, &field(1, mail)))].concat()
    };
    let key = b"ghp_0123456789abcdefghijABCDEFGHIJ012345 is a secret";
    let sent = of(b"4111111111111111", b"jane@example.com", key);
    let masked =
        of(b"411111******1111", b"jane************", b"ghp_************************************ is a secret");
    for cut in 0..=sent.len() {
        let parts = [&sent[..cut], &sent[cut..]];
        let passed = pieces(&mut Stream::new(rules(), Format::Grpc), &parts).concat();
        assert!(passed == masked, "cut at {cut}: {}", String::from_utf8_lossy(&passed));
    }
}

#[test]
fn grpc_messages_that_are_compressed_or_too_long_are_faults_and_what_comes_before_them_passes() {
    let (fine, long) = (grpc(&field(1, b"jane@example.com")), MAX_HELD_BYTES as u32);
    let mut compressed = fine.clone();
    compressed[0] = 1;
    for bad in [compressed.clone(), [&[0][..], &long.to_be_bytes(), b"x"].concat()] {
        let mut stream = Stream::new(rules(), Format::Grpc);
        assert!(stream.take(&mut fine.clone(), Kind::Payload).is_ok());
        assert!(stream.take(&mut bad.clone(), Kind::Payload).is_err());
        let mut observed = Stream::new(rules_with(HOLD, Mode::Observe), Format::Grpc);
        assert_eq!(pieces(&mut observed, &[&bad, b"", &fine]).concat().len(), bad.len() + fine.len());
    }
}

#[test]
fn a_grpc_message_that_stops_in_its_middle_is_held_and_then_cut() {
    let mut stream = Stream::new(rules(), Format::Grpc);
    let mut half = grpc(&field(1, b"jane@example.com"))[..12].to_vec();
    assert_eq!(stream.take(&mut half, Kind::Payload).unwrap(), Passed { held: 0, at_hand: 0 });
    assert!(stream.due(0).is_some());
    assert!(stream.expire(10_000).is_err(), "what is held of it does not pass");
    assert!(stream.take(&mut [b'e'], Kind::Payload).is_err());
}

#[test]
fn a_body_that_is_not_what_it_says_does_not_pass() {
    let utf16: Vec<u8> = "{\"n\":1}".encode_utf16().flat_map(u16::to_le_bytes).collect();
    let swapped: Vec<u8> = "{\"n\":1}".encode_utf16().flat_map(u16::to_be_bytes).collect();
    let all = [Format::Text, Format::Json, Format::Events, Format::Form];
    let cases: [(&[u8], &[Format]); 6] = [
        (b"\x1f\x8b\x08\0", &all),
        (b"\x28\xb5\x2f\xfd\x04", &all),
        (b"\xff\xfe4\0", &all),
        (b"PK\x03\x04", &all),
        (&utf16, &all[1..]),
        (&swapped, &all[1..]),
    ];
    for (body, formats) in cases {
        for format in formats {
            for step in [1, 3, body.len()] {
                let mut stream = Stream::new(rules(), *format);
                let taken = body.chunks(step).map(|part| stream.take(&mut part.to_vec(), Kind::Payload));
                assert!(taken.collect::<Result<Vec<_>, _>>().is_err(), "{format:?} {body:?} by {step}");
            }
        }
    }
    for format in all {
        assert!(Stream::new(rules(), format).take(&mut b"P\xc3\xbf ok".to_vec(), Kind::Payload).is_ok());
    }
}

#[test]
fn what_is_held_for_too_long_is_cut_where_that_is_wanted() {
    let hold = HoldLimit { events: 2, action: HoldAction::Cut, ..HOLD };
    let mut stream = Stream::new(rules_with(hold, Mode::Mask), Format::Events);
    let taken = ["4111 1111", " 1", "1", "1", "1"].map(|text| {
        let passed = stream.take(&mut chat(0, text).into_bytes(), Kind::Payload);
        passed.map(|_| ())
    });
    assert!(taken[..3].iter().all(Result::is_ok) && taken[3].is_err(), "{taken:?}");
    let mut stream = Stream::new(rules_with(hold, Mode::Mask), Format::Text);
    stream.take(&mut b"4111 1111 11".to_vec(), Kind::Payload).unwrap();
    assert_eq!(stream.due(0), Some(5_000));
    assert!(stream.expire(5_000).is_err());
    let mut stream = Stream::new(rules_with(hold, Mode::Mask), Format::Text);
    let long = format!("-----BEGIN {}", "A".repeat(10));
    assert!(stream.take(&mut long.into_bytes(), Kind::Payload).is_ok());
}
