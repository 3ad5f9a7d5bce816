//! The JSON twins of the pages, and orders. Paths and fields are a contract: fields may be added.

use super::fault::Fault;
use super::live::refresh_counts;
use super::orders::{self, OrderSource, RevokeRequest, SessionOrder};
use super::recordings::{PER_PAGE, RecordingQuery};
use super::sealed_body::SealedBody;
use super::tables;
use super::view::{OwnCertificateView, SessionView, days_left};
use super::withdrawal;
use super::{Admin, Caller};
use crate::audit::{self, rfc3339};
use axum::Json;
use axum::extract::{Path, RawQuery, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::SystemTime;
use zeroize::Zeroizing;

type Answer = Result<Json<Value>, Fault>;

/// What there is.
pub(super) async fn index() -> Json<Value> {
    Json(json!({
        "get": [
            "/api/sessions", "/api/sessions/{id}", "/api/sessions/{id}/activity", "/api/refusals", "/api/routes", "/api/certificates",
            "/api/revocations", "/api/revocations/{id}", "/api/recordings", "/api/recordings/{id}", "/api/metrics-summary"
        ],
        "post": ["/api/sessions/{id}/end", "/api/sessions/{id}/drain", "/api/sessions/{id}/reauthorise", "/api/revoke",
            "/api/recordings/{id}/transcript", "/api/events/caep"
        ],
        "delete": ["/api/revocations/{id}"],
    }))
}

pub(super) async fn sessions(State(admin): State<Arc<Admin>>, RawQuery(text): RawQuery) -> Answer {
    let page = admin.page_of_sessions(text.as_deref().unwrap_or_default()).await?;
    Ok(Json(json!({
        "at": rfc3339(page.seen.wall),
        "age_seconds": page.seen.age().as_secs_f64(),
        "live": page.seen.rows.len(),
        "matching": page.matching,
        "page": page.query.page,
        "pages": page.query.pages(page.matching),
        "sessions": page.views(),
    })))
}

pub(super) async fn session(State(admin): State<Arc<Admin>>, Path(id): Path<String>) -> Answer {
    Ok(Json(json!(admin.one_session(&id).await?)))
}

pub(super) async fn refusals() -> Json<Value> {
    Json(json!({ "refusals": tables::refusals() }))
}

pub(super) async fn routes(State(admin): State<Arc<Admin>>) -> Json<Value> {
    Json(json!({ "routes": tables::routes(&admin, &*admin.seen().await) }))
}

pub(super) async fn certificates(State(admin): State<Arc<Admin>>) -> Json<Value> {
    Json(json!({ "certificates": tables::certificates(&admin, &*admin.seen().await) }))
}

pub(super) async fn revocations(State(admin): State<Arc<Admin>>) -> Json<Value> {
    Json(json!({ "revocations": tables::revocations(&admin) }))
}

pub(super) async fn revocation(State(admin): State<Arc<Admin>>, Path(id): Path<String>) -> Answer {
    Ok(Json(json!(tables::revocation(withdrawal::standing(&admin, &id)?))))
}

/// Takes a revocation back. A body is not needed; one may say why.
pub(super) async fn withdraw(
    State(admin): State<Arc<Admin>>,
    Path(id): Path<String>,
    caller: Caller,
    headers: HeaderMap,
    body: axum::body::Bytes,
) -> Answer {
    let body = if body.is_empty() { json!({}) } else { json_object(&headers, &body)? };
    Ok(Json(json!(withdrawal::withdraw(&admin, &caller.giver(), &id, reason(&body)?)?)))
}

pub(super) async fn recordings(State(admin): State<Arc<Admin>>, RawQuery(text): RawQuery) -> Answer {
    let query = RecordingQuery::parse(text.as_deref().unwrap_or_default())?;
    let listing = admin.recordings().await?;
    let (rows, matching) = query.choose(&listing.recordings);
    Ok(Json(json!({
        "recorded": listing.recordings.len(),
        "matching": matching,
        "page": query.page,
        "pages": matching.div_ceil(PER_PAGE).max(1),
        "recordings": rows,
        "faults": listing.faults,
    })))
}

pub(super) async fn recording(State(admin): State<Arc<Admin>>, Path(id): Path<String>) -> Answer {
    Ok(Json(json!(admin.recording(&id).await?)))
}

/// What was said in a recorded session, opened with the auditor's key in the body.
pub(super) async fn transcript(
    State(admin): State<Arc<Admin>>,
    Path(id): Path<String>,
    caller: Caller,
    headers: HeaderMap,
    SealedBody(body): SealedBody,
) -> Answer {
    must_be_json(&headers)?;
    let identity = match serde_json::from_slice::<TranscriptRequest>(&body) {
        Ok(TranscriptRequest { identity }) => Zeroizing::new(identity),
        Err(_) => return Err(Fault::bad_request("identity is a text: the auditor's key, AGE-SECRET-KEY-1…")),
    };
    let transcript = orders::transcript(&admin, &caller.giver(), &id, identity).await?;
    let items: Vec<_> = transcript.items.iter().map(crate::evidence::transcript::Item::to_json).collect();
    Ok(Json(json!({ "session": id, "items": items, "cut": transcript.is_cut, "faults": transcript.faults })))
}

pub(super) async fn metrics_summary(State(admin): State<Arc<Admin>>) -> Json<Value> {
    let seen = admin.seen().await;
    let totals = crate::metrics::totals(admin.state.workers());
    let live = |bytes: fn(&super::live::Row) -> u64| seen.rows.iter().map(bytes).sum::<u64>();
    Json(json!({
        "at": rfc3339(SystemTime::now()),
        "totals": totals,
        "live": { "up_bytes": live(|row| row.snapshot.up), "down_bytes": live(|row| row.snapshot.down) },
        "points": admin.live.points(),
    }))
}

pub(super) async fn order(
    State(admin): State<Arc<Admin>>,
    Path((id, order)): Path<(String, String)>,
    caller: Caller,
    headers: HeaderMap,
    body: axum::body::Bytes,
) -> Answer {
    let order = SessionOrder::named(&order).ok_or_else(|| Fault::bad_request("there is no such order"))?;
    let body = json_object(&headers, &body)?;
    let id = orders::give(&admin, &caller.giver(), &id, order, reason(&body)?)?;
    Ok(Json(json!({ "session": id.to_string(), "order": order.name() })))
}

/// Requests and statements of a session that ended since it is watched, which asking begins.
pub(super) async fn activity(
    State(admin): State<Arc<Admin>>,
    Path(id): Path<String>,
    caller: Caller,
) -> Answer {
    caller.giver().must_operate()?;
    admin.one_session(&id).await?;
    Ok(Json(json!({ "activity": audit::watch(orders::session_id(&id)?) })))
}

pub(super) async fn revoke(
    State(admin): State<Arc<Admin>>,
    caller: Caller,
    headers: HeaderMap,
    body: axum::body::Bytes,
) -> Answer {
    let object = json_object(&headers, &body)?;
    // From the text and not from the object, which holds the last of two names: one that is written twice is refused.
    let asked: RevokeRequest = match object.as_object().is_some_and(serde_json::Map::is_empty) {
        true => RevokeRequest::default(),
        false => serde_json::from_slice(&body).map_err(|error| Fault::bad_request(error.to_string()))?,
    };
    Ok(Json(json!(orders::revoke(&admin, &caller.giver(), asked)?)))
}

/// Why something is ordered, if that is said.
fn reason(body: &Value) -> Result<Option<&str>, Fault> {
    match body.get("reason") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(reason)) => Ok(Some(reason)),
        Some(_) => Err(Fault::bad_request("reason is a text")),
    }
}

/// An order's body. No page of another site can send this content type without asking first, which is refused; whoever
/// has a key in a header is no browser that somebody lures.
fn json_object(headers: &HeaderMap, body: &[u8]) -> Result<Value, Fault> {
    must_be_json(headers)?;
    if body.trim_ascii().is_empty() {
        return Ok(json!({}));
    }
    match serde_json::from_slice(body) {
        Ok(object @ Value::Object(_)) => Ok(object),
        Ok(_) => Err(Fault::bad_request("the body is a JSON object")),
        Err(error) => Err(Fault::bad_request(format!("the body is no JSON: {error}"))),
    }
}

fn must_be_json(headers: &HeaderMap) -> Result<(), Fault> {
    let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    if !kind.eq_ignore_ascii_case("application/json") {
        let message = "send the order as JSON with 'Content-Type: application/json'";
        return Err(Fault::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "not_json", message));
    }
    Ok(())
}

/// An auditor's key, alone.
#[derive(Deserialize)]
struct TranscriptRequest {
    identity: String,
}

/// Who gives the order, as orders take it.
impl Caller {
    pub(super) fn giver(&self) -> OrderSource<'_> {
        OrderSource { operator: &self.operator, remote: self.peer.address }
    }
}

impl Admin {
    /// One session, up to date.
    pub(super) async fn one_session(&self, id: &str) -> Result<SessionView, Fault> {
        let wanted = orders::session_id(id)?;
        let unknown = || Fault::unknown_session(id);
        let snapshot = self.state.registry().find(wanted).ok_or_else(unknown)?;
        let mut rows = vec![self.live.row(snapshot)];
        refresh_counts(&mut rows).await;
        let row = rows.first().ok_or_else(unknown)?;
        let now = SystemTime::now();
        let mut view = SessionView::new(row, now);
        let route = row.snapshot.facts.route.as_ref();
        let own = route.and_then(|route| {
            let all = self.state.certificates();
            all.into_iter().find(|(name, _)| *name == route.name).map(|(_, end)| end)
        });
        if let (Some(client), Some(end)) = (&mut view.client, own) {
            client.gateway_certificate =
                Some(OwnCertificateView { not_after: rfc3339(end), days_left: days_left(end, now) });
        }
        Ok(view)
    }
}
