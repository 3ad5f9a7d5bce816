//! What a browser sends: orders by form, log-in and log-out. Each form carries a token that only our pages know.

use super::{View, fault_page, frame, markup_response, see_other};
use crate::admin::access::{AccessDenied, LOGIN_LIFETIME, Operator, cookie_name};
use crate::admin::fault::{ExplainedFault, Fault};
use crate::admin::orders::{self, RevokeRequest, SessionOrder};
use crate::admin::sealed_body::{SealedBody, form_field};
use crate::admin::{Admin, Caller, Peer, withdrawal};
use crate::audit::{self, OrderKind, OrderLine};
use crate::names::Remote;
use axum::Extension;
use axum::body::Bytes;
use axum::extract::{ConnectInfo, Path, State};
use axum::http::StatusCode;
use axum::http::header::{LOCATION, SET_COOKIE};
use axum::response::{IntoResponse, Response};
use maud::{Markup, html};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

type Fields = HashMap<String, String>;

fn fields(body: &[u8]) -> Fields {
    form_urlencoded::parse(body).into_owned().collect()
}

/// The fields of a form that came from a page of this operator's.
fn own_fields(admin: &Admin, caller: &Caller, body: &[u8]) -> Result<Fields, Fault> {
    let fields = fields(body);
    let token = fields.get("form_token").map(String::as_str).unwrap_or_default();
    match admin.access.is_form_token(&caller.operator, token) {
        true => Ok(fields),
        false => Err(Fault::foreign_form()),
    }
}

fn refused(admin: &Admin, caller: &Caller, fault: &Fault) -> Response {
    fault_page(fault, Some((&caller.operator, &admin.access.form_token(&caller.operator))))
}

pub(super) async fn order(
    State(admin): State<Arc<Admin>>,
    Path((id, order)): Path<(String, String)>,
    caller: Caller,
    body: Bytes,
) -> Response {
    let Some(order) = SessionOrder::named(&order) else { return StatusCode::NOT_FOUND.into_response() };
    let done = own_fields(&admin, &caller, &body).and_then(|fields| {
        let reason = fields.get("reason").map(String::as_str);
        orders::give(&admin, &caller.giver(), &id, order, reason)
    });
    match done {
        Err(fault) => refused(&admin, &caller, &fault),
        Ok(id) => {
            let told = match order {
                SessionOrder::End => format!("Session {id} was ended."),
                SessionOrder::Drain => {
                    format!("Session {id} finishes what is under way and takes nothing new.")
                }
                SessionOrder::Reauthorise => {
                    format!("Session {id} is authorised again: it ends where policy permits it no more.")
                }
            };
            View::Sessions(String::new()).page(&admin, &caller.operator, Some(&told)).await
        }
    }
}

/// Shows what was said in a recorded session. The key that opens it comes with the form and is dropped with its answer.
pub(super) async fn transcript(
    State(admin): State<Arc<Admin>>,
    Path(id): Path<String>,
    caller: Caller,
    SealedBody(body): SealedBody,
) -> Response {
    let shown = match admin.access.is_form_token(&caller.operator, &form_field(&body, "form_token")) {
        true => orders::transcript(&admin, &caller.giver(), &id, form_field(&body, "identity")).await,
        false => Err(Fault::foreign_form()),
    };
    match shown {
        Err(fault) => refused(&admin, &caller, &fault),
        Ok(transcript) => {
            let token = admin.access.form_token(&caller.operator);
            let body = html! {
                p { a href={ "/recordings/" (id) } { "To the recording" } }
                (super::recordings::transcript(&transcript))
            };
            let title = format!("Recording of session {id}");
            markup_response(frame(&title, "/recordings", Some((&caller.operator, &token)), &body))
        }
    }
}

pub(super) async fn revoke(State(admin): State<Arc<Admin>>, caller: Caller, body: Bytes) -> Response {
    let done = own_fields(&admin, &caller, &body).and_then(|mut fields| {
        // What is pasted has blanks around it.
        let mut take =
            |name| fields.remove(name).map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
        let asked = RevokeRequest {
            subject: take("subject"),
            token_id: take("token_id"),
            group: take("group"),
            serial: take("serial"),
            issuer: take("issuer"),
            email: take("email"),
            session_id: take("session_id"),
            reason: take("reason"),
            seconds: None,
        };
        orders::revoke(&admin, &caller.giver(), asked)
    });
    match done {
        Err(fault) => refused(&admin, &caller, &fault),
        Ok(revoked) => {
            let kept = if revoked.kept {
                ""
            } else {
                " It is not kept over a restart: [admin] revocations names no file."
            };
            let told = format!("Revoked; {} live sessions were ended.{kept}", revoked.sessions);
            View::Revocations.page(&admin, &caller.operator, Some(&told)).await
        }
    }
}

pub(super) async fn withdraw(
    State(admin): State<Arc<Admin>>,
    Path(id): Path<String>,
    caller: Caller,
    body: Bytes,
) -> Response {
    let done = own_fields(&admin, &caller, &body).and_then(|fields| {
        withdrawal::withdraw(&admin, &caller.giver(), &id, fields.get("reason").map(String::as_str))
    });
    match done {
        Err(fault) => refused(&admin, &caller, &fault),
        Ok(withdrawn) => {
            let told =
                format!("Revocation {} was taken back: whoever it kept out may come in again.", withdrawn.id);
            View::Revocations.page(&admin, &caller.operator, Some(&told)).await
        }
    }
}

pub(super) fn withdraw_form(id: &str, token: &str) -> Markup {
    html! {
        section aria-labelledby="withdraw" {
            h2 #withdraw { "Take back" }
            p { "Proofs that only this revocation covers are accepted again. Sessions that it ended stay ended." }
            form.order method="post" action={ "/revocations/" (id) "/withdraw" } {
                input type="hidden" name="form_token" value=(token);
                label { "Reason " input type="text" name="reason" maxlength="300"; }
                button.danger type="submit" { "Take back" }
            }
        }
    }
}

pub(super) fn revoke_form(token: &str) -> Markup {
    let inputs = [
        ("subject", "Subject"),
        ("issuer", "Issuer"),
        ("group", "Group"),
        ("email", "E-mail"),
        ("token_id", "Token id (jti)"),
        ("session_id", "Issuer's session (sid)"),
        ("serial", "Certificate serial"),
        ("reason", "Reason"),
    ];
    html! {
        section aria-labelledby="revoke" {
            h2 #revoke { "Revoke" }
            p { "Ends live sessions and refuses proofs that were issued before. All fields that are filled in must fit." }
            form.order method="post" action="/revoke" {
                input type="hidden" name="form_token" value=(token);
                @for (name, label) in inputs { label { (label) " " input type="text" name=(name) maxlength="300"; } }
                button.danger type="submit" { "Revoke" }
            }
        }
    }
}

/// Leads a browser to the log-in.
pub(in crate::admin) fn to_login(stranger: AccessDenied) -> Response {
    match stranger {
        AccessDenied::Expired => see_other("/login?expired"),
        _ => see_other("/login"),
    }
}

pub(super) async fn login_page(
    State(admin): State<Arc<Admin>>,
    axum::extract::RawQuery(query): axum::extract::RawQuery,
) -> Response {
    let notice = (query.as_deref() == Some("expired")).then(|| AccessDenied::Expired.to_string());
    markup_response(login(&admin, notice.as_deref()))
}

fn login(admin: &Admin, notice: Option<&str>) -> Markup {
    frame(
        "Log in",
        "",
        None,
        &html! {
            @if let Some(notice) = notice { p.fault role="alert" { (notice) } }
            @if let Some(login) = &admin.rules().oidc_login {
                p { a.button href="/login/oidc" { "Log in with " (login.issuer()) } }
            }
            @if admin.access.has_login() {
                form.order method="post" action="/login" {
                    label { "Key, or a token as `staunch token` prints it " input type="password" name="key" autocomplete="current-password" required; }
                    button type="submit" { "Log in" }
                }
            } @else {
                p { "No log-in is configured: the page is open at loopback, and nowhere else." }
                p { a href="/" { "To the sessions" } }
            }
        },
    )
}

pub(super) async fn log_in(
    State(admin): State<Arc<Admin>>,
    ConnectInfo(Peer { address: remote, .. }): ConnectInfo<Peer>,
    body: Bytes,
) -> Response {
    let fields = fields(&body);
    let proof = fields.get("key").map(|text| text.trim()).unwrap_or_default();
    let (operator, lifetime) = match admin.proven(proof, remote).await {
        Ok(proven) => proven,
        Err(stranger) => {
            admin.log_failed_login("key", remote, &stranger.to_string());
            let markup = login(&admin, Some(&stranger.to_string()));
            return (Fault::from(stranger).status, Extension(ExplainedFault), markup_response(markup))
                .into_response();
        }
    };
    let cookie = admin.begin_login(operator, remote, lifetime);
    (StatusCode::SEE_OTHER, [(LOCATION, "/".to_owned()), (SET_COOKIE, cookie)]).into_response()
}

impl Admin {
    /// Begins a login, writes its line, and returns the header that sets its cookie.
    pub(super) fn begin_login(&self, operator: Operator, remote: SocketAddr, lifetime: Duration) -> String {
        self.note_order(&line(OrderKind::Login, &operator.name, remote, Some(operator.role.name())));
        let cookie = self.access.log_in(operator, lifetime);
        cookie_line(&cookie, self.is_tls, lifetime)
    }

    /// Writes that somebody could not log in: as many lines as anybody may cause who is not permitted.
    pub(super) fn log_failed_login(&self, operator: &str, remote: SocketAddr, why: &str) {
        if audit::admit_unpermitted(Remote(remote), false) {
            audit::order(&line(OrderKind::Refused, operator, remote, Some(&format!("a log-in: {why}"))));
        }
    }

    /// Whom a key or token proves, and for how long they may be logged in.
    async fn proven(&self, proof: &str, remote: SocketAddr) -> Result<(Operator, Duration), AccessDenied> {
        if self.access.is_key(proof.as_bytes()) {
            return Ok((Operator::with_key(), LOGIN_LIFETIME));
        }
        if self.rules().tokens.is_empty() {
            return Err(AccessDenied::BadKey);
        }
        let (operator, ends) = self.token_operator(proof.as_bytes(), remote).await?;
        let left = ends.duration_since(std::time::SystemTime::now()).unwrap_or_default();
        Ok((operator, left.min(LOGIN_LIFETIME)))
    }
}

pub(super) async fn log_out(State(admin): State<Arc<Admin>>, caller: Caller, body: Bytes) -> Response {
    if let Err(fault) = own_fields(&admin, &caller, &body) {
        return refused(&admin, &caller, &fault);
    }
    admin.access.log_out(&caller.operator);
    let cookie = cookie_line("", admin.is_tls, Duration::ZERO);
    (StatusCode::SEE_OTHER, [(LOCATION, "/login".to_owned()), (SET_COOKIE, cookie)]).into_response()
}

fn cookie_line(value: &str, is_tls: bool, lifetime: Duration) -> String {
    let (secure, seconds) = (if is_tls { "; Secure" } else { "" }, lifetime.as_secs());
    let name = cookie_name(is_tls);
    format!("{name}={value}; Path=/; HttpOnly; SameSite=Strict; Max-Age={seconds}{secure}")
}

fn line<'a>(
    order: OrderKind,
    operator: &'a str,
    remote: SocketAddr,
    reason: Option<&'a str>,
) -> OrderLine<'a> {
    let (session, target, until, sessions) = (None, None, None, None);
    OrderLine { order, operator, remote: Some(remote), session, target, until, sessions, reason }
}
