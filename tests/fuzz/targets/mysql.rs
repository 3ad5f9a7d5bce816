//! MySQL: no bytes make a parser panic, cuts change nothing, and what goes up is what may.

use staunch::names::Culprit;
use staunch::protocol::RequireAuth;
use staunch::protocol::mysql::capability::{PROMISED, SSL, for_upstream};
use staunch::protocol::mysql::response::{CLEAR_PASSWORD, first};
use staunch::protocol::mysql::{
    Allowed, Commands, Greeting, HEAD, Login, MAX_LOGIN_PACKET, Progress, Replies, Response, ServerGreeting,
    Statements, err, error, packet, write,
};
use staunch::protocol::statement::{Shown, Statement, Watch};
use staunch::secret::Secret;
use std::sync::Arc;
use std::time::Instant;

/// One input.
pub fn run(data: &[u8]) {
    let [step, rest @ ..] = data else { return };
    let step = usize::from(*step).max(1);
    if let Ok(Some(found)) = packet(rest, Culprit::Client) {
        assert!(found.length() <= rest.len() && found.payload.len() <= MAX_LOGIN_PACKET);
        let mut again = Vec::new();
        write(&mut again, found.sequence, found.payload);
        assert_eq!(again, rest[..found.length()]);
    }
    begin(rest);
    respond(rest);
    log_in(rest);
    for flags in [PROMISED, PROMISED & !(1 << 24), PROMISED | 1 << 7] {
        let whole = converse(rest, flags, usize::MAX);
        assert_eq!(whole, converse(rest, flags, step));
        assert_eq!(watch(rest, flags, usize::MAX), watch(rest, flags, step));
    }
    let words = String::from_utf8_lossy(rest);
    let told = err(error::UPSTREAM, 3, &words);
    assert!(
        packet(&told, Culprit::Upstream).is_ok_and(|packet| packet.is_some_and(|p| p.length() == told.len()))
    );
}

fn begin(bytes: &[u8]) {
    let _ = first(bytes);
    if let Ok(greeting) = ServerGreeting::read(bytes) {
        assert!(greeting.scramble.len() <= 20);
        if let Some(flags) = for_upstream(PROMISED, greeting.capabilities) {
            assert!(flags & SSL != 0 && flags & 0x20 == 0, "TLS, and no compression");
        }
    }
    let payload = Greeting::default().payload(7, &[b'A'; 20], true);
    let own = ServerGreeting::read(&payload).unwrap();
    assert_eq!((own.scramble.len(), own.capabilities & PROMISED), (20, PROMISED));
}

/// A client's login, and what becomes of it on its way up.
fn respond(bytes: &[u8]) {
    let Ok(response) = Response::read(bytes) else { return };
    let flags = for_upstream(response.wanted(), PROMISED | SSL).unwrap_or(0);
    if flags == 0 {
        return;
    }
    let sent = response.for_upstream(flags, "svc", b"caching_sha2_password", &[7; 32], "ann");
    let subject = b"\x0fstaunch_subject\x03ann";
    // It is the first of the attributes. A database may have a name with the same bytes, so only that place counts.
    let database = response.database.as_deref().map_or(0, |name| name.len() + 1);
    let attributes = 32 + b"svc\0".len() + 1 + 32 + database + b"caching_sha2_password\0".len();
    let length_bytes = match sent[attributes] {
        0xfc => 3,
        0xfd => 4,
        _ => 1,
    };
    let at = attributes + length_bytes;
    assert!(sent[at..].starts_with(subject), "the subject goes up");
    // From a client the gateway's own attribute would be refused.
    let mut readable = sent.to_vec();
    readable[at + 1] = b'x';
    let again = Response::read(&readable).expect("what is sent can be read");
    assert_eq!((&again.user[..], &again.database), (&b"svc"[..], &response.database));
    assert!(again.token().is_none());
    // One that could not be there by chance, unless the client says it elsewhere, too.
    if let Some(token) = response.token().filter(|token| token.starts_with(b"seed-token")) {
        let count = |text: &[u8]| text.windows(token.len()).filter(|window| *window == token).count();
        assert!(count(bytes) > 1 || count(&sent) == 0, "a token goes up");
    }
}

/// What a server may say to a login: packets one after the other.
fn log_in(mut bytes: &[u8]) {
    let secret = Arc::new(Secret::new(b"stored-password".to_vec()));
    let allowed = Allowed { require_auth: RequireAuth::default(), encrypted: true };
    let mut login = Login::new(Some(secret), allowed, b"mysql_native_password", &[b'A'; 20]);
    let (plugin, proof) = login.first();
    assert_eq!((plugin, proof.len()), (&b"mysql_native_password"[..], 20));
    while let Ok(Some(found)) = packet(bytes, Culprit::Upstream) {
        match login.feed(found) {
            Ok(Progress::Say(said)) => {
                let asked = found.payload.get(1..).is_some_and(|rest| rest.starts_with(CLEAR_PASSWORD));
                let full = found.payload == [1, 4];
                assert!(asked || full || !said.starts_with(b"stored-password"));
            }
            Ok(Progress::Wait) => {}
            Ok(Progress::Done) | Err(_) => return,
        }
        bytes = &bytes[found.length()..];
    }
}

/// Directions that take turns in stretches: `| down? 1 bit | length 7 bits | bytes |`, each fed in pieces of `step` bytes.
fn stretches(mut rest: &[u8], step: usize, mut feed: impl FnMut(bool, &[u8]) -> bool) {
    while let [head, more @ ..] = rest {
        let (stretch, next) = more.split_at(usize::from(head & 0x7f).min(more.len()));
        for piece in stretch.chunks(step) {
            if !feed(head & 0x80 != 0, piece) {
                return;
            }
        }
        rest = next;
    }
}

/// Where both directions stand in the end; `None` after a fault.
fn converse(bytes: &[u8], flags: u32, step: usize) -> Option<(bool, bool, bool, u8)> {
    let (mut up, mut down, mut fine) = (Commands::default(), Replies::new(flags), true);
    stretches(bytes, step, |is_down, mut piece| {
        while !piece.is_empty() {
            let taken = match is_down {
                true => match down.step(piece) {
                    Ok(taken) => taken,
                    Err(_) => {
                        fine = false;
                        return false;
                    }
                },
                false => match up.step(piece, &mut down) {
                    Ok(taken) => taken,
                    Err(_) => {
                        fine = false;
                        return false;
                    }
                },
            };
            assert!(taken > 0);
            piece = &piece[taken..];
        }
        true
    });
    fine.then(|| (up.is_between(), down.is_between(), down.is_idle(), down.next_sequence()))
}

fn watch(bytes: &[u8], flags: u32, step: usize) -> Vec<String> {
    const LIMIT: usize = 64;
    let (mut statements, mut lines, now) = (Statements::new(LIMIT, flags), Vec::new(), Instant::now());
    let say = &mut |line: &Statement<'_>| {
        if let Shown::Text(text) = line.text {
            assert_eq!(text.is_cut(), text.whole() > LIMIT as u64);
        }
        lines.push(format!("{line:?}"));
    };
    stretches(bytes, step, |is_down, piece| {
        match is_down {
            true => statements.down(piece, now, say),
            false => statements.up(piece, now, say),
        }
        true
    });
    statements.end(say);
    assert!(HEAD == 4);
    lines
}
