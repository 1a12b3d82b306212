//! What a command says, passed on as it comes, at the pace of who hears it.

use std::io;

use lampyr_core::envelope::{Splitter, closing, piece};
use lampyr_core::{Outcome, Output, OutputStream, Room, RunError};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

/// Pieces that may be on their way to a client.
const AHEAD: usize = 4;

/// Gives pieces of output to somebody, in the form that `T` is.
pub(crate) struct Pieces<T, F> {
    to: mpsc::Sender<T>,
    form: F,
}

impl<T, F: Fn(OutputStream, &[u8]) -> T> Pieces<T, F> {
    /// The way to whoever takes the pieces.
    pub(crate) fn new(form: F) -> (Self, mpsc::Receiver<T>) {
        let (to, taken) = mpsc::channel(AHEAD);
        (Self { to, form }, taken)
    }

    /// A way to give other things between the pieces.
    pub(crate) fn sender(&self) -> mpsc::Sender<T> {
        self.to.clone()
    }

    /// Gives one more thing, whatever it is, once there is room.
    pub(crate) async fn last(&self, thing: T) {
        let _ = self.to.send(thing).await;
    }

    /// Waits until nobody takes any more.
    pub(crate) fn gone(&self) -> impl Future<Output = ()> + use<T, F> {
        let to = self.to.clone();
        async move { to.closed().await }
    }
}

impl<T: Send, F: Fn(OutputStream, &[u8]) -> T + Send> Output for Pieces<T, F> {
    fn write(&mut self, stream: OutputStream, bytes: &[u8]) -> io::Result<()> {
        self.to.try_send((self.form)(stream, bytes)).map_err(|e| match e {
            TrySendError::Full(_) => io::ErrorKind::WouldBlock.into(),
            TrySendError::Closed(_) => io::ErrorKind::BrokenPipe.into(),
        })
    }

    fn room(&mut self) -> Room<'_> {
        Box::pin(async { drop(self.to.reserve().await) })
    }
}

/// Gives pieces of text, none of which ends within a character.
pub(crate) struct Texts<O> {
    to: O,
    splitters: [Splitter; 2],
}

impl<O: Output> Texts<O> {
    pub(crate) fn new(to: O) -> Self {
        Self { to, splitters: Default::default() }
    }

    /// What was held back, as it is.
    pub(crate) async fn finish(mut self) -> O {
        for (stream, splitter) in
            [OutputStream::Stdout, OutputStream::Stderr].into_iter().zip(&self.splitters)
        {
            if !splitter.rest().is_empty() {
                self.to.room().await;
                let _ = self.to.write(stream, splitter.rest());
            }
        }
        self.to
    }
}

impl<O: Output> Output for Texts<O> {
    fn write(&mut self, stream: OutputStream, bytes: &[u8]) -> io::Result<()> {
        match self.splitters[usize::from(stream == OutputStream::Stderr)].push(bytes) {
            whole if whole.is_empty() => Ok(()),
            whole => self.to.write(stream, &whole),
        }
    }

    fn room(&mut self) -> Room<'_> {
        self.to.room()
    }
}

/// A piece of output as an event.
pub(crate) fn event(stream: OutputStream, bytes: &[u8]) -> axum::response::sse::Event {
    named("output", &piece(stream, bytes))
}

/// How a command ended, as an event.
pub(crate) fn end_event(result: &Result<Outcome, RunError>) -> axum::response::sse::Event {
    named("end", &Value::from(closing(result)))
}

pub(crate) fn named(name: &str, value: &Value) -> axum::response::sse::Event {
    axum::response::sse::Event::default().event(name).data(value.to_string())
}
