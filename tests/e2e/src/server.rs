//! `lampyr serve`, and a client that is no more than the tests need.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::{Process, TestContext};

/// How long anything may take.
const LIMIT: Duration = Duration::from_mins(2);

/// A server that runs. Dropped, it is killed.
pub struct Served {
    child: Child,
    stdin: Option<ChildStdin>,
    /// What it said when it was ready.
    pub word: Value,
}

/// A connection to a server.
pub trait Connection: Read + Write + Send {}
impl<T: Read + Write + Send> Connection for T {}

/// An answer.
#[derive(Debug)]
pub struct Reply {
    /// Its status.
    pub status: u16,
    /// Its head.
    pub head: String,
    /// Its body, whole.
    pub body: Vec<u8>,
}

impl Served {
    /// `lampyr serve` with these flags.
    pub fn start(context: &TestContext, flags: &[&str]) -> Self {
        Self::trusting(context, flags, None)
    }

    /// The same; its sandboxes' servers are verified against these authorities.
    pub fn trusting(context: &TestContext, flags: &[&str], authorities: Option<&Path>) -> Self {
        let mut command = Command::new(context.program());
        command.arg("serve").args(flags).env("LAMPYR_HOME", context.home());
        command.envs(authorities.map(|path| ("SSL_CERT_FILE", path)));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let word = serde_json::from_str(&line).expect("the server is ready");
        Self { stdin: child.stdin.take(), child, word }
    }

    /// The socket that it listens on.
    pub fn socket(&self) -> PathBuf {
        self.word["socket"].as_str().unwrap().into()
    }

    /// The address that it listens on, as in `127.0.0.1:80`.
    pub fn address(&self) -> &str {
        self.word["url"].as_str().unwrap().strip_prefix("http://").unwrap()
    }

    /// A connection to it.
    pub fn connect(&self) -> Box<dyn Connection> {
        if self.word["url"].is_string() {
            let stream = TcpStream::connect(self.address()).unwrap();
            stream.set_read_timeout(Some(LIMIT)).unwrap();
            return Box::new(stream);
        }
        let stream = UnixStream::connect(self.socket()).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        Box::new(stream)
    }

    /// Asks something and hears the whole answer. `head` is more lines for the
    /// request's head, each with its end.
    pub fn ask(&self, method: &str, path: &str, head: &str, body: &[u8]) -> Reply {
        let mut stream = self.connect();
        send(&mut *stream, method, path, head, body);
        Reply::read(&mut *stream)
    }

    /// Asks with a JSON body, and reads one.
    pub fn json(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let reply = self.ask(method, path, "", body.to_string().as_bytes());
        (reply.status, reply.json())
    }

    /// Asks without a body, and reads one of JSON.
    pub fn get(&self, path: &str) -> (u16, Value) {
        let reply = self.ask("GET", path, "", b"");
        (reply.status, reply.json())
    }

    /// Starts a small sandbox and gives its view.
    pub fn sandbox(&self, mut asked: Value) -> Value {
        asked["cpus"] = 1.into();
        asked["memory"] = "256M".into();
        let (status, view) = self.json("POST", "/v1/sandboxes", &asked);
        assert_eq!(status, 201, "{view}");
        view
    }

    /// Closes its standard input.
    pub fn let_go(&mut self) {
        self.stdin = None;
    }

    /// Its process.
    pub fn process(&self) -> Process {
        Process::find(self.child.id() as i32).unwrap()
    }

    /// Ends it by a signal.
    pub fn signal(&self, signal: i32) {
        self.process().signal(signal);
    }

    /// Waits for its end.
    pub fn finish(mut self) -> Option<i32> {
        let mut code = None;
        crate::eventually("the server does not end", || {
            let ended = self.child.try_wait().unwrap();
            code = ended.and_then(|status| status.code());
            ended.is_some()
        });
        code
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends a request.
pub fn send(stream: &mut dyn Connection, method: &str, path: &str, head: &str, body: &[u8]) {
    let host = if head.contains("Host:") { "" } else { "Host: localhost\r\n" };
    let length = body.len();
    let first = format!("{method} {path} HTTP/1.1\r\n{host}Connection: close\r\n");
    let whole = format!("{first}{head}Content-Length: {length}\r\n\r\n");
    // A server that refuses a request need not read all of it.
    let _ = stream.write_all(whole.as_bytes()).and_then(|()| stream.write_all(body));
}

impl Reply {
    /// Reads an answer to the connection's end.
    pub fn read(stream: &mut dyn Connection) -> Self {
        let mut bytes = Vec::new();
        // What breaks off is judged by what came.
        let _ = stream.read_to_end(&mut bytes);
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").expect("a head");
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap().to_lowercase();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let body = bytes.split_off(end + 4);
        let chunked = head.contains("transfer-encoding: chunked");
        Self { status, head, body: if chunked { dechunk(&body) } else { body } }
    }

    /// Its body as text.
    pub fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    /// Its body as JSON; null where it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

fn dechunk(mut bytes: &[u8]) -> Vec<u8> {
    let mut whole = Vec::new();
    while let Some(end) = bytes.windows(2).position(|two| two == b"\r\n") {
        let length = std::str::from_utf8(&bytes[..end]).unwrap();
        let length = usize::from_str_radix(length, 16).unwrap();
        bytes = &bytes[end + 2..];
        whole.extend(&bytes[..length.min(bytes.len())]);
        bytes = bytes.get(length + 2..).unwrap_or_default();
    }
    whole
}
