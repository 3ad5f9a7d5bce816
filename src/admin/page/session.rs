//! One session: who, where, both legs, and the forms that end it.

use super::{badge, bytes, days, duration, scrolling, time};
use crate::admin::view::{LegView, SessionView};
use maud::{Markup, html};
use serde_json::Value;

/// `activity`: lines of requests and statements, for those who may see them.
pub(super) fn live(view: &SessionView, activity: Option<&[Value]>) -> Markup {
    html! {
        p { @for name in &view.badges { (badge(name)) " " } }
        div.legs {
            (leg("Client leg", view.client.as_ref()))
            (leg("Upstream leg", view.upstream.as_ref()))
        }
        section aria-labelledby="facts" {
            h2 #facts { "Session" }
            dl {
                (entry("Stage", html! { (view.stage) }))
                (entry("Age", html! { (duration(view.age_seconds)) }))
                @if let Some(who) = &view.identity {
                    (entry("Subject", html! { (who.subject) }))
                    (entry("Issuer", html! { (who.issuer) }))
                    (entry("Groups", html! {
                        @if who.groups.is_empty() { "–" } @else { (who.groups.join(", ")) }
                    }))
                    (entry("Proof", html! { (who.proof) ", until " (time(&who.expires)) }))
                    @if let Some(id) = &who.token_id { (entry("Token id", html! { code { (id) } })) }
                    @if let Some(serial) = &who.serial { (entry("Serial", html! { code { (serial) } })) }
                } @else {
                    (entry("Subject", html! { "nobody yet" }))
                }
                (entry("Route", html! { (view.route.as_deref().unwrap_or("–")) " " (view.protocol.unwrap_or("")) }))
                (entry("Name asked for", html! { (view.sni.as_deref().unwrap_or("–")) }))
                @if let Some(database) = &view.database {
                    (entry("Database", html! {
                        (database.database) " as " (database.user.as_deref().unwrap_or("–"))
                    }))
                    (entry("Client's user", html! { (database.client_user) }))
                    (entry("Application", html! { (database.application) }))
                }
                (entry("Up", html! { (bytes(view.up_bytes as f64)) ", " (bytes(view.up_rate)) "/s" }))
                (entry("Down", html! { (bytes(view.down_bytes as f64)) ", " (bytes(view.down_rate)) "/s" }))
                (entry("Requests", html! { (view.requests) ", " (view.under_way) " under way" }))
                (entry("Recording", html! { @if view.recorded { a href={ "/recordings/" (view.id) } { "recorded" } } @else { "not recorded" } }))
                (entry("Listener", html! { (view.listener) ", worker " (view.worker) }))
                @if view.tunnel { (entry("Tunnel", html! { "yes" })) }
                @if view.dialled_ahead { (entry("Upstream connection", html! { "dialled ahead" })) }
            }
        }
        @if let Some(lines) = activity { (requests(lines)) }
    }
}

/// Requests and statements that ended while somebody watches, the youngest first.
fn requests(lines: &[Value]) -> Markup {
    let text = |line: &Value, name: &str| line[name].as_str().unwrap_or_default().to_owned();
    let what = |line: &Value| match line["event"].as_str() {
        Some("request") => format!("{} {}", text(line, "method"), text(line, "path")),
        _ => format!("{} {}", text(line, "kind"), text(line, "text")),
    };
    let result = |line: &Value| match line["status"].as_u64() {
        Some(status) => status.to_string(),
        None => {
            [text(line, "result"), text(line, "tag"), text(line, "sqlstate"), text(line, "verdict")].join(" ")
        }
    };
    let milliseconds = |line: &Value| line["duration_us"].as_f64().unwrap_or_default() / 1_000.0;
    html! {
        section aria-labelledby="activity" {
            h2 #activity { "Requests and statements" }
            @if lines.is_empty() {
                p { "None has ended since this page is open." }
            } @else {
                (scrolling("Requests and statements", html! {
                    table {
                        thead { tr {
                            @for head in ["Ended", "What", "Result", "Took", "Subject"] { th scope="col" { (head) } }
                        } }
                        tbody {
                            @for line in lines {
                                tr {
                                    td { (time(&text(line, "at"))) }
                                    td { code { (what(line)) } }
                                    td { (result(line)) }
                                    td.number { (format!("{:.1} ms", milliseconds(line))) }
                                    td { (text(line, "subject")) }
                                }
                            }
                        }
                    }
                }))
            }
        }
    }
}

fn leg(name: &str, leg: Option<&LegView>) -> Markup {
    let id = if name.starts_with('C') { "client" } else { "upstream" };
    html! {
        section.leg aria-labelledby=(id) {
            h2 id=(id) { (name) }
            @match leg {
                None => p { "not there yet" },
                Some(leg) => dl {
                    (entry("Peer", html! { (leg.peer) }))
                    @if leg.tls {
                        (entry("Version", html! { (leg.version) }))
                        (entry("Cipher", html! { (leg.cipher) }))
                        (entry("Key exchange", html! {
                            (leg.group.as_deref().unwrap_or("none: resumed"))
                            @if leg.post_quantum { " " (badge("post-quantum")) }
                        }))
                        (entry("Resumed", html! { @if leg.resumed { "yes" } @else { "no" } }))
                        (entry("ALPN", html! { (leg.alpn.as_deref().unwrap_or("–")) }))
                        (entry("Verified", html! { (verified(leg.verified)) }))
                        @if let Some(own) = &leg.gateway_certificate {
                            (entry("Gateway’s certificate", html! { (days(Some(own.days_left))) ", until " (time(&own.not_after)) }))
                        }
                        @if let Some(certificate) = &leg.certificate {
                            (entry("Certificate", html! { (certificate.name) ", " (days(certificate.days_left)) }))
                            (entry("SHA-256", html! { code.digest { (certificate.sha256) } }))
                        }
                    } @else {
                        (entry("Encryption", html! { (badge("plaintext hop")) " nothing protects this leg" }))
                    }
                }
            }
        }
    }
}

/// The log's word in other words.
fn verified(word: &str) -> &str {
    match word {
        "chain" => "certificate chain and name",
        "chain_and_pin" => "certificate chain, name and pinned key",
        "not_asked" => "no certificate asked for",
        "not_shown" => "no certificate shown",
        _ => "not at all",
    }
}

fn entry(name: &str, value: Markup) -> Markup {
    html! { div { dt { (name) } dd { (value) } } }
}

/// The forms that end it.
pub(super) fn orders(id: &str, token: &str) -> Markup {
    html! {
        section aria-labelledby="orders" {
            h2 #orders { "End this session" }
            form.order method="post" action={ "/sessions/" (id) "/end" } {
                input type="hidden" name="form_token" value=(token);
                label { "Reason " input type="text" name="reason" maxlength="200" required; }
                button.danger type="submit" { "End now" }
                button type="submit" formaction={ "/sessions/" (id) "/drain" } { "Finish what is under way, then end" }
                button type="submit" formaction={ "/sessions/" (id) "/reauthorise" } { "Ask the policy again" }
            }
            p { small { "An end is an audit line with your name and the reason." } }
        }
    }
}
