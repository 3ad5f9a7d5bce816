//! Facts → fields, in the order of the table in [`super`].

use super::facts::{Closed, DatabaseFacts, LegFacts, NO_TLS, Opened, RequestLine, Verdict};
use super::line::Line;
use super::sink::Dropped;
use super::unpermitted::OmittedLines;
use crate::names::Reached;
use crate::policy::Identity;
use crate::protocol::{Ended, Kind, RefusalReason};
use std::fmt;

impl fmt::Display for Opened<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Line::write(f, "session opened", |line| {
            line.session(self.session);
            line.address("remote", self.remote.0);
            line.address("listener", self.listener);
            line.maybe_text("sni", self.sni);
            line.maybe_text("route", self.route.map(|r| &*r.0));
            line.number("worker", self.worker as u64);
            if self.plaintext_upstream {
                line.text("upstream_version", NO_TLS.as_bytes());
            }
            tunnel(line, self.tunnel);
            database(line, self.database);
        })
    }
}

impl fmt::Display for RequestLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Line::write(f, "request", |line| {
            if line.is_json() {
                line.session(self.id.session);
            }
            line.request(self.id);
            if let Verdict::Refused { .. } = self.verdict {
                line.shorten();
            }
            line.text("route", self.route.0.as_bytes());
            line.word("http", self.http);
            line.text("method", self.method);
            line.path("path", self.path);
            line.text("authority", self.authority);
            line.word("kind", kind(self.kind));
            if let Some(status) = self.status {
                line.number("status", status.into());
            }
            line.number("up_bytes", self.up);
            line.number("down_bytes", self.down);
            line.maybe_time("first_byte_us", self.first_byte);
            line.time("duration_us", self.duration);
            match self.verdict {
                Verdict::Permitted { rule } => {
                    line.word("verdict", "permitted");
                    line.number("rule", rule as u64);
                }
                Verdict::Refused { why, detail } => {
                    line.word("verdict", "refused");
                    line.word("refusal", why.code());
                    line.maybe_text("detail", detail);
                }
            }
            line.word("ended", ended(self.ended));
            line.maybe_text("masked", self.masked);
            who(line, self.identity);
            if let (Verdict::Refused { why: RefusalReason::Forbidden, .. }, Some(identity)) =
                (&self.verdict, self.identity)
            {
                line.texts("groups", identity.groups.iter().take(GROUPS).map(|g| g.as_bytes()));
            }
        })
    }
}

impl fmt::Display for Closed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Line::write(f, super::CLOSED, |line| {
            if self.identity.is_none() {
                line.shorten();
            }
            line.session(self.session);
            line.address("remote", self.remote.0);
            line.maybe_text("route", self.route.map(|r| &*r.0));
            tunnel(line, self.tunnel);
            line.word("reason", self.reason.name());
            if let Some(detail) = self.reason.detail() {
                line.word("reason_detail", detail);
            }
            line.word("culprit", self.reason.culprit().name());
            line.maybe_text("detail", self.detail);
            line.number("requests", self.requests);
            if self.masked > 0 {
                line.number("masked", self.masked);
            }
            line.number("up_bytes", self.up);
            line.number("down_bytes", self.down);
            line.time("duration_us", self.spent.total);
            line.maybe_time("handshake_us", self.spent.handshake);
            line.maybe_time("identify_us", self.spent.identify);
            line.maybe_time("dial_us", self.spent.dial);
            if self.dialled_ahead {
                line.boolean("dialled_ahead", true);
            }
            database(line, self.database);
            who(line, self.identity);
            if let Some(identity) = self.identity {
                line.texts("groups", identity.groups.iter().take(GROUPS).map(|g| g.as_bytes()));
            }
            line.number("identities", self.identities as u64);
            if let Some(leg) = &self.client {
                leg_facts(line, &CLIENT, leg);
            }
            if let Some(leg) = &self.upstream {
                leg_facts(line, &UPSTREAM, leg);
            }
        })
    }
}

impl fmt::Display for OmittedLines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Line::write(f, "lines left out", |line| {
            if let Some(remote) = self.remote {
                line.plain("remote", remote);
            }
            line.number("lines", self.lines);
        })
    }
}

impl fmt::Display for Dropped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Line::write(f, "lines dropped", |line| {
            line.number("unpermitted", self.unpermitted);
            line.number("diagnostics", self.diagnostics);
            line.number("evidence", self.evidence);
        })
    }
}

/// Groups shown of an identity: some issuers put hundreds into a token.
const GROUPS: usize = 32;

fn tunnel(line: &mut Line, tunnel: bool) {
    if tunnel {
        line.boolean("tunnel", true);
    }
}

fn database(line: &mut Line, facts: Option<DatabaseFacts<'_>>) {
    let Some(facts) = facts else { return };
    // Redis has none that a login names.
    if !facts.database.is_empty() {
        line.text("database", facts.database);
    }
    line.maybe_text("database_user", facts.user);
    for (name, text) in [("client_user", facts.client_user), ("application", facts.application)] {
        if !text.is_empty() {
            line.text(name, text);
        }
    }
    facts.statements.into_iter().for_each(|statements| line.number("statements", statements));
}

pub(super) fn who(line: &mut Line, identity: Option<&Identity>) {
    let Some(identity) = identity else { return };
    line.text("issuer", identity.issuer.0.as_bytes());
    line.text("subject", identity.subject.as_bytes());
    line.word("proof", identity.proof.name());
}

/// Field names of a leg, in the order of [`leg_facts`].
type LegNames = [&'static str; 8];

const CLIENT: LegNames = [
    "client_peer",
    "client_version",
    "client_cipher",
    "client_group",
    "client_resumed",
    "client_alpn",
    "client_certificate",
    "client_verified",
];

const UPSTREAM: LegNames = [
    "upstream_peer",
    "upstream_version",
    "upstream_cipher",
    "upstream_group",
    "upstream_resumed",
    "upstream_alpn",
    "upstream_certificate",
    "upstream_verified",
];

fn leg_facts(line: &mut Line, names: &LegNames, leg: &LegFacts<'_>) {
    let [peer, version, cipher, group, resumed, alpn, certificate, verified] = *names;
    match &leg.peer {
        Reached::Tcp(address) => line.address(peer, *address),
        Reached::Unix(_) => line.text(peer, leg.peer.to_string().as_bytes()),
    }
    line.text(version, leg.version.as_bytes());
    line.text(cipher, leg.cipher.as_bytes());
    line.maybe_text(group, leg.group);
    line.boolean(resumed, leg.resumed);
    if let Some(protocol) = leg.alpn {
        line.text(alpn, protocol);
    }
    if let Some(digest) = &leg.certificate_sha256 {
        line.hex(certificate, digest);
    }
    line.word(verified, leg.verified.name());
}

fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Plain => "plain",
        Kind::Grpc => "grpc",
        Kind::Upgrade => "upgrade",
    }
}

fn ended(ended: Ended) -> &'static str {
    match ended {
        Ended::Whole => "whole",
        Ended::ByClient => "by_client",
        Ended::ByUpstream => "by_upstream",
        Ended::ByGateway => "by_gateway",
    }
}
