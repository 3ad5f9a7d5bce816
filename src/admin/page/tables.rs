//! Refusals, routes, certificates and revocations.

use super::{badge, bytes, days, scrolling, seconds, time};
use crate::admin::tables::{CertificateRow, RefusalView, RevocationView, RouteView};
use maud::{Markup, html};

fn table(label: &str, heads: &[&str], rows: Markup) -> Markup {
    scrolling(
        label,
        html! {
            table {
                caption.hidden { (label) }
                thead { tr { @for head in heads { th scope="col" { (head) } } } }
                tbody { (rows) }
            }
        },
    )
}

pub(super) fn refusals(all: &[RefusalView]) -> Markup {
    if all.is_empty() {
        return html! { p { "Nobody was turned away since the gateway started." } };
    }
    html! {
        p { "The last " (all.len()) ", the youngest first. All of them are in the log." }
        (table("Refusals", &["When", "Why", "In words", "Who", "Route", "From", "Session"], html! {
            @for one in all {
                tr {
                    td { (time(&one.at)) }
                    td { code { (one.reason) } }
                    td { (one.detail.as_deref().unwrap_or("–")) }
                    td { (one.subject.as_deref().unwrap_or("–")) }
                    td { (one.route.as_deref().unwrap_or("–")) }
                    td { (one.remote) }
                    td { code { (one.session) } }
                }
            }
        }))
    }
}

pub(super) fn routes(all: &[RouteView]) -> Markup {
    let heads = [
        "Route",
        "Names",
        "Upstream",
        "Health",
        "Dial time",
        "Certificates",
        "Sessions",
        "Traffic",
        "Policy",
    ];
    table(
        "Routes",
        &heads,
        html! {
            @for one in all {
                tr {
                    th scope="row" { a href={ "/?route=" (one.name) } { (one.name) } br; small { (one.protocol) } }
                    td { @if one.sni.is_empty() { "tunnel only" } @else { (one.sni.join(", ")) } }
                    td {
                        (one.upstream) " "
                        @if one.plaintext_upstream { (badge("plaintext hop")) }
                        @if one.pinned { (badge("pinned")) }
                        @if !one.recorded { (badge("not recorded")) }
                    }
                    td { (health(one)) }
                    td {
                        @match (one.dial.seconds.p50, one.dial.seconds.p99) {
                            (Some(half), Some(most)) => { "half within " (seconds(half)) br; "99 of 100 within " (seconds(most)) }
                            _ => { "–" }
                        }
                        br; small { (one.dial.seconds.count) @if one.dial.seconds.count == 1 { " dial, " } @else { " dials, " } (one.dial.failed) " failed" }
                    }
                    td {
                        (days(one.certificate_days_left))
                        br; small { "upstream’s: " (days(one.upstream_certificate_days_left)) }
                    }
                    td.number { (one.sessions) }
                    td.number { (bytes(one.up_rate)) "/s up" br; (bytes(one.down_rate)) "/s down" }
                    td {
                        (one.rules) @if one.rules == 1 { " rule" } @else { " rules" }
                        br; small { "on expiry: " (one.on_expiry) }
                    }
                }
            }
        },
    )
}

/// Whether the upstream was reached when it was wanted last, and what was wrong the last time that it was not.
fn health(route: &RouteView) -> Markup {
    let word = match route.health {
        "unreachable" => "unreachable",
        "reached" => "reached",
        _ => "not dialled yet",
    };
    html! {
        (badge(word))
        @if let Some(at) = &route.last_dialled { br; small { "last reached " (time(at)) } }
        @if let Some(fault) = &route.last_dial_fault {
            br; small { "last fault " (time(&fault.at)) @if let Some(detail) = &fault.detail { ": " (detail) } }
        }
    }
}

pub(super) fn certificates(all: &[CertificateRow]) -> Markup {
    if all.is_empty() {
        return html! { p { "No certificate to show." } };
    }
    html! {
        p { "Those that the gateway shows, and those that peers of live sessions show. What ends first stands first." }
        (table("Certificates", &["Shown by", "Route", "Name", "Ends", "Left", "Sessions", "SHA-256"], html! {
            @for one in all {
                tr {
                    td { (one.shown_by) }
                    td { (one.route) }
                    td { (one.name.as_deref().unwrap_or("–")) }
                    td { @if let Some(end) = &one.not_after { (time(end)) } @else { "–" } }
                    td { (days(one.days_left)) }
                    td.number { (one.sessions) }
                    td { code.digest { (one.sha256.as_deref().unwrap_or("–")) } }
                }
            }
        }))
    }
}

pub(super) fn revocations(all: &[RevocationView]) -> Markup {
    if all.is_empty() {
        return html! { p { "Nobody is revoked." } };
    }
    table(
        "Revocations",
        &[
            "Id",
            "Subject",
            "E-mail",
            "Issuer",
            "Group",
            "Token id",
            "Issuer's session",
            "Serial",
            "Since",
            "Until",
        ],
        html! {
            @for one in all {
                tr {
                    th scope="row" { a href={ "/revocations/" (one.id) } { code { (one.id) } } }
                    @for text in [
                        &one.subject, &one.email, &one.issuer, &one.group, &one.token_id, &one.session_id, &one.serial,
                    ] {
                        td { (text.as_deref().unwrap_or("–")) }
                    }
                    td { (time(&one.at)) }
                    td { (time(&one.until)) }
                }
            }
        },
    )
}
