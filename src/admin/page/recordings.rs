//! Recordings: the list, one of them, and its transcript.

use super::{badge, bytes, scrolling, time};
use crate::admin::recordings::{
    Listing, PER_PAGE, RecordingDetail, RecordingQuery, RecordingView, Transcript,
};
use crate::recording::format::frame::Plane;
use maud::{Markup, html};
use serde_json::Value;

/// The form that searches; its URL is the page's.
pub(super) fn controls(text: &str) -> Markup {
    let query = RecordingQuery::parse(text).unwrap_or_default();
    html! {
        form.filter method="get" action="/recordings" role="search" aria-label="Search recordings" {
            label { "Search " input type="search" name="q" value=(query.q) placeholder="subject, route, session, state" size="28"; }
            button type="submit" { "Show" }
            a href="/recordings" { "Clear" }
        }
    }
}

pub(super) fn list(query: &RecordingQuery, listing: &Listing) -> Markup {
    let (rows, matching) = query.choose(&listing.recordings);
    let heads =
        ["Session", "Began", "Last", "Who", "Route", "Client leg", "Upstream leg", "Up", "Down", "State"];
    html! {
        (faults(&listing.faults))
        p.count { strong { (listing.recordings.len()) } " recorded, read " (listing.age().as_secs()) " s ago" @if matching != listing.recordings.len() { ", " strong { (matching) } " match" } }
        @if rows.is_empty() {
            p { "No recording to show." }
        } @else {
            (scrolling("Recordings", html! {
                table {
                    caption.hidden { "Recordings" }
                    thead { tr { @for head in heads { th scope="col" { (head) } } } }
                    tbody { @for one in rows { (row(one)) } }
                }
            }))
            (pages(query, matching))
        }
    }
}

fn row(one: &RecordingView) -> Markup {
    let word = |text: &str| if text.is_empty() { "–".to_owned() } else { text.to_owned() };
    html! {
        tr {
            th scope="row" { a href={ "/recordings/" (one.session) } { code { (one.session) } } }
            td { (time(&one.began)) }
            td { (time(&one.last)) }
            td { (word(&one.subject)) br; small { (one.issuer) } }
            td { (word(&one.route)) }
            td { (word(&one.client_version)) }
            td { (word(&one.upstream_version)) }
            td.number { (bytes(one.up_bytes as f64)) }
            td.number { (bytes(one.down_bytes as f64)) }
            td { (state(one)) }
        }
    }
}

fn state(one: &RecordingView) -> Markup {
    html! {
        (badge(one.state))
        @if one.held { " " (badge("held")) }
        @if one.lost_bytes > 0 { " " small { (bytes(one.lost_bytes as f64)) " not recorded" } }
    }
}

fn pages(query: &RecordingQuery, matching: usize) -> Markup {
    let all = matching.div_ceil(PER_PAGE);
    let at = |page: usize| {
        let mut text = form_urlencoded::Serializer::new(String::new());
        if !query.q.is_empty() {
            text.append_pair("q", &query.q);
        }
        format!("/recordings?{}", text.append_pair("page", &page.to_string()).finish())
    };
    html! {
        @if all > 1 {
            nav.pages aria-label="Pages of recordings" {
                @if query.page > 1 { a href=(at(query.page - 1)) rel="prev" { "Previous" } }
                span { "Page " (query.page) " of " (all) }
                @if query.page < all { a href=(at(query.page + 1)) rel="next" { "Next" } }
            }
        }
    }
}

fn faults(all: &[String]) -> Markup {
    html! { @for fault in all { p.fault role="alert" { (fault) } } }
}

pub(super) fn one(recording: &RecordingDetail) -> Markup {
    let view = &recording.view;
    let entry = |name: &str, value: Markup| html! { div { dt { (name) } dd { (value) } } };
    let segments: Vec<_> = view.segments.iter().map(u64::to_string).collect();
    html! {
        dl {
            (entry("State", state(view)))
            (entry("Subject", html! { (view.subject) " " small { (view.issuer) } }))
            (entry("Route", html! { (view.route) }))
            (entry("Began", time(&view.began)))
            (entry("Last", time(&view.last)))
            (entry("Client leg", html! { (view.client_version) }))
            (entry("Upstream leg", html! { (view.upstream_version) }))
            (entry("Up", html! { (bytes(view.up_bytes as f64)) }))
            (entry("Down", html! { (bytes(view.down_bytes as f64)) }))
            (entry("Segments", html! { (segments.join(", ")) }))
        }
        section aria-labelledby="facts" {
            h2 #facts { "Audit lines" }
            @for line in &recording.facts { (fact(line)) }
        }
    }
}

/// An audit line: what it is, and its fields to open.
fn fact(line: &Value) -> Markup {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let event = line["event"].as_str().unwrap_or("line");
    html! {
        details {
            summary { (event) " " small { (text(&line["time"]).trim_matches('"').replace("null", "")) } }
            dl { @for (name, value) in line.as_object().into_iter().flatten() { div { dt { (name) } dd { (text(value)) } } } }
        }
    }
}

/// The form that takes an auditor's key, for one answer.
pub(super) fn key_form(id: &str, token: &str) -> Markup {
    html! {
        section aria-labelledby="transcript-form" {
            h2 #transcript-form { "Transcript" }
            p { "What was said can be read with an auditor's key alone. The key opens this one answer and is kept nowhere: not in the gateway, not in this page." }
            form.order method="post" action={ "/recordings/" (id) "/transcript" } {
                input type="hidden" name="form_token" value=(token);
                label {
                    "Auditor's key (AGE-SECRET-KEY-1…) "
                    input type="password" name="identity" autocomplete="off" spellcheck="false" maxlength="400" required size="60";
                }
                button type="submit" { "Show what was said" }
            }
            p { small { "Showing it is an audit line with your name. " code { "staunch sessions show" } " does the same elsewhere, with the key in a file." } }
        }
    }
}

pub(super) fn transcript(transcript: &Transcript) -> Markup {
    let class = |plane: Option<Plane>| match plane {
        Some(Plane::Up) => "up",
        Some(Plane::Down) => "down",
        None => "fact",
    };
    html! {
        section aria-labelledby="transcript" {
            h2 #transcript { "What was said" }
            (faults(&transcript.faults))
            @if transcript.items.is_empty() { p { "Nothing was said." } }
            @for (plane, text) in transcript.texts() { pre class={ "said " (class(plane)) } tabindex="0" { (text) } }
            @if transcript.is_cut {
                p.fault { "There is more than a page shows: " code { "staunch sessions show" } " prints all of it." }
            }
        }
    }
}
