//! Exchanges without TLS: a guest and a server that say what they are told to.

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use zeroize::Zeroizing;

use super::super::pattern::values;
use super::*;

pub(super) const VALUE: &str = "the-real-value";

/// A wish for a WebSocket, and what agrees to it.
pub(super) const WISH: &str = concat!(
    "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
);
pub(super) const AGREED: &str = concat!(
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n",
    "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n",
);

fn exchange() -> (Exchange, String) {
    let host = Domain::parse("a.example.com").unwrap();
    let value = Zeroizing::new(VALUE.to_owned());
    let secret = Secret::new("TOKEN", host.clone(), "authorization", value).unwrap();
    let placeholder = secret.placeholder().to_owned();
    let secrets = [secret];
    (Exchange { host, values: values(&secrets), secrets: secrets.into() }, placeholder)
}

/// Hears until something ends so.
pub(super) async fn until(end: &mut DuplexStream, last: &str) -> String {
    let mut heard = Vec::new();
    while !heard.ends_with(last.as_bytes()) {
        let byte = end.read_u8().await;
        heard.push(byte.unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&heard))));
    }
    String::from_utf8_lossy(&heard).into_owned()
}

pub(super) async fn all(end: &mut DuplexStream) -> String {
    let mut heard = Vec::new();
    end.read_to_end(&mut heard).await.unwrap();
    String::from_utf8_lossy(&heard).into_owned()
}

/// Lets a guest and a server speak through an exchange, each by a script.
pub(super) fn speak<G: Future<Output = ()>, S: Future<Output = ()>>(
    guest: impl FnOnce(DuplexStream, String) -> G,
    server: impl FnOnce(DuplexStream) -> S,
) {
    speak_by(|end| end, guest, server);
}

/// The same where what is between is like this.
pub(super) fn speak_by<G: Future<Output = ()>, S: Future<Output = ()>, E>(
    end: impl Fn(DuplexStream) -> E,
    guest: impl FnOnce(DuplexStream, String) -> G,
    server: impl FnOnce(DuplexStream) -> S,
) where
    E: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (exchange, placeholder) = exchange();
    let ((theirs, ours), (real, far)) = (tokio::io::duplex(64), tokio::io::duplex(64));
    let spoken = async {
        let passed = exchange.serve(end(ours), end(real));
        let _ = tokio::join!(guest(theirs, placeholder), server(far), passed);
    };
    let limit = std::time::Duration::from_secs(20);
    runtime.block_on(async { tokio::time::timeout(limit, spoken).await }).unwrap();
}

pub(super) fn get(more: &str) -> String {
    format!("GET /x?y HTTP/1.1\r\nHost: a.example.com\r\n{more}\r\n")
}

#[test]
fn a_value_goes_out_and_does_not_come_back() {
    let guest = async |mut end: DuplexStream, placeholder: String| {
        for _ in 0..2 {
            let more = format!("Authorization: Bearer {placeholder}\r\nX-Other: {placeholder}\r\n");
            end.write_all(get(&more).as_bytes()).await.unwrap();
            let head = until(&mut end, "\r\n\r\n").await;
            assert!(head.contains("X-Echo: Bearer **************\r\n"), "{head}");
            assert!(head.contains("Content-Length: 28\r\n"), "{head}");
            assert_eq!(until(&mut end, "end").await, "you said: **************,end");
        }
    };
    let server = async |mut end: DuplexStream| {
        for _ in 0..2 {
            let head = until(&mut end, "\r\n\r\n").await;
            assert!(head.starts_with("GET /x?y HTTP/1.1\r\n"), "{head}");
            assert!(head.contains(&format!("Authorization: Bearer {VALUE}\r\n")), "{head}");
            assert!(head.contains("X-Other: lampyr-secret-"), "{head}");
            assert!(head.contains("Accept-Encoding: identity\r\n"), "{head}");
            let head = format!("HTTP/1.1 200 {VALUE}\r\nX-Echo: Bearer {VALUE}\r\n");
            end.write_all(format!("{head}Content-Length: 28\r\n\r\n").as_bytes()).await.unwrap();
            end.write_all(format!("you said: {VALUE},end").as_bytes()).await.unwrap();
        }
    };
    speak(guest, server);
}

#[test]
fn chunks_and_trailers_hide_nothing() {
    let guest = async |mut end: DuplexStream, _| {
        let head = "POST / HTTP/1.1\r\nHost: a.example.com\r\nTransfer-Encoding: chunked\r\n";
        end.write_all(format!("{head}\r\n3\r\nabc\r\n0\r\n\r\n").as_bytes()).await.unwrap();
        let answer = until(&mut end, "\r\n0\r\n\r\n").await;
        let plain: String = answer.split("\r\n").filter(|line| line.contains('*')).collect();
        assert_eq!(plain.matches('*').count(), VALUE.len(), "{answer}");
        assert!(!answer.contains("real") && !answer.contains("X-Late"), "{answer}");
    };
    let server = async |mut end: DuplexStream| {
        let said = until(&mut end, "0\r\n\r\n").await;
        assert!(said.ends_with("\r\n\r\n3\r\nabc\r\n0\r\n\r\n"), "{said}");
        let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Late\r\n\r\n";
        end.write_all(head.as_bytes()).await.unwrap();
        for byte in VALUE.chars() {
            end.write_all(format!("1\r\n{byte}\r\n").as_bytes()).await.unwrap();
        }
        end.write_all(format!("0\r\nX-Late: {VALUE}\r\n\r\n").as_bytes()).await.unwrap();
    };
    speak(guest, server);
}

#[test]
fn whoever_waits_for_leave_to_go_on_gets_it() {
    let guest = async |mut end: DuplexStream, _| {
        let head = "PUT / HTTP/1.1\r\nHost: a.example.com\r\nContent-Length: 3\r\n";
        end.write_all(format!("{head}Expect: 100-continue\r\n\r\n").as_bytes()).await.unwrap();
        assert_eq!(until(&mut end, "\r\n\r\n").await, "HTTP/1.1 100 Continue\r\n\r\n");
        end.write_all(b"abc").await.unwrap();
        assert!(until(&mut end, "\r\n\r\n").await.starts_with("HTTP/1.1 204 "));
    };
    let server = async |mut end: DuplexStream| {
        let said = until(&mut end, "abc").await;
        assert!(!said.contains("Expect"), "{said}");
        end.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
    };
    speak(guest, server);
}

#[test]
fn what_cannot_be_watched_is_refused_in_words() {
    let rows = [
        (get("Upgrade: websocket\r\nConnection: Upgrade\r\n"), "HTTP/1.1 501 "),
        (get(&format!("{WISH}Upgrade: h2c\r\n")), "HTTP/1.1 501 "),
        (get(&WISH.replace("websocket\r", "h2c\r")), "HTTP/1.1 501 "),
        (get(WISH).replace("GET /x?y", "POST /"), "HTTP/1.1 501 "),
        (get(WISH).replace("a.example.com", "b.example.com"), "HTTP/1.1 421 "),
        (get("").replace("a.example.com", "b.example.com"), "HTTP/1.1 421 "),
        (get("").replace("GET /x?y", "CONNECT b.example.com:443"), "HTTP/1.1 501 "),
        (get(&format!("X: {}\r\n", "x".repeat(MAX_HEAD))), "HTTP/1.1 431 "),
    ];
    for (request, expected) in rows {
        let guest = async |mut end: DuplexStream, _| {
            // A server that has heard enough does not hear the rest.
            let _ = end.write_all(request.as_bytes()).await;
            let answer = until(&mut end, "\r\n\r\n").await;
            assert!(answer.starts_with(expected), "{answer}");
        };
        let server = async |mut end: DuplexStream| assert_eq!(all(&mut end).await, "");
        speak(guest, server);
    }
}

#[test]
fn an_answer_that_is_compressed_is_none() {
    let guest = async |mut end: DuplexStream, _| {
        end.write_all(get("").as_bytes()).await.unwrap();
        let answer = until(&mut end, "hide\n").await;
        assert!(answer.starts_with("HTTP/1.1 502 "), "{answer}");
    };
    let server = async |mut end: DuplexStream| {
        until(&mut end, "\r\n\r\n").await;
        let head = "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\nxx";
        end.write_all(head.as_bytes()).await.unwrap();
    };
    speak(guest, server);
}

#[test]
fn the_last_word_of_a_server_ends_the_conversation() {
    let guest = async |mut end: DuplexStream, _| {
        end.write_all(get("").as_bytes()).await.unwrap();
        let answer = all(&mut end).await;
        assert!(answer.ends_with("until I go"), "{answer}");
    };
    let server = async |mut end: DuplexStream| {
        until(&mut end, "\r\n\r\n").await;
        end.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nuntil I go").await.unwrap();
    };
    speak(guest, server);
}

#[test]
fn a_websocket_has_the_value_in_its_request_alone() {
    let guest = async |mut end: DuplexStream, placeholder: String| {
        let more = format!("{WISH}Sec-WebSocket-Extensions: permessage-deflate\r\n");
        let head = get(&format!("{more}Authorization: Bearer {placeholder}\r\n"));
        // The first frame does not wait for the answer.
        end.write_all(format!("{head}frame of {placeholder}.").as_bytes()).await.unwrap();
        let head = until(&mut end, "\r\n\r\n").await;
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        assert!(head.contains("Connection: Upgrade\r\n"), "{head}");
        assert!(head.contains("X-Echo: **************\r\n"), "{head}");
        assert!(!head.contains("Content-Length"), "{head}");
        let two = until(&mut end, "*************").await;
        assert_eq!(two, "\u{1}\u{6}you: *\u{fffd}\u{d}*************");
        end.shutdown().await.unwrap();
        assert_eq!(all(&mut end).await, "\u{1}\u{3}the");
    };
    let server = async |mut end: DuplexStream| {
        let head = until(&mut end, "\r\n\r\n").await;
        assert!(head.contains(&format!("Authorization: Bearer {VALUE}\r\n")), "{head}");
        assert!(head.contains("Upgrade: websocket\r\nConnection: Upgrade\r\n"), "{head}");
        assert!(!head.contains("permessage-deflate"), "{head}");
        let (first, rest) = VALUE.split_at(1);
        let head = format!("{AGREED}X-Echo: {VALUE}\r\nContent-Length: 3\r\n\r\n");
        let head = format!("{head}\u{1}\u{6}you: {first}");
        let frames = [head.as_bytes(), b"\x80\x0d", rest.as_bytes()].concat();
        end.write_all(&frames).await.unwrap();
        let rest = all(&mut end).await;
        assert!(rest.starts_with("frame of lampyr-secret-") && rest.ends_with('.'), "{rest}");
        end.write_all(b"\x01\x03the").await.unwrap();
    };
    speak(guest, server);
}

#[test]
fn what_a_server_did_not_agree_to_is_no_websocket() {
    let lies = AGREED.replace("s3pP", "AAAA");
    let packs = format!("{AGREED}Sec-WebSocket-Extensions: permessage-deflate\r\n");
    let other = AGREED.replace("websocket", "h2c");
    let refuses = format!("HTTP/1.1 401 {VALUE}\r\nX: {VALUE}\r\nContent-Length: 0\r\n");
    let rows = [(WISH, lies), (WISH, packs), (WISH, other), ("", AGREED.to_owned())];
    let rows = rows.map(|(wish, answer)| (wish, answer, "HTTP/1.1 502 "));
    for (wish, answer, expected) in rows.into_iter().chain([(WISH, refuses, "HTTP/1.1 401 ")]) {
        let guest = async |mut end: DuplexStream, _| {
            end.write_all(get(wish).as_bytes()).await.unwrap();
            // What follows is no request.
            let _ = end.write_all(get("X: smuggled\r\n").as_bytes()).await;
            let said = all(&mut end).await;
            assert!(said.starts_with(expected) && !said.contains(VALUE), "{said}");
            assert_eq!(said.matches("HTTP/1.1").count(), 1, "{said}");
        };
        let server = async |mut end: DuplexStream| {
            until(&mut end, "\r\n\r\n").await;
            end.write_all(format!("{answer}\r\n").as_bytes()).await.unwrap();
            assert_eq!(all(&mut end).await, "");
        };
        speak(guest, server);
    }
}

#[test]
fn a_tunnel_that_is_no_websocket_ends() {
    let guest = async |mut end: DuplexStream, _| {
        end.write_all(get(WISH).as_bytes()).await.unwrap();
        until(&mut end, "\r\n\r\n").await;
        let _ = end.write_all(get("X: smuggled\r\n").as_bytes()).await;
        assert_eq!(all(&mut end).await, "");
    };
    let server = async |mut end: DuplexStream| {
        until(&mut end, "\r\n\r\n").await;
        end.write_all(format!("{AGREED}\r\n").as_bytes()).await.unwrap();
        until(&mut end, "\r\n\r\n").await;
        let _ = end.write_all(format!("HTTP/1.1 200 {VALUE}\r\n\r\n").as_bytes()).await;
    };
    speak(guest, server);
}
