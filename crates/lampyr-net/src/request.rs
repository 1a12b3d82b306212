//! Requests of HTTP/1, one after another, as a guard sees them: whose they
//! are, and where each ends.
//!
//! It is stricter than any server, so that no server sees another request
//! than it does.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::domain::Domain;

/// The longest head of a request.
pub(crate) const MAX_HEAD: usize = 16 << 10;
/// The most fields in one.
const MAX_FIELDS: usize = 200;
/// The longest line before a chunk.
const MAX_CHUNK_LINE: usize = 256;
/// What no trailer may be.
const MEANT_FOR_HEADS: [&str; 5] =
    ["host", "content-length", "transfer-encoding", "upgrade", "http2-settings"];
/// The methods that are known to anybody.
const METHODS: &str = "ACL BASELINE-CONTROL BIND CHECKIN CHECKOUT CONNECT COPY DELETE GET HEAD LABEL LINK \
    LOCK M-SEARCH MERGE MKACTIVITY MKCALENDAR MKCOL MKREDIRECTREF MKWORKSPACE MOVE \
    NOTIFY OPTIONS ORDERPATCH PATCH POST PRI PROPFIND PROPPATCH PURGE PUT QUERY REBIND \
    REPORT SEARCH SUBSCRIBE TRACE UNBIND UNCHECKOUT UNLINK UNLOCK UNSUBSCRIBE UPDATE \
    UPDATEREDIRECTREF VERSION-CONTROL";

/// What comes after a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Body {
    /// So many bytes.
    Length(u64),
    /// Chunks.
    Chunked,
}

/// The head of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Head {
    /// Whom it asks, where it says so by name.
    pub host: Option<Domain>,
    /// How long it is.
    pub length: usize,
    /// What follows it.
    pub body: Body,
}

/// Why bytes are no request that may pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Refused;

/// Whether a stream that begins like this is one of requests; `None`: nobody
/// can tell yet. Servers are lenient about the first line, so that this is,
/// too: what is no word and a space is none, and what names HTTP is one.
pub(crate) fn is_http(stream: &[u8]) -> Option<bool> {
    let line = first_word(stream);
    let word = line.iter().take_while(|b| is_token(**b)).count();
    for (n, byte) in line.iter().enumerate().skip(word) {
        match byte {
            b'\n' => return Some(line[..n].windows(5).any(|w| w.eq_ignore_ascii_case(b"HTTP/"))),
            _ if is_space(*byte) => {}
            b' '.. if n > word => {}
            _ => return Some(false),
        }
    }
    None
}

/// Whether an unfinished stream begins with a method, or with what may become
/// one.
pub(crate) fn may_be_method(stream: &[u8]) -> bool {
    let line = first_word(stream);
    let end = line.iter().position(|b| !is_token(*b));
    let word = line.get(..end.unwrap_or(line.len())).unwrap_or_default();
    let is = |method: &str| {
        let begins = method.as_bytes().get(..word.len());
        begins.is_some_and(|begin| begin.eq_ignore_ascii_case(word))
            && (end.is_none() || word.len() == method.len())
    };
    !word.is_empty() && METHODS.split(' ').any(is)
}

fn first_word(stream: &[u8]) -> &[u8] {
    let begin = stream.iter().position(|b| !is_space(*b) && *b != b'\n');
    stream.get(begin.unwrap_or(stream.len())..).unwrap_or_default()
}

/// What some server takes for a space between words.
fn is_space(byte: u8) -> bool {
    matches!(byte, b'\t' | 0x0b..=b'\r' | 0x1c..=b' ' | 0x85 | 0xa0)
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Reads the head at the beginning of `bytes`, and empty lines before it;
/// `None`: there is more to come.
pub(crate) fn head(bytes: &[u8]) -> Result<Option<Head>, Refused> {
    let empty = 2 * bytes.chunks(2).take_while(|line| *line == b"\r\n").count();
    let text = bytes.get(empty..).unwrap_or_default();
    let near = bytes.get(empty..bytes.len().min(MAX_HEAD)).unwrap_or_default();
    let Some(end) = near.windows(4).position(|w| w == b"\r\n\r\n") else {
        return if bytes.len() > MAX_HEAD { Err(Refused) } else { begins(text).map(|()| None) };
    };
    let mut lines = lines(text.get(..end).unwrap_or_default());
    let uri_host = first_line(lines.next().unwrap_or_default())?;
    let fields = Fields::read(lines)?;
    if uri_host.is_some() && uri_host != fields.host {
        return Err(Refused);
    }
    let host = fields.host.flatten();
    Ok(Some(Head { host, length: empty + end + 4, body: fields.body }))
}

/// Lines as they should end; another end is a part of its line.
fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let end = text.windows(2).position(|w| w == b"\r\n");
        rest = end.and_then(|end| text.get(end + 2..));
        text.get(..end.unwrap_or(text.len()))
    })
}

/// Refuses a head that is not whole and can become no good one: nobody is to
/// wait for what does not come.
fn begins(bytes: &[u8]) -> Result<(), Refused> {
    let mut lines = bytes.split(|b| *b == b'\n');
    // What follows the last end of a line is no line yet.
    lines.next_back();
    for (n, line) in lines.enumerate() {
        let line = line.strip_suffix(b"\r").ok_or(Refused)?;
        if n == 0 {
            first_line(line)?;
        }
    }
    Ok(())
}

/// `METHOD target HTTP/1.x`; returns the host that the target names, if any.
fn first_line(line: &[u8]) -> Result<Option<Host>, Refused> {
    let line = std::str::from_utf8(line).map_err(|_| Refused)?;
    let mut words = line.split(' ');
    let (method, target, version) = (words.next(), words.next(), words.next());
    let (Some(method), Some(target), Some(version), None) = (method, target, version, words.next())
    else {
        return Err(Refused);
    };
    let plain = line.bytes().all(|b| b.is_ascii_graphic() || b == b' ');
    if !plain || method == "CONNECT" || !matches!(version, "HTTP/1.1" | "HTTP/1.0") {
        return Err(Refused);
    }
    if target.starts_with('/') || (method == "OPTIONS" && target == "*") {
        return Ok(None);
    }
    let rest = target.strip_prefix("http://").ok_or(Refused)?;
    authority(rest.split(['/', '?', '#']).next().unwrap_or_default()).map(Some)
}

/// `HOST[:PORT]`, nothing else.
fn authority(text: &str) -> Result<Host, Refused> {
    let end = if text.starts_with('[') { text.find(']').map_or(0, |at| at + 1) } else { 0 };
    let colon = text.get(end..).and_then(|rest| rest.find(':')).map(|at| end + at);
    let (host, port) = text.split_at(colon.unwrap_or(text.len()));
    port.strip_prefix(':').unwrap_or("0").parse::<u16>().map_err(|_| Refused)?;
    let inside = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let bare = match inside {
        Some(inside) => inside.parse::<Ipv6Addr>().is_ok(),
        None => host.parse::<Ipv4Addr>().is_ok(),
    };
    if bare { Ok(None) } else { Domain::parse(host).map(Some).map_err(|_| Refused) }
}

/// A name, or an address, which is nobody's name.
type Host = Option<Domain>;

struct Fields {
    host: Option<Host>,
    body: Body,
}

impl Fields {
    fn read<'a>(lines: impl Iterator<Item = &'a [u8]>) -> Result<Self, Refused> {
        let (mut host, mut length, mut chunked) = (None, None, false);
        for (n, line) in lines.enumerate() {
            let (name, value) = field(line).filter(|_| n <= MAX_FIELDS).ok_or(Refused)?;
            // What is not ASCII is no good value where values matter.
            let value = std::str::from_utf8(value).unwrap_or("\u{fffd}");
            let value = value.trim_matches([' ', '\t']);
            let twice = match name.as_str() {
                "host" => host.replace(authority(value)?).is_some(),
                "content-length" => length.replace(number(value)?).is_some(),
                "transfer-encoding" if value.eq_ignore_ascii_case("chunked") => {
                    std::mem::replace(&mut chunked, true)
                }
                // After an upgrade nobody knows whom is spoken to.
                "transfer-encoding" | "upgrade" | "http2-settings" => true,
                _ => false,
            };
            if twice {
                return Err(Refused);
            }
        }
        match (length, chunked) {
            (Some(_), true) => Err(Refused),
            (_, true) => Ok(Self { host, body: Body::Chunked }),
            (length, false) => Ok(Self { host, body: Body::Length(length.unwrap_or(0)) }),
        }
    }
}

/// The name of a field, in small letters, and its value; `None` for a line that
/// goes on, a space before the colon, a lone newline.
fn field(line: &[u8]) -> Option<(String, &[u8])> {
    let colon = line.iter().position(|b| *b == b':')?;
    let (name, value) = (line.get(..colon)?, line.get(colon + 1..)?);
    let good = !name.is_empty() && name.iter().all(|b| is_token(*b)) && is_plain(value);
    good.then(|| (String::from_utf8_lossy(name).to_ascii_lowercase(), value))
}

/// Whether it is text, in whatever letters.
fn is_plain(text: &[u8]) -> bool {
    text.iter().all(|b| matches!(b, b'\t' | b' '..=b'~' | 0x80..))
}

fn number(text: &str) -> Result<u64, Refused> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|_| digits).ok_or(Refused)
}

/// Reads the line before a chunk: how long it is itself, and the chunk with
/// its end. A chunk of no bytes is the last, and comes with its trailers.
/// `None`: there is more to come.
pub(crate) fn chunk(bytes: &[u8]) -> Result<Option<(usize, u64)>, Refused> {
    let line = bytes.get(..bytes.len().min(MAX_CHUNK_LINE)).unwrap_or_default();
    let Some(end) = line.windows(2).position(|w| w == b"\r\n") else {
        return if bytes.len() >= MAX_CHUNK_LINE { Err(Refused) } else { Ok(None) };
    };
    let line = line.get(..end).filter(|line| is_plain(line)).ok_or(Refused)?;
    let size = line.split(|b| *b == b';').next().unwrap_or_default();
    let good = (1..=16).contains(&size.len()) && size.iter().all(u8::is_ascii_hexdigit);
    let size = std::str::from_utf8(size).ok().filter(|_| good).ok_or(Refused)?;
    match u64::from_str_radix(size, 16).map_err(|_| Refused)? {
        0 => Ok(trailers(bytes, end + 2)?.map(|end| (end, 0))),
        size => size.checked_add(2).map(|size| Some((end + 2, size))).ok_or(Refused),
    }
}

/// Where the trailers that begin there end. They say nothing of whose the
/// request is, and nothing of where it ends.
fn trailers(bytes: &[u8], begin: usize) -> Result<Option<usize>, Refused> {
    let mut end = begin;
    for line in lines(bytes.get(begin..).unwrap_or_default()) {
        let whole = bytes.get(end + line.len()..end + line.len() + 2).is_some();
        end += line.len() + 2;
        match field(line) {
            _ if end > MAX_HEAD => return Err(Refused),
            _ if !whole => return Ok(None),
            _ if line.is_empty() => return Ok(Some(end)),
            Some((name, _)) if !MEANT_FOR_HEADS.contains(&name.as_str()) => {}
            _ => return Err(Refused),
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(text: &str) -> Result<Option<String>, Refused> {
        head(text.as_bytes())
            .map(|head| head.and_then(|head| head.host).map(|host| host.to_string()))
    }

    #[test]
    fn a_request_says_whom_it_asks() {
        let rows = [
            "GET / HTTP/1.1\r\nHost: A.example.com:80\r\n\r\n",
            "GET http://a.example.com/x HTTP/1.1\r\nHost: a.example.com\r\n\r\n",
            "\r\n\r\nGET / HTTP/1.1\r\nX: \u{e9}\r\nHost: a.example.com\r\n\r\n",
            "POST /x HTTP/1.0\r\nContent-Length: 3\r\nhost:\ta.example.com \r\n\r\nabc",
        ];
        for row in rows {
            assert_eq!(host(row), Ok(Some("a.example.com".into())), "{row}");
        }
        assert_eq!(host("GET / HTTP/1.1\r\nHost: a."), Ok(None));
        let empty = head(b"\r\nGET / HTTP/1.1\r\nHost: a.b\r\n\r\n").unwrap().unwrap();
        assert_eq!(empty.length, 31);
        let latin = b"GET / HTTP/1.1\r\nX: \xe9\r\nHost: a.example.com\r\n\r\n";
        assert!(head(latin).unwrap().unwrap().host.is_some());
    }

    #[test]
    fn an_address_is_no_name() {
        for row in ["Host: 10.0.0.1:80", "Host: [2001:db8::1]:80", "Host: [::1]", "X: y"] {
            let text = format!("GET / HTTP/1.1\r\n{row}\r\n\r\n");
            assert_eq!(head(text.as_bytes()).unwrap().unwrap().host, None, "{row}");
        }
    }

    #[test]
    fn what_can_begin_no_request_is_known_at_once() {
        for (text, is) in [
            (&b"{\"a"[..], Some(false)),
            (b"GET\0", Some(false)),
            (b"ruok\n", Some(false)),
            (b"get /x http/1.1\n", Some(true)),
            (b" GET\xa0/\xa0HTTP/1.1\n", Some(true)),
            (b"GET\x0b/ HTTP/1.1\n", Some(true)),
            (b"JDWP-Handshake", None),
            (b"GE", None),
        ] {
            assert_eq!(is_http(text), is, "{text:?}");
        }
        for (text, may) in [
            ("GE", true),
            ("get", true),
            ("GET /", true),
            ("\r\n", false),
            ("ruok", false),
            ("GE /", false),
        ] {
            assert_eq!(may_be_method(text.as_bytes()), may, "{text}");
        }
    }

    #[test]
    fn what_two_readers_could_read_in_two_ways_is_refused() {
        let rows = [
            "CONNECT evil.example.com:443 HTTP/1.1\r\nHost: a.example.com\r\n\r\n",
            "GET http://evil.example.com/ HTTP/1.1\r\nHost: a.example.com\r\n\r\n",
            "GET http://a.example.com@evil.example.com/ HTTP/1.1\r\nHost: a.example.com\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a.example.com\r\nHost: evil.example.com\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a.example.com\r\n x: y\r\n\r\n",
            "GET / HTTP/1.1\r\nHost : a.example.com\r\n\r\n",
            "GET / HTTP/1.1\nHost: evil\r\nHost: a.example.com\r\n\r\n",
            "GET / HTTP/1.1\r\nX: y\nHost: evil\r\nHost: a.example.com\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a.example.com\r\nUpgrade: h2c\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a.example.com\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
            "PRI * HTTP/2.0\r\n\r\n",
            "\nGET / HTTP/1.1\r\n",
            "GET /\u{e4} HTTP/1.1\r\nHost: a.example.com\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a.example.com\u{a0}\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: \r\n\r\n",
            "GET http://evil.example.com/ HTTP/1.1\r\nHost: 10.0.0.1\r\n\r\n",
            "get / http/1.1\nhost: evil.example.com\n\n",
            "no request\r\n",
            "GET / HTTP/1.1\r\nHost: a.example.com\r\nContent-Length: +3\r\n\r\n",
            concat!(
                "GET / HTTP/1.1\r\nHost: a.example.com\r\n",
                "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n"
            ),
        ];
        for row in rows {
            assert_eq!(host(row), Err(Refused), "{row}");
        }
    }

    #[test]
    fn a_chunk_is_as_long_as_it_says() {
        assert_eq!(chunk(b"a\r\n0123456789\r\n"), Ok(Some((3, 12))));
        assert_eq!(chunk(b"0\r\n\r\n"), Ok(Some((5, 0))));
        assert_eq!(chunk(b"0\r\n"), Ok(None));
        assert_eq!(chunk(b"1;x=\"y\"\r\n"), Ok(Some((9, 3))));
        assert_eq!(chunk(b"0;x\r\nX: y\r\n\r\nGET"), Ok(Some((13, 0))));
        assert_eq!(chunk(b"0\r\nX: y\r\n"), Ok(None));
        for odd in [
            &b"0\r\nHost: y\r\n\r\n"[..],
            b"0\r\nX: y\nHost: z\r\n\r\n",
            b"0\r\n y\r\n\r\n",
            b"1;\nx\r\n",
            b"1 ;x\r\n",
            b"-1\r\n",
            b"\r\n",
            b"fffffffffffffffff\r\n",
        ] {
            assert_eq!(chunk(odd), Err(Refused), "{odd:?}");
        }
    }
}
