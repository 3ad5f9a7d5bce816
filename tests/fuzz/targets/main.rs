//! One program for all targets, because most of its build is the same for each: `STAUNCH_FUZZ_TARGET` names the one that
//! runs.
#![no_main]

mod common;
mod config;
mod hpack;
mod http1;
mod http2;
mod jwt;
mod mask;
mod mysql;
mod postgres;
mod record;
mod redis;
mod tunnel;

use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;

static TARGET: LazyLock<fn(&[u8])> = LazyLock::new(|| {
    let name = std::env::var("STAUNCH_FUZZ_TARGET").unwrap_or_default();
    match &name[..] {
        "config" => config::run,
        "hpack" => hpack::run,
        "http1" => http1::run,
        "http2" => http2::run,
        "jwt" => jwt::run,
        "mask" => mask::run,
        "mysql" => mysql::run,
        "postgres" => postgres::run,
        "record" => record::run,
        "redis" => redis::run,
        "tunnel" => tunnel::run,
        _ => panic!("STAUNCH_FUZZ_TARGET: no target {name:?}"),
    }
});

fuzz_target!(|data: &[u8]| TARGET(data));
