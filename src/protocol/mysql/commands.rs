//! Command framing, independent of how bytes are split.

use super::command;
use super::packets::Packets;
use super::replies::Replies;
use super::{MAX_PAYLOAD, SECTION};
use crate::names::Culprit;
use crate::protocol::Fault;
use std::ops::Range;

/// The part of a command that a step processed, for observers.
#[derive(Clone, Default)]
pub(super) struct Piece {
    /// The command, where it begins in this step.
    pub(super) begins: Option<u8>,
    /// Where in the data its payload stands, the command's byte left out.
    pub(super) payload: Range<usize>,
    /// It ended.
    pub(super) ends: bool,
}

/// The client's direction.
#[derive(Default)]
pub struct Commands {
    packets: Packets,
    pub(super) piece: Piece,
    /// The command of the packet at hand was told.
    begun: bool,
    quit: bool,
}

impl Commands {
    /// True between two packets.
    pub fn is_between(&self) -> bool {
        self.packets.is_between()
    }

    /// True where a packet that begins here is a command.
    pub fn is_between_commands(&self, replies: &Replies) -> bool {
        self.packets.is_between() && !self.packets.continued && !replies.wants_file
    }

    /// True where the packet at hand, or the next between two, is a command.
    pub fn is_at_command(&self, replies: &Replies) -> bool {
        !self.packets.continued && !replies.wants_file
    }

    /// True once the client said that it leaves.
    pub fn is_quit(&self) -> bool {
        self.quit
    }

    /// Goes on to the end of the packet at the front of `data`, or of `data`; returns how many bytes that is. `Err`: before the
    /// payload of what must not pass.
    pub fn step(&mut self, data: &[u8], replies: &mut Replies) -> Result<usize, Fault> {
        let mut at = 0;
        self.piece = Piece::default();
        if !self.packets.read_head(data, &mut at) {
            return Ok(at);
        }
        if !self.begun {
            if self.packets.length > 0 && !self.packets.continued && !replies.wants_file && at == data.len() {
                // What it is stands in the next byte.
                return Ok(at);
            }
            self.begin(data.get(at).copied(), replies)?;
            self.begun = true;
        }
        let from = at + usize::from(self.piece.begins.is_some());
        if self.packets.read_payload(data, &mut at) {
            self.begun = false;
            self.packets.continued = self.packets.length == MAX_PAYLOAD;
            self.piece.ends = !self.packets.continued;
        }
        self.piece.payload = from..at;
        Ok(at)
    }

    fn begin(&mut self, first: Option<u8>, replies: &mut Replies) -> Result<(), Fault> {
        let fault = |rule| Err(Fault { culprit: Culprit::Client, rule, section: SECTION });
        if self.packets.continued {
            return Ok(());
        }
        replies.sequence = self.packets.sequence();
        if replies.wants_file {
            // An empty packet is the file's end, and the answer follows.
            replies.wants_file = self.packets.length > 0;
            return Ok(());
        }
        let command = first.filter(|_| self.packets.length > 0);
        // Also what is refused is answered.
        replies.expect(command.unwrap_or(command::CHANGE_USER));
        let Some(command) = command else { return fault("a command without a byte") };
        // A server would refuse it; here it could hide a command among what looks like a file.
        if self.packets.sequence() != 0 {
            return fault("packets out of order");
        }
        match command {
            // It would carry a token to the server, or another account's password.
            command::CHANGE_USER => {
                return fault("COM_CHANGE_USER does not pass the gateway; open a new connection");
            }
            command::QUIT => self.quit = true,
            _ => {}
        }
        self.piece.begins = Some(command);
        Ok(())
    }
}
