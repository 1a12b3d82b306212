//! From the kernel's first process to a userland that can run commands.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify;
use rustix::mount::{MountFlags, mount, mount_bind, mount_move};
use rustix::process::{Resource, Rlimit, setrlimit};

use crate::card::Slot;
use crate::cgroup::Cgroups;
use crate::netlink::{Kernel, link};

/// How long the host's devices may take to appear.
const DEVICE_WAIT: Duration = Duration::from_secs(20);
/// How many files the agent may have open.
const MAX_FILES: u64 = 1 << 18;
const ROOT_DISK: &str = "/dev/vda";
const NEW_ROOT: &str = "/new";

/// A guest that is ready to serve.
pub(crate) struct Guest {
    pub(crate) port: OwnedFd,
    pub(crate) cgroups: Cgroups,
}

/// Brings the guest up. On an error there is nothing to serve, so the caller
/// ends, and the kernel ends the machine with it.
pub(crate) fn boot() -> io::Result<Guest> {
    raise_limits()?;
    mount_early()?;
    load_modules()?;
    let port = open_port()?;
    if Path::new(ROOT_DISK).exists() {
        enter_root()?;
        finish_userland()?;
        if let Some(card) = Slot::open()? {
            card.prepare()?;
        }
    }
    Ok(Guest { port, cgroups: Cgroups::prepare() })
}

/// A thousand commands at once have three thousand pipes.
fn raise_limits() -> io::Result<()> {
    let files = Rlimit { current: Some(MAX_FILES), maximum: Some(MAX_FILES) };
    Ok(setrlimit(Resource::Nofile, files)?)
}

fn mount_at(kind: &str, target: &str, options: &std::ffi::CStr) -> io::Result<()> {
    fs::create_dir_all(target)?;
    mount(kind, target, kind, MountFlags::NOSUID, options)?;
    Ok(())
}

fn mount_early() -> io::Result<()> {
    mount_at("proc", "/proc", c"")?;
    mount_at("sysfs", "/sys", c"")?;
    mount_at("devtmpfs", "/dev", c"mode=0755")
}

/// Loads the modules that the kit lists, in its order.
fn load_modules() -> io::Result<()> {
    for path in fs::read_to_string("/modules")?.lines() {
        let file = fs::File::open(path)?;
        match rustix::system::finit_module(&file, c"", 0) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}

/// Opens the host's channel, waiting for its device file to appear.
fn open_port() -> io::Result<OwnedFd> {
    let watch = inotify::init(inotify::CreateFlags::NONBLOCK | inotify::CreateFlags::CLOEXEC)?;
    inotify::add_watch(&watch, "/dev", inotify::WatchFlags::CREATE)?;
    let deadline = Instant::now() + DEVICE_WAIT;
    loop {
        if let Some(port) = find_port()? {
            return Ok(port);
        }
        let left = deadline.checked_duration_since(Instant::now());
        let left = left.ok_or_else(|| io::Error::new(io::ErrorKind::TimedOut, "no channel"))?;
        let timeout = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: 1_000_000 };
        poll(&mut [PollFd::new(&watch, PollFlags::IN)], Some(&timeout))?;
        let mut events = [0; 4096];
        while rustix::io::read(&watch, &mut events).is_ok_and(|n| n > 0) {}
    }
}

/// There is one virtio port in the machine, and it is the channel.
fn find_port() -> io::Result<Option<OwnedFd>> {
    for entry in fs::read_dir("/dev")? {
        let entry = entry?;
        if entry.file_name().as_encoded_bytes().starts_with(b"vport") {
            return Ok(Some(fs::File::options().read(true).write(true).open(entry.path())?.into()));
        }
    }
    Ok(None)
}

/// Makes the root disk the root of everything.
fn enter_root() -> io::Result<()> {
    fs::create_dir_all(NEW_ROOT)?;
    mount(ROOT_DISK, NEW_ROOT, "ext4", MountFlags::NOATIME, None)?;
    grow_root()?;
    for dir in ["/dev", "/proc", "/sys"] {
        let target = format!("{NEW_ROOT}{dir}");
        fs::create_dir_all(&target)?;
        mount_move(dir, &target)?;
    }
    std::env::set_current_dir(NEW_ROOT)?;
    mount_move(NEW_ROOT, "/")?;
    rustix::process::chroot(".")?;
    std::env::set_current_dir("/")
}

/// Grows the file system to the disk it lies on, if that is larger.
fn grow_root() -> io::Result<()> {
    const EXT4_IOC_RESIZE_FS: libc::c_ulong = 0x4008_6610;
    let sectors: u64 = fs::read_to_string("/sys/class/block/vda/size")?
        .trim()
        .parse()
        .map_err(|_| io::Error::other("the root disk has no size"))?;
    let found = rustix::fs::statvfs(NEW_ROOT)?;
    let blocks = sectors * 512 / found.f_bsize;
    // What the file system says of itself leaves out its own tables: a few
    // per cent. Only a real difference is worth a resize.
    if blocks <= found.f_blocks + found.f_blocks / 8 {
        return Ok(());
    }
    let root = fs::File::open(NEW_ROOT)?;
    // SAFETY: the ioctl reads one u64 behind the pointer, which lives here.
    let done = unsafe { libc::ioctl(root.as_raw_fd(), EXT4_IOC_RESIZE_FS, &raw const blocks) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// What programs expect of a running system beyond its root disk.
fn finish_userland() -> io::Result<()> {
    mount_at("tmpfs", "/run", c"mode=0755,size=20%")?;
    mount_at("devpts", "/dev/pts", c"mode=0620,gid=5,ptmxmode=0666")?;
    mount_at("tmpfs", "/dev/shm", c"mode=1777")?;
    for (name, target) in [("fd", ""), ("stdin", "/0"), ("stdout", "/1"), ("stderr", "/2")] {
        let _ = symlink(format!("/proc/self/fd{target}"), format!("/dev/{name}"));
    }
    // The machine id changes with every restore; in memory that costs no disk.
    fs::write("/run/machine-id", "")?;
    if !Path::new("/etc/machine-id").exists() {
        fs::write("/etc/machine-id", "")?;
    }
    mount_bind("/run/machine-id", "/etc/machine-id")?;
    // A guest without a network still has localhost. Best effort: not every
    // kernel has the interface.
    let _ = loopback_up();
    Ok(())
}

fn loopback_up() -> io::Result<()> {
    // The first interface of every kernel.
    let loopback = link(1, libc::IFF_UP as u32, &[]);
    Kernel::of_cards()?.order(libc::RTM_NEWLINK, 0, &loopback)
}
