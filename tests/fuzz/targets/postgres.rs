//! PostgreSQL: no bytes make a parser panic, cuts change nothing, and what goes up is what may.

use staunch::names::Culprit;
use staunch::protocol::RequireAuth;
use staunch::protocol::postgres::startup::{MAX_PACKET, Replace};
use staunch::protocol::postgres::statements::{MAX_HELD, MAX_PENDING};
use staunch::protocol::postgres::{
    Allowed, Frames, Login, MAX_PASSWORD, Opening, Progress, Statements, Work, fatal, opening, password,
};
use staunch::protocol::statement::{Shown, Statement};
use staunch::secret::Secret;
use std::sync::Arc;
use std::time::Instant;

/// One input.
pub fn run(data: &[u8]) {
    let [step, rest @ ..] = data else { return };
    let step = usize::from(*step).max(1);
    begin(rest);
    if let Ok(Some((token, length))) = password(rest) {
        assert!(token.len() <= MAX_PASSWORD && length <= rest.len() && !token.contains(&0));
    }
    for speaker in [Culprit::Client, Culprit::Upstream] {
        assert_eq!(follow(speaker, rest, rest.len().max(1)), follow(speaker, rest, step));
    }
    log_in(rest, step);
    assert_eq!(watch(rest, usize::MAX), watch(rest, step));
    let words = String::from_utf8_lossy(rest);
    let told = fatal("08P01", &words, &words);
    assert_eq!(
        follow(Culprit::Upstream, &told, step).map(|(messages, between)| (messages.len(), between)),
        Some((1, true))
    );
}

/// What opens a connection, and what becomes of it on its way up.
fn begin(bytes: &[u8]) {
    let Ok(Some((asked, length))) = opening(bytes) else { return };
    assert!(length <= bytes.len() && length <= MAX_PACKET);
    assert!(opening(&bytes[..length - 1]).is_ok_and(|more| more.is_none()), "it is whole only when it is");
    let Opening::Startup(startup) = asked else { return };
    let own = ("staunch.subject", "ann");
    let replace = Replace { user: "svc", application_name: Some("ann"), parameter: Some(own) };
    let Ok(sent) = startup.for_upstream(&replace) else { return };
    let Ok(Some((Opening::Startup(again), whole))) = opening(&sent) else { panic!("not a startup message") };
    assert_eq!((whole, &again.user[..]), (sent.len(), &b"svc"[..]));
    assert_eq!(again.database, startup.database);
    assert_eq!(again.application_name(), b"ann");
    assert!(again.values(b"staunch.subject").eq([b"ann"]));
}

/// The messages of one direction; `None` after a fault.
fn follow(speaker: Culprit, bytes: &[u8], step: usize) -> Option<(Vec<(u8, u8)>, bool)> {
    let (mut frames, mut work, mut messages) = (Frames::new(speaker), Work::default(), Vec::new());
    for mut piece in bytes.chunks(step) {
        while !piece.is_empty() {
            let (taken, message) = frames.step(piece).ok()?;
            assert!(taken > 0);
            if let Some(message) = message {
                messages.push((message.tag, message.first));
                if speaker == Culprit::Client { work.up(message) } else { work.down(message) }
            }
            piece = &piece[taken..];
        }
    }
    let _ = (work.is_idle(), work.is_awaited());
    Some((messages, frames.is_between()))
}

/// The lines of a session whose directions take turns in stretches: `| down? 1 bit | length 7 bits | bytes |`, each fed in
/// pieces of `step` bytes.
fn watch(mut rest: &[u8], step: usize) -> Vec<String> {
    const LIMIT: usize = 64;
    let (mut statements, mut lines, now) = (Statements::new(LIMIT), Vec::new(), Instant::now());
    let say = &mut |line: &Statement<'_>| {
        if let Shown::Text(text) = line.text {
            assert!(
                text.kept().len() <= LIMIT + text.whole() as usize
                    && text.is_cut() == (text.whole() > LIMIT as u64)
            );
        }
        lines.push(format!("{line:?}"));
    };
    while let [head, more @ ..] = rest {
        let (piece, after) = more.split_at(more.len().min(usize::from(head & 0x7f)));
        for piece in piece.chunks(step) {
            if head & 0x80 == 0 { statements.up(piece, now, say) } else { statements.down(piece, now, say) }
        }
        let (pending, held) = statements.size();
        assert!(pending <= MAX_PENDING && held <= MAX_HELD);
        rest = after;
    }
    statements.end(say);
    assert_eq!(statements.size().0, 0);
    lines
}

fn log_in(bytes: &[u8], step: usize) {
    let secret = b"stored-password".to_vec();
    let allowed = Allowed { require_auth: RequireAuth::default(), encrypted: true };
    let mut login = Login::new("svc", Some(Arc::new(Secret::new(secret))), allowed, [0x5a; 4].into());
    let (mut input, mut reply) = (Vec::new(), Vec::new());
    for piece in bytes.chunks(step) {
        input.extend_from_slice(piece);
        match login.feed(&mut input, &mut reply) {
            Ok(Progress::More) => {}
            // A million rounds are too many for a fuzzer; that a challenge is read is what counts here.
            Ok(Progress::Prove(_)) => return,
            Ok(Progress::Ready) => break,
            Err(fault) => {
                assert!(!fault.to_string().contains("stored-password"));
                return;
            }
        }
    }
    let (down, _) = login.into_parts();
    assert!(
        !down.windows(15).any(|window| window == b"stored-password")
            || bytes.windows(15).any(|w| w == b"stored-password")
    );
}
