//! Statements that a client prepared, as far as its parameters are to be read.
//!
//! How many parameters there are stands in the answer to COM_STMT_PREPARE, their types in a COM_STMT_EXECUTE, which later ones
//! leave out; what was sent as long data does not stand in it at all.

use std::collections::{BTreeSet, HashMap};

/// Statements of one session that are followed: as many as a server keeps for all of them (max_prepared_stmt_count).
const MAX_STATEMENTS: usize = 16_384;
/// Stands for the statement that was prepared last (MariaDB).
const LAST_PREPARED: u32 = u32::MAX;

/// A prepared statement.
#[derive(Debug, Default)]
pub(super) struct Statement {
    pub(super) parameters: usize,
    /// Empty until they were sent.
    pub(super) types: Vec<u8>,
    /// Parameters that were sent as long data since the last execution.
    pub(super) long: BTreeSet<u16>,
}

/// All of a session.
#[derive(Debug, Default)]
pub(super) struct Prepared {
    statements: HashMap<u32, Statement>,
    last: Option<u32>,
    /// COM_STMT_PREPARE that were not answered.
    asked: usize,
}

impl Prepared {
    /// A statement is to be prepared.
    pub(super) fn ask(&mut self) {
        self.asked += 1;
    }

    /// The answer: its number and how many parameters it has; `None`: it could not be prepared.
    pub(super) fn answer(&mut self, prepared: Option<(u32, u16)>) {
        self.asked = self.asked.saturating_sub(1);
        self.last = prepared.map(|(id, _)| id);
        if let Some((id, parameters)) = prepared
            && self.statements.len() < MAX_STATEMENTS
        {
            self.statements.insert(id, Statement { parameters: parameters.into(), ..Statement::default() });
        }
    }

    /// The number for which a client's stands.
    pub(super) fn id(&self, id: u32) -> Result<u32, &'static str> {
        match id {
            LAST_PREPARED if self.asked > 0 => {
                Err("a statement is executed before it is known to be prepared")
            }
            LAST_PREPARED => self.last.ok_or(UNKNOWN),
            id => Ok(id),
        }
    }

    /// The statement of this number.
    pub(super) fn statement(&mut self, id: u32) -> Result<&mut Statement, &'static str> {
        self.statements.get_mut(&id).ok_or(UNKNOWN)
    }

    /// The statement's parameters are to be sent anew.
    pub(super) fn reset(&mut self, id: u32) {
        if let Some(statement) = self.statements.get_mut(&id) {
            statement.long.clear();
        }
    }

    /// The statement is closed.
    pub(super) fn close(&mut self, id: u32) {
        self.statements.remove(&id);
    }

    /// All are closed.
    pub(super) fn clear(&mut self) {
        self.statements.clear();
        self.last = None;
    }
}

const UNKNOWN: &str = "a statement is executed that was not seen to be prepared";
