//! The tour against a stand-in for the gateway: an honest one, and ones that break a promise each.

mod parts;
mod stand_in;

use super::*;
use stand_in::{Fault, StandIn};
use std::sync::Mutex;

/// Runs the tour; what it prints and its exit code.
fn tour(fault: Fault) -> (String, i32) {
    let mut out = Vec::new();
    let options = Options { once: true, port: Some(0), colour: false };
    let code = run(&options, &mut out, |files| StandIn::start(files, fault));
    (String::from_utf8(out).unwrap(), code)
}

#[test]
fn an_honest_gateway_passes_every_step() {
    let (text, code) = tour(Fault::None);
    assert_eq!(code, 0, "{text}");
    for expected in [
        "✓ the issuer's token endpoint gave a token",
        "✓ the answer came word by word, as the upstream said it",
        "✓ refused at the first byte; nothing reached the upstream",
        "✓ each refused with its reason; nothing reached the upstream",
        "✓ the stored key arrived, the user's token did not",
        "✓ who, what and whether; neither the token nor the key",
        "✓ masked over eleven tokens, at equal length; the rest came as it was said",
        "✓ recorded, verified, one byte flipped: found",
        "✓ every step passed its check",
        "HTTP/1.1 400",
        "TLS 1.3",
    ] {
        assert!(text.contains(expected), "no '{expected}' in\n{text}");
    }
    assert!(!text.contains('✗') && !text.contains('\x1b'), "{text}");
    assert!(!text.contains("eyJ"), "no token is printed:\n{text}");
}

#[test]
fn each_broken_promise_is_found_in_its_step() {
    for (fault, told) in [
        (Fault::Buffers, "step 2 failed: the answer was held back"),
        (Fault::AnswersPlaintext, "step 3 failed: a plaintext request was answered"),
        (Fault::BelievesAnyToken, "step 4 failed: a forged one: the gateway answered 200"),
        (Fault::LeaksToken, "step 5 failed: the user's token arrived at the upstream"),
        (Fault::LogsToken, "step 6 failed: the token or the stored key stands in the log"),
        (Fault::PassesCards, "step 7 failed: the card number did not arrive masked"),
        (Fault::RecordsToken, "step 8 failed: the token or the stored key stands in the recording"),
        (Fault::RecordsAnotherAnswer, "step 8 failed: the recording does not hold what was said"),
    ] {
        let (text, code) = tour(fault);
        assert_eq!(code, 1, "{fault:?}: {text}");
        assert!(text.contains(told), "{fault:?}: no '{told}' in\n{text}");
        assert_eq!(text.matches(" failed: ").count(), 1, "{fault:?}: {text}");
    }
}

#[test]
fn a_tour_that_is_ended_breaks_no_promise() {
    let (text, code) = tour(Fault::ToldToStop);
    assert_eq!(code, INTERRUPTED, "{text}");
    assert!(text.ends_with("ended before the tour was over\n"), "{text}");
    assert!(!text.contains("as told"), "{text}");
}

/// A gateway that is gone before it answered anything.
struct Gone {
    told: bool,
}

impl Running for Gone {
    fn wait(&mut self) -> i32 {
        unreachable!("the tour was not over")
    }

    fn told(&self) -> bool {
        self.told
    }

    fn ended(&mut self) -> bool {
        true
    }
}

#[test]
fn a_gateway_that_is_gone_is_not_waited_for() {
    for (told, expected, exit) in [
        (true, "ended before the tour was over\n", INTERRUPTED),
        (false, "step 2 failed: the gateway ended before it was ready\n", 1),
    ] {
        let mut out = Vec::new();
        let options = Options { once: false, port: Some(0), colour: false };
        let code = run(&options, &mut out, |_| Ok(Gone { told }));
        let text = String::from_utf8(out).unwrap();
        assert_eq!(code, exit, "{text}");
        assert!(text.ends_with(expected), "{text}");
    }
}

#[test]
fn a_gateway_that_does_not_start_is_told_of() {
    let mut out = Vec::new();
    let options = Options { once: true, port: Some(0), colour: true };
    let folder = Mutex::new(None);
    let code = run(&options, &mut out, |files| -> Result<StandIn, String> {
        *folder.lock().unwrap() = files.config.parent().map(Path::to_owned);
        Err("no such luck".into())
    });
    let text = String::from_utf8(out).unwrap();
    assert_eq!(code, 1);
    assert!(text.contains("the demo cannot begin: no such luck"), "{text}");
    assert!(!folder.lock().unwrap().take().unwrap().exists(), "the folder is removed");
}

#[test]
fn without_once_it_prints_a_command_and_waits_for_the_gateway() {
    let mut out = Vec::new();
    let options = Options { once: false, port: Some(0), colour: false };
    let code = run(&options, &mut out, |files| StandIn::start(files, Fault::None));
    let text = String::from_utf8(out).unwrap();
    assert_eq!(code, stand_in::ENDED_WITH, "{text}");
    let curl = &text[text.find("  sed ").unwrap_or_else(|| panic!("no curl line in\n{text}"))..];
    for part in ["--cacert /", "--resolve model.localhost:", "Bearer /' /", "-H @-", "/v1/chat/completions"] {
        assert!(curl.contains(part), "no '{part}' in {curl}");
    }
}
