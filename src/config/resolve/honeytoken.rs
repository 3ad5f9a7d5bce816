//! Honeytokens.

use super::context::choice;
use crate::config::fault::FaultCollector;
use crate::config::model;
use crate::policy::honeytoken::{Honeytoken, Honeytokens};

pub(super) fn honeytokens(written: &[model::Honeytoken], notes: &mut FaultCollector<'_>) -> Honeytokens {
    Honeytokens(written.iter().filter_map(|one| honeytoken(one, notes)).collect())
}

fn honeytoken(written: &model::Honeytoken, notes: &mut FaultCollector<'_>) -> Option<Honeytoken> {
    let name = &written.name;
    if written.subject.is_none() && written.token_sha256.is_none() && written.database_user.is_none() {
        let advice = "write subject, token_sha256 or database_user";
        notes.fault(name.span(), format!("the honeytoken names nothing that could be shown; {advice}"));
    }
    let token_sha256 = match &written.token_sha256 {
        None => None,
        Some(text) => Some(notes.take(text.span(), digest(text.get_ref()))?),
    };
    let actions = [("cut", true), ("watch", false)];
    let cuts = choice(&written.action.as_ref(), true, &actions, notes)?;
    let text = |text: &Option<String>| text.as_deref().map(Into::into);
    Some(Honeytoken {
        name: name.get_ref().as_str().into(),
        issuer: text(&written.issuer),
        subject: text(&written.subject),
        token_sha256,
        database_user: text(&written.database_user),
        cuts,
    })
}

fn digest(hex: &str) -> Result<[u8; 32], String> {
    let bytes: Option<Vec<u8>> = match hex.len() == 64 && hex.is_ascii() {
        true => (0..32).map(|n| u8::from_str_radix(&hex[2 * n..2 * n + 2], 16).ok()).collect(),
        false => None,
    };
    let bytes = bytes.and_then(|bytes| bytes.try_into().ok());
    bytes.ok_or_else(|| "not 64 digits of hex; write what `sha256sum` prints of the token".into())
}
