//! System calls, by seccomp: those that a gateway never makes fail with EPERM, in every thread.
//!
//! A list of what is refused, not of what is permitted: a C library that makes a new call must not stop a gateway. What is
//! permitted whatever its arguments, the kernel keeps in a bitmap (Linux 5.11), so that it costs next to nothing.

use libc::*;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    apply_filter_all_threads, sock_filter,
};
use std::collections::BTreeMap;

/// Calls that read or steer other processes, change the machine, or have a history of holes in the kernel behind them.
const ALWAYS_REFUSED: &[c_long] = &[
    // Other processes: their memory, their descriptors.
    SYS_ptrace,
    SYS_process_vm_readv,
    SYS_process_vm_writev,
    SYS_process_madvise,
    SYS_pidfd_getfd,
    SYS_kcmp,
    // File systems and namespaces.
    SYS_mount,
    SYS_umount2,
    SYS_pivot_root,
    SYS_chroot,
    SYS_move_mount,
    SYS_open_tree,
    SYS_fsopen,
    SYS_fsconfig,
    SYS_fsmount,
    SYS_fspick,
    SYS_mount_setattr,
    SYS_unshare,
    SYS_setns,
    SYS_open_by_handle_at,
    SYS_mknodat,
    SYS_fanotify_init,
    SYS_quotactl,
    SYS_swapon,
    SYS_swapoff,
    SYS_acct,
    // The kernel and its clocks.
    SYS_init_module,
    SYS_finit_module,
    SYS_delete_module,
    SYS_kexec_load,
    SYS_reboot,
    SYS_syslog,
    SYS_settimeofday,
    SYS_clock_settime,
    SYS_clock_adjtime,
    SYS_adjtimex,
    SYS_sethostname,
    SYS_setdomainname,
    SYS_vhangup,
    SYS_personality,
    SYS_nfsservctl,
    // Ways into the kernel that were many holes' way.
    SYS_bpf,
    SYS_perf_event_open,
    SYS_userfaultfd,
    SYS_io_uring_setup,
    SYS_io_uring_enter,
    SYS_io_uring_register,
    SYS_keyctl,
    SYS_add_key,
    SYS_request_key,
    SYS_move_pages,
    SYS_migrate_pages,
];

/// Those of this architecture alone.
#[cfg(target_arch = "x86_64")]
const NEVER_HERE: &[c_long] =
    &[SYS_kexec_file_load, SYS_mknod, SYS_iopl, SYS_ioperm, SYS_modify_ldt, SYS_uselib];
#[cfg(not(target_arch = "x86_64"))]
const NEVER_HERE: &[c_long] = &[];

/// Calls that only a process that starts programs, or changes into another user, makes.
const OF_PROGRAMS: &[c_long] = &[
    SYS_execve,
    SYS_execveat,
    SYS_setuid,
    SYS_setgid,
    SYS_setreuid,
    SYS_setregid,
    SYS_setresuid,
    SYS_setresgid,
    SYS_setgroups,
    SYS_setfsuid,
    SYS_setfsgid,
    SYS_capset,
];

/// The kinds of sockets that a gateway and name look-ups use.
const FAMILIES: [c_int; 4] = [AF_UNIX, AF_INET, AF_INET6, AF_NETLINK];

/// Namespaces that clone(2) could make.
const NAMESPACES: [c_int; 7] =
    [CLONE_NEWNS, CLONE_NEWCGROUP, CLONE_NEWUTS, CLONE_NEWIPC, CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET];

/// Refuses these calls in all threads from now on.
pub(super) fn restrict(runs_programs: bool) -> Result<(), String> {
    let program = program(runs_programs)?;
    apply_filter_all_threads(&program).map_err(|error| error.to_string())
}

fn program(runs_programs: bool) -> Result<BpfProgram, String> {
    let fault = |error: seccompiler::BackendError| error.to_string();
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    let of_programs = if runs_programs { &[] } else { OF_PROGRAMS };
    for call in ALWAYS_REFUSED.iter().chain(NEVER_HERE).chain(of_programs) {
        rules.insert(*call, Vec::new());
    }
    let differs =
        |family: &c_int| SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, *family as u64);
    let families = FAMILIES.iter().map(differs).collect::<Result<Vec<_>, _>>().map_err(fault)?;
    rules.insert(SYS_socket, vec![SeccompRule::new(families).map_err(fault)?]);
    let makes = |namespace: &c_int| {
        let bit = u64::from(*namespace as u32);
        let condition = SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::MaskedEq(bit), bit)?;
        SeccompRule::new(vec![condition])
    };
    rules.insert(SYS_clone, NAMESPACES.iter().map(makes).collect::<Result<_, _>>().map_err(fault)?);
    let arch = std::env::consts::ARCH.try_into().map_err(fault)?;
    let refuse = SeccompAction::Errno(EPERM as u32);
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, refuse, arch).map_err(fault)?;
    let mut program = prologue();
    program.extend(BpfProgram::try_from(filter).map_err(fault)?);
    Ok(program)
}

/// What comes before the list: calls of another architecture's numbering (32 bits, x32) would slip through it, and clone3(2),
/// whose flags no filter can read, is said not to exist: C libraries then use clone(2).
fn prologue() -> BpfProgram {
    const ARCHITECTURE: u32 = match cfg!(target_arch = "x86_64") {
        true => 0xC000_003E,
        false => 0xC000_00B7,
    };
    const X32: u32 = 0x4000_0000;
    const LOAD: u16 = 0x20;
    const EQUAL: u16 = 0x15;
    const AT_LEAST: u16 = 0x35;
    const RETURN: u16 = 0x06;
    let fail = |error: c_int| one(RETURN, 0, 0, SECCOMP_RET_ERRNO | error as u32);
    vec![
        one(LOAD, 0, 0, 4),
        one(EQUAL, 1, 0, ARCHITECTURE),
        fail(EPERM),
        one(LOAD, 0, 0, 0),
        one(AT_LEAST, 0, 1, X32),
        fail(EPERM),
        one(EQUAL, 0, 1, SYS_clone3 as u32),
        fail(ENOSYS),
    ]
}

fn one(code: u16, jt: u8, jf: u8, k: u32) -> sock_filter {
    sock_filter { code, jt, jf, k }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_fits_the_kernels_limit_and_refuses_programs_unless_there_is_one() {
        let (without, with) = (program(false).unwrap(), program(true).unwrap());
        assert!(without.len() < 4096 && with.len() < without.len());
        let names = |program: &BpfProgram, call: c_long| {
            program.iter().any(|one| one.code == 0x15 && one.k == call as u32)
        };
        assert!(names(&without, SYS_execve) && !names(&with, SYS_execve));
        assert!(names(&with, SYS_ptrace) && names(&with, SYS_mount));
    }
}
