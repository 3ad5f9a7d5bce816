//! Redis: no bytes make a follower panic, cuts change nothing, and no login goes through as it came.

use staunch::protocol::Edit;
use staunch::protocol::redis::{Answer, Commands, Login, LoginOf, Passed, Replies, Work, error, words};

/// One input.
pub fn run(data: &[u8]) {
    let [step, rest @ ..] = data else { return };
    let step = usize::from(*step).max(1);
    if let Ok(Some((words, length))) = words(rest) {
        assert!(length <= rest.len());
        let login = Login::of(&words);
        let mut sent = Vec::new();
        login.encode(Some(("svc", b"stored-password")), &mut sent);
        assert!(!format!("{login:?}").contains("stored-password"));
    }
    let whole = up(rest, rest.len().max(1));
    if let (Some(whole), Some(cut)) = (&whole, &up(rest, step)) {
        assert_eq!(whole, cut);
        no_login(whole);
    }
    for answers in 0..3 {
        assert_eq!(down(rest, rest.len().max(1), answers), down(rest, step, answers));
    }
    let told = error(&String::from_utf8_lossy(rest));
    assert!(told.ends_with(b"\r\n") && !told[..told.len() - 2].contains(&b'\n'));
}

/// What goes up, with nothing in the place of logins; `None` after a fault.
fn up(bytes: &[u8], step: usize) -> Option<Vec<u8>> {
    let (mut commands, mut work, mut all) = (Commands::default(), Work::default(), Vec::new());
    for piece in bytes.chunks(step) {
        let (mut piece, mut out) = (piece.to_vec(), Vec::new());
        let mut edit = Edit::new(&mut piece, &mut out);
        while commands.pass(&mut edit, &mut work).ok()? != Passed::All {}
        assert!(edit.is_done());
        let (taken, diverged) = (edit.position(), edit.diverged());
        all.extend_from_slice(if diverged { &out } else { &piece[..taken] });
    }
    let _ = (commands.is_between(), work.is_idle(), work.is_awaited());
    Some(all)
}

/// Reads what went up as a server would: there is no login in it.
fn no_login(mut bytes: &[u8]) {
    while let Ok(Some((words, length))) = words(bytes) {
        let login = Login::of(&words);
        assert!(!matches!(login, Login::Auth { .. } | Login::Hello { .. } | Login::Reset), "{login:?}");
        bytes = &bytes[length..];
    }
}

/// What goes down; `None` after a fault.
fn down(bytes: &[u8], step: usize, answers: usize) -> Option<(Vec<u8>, bool, bool)> {
    let (mut replies, mut work, mut all) = (Replies::new("5EC"), Work::default(), Vec::new());
    for answer in [Answer::Say(b"-NO\r\n".to_vec()), Answer::Login(LoginOf::Auth)].into_iter().take(answers) {
        replies.mark(answer, &mut Vec::new());
    }
    for piece in bytes.chunks(step) {
        let (mut piece, mut out) = (piece.to_vec(), Vec::new());
        let mut edit = Edit::new(&mut piece, &mut out);
        while !replies.pass(&mut edit, &mut work, &mut ()).ok()? {
            replies.take_verdict();
        }
        replies.take_verdict();
        let (taken, diverged) = (edit.position(), edit.diverged());
        all.extend_from_slice(if diverged { &out } else { &piece[..taken] });
    }
    Some((all, replies.is_between(), replies.is_refused()))
}
