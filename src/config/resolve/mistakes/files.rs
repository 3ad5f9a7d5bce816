//! Files that decide who gets in, or whom the gateway believes, and that every account of the machine can change.

use crate::config::fault::FaultCollector;
use crate::config::model::{Config, Text, Upstream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// The right of all others to write.
const MODE_OTHERS_WRITE: u32 = 0o002;

pub(super) fn warn(config: &Config, base: &Path, notes: &mut FaultCollector<'_>) {
    if notes.is_changed_by_others {
        let text =
            "every account of this machine can change this file, and with it who may do what; chmod o-w it";
        notes.warn(0..0, text);
    }
    let can_be_changed = |path: &Path| mode(path).is_some_and(|mode| mode & MODE_OTHERS_WRITE != 0);
    for text in named(config) {
        let path = base.join(text.get_ref());
        if !text.get_ref().starts_with("credential:") && can_be_changed(&path) {
            let path = path.display();
            let why = format!(
                "every account of this machine can change {path}, and with it whom the gateway believes; chmod o-w it"
            );
            notes.warn(text.span(), why);
        }
    }
    // A directory in which everybody may make files, as /tmp: before the gateway does, somebody else makes this one.
    let revocations = config.admin.revocations.as_ref().map(|path| base.join(path.get_ref()));
    if let Some(folder) =
        revocations.as_deref().and_then(Path::parent).filter(|folder| can_be_changed(folder))
    {
        let text = format!(
            "every account of this machine can make files in {}, where revocations are to be kept; choose a directory of the \
             gateway's own",
            folder.display()
        );
        notes.warn(0..0, text);
    }
}

/// Public files: certificates, authorities, revocation lists. Those of secrets are refused when they are read.
fn named(config: &Config) -> Vec<&Text> {
    let mut all: Vec<&Text> = Vec::new();
    all.extend(config.issuer.iter().filter_map(|issuer| issuer.get_ref().ca.as_ref()));
    all.extend(config.acme.authority.values().filter_map(|authority| authority.get_ref().ca.as_ref()));
    all.extend(config.admin.certificate.iter().map(|pair| &pair.chain));
    for route in config.route.iter().map(|route| route.get_ref()) {
        all.extend([&route.client_ca, &route.client_crl].into_iter().flatten());
        all.extend(route.certificate.iter().filter_map(|shown| shown.get_ref().chain.as_ref()));
        if let Upstream::Table(table) = route.upstream.get_ref() {
            all.extend(&table.ca);
            all.extend(table.certificate.iter().map(|pair| &pair.chain));
        }
    }
    all
}

fn mode(path: &Path) -> Option<u32> {
    std::fs::metadata(path).ok().map(|found| found.permissions().mode())
}
