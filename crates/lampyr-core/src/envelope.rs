//! The envelope: what a command said and how it ended, as JSON. Every skin
//! tells it in these words.

use std::io;
use std::path::Path;
use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, Engine};
use lampyr_types::{ErrorKind, SandboxId};
use serde_json::{Map, Value, json};

use crate::capture::{Capture, Captured, Truncated};
use crate::{Denied, NetUse, Outcome, Output, OutputStream, Point, RunError, Usage};

/// Both streams of a command, kept until it ends.
#[derive(Debug)]
pub struct Gathered {
    stdout: Capture,
    stderr: Capture,
}

impl Gathered {
    /// Keeps `cap` bytes of each stream; a longer one goes whole into a file
    /// in `outputs`.
    pub fn new(cap: usize, outputs: &Path) -> Self {
        let id = SandboxId::random();
        let capture = |name| Capture::new(cap, outputs.join(format!("{id}.{name}")));
        Self { stdout: capture("stdout"), stderr: capture("stderr") }
    }

    /// Standard output and standard error.
    pub fn finish(self) -> io::Result<(Captured, Captured)> {
        Ok((self.stdout.finish()?, self.stderr.finish()?))
    }
}

impl Output for Gathered {
    fn write(&mut self, stream: OutputStream, bytes: &[u8]) -> io::Result<()> {
        match stream {
            OutputStream::Stdout => self.stdout.push(bytes),
            OutputStream::Stderr => self.stderr.push(bytes),
        }
    }
}

/// Milliseconds, to the tenth: how long a machine stood still.
pub fn millis(span: Duration) -> f64 {
    (span.as_secs_f64() * 10_000.0).round() / 10.0
}

/// When what a session can be taken back to was there, as RFC 3339 has it.
pub fn time(point: &Point) -> String {
    let ms = i64::try_from(point.at_ms).unwrap_or(i64::MAX);
    jiff::Timestamp::from_millisecond(ms).map(|at| at.to_string()).unwrap_or_default()
}

/// How long that took to save, or to go back to.
pub fn took(point: &Point) -> f64 {
    millis(Duration::from_micros(point.took_us))
}

/// The whole object.
pub fn envelope(result: &Result<Outcome, RunError>, stdout: &Captured, stderr: &Captured) -> Value {
    let mut object = closing(result);
    let streams = [("stdout", stdout), ("stderr", stderr)];
    if result.as_ref().map_or_else(has_partials, |_| true) {
        let prefix = if result.is_ok() { "" } else { "partial_" };
        for (name, stream) in streams {
            insert(&mut object, prefix, name, &stream.bytes);
        }
    }
    let long = streams.iter().filter_map(|(name, s)| Some((*name, s.truncated.as_ref()?)));
    let long: Map<_, _> = long.map(|(name, cut)| (name.to_owned(), truncated(cut))).collect();
    if !long.is_empty() {
        object.entry("meta").or_insert_with(|| json!({}))["truncated"] = long.into();
    }
    object.into()
}

/// All but the streams: how the run ended.
pub fn closing(result: &Result<Outcome, RunError>) -> Map<String, Value> {
    let mut object = Map::new();
    let (duration, usage) = match result {
        Ok(outcome) => {
            object.insert("exit_code".to_owned(), outcome.exit_code.into());
            (outcome.duration, &outcome.usage)
        }
        Err(error) => {
            object.insert("error".to_owned(), error.kind.word().into());
            object.insert("message".to_owned(), error.message.clone().into());
            object.extend(error.hint.clone().map(|hint| ("hint".to_owned(), hint.into())));
            (error.duration, &*error.usage)
        }
    };
    object.insert("duration_ms".to_owned(), (duration.as_millis() as u64).into());
    object.extend(meta(usage).map(|meta| ("meta".to_owned(), meta)));
    object
}

/// Whether an error says what the command had said.
fn has_partials(error: &RunError) -> bool {
    error.started || matches!(error.kind, ErrorKind::Timeout | ErrorKind::VmCrashed)
}

/// A stream as text, and as base64 where text cannot hold it.
fn insert(object: &mut Map<String, Value>, prefix: &str, name: &str, bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes).into_owned();
    object.insert(format!("{prefix}{name}"), text.into());
    if std::str::from_utf8(bytes).is_err() {
        object.insert(format!("{name}_bytes"), BASE64_STANDARD.encode(bytes).into());
    }
}

/// What the command used, where there is anything to say.
fn meta(usage: &Usage) -> Option<Value> {
    let facts = [
        ("cpu_ms", usage.cpu_ms.map(Value::from)),
        ("peak_memory_bytes", usage.peak_memory_bytes.map(Value::from)),
        ("read_bytes", usage.read_bytes.map(Value::from)),
        ("write_bytes", usage.write_bytes.map(Value::from)),
        ("disk_full", usage.disk_full.then_some(Value::Bool(true))),
        ("left_running", usage.left_running.then_some(Value::Bool(true))),
        ("oom", usage.oom.then_some(Value::Bool(true))),
        ("pids_limit", usage.pids_limit.then_some(Value::Bool(true))),
        ("net", usage.net.as_deref().map(net)),
        ("denied", usage.net.as_deref().and_then(denied)),
    ];
    let known = facts.into_iter().filter_map(|(key, fact)| Some((key.to_owned(), fact?)));
    let known: Map<_, _> = known.collect();
    (!known.is_empty()).then_some(known.into())
}

fn net(used: &NetUse) -> Value {
    let NetUse { sent, received, connections, .. } = used;
    json!({"sent_bytes": sent, "received_bytes": received, "connections": connections})
}

/// What was refused, where anything was.
fn denied(used: &NetUse) -> Option<Value> {
    let row = |denied: &Denied| {
        let Denied { host, port, proto, reason, rule_hint, count } = denied;
        let mut row = json!({"host": host, "port": port, "proto": proto, "reason": reason});
        row["count"] = (*count).into();
        if let Some(hint) = rule_hint {
            row["rule_hint"] = hint.clone().into();
        }
        row
    };
    (!used.denied.is_empty()).then(|| used.denied.iter().map(row).collect())
}

fn truncated(cut: &Truncated) -> Value {
    let (total, kept) = (cut.total_bytes, cut.kept_bytes);
    let file = cut.file.to_string_lossy();
    let mut told = json!({"total_bytes": total, "kept_bytes": kept, "file": file});
    if !cut.is_whole() {
        told["file_bytes"] = cut.file_bytes.into();
    }
    told
}

/// A piece of a stream: text, and base64 where text cannot hold it.
pub fn piece(stream: OutputStream, bytes: &[u8]) -> Value {
    let mut line = json!({"stream": stream.word(), "data": String::from_utf8_lossy(bytes)});
    if std::str::from_utf8(bytes).is_err() {
        line["data_bytes"] = BASE64_STANDARD.encode(bytes).into();
    }
    line
}

/// Holds back the beginning of a character whose end has not come yet.
#[derive(Debug, Default)]
pub struct Splitter {
    rest: Vec<u8>,
}

impl Splitter {
    /// Adds bytes and returns all that ends with a whole character.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut whole = std::mem::take(&mut self.rest);
        whole.extend_from_slice(bytes);
        self.rest = whole.split_off(whole.len() - unfinished(&whole));
        whole
    }

    /// What is still held back: a character that never ended.
    pub fn rest(&self) -> &[u8] {
        &self.rest
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
            .map(|piece| {
                super::piece(OutputStream::Stdout, piece)["data"].as_str().unwrap().to_owned()
            })
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
