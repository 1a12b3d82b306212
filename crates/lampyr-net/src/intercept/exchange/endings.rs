//! Ends that come without a word, as most do: TLS is told nothing before.

use tokio::io::{AsyncWriteExt, DuplexStream, ReadBuf};
use tokio::sync::oneshot;

use super::tests::{AGREED, VALUE, WISH, all, get, speak_by, until};
use super::*;

/// What rustls makes of an end that says nothing before.
struct Abrupt(DuplexStream);

impl AsyncRead for Abrupt {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        room: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = room.filled().len();
        ready!(Pin::new(&mut self.0).poll_read(cx, room))?;
        let over = room.filled().len() == before;
        Poll::Ready(if over { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) })
    }
}

impl AsyncWrite for Abrupt {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// What a guest hears that asks like this, of a server that says this and goes.
fn heard(request: &str, answer: &str) -> String {
    let said = Plain::new(String::new());
    let guest = async |mut end: DuplexStream, _| {
        end.write_all(request.as_bytes()).await.unwrap();
        *said.lock().unwrap() = all(&mut end).await;
    };
    let server = async |mut end: DuplexStream| {
        until(&mut end, "\r\n\r\n").await;
        end.write_all(answer.as_bytes()).await.unwrap();
    };
    speak_by(Abrupt, guest, server);
    said.into_inner().unwrap()
}

#[test]
fn a_body_without_a_length_is_over_when_its_server_is() {
    for version in ["HTTP/1.0", "HTTP/1.1"] {
        let said = heard(&get(""), &format!("{version} 200 OK\r\n\r\n{VALUE}, until close"));
        assert!(said.contains("until close"), "{said}");
        assert!(said.ends_with("\r\n0\r\n\r\n") && !said.contains(VALUE), "{said}");
    }
}

#[test]
fn what_came_of_a_body_that_breaks_off_is_heard_and_its_end_is_not() {
    let long = "x".repeat(10_000);
    for (head, body, expected) in [
        ("Content-Length: 20000", format!("{long}only {VALUE}"), "only **************"),
        ("Content-Length: 100", "only this".to_owned(), "only this"),
        ("Transfer-Encoding: chunked", "9\r\nonly this\r\n".to_owned(), "only this"),
        ("Transfer-Encoding: chunked", "c\r\nonly this".to_owned(), "only this"),
    ] {
        let said = heard(&get(""), &format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n{body}"));
        assert!(said.starts_with("HTTP/1.1 200 OK\r\n"), "{head}: {said}");
        assert!(said.trim_end().ends_with(expected), "{head}: {said}");
    }
}

#[test]
fn a_guest_that_has_said_all_hears_its_answer() {
    let (told, hears) = oneshot::channel();
    let guest = async move |mut end: DuplexStream, _| {
        end.write_all(get("").as_bytes()).await.unwrap();
        end.shutdown().await.unwrap();
        told.send(()).unwrap();
        assert!(all(&mut end).await.ends_with("late"));
    };
    let server = async move |mut end: DuplexStream| {
        until(&mut end, "\r\n\r\n").await;
        hears.await.unwrap();
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        end.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlate").await.unwrap();
        assert_eq!(all(&mut end).await, "");
    };
    speak_by(Abrupt, guest, server);
}

#[test]
fn a_websocket_is_heard_to_its_end_whoever_ends_first() {
    let (told, hears) = oneshot::channel();
    let guest = async move |mut end: DuplexStream, _| {
        end.write_all(get(WISH).as_bytes()).await.unwrap();
        until(&mut end, "\r\n\r\n").await;
        end.write_all(b"bye").await.unwrap();
        end.shutdown().await.unwrap();
        told.send(()).unwrap();
        assert_eq!(all(&mut end).await, "\u{81}\u{2}hi\u{1}\u{3}the".replace('\u{81}', "\u{fffd}"));
    };
    let server = async move |mut end: DuplexStream| {
        until(&mut end, "\r\n\r\n").await;
        end.write_all(format!("{AGREED}\r\n").as_bytes()).await.unwrap();
        hears.await.unwrap();
        assert_eq!(all(&mut end).await, "bye");
        end.write_all(b"\x81\x02hi\x01\x03the").await.unwrap();
    };
    speak_by(Abrupt, guest, server);
}

#[test]
fn a_server_that_hears_no_more_of_a_websocket_is_heard() {
    let (told, hears) = oneshot::channel();
    let guest = async move |mut end: DuplexStream, _| {
        end.write_all(get(WISH).as_bytes()).await.unwrap();
        until(&mut end, "\r\n\r\n").await;
        hears.await.unwrap();
        end.write_all(b"nobody hears this").await.unwrap();
        assert_eq!(all(&mut end).await, "\u{1}\u{3}the");
    };
    let server = async move |mut end: DuplexStream| {
        until(&mut end, "\r\n\r\n").await;
        end.write_all(format!("{AGREED}\r\n\x01\x03the").as_bytes()).await.unwrap();
        drop(end);
        told.send(()).unwrap();
    };
    speak_by(Abrupt, guest, server);
}

#[test]
fn every_body_is_passed_on_whatever_asks_with_it() {
    let body = "z".repeat(100 << 10);
    for method in ["GET", "HEAD", "DELETE", "POST"] {
        let head = get("Transfer-Encoding: chunked\r\n").replace("GET", method);
        let request = format!("{head}{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
        let guest = async |mut end: DuplexStream, _| {
            end.write_all(request.as_bytes()).await.unwrap();
            assert!(until(&mut end, "\r\n\r\n").await.starts_with("HTTP/1.1 204 "), "{method}");
        };
        let server = async |mut end: DuplexStream| {
            let said = until(&mut end, "\r\n0\r\n\r\n").await;
            assert!(said.contains("Transfer-Encoding: chunked\r\n"), "{method}");
            assert_eq!(said.matches('z').count(), body.len(), "{method}");
            end.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
        };
        speak_by(Abrupt, guest, server);
    }
}

#[test]
fn an_answer_without_a_body_hides_nothing() {
    let head = get("").replace("GET", "HEAD");
    for (request, status) in [
        (&head, "200 OK"),
        (&head, "304 Not Modified"),
        (&get(""), "304 Not Modified"),
        (&get(""), "204 No Content"),
    ] {
        let answer = format!("HTTP/1.1 {status}\r\nContent-Encoding: gzip\r\nX: {VALUE}\r\n\r\n");
        let said = heard(request, &answer);
        assert!(said.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{said}");
        assert!(said.contains("Content-Encoding: gzip") && !said.contains(VALUE), "{said}");
    }
}
