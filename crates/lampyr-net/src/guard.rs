//! Holds what a guest sends until it is known for whom it is.
//!
//! ```text
//! Begin --a hello with a good name--> Open
//!   |---a head with a good host-----> Body --its end--> Head --> Body ...
//!   `---anything else---------------> Open, where the port is not the web's
//! ```

use crate::domain::Domain;
use crate::hello::{self, Hello};
use crate::policy::Reason;
use crate::request::{self, Body};

/// The most bytes that are held.
pub const MAX_HELD: usize = request::MAX_HEAD + 4;

/// Where nothing but the web is spoken.
const WEB: [u16; 2] = [80, 443];

/// What is asked of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// It names its host, and that is a good one.
    Name,
    /// If its beginning names a host, that is a good one.
    Glance,
}

/// Watches one stream from a guest.
#[derive(Debug)]
pub struct Guard {
    need: Need,
    port: u16,
    state: State,
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
        Self { need, port, state: State::Begin }
    }

    /// Whether whatever comes may pass from now on.
    pub fn is_open(&self) -> bool {
        self.state == State::Open
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
        if full { Err(Reason::NoHost) } else { Ok(cleared) }
    }

    /// Whether what is held may go when nothing more comes.
    pub fn end(&self, held: &[u8]) -> Result<(), Reason> {
        let web = self.need == Need::Name && WEB.contains(&self.port);
        let text = self.state == State::Begin && !web && request::is_http(held).is_none();
        if held.is_empty() || self.is_open() || text { Ok(()) } else { Err(Reason::NoHost) }
    }

    fn begin(
        &mut self,
        bytes: &[u8],
        judge: &impl Fn(&Domain) -> Result<(), Reason>,
    ) -> Result<usize, Reason> {
        if hello::is_tls(bytes) {
            return match hello::read(bytes) {
                Hello::Partial => Ok(0),
                Hello::Named(name) => judge(&name).map(|()| self.open(bytes)),
                Hello::Nameless if self.need == Need::Name => Err(Reason::NoHost),
                Hello::Nameless => Ok(self.open(bytes)),
            };
        }
        // Of other protocols nothing is known but the address, which a name
        // on this very port has opened.
        match (self.need == Need::Name && WEB.contains(&self.port), request::is_http(bytes)) {
            (true, _) | (_, Some(true)) => self.head(bytes, judge),
            (false, Some(false)) => Ok(self.open(bytes)),
            (false, None) => Ok(0),
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
            Err(_) => return Err(Reason::NoHost),
        };
        judge(&head.host)?;
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
        let Some((line, size)) = request::chunk(bytes).map_err(|_| Reason::NoHost)? else {
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
        assert_eq!(said(Need::Name, 8080, lenient), Some(Reason::NoHost));
        assert_eq!(said(Need::Glance, 443, &hello(None)), None);
        assert_eq!(said(Need::Glance, 443, &hello(Some("b.com"))), Some(Reason::OtherHost));
    }

    #[test]
    fn what_never_says_whom_it_asks_is_refused() {
        assert_eq!(passed(Need::Name, 8080, &[b'A'; 9], 1), (vec![], None));
        assert_eq!(passed(Need::Name, 8080, &vec![b'A'; MAX_HELD], 99).1, Some(Reason::NoHost));
        let head = [&b"GET / HTTP/1.1\r\nX: "[..], &vec![b'x'; MAX_HELD]].concat();
        assert_eq!(passed(Need::Name, 8080, &head, 999).1, Some(Reason::NoHost));
    }
}
