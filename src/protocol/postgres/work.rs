//! What a session has under way, as far as tags of messages tell: how many answers are owed, and whether it may be
//! ended without cutting anything.

use super::Ended;

/// Work in flight.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// ReadyForQuery messages that are to come.
    owed: u64,
    /// Parts of the extended protocol went up that no Sync has followed yet.
    unsynced: bool,
    /// The last statement came in a Query, which is answered without a Sync.
    simple: bool,
    /// The upstream takes the data of a COPY; it answers no Sync meanwhile.
    copying: bool,
    /// The transaction state of the last ReadyForQuery is not "idle".
    in_transaction: bool,
    /// The client said that it leaves.
    terminated: bool,
}

impl Work {
    /// A message went up whole.
    pub fn up(&mut self, message: Ended) {
        match message.tag {
            b'Q' | b'F' => {
                self.owed += 1;
                self.unsynced = false;
                self.simple = true;
            }
            b'S' if !self.copying => {
                self.owed += 1;
                self.unsynced = false;
            }
            b'P' | b'B' | b'D' | b'C' => self.unsynced = true,
            b'E' => (self.unsynced, self.simple) = (true, false),
            // What was sent while the COPY ran, a Sync behind its Execute among it, is not answered.
            b'c' | b'f' if self.copying => {
                self.copying = false;
                self.owed = u64::from(self.simple);
                self.unsynced = !self.simple;
            }
            b'X' => self.terminated = true,
            _ => {}
        }
    }

    /// A message went down whole.
    pub fn down(&mut self, message: Ended) {
        match message.tag {
            b'Z' => {
                self.owed = self.owed.saturating_sub(1);
                self.copying = false;
                self.in_transaction = message.first != b'I';
            }
            b'G' => self.copying = true,
            _ => {}
        }
    }

    /// True when an answer is owed.
    pub fn is_awaited(&self) -> bool {
        self.owed > 0
    }

    /// True when the session waits for the client, outside of any transaction.
    pub fn is_idle(&self) -> bool {
        self.owed == 0 && !self.unsynced && !self.in_transaction && !self.copying
    }

    /// True once the client said that it leaves: nothing of its follows.
    pub fn is_terminated(&self) -> bool {
        self.terminated
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Messages in order, `>` up and `<` down; `<Z` takes its state along. Says after each whether all is idle.
    fn run(script: &str) -> Vec<bool> {
        let mut work = Work::default();
        let step = |message: &str| {
            let bytes = message.as_bytes();
            let ended = Ended { tag: bytes[1], first: bytes.get(2).copied().unwrap_or(0) };
            if bytes[0] == b'>' {
                work.up(ended)
            } else {
                work.down(ended)
            }
            work.is_idle()
        };
        script.split(' ').map(step).collect()
    }

    #[test]
    fn idle_is_what_waits_for_the_client_outside_of_a_transaction() {
        let table: &[(&str, &str)] = &[
            (">Q <T <D <C <ZI", "....i"),
            (">Q <ZT >Q <ZI", "...i"),
            (">P >B >E >S <1 <2 <C <ZI", ".......i"),
            (">P >B >E >H <C", "....."),
            (">Q >Q <ZI <ZI", "...i"),
            (">S >S <ZE <ZI", "...i"),
            // COPY FROM STDIN, simple; then with the extended protocol, whose first Sync is not answered.
            (">Q <G >d >d >c <C <ZI", "......i"),
            (">P >B >E >S <G >d >c >S <C <ZI", ".........i"),
            // The upstream ends the COPY by itself.
            (">Q <G >d <E <ZI >d >c", "....iii"),
            (">F <V <ZI", "..i"),
        ];
        for (script, expected) in table {
            let found: String = run(script).iter().map(|idle| if *idle { 'i' } else { '.' }).collect();
            assert_eq!(found, *expected, "{script}");
        }
    }

    #[test]
    fn an_answer_too_many_does_no_harm() {
        assert_eq!(run("<ZI <ZI >Q <ZI"), [true, true, false, true]);
    }
}
