//! Files, by Landlock: what the system's libraries and a reload read, and where the gateway writes.

use super::Plan;
use landlock::{
    ABI, Access, AccessFs, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetError, RulesetStatus, Scope, path_beneath_rules,
};
use std::collections::BTreeSet;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// What is read for name look-ups, the system's authorities, loaded libraries, limits of control groups and the process's own
/// figures. Directories, as most of their files are replaced by renaming: a rule stays with what it was made for. `/proc` and not
/// `/proc/self`, whose inode the kernel may forget; of other processes nothing secret can be read there from within.
const SYSTEM: [&str; 16] = [
    "/etc",
    "/usr/lib",
    "/usr/lib64",
    "/usr/share",
    "/usr/local/lib",
    "/usr/local/share",
    "/lib",
    "/lib64",
    "/nix/store",
    "/proc",
    "/sys/fs/cgroup",
    "/sys/devices/system/cpu",
    "/run/systemd/resolve",
    "/run/resolvconf",
    "/run/NetworkManager",
    "/dev/urandom",
];

/// Directories in which the files of many stand. A file directly below is permitted alone, and once it is replaced by renaming,
/// reading it again takes a restart.
const SHARED: [&str; 6] = ["/var/lib", "/var/tmp", "/var/run", "/usr/local", "/run/secrets", "/run/user"];

/// Keeps this thread, and those that it starts, from all other files.
pub(super) fn restrict(plan: &Plan) -> Result<(), String> {
    for folder in &plan.owned {
        // Where this fails, whoever uses the directory says so in better words.
        let _ = DirBuilder::new().recursive(true).mode(0o700).create(folder);
    }
    match apply(plan) {
        Ok(RulesetStatus::FullyEnforced | RulesetStatus::PartiallyEnforced) => Ok(()),
        // What the first version lacks is demanded when accesses are named.
        Ok(RulesetStatus::NotEnforced) | Err(RulesetError::HandleAccesses(_)) => Err(NO_LANDLOCK.into()),
        Err(error) => Err(error.to_string()),
    }
}

const NO_LANDLOCK: &str = "this kernel has no Landlock, or an older one than Linux 5.19's";

fn apply(plan: &Plan) -> Result<RulesetStatus, RulesetError> {
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let write = AccessFs::from_all(ABI::V5) & !AccessFs::Execute;
    // The first version (Linux 5.13 to 5.18) knows no moves from one directory to another, which recordings need.
    let ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(ABI::V2))?
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(ABI::V5))?
        .scope(Scope::Signal)?;
    let mut created = ruleset.create()?.add_rules(path_beneath_rules(readable(plan), read))?;
    if let Ok(null) = PathFd::new("/dev/null") {
        created = created.add_rule(PathBeneath::new(null, AccessFs::ReadFile | AccessFs::WriteFile))?;
    }
    let written = path_beneath_rules(plan.owned.union(&plan.written), write);
    Ok(created.add_rules(written)?.restrict_self()?.ruleset)
}

/// Directories, and single files, that may be read.
pub(super) fn readable(plan: &Plan) -> BTreeSet<PathBuf> {
    let system = SYSTEM.iter().map(PathBuf::from);
    // Often a link to where a resolver or a container keeps it.
    let resolver = places(Path::new("/etc/resolv.conf"));
    // What a backtrace reads.
    let program = std::env::current_exe().into_iter();
    let authorities = ["SSL_CERT_FILE", "SSL_CERT_DIR", "CREDENTIALS_DIRECTORY"];
    let named = authorities.iter().filter_map(std::env::var_os).flat_map(|path| {
        let path = PathBuf::from(path);
        if path.is_dir() { vec![path] } else { places(&path) }
    });
    let read = plan.read.iter().flat_map(|path| places(path));
    let all: BTreeSet<PathBuf> = system.chain(resolver).chain(program).chain(named).chain(read).collect();
    // Those below another one add nothing.
    let is_below = |path: &PathBuf| path.ancestors().skip(1).any(|above| all.contains(above));
    all.iter().filter(|path| !is_below(path)).cloned().collect()
}

pub(super) fn is_of_system(path: &Path) -> bool {
    SYSTEM.iter().any(|system| path.starts_with(system))
        || std::env::current_exe().is_ok_and(|own| own == path)
}

/// Where a file stands, as it is named and as links lead to it: its directory, so that a new file may take its place.
fn places(path: &Path) -> Vec<PathBuf> {
    let named = std::path::absolute(path).ok();
    let real = path.canonicalize().ok();
    let place = |path: PathBuf| match path.parent() {
        Some(folder) if !is_shared(folder) => folder.to_owned(),
        _ => path,
    };
    let mut places: Vec<PathBuf> = named.into_iter().chain(real).map(place).collect();
    places.dedup();
    places
}

/// Whether the files of many stand in a directory: `/`, those directly below it, home directories and some more.
fn is_shared(folder: &Path) -> bool {
    let depth = folder.components().count() - 1;
    depth < 2
        || (depth == 2 && folder.starts_with("/home"))
        || SHARED.iter().any(|shared| folder == Path::new(shared))
        || std::env::var_os("HOME").is_some_and(|home| Path::new(&home) == folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_files_directory_is_permitted_and_shared_ones_are_not() {
        for (file, place) in [
            ("/srv/gateway/tls/gw.key", "/srv/gateway/tls"),
            ("/var/lib/staunch/gw.key", "/var/lib/staunch"),
            ("/var/lib/gw.key", "/var/lib/gw.key"),
            ("/gw.key", "/gw.key"),
            ("/opt/gw.key", "/opt/gw.key"),
            ("/home/ann/gw.key", "/home/ann/gw.key"),
            ("/home/ann/gw/gw.key", "/home/ann/gw"),
            ("/run/secrets/gw.key", "/run/secrets/gw.key"),
        ] {
            assert_eq!(places(Path::new(file)), [PathBuf::from(place)], "{file}");
        }
    }

    #[test]
    fn where_links_lead_is_permitted_too() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().canonicalize().unwrap().join(name);
        std::fs::create_dir_all(at("live/gw")).unwrap();
        std::fs::create_dir_all(at("archive/gw")).unwrap();
        std::fs::write(at("archive/gw/privkey1.pem"), "").unwrap();
        std::os::unix::fs::symlink(at("archive/gw/privkey1.pem"), at("live/gw/privkey.pem")).unwrap();
        assert_eq!(places(&at("live/gw/privkey.pem")), [at("live/gw"), at("archive/gw")]);
    }
}
