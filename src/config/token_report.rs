//! What the gateway sees in a token, and which routes that opens: for `staunch check --token`. Opens no socket.

use super::loaded::Loaded;
use crate::audit::{Escape, Style};
use std::io::Read;
use std::path::Path;
use std::time::SystemTime;

/// Bytes of a token's file: tokens have 16 KiB at most.
const MAX_FILE: u64 = 64 * 1024;

/// Bytes of a line about a token: its texts are whoever's who made it.
const MAX_LINE: usize = 2048;

/// What to print of the token in a file (`-`: standard input), and whether it opens a route. The text never holds the token.
pub fn token_report(loaded: &Loaded, path: &Path) -> Result<(String, bool), String> {
    let mut bytes = Vec::new();
    let read = match path == Path::new("-") {
        true => std::io::stdin().lock().take(MAX_FILE).read_to_end(&mut bytes),
        false => std::fs::File::open(path).and_then(|file| file.take(MAX_FILE).read_to_end(&mut bytes)),
    };
    read.map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(report(loaded, bytes.trim_ascii(), SystemTime::now()))
}

fn report(loaded: &Loaded, token: &[u8], now: SystemTime) -> (String, bool) {
    let mut text = String::new();
    let mut line = |what: &str| {
        let escape = Escape { style: Style::Human, limit: MAX_LINE, is_cut: false };
        let mut escaped = String::new();
        escape.write(&mut escaped, what.as_bytes());
        // No quotes stand around it.
        text += &escaped.replace("\\\"", "\"");
        text.push('\n');
    };
    let identity = match loaded.gateway.issuers.inspect(token, now) {
        Ok(identity) => std::sync::Arc::new(identity),
        Err(refused) => {
            line(&format!("refused on every route ({}): {}", refused.why.code(), refused.detail));
            for (what, value) in loaded.gateway.issuers.claims_shown(token) {
                line(&format!("{what:<9} {value}"));
            }
            return (text, false);
        }
    };
    let groups = identity.groups.iter().map(|group| &**group).collect::<Vec<_>>().join(", ");
    line(&format!("subject   {}", identity.subject));
    line(&format!("issuer    {}", identity.issuer));
    line(&format!("audience  {}", identity.claims.values("aud").collect::<Vec<_>>().join(", ")));
    let why_none = || loaded.gateway.issuers.why_no_groups(&identity.issuer, token);
    line(&match groups.is_empty() {
        true => format!("groups    none: {}", why_none().unwrap_or_default()),
        false => format!("groups    {groups}"),
    });
    let left = identity.expires.duration_since(now).map_or(0, |left| left.as_secs());
    line(&format!("good for  {left} s"));
    line("signature not verified here: that takes the issuer's keys");
    let mut opens = false;
    for route in &loaded.gateway.routes {
        let verdict = match route.policy.permit(&route.name, &identity, now) {
            Ok(permit) => {
                opens = true;
                format!("open, by rule {}", permit.rule() + 1)
            }
            Err(_) => format!("no: {}", route.policy.explain(&identity)),
        };
        line(&format!("route {}: {verdict}", route.name));
    }
    (text, opens)
}
