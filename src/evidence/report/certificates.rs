//! The inventory of certificates that were shown on both legs.

use super::population::{Member, Population};
use crate::evidence::table::{date, text, time};
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};

/// Who showed a certificate, and on which leg.
const SHOWN_BY: [(&str, &str); 3] = [("gateway", "client"), ("client", "client"), ("upstream", "upstream")];

/// A certificate that ends sooner after the period is named.
const EXPIRY_WARNING_DAYS: i64 = 30;

const SECOND: u64 = 1_000_000_000;
const DAY: i64 = 86_400;

/// Sessions over which a certificate was shown.
struct Use<'a> {
    sessions: Vec<&'a Member>,
}

impl Use<'_> {
    /// When it was first and last shown: when the first of its sessions began, and the last.
    fn times(&self) -> (u64, u64) {
        let begun = || self.sessions.iter().map(|member| member.row.summary.first);
        (begun().min().unwrap_or(0), begun().max().unwrap_or(0))
    }
}

/// Certificates by who showed them, route, SHA-256 and verdict; each with its sessions. `until`: the period's end.
pub(super) fn inventory(population: &Population, until: u64) -> Vec<Value> {
    let mut details = HashMap::<String, &Value>::new();
    let mut uses = BTreeMap::<(usize, String, String, String), Use<'_>>::new();
    for member in &population.rows {
        let field = |name: &str| member.row.fields.get(name).map(text).unwrap_or_default();
        details.extend(member.certificates.iter().map(|one| (text(&one["sha256"]), one)));
        for (place, (by, _)) in SHOWN_BY.into_iter().enumerate() {
            let Some(sha256) = member.certificate(by) else { continue };
            let verified = field(&format!("{by}_verified"));
            let key = (place, field("route"), sha256, verified);
            uses.entry(key).or_insert_with(|| Use { sessions: Vec::new() }).sessions.push(member);
        }
    }
    let rows = uses.into_iter().map(|((place, route, sha256, verified), used)| {
        let (by, leg) = SHOWN_BY[place];
        let (first, last) = used.times();
        let known = details.get(&sha256).copied();
        let ids: Vec<String> =
            used.sessions.iter().map(|member| member.row.summary.session.to_string()).collect();
        let known_text = |name: &str| known.map(|known| text(&known[name])).unwrap_or_default();
        let seconds = |name: &str| known.and_then(|known| known[name].as_i64());
        let end = seconds("not_after");
        json!({
            "shown_by": by, "leg": leg, "route": route, "sha256": sha256, "verified": verified,
            "subject": known_text("subject"), "issuer": known_text("issuer"), "serial": known_text("serial"),
            "names": known.map_or_else(|| json!([]), |known| known["names"].clone()),
            "key": known_text("key"), "key_listed": listed_key(&known_text("key")),
            "not_before": seconds("not_before").map(date), "not_after": end.map(date),
            "days_left": end.map(|end| end.saturating_sub((until / SECOND) as i64).div_euclid(DAY)),
            "state": state((seconds("not_before"), end), (first, last), until),
            "sessions": ids.len(), "first": time(first), "last": time(last), "session_ids": ids,
        })
    });
    rows.collect()
}

/// The rows without the names of sessions, as they stand in the report; those stand in `certificates.jsonl`.
pub(super) fn without_sessions(rows: &[Value]) -> Vec<Value> {
    let mut rows = rows.to_vec();
    rows.iter_mut().filter_map(Value::as_object_mut).for_each(|row| drop(row.remove("session_ids")));
    rows
}

/// The rows of all routes together, for people: `routes` has how many sessions each had.
pub(super) fn by_certificate(rows: &Value) -> Vec<Value> {
    let mut found: Vec<Value> = Vec::new();
    for row in rows.as_array().into_iter().flatten() {
        let of_route = format!("{} ({})", text(&row["route"]), row["sessions"]);
        let is_same = |known: &&mut Value| {
            ["shown_by", "sha256", "verified"].iter().all(|field| known[*field] == row[*field])
        };
        match found.iter_mut().find(is_same) {
            Some(known) => {
                known["routes"] = format!("{}, {of_route}", text(&known["routes"])).into();
                let sum = [&known["sessions"], &row["sessions"]].into_iter().filter_map(Value::as_u64).sum();
                let sum: u64 = sum;
                known["sessions"] = sum.into();
                // Used last on another route.
                if row["state"] == USED_AFTER_ITS_END || row["state"] == USED_BEFORE_ITS_TIME {
                    known["state"] = row["state"].clone();
                }
            }
            None => {
                let mut first = row.clone();
                first["routes"] = of_route.into();
                found.push(first);
            }
        }
    }
    found
}

const USED_BEFORE_ITS_TIME: &str = "used before it was good";
const USED_AFTER_ITS_END: &str = "used after its end";

/// Of a certificate's time: whether it was used within it, and whether it ends soon.
fn state((begin, end): (Option<i64>, Option<i64>), (first, last): (u64, u64), until: u64) -> &'static str {
    let seconds = |ns: u64| (ns / SECOND) as i64;
    match (begin, end) {
        (Some(begin), _) if seconds(first) < begin => USED_BEFORE_ITS_TIME,
        (_, Some(end)) if seconds(last) > end => USED_AFTER_ITS_END,
        (_, Some(end)) if seconds(until) > end => "in its time when used, over since",
        (_, Some(end)) if seconds(until) + EXPIRY_WARNING_DAYS * DAY > end => "ends within 30 days",
        (Some(_), Some(_)) => "good",
        _ => "not recorded",
    }
}

/// What SP 800-52 revision 2 says of a key.
fn listed_key(key: &str) -> &'static str {
    match key.split_once(' ') {
        Some(("RSA", bits)) => match bits.parse::<u32>() {
            Ok(bits) if bits >= 2048 => "in SP 800-52r2",
            _ => "too short for SP 800-52r2",
        },
        Some(("ECDSA", "P-256" | "P-384" | "P-521")) => "in SP 800-52r2",
        Some(("ECDSA", _)) => "not in SP 800-52r2",
        _ if key.starts_with("Ed") => "in FIPS 186-5, not in SP 800-52r2",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_held_against_the_time_of_its_use_and_the_periods_end() {
        let ns = |seconds: u64| seconds * SECOND;
        let day = DAY as u64;
        let of = |begin, end, first, last, until| {
            state((Some(begin), Some(end)), (ns(first), ns(last)), ns(until))
        };
        assert_eq!(of(10, 100 * DAY, 11, 12, 20), "good");
        assert_eq!(of(10, 100 * DAY, 9, 12, 20), "used before it was good");
        assert_eq!(of(10, 100, 11, 101, 101), "used after its end");
        assert_eq!(of(10, 100, 11, 12, 101), "in its time when used, over since");
        assert_eq!(of(10, 100 * DAY, 11, 12, 71 * day), "ends within 30 days");
        assert_eq!(state((None, None), (1, 2), 3), "not recorded");
        // Beyond what nanoseconds hold.
        assert_eq!(state((Some(0), Some(253_402_300_799)), (1, 2), 3), "good");
        let dates = [253_402_300_799, 4_000_000_000, -1, i64::MAX].map(date);
        assert_eq!(dates, ["9999-12-31", "2096-10-02", "1970-01-01", "9999-12-31"]);
    }

    #[test]
    fn keys_are_held_against_the_list() {
        for (key, expected) in [
            ("RSA 2048", "in SP 800-52r2"),
            ("RSA 1024", "too short for SP 800-52r2"),
            ("ECDSA P-256", "in SP 800-52r2"),
            ("ECDSA 1.3.132.0.10", "not in SP 800-52r2"),
            ("Ed25519", "in FIPS 186-5, not in SP 800-52r2"),
            ("", ""),
        ] {
            assert_eq!(listed_key(key), expected, "{key}");
        }
    }
}
