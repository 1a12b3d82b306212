use std::io;

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixListener;

use super::*;
use crate::program::Program;

/// A server that answers one request with `said`, and hears the rest out.
struct Fake {
    server: Server,
    heard: JoinHandle<io::Result<Vec<u8>>>,
    _folder: TempDir,
}

impl Fake {
    /// One that ends what it says.
    fn new(said: Vec<u8>) -> Self {
        Self::saying(said, true)
    }

    fn saying(said: Vec<u8>, ends: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("socket");
        let listener = UnixListener::bind(&socket).unwrap();
        let heard = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await?;
            let mut heard = vec![0; 64 << 10];
            let length = stream.read(&mut heard).await?;
            heard.truncate(length);
            // Whoever has heard enough hangs up.
            let _ = stream.write_all(&said).await;
            if ends {
                let _ = stream.shutdown().await;
            }
            let _ = stream.read_to_end(&mut heard).await;
            Ok(heard)
        });
        let program = Program { path: "/lampyr".into(), home: None };
        Self { server: Server { program, socket }, heard, _folder: folder }
    }

    fn with(head: &str, body: &[u8]) -> Self {
        let head = format!("HTTP/1.1 {head}\r\ncontent-length: {}\r\n\r\n", body.len());
        Self::new([head.as_bytes(), body].concat())
    }

    async fn ask(&self, ask: Ask) -> Result<Vec<u8>, Error> {
        send(&self.server, ask).await?.whole().await
    }
}

#[tokio::test]
async fn a_request_says_what_is_wanted() {
    let fake = Fake::with("200 OK", br#"{"a":1}"#);
    let target = route("sandboxes", "a/b c", "/files");
    let ask = Ask::put(target).query("path", "/x y&z").query("mode", "0644");
    let body = fake.ask(ask.json(&json!({"k": "v"})).unwrap()).await.unwrap();
    assert_eq!(read::<Value>(&body).unwrap(), json!({"a": 1}));
    let heard = String::from_utf8(fake.heard.await.unwrap().unwrap()).unwrap();
    let line = "PUT /v1/sandboxes/a%2Fb%20c/files?path=%2Fx%20y%26z&mode=0644 HTTP/1.1\r\n";
    assert!(heard.starts_with(line), "{heard}");
    assert!(heard.contains("host: localhost\r\n"), "{heard}");
    assert!(heard.ends_with("{\"k\":\"v\"}"), "{heard}");
}

#[tokio::test]
async fn a_refusal_is_an_error_of_its_kind() {
    let body = br#"{"error":"timeout","message":"Late.","hint":"Wait."}"#;
    let error = Fake::with("504 Gateway Timeout", body).ask(Ask::get("/")).await.unwrap_err();
    assert_eq!((error.kind(), error.hint()), (ErrorKind::Timeout, Some("Wait.")));
    assert_eq!(error.failure().status(), Some(504));
}

#[tokio::test]
async fn a_refusal_is_heard_before_all_was_sent() {
    let body = br#"{"error":"usage","message":"Too long."}"#;
    let fake = Fake::with("413 Payload Too Large", body);
    let error = fake.ask(Ask::put("/").bytes(vec![0; 32 << 20])).await.unwrap_err();
    assert_eq!(error.message(), "Too long.");
}

#[tokio::test]
async fn a_server_without_end_is_not_heard_out() {
    let endless = |head: &str, unit: &[u8], times: usize| {
        Fake::new([head.as_bytes(), &unit.repeat(times)].concat())
    };
    let head = "HTTP/1.1 500 No\r\n";
    let error = endless(head, b"x-long: header\r\n", 1 << 16).ask(Ask::get("/")).await;
    assert_eq!(error.unwrap_err().kind(), ErrorKind::ConnectionFailed);
    let head = "HTTP/1.1 500 No\r\n\r\n";
    let error = endless(head, &[b'x'; 1 << 10], 2 << 10).ask(Ask::get("/")).await;
    assert_eq!(error.unwrap_err().message(), too_long().message());
}

#[tokio::test]
async fn an_answer_longer_than_it_may_be_is_refused() {
    let fake = Fake::with("200 OK", &[0; 4096]);
    let answer = send(&fake.server, Ask::get("/")).await.unwrap();
    assert_eq!(answer.gather(4095).await.unwrap_err().kind(), ErrorKind::Usage);
    let fake = Fake::with("200 OK", &[0; 4096]);
    let answer = send(&fake.server, Ask::get("/")).await.unwrap();
    assert_eq!(answer.gather(4096).await.unwrap().len(), 4096);
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_an_error() {
    for said in
        ["", "HTTP/1.1 2", "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nshort", "SSH-2.0\r\n"]
    {
        let error = Fake::new(said.into()).ask(Ask::get("/")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionFailed, "{said}");
        assert!(error.message().starts_with("lampyr's server does not answer"), "{error}");
    }
}

#[tokio::test]
async fn whoever_drops_an_answer_hangs_up() {
    let head = b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n".to_vec();
    let fake = Fake::saying(head, false);
    let answer = send(&fake.server, Ask::get("/")).await.unwrap();
    assert!(!fake.heard.is_finished());
    drop(answer);
    // The other end hears the end of it.
    fake.heard.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_server_that_is_gone_is_told() {
    let program = Program { path: "/lampyr".into(), home: None };
    let server = Server { program, socket: "/nowhere/socket".into() };
    let error = send(&server, Ask::get("/")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionFailed);
    assert!(std::error::Error::source(&error).is_some());
}
