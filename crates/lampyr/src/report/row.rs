//! One run of several: a line of JSON.

use std::io;

use serde_json::Value;

use crate::core_api::envelope::{Gathered, envelope};
use crate::core_api::{Outcome, Output, OutputStream, RunError};
use crate::settings::ReportSettings;

/// Keeps what one run says for its row.
pub(crate) struct Row(Gathered);

impl Row {
    /// A row that is still empty.
    pub(crate) fn new(settings: &ReportSettings) -> Self {
        Self(Gathered::new(settings.max_output, &settings.outputs))
    }

    /// The row of run number `run`: its envelope and the number.
    pub(crate) fn finish(self, run: u32, result: &Result<Outcome, RunError>) -> io::Result<Value> {
        let (stdout, stderr) = self.0.finish()?;
        let mut row = envelope(result, &stdout, &stderr);
        row["run"] = run.into();
        Ok(row)
    }
}

impl Output for Row {
    fn write(&mut self, stream: OutputStream, bytes: &[u8]) -> io::Result<()> {
        self.0.write(stream, bytes)
    }
}
