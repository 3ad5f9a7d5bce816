//! Reaching the upstream: needs a permit, verifies always, never downgrades.
//!
//! The client's handshake settles on an application protocol before anyone is permitted, so the gateway must know
//! beforehand what the upstream speaks. It asks: [`Upstream::choose`] makes a TLS handshake that offers exactly the
//! protocol in question, sends nothing on it, and remembers the answer until a later dial contradicts it.
//!
//! An upstream without TLS ([`plaintext`]) is another kind from the configuration on; none ever becomes one.
//!
//! A PostgreSQL server wants to be asked for TLS first ([`Negotiation::Request`]). Nothing but its one-byte answer is
//! read in clear, and a "no" ends the dial.
//!
//! One [`ConnectDeadline`] covers all of it: the question, the look-up of the name, every address that is tried, and TLS.

mod alpn_name;
mod alpn_probe;
mod application;
mod connect;
mod fault;
mod known_protocols;
pub mod plaintext;
mod resolver;
mod socket;
mod upstream;

pub use alpn_name::AlpnName;
pub use application::{Application, H2, HTTP11, Negotiation};
pub use fault::DialFault;
pub use socket::{ConnectDeadline, KEEPALIVE, USER_TIMEOUT, set_options};
pub use upstream::{DEFAULT_DNS_TTL, Dialled, Upstream};
