//! What somebody finds who has taken over a gateway that runs: a process of the tests' own is confined like one and tries.

use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};
use staunch::sandbox::{Mode, Plan, confine};
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

/// The process under test gets its folder by this name.
const FOLDER: &str = "STAUNCH_TEST_SANDBOX";

/// A folder as a gateway has it, and others beside it that are none of its business.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in [("gateway/tls.key", "key"), ("gateway/new.key", "new"), ("other/secret", "secret")] {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    }
    fs::create_dir(folder.path().join("state")).unwrap();
    folder
}

fn plan(folder: &Path) -> Plan {
    Plan {
        mode: Mode::Auto,
        read: [folder.join("gateway/tls.key")].into(),
        owned: [folder.join("recordings")].into(),
        written: [folder.join("state")].into(),
        runs_programs: false,
    }
}

/// Runs a test of this file in a process of its own, as what it is about cannot be undone: there it is called again.
fn alone(test: &str, tries: impl FnOnce(&Path)) {
    if let Some(folder) = std::env::var_os(FOLDER) {
        return tries(Path::new(&folder));
    }
    let folder = folder();
    let done = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(FOLDER, folder.path())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&done.stdout) + String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success() && text.contains("1 passed"), "{text}");
}

/// Makes the kernel answer this process as one without Landlock does: Linux before 5.13 with ENOSYS, one that was started
/// without it with EOPNOTSUPP.
fn without_landlock(errno: i32) {
    let rules = [(libc::SYS_landlock_create_ruleset, Vec::new())].into();
    let refused = SeccompAction::Errno(errno.cast_unsigned());
    let architecture = std::env::consts::ARCH.try_into().unwrap();
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, refused, architecture).unwrap();
    seccompiler::apply_filter(&BpfProgram::try_from(filter).unwrap()).unwrap();
}

/// Without Landlock in this kernel, only system calls can be tried.
fn has_landlock() -> bool {
    !fs::read_to_string("/sys/kernel/security/lsm").is_ok_and(|list| !list.contains("landlock"))
}

#[test]
fn files_of_others_cannot_be_opened_and_programs_cannot_be_started() {
    alone("files_of_others_cannot_be_opened_and_programs_cannot_be_started", |folder| {
        let at = |name: &str| folder.join(name);
        let denied =
            |result: std::io::Result<()>| assert_eq!(result.unwrap_err().kind(), ErrorKind::PermissionDenied);
        // The test's own thread, and those that it starts: as the gateway's workers and their look-ups.
        let confinement = confine(plan(folder)).unwrap();
        assert_eq!(confinement.words().1, "confined");
        let tries = || {
            if has_landlock() {
                assert_eq!(confinement.words(), ("confined", "confined"));
                for foreign in ["/root", "/home", "/var/log", "/boot", "/tmp"] {
                    if Path::new(foreign).exists() {
                        denied(fs::read_dir(foreign).map(drop));
                    }
                }
                denied(fs::read(at("other/secret")).map(drop));
                denied(fs::write(at("other/made"), "x"));
                denied(fs::write(at("gateway/tls.key"), "forged"));
                denied(fs::remove_file(at("gateway/tls.key")));
                denied(fs::rename(at("gateway/tls.key"), at("gateway/away")));
                denied(fs::write("/etc/staunch-was-here", "x"));
                denied(std::os::unix::fs::symlink("/root", at("gateway/link")));
                // Links of its own lead nowhere either.
                std::os::unix::fs::symlink(at("other/secret"), at("state/link")).unwrap();
                denied(fs::read(at("state/link")).map(drop));
                fs::remove_file(at("state/link")).unwrap();
                assert!(fs::hard_link(at("gateway/tls.key"), at("state/hard")).is_err());
                assert!(
                    confinement.is_blocked(&at("other/secret")) && !confinement.is_blocked(&at("missing"))
                );
                denied(fs::read("/proc/1/environ").map(drop));
            }
            for program in
                ["/bin/sh", "/bin/true", "/usr/bin/env", std::env::current_exe().unwrap().to_str().unwrap()]
            {
                denied(Command::new(program).spawn().map(drop));
            }
        };
        tries();
        std::thread::scope(|scope| scope.spawn(tries).join().unwrap());
        // What it needs goes on.
        assert_eq!(fs::read(at("gateway/tls.key")).unwrap(), b"key");
        assert_eq!(fs::read(at("gateway/new.key")).unwrap(), b"new");
        fs::write(at("state/revoked.new"), "x").unwrap();
        fs::rename(at("state/revoked.new"), at("state/revoked")).unwrap();
        fs::create_dir(at("recordings/segments")).unwrap();
        fs::write(at("recordings/spare"), "x").unwrap();
        fs::rename(at("recordings/spare"), at("recordings/segments/1")).unwrap();
        assert!(fs::read_dir("/proc/self/fd").unwrap().count() > 0);
        assert!(fs::read_to_string("/proc/self/status").unwrap().contains("Seccomp:\t2"));
        assert!(fs::read_dir("/etc").is_ok());
        assert!(std::net::ToSocketAddrs::to_socket_addrs("localhost:1").unwrap().count() > 0);
    });
}

#[test]
fn dangerous_system_calls_fail_in_every_thread() {
    alone("dangerous_system_calls_fail_in_every_thread", |folder| {
        use rustix::io::Errno;
        use socket2::{Domain, Protocol, Socket, Type};
        // A thread that was there before is held by the same list.
        let (go, wait) = std::sync::mpsc::channel::<()>();
        let tries = || {
            #[allow(deprecated, reason = "takes no descriptor table of another thread's here: it is refused")]
            let unshared = rustix::thread::unshare(rustix::thread::UnshareFlags::NEWNS);
            assert_eq!(unshared, Err(Errno::PERM));
            assert_eq!(rustix::process::chroot("/"), Err(Errno::PERM));
            for (family, kind) in [(17, 3), (38, 5), (40, 1), (44, 3)] {
                let socket = Socket::new(Domain::from(family), Type::from(kind), None::<Protocol>);
                assert_eq!(socket.unwrap_err().raw_os_error(), Some(1), "family {family}");
            }
            for domain in [Domain::IPV4, Domain::IPV6, Domain::UNIX] {
                let made = Socket::new(domain, Type::STREAM, None);
                assert_ne!(made.err().and_then(|error| error.raw_os_error()), Some(1));
            }
        };
        std::thread::scope(|scope| {
            let earlier = scope.spawn(move || {
                wait.recv().unwrap();
                tries();
            });
            confine(plan(folder)).unwrap();
            go.send(()).unwrap();
            earlier.join().unwrap();
        });
        tries();
        assert_eq!(std::thread::spawn(|| 7).join().unwrap(), 7);
    });
}

#[test]
fn a_hook_runs_and_the_rest_stays_refused() {
    alone("a_hook_runs_and_the_rest_stays_refused", |folder| {
        let plan = Plan { runs_programs: true, mode: Mode::Require, ..plan(folder) };
        let confinement = confine(plan).unwrap();
        assert!(confinement.words().0.contains("dns_hook") && !confinement.is_lacking());
        assert!(Command::new("/bin/sh").args(["-c", "exit 0"]).status().unwrap().success());
        // Its programs inherit what is refused.
        let mounts = Command::new("/bin/sh").args(["-c", "mount -t tmpfs none /mnt"]).output().unwrap();
        assert!(!mounts.status.success());
        assert_eq!(rustix::process::chroot("/"), Err(rustix::io::Errno::PERM));
    });
}

#[test]
fn what_is_off_is_off() {
    let confinement = confine(Plan { mode: Mode::Off, ..Plan::default() }).unwrap();
    assert!(!confinement.is_lacking() && confinement.words().0.contains("off"));
    assert!(Command::new("/bin/true").status().unwrap().success());
    assert_eq!(confinement.restart_needed_for(&Plan { mode: Mode::Off, ..Plan::default() }), None);
    assert!(confinement.restart_needed_for(&Plan::default()).unwrap().contains("sandbox"));
}

#[test]
fn without_landlock_the_log_says_so_and_system_calls_are_confined_all_the_same() {
    alone("without_landlock_the_log_says_so_and_system_calls_are_confined_all_the_same", |folder| {
        without_landlock(libc::ENOSYS);
        let confinement = confine(plan(folder)).unwrap();
        assert_eq!(
            confinement.words(),
            ("this kernel has no Landlock, or an older one than Linux 5.19's", "confined")
        );
        assert!(confinement.is_lacking());
        // A new configuration needs no restart for files: all are open as before.
        let other = Plan { read: [folder.join("other/secret")].into(), ..plan(folder) };
        assert_eq!(
            (confinement.restart_needed_for(&other), confinement.is_blocked(&folder.join("other/secret"))),
            (None, false)
        );
        assert_eq!(fs::read(folder.join("other/secret")).unwrap(), b"secret");
        assert_eq!(Command::new("/bin/true").spawn().unwrap_err().kind(), ErrorKind::PermissionDenied);
    });
}

#[test]
fn who_insists_on_a_sandbox_does_not_start_without_landlock() {
    alone("who_insists_on_a_sandbox_does_not_start_without_landlock", |folder| {
        without_landlock(libc::EOPNOTSUPP);
        let fault = confine(Plan { mode: Mode::Require, ..plan(folder) }).unwrap_err();
        assert!(
            fault.contains("\"require\", but files cannot be confined: this kernel has no Landlock"),
            "{fault}"
        );
    });
}
