//! MySQL and MariaDB under identity: the token as a password in clear inside TLS, a client certificate, or a tunnel.
//!
//! ```text
//!   client                    gateway                                upstream
//!                  ◀───────── greeting, in the server's place                     clear
//!     TLS? ────────────────▶  TLS: name → route
//!     login        ─────────▶                                                     start
//!                  ◀───────── send the password as it is
//!     token        ─────────▶ identify, authorise
//!                             greeting, TLS, login with the stored account ─▶
//!                  ◀───────── OK                                   ◀──────
//!     commands     ◀──────────────────────────────────────────────▶          dialect
//! ```

pub(super) mod before_tls;
pub(super) mod dialect;
mod kill;
pub(super) mod start;
