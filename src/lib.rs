//! Staunch: an identity-aware TLS gateway for streaming traffic.
#![forbid(unsafe_code)]

pub mod admin;
pub mod audit;
pub mod close;
pub mod credential;
pub mod demo;
pub mod dial;
pub mod gateway;
pub mod identify;
pub mod metrics;
pub mod names;
pub mod policy;
pub mod protocol;
pub mod relay;
pub mod secret;
pub mod session;
pub mod tls;
pub mod worker;
