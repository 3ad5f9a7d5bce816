//! Error responses: a status, a code for programs and a sentence for people.

use super::access::AccessDenied;
use axum::Extension;
use axum::http::header::{ALLOW, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::json;

/// Bytes of a request's body.
pub(super) const MAX_BODY: usize = 16 << 10;

/// Marks an answer that says what is wrong in its own words.
#[derive(Clone, Copy, Debug)]
pub(super) struct ExplainedFault;

/// An answer that is none. It is told as JSON; the guard shows it as a page to whoever asks for pages.
#[derive(Clone, Debug)]
pub(super) struct Fault {
    pub(super) status: StatusCode,
    pub(super) code: &'static str,
    pub(super) message: String,
}

impl Fault {
    pub(super) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Fault { status, code, message: message.into() }
    }

    /// The request itself is wrong.
    pub(super) fn bad_request(message: impl Into<String>) -> Self {
        Fault::new(StatusCode::BAD_REQUEST, "bad_request", message)
    }

    /// There is no session of this name.
    pub(super) fn unknown_session(id: &str) -> Self {
        let message = format!("there is no live session {id}; it may have ended");
        Fault::new(StatusCode::NOT_FOUND, "unknown_session", message)
    }

    /// The operator may look, no more.
    pub(super) fn view_only() -> Self {
        let message = "you may look and not give orders: log in as somebody with the role operate, or, at loopback without a key, come as root or \
                       the gateway's own user";
        Fault::new(StatusCode::FORBIDDEN, "view_only", message)
    }

    /// Readers could differ about what the request says.
    pub(super) fn ambiguous() -> Self {
        let fields = "Host, Origin, Authorization, Content-Type, Sec-Fetch-Site";
        Fault::bad_request(format!("a field that decides comes twice ({fields})"))
    }

    /// The request names a host that is not this one.
    pub(super) fn foreign_host() -> Self {
        let message = "the Host must be localhost, an address, or one of [admin] hosts";
        Fault::new(StatusCode::MISDIRECTED_REQUEST, "foreign_host", message)
    }

    /// Another site's page sent it.
    pub(super) fn foreign_origin() -> Self {
        let message = "this comes from a page of another site; open the live page itself";
        Fault::new(StatusCode::FORBIDDEN, "foreign_origin", message)
    }

    /// A form without the token that our pages give it.
    pub(super) fn foreign_form() -> Self {
        let message = "the form is not of this login, or too old; load the page again and repeat";
        Fault::new(StatusCode::FORBIDDEN, "foreign_form", message)
    }
}

impl Fault {
    /// What a status says for which the server's own machinery, below the handlers, has no words.
    pub(super) fn of_status(status: StatusCode) -> Option<Self> {
        let (code, message) = match status {
            StatusCode::BAD_REQUEST => ("bad_request", "the request cannot be read".to_owned()),
            StatusCode::NOT_FOUND => {
                let there = "there are /, /api, /healthz, /readyz and /metrics";
                ("not_found", format!("there is nothing at this address; {there}"))
            }
            StatusCode::METHOD_NOT_ALLOWED => (
                "method_not_allowed",
                "this address does not take that method; `Allow` names those it takes".into(),
            ),
            StatusCode::PAYLOAD_TOO_LARGE => {
                ("too_large", format!("an order has at most {} bytes", MAX_BODY))
            }
            _ => return None,
        };
        Some(Fault::new(status, code, message))
    }
}

/// The same answer in words that its reader understands: a fault as a page where pages are asked for, as JSON elsewhere.
pub(super) fn clear_answer(
    response: Response,
    as_page: impl FnOnce(&Fault) -> Response,
    wants_page: bool,
) -> Response {
    let known = response.extensions().get::<Fault>().cloned();
    let is_told = known.is_some() || response.extensions().get::<ExplainedFault>().is_some();
    let fault = match known {
        Some(fault) if wants_page => fault,
        None if !is_told => match Fault::of_status(response.status()) {
            Some(fault) => fault,
            None => return response,
        },
        _ => return response,
    };
    let mut told = if wants_page { as_page(&fault) } else { fault.into_response() };
    keep_headers(response.headers(), told.headers_mut());
    told
}

/// What says how to ask better.
fn keep_headers(from: &HeaderMap, to: &mut HeaderMap) {
    for name in [ALLOW, RETRY_AFTER, WWW_AUTHENTICATE] {
        if let Some(value) = from.get(&name) {
            to.insert(name, value.clone());
        }
    }
}

impl From<AccessDenied> for Fault {
    fn from(stranger: AccessDenied) -> Self {
        let code = match stranger {
            AccessDenied::NoProof => "no_login",
            AccessDenied::BadKey => "bad_key",
            AccessDenied::Expired => "expired_login",
            AccessDenied::BadToken => "bad_token",
            AccessDenied::NotAnOperator => "not_an_operator",
            AccessDenied::Revoked => "revoked",
            AccessDenied::NoKeys => "issuer_unavailable",
        };
        let status = match stranger {
            AccessDenied::NotAnOperator => StatusCode::FORBIDDEN,
            AccessDenied::NoKeys => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::UNAUTHORIZED,
        };
        Fault::new(status, code, stranger.to_string())
    }
}

impl IntoResponse for Fault {
    fn into_response(self) -> Response {
        let body = axum::Json(json!({ "error": { "code": self.code, "message": self.message } }));
        let status = self.status;
        let mut response = (status, Extension(ExplainedFault), Extension(self), body).into_response();
        if status == StatusCode::UNAUTHORIZED {
            let challenge = axum::http::HeaderValue::from_static(r#"Bearer realm="staunch admin""#);
            response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
        }
        response
    }
}
