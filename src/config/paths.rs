//! Why a file that a configuration names cannot be read, and what to write or do.

use std::io::{Error, ErrorKind};
use std::path::Path;

/// What to do about a file that cannot be opened. `written` is as the configuration has it, `path` what it leads to. The
/// advice repeats neither: a secret may stand in the place of a path.
pub(super) fn remedy(written: &str, path: &Path, error: &Error) -> String {
    match error.kind() {
        ErrorKind::NotFound => not_found(written, path).into(),
        ErrorKind::PermissionDenied => format!("; {}", permission_denied(path)),
        _ if error.raw_os_error() == Some(libc::ELOOP) => "; it is a link that leads to itself".into(),
        ErrorKind::NotADirectory => "; a part of this path is a file, and no folder".into(),
        ErrorKind::InvalidFilename => {
            "; this is too long for a path: does the content itself stand here?".into()
        }
        ErrorKind::InvalidInput => "; name the file in it".into(),
        _ => String::new(),
    }
}

fn not_found(written: &str, path: &Path) -> &'static str {
    let first = written.split('/').next().unwrap_or_default();
    match () {
        () if written.trim() != written => "; blanks stand around its name here; take them away",
        () if first.starts_with('~') || written.contains('$') => {
            "; `~` and `$` are the shell's alone; write the whole path"
        }
        () if written.starts_with("file:") => "; a path stands here alone, without file:",
        () if path.symlink_metadata().is_ok() => "; it is a link to a file that is not there",
        () if path.parent().is_some_and(|folder| !folder.as_os_str().is_empty() && !folder.exists()) => {
            "; its folder is not there either"
        }
        () if Path::new(written).is_relative() => "; a relative path begins at the configuration's folder",
        () => "",
    }
}

/// Tells a file that is closed to this user from one in a folder that is.
pub(super) fn permission_denied(path: &Path) -> &'static str {
    match path.symlink_metadata() {
        Err(_) => "a folder on the way to it is closed to this user; chmod o+x it, or make it its group's",
        Ok(_) => "it is closed to this user; chown it, or chmod o+r it",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn what_was_meant_by_a_path_that_leads_nowhere_is_told() {
        let folder = tempfile::tempdir().unwrap();
        symlink("nowhere", folder.path().join("dangling")).unwrap();
        symlink("loop", folder.path().join("loop")).unwrap();
        std::fs::write(folder.path().join("file"), "").unwrap();
        for (written, words) in [
            ("absent.pem", "begins at the configuration's folder"),
            ("absent.pem ", "blanks"),
            ("~/absent.pem", "the shell's"),
            ("~me/absent.pem", "the shell's"),
            ("$HOME/absent.pem", "the shell's"),
            ("certs/${NAME}.pem", "the shell's"),
            ("file:absent.pem", "without file:"),
            ("absent/absent.pem", "its folder is not there"),
            ("dangling", "a link to a file that is not there"),
            ("loop", "leads to itself"),
            ("file/absent.pem", "no folder"),
            (&"x".repeat(5000), "too long"),
            (".", "name the file in it"),
        ] {
            let path = folder.path().join(written);
            let error = crate::files::read(&path, 10).unwrap_err();
            let said = remedy(written, &path, &error);
            assert!(said.contains(words), "{written}: {error:?} {said}");
        }
    }
}
