//! `LAMPYR_OUTPUT=ndjson`: a line of JSON for every piece of output, and one
//! for how it ended.

use std::io;

use crate::core_api::envelope::{Splitter, closing, piece};
use crate::core_api::{Outcome, Output, OutputStream, Room, RunError};
use crate::outlet::Outlet;
use crate::printer::Printer;

use super::Report;

/// Prints a line for every piece.
pub(super) struct Ndjson {
    printer: Printer,
    outlet: Outlet,
    stdout: Splitter,
    stderr: Splitter,
}

impl Ndjson {
    pub(super) fn new(printer: Printer) -> Self {
        let outlet = Outlet::new(printer.clone());
        Self { printer, outlet, stdout: Splitter::default(), stderr: Splitter::default() }
    }
}

impl Output for Ndjson {
    fn write(&mut self, stream: OutputStream, bytes: &[u8]) -> io::Result<()> {
        let splitter = match stream {
            OutputStream::Stdout => &mut self.stdout,
            OutputStream::Stderr => &mut self.stderr,
        };
        match splitter.push(bytes) {
            whole if whole.is_empty() => Ok(()),
            whole => self.outlet.push(OutputStream::Stdout, line(stream, &whole).into_bytes()),
        }
    }

    fn room(&mut self) -> Room<'_> {
        Box::pin(self.outlet.room())
    }
}

impl Report for Ndjson {
    fn finish(mut self: Box<Self>, result: Result<Outcome, RunError>) -> io::Result<()> {
        self.outlet.close()?;
        let streams = [(OutputStream::Stdout, &self.stdout), (OutputStream::Stderr, &self.stderr)];
        for (stream, splitter) in streams {
            if !splitter.rest().is_empty() {
                self.printer.data(line(stream, splitter.rest()).as_bytes())?;
            }
        }
        self.printer.json(&closing(&result).into())
    }
}

/// The line for a piece of a stream.
fn line(stream: OutputStream, bytes: &[u8]) -> String {
    format!("{}\n", piece(stream, bytes))
}
