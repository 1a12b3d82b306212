//! The agent: PID 1 of every Lampyr guest.
//!
//! It mounts what a Linux userland expects, then serves one conversation at a
//! time on one byte channel: it runs processes and moves their bytes. It is
//! one thread around one `epoll`, so that forking is safe and little code has
//! to be translated where the processor is emulated.
//!
//! `lampyr-agent --fd N` serves on an inherited descriptor as an ordinary
//! process: the fake engine's guest.

#[cfg(target_os = "linux")]
mod boot;
#[cfg(target_os = "linux")]
mod card;
#[cfg(target_os = "linux")]
mod cgroup;
#[cfg(target_os = "linux")]
mod connections;
#[cfg(target_os = "linux")]
mod conversation;
#[cfg(target_os = "linux")]
mod dial;
mod export;
mod file;
#[cfg(target_os = "linux")]
mod identity;
mod mount;
mod netlink;
mod orphan;
#[cfg(target_os = "linux")]
mod place;
#[cfg(target_os = "linux")]
mod port;
#[cfg(target_os = "linux")]
mod process;
#[cfg(target_os = "linux")]
mod serve;
#[cfg(target_os = "linux")]
mod spawn;
#[cfg(target_os = "linux")]
mod terminal;
mod trust;
#[cfg(target_os = "linux")]
mod user;
#[cfg(target_os = "linux")]
mod warm;

#[cfg(target_os = "linux")]
fn main() -> std::io::Result<()> {
    use std::os::fd::FromRawFd;
    let mut args = std::env::args().skip(1);
    match (args.next().as_deref(), args.next().and_then(|n| n.parse().ok())) {
        (Some("--fd"), Some(fd)) => {
            // SAFETY: whoever started us this way passed the descriptor to us alone.
            let port = unsafe { std::os::fd::OwnedFd::from_raw_fd(fd) };
            rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
            serve::serve(port, cgroup::Cgroups::none(), identity::Scope::Process)
        }
        _ => {
            let guest = boot::boot()?;
            if place::is_emulated() {
                place::settle();
            }
            serve::serve(guest.port, guest.cgroups, identity::Scope::Machine)
        }
    }
}

#[cfg(not(target_os = "linux"))]
fn main() {}
