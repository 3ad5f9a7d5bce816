//! What somebody meant who wrote what cannot be: the better text for an error to name.

use std::net::{IpAddr, SocketAddr};

/// Words that people write for one of ours: those of other programs, and names of what is carried inside.
const SYNONYMS: [(&str, &str); 25] = [
    ("https", "http"),
    ("http1", "http"),
    ("http2", "http"),
    ("http/2", "http"),
    ("h2c", "http"),
    ("grpc", "http"),
    ("sse", "http"),
    ("ws", "http"),
    ("wss", "http"),
    ("websocket", "http"),
    ("postgresql", "postgres"),
    ("pg", "postgres"),
    ("mariadb", "mysql"),
    ("valkey", "redis"),
    ("rediss", "redis"),
    ("tcp", "raw"),
    ("tls", "raw"),
    ("http1", "http/1.1"),
    ("http/1", "http/1.1"),
    ("http2", "h2"),
    ("http/2", "h2"),
    ("grpc", "h2"),
    ("text", "human"),
    ("warning", "warn"),
    ("mandatory", "required"),
];

/// Keys that people write for one of ours.
const KEYS: [(&str, &str); 22] = [
    ("issuer", "oidc"),
    ("url", "oidc"),
    ("discovery", "oidc"),
    ("jwks", "oidc"),
    ("jwks_uri", "oidc"),
    ("aud", "audience"),
    ("host", "sni"),
    ("hostname", "sni"),
    ("server_name", "sni"),
    ("domain", "sni"),
    ("backend", "upstream"),
    ("target", "upstream"),
    ("url", "upstream"),
    ("cert", "certificate"),
    ("cert", "chain"),
    ("bind", "address"),
    ("listen", "address"),
    ("port", "address"),
    ("users", "subjects"),
    ("roles", "groups"),
    ("username", "user"),
    ("name", "header"),
];

/// The word of these that was meant.
pub(super) fn word<'a>(written: &str, words: &[&'a str]) -> Option<&'a str> {
    let lower = written.to_ascii_lowercase().replace('_', "-");
    let known = |word: &str| words.iter().find(|one| one.replace('_', "-") == word).copied();
    let synonym = || SYNONYMS.iter().filter(|(from, _)| *from == lower).find_map(|(_, to)| known(to));
    let near = || nearest(&lower, words.iter().copied());
    known(&lower).or_else(synonym).or_else(near)
}

/// The key of these that was meant.
pub(super) fn key<'a>(written: &str, keys: impl Iterator<Item = &'a str> + Clone) -> Option<&'a str> {
    let lower = written.to_ascii_lowercase().replace('-', "_");
    let synonym =
        KEYS.iter().filter(|(from, _)| *from == lower).find_map(|(_, to)| keys.clone().find(|key| key == to));
    nearest(&lower, keys).or(synonym)
}

/// The nearest of these names, where a slip of the keyboard leads from one to the other.
fn nearest<'a>(written: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let near = names.map(|name| (distance(name, written), name)).min()?;
    // A third of a name, or two letters that changed places.
    let most = (written.len().max(near.1.len()) / 3).clamp(1, 3);
    let turned = near.0 == 2 && is_transposed(written, near.1);
    (near.0 <= most || turned).then_some(near.1)
}

/// True where two neighbouring letters changed places.
fn is_transposed(one: &str, other: &str) -> bool {
    let differ: Vec<usize> =
        one.bytes().zip(other.bytes()).enumerate().filter(|(_, (a, b))| a != b).map(|(at, _)| at).collect();
    let (one, other) = (one.as_bytes(), other.as_bytes());
    matches!(differ[..], [a, b] if one.len() == other.len() && b == a + 1 && one[a] == other[b] && one[b] == other[a])
}

/// Edit distance (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let changed = diagonal + usize::from(ca != *cb);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

/// What to write in place of an address to listen on.
pub(super) fn address(written: &str) -> String {
    let usual = "write for example \"0.0.0.0:443\" or \"[::]:443\"".to_owned();
    let text = parts(written).1;
    if let Ok(ip) = text.trim_matches(['[', ']']).parse::<IpAddr>() {
        return format!("its port is missing; write \"{}\"", SocketAddr::new(ip, 443));
    }
    if text.parse::<u16>().is_ok_and(|port| port > 0) {
        return format!("write \"[::]:{text}\"");
    }
    let Some((host, port)) = text.rsplit_once(':') else { return usual };
    match (host, port.parse::<u16>()) {
        (_, Err(_)) if !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) => {
            format!("{port} is no port; there are 1 to 65535")
        }
        ("" | "*", Ok(port)) => format!("write \"[::]:{port}\""),
        ("localhost", Ok(port)) => format!("write \"127.0.0.1:{port}\""),
        (host, Ok(port)) if host.parse::<IpAddr>().is_ok() => {
            format!("write \"{host}:{port}\" without a scheme or a path, or \"[{host}]:{port}\" for IPv6")
        }
        (_, Ok(port)) if written == text => {
            format!("a listener has an address, and names stand in `sni` of routes; write \"[::]:{port}\"")
        }
        _ => usual,
    }
}

/// What to write in place of an upstream's address.
pub(crate) fn upstream(written: &str) -> String {
    let usual = "write \"tls://host:port\" (without TLS only on this machine: tcp:// or unix:)".to_owned();
    let (scheme, rest, path) = parts(written.trim());
    let port = match scheme {
        "" | "https" | "tls" | "grpcs" | "grpc" | "wss" => "443",
        "postgres" | "postgresql" => "5432",
        "mysql" | "mariadb" => "3306",
        "redis" | "rediss" => "6379",
        "http" | "ws" | "tcp" => "80",
        _ => return usual,
    };
    let (host, port) = match rest.rsplit_once(':') {
        Some(("", _)) => return usual,
        Some((host, given)) if given.parse::<u16>().is_ok_and(|port| port > 0) => (host, given),
        Some((_, given)) if !given.is_empty() && given.bytes().all(|b| b.is_ascii_digit()) => {
            return format!("{given} is no port; there are 1 to 65535");
        }
        // The name of a port, as in /etc/services.
        Some((host, given)) if given == scheme || given == "https" && scheme == "tls" => (host, port),
        Some(_) => return usual,
        // A name without a scheme and a port is no address yet.
        None if rest.is_empty() || scheme.is_empty() && !rest.contains('.') => return usual,
        None => (rest, port),
    };
    if host.contains([' ', '"', '\\']) || host.bytes().any(|b| b.is_ascii_control()) {
        return usual;
    }
    let is_here = host == "localhost"
        || host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    let meant = match scheme {
        "http" | "ws" | "tcp" if is_here => {
            let host = if host == "localhost" { "127.0.0.1" } else { host };
            format!("write \"tcp://{host}:{port}\" and unsafe_plaintext_upstream = true")
        }
        "http" | "ws" => format!("write \"tls://{host}:443\""),
        _ => format!("write \"tls://{host}:{port}\""),
    };
    match path {
        true => format!("{meant}; paths are the clients' own"),
        false => meant,
    }
}

/// What to write in place of a name that clients ask for.
pub(crate) fn name(written: &str) -> String {
    if !written.is_ascii() {
        return "write its form in ASCII, which begins with xn--".into();
    }
    let usual = "write \"name.example.com\" or \"*.example.com\"".to_owned();
    let (_, rest, _) = parts(written.trim());
    let host = match rest.rsplit_once(':') {
        Some((host, port)) if port.parse::<u16>().is_ok() => host,
        _ => rest,
    };
    if host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok() {
        return "clients of an address send no name: write a name here, and name this route as `default_route` of its \
                listener"
            .into();
    }
    match host {
        "" | "*" => usual,
        host if host != written && !host.contains([' ', '*', '_']) => format!("write {host:?}"),
        _ => usual,
    }
}

/// Scheme, host with port, and whether a path follows.
fn parts(written: &str) -> (&str, &str, bool) {
    let (scheme, rest) = written.split_once("://").unwrap_or(("", written));
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    (scheme, host, !path.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_keys_of_other_programs_and_slips_are_understood() {
        let protocols = ["http", "postgres", "raw", "mysql", "redis"];
        for (written, meant) in [
            ("https", "http"),
            ("HTTP", "http"),
            ("grpc", "http"),
            ("PostgreSQL", "postgres"),
            ("tcp", "raw"),
            ("mariadb", "mysql"),
            ("rediss", "redis"),
            ("posgres", "postgres"),
        ] {
            assert_eq!(word(written, &protocols), Some(meant), "{written}");
        }
        assert_eq!(word("mongodb", &protocols), None);
        assert_eq!(word("http2", &["auto", "http/1.1", "h2"]), Some("h2"));
        let keys = ["address", "sni", "upstream", "certificate", "allow", "inject", "name"];
        for (written, meant) in [
            ("addres", "address"),
            ("host", "sni"),
            ("backend", "upstream"),
            ("sin", "sni"),
            ("Upstream", "upstream"),
        ] {
            assert_eq!(key(written, keys.into_iter()), Some(meant), "{written}");
        }
        assert_eq!(key("colour", keys.into_iter()), None);
        assert_eq!(distance("listener", "listener"), 0);
        assert_eq!(distance("listener", "listner"), 1);
        assert_eq!(distance("", "abc"), 3);
    }

    #[test]
    fn addresses_are_completed() {
        for (written, advice) in [
            ("127.0.0.1", "write \"127.0.0.1:443\""),
            ("::1", "write \"[::1]:443\""),
            (":8443", "write \"[::]:8443\""),
            ("8443", "write \"[::]:8443\""),
            ("*:8443", "write \"[::]:8443\""),
            ("localhost:8443", "write \"127.0.0.1:8443\""),
            ("127.0.0.1:84433", "84433 is no port"),
            ("https://127.0.0.1:8443", "write \"127.0.0.1:8443\" without a scheme"),
            ("gw.example.com:443", "names stand in `sni`"),
            ("nowhere", "write for example"),
        ] {
            assert!(address(written).contains(advice), "{written}: {}", address(written));
        }
    }

    #[test]
    fn upstreams_are_completed() {
        for (written, advice) in [
            ("https://api.openai.com/v1", "write \"tls://api.openai.com:443\"; paths are the clients' own"),
            ("https://api.openai.com", "write \"tls://api.openai.com:443\""),
            ("tls://api.openai.com", "write \"tls://api.openai.com:443\""),
            ("api.openai.com:443", "write \"tls://api.openai.com:443\""),
            ("api.openai.com", "write \"tls://api.openai.com:443\""),
            ("tls://api.openai.com:443/", "write \"tls://api.openai.com:443\""),
            ("postgresql://pg.internal/app", "write \"tls://pg.internal:5432\""),
            ("rediss://r:6380", "write \"tls://r:6380\""),
            (
                "http://localhost:11434",
                "write \"tcp://127.0.0.1:11434\" and unsafe_plaintext_upstream = true",
            ),
            ("http://api.example.com", "write \"tls://api.example.com:443\""),
            ("tls://api.openai.com:99999", "99999 is no port"),
            ("ftp://x", "write \"tls://host:port\""),
            ("here", "write \"tls://host:port\""),
            ("", "write \"tls://host:port\""),
        ] {
            assert!(upstream(written).contains(advice), "{written}: {}", upstream(written));
        }
    }

    #[test]
    fn names_lose_what_is_no_name() {
        for (written, advice) in [
            ("https://gw.example.com", "write \"gw.example.com\""),
            ("gw.example.com:8443", "write \"gw.example.com\""),
            ("gw.example.com/", "write \"gw.example.com\""),
            ("127.0.0.1", "default_route"),
            ("[::1]:443", "default_route"),
            ("*", "\"*.example.com\""),
            ("a b", "\"name.example.com\""),
        ] {
            assert!(name(written).contains(advice), "{written}: {}", name(written));
        }
    }
}
