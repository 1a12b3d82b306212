//! The envelope: one JSON object that says everything about a run.

use std::io;

use base64::prelude::{BASE64_STANDARD, Engine};
use lampyr_types::ErrorKind;
use serde_json::{Map, Value, json};

use crate::core_api::capture::{Captured, Truncated};
use crate::core_api::{Denied, NetUse, Outcome, Output, OutputStream, RunError, Usage};
use crate::printer::Printer;

use super::Report;
use super::gathered::Gathered;

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
        self.gathered.push(stream, bytes)
    }
}

impl Report for Envelope {
    fn finish(self: Box<Self>, result: Result<Outcome, RunError>) -> io::Result<()> {
        let (stdout, stderr) = self.gathered.finish()?;
        self.printer.json(&envelope(&result, &stdout, &stderr))
    }
}

/// The whole object.
pub(super) fn envelope(
    result: &Result<Outcome, RunError>,
    stdout: &Captured,
    stderr: &Captured,
) -> Value {
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
pub(super) fn closing(result: &Result<Outcome, RunError>) -> Map<String, Value> {
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
