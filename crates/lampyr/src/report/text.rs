//! For people: the command's own bytes, each on its own stream.

use std::io;

use crate::core_api::capture::Captured;
use crate::core_api::envelope::Gathered;
use crate::core_api::{Outcome, Output, OutputStream, Room, RunError};
use crate::outlet::Outlet;
use crate::printer::Printer;

use super::Report;

/// Prints the bytes as they come.
pub(super) struct Streamed {
    printer: Printer,
    outlet: Outlet,
    failed: Option<io::ErrorKind>,
}

impl Streamed {
    pub(super) fn new(printer: Printer) -> Self {
        Self { outlet: Outlet::new(printer.clone()), printer, failed: None }
    }
}

impl Output for Streamed {
    fn write(&mut self, stream: OutputStream, bytes: &[u8]) -> io::Result<()> {
        let taken = self.outlet.push(stream, bytes.to_vec());
        taken.inspect_err(|e| self.failed = Some(e.kind()))
    }

    fn room(&mut self) -> Room<'_> {
        Box::pin(self.outlet.room())
    }
}

impl Report for Streamed {
    fn finish(mut self: Box<Self>, result: Result<Outcome, RunError>) -> io::Result<()> {
        // A run that ended because nobody reads on is not the run's failure.
        if let Some(kind) = self.failed {
            return Err(kind.into());
        }
        self.outlet.close()?;
        tell(&self.printer, &result);
        Ok(())
    }
}

/// Prints the bytes when the command has ended.
pub(super) struct AtEnd {
    gathered: Gathered,
    printer: Printer,
}

impl AtEnd {
    pub(super) fn new(gathered: Gathered, printer: Printer) -> Self {
        Self { gathered, printer }
    }
}

impl Output for AtEnd {
    fn write(&mut self, stream: OutputStream, bytes: &[u8]) -> io::Result<()> {
        self.gathered.write(stream, bytes)
    }
}

impl Report for AtEnd {
    fn finish(self: Box<Self>, result: Result<Outcome, RunError>) -> io::Result<()> {
        let (stdout, stderr) = self.gathered.finish()?;
        self.printer.stream(OutputStream::Stdout, &stdout.bytes)?;
        self.printer.stream(OutputStream::Stderr, &stderr.bytes)?;
        warn(&self.printer, "standard output", &stdout);
        warn(&self.printer, "standard error", &stderr);
        tell(&self.printer, &result);
        Ok(())
    }
}

/// Says where the whole of a stream is that was cut.
fn warn(printer: &Printer, name: &str, stream: &Captured) {
    if let Some(cut) = &stream.truncated {
        let (kept, total) = (cut.kept_bytes, cut.total_bytes);
        printer.note(&format!("warning: {name} was cut to {kept} of {total} bytes"));
        let held = cut.file_bytes;
        let what =
            if cut.is_whole() { "all of it is".into() } else { format!("the first {held} are") };
        printer.note(&format!("hint: {what} in {}", cut.file.display()));
    }
}

fn tell(printer: &Printer, result: &Result<Outcome, RunError>) {
    if let Err(error) = result {
        printer.error(&error.message, error.hint.as_deref());
    }
}
