//! MySQL before TLS: the gateway's greeting and the client's SSLRequest. Nothing else is accepted in clear.

use crate::close::{Close, Plaintext};
use crate::gateway::MysqlListener;
use crate::names::{Culprit, SessionId, Side};
use crate::protocol::mysql::Greeting;
use crate::protocol::mysql::greeting::SCRAMBLE;
use crate::protocol::mysql::response::{First, first};
use crate::protocol::mysql::{err, error, packet, thread_id, write};
use crate::session::database::cancels::{Cancels, KnownGreeting};
use crate::session::leg_close::{LINGER, discard_input};
use crate::session::trail::Trail;
use ring::rand::SecureRandom;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// What a client that logs in without TLS is told. It may be seen by anybody, so it names nothing.
const TLS_ONLY: &str =
    "this gateway speaks TLS only; connect with TLS and verify its name (--ssl-verify-server-cert)";

/// A scramble of the right form. No password is ever mixed with it: the token is asked for as it is.
pub(super) fn scramble() -> Result<[u8; SCRAMBLE], Close> {
    let mut bytes = [0; SCRAMBLE];
    ring::rand::SystemRandom::new().fill(&mut bytes).map_err(|_| Close::Internal)?;
    // Clients take it for a text that a zero byte ends.
    Ok(bytes.map(|byte| b'!' + byte % 90))
}

/// What clients of a listener are told: the version that the operator wrote, or, where the upstream behind it is known to be
/// MariaDB, its own, since clients choose their SQL by it; and the collation of the upstream where that is known.
pub(in crate::session) fn greeting(listener: &MysqlListener, cancels: &Cancels) -> Greeting {
    let mut greeting = listener.greeting.clone();
    if let Some(KnownGreeting { version, charset }) = cancels.known_greeting(listener.route.as_ref()) {
        greeting.charset = charset;
        if let (Some(version), false) = (version, greeting.is_given) {
            greeting.version = version;
        }
    }
    greeting
}

/// Greets, and waits for the request for TLS. `bytes` is what came already; afterwards, what came of the TLS handshake.
pub(in crate::session) async fn agree_on_tls(
    tcp: &mut TcpStream,
    bytes: &mut Vec<u8>,
    greeting: &Greeting,
    id: SessionId,
    trail: &mut Trail,
) -> Result<(), Close> {
    let mut packet_of_ours = Vec::new();
    write(&mut packet_of_ours, 0, &greeting.payload(thread_id(id), &scramble()?, true));
    tcp.write_all(&packet_of_ours).await.map_err(|_| Close::Reset(Side::Client))?;
    let asked = loop {
        match packet(bytes, Culprit::Client) {
            Ok(None) => read_some(tcp, bytes).await?,
            Ok(Some(packet)) if packet.sequence != 1 => {
                break Err((error::OUT_OF_ORDER, "packets out of order"));
            }
            Ok(Some(packet)) => match first(packet.payload) {
                Ok(First::Tls) => break Ok(packet.length()),
                Ok(First::Login) => break Err((error::SECURE_TRANSPORT, TLS_ONLY)),
                Err(fault) => break Err((error::HANDSHAKE, fault.rule)),
            },
            Err(fault) => break Err((error::HANDSHAKE, fault.rule)),
        }
    };
    match asked {
        Ok(length) => {
            bytes.drain(..length);
            Ok(())
        }
        Err((number, words)) => {
            trail.explain(format_args!("in clear: {words}"));
            send_error_and_close(tcp, number, words).await;
            Err(Close::NotTls(Plaintext::Mysql))
        }
    }
}

async fn read_some(tcp: &mut TcpStream, bytes: &mut Vec<u8>) -> Result<(), Close> {
    bytes.reserve(1024);
    match tcp.read_buf(bytes).await {
        // Health checks of balancers look whether somebody listens, and leave.
        Ok(0) if bytes.is_empty() => Err(Close::Done),
        Ok(0) => Err(Close::Truncated(Side::Client)),
        Ok(_) => Ok(()),
        Err(_) => Err(Close::Reset(Side::Client)),
    }
}

async fn send_error_and_close(tcp: &mut TcpStream, number: (u16, &str), words: &str) {
    let last_words = async {
        tcp.write_all(&err(number, 2, words)).await?;
        tcp.shutdown().await?;
        discard_input(tcp).await
    };
    // Whether it was read or not: the connection ends.
    let _ = timeout(LINGER, last_words).await;
}
