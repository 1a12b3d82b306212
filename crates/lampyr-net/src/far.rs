//! The other end of a guest's stream.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::net::TcpStream;

/// The other end of a stream.
pub(crate) enum Host {
    /// The host itself.
    Plain(TcpStream),
    /// What comes between, in plain sight of nobody but us.
    Between(DuplexStream),
    /// Nobody any more.
    Nobody,
}

impl Host {
    pub(crate) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Between(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Nobody => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }

    /// Reads some bytes; none: there are no more.
    pub(crate) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        room: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let mut room = ReadBuf::new(room);
        let read = match self {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, &mut room),
            Self::Between(stream) => Pin::new(stream).poll_read(cx, &mut room),
            Self::Nobody => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        };
        read.map_ok(|()| room.filled().len())
    }

    /// Says that nothing more comes from the guest.
    pub(crate) fn end(&mut self, cx: &mut Context<'_>) {
        let _ = match self {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Between(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Nobody => Poll::Ready(Ok(())),
        };
    }
}
