//! One call of the program, with a limit to how long it may take.

use std::ffi::{OsStr, OsString};
use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::{Envelope, Process};

/// How long a call may take where nobody says otherwise.
const LIMIT: Duration = Duration::from_mins(1);
/// What reaches the program of the variables that we were given.
const PASSED: [&str; 2] = ["LAMPYR_ACCEL", "LAMPYR_QEMU"];

/// A call to be made.
#[derive(Debug)]
pub struct Call {
    words: Vec<OsString>,
    env: Vec<(String, OsString)>,
    stdin: Option<Vec<u8>>,
    limit: Duration,
}

impl Call {
    pub(crate) fn new<S: AsRef<OsStr>>(program: &Path, words: impl IntoIterator<Item = S>) -> Self {
        let words = words.into_iter().map(|word| word.as_ref().to_owned());
        let words = std::iter::once(program.as_os_str().to_owned()).chain(words).collect();
        Self { words, env: Vec::new(), stdin: None, limit: LIMIT }
    }

    /// Adds words.
    #[must_use]
    pub fn args<S: AsRef<OsStr>>(mut self, words: impl IntoIterator<Item = S>) -> Self {
        self.words.extend(words.into_iter().map(|word| word.as_ref().to_owned()));
        self
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.env.push((name.to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Gives it a standard input.
    #[must_use]
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = Some(bytes.into());
        self
    }

    /// Limits how long it may take.
    #[must_use]
    pub fn within(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Lets another program run it, which is given its words after its own.
    #[must_use]
    pub fn under<S: AsRef<OsStr>>(mut self, wrapper: impl IntoIterator<Item = S>) -> Self {
        let wrapper = wrapper.into_iter().map(|word| word.as_ref().to_owned());
        self.words = wrapper.chain(self.words).collect();
        self
    }

    /// Starts it.
    pub fn start(self) -> Live {
        let mut command = Command::new(&self.words[0]);
        command.args(&self.words[1..]);
        for (name, _) in std::env::vars_os() {
            let ours = name.to_string_lossy().starts_with("LAMPYR_");
            if ours && !PASSED.iter().any(|passed| name == *passed) {
                command.env_remove(name);
            }
        }
        command.envs(self.env);
        command.stdin(self.stdin.as_ref().map_or_else(Stdio::null, |_| Stdio::piped()));
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let begun = Instant::now();
        let mut child = command.spawn().expect("the program starts");
        if let (Some(bytes), Some(mut pipe)) = (self.stdin, child.stdin.take()) {
            // A program that does not read it all is not the writer's concern.
            std::thread::spawn(move || drop(pipe.write_all(&bytes)));
        }
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        Live {
            stdout: Some(collect(stdout.unwrap())),
            stderr: Some(collect(stderr.unwrap())),
            child,
            begun,
            limit: self.limit,
        }
    }

    /// Runs it to its end.
    pub fn finish(self) -> Finished {
        self.start().finish()
    }

    /// Runs it to its end and reads the envelope that it prints.
    pub fn envelope(self) -> Envelope {
        self.finish().envelope()
    }
}

fn collect(mut from: impl Read + Send + 'static) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = from.read_to_end(&mut bytes);
        bytes
    })
}

/// A call that is going on. Dropping it kills the process.
#[derive(Debug)]
pub struct Live {
    child: Child,
    stdout: Option<JoinHandle<Vec<u8>>>,
    stderr: Option<JoinHandle<Vec<u8>>>,
    begun: Instant,
    limit: Duration,
}

impl Live {
    /// The process; `None` when it has ended.
    pub fn process(&self) -> Option<Process> {
        Process::find(self.child.id() as i32)
    }

    /// Waits for it to start a virtual machine; `None` if it ends before.
    pub fn machine(&mut self) -> Option<Process> {
        loop {
            let found = self.process()?.child("-machine");
            if found.is_some() {
                return found;
            }
            self.check_limit();
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Sends a signal.
    pub fn signal(&self, signal: i32) {
        if let Some(process) = self.process() {
            process.signal(signal);
        }
    }

    /// Waits for its end.
    pub fn finish(mut self) -> Finished {
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            self.check_limit();
            std::thread::sleep(Duration::from_millis(2));
        };
        let took = self.begun.elapsed();
        let text = |stream: Option<JoinHandle<Vec<u8>>>| stream.unwrap().join().unwrap();
        let (stdout, stderr) = (text(self.stdout.take()), text(self.stderr.take()));
        Finished { status, stdout, stderr, took }
    }

    fn check_limit(&mut self) {
        if self.begun.elapsed() > self.limit {
            let _ = self.child.kill();
            let _ = self.child.wait();
            let said = self.stderr.take().and_then(|s| s.join().ok()).unwrap_or_default();
            let said = String::from_utf8_lossy(&said).into_owned();
            panic!("still running after {:?}; it said: {said}", self.limit);
        }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A call that has ended.
pub struct Finished {
    status: ExitStatus,
    /// Its standard output.
    pub stdout: Vec<u8>,
    /// Its standard error.
    pub stderr: Vec<u8>,
    /// How long it took.
    pub took: Duration,
}

impl Finished {
    /// The exit status; `None` where a signal ended it.
    pub fn status(&self) -> Option<i32> {
        self.status.code()
    }

    /// The signal that ended it.
    pub fn signal(&self) -> Option<i32> {
        self.status.signal()
    }

    /// Standard output as text.
    pub fn stdout(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Standard error as text.
    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }

    /// The sentence and the hint that it failed with.
    pub fn failure(&self) -> (String, String) {
        self.told(1)
    }

    /// The sentence and the hint with which it was refused.
    pub fn refusal(&self) -> (String, String) {
        self.told(2)
    }

    fn told(&self, status: i32) -> (String, String) {
        assert_eq!(self.status(), Some(status), "{self:?}");
        let said = self.stderr();
        let line = |start: &str| {
            let found = said.lines().find_map(|line| line.strip_prefix(start));
            found.unwrap_or_else(|| panic!("no '{start}' in {said}")).to_owned()
        };
        (line("error: "), line("hint: "))
    }

    /// The JSON that it printed when all went well.
    pub fn json(&self) -> serde_json::Value {
        assert_eq!(self.status(), Some(0), "{self:?}");
        serde_json::from_str(&self.stdout()).unwrap()
    }

    /// The envelope that it printed.
    pub fn envelope(&self) -> Envelope {
        Envelope::read(self)
    }
}

impl std::fmt::Debug for Finished {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let start = |text: String| text.chars().take(2000).collect::<String>();
        let (stdout, stderr) = (start(self.stdout()), start(self.stderr()));
        write!(f, "{} after {:?}\nstdout: {stdout}\nstderr: {stderr}", self.status, self.took)
    }
}
