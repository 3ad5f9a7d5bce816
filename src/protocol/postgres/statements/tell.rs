//! Builds a statement's log line.

use super::Statements;
use super::names::{Held, Name};
use super::pending::{Progress, What};
use crate::protocol::statement::{Kind, Outcome, Shown, Statement};

impl Statements {
    pub(super) fn tell(
        &self,
        what: &What,
        outcome: Outcome,
        progress: &Progress,
        took: Option<std::time::Duration>,
        say: &mut dyn FnMut(&Statement<'_>),
    ) {
        let resolved =
            matches!(outcome, Outcome::Done | Outcome::Error | Outcome::Suspended | Outcome::Unanswered);
        let of_name = |name: &Name| self.prepared.get(name).map_or(Shown::NotHeld, Held::shown);
        let portal_of = |portal: &Name| self.portals.get(portal).filter(|_| resolved);
        let line = |kind| Statement {
            sqlstate: progress.sqlstate.as_ref().map_or(&[], |code| code.as_slice()),
            tag: &progress.tag,
            results: Some(progress.results).filter(|results| *results > 1),
            rows: progress.rows,
            copy: progress.copy,
            took,
            ..Statement::new(kind, outcome)
        };
        say(&match what {
            What::Query(text) => Statement { text: text.shown(), ..line(Kind::Query) },
            What::FunctionCall(oid) => Statement { function: Some(*oid), ..line(Kind::FunctionCall) },
            What::Parse { name, text } => Statement { name, text: text.shown(), ..line(Kind::Parse) },
            What::Bind { portal, name } => {
                Statement { name, portal, text: of_name(name), ..line(Kind::Bind) }
            }
            What::Describe { prepared: true, name } => {
                Statement { name, text: of_name(name), ..line(Kind::Describe) }
            }
            What::Describe { prepared: false, name } => Statement { portal: name, ..line(Kind::Describe) },
            What::Execute { portal } => match portal_of(portal) {
                Some(of) => {
                    Statement { name: &of.name, portal, text: of.text.shown(), ..line(Kind::Execute) }
                }
                // What it would have run was never settled, if nothing ran.
                None if outcome == Outcome::Skipped => Statement { portal, ..line(Kind::Execute) },
                None => Statement { portal, text: Shown::NotHeld, ..line(Kind::Execute) },
            },
            What::Close { prepared: true, name } => Statement { name, ..line(Kind::Close) },
            What::Close { prepared: false, name } => Statement { portal: name, ..line(Kind::Close) },
            What::Sync => line(Kind::Sync),
            What::CopyEnd => return,
        });
    }
}
