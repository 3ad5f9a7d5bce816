//! Transcripts: what goes over the wire, and what is made of it.

use super::capability::{CONNECT_WITH_DB, LOCAL_FILES, PROMISED, SSL, for_upstream};
use super::response::{First, first, password, tls_request};
use super::*;
use crate::protocol::statement::{Outcome, Shown, Statement, Watch};
use crate::secret::Secret;
use std::sync::Arc;
use std::time::Instant;

const NO_EOF: u32 = 1 << 24;
const OK: &[u8] = b"\0\0\0\x02\0\0\0";
const OK_AND_MORE: &[u8] = b"\0\0\0\x0a\0\0\0";
/// An EOF packet, and the OK packet that stands in its place where EOF is deprecated.
const EOF: &[u8] = b"\xfe\0\0\x02\0";
const OK_FOR_EOF: &[u8] = b"\xfe\0\0\x02\0\0\0";
const COLUMN: &[u8] = b"\x03def\0\0\0\x01a\0\x0c\x3f\0\x01\0\0\0\x08\0\0\0\0\0";

fn framed(sequence: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut out, sequence, payload);
    out
}

/// Packets numbered from 1.
fn answer(payloads: &[&[u8]]) -> Vec<u8> {
    payloads.iter().zip(1u8..).flat_map(|(payload, sequence)| framed(sequence, payload)).collect()
}

fn command(payload: &[u8]) -> Vec<u8> {
    framed(0, payload)
}

/// One step of a conversation.
enum Said {
    Up(Vec<u8>),
    Down(Vec<u8>),
}
use Said::{Down, Up};

/// Both directions after a conversation in pieces of `size`.
fn converse(flags: u32, said: &[Said], size: usize) -> Result<(Commands, Replies), Fault> {
    let (mut up, mut down) = (Commands::default(), Replies::new(flags));
    for said in said {
        let (bytes, is_up) = match said {
            Up(bytes) => (bytes, true),
            Down(bytes) => (bytes, false),
        };
        for mut piece in bytes.chunks(size) {
            while !piece.is_empty() {
                let taken = if is_up { up.step(piece, &mut down)? } else { down.step(piece)? };
                assert!(taken > 0);
                piece = &piece[taken..];
            }
        }
    }
    Ok((up, down))
}

/// Ends with everything answered, and not before the last byte, in whichever pieces it comes.
fn ends_idle(flags: u32, said: &[Said]) {
    for size in [1, 2, 3, 5, 7, 64, 1 << 20] {
        let (up, down) = converse(flags, said, size).unwrap();
        assert!(up.is_between() && down.is_idle(), "in pieces of {size}");
        assert_eq!(down.next_sequence(), 0);
    }
    let Some((Down(last), before)) = said.split_last() else { panic!("ends with an answer") };
    for cut in 0..last.len() {
        let (mut up, mut down) = converse(flags, before, 1 << 20).unwrap();
        let mut rest = &last[..cut];
        while !rest.is_empty() {
            rest = &rest[down.step(rest).unwrap()..];
        }
        assert!(!down.is_idle(), "{cut} of {}", last.len());
        assert!(up.is_between() && up.step(b"", &mut down).is_ok());
    }
}

#[test]
fn what_clients_are_told_can_be_read_and_promises_no_compression() {
    let greeting = Greeting { version: "10.11.6-MariaDB".into(), ..Default::default() };
    for tls in [true, false] {
        let read = ServerGreeting::read(&greeting.payload(7, b"ABCDEFGHIJKLMNOPQRST", tls)).unwrap();
        assert_eq!(
            (&*read.version, &*read.scramble),
            (&b"10.11.6-MariaDB"[..], &b"ABCDEFGHIJKLMNOPQRST"[..])
        );
        assert_eq!(read.capabilities & PROMISED, PROMISED);
        assert_eq!((read.capabilities & SSL != 0, read.capabilities & 0x20), (tls, 0));
    }
    assert_eq!(greeting::version("10.11.6-MariaDB").as_deref(), Some("5.5.5-10.11.6-MariaDB"));
    assert_eq!(greeting::version("8.0.36").as_deref(), Some("8.0.36"));
    for wrong in ["", "MariaDB", "8.0\n", "8 0", &"8".repeat(61)] {
        assert_eq!(greeting::version(wrong), None, "{wrong:?}");
    }
}

#[test]
fn greetings_that_are_none() {
    let whole = Greeting::default().payload(7, &[b'A'; 20], true);
    for cut in 0..whole.len() - b"mysql_native_password\0".len() {
        assert!(ServerGreeting::read(&whole[..cut]).is_err(), "{cut}");
    }
    assert!(ServerGreeting::read(b"\xff\x69\x04blocked").unwrap_err().rule.contains("does not want"));
    assert!(ServerGreeting::read(b"\x09").is_err());
}

#[test]
fn what_stands_in_clear_behind_the_greeting() {
    let table: [(&[u8], Option<First>); 5] = [
        (&tls_request(0x200 | SSL), Some(First::Tls)),
        (&tls_request(0x200), Some(First::Login)),
        (&tls_request(SSL), None),
        (&[&tls_request(0x200 | SSL)[..], b"x"].concat(), None),
        (b"\x00\x0a", None),
    ];
    for (payload, expected) in table {
        assert_eq!(first(payload).ok(), expected, "{payload:?}");
    }
}

fn response(flags: u32, behind: &[u8]) -> Vec<u8> {
    let mut payload = tls_request(flags);
    payload.extend_from_slice(behind);
    payload
}

const PLUGIN: u32 = 1 << 19;
const SECURE: u32 = 1 << 15;
const LENENC: u32 = 1 << 21;
const ATTRIBUTES: u32 = 1 << 20;

#[test]
fn logins_of_all_forms() {
    let all = 0x200 | PLUGIN | SECURE | LENENC | ATTRIBUTES | CONNECT_WITH_DB;
    let whole = response(all, b"ann\0\x05token\x73\0mysql_clear_password\0\x0f\x0cprogram_name\x01p");
    // The proof has 5 bytes, and what follows it is the database.
    let read = Response::read(&whole).unwrap();
    assert_eq!((&*read.user, read.database.as_deref()), (&b"ann"[..], Some(&b"s"[..])));
    assert_eq!((read.token(), read.program()), (Some(&b"token"[..]), &b"p"[..]));
    assert!(!format!("{read:?}").contains("token"));
    let secure = Response::read(&response(0x200 | SECURE, b"ann\0\x02xy")).unwrap();
    assert_eq!((secure.token(), &secure.database, &*secure.user), (None, &None, &b"ann"[..]));
    assert!(Response::read(&response(0x200, b"ann\0proof\0")).is_ok());
    // Only what is sent as it is can be a token.
    let native =
        Response::read(&response(0x200 | PLUGIN | SECURE, b"ann\0\x02xymysql_native_password\0")).unwrap();
    assert_eq!(native.token(), None);
    for cut in 0..40 {
        assert!(Response::read(&whole[..cut]).is_err(), "{cut}");
    }
    assert!(Response::read(&response(PLUGIN, b"ann\0\0")).is_err());
    assert_eq!((password(b"token\0"), password(b"token")), (&b"token"[..], &b"token"[..]));
}

#[test]
fn what_goes_up_is_the_stored_account_with_the_clients_wishes_and_the_subject() {
    let all = 0x200 | PLUGIN | SECURE | LENENC | ATTRIBUTES | CONNECT_WITH_DB | NO_EOF;
    let attributes = b"\x0f\x0cprogram_name\x01p";
    let sent = [&b"ann\0\x05tokensales\0mysql_clear_password\0"[..], attributes].concat();
    let read = Response::read(&response(all, &sent)).unwrap();
    let flags = for_upstream(read.wanted(), PROMISED | SSL).unwrap();
    let up = read.for_upstream(flags, "svc", b"caching_sha2_password", &[7; 32], "ann@corp");
    let again = Response::fields(&up).unwrap();
    assert_eq!((&*again.user, again.database.as_deref()), (&b"svc"[..], Some(&b"sales"[..])));
    let holds = |part: &[u8]| up.windows(part.len()).any(|window| window == part);
    // A server cuts from the end.
    assert!(holds(b"\x0fstaunch_subject\x08ann@corp\x0cprogram_name\x01p"));
    assert!(!holds(b"token"));
    assert!(flags & NO_EOF != 0 && flags & CONNECT_WITH_DB != 0);
}

#[test]
fn attributes_that_a_server_could_take_for_the_gateways_own_are_refused() {
    let with = |names: &[&str]| {
        let mut pairs = Vec::new();
        for name in names {
            write_counted(&mut pairs, name.as_bytes());
            write_counted(&mut pairs, b"x");
        }
        let mut sent = b"ann\0\x05token".to_vec();
        write_counted(&mut sent, &pairs);
        Response::read(&response(0x200 | SECURE | ATTRIBUTES, &sent))
    };
    assert!(with(&["program_name", "_os", "staunch_subject_x"]).is_ok());
    for name in [
        "staunch_subject",
        "STAUNCH_Subject",
        "staunch_subject ",
        "staunch_subject \t",
        "staunch\u{200b}_subject",
    ] {
        assert!(with(&["_os", name]).unwrap_err().rule.contains("staunch_subject"), "{name:?}");
    }
    for two in [["_os", "_os"], ["_os", "_OS "]] {
        assert!(with(&two).unwrap_err().rule.contains("twice"), "{two:?}");
    }
}

#[test]
fn a_client_that_would_frame_otherwise_than_it_was_promised_is_told_so_at_its_login() {
    let behind = b"ann\0\x05token";
    assert!(
        Response::read(&response(
            0x200 | SECURE | PROMISED & !(PLUGIN | LENENC | ATTRIBUTES | CONNECT_WITH_DB),
            behind
        ))
        .is_ok()
    );
    // Asked for by mysql2, whatever was offered; the upstream is never asked for it.
    assert!(Response::read(&response(0x200 | SECURE | 1 << 27, behind)).is_ok());
    assert_eq!(for_upstream(PROMISED | 1 << 27, u32::MAX).unwrap() & 1 << 27, 0);
    for (flag, words) in [(1 << 5, "compress"), (1 << 26, "zstd"), (1 << 25, "metadata")] {
        let fault = Response::read(&response(0x200 | SECURE | flag, behind)).unwrap_err();
        assert!(fault.rule.contains(words) && fault.culprit == Culprit::Client, "{fault}");
    }
    // MariaDB's own extensions stand in what MySQL leaves empty, for who does not say that it is one of MySQL's.
    for (flags, fits) in [(0x200 | SECURE, false), (0x201 | SECURE, true)] {
        let mut payload = response(flags, behind);
        payload[28] = 1;
        assert_eq!(Response::read(&payload).is_ok(), fits, "{flags:x}");
    }
}

#[test]
fn a_file_that_was_not_agreed_on_is_asked_for_by_a_server_that_breaks_a_rule() {
    let asked = |capabilities: u32, said: &[Said]| {
        converse(capabilities, said, 1 << 20).err().map(|fault| fault.culprit)
    };
    let query = || Up(command(b"\x03select 1"));
    let file = || Down(answer(&[b"\xfb/etc/passwd"]));
    assert_eq!(asked(PROMISED, &[query(), file()]), Some(Culprit::Upstream));
    assert_eq!(asked(PROMISED | LOCAL_FILES, &[query(), file()]), None);
    // Before it is asked anything, and behind its answer; however many packets came before.
    assert_eq!(asked(PROMISED | LOCAL_FILES, &[file()]), Some(Culprit::Upstream));
    let rows = (0..300_u16).flat_map(|n| framed((n + 3) as u8, b"\x011"));
    let many = [framed(1, b"\x01"), framed(2, COLUMN), rows.collect(), framed(47, OK_FOR_EOF)];
    let many = Down(many.concat());
    assert_eq!(asked(PROMISED | LOCAL_FILES, &[query(), many, file()]), Some(Culprit::Upstream));
    // A NULL in a row is none.
    let null = Down(answer(&[b"\x01", COLUMN, b"\xfb", OK_FOR_EOF]));
    assert_eq!(asked(PROMISED, &[query(), null]), None);
}

#[test]
fn the_password_itself_is_for_a_server_inside_tls_and_for_whom_the_route_allows_it() {
    use crate::protocol::RequireAuth;
    use crate::protocol::require_auth::MYSQL_METHODS;
    let login = |encrypted, only: Option<&str>| {
        let require_auth =
            only.map(|only| RequireAuth::parse(only, &MYSQL_METHODS).unwrap()).unwrap_or_default();
        let password = Some(Arc::new(Secret::new(b"stored-password".to_vec())));
        Login::new(password, login::Allowed { require_auth, encrypted }, b"caching_sha2_password", SCRAMBLE)
    };
    let say = |mut login: Login, payload: &[u8]| login.feed(Packet { sequence: 2, payload });
    let clear = b"\xfemysql_clear_password\0";
    assert!(matches!(say(login(true, None), clear), Ok(Progress::Say(_))));
    assert_eq!(say(login(false, None), clear), Err(LoginFault::Clear));
    assert!(matches!(say(login(true, None), b"\x01\x04"), Ok(Progress::Say(_))));
    assert_eq!(say(login(false, None), b"\x01\x04"), Err(LoginFault::Clear));
    let only = "caching_sha2_password";
    assert!(matches!(say(login(true, Some(only)), clear), Err(LoginFault::NotAllowed(_))));
    let native = b"\xfemysql_native_password\0ABCDEFGHIJKLMNOPQRST\0";
    assert!(matches!(say(login(true, Some(only)), native), Err(LoginFault::NotAllowed(_))));
    assert!(matches!(say(login(false, None), native), Ok(Progress::Say(_))));
    // A server's words fill no line.
    let long = [&b"\xff\x15\x04#28000"[..], &[b'x'; 60_000]].concat();
    let Err(LoginFault::Refused { words, .. }) = say(login(true, None), &long) else {
        panic!("it was refused")
    };
    assert!(words.len() <= 300);
}

#[test]
fn both_legs_agree_on_what_later_packets_mean() {
    let server = PROMISED | SSL | LOCAL_FILES;
    let table = [
        (0x200, server, Some(0)),
        (0x200 | NO_EOF, server, Some(NO_EOF)),
        (0x200 | NO_EOF, server & !NO_EOF, None),
        (0x200 | 1 << 16, server & !(1 << 16), None),
        (0x200 | LOCAL_FILES, server, Some(LOCAL_FILES)),
        (0x200 | LOCAL_FILES, server & !LOCAL_FILES, None),
        // Found rows: a server knows it whether it says so or not.
        (0x200 | 2, server & !2, Some(2)),
    ];
    for (client, server, expected) in table {
        let flags = for_upstream(client, server);
        assert_eq!(
            flags.map(|flags| flags & (NO_EOF | LOCAL_FILES | 2 | 1 << 16)),
            expected,
            "{client:x} {server:x}"
        );
        assert!(flags.is_none_or(|flags| flags & SSL != 0));
    }
}

const SCRAMBLE: &[u8] = b"ABCDEFGHIJKLMNOPQRST";

fn login(plugin: &[u8]) -> Login {
    let allowed = login::Allowed { encrypted: true, ..Default::default() };
    Login::new(Some(Arc::new(Secret::new(b"stored-password".to_vec()))), allowed, plugin, SCRAMBLE)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn feed(login: &mut Login, payload: &[u8]) -> Result<Progress, LoginFault> {
    login.feed(Packet { sequence: 2, payload })
}

#[test]
fn proofs_of_a_password() {
    assert_eq!(hex(&login(b"mysql_native_password").first().1), "50b98708215e19d4cac26acfb65b9674d16f5c64");
    assert_eq!(
        hex(&login(b"caching_sha2_password").first().1),
        "0bf5f1d0bbcdb158f211966777e957f65e86193afa736cbac314754d9ef6f23f"
    );
    assert_eq!(login(b"client_ed25519").first().1.len(), 64);
    // What is not known is not begun with.
    assert_eq!(login(b"dialog").first().0, b"mysql_native_password");
    assert!(Login::new(None, Default::default(), b"mysql_native_password", SCRAMBLE).first().1.is_empty());
}

#[test]
fn logins_and_their_ends() {
    let clear = || Progress::Say(b"stored-password\0".to_vec().into());
    let mut sha2 = login(b"caching_sha2_password");
    assert_eq!(feed(&mut sha2, b"\x01\x03"), Ok(Progress::Wait));
    assert_eq!(feed(&mut sha2, b"\x01\x04"), Ok(clear()));
    assert_eq!(feed(&mut sha2, OK), Ok(Progress::Done));
    let mut switched = login(b"mysql_native_password");
    // The password itself is only for a plug-in that asks for it in its own way.
    assert!(matches!(feed(&mut switched, b"\x01\x04"), Err(LoginFault::Broken(_))));
    assert_eq!(feed(&mut switched, b"\xfemysql_clear_password\0"), Ok(clear()));
    let proof = feed(&mut switched, &[b"\xfecaching_sha2_password\0", SCRAMBLE, b"\0"].concat());
    assert_eq!(proof, Ok(Progress::Say(login(b"caching_sha2_password").first().1.into())));
    let gssapi = feed(&mut switched, b"\xfeauth_gssapi_client\0");
    assert_eq!(gssapi, Err(LoginFault::Plugin("auth_gssapi_client".into())));
    let refused = feed(&mut switched, b"\xff\x15\x04#28000no");
    assert_eq!(refused, Err(LoginFault::Refused { number: 1045, words: "no".into() }));
    let mut endless = login(b"caching_sha2_password");
    let rounds = (0..20).take_while(|_| feed(&mut endless, b"\x01\x03").is_ok()).count();
    assert_eq!(rounds, 8);
}

#[test]
fn errors_are_packets_that_clients_can_read() {
    let told = err(error::ACCESS_DENIED, 3, "no\x1b[2J\nway");
    assert_eq!(told, framed(3, b"\xff\x15\x04#28000no[2Jway"));
    assert!(err(error::UPSTREAM, 0, &"x".repeat(9_000)).len() < 520);
}

#[test]
fn an_error_in_place_of_the_greeting_has_no_sqlstate() {
    let told = err_for_greeting(error::UPSTREAM, "not\tnow");
    assert_eq!(told, framed(0, b"\xff\x95\x05notnow"));
    let read = packet(&told, Culprit::Upstream).unwrap().unwrap();
    assert!(ServerGreeting::read(read.payload).unwrap_err().rule.contains("does not want"));
}

#[test]
fn short_answers() {
    for payload in [&b"\x0e"[..], b"\x02shop", b"\x1f", b"\x09", b"\x1b\0\0", b"\x03do 0"] {
        ends_idle(PROMISED, &[Up(command(payload)), Down(answer(&[OK]))]);
        ends_idle(PROMISED, &[Up(command(payload)), Down(answer(&[b"\xff\x1e\x04#42S22no"]))]);
    }
    // Commands without an answer.
    let silent = [Up(command(b"\x19\x01\0\0\0")), Up(command(b"\x18\x01\0\0\0\0\0x"))];
    assert!(converse(PROMISED, &silent, 1).unwrap().1.is_idle());
}

#[test]
fn rows_with_and_without_eof_packets() {
    let ask = || Up(command(b"\x03select a"));
    // A row may begin with NULL, which is how a request for a file begins elsewhere.
    let rows: [&[u8]; 3] = [b"\x011", b"\xfb", b"\xfa"];
    let modern = [&[&b"\x01"[..], COLUMN][..], &rows, &[OK_FOR_EOF]].concat();
    ends_idle(PROMISED, &[ask(), Down(answer(&modern))]);
    let old = [&[&b"\x01"[..], COLUMN, EOF][..], &rows, &[EOF]].concat();
    ends_idle(PROMISED & !NO_EOF, &[ask(), Down(answer(&old))]);
    let broken = [&[&b"\x01"[..], COLUMN, EOF][..], &rows, &[&b"\xff\x25\x05#70100killed"[..]]].concat();
    ends_idle(PROMISED & !NO_EOF, &[ask(), Down(answer(&broken))]);
}

#[test]
fn several_results() {
    let last: &[u8] = b"\xfe\0\0\x0a\0\0\0";
    let all = [b"\x01", COLUMN, b"\x011", last, OK_AND_MORE, b"\x01", COLUMN, b"\x012", OK_FOR_EOF];
    ends_idle(PROMISED, &[Up(command(b"\x03select 1; do 0; select 2")), Down(answer(&all))]);
    let failed = [b"\x01", COLUMN, b"\x011", last, b"\xff\x28\x04#42000no"];
    ends_idle(PROMISED, &[Up(command(b"\x03select 1; nonsense")), Down(answer(&failed))]);
}

#[test]
fn prepared_statements() {
    let prepare = || Up(command(b"\x16select ?, ?"));
    let head = |columns: u8, parameters: u8| vec![0, 1, 0, 0, 0, columns, 0, parameters, 0, 0, 0, 0];
    let modern = [&head(1, 2)[..], COLUMN, COLUMN, COLUMN];
    ends_idle(PROMISED, &[prepare(), Down(answer(&modern))]);
    let old = [&head(1, 2)[..], COLUMN, COLUMN, EOF, COLUMN, EOF];
    ends_idle(PROMISED & !NO_EOF, &[prepare(), Down(answer(&old))]);
    ends_idle(PROMISED, &[prepare(), Down(answer(&[&head(0, 0)[..]]))]);
    let run = [b"\x01", COLUMN, b"\0\0\x01", OK_FOR_EOF];
    ends_idle(PROMISED, &[Up(command(b"\x17\x01\0\0\0\0\x01\0\0\0")), Down(answer(&run))]);
    // A cursor: its rows come when they are fetched.
    let cursor: &[u8] = b"\xfe\0\0\x42\0";
    let opened = [b"\x01", COLUMN, cursor];
    let fetched = [&b"\0\0\x01"[..], EOF];
    ends_idle(
        PROMISED & !NO_EOF,
        &[
            Up(command(b"\x17\x01\0\0\0\x01\x01\0\0\0")),
            Down(answer(&opened)),
            Up(command(b"\x1c\x01\0\0\0\x01\0\0\0")),
            Down(answer(&fetched)),
        ],
    );
}

#[test]
fn commands_ahead_of_their_answers() {
    let ahead = [command(b"\x03select 1"), command(b"\x0e"), command(b"\x03do 0")].concat();
    let answers = [answer(&[b"\x01", COLUMN, b"\x011", OK_FOR_EOF]), answer(&[OK]), answer(&[OK])].concat();
    ends_idle(PROMISED, &[Up(ahead), Down(answers)]);
}

#[test]
fn a_file_is_no_command_whatever_its_packets_look_like() {
    let ask = || Up(command(b"\x03load data local infile 'x' into table t"));
    // 300 packets: their numbers come round to 0, and one begins as COM_CHANGE_USER would.
    let file: Vec<u8> = (0..300u16).flat_map(|n| framed((n + 2) as u8, b"\x11root\0")).collect();
    let end = (302 % 256) as u8;
    let file = [file, framed(end, b"")].concat();
    let said = [ask(), Down(answer(&[b"\xfbx"])), Up(file), Down(framed(end + 1, OK))];
    ends_idle(PROMISED | LOCAL_FILES, &said);
    // Where files were not agreed on, none is asked for.
    let found = converse(PROMISED, &said, 1 << 20).err().unwrap();
    assert_eq!(
        (found.rule, found.culprit),
        ("a request for a file of the client's, which was not agreed on", Culprit::Upstream)
    );
}

#[test]
fn an_answer_ends_the_file_that_was_asked_for() {
    let ask = Up(command(b"\x03load data local infile 'x' into table t"));
    let said = [ask, Down(answer(&[b"\xfbx", b"\xff\x25\x05#70100killed"])), Up(command(b"\x11root\0"))];
    let found = converse(PROMISED | LOCAL_FILES, &said, 7).err().unwrap();
    assert!(found.rule.contains("COM_CHANGE_USER"), "{found}");
}

#[test]
fn more_commands_ahead_than_are_followed_open_no_door() {
    let pings = |count: usize| command(b"\x0e").repeat(count);
    let said = [
        Up([pings(4096), command(b"\x03select null")].concat()),
        Down(answer(&[OK]).repeat(4096)),
        Up([pings(2), command(b"\x03select 1")].concat()),
        // The answer to the query that is not followed: its row begins as a request for a file would.
        Down(answer(&[b"\x01", COLUMN, b"\xfb", OK_FOR_EOF])),
        Up(command(b"\x11root\0")),
    ];
    let found = converse(PROMISED | LOCAL_FILES, &said, 1 << 20).err().unwrap();
    assert!(found.rule.contains("COM_CHANGE_USER"), "{found}");
    let (_, down) = converse(PROMISED | LOCAL_FILES, &said[..4], 1 << 20).unwrap();
    assert!(!down.is_idle(), "it is not known any more");
}

#[test]
fn packets_that_go_on_in_others() {
    let large = vec![b'x'; MAX_PAYLOAD];
    let mut query = Vec::from([0xff, 0xff, 0xff, 0]);
    query.push(3);
    query.extend_from_slice(&large[1..]);
    // The rest begins as COM_CHANGE_USER would, and is none.
    query.extend_from_slice(&framed(1, b"\x11rest"));
    let mut row = Vec::from([0xff, 0xff, 0xff, 3]);
    row.push(0xfe);
    row.extend_from_slice(&large[1..]);
    row.extend_from_slice(&framed(4, b"\xferest"));
    let answer = [answer(&[b"\x01", COLUMN]), row, framed(5, OK_FOR_EOF)].concat();
    let said = [Up(query), Down(answer)];
    for size in [1 << 16, 1 << 30] {
        let (up, down) = converse(PROMISED, &said, size).unwrap();
        assert!(up.is_between() && down.is_idle());
    }
}

#[test]
fn what_does_not_pass() {
    let table: [(&[u8], &str); 4] = [
        (b"\x05\0\0\0\x11root", "COM_CHANGE_USER"),
        (b"\x01\0\0\x01\x0e", "out of order"),
        (b"\0\0\0\0", "without a byte"),
        (b"\x01\0\0\x05\x11", "out of order"),
    ];
    for (bytes, rule) in table {
        for size in [1, 5, 100] {
            let fault = converse(PROMISED, &[Up(bytes.to_vec())], size).err().unwrap();
            assert!(fault.rule.contains(rule) && fault.culprit == Culprit::Client, "{bytes:?}: {fault}");
        }
    }
    // Nothing behind the head of what is refused has been taken.
    let (mut up, mut down) = (Commands::default(), Replies::new(PROMISED));
    assert_eq!(up.step(b"\x05\0\0\0", &mut down).unwrap(), 4);
    assert!(up.step(b"\x11root", &mut down).is_err());
    assert_eq!(down.next_sequence(), 1, "its refusal is an answer");
}

#[test]
fn replication_has_no_end_and_a_client_that_leaves_says_so() {
    let (_, down) =
        converse(PROMISED, &[Up(command(b"\x12\x04\0\0\0")), Down(answer(&[OK, EOF, OK]))], 3).unwrap();
    assert!(!down.is_idle());
    let (up, down) = converse(PROMISED, &[Up(command(b"\x01"))], 1).unwrap();
    assert!(up.is_quit() && down.is_idle());
}

#[test]
fn where_an_error_of_our_own_may_stand_and_under_which_number() {
    let ask = || Up(command(b"\x03select 1"));
    let at = |said: &[Said]| {
        let (_, down) = converse(PROMISED, said, 1 << 20).unwrap();
        (down.is_between(), down.next_sequence())
    };
    assert_eq!(at(&[]), (true, 0));
    assert_eq!(at(&[ask()]), (true, 1));
    assert_eq!(at(&[ask(), Down(answer(&[b"\x01", COLUMN]))]), (true, 3));
    assert!(!at(&[ask(), Down(b"\x01\0\0\x01".to_vec())]).0);
}

/// Lines as `kind text result rows`.
fn lines(flags: u32, said: &[Said], size: usize) -> Vec<String> {
    let (mut statements, mut lines) = (Statements::new(16, flags), Vec::new());
    let say = &mut |line: &Statement<'_>| {
        let text = match line.text {
            Shown::Text(text) => String::from_utf8_lossy(text.kept()).into_owned(),
            Shown::None => "-".into(),
            Shown::NotHeld => "?".into(),
        };
        let state = String::from_utf8_lossy(line.sqlstate).into_owned();
        let result = if line.outcome == Outcome::Error { state } else { line.outcome.name().into() };
        lines.push(format!("{} {text:?} {result} {:?} {:?}", line.kind.name(), line.rows, line.results));
    };
    for said in said {
        let (bytes, is_up) = match said {
            Up(bytes) => (bytes, true),
            Down(bytes) => (bytes, false),
        };
        for piece in bytes.chunks(size) {
            match is_up {
                true => statements.up(piece, Instant::now(), say),
                false => statements.down(piece, Instant::now(), say),
            }
        }
    }
    statements.end(say);
    lines
}

#[test]
fn statements_and_what_becomes_of_them() {
    let prepared: &[u8] = b"\0\x07\0\0\0\x01\0\x01\0\0\0\0";
    let said = [
        Up(command(b"\x03insert into t values (1), (2)")),
        Down(answer(&[b"\0\x02\0\x02\0\0\0"])),
        Up([command(b"\x03select a"), command(b"\x0e")].concat()),
        Down([answer(&[b"\x01", COLUMN, b"\x011", b"\x012", OK_FOR_EOF]), answer(&[OK])].concat()),
        Up(command(b"\x03nonsense")),
        Down(answer(&[b"\xff\x28\x04#42000no"])),
        Up(command(b"\x16select ?")),
        Down(answer(&[prepared, COLUMN, COLUMN])),
        Up(command(b"\x17\x07\0\0\0\0\x01\0\0\0\0\x01\x08\0secret!!")),
        Down(answer(&[b"\x01", COLUMN, b"\0\0\x01", OK_FOR_EOF])),
        Up([command(b"\x19\x07\0\0\0"), command(b"\x17\x07\0\0\0\0\x01\0\0\0")].concat()),
        Down(answer(&[b"\xff\xdb\x04#HY000unknown"])),
        Up(command(b"\x03select sleep(9)")),
    ];
    let expected = [
        "query \"insert into t va\" done Some(2) None",
        "query \"select a\" done Some(2) None",
        "query \"nonsense\" 42000 None None",
        "parse \"select ?\" done None None",
        "execute \"select ?\" done Some(1) None",
        "execute \"?\" HY000 None None",
        "query \"select sleep(9)\" unanswered None None",
    ];
    for size in [1, 2, 3, 7, 1000] {
        assert_eq!(lines(PROMISED, &said, size), expected, "in pieces of {size}");
    }
}
