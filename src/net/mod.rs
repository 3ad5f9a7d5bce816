//! Networking outside the data path. Sessions use `dial`, which needs a permit; nothing here may carry their bytes.

pub mod bounded;
pub mod https;
pub mod tls_listener;
