//! What a command said, byte for byte.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, Engine};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::error::{Error, Told};

/// Bytes that are told as text, and in base64 where they are none.
pub(crate) fn whole(text: Option<String>, base64: Option<&str>) -> Vec<u8> {
    let decoded = base64.and_then(|base64| BASE64_STANDARD.decode(base64).ok());
    decoded.unwrap_or_else(|| text.unwrap_or_default().into_bytes())
}

/// A command that ran to its end, whatever its exit code, and what it had said.
#[derive(Clone, PartialEq)]
pub struct ExecOutput {
    pub(crate) code: i32,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
    pub(crate) duration: Duration,
    pub(crate) meta: Map<String, Value>,
}

impl ExecOutput {
    /// Its exit code; 128+n where signal n ended it.
    pub fn code(&self) -> i32 {
        self.code
    }

    /// Whether the exit code is 0.
    pub fn success(&self) -> bool {
        self.code == 0
    }

    /// Standard output as text; bytes that are no UTF-8 appear as U+FFFD.
    pub fn stdout(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.stdout)
    }

    /// Standard error, likewise.
    pub fn stderr(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.stderr)
    }

    /// Standard output as it is.
    pub fn stdout_bytes(&self) -> &[u8] {
        &self.stdout
    }

    /// Standard error as it is.
    pub fn stderr_bytes(&self) -> &[u8] {
        &self.stderr
    }

    /// From the request to run it until its end was known.
    pub fn duration(&self) -> Duration {
        self.duration
    }

    /// What it used, what of the network was refused, what was cut.
    pub fn meta(&self) -> &Map<String, Value> {
        &self.meta
    }

    /// Whether it said more than is here; `truncated` in [`meta`](Self::meta)
    /// tells where the rest is.
    pub fn truncated(&self) -> bool {
        self.meta.contains_key("truncated")
    }

    /// What the server says of a command's end: see
    /// docs/reference/envelope.md.
    pub(crate) fn read(envelope: Map<String, Value>) -> Result<Self, Error> {
        if let Some(told) = Told::read(&envelope) {
            return Err(told.failed(None));
        }
        let ended = Ended::deserialize(Value::Object(envelope));
        let ended = ended.map_err(|e| Error::connection(format!("no end of a command: {e}")))?;
        Ok(Self {
            code: ended.exit_code,
            stdout: whole(ended.stdout, ended.stdout_bytes.as_deref()),
            stderr: whole(ended.stderr, ended.stderr_bytes.as_deref()),
            duration: Duration::from_millis(ended.duration_ms),
            meta: ended.meta,
        })
    }
}

impl fmt::Debug for ExecOutput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExecOutput")
            .field("code", &self.code)
            .field("stdout", &self.stdout())
            .field("stderr", &self.stderr())
            .field("duration", &self.duration)
            .field("meta", &self.meta)
            .finish()
    }
}

#[derive(Deserialize)]
struct Ended {
    exit_code: i32,
    duration_ms: u64,
    stdout: Option<String>,
    stderr: Option<String>,
    stdout_bytes: Option<String>,
    stderr_bytes: Option<String>,
    #[serde(default)]
    meta: Map<String, Value>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(envelope: Value) -> Result<ExecOutput, Error> {
        let Value::Object(envelope) = envelope else { panic!("no object") };
        ExecOutput::read(envelope)
    }

    #[test]
    fn bytes_that_are_no_text_are_whole() {
        let output = read(json!({
            "exit_code": 3, "duration_ms": 12, "stdout": "\u{fffd}a", "stdout_bytes": "/2E=",
            "stderr": "e", "meta": {"truncated": {}},
        }))
        .unwrap();
        assert_eq!((output.code(), output.success(), output.truncated()), (3, false, true));
        assert_eq!((output.stdout_bytes(), output.stderr_bytes()), (&b"\xffa"[..], &b"e"[..]));
        assert_eq!(output.stdout(), "\u{fffd}a");
        assert_eq!(output.duration(), Duration::from_millis(12));
    }

    #[test]
    fn an_end_that_is_none_is_an_error() {
        let told = read(json!({"error": "vm_crashed", "message": "It died.", "duration_ms": 1}));
        assert_eq!(told.unwrap_err().kind(), crate::ErrorKind::VmCrashed);
        assert_eq!(read(json!({})).unwrap_err().kind(), crate::ErrorKind::ConnectionFailed);
    }
}
