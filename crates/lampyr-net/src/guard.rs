//! Holds what a guest sends until it is known for whom it is.
//!
//! ```text
//! Begin --a hello with a good name--> Open
//!   |---a head with a good host-----> Body --its end--> Head --> Body ...
//!   `---anything else---------------> Open, where the port is not the web's
//! ```
//!
//! Where a glance is enough, the first head opens the stream, good or not.

use crate::domain::Domain;
use crate::hello::{self, Hello};
use crate::policy::Reason;
use crate::request::{self, Body};

/// The most bytes that are held.
pub const MAX_HELD: usize = request::MAX_HEAD + 4;

/// Where nothing but the web is spoken.
const WEB: [u16; 2] = [80, 443];

/// What is asked of a stream; more of the later ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Need {
    /// If its beginning names a host, that is a good one.
    Glance,
    /// If it names hosts, those are good ones: of every request.
    Each,
    /// It names its host, and that is a good one.
    Name,
}

/// What is spoken on a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spoken {
    /// TLS, which names one host, or none.
    Tls,
    /// Requests, each of which names its host.
    Http,
    /// Something else.
    Other,
}

impl Spoken {
    /// Whether a stream of it that is watched no more meets this need.
    pub(crate) fn meets(self, need: Need, port: u16, is_named: bool) -> bool {
        match (need, self) {
            (Need::Glance, _) | (Need::Each, Self::Tls | Self::Other) => true,
            (Need::Name, Self::Tls) => is_named,
            (Need::Name, Self::Other) => !WEB.contains(&port),
            (_, Self::Http) => false,
        }
    }
}

/// Watches one stream from a guest.
#[derive(Debug)]
pub struct Guard {
    need: Need,
    port: u16,
    state: State,
    spoken: Spoken,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Begin,
    Head,
    /// So many bytes, and then what.
    Body(u64, After),
    Chunk,
    Open,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum After {
    Head,
    Chunk,
}

impl Guard {
    /// A guard of a stream to this port.
    pub fn new(need: Need, port: u16) -> Self {
        Self { need, port, state: State::Begin, spoken: Spoken::Other }
    }

    /// Whether whatever comes may pass from now on.
    pub fn is_open(&self) -> bool {
        self.state == State::Open
    }

    /// Whether nothing has passed yet.
    pub(crate) fn is_fresh(&self) -> bool {
        self.state == State::Begin
    }

    /// Whether it watches for all that this needs.
    pub(crate) fn watches(&self, need: Need) -> bool {
        self.need >= need && !self.is_open()
    }

    /// What is spoken, as far as it was heard.
    pub(crate) fn spoken(&self) -> Spoken {
        self.spoken
    }

    /// How many of `bytes`, which come next, may pass; none: there must be
    /// more of them first. `judge` says whether a name is a good one.
    pub fn clear(
        &mut self,
        bytes: &[u8],
        judge: impl Fn(&Domain) -> Result<(), Reason>,
    ) -> Result<usize, Reason> {
        if bytes.is_empty() {
            return Ok(0);
        }
        let cleared = match self.state {
            State::Open => return Ok(bytes.len()),
            State::Begin => self.begin(bytes, &judge)?,
            State::Head => self.head(bytes, &judge)?,
            State::Chunk => self.chunk(bytes)?,
            State::Body(left, after) => return Ok(self.body(bytes.len(), left, after)),
        };
        let full = cleared == 0 && !self.is_open() && bytes.len() >= MAX_HELD;
        match (full, self.need, self.state) {
            (false, ..) => Ok(cleared),
            (_, Need::Glance, _) if !hello::is_tls(bytes) => Ok(self.open(bytes)),
            (_, _, State::Begin) => Err(Reason::NoHost),
            _ => Err(Reason::Unclear),
        }
    }

    /// Whether what is held may go when nothing more comes.
    pub fn end(&self, held: &[u8]) -> Result<(), Reason> {
        let text = self.is_fresh() && !self.wants_web() && request::is_http(held).is_none();
        let glance = self.need == Need::Glance && !hello::is_tls(held);
        match self.state {
            _ if held.is_empty() || self.is_open() || text || glance => Ok(()),
            State::Begin => Err(Reason::NoHost),
            _ => Err(Reason::Unclear),
        }
    }

    /// Nothing more has come for a while: where a glance is enough, what need
    /// not become a request, nor a hello, may pass. Returns whether it does.
    pub(crate) fn tire(&mut self, held: &[u8]) -> bool {
        let glance = self.need == Need::Glance && self.is_fresh() && !held.is_empty();
        if glance && !hello::is_tls(held) && !request::may_be_method(held) {
            self.open(held);
        }
        self.is_open()
    }

    /// Whether nothing but the web may be spoken.
    fn wants_web(&self) -> bool {
        self.need == Need::Name && WEB.contains(&self.port)
    }

    fn begin(
        &mut self,
        bytes: &[u8],
        judge: &impl Fn(&Domain) -> Result<(), Reason>,
    ) -> Result<usize, Reason> {
        if hello::is_tls(bytes) {
            self.spoken = Spoken::Tls;
            return match hello::read(bytes) {
                Hello::Partial => Ok(0),
                Hello::Named(name) => judge(&name).map(|()| self.open(bytes)),
                Hello::Nameless if self.need == Need::Name => Err(Reason::NoHost),
                Hello::Nameless => Ok(self.open(bytes)),
            };
        }
        // Of other protocols nothing is known but the address, which a name
        // on this very port has opened.
        match request::is_http(bytes.get(..MAX_HELD).unwrap_or(bytes)) {
            Some(true) => {
                self.spoken = Spoken::Http;
                self.head(bytes, judge)
            }
            Some(false) if self.wants_web() => Err(Reason::NoHost),
            Some(false) => Ok(self.open(bytes)),
            None => Ok(0),
        }
    }

    fn open(&mut self, bytes: &[u8]) -> usize {
        self.state = State::Open;
        bytes.len()
    }

    fn head(
        &mut self,
        bytes: &[u8],
        judge: &impl Fn(&Domain) -> Result<(), Reason>,
    ) -> Result<usize, Reason> {
        let head = match request::head(bytes) {
            Ok(Some(head)) => head,
            Ok(None) => return Ok(0),
            Err(_) if self.need == Need::Glance => return Ok(self.open(bytes)),
            Err(_) => return Err(Reason::Unclear),
        };
        match &head.host {
            Some(host) => judge(host)?,
            None if self.need == Need::Name => return Err(Reason::NoHost),
            None => {}
        }
        if self.need == Need::Glance {
            return Ok(self.open(bytes));
        }
        self.state = match head.body {
            Body::Length(0) => State::Head,
            Body::Length(length) => State::Body(length, After::Head),
            Body::Chunked => State::Chunk,
        };
        Ok(head.length)
    }

    fn chunk(&mut self, bytes: &[u8]) -> Result<usize, Reason> {
        let Some((line, size)) = request::chunk(bytes).map_err(|_| Reason::Unclear)? else {
            return Ok(0);
        };
        self.state = if size == 0 { State::Head } else { State::Body(size, After::Chunk) };
        Ok(line)
    }

    fn body(&mut self, there: usize, left: u64, after: After) -> usize {
        let passed = (there as u64).min(left);
        self.state = match (left - passed, after) {
            (0, After::Head) => State::Head,
            (0, After::Chunk) => State::Chunk,
            (left, after) => State::Body(left, after),
        };
        passed as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(name: &Domain) -> Result<(), Reason> {
        if name.as_str() == "a.example.com" { Ok(()) } else { Err(Reason::OtherHost) }
    }

    /// What passes of a stream that comes in pieces of `size` bytes.
    fn passed(need: Need, port: u16, stream: &[u8], size: usize) -> (Vec<u8>, Option<Reason>) {
        let mut guard = Guard::new(need, port);
        let (mut held, mut out) = (Vec::new(), Vec::new());
        for piece in stream.chunks(size) {
            held.extend_from_slice(piece);
            loop {
                match guard.clear(&held, judge) {
                    Ok(0) => break,
                    Ok(n) => out.extend(held.drain(..n)),
                    Err(reason) => return (out, Some(reason)),
                }
            }
        }
        (out, None)
    }

    #[test]
    fn each_request_of_a_stream_is_judged() {
        let good = "POST / HTTP/1.1\r\nHost: a.example.com\r\nContent-Length: 3\r\n\r\nabc";
        let chunks = "PUT / HTTP/1.1\r\nHost: a.example.com\r\nTransfer-Encoding: chunked\r\n\r\n\
                      2\r\nab\r\n0\r\n\r\n";
        let evil = "GET / HTTP/1.1\r\nHost: evil.example.com\r\n\r\n";
        for size in [1, 7, 1000] {
            let both = [good, chunks].concat();
            assert_eq!(passed(Need::Name, 80, both.as_bytes(), size), (both.clone().into(), None));
            let (out, reason) = passed(Need::Name, 80, [&both, evil].concat().as_bytes(), size);
            assert_eq!((out, reason), (both.into(), Some(Reason::OtherHost)));
        }
    }

    #[test]
    fn a_hello_is_judged_by_its_name() {
        let hello = |name| hello::compose(name);
        let said = |need, port, stream: &[u8]| passed(need, port, stream, 9).1;
        assert_eq!(said(Need::Name, 443, &hello(Some("a.example.com"))), None);
        assert_eq!(said(Need::Name, 443, &hello(Some("b.com"))), Some(Reason::OtherHost));
        assert_eq!(said(Need::Name, 443, &hello(None)), Some(Reason::NoHost));
        assert_eq!(said(Need::Name, 443, b"SSH-2.0-x\r\n\r\n"), Some(Reason::NoHost));
        assert_eq!(said(Need::Name, 22, b"SSH-2.0-x\r\n"), None);
        assert_eq!(said(Need::Name, 22, &hello(Some("b.com"))), Some(Reason::OtherHost));
        let lenient = b"\r\nget / http/1.1\nhost: b.com\n\n\r\n\r\n";
        assert_eq!(said(Need::Name, 8080, lenient), Some(Reason::Unclear));
        assert_eq!(said(Need::Glance, 443, &hello(None)), None);
        assert_eq!(said(Need::Glance, 443, &hello(Some("b.com"))), Some(Reason::OtherHost));
    }

    #[test]
    fn what_never_says_whom_it_asks_is_refused() {
        assert_eq!(passed(Need::Name, 8080, &[b'A'; 9], 1), (vec![], None));
        assert_eq!(passed(Need::Name, 8080, &vec![b'A'; MAX_HELD], 99).1, Some(Reason::NoHost));
        let head = [&b"GET / HTTP/1.1\r\nX: "[..], &vec![b'x'; MAX_HELD]].concat();
        assert_eq!(passed(Need::Name, 8080, &head, 999).1, Some(Reason::Unclear));
    }

    #[test]
    fn where_a_name_is_shut_every_request_is_judged() {
        let head = |host: &str| format!("GET / HTTP/1.1\r\n{host}\r\n\r\n");
        let (good, evil) = (head("Host: a.example.com"), head("Host: b.com"));
        let lenient = evil.replace('\r', "");
        let said = |need, stream: &str| passed(need, 80, stream.as_bytes(), 9).1;
        assert_eq!(said(Need::Each, &format!("{good}{evil}")), Some(Reason::OtherHost));
        assert_eq!(said(Need::Each, &lenient), Some(Reason::Unclear));
        // Who names nobody, and what is no request, pass.
        for stream in [head("Host: 10.0.0.1:80"), head("X: y"), "ruok\n".into()] {
            assert_eq!(passed(Need::Each, 80, stream.as_bytes(), 9), (stream.into(), None));
        }
        assert_eq!(passed(Need::Each, 443, &hello::compose(None), 9).1, None);
    }

    #[test]
    fn a_glance_holds_nothing_for_ever() {
        let held = |need, text: &[u8]| {
            let mut guard = Guard::new(need, 5000);
            assert_eq!(guard.clear(text, judge), Ok(0), "{text:?}");
            guard.tire(text)
        };
        assert!(held(Need::Glance, b"JDWP-Handshake") && held(Need::Glance, b"ruok"));
        assert!(!held(Need::Glance, b"GE") && !held(Need::Glance, &[22, 3]));
        assert!(!held(Need::Each, b"ruok") && !held(Need::Name, b"ruok"));
        let long = vec![b'A'; MAX_HELD];
        assert_eq!(passed(Need::Glance, 5000, &long, 99), (long.clone(), None));
        let huge = [&[22, 3, 1, 0x40, 0, 1, 0, 0x7f, 0xff], &vec![0; 2 * MAX_HELD][..]].concat();
        assert_eq!(passed(Need::Glance, 443, &huge, 99), (vec![], Some(Reason::NoHost)));
        let guard = Guard::new(Need::Glance, 5000);
        assert_eq!(guard.end(b"GET / HTTP/1.1\r\n"), Ok(()));
        assert_eq!(guard.end(&[22, 3]), Err(Reason::NoHost));
    }
}
