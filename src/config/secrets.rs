//! Where secrets stand. A configuration holds references, never values.

use super::paths;
use crate::files::{self, MAX_PUBLIC_FILE};
use crate::secret::Secret;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Reads the secret that a reference names: `file:PATH`, `env:NAME`, `credential:NAME`. A newline at its end is cut.
pub(super) fn read(reference: &str, base: &Path) -> Result<Secret, String> {
    let bytes = match reference.split_once(':') {
        Some(("file", path)) => {
            open_private(path, base).map_err(|why| format!("the file that stands here {why}"))?
        }
        Some(("env", name)) => std::env::var(name).map(String::into_bytes).map_err(|_| {
            let dollar = if name.contains('$') { "; write its name without $" } else { "" };
            format!("the environment variable that stands here is not set, or is no text{dollar}")
        })?,
        Some(("credential", name)) => read_credential(name)?,
        _ => {
            let meant = match reference.starts_with('$') {
                true => "; a variable is written \"env:NAME\", without $",
                false => "",
            };
            return Err(format!(
                "a secret is named by where it stands, never written here; write \"file:PATH\", \"env:NAME\" or \
                 \"credential:NAME\"{meant}"
            ));
        }
    };
    let end = bytes.iter().rposition(|byte| !matches!(byte, b'\n' | b'\r')).map_or(0, |last| last + 1);
    if end == 0 {
        return Err("the secret is empty; put the value there".into());
    }
    if bytes[..end].iter().any(|byte| byte.is_ascii_control()) {
        return Err(
            "the secret holds control characters, which no header and no password field can carry".into()
        );
    }
    Ok(Secret::new(bytes[..end].to_vec()))
}

/// Reads what the service manager passes under this name (`LoadCredential=` of systemd).
fn read_credential(name: &str) -> Result<Vec<u8>, String> {
    let folder = credentials_directory().ok_or(
        "there is no credentials directory; start under systemd with LoadCredential=, or use a file",
    )?;
    if name.is_empty() || name == ".." || name.contains('/') {
        return Err("a credential is named as in LoadCredential=, without a folder".into());
    }
    files::read(&folder.join(name), MAX_FILE).map_err(|error| {
        let remedy = match error.kind() {
            std::io::ErrorKind::NotFound => "; name it in LoadCredential= of the unit",
            _ => "",
        };
        format!("the credential that stands here cannot be read: {error}{remedy}")
    })
}

fn credentials_directory() -> Option<PathBuf> {
    std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from).filter(|folder| folder.is_absolute())
}

/// Reads a private key: `credential:NAME`, or a file that nobody but its owner and this service may read.
pub(super) fn read_private(written: &str, base: &Path) -> Result<Vec<u8>, String> {
    match written.strip_prefix("credential:") {
        Some(name) => read_credential(name),
        None => open_private(written, base).map_err(|why| format!("{} {why}", base.join(written).display())),
    }
}

/// Looks at the file that was opened, not at what bears its name by then. The reason of a failure does not hold the path:
/// somebody may have written the secret in its place.
fn open_private(written: &str, base: &Path) -> Result<Vec<u8>, String> {
    let path = &base.join(written);
    let fault = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::PermissionDenied if path.symlink_metadata().is_err() => {
            format!("cannot be read: {} ({error})", paths::permission_denied(path))
        }
        std::io::ErrorKind::PermissionDenied => format!(
            "cannot be read by this user; chown it, or make it root's with this service's group and chmod 640 ({error})"
        ),
        std::io::ErrorKind::InvalidInput => "is no file".to_owned(),
        _ => format!("cannot be read: {error}{}", paths::remedy(written, path, &error)),
    };
    let mut file = files::open(path).map_err(fault)?;
    let metadata = file.metadata().map_err(fault)?;
    // systemd shows a credential's access list as the mode of a group; the folder is this service's alone.
    if !credentials_directory().is_some_and(|folder| path.starts_with(folder)) {
        check_owner(metadata.permissions().mode() & 0o777, metadata.uid(), metadata.gid())?;
    }
    let mut bytes = Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or(0).min(MAX_FILE));
    file.by_ref().take(MAX_FILE as u64).read_to_end(&mut bytes).map_err(fault)?;
    Ok(bytes)
}

/// Passes a file that this user or root owns and nobody else may read, and one of root's that the service's group may read.
fn check_owner(mode: u32, owner: u32, group: u32) -> Result<(), String> {
    let own = rustix::process::geteuid().as_raw();
    if owner != 0 && owner != own {
        return Err("belongs to another user, who can change it at any time; chown it".into());
    }
    // Root, who checks a configuration for a service, is in no group of it.
    let is_of_service = || match own {
        0 => group != 0,
        _ => is_own_group(group),
    };
    match mode & 0o077 {
        0 => Ok(()),
        0o040 if owner == 0 && is_of_service() => Ok(()),
        _ => Err(format!("is open to others (mode {mode:o}); chmod 600 it")),
    }
}

fn is_own_group(group: u32) -> bool {
    let is_it = |one: rustix::process::Gid| one.as_raw() == group;
    is_it(rustix::process::getegid())
        || rustix::process::getgroups().is_ok_and(|groups| groups.into_iter().any(is_it))
}

/// Bytes of a secret or a private key: more is another file.
const MAX_FILE: usize = 1 << 20;

/// Reads a file that is no secret.
pub(super) fn read_file(written: &str, base: &Path) -> Result<Vec<u8>, String> {
    let path = base.join(written);
    files::read(&path, MAX_PUBLIC_FILE)
        .map_err(|error| format!("{}: {error}{}", path.display(), paths::remedy(written, &path, &error)))
}

/// Reads what may be a service manager's, too: `credential:NAME`, or a file.
pub(super) fn read_public(written: &str, base: &Path) -> Result<Vec<u8>, String> {
    match written.strip_prefix("credential:") {
        Some(name) => read_credential(name),
        None => read_file(written, base),
    }
}

/// Replaces `{secret:NAME}` in a template; `look_up` gives the secret of a name.
pub(super) fn fill<'a>(
    template: &str,
    mut look_up: impl FnMut(&str) -> Result<&'a Secret, String>,
) -> Result<Secret, String> {
    let mut value = Vec::new();
    let mut rest = template;
    while let Some(start) = rest.find("{secret:") {
        value.extend_from_slice(&rest.as_bytes()[..start]);
        let after = &rest[start + "{secret:".len()..];
        let end = after.find('}').ok_or("a { without its }; write {secret:NAME}")?;
        value.extend_from_slice(look_up(&after[..end])?.expose());
        rest = &after[end + 1..];
    }
    if rest.contains(['{', '}']) {
        return Err("braces stand only around secret:NAME".into());
    }
    value.extend_from_slice(rest.as_bytes());
    Ok(Secret::new(value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn templates_are_filled_and_misspelt_ones_refused() {
        let key = Secret::new(b"k".to_vec());
        let fill =
            |text| fill(text, |name| if name == "a" { Ok(&key) } else { Err("no such secret".into()) });
        assert_eq!(fill("Bearer {secret:a}!").unwrap().expose(), b"Bearer k!");
        assert_eq!(fill("plain").unwrap().expose(), b"plain");
        for bad in ["{secret:b}", "{secret:a", "{a}", "}"] {
            assert!(fill(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_secret_file_that_others_can_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        fs::write(&path, "value\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let fault = read("file:key", folder.path()).unwrap_err();
        assert!(fault.contains("chmod 600"), "{fault}");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(read("file:key", folder.path()).unwrap().expose(), b"value");
    }

    #[test]
    fn a_file_of_roots_may_be_read_by_the_services_group_and_nobody_elses() {
        let own = rustix::process::geteuid().as_raw();
        let group = rustix::process::getegid().as_raw();
        let service = if own == 0 { 990 } else { group };
        for (mode, owner, group, good) in [
            (0o640, 0, service, true),
            (0o440, 0, service, true),
            (0o644, 0, service, false),
            (0o660, 0, service, false),
            (0o600, own, group, true),
            (0o400, 0, group, true),
            (0o600, own + 1, group, false),
            (0o640, own + 1, service, false),
        ] {
            assert_eq!(check_owner(mode, owner, group).is_ok(), good, "{mode:o} {owner} {group}");
        }
    }

    #[test]
    fn values_in_place_of_references_are_refused_without_repeating_them() {
        let fault = read("sk-live-123", Path::new("")).unwrap_err();
        assert!(fault.contains("file:PATH") && !fault.contains("sk-live"), "{fault}");
        for reference in ["env:sk-live-123", "file:sk-live-123", "credential:sk-live-123"] {
            let fault = read(reference, Path::new("")).unwrap_err();
            assert!(!fault.contains("sk-live"), "{fault}");
        }
    }
}
