//! Writes the folder: new files only, and all of them or none.

use super::plan::Plan;
use super::template;
use crate::client::Fault;
use crate::demo::ca::Ca;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long the test certificate is good. Several clients refuse what is good for longer than 398 days.
const CERTIFICATE_LIFETIME: Duration = Duration::from_secs(397 * 86_400);

/// Refuses a folder that holds anything.
pub(super) fn check_free(folder: &Path) -> Result<(), Fault> {
    match fs::read_dir(folder).map(|mut entries| entries.next().is_none()) {
        Ok(true) => Ok(()),
        Ok(false) => Err(Fault::Usage(format!(
            "{} is there and not empty, and nothing is overwritten; name another folder: staunch init FOLDER …",
            folder.display()
        ))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Fault::Machine(format!("{}: {error}", folder.display()))),
    }
}

/// A file and what it is.
pub(super) type Written = (PathBuf, &'static str);

/// Writes everything. Returns each file and what it is, and the folder, which is removed again unless it is kept.
pub(super) fn write(plan: &Plan) -> Result<(Vec<Written>, Folder), Fault> {
    let mut folder =
        Folder { path: plan.folder.clone(), readers: service_group(&plan.folder), made: Vec::new() };
    folder.make("", 0o755)?;
    let mut written = vec![(plan.configuration(), "the configuration, with comments")];
    if let Some(ca) = plan.ca() {
        test_certificate(&mut folder, &plan.name)?;
        written.extend([
            (ca, "a test authority, for clients to trust; its key was not kept"),
            (folder.path.join("gateway.pem"), "the gateway's certificate"),
            (folder.path.join("gateway.key"), "its key"),
        ]);
    }
    if let (Some(secret), Some(name)) = (&plan.secret, plan.secret_file()) {
        folder.make("secrets", 0o700)?;
        folder.write(&name, 0o600, secret.expose())?;
        written.push((folder.path.join(&name), "the stored credential, for its owner alone"));
    }
    folder.write("staunch.toml", 0o644, template::configuration(plan).as_bytes())?;
    Ok((written, folder))
}

/// A certificate of an authority that is made for it, for trying things out.
fn test_certificate(folder: &mut Folder, name: &str) -> Result<(), Fault> {
    let made = |what: &str, error: &dyn std::fmt::Display| Fault::Machine(format!("{what}: {error}"));
    let ca = Ca::lasting("Staunch test authority", CERTIFICATE_LIFETIME)
        .map_err(|error| made("its certificate authority", &error))?;
    let leaf = ca.leaf(&[name]).map_err(|error| made("its certificate", &error))?;
    folder.write("ca.pem", 0o644, ca.pem().as_bytes())?;
    folder.write("gateway.pem", 0o644, leaf.certificate_pem().as_bytes())?;
    folder.write("gateway.key", 0o600, leaf.key_pem().as_bytes())
}

/// The group of the service's account, where root writes below `/etc` for it: there it can read and change nothing.
pub(super) fn service_group(folder: &Path) -> Option<u32> {
    if !template::is_below_etc(folder) || !rustix::process::geteuid().is_root() {
        return None;
    }
    group_number(&fs::read_to_string(GROUPS).ok()?, SERVICE_GROUP)
}

/// A group's number, of lines `name:password:number:members`.
fn group_number(groups: &str, name: &str) -> Option<u32> {
    let mut lines = groups.lines().map(|line| line.split(':'));
    lines.find_map(|mut fields| (fields.next() == Some(name)).then(|| fields.nth(1)?.parse().ok()).flatten())
}

const GROUPS: &str = "/etc/group";
/// As the packages call it.
const SERVICE_GROUP: &str = "staunch";
/// What a group that may read is given of what the owner has: read and search.
const GROUP_READS: u32 = 0o050;

/// A folder that is being filled; what was made in it goes when this is dropped too early.
pub(super) struct Folder {
    path: PathBuf,
    /// A group that can read what is written.
    readers: Option<u32>,
    made: Vec<PathBuf>,
}

impl Folder {
    /// What was written stays.
    pub(super) fn keep(mut self) {
        self.made.clear();
    }

    fn make(&mut self, name: &str, mode: u32) -> Result<(), Fault> {
        let path = self.path.join(name);
        match DirBuilder::new().recursive(name.is_empty()).mode(mode).create(&path) {
            Ok(()) => self.made.push(path.clone()),
            Err(error) => return Err(Fault::Machine(format!("{}: {error}", path.display()))),
        }
        self.set_group_readable(&path, mode)
    }

    /// Lets the service's group read what root has, and nobody else.
    fn set_group_readable(&self, path: &Path, mode: u32) -> Result<(), Fault> {
        let Some(group) = self.readers else { return Ok(()) };
        let for_group = (mode >> 3) & GROUP_READS;
        let given = std::os::unix::fs::chown(path, None, Some(group))
            .and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(mode & 0o700 | for_group)));
        given.map_err(|error| Fault::Machine(format!("{}: {error}", path.display())))
    }

    fn write(&mut self, name: &str, mode: u32, bytes: &[u8]) -> Result<(), Fault> {
        let path = self.path.join(name);
        let fault = |error: io::Error| Fault::Machine(format!("{}: {error}", path.display()));
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(mode).open(&path).map_err(fault)?;
        self.made.push(path.clone());
        file.write_all(bytes).and_then(|()| file.sync_all()).map_err(fault)?;
        self.set_group_readable(&path, mode)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        for path in self.made.iter().rev() {
            // Only what is empty: somebody else may have put something there.
            let _ = if path.is_dir() { fs::remove_dir(path) } else { fs::remove_file(path) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_found_by_its_whole_name() {
        let groups = "root:x:0:\nstaunch-old:x:7:\nstaunch:x:998:ann,bob\nbroken\n";
        assert_eq!(group_number(groups, "staunch"), Some(998));
        assert_eq!(group_number(groups, "staun"), None);
        assert_eq!(group_number("staunch:x\nstaunch:x:no:\n", "staunch"), None);
    }
}
