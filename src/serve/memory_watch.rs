//! Refuses new connections while the memory that the process may use runs short.

use crate::session::admission::Admission;
use crate::worker::memory::{MemoryLimit, Shortage};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{MissedTickBehavior, interval};

/// How often the usage is read: new connections of this time fit into the last twentieth.
const CHECK_INTERVAL: Duration = Duration::from_millis(250);

/// Watches the memory for as long as the runtime lives.
pub(super) async fn run(limit: MemoryLimit, admission: Arc<Admission>) {
    let mut look = interval(CHECK_INTERVAL);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut before = Shortage::None;
    loop {
        look.tick().await;
        let shortage = limit.shortage();
        if shortage != before {
            match shortage {
                Shortage::None => tracing::info!("memory suffices again"),
                _ => tracing::warn!(
                    limit = limit.bytes,
                    used = limit.used(),
                    "memory is short: no room for new connections"
                ),
            }
            admission.set_memory_shortage(shortage as u8);
            before = shortage;
        }
    }
}
