//! A gate before a registry: it counts what goes through, and may be shut in
//! several ways.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex};
use std::thread;

use crate::TestRegistry;

/// What a gate does with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// It lets it through.
    Pass,
    /// It lets so many bytes of the answer through.
    Cut(u64),
    /// It says that there were too many requests, and may say when to come
    /// back, in seconds.
    TooMany(Option<u64>),
    /// It lets so many bytes of the answer through, and then says nothing.
    Stall(u64),
    /// It gives so many bytes of nonsense for a manifest.
    Swollen(usize),
}

/// A registry's gate, on a port of its own.
#[derive(Debug)]
pub struct Gate {
    port: u16,
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    registry: u16,
    rule: Mutex<Rule>,
    asked: AtomicU64,
    given: AtomicU64,
    over: AtomicBool,
}

impl Gate {
    /// A gate before `registry`, which speaks no TLS.
    pub fn before(registry: &TestRegistry) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(State {
            registry: registry.port(),
            rule: Mutex::new(Rule::Pass),
            asked: AtomicU64::new(0),
            given: AtomicU64::new(0),
            over: AtomicBool::new(false),
        });
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if shared.over.load(Relaxed) {
                    break;
                }
                let state = Arc::clone(&shared);
                // Either side may go away at any moment.
                thread::spawn(move || drop(state.serve(stream)));
            }
        });
        Self { port, state }
    }

    /// Its host and port.
    pub fn name(&self) -> String {
        format!("localhost:{}", self.port)
    }

    /// From now on it does this.
    pub fn set(&self, rule: Rule) {
        *self.state.rule.lock().unwrap() = rule;
    }

    /// How many requests came.
    pub fn asked(&self) -> u64 {
        self.state.asked.load(Relaxed)
    }

    /// How many bytes of answers it gave since it was last asked.
    pub fn given(&self) -> u64 {
        self.state.given.swap(0, Relaxed)
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.state.over.store(true, Relaxed);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

impl State {
    /// Answers the one request of a connection.
    fn serve(&self, mut client: TcpStream) -> std::io::Result<()> {
        let head = read_head(&mut client)?;
        // Whoever asks without TLS looks first whether there is any.
        let Some(rest) = head.strip_suffix("\r\n") else { return Ok(()) };
        self.asked.fetch_add(1, Relaxed);
        let rule = *self.rule.lock().unwrap();
        let most = match rule {
            Rule::Pass => u64::MAX,
            Rule::Cut(most) | Rule::Stall(most) => most,
            Rule::TooMany(after) => {
                let after = after.map(|s| format!("Retry-After: {s}\r\n")).unwrap_or_default();
                let head = format!("HTTP/1.1 429 Too Many Requests\r\n{after}");
                return write!(client, "{head}Content-Length: 0\r\nConnection: close\r\n\r\n");
            }
            Rule::Swollen(len) => {
                write!(client, "HTTP/1.1 200 OK\r\nContent-Length: {len}\r\n\r\n")?;
                return client.write_all(&vec![b' '; len]);
            }
        };
        let mut registry = TcpStream::connect(("127.0.0.1", self.registry))?;
        write!(registry, "{rest}Connection: close\r\n\r\n")?;
        self.relay(&mut registry, &mut client, most)?;
        if matches!(rule, Rule::Stall(_)) {
            // Until whoever asks has had enough.
            client.read(&mut [0]).map(drop)?;
        }
        client.shutdown(Shutdown::Both)
    }

    fn relay(&self, from: &mut impl Read, to: &mut impl Write, most: u64) -> std::io::Result<()> {
        let (mut left, mut piece) = (most, vec![0; 1 << 16]);
        while left > 0 {
            let want = left.min(piece.len() as u64) as usize;
            let len = from.read(&mut piece[..want])?;
            if len == 0 {
                break;
            }
            to.write_all(&piece[..len])?;
            self.given.fetch_add(len as u64, Relaxed);
            left -= len as u64;
        }
        Ok(())
    }
}

/// The head of a request, to the empty line behind it; less where there is no
/// request.
pub(crate) fn read_head(client: &mut impl Read) -> std::io::Result<String> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") && head.len() < 1 << 16 {
        if client.read(&mut byte)? == 0 || !byte[0].is_ascii() || byte[0] == 0x16 {
            return Ok(String::new());
        }
        head.push(byte[0]);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}
