//! What a process of ours does to itself once it has all that it needs.

use std::io;

use crate::{Identity, sys};

/// What is left to a process that has sealed itself: the descriptors that it
/// holds, memory, and connections by TCP and UDP. On Linux it can open no file,
/// start no program, listen on no port and make no other kind of socket; a call
/// that it has no use for fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seal {
    /// The user it becomes.
    pub identity: Option<Identity>,
    /// The most memory that it may write to, in bytes.
    pub max_memory: u64,
}

impl Seal {
    /// Seals this process for good. It must have one thread: others would be
    /// left out.
    pub fn close(self) -> io::Result<()> {
        sys::seal(&self)
    }
}

/// What a system has to seal a process with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Means {
    /// The version of its Landlock; `None`: it has none, and the filter of calls
    /// is all that keeps a sealed process from files.
    pub landlock: Option<u32>,
    /// Whether calls can be filtered; without that a process cannot be sealed.
    /// `None`: on this system nothing is.
    pub filter: Option<bool>,
}

impl Means {
    /// What this system has.
    pub fn here() -> Self {
        sys::means()
    }
}

#[cfg(all(test, target_os = "linux"))]
#[allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test may panic, and this one is heard"
)]
mod tests {
    use std::fs::File;
    use std::net::{TcpListener, TcpStream, UdpSocket};
    use std::os::unix::net::UnixStream;
    use std::process::Command;

    use super::*;
    use crate::Jail;

    const PORT: &str = "PORT_OF_THIS_TEST";
    /// Makes somebody hear of what comes on a socket, by a signal.
    const FIOSETOWN: libc::Ioctl = 0x8901;

    #[test]
    fn a_sealed_process_has_its_connections_and_nothing_else() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "seal::tests::inside", "--ignored", "--nocapture"]);
        Jail { max_files: 64, ..Jail::default() }.confine(&mut command);
        command.env(PORT, listener.local_addr().unwrap().port().to_string());
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(said.contains("all was as it should be"), "{output:?}");
    }

    /// What the test above runs in a process of its own.
    #[test]
    #[ignore = "it seals the process that it is in"]
    fn inside() {
        let Ok(port) = std::env::var(PORT) else { return };
        let (mut one, mut other) = UnixStream::pair().unwrap();
        let open = File::open("/proc/self/status").unwrap();
        let seal = Seal { identity: Identity::for_vm(7), max_memory: 64 << 20 };
        assert_eq!(Means::here().filter, Some(true));
        seal.close().unwrap();
        for path in ["/etc/passwd", "/etc/resolv.conf", "/proc/self/status", "/tmp", "/"] {
            assert!(File::open(path).is_err(), "{path} can be opened");
        }
        assert!(File::create("/tmp/of-a-sealed-process").is_err());
        assert!(std::fs::read_dir("/").is_err() && std::fs::metadata("/").is_err());
        assert!(Command::new("/bin/true").spawn().is_err(), "a program can be started");
        assert!(std::thread::Builder::new().spawn(|| ()).is_err(), "there can be threads");
        assert!(UnixStream::connect("/run/dbus/system_bus_socket").is_err());
        assert!(UnixStream::pair().is_err() && TcpListener::bind("127.0.0.1:0").is_err());
        let parent = std::os::unix::process::parent_id();
        // SAFETY: plain system calls; the last reads a number that lives.
        let made = unsafe {
            [
                libc::socket(libc::AF_NETLINK, libc::SOCK_RAW, 0),
                libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0) as libc::c_int,
                libc::unshare(libc::CLONE_NEWUSER),
                libc::kill(libc::getppid(), 0),
                // Nor is there a way around the one above.
                libc::syscall(libc::SYS_tgkill, libc::getppid(), libc::getppid(), 0) as libc::c_int,
                libc::fcntl(0, libc::F_SETOWN, libc::getppid()),
                libc::ioctl(0, FIOSETOWN, &raw const parent),
            ]
        };
        assert_eq!(made, [-1; 7]);
        assert!(Vec::<u8>::new().try_reserve_exact(65 << 20).is_err(), "memory has no bound");
        // What it is for still works.
        std::io::Write::write_all(&mut one, b"x").unwrap();
        std::io::Read::read_exact(&mut other, &mut [0]).unwrap();
        UdpSocket::bind("127.0.0.1:0").unwrap();
        TcpStream::connect(("127.0.0.1", port.parse().unwrap())).unwrap();
        drop(open);
        println!("all was as it should be");
    }
}
