//! How a run is told: as an envelope, as plain bytes or as lines of JSON.

mod envelope;
mod ndjson;
mod row;
mod text;

use std::io;

use crate::core_api::envelope::Gathered;
use crate::core_api::{Outcome, Output, RunError};
use crate::printer::Printer;
use crate::settings::{ReportSettings, RunFormat};

pub(crate) use row::Row;

/// Takes what a command says and how it ended.
pub(crate) trait Report: Output {
    /// Prints what is still to be printed.
    fn finish(self: Box<Self>, result: Result<Outcome, RunError>) -> io::Result<()>;
}

/// The report that the settings ask for.
pub(crate) fn new(settings: &ReportSettings, printer: &Printer) -> Box<dyn Report> {
    let printer = printer.clone();
    let gathered = || Gathered::new(settings.max_output, &settings.outputs);
    match settings.format {
        RunFormat::Envelope => Box::new(envelope::Envelope::new(gathered(), printer)),
        RunFormat::AtEnd => Box::new(text::AtEnd::new(gathered(), printer)),
        RunFormat::Streamed => Box::new(text::Streamed::new(printer)),
        RunFormat::Ndjson => Box::new(ndjson::Ndjson::new(printer)),
    }
}

#[cfg(test)]
mod tests;
