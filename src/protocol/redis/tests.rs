//! Transcripts, cut at every offset.

use super::command::MAX_WORD;
use super::*;
use crate::protocol::Edit;

/// What a direction lets through.
struct Heard {
    bytes: Vec<u8>,
    logins: Vec<String>,
    fault: Option<&'static str>,
    between: bool,
    idle: bool,
}

/// Commands in pieces of `step` bytes. In the place of a login goes its name in brackets.
fn up(data: &[u8], step: usize) -> Heard {
    let (mut commands, mut work) = (Commands::default(), Work::default());
    let mut heard = Heard { bytes: vec![], logins: vec![], fault: None, between: false, idle: false };
    for piece in data.chunks(step) {
        let (mut piece, mut out) = (piece.to_vec(), Vec::new());
        let mut edit = Edit::new(&mut piece, &mut out);
        loop {
            match commands.pass(&mut edit, &mut work) {
                Ok(Passed::All) => break,
                Ok(Passed::Login(login)) => {
                    edit.insert(format!("[{login:?}]").as_bytes());
                    heard.logins.push(format!("{login:?}"));
                }
                Err(fault) => {
                    heard.fault = Some(fault.rule);
                    break;
                }
            }
        }
        let (taken, diverged) = (edit.position(), edit.diverged());
        heard.bytes.extend_from_slice(if diverged { &out } else { &piece[..taken] });
        if heard.fault.is_some() {
            return heard;
        }
    }
    (heard.between, heard.idle) = (commands.is_between(), work.is_idle());
    heard
}

/// Replies in pieces; `answers` are to be placed. What goes down, where replies of the upstream's ended, and whether
/// a rule was broken.
fn down(data: &[u8], step: usize, answers: &[Answer]) -> (Vec<u8>, Replies, Option<&'static str>) {
    let (mut replies, mut work, mut sent) = (Replies::new("5EC"), Work::default(), Vec::new());
    answers.iter().for_each(|answer| replies.mark(answer.clone(), &mut sent));
    let mut bytes = Vec::new();
    for piece in data.chunks(step) {
        let (mut piece, mut out) = (piece.to_vec(), Vec::new());
        let mut edit = Edit::new(&mut piece, &mut out);
        let fault = loop {
            match replies.pass(&mut edit, &mut work, &mut ()) {
                Ok(true) => break None,
                Ok(false) => {}
                Err(fault) => break Some(fault.rule),
            }
        };
        let (taken, diverged) = (edit.position(), edit.diverged());
        bytes.extend_from_slice(if diverged { &out } else { &piece[..taken] });
        if fault.is_some() {
            return (bytes, replies, fault);
        }
    }
    (bytes, replies, None)
}

#[test]
fn commands_pass_and_logins_are_taken_out_however_they_are_cut() {
    let data = b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$8\r\n*1\r\n$4\r\n\r\n*2\r\n$4\r\nauth\r\n$5\r\ntoken\r\n\
        *-1\r\n*0\r\n\r\nPING\r\n  get  k\n*1\r\n$0\r\n\r\n*5\r\n$5\r\nHELLO\r\n$1\r\n3\r\n$4\r\nAuth\r\n$1\r\nu\r\n$1\r\nt\r\n\
        *2\r\n$5\r\nHELLO\r\n$1\r\n2\r\nAUTH a b\r\n*1\r\n$5\r\nRESET\r\n*3\r\n$6\r\nCLIENT\r\n$5\r\nREPLX\r\n$1\r\nx\r\n\
        *3\r\n$6\r\nCLIENT\r\n$5\r\nREPLY\r\n$2\r\nON\r\n*1\r\n$16\r\nAUTHAUTHAUTHAUTH\r\n*1\r\n$4\r\nQUIT\r\n";
    let expected = b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$8\r\n*1\r\n$4\r\n\r\n[Auth(\xe2\x80\xa6)]\
        PING\r\n  get  k\n*1\r\n$0\r\n\r\n[Hello(\xe2\x80\xa6)]\
        [Hello][Auth(\xe2\x80\xa6)][Reset]*3\r\n$6\r\nCLIENT\r\n$5\r\nREPLX\r\n$1\r\nx\r\n\
        *3\r\n$6\r\nCLIENT\r\n$5\r\nREPLY\r\n$2\r\nON\r\n*1\r\n$16\r\nAUTHAUTHAUTHAUTH\r\n*1\r\n$4\r\nQUIT\r\n";
    for step in 1..=data.len() {
        let heard = up(data, step);
        assert_eq!(heard.fault, None, "step {step}");
        assert_eq!(String::from_utf8_lossy(&heard.bytes), String::from_utf8_lossy(expected), "step {step}");
        assert!(heard.between && !heard.idle && heard.logins.len() == 5, "step {step}");
    }
    // Cut once, at every offset, and ended there.
    for end in 1..data.len() {
        let heard = up(&data[..end], end);
        assert!(heard.fault.is_none() && expected.starts_with(&heard.bytes), "{end}");
    }
}

#[test]
fn commands_that_break_a_rule_are_found_and_no_login_goes_through() {
    let table: &[(&[u8], &str)] = &[
        (b"*1\r\n$5\r\nAUTH\0\r\n", "a zero byte in the name of a command"),
        (b"*2\r\n$9\r\nHELLO\0abc\r\n", "a zero byte in the name of a command"),
        (b"\"AUTH\" x\r\n", "quotes in the name of a command"),
        (b"'A'UTH x\r\n", "quotes in the name of a command"),
        (b"A\\x55TH x\r\n", "quotes in the name of a command"),
        (b"AUTH \"x\"\r\n", "quotes in a login"),
        (b"GET x\0AUTH x\r\n", "a zero byte in a line"),
        (b"POST / HTTP/1.1\r\n", "HTTP where commands are expected"),
        (b"*01\r\n", "what should be a number is none"),
        (b"*-0\r\n", "what should be a number is none"),
        (b"*1\rx", "a line that does not end as lines do"),
        (b"*99999999999999999999999999", "too long a number"),
        (b"*2147483648\r\n", "an impossible number of words"),
        (b"*1\r\n:1\r\n", "a word that does not begin with its size"),
        (b"*1\r\n$-1\r\n", "a word of an impossible size"),
        (b"*1\r\n$4294967296\r\n", "a word of an impossible size"),
        (b"*1\r\n$4\r\nPINGxx", "a word that does not end where it says"),
        (b"*2\r\n$4\r\nAUTH\r\n$1\r\nxyz", "a word that does not end where it says"),
        (b"*11\r\n$4\r\nAUTH\r\n", "too many words for a command that is to be read whole"),
        (b"*2\r\n$4\r\nAUTH\r\n$16385\r\n", "too long a word for a command that is to be read whole"),
    ];
    for (data, rule) in table {
        for step in 1..=data.len() {
            let heard = up(data, step);
            assert_eq!(heard.fault, Some(*rule), "{data:?} by {step}");
            assert!(!heard.bytes.windows(4).any(|w| w == b"AUTH"), "{data:?}");
        }
    }
    assert_eq!(up(&vec![b'x'; 65_537], 1000).fault, Some("too long a line"));
}

#[test]
fn a_command_before_the_permit_is_bounded() {
    assert_eq!(words(b"*2\r\n$3\r\nGET\r\n$1\r\nk\r"), Ok(None));
    let (found, length) = words(b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n*").unwrap().unwrap();
    assert_eq!((found, length), (vec![&b"GET"[..], b"k"], 20));
    assert!(words(b"*11\r\n").is_err());
    assert!(words(format!("*1\r\n${}\r\n", MAX_WORD + 1).as_bytes()).is_err());
    assert!(words(&vec![b' '; 65_536]).is_err());
}

#[test]
fn logins_are_read_strictly_and_name_no_token() {
    let of = |text: &str| Login::of(&text.split(' ').map(str::as_bytes).collect::<Vec<_>>());
    let token = |text: &str| of(text).token().map(|token| String::from_utf8_lossy(token).into_owned());
    assert_eq!(token("auth tok").as_deref(), Some("tok"));
    assert_eq!(token("AUTH user tok").as_deref(), Some("tok"));
    assert_eq!(token("hello 3 setname n auth user tok").as_deref(), Some("tok"));
    for text in ["AUTH", "AUTH a b c", "HELLO 1", "HELLO three", "HELLO AUTH u t", "RESET now"] {
        assert!(matches!(of(text), Login::Wrong(_)), "{text}");
    }
    for text in ["HELLO 3 AUTH u", "HELLO 3 AUTH u t AUTH u t", "HELLO 3 X", "HELLO 2 SETNAME"] {
        assert!(matches!(of(text), Login::Wrong("ERR syntax error in HELLO")), "{text}");
    }
    let encoded = |text: &str, account| {
        let mut into = Vec::new();
        of(text).encode(account, &mut into);
        String::from_utf8(into).unwrap().replace("\r\n", " ")
    };
    let svc = Some(("svc", &b"pw"[..]));
    assert_eq!(encoded("AUTH tok", svc), "*3 $4 AUTH $3 svc $2 pw ");
    assert_eq!(encoded("AUTH u tok", Some((DEFAULT_USER, b"pw"))), "*2 $4 AUTH $2 pw ");
    assert_eq!(
        encoded("HELLO 3 AUTH u tok SETNAME me", svc),
        "*7 $5 HELLO $1 3 $4 AUTH $3 svc $2 pw $7 SETNAME $2 me "
    );
    assert_eq!(encoded("HELLO 2 SETNAME me", None), "*4 $5 HELLO $1 2 $7 SETNAME $2 me ");
    assert_eq!(encoded("HELLO", None), "*1 $5 HELLO ");
    assert!(!format!("{:?}", of("AUTH tok")).contains("tok"));
}

/// Every type of both versions, nested.
const REPLIES: &[u8] = b"+OK\r\n-ERR no\r\n:1\r\n$-1\r\n*-1\r\n$0\r\n\r\n$5\r\n-a\r\nb\r\n*2\r\n*1\r\n:1\r\n$1\r\nx\r\n\
    _\r\n#t\r\n,inf\r\n(123456789012345678901234567890\r\n=5\r\ntxt:a\r\n!3\r\nERR\r\n%1\r\n+k\r\n~2\r\n:1\r\n:2\r\n\
    |1\r\n+a\r\n:1\r\n*1\r\n|1\r\n+a\r\n:1\r\n:5\r\n>2\r\n+message\r\n$1\r\nm\r\n*0\r\n%0\r\n+a line longer than what is kept of it\r\n";

#[test]
fn replies_pass_however_they_are_cut() {
    for answers in [&[][..], &[Answer::Say(b"-NO\r\n".to_vec())]] {
        for step in 1..=REPLIES.len() {
            let (bytes, replies, fault) = down(REPLIES, step, answers);
            assert_eq!((String::from_utf8_lossy(&bytes), fault), (String::from_utf8_lossy(REPLIES), None));
            assert!(replies.is_between() && !replies.is_refused(), "step {step}");
        }
    }
    let mut work = Work::default();
    (0..3).for_each(|_| work.up(work::Kind::Ordinary));
    let (mut data, mut out) =
        (b"+OK\r\n>1\r\n+x\r\n|1\r\n+a\r\n+b\r\n*2\r\n:1\r\n:2\r\n".to_vec(), Vec::new());
    let mut edit = Edit::new(&mut data, &mut out);
    let mut replies = Replies::new("5EC");
    while !replies.pass(&mut edit, &mut work, &mut ()).unwrap() {}
    assert!(!edit.diverged() && work.is_awaited(), "a push and an attribute answer nothing");
    work.down();
    assert!(work.is_idle());
}

#[test]
fn an_answer_stands_where_its_mark_is_refused() {
    let say = |text: &str| Answer::Say(text.as_bytes().to_vec());
    let answers = [say("-ONE\r\n"), say("-TWO\r\n"), Answer::Login(LoginOf::Gateway), say("-FOUR\r\n")];
    // The first went up while replies were off.
    let data = b":1\r\n-ERR other\r\n$31\r\n-ERR unknown 'STAUNCH-5EC-2.'\r\n\r\n\
        -ERR unknown command 'STAUNCH-5EC-2.', with args beginning with: \r\n:2\r\n+RESET\r\n\
        -ERR unknown command `STAUNCH-5EC-3.`\r\n+OK\r\n:3\r\n-ERR STAUNCH-5EC-4.\r\n:4\r\n";
    let expected = ":1\r\n-ERR other\r\n$31\r\n-ERR unknown 'STAUNCH-5EC-2.'\r\n\r\n-TWO\r\n:2\r\n+RESET\r\n:3\r\n-FOUR\r\n:4\r\n";
    for step in 1..=data.len() {
        let (bytes, replies, fault) = down(data, step, &answers);
        assert_eq!((String::from_utf8_lossy(&bytes).as_ref(), fault), (expected, None), "step {step}");
        assert!(replies.is_between() && !replies.is_refused() && replies.answers() == 0);
    }
    let mut sent = Vec::new();
    Replies::new("5EC").mark(say("-X\r\n"), &mut sent);
    assert_eq!(sent, b"*1\r\n$14\r\nSTAUNCH-5EC-1.\r\n");
}

#[test]
fn an_upstream_that_does_not_take_the_account_back_behind_a_reset_is_noticed() {
    for said in [&b"-NOAUTH x\r\n"[..], b"+QUEUED\r\n", b"-WRONGPASS invalid\r\n"] {
        let data = [b"-ERR 'STAUNCH-5EC-1.'\r\n", said].concat();
        for step in 1..=data.len() {
            let (bytes, replies, fault) = down(&data, step, &[Answer::Login(LoginOf::Gateway)]);
            assert!(replies.is_refused() && fault.is_none() && bytes.is_empty(), "{data:?}");
        }
    }
    // What a script returns is no verdict on anybody.
    let data = b"*2\r\n+OK\r\n-WRONGPASS invalid\r\n-WRONGPASS invalid\r\n";
    assert!(!down(data, 7, &[]).1.is_refused());
}

#[test]
fn the_reply_decides_a_login() {
    use Verdict::{Accepted, Refused};
    let facts =
        b"*14\r\n+a\r\n+b\r\n+c\r\n+d\r\n+e\r\n:3\r\n+g\r\n:4\r\n+i\r\n+j\r\n+k\r\n+l\r\n+m\r\n*0\r\n";
    let message = b"*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$3\r\n+OK\r\n";
    let gone = "-ERR the upstream does not let the gateway in\r\n";
    let table: &[(LoginOf, &[u8], Option<Verdict>, &str)] = &[
        (LoginOf::Auth, b"+OK\r\n", Some(Accepted), "+OK\r\n"),
        (LoginOf::Auth, b">2\r\n+x\r\n+OK\r\n+OK\r\n", Some(Accepted), ">2\r\n+x\r\n+OK\r\n+OK\r\n"),
        (LoginOf::Auth, b"+QUEUED\r\n", Some(Refused), "+QUEUED\r\n"),
        (LoginOf::Auth, b"-WRONGPASS bad svc\r\n", Some(Refused), gone),
        (LoginOf::Auth, b"-ERR invalid password\r\n", Some(Refused), gone),
        (LoginOf::Auth, b"-LOADING wait\r\n", Some(Refused), "-LOADING wait\r\n"),
        (LoginOf::Hello, b"-WRONGPASS bad\r\n", Some(Refused), gone),
        (LoginOf::Hello, b"%1\r\n+a\r\n+b\r\n", Some(Accepted), "%1\r\n+a\r\n+b\r\n"),
        (LoginOf::Hello, facts, Some(Accepted), std::str::from_utf8(facts).unwrap()),
        (LoginOf::Hello, message, None, std::str::from_utf8(message).unwrap()),
        (LoginOf::Auth, message, None, std::str::from_utf8(message).unwrap()),
    ];
    for (login, said, expected, told) in table {
        let data = [b":1\r\n-ERR 'STAUNCH-5EC-1.'\r\n", *said].concat();
        for step in 1..=data.len() {
            let (bytes, mut replies, fault) = down(&data, step, &[Answer::Login(*login)]);
            assert_eq!((replies.take_verdict(), fault), (*expected, None), "{login:?} {said:?} by {step}");
            assert_eq!(String::from_utf8_lossy(&bytes), format!(":1\r\n{told}"), "{login:?} by {step}");
        }
    }
}

#[test]
fn no_login_is_taken_where_its_reply_could_not_be_told_from_others() {
    let takes = |said: &[u8]| {
        let (mut commands, mut work) = (Commands::default(), Work::default());
        let (mut data, mut out) = (said.to_vec(), Vec::new());
        commands.pass(&mut Edit::new(&mut data, &mut out), &mut work).unwrap();
        work.takes_logins()
    };
    for said in ["MULTI\r\n", "MONITOR\r\n", "CLIENT REPLY OFF\r\n", "CLIENT REPLY SKIP\r\n"] {
        assert!(!takes(said.as_bytes()), "{said}");
    }
    for said in [
        "",
        "PING\r\n",
        "MULTI\r\nGET a\r\nEXEC\r\n",
        "MULTI\r\nDISCARD\r\n",
        "CLIENT REPLY SKIP\r\nGET a\r\n",
    ] {
        assert!(takes(said.as_bytes()), "{said}");
    }
}

#[test]
fn replies_that_break_a_rule_are_found() {
    let table: &[&[u8]] = &[
        b"x\r\n",
        b"\r\n",
        b"+OK\n",
        b"$-2\r\n",
        b"*-2\r\n",
        b"$\r\n",
        b"$1x\r\n",
        b"%-1\r\n",
        b"*4294967296\r\n",
        b"$?\r\n",
        b"*1\r\n?",
        b"$99999999999999999999999999999\r\n",
    ];
    for data in table {
        for step in 1..=data.len() {
            assert!(down(data, step, &[]).2.is_some(), "{data:?} by {step}");
        }
    }
    let after = b"-ERR 'STAUNCH-5EC-1.'\r\n$2\r\nOK\r\n";
    assert!(down(after, 1, &[Answer::Login(LoginOf::Gateway)]).2.is_some());
}

#[test]
fn a_refusal_is_one_line() {
    assert_eq!(error("ERR a\r\n+OK"), b"-ERR a+OK\r\n");
}
