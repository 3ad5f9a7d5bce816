//! Confinement of the running gateway: which files it may still open (Landlock), and which system calls it may still make
//! (seccomp). What somebody who takes over the process could do beyond serving is refused by the kernel from then on.
//!
//! [`confine`] holds for the calling thread and all that it starts later: call it while there is no other. It cannot be undone.
//! It does not restrict the network: whom a gateway talks to is a matter of firewalls.

mod calls;
mod files;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// How much a gateway insists on being confined.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// As far as the kernel can; the log says how far.
    #[default]
    Auto,
    /// It does not start otherwise.
    Require,
    /// Not at all.
    Off,
}

/// What a configuration needs of the system once the gateway runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// How much it is insisted on.
    pub mode: Mode,
    /// Files that a reload reads again.
    pub read: BTreeSet<PathBuf>,
    /// Directories of the gateway's own, made where they are missing.
    pub owned: BTreeSet<PathBuf>,
    /// Directories of others in which it writes.
    pub written: BTreeSet<PathBuf>,
    /// Whether it starts programs: which files these need is theirs to know, so files stay open to it.
    pub runs_programs: bool,
}

/// What is in force. Each part is `Err` with the reason where it is not.
#[derive(Clone, Debug)]
pub struct Confinement {
    plan: Plan,
    files: Result<(), String>,
    calls: Result<(), String>,
}

/// Confines this thread and those that it starts. `Err`: [`Mode::Require`] cannot be met.
pub fn confine(plan: Plan) -> Result<Confinement, String> {
    let off = || Err("[system] sandbox is \"off\"".to_owned());
    let (files, calls) = match plan.mode {
        Mode::Off => (off(), off()),
        Mode::Auto | Mode::Require => {
            let files = match plan.runs_programs {
                true => Err(FILES_OF_PROGRAMS.to_owned()),
                false => files::restrict(&plan),
            };
            (files, calls::restrict(plan.runs_programs))
        }
    };
    if plan.mode == Mode::Require {
        let fault = |what: &str, why: &str| format!("[system] sandbox is \"require\", but {what}: {why}");
        if let (Err(why), false) = (&files, plan.runs_programs) {
            return Err(fault("files cannot be confined", why));
        }
        if let Err(why) = &calls {
            return Err(fault("system calls cannot be confined", why));
        }
    }
    Ok(Confinement { plan, files, calls })
}

const FILES_OF_PROGRAMS: &str = "[acme] dns_hook is a program with files of its own";

impl Confinement {
    /// No confinement, for a gateway inside of another program.
    pub fn none() -> Self {
        let none = || Err("not asked for".to_owned());
        Confinement { plan: Plan { mode: Mode::Off, ..Plan::default() }, files: none(), calls: none() }
    }

    /// In which words the log says of files, and of system calls, whether they are confined.
    pub fn words(&self) -> (&str, &str) {
        fn word(part: &Result<(), String>) -> &str {
            part.as_ref().map_or_else(String::as_str, |()| "confined")
        }
        (word(&self.files), word(&self.calls))
    }

    /// Whether it was wanted and is not whole.
    pub fn is_lacking(&self) -> bool {
        let lacks_files = self.files.is_err() && !self.plan.runs_programs;
        self.plan.mode != Mode::Off && (lacks_files || self.calls.is_err())
    }

    /// Why a configuration cannot come into force without a restart.
    pub fn restart_needed_for(&self, plan: &Plan) -> Option<String> {
        if self.plan.mode == Mode::Off && plan.mode == Mode::Off {
            return None;
        }
        if self.plan.mode != plan.mode {
            return Some("[system] sandbox changed".into());
        }
        if self.calls.is_ok() && plan.runs_programs && !self.plan.runs_programs {
            return Some("[acme] dns_hook is new, and this process may start no programs".into());
        }
        if self.files.is_err() {
            return None;
        }
        let writes = |plan: &Plan| plan.owned.union(&plan.written).cloned().collect::<BTreeSet<_>>();
        if let Some(folder) = writes(plan).difference(&writes(&self.plan)).next() {
            return Some(format!("this process may not write in {}", folder.display()));
        }
        let blocked = plan.read.iter().find(|path| self.is_blocked(path))?;
        Some(format!("this process may not read {}", blocked.display()))
    }

    /// Whether it is this confinement that keeps a file from being read.
    pub fn is_blocked(&self, path: &Path) -> bool {
        let denied = || {
            crate::files::open(path).is_err_and(|error| error.kind() == std::io::ErrorKind::PermissionDenied)
        };
        // access(2) knows owners and modes, not Landlock.
        self.files.is_ok() && denied() && rustix::fs::access(path, rustix::fs::Access::READ_OK).is_ok()
    }
}

impl Plan {
    /// In one line, what a gateway with this configuration could still do.
    pub fn summary(&self) -> String {
        if self.mode == Mode::Off {
            return "off".into();
        }
        let list = |paths: &mut dyn Iterator<Item = &PathBuf>| {
            paths.map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
        };
        let programs = match self.runs_programs {
            true => return format!("no dangerous system calls; files are open, because {FILES_OF_PROGRAMS}"),
            false => "starts no programs",
        };
        let read = files::readable(self);
        let read = list(&mut read.iter().filter(|path| !files::is_of_system(path)));
        let read = if read.is_empty() { read } else { format!(" and {read}") };
        let written = list(&mut self.owned.union(&self.written));
        let written = if written.is_empty() { "nothing".into() } else { format!("below {written}") };
        let need = if self.mode == Mode::Require { " (or does not start)" } else { "" };
        format!("reads below /etc, /usr, /proc{read}; writes {written}; {programs}{need}")
    }
}
