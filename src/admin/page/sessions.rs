//! The list of live sessions: filter, order, pages.

use super::{badge, bytes, duration, scrolling};
use crate::admin::PageOfSessions;
use crate::admin::list::{CRYPTO, Query, Sort};
use crate::admin::view::SessionView;
use maud::{Markup, html};

/// The form that filters; its URL is the page's.
pub(super) fn controls(text: &str) -> Markup {
    let query = Query::parse(text).unwrap_or_default();
    html! {
        form.filter method="get" action="/" role="search" aria-label="Filter sessions" {
            label { "Search " input type="search" name="q" value=(query.q) placeholder="subject, route, address, id" size="24"; }
            label { "Route " input type="text" name="route" value=(query.route); }
            label {
                "Encryption "
                select name="crypto" {
                    option value="" { "any" }
                    @for (value, name) in CRYPTO {
                        option value=(value) selected[query.crypto == value] { (name) }
                    }
                }
            }
            label {
                "Sort by "
                select name="sort" {
                    @for (sort, name) in Sort::ALL { option value=(name) selected[query.sort == sort] { (name) } }
                }
            }
            label {
                "Order "
                select name="order" {
                    option value="asc" selected[!query.descending] { "ascending" }
                    option value="desc" selected[query.descending] { "descending" }
                }
            }
            button type="submit" { "Show" }
            a href="/" { "Clear" }
        }
    }
}

pub(super) fn live(page: &PageOfSessions) -> Markup {
    let query = &page.query;
    let live = page.seen.rows.len();
    html! {
        p.count { strong { (live) } " live" @if page.matching != live { ", " strong { (page.matching) } " match" } }
        @if page.rows.is_empty() {
            p { "No session to show." }
        } @else {
            (scrolling("Live sessions", html! {
                table {
                    caption.hidden { "Live sessions" }
                    thead {
                        tr {
                            th scope="col" { "Session" }
                            (column(query, Sort::Subject, "Who"))
                            (column(query, Sort::Route, "Route"))
                            (column(query, Sort::Remote, "From"))
                            th scope="col" { "Client leg" }
                            th scope="col" { "Upstream leg" }
                            (column(query, Sort::Age, "Age"))
                            (column(query, Sort::Up, "Up"))
                            (column(query, Sort::Down, "Down"))
                            (column(query, Sort::Rate, "Rate"))
                            (column(query, Sort::Requests, "Requests"))
                            th scope="col" { "Encryption" }
                        }
                    }
                    tbody { @for view in page.views() { (row(&view)) } }
                }
            }))
            (pages(query, page.matching))
        }
    }
}

fn row(view: &SessionView) -> Markup {
    let leg = |leg: &Option<crate::admin::view::LegView>| match leg {
        Some(leg) if leg.tls => {
            html! { (leg.version) br; small { (leg.group.as_deref().unwrap_or("resumed")) } }
        }
        Some(_) => html! { strong { "no TLS" } },
        None => html! { "–" },
    };
    html! {
        tr {
            th scope="row" { a href={ "/sessions/" (view.id) } { code { (view.id) } } }
            td {
                @match &view.identity {
                    Some(who) => { (who.subject) br; small { (who.issuer) } }
                    None => { "–" }
                }
            }
            td { (view.route.as_deref().unwrap_or("–")) br; small { (view.protocol.unwrap_or("")) } }
            td { (view.remote) }
            td { (leg(&view.client)) }
            td { (leg(&view.upstream)) }
            td.number { (duration(view.age_seconds)) }
            td.number { (bytes(view.up_bytes as f64)) }
            td.number { (bytes(view.down_bytes as f64)) }
            td.number { (bytes(view.up_rate + view.down_rate)) "/s" }
            td.number {
                (view.requests)
                @if view.under_way > 0 { br; small { (view.under_way) " under way" } }
            }
            td { @for name in &view.badges { (badge(name)) " " } }
        }
    }
}

/// A head that sorts by its column, and the other way round when it does already.
fn column(query: &Query, sort: Sort, name: &str) -> Markup {
    let is_sorted = query.sort == sort;
    let descending = if is_sorted { !query.descending } else { false };
    let next = Query { sort, descending, page: 1, ..query.clone() };
    let class =
        matches!(sort, Sort::Age | Sort::Up | Sort::Down | Sort::Rate | Sort::Requests).then_some("number");
    let order = is_sorted.then_some(if query.descending { "descending" } else { "ascending" });
    html! {
        th scope="col" class=[class] aria-sort=[order] {
            a href=(place(&next)) {
                (name)
                @if let Some(order) = order { span aria-hidden="true" { @if order == "ascending" { " ▲" } @else { " ▼" } } }
            }
        }
    }
}

fn pages(query: &Query, matching: usize) -> Markup {
    let all = query.pages(matching);
    let at = |page| place(&Query { page, ..query.clone() });
    html! {
        @if all > 1 {
            nav.pages aria-label="Pages of sessions" {
                @if query.page > 1 { a href=(at(query.page - 1)) rel="prev" { "Previous" } }
                span { "Page " (query.page) " of " (all) }
                @if query.page < all { a href=(at(query.page + 1)) rel="next" { "Next" } }
            }
        }
    }
}

fn place(query: &Query) -> String {
    match query.to_text() {
        text if text.is_empty() => "/".into(),
        text => format!("/?{text}"),
    }
}
