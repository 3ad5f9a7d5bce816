//! Operators who log in at their issuer: the browser is sent there, and comes back with a code.

use super::{frame, markup_response, told};
use crate::admin::access::{LOGIN_LIFETIME, cookie};
use crate::admin::fault::{ExplainedFault, Fault};
use crate::admin::oidc_login::{ATTEMPT_COOKIE, ATTEMPT_LIFETIME, AttemptFault};
use crate::admin::{Admin, Peer};
use axum::Extension;
use axum::extract::{ConnectInfo, RawQuery, State};
use axum::http::header::{LOCATION, SET_COOKIE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{AppendHeaders, IntoResponse, Response};
use maud::html;
use std::sync::Arc;
use std::time::SystemTime;

/// Sends a browser to the issuer.
pub(super) async fn begin(State(admin): State<Arc<Admin>>) -> Response {
    let rules = admin.rules();
    let Some(login) = &rules.oidc_login else { return StatusCode::NOT_FOUND.into_response() };
    match login.begin(&admin.state.gateway().issuers, &admin.access).await {
        Ok((cookie, place)) => {
            let cookie = attempt_cookie(&cookie, ATTEMPT_LIFETIME.as_secs());
            (StatusCode::SEE_OTHER, [(LOCATION, place), (SET_COOKIE, cookie)]).into_response()
        }
        Err(fault) => failed(&fault),
    }
}

/// Takes what a browser brings back from the issuer.
pub(super) async fn callback(
    State(admin): State<Arc<Admin>>,
    ConnectInfo(Peer { address: remote, .. }): ConnectInfo<Peer>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Response {
    let rules = admin.rules();
    let Some(login) = &rules.oidc_login else { return StatusCode::NOT_FOUND.into_response() };
    let attempt = cookie(&headers, ATTEMPT_COOKIE).unwrap_or_default();
    let gateway = admin.state.gateway();
    let issuers = &gateway.issuers;
    let identity = login.finish(issuers, &admin.access, attempt, query.as_deref().unwrap_or_default()).await;
    let judged = identity.and_then(|identity| {
        let honest = admin.check_honey_identity(&gateway, &identity, remote);
        honest.map_err(AttemptFault::AccessDenied)?;
        let revocations = admin.state.registry().revocations();
        rules.tokens.judge(revocations, &Arc::new(identity)).map_err(AttemptFault::AccessDenied)
    });
    let (operator, ends) = match judged {
        Ok(judged) => judged,
        Err(fault) => {
            admin.log_failed_login(&format!("issuer:{}", login.issuer()), remote, &fault.to_string());
            return failed(&fault);
        }
    };
    let left = ends.duration_since(SystemTime::now()).unwrap_or_default().min(LOGIN_LIFETIME);
    let name = operator.name.clone();
    let cookie = admin.begin_login(operator, remote, left);
    // A browser sends a cookie that is SameSite=Strict with no redirect that began at another site: this page leads on.
    let page = html! {
        meta http-equiv="refresh" content="0;url=/";
        p { "Logged in as " (name) ". " a href="/" { "To the sessions" } }
    };
    let cookies = AppendHeaders([(SET_COOKIE, cookie), (SET_COOKIE, attempt_cookie("", 0))]);
    (cookies, markup_response(frame("Logged in", "", None, &page))).into_response()
}

fn failed(fault: &AttemptFault) -> Response {
    let status = match fault {
        AttemptFault::Login(_) => StatusCode::BAD_GATEWAY,
        AttemptFault::AccessDenied(stranger) => Fault::from(*stranger).status,
        AttemptFault::Stale | AttemptFault::Refused(_) => StatusCode::BAD_REQUEST,
    };
    let fault = Fault::new(status, "no_login", fault.to_string());
    let page = html! { (told(&fault)) p { a href="/login" { "Back to the log-in" } } };
    let cookie = AppendHeaders([(SET_COOKIE, attempt_cookie("", 0))]);
    (status, cookie, Extension(ExplainedFault), markup_response(frame("Log in", "", None, &page)))
        .into_response()
}

/// Lax, since the issuer's redirect must bring it back.
fn attempt_cookie(value: &str, seconds: u64) -> String {
    format!("{ATTEMPT_COOKIE}={value}; Path=/; HttpOnly; SameSite=Lax; Secure; Max-Age={seconds}")
}
