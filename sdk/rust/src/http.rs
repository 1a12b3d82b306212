//! Requests to the server over its Unix socket. Each has a connection of its
//! own: whoever drops one breaks it off, which ends what it began.

use std::fmt::Write;
use std::path::Path;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, CONTENT_TYPE, HOST, HeaderMap};
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::task::JoinHandle;

use crate::error::{Error, ErrorKind, Failure, refusal};
use crate::server::{Server, server};

/// The most that is held in memory of one answer, in bytes.
const MAX_ANSWER: usize = 1 << 30;
/// The most that is read of an answer that is a refusal, in bytes. A build or a
/// command says no more than its last words there.
const MAX_REFUSAL: usize = 1 << 20;
/// The longest head of an answer, in bytes.
const MAX_HEAD: usize = 64 << 10;

/// What to ask of the server.
#[derive(Debug)]
pub(crate) struct Ask {
    method: Method,
    target: String,
    accept: &'static str,
    content: &'static str,
    body: Bytes,
    pub(crate) upgrade: HeaderMap,
}

impl Ask {
    pub(crate) fn get(target: impl Into<String>) -> Self {
        Self::new(Method::GET, target.into())
    }

    pub(crate) fn post(target: impl Into<String>) -> Self {
        Self::new(Method::POST, target.into())
    }

    pub(crate) fn put(target: impl Into<String>) -> Self {
        Self::new(Method::PUT, target.into())
    }

    pub(crate) fn delete(target: impl Into<String>) -> Self {
        Self::new(Method::DELETE, target.into())
    }

    fn new(method: Method, target: String) -> Self {
        let (body, upgrade) = (Bytes::new(), HeaderMap::new());
        Self { method, target, accept: "*/*", content: "application/json", body, upgrade }
    }

    /// Adds a key and a value to the query.
    pub(crate) fn query(mut self, key: &str, value: &str) -> Self {
        let sign = if self.target.contains('?') { '&' } else { '?' };
        self.target.push(sign);
        self.target.push_str(key);
        self.target.push('=');
        self.target.push_str(&escaped(value));
        self
    }

    /// Sends an object.
    pub(crate) fn json(self, body: &impl Serialize) -> Result<Self, Error> {
        let body = serde_json::to_vec(body);
        let body = body.map_err(|e| Error::usage(format!("it cannot be asked for: {e}")))?;
        Ok(Self { body: body.into(), ..self })
    }

    /// Sends bytes as they are.
    pub(crate) fn bytes(self, body: Vec<u8>) -> Self {
        Self { body: body.into(), content: "application/octet-stream", ..self }
    }

    /// Wants an answer of events.
    pub(crate) fn events(self) -> Self {
        Self { accept: "text/event-stream", ..self }
    }

    fn request(self) -> Result<Request<Full<Bytes>>, Error> {
        let mut request = Request::builder().method(self.method).uri(self.target);
        if let Some(headers) = request.headers_mut() {
            headers.extend(self.upgrade);
        }
        let request = request.header(HOST, "localhost").header(ACCEPT, self.accept);
        let request = request.header(CONTENT_TYPE, self.content).body(Full::new(self.body));
        request.map_err(|e| Error::usage(format!("it cannot be asked for: {e}")))
    }
}

/// A path of the API, whose names are escaped.
pub(crate) fn route(kind: &str, name: &str, rest: &str) -> String {
    format!("/v1/{kind}/{}{rest}", escaped(name))
}

fn escaped(text: &str) -> String {
    text.bytes().fold(String::new(), |mut escaped, byte| {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                escaped.push(byte.into());
            }
            _ => drop(write!(escaped, "%{byte:02X}")),
        }
        escaped
    })
}

/// Asks, and hears an object.
pub(crate) async fn call<T: DeserializeOwned>(ask: Ask) -> Result<T, Error> {
    read(&call_for_bytes(ask).await?)
}

/// Asks, and hears whether it was done.
pub(crate) async fn done(ask: Ask) -> Result<(), Error> {
    call_for_bytes(ask).await.map(drop)
}

/// Asks, and hears bytes, all of them.
pub(crate) async fn call_for_bytes(ask: Ask) -> Result<Vec<u8>, Error> {
    send(&*server().await?, ask).await?.whole().await
}

/// Asks for something that may not be there.
pub(crate) async fn exists(ask: Ask) -> Result<bool, Error> {
    match done(ask).await {
        Ok(()) => Ok(true),
        Err(e) if e.is_missing() => Ok(false),
        Err(e) => Err(e),
    }
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Error> {
    let unread = |e| {
        Failure::new(format!("lampyr's server answered with what is no answer: {e}"))
            .because(e)
            .of(ErrorKind::ConnectionFailed)
    };
    serde_json::from_slice(body).map_err(unread)
}

/// An answer that is a success, as it comes.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) response: Response<Incoming>,
    line: Line,
}

/// Sends a request, and waits for the head of its answer.
pub(crate) async fn send(server: &Server, ask: Ask) -> Result<Answer, Error> {
    let answer = talk(&server.socket, ask.request()?).await?;
    let status = answer.response.status();
    if status.is_success() || status.is_informational() {
        return Ok(answer);
    }
    let body = answer.gather(MAX_REFUSAL).await?;
    Err(refusal(status.as_u16(), &body))
}

async fn talk(socket: &Path, request: Request<Full<Bytes>>) -> Result<Answer, Error> {
    let stream = UnixStream::connect(socket).await.map_err(broken)?;
    let mut http = http1::Builder::new();
    http.max_buf_size(MAX_HEAD);
    let (mut sender, connection) = http.handshake(TokioIo::new(stream)).await.map_err(broken)?;
    // What a connection fails of, its request tells.
    let line = Line(tokio::spawn(async { drop(connection.with_upgrades().await) }));
    let response = sender.send_request(request).await.map_err(broken)?;
    Ok(Answer { response, line })
}

impl Answer {
    /// The next piece of the body; none at its end.
    pub(crate) async fn piece(&mut self) -> Result<Option<Bytes>, Error> {
        while let Some(frame) = self.response.body_mut().frame().await {
            if let Ok(data) = frame.map_err(broken)?.into_data() {
                return Ok(Some(data));
            }
        }
        Ok(None)
    }

    /// All of the body.
    async fn whole(self) -> Result<Vec<u8>, Error> {
        self.gather(MAX_ANSWER).await
    }

    async fn gather(mut self, most: usize) -> Result<Vec<u8>, Error> {
        let mut body = Vec::new();
        while let Some(piece) = self.piece().await? {
            if body.len() + piece.len() > most {
                return Err(too_long());
            }
            body.extend_from_slice(&piece);
        }
        Ok(body)
    }

    /// The line itself, where the server has agreed to speak another protocol.
    pub(crate) async fn upgraded(self) -> Result<hyper::upgrade::Upgraded, Error> {
        let Self { response, line } = self;
        let upgraded = hyper::upgrade::on(response).await.map_err(broken);
        drop(line);
        upgraded
    }
}

/// What is too long to be held in memory.
pub(crate) fn too_long() -> Error {
    Failure::new("it is too long to be held in memory")
        .hint_at("copy a file with copy_out, and take output as it comes with stream")
        .of(ErrorKind::Usage)
}

/// A conversation that broke.
pub(crate) fn broken(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    let cause = cause.into();
    Failure::new(format!("lampyr's server does not answer: {cause}"))
        .because(cause)
        .of(ErrorKind::ConnectionFailed)
}

/// A task that goes with whoever it is for.
#[derive(Debug)]
pub(crate) struct Line(pub(crate) JoinHandle<()>);

impl Drop for Line {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cfg(test)]
mod tests;
