//! QEMU's monitor: the dozen commands that we need.
//!
//! QEMU is less hostile than a guest but may be taken over by one, so lines
//! are bounded here and every wait is by its caller.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use lampyr_engine::EngineError;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::net::UnixStream;

/// The longest line that a monitor may say, in bytes.
const MAX_LINE: u64 = 256 * 1024;
/// The most lines that are read for one answer.
const MAX_LINES: usize = 1000;

/// A connection to a monitor.
#[derive(Debug)]
pub(crate) struct Qmp {
    stream: BufReader<UnixStream>,
}

impl Qmp {
    /// Takes a fresh connection; the monitor's greeting is read with the first
    /// answer.
    pub(crate) fn new(stream: UnixStream) -> Self {
        Self { stream: BufReader::new(stream) }
    }

    /// Sends commands without waiting between them, then reads an answer to
    /// each. The first refusal is the error.
    pub(crate) async fn run(&mut self, commands: &[Value]) -> Result<(), EngineError> {
        let text: String = commands.iter().map(|c| format!("{c}\n")).collect();
        self.send(text.as_bytes()).await?;
        let mut refused = Ok(());
        for _ in commands {
            match self.answer().await {
                Ok(_) => {}
                // Each has an answer still, and is not to be taken for a later one's.
                Err(e @ EngineError::BadImage(_)) => refused = refused.and(Err(e)),
                Err(e) => return Err(e),
            }
        }
        refused
    }

    /// Asks something that has an answer.
    pub(crate) async fn ask(&mut self, question: &Value) -> Result<Value, EngineError> {
        self.send(format!("{question}\n").as_bytes()).await?;
        self.answer().await
    }

    /// Hands a descriptor over with the command that takes it.
    pub(crate) async fn give(
        &mut self,
        command: &Value,
        fd: BorrowedFd<'_>,
    ) -> Result<(), EngineError> {
        let text = format!("{command}\n");
        let stream = self.stream.get_ref();
        let sent = stream.async_io(tokio::io::Interest::WRITABLE, || {
            send_with(stream.as_fd(), text.as_bytes(), fd)
        });
        sent.await.map_err(crate::io("reach QEMU's monitor"))?;
        self.answer().await.map(drop)
    }

    /// Waits until a migration, in or out, has ended.
    pub(crate) async fn migrated(&mut self) -> Result<(), EngineError> {
        for _ in 0..MAX_LINES {
            let line = self.line().await?;
            if line["event"] == "MIGRATION" {
                match line["data"]["status"].as_str() {
                    Some("completed") => return Ok(()),
                    Some("failed" | "cancelled") => return Err(bad("QEMU gave it up")),
                    _ => {}
                }
            }
        }
        Err(bad("QEMU's monitor does not come to a point"))
    }

    /// Waits until a job on the disk's layers has ended.
    pub(crate) async fn merged(&mut self) -> Result<(), EngineError> {
        for _ in 0..MAX_LINES {
            let line = self.line().await?;
            if line["event"] == "BLOCK_JOB_COMPLETED" {
                let refused = line["data"]["error"].as_str();
                return refused.map_or(Ok(()), |text| Err(bad(text)));
            }
        }
        Err(bad("QEMU's monitor does not come to a point"))
    }

    async fn send(&mut self, bytes: &[u8]) -> Result<(), EngineError> {
        use tokio::io::AsyncWriteExt;
        let sent = self.stream.get_mut().write_all(bytes).await;
        sent.map_err(crate::io("reach QEMU's monitor"))
    }

    /// The next line that is an answer; events before it are passed over.
    async fn answer(&mut self) -> Result<Value, EngineError> {
        for _ in 0..MAX_LINES {
            let mut line = self.line().await?;
            if let Some(text) = line["error"]["desc"].as_str() {
                return Err(bad(text));
            }
            if line.get("return").is_some() {
                return Ok(line["return"].take());
            }
        }
        Err(bad("QEMU's monitor does not answer"))
    }

    async fn line(&mut self) -> Result<Value, EngineError> {
        let mut line = Vec::new();
        let mut bounded = (&mut self.stream).take(MAX_LINE);
        let read = bounded.read_until(b'\n', &mut line).await;
        if read.map_err(crate::io("hear QEMU's monitor"))? == 0 {
            let gone = io::Error::from(io::ErrorKind::UnexpectedEof);
            return Err(crate::io("hear QEMU's monitor")(gone));
        }
        serde_json::from_slice(&line).map_err(|_| bad("QEMU's monitor does not speak its language"))
    }
}

fn bad(text: &str) -> EngineError {
    EngineError::BadImage(text.chars().take(300).collect())
}

/// Writes `bytes` with a descriptor beside them.
fn send_with(socket: BorrowedFd<'_>, bytes: &[u8], fd: BorrowedFd<'_>) -> io::Result<()> {
    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut beside = SendAncillaryBuffer::new(&mut space);
    let fds = [fd];
    beside.push(SendAncillaryMessage::ScmRights(&fds));
    let sent = sendmsg(socket, &[io::IoSlice::new(bytes)], &mut beside, SendFlags::empty())?;
    if sent == bytes.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
}
