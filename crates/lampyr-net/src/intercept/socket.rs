//! A WebSocket, once both heads have agreed on it.

use std::io;

use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf, copy, split};

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

/// A guest says what it likes: it has no value to tell.
async fn up(mut guest: ReadHalf<End>, mut real: WriteHalf<End>) -> io::Result<()> {
    copy(&mut guest, &mut real).await?;
    real.shutdown().await
}

async fn down(
    mut real: ReadHalf<End>,
    mut guest: WriteHalf<End>,
    mut frames: Frames,
) -> io::Result<()> {
    let mut room = vec![0; ROOM];
    loop {
        let length = real.read(&mut room).await?;
        if length == 0 {
            guest.write_all(&frames.end()).await?;
            return guest.shutdown().await;
        }
        let clear = frames.feed(&room[..length]).map_err(io::Error::other)?;
        guest.write_all(&clear).await?;
        guest.flush().await?;
    }
}
