//! Who spoke over a session: each person with the time in which it did.

use crate::evidence::table::{text, time};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// The people of one session, in the order in which they were first named.
#[derive(Default)]
pub(super) struct People(Vec<Person>);

/// Somebody who was permitted.
struct Person {
    issuer: String,
    subject: String,
    proof: String,
    /// When it was first and last named, ns since 1970.
    times: (u64, u64),
    requests: u64,
    statements: u64,
}

impl People {
    /// Takes an audit line. Who was refused is none of them.
    pub(super) fn take(&mut self, at: u64, event: &str, line: &Map<String, Value>) {
        let field = |name: &str| line.get(name).map(text).unwrap_or_default();
        let is_permitted = match event {
            "request" => field("verdict") != "refused",
            "session permitted" | "statement" => true,
            _ => false,
        };
        let (issuer, subject) = (field("issuer"), field("subject"));
        if !is_permitted || subject.is_empty() {
            return;
        }
        let known = self.0.iter().position(|known| known.issuer == issuer && known.subject == subject);
        let place = known.unwrap_or_else(|| {
            let (proof, times) = (field("proof"), (at, at));
            self.0.push(Person { issuer, subject, proof, times, requests: 0, statements: 0 });
            self.0.len() - 1
        });
        let Some(person) = self.0.get_mut(place) else { return };
        person.times.1 = at;
        person.requests += u64::from(event == "request");
        person.statements += u64::from(event == "statement");
    }

    /// Each with its time. Who is alone spoke until the session's end.
    pub(super) fn to_json(&self, end: u64) -> Value {
        let is_alone = self.0.len() == 1;
        let people = self.0.iter().map(|person| {
            let (first, last) = person.times;
            json!({
                "issuer": person.issuer, "subject": person.subject, "proof": person.proof,
                "first": time(first), "last": time(if is_alone { end } else { last }),
                "requests": person.requests, "statements": person.statements,
            })
        });
        people.collect()
    }
}

/// All people of the period: a session of several counts under each of them. `sessions`: those of each session, and when it ended.
pub(super) fn people<'a>(sessions: impl Iterator<Item = (&'a People, u64)>) -> Vec<Value> {
    #[derive(Default)]
    struct Sums {
        sessions: u64,
        shared: u64,
        requests: u64,
        statements: u64,
        times: Option<(u64, u64)>,
    }
    let mut found = BTreeMap::<(String, String), Sums>::new();
    for (People(people), end) in sessions {
        for person in people {
            let sums = found.entry((person.issuer.clone(), person.subject.clone())).or_default();
            let end = if people.len() == 1 { end } else { person.times.1 };
            sums.sessions += 1;
            sums.shared += u64::from(people.len() > 1);
            sums.requests += person.requests;
            sums.statements += person.statements;
            let (first, last) = sums.times.unwrap_or((person.times.0, end));
            sums.times = Some((first.min(person.times.0), last.max(end)));
        }
    }
    let mut people: Vec<_> = found.into_iter().collect();
    people.sort_by_key(|(_, sums)| std::cmp::Reverse(sums.sessions));
    let people = people.into_iter().map(|((issuer, subject), sums)| {
        let (first, last) = sums.times.unwrap_or_default();
        json!({
            "subject": subject, "issuer": issuer, "sessions": sums.sessions, "shared": sums.shared,
            "requests": sums.requests, "statements": sums.statements, "first": time(first), "last": time(last),
        })
    });
    people.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_of_several_people_counts_under_each_with_its_own_time() {
        let mut people = People::default();
        let lines = [
            (1, r#"{"event":"session permitted","issuer":"i","subject":"ann","proof":"token"}"#),
            (2, r#"{"event":"request","issuer":"i","subject":"ann","verdict":"permitted"}"#),
            (3, r#"{"event":"request","issuer":"i","subject":"eve","verdict":"refused"}"#),
            (4, r#"{"event":"session permitted","issuer":"i","subject":"bob","proof":"token"}"#),
            (5, r#"{"event":"request","issuer":"i","subject":"bob","verdict":"permitted"}"#),
            (6, r#"{"event":"request","issuer":"i","subject":"ann","verdict":"permitted"}"#),
            (7, r#"{"event":"session closed","issuer":"i","subject":"ann"}"#),
        ];
        for (at, line) in lines {
            let line: Map<String, Value> = serde_json::from_str(line).unwrap();
            people.take(at * 1_000_000_000, &text(&line["event"]), &line);
        }
        let told = people.to_json(9_000_000_000);
        let told: Vec<_> = told.as_array().unwrap().iter().collect();
        assert_eq!(told.len(), 2, "{told:?}");
        assert_eq!(
            (&told[0]["subject"], &told[0]["last"]),
            (&"ann".into(), &"1970-01-01T00:00:06.000000Z".into())
        );
        assert_eq!((&told[0]["requests"], &told[1]["requests"]), (&2.into(), &1.into()));
        assert_eq!(
            (&told[1]["first"], &told[1]["last"]),
            (&"1970-01-01T00:00:04.000000Z".into(), &"1970-01-01T00:00:05.000000Z".into())
        );
        // Alone, until the end.
        people.0.pop();
        assert_eq!(people.to_json(9_000_000_000)[0]["last"], "1970-01-01T00:00:09.000000Z");
    }
}
