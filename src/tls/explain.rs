//! Explains TLS faults, with what to do about them.

use rustls::{CertificateError, Error};

/// What a fault of a server's handshake means, and what to do. `ca` is how the reader calls the setting that names authorities.
/// rustls' own words stay in it, so that they can be searched for.
pub fn explain(error: &Error, ca: &str) -> String {
    match error {
        Error::InvalidMessage(_) => format!("{error}: it does not speak TLS on this port"),
        Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
            format!("{error}: no authority that is known vouches for it; name its authority with {ca}")
        }
        _ => error.to_string(),
    }
}

/// The same for an error that holds one of rustls' at any depth; `None` if none does.
pub fn explain_within(error: &(dyn std::error::Error + 'static), ca: &str) -> Option<String> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<Error>() {
            return Some(explain(found, ca));
        }
        // The source of an I/O error is the one behind what it holds.
        let held = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        next = held.map_or_else(|| error.source(), |held| Some(held));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::InvalidMessage;

    #[test]
    fn what_can_be_done_stands_behind_what_happened() {
        let plain = Error::InvalidMessage(InvalidMessage::InvalidContentType);
        let said = explain(&plain, "`ca`");
        assert!(said.contains("InvalidContentType") && said.contains("does not speak TLS"), "{said}");
        let unknown = Error::InvalidCertificate(CertificateError::UnknownIssuer);
        let said = explain(&unknown, "`ca`");
        assert!(said.contains("UnknownIssuer") && said.ends_with("with `ca`"), "{said}");
        let boxed = std::io::Error::new(std::io::ErrorKind::InvalidData, unknown);
        assert!(explain_within(&boxed, "--ca FILE").unwrap().ends_with("with --ca FILE"));
        let twice = std::io::Error::other(boxed);
        assert!(explain_within(&twice, "--ca FILE").unwrap().ends_with("with --ca FILE"));
        assert_eq!(explain_within(&std::io::Error::other("x"), "`ca`"), None);
    }
}
