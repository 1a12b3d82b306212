//! A small host: one agent, spoken to by hand.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use lampyr_proto::{
    Control, Decoder, Event, Exec, Exited, Frame, Greeting, GreetingScanner, Hello, Job, Kind,
    Lane, Request, decode_message, encode, encode_message,
};

/// Nothing here takes longer, even on a busy host.
const PATIENCE: Duration = Duration::from_secs(40);

/// A running agent and what it said.
pub(crate) struct Agent {
    child: Child,
    socket: UnixStream,
    decoder: Decoder,
    pub(crate) heard: Heard,
    /// Whether credit goes back for all that arrives.
    pub(crate) generous: bool,
}

/// What was heard on each stream.
#[derive(Default)]
pub(crate) struct Heard(pub(crate) BTreeMap<u32, Said>);

#[derive(Default)]
pub(crate) struct Said {
    out: Vec<u8>,
    err: Vec<u8>,
    events: Vec<Event>,
}

/// How a process ended and what it had said.
pub(crate) struct Ended {
    pub(crate) exited: Exited,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Heard {
    pub(crate) fn out(&self, stream: u32) -> String {
        self.0.get(&stream).map_or(String::new(), |said| text(&said.out))
    }

    pub(crate) fn len(&self, stream: u32, lane: Lane) -> usize {
        self.0.get(&stream).map_or(0, |said| match lane {
            Lane::Stderr => said.err.len(),
            Lane::Stdin | Lane::Stdout => said.out.len(),
        })
    }

    pub(crate) fn events(&self, stream: u32) -> &[Event] {
        self.0.get(&stream).map_or(&[], |said| &said.events)
    }
}

impl Agent {
    pub(crate) fn start() -> Self {
        let (socket, theirs) = UnixStream::pair().unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_lampyr-agent"))
            .args(["--fd", "0"])
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .spawn()
            .unwrap();
        let (decoder, heard) = (Decoder::default(), Heard::default());
        Self { child, socket, decoder, heard, generous: true }
    }

    /// Greets it, passing over whatever it still says to an older host.
    pub(crate) fn greet(&mut self) {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let mut nonce = [0xa5; 16];
        nonce[..8].copy_from_slice(&NEXT.fetch_add(1, Ordering::Relaxed).to_le_bytes());
        let greeting = Greeting(nonce);
        self.send(&greeting.to_bytes());
        let (mut scanner, mut buffer) = (GreetingScanner::default(), [0; 4096]);
        self.heard = Heard::default();
        loop {
            let n = self.socket.read(&mut buffer).unwrap();
            assert!(n > 0, "the agent is gone");
            if let Some((_, rest)) = scanner.feed(&buffer[..n], |found| *found == greeting) {
                self.decoder = Decoder::default();
                self.decoder.feed(&rest);
                return;
            }
        }
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.socket.write_all(bytes).unwrap();
    }

    pub(crate) fn open(&mut self, stream: u32, request: &Request) {
        self.send(&frame(stream, Kind::Open, &encode_message(request)));
    }

    pub(crate) fn signal(&mut self, stream: u32, number: i32) {
        self.send(&frame(stream, Kind::Message, &encode_message(&Control::Signal(number))));
    }

    pub(crate) fn credit(&mut self, stream: u32, lane: Lane, more: u32) {
        let mut out = Vec::new();
        encode(&mut out, stream, Kind::Credit, lane, &more.to_le_bytes());
        self.send(&out);
    }

    /// Asks who it is and waits for the answer.
    pub(crate) fn hello(&mut self, stream: u32) {
        self.open(stream, &Request::Hello(Hello { generation: 1 }));
        self.until(|heard| matches!(heard.events(stream), [Event::Welcome(_)]));
    }

    /// Listens until what was heard is enough.
    pub(crate) fn until(&mut self, enough: impl Fn(&Heard) -> bool) {
        let (start, mut buffer) = (Instant::now(), vec![0; 65536]);
        loop {
            while let Some(frame) = self.decoder.next_frame().unwrap() {
                self.take(&frame);
            }
            if enough(&self.heard) {
                return;
            }
            assert!(start.elapsed() < PATIENCE, "this takes too long");
            let n = self.socket.read(&mut buffer).unwrap();
            assert!(n > 0, "the agent is gone");
            self.decoder.feed(&buffer[..n]);
        }
    }

    fn take(&mut self, frame: &Frame) {
        let said = self.heard.0.entry(frame.stream).or_default();
        match (frame.kind, frame.lane) {
            (Kind::Data, Lane::Stdout) => said.out.extend(&frame.payload),
            (Kind::Data, Lane::Stderr) => said.err.extend(&frame.payload),
            (Kind::Message, _) => said.events.push(decode_message(&frame.payload).unwrap()),
            (Kind::Credit, Lane::Stdin) => {}
            _ => panic!("the agent sent {frame:?}"),
        }
        if frame.kind == Kind::Data && self.generous {
            self.credit(frame.stream, frame.lane, frame.payload.len() as u32);
        }
    }

    pub(crate) fn until_exited(&mut self, stream: u32) -> Ended {
        let exit = |event: &Event| match event {
            Event::Exited(exited) => Some(exited.clone()),
            _ => None,
        };
        self.until(|heard| heard.events(stream).iter().any(|event| exit(event).is_some()));
        let said = self.heard.0.remove(&stream).unwrap();
        let exited = said.events.iter().find_map(exit).unwrap();
        Ended { exited, out: text(&said.out), err: text(&said.err) }
    }

    /// The processes that it runs or has not collected.
    pub(crate) fn children(&self) -> String {
        let pid = self.child.id();
        std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default()
    }

    /// Kills what it runs and what it has lost, so that nothing outlives it.
    pub(crate) fn kill_children(&self) {
        self.children().split_whitespace().for_each(kill);
    }

    /// Hangs up and waits for its end.
    pub(crate) fn hang_up(&mut self) -> Option<i32> {
        self.socket.shutdown(std::net::Shutdown::Both).unwrap();
        self.child.wait().unwrap().code()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.kill_children();
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Kills one process that a test has started.
pub(crate) fn kill(pid: &str) {
    let pid = pid.trim().parse::<i32>().ok().filter(|pid| *pid > 1).unwrap();
    // SAFETY: kill has no memory effects.
    unsafe { libc::kill(pid, libc::SIGKILL) };
}

pub(crate) fn shell(command: &str) -> Exec {
    Exec { workdir: Some("/".into()), ..Exec::new(Job::Shell(command.into())) }
}

pub(crate) fn frame(stream: u32, kind: Kind, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    encode(&mut out, stream, kind, Lane::Stdin, payload);
    out
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
