//! Sessions: one client connection each, from accept to close. Begin with [`pipeline`].

pub mod accepted;
mod acme;
pub mod admission;
mod authorise;
pub mod connected;
pub mod database;
mod dial;
pub mod expiry;
pub mod http;
mod leg_close;
pub mod legs;
mod lingering;
mod mask_spans;
pub mod mysql;
pub mod pipeline;
pub mod plaintext;
mod polled;
pub mod postgres;
pub mod preconnect;
pub mod raw;
mod raw_start;
mod recording;
pub mod redis;
pub mod registry;
pub mod stage;
mod state;
mod trail;
mod tunnel;

pub use pipeline::{NewConnection, run};
pub use recording::WorkerRecordings;
pub use state::{Session, WorkerState};
pub use trail::Trail;
