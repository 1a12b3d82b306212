//! The last words of a machine: what QEMU and the guest's console said.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncRead, AsyncReadExt};

/// How much is kept, in bytes. A guest may write without end.
const KEPT: usize = 8 * 1024;

/// The tail of what was said, shared between its readers and the machine.
#[derive(Debug, Clone, Default)]
pub(crate) struct Log(Arc<Mutex<VecDeque<u8>>>);

impl Log {
    /// Reads `source` to its end in the background, keeping the tail.
    pub(crate) fn follow(
        &self,
        mut source: impl AsyncRead + Send + Unpin + 'static,
    ) -> tokio::task::JoinHandle<()> {
        let log = self.clone();
        tokio::spawn(async move {
            let mut buffer = [0; 4096];
            while let Ok(n) = source.read(&mut buffer).await {
                if n == 0 {
                    break;
                }
                log.keep(&buffer[..n]);
            }
        })
    }

    fn keep(&self, bytes: &[u8]) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.extend(bytes);
        let over = kept.len().saturating_sub(KEPT);
        kept.drain(..over);
    }

    /// The tail as text without control characters: it came from a guest and
    /// may end on a terminal.
    pub(crate) fn text(&self) -> String {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let text = String::from_utf8_lossy(kept.make_contiguous());
        text.chars().filter(|c| *c == '\n' || !c.is_control()).collect()
    }
}
