//! Output that is printed as it comes. Whoever reads it may be slow, so a
//! thread writes it: time limits and signals are kept meanwhile.

use std::io;
use std::thread::JoinHandle;

use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use crate::core_api::OutputStream;
use crate::printer::Printer;

/// The way to both standard streams. At most two pieces are on it.
pub(crate) struct Outlet {
    pieces: Option<mpsc::Sender<(OutputStream, Vec<u8>)>>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl Outlet {
    pub(crate) fn new(printer: Printer) -> Self {
        let (pieces, waiting) = mpsc::channel(1);
        let thread = std::thread::spawn(move || print(&printer, waiting));
        Self { pieces: Some(pieces), thread: Some(thread) }
    }

    /// Waits until there is room for a piece, or nobody takes one any more.
    pub(crate) async fn room(&self) {
        if let Some(pieces) = &self.pieces {
            drop(pieces.reserve().await);
        }
    }

    /// Takes a piece where there is room. An error is an earlier piece's.
    pub(crate) fn push(&mut self, stream: OutputStream, bytes: Vec<u8>) -> io::Result<()> {
        let Some(pieces) = &self.pieces else { return Err(io::ErrorKind::BrokenPipe.into()) };
        match pieces.try_send((stream, bytes)) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(_)) => Err(io::ErrorKind::WouldBlock.into()),
            Err(TrySendError::Closed(_)) => self.close(),
        }
    }

    /// Waits until every piece was written.
    pub(crate) fn close(&mut self) -> io::Result<()> {
        self.pieces = None;
        let ended = self.thread.take().map(JoinHandle::join);
        ended.unwrap_or(Ok(Ok(()))).unwrap_or_else(|_| Err(io::ErrorKind::BrokenPipe.into()))
    }
}

fn print(printer: &Printer, mut pieces: mpsc::Receiver<(OutputStream, Vec<u8>)>) -> io::Result<()> {
    while let Some((stream, bytes)) = pieces.blocking_recv() {
        printer.stream(stream, &bytes)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::printer::paper::{Paper, closed};

    #[test]
    fn pieces_are_printed_in_their_order() {
        let (printer, paper) = Paper::new();
        let mut outlet = Outlet::new(printer);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        for text in ["a", "b", "c"] {
            runtime.block_on(outlet.room());
            outlet.push(OutputStream::Stdout, text.into()).unwrap();
        }
        runtime.block_on(outlet.room());
        outlet.push(OutputStream::Stderr, "d".into()).unwrap();
        outlet.close().unwrap();
        assert_eq!((paper.out().as_str(), paper.err().as_str()), ("abc", "d"));
    }

    #[test]
    fn a_reader_that_is_gone_is_told_of() {
        let mut outlet = Outlet::new(closed());
        outlet.push(OutputStream::Stdout, "x".into()).unwrap();
        assert_eq!(outlet.close().unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }
}
