//! This gateway as a witness of other gateways' logs: `add-checkpoint` and `<origin hash>/checkpoint` of c2sp.org/tlog-witness, on
//! a listener of its own.
//!
//! Nobody logs in: who may have a checkpoint cosigned is decided by its signature.

use super::start_fault::{StartFault, system};
use crate::metrics::WitnessFacts;
use crate::net::bounded::{BoundedListener, Bounds};
use crate::net::tls_listener::TlsListener;
use crate::recording::clock::system as system_clock;
use crate::recording::log::witness::Refusal;
use crate::recording::witness::client::WitnessStatus;
use crate::recording::witness::memory::{MemoryFault, ServedWitness, WitnessMemory};
use crate::worker::listen_fault;
use axum::Router;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use rustls::ServerConfig;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

/// A few logs, each with a request every few seconds.
const BOUNDS: Bounds =
    Bounds { connections: 64, head: Duration::from_secs(5), silence: Duration::from_secs(10) };
/// Bytes of a request: a checkpoint has hundreds, a proof 63 lines of 45.
const MAX_BODY: usize = 64 * 1024;

/// A witness that is being served.
pub(super) struct Serving {
    settings: ServedWitness,
    memory: Arc<WitnessMemory>,
}

impl Serving {
    /// Opens the memory, listens and serves.
    pub(super) fn start(settings: ServedWitness) -> Result<Self, StartFault> {
        let ServedWitness { address, directory, name, tls, logs } = &settings;
        let memory = WitnessMemory::open(directory, name, system_clock).map_err(StartFault::Witness)?;
        memory.set_logs(logs).map_err(StartFault::Witness)?;
        let listener = TcpListener::bind(*address).map_err(|error| listen_fault(*address, error));
        let listener = listener.map_err(system("cannot listen as a witness"))?;
        let memory = Arc::new(memory);
        tracing::info!(%address, key = %memory.verifier(), logs = logs.len(), "witnessing logs");
        tokio::spawn(serve(listener, memory.clone(), tls.clone()));
        Ok(Serving { settings, memory })
    }

    /// Witnesses the logs of these settings; says what needs a restart.
    pub(super) fn adopt(&self, settings: &ServedWitness) -> Result<(), String> {
        match self.settings.is_same_place(settings) {
            true => self.memory.set_logs(&settings.logs).map_err(|fault| fault.to_string()),
            false => {
                Err("address, directory, name or certificate of [witness] changed, which needs a restart"
                    .into())
            }
        }
    }
}

/// What metrics say of a witness that is asked.
pub(super) fn facts(status: WitnessStatus) -> WitnessFacts {
    let WitnessStatus { name, size, time, requests } = status;
    WitnessFacts { name, size, time, requests }
}

async fn serve(
    listener: TcpListener,
    memory: Arc<WitnessMemory>,
    tls: Option<Arc<ServerConfig>>,
) -> std::io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = BoundedListener::new(tokio::net::TcpListener::from_std(listener)?, BOUNDS);
    let router = Router::new()
        .route("/add-checkpoint", post(add_checkpoint))
        .route("/{origin}/checkpoint", get(checkpoint))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(memory);
    match tls {
        None => axum::serve(listener, router).await,
        Some(config) => axum::serve(TlsListener::new(listener, move || config.clone()), router).await,
    }
}

async fn add_checkpoint(State(memory): State<Arc<WitnessMemory>>, body: String) -> Response {
    // It waits for the disk.
    let done = tokio::task::spawn_blocking(move || memory.add_checkpoint(&body)).await;
    match done {
        Ok(Ok(line)) => (StatusCode::OK, line).into_response(),
        Ok(Err(MemoryFault::Refused(refusal))) => refuse(refusal),
        Ok(Err(fault @ MemoryFault::Forked { is_new, .. })) => {
            // It asks again every few seconds.
            if is_new {
                tracing::error!("a log asked for a cosignature that it does not get: {fault}");
            }
            refuse(Refusal::Forked)
        }
        Ok(Err(MemoryFault::Directory(fault))) => {
            tracing::error!("what this witness has seen cannot be written: {fault}");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

fn refuse(refusal: Refusal) -> Response {
    let status = StatusCode::from_u16(refusal.status()).unwrap_or(StatusCode::BAD_REQUEST);
    match refusal {
        Refusal::Conflict(size) => {
            (status, [(CONTENT_TYPE, "text/x.tlog.size")], format!("{size}\n")).into_response()
        }
        _ => (status, format!("{refusal}\n")).into_response(),
    }
}

async fn checkpoint(State(memory): State<Arc<WitnessMemory>>, Path(origin): Path<String>) -> Response {
    let found = tokio::task::spawn_blocking(move || memory.checkpoint(&origin)).await;
    match found.ok().flatten() {
        Some(note) => (StatusCode::OK, note).into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}
