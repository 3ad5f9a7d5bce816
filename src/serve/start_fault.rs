//! Reasons for which a gateway does not start.

use crate::recording::directory::DirectoryFault;

/// Why a gateway did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartFault {
    /// The directory of recordings cannot be used.
    #[error("recordings: {0}")]
    Recordings(#[from] DirectoryFault),
    /// The directory of a witness cannot be used.
    #[error("witness: {0}")]
    Witness(#[source] DirectoryFault),
    /// A system resource (port, signal handler, thread) is not available.
    #[error("{what}: {error}")]
    System {
        /// The resource.
        what: &'static str,
        /// What the system says.
        error: std::io::Error,
    },
    /// The kernel does not confine the gateway as it is to.
    #[error("{0}")]
    Sandbox(String),
    /// Certificates cannot be ordered.
    #[error("certificates cannot be ordered: {0}")]
    Acme(String),
}

pub(super) fn system(what: &'static str) -> impl Fn(std::io::Error) -> StartFault {
    move |error| StartFault::System { what, error }
}
