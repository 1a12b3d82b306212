//! `exec --pty`, at a terminal that the test holds the other end of.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, FromRawFd};
use std::process::{Child, Command};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use lampyr_e2e::{Process, TestContext};

const LIMIT: Duration = Duration::from_secs(30);

/// Somebody at a terminal who has typed a command.
struct User {
    keys: File,
    screen: Receiver<Vec<u8>>,
    seen: String,
    before: libc::termios,
    slave: File,
    child: Child,
}

impl User {
    fn types(context: &TestContext, words: &[&str]) -> Self {
        let (mut ours, mut theirs) = (-1, -1);
        let mut size = libc::winsize { ws_row: 30, ws_col: 100, ws_xpixel: 0, ws_ypixel: 0 };
        // SAFETY: all pointers are to live locals or null, which is allowed.
        let opened = unsafe {
            let null = std::ptr::null_mut();
            libc::openpty(&raw mut ours, &raw mut theirs, null, null.cast(), &raw mut size)
        };
        assert_eq!(opened, 0);
        // SAFETY: both were just opened, and nobody else has them.
        let (keys, slave) = unsafe { (File::from_raw_fd(ours), File::from_raw_fd(theirs)) };
        let before = state(&slave);
        let stdio = || slave.try_clone().unwrap();
        let mut command = Command::new(context.program());
        command.args(words).env("LAMPYR_HOME", context.home()).env("TERM", "vt100");
        let child = command.stdin(stdio()).stdout(stdio()).stderr(stdio()).spawn().unwrap();
        let (to, screen) = channel();
        let mut reader = keys.try_clone().unwrap();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(n @ 1..) = reader.read(&mut buffer) {
                if to.send(buffer[..n].to_vec()).is_err() {
                    return;
                }
            }
        });
        Self { keys, screen, seen: String::new(), before, slave, child }
    }

    fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
    }

    /// Waits until the screen has shown this since the last time.
    fn sees(&mut self, text: &str) {
        let deadline = Instant::now() + LIMIT;
        while !self.seen.contains(text) {
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(more) = self.screen.recv_timeout(left) else {
                panic!("no {text:?} in {:?}", self.seen)
            };
            self.seen.push_str(&String::from_utf8_lossy(&more));
        }
        let end = self.seen.find(text).unwrap() + text.len();
        self.seen.drain(..end);
    }

    fn resize(&self, rows: u16, columns: u16) {
        let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        // SAFETY: the ioctl reads the size, which outlives the call.
        let told = unsafe { libc::ioctl(self.keys.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) };
        assert_eq!(told, 0);
        // It is nobody's controlling terminal here, so the kernel tells nobody.
        let process = Process::find(i32::try_from(self.child.id()).unwrap());
        process.unwrap().signal(libc::SIGWINCH);
    }

    /// Waits for the end; the terminal is then what it was.
    fn ends(&mut self) -> Option<i32> {
        let deadline = Instant::now() + LIMIT;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < deadline, "it does not end: {:?}", self.seen);
            std::thread::sleep(Duration::from_millis(5));
        };
        let after = state(&self.slave);
        assert_eq!(after.c_lflag, self.before.c_lflag);
        assert_eq!((after.c_iflag, after.c_oflag), (self.before.c_iflag, self.before.c_oflag));
        status.code()
    }

    fn is_raw(&self) -> bool {
        state(&self.slave).c_lflag & (libc::ICANON | libc::ECHO | libc::ISIG) == 0
    }
}

impl Drop for User {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn state(terminal: &File) -> libc::termios {
    // SAFETY: a termios is plain data; the call fills it.
    unsafe {
        let mut state: libc::termios = std::mem::zeroed();
        assert_eq!(libc::tcgetattr(terminal.as_raw_fd(), &raw mut state), 0);
        state
    }
}

struct Session<'a>(&'a TestContext);

impl<'a> Session<'a> {
    fn start(context: &'a TestContext) -> Self {
        let started = context.lampyr(["session", "start", "--name", "t"]).finish();
        assert_eq!(started.status(), Some(0), "{started:?}");
        Self(context)
    }

    fn owner(&self) -> Process {
        let listed = self.0.lampyr(["session", "list"]).finish().stdout();
        let rows: serde_json::Value = serde_json::from_str(&listed).unwrap();
        Process::find(i32::try_from(rows[0]["pid"].as_i64().unwrap()).unwrap()).unwrap()
    }
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        let _ = self.0.lampyr(["session", "stop", "--grace", "0", "t"]).finish();
    }
}

#[test]
fn a_shell_at_a_terminal_is_a_shell_at_a_terminal() {
    let own = TestContext::own();
    let _session = Session::start(&own);
    let mut user = User::types(&own, &["exec", "--pty", "t", "bash --norc"]);
    user.sees("# ");
    assert!(user.is_raw());
    user.press("stty size; echo $TERM-$(tty)\r");
    user.sees("30 100\r\n");
    user.sees("vt100-/dev/pts/");
    user.resize(41, 91);
    user.press("until [ \"$(stty size)\" = '41 91' ]; do sleep 0.1; done; echo resized $((1+1))\r");
    user.sees("resized 2");
    // Another command runs beside it.
    assert_eq!(own.lampyr(["exec", "t", "echo beside"]).envelope().success(), "beside\n");
    user.press("sleep 100; echo $((6*7))\r");
    user.sees("sleep 100");
    // A key that comes before it sleeps is the shell's.
    let sleeps = "until grep -qsx sleep /proc/[0-9]*/comm; do :; done";
    own.lampyr(["exec", "t", sleeps]).envelope().success();
    user.press("\x03");
    user.sees("# ");
    user.press("exit 7\r");
    assert_eq!(user.ends(), Some(7));
}

#[test]
fn a_full_screen_program_draws_its_screen() {
    let own = TestContext::own();
    let _session = Session::start(&own);
    let mut user = User::types(&own, &["exec", "--pty", "t", "python3"]);
    user.sees(">>> ");
    user.press("print(6*7)\r");
    user.sees("42\r\n");
    user.press("import sys; _ = sys.stdout.write('\\x1b[2J\\x1b[5;10Hhere')\r");
    user.sees("\x1b[2J\x1b[5;10Hhere");
    user.press("\x04");
    assert_eq!(user.ends(), Some(0));
}

#[test]
fn the_terminal_is_restored_whatever_dies() {
    let own = TestContext::own();
    let session = Session::start(&own);
    let mut user = User::types(&own, &["exec", "--pty", "t", "cat"]);
    user.press("hello\r");
    user.sees("hello\r\nhello\r\n");
    let process = Process::find(i32::try_from(user.child.id()).unwrap()).unwrap();
    process.signal(libc::SIGTERM);
    assert_eq!(user.ends(), Some(1));

    let mut user = User::types(&own, &["exec", "--pty", "t", "cat"]);
    user.press("hello\r");
    user.sees("hello\r\nhello\r\n");
    session.owner().children()[0].signal(libc::SIGKILL);
    assert_eq!(user.ends(), Some(1));
}
