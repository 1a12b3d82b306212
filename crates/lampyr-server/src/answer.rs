//! What a command's end looks like. The objects are made by
//! [`lampyr_core::envelope`]; here is their shape, for the document.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;

/// How a command went that was started: it ran to its end, or it did not
#[derive(Debug, Deserialize, ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "the core makes it; this is its shape")]
pub(crate) enum Envelope {
    Ended(Ended),
    Failed(Failed),
}

/// A command that ran to its end
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "the core makes it; this is its shape")]
pub(crate) struct Ended {
    /// Its exit code; 128+n where signal n ended it
    exit_code: i32,
    /// From the request to run it until its end was known
    duration_ms: u64,
    /// Its standard output; bytes that are no UTF-8 appear as U+FFFD
    stdout: String,
    /// Its standard error, likewise
    stderr: String,
    /// Standard output in base64, where it is not valid UTF-8
    stdout_bytes: Option<String>,
    /// Standard error in base64, where it is not valid UTF-8
    stderr_bytes: Option<String>,
    /// What it used, what of the network was refused, what was cut
    meta: Option<BTreeMap<String, Value>>,
}

/// A command that did not run to its end
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "the core makes it; this is its shape")]
pub(crate) struct Failed {
    /// `timeout`, `vm_crashed`, `session_disconnected` or `connection_failed`
    error: String,
    /// One sentence
    message: String,
    /// A next step
    hint: Option<String>,
    /// How long it ran
    duration_ms: u64,
    /// What it had said on standard output
    partial_stdout: Option<String>,
    /// What it had said on standard error
    partial_stderr: Option<String>,
    /// Standard output in base64, where it is not valid UTF-8
    stdout_bytes: Option<String>,
    /// Standard error in base64, where it is not valid UTF-8
    stderr_bytes: Option<String>,
    /// What it used, what of the network was refused, what was cut
    meta: Option<BTreeMap<String, Value>>,
}

/// The data of an event `output`
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "the core makes it; this is its shape")]
pub(crate) struct OutputPiece {
    /// `stdout` or `stderr`
    stream: String,
    /// The piece as text. A character is never split between two
    data: String,
    /// The same in base64, where it is not valid UTF-8
    data_bytes: Option<String>,
}

/// Bytes as they are
#[derive(Debug, ToSchema)]
#[schema(value_type = String, format = Binary)]
#[expect(dead_code, reason = "bodies are passed on; this is their shape")]
pub(crate) struct RawBytes(Vec<u8>);
