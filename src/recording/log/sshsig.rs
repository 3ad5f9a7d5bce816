//! SSH signatures of files, which `ssh-keygen -Y verify` checks (OpenSSH's PROTOCOL.sshsig).

use super::note::Signer;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::digest::{SHA512, digest};

/// What signatures of `<n>.sum` are for.
pub const SEGMENT: &str = "staunch-segment@v1";
/// What signatures of `report.sum` are for.
pub const REPORT: &str = "staunch-report@v1";

fn string(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
    out.extend_from_slice(bytes);
}

fn public_key(key: &[u8; 32]) -> Vec<u8> {
    let mut out = Vec::new();
    string(&mut out, b"ssh-ed25519");
    string(&mut out, key);
    out
}

/// The line of an allowed-signers file.
pub fn allowed_signer(principal: &str, key: &[u8; 32]) -> String {
    format!(
        "{principal} namespaces=\"{SEGMENT},{REPORT}\" ssh-ed25519 {}\n",
        STANDARD.encode(public_key(key))
    )
}

/// Signs a file's bytes for one purpose; armored.
pub fn sign(signer: &Signer, namespace: &str, message: &[u8]) -> String {
    let mut signed = b"SSHSIG".to_vec();
    string(&mut signed, namespace.as_bytes());
    string(&mut signed, b"");
    string(&mut signed, b"sha512");
    string(&mut signed, digest(&SHA512, message).as_ref());
    let mut signature = Vec::new();
    string(&mut signature, b"ssh-ed25519");
    string(&mut signature, &signer.sign_bytes(&signed));
    let mut blob = b"SSHSIG\0\0\0\x01".to_vec();
    string(&mut blob, &public_key(signer.verifier().key()));
    string(&mut blob, namespace.as_bytes());
    string(&mut blob, b"");
    string(&mut blob, b"sha512");
    string(&mut blob, &signature);
    let text = STANDARD.encode(blob);
    let lines: Vec<&str> = text.as_bytes().chunks(70).filter_map(|l| std::str::from_utf8(l).ok()).collect();
    format!("-----BEGIN SSH SIGNATURE-----\n{}\n-----END SSH SIGNATURE-----\n", lines.join("\n"))
}

/// A public key in PEM (RFC 8410), for `openssl pkeyutl -verify -rawin`.
pub fn pem(key: &[u8; 32]) -> String {
    const PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
    let text = STANDARD.encode([&PREFIX[..], key].concat());
    format!("-----BEGIN PUBLIC KEY-----\n{text}\n-----END PUBLIC KEY-----\n")
}
