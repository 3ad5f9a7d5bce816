//! Capability flags: what client and server agree on decides how every later packet reads, so both legs must agree on the same.

/// `mysql_real_connect` knows the new password hash; MariaDB's own servers clear it to announce their extensions.
pub const LONG_PASSWORD: u32 = 1;
/// A database stands in the login.
pub const CONNECT_WITH_DB: u32 = 1 << 3;
/// The client sends local files when the server asks for them.
pub const LOCAL_FILES: u32 = 1 << 7;
/// The protocol of MySQL 4.1.
pub const PROTOCOL_41: u32 = 1 << 9;
/// TLS.
pub const SSL: u32 = 1 << 11;
/// Authentication of MySQL 4.1.
pub const SECURE_CONNECTION: u32 = 1 << 15;
/// The name of an authentication plug-in stands in the login.
pub const PLUGIN_AUTH: u32 = 1 << 19;
/// Connection attributes stand in the login.
pub const CONNECT_ATTRS: u32 = 1 << 20;
/// The length of the authentication data is length-encoded.
pub const PLUGIN_AUTH_LENENC: u32 = 1 << 21;

/// What a client and a server tell each other with every packet behind the login: these must be the same on both legs.
///
/// Found rows, long flags, no schema, ODBC, spaces, interactive, SIGPIPE, transactions, several statements and results, results
/// of prepared statements, expired passwords, session tracking, no EOF packets.
const MEANT: u32 = 1 << 1
    | 1 << 2
    | 1 << 4
    | 1 << 6
    | 1 << 8
    | 1 << 10
    | 1 << 12
    | 1 << 13
    | 1 << 16
    | 1 << 17
    | 1 << 18
    | 1 << 22
    | 1 << 23
    | 1 << 24;
/// Flags of [`MEANT`] that only tell a server about the client, or that every server has whether it says so or not.
const HARMLESS: u32 = 1 << 1 | 1 << 2 | 1 << 4 | 1 << 6 | 1 << 8 | 1 << 10 | 1 << 12 | 1 << 13 | 1 << 22;

/// What clients are promised: MySQL 5.7 and later and MariaDB 10.2 and later can all of it. Not among it: compression, which
/// would hide packets; attributes of queries and optional metadata, which MariaDB has not; MariaDB's own extensions.
pub const PROMISED: u32 = LONG_PASSWORD
    | CONNECT_WITH_DB
    | PROTOCOL_41
    | 1 << 14
    | SECURE_CONNECTION
    | PLUGIN_AUTH
    | CONNECT_ATTRS
    | PLUGIN_AUTH_LENENC
    | MEANT;

/// Flags with which a client would read or write packets of another form than it was promised, each with what to do.
///
/// Not attributes of queries (1 << 27): mysql2 asks every server for them and goes by what was offered, and whoever would send them all
/// the same is answered a syntax error by the server.
const OTHER_FRAMING: [(u32, &str); 3] = [
    (1 << 5, "a client that compresses, which was not offered; connect without compression"),
    (1 << 25, "a client that leaves out metadata of results, which was not offered"),
    (1 << 26, "a client that compresses with zstd, which was not offered; connect without compression"),
];

/// The rule that a client breaks which wants packets of another form than it was promised.
pub fn other_framing(sent: u32) -> Option<&'static str> {
    OTHER_FRAMING.iter().find(|(flag, _)| sent & flag != 0).map(|(_, rule)| *rule)
}

/// How the gateway logs in, whatever the client said of this.
const OWN: u32 = LONG_PASSWORD | PROTOCOL_41 | SSL | 1 << 14 | SECURE_CONNECTION | PLUGIN_AUTH;

/// The flags for the login at a server, so that it speaks with the gateway as the client wants to be spoken to. `None`: the
/// server cannot do what the client was promised.
pub fn for_upstream(client: u32, server: u32) -> Option<u32> {
    let meant = client & (MEANT | LOCAL_FILES);
    if meant & !HARMLESS & !server != 0 {
        return None;
    }
    Some(OWN | meant | (server & (CONNECT_ATTRS | PLUGIN_AUTH_LENENC)) | (client & CONNECT_WITH_DB))
}
