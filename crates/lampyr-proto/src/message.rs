//! The typed messages. Fields are numbered and optional where they came later.

use minicbor::{Decode, Encode};

use crate::{Card, FileJob, WireError};

/// What the host asks for when it opens a stream.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Request {
    /// Who are you? Answered by [`Event::Welcome`].
    #[n(0)]
    Hello(#[n(0)] Hello),
    /// You were restored and are somebody else now. Answered by
    /// [`Event::Done`] once everything in it is in force.
    #[n(1)]
    Resumed(#[n(0)] Resumed),
    /// Run this. Answered by [`Event::Exited`]. After a restore nothing runs
    /// before [`Request::Resumed`] is in force.
    #[n(2)]
    Exec(#[n(0)] Box<Exec>),
    /// You are about to be saved: answer [`Event::Done`], forget this
    /// conversation, wait for the next greeting.
    #[n(3)]
    Quiesce,
    /// Run this whether or not I stay. Answered by [`Event::Job`]. Of this and
    /// all that follows an agent knows nothing: who owns a session answers it.
    #[n(4)]
    Start(#[n(0)] Box<Start>),
    /// Tell me all that this job says, from its beginning to its end. Answered
    /// like [`Request::Exec`].
    #[n(5)]
    Attach(#[n(0)] String),
    /// How are you? Answered by [`Event::Status`].
    #[n(6)]
    Status,
    /// End the session. What runs in it gets SIGTERM and so many milliseconds.
    /// Answered by [`Event::Done`] once nothing of it is left.
    #[n(7)]
    Stop(#[n(0)] u64),
    /// Mount a file system that I serve. Answered by [`Event::Done`] once it is
    /// there, and again when the guest has unmounted it. What the kernel asks
    /// comes on standard output, and my replies go to standard input, both as
    /// FUSE has them.
    #[n(8)]
    Mount(#[n(0)] Mount),
    /// It is so many nanoseconds after 1970 now. Answered by [`Event::Done`]
    /// once the clock is set.
    #[n(9)]
    Clock(#[n(0)] u64),
    /// Hold the network to these rules from now on. Answered by
    /// [`Event::Done`] once they are in force. Only who owns a session answers
    /// this and what follows.
    #[n(10)]
    Restrict(#[n(0)] Vec<String>),
    /// Which rules open what was reached so far? Answered by [`Event::Rules`].
    #[n(11)]
    Suggest,
    /// Stop all that runs for me, and answer [`Event::Done`] once it stands
    /// still: you are about to be copied. A copy hears a greeting next. It
    /// keeps what runs, with nobody to hear it, and lets that go on with
    /// [`Request::Resumed`]; you yourself do so with [`Request::Thaw`].
    #[n(12)]
    Freeze,
    /// You were copied, if at all: let what runs go on. Answered by
    /// [`Event::Done`].
    #[n(13)]
    Thaw,
    /// Copy the machine into this directory of the host's while it goes on; even
    /// if it holds secrets, where that is said. Answered by [`Event::Done`].
    /// Only who owns a session answers this.
    #[n(14)]
    Copy(#[n(0)] String, #[n(1)] bool),
    /// Which points can I go back to? Answered by [`Event::Points`].
    #[n(15)]
    Log,
    /// Go back to this point, or to the last one. Answered by
    /// [`Event::Points`] with that one, or with none where nothing is remembered
    /// of it.
    #[n(16)]
    Undo(#[n(0)] Option<u64>),
    /// Do not end when who started you does. Answered by [`Event::Done`].
    #[n(17)]
    Detach,
}

/// The host introduces itself.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Hello {
    /// The newest protocol generation that the host speaks.
    #[n(0)]
    pub generation: u32,
}

/// The agent introduces itself.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Welcome {
    /// The newest protocol generation that the agent speaks.
    #[n(0)]
    pub generation: u32,
    /// The guest kernel's release.
    #[n(1)]
    pub kernel: String,
}

/// What makes a restored machine different from its template.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Resumed {
    /// Fresh entropy for the kernel's random generator.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub entropy: Vec<u8>,
    /// The wall clock, in nanoseconds since 1970.
    #[n(1)]
    pub clock_ns: u64,
    /// The new host name.
    #[n(2)]
    pub hostname: String,
    /// The new machine id: 32 hexadecimal digits.
    #[n(3)]
    pub machine_id: String,
    /// The network card that the machine has from now on.
    #[n(4)]
    pub card: Option<Card>,
    /// An authority of this sandbox's own, to trust besides, as PEM.
    #[n(5)]
    pub authority: Option<String>,
    /// Others resume at the same time: no processor of the host is idle.
    #[n(6)]
    #[cbor(default)]
    pub crowd: bool,
}

impl std::fmt::Debug for Resumed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The entropy is a secret and stays out of every log.
        f.debug_struct("Resumed").field("hostname", &self.hostname).finish_non_exhaustive()
    }
}

/// A process to run.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Exec {
    /// What to run.
    #[n(0)]
    pub job: Job,
    /// Its environment, over the agent's default one.
    #[n(1)]
    pub env: Vec<(String, String)>,
    /// Its working directory; the root's home if there is none.
    #[n(2)]
    pub workdir: Option<String>,
    /// The user that it runs as: a name or a number of the guest's; root if
    /// there is none.
    #[n(5)]
    pub user: Option<String>,
    /// It runs on a terminal of this size, and both its outputs are one.
    #[n(6)]
    pub terminal: Option<Window>,
}

impl Exec {
    /// This job for root, without anything of its own.
    pub fn new(job: Job) -> Self {
        Self { job, env: Vec::new(), workdir: None, user: None, terminal: None }
    }
}

/// The size of a terminal, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Window {
    /// Lines.
    #[n(0)]
    pub rows: u16,
    /// Columns.
    #[n(1)]
    pub columns: u16,
}

/// A job: a process that outlives the connection it was asked for on.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Start {
    /// The process.
    #[n(0)]
    pub exec: Exec,
    /// Whatever is asked for under this key again is this job.
    #[n(1)]
    pub key: Option<String>,
    /// How long it may run, in milliseconds; without end if there is none.
    #[n(2)]
    pub timeout_ms: Option<u64>,
}

/// A file system of the host's.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Mount {
    /// Where to mount it, absolute; the directory is made where it is missing.
    #[n(0)]
    pub path: String,
    /// Nothing in it can be changed.
    #[n(1)]
    pub readonly: bool,
    /// Its files belong to whom they say, and the kernel checks permissions.
    #[n(2)]
    pub owners: bool,
}

/// What a process is.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Job {
    /// `/bin/sh -c` of this text.
    #[n(0)]
    Shell(#[n(0)] String),
    /// A program, looked up in PATH, and its arguments.
    #[n(1)]
    Argv(#[n(0)] Vec<String>),
    /// Unpacks the tree that comes on standard input to this path.
    #[n(2)]
    Put(#[n(0)] String),
    /// Packs the tree at this path to standard output.
    #[n(3)]
    Get(#[n(0)] String),
    /// Connects to this TCP port of the guest itself: what comes on standard
    /// input goes there, what comes from there to standard output. Where that is
    /// at its end first, [`Event::Done`] says so.
    #[n(4)]
    Dial(#[n(0)] u16),
    /// Packs the root file system to standard output, without what is mounted
    /// on it.
    #[n(5)]
    Export,
    /// Does something with files.
    #[n(6)]
    File(#[n(0)] Box<FileJob>),
}

/// What the host says to a running process.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Control {
    /// Sends this signal to the process group.
    #[n(0)]
    Signal(#[n(0)] i32),
    /// Its terminal has this size now.
    #[n(1)]
    Resize(#[n(0)] Window),
    /// Whether writes to this mount may be answered before I have them: there
    /// is room for what may be on its way.
    #[n(2)]
    Behind(#[n(0)] bool),
}

/// What the agent says on a stream.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Event {
    /// The answer to [`Request::Hello`].
    #[n(0)]
    Welcome(#[n(0)] Welcome),
    /// It is done.
    #[n(1)]
    Done,
    /// It could not be done, and this is why.
    #[n(2)]
    Failed(#[n(0)] String),
    /// The process has ended, and all its output was sent before this.
    #[n(4)]
    Exited(#[n(0)] Exited),
    /// It failed in a way that has a kind. Only who owns a session says this
    /// and what follows.
    #[n(5)]
    Failure(#[n(0)] Failure),
    /// The answer to [`Request::Start`]: the job's name.
    #[n(6)]
    Job(#[n(0)] String),
    /// The answer to [`Request::Status`].
    #[n(7)]
    Status(#[n(0)] Status),
    /// The answer to [`Request::Suggest`]: rules, and whether they open a part
    /// only of what was reached.
    #[n(8)]
    Rules(
        #[n(0)] Vec<String>,
        #[n(1)]
        #[cbor(default)]
        bool,
    ),
    /// The answer to [`Request::Log`] and [`Request::Undo`].
    #[n(9)]
    Points(#[n(0)] Vec<Point>),
}

/// What a session was just before a command, and can be again.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Point {
    /// The commands of a session count from 1.
    #[n(0)]
    pub number: u64,
    /// When the command was about to begin, in milliseconds since 1970.
    #[n(1)]
    pub at_ms: u64,
    /// The command, as far as it fits a line.
    #[n(2)]
    pub command: String,
    /// How long the machine stood still for this, in microseconds; how long it
    /// took to go back, where that was asked.
    #[n(3)]
    pub took_us: u64,
}

/// A failure with a kind.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Failure {
    /// The kind's word in an envelope.
    #[n(0)]
    pub kind: String,
    /// One sentence for people.
    #[n(1)]
    pub message: String,
    /// A next step, where there is one.
    #[n(2)]
    pub hint: Option<String>,
    /// How long what failed had taken as who owns the session saw it, in
    /// microseconds.
    #[n(3)]
    pub host_us: Option<u64>,
}

/// How a session is.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Status {
    /// How long it has been running, in milliseconds.
    #[n(0)]
    pub uptime_ms: u64,
    /// How many processes run in it for somebody.
    #[n(1)]
    pub active_execs: u64,
    /// The host's memory that is its alone, in bytes, where that is known.
    #[n(2)]
    pub memory_bytes: Option<u64>,
}

/// How a process ended and what it used.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Exited {
    /// Its exit code, where it exited.
    #[n(0)]
    pub code: Option<i32>,
    /// The signal that ended it, where one did.
    #[n(1)]
    pub signal: Option<i32>,
    /// From spawn to exit as the agent saw it, in microseconds.
    #[n(3)]
    pub wall_us: u64,
    /// Processor time of it and all that it waited for, in microseconds.
    #[n(4)]
    pub cpu_us: Option<u64>,
    /// The largest resident memory of any one process of those, in bytes.
    #[n(5)]
    pub peak_memory: Option<u64>,
    /// The kernel killed something in it for want of memory.
    #[n(6)]
    pub oom: bool,
    /// It was refused a process because there were too many.
    #[n(7)]
    pub pids_limit: bool,
    /// Something it started still holds its output open.
    #[n(8)]
    pub left_running: bool,
    /// How long it took as who owns the session saw it, in microseconds.
    #[n(9)]
    pub host_us: Option<u64>,
    /// What it and all that it waited for had read from disks, in bytes.
    #[n(10)]
    pub read_bytes: Option<u64>,
    /// What they wrote that disks were to keep, in bytes.
    #[n(11)]
    pub write_bytes: Option<u64>,
    /// It failed, and the root file system had no free block at its end.
    #[n(12)]
    pub disk_full: Option<bool>,
    /// What went over the network meanwhile, as who owns the machine saw it.
    #[n(13)]
    pub net: Option<Box<NetUse>>,
}

/// What went over the network, and what was refused.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct NetUse {
    /// Bytes from the guest.
    #[n(0)]
    pub sent: u64,
    /// Bytes to the guest.
    #[n(1)]
    pub received: u64,
    /// Connections that were opened.
    #[n(2)]
    pub connections: u64,
    /// What was refused.
    #[n(3)]
    pub denied: Vec<Denied>,
}

/// What was refused of a guest, and how often.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Denied {
    /// A name where one is known, else an address.
    #[n(0)]
    pub host: String,
    /// The port.
    #[n(1)]
    pub port: u16,
    /// `tcp`, `udp` or `dns`.
    #[n(2)]
    pub proto: String,
    /// The word for why.
    #[n(3)]
    pub reason: String,
    /// A rule that would open it, where one could.
    #[n(4)]
    pub rule_hint: Option<String>,
    /// How often.
    #[n(5)]
    pub count: u64,
}

/// A message as the payload of a frame.
pub fn encode_message<T: Encode<()>>(message: &T) -> Vec<u8> {
    let mut bytes = Vec::new();
    // Writing to a vector cannot fail.
    let _ = minicbor::encode(message, &mut bytes);
    bytes
}

/// Reads the payload of a frame. Trailing bytes are an error.
pub fn decode_message<'b, T: Decode<'b, ()>>(bytes: &'b [u8]) -> Result<T, WireError> {
    let mut decoder = minicbor::Decoder::new(bytes);
    let message = decoder.decode().map_err(|e| WireError::Message(e.to_string()))?;
    if decoder.position() == bytes.len() {
        Ok(message)
    } else {
        Err(WireError::Message("bytes behind its end".into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Frozen bytes of generation 1: an agent in an old template says these.
    /// Never edit a line; a new generation adds lines.
    #[test]
    fn generation_1_still_reads() {
        let welcome = Event::Welcome(Welcome { generation: 1, kernel: "6.1".into() });
        let exited = Event::Exited(Exited { code: Some(3), wall_us: 7, ..Exited::default() });
        let cases =
            [(welcome, "820081a200010163362e31"), (Event::Done, "820180"), (exited, EXITED)];
        for (event, frozen) in cases {
            let bytes: Vec<u8> = (0..frozen.len() / 2)
                .map(|i| u8::from_str_radix(&frozen[2 * i..2 * i + 2], 16).unwrap())
                .collect();
            assert_eq!(decode_message::<Event>(&bytes), Ok(event.clone()));
            assert_eq!(encode_message(&event), bytes, "{event:?}");
        }
    }
    const EXITED: &str = "820481a50003030706f407f408f4";

    #[test]
    fn a_failure_reads_without_the_time_that_came_later() {
        let old = b"\x82\x05\x81\xa2\x00\x61k\x01\x61m";
        let failure = Failure { kind: "k".into(), message: "m".into(), ..Failure::default() };
        assert_eq!(decode_message(old), Ok(Event::Failure(failure.clone())));
        assert_eq!(encode_message(&Event::Failure(failure.clone())), old);
        let timed = Event::Failure(Failure { host_us: Some(7), ..failure });
        assert_eq!(decode_message(&encode_message(&timed)), Ok(timed));
    }

    #[test]
    fn unknown_fields_are_skipped() {
        // {0: 1, 1: "6.1", 99: [1, 2]}
        let newer = b"\x82\x00\x81\xa3\x00\x01\x01\x63\x36\x2e\x31\x18\x63\x82\x01\x02";
        let welcome = Event::Welcome(Welcome { generation: 1, kernel: "6.1".into() });
        assert_eq!(decode_message::<Event>(newer), Ok(welcome));
    }
}
