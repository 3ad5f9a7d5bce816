//! The live part of a page as server-sent events, one a second: what the page's script puts in place of the old.

use super::live::MANY_SESSIONS;
use super::page::View;
use super::{Admin, Caller};
use crate::audit;
use axum::body::{Body, Bytes};
use axum::extract::{RawQuery, State};
use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use hyper::body::Frame;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::mpsc::{Receiver, channel};

/// How often the live part is sent.
const PUSH_INTERVAL: Duration = Duration::from_secs(1);

/// How long what just happened waits for what happens with it.
const SETTLING: Duration = Duration::from_millis(100);

/// The same where there are many sessions, of which nobody can read a second's changes.
const PUSH_INTERVAL_WITH_MANY: Duration = Duration::from_secs(2);

pub(super) async fn events(
    State(admin): State<Arc<Admin>>,
    caller: Caller,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Response {
    let wanted = form_urlencoded::parse(query.as_deref().unwrap_or_default().as_bytes())
        .find_map(|(name, value)| (name == "view").then(|| value.into_owned()));
    let Some(view) = wanted.as_deref().and_then(View::of).filter(View::is_live) else {
        return super::Fault::bad_request("view is the path of a page that changes").into_response();
    };
    let (sender, receiver) = channel(1);
    tokio::spawn(async move {
        loop {
            // A login that ends ends what it looks at.
            let Ok(operator) = admin.operator(&headers, &caller.peer).await else { return };
            let markup = view.live(&admin, &operator).await.into_string();
            let text = serde_json::to_string(&markup).expect("a text is JSON");
            if sender.send(Bytes::from(format!("data: {text}\n\n"))).await.is_err() {
                return;
            }
            let many = admin.state.registry().len() > MANY_SESSIONS;
            let pause = tokio::time::sleep(if many { PUSH_INTERVAL_WITH_MANY } else { PUSH_INTERVAL });
            tokio::select! {
                () = pause => {}
                // A request or statement is shown as it comes, and a burst of them at once.
                () = audit::next_watched_line(), if view.has_activity() => tokio::time::sleep(SETTLING).await,
            }
        }
    });
    ([(CONTENT_TYPE, "text/event-stream")], Body::new(Events(receiver))).into_response()
}

/// A body that streams for as long as the client reads.
struct Events(Receiver<Bytes>);

impl hyper::body::Body for Events {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(cx).map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
    }
}
