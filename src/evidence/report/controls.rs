//! Which control asks for what, where the report shows it, and what the report does not prove.

use crate::recording::reader::verify::Report;
use std::path::PathBuf;

/// A control and where its evidence stands.
pub(super) struct Control {
    pub(super) name: &'static str,
    pub(super) asks: &'static str,
    pub(super) shown: &'static str,
}

pub(super) const CONTROLS: [Control; 7] = [
    Control {
        name: "SOC 2 CC6.1, CC6.7 · HIPAA 164.312(e) · ISO 27001 A.8.24 · NIST SP 800-53 SC-8",
        asks: "Data in transit is encrypted",
        shown: "Encryption: versions, suites and key exchange of both legs; sessions without encryption on a leg",
    },
    Control {
        name: "PCI DSS 4.2.1, 4.2.1.1",
        asks: "Trusted certificates, and an inventory of them",
        shown: "Certificates: what the gateway and each peer showed: subject, issuer, key, end, how it was verified, and its sessions",
    },
    Control {
        name: "NIST SP 800-53 SC-13 · SP 800-52r2",
        asks: "Approved cryptography",
        shown: "Encryption: what SP 800-52r2 says stands beside each version, suite, group and key. The cryptography is ring's, not FIPS-validated; that of recordings is age's (X25519, ChaCha20-Poly1305), neither",
    },
    Control {
        name: "PCI DSS 10.2.1, 10.3.2–10.3.4, 10.7.2 · NIST SP 800-53 AU-9(3), AU-10 · ISO 27001 A.8.15",
        asks: "Audit logs are complete, protected by cryptography, and failures are found",
        shown: "Verdicts and findings; Runs and gaps: silences of the log, runs that were not stopped, bytes and sessions that were not recorded",
    },
    Control {
        name: "PCI DSS 10.5.1 · NIST SP 800-53 AU-11 · HIPAA 164.316(b)(2) (six years)",
        asks: "Logs are kept as long as they must be",
        shown: "Keeping: holds, releases, erasures and deletions, each an entry of the log",
    },
    Control {
        name: "SOC 2 CC6.1 · PCI DSS 8.2 · NIST SP 800-53 IA-2, AC-3",
        asks: "Each access belongs to a person or a service, and is permitted",
        shown: "Identity: people with their sessions and times, proofs; refused requests by reason",
    },
    Control {
        name: "AICPA AU-C 530 · PCI DSS sampling",
        asks: "A sample that can be drawn again",
        shown: "Sample: drawn by SHA-256 of seed and session; each with its segments, entries and inclusion proofs",
    },
];

/// What the report does not prove, in words.
pub(super) fn not_proved(verdict: &Report, logs: &[PathBuf], route: Option<&str>) -> Vec<String> {
    let mut limits = verdict.limits.clone();
    if logs.is_empty() {
        limits.push(
            "Sessions that were not recorded are counted by the log and not named: no log file of the gateway was given \
             (--log)."
                .into(),
        );
    } else {
        limits.push(
            "Sessions that were not recorded are named from files of the gateway's log, which are not signed: what was cut \
             from them is missing in the names, and shows in the count."
                .into(),
        );
    }
    if route.is_some() {
        limits.push(
            "The counts of the log (sessions, unrecorded ones, lost bytes) are of all routes; it does not tell them apart."
                .into(),
        );
    }
    limits.extend([
        "Facts of a session are the gateway's own observations: the report shows what it saw and did, not that the gateway was \
         the only way to the service."
            .into(),
        "Of certificates the one of the peer itself is described, not its chain; recordings of earlier versions have its SHA-256 \
         alone."
            .into(),
        "Recordings are sealed to auditors with X25519, whatever the session used: a session with a post-quantum key exchange is \
         recorded under a classical one for as long as it is kept."
            .into(),
        "A figure says how sessions were encrypted, not whether the other end kept what it got."
            .into(),
    ]);
    limits
}
