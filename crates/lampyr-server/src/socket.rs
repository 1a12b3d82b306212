//! A command over a WebSocket: input as it comes, and a terminal.
//!
//! The client first says what to run, as text. Then each binary message is a
//! piece of standard input, and each text message a [`Word`]. It hears binary
//! messages, whose first byte says which stream the rest is of, and at last one
//! text message: how the command ended.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::extract::State;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::response::Response;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use lampyr_core::envelope::closing;
use lampyr_core::{Control, OutputStream, RunError, SessionClient};
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;
use utoipa::ToSchema;

use crate::app::App;
use crate::ask::{Sandbox, object};
use crate::error::{Answer, ErrorBody, without_flags};
use crate::exec::{ExecAsk, Order, Tty};
use crate::output::Pieces;

/// How long a client may take to say what to run.
const FIRST_WORD: Duration = Duration::from_secs(30);
/// How often a client that says nothing is asked whether it is there.
const PING: Duration = Duration::from_secs(20);
/// How long a client may still speak that was told how its command ended.
const LINGER: Duration = Duration::from_secs(5);
/// The longest message of a client, in bytes.
const MAX_MESSAGE: usize = 1 << 20;

/// What a client says to a command that runs
#[derive(Debug, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Word {
    /// Its terminal has this size now
    Resize(Tty),
    /// It gets this signal
    Signal {
        /// The signal's number
        signal: i32,
    },
    /// Its standard input is at its end
    Eof {},
}

/// Run a command over a WebSocket
///
/// The first message is text: the object that `exec` takes, without `stdin`,
/// `key` and `detach`. Binary messages after it are standard input; text
/// messages are `{"type":"resize","rows":24,"columns":80}`,
/// `{"type":"signal","signal":15}` or `{"type":"eof"}`. What comes back are
/// binary messages, whose first byte is 1 for standard output and 2 for standard
/// error, and at last one text message, the answer of `exec` without the
/// streams. Whoever closes ends the command.
#[utoipa::path(
    get, path = "/v1/sandboxes/{sandbox}/exec/ws", tag = "exec", operation_id = "execSocket",
    params(("sandbox" = String, Path, description = "Its id or its name")),
    responses(
        (status = 101, description = "The protocol is WebSocket from now on"),
        (status = "default", description = "It is not", body = ErrorBody),
    ),
)]
pub(crate) async fn exec(
    State(app): State<Arc<App>>,
    Sandbox(word): Sandbox,
    upgrade: WebSocketUpgrade,
) -> Answer<Response> {
    let client = app.client(&word).await?;
    app.execs.fetch_add(1, Ordering::Relaxed);
    let upgrade = upgrade.max_message_size(MAX_MESSAGE).max_frame_size(MAX_MESSAGE);
    Ok(upgrade.on_upgrade(move |socket| serve(socket, client)))
}

async fn serve(socket: WebSocket, client: Arc<SessionClient>) {
    let (mut sink, mut stream) = socket.split();
    let first = timeout(FIRST_WORD, stream.next()).await;
    let Ok(Some(Ok(Message::Text(first)))) = first else { return };
    let order = match read(&first) {
        Ok(order) => order,
        Err(why) => {
            let _ = sink.send(end(&Err(refused(why)))).await;
            let _ = sink.close().await;
            let (feed, say) = (mpsc::channel(1).0, mpsc::channel(1).0);
            return drop(timeout(LINGER, hear(stream, feed, say)).await);
        }
    };
    let (feed, input) = mpsc::channel(1);
    let (say, controls) = mpsc::channel(16);
    let mut hearing = pin!(hear(stream, feed, say));
    let (mut pieces, taken) = Pieces::new(framed);
    let mut running = JoinSet::new();
    running.spawn(async move {
        let result = client.exec_fed(&order.request, input, &mut pieces, controls).await;
        let result = result.map_err(without_flags);
        pieces.last(end(&result)).await;
    });
    // Whichever ends first: all was said, or nobody is there to hear it. Whoever
    // still speaks is heard out: a socket that is closed on somebody's words
    // takes along what was said to them last.
    tokio::select! {
        () = speak(sink, taken) => drop(timeout(LINGER, hearing).await),
        () = &mut hearing => {}
    }
}

fn read(text: &str) -> Result<Order, String> {
    let ask: ExecAsk = object("the first message", text.as_bytes()).map_err(|e| e.to_string())?;
    let order = Order::read(ask).map_err(|e| e.to_string())?;
    if order.is_plain() { Ok(order) } else { Err("here is no stdin, key or detach".into()) }
}

fn refused(message: String) -> RunError {
    let error = lampyr_core::Error::Told {
        kind: lampyr_types::ErrorKind::Usage,
        message,
        hint: None,
        took: None,
    };
    error.into()
}

fn framed(stream: OutputStream, bytes: &[u8]) -> Message {
    let number = if stream == OutputStream::Stdout { 1 } else { 2 };
    Message::Binary([&[number], bytes].concat().into())
}

fn end(result: &Result<lampyr_core::Outcome, RunError>) -> Message {
    Message::Text(Value::from(closing(result)).to_string().into())
}

/// Says all that is to be said, and asks from time to time whether anybody is
/// there.
async fn speak(mut sink: SplitSink<WebSocket, Message>, mut taken: mpsc::Receiver<Message>) {
    loop {
        let message = match timeout(PING, taken.recv()).await {
            Ok(Some(message)) => message,
            Ok(None) => return drop(sink.close().await),
            Err(_) => Message::Ping(axum::body::Bytes::new()),
        };
        if sink.send(message).await.is_err() {
            return;
        }
    }
}

/// Hears a client until it is gone or breaks a rule. A command that reads
/// nothing is what it waits for.
async fn hear(
    mut stream: SplitStream<WebSocket>,
    feed: mpsc::Sender<Vec<u8>>,
    say: mpsc::Sender<Control>,
) {
    let mut feed = Some(feed);
    while let Some(Ok(message)) = stream.next().await {
        match message {
            Message::Binary(bytes) => {
                if let Some(feed) = &feed {
                    // A command that has ended reads no more.
                    let _ = feed.send(bytes.to_vec()).await;
                }
            }
            Message::Text(text) => match serde_json::from_str(&text) {
                Ok(Word::Resize(size)) => drop(say.send(Control::Resize(size.into())).await),
                Ok(Word::Signal { signal }) => drop(say.send(Control::Signal(signal)).await),
                Ok(Word::Eof {}) => feed = None,
                Err(_) => return,
            },
            Message::Close(_) => return,
            Message::Ping(_) | Message::Pong(_) => {}
        }
    }
}
