//! A pending message and the progress of its answer.

use super::names::{Held, Name};
use crate::protocol::statement::Copying;
use std::time::Instant;

/// A pending message.
pub(super) struct Pending {
    pub(super) what: What,
    pub(super) since: Instant,
}

pub(super) enum What {
    Query(Held),
    FunctionCall(u32),
    Parse {
        name: Name,
        text: Held,
    },
    Bind {
        portal: Name,
        name: Name,
    },
    Describe {
        prepared: bool,
        name: Name,
    },
    Execute {
        portal: Name,
    },
    Close {
        prepared: bool,
        name: Name,
    },
    Sync,
    /// The client's end of a COPY. It is answered by what answers the statement.
    CopyEnd,
}

impl What {
    /// True for what is answered with ReadyForQuery.
    pub(super) fn ends_with_ready(&self) -> bool {
        matches!(self, What::Query(_) | What::FunctionCall(_) | What::Sync)
    }
}

/// True for what has a line whatever becomes of it.
pub(super) fn is_logged(what: &What) -> bool {
    matches!(what, What::Query(_) | What::FunctionCall(_) | What::Parse { .. } | What::Execute { .. })
}

#[derive(Default)]
pub(super) struct Progress {
    pub(super) results: u64,
    pub(super) rows: Option<u64>,
    pub(super) tag: Vec<u8>,
    pub(super) sqlstate: Option<[u8; 5]>,
    pub(super) copy: Option<Copying>,
    /// The server waits for data of the client's.
    pub(super) takes_data: bool,
}
