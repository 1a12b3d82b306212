//! The server's name in the first message of TLS, without any part in it.

use crate::domain::Domain;

/// What the beginning of a stream says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hello {
    /// It may be a hello, and is not whole.
    Partial,
    /// A whole one, that names this server.
    Named(Domain),
    /// A whole one that names none, or a broken one.
    Nameless,
}

const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const SERVER_NAME: u16 = 0;
const HOST_NAME: u8 = 0;
/// The longest hello that is read, in bytes.
const MAX_HELLO: usize = 16 << 10;

/// Whether a stream that begins like this speaks TLS.
pub(crate) fn is_tls(stream: &[u8]) -> bool {
    matches!(stream, [HANDSHAKE] | [HANDSHAKE, 3, ..])
}

/// Reads the hello at the beginning of a stream.
pub fn read(stream: &[u8]) -> Hello {
    let Some(message) = handshake(stream) else { return Hello::Partial };
    match message.and_then(|body| server_name(&body)) {
        Some(name) => Hello::Named(name),
        None => Hello::Nameless,
    }
}

/// The body of the first handshake message, which may lie in several records.
/// `None`: there is more to come. `Some(None)`: it is no hello.
#[allow(clippy::option_option, reason = "partial and broken are two things")]
fn handshake(mut stream: &[u8]) -> Option<Option<Vec<u8>>> {
    let mut message = Vec::new();
    loop {
        if let [kind, a, b, c, body @ ..] = message.as_slice() {
            let length = usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c);
            if *kind != CLIENT_HELLO {
                return Some(None);
            }
            // Nobody waits for the end of it.
            if length > MAX_HELLO {
                return None;
            }
            if let Some(body) = body.get(..length) {
                return Some(Some(body.to_vec()));
            }
        }
        let (header, rest) = stream.split_at_checked(5)?;
        let length = usize::from(header[3]) << 8 | usize::from(header[4]);
        if header[0] != HANDSHAKE || header[1] != 3 || length == 0 {
            return Some(None);
        }
        let (record, rest) = rest.split_at_checked(length)?;
        message.extend_from_slice(record);
        stream = rest;
    }
}

fn server_name(body: &[u8]) -> Option<Domain> {
    let mut body = Bytes(body);
    body.take(2 + 32)?;
    let session = body.number(1)?;
    body.take(session)?;
    let suites = body.number(2)?;
    body.take(suites)?;
    let compressions = body.number(1)?;
    body.take(compressions)?;
    let length = body.number(2)?;
    let mut extensions = Bytes(body.take(length)?);
    let mut found = None;
    while !extensions.0.is_empty() {
        let (kind, length) = (extensions.number(2)?, extensions.number(2)?);
        let content = extensions.take(length)?;
        // Two of them would let two readers see two names.
        if kind == usize::from(SERVER_NAME) && found.replace(name(content)?).is_some() {
            return None;
        }
    }
    found
}

fn name(content: &[u8]) -> Option<Domain> {
    let mut list = Bytes(content);
    let length = list.number(2)?;
    let mut list = Bytes(list.take(length)?);
    if list.number(1)? != usize::from(HOST_NAME) {
        return None;
    }
    let length = list.number(2)?;
    let name = std::str::from_utf8(list.take(length)?).ok()?;
    if list.0.is_empty() { Domain::parse(name).ok() } else { None }
}

struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    /// A number of so many bytes, the highest first.
    fn number(&mut self, length: usize) -> Option<usize> {
        Some(self.take(length)?.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)))
    }
}

/// A hello that names `server`, for tests and the fuzzer's seeds.
pub fn compose(server: Option<&str>) -> Vec<u8> {
    let with_length = |bytes: &[u8]| [&(bytes.len() as u16).to_be_bytes(), bytes].concat();
    let mut extensions = [&[0, 43, 0, 3, 2, 3, 4][..]].concat();
    if let Some(server) = server {
        let name = [&[HOST_NAME], with_length(server.as_bytes()).as_slice()].concat();
        extensions.extend([&[0, 0], with_length(&with_length(&name)).as_slice()].concat());
    }
    let body = [
        &[3, 3][..],
        &[7; 32],
        &[0],
        &with_length(&[0x13, 0x01]),
        &[1, 0],
        &with_length(&extensions),
    ]
    .concat();
    let message = [&[CLIENT_HELLO, 0], with_length(&body).as_slice()].concat();
    [&[HANDSHAKE, 3, 1], with_length(&message).as_slice()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_is_found_however_the_hello_is_cut() {
        let hello = compose(Some("A.example.com"));
        let named = Hello::Named(Domain::parse("a.example.com").unwrap());
        for end in 0..hello.len() {
            assert_eq!(read(&hello[..end]), Hello::Partial, "{end}");
        }
        assert_eq!(read(&[&hello[..], b"more"].concat()), named);
        let in_two: Vec<_> = [&hello[5..20], &hello[20..]]
            .iter()
            .flat_map(|part| [&[22, 3, 3, 0, part.len() as u8], *part].concat())
            .collect();
        assert_eq!(read(&in_two), named);
    }

    #[test]
    fn what_names_nobody_is_nameless() {
        assert_eq!(read(&compose(None)), Hello::Nameless);
        assert_eq!(read(&compose(Some("10.0.0.1"))), Hello::Nameless);
        assert_eq!(read(b"\x16\x03\x01\x00\x04\x02\x00\x00\x00"), Hello::Nameless);
        assert_eq!(read(b"\x16\x03\x01\x00\x00"), Hello::Nameless);
    }
}
