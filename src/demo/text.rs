//! Text on its way to the screen.

use serde_json::Value;

/// On one line, without what would steer a terminal.
pub(super) fn printable(text: &str) -> String {
    text.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).take(200).collect()
}

/// `word`, on a new line if it would end beyond the margin.
pub(super) fn wrap(said: &str, word: &str) -> String {
    const MARGIN: usize = 76;
    let line = |len: usize| len / MARGIN;
    if line(said.len()) != line(said.len() + word.len()) { format!("\n   {word}") } else { word.into() }
}

/// Reads server-sent events cut anywhere.
#[derive(Default)]
pub(super) struct Events {
    rest: Vec<u8>,
    pub(super) done: bool,
}

impl Events {
    /// The words in the events that `piece` completes.
    pub(super) fn push(&mut self, piece: &[u8]) -> Vec<String> {
        self.rest.extend_from_slice(piece);
        let mut words = Vec::new();
        while let Some(end) = memchr::memmem::find(&self.rest, b"\n\n") {
            let event: Vec<u8> = self.rest.drain(..end + 2).collect();
            let Some(data) = event.trim_ascii().strip_prefix(b"data: ") else { continue };
            if data == b"[DONE]" {
                self.done = true;
            } else if let Ok(chunk) = serde_json::from_slice::<Value>(data) {
                let word = chunk["choices"][0]["delta"]["content"].as_str();
                words.extend(word.filter(|w| !w.is_empty()).map(String::from));
            }
        }
        words
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_cut_anywhere_give_the_same_words() {
        let stream = b": hello\n\ndata: {\"choices\":[{\"delta\":{\"content\":\"\"}}]}\n\n\
            data: {\"choices\":[{\"delta\":{\"content\":\"a b\"}}]}\n\n\
            data: {\"choices\":[{\"delta\":{\"content\":\"c\"}}]}\n\ndata: [DONE]\n\n";
        for cut in 0..stream.len() {
            let mut events = Events::default();
            let mut words = events.push(&stream[..cut]);
            assert!(!events.done);
            words.extend(events.push(&stream[cut..]));
            assert_eq!(words, ["a b", "c"], "cut at {cut}");
            assert!(events.done);
        }
    }

    #[test]
    fn what_a_server_says_cannot_steer_the_terminal() {
        assert_eq!(printable(" a\x1b[2J\r\nb "), "a [2J  b");
        assert_eq!(printable(&"x".repeat(1_000)).len(), 200);
    }
}
