//! The live page: HTML that is whole without a script. The script only puts newer live parts in place of the old.

mod forms;
mod oidc;
mod plot;
mod recordings;
mod session;
mod sessions;
mod tables;

use super::access::{Operator, Role};
use super::fault::{ExplainedFault, Fault};
use super::orders::session_id;
use super::recordings::RecordingQuery;
use super::withdrawal::standing;
use super::{Admin, Caller};
use crate::audit;
use axum::Extension;
use axum::Router;
use axum::extract::{Path, State};
use axum::http::header::{CONTENT_TYPE, LOCATION};
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use maud::{DOCTYPE, Markup, PreEscaped, html};
use std::sync::Arc;

pub(super) use forms::to_login;

/// One of the pages; each has a URL of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum View {
    /// With its query.
    Sessions(String),
    /// By its id.
    Session(String),
    Refusals,
    Routes,
    Certificates,
    Revocations,
    /// By its id.
    Revocation(String),
    Traffic,
    /// With their query.
    Recordings(String),
    /// By its session's id.
    Recording(String),
}

/// The pages that the navigation leads to.
const PAGES: [(&str, &str); 7] = [
    ("/", "Sessions"),
    ("/refusals", "Refusals"),
    ("/routes", "Routes"),
    ("/certificates", "Certificates"),
    ("/revocations", "Revocations"),
    ("/recordings", "Recordings"),
    ("/traffic", "Traffic"),
];

/// Pages for those who were let in.
pub(super) fn router() -> Router<Arc<Admin>> {
    Router::new()
        .route("/", get(page))
        .route("/sessions/{id}", get(page))
        .route("/refusals", get(page))
        .route("/routes", get(page))
        .route("/certificates", get(page))
        .route("/revocations", get(page))
        .route("/revocations/{id}", get(page))
        .route("/revocations/{id}/withdraw", post(forms::withdraw))
        .route("/traffic", get(page))
        .route("/recordings", get(page))
        .route("/recordings/{id}", get(page))
        .route("/recordings/{id}/transcript", post(forms::transcript))
        .route("/sessions/{id}/{order}", post(forms::order))
        .route("/revoke", post(forms::revoke))
        .route("/logout", post(forms::log_out))
}

/// Assets and pages that need no login.
pub(super) fn open_router() -> Router<Arc<Admin>> {
    Router::new()
        .route("/login", get(forms::login_page).post(forms::log_in))
        .route("/login/oidc", get(oidc::begin))
        .route("/login/callback", get(oidc::callback))
        .route("/assets/{name}", get(asset))
        // Browsers ask for one by themselves.
        .route("/favicon.ico", get(async || StatusCode::NO_CONTENT))
}

async fn asset(Path(name): Path<String>) -> Response {
    let (kind, text) = match name.as_str() {
        "page.css" => ("text/css; charset=utf-8", include_str!("../assets/page.css")),
        "page.js" => ("text/javascript; charset=utf-8", include_str!("../assets/page.js")),
        _ => return StatusCode::NOT_FOUND.into_response(),
    };
    ([(CONTENT_TYPE, kind)], text).into_response()
}

async fn page(State(admin): State<Arc<Admin>>, caller: Caller, uri: Uri) -> Response {
    let place = uri.path_and_query().map_or("/", |whole| whole.as_str());
    match View::of(place) {
        Some(view) => view.page(&admin, &caller.operator, None).await.into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

impl View {
    /// The page of a path and its query.
    pub(super) fn of(place: &str) -> Option<View> {
        let (path, query) = place.split_once('?').unwrap_or((place, ""));
        Some(match path {
            "/" => View::Sessions(query.to_owned()),
            "/refusals" => View::Refusals,
            "/routes" => View::Routes,
            "/certificates" => View::Certificates,
            "/revocations" => View::Revocations,
            _ if path.starts_with("/revocations/") => View::Revocation(
                path.strip_prefix("/revocations/").filter(|id| !id.contains('/'))?.to_owned(),
            ),
            "/traffic" => View::Traffic,
            "/recordings" => View::Recordings(query.to_owned()),
            _ if path.starts_with("/recordings/") => {
                View::Recording(path.strip_prefix("/recordings/").filter(|id| !id.contains('/'))?.to_owned())
            }
            _ => View::Session(path.strip_prefix("/sessions/").filter(|id| !id.contains('/'))?.to_owned()),
        })
    }

    /// Whether it changes while somebody looks. What was recorded does not.
    pub(super) fn is_live(&self) -> bool {
        !matches!(self, View::Recordings(_) | View::Recording(_))
    }

    /// Whether it shows requests and statements as they come.
    pub(super) fn has_activity(&self) -> bool {
        matches!(self, View::Session(_))
    }

    fn title(&self) -> String {
        match self {
            View::Sessions(_) => "Sessions".into(),
            View::Session(id) => format!("Session {id}"),
            View::Refusals => "Refusals".into(),
            View::Routes => "Routes and upstreams".into(),
            View::Certificates => "Certificates".into(),
            View::Revocations => "Revocations".into(),
            View::Revocation(id) => format!("Revocation {id}"),
            View::Traffic => "Traffic".into(),
            View::Recordings(_) => "Recordings".into(),
            View::Recording(id) => format!("Recording of session {id}"),
        }
    }

    /// The part that changes.
    pub(super) async fn live(&self, admin: &Admin, operator: &Operator) -> Markup {
        self.try_live(admin, operator).await.unwrap_or_else(|fault| told(&fault))
    }

    async fn try_live(&self, admin: &Admin, operator: &Operator) -> Result<Markup, Fault> {
        Ok(match self {
            View::Sessions(query) => sessions::live(&admin.page_of_sessions(query).await?),
            View::Session(id) => {
                let view = admin.one_session(id).await?;
                let watched = operator.role == Role::Operate;
                let activity = if watched { Some(audit::watch(session_id(id)?)) } else { None };
                session::live(&view, activity.as_deref())
            }
            View::Refusals => tables::refusals(&super::tables::refusals()),
            View::Routes => tables::routes(&super::tables::routes(admin, &*admin.seen().await)),
            View::Certificates => {
                tables::certificates(&super::tables::certificates(admin, &*admin.seen().await))
            }
            View::Revocations => tables::revocations(&super::tables::revocations(admin)),
            View::Revocation(id) => tables::revocations(&[super::tables::revocation(standing(admin, id)?)]),
            View::Recordings(query) => {
                let query = RecordingQuery::parse(query)?;
                match admin.recordings().await {
                    // The page is there, as the navigation says.
                    Err(fault) if fault.status == StatusCode::NOT_FOUND => {
                        html! { p { (fault.message) "." } }
                    }
                    listing => recordings::list(&query, &*listing?),
                }
            }
            View::Recording(id) => recordings::one(&admin.recording(id).await?),
            View::Traffic => {
                let seen = admin.seen().await;
                let totals = crate::metrics::totals(admin.state.workers());
                plot::traffic(&admin.live.points(), &totals, seen.rows.len())
            }
        })
    }

    /// The whole page. `notice`: what came of a form.
    pub(super) async fn page(&self, admin: &Admin, operator: &Operator, notice: Option<&str>) -> Response {
        let live = self.try_live(admin, operator).await;
        let status = live.as_ref().err().map_or(StatusCode::OK, |fault| fault.status);
        let operates = operator.role == Role::Operate;
        let token = admin.access.form_token(operator);
        let before = match self {
            View::Sessions(query) => sessions::controls(query),
            View::Recordings(query) => recordings::controls(query),
            _ => html! {},
        };
        let after = match (self, &live) {
            (View::Session(id), Ok(_)) if operates => session::orders(id, &token),
            (View::Recording(id), Ok(_)) => recordings::key_form(id, &token),
            (View::Revocation(id), Ok(_)) if operates => forms::withdraw_form(id, &token),
            (View::Revocations, _) if operates => forms::revoke_form(&token),
            _ => html! {},
        };
        let body = html! {
            @if let Some(notice) = notice { p.notice role="status" { (notice) } }
            (before)
            @if self.is_live() { p.state #state data-live="1" {
                span #age { "as of this page's loading" }
                noscript { " · without JavaScript, reload for newer figures" }
                button #pause type="button" hidden { "Pause" }
                // What changes seldom is said aloud; the figures of each second are not.
                span #said .hidden role="status" {}
            } }
            div #live { (live.unwrap_or_else(|fault| told(&fault))) }
            (after)
        };
        let markup = frame(&self.title(), self.place(), Some((operator, &token)), &body);
        (status, Extension(ExplainedFault), markup_response(markup)).into_response()
    }

    /// The entry of the navigation under which it stands.
    fn place(&self) -> &'static str {
        match self {
            View::Sessions(_) | View::Session(_) => "/",
            View::Refusals => "/refusals",
            View::Routes => "/routes",
            View::Certificates => "/certificates",
            View::Revocations | View::Revocation(_) => "/revocations",
            View::Traffic => "/traffic",
            View::Recordings(_) | View::Recording(_) => "/recordings",
        }
    }
}

/// A page around its body.
fn frame(title: &str, place: &str, operator: Option<(&Operator, &str)>, body: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) " – Staunch" }
                link rel="stylesheet" href="/assets/page.css";
                script src="/assets/page.js" defer {}
            }
            body {
                a.skip href="#main" { "Skip to the content" }
                header {
                    a.brand href="/" { "Staunch" }
                    @if let Some((operator, token)) = operator {
                        nav aria-label="Pages" {
                            ul {
                                @for (path, name) in PAGES {
                                    li {
                                        a href=(path) aria-current=[(path == place).then_some("page")] { (name) }
                                    }
                                }
                            }
                        }
                        div.operator {
                            span { (operator.name) " · " (operator.role.name()) }
                            @if operator.login.is_some() {
                                form method="post" action="/logout" {
                                    input type="hidden" name="form_token" value=(token);
                                    button type="submit" { "Log out" }
                                }
                            }
                        }
                    }
                }
                main #main tabindex="-1" {
                    h1 { (title) }
                    (body)
                }
            }
        }
    }
}

fn markup_response(markup: Markup) -> Response {
    ([(CONTENT_TYPE, "text/html; charset=utf-8")], markup.into_string()).into_response()
}

/// Leads a browser on.
fn see_other(place: &str) -> Response {
    (StatusCode::SEE_OTHER, [(LOCATION, place.to_owned())]).into_response()
}

/// An error as a page's content.
fn told(fault: &Fault) -> Markup {
    html! { p.fault role="alert" { (fault.message) } }
}

/// The page of a fault.
pub(super) fn fault_page(fault: &Fault, operator: Option<(&Operator, &str)>) -> Response {
    let markup = frame("This did not work", "", operator, &told(fault));
    (fault.status, Extension(ExplainedFault), markup_response(markup)).into_response()
}

/// A badge, whose colour and words both tell.
fn badge(name: &str) -> Markup {
    let class = match name {
        "TLS 1.3" => "good",
        "post-quantum" => "best",
        "TLS 1.2" => "fair",
        "plaintext hop" | "gaps" | "erased" | "unreachable" => "bad",
        "complete" | "reached" => "good",
        "unfinished" | "held" => "fair",
        _ => "plain",
    };
    html! { span class={ "badge " (class) } { (name) } }
}

/// Bytes as people read them.
fn bytes(n: f64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let (mut n, mut unit) = (n, 0);
    while n >= 1024.0 && unit + 1 < units.len() {
        n /= 1024.0;
        unit += 1;
    }
    if unit == 0 || n >= 100.0 {
        format!("{n:.0} {}", units[unit])
    } else {
        format!("{n:.1} {}", units[unit])
    }
}

/// A duration as people read it.
fn duration(seconds: f64) -> String {
    let whole = seconds as u64;
    match whole {
        0..60 => format!("{whole} s"),
        60..3_600 => format!("{} min {} s", whole / 60, whole % 60),
        3_600..86_400 => format!("{} h {} min", whole / 3_600, whole % 3_600 / 60),
        _ => format!("{} d {} h", whole / 86_400, whole % 86_400 / 3_600),
    }
}

/// A short time as people read it.
fn seconds(value: f64) -> String {
    if value < 1.0 { format!("{} ms", value * 1_000.0) } else { format!("{value} s") }
}

/// A time without its microseconds.
fn time(rfc3339: &str) -> Markup {
    let short = rfc3339.split('.').next().unwrap_or_default().replace('T', " ");
    html! { time datetime=(rfc3339) { (short) (PreEscaped("&nbsp;UTC")) } }
}

/// Days that are left, with a word where they are few.
fn days(left: Option<i64>) -> Markup {
    match left {
        Some(left) if left < 0 => html! { span.badge.bad { "ended" } },
        Some(left) if left < 7 => html! { span.badge.bad { (left) " days" } },
        Some(left) if left < 30 => html! { span.badge.fair { (left) " days" } },
        Some(left) => html! { (left) " days" },
        None => html! { "–" },
    }
}

/// A table that scrolls within the page, reachable by keyboard.
fn scrolling(label: &str, table: Markup) -> Markup {
    html! { div.scroll tabindex="0" role="region" aria-label=(label) { (table) } }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_lead_to_pages() {
        assert_eq!(View::of("/?q=a"), Some(View::Sessions("q=a".into())));
        assert_eq!(View::of("/sessions/00ff"), Some(View::Session("00ff".into())));
        assert_eq!(View::of("/recordings/00ff"), Some(View::Recording("00ff".into())));
        for unknown in ["/nothing", "/sessions/a/b", "/recordings/a/transcript", "", "/events"] {
            assert_eq!(View::of(unknown), None, "{unknown}");
        }
    }

    #[test]
    fn figures_read_well() {
        assert_eq!(
            [bytes(0.0), bytes(1_023.0), bytes(1_536.0), bytes(300e6)],
            ["0 B", "1023 B", "1.5 KiB", "286 MiB"]
        );
        assert_eq!(
            [duration(5.4), duration(61.0), duration(7_260.0), duration(90_000.0)],
            ["5 s", "1 min 1 s", "2 h 1 min", "1 d 1 h"]
        );
    }

    #[test]
    fn what_others_chose_is_text_on_a_page() {
        let markup = told(&Fault::bad_request("<script>alert(1)</script>")).into_string();
        assert!(!markup.contains("<script>") && markup.contains("&lt;script&gt;"), "{markup}");
    }
}
