//! Filter, order and paging of live sessions: the query of `/` and `/api/sessions`.

use super::live::Row;
use form_urlencoded::{Serializer, parse};
use std::cmp::Ordering;

/// Sessions of one page, where nothing else is said.
const PER_PAGE: usize = 50;

/// Sessions of one page at most.
const MAX_PER_PAGE: usize = 1_000;

/// Bytes of a filter.
const MAX_FILTER: usize = 256;

/// A query, each part with its default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Query {
    /// Part of whatever names a session: its id, route, subject, address, SNI, database.
    pub(super) q: String,
    /// The whole name of a route.
    pub(super) route: String,
    /// The whole subject.
    pub(super) subject: String,
    /// `tls13`, `tls12`, `pq`, `not-pq`, `plaintext`.
    pub(super) crypto: String,
    pub(super) sort: Sort,
    pub(super) descending: bool,
    /// From 1.
    pub(super) page: usize,
    pub(super) per_page: usize,
}

/// Sort key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sort {
    Age,
    Up,
    Down,
    Rate,
    Requests,
    Route,
    Subject,
    Remote,
}

impl Sort {
    pub(super) const ALL: [(Sort, &str); 8] = [
        (Sort::Age, "age"),
        (Sort::Up, "up"),
        (Sort::Down, "down"),
        (Sort::Rate, "rate"),
        (Sort::Requests, "requests"),
        (Sort::Route, "route"),
        (Sort::Subject, "subject"),
        (Sort::Remote, "remote"),
    ];

    pub(super) fn name(self) -> &'static str {
        Self::ALL.iter().find(|(sort, _)| *sort == self).map_or("age", |(_, name)| name)
    }
}

/// Which sessions by their encryption.
pub(super) const CRYPTO: [(&str, &str); 5] = [
    ("tls13", "TLS 1.3 on both legs"),
    ("tls12", "TLS 1.2 on a leg"),
    ("pq", "post-quantum"),
    ("not-pq", "not post-quantum"),
    ("plaintext", "plaintext hop"),
];

impl Default for Query {
    fn default() -> Self {
        Query {
            q: String::new(),
            route: String::new(),
            subject: String::new(),
            crypto: String::new(),
            sort: Sort::Age,
            descending: false,
            page: 1,
            per_page: PER_PAGE,
        }
    }
}

impl Query {
    /// Reads a query string. What is wrong is told in words.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut query = Query::default();
        for (name, value) in parse(text.as_bytes()) {
            if value.len() > MAX_FILTER {
                return Err(format!("{name} is longer than {MAX_FILTER} bytes"));
            }
            let number = |most: usize| match value.parse::<usize>() {
                Ok(number @ 1..) if number <= most => Ok(number),
                _ => Err(format!("{name} is a number from 1 to {most}")),
            };
            match &*name {
                "q" => query.q = value.trim().to_owned(),
                "route" => query.route = value.into_owned(),
                "subject" => query.subject = value.into_owned(),
                "crypto" if value.is_empty() || CRYPTO.iter().any(|(known, _)| *known == value) => {
                    query.crypto = value.into_owned();
                }
                "crypto" => {
                    return Err(format!("crypto is one of {}", CRYPTO.map(|(name, _)| name).join(", ")));
                }
                "sort" => {
                    let sort = Sort::ALL.iter().find(|(_, name)| *name == value);
                    let all = || Sort::ALL.map(|(_, name)| name).join(", ");
                    query.sort =
                        sort.map(|(sort, _)| *sort).ok_or_else(|| format!("sort is one of {}", all()))?;
                }
                "order" => {
                    query.descending = match &*value {
                        "asc" => false,
                        "desc" => true,
                        _ => return Err("order is asc or desc".into()),
                    }
                }
                "page" => query.page = number(1_000_000)?,
                "per_page" => query.per_page = number(MAX_PER_PAGE)?,
                _ => {
                    let known = "q, route, subject, crypto, sort, order, page, per_page";
                    return Err(format!("there is no parameter {name}; there are {known}"));
                }
            }
        }
        Ok(query)
    }

    /// As a query string, without what is as by default.
    pub(super) fn to_text(&self) -> String {
        let (mut text, plain) = (Serializer::new(String::new()), Query::default());
        for (name, value) in
            [("q", &self.q), ("route", &self.route), ("subject", &self.subject), ("crypto", &self.crypto)]
        {
            if !value.is_empty() {
                text.append_pair(name, value);
            }
        }
        if self.sort != plain.sort {
            text.append_pair("sort", self.sort.name());
        }
        if self.descending {
            text.append_pair("order", "desc");
        }
        if self.page != plain.page {
            text.append_pair("page", &self.page.to_string());
        }
        if self.per_page != plain.per_page {
            text.append_pair("per_page", &self.per_page.to_string());
        }
        text.finish()
    }

    /// The rows of the page, and how many fit in all.
    pub(super) fn choose(&self, rows: &[Row]) -> (Vec<Row>, usize) {
        let wanted = self.q.to_lowercase();
        let mut fitting: Vec<&Row> = rows.iter().filter(|row| self.fits(row, &wanted)).collect();
        let matching = fitting.len();
        fitting.sort_by(|a, b| {
            let order = self.compare(a, b);
            let order = if self.descending { order.reverse() } else { order };
            order.then_with(|| a.snapshot.id.0.cmp(&b.snapshot.id.0))
        });
        let from = (self.page - 1).saturating_mul(self.per_page);
        (fitting.into_iter().skip(from).take(self.per_page).cloned().collect(), matching)
    }

    /// How many pages there are, at least one.
    pub(super) fn pages(&self, matching: usize) -> usize {
        matching.div_ceil(self.per_page).max(1)
    }

    fn fits(&self, row: &Row, wanted: &str) -> bool {
        // Only what is asked for is looked at: of thousands of sessions, each look at what lies elsewhere waits for memory.
        let facts = &row.snapshot.facts;
        let route = || facts.route.as_ref().map_or("", |route| &route.name.0);
        let subject = || facts.identity.as_ref().map_or("", |identity| &identity.subject);
        let named = |text: &str| text.to_lowercase().contains(wanted);
        (self.route.is_empty() || self.route == route())
            && (self.subject.is_empty() || self.subject == subject())
            && self.fits_crypto(row)
            && (wanted.is_empty()
                || named(route())
                || named(subject())
                || facts.sni.as_deref().is_some_and(named)
                || named(&facts.remote.0.to_string())
                || named(&row.snapshot.id.to_string())
                || facts.database.as_ref().is_some_and(|one| named(&String::from_utf8_lossy(&one.database))))
    }

    fn fits_crypto(&self, row: &Row) -> bool {
        use crate::session::legs::is_post_quantum;
        let facts = &row.snapshot.facts;
        let legs = || facts.client.iter().chain(facts.upstream.iter().map(|(leg, _)| leg));
        let is = |leg: &crate::tls::handshake::Facts, version| leg.version == Some(version);
        match &*self.crypto {
            "tls13" => legs().all(|leg| is(leg, rustls::ProtocolVersion::TLSv1_3)),
            "tls12" => legs().any(|leg| is(leg, rustls::ProtocolVersion::TLSv1_2)),
            "pq" => legs().filter(|leg| leg.is_tls()).all(is_post_quantum),
            "not-pq" => legs().any(|leg| leg.is_tls() && !is_post_quantum(leg)),
            "plaintext" => legs().any(|leg| !leg.is_tls()),
            _ => true,
        }
    }

    fn compare(&self, a: &Row, b: &Row) -> Ordering {
        let rate = |row: &Row| row.up_rate + row.down_rate;
        let (one, two) = (&a.snapshot, &b.snapshot);
        match self.sort {
            Sort::Age => one.age.cmp(&two.age),
            Sort::Up => one.up.cmp(&two.up),
            Sort::Down => one.down.cmp(&two.down),
            Sort::Rate => rate(a).total_cmp(&rate(b)),
            Sort::Requests => one.requests.cmp(&two.requests),
            Sort::Route => {
                let name = |row: &Row| row.snapshot.facts.route.as_ref().map(|route| route.name.0.clone());
                name(a).cmp(&name(b))
            }
            Sort::Subject => {
                let subject =
                    |row: &Row| row.snapshot.facts.identity.as_ref().map(|identity| identity.subject.clone());
                subject(a).cmp(&subject(b))
            }
            Sort::Remote => one.facts.remote.0.cmp(&two.facts.remote.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_read_and_written_back() {
        let text = "q=a+b&route=api&crypto=pq&sort=rate&order=desc&page=3&per_page=100";
        let query = Query::parse(text).unwrap();
        assert_eq!((&*query.q, query.sort, query.descending, query.page), ("a b", Sort::Rate, true, 3));
        assert_eq!(query.to_text(), text);
        assert_eq!(Query::parse("").unwrap().to_text(), "");
    }

    #[test]
    fn what_is_wrong_is_told() {
        for (text, told) in [
            ("sort=x", "sort is one of age, up"),
            ("order=x", "asc or desc"),
            ("page=0", "page is a number from 1"),
            ("page=-1", "page is a number from 1"),
            ("per_page=1001", "per_page is a number from 1 to 1000"),
            ("crypto=x", "crypto is one of tls13"),
            ("colour=red", "there is no parameter colour; there are q"),
        ] {
            let fault = Query::parse(text).unwrap_err();
            assert!(fault.contains(told), "{text}: {fault}");
        }
        assert!(Query::parse(&format!("q={}", "x".repeat(257))).is_err());
    }
}
