//! A token that something else renews and keeps in a file, as agents of clusters do.

use super::claims::Claims;
use super::fault::Fault;
use super::secrets::{text, trimmed};
use crate::secret::Secret;
use std::path::Path;
use std::time::SystemTime;

/// Reads the token and when it expires, if it says so. The file may be open to others, as those of cluster agents often are.
pub(super) fn read(path: &Path) -> Result<(Secret, Option<SystemTime>), Fault> {
    let fault = |why: &str| Fault::Machine(format!("the token file {}: {why}", path.display()));
    let bytes = std::fs::read(path).map_err(|error| fault(&error.to_string()))?;
    let token = trimmed(bytes)
        .filter(|token| token.expose().iter().all(u8::is_ascii_graphic))
        .ok_or_else(|| fault("it does not hold a token and nothing else"))?;
    let expires = Claims::of(text(&token)).and_then(|claims| claims.expires());
    match expires.is_some_and(|expires| expires <= SystemTime::now()) {
        true => Err(fault("its token has expired; see to what writes the file")),
        false => Ok((token, expires)),
    }
}
