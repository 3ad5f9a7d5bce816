//! Tracks a session's work in flight by command names and reply types. It decides when a connection may
//! be ended without cutting anything, and nothing else: no order of replies depends on it.

/// The replies that a command's name implies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One reply.
    Ordinary,
    /// Answered by pushes, or by as many replies as there are channels.
    Subscription,
    /// MULTI: what follows is gathered until EXEC or DISCARD.
    Multi,
    /// EXEC or DISCARD.
    MultiEnds,
    /// CLIENT REPLY OFF: no replies from here on.
    ReplyOff,
    /// CLIENT REPLY ON.
    ReplyOn,
    /// CLIENT REPLY SKIP: none for this command and the next.
    ReplySkip,
    /// RESET: all of the above is as at the start.
    Reset,
    /// SYNC or PSYNC: what comes down is a file and a stream, not replies.
    Replication,
    /// MONITOR: lines come that answer nothing.
    Monitor,
}

/// Work in flight.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// Replies that are to come.
    owed: u64,
    in_multi: bool,
    muted: bool,
    skips_next: bool,
    monitors: bool,
}

impl Work {
    /// A command goes up.
    pub fn up(&mut self, kind: Kind) {
        let skipped = std::mem::take(&mut self.skips_next);
        match kind {
            Kind::ReplyOff => (self.muted, self.owed) = (true, 0),
            Kind::ReplySkip => self.skips_next = !self.muted,
            Kind::ReplyOn => self.muted = false,
            Kind::Reset => (self.muted, self.in_multi, self.monitors) = (false, false, false),
            Kind::Monitor => self.monitors = true,
            Kind::Multi => self.in_multi = true,
            Kind::MultiEnds => self.in_multi = false,
            Kind::Ordinary | Kind::Subscription | Kind::Replication => {}
        }
        let silent =
            matches!(kind, Kind::ReplyOff | Kind::ReplySkip | Kind::Subscription | Kind::Replication);
        if !silent && !self.muted && !skipped {
            self.owed += 1;
        }
    }

    /// A command of the gateway's own goes up whose reply is for nobody.
    pub fn mark(&mut self) {
        self.skips_next = false;
    }

    /// True where the reply to a login would be known for one: replies are on, each answers one command, and what is sent
    /// is run at once.
    pub fn takes_logins(&self) -> bool {
        !self.muted && !self.skips_next && !self.in_multi && !self.monitors
    }

    /// A reply that is no push went down.
    pub fn down(&mut self) {
        self.owed = self.owed.saturating_sub(1);
    }

    /// True when a reply is owed.
    pub fn is_awaited(&self) -> bool {
        self.owed > 0
    }

    /// True when the session waits for the client, outside of any transaction.
    pub fn is_idle(&self) -> bool {
        self.owed == 0 && !self.in_multi
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_is_what_waits_for_the_client_outside_of_a_transaction() {
        use Kind::*;
        // `None` is a reply.
        let table: &[(&[Option<Kind>], &str)] = &[
            (&[Some(Ordinary), None], ".i"),
            (&[Some(Ordinary), Some(Ordinary), None, None], "...i"),
            (&[Some(Multi), None, Some(Ordinary), None, Some(MultiEnds), None], ".....i"),
            (&[Some(Multi), None, Some(Reset), None], "...i"),
            (&[Some(Subscription), None, None], "iii"),
            (&[Some(ReplyOff), Some(Ordinary), Some(ReplyOn), None], "ii.i"),
            (&[Some(ReplySkip), Some(Ordinary), Some(Ordinary), None], "ii.i"),
            (&[Some(ReplyOff), Some(Reset), None], "i.i"),
        ];
        for (steps, expected) in table {
            let mut work = Work::default();
            let mut found = String::new();
            for step in *steps {
                match step {
                    Some(kind) => work.up(*kind),
                    None => work.down(),
                }
                found.push(if work.is_idle() { 'i' } else { '.' });
            }
            assert_eq!(found, *expected, "{steps:?}");
        }
    }
}
