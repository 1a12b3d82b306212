//! The one place that writes: data to standard output, all else to standard
//! error.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;

use crate::core_api::OutputStream;

/// A stream that several hands write to.
type Shared = Arc<Mutex<dyn Write + Send>>;

/// Both standard streams.
#[derive(Clone)]
pub(crate) struct Printer {
    out: Shared,
    err: Shared,
}

impl Printer {
    /// This process's own streams.
    pub(crate) fn standard() -> Self {
        Self { out: Arc::new(Mutex::new(io::stdout())), err: Arc::new(Mutex::new(io::stderr())) }
    }

    /// Writes bytes to standard output at once.
    pub(crate) fn data(&self, bytes: &[u8]) -> io::Result<()> {
        write(&self.out, bytes)
    }

    /// Writes bytes to standard error at once.
    pub(crate) fn aside(&self, bytes: &[u8]) -> io::Result<()> {
        write(&self.err, bytes)
    }

    /// Writes a piece of a command's output to the stream that it came from.
    pub(crate) fn stream(&self, stream: OutputStream, bytes: &[u8]) -> io::Result<()> {
        match stream {
            OutputStream::Stdout => self.data(bytes),
            OutputStream::Stderr => self.aside(bytes),
        }
    }

    /// Writes one JSON value and a newline to standard output.
    pub(crate) fn json(&self, value: &Value) -> io::Result<()> {
        self.data(format!("{value}\n").as_bytes())
    }

    /// Writes a line to standard error; there is nobody to tell if it fails.
    pub(crate) fn note(&self, line: &str) {
        let _ = self.aside(format!("{line}\n").as_bytes());
    }

    /// Writes what went wrong to standard error, and what to do about it.
    pub(crate) fn error(&self, message: &str, hint: Option<&str>) {
        self.note(&format!("error: {message}"));
        if let Some(hint) = hint {
            self.note(&format!("hint: {hint}"));
        }
    }
}

fn write(stream: &Shared, bytes: &[u8]) -> io::Result<()> {
    let mut stream = stream.lock().unwrap_or_else(PoisonError::into_inner);
    stream.write_all(bytes)?;
    stream.flush()
}

/// Printers that write into memory.
#[cfg(test)]
pub(crate) mod paper {
    use super::*;

    /// What was printed on the two streams.
    pub(crate) struct Paper(Arc<Mutex<Vec<u8>>>, Arc<Mutex<Vec<u8>>>);

    impl Paper {
        pub(crate) fn new() -> (Printer, Self) {
            let paper = Self(Arc::default(), Arc::default());
            (Printer { out: paper.0.clone(), err: paper.1.clone() }, paper)
        }

        pub(crate) fn out(&self) -> String {
            String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
        }

        pub(crate) fn err(&self) -> String {
            String::from_utf8_lossy(&self.1.lock().unwrap()).into_owned()
        }
    }

    /// A printer whose standard output nobody reads any more.
    pub(crate) fn closed() -> Printer {
        struct Closed;
        impl Write for Closed {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        Printer { out: Arc::new(Mutex::new(Closed)), err: Arc::new(Mutex::new(Vec::new())) }
    }
}
