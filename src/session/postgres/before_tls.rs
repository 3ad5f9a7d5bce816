//! PostgreSQL before TLS: SSLRequest and GSSENCRequest. Nothing else is accepted in clear.

use super::cancel::{WRONG_KEY_DELAY, cancel_statement};
use crate::close::{Close, Plaintext};
use crate::names::Side;
use crate::protocol::postgres::startup::MAX_PACKET;
use crate::protocol::postgres::{self, CancelKey, Opening, TLS_ACCEPTED, TLS_REFUSED, opening, sqlstate};
use crate::session::database::cancels::Cancels;
use crate::session::leg_close::{LINGER, discard_input};
use crate::session::trail::Trail;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

/// What a client in clear is told. It may be seen by anybody, so it names nothing.
const TLS_ONLY: &str =
    "this gateway speaks TLS only; connect with sslmode=verify-full (or at least sslmode=require)";

/// Answers the requests for encryption that `first` begins with, until the client goes on with TLS: then `first` holds
/// the first two bytes of that, or more. Whatever else the client wants in clear is refused, but for a CancelRequest where
/// `cancels` says that this listener takes it.
pub(in crate::session) async fn agree_on_tls(
    tcp: &mut TcpStream,
    first: &mut Vec<u8>,
    cancels: Option<&Cancels>,
    trail: &mut Trail,
) -> Result<(), Close> {
    let mut gssapi_declined = false;
    loop {
        let (asked, length) = loop {
            match opening(first) {
                Ok(Some(asked)) => break asked,
                Ok(None) => read_some(tcp, first).await?,
                Err(fault) => {
                    trail.explain(&fault);
                    send_error_and_close(tcp, sqlstate::PROTOCOL_VIOLATION, fault.rule).await;
                    return Err(Close::NotTls(Plaintext::Postgres));
                }
            }
        };
        // CVE-2021-23214: bytes that follow a request before its answer would come to stand inside the session.
        let pipelined = first.len() > length || tcp.try_read(&mut [0]).is_ok_and(|n| n > 0);
        match asked {
            Opening::SslRequest | Opening::GssEncRequest if pipelined => {
                trail.explain("bytes in clear behind a request for encryption, before its answer");
                return Err(Close::Protocol(Side::Client));
            }
            Opening::SslRequest => {
                answer(tcp, TLS_ACCEPTED).await?;
                first.clear();
                while first.len() < 2 {
                    read_some(tcp, first).await?;
                }
                return Ok(());
            }
            Opening::GssEncRequest if !gssapi_declined => {
                gssapi_declined = true;
                answer(tcp, TLS_REFUSED).await?;
                first.clear();
            }
            Opening::GssEncRequest => {
                trail.explain("encryption by GSSAPI was asked for twice");
                return Err(Close::Protocol(Side::Client));
            }
            Opening::Cancel(key) => {
                match cancels {
                    Some(cancels) if !pipelined => cancel(cancels, key, trail).await,
                    _ => trail.explain("a CancelRequest in clear is not acted on"),
                }
                return Err(Close::NotTls(Plaintext::PostgresCancel));
            }
            Opening::Startup(_) => {
                trail.explain("a startup message in clear");
                send_error_and_close(tcp, sqlstate::INVALID_AUTHORIZATION, TLS_ONLY).await;
                return Err(Close::NotTls(Plaintext::Postgres));
            }
        }
    }
}

/// Acts on a CancelRequest that came in clear. Its key is the gateway's own and good for nothing else; who reads it on the
/// way can stop a statement, once for each time that its client does.
async fn cancel(cancels: &Cancels, key: CancelKey, trail: &mut Trail) {
    let Some(target) = cancels.postgres.find_on_any_route(key) else {
        trail.explain("a CancelRequest in clear with the key of no session");
        return sleep(WRONG_KEY_DELAY).await;
    };
    match cancel_statement(&target).await {
        Ok(_) => trail.explain(format_args!(
            "cancelled the statement of session {}, by a CancelRequest in clear",
            target.session
        )),
        Err(fault) => trail.explain(format_args!("CancelRequest in clear: {fault}")),
    }
}

async fn answer(tcp: &mut TcpStream, byte: u8) -> Result<(), Close> {
    tcp.write_all(&[byte]).await.map_err(|_| Close::Reset(Side::Client))
}

async fn read_some(tcp: &mut TcpStream, first: &mut Vec<u8>) -> Result<(), Close> {
    debug_assert!(first.len() < MAX_PACKET);
    first.reserve(1024);
    match tcp.read_buf(first).await {
        Ok(0) => Err(Close::Truncated(Side::Client)),
        Ok(_) => Ok(()),
        Err(_) => Err(Close::Reset(Side::Client)),
    }
}

async fn send_error_and_close(tcp: &mut TcpStream, sqlstate: &str, words: &str) {
    let last_words = async {
        tcp.write_all(&postgres::fatal(sqlstate, words, "")).await?;
        tcp.shutdown().await?;
        discard_input(tcp).await
    };
    // Whether it was read or not: the connection ends.
    let _ = timeout(LINGER, last_words).await;
}
