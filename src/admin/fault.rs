//! What is answered to somebody who asks in vain: a status, a code for programs and a sentence for people.

use super::access::Stranger;
use axum::Extension;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;

/// Marks an answer that says what is wrong in its own words.
#[derive(Clone, Copy, Debug)]
pub(super) struct Told;

/// An answer that is none.
#[derive(Debug)]
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

impl From<Stranger> for Fault {
    fn from(stranger: Stranger) -> Self {
        let code = match stranger {
            Stranger::NoProof => "no_login",
            Stranger::BadKey => "bad_key",
            Stranger::Expired => "expired_login",
            Stranger::BadToken => "bad_token",
            Stranger::NotAnOperator => "not_an_operator",
            Stranger::Revoked => "revoked",
            Stranger::NoKeys => "issuer_unavailable",
        };
        let status = match stranger {
            Stranger::NotAnOperator => StatusCode::FORBIDDEN,
            Stranger::NoKeys => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::UNAUTHORIZED,
        };
        Fault::new(status, code, stranger.to_string())
    }
}

impl IntoResponse for Fault {
    fn into_response(self) -> Response {
        let body = axum::Json(json!({ "error": { "code": self.code, "message": self.message } }));
        let mut response = (self.status, Extension(Told), body).into_response();
        if self.status == StatusCode::UNAUTHORIZED {
            let challenge = axum::http::HeaderValue::from_static(r#"Bearer realm="staunch admin""#);
            response.headers_mut().insert(axum::http::header::WWW_AUTHENTICATE, challenge);
        }
        response
    }
}
