//! The one upgrade that there is: a WebSocket (RFC 6455), as its two heads
//! agree on it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode, Version};
use sha1::{Digest, Sha1};

/// What a server puts behind a key, to show that it knows what it agrees to.
const SUFFIX: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
const WEBSOCKET: HeaderValue = HeaderValue::from_static("websocket");
const UPGRADE: HeaderValue = HeaderValue::from_static("Upgrade");

/// A guest's wish for a WebSocket.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Handshake {
    /// What a server says that has heard it.
    accept: String,
}

impl Handshake {
    /// The wish in a request; `None` where it is none, or not a whole one.
    pub(super) fn read<B>(request: &Request<B>) -> Option<Self> {
        let headers = request.headers();
        let key = only(headers, &header::SEC_WEBSOCKET_KEY)?;
        let bare = [header::CONTENT_LENGTH, header::TRANSFER_ENCODING];
        let whole = *request.method() == Method::GET
            && request.version() == Version::HTTP_11
            && asks(headers)
            && only(headers, &header::SEC_WEBSOCKET_VERSION)? == "13"
            && STANDARD.decode(key.as_bytes()).is_ok_and(|key| key.len() == 16)
            && !bare.iter().any(|name| headers.contains_key(name));
        let told = Sha1::new().chain_update(key).chain_update(SUFFIX).finalize();
        whole.then(|| Self { accept: STANDARD.encode(told) })
    }

    /// Makes the head of a request ask for a WebSocket, for one in which
    /// nothing is compressed: nobody would find a value there.
    pub(super) fn outgoing(headers: &mut HeaderMap) {
        headers.remove(header::SEC_WEBSOCKET_EXTENSIONS);
        ask(headers);
    }

    /// Whether a server's answer agrees to it.
    pub(super) fn is_met<B>(&self, response: &Response<B>) -> bool {
        let headers = response.headers();
        response.status() == StatusCode::SWITCHING_PROTOCOLS
            && asks(headers)
            && only(headers, &header::SEC_WEBSOCKET_ACCEPT).is_some_and(|own| *own == *self.accept)
            && !headers.contains_key(header::SEC_WEBSOCKET_EXTENSIONS)
    }

    /// Makes the head of a response, in which nothing of one hop is any more,
    /// agree to it.
    pub(super) fn incoming(headers: &mut HeaderMap) {
        headers.remove(header::CONTENT_LENGTH);
        ask(headers);
    }
}

fn ask(headers: &mut HeaderMap) {
    headers.insert(header::UPGRADE, WEBSOCKET);
    headers.insert(header::CONNECTION, UPGRADE);
}

/// Whether a head is for a WebSocket and for nothing else.
fn asks(headers: &HeaderMap) -> bool {
    let listed = headers.get_all(header::CONNECTION).iter().filter_map(|value| value.to_str().ok());
    let mut listed = listed.flat_map(|value| value.split(','));
    only(headers, &header::UPGRADE)
        .is_some_and(|to| to.as_bytes().eq_ignore_ascii_case(b"websocket"))
        && listed.any(|option| option.trim().eq_ignore_ascii_case("upgrade"))
}

/// The value of a header that is there once.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a HeaderValue> {
    let mut all = headers.get_all(name).iter();
    all.next().filter(|_| all.next().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The key of the RFC's own example, and what answers it.
    const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
    const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

    const GOOD: [(&str, &str); 4] = [
        ("upgrade", "WebSocket"),
        ("connection", "keep-alive, Upgrade"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", KEY),
    ];
    const MET: [(&str, &str); 3] =
        [("upgrade", "websocket"), ("connection", "upgrade"), ("sec-websocket-accept", ACCEPT)];

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &str)| {
            (HeaderName::from_static(name), value.parse().unwrap())
        };
        pairs.iter().map(pair).collect()
    }

    /// The same with one header changed, left out or added.
    fn with<'a>(
        pairs: &[(&'static str, &'a str)],
        name: &'static str,
        value: &[&'a str],
    ) -> HeaderMap {
        let others = pairs.iter().filter(|pair| pair.0 != name).copied();
        let all: Vec<_> = others.chain(value.iter().map(|value| (name, *value))).collect();
        headers(&all)
    }

    fn read(headers: HeaderMap) -> Option<Handshake> {
        let mut request = Request::new(());
        *request.headers_mut() = headers;
        Handshake::read(&request)
    }

    #[test]
    fn only_a_whole_wish_is_one() {
        assert_eq!(read(headers(&GOOD)).unwrap().accept, ACCEPT);
        let odd: [(_, &[&str]); 15] = [
            ("upgrade", &[]),
            ("upgrade", &["h2c"]),
            ("upgrade", &["websocket, h2c"]),
            ("upgrade", &["websocket", "h2c"]),
            ("upgrade", &["websocket/13"]),
            ("connection", &[]),
            ("connection", &["close"]),
            ("sec-websocket-version", &[]),
            ("sec-websocket-version", &["8"]),
            ("sec-websocket-key", &[]),
            ("sec-websocket-key", &["c2hvcnQ="]),
            ("sec-websocket-key", &["no base64 at all, is it?"]),
            ("sec-websocket-key", &[KEY, KEY]),
            ("content-length", &["0"]),
            ("transfer-encoding", &["chunked"]),
        ];
        for (name, value) in odd {
            assert_eq!(read(with(&GOOD, name, value)), None, "{name}: {value:?}");
        }
        for (method, version) in [(Method::POST, Version::HTTP_11), (Method::GET, Version::HTTP_10)]
        {
            let mut request = Request::new(());
            *request.headers_mut() = headers(&GOOD);
            (*request.method_mut(), *request.version_mut()) = (method, version);
            assert_eq!(Handshake::read(&request), None);
        }
    }

    #[test]
    fn a_server_must_have_heard_it() {
        let wish = read(headers(&GOOD)).unwrap();
        let is_met = |status: StatusCode, headers: HeaderMap| {
            let mut response = Response::new(());
            (*response.status_mut(), *response.headers_mut()) = (status, headers);
            wish.is_met(&response)
        };
        assert!(is_met(StatusCode::SWITCHING_PROTOCOLS, headers(&MET)));
        assert!(!is_met(StatusCode::OK, headers(&MET)));
        let odd: [(_, &[&str]); 8] = [
            ("upgrade", &[]),
            ("upgrade", &["h2c"]),
            ("upgrade", &["websocket", "websocket"]),
            ("connection", &["close"]),
            ("sec-websocket-accept", &[]),
            ("sec-websocket-accept", &["AAAAAAAAAAAAAAAAAAAAAAAAAAA="]),
            ("sec-websocket-accept", &[ACCEPT, ACCEPT]),
            ("sec-websocket-extensions", &["permessage-deflate"]),
        ];
        for (name, value) in odd {
            let met = is_met(StatusCode::SWITCHING_PROTOCOLS, with(&MET, name, value));
            assert!(!met, "{name}: {value:?}");
        }
    }

    #[test]
    fn nothing_that_compresses_is_asked_for() {
        let mut own = headers(&[("sec-websocket-extensions", "permessage-deflate"), ("x", "y")]);
        Handshake::outgoing(&mut own);
        let asked = [("upgrade", "websocket"), ("connection", "Upgrade"), ("x", "y")];
        assert_eq!(own, headers(&asked));
    }
}
