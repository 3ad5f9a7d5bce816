//! A token that something else renews and keeps in a file, as agents of clusters do.

use super::claims::Claims;
use super::fault::Fault;
use super::secrets::{check_access, text, trimmed};
use crate::identify::oidc::Mistaken;
use crate::secret::Secret;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::time::SystemTime;

/// Bytes of a token file: gateways take tokens of 16 KiB.
const MAX_BYTES: u64 = 64 * 1024;

/// Reads the token and when it expires, if it says so. Others may read the file, as those of cluster agents often are, but not write
/// it: who does would choose as whom this user logs in.
pub(super) fn read(path: &Path) -> Result<(Secret, Option<SystemTime>), Fault> {
    let fault = |why: &str| Fault::Machine(format!("the token file {}: {why}", path.display()));
    let mut file = File::open(path).map_err(|error| fault(&error.to_string()))?;
    check_access(&file, path, 0o022)?;
    let mut bytes = Vec::new();
    file.by_ref().take(MAX_BYTES).read_to_end(&mut bytes).map_err(|error| fault(&error.to_string()))?;
    let mistaken = Mistaken::of(bytes.trim_ascii());
    let token =
        trimmed(bytes).filter(|token| token.expose().iter().all(u8::is_ascii_graphic)).ok_or_else(|| {
            let what =
                mistaken.map(|mistaken| format!(": {mistaken}; {}", mistaken.remedy())).unwrap_or_default();
            fault(&format!("it does not hold a token and nothing else{what}"))
        })?;
    let expires = Claims::of(text(&token)).and_then(|claims| claims.expires());
    match expires.is_some_and(|expires| expires <= SystemTime::now()) {
        true => Err(fault("its token has expired; see to what writes the file")),
        false => Ok((token, expires)),
    }
}
