//! Claims of an identity: names, and the one or several texts that each has.

use std::collections::BTreeMap;
use std::sync::Arc;

/// Names in order, each once, with their values in one text, `SEPARATOR` between them. No larger than what it holds:
/// every connection keeps one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claims(Box<[(Arc<str>, Arc<str>)]>);

/// Stands between the values of a list. No value holds it: see [`join`].
const SEPARATOR: char = '\0';

/// The values of a claim as one text, or `None` if there is none. Values that hold the separator are left out: they would
/// read like several.
pub fn join(values: impl IntoIterator<Item = String>) -> Option<String> {
    let mut values = values.into_iter().filter(|value| !value.contains(SEPARATOR));
    let mut all = values.next()?;
    for value in values {
        all.push(SEPARATOR);
        all.push_str(&value);
    }
    Some(all)
}

impl Claims {
    /// The values of a claim; none if it is not there.
    pub fn values(&self, name: &str) -> impl Iterator<Item = &str> {
        let place = self.0.binary_search_by(|(known, _)| (**known).cmp(name)).ok();
        place.into_iter().flat_map(|place| self.0[place].1.split(SEPARATOR))
    }

    /// True if the claim is this value, or a list with it.
    pub fn has(&self, name: &str, value: &str) -> bool {
        self.values(name).any(|found| found == value)
    }
}

impl FromIterator<(Arc<str>, Arc<str>)> for Claims {
    /// From names and values as [`join`] gives them.
    fn from_iter<I: IntoIterator<Item = (Arc<str>, Arc<str>)>>(all: I) -> Self {
        Claims(BTreeMap::from_iter(all).into_iter().collect())
    }
}
