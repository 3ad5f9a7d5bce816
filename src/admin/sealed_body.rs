//! The body of a request that holds a key: gathered in memory that is wiped, and wiped where it came in as far as it is ours.
//!
//! What the HTTP server read it into is its own; that is overwritten by what the connection reads next, and never paged out
//! to a core file (the process leaves none).

use super::fault::{Fault, MAX_BODY};
use axum::body::Body;
use axum::extract::{FromRequest, Request};
use axum::http::StatusCode;
use bytes::Bytes;
use http_body_util::BodyExt;
use zeroize::{Zeroize, Zeroizing};

/// The whole body.
pub(super) struct SealedBody(pub(super) Zeroizing<Vec<u8>>);

impl<S: Sync> FromRequest<S> for SealedBody {
    type Rejection = Fault;

    async fn from_request(request: Request, _: &S) -> Result<Self, Fault> {
        gather(request.into_body()).await.map(SealedBody)
    }
}

async fn gather(mut body: Body) -> Result<Zeroizing<Vec<u8>>, Fault> {
    // Never grown, which would leave a copy behind.
    let mut whole = Zeroizing::new(Vec::with_capacity(MAX_BODY));
    while let Some(frame) = body.frame().await {
        let broken = |_| Fault::bad_request("the body broke off");
        let Ok(part) = frame.map_err(broken)?.into_data() else { continue };
        let fits = part.len() <= MAX_BODY - whole.len();
        if fits {
            whole.extend_from_slice(&part);
        }
        wipe(part);
        if !fits {
            return Err(Fault::of_status(StatusCode::PAYLOAD_TOO_LARGE)
                .unwrap_or_else(|| Fault::bad_request("the body is too large")));
        }
    }
    Ok(whole)
}

/// Wipes bytes that nobody else holds.
fn wipe(bytes: Bytes) {
    if let Ok(mut bytes) = bytes.try_into_mut() {
        bytes.zeroize();
    }
}

/// The value of a field of a form, without another copy of the rest.
pub(super) fn form_field(body: &[u8], name: &str) -> Zeroizing<String> {
    let mut found = Zeroizing::new(String::new());
    for (field, value) in form_urlencoded::parse(body) {
        let value = Zeroizing::new(value.into_owned());
        if field == name {
            found = value;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::body::Frame;
    use std::collections::VecDeque;
    use std::convert::Infallible;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    /// A body that comes in parts.
    struct Parts(VecDeque<Bytes>);

    impl hyper::body::Body for Parts {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            Poll::Ready(self.0.pop_front().map(|part| Ok(Frame::data(part))))
        }
    }

    #[tokio::test]
    async fn a_body_is_gathered_whole_and_never_beyond_the_limit() {
        let parts = |sizes: &[usize]| {
            Body::new(Parts(sizes.iter().map(|size| Bytes::from(vec![b'x'; *size])).collect()))
        };
        assert!(gather(Body::empty()).await.unwrap().is_empty());
        assert_eq!(gather(parts(&[1, MAX_BODY - 1])).await.unwrap().len(), MAX_BODY);
        for sizes in [&[MAX_BODY + 1][..], &[MAX_BODY, 1]] {
            assert_eq!(gather(parts(sizes)).await.unwrap_err().status, StatusCode::PAYLOAD_TOO_LARGE);
        }
    }

    #[test]
    fn a_field_of_a_form_is_decoded() {
        let body = b"form_token=a%2Bb&identity=AGE-SECRET-KEY-1+X&other=";
        assert_eq!(&*form_field(body, "identity"), "AGE-SECRET-KEY-1 X");
        assert_eq!(&*form_field(body, "none"), "");
    }
}
