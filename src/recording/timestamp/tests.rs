//! Tokens of a real authority (`openssl ts`), and what is not one.

use super::super::super::net::https::pem_authorities;
use super::query::Query;
use super::token::{TokenFault, verify};
use rustls::pki_types::TrustAnchor;
use std::path::Path;
use std::process::Command;

const CONFIG: &str = "
[tsa]
default_tsa = one
[one]
serial = serial
default_policy = 1.2.3.4
digests = sha256
signer_digest = sha256
accuracy = secs:1
ordering = yes
tsa_name = yes
ess_cert_id_chain = yes
[stamping]
extendedKeyUsage = critical,timeStamping
keyUsage = critical,digitalSignature
[serving]
extendedKeyUsage = serverAuth
";

/// An authority below a folder: a root, and certificates that it signs.
struct Authority {
    folder: tempfile::TempDir,
}

impl Authority {
    fn new(key: &[&str]) -> Self {
        let authority = Authority { folder: tempfile::tempdir().unwrap() };
        std::fs::write(authority.folder.path().join("config"), CONFIG).unwrap();
        let root = "req -x509 -nodes -days 2 -subj /CN=root -keyout root.key -out root.pem -newkey";
        authority.openssl(&[&root.split(' ').collect::<Vec<_>>()[..], key].concat());
        for (name, usage) in [("stamping", "stamping"), ("other", "stamping"), ("serving", "serving")] {
            let request = format!("req -nodes -subj /CN={name} -keyout {name}.key -out {name}.csr -newkey");
            authority.openssl(&[&request.split(' ').collect::<Vec<_>>()[..], key].concat());
            let sign = format!(
                "x509 -req -in {name}.csr -CA root.pem -CAkey root.key -CAcreateserial -days 2 -extfile config -extensions {usage} -out {name}.pem"
            );
            authority.openssl(&sign.split(' ').collect::<Vec<_>>());
        }
        authority
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    fn openssl(&self, words: &[&str]) {
        let done = Command::new("openssl").args(words).current_dir(self.folder.path()).output().unwrap();
        assert!(done.status.success(), "{words:?}: {}", String::from_utf8_lossy(&done.stderr));
    }

    fn stamp(&self, query: &Query, signer: &str) -> Vec<u8> {
        std::fs::write(self.path("q.tsq"), query.encode()).unwrap();
        let words = format!(
            "ts -reply -config config -section one -queryfile q.tsq -signer {signer}.pem -inkey {signer}.key -chain root.pem -out r.tsr"
        );
        self.openssl(&words.split(' ').collect::<Vec<_>>());
        std::fs::read(self.path("r.tsr")).unwrap()
    }

    fn anchors(&self) -> Vec<TrustAnchor<'static>> {
        pem_authorities(&self.path("root.pem")).unwrap().roots
    }
}

const RSA: &[&str] = &["rsa:2048"];
const P256: &[&str] = &["ec", "-pkeyopt", "ec_paramgen_curve:P-256"];

#[test]
fn a_query_is_what_openssl_asks_and_nothing_else_is_read_as_one() {
    let query = Query::new(b"a checkpoint");
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("q"), query.encode()).unwrap();
    let shown = Command::new("openssl")
        .args(["ts", "-query", "-text", "-in", "q"])
        .current_dir(folder.path())
        .output()
        .unwrap();
    let shown = String::from_utf8(shown.stdout).unwrap();
    let nonce: String = query.nonce.iter().map(|byte| format!("{byte:02X}")).collect();
    for wanted in ["sha256", "Certificate required: yes", &format!("Nonce: 0x{nonce}")] {
        assert!(shown.contains(wanted), "{wanted} in {shown}");
    }
    assert_eq!(Query::parse(&query.encode()), Some(query.clone()));
    for at in 0..query.encode().len() {
        let mut bytes = query.encode();
        bytes[at] ^= 1;
        let read = Query::parse(&bytes);
        assert!(read.as_ref() != Some(&query), "{at}");
        assert_eq!(read.is_some(), (24..56).contains(&at) || (58..66).contains(&at), "{at}");
        assert_eq!(Query::parse(&bytes[..at]), None);
    }
}

#[test]
fn a_token_counts_for_its_query_alone_and_no_bit_of_what_it_says_can_change() {
    for key in [RSA, P256] {
        let (authority, other) = (Authority::new(key), Authority::new(key));
        let query = Query::new(b"a checkpoint");
        let answer = authority.stamp(&query, "stamping");
        let anchors = authority.anchors();
        let stamp = verify(&answer, &query, Some(&anchors)).unwrap();
        let now = super::super::clock::system();
        assert!(stamp.time.abs_diff(now) < 60_000_000_000 && stamp.authority == "CN=stamping", "{stamp:?}");
        assert_eq!(verify(&answer, &query, None).unwrap(), stamp);
        // Other bytes, another query for the same bytes, another authority, a certificate for something else.
        let of = |query: &Query, answer: &[u8]| verify(answer, query, Some(&anchors)).unwrap_err();
        assert_eq!(of(&Query { imprint: [7; 32], ..query.clone() }, &answer), TokenFault::Imprint);
        assert_eq!(of(&Query { nonce: [0x41; 8], ..query.clone() }, &answer), TokenFault::Nonce);
        let strange = verify(&answer, &query, Some(&other.anchors())).unwrap_err();
        assert!(matches!(strange, TokenFault::Chain(_)), "{strange:?}");
        assert!(matches!(of(&query, &[]), TokenFault::Malformed(_)));
        // Status "rejection" and no token: what an authority says that will not.
        assert_eq!(of(&query, &[0x30, 5, 0x30, 3, 2, 1, 2]), TokenFault::Refused(2));
        // A signature by somebody else below the same authority.
        let mixed = authority.stamp(&query, "other");
        assert_eq!(verify(&mixed, &query, Some(&anchors)).unwrap().authority, "CN=other");
        // Each byte: what is still accepted says the same.
        for at in 0..answer.len() {
            for bit in [0x01, 0x80] {
                let mut changed = answer.clone();
                changed[at] ^= bit;
                if let Ok(other) = verify(&changed, &query, Some(&anchors)) {
                    assert_eq!(other, stamp, "{at}");
                }
            }
            assert!(verify(&answer[..at], &query, Some(&anchors)).is_err(), "{at}");
        }
    }
}

#[test]
fn a_certificate_that_is_not_for_time_stamps_is_not_believed() {
    let authority = Authority::new(P256);
    let query = Query::new(b"a checkpoint");
    let words = |folder: &Path| {
        std::fs::write(folder.join("q.tsq"), query.encode()).unwrap();
        // openssl refuses to sign so; the attribute is all that ts adds to a CMS signature.
        Command::new("openssl")
            .args(["ts", "-reply", "-config", "config", "-section", "one", "-queryfile", "q.tsq"])
            .args(["-signer", "serving.pem", "-inkey", "serving.key", "-out", "r.tsr"])
            .current_dir(folder)
            .output()
            .unwrap()
    };
    let refused = words(authority.folder.path());
    assert!(!refused.status.success(), "{refused:?}");
    // So the certificate is exchanged: the one that signed is not the one that is named.
    let answer = authority.stamp(&query, "stamping");
    let der = |name: &str| {
        let words = format!("x509 -in {name}.pem -outform DER -out {name}.der");
        authority.openssl(&words.split(' ').collect::<Vec<_>>());
        std::fs::read(authority.path(&format!("{name}.der"))).unwrap()
    };
    let (ours, theirs) = (der("stamping"), der("other"));
    if ours.len() == theirs.len() {
        let at = answer.windows(ours.len()).position(|window| window == ours).unwrap();
        let changed = [&answer[..at], &theirs, &answer[at + ours.len()..]].concat();
        let fault = verify(&changed, &query, Some(&authority.anchors())).unwrap_err();
        assert!(matches!(fault, TokenFault::Chain(_)), "{fault:?}");
    }
}
