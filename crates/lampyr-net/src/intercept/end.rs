//! The ends that an exchange is between, and how they end.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// One of them. It is over once nothing more comes, whether or not TLS has
/// said so before: many never do, and whatever has a length shows by that
/// whether it is whole.
pub(super) struct End<T> {
    inner: T,
    sent: Sent,
}

impl<T> End<T> {
    pub(super) fn new(inner: T) -> Self {
        Self { inner, sent: Sent::default() }
    }

    /// What tells when all that is said to it has left.
    pub(super) fn sent(&self) -> Sent {
        self.sent.clone()
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for End<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        room: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match ready!(Pin::new(&mut self.inner).poll_read(cx, room)) {
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Poll::Ready(Ok(())),
            other => Poll::Ready(other),
        }
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for End<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.inner).poll_flush(cx))?;
        self.sent.is_all();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

/// Whether all that was said to an end has left.
///
/// Who serves it lets go of what is still to be sent when a body fails; so the
/// failure waits for that.
#[derive(Clone, Default)]
pub(super) struct Sent(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    all: bool,
    waiting: Option<Waker>,
}

impl Sent {
    /// There is more to send.
    pub(super) fn is_not_all(&self) {
        self.state().all = false;
    }

    /// Is ready once all has left that was there to be sent.
    pub(super) fn poll_all(&self, cx: &Context<'_>) -> Poll<()> {
        let mut state = self.state();
        if state.all {
            return Poll::Ready(());
        }
        state.waiting = Some(cx.waker().clone());
        Poll::Pending
    }

    fn is_all(&self) {
        let mut state = self.state();
        state.all = true;
        if let Some(waiting) = state.waiting.take() {
            waiting.wake();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
