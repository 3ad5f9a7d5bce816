//! Staunch: an identity-aware TLS gateway for streaming traffic.
//!
//! A connection's way, which is also the way through the source; [`session::pipeline`] names every stage:
//!
//! ```text
//!   worker      accept        a socket of this core's own, or one handed over by a busier core
//!   session     handshake     ClientHello → SNI → route → that route's TLS               tls::{handshake, server}
//!               sniff         a tunnel's CONNECT; HTTP/1.1, HTTP/2, PostgreSQL, MySQL,
//!                             Redis, opaque bytes                                        protocol
//!               identify      token, client certificate or tunnel → identity             identify
//!               authorise     route × identity → permit                                  policy
//!               dial          own, verified TLS to the upstream, or one dialled ahead;
//!                             needs a permit;
//!                             a database's login with the stored account                 dial, tls::client
//!   relay       relay         records opened and sealed in the same bytes, both ways     relay, tls::{leg, record}
//!   session     close         one line of evidence                                       audit
//! ```
//!
//! Imports point down only, and files make no circles but those argued for in `tests/architecture.rs`:
//!
//! ```text
//!   5  main  config  worker  serve  admin  client  evidence  demo  init  mask_try  reference  wiring
//!   4  session                                             sequencing only
//!   3  relay  gateway                                      byte movement | shared handles
//!   2  tls::{server,client,handshake,leg}  identify  credential  dial  recording  audit  telemetry  acme  net  sandbox  I/O
//!   1  tls::record  protocol  policy  mask                 pure: no tokio, no clock, no configuration
//!   0  names  close  secret  metrics  files  system        vocabulary, files, and the system calls without a safe wrapper
//! ```
#![deny(unsafe_code)]

pub mod acme;
pub mod admin;
pub mod audit;
pub mod client;
pub mod close;
pub mod config;
pub mod credential;
pub mod demo;
pub mod dial;
pub mod evidence;
pub mod files;
pub mod gateway;
pub mod identify;
pub mod init;
pub mod mask;
pub mod mask_try;
pub mod metrics;
pub mod names;
pub mod net;
pub mod policy;
pub mod protocol;
pub mod recording;
pub mod reference;
pub mod relay;
pub mod sandbox;
pub mod secret;
pub mod serve;
pub mod session;
pub mod system;
pub mod telemetry;
pub mod tls;
pub mod worker;
