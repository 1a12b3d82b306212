//! The envelope, and what holds for every one.

use std::ops::Deref;
use std::time::Duration;

use serde_json::Value;

use crate::Finished;

/// The errors there are; the last for `exec` only.
const ERRORS: [&str; 4] = ["timeout", "vm_crashed", "connection_failed", "session_disconnected"];

/// What `lampyr run` printed, checked against all that holds for every envelope.
#[derive(Debug)]
pub struct Envelope {
    value: Value,
    /// How long the process took.
    pub took: Duration,
    /// What it said on standard error.
    pub stderr: String,
}

impl Envelope {
    /// Reads the one line that a run prints. Whatever it says: its keys are
    /// sorted, it is a success or an error and never both, and the process
    /// exits as it says.
    pub(crate) fn read(finished: &Finished) -> Self {
        let text = String::from_utf8(finished.stdout.clone()).expect("an envelope is UTF-8");
        assert!(text.ends_with("}\n") && text.lines().count() == 1, "{finished:?}");
        let value: Value = serde_json::from_str(&text).expect("an envelope is JSON");
        // Maps are sorted here, so the text comes out the same only if it was.
        assert_eq!(format!("{value}\n").len(), text.len());
        assert!(format!("{value}\n") == text, "the keys are not sorted: {finished:?}");
        assert!(value["duration_ms"].is_u64(), "{finished:?}");
        let envelope = Self { value, took: finished.took, stderr: finished.stderr() };
        if let Some(code) = envelope.value["exit_code"].as_i64() {
            envelope.has_only(&["stdout", "stderr", "exit_code"], &[]);
            assert_eq!(finished.status().map(i64::from), Some(code), "{finished:?}");
        } else {
            envelope.has_only(&["error", "message"], &["hint"]);
            assert!(ERRORS.contains(&envelope.text("error")), "{finished:?}");
            assert_eq!(finished.status(), Some(1), "{finished:?}");
        }
        envelope
    }

    fn has_only(&self, needed: &[&str], possible: &[&str]) {
        let keys: Vec<_> = self.value.as_object().unwrap().keys().map(String::as_str).collect();
        let usual = ["duration_ms", "meta", "stdout_bytes", "stderr_bytes"];
        let partials = ["partial_stdout", "partial_stderr"];
        let failed = needed.contains(&"error");
        for key in &keys {
            let known = needed.contains(key)
                || possible.contains(key)
                || usual.contains(key)
                || (failed && partials.contains(key));
            assert!(known, "unknown key {key}: {:?}", self.value);
        }
        assert!(needed.iter().all(|key| keys.contains(key)), "{:?}", self.value);
    }

    /// A text in it.
    pub fn text(&self, key: &str) -> &str {
        let missing = || panic!("no {key} in {}", self.start());
        self.value[key].as_str().unwrap_or_else(missing)
    }

    /// Standard output of a command that ended with 0.
    pub fn success(&self) -> &str {
        assert_eq!(self.value["exit_code"], 0, "{}", self.start());
        self.text("stdout")
    }

    /// Requires an error; gives its sentence.
    pub fn error(&self, kind: &str) -> &str {
        assert_eq!(self.value["error"], kind, "{}", self.start());
        let partials = self.value.get("partial_stdout").is_some();
        assert_eq!(partials, self.value.get("partial_stderr").is_some());
        assert!(partials || kind == "connection_failed", "{}", self.start());
        let message = self.text("message");
        assert!(!message.is_empty() && !message.contains('\n'), "{message}");
        message
    }

    /// How long it says that the command took.
    pub fn duration(&self) -> Duration {
        Duration::from_millis(self.value["duration_ms"].as_u64().unwrap())
    }

    fn start(&self) -> String {
        self.value.to_string().chars().take(2000).collect()
    }
}

impl Deref for Envelope {
    type Target = Value;

    fn deref(&self) -> &Value {
        &self.value
    }
}
