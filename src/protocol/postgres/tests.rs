//! Wire transcripts, cut at every offset.

use super::startup::{MAX_PACKET, Replace, as_application_name};
use super::*;
use crate::protocol::RequireAuth;
use crate::secret::Secret;
use proptest::prelude::*;
use std::sync::Arc;

const STARTUP: &[u8] =
    b"\0\0\0\x45\0\x03\0\0user\0ann\0database\0sales\0application_name\0psql\0DateStyle\0ISO\0\0";

fn parsed(packet: &[u8]) -> Startup {
    match opening(packet) {
        Ok(Some((Opening::Startup(startup), length))) if length == packet.len() => startup,
        other => panic!("{other:?}"),
    }
}

fn packet(version: u32, body: &[u8]) -> Vec<u8> {
    let mut packet = ((8 + body.len()) as u32).to_be_bytes().to_vec();
    packet.extend(version.to_be_bytes());
    packet.extend_from_slice(body);
    packet
}

#[test]
fn openings_are_read_however_they_are_cut() {
    let key = key_of(4711, &[1, 2, 3, 4]);
    let longest = key_of(7, &[0; 256]);
    let table: &[(&[u8], Opening)] = &[
        (&SSL_REQUEST, Opening::SslRequest),
        (b"\0\0\0\x08\x04\xd2\x16\x30", Opening::GssEncRequest),
        (&key.request(), Opening::Cancel(key.clone())),
        (&longest.request(), Opening::Cancel(longest.clone())),
        (STARTUP, Opening::Startup(parsed(STARTUP))),
    ];
    for (bytes, expected) in table {
        for cut in 0..bytes.len() {
            assert_eq!(opening(&bytes[..cut]), Ok(None), "{expected:?} cut at {cut}");
        }
        assert_eq!(opening(bytes), Ok(Some((expected.clone(), bytes.len()))));
        let more = [bytes, &b"more"[..]].concat();
        assert_eq!(opening(&more), Ok(Some((expected.clone(), bytes.len()))));
    }
}

#[test]
fn a_startup_message_gives_user_database_and_application() {
    let startup = parsed(STARTUP);
    assert_eq!((&startup.user[..], &startup.database[..]), (&b"ann"[..], &b"sales"[..]));
    assert_eq!(startup.application_name(), b"psql");
    let without = parsed(&packet(0x0003_0000, b"user\0ann\0\0"));
    assert_eq!(without.database, b"ann", "PostgreSQL's own default");
}

#[test]
fn openings_that_break_a_rule_are_refused_as_soon_as_that_shows() {
    let long = ((MAX_PACKET + 1) as u32).to_be_bytes();
    let table: &[(&[u8], &str)] = &[
        (&[0, 0, 0, 7], "impossible length"),
        (&[0, 0, 0, 0], "impossible length"),
        (&[0xff, 0xff, 0xff, 0xff], "impossible length"),
        (&long, "impossible length"),
        (b"\0\0\0\x09\x04\xd2\x16\x2f\0", "wrong length"),
        (b"\0\0\0\x0c\x04\xd2\x16\x2e\0\0\0\0", "wrong length"),
        (b"\0\0\0\x0f\x04\xd2\x16\x2e\0\0\0\0abc", "wrong length"),
        (&key_of(7, &[0; 257]).request(), "wrong length"),
        (b"\0\0\0\x09\0\x02\0\0\0", "not 3"),
        (&packet(0x0003_0000, b"\0"), "without a user"),
        (&packet(0x0003_0000, b"user\0\0\0"), "without a user"),
        (&packet(0x0003_0000, b"user\0ann\0"), "do not end"),
        (&packet(0x0003_0000, b"user\0ann"), "do not end"),
        (&packet(0x0003_0000, b"user\0ann\0\0x"), "behind the end"),
        (&packet(0x0003_0000, b"user\0ann\0user\0bob\0\0"), "twice"),
        (&packet(0x0003_0000, b"user\0ann\0database\0a\0database\0b\0\0"), "twice"),
    ];
    for (bytes, rule) in table {
        let fault = opening(bytes).unwrap_err();
        assert!(fault.rule.contains(rule), "{bytes:?}: {fault}");
        assert_eq!(fault.culprit, Culprit::Client);
    }
}

#[test]
fn upstream_gets_the_stored_user_and_the_identity_in_place_of_what_the_client_says() {
    let body = b"user\0ann\0database\0sales\0Application_Name\0psql\0options\0-c x=1\0\
        STAUNCH.subject\0root\0replication\0database\0_pq_.new\0on\0\0";
    let startup = parsed(&packet(0x0003_0000, body));
    let replace = Replace {
        user: "svc_ro",
        application_name: Some("ann@corp"),
        parameter: Some(("staunch.subject", "ann@corp")),
    };
    let sent = startup.for_upstream(&replace).unwrap();
    let expected = b"user\0svc_ro\0database\0sales\0options\0-c x=1\0replication\0database\0\
        application_name\0ann@corp\0staunch.subject\0ann@corp\0\0";
    assert_eq!(sent, packet(0x0003_0000, expected));
    let keep = Replace { user: "svc_ro", application_name: None, parameter: None };
    let sent = startup.for_upstream(&keep).unwrap();
    assert!(sent.windows(21).any(|w| w == b"Application_Name\0psql"));
}

#[test]
fn what_is_spoken_is_the_newest_version_that_both_know_and_no_option_of_it() {
    for (asked, spoken) in [(0, 0), (1, 0), (2, 2), (3, 2), (9999, 2)] {
        let startup = parsed(&packet(0x0003_0000 | asked, b"user\0ann\0_pq_.new\0on\0\0"));
        assert_eq!((u32::from(startup.minor), startup.spoken_minor()), (asked, spoken));
        let options: Vec<&[u8]> = startup.protocol_options().collect();
        let told = [&b"v\0\0\0\x15\0\x03\0"[..], &[spoken as u8], b"\0\0\0\x01_pq_.new\0"].concat();
        assert_eq!(negotiate(spoken, &options), told);
        let keep = Replace { user: "u", application_name: None, parameter: None };
        let sent = startup.for_upstream(&keep).unwrap();
        assert_eq!(sent, packet(0x0003_0000, b"user\0u\0database\0ann\0\0"));
    }
}

#[test]
fn nothing_that_is_put_in_becomes_another_parameter_or_makes_the_packet_too_long() {
    let startup = parsed(STARTUP);
    let evil = Replace { user: "u", application_name: Some("a\0user\0postgres"), parameter: None };
    let sent = startup.for_upstream(&evil).unwrap();
    assert!(parsed(&sent).user == b"u");
    let long = "x".repeat(MAX_PACKET);
    let long = Replace { user: "u", application_name: None, parameter: Some(("a.b", &long)) };
    assert!(startup.for_upstream(&long).is_err());
    assert_eq!(as_application_name("ann\u{e9}\n\0 b"), "ann??? b");
    assert_eq!(as_application_name(&"x".repeat(100)).len(), 63);
}

#[test]
fn a_password_is_read_however_it_is_cut_and_only_a_password_is() {
    let message = b"p\0\0\0\x0ctok.en.\0";
    for cut in 0..message.len() {
        assert_eq!(password(&message[..cut]), Ok(None));
    }
    assert_eq!(password(message), Ok(Some((&b"tok.en."[..], 13))));
    assert_eq!(password(b"p\0\0\0\x05\0more"), Ok(Some((&b""[..], 6))));
    let too_long = [b"p", &((MAX_PASSWORD + 6) as u32).to_be_bytes()[..]].concat();
    let longest = [b"p", &((MAX_PASSWORD + 5) as u32).to_be_bytes()[..]].concat();
    assert_eq!(password(&longest), Ok(None));
    let bad: [&[u8]; 6] =
        [b"Q", b"X\0\0\0\x04", b"p\0\0\0\x04", b"p\xff\xff\xff\xff", &too_long, b"p\0\0\0\x08a\0b\0"];
    for bytes in bad {
        assert!(password(bytes).is_err(), "{bytes:?}");
    }
    assert!(password(b"p\0\0\0\x06ab").is_err(), "no zero byte at the end");
}

#[test]
fn a_refusal_is_a_fatal_error_response() {
    assert_eq!(
        fatal("28P01", "no\0pe", "session 1"),
        b"E\0\0\0\x2bSFATAL\0VFATAL\0C28P01\0Mnope\0Dsession 1\0\0"
    );
    assert_eq!(fatal("57P01", "bye", ""), b"E\0\0\0\x1fSFATAL\0VFATAL\0C57P01\0Mbye\0\0");
}

/// What a follower says of `bytes` in pieces of `step`.
fn follow(speaker: Culprit, bytes: &[u8], step: usize) -> Result<(Vec<(u8, u8)>, bool), Fault> {
    let (mut frames, mut ended) = (Frames::new(speaker), Vec::new());
    for mut piece in bytes.chunks(step) {
        while !piece.is_empty() {
            let (taken, message) = frames.step(piece)?;
            assert!(taken > 0);
            ended.extend(message.map(|m| (m.tag, m.first)));
            piece = &piece[taken..];
        }
    }
    Ok((ended, frames.is_between()))
}

#[test]
fn messages_are_followed_however_they_are_cut() {
    let bytes = b"T\0\0\0\x08abcdZ\0\0\0\x05I1\0\0\0\x04Z\0\0\0\x05Tn\0\0\0\x06";
    for step in 1..=bytes.len() {
        let (ended, between) = follow(Culprit::Upstream, bytes, step).unwrap();
        assert_eq!(ended, [(b'T', b'a'), (b'Z', b'I'), (b'1', 0), (b'Z', b'T')], "{step}");
        assert!(!between);
    }
    assert!(follow(Culprit::Upstream, b"1\0\0\0\x04", 2).unwrap().1);
}

#[test]
fn rows_go_by_at_once_and_are_not_told() {
    let bytes = b"D\0\0\0\x06xxd\0\0\0\x04D\0\0\0\x05xZ\0\0\0\x05ID\0\0\0\x09a";
    let mut frames = Frames::new(Culprit::Upstream);
    assert_eq!(frames.step(bytes), Ok((18, None)));
    assert!(frames.is_between());
    for step in 1..=bytes.len() {
        assert_eq!(follow(Culprit::Upstream, bytes, step), Ok((vec![(b'Z', b'I')], false)));
        let described = follow(Culprit::Client, bytes, step).unwrap().0;
        assert_eq!(described, [(b'D', b'x'), (b'D', b'x'), (b'Z', b'I')]);
    }
    // A length that is none is found behind rows as well, with the rows kept.
    let mut frames = Frames::new(Culprit::Upstream);
    let bytes = b"D\0\0\0\x04D\0\0\0\x03";
    assert_eq!(frames.step(bytes), Ok((5, None)));
    assert!(frames.step(&bytes[5..]).is_err() && frames.is_between());
}

#[test]
fn impossible_lengths_and_late_passwords_break_the_rules() {
    for bad in [b"Q\0\0\0\x03", b"Q\0\0\0\0", b"Q\xff\xff\xff\xff", b"Q\x40\0\0\0"] {
        for step in 1..=5 {
            assert!(follow(Culprit::Client, bad, step).is_err(), "{bad:?}");
        }
    }
    assert!(follow(Culprit::Client, b"Q\x3f\xff\xff\xff", 5).is_ok());
    assert!(follow(Culprit::Client, b"p", 1).is_err());
    assert!(follow(Culprit::Upstream, b"p\0\0\0\x04", 1).is_ok());
}

fn stored() -> Option<Arc<Secret>> {
    Some(Arc::new(Secret::new(b"stored-password".to_vec())))
}

/// Everything may be asked for, inside TLS.
fn allowed() -> login::Allowed {
    let all = crate::protocol::require_auth::POSTGRES_METHODS;
    login::Allowed { require_auth: RequireAuth::parse(&all.join(","), &all).unwrap(), encrypted: true }
}

#[test]
fn a_server_that_asks_for_too_little_gets_nothing() {
    use crate::protocol::require_auth::POSTGRES_METHODS;
    let only = |text: &str| login::Allowed {
        require_auth: RequireAuth::parse(text, &POSTGRES_METHODS).unwrap(),
        encrypted: true,
    };
    let default = || login::Allowed { encrypted: true, ..Default::default() };
    let plain = || login::Allowed { encrypted: false, ..allowed() };
    let ok = &b"R\0\0\0\x08\0\0\0\0"[..];
    let md5 = &b"R\0\0\0\x0c\0\0\0\x05\x2a\x3d\x8f\xe0"[..];
    let scram = &b"R\0\0\0\x17\0\0\0\x0aSCRAM-SHA-256\0\0"[..];
    let table = [
        ("nobody is asked", default(), stored(), ok, false),
        ("nobody needs to be", default(), None, ok, true),
        ("md5 by default", default(), stored(), md5, true),
        ("in clear, inside TLS", default(), stored(), &ASK_PASSWORD[..], true),
        ("in clear, without", plain(), stored(), &ASK_PASSWORD[..], false),
        ("md5, without", plain(), stored(), md5, true),
        ("scram only", only("scram-sha-256"), stored(), scram, true),
        ("md5 for scram", only("scram-sha-256"), stored(), md5, false),
        ("in clear for scram", only("scram-sha-256"), stored(), &ASK_PASSWORD[..], false),
        ("nothing for scram", only("scram-sha-256"), None, ok, false),
        ("nothing, allowed", only("none"), stored(), ok, true),
    ];
    for (what, allowed, password, said, goes_on) in table {
        let (progress, reply, _) =
            feed(Login::new("svc", password, allowed, [0; 4].into()), said, said.len());
        assert_eq!(progress.is_ok(), goes_on, "{what}: {progress:?}");
        assert!(goes_on || reply.is_empty(), "{what}");
    }
}

#[test]
fn a_server_that_asks_for_endless_work_gets_none() {
    let offer = b"R\0\0\0\x17\0\0\0\x0aSCRAM-SHA-256\0\0";
    for (rounds, takes) in
        [("4096", true), ("1000000", true), ("1000001", false), ("99999999999", false), ("", false)]
    {
        let (_, reply, login) =
            feed(Login::new("svc", stored(), allowed(), [0; 4].into()), offer, offer.len());
        let nonce = String::from_utf8_lossy(&reply[reply.len() - 24..]).into_owned();
        let said = format!("r={nonce}x,s=QSXCR+Q6sek8bf92,i={rounds}");
        let challenge = message_of(b'R', &[&11_u32.to_be_bytes()[..], said.as_bytes()].concat());
        let (progress, reply, _) = feed(login, &challenge, 5);
        assert_eq!(matches!(progress, Ok(Progress::Prove(_))), takes, "{rounds}: {progress:?}");
        assert!(reply.is_empty());
    }
}

/// Feeds a server's bytes in pieces; returns how far it is, what is to be sent, and the login.
fn feed(mut login: Login, bytes: &[u8], step: usize) -> (Result<Progress, LoginFault>, Vec<u8>, Login) {
    let (mut input, mut reply, mut progress) = (Vec::new(), Vec::new(), Progress::More);
    for piece in bytes.chunks(step) {
        if progress == Progress::Ready {
            break;
        }
        input.extend_from_slice(piece);
        match login.feed(&mut input, &mut reply) {
            Ok(Progress::Prove(challenge)) => return (Ok(Progress::Prove(challenge)), reply, login),
            Ok(now) => progress = now,
            Err(fault) => return (Err(fault), reply, login),
        }
    }
    (Ok(progress), reply, login)
}

const ACCEPTED: &[u8] =
    b"R\0\0\0\x08\0\0\0\0S\0\0\0\x0bTimeZ\0U\0K\0\0\0\x0c\0\0\x12\x67\x01\x02\x03\x04Z\0\0\0\x05I";

#[test]
fn the_servers_settings_go_down_with_a_cancel_secret_of_our_own() {
    let accepted =
        b"R\0\0\0\x08\0\0\0\0S\0\0\0\x0cTimeZ\0U\0K\0\0\0\x0c\0\0\x12\x67\x01\x02\x03\x04Z\0\0\0\x05I";
    for step in 1..=accepted.len() {
        let login = Login::new("svc", None, allowed(), b"\xaa\xbb\xcc\xdd"[..].into());
        let (progress, reply, login) = feed(login, accepted, step);
        assert_eq!(progress, Ok(Progress::Ready));
        assert!(reply.is_empty(), "an account that needs no proof sends none");
        let (down, key) = login.into_parts();
        assert_eq!(key, Some(key_of(0x1267, &[1, 2, 3, 4])));
        let expected = [
            &b"R\0\0\0\x08\0\0\0\0S\0\0\0\x0cTimeZ\0U\0K\0\0\0\x0c\0\0\x12\x67"[..],
            b"\xaa\xbb\xcc\xddZ\0\0\0\x05I",
        ]
        .concat();
        assert_eq!(down, expected);
    }
    // A length that does not fit its text is the server's affair, and the next head is then out of place.
    let (progress, ..) = feed(Login::new("svc", None, allowed(), [0; 4].into()), ACCEPTED, 7);
    assert!(matches!(progress, Err(LoginFault::Protocol(_))), "{progress:?}");
}

/// Protocol 3.2, and servers that do not ask which version it is.
#[test]
fn a_cancel_secret_may_have_4_to_256_bytes_on_either_side() {
    for (theirs, ours, fits) in
        [(4, 32, true), (32, 4, true), (256, 32, true), (3, 4, false), (257, 32, false)]
    {
        let theirs = key_of(0x1267, &vec![1; theirs]);
        let own: Box<[u8]> = vec![2; ours].into();
        let key_data = super::message_of(b'K', &theirs.payload());
        let said = [&b"R\0\0\0\x08\0\0\0\0"[..], &key_data, b"Z\0\0\0\x05I"].concat();
        let (progress, _, login) = feed(Login::new("svc", None, allowed(), own.clone()), &said, 5);
        assert_eq!(progress.is_ok(), fits, "{theirs:?}");
        if fits {
            let (down, key) = login.into_parts();
            let told = super::message_of(b'K', &CancelKey { process: 0x1267, secret: own }.payload());
            assert_eq!((&down[9..9 + told.len()], key), (&told[..], Some(theirs)));
        }
    }
    assert_eq!((secret_length(0), secret_length(1), secret_length(2)), (4, 4, 32));
}

fn key_of(process: u32, secret: &[u8]) -> CancelKey {
    CancelKey { process, secret: secret.into() }
}

#[test]
fn a_password_is_sent_as_the_server_asks_for_it() {
    let (progress, reply, _) = feed(Login::new("svc", stored(), allowed(), [0; 4].into()), &ASK_PASSWORD, 1);
    assert_eq!((progress, &reply[..]), (Ok(Progress::More), &b"p\0\0\0\x14stored-password\0"[..]));
    // The vector of the library's own test.
    let password = Some(Arc::new(Secret::new(b"password".to_vec())));
    let (_, reply, _) = feed(
        Login::new("md5_user", password, allowed(), [0; 4].into()),
        b"R\0\0\0\x0c\0\0\0\x05\x2a\x3d\x8f\xe0",
        3,
    );
    assert_eq!(reply, b"p\0\0\0\x28md562af4dd09bbb41884907a838a3233294\0");
    let (fault, reply, _) = feed(Login::new("svc", None, allowed(), [0; 4].into()), &ASK_PASSWORD, 9);
    assert_eq!((fault, reply.len()), (Err(LoginFault::NoPassword), 0));
}

#[test]
fn scram_is_chosen_among_mechanisms_and_never_the_one_with_channel_binding() {
    let offer = b"R\0\0\0\x2a\0\0\0\x0aSCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0";
    let (progress, reply, login) = feed(Login::new("svc", stored(), allowed(), [0; 4].into()), offer, 4);
    assert_eq!(progress, Ok(Progress::More));
    assert!(reply.starts_with(b"p\0\0\0") && reply[5..].starts_with(b"SCRAM-SHA-256\0\0\0\0"), "{reply:?}");
    assert!(reply[23..].starts_with(b"n,,n=,r="));
    // Accepted without its own proof: not a server that knows the password.
    let (fault, ..) = feed(login, b"R\0\0\0\x08\0\0\0\0", 9);
    assert_eq!(fault, Err(LoginFault::Unproven));
    let only_plus = b"R\0\0\0\x1c\0\0\0\x0aSCRAM-SHA-256-PLUS\0\0";
    let (fault, ..) = feed(Login::new("svc", stored(), allowed(), [0; 4].into()), only_plus, 5);
    assert_eq!(fault, Err(LoginFault::Mechanism));
}

#[test]
fn what_a_server_may_not_say_ends_the_login_with_nothing_more_sent() {
    let table: &[(&[u8], &str)] = &[
        (b"R\0\0\0\x08\0\0\0\x07", "kind 7"),
        (b"R\0\0\0\x08\0\0\0\x0b", "out of order"),
        (b"R\0\0\0\x08\0\0\0\x0c", "out of order"),
        (b"R\0\0\0\x09\0\0\0\x05x", "salt"),
        (b"R\0\0\0\x05x", "cannot stand in a login"),
        (b"Z\0\0\0\x05I", "cannot stand in a login"),
        (b"D\0\0\0\x04", "cannot stand in a login"),
        (b"R\xff\xff\xff\xff", "impossible length"),
        (b"R\0\0\0\x03", "impossible length"),
        (b"R\0\0\0\x08\0\0\0\0D\0\0\0\x04", "before ReadyForQuery"),
        (b"R\0\0\0\x08\0\0\0\0K\0\0\0\x08\0\0\0\0", "cancel key"),
        (b"E\0\0\0\x15SFATAL\0C28P01\0Mno\0\0", "refuses the stored account: 28P01 no"),
        (b"R\0\0\0\x08\0\0\0\0E\0\0\0\x15SFATAL\0C3D000\0Mno\0\0", "refuses the session: 3D000 no"),
    ];
    for (bytes, text) in table {
        for step in [1, bytes.len()] {
            let (fault, reply, _) = feed(Login::new("svc", stored(), allowed(), [0; 4].into()), bytes, step);
            let fault = fault.expect_err(text).to_string();
            assert!(fault.contains(text), "{fault}");
            assert!(reply.is_empty() && !fault.contains("stored-password"));
        }
    }
    let twice = [ASK_PASSWORD, ASK_PASSWORD].concat();
    let (fault, ..) = feed(Login::new("svc", stored(), allowed(), [0; 4].into()), &twice, 18);
    assert!(fault.is_err(), "the password is sent once");
}

#[test]
fn a_cancel_key_is_not_printed() {
    let printed = format!("{:?}", key_of(7, b"secret"));
    assert_eq!(printed, "CancelKey(7, …)");
}

proptest! {
    #[test]
    fn no_bytes_make_a_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), step in 1usize..20) {
        let _ = opening(&bytes);
        let _ = password(&bytes);
        let whole = follow(Culprit::Upstream, &bytes, bytes.len().max(1));
        prop_assert_eq!(whole, follow(Culprit::Upstream, &bytes, step));
        let _ = feed(Login::new("svc", stored(), allowed(), [0; 4].into()), &bytes, step);
    }
}
