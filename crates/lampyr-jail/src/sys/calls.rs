//! The system calls that are left to a sealed process.

use std::collections::BTreeMap;
use std::env::consts::ARCH;

use seccompiler::{
    BpfProgram, Error, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition,
    SeccompFilter, SeccompRule, apply_filter,
};

/// What may be called with whatever it is given: to move bytes, to wait, to have
/// memory, to know the time, and to end.
const FREE: [i64; 55] = [
    libc::SYS_accept4,
    libc::SYS_bind,
    libc::SYS_brk,
    libc::SYS_clock_getres,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_close,
    libc::SYS_connect,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_eventfd2,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_futex,
    libc::SYS_getegid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getpeername,
    libc::SYS_getpid,
    libc::SYS_getppid,
    libc::SYS_getrandom,
    libc::SYS_getsockname,
    libc::SYS_getsockopt,
    libc::SYS_gettid,
    libc::SYS_gettimeofday,
    libc::SYS_getuid,
    libc::SYS_madvise,
    libc::SYS_membarrier,
    libc::SYS_mremap,
    libc::SYS_munmap,
    libc::SYS_nanosleep,
    libc::SYS_ppoll,
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_restart_syscall,
    libc::SYS_rseq,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_yield,
    libc::SYS_sendmsg,
    libc::SYS_sendto,
    libc::SYS_set_robust_list,
    libc::SYS_set_tid_address,
    libc::SYS_setsockopt,
    libc::SYS_shutdown,
    libc::SYS_sigaltstack,
    libc::SYS_write,
    libc::SYS_writev,
];

/// The older names of some of these, where the processor has them.
#[cfg(target_arch = "x86_64")]
const OLD: [i64; 3] = [libc::SYS_epoll_wait, libc::SYS_poll, libc::SYS_time];
#[cfg(not(target_arch = "x86_64"))]
const OLD: [i64; 0] = [];

/// What may be asked of a descriptor: not to send signals to others.
const FCNTL: [libc::c_int; 6] = [
    libc::F_DUPFD,
    libc::F_DUPFD_CLOEXEC,
    libc::F_GETFD,
    libc::F_GETFL,
    libc::F_SETFD,
    libc::F_SETFL,
];

/// Every other call fails from now on, for this thread and those it may start.
pub(super) fn allow_few() -> Result<(), Error> {
    let free = FREE.into_iter().chain(OLD).map(|call| (call, Vec::new()));
    let internet = [libc::AF_INET, libc::AF_INET6].map(|family| is(0, family as u64));
    let harmless = FCNTL.map(|order| is(1, order as u64));
    let no_code = || one_of(2, SeccompCmpOp::MaskedEq(libc::PROT_EXEC as u64), 0);
    let bound = [
        (libc::SYS_socket, internet.into_iter().collect::<Result<_, _>>()?),
        (libc::SYS_fcntl, harmless.into_iter().collect::<Result<_, _>>()?),
        (libc::SYS_ioctl, vec![is(1, libc::FIONBIO)?]),
        // Itself alone, to say that it cannot go on.
        (libc::SYS_tgkill, vec![is(0, std::process::id().into())?]),
        (libc::SYS_mmap, vec![no_code()?]),
        (libc::SYS_mprotect, vec![no_code()?]),
    ];
    let rules: BTreeMap<_, Vec<SeccompRule>> = free.chain(bound).collect();
    let refused = SeccompAction::Errno(libc::EPERM as u32);
    let filter = SeccompFilter::new(rules, refused, SeccompAction::Allow, ARCH.try_into()?)?;
    apply_filter(&BpfProgram::try_from(filter)?)
}

/// An argument is this.
fn is(argument: u8, value: u64) -> Result<SeccompRule, Error> {
    one_of(argument, SeccompCmpOp::Eq, value)
}

/// A rule about one argument.
fn one_of(argument: u8, is: SeccompCmpOp, value: u64) -> Result<SeccompRule, Error> {
    let condition = SeccompCondition::new(argument, SeccompCmpArgLen::Dword, is, value)?;
    Ok(SeccompRule::new(vec![condition])?)
}
