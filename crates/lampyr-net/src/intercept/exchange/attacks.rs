//! Messages that two readers could read in two ways.

use super::tests::{VALUE, all, get, speak, until};
use super::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

/// What ends a connection that nobody else ends.
const NONSENSE: &str = "\0\r\n\r\n";

/// What a server hears that answers the first request, and what the guest does.
fn exchanged(request: &str, answer: &str) -> (String, String) {
    let (heard, said) = (Plain::new(String::new()), Plain::new(String::new()));
    let last = if answer.contains("Connection: close") { "" } else { NONSENSE };
    let guest = async |end: DuplexStream, placeholder: String| {
        let request = request.replace("TOKEN", &placeholder) + last;
        let (mut from, mut to) = tokio::io::split(end);
        let say = async { drop(to.write_all(request.as_bytes()).await) };
        let mut told = Vec::new();
        let _ = tokio::join!(say, from.read_to_end(&mut told));
        *said.lock().unwrap() = String::from_utf8_lossy(&told).into_owned();
    };
    let server = async |mut end: DuplexStream| {
        let mut told = Vec::new();
        while !told.windows(4).any(|end| end == b"\r\n\r\n")
            && end.read_buf(&mut told).await.is_ok_and(|n| n > 0)
        {}
        if !told.is_empty() {
            end.write_all(answer.as_bytes()).await.unwrap();
        }
        let rest = all(&mut end).await;
        *heard.lock().unwrap() = String::from_utf8_lossy(&told).into_owned() + &rest;
    };
    speak(guest, server);
    (heard.into_inner().unwrap(), said.into_inner().unwrap())
}

#[test]
fn what_is_no_request_reaches_nobody() {
    let rows = [
        get("Authorization : TOKEN\r\n"),
        get(" Authorization: TOKEN\r\n"),
        get("X: y\r\n Authorization: TOKEN\r\n"),
        get("X: y\0z\r\n"),
        get("X: y\rAuthorization: TOKEN\r\n"),
        get("Host: a.example.com\r\n"),
        get("Host: b.example.com\r\n"),
        get("").replace("Host: a.example.com\r\n", ""),
        get("").replace("Host: ", "Host: a.example.com, "),
        get("").replace("/x?y", "https://b.example.com/"),
        get("").replace("/x?y", "https://a.example.com@b.example.com/"),
        get("").replace("/x?y", "https://b.example.com@a.example.com/"),
        get("").replace("HTTP/1.1", "HTTP/2.0"),
        get("Content-Length: 3\r\nContent-Length: 4\r\n") + "abcd",
        get("Content-Length: +3\r\n") + "abc",
        get("Content-Length: 3, 4\r\n") + "abcd",
        get("Transfer-Encoding: chunked, identity\r\n") + "0\r\n\r\n",
        get("Transfer-Encoding: gzip\r\n") + "0\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(),
    ];
    for request in rows {
        let (heard, said) = exchanged(&request, "");
        assert_eq!(heard, "", "{request}");
        assert!(said.is_empty() || said.starts_with("HTTP/1.1 4"), "{request}: {said}");
    }
}

#[test]
fn a_body_has_one_end_for_all() {
    let (smuggled, chunks) =
        ("GET /smuggled HTTP/1.1\r\nHost: a.example.com\r\n\r\n", "3\r\nabc\r\n");
    let both = get("Content-Length: 60\r\nTransfer-Encoding: chunked\r\n");
    let named = get("Connection: content-length\r\nContent-Length: 3\r\n");
    let rows = [
        (both.clone() + chunks + "0\r\n\r\n" + smuggled),
        (named + "abc" + smuggled),
        (get("Content-Length: 3\r\n") + "abc" + smuggled),
        (get("Transfer-Encoding: chunked\r\n") + "3;x=y\r\nabc\r\n0\r\nX: y\r\n\r\n" + smuggled),
    ];
    for request in rows {
        let request = request.replacen("GET /x?y", "POST /x?y", 1);
        let answer = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
        let (heard, said) = exchanged(&request, answer);
        let first = heard.split("\r\n\r\n").next().unwrap_or_default();
        let ways = ["Content-Length: 3", "Transfer-Encoding: chunked"];
        let ways = ways.iter().filter(|way| first.contains(**way)).count();
        // One that says two things may be refused, or read by one of them.
        assert!(ways == 1 || heard.is_empty(), "{request}: {heard}");
        assert!(!first.contains("Content-Length: 60"), "{heard}");
        assert!(said.starts_with("HTTP/1.1 200") || heard.is_empty(), "{request}: {said}");
    }
}

#[test]
fn requests_in_one_piece_are_each_for_the_host() {
    let first = get("Authorization: TOKEN\r\n");
    let other = get("Authorization: TOKEN\r\n").replace("a.example", "b.example");
    let (heard, said) = exchanged(&(first + &other), "HTTP/1.1 204 No Content\r\n\r\n");
    assert_eq!(heard.matches(VALUE).count(), 1, "{heard}");
    assert!(!heard.contains("b.example.com"), "{heard}");
    assert!(said.starts_with("HTTP/1.1 204 "), "{said}");
    assert!(said.contains("HTTP/1.1 421 "), "{said}");
}

#[test]
fn an_answer_without_a_body_has_none() {
    let head = get("").replace("GET", "HEAD");
    let rows = [
        (head.clone(), "200 OK\r\nContent-Length: 14"),
        (head, "200 OK\r\nTransfer-Encoding: chunked"),
        (get(""), "204 No Content\r\nContent-Length: 14"),
        (get(""), "304 Not Modified\r\nContent-Length: 14"),
    ];
    for (request, answer) in rows {
        let (_, said) = exchanged(
            &request,
            &format!("HTTP/1.1 {answer}\r\nConnection: close\r\nX: {VALUE}\r\n\r\n"),
        );
        assert!(said.starts_with(&format!("HTTP/1.1 {}", &answer[..3])), "{answer}: {said}");
        assert!(said.ends_with("\r\n\r\n") && !said.contains(VALUE), "{answer}: {said}");
        assert_eq!(said.matches("\r\n\r\n").count(), 1, "{answer}: {said}");
    }
}

#[test]
fn what_a_server_says_before_its_answer_ends_here() {
    let early =
        format!("HTTP/1.1 103 Early Hints\r\nLink: {VALUE}\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n");
    let guest = async |mut end: DuplexStream, _| {
        end.write_all(get("").as_bytes()).await.unwrap();
        let said = until(&mut end, "ok").await;
        assert!(said.starts_with("HTTP/1.1 200 ") && !said.contains("Link"), "{said}");
    };
    let server = async |mut end: DuplexStream| {
        until(&mut end, "\r\n\r\n").await;
        let answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
        end.write_all((early.clone() + answer).as_bytes()).await.unwrap();
    };
    speak(guest, server);
}

#[test]
fn an_answer_that_says_two_lengths_tells_nothing() {
    let chunks = format!("e\r\n{VALUE}\r\n0\r\n\r\n");
    let rows = [
        format!("Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}"),
        format!("Content-Length: 14\r\nContent-Length: 3\r\n\r\n{VALUE}"),
        format!("X: y\r\n {VALUE}\r\nContent-Length: 0\r\n\r\n"),
        format!("X : {VALUE}\r\nContent-Length: 0\r\n\r\n"),
        format!("\r\n{VALUE}"),
    ];
    for answer in rows {
        let guest = async |mut end: DuplexStream, _| {
            end.write_all(get("").as_bytes()).await.unwrap();
            let said = all(&mut end).await;
            assert!(!said.contains("the-real"), "{answer}: {said}");
        };
        let server = async |mut end: DuplexStream| {
            until(&mut end, "\r\n\r\n").await;
            let _ = end.write_all(format!("HTTP/1.1 200 OK\r\n{answer}").as_bytes()).await;
        };
        speak(guest, server);
    }
}
