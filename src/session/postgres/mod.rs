//! PostgreSQL under identity: a token in the password field, or a client certificate; a permit per connection.
//!
//! ```text
//!   client                    gateway                                upstream
//!     SSLRequest   ─────────▶                                                    clear: in clear, before there is a route
//!                  ◀───────── 'S', TLS
//!     Startup      ─────────▶                                                    start
//!                  ◀───────── "password?"
//!     token        ─────────▶ identify, authorise
//!                             TLS, Startup with the stored user ─────▶
//!                             SCRAM-SHA-256, md5, password      ◀────▶
//!                  ◀───────── AuthenticationOk, settings, key   ◀─────
//!     statements   ◀──────────────────────────────────────────▶          dialect
//! ```
//! Whoever is refused gets an ErrorResponse. A CancelRequest ([`cancel`]) is a connection of its own.

pub(super) mod before_tls;
pub mod cancel;
pub(super) mod dialect;
mod proof;
pub(super) mod start;
