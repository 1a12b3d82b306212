//! Soak: everything at once and at random, for minutes, and in the end nothing
//! is lost and nothing is left. `cargo xtask soak` runs it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stderr,
    reason = "a test may panic and print"
)]

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use lampyr_e2e::{Process, Session, TestContext, entries, rows};

const WORKERS: u64 = 3;
/// Echoes what each connection sends to port 80, reversed.
const REVERSER: &str = r#"python3 -c '
import socket
s = socket.create_server(("127.0.0.1", 80))
while True:
    c = s.accept()[0]
    b = b""
    while p := c.recv(65536): b += p
    c.sendall(b[::-1]); c.close()
'"#;

/// Numbers that look random (xorshift).
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit as u64) as usize
    }

    fn bytes(&mut self, most: usize) -> Vec<u8> {
        let length = self.below(most);
        (0..length).map(|_| self.below(256) as u8).collect()
    }
}

/// One worker: a session that stays, a directory, and a count of what it did.
struct Worker<'a> {
    context: &'a TestContext,
    dice: Dice,
    dir: PathBuf,
    session: Stayed<'a>,
    done: BTreeMap<&'static str, u32>,
}

struct Stayed<'a> {
    session: Session<'a>,
    port: u16,
    owner: Process,
    /// Its open files and its memory in the beginning.
    before: (usize, u64),
}

impl<'a> Stayed<'a> {
    fn start(context: &'a TestContext, dir: &Path) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let (forward, mount) = (format!("{port}:80"), format!("{}:/m", dir.display()));
        let flags = ["--forward", &forward, "--mount", &mount, "--checkpoints", "2"];
        let session = Session::start(context, &flags);
        let started = context.lampyr(["exec", &session.sid, "--detach", REVERSER]).finish();
        assert_eq!(started.status(), Some(0), "{started:?}");
        session.sh("until grep -qs :0050 /proc/net/tcp; do :; done").success();
        let owner = session.owner();
        Self { before: held(owner), session, port, owner }
    }

    /// What it holds has not grown with what it did.
    fn check(&self) {
        let (files, memory) = held(self.owner);
        assert!(files <= self.before.0 + 4, "files: {} -> {files}", self.before.0);
        assert!(memory <= self.before.1 + 40_000, "kB: {} -> {memory}", self.before.1);
    }
}

fn held(owner: Process) -> (usize, u64) {
    let memory = owner.status("VmRSS");
    (owner.files().len(), memory.split(' ').next().unwrap().parse().unwrap())
}

impl Worker<'_> {
    fn act(&mut self) {
        let (name, act): (_, fn(&mut Self)) = match self.dice.below(100) {
            0..10 => ("run", Self::run),
            10..50 => ("exec", Self::exec),
            50..60 => ("copy", Self::copy),
            60..75 => ("forward", Self::forward),
            75..81 => ("mount", Self::mount),
            81..85 => ("fork", Self::fork),
            85..87 => ("snapshot", Self::snapshot),
            87..90 => ("undo", Self::undo),
            90..94 => ("run killed", Self::kill_run),
            94..96 => ("machine killed", Self::kill_machine),
            96..98 => ("owner killed", Self::kill_owner),
            _ => ("stop and start", Self::restart),
        };
        act(self);
        *self.done.entry(name).or_default() += 1;
    }

    fn run(&mut self) {
        let number = self.dice.below(1_000_000);
        assert_eq!(
            self.context.run(&format!("echo {number}")).envelope().success(),
            format!("{number}\n")
        );
    }

    fn exec(&mut self) {
        let bytes = self.dice.bytes(300_000);
        let digest = blake3::hash(&bytes);
        let said =
            self.session.session.exec("cat").stdin(bytes.clone()).env("LAMPYR_FORMAT", "text");
        assert_eq!(blake3::hash(&said.finish().stdout), digest, "{} bytes", bytes.len());
    }

    fn copy(&mut self) {
        let (there, back) = (self.dir.join("../there"), self.dir.join("../back"));
        for path in [&there, &back] {
            let _ = fs::remove_dir_all(path);
        }
        fs::create_dir(&there).unwrap();
        for i in 0..self.dice.below(30) {
            fs::write(there.join(i.to_string()), self.dice.bytes(50_000)).unwrap();
        }
        let remote = format!("{}:/tmp/{}", self.session.session.sid, self.dice.below(5));
        self.session
            .session
            .sh(&format!("rm -rf {}", remote.rsplit(':').next().unwrap()))
            .success();
        for pair in [[there.to_str().unwrap(), &remote], [&remote, back.to_str().unwrap()]] {
            let copied = self.context.lampyr(["cp", pair[0], pair[1]]).finish();
            assert_eq!(copied.status(), Some(0), "{copied:?}");
        }
        assert_eq!(entries(&there).len(), entries(&back).len());
        for path in entries(&there) {
            let other = back.join(path.file_name().unwrap());
            assert!(fs::read(&path).unwrap() == fs::read(other).unwrap());
        }
    }

    fn forward(&mut self) {
        for _ in 0..=self.dice.below(20) {
            let mut bytes = self.dice.bytes(100_000);
            let mut stream = TcpStream::connect(("127.0.0.1", self.session.port)).unwrap();
            stream.set_read_timeout(Some(Duration::from_mins(1))).unwrap();
            stream.write_all(&bytes).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            let mut heard = Vec::new();
            stream.read_to_end(&mut heard).unwrap();
            bytes.reverse();
            assert!(heard == bytes, "{} of {}", heard.len(), bytes.len());
        }
    }

    fn mount(&mut self) {
        let bytes = self.dice.bytes(300_000);
        fs::write(self.dir.join("in"), &bytes).unwrap();
        self.session
            .session
            .sh("cd /m && cp in out && mv out new && cat new new > twice")
            .success();
        assert!(fs::read(self.dir.join("twice")).unwrap() == bytes.repeat(2));
        assert!(fs::read(self.dir.join("new")).unwrap() == bytes);
    }

    /// Writes a number into the session; what reads it there.
    fn number(&mut self) -> (String, &'static str) {
        let number = self.dice.below(1_000_000);
        self.session.session.sh(&format!("echo {number} > /root/number")).success();
        (format!("{number}\n"), "cat /root/number")
    }

    fn fork(&mut self) {
        let (number, read) = self.number();
        let told = self.context.lampyr(["fork", &self.session.session.sid]).finish().json();
        let fork = Session::of(self.context, told["sids"][0].as_str().unwrap());
        assert_eq!(fork.sh(read).success(), number);
        fork.sh("echo its own > /root/number").success();
        fork.stop();
        assert_eq!(self.session.session.sh(read).success(), number);
    }

    fn snapshot(&mut self) {
        let (number, read) = self.number();
        let (sid, name) = (&self.session.session.sid, format!("s{}", self.dice.below(1 << 40)));
        self.context.lampyr(["snapshot", "create", sid, &name]).finish().json();
        let run = self.context.lampyr(["run", "--snapshot", &name, read]).envelope();
        assert_eq!(run.success(), number);
        self.context.lampyr(["snapshot", "rm", &name]).finish().json();
    }

    fn undo(&mut self) {
        let (number, read) = self.number();
        self.session.session.sh("rm -rf /root /usr/bin");
        self.context.lampyr(["undo", &self.session.session.sid]).finish().json();
        assert_eq!(self.session.session.sh(read).success(), number);
    }

    fn kill_run(&mut self) {
        let live = self.context.run("sleep 100").start();
        std::thread::sleep(Duration::from_millis(self.dice.below(800) as u64));
        live.signal(libc::SIGKILL);
        live.finish();
    }

    fn kill_machine(&mut self) {
        let machine = self.session.owner.children().into_iter().next().expect("a machine");
        let live = self.session.session.exec("echo begun; sleep 100").start();
        std::thread::sleep(Duration::from_millis(self.dice.below(500) as u64));
        machine.signal(libc::SIGKILL);
        let said = live.finish().envelope();
        let kind = said["error"].as_str().unwrap_or_default();
        // A command that came behind the owner's end finds nobody.
        assert!(["vm_crashed", "connection_failed"].contains(&kind), "{said:?}");
        self.replace();
    }

    fn kill_owner(&mut self) {
        let live = self.session.session.exec("echo begun; sleep 100").start();
        std::thread::sleep(Duration::from_millis(self.dice.below(500) as u64));
        self.session.owner.signal(libc::SIGKILL);
        let said = live.finish().envelope();
        let kind = said["error"].as_str().unwrap_or_default();
        assert!(["session_disconnected", "connection_failed"].contains(&kind), "{said:?}");
        self.replace();
    }

    fn restart(&mut self) {
        self.session.check();
        self.replace();
    }

    /// Another session in place of this one, whatever has become of it.
    fn replace(&mut self) {
        self.session.session.stop();
        self.session = Stayed::start(self.context, &self.dir);
    }
}

#[test]
#[ignore = "takes minutes: cargo xtask soak"]
fn nothing_is_lost_and_nothing_is_left() {
    let seconds = std::env::var("LAMPYR_SOAK_SECONDS").map_or(600, |text| text.parse().unwrap());
    let until = Instant::now() + Duration::from_secs(seconds);
    let (own, room) = (TestContext::own(), tempfile::tempdir().unwrap());
    let total = Mutex::new(BTreeMap::<&str, u32>::new());
    std::thread::scope(|scope| {
        for number in 1..=WORKERS {
            let dir = room.path().join(number.to_string()).join("mounted");
            let (own, total) = (&own, &total);
            scope.spawn(move || {
                fs::create_dir_all(&dir).unwrap();
                let session = Stayed::start(own, &dir);
                let dice = Dice(number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
                let mut worker = Worker { context: own, dice, dir, session, done: BTreeMap::new() };
                while Instant::now() < until {
                    worker.act();
                }
                worker.session.check();
                worker.session.session.stop();
                for (name, count) in worker.done {
                    *total.lock().unwrap().entry(name).or_default() += count;
                }
            });
        }
    });
    assert!(rows(&own, &["session", "list"]).is_empty());
    own.assert_nothing_left();
    eprintln!("{seconds} s: {:?}", total.into_inner().unwrap());
}
