//! `LAMPYR_OUTPUT=ndjson`: a line of JSON for every piece of output, and one
//! for how it ended.

use std::io;

use base64::prelude::{BASE64_STANDARD, Engine};
use serde_json::{Value, json};

use crate::core_api::{Outcome, Output, OutputStream, Room, RunError};
use crate::outlet::Outlet;
use crate::printer::Printer;

use super::Report;
use super::envelope::closing;

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
        let (name, splitter) = match stream {
            OutputStream::Stdout => ("stdout", &mut self.stdout),
            OutputStream::Stderr => ("stderr", &mut self.stderr),
        };
        match splitter.push(bytes) {
            whole if whole.is_empty() => Ok(()),
            whole => self.outlet.push(OutputStream::Stdout, line(name, &whole).into_bytes()),
        }
    }

    fn room(&mut self) -> Room<'_> {
        Box::pin(self.outlet.room())
    }
}

impl Report for Ndjson {
    fn finish(mut self: Box<Self>, result: Result<Outcome, RunError>) -> io::Result<()> {
        self.outlet.close()?;
        for (name, rest) in [("stdout", &self.stdout.rest), ("stderr", &self.stderr.rest)] {
            if !rest.is_empty() {
                self.printer.data(line(name, rest).as_bytes())?;
            }
        }
        self.printer.json(&closing(&result).into())
    }
}

/// The line for a piece of a stream: text, and base64 where text cannot hold it.
fn line(name: &str, bytes: &[u8]) -> String {
    format!("{}\n", value(name, bytes))
}

fn value(name: &str, bytes: &[u8]) -> Value {
    let mut line = json!({"stream": name, "data": String::from_utf8_lossy(bytes)});
    if std::str::from_utf8(bytes).is_err() {
        line["data_bytes"] = BASE64_STANDARD.encode(bytes).into();
    }
    line
}

/// Holds back the beginning of a character whose end has not come yet.
#[derive(Default)]
struct Splitter {
    rest: Vec<u8>,
}

impl Splitter {
    /// Adds bytes and returns all that ends with a whole character.
    fn push(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut whole = std::mem::take(&mut self.rest);
        whole.extend_from_slice(bytes);
        self.rest = whole.split_off(whole.len() - unfinished(&whole));
        whole
    }
}

/// How many bytes at the end are the beginning of a character.
fn unfinished(bytes: &[u8]) -> usize {
    let last = bytes.utf8_chunks().last().map_or(&[][..], |chunk| chunk.invalid());
    match std::str::from_utf8(last) {
        Err(e) if e.error_len().is_none() => last.len(),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The data of a stream that came in `chunks`.
    fn data(chunks: &[Vec<u8>]) -> String {
        let mut splitter = Splitter::default();
        let mut pieces: Vec<_> = chunks.iter().map(|chunk| splitter.push(chunk)).collect();
        pieces.push(splitter.rest);
        pieces
            .iter()
            .map(|piece| value("stdout", piece)["data"].as_str().unwrap().to_owned())
            .collect()
    }

    proptest! {
        #[test]
        fn bytes_arrive_as_one_lossy_text(chunks: Vec<Vec<u8>>) {
            let whole = chunks.concat();
            prop_assert_eq!(data(&chunks), String::from_utf8_lossy(&whole));
        }

        #[test]
        fn text_arrives_whole(text in "[a-zä€𝄞]{0,20}", size in 1_usize..5) {
            let chunks: Vec<_> = text.as_bytes().chunks(size).map(<[u8]>::to_vec).collect();
            prop_assert_eq!(data(&chunks), text);
        }
    }
}
