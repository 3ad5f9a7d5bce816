//! Parameters of prepared statements on their way up, cut at every offset.

use super::*;

/// A session: what goes up and what comes down, by turns, each in pieces of `size` bytes. Returns what went up.
fn session(mode: Mode, said: &[(Direction, Vec<u8>)], size: usize) -> Result<Vec<u8>, &'static str> {
    let mut masks = masks(mode);
    let (mut commands, mut replies, mut up) = (Commands::default(), Replies::new(0), Vec::new());
    for (direction, bytes) in said {
        for piece in bytes.chunks(size) {
            let (mut data, mut out) = (piece.to_vec(), Vec::new());
            let mut edit = Edit::new(&mut data, &mut out);
            while !edit.is_done() {
                match direction {
                    Direction::Up => {
                        let is_command = commands.is_at_command(&replies);
                        let n = commands.step(edit.rest(), &mut replies).unwrap();
                        masks.pass_up(&mut edit, n, is_command, None)?;
                    }
                    Direction::Down => {
                        let role = replies.role();
                        let n = replies.step(edit.rest()).unwrap();
                        masks.pass_down(&mut edit, n, role)?;
                    }
                }
            }
            let diverged = edit.diverged();
            if *direction == Direction::Up {
                up.extend_from_slice(if diverged { &out } else { &data });
            }
        }
    }
    assert!(!masks.is_holding(Direction::Up) || mode == Mode::Observe);
    Ok(up)
}

fn up(payload: &[u8]) -> (Direction, Vec<u8>) {
    (Direction::Up, packet(0, payload))
}

/// A statement that is prepared under number 7, with so many parameters.
fn prepared(parameters: u8) -> Vec<(Direction, Vec<u8>)> {
    let mut answer = packet(1, &[0, 7, 0, 0, 0, 0, 0, parameters, 0, 0, 0, 0]);
    for n in 0..parameters {
        answer.extend(packet(2 + n, &column("?", "", 253)));
    }
    if parameters > 0 {
        answer.extend(packet(2 + parameters, EOF));
    }
    vec![up(b"\x16insert into t values (?)"), (Direction::Down, answer)]
}

const OK: &[u8] = &[0, 1, 0, 2, 0, 0, 0];

fn ok() -> (Direction, Vec<u8>) {
    (Direction::Down, packet(1, OK))
}

/// COM_STMT_EXECUTE of number 7: which are NULL, types if there are any, values.
fn execute(nulls: &[u8], types: &[u8], values: &[u8]) -> Vec<u8> {
    let types: Vec<u8> = types.iter().flat_map(|kind| [*kind, 0]).collect();
    let has_types = u8::from(!types.is_empty());
    [b"\x17\x07\0\0\0\0\x01\0\0\0", nulls, &[has_types], &types, values].concat()
}

fn assert_up(said: &[(Direction, Vec<u8>)], expected: &[(Direction, Vec<u8>)]) {
    let ups = expected.iter().filter(|(direction, _)| *direction == Direction::Up);
    let expected: Vec<u8> = ups.flat_map(|(_, bytes)| bytes.clone()).collect();
    for size in (1..64).chain([1 << 20]) {
        let passed = session(Mode::Mask, said, size).unwrap();
        assert!(passed == expected, "pieces of {size}: {}", String::from_utf8_lossy(&passed));
        let sent = said.iter().filter(|(direction, _)| *direction == Direction::Up);
        let sent: Vec<u8> = sent.flat_map(|(_, bytes)| bytes.clone()).collect();
        assert!(session(Mode::Observe, said, size).unwrap() == sent);
    }
}

#[test]
fn texts_among_parameters_are_masked_and_all_else_stays() {
    let types = [
        253,
        kind::LONGLONG,
        253,
        kind::DATETIME,
        kind::TINY,
        kind::BLOB,
        kind::DOUBLE,
        kind::NEWDECIMAL,
        253,
    ];
    let values = |card: &[u8], integer: u64, long: &str, number: &[u8]| {
        let mut values = counted(&[card]);
        values.extend(integer.to_le_bytes());
        values.extend([7, 0xea, 7, 11, 28, 4, 11, 11, 5]);
        values.extend(counted(&[long.as_bytes()]));
        values.extend(1.5f64.to_le_bytes());
        values.extend(counted(&[number, b""]));
        values
    };
    let long = |mail: &str| format!("{} {mail}", "x".repeat(300));
    let card = 4_111_111_111_111_111;
    let sent = values(b"4111 1111 1111 1111", card, &long("jane@example.com"), b"4111111111111111");
    let masked = values(b"4111 1100 0000 1111", 0, &long("jane@xxxxxxx.xxx"), b"4111110000001111");
    // The third is NULL.
    let said = |values: &[u8]| {
        let mut said = prepared(9);
        said.extend([up(&execute(&[0b100, 0], &types, values)), ok()]);
        // The second time without types.
        said.extend([up(&execute(&[0b100, 0], &[], values)), ok()]);
        said
    };
    assert_up(&said(&sent), &said(&masked));
}

#[test]
fn long_data_are_one_value_over_its_packets_and_do_not_stand_in_the_execution() {
    let data = |parameter: u8, data: &[u8]| up(&[b"\x18\x07\0\0\0", &[parameter, 0][..], data].concat());
    let said = |pieces: &[&str; 5], last: &str| {
        let mut said = prepared(3);
        for _ in 0..2 {
            said.extend([data(0, pieces[0].as_bytes()), data(0, b""), data(0, pieces[1].as_bytes())]);
            said.extend([data(2, pieces[2].as_bytes()), data(2, pieces[3].as_bytes())]);
            let values = counted(&[last.as_bytes()]);
            said.extend([up(&execute(&[0], &[kind::BLOB, 253, kind::BLOB], &values)), ok()]);
        }
        said.push(up(&[b"\x03select '", pieces[4].as_bytes(), b"'"].concat()));
        said.push(ok());
        said
    };
    let sent = ["pay 4111 11", "11 1111 1111", "jane@exam", "ple.com", "4111111111111111"];
    let masked = ["pay 4111 11", "00 0000 1111", "jane@xxxx", "xxx.xxx", "4111110000001111"];
    assert_up(&said(&sent, "192.168.17.23"), &said(&masked, "192.168.11.11"));
    // A value that was taken for whole goes on.
    let mut turns = prepared(2);
    turns.extend([data(0, b"4111 11"), data(1, b"x"), data(0, b"11 1111 1111")]);
    session(Mode::Mask, &turns, 1 << 20).unwrap_err();
    session(Mode::Observe, &turns, 1 << 20).unwrap();
    // What was reset can be sent again.
    let mut reset = prepared(1);
    reset.extend([data(0, b"4111 11"), up(b"\x1a\x07\0\0\0"), ok(), data(0, b"11 1111 1111")]);
    reset.extend([up(&execute(&[0], &[kind::BLOB], b"")), ok()]);
    assert_up(&reset, &reset);
}

#[test]
fn an_execution_that_cannot_be_read_does_not_pass() {
    let card = counted(&[b"4111 1111 1111 1111"]);
    let bad: [(&str, Vec<u8>); 7] = [
        ("no types", execute(&[0], &[], &card)),
        ("a type of which nobody knows how long it is", execute(&[0], &[kind::NULL], &card)),
        ("a length that is NULL's", execute(&[0], &[253], b"\xfb")),
        ("a length of which servers read half", execute(&[0], &[253], b"\xfe\x01\0\0\0\x01\0\0\0a")),
        ("a value longer than its packet", execute(&[0], &[253], b"\x20short")),
        (
            "another statement",
            execute(&[0], &[253], &card).iter().map(|b| if *b == 7 { 8 } else { *b }).collect(),
        ),
        ("a bulk", [b"\xfa\x07\0\0\0\x80\0\xfd\0\0", &card[..]].concat()),
    ];
    for (why, payload) in bad {
        let mut said = prepared(1);
        said.push(up(&payload));
        let whole = session(Mode::Mask, &said, 1 << 20);
        assert!(whole.is_err(), "{why}: {:?}", whole.map(|up| String::from_utf8_lossy(&up).into_owned()));
        session(Mode::Observe, &said, 1 << 20).unwrap();
    }
    let mut closed = prepared(1);
    closed.extend([up(b"\x19\x07\0\0\0"), up(&execute(&[0], &[253], &card))]);
    session(Mode::Mask, &closed, 1 << 20).unwrap_err();
}

#[test]
fn the_statement_that_was_prepared_last_is_known_only_once_it_was_answered() {
    let card = |card: &[u8]| {
        let mut payload = execute(&[0], &[253], &counted(&[card]));
        payload[1..5].fill(0xff);
        up(&payload)
    };
    let said = |value: &[u8]| [prepared(1), vec![card(value), ok()]].concat();
    assert_up(&said(b"4111 1111 1111 1111"), &said(b"4111 1100 0000 1111"));
    let mut ahead = prepared(1);
    ahead.insert(1, card(b"4111 1111 1111 1111"));
    session(Mode::Mask, &ahead, 1 << 20).unwrap_err();
}

#[test]
fn a_file_goes_on_behind_the_longest_packet() {
    let file = |card: &[u8]| {
        let mut long = vec![b' '; LONGEST_PACKET];
        long.extend_from_slice(card);
        [packet(2, &long[..LONGEST_PACKET]), packet(3, &long[LONGEST_PACKET..]), packet(4, b"")]
    };
    let mut passed = Vec::new();
    let mut masks = masks(Mode::Mask);
    for mut packet in file(b"4111 1111 1111 1111") {
        let (n, mut out) = (packet.len(), Vec::new());
        let mut edit = Edit::new(&mut packet, &mut out);
        masks.pass_up(&mut edit, n, false, None).unwrap();
        let diverged = edit.diverged();
        passed.extend_from_slice(if diverged { &out } else { &packet });
    }
    assert!(
        passed == file(b"4111 1100 0000 1111").concat(),
        "{:?}",
        String::from_utf8_lossy(&passed[LONGEST_PACKET..])
    );
}
