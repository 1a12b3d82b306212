//! A command that is heard as it speaks, over a WebSocket.
//!
//! What is said first is what to run. Then each binary message is a piece of
//! standard input, and each text message a word about the command. What is heard
//! are binary messages, whose first byte says which stream the rest is of, and at
//! last one text message: how the command ended.

use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use hyper::header::{
    CONNECTION, HeaderMap, HeaderValue, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{Message, Role, WebSocketConfig};

use crate::error::Error;
use crate::http::{Ask, Line, broken, route, send, too_long};
use crate::output::ExecOutput;
use crate::server::server;

/// The longest message that our server sends, in bytes, and much more.
const MAX_MESSAGE: usize = 16 << 20;
/// As much of standard input goes into one message, in bytes.
const PIECE: usize = 256 << 10;
/// The most that [`ExecStream::collect`] keeps, in bytes.
const MAX_KEPT: usize = 1 << 30;
/// Pieces of input and words that may be on their way.
const AHEAD: usize = 4;
const SIGKILL: i32 = 9;

type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// A piece of what a command says, or that it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ExecEvent {
    /// Bytes of its standard output.
    Stdout(Vec<u8>),
    /// Bytes of its standard error.
    Stderr(Vec<u8>),
    /// Its exit code; 128+n where signal n ended it. Nothing comes after it.
    Exited(i32),
}

/// Standard input of a command: what it is given first, and whether more comes.
pub(crate) struct Input {
    pub(crate) first: Vec<u8>,
    pub(crate) piped: bool,
}

/// A command that runs; see [`Exec::stream`](crate::Exec::stream).
///
/// It waits for whoever hears it. Dropping it ends the command, unless it has
/// ended.
#[derive(Debug)]
pub struct ExecStream {
    heard: SplitStream<Socket>,
    words: mpsc::Sender<Message>,
    stdin: Option<ExecStdin>,
    ended: Option<ExecOutput>,
    _speaking: Line,
}

impl ExecStream {
    pub(crate) async fn start(sandbox: &str, order: String, input: Input) -> Result<Self, Error> {
        let (mut sink, heard) = open(sandbox).await?.split();
        sink.send(Message::text(order)).await.map_err(broken)?;
        let (words, spoken) = mpsc::channel(AHEAD);
        let (feed, pieces) = mpsc::channel(AHEAD);
        let speaking = Line(tokio::spawn(speak(sink, input.first, pieces, spoken)));
        // Where nobody has it, it is at its end.
        let stdin = input.piped.then_some(ExecStdin { feed });
        Ok(Self { heard, words, stdin, ended: None, _speaking: speaking })
    }

    /// What it says next; nothing after its end. A call that is dropped before it
    /// is done loses nothing.
    pub async fn recv(&mut self) -> Result<Option<ExecEvent>, Error> {
        while self.ended.is_none() {
            let message = self.heard.next().await;
            let message = message.ok_or_else(|| broken("it broke off before the command ended"))?;
            match message.map_err(broken)? {
                Message::Text(end) => {
                    let ended = serde_json::from_str(&end).map_err(broken)?;
                    let ended = ExecOutput::read(ended)?;
                    let code = ended.code;
                    self.ended = Some(ended);
                    return Ok(Some(ExecEvent::Exited(code)));
                }
                Message::Binary(bytes) => return piece(&bytes).map(Some),
                // What is heard of the line itself is answered by the library.
                _ => {}
            }
        }
        Ok(None)
    }

    /// Its standard input, once, where it was started with
    /// [`pipe_stdin`](crate::Exec::pipe_stdin).
    pub fn take_stdin(&mut self) -> Option<ExecStdin> {
        self.stdin.take()
    }

    /// Waits for its end; what it still says is not kept. Its exit code.
    pub async fn wait(mut self) -> Result<i32, Error> {
        self.stdin = None;
        while self.recv().await?.is_some() {}
        self.end().map(|end| end.code)
    }

    /// Waits for its end, and keeps what it still says, 1 GiB at most.
    pub async fn collect(mut self) -> Result<ExecOutput, Error> {
        self.stdin = None;
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        loop {
            match self.recv().await {
                Ok(Some(ExecEvent::Stdout(bytes))) => stdout.extend(bytes),
                Ok(Some(ExecEvent::Stderr(bytes))) => stderr.extend(bytes),
                Ok(Some(ExecEvent::Exited(_))) => {}
                Ok(None) => return Ok(ExecOutput { stdout, stderr, ..self.end()? }),
                Err(error) => return Err(error.having_said(stdout, stderr)),
            }
            if stdout.len() + stderr.len() > MAX_KEPT {
                return Err(too_long());
            }
        }
    }

    fn end(self) -> Result<ExecOutput, Error> {
        self.ended.ok_or_else(|| broken("it broke off before the command ended"))
    }

    /// Sends it a signal, by number.
    pub async fn signal(&self, signal: i32) -> Result<(), Error> {
        self.say(&json!({"type": "signal", "signal": signal})).await
    }

    /// Ends it at once.
    pub async fn kill(&self) -> Result<(), Error> {
        self.signal(SIGKILL).await
    }

    /// Tells it that its terminal has another size now, in characters.
    pub async fn resize(&self, rows: u16, columns: u16) -> Result<(), Error> {
        self.say(&json!({"type": "resize", "rows": rows, "columns": columns})).await
    }

    /// One that has ended hears nothing.
    async fn say(&self, word: &serde_json::Value) -> Result<(), Error> {
        let said = self.words.send(Message::text(word.to_string())).await;
        said.or(if self.ended.is_some() { Ok(()) } else { Err(hung_up()) })
    }
}

/// The standard input of a command that runs. Dropping it tells the command that
/// this was all.
#[derive(Debug)]
pub struct ExecStdin {
    feed: mpsc::Sender<Vec<u8>>,
}

impl ExecStdin {
    /// Writes, and waits until there is room for more. One that has ended is an
    /// error.
    pub async fn write(&self, data: impl AsRef<[u8]>) -> Result<(), Error> {
        for piece in data.as_ref().chunks(PIECE) {
            self.feed.send(piece.to_vec()).await.map_err(|_| hung_up())?;
        }
        Ok(())
    }
}

fn hung_up() -> Error {
    Error::usage("the command takes no more: it has ended")
}

async fn open(sandbox: &str) -> Result<Socket, Error> {
    let mut ask = Ask::get(route("sandboxes", sandbox, "/exec/ws"));
    ask.upgrade = headers();
    let upgraded = send(&*server().await?, ask).await?.upgraded().await?;
    Ok(Socket::from_raw_socket(TokioIo::new(upgraded), Role::Client, Some(limits())).await)
}

fn limits() -> WebSocketConfig {
    let config = WebSocketConfig::default();
    config.max_message_size(Some(MAX_MESSAGE)).max_frame_size(Some(MAX_MESSAGE))
}

fn headers() -> HeaderMap {
    // The key is there to tell caches apart from servers; here is neither.
    let headers = [
        (CONNECTION, "upgrade"),
        (UPGRADE, "websocket"),
        (SEC_WEBSOCKET_VERSION, "13"),
        (SEC_WEBSOCKET_KEY, "bGFtcHlyIG5lZWRzIGl0IQ=="),
    ];
    headers.map(|(name, value)| (name, HeaderValue::from_static(value))).into_iter().collect()
}

/// Says all that is to be said: standard input, its end, and words between.
async fn speak(
    mut sink: SplitSink<Socket, Message>,
    first: Vec<u8>,
    mut pieces: mpsc::Receiver<Vec<u8>>,
    mut spoken: mpsc::Receiver<Message>,
) {
    for piece in first.chunks(PIECE) {
        if sink.send(Message::binary(piece.to_vec())).await.is_err() {
            return;
        }
    }
    let mut open = true;
    loop {
        let message = tokio::select! {
            piece = pieces.recv(), if open => match piece {
                Some(piece) => Message::binary(piece),
                None => {
                    open = false;
                    Message::text(r#"{"type":"eof"}"#)
                }
            },
            Some(word) = spoken.recv() => word,
            else => return,
        };
        if sink.send(message).await.is_err() {
            return;
        }
    }
}

fn piece(bytes: &[u8]) -> Result<ExecEvent, Error> {
    match bytes.split_first() {
        Some((1, rest)) => Ok(ExecEvent::Stdout(rest.to_vec())),
        Some((2, rest)) => Ok(ExecEvent::Stderr(rest.to_vec())),
        _ => Err(broken("it sent a message that is none")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_byte_says_which_stream_it_is() {
        assert_eq!(piece(b"\x01a\xff").unwrap(), ExecEvent::Stdout(b"a\xff".into()));
        assert_eq!(piece(b"\x02").unwrap(), ExecEvent::Stderr(Vec::new()));
        assert!(piece(b"").is_err());
        assert!(piece(b"\x03a").is_err());
    }
}
