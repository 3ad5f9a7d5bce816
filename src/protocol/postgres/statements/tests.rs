//! Sessions as transcripts: `>` what goes up, `<` what comes down, and the lines that come of it.

use super::*;
use crate::protocol::statement::Shown;
use std::fmt::Write;
use std::time::Duration;

fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    [&[tag], &((body.len() + 4) as u32).to_be_bytes()[..], body].concat()
}

/// `Q select 1`, `P name text`, `B portal name`, `E portal`, `C Sname`, `D Pname`, `F 1598`, `S`; down `C tag`, `E code`, `Z I`.
/// `-` stands for the empty name.
fn encode(up: bool, words: &str) -> Vec<u8> {
    let (tag, rest) = (words.as_bytes()[0], words.get(2..).unwrap_or(""));
    let text = |text: &str| [text.trim_matches('-').as_bytes(), b"\0"].concat();
    let body = match (up, tag) {
        (true, b'Q') => text(rest),
        (true, b'P') => {
            let (name, statement) = rest.split_once(' ').unwrap();
            [text(name), text(statement), vec![0, 0]].concat()
        }
        (true, b'B') => {
            let (portal, name) = rest.split_once(' ').unwrap();
            // One value, which must not be seen.
            [text(portal), text(name), b"\0\0\0\x01\0\0\0\x06canary\0\0".to_vec()].concat()
        }
        (true, b'E') => [text(rest), vec![0; 4]].concat(),
        (true, b'C' | b'D') => [&rest.as_bytes()[..1], &text(&rest[1..])].concat(),
        (true, b'F') => [&rest.parse::<u32>().unwrap().to_be_bytes()[..], &[0; 6]].concat(),
        (false, b'C') => text(rest),
        (false, b'E') => format!("SFEHLER\0VERROR\0C{rest}\0Mcanary\0\0").into_bytes(),
        (false, b'Z') => rest.into(),
        (_, b'd' | b'D') => b"canary\0canary".to_vec(),
        _ => Vec::new(),
    };
    message(tag, &body)
}

fn show(out: &mut String, line: &Statement<'_>) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    write!(out, "{}", line.kind.name()).unwrap();
    for (name, value) in [("name", line.name), ("portal", line.portal)] {
        if !value.is_empty() {
            write!(out, " {name}={}", text(value)).unwrap();
        }
    }
    match line.text {
        Shown::None => {}
        Shown::Text(kept) => {
            write!(out, " '{}'", text(kept.kept())).unwrap();
            if kept.is_cut() {
                write!(out, " of {}", kept.whole()).unwrap();
            }
        }
        Shown::NotHeld => out.push_str(" not held"),
    }
    if let Some(function) = line.function {
        write!(out, " function={function}").unwrap();
    }
    if let Some(copy) = line.copy {
        write!(out, " copy={}", copy.name()).unwrap();
    }
    write!(out, " → {}", line.outcome.name()).unwrap();
    for value in [line.sqlstate, line.tag] {
        if !value.is_empty() {
            write!(out, " {}", text(value)).unwrap();
        }
    }
    if let Some(results) = line.results {
        write!(out, " results={results}").unwrap();
    }
    if let Some(rows) = line.rows {
        write!(out, " rows={rows}").unwrap();
    }
    if let Some(took) = line.took {
        write!(out, " {}ms", took.as_millis()).unwrap();
    }
    out.push('\n');
}

/// The lines of a session whose messages take a millisecond each, in pieces of `piece` bytes, with `limit` bytes of text.
fn lines_of(script: &[&str], piece: usize, limit: usize) -> String {
    let mut statements = Statements::new(limit);
    let mut now = Instant::now();
    let mut out = String::new();
    let say = &mut |line: &Statement<'_>| show(&mut out, line);
    for step in script {
        now += Duration::from_millis(1);
        let up = step.starts_with('>');
        for piece in encode(up, &step[1..]).chunks(piece) {
            if up {
                statements.up(piece, now, say);
            } else {
                statements.down(piece, now, say);
            }
        }
    }
    statements.end(say);
    assert_eq!(statements.size().0, 0);
    out
}

#[track_caller]
fn check(script: &[&str], expected: &[&str]) {
    for piece in [1, 2, 3, 5, 7, 1000] {
        let lines = lines_of(script, piece, 100);
        assert!(!lines.contains("canary"), "{lines}");
        assert_eq!(lines.lines().collect::<Vec<_>>(), expected, "in pieces of {piece}");
    }
}

#[test]
fn a_query_has_one_line_with_what_the_server_says_of_it() {
    check(
        &[">Q select 1", "<T", "<D", "<C SELECT 1", "<Z I"],
        &["query 'select 1' → done SELECT 1 rows=1 4ms"],
    );
    check(
        &[">Q update a; begin; insert b", "<C UPDATE 3", "<C BEGIN", "<C INSERT 0 4", "<Z T"],
        &["query 'update a; begin; insert b' → done INSERT 0 4 results=3 rows=7 4ms"],
    );
    check(&[">Q ", "<I", "<Z I"], &["query '' → done 2ms"]);
    check(
        &[">Q select 1; oops", "<C SELECT 1", "<E 42601", "<Z I", ">Q select 2", "<C SELECT 1", "<Z I"],
        &[
            "query 'select 1; oops' → error 42601 SELECT 1 rows=1 3ms",
            "query 'select 2' → done SELECT 1 rows=1 2ms",
        ],
    );
    check(&[">F 1598", "<V", "<Z I"], &["function_call function=1598 → done 2ms"]);
    check(&[">F 1598", "<E 42883", "<Z I"], &["function_call function=1598 → error 42883 2ms"]);
}

#[test]
fn the_unnamed_statement_is_prepared_and_run() {
    check(
        &[">P - select $1", ">B - -", ">D P-", ">E -", ">S", "<1", "<2", "<T", "<D", "<C SELECT 1", "<Z I"],
        &["parse 'select $1' → done 5ms", "execute 'select $1' → done SELECT 1 rows=1 6ms"],
    );
}

#[test]
fn a_named_statement_is_run_again_and_again_until_it_is_closed() {
    check(
        &[
            ">P a select $1",
            ">S",
            "<1",
            "<Z I",
            ">B - a",
            ">E -",
            ">S",
            "<2",
            "<C SELECT 2",
            "<Z I",
            ">B p a",
            ">E p",
            ">E p",
            ">S",
            "<2",
            "<s",
            "<C SELECT 1",
            "<Z I",
            ">C Sa",
            ">S",
            "<3",
            "<Z I",
            ">B - a",
            ">E -",
            ">S",
            "<E 26000",
            "<Z I",
        ],
        &[
            "parse name=a 'select $1' → done 2ms",
            "execute name=a 'select $1' → done SELECT 2 rows=2 3ms",
            "execute name=a portal=p 'select $1' → suspended 4ms",
            "execute name=a portal=p 'select $1' → done SELECT 1 rows=1 4ms",
            "bind name=a not held → error 26000 3ms",
            "execute → skipped",
        ],
    );
}

#[test]
fn an_error_takes_with_it_what_follows_up_to_the_sync() {
    let answers = ["<1", "<2", "<E 22012", "<Z I", "<1", "<2", "<C SELECT 1", "<Z I"];
    let asked = [
        ">P - select 1/0",
        ">B - -",
        ">E -",
        ">P b select 2",
        ">B - b",
        ">E -",
        ">Q select 3",
        ">S",
        ">P b select 4",
        ">B - b",
        ">E -",
        ">S",
    ];
    let expected = |took: [u32; 4]| {
        [
            format!("parse 'select 1/0' → done {}ms", took[0]),
            format!("execute 'select 1/0' → error 22012 {}ms", took[1]),
            "parse name=b 'select 2' → skipped".into(),
            "execute → skipped".into(),
            "query 'select 3' → skipped".into(),
            format!("parse name=b 'select 4' → done {}ms", took[2]),
            format!("execute name=b 'select 4' → done SELECT 1 rows=1 {}ms", took[3]),
        ]
    };
    // The answers come when all has been sent, and after what they answer.
    let all = [&asked[..], &answers[..]].concat();
    check(&all, &expected([12, 12, 8, 8]).each_ref().map(String::as_str));
    let [first, second] = [&asked[..3], &asked[3..]];
    let mixed = [first, &answers[..3], &second[..5], &answers[3..4], &second[5..], &answers[4..]].concat();
    check(&mixed, &expected([3, 3, 4, 4]).each_ref().map(String::as_str));
}

#[test]
fn a_name_stands_for_what_the_server_took_it_for() {
    // A second Parse of a name fails, and changes nothing.
    check(
        &[
            ">P a drop evil",
            ">S",
            ">P a select 1",
            ">S",
            ">B - a",
            ">E -",
            ">S",
            "<1",
            "<Z I",
            "<E 42P05",
            "<Z I",
            "<2",
            "<C DROP",
            "<Z I",
        ],
        &[
            "parse name=a 'drop evil' → done 7ms",
            "parse name=a 'select 1' → error 42P05 7ms",
            "execute name=a 'drop evil' → done DROP 7ms",
        ],
    );
    // PREPARE may give a name to anything, and so does DECLARE to a portal.
    check(
        &[
            ">P a select 1",
            ">S",
            "<1",
            "<Z I",
            ">Q deallocate a; prepare a as drop evil",
            "<C DEALLOCATE",
            "<C PREPARE",
            "<Z I",
            ">B - a",
            ">E -",
            ">S",
            "<2",
            "<C DROP",
            "<Z I",
        ],
        &[
            "parse name=a 'select 1' → done 2ms",
            "query 'deallocate a; prepare a as drop evil' → done PREPARE results=2 3ms",
            "execute name=a not held → done DROP 3ms",
        ],
    );
    check(
        &[
            ">P - select 1",
            ">B c -",
            ">S",
            "<1",
            "<2",
            "<Z T",
            ">Q close c; declare c cursor for evil",
            "<C CLOSE CURSOR",
            "<C DECLARE CURSOR",
            "<Z T",
            ">E c",
            ">S",
            "<C EVIL",
            "<Z T",
        ],
        &[
            "parse 'select 1' → done 3ms",
            "query 'close c; declare c cursor for evil' → done DECLARE CURSOR results=2 3ms",
            "execute portal=c not held → done EVIL 2ms",
        ],
    );
}

#[test]
fn portals_end_with_their_transaction() {
    check(
        &[
            ">P - a",
            ">B c -",
            ">S",
            "<1",
            "<2",
            "<Z T",
            ">Q commit",
            "<C COMMIT",
            "<Z I",
            ">E c",
            ">S",
            "<E 34000",
            "<Z I",
        ],
        &[
            "parse 'a' → done 3ms",
            "query 'commit' → done COMMIT 2ms",
            "execute portal=c not held → error 34000 2ms",
        ],
    );
}

#[test]
fn a_transaction_that_fails_at_its_sync_is_told() {
    check(
        &[">P - insert", ">B - -", ">E -", ">S", "<1", "<2", "<C INSERT 0 1", "<E 23503", "<Z I"],
        &["parse 'insert' → done 4ms", "execute 'insert' → done INSERT 0 1 rows=1 4ms", "sync → error 23503"],
    );
}

#[test]
fn copies_are_marked_and_their_data_is_not_looked_at() {
    check(
        &[
            ">Q copy t from stdin",
            "<G",
            ">d",
            ">d",
            ">c",
            "<C COPY 2",
            "<Z I",
            ">Q select 1",
            "<C SELECT 1",
            "<Z I",
        ],
        &[
            "query 'copy t from stdin' copy=in → done COPY 2 rows=2 6ms",
            "query 'select 1' → done SELECT 1 rows=1 2ms",
        ],
    );
    check(
        &[">Q copy t to stdout", "<H", "<d", "<d", "<c", "<C COPY 2", "<Z I"],
        &["query 'copy t to stdout' copy=out → done COPY 2 rows=2 6ms"],
    );
    // The first Sync is swallowed.
    check(
        &[
            ">P - copy",
            ">B - -",
            ">E -",
            ">S",
            "<1",
            "<2",
            "<G",
            ">d",
            ">c",
            ">S",
            "<C COPY 1",
            "<Z I",
            ">Q select 1",
            "<C SELECT 1",
            "<Z I",
        ],
        &[
            "parse 'copy' → done 4ms",
            "execute 'copy' copy=in → done COPY 1 rows=1 8ms",
            "query 'select 1' → done SELECT 1 rows=1 2ms",
        ],
    );
    check(
        &[">Q start_replication", "<W", "<d", ">d", "<c", ">c", "<C START_STREAMING", "<Z I"],
        &["query 'start_replication' copy=both → done START_STREAMING 7ms"],
    );
}

#[test]
fn a_copy_that_fails_is_told_once_whichever_end_gives_up() {
    // The client gives up; the server does, before and after the client's end has been sent.
    for script in [
        &[">Q copy", "<G", ">d", ">f", "<E 57014", "<Z I"][..],
        &[">Q copy", "<G", ">d", ">d", "<E 57014", "<Z I", ">c"],
        &[">Q copy", "<G", ">d", ">c", "<E 57014", "<Z I"],
    ] {
        let script = [script, &[">Q select 1", "<C SELECT 1", "<Z I"]].concat();
        let lines = lines_of(&script, 1000, 100);
        let lines: Vec<&str> = lines.lines().map(|line| line.rsplit_once(' ').unwrap().0).collect();
        assert_eq!(lines, ["query 'copy' copy=in → error 57014", "query 'select 1' → done SELECT 1 rows=1"]);
    }
    for script in [
        &[">P - copy", ">B - -", ">E -", ">S", "<1", "<2", "<G", ">d", "<E 57014", ">c", ">S", "<Z I"][..],
        &[">P - copy", ">B - -", ">E -", ">S", "<1", "<2", "<G", ">d", ">c", ">S", "<E 57014", "<Z I"],
    ] {
        let script = [script, &[">Q select 1", "<C SELECT 1", "<Z I"]].concat();
        let lines = lines_of(&script, 1000, 100);
        let lines: Vec<&str> = lines.lines().map(|line| line.rsplit_once(' ').unwrap().0).collect();
        assert_eq!(
            lines,
            [
                "parse 'copy' → done",
                "execute 'copy' copy=in → error 57014",
                "query 'select 1' → done SELECT 1 rows=1"
            ]
        );
    }
}

#[test]
fn what_comes_unasked_answers_nothing() {
    check(
        &["<N", "<S", "<A", ">Q select 1", "<N", "<S", "<C SELECT 1", "<A", "<Z I", "<E 57P01", "<Z I"],
        &["query 'select 1' → done SELECT 1 rows=1 5ms"],
    );
}

#[test]
fn what_has_no_answer_when_the_session_ends_is_told() {
    check(
        &[">Q select pg_sleep(100)", "<T", ">P a b", ">B - a", ">E -", ">S"],
        &[
            "query 'select pg_sleep(100)' → unanswered",
            "parse name=a 'b' → unanswered",
            "execute not held → unanswered",
        ],
    );
    check(&[">Q select 1", "<E 57P01"], &["query 'select 1' → error 57P01"]);
}

#[test]
fn texts_are_cut_and_passwords_masked() {
    let long = format!(">Q select '{}'", "ü".repeat(60));
    let line = format!("query 'select '{}' of 129 → done SELECT 1 rows=1 2ms", "ü".repeat(46));
    check(&[&long, "<C SELECT 1", "<Z I"], &[&line]);
    check(
        &[
            ">Q alter role a password 'secret'",
            "<C ALTER ROLE",
            "<Z I",
            ">P - create user b password 'secret'",
            "<1",
        ],
        &[
            "query 'alter role a password ***' → done ALTER ROLE 2ms",
            "parse 'create user b password ***' → done 1ms",
        ],
    );
    let cut = format!(">Q alter role {} password 'secret and more'", "a".repeat(70));
    let lines = lines_of(&[&cut, "<C ALTER ROLE", "<Z I"], 1, 100);
    assert!(lines.contains("password ***' of 108") && !lines.contains("sec"), "{lines}");
    // A name of any length does not push the text out of sight.
    let name = "n".repeat(5000);
    let lines = lines_of(&[&format!(">P {name} drop evil"), "<1"], 64, 100);
    assert_eq!(lines, format!("parse name={} 'drop evil' → done 1ms\n", &name[..63]));
}

/// A session of messages that are fed whole.
struct Fed {
    statements: Statements,
    lines: String,
}

impl Fed {
    fn new(limit: usize) -> Self {
        Fed { statements: Statements::new(limit), lines: String::new() }
    }

    fn feed(&mut self, step: &str) {
        let bytes = encode(step.starts_with('>'), &step[1..]);
        let (now, say) = (Instant::now(), &mut |line: &Statement<'_>| show(&mut self.lines, line));
        if step.starts_with('>') {
            self.statements.up(&bytes, now, say);
        } else {
            self.statements.down(&bytes, now, say);
        }
    }

    fn last(&self) -> &str {
        self.lines.lines().last().unwrap_or_default().split(" → ").next().unwrap_or_default()
    }
}

#[test]
fn no_more_texts_are_held_than_the_limit_and_the_lines_say_so() {
    let mut fed = Fed::new(64 << 10);
    let text = "x".repeat(60 << 10);
    for n in 0..40 {
        fed.feed(&format!(">P s{n} {text}"));
        fed.feed("<1");
        assert!(fed.statements.size().1 <= MAX_HELD);
    }
    for (n, held) in [(0, true), (16, true), (17, false), (39, false)] {
        for step in [&format!(">B - s{n}"), ">E -", ">S", "<2", "<C SELECT 1", "<Z I"] {
            fed.feed(step);
        }
        let expected =
            if held { format!("execute name=s{n} '{text}'") } else { format!("execute name=s{n} not held") };
        assert_eq!(fed.last(), expected);
    }
    // What is forgotten makes room.
    for step in [">C Ss0", "<3", &format!(">P t {text}"), "<1", ">B - t", "<2", ">E -", "<C SELECT 1"] {
        fed.feed(step);
    }
    assert_eq!(fed.last(), format!("execute name=t '{text}'"));
}

#[test]
fn no_more_names_are_held_than_the_limit() {
    let mut fed = Fed::new(100);
    for n in 0..2 * MAX_NAMES {
        for step in [format!(">P s{n} a"), format!(">B p{n} s{n}"), "<1".into(), "<2".into()] {
            fed.feed(&step);
        }
    }
    assert_eq!((fed.statements.prepared.len(), fed.statements.portals.len()), (MAX_NAMES, MAX_NAMES));
    for (step, expected) in
        [("p1", "execute name=s1 portal=p1 'a'"), ("p300", "execute portal=p300 not held")]
    {
        fed.feed(&format!(">E {step}"));
        fed.feed("<C SELECT 1");
        assert_eq!(fed.last(), expected);
    }
}

#[test]
fn a_pipeline_beyond_the_limit_has_lines_without_results_until_it_is_answered() {
    let mut fed = Fed::new(100);
    fed.feed(">P a select 1");
    fed.feed("<1");
    for _ in 0..MAX_PENDING {
        fed.feed(">Q select 2");
    }
    assert_eq!(fed.lines.lines().count(), 1);
    for step in [">C Sa", ">P a drop evil", ">S", ">Q select 3"] {
        fed.feed(step);
        assert!(fed.statements.size().0 <= MAX_PENDING);
    }
    assert_eq!(fed.last(), "query 'select 3'");
    assert!(fed.lines.ends_with("→ not_followed\n"), "{}", fed.last());
    fed.lines.clear();
    for _ in 0..MAX_PENDING {
        fed.feed("<C SELECT 1");
        fed.feed("<Z I");
    }
    assert_eq!(
        fed.lines.lines().filter(|line| line.starts_with("query 'select 2' → done")).count(),
        MAX_PENDING
    );
    for step in ["<3", "<1", "<Z I", "<C SELECT 1"] {
        fed.feed(step);
    }
    fed.feed(">Q select 4");
    assert!(fed.lines.ends_with("query 'select 4' → not_followed\n"));
    // From here on all is followed again, but for names that may have changed.
    for step in ["<Z I", "<C SELECT 1", "<Z I", ">B - a", ">E -", ">S", "<2", "<C DROP", "<Z I"] {
        fed.feed(step);
    }
    assert!(fed.lines.contains("execute name=a not held → done DROP"), "{}", fed.lines);
}
