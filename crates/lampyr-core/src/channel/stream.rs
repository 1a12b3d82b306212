//! One request on a channel.

use std::sync::Arc;

use lampyr_proto::{Control, Kind, Lane, MAX_PAYLOAD, WINDOW, encode_message};
use tokio::sync::{Semaphore, mpsc, oneshot};

use super::Incoming;
use super::driver::Command;

/// The driver is gone; the channel knows why.
#[derive(Debug)]
pub(crate) struct Gone;

/// An open request. Dropping it ends what it stands for in the guest.
#[derive(Debug)]
pub(crate) struct Stream {
    number: u32,
    incoming: mpsc::UnboundedReceiver<Incoming>,
    commands: mpsc::Sender<Command>,
    input: Arc<Semaphore>,
    taken: Option<(Lane, usize)>,
}

/// The standard input of an open request, and what else it is told.
#[derive(Debug, Clone)]
pub(crate) struct Input {
    number: u32,
    commands: mpsc::Sender<Command>,
    credit: Arc<Semaphore>,
}

impl Stream {
    pub(super) async fn open(
        commands: &mpsc::Sender<Command>,
        request: Vec<u8>,
        hold: Option<oneshot::Receiver<()>>,
    ) -> Result<Self, Gone> {
        let (sender, incoming) = mpsc::unbounded_channel();
        let (number, answer) = oneshot::channel();
        let input = Arc::new(Semaphore::new(WINDOW as usize));
        let (to, credit) = (sender, input.clone());
        let open = Command::Open { request, incoming: to, input: credit, number, hold };
        commands.send(open).await.map_err(|_| Gone)?;
        let number = answer.await.map_err(|_| Gone)?;
        Ok(Self { number, incoming, commands: commands.clone(), input, taken: None })
    }

    /// What comes next; `None` when the conversation is over. The bytes that
    /// the last call returned count as taken with this one.
    pub(crate) async fn next(&mut self) -> Option<Incoming> {
        // Cleared only once it is said, so that a caller may give up waiting.
        if let Some((lane, length)) = self.taken {
            let taken = Command::Taken { stream: self.number, lane, length };
            self.commands.send(taken).await.ok()?;
            self.taken = None;
        }
        let incoming = self.incoming.recv().await?;
        if let Incoming::Data(lane, bytes) = &incoming {
            self.taken = Some((*lane, bytes.len()));
        }
        Some(incoming)
    }

    /// The standard input.
    pub(crate) fn input(&self) -> Input {
        let (number, credit) = (self.number, self.input.clone());
        Input { number, commands: self.commands.clone(), credit }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // A full queue means a connection that is stuck, and so is lost anyway.
        let _ = self.commands.try_send(Command::Forget { stream: self.number });
    }
}

impl Input {
    /// Sends bytes, as fast as the process takes them.
    pub(crate) async fn send(&self, bytes: &[u8]) -> Result<(), Gone> {
        for piece in bytes.chunks(MAX_PAYLOAD) {
            let credit = self.credit.acquire_many(piece.len() as u32).await.map_err(|_| Gone)?;
            credit.forget();
            self.command(Kind::Data, piece.to_vec()).await?;
        }
        Ok(())
    }

    /// No more bytes follow.
    pub(crate) async fn end(&self) -> Result<(), Gone> {
        self.command(Kind::End, Vec::new()).await
    }

    /// Says something to the process. It overtakes no input.
    pub(crate) async fn control(&self, control: &Control) -> Result<(), Gone> {
        self.command(Kind::Message, encode_message(control)).await
    }

    async fn command(&self, kind: Kind, payload: Vec<u8>) -> Result<(), Gone> {
        let send = Command::Send { stream: self.number, kind, payload };
        self.commands.send(send).await.map_err(|_| Gone)
    }
}
