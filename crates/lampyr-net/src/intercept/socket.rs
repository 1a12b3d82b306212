//! A WebSocket, once both heads have agreed on it.

use std::io;

use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf, split};

use super::frames::Frames;
use super::pattern::Values;

/// How much is read at once.
const ROOM: usize = 16 << 10;

type End = TokioIo<Upgraded>;

/// The two ends of one, which are there once all that was HTTP is over.
pub(super) struct WebSocket {
    pub(super) guest: OnUpgrade,
    pub(super) real: OnUpgrade,
}

impl WebSocket {
    /// Passes on what is said both ways, and who has said all.
    pub(super) async fn relay(self, values: &Values) -> io::Result<()> {
        let both = async { tokio::try_join!(self.guest, self.real) };
        let (guest, real) = both.await.map_err(io::Error::other)?;
        let (from_guest, to_guest) = split(TokioIo::new(guest));
        let (from_real, to_real) = split(TokioIo::new(real));
        let down = down(from_real, to_guest, Frames::new(values));
        tokio::try_join!(up(from_guest, to_real), down).map(|_| ())
    }
}

/// A guest says what it likes: it has no value to tell. A server that hears no
/// more of it may still speak.
async fn up(mut guest: ReadHalf<End>, mut real: WriteHalf<End>) -> io::Result<()> {
    let mut room = vec![0; ROOM];
    loop {
        let length = guest.read(&mut room).await?;
        let said = async {
            real.write_all(&room[..length]).await?;
            real.flush().await
        };
        if length == 0 || said.await.is_err() {
            let _ = real.shutdown().await;
            return Ok(());
        }
    }
}

/// However a server ends, what it has said before is heard.
async fn down(
    mut real: ReadHalf<End>,
    mut guest: WriteHalf<End>,
    mut frames: Frames,
) -> io::Result<()> {
    let mut room = vec![0; ROOM];
    let ended = loop {
        match real.read(&mut room).await {
            Ok(0) => break Ok(()),
            Ok(length) => match frames.feed(&room[..length]) {
                Ok(clear) => guest.write_all(&clear).await?,
                Err(odd) => break Err(io::Error::other(odd)),
            },
            Err(e) => break Err(e),
        }
        guest.flush().await?;
    };
    guest.write_all(&frames.end()).await?;
    guest.shutdown().await?;
    ended
}
