//! Bodies whose kind says little of how they are read.

use super::*;

/// Asserts that whatever the pieces, `body` passes as `expected`.
fn assert_masked(format: Format, body: &[u8], expected: &[u8]) {
    for size in (1..40).chain([body.len()]) {
        let parts: Vec<&[u8]> = body.chunks(size).collect();
        let passed = pieces(&mut Stream::new(rules(), format), &parts).concat();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(passed == expected, "pieces of {size}: {}\n{}", text(&passed), text(expected));
    }
}

#[test]
fn json_in_parts_of_a_body_is_read_as_json_and_all_else_as_text() {
    let body = |card: &str, mail: &str, pin: &str, number: &str| {
        format!(
            "--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.jsonl\"\r\n\r\n\
            {{\"pin\":\"{pin}\",\"text\":\"line\\n{card}\",\"n\":{number}}}\n{{\"m\":\"jane\\u0040{mail}\"}}\n\r\n--b\r\n\
            Content-Type: application/json\r\n\r\n[{{\"pin\":{}}},\r\n\"{card}\"]\r\n--b\r\n\r\npay {card} to jane@example\r\n--b\r\n\r\n\
            {{\r\n  \"{card}\", 5 }}; {card}\r\n--b--\r\n",
            if pin == "4711" { "4711" } else { "1000" },
        )
    };
    let sent = body("4111111111111111", "example.com", "4711", "4111111111111111");
    let masked = body("411111******1111", "***********", "****", "4111110000001111");
    // The escape is one character, which is overwritten with what stands behind it.
    let masked = masked.replace("jane\\u0040", "jane******");
    assert_masked(Format::Parts, sent.as_bytes(), masked.as_bytes());
}

#[test]
fn an_event_stream_that_does_not_say_so_is_one() {
    for first in ["", ": hello\n", "event: message\n", "id: 1\nretry: 5\n"] {
        let event =
            |text: &str| format!("data: {{\"choices\":[{{\"delta\":{{\"content\":\"{text}\"}}}}]}}\n\n");
        let other = "note 4111 1111 1111 1111 \nda 1\n\n";
        let sent = format!("{first}{}{}{other}", event("4111 11"), event("11 1111 1111 "));
        let masked = sent
            .replace("\"11 1111 1111 \"", "\"** **** 1111 \"")
            .replace("note 4111 1111 1111 1111", "note 4111 11** **** 1111");
        assert_masked(Format::Text, sent.as_bytes(), masked.as_bytes());
    }
    for text in ["data", "event", "i", "database 4111 1111 1111 1111", "identity", "dat:"] {
        let masked = text.replace("4111 1111 1111 1111", "4111 11** **** 1111");
        assert_masked(Format::Text, text.as_bytes(), masked.as_bytes());
    }
}

#[test]
fn one_message_of_protocol_buffers_has_its_texts_masked() {
    // The length is a digit, which stands right before the number.
    let message = |card: &str| {
        let text = format!("{card} {}", ".".repeat(35));
        [&[0x0a, text.len() as u8][..], text.as_bytes(), &[0x10, 7]].concat()
    };
    let (sent, masked) = (message("4111111111111111"), message("411111******1111"));
    assert_masked(Format::Message, &sent, &masked);
    let mut stream = Stream::new(rules(), Format::Message);
    assert!(stream.take(&mut [b'.'; 16 * 1024], Kind::Payload).is_ok());
    assert!(stream.take(&mut [b'.'; 20 * 1024], Kind::Payload).is_err());
}

#[test]
fn utf_16_without_a_mark_does_not_pass() {
    for body in [&b"4\x001\x001\x00"[..], b"\x00{\x00\"\x00a"] {
        for format in [Format::Text, Format::Parts, Format::Json] {
            assert!(Stream::new(rules(), format).take(&mut body.to_vec(), Kind::Payload).is_err());
        }
    }
}
