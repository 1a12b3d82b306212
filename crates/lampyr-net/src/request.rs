//! Requests of HTTP/1, one after another, as a guard sees them: whose they
//! are, and where each ends.
//!
//! It is stricter than any server, so that no server sees another request
//! than it does.

use crate::domain::Domain;

/// The longest head of a request.
pub(crate) const MAX_HEAD: usize = 16 << 10;
/// The most fields in one.
const MAX_FIELDS: usize = 200;

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
    /// Whom it asks.
    pub host: Domain,
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
/// too: what is no line of text is none, and what names HTTP is one.
pub(crate) fn is_http(stream: &[u8]) -> Option<bool> {
    let begin = stream.iter().position(|b| !matches!(b, b'\r' | b'\n'))?;
    let line = stream.get(begin..)?;
    for (n, byte) in line.iter().enumerate() {
        match byte {
            b'\n' => return Some(line[..n].windows(5).any(|w| w.eq_ignore_ascii_case(b"HTTP/"))),
            b'\r' | b'\t' | b' '.. => {}
            _ => return Some(false),
        }
    }
    None
}

/// Reads the head at the beginning of `bytes`; `None`: there is more to come.
pub(crate) fn head(bytes: &[u8]) -> Result<Option<Head>, Refused> {
    let Some(end) = bytes.windows(4).position(|w| w == b"\r\n\r\n") else {
        return if bytes.len() > MAX_HEAD { Err(Refused) } else { begins(bytes).map(|()| None) };
    };
    let text = bytes.get(..end).and_then(|head| std::str::from_utf8(head).ok()).ok_or(Refused)?;
    let mut lines = text.split("\r\n");
    let uri_host = first_line(lines.next().unwrap_or_default())?;
    let fields = Fields::read(lines)?;
    let host = fields.host.ok_or(Refused)?;
    if uri_host.is_some_and(|named| named != host) {
        return Err(Refused);
    }
    Ok(Some(Head { host, length: end + 4, body: fields.body }))
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
            first_line(std::str::from_utf8(line).map_err(|_| Refused)?)?;
        }
    }
    Ok(())
}

/// `METHOD target HTTP/1.x`; returns the host that the target names, if any.
fn first_line(line: &str) -> Result<Option<Domain>, Refused> {
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
fn authority(text: &str) -> Result<Domain, Refused> {
    let (host, port) = text.split_once(':').unwrap_or((text, "0"));
    port.parse::<u16>().map_err(|_| Refused)?;
    Domain::parse(host).map_err(|_| Refused)
}

struct Fields {
    host: Option<Domain>,
    body: Body,
}

impl Fields {
    fn read<'a>(lines: impl Iterator<Item = &'a str>) -> Result<Self, Refused> {
        let (mut host, mut length, mut chunked) = (None, None, false);
        for (n, line) in lines.enumerate() {
            let (name, value) = line.split_once(':').ok_or(Refused)?;
            let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
            // A line that goes on, a space before the colon, a lone newline.
            let odd = value.bytes().any(|b| b < b' ' && b != b'\t' || b == 0x7f);
            if n > MAX_FIELDS || name.is_empty() || !name.bytes().all(token) || odd {
                return Err(Refused);
            }
            let value = value.trim_matches([' ', '\t']);
            let twice = match name.to_ascii_lowercase().as_str() {
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

fn number(text: &str) -> Result<u64, Refused> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|_| digits).ok_or(Refused)
}

/// Reads the line before a chunk: how long it is itself, and the chunk with
/// its end. A chunk of no bytes is the last, and no trailers may follow it.
/// `None`: there is more to come.
pub(crate) fn chunk(bytes: &[u8]) -> Result<Option<(usize, u64)>, Refused> {
    let line = bytes.get(..bytes.len().min(20)).unwrap_or_default();
    let Some(end) = line.windows(2).position(|w| w == b"\r\n") else {
        return if bytes.len() >= 20 { Err(Refused) } else { Ok(None) };
    };
    let text = line.get(..end).and_then(|line| std::str::from_utf8(line).ok()).ok_or(Refused)?;
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_hexdigit());
    let size = u64::from_str_radix(text, 16).ok().filter(|_| digits).ok_or(Refused)?;
    if size > 0 {
        return size.checked_add(2).map(|size| Some((end + 2, size))).ok_or(Refused);
    }
    match bytes.get(end + 2..end + 4) {
        Some(b"\r\n") => Ok(Some((end + 4, 0))),
        Some(_) => Err(Refused),
        None => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(text: &str) -> Result<Option<String>, Refused> {
        head(text.as_bytes()).map(|head| head.map(|head| head.host.to_string()))
    }

    #[test]
    fn a_request_says_whom_it_asks() {
        let rows = [
            "GET / HTTP/1.1\r\nHost: A.example.com:80\r\n\r\n",
            "GET http://a.example.com/x HTTP/1.1\r\nHost: a.example.com\r\n\r\n",
            "POST /x HTTP/1.0\r\nContent-Length: 3\r\nhost:\ta.example.com \r\n\r\nabc",
        ];
        for row in rows {
            assert_eq!(host(row), Ok(Some("a.example.com".into())), "{row}");
        }
        assert_eq!(host("GET / HTTP/1.1\r\nHost: a."), Ok(None));
    }

    #[test]
    fn what_two_readers_could_read_in_two_ways_is_refused() {
        let rows = [
            "CONNECT evil.example.com:443 HTTP/1.1\r\nHost: a.example.com\r\n\r\n",
            "GET http://evil.example.com/ HTTP/1.1\r\nHost: a.example.com\r\n\r\n",
            "GET http://a.example.com@evil.example.com/ HTTP/1.1\r\nHost: a.example.com\r\n\r\n",
            "GET / HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a.example.com\r\nHost: evil.example.com\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a.example.com\r\n x: y\r\n\r\n",
            "GET / HTTP/1.1\r\nHost : a.example.com\r\n\r\n",
            "GET / HTTP/1.1\nHost: evil\r\nHost: a.example.com\r\n\r\n",
            "GET / HTTP/1.1\r\nX: y\nHost: evil\r\nHost: a.example.com\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a.example.com\r\nUpgrade: h2c\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a.example.com\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
            "PRI * HTTP/2.0\r\n\r\n",
            "\r\nGET / HTTP/1.1\r\n",
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
        for odd in [&b"0\r\nX: y\r\n"[..], b"-1\r\n", b"1;x\r\n", b"\r\n", b"fffffffffffffffff\r\n"]
        {
            assert_eq!(chunk(odd), Err(Refused), "{odd:?}");
        }
    }
}
