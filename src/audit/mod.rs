//! The evidence: one line when a session opens, one per HTTP request, one per statement of a database session where the
//! route says so, one when the session closes.
//!
//! Callers give facts by reference to [`opened`], [`request`], [`statement`] and [`closed`]; the lines go through `tracing` under
//! the target [`TARGET`], in one ordered stream with the diagnostics (`warn!`, `info!`, …) of the program. They
//! cannot be filtered away; what happens when the log is slower than the load, or full, stands at [`Sink`]. The structs have no place for a token or a secret, and
//! a JWT inside a path, a statement or an error text is replaced by the first half of a digest.
//!
//! # Fields of the JSON lines
//!
//! This table is a contract: fields may be added, none changes its meaning. `o` session opened, `r` request,
//! `s` statement, `c` session closed. What is not known or does not apply is left out. Bytes that are not UTF-8 appear as the four
//! characters `\xNN`; paths are cut after 2 KiB, statements where the route says, and other texts after 512 bytes as they are
//! written, then ending in `…`. In the lines of refused requests and of sessions that were never permitted, all texts are cut after
//! 128 bytes.
//!
//! The opening line of a database session waits until it is known who gets in as whom, or until the session's end.
//!
//! Each address may cause 100 lines at once and one a second without being permitted; all addresses together 5,000 and 200 a
//! second. What is left out of refused requests, of sessions that are never permitted, and of opening lines that would come
//! before a permit (they come with it), is counted, and a line `lines left out` says how many. All that is permitted has its lines.
//!
//! | field | in | meaning |
//! |---|---|---|
//! | `time` | o r s c | when the line was made: RFC 3339, UTC, microseconds |
//! | `level` | o r s c | `INFO` |
//! | `event` | o r s c | `session opened`, `request`, `statement`, `session closed`; diagnostics have `log` |
//! | `remote` `lines` | | only with the event `lines left out`: how many lines of the unpermitted were not written, and of which address (IPv6: network of 64 bits); without `remote`: of many |
//! | `unpermitted` `diagnostics` `evidence` | | only with the event `lines dropped`: how many lines had no room, by whose they were |
//! | `session` | o r s c | 16 hex digits |
//! | `remote` | o c | the client's address and port |
//! | `listener` | o | the gateway's own address and port |
//! | `sni` | o | the name that the client asked for |
//! | `route` | o r s c | the route's name |
//! | `worker` | o | number of the worker |
//! | `tunnel` | o c | `true` where the client came through a tunnel; `sni` is the tunnel's name then |
//! | `database` | o c | the database that a PostgreSQL client asks for |
//! | `database_user` | o c | the stored user as whom it gets in |
//! | `client_user` | o c | the user that a database client names, which counts for nothing |
//! | `application` | o c | what the client calls itself, where it does |
//! | `request` | r | the request's id, also `X-Request-Id` and in a refusal's body |
//! | `http` | r | `1.1` or `2` |
//! | `method` `path` `authority` | r | as sent; the path without its query |
//! | `kind` | r s | r: `plain`, `grpc`, `upgrade`; s: [`Kind::name`](crate::protocol::statement::Kind::name) |
//! | `status` | r | HTTP status that went down |
//! | `up_bytes` `down_bytes` | r c | r: body bytes; c: payload bytes of all records relayed |
//! | `first_byte_us` | r | from the whole request head to the first byte of the response, microseconds |
//! | `duration_us` | r s c | r: from the request head to the end; s: from the whole statement to its result; c: from accept to close |
//! | `verdict` | r | `permitted` or `refused` |
//! | `rule` | r | permitted: which line of the route's `allow`, from 0 |
//! | `refusal` | r | refused: the code, as in the answer's body |
//! | `detail` | r c | what exactly was wrong, in words |
//! | `ended` | r | `whole`, `by_client`, `by_upstream`, `by_gateway` |
//! | `issuer` `subject` `proof` | r s c | who spoke, and whether a `token` or a `certificate` proved it; c: the first identity |
//! | `groups` | r c | the identity's groups, at most 32; of requests only where they are forbidden |
//! | `identities` | c | how many different identities spoke in the session |
//! | `reason` `reason_detail` | c | why it ended: [`Close::name`] and [`Close::detail`] |
//! | `culprit` | c | who caused the end: `client`, `upstream`, `gateway`, `nobody` |
//! | `statement` | s | the line's number within the session, from 1 without gaps |
//! | `name` `portal` | s | of a prepared statement and a portal, where they have names |
//! | `text` | s | the statement, passwords masked; what it quotes otherwise stands as it was sent |
//! | `cut` `text_bytes` | s | `true` where the text is longer than the limit, and how long it is |
//! | `text_held` | s | `false` where the text that a name stands for is not known |
//! | `function` | s | number of a function that was called without SQL |
//! | `copy` | s | the bulk transfer that the statement began: `in`, `out`, `both` |
//! | `result` | s | [`Outcome::name`](crate::protocol::statement::Outcome::name) |
//! | `sqlstate` `tag` | s | the error's code; what the server says it has done (`SELECT 3`), the last where there are several |
//! | `results` `rows` | s | how many results, where there are several; rows that the server counts, of all of them |
//! | `rule` | | event `session permitted`: somebody, or somebody else than before, may use the session; with `session`, `route` and the identity. The line of `allow`, from 0 |
//! | `result` | | event `login`, one for each AUTH or HELLO of a Redis session whose token was verified: `accepted`, `not_permitted`, `refused_upstream`; with `session`, `route`, `database_user` and the identity |
//! | `honeytoken` `action` | | event `alarm`, level `ERROR`: which honeytoken was shown, and whether its session is `cut` or `watch`ed; with `session`, `remote` and the identity |
//! | `order` | | event `order`: an operator, or an issuer by its signals, ordered to `end`, `drain` or `reauthorise` a session, to `revoke` or to `withdraw` a revocation, or logged in (`login`), or was turned away (`refused`) |
//! | `operator` `reason` | | event `order`: who ordered it (`loopback`, `key`, `issuer:NAME`, or the operator's subject), and why, in their words |
//! | `sessions` `until` `token_id` `group` `serial` `email` `session_id` | | event `order`: live sessions that were ended; until when a revocation stands; whom it names, besides `subject` and `issuer` |
//! | `statements` | c | how many lines of statements there are |
//! | `requests` | c | HTTP requests, refused ones included |
//! | `handshake_us` `identify_us` `dial_us` | c | how long each stage took |
//! | `dialled_ahead` | c | `true` where the upstream connection stood before it was asked for |
//! | `client_*` `upstream_*` | c | one leg each: `peer` address, `version`, `cipher`, `group`, `resumed`, `alpn`, `certificate` (SHA-256 of the peer's, hex), `verified` ([`Verified::name`]) |
//! | `upstream_version` | o | only on a route whose upstream has no TLS: [`NO_TLS`], as in the closing line |
//!
//! Diagnostics (event `log`) have a `message`, whose words may change, and some of these fields, besides those above where they fit:
//!
//! | field | in lines about | meaning |
//! |---|---|---|
//! | `address` `workers` | listeners | where the gateway listens, or where accepting pauses; with how many workers |
//! | `errno` | listeners | the system's error for which accepting pauses |
//! | `limit` `others` | limits | which limit closed a connection at once; how many more since the last such line |
//! | `bytes` `connections` `used` | memory | what a control group allows; how many connections that is; what is used now |
//! | `line` `text` | the configuration | a warning of `staunch check`, and its line |
//! | `faults` | reloads | why the old configuration stays |
//! | `files` `system_calls` | the sandbox | what the process can still reach, and call |
//! | `issuer` `host` `keys` | issuers | keys that were fetched: whose, where, how many |
//! | `fault` `known_keys` `retry_seconds` | issuers, recordings | why something failed; whether earlier keys serve on; when it is tried again |
//! | `names` `authority` `account` | certificates by ACME | for which names, at which authority, with which account there |
//! | `not_after` `at` `explanation` | certificates by ACME | until when a new one is good, when the authority suggests a renewal (both in seconds since 1970), and its page about that |
//! | `failures` `retry_in` `error` | certificates by ACME | failed orders in a row, seconds to the next, and what the authority said |
//! | `url` | time-stamps of recordings | which authority is asked |
//! | `logs` `witness` | witnesses | how many logs are witnessed; which witness refuses, or does not answer |
//! | `panic` | faults of the gateway itself | what happened, and where in the program |

mod alarm;
mod clock;
mod escape;
mod facts;
mod filter;
mod line;
mod login;
mod order;
mod permitted;
mod pipeline;
mod recent;
mod show;
mod sink;
mod statement;
mod stderr;
mod token;
mod unpermitted;
mod watch;

pub use alarm::AlarmLine;
pub(crate) use escape::{Escape, Style};
pub use facts::{
    Closed, DatabaseFacts, LegFacts, NO_TLS, Opened, RequestLine, StageTimes, Verdict, Verified,
};
pub use filter::filter_warning;
pub use login::{LoginLine, LoginResult};
pub use order::{OrderKind, OrderLine};
pub use permitted::PermittedLine;
pub use pipeline::{Format, Pipeline, SetupError, init, takes_new_work};
pub use recent::{Refusal, refusals};
pub use sink::{BUFFER, Dropped, Guard, Room, Sink, WhenFull};
pub use statement::StatementLine;
pub use stderr::print_to_stderr;
pub use unpermitted::{OmittedLines, Unpermitted};
pub use watch::{next_watched_line, watch};

use crate::names::Remote;
use std::time::Instant;

/// A time as log lines have it: `2026-11-23T13:00:07.000042Z`.
pub(crate) fn rfc3339(at: std::time::SystemTime) -> String {
    let mut text = String::new();
    clock::Clock::default().rfc3339(&mut text, at);
    text
}

/// Text that somebody else chose, safe for a terminal.
pub(crate) fn printable(text: &str) -> String {
    let mut out = String::new();
    let escape = Escape { style: Style::Human, limit: usize::MAX, is_cut: false };
    // True only when all was written; nothing is cut here.
    let _ = escape.write(&mut out, text.as_bytes());
    out
}

/// The target of the evidence among the program's `tracing` events. No module has this path, since filters go by
/// prefix.
pub const TARGET: &str = "staunch::evidence";

/// The name of the event at the end of a permitted session, for which the log keeps its last room.
const CLOSED: &str = "session closed";

/// The name of the event for whatever somebody causes who is not permitted.
const REFUSED: &str = "refused";

/// A line as the JSON log has it, without the line feed: for a recording, which keeps the lines of its session.
pub fn json_line(facts: &impl std::fmt::Display) -> String {
    let mut line = String::with_capacity(512);
    // Writing to a String cannot fail.
    let _ = pipeline::write_json(&mut line, facts);
    line
}

/// A session begins: its client was accepted and named a route, or did not.
pub fn opened(facts: &Opened<'_>) {
    tracing::info!(name: "session opened", target: TARGET, facts = %facts);
}

/// A request is over. The line of a refused one may be left out: see [`Unpermitted`].
pub fn request(facts: &RequestLine<'_>) {
    watch::note(facts.id.session, facts);
    match facts.verdict {
        Verdict::Permitted { .. } => tracing::info!(name: "request", target: TARGET, facts = %facts),
        Verdict::Refused { .. } => {
            if admit_unpermitted(facts.remote, false) {
                recent::request(facts);
                tracing::info!(name: REFUSED, target: TARGET, facts = %facts);
            }
        }
    }
}

/// True when a line that somebody causes who is not permitted is to be written; false when it is left out, which was
/// counted. `is_begun`: a line before it was written that wants this one as its end.
pub fn admit_unpermitted(remote: Remote, is_begun: bool) -> bool {
    let (unpermitted, address, now) = (Unpermitted::of_process(), remote.0.ip(), Instant::now());
    match is_begun {
        true => unpermitted.charge(address, now),
        false => return unpermitted.take(address, now),
    }
    true
}

/// True when an alarm that this address causes is to be written. Alarms have a limit of their own, so that none is hidden by a
/// flood of refusals before it.
pub fn admit_alarm(remote: Remote) -> bool {
    Unpermitted::of_alarms().take(remote.0.ip(), Instant::now())
}

/// True while lines of this address are written that it causes before it is permitted.
pub fn has_room_for_unpermitted(remote: Remote) -> bool {
    Unpermitted::of_process().has_room(remote.0.ip(), Instant::now())
}

/// Lines were left out, since too many were caused by somebody who is not permitted.
pub fn left_out(lines: &OmittedLines) {
    tracing::info!(name: "lines left out", target: TARGET, facts = %lines);
}

/// A statement of a database session has its result, or will have none.
pub fn statement(facts: &StatementLine<'_>) {
    watch::note(facts.session, facts);
    tracing::info!(name: "statement", target: TARGET, facts = %facts);
}

/// A session's identity was permitted: the first, and each that differs from the one before.
pub fn permitted(facts: &PermittedLine<'_>) {
    tracing::info!(name: "session permitted", target: TARGET, facts = %facts);
}

/// A login in a session that may hold several was decided.
pub fn login(facts: &LoginLine<'_>) {
    match facts.result {
        LoginResult::NotPermitted => tracing::info!(name: REFUSED, target: TARGET, facts = %facts),
        _ => tracing::info!(name: "login", target: TARGET, facts = %facts),
    }
}

/// A session is over.
pub fn closed(facts: &Closed<'_>) {
    recent::closed(facts);
    match facts.identity {
        Some(_) => tracing::info!(name: CLOSED, target: TARGET, facts = %facts),
        None => tracing::info!(name: REFUSED, target: TARGET, facts = %facts),
    }
}

/// A honeytoken was shown.
pub fn alarm(facts: &AlarmLine<'_>) {
    tracing::error!(name: "alarm", target: TARGET, facts = %facts);
}

/// An operator gave an order.
pub fn order(facts: &OrderLine<'_>) {
    tracing::info!(name: "order", target: TARGET, facts = %facts);
}

/// Lines were dropped, since there was no room for them.
pub fn dropped(lines: &Dropped) {
    tracing::info!(name: "lines dropped", target: TARGET, facts = %lines);
}

#[cfg(doc)]
use crate::close::Close;

#[cfg(test)]
mod tests;
