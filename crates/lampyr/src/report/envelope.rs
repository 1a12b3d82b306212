//! The envelope: one JSON object that says everything about a run.

use std::io;

use crate::core_api::envelope::{Gathered, envelope};
use crate::core_api::{Outcome, Output, OutputStream, RunError};
use crate::printer::Printer;

use super::Report;

/// Keeps what the command says for the envelope at the end.
pub(super) struct Envelope {
    gathered: Gathered,
    printer: Printer,
}

impl Envelope {
    pub(super) fn new(gathered: Gathered, printer: Printer) -> Self {
        Self { gathered, printer }
    }
}

impl Output for Envelope {
    fn write(&mut self, stream: OutputStream, bytes: &[u8]) -> io::Result<()> {
        self.gathered.write(stream, bytes)
    }
}

impl Report for Envelope {
    fn finish(self: Box<Self>, result: Result<Outcome, RunError>) -> io::Result<()> {
        let (stdout, stderr) = self.gathered.finish()?;
        self.printer.json(&envelope(&result, &stdout, &stderr))
    }
}
