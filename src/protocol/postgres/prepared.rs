//! Which columns the rows at hand have: those of the answer to a Query, or those that the executed statement was described with.

use super::columns::Column;
use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;

/// Columns, once they are described.
type Columns = RefCell<Option<Rc<Vec<Column>>>>;

/// A prepared statement.
#[derive(Default)]
struct Statement {
    columns: Columns,
}

/// A statement with its parameters, ready to be executed.
struct Portal {
    statement: Rc<Statement>,
    formats: Vec<u16>,
    /// With the formats that were asked for.
    columns: Columns,
}

impl Portal {
    fn columns(&self) -> Option<Rc<Vec<Column>>> {
        if let Some(columns) = &*self.columns.borrow() {
            return Some(columns.clone());
        }
        let columns = self.statement.columns.borrow();
        let mut columns: Vec<Column> = columns.as_ref()?.to_vec();
        for (at, column) in columns.iter_mut().enumerate() {
            let format = if self.formats.len() == 1 { 0 } else { at };
            column.binary = self.formats.get(format) == Some(&1);
        }
        let columns = Rc::new(columns);
        self.columns.replace(Some(columns.clone()));
        Some(columns)
    }
}

/// A request whose answer is pending.
enum Asked {
    Query,
    Sync,
    DescribeStatement(Rc<Statement>),
    DescribePortal(Rc<Portal>),
    Execute(Option<Rc<Portal>>),
}

/// Follows statements from their preparation to their rows.
#[derive(Default)]
pub struct Prepared {
    statements: HashMap<Box<[u8]>, Rc<Statement>>,
    portals: HashMap<Box<[u8]>, Rc<Portal>>,
    asked: VecDeque<Asked>,
    /// Columns of the answer to a Query.
    simple: Option<Rc<Vec<Column>>>,
    /// The message that is read: portal, and statement.
    binding: (Box<[u8]>, Option<Rc<Statement>>),
    copying: bool,
}

/// Statements, portals and answers that are followed at a time.
const MAX_FOLLOWED: usize = 16 * 1024;
const TOO_MANY: &str = "more statements at a time than masks can follow";

impl Prepared {
    fn ask(&mut self, asked: Asked) -> Result<(), &'static str> {
        if self.asked.len() == MAX_FOLLOWED {
            return Err(TOO_MANY);
        }
        self.asked.push_back(asked);
        Ok(())
    }

    pub(super) fn query(&mut self) -> Result<(), &'static str> {
        // A Query ends the unnamed statement and portal.
        self.statements.remove(&b""[..]);
        self.portals.remove(&b""[..]);
        self.ask(Asked::Query)
    }

    pub(super) fn sync(&mut self) -> Result<(), &'static str> {
        self.ask(Asked::Sync)
    }

    pub(super) fn parse(&mut self, name: &[u8]) -> Result<(), &'static str> {
        if self.statements.len() == MAX_FOLLOWED {
            return Err(TOO_MANY);
        }
        self.statements.insert(name.into(), Rc::default());
        Ok(())
    }

    pub(super) fn bind_portal(&mut self, name: &[u8]) {
        self.binding.0 = name.into();
    }

    pub(super) fn bind_statement(&mut self, name: &[u8]) {
        self.binding.1 = self.statements.get(name).cloned();
    }

    /// A Bind is whole: results come in these formats.
    pub(super) fn bind(&mut self, formats: Vec<u16>) -> Result<(), &'static str> {
        let (name, statement) = std::mem::take(&mut self.binding);
        if self.portals.len() == MAX_FOLLOWED {
            return Err(TOO_MANY);
        }
        let statement = statement.unwrap_or_default();
        let columns = RefCell::default();
        self.portals.insert(name, Rc::new(Portal { statement, formats, columns }));
        Ok(())
    }

    pub(super) fn describe(&mut self, kind: u8, name: &[u8]) -> Result<(), &'static str> {
        let asked = match kind {
            b'S' => Asked::DescribeStatement(self.statements.get(name).cloned().unwrap_or_default()),
            _ => match self.portals.get(name) {
                Some(portal) => Asked::DescribePortal(portal.clone()),
                None => Asked::DescribeStatement(Rc::default()),
            },
        };
        self.ask(asked)
    }

    pub(super) fn close(&mut self, kind: u8, name: &[u8]) {
        if kind == b'S' {
            self.statements.remove(name);
        } else {
            self.portals.remove(name);
        }
    }

    pub(super) fn execute(&mut self, name: &[u8]) -> Result<(), &'static str> {
        let portal = self.portals.get(name).cloned();
        self.ask(Asked::Execute(portal))
    }

    /// The client's data is over: what was sent besides is not answered.
    pub(super) fn copy_ends(&mut self) {
        if std::mem::take(&mut self.copying) {
            self.asked.truncate(1);
        }
    }

    pub(super) fn copy_begins(&mut self) {
        self.copying = true;
    }

    /// The upstream takes the data of a COPY.
    pub(super) fn is_copying(&self) -> bool {
        self.copying
    }

    /// Columns were described; empty: there are none.
    pub(super) fn described(&mut self, columns: Rc<Vec<Column>>) {
        match self.asked.front() {
            Some(Asked::DescribeStatement(statement)) => {
                statement.columns.replace(Some(columns));
                self.asked.pop_front();
            }
            Some(Asked::DescribePortal(portal)) => {
                portal.statement.columns.replace(Some(columns.clone()));
                portal.columns.replace(Some(columns));
                self.asked.pop_front();
            }
            _ => self.simple = Some(columns),
        }
    }

    /// Columns of the row at hand.
    pub(super) fn columns(&self) -> Option<Rc<Vec<Column>>> {
        match self.asked.front() {
            Some(Asked::Query) => self.simple.clone(),
            Some(Asked::Execute(portal)) => portal.as_ref()?.columns(),
            _ => None,
        }
    }

    /// A statement is over.
    pub(super) fn completed(&mut self) {
        match self.asked.front() {
            Some(Asked::Execute(_)) => drop(self.asked.pop_front()),
            _ => self.simple = None,
        }
    }

    /// An error: what was asked for up to the next Sync is not answered.
    pub(super) fn failed(&mut self) {
        while self.asked.front().is_some_and(|asked| !matches!(asked, Asked::Query | Asked::Sync)) {
            self.asked.pop_front();
        }
    }

    /// A transaction's state: what was asked for up to here was answered.
    pub(super) fn ready(&mut self) {
        self.simple = None;
        self.copying = false;
        while let Some(asked) = self.asked.pop_front() {
            if matches!(asked, Asked::Query | Asked::Sync) {
                return;
            }
        }
    }
}
