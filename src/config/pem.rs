//! What a file holds in place of the PEM that was expected: the slip that made it so, and the command that mends it.

/// What a file was to hold.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Expected {
    /// The gateway's own certificate, and those that signed it.
    Chain,
    /// Certificates of authorities.
    Authorities,
    PrivateKey,
    RevocationList,
}

/// Says what the bytes are, as the end of a sentence that says what they are not; empty where that is unknown. No byte of
/// them is repeated.
pub(super) fn advice(bytes: &[u8], expected: Expected) -> &'static str {
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return "; it is empty";
    }
    match bytes {
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => {
            return "; it is text in UTF-16: iconv -f UTF-16 -t UTF-8 OLD > NEW";
        }
        [0xef, 0xbb, 0xbf, ..] => return "; a byte-order mark stands before it: tail -c +4 OLD > NEW",
        [DER_SEQUENCE, ..] => return in_der(bytes, expected),
        [b'<', ..] => return "; it is a web page or XML: was its download refused?",
        _ => {}
    }
    let Some(label) = label(bytes) else { return without_begin(bytes) };
    match (label, expected) {
        (label, Expected::PrivateKey) if label.contains("ENCRYPTED") || holds(bytes, "ENCRYPTED") => {
            "; it has a passphrase, which nobody could type: openssl pkey -in OLD -out NEW"
        }
        ("OPENSSH PRIVATE KEY", _) => "; it is a key of SSH; name the one that was made for TLS",
        ("CERTIFICATE REQUEST" | "NEW CERTIFICATE REQUEST", Expected::PrivateKey) => {
            " but a request for a certificate; name the key that it was made with"
        }
        ("CERTIFICATE REQUEST" | "NEW CERTIFICATE REQUEST", _) => {
            " but a request for one, which an authority must sign"
        }
        ("PKCS7" | "CMS", _) => "; it is PKCS#7: openssl pkcs7 -print_certs -in OLD -out NEW",
        ("PUBLIC KEY" | "RSA PUBLIC KEY" | "SSH2 PUBLIC KEY", Expected::PrivateKey) => {
            " but the public half of one, which proves nothing; name the private one"
        }
        ("PUBLIC KEY" | "RSA PUBLIC KEY" | "SSH2 PUBLIC KEY", _) => {
            " but a public key, which nobody has signed yet"
        }
        ("X509 CRL", Expected::Chain | Expected::Authorities) => {
            " but a revocation list; those stand in client_crl"
        }
        ("TRUSTED CERTIFICATE", _) => "; it is in a form of OpenSSL's own: openssl x509 -in OLD -out NEW",
        ("CERTIFICATE", Expected::PrivateKey) => " but a certificate; chain and key are swapped",
        ("CERTIFICATE", Expected::RevocationList) => " but a certificate",
        (label, Expected::Chain) if label.ends_with("PRIVATE KEY") => {
            " but a private key; chain and key are swapped"
        }
        (label, Expected::Authorities | Expected::RevocationList) if label.ends_with("PRIVATE KEY") => {
            " but a private key, which must not be here; name the certificate"
        }
        _ => broken(bytes),
    }
}

/// The first byte of a certificate, a key or a store in DER.
const DER_SEQUENCE: u8 = 0x30;
const DER_INTEGER: u8 = 2;
const DER_OBJECT_IDENTIFIER: u8 = 6;

/// Tells by what stands first in the outermost sequence: a number of version, a type, or another sequence.
fn in_der(bytes: &[u8], expected: Expected) -> &'static str {
    let length_bytes =
        bytes.get(1).map_or(0, |first| if *first < 0x80 { 0 } else { usize::from(*first & 0x7f) });
    let inside = bytes.get(2 + length_bytes..).unwrap_or_default();
    match (inside, expected) {
        // PFX of RFC 7292 section 4 has version 3; those of keys are 0 and 1.
        ([DER_INTEGER, 1, 3, ..], Expected::PrivateKey) => {
            "; it is a PKCS#12 store: openssl pkcs12 -in OLD -nocerts -noenc -out NEW"
        }
        ([DER_INTEGER, 1, 3, ..], _) => "; it is a PKCS#12 store: openssl pkcs12 -in OLD -nokeys -out NEW",
        ([DER_OBJECT_IDENTIFIER, ..], _) => {
            "; it is PKCS#7 in DER: openssl pkcs7 -inform DER -print_certs -in OLD -out NEW"
        }
        ([DER_INTEGER, ..], Expected::Chain) => " but a private key in DER; chain and key are swapped",
        (_, Expected::PrivateKey) => "; it is DER: openssl pkey -inform DER -in OLD -out NEW",
        (_, Expected::RevocationList) => "; it is DER: openssl crl -inform DER -in OLD -out NEW",
        _ => "; it is DER: openssl x509 -inform DER -in OLD -out NEW",
    }
}

/// The label of the first block: `CERTIFICATE` of `-----BEGIN CERTIFICATE-----`.
fn label(bytes: &[u8]) -> Option<&str> {
    let begin = memchr::memmem::find(bytes, BEGIN)? + BEGIN.len();
    let end = begin + memchr::memmem::find(&bytes[begin..], b"-----")?;
    std::str::from_utf8(&bytes[begin..end]).ok()
}

const BEGIN: &[u8] = b"-----BEGIN ";

fn without_begin(bytes: &[u8]) -> &'static str {
    match () {
        () if holds(bytes, "BEGIN ") => {
            "; its BEGIN line has not the five dashes that it began with: was it copied from a formatted text?"
        }
        () if holds(bytes, "-----END ") => "; its BEGIN line is missing",
        () if holds(bytes, "ssh-") || holds(bytes, "ecdsa-sha2-") => {
            "; it is a key of SSH; name the one that was made for TLS"
        }
        () => "; no BEGIN line stands in it",
    }
}

/// Why a block of the right label is none.
fn broken(bytes: &[u8]) -> &'static str {
    match () {
        () if holds(bytes, "-----\\n") => {
            "; its ends of lines are written as \\n: printf '%b' \"$(cat OLD)\" > NEW"
        }
        () if !holds(bytes, "-----END ") => "; it is cut short: its END line is missing",
        () if !bytes.starts_with(BEGIN) && !holds(bytes, "\n-----BEGIN ") || !holds(bytes, "\n-----END ") => {
            "; its lines are indented or joined: BEGIN and END each begin a line of their own"
        }
        () => "; what stands between BEGIN and END is no base64 of one",
    }
}

fn holds(bytes: &[u8], words: &str) -> bool {
    memchr::memmem::find(bytes, words.as_bytes()).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_slip_is_named() {
        use Expected::{Authorities, Chain, PrivateKey, RevocationList};
        let block =
            |label: &str| format!("-----BEGIN {label}-----\nAAAA\n-----END {label}-----\n").into_bytes();
        let certificate = block("CERTIFICATE");
        let text = String::from_utf8(certificate.clone()).unwrap();
        let with = |before: &[u8], rest: &[u8]| [before, rest].concat();
        let rows: Vec<(Vec<u8>, Expected, &str)> = vec![
            (vec![], Chain, "empty"),
            (b" \r\n".to_vec(), PrivateKey, "empty"),
            (with(b"\xef\xbb\xbf", &certificate), Chain, "byte-order mark"),
            (with(b"\xff\xfe", b"-\0"), PrivateKey, "UTF-16"),
            (b"<html>".to_vec(), Authorities, "web page"),
            (vec![0x30, 0x82, 1, 2, 0x30], Chain, "openssl x509 -inform DER"),
            (vec![0x30, 0x82, 1, 2, 0x30], RevocationList, "openssl crl -inform DER"),
            (vec![0x30, 0x81, 1, 2, 1, 0], PrivateKey, "openssl pkey -inform DER"),
            (vec![0x30, 0x81, 1, 2, 1, 0], Chain, "swapped"),
            (vec![0x30, 0x82, 1, 2, 2, 1, 3], Chain, "pkcs12 -in OLD -nokeys"),
            (vec![0x30, 0x82, 1, 2, 2, 1, 3], PrivateKey, "pkcs12 -in OLD -nocerts"),
            (vec![0x30, 0x80, 6, 9], Authorities, "pkcs7 -inform DER"),
            (vec![0x30], Chain, "DER"),
            (vec![0x30, 0xff], Chain, "DER"),
            (block("ENCRYPTED PRIVATE KEY"), PrivateKey, "passphrase"),
            (block("ENCRYPTED PRIVATE KEY"), Chain, "swapped"),
            (block("OPENSSH PRIVATE KEY"), PrivateKey, "SSH"),
            (b"ssh-ed25519 AAAA me".to_vec(), Chain, "SSH"),
            (block("CERTIFICATE REQUEST"), Chain, "must sign"),
            (block("CERTIFICATE REQUEST"), PrivateKey, "the key that it was made with"),
            (block("PKCS7"), Chain, "pkcs7 -print_certs"),
            (block("PUBLIC KEY"), PrivateKey, "public half"),
            (block("PUBLIC KEY"), Chain, "signed"),
            (block("X509 CRL"), Authorities, "client_crl"),
            (block("TRUSTED CERTIFICATE"), Chain, "openssl x509 -in"),
            (certificate.clone(), PrivateKey, "swapped"),
            (certificate.clone(), RevocationList, "a certificate"),
            (block("EC PRIVATE KEY"), Chain, "swapped"),
            (block("PRIVATE KEY"), Authorities, "must not be here"),
            (certificate, Chain, "no base64"),
            (text.replace('\n', "\\n").into(), Chain, "written as \\n"),
            (text.replace('-', "\u{2014}").into(), Chain, "five dashes"),
            (text.replace("-----BEGIN CERTIFICATE-----\n", "").into(), Chain, "BEGIN line is missing"),
            (text.replace("-----END CERTIFICATE-----\n", "").into(), Chain, "cut short"),
            (text.replace('\n', "\n  ").into(), Chain, "indented"),
            (text.replace('\n', " ").into(), Chain, "joined"),
            (b"hello".to_vec(), Chain, "no BEGIN line"),
        ];
        for (bytes, expected, words) in rows {
            let said = advice(&bytes, expected);
            assert!(said.contains(words), "{}: {said}", String::from_utf8_lossy(&bytes));
        }
    }
}
