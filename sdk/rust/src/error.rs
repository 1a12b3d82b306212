//! What can go wrong.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::output::whole;

/// The kinds of failure, by the words that every skin of Lampyr has for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// What was asked for makes no sense, or is in conflict with what is there.
    Usage,
    /// Something took longer than it may.
    Timeout,
    /// The virtual machine ended by itself.
    VmCrashed,
    /// There is no such sandbox, snapshot, volume or image, none that is of use,
    /// no way to it, or no Lampyr.
    ConnectionFailed,
    /// The sandbox was stopped meanwhile, or who owned it died.
    SessionDisconnected,
}

impl ErrorKind {
    /// The word that the HTTP API and the command line have for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Usage => "usage",
            Self::Timeout => "timeout",
            Self::VmCrashed => "vm_crashed",
            Self::ConnectionFailed => "connection_failed",
            Self::SessionDisconnected => "session_disconnected",
        }
    }

    /// A kind that this version does not know is a failed connection.
    fn of(word: &str) -> Self {
        let all = [Self::Usage, Self::Timeout, Self::VmCrashed, Self::SessionDisconnected];
        all.into_iter().find(|kind| kind.as_str() == word).unwrap_or(Self::ConnectionFailed)
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Whatever goes wrong in Lampyr. Each kind of failure has a variant, and a step
/// of a setup that failed has one besides.
///
/// ```no_run
/// # #[tokio::main]
/// # async fn main() -> Result<(), lampyr_sdk::Error> {
/// use lampyr_sdk::{Error, ErrorKind, connect_to_sandbox};
///
/// match connect_to_sandbox("nobody").await {
///     Err(Error::ConnectionFailed(why)) => {
///         assert_eq!(why.message(), "session 'nobody' not found");
///         assert_eq!(why.status(), Some(404));
///     }
///     Err(other) => assert_eq!(other.kind(), ErrorKind::Timeout),
///     Ok(sandbox) => panic!("{sandbox:?}"),
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// What was asked for makes no sense, or is in conflict with what is there.
    #[error(transparent)]
    Usage(Box<Failure>),
    /// Something took longer than it may.
    #[error(transparent)]
    Timeout(Box<Failure>),
    /// The virtual machine ended by itself.
    #[error(transparent)]
    VmCrashed(Box<Failure>),
    /// There is no such sandbox, snapshot, volume or image, none that is of use,
    /// no way to it, or no Lampyr.
    #[error(transparent)]
    ConnectionFailed(Box<Failure>),
    /// The sandbox was stopped meanwhile, or who owned it died.
    #[error(transparent)]
    SessionDisconnected(Box<Failure>),
    /// A step of a snapshot's setup failed. Its kind is what the server says.
    #[error(transparent)]
    Setup(Box<SetupFailure>),
}

impl Error {
    /// What kind of failure it is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Usage(_) => ErrorKind::Usage,
            Self::Setup(setup) => setup.kind,
            Self::Timeout(_) => ErrorKind::Timeout,
            Self::VmCrashed(_) => ErrorKind::VmCrashed,
            Self::ConnectionFailed(_) => ErrorKind::ConnectionFailed,
            Self::SessionDisconnected(_) => ErrorKind::SessionDisconnected,
        }
    }

    /// What is known of it, whatever its kind.
    pub fn failure(&self) -> &Failure {
        match self {
            Self::Usage(failure)
            | Self::Timeout(failure)
            | Self::VmCrashed(failure)
            | Self::ConnectionFailed(failure)
            | Self::SessionDisconnected(failure) => failure,
            Self::Setup(setup) => &setup.failure,
        }
    }

    /// One sentence.
    pub fn message(&self) -> &str {
        self.failure().message()
    }

    /// A next step, where there is one.
    pub fn hint(&self) -> Option<&str> {
        self.failure().hint()
    }

    /// Whether it says that something does not exist.
    pub(crate) fn is_missing(&self) -> bool {
        self.failure().status == Some(404)
    }

    /// Adds what the command had said by then.
    pub(crate) fn having_said(mut self, stdout: Vec<u8>, stderr: Vec<u8>) -> Self {
        if let Self::Usage(failure)
        | Self::Timeout(failure)
        | Self::VmCrashed(failure)
        | Self::ConnectionFailed(failure)
        | Self::SessionDisconnected(failure) = &mut self
        {
            (failure.stdout, failure.stderr) = (stdout, stderr);
        }
        self
    }

    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Failure::new(message).of(ErrorKind::Usage)
    }

    pub(crate) fn connection(message: impl Into<String>) -> Self {
        Failure::new(message).of(ErrorKind::ConnectionFailed)
    }
}

/// What is known of a failure.
#[derive(Default)]
pub struct Failure {
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
    pub(crate) status: Option<u16>,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
    pub(crate) source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Failure {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), ..Self::default() }
    }

    /// Adds a next step.
    pub(crate) fn hint_at(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    /// Adds what it comes from.
    pub(crate) fn because(
        self,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self { source: Some(source.into()), ..self }
    }

    pub(crate) fn of(self, kind: ErrorKind) -> Error {
        let this = Box::new(self);
        match kind {
            ErrorKind::Usage => Error::Usage(this),
            ErrorKind::Timeout => Error::Timeout(this),
            ErrorKind::VmCrashed => Error::VmCrashed(this),
            ErrorKind::ConnectionFailed => Error::ConnectionFailed(this),
            ErrorKind::SessionDisconnected => Error::SessionDisconnected(this),
        }
    }

    /// One sentence.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// A next step, where there is one.
    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// The HTTP status of the answer, where there was one: 404 is for what does
    /// not exist, 409 where something is in the way, 410 for a sandbox that has
    /// ended, 422 for a snapshot that is damaged or does not fit this host.
    pub fn status(&self) -> Option<u16> {
        self.status
    }

    /// What the command had said on standard output before it failed; bytes that
    /// are no UTF-8 appear as U+FFFD.
    pub fn stdout(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.stdout)
    }

    /// What it had said on standard error, likewise.
    pub fn stderr(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.stderr)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        self.hint.as_ref().map_or(Ok(()), |hint| write!(f, " ({hint})"))
    }
}

/// Only what there is to say: a `main` that returns an error prints it so.
impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { message, hint, status, source, .. } = self;
        let (stdout, stderr) = (self.stdout(), self.stderr());
        let said = |text| Some(text).filter(|text: &&Cow<'_, str>| !text.is_empty());
        let known: [(&str, Option<&dyn fmt::Debug>); 5] = [
            ("hint", hint.as_ref().map(|hint| hint as _)),
            ("status", status.as_ref().map(|status| status as _)),
            ("stdout", said(&stdout).map(|text| text as _)),
            ("stderr", said(&stderr).map(|text| text as _)),
            ("source", source.as_ref().map(|source| source as _)),
        ];
        let mut shown = f.debug_struct("Failure");
        shown.field("message", message);
        for (name, value) in known {
            value.map(|value| shown.field(name, value));
        }
        shown.finish_non_exhaustive()
    }
}

impl std::error::Error for Failure {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

/// A step of a snapshot's setup that failed.
#[derive(Debug, thiserror::Error)]
#[error("{failure}")]
pub struct SetupFailure {
    kind: ErrorKind,
    failure: Failure,
    step: FailedStep,
    output: String,
}

impl SetupFailure {
    /// Which step it was, from 1.
    pub fn step(&self) -> usize {
        self.step.index
    }

    /// What the step is called: its description, or what it runs.
    pub fn step_name(&self) -> &str {
        &self.step.description
    }

    /// The step's exit code.
    pub fn code(&self) -> i32 {
        self.step.exit_code
    }

    /// The end of what it said, both streams together.
    pub fn output(&self) -> &str {
        &self.output
    }
}

#[derive(Debug, Deserialize)]
struct FailedStep {
    index: usize,
    description: String,
    exit_code: i32,
}

/// A failure as the server tells it: the body of an answer that is no success,
/// how a command failed, or how a build did.
#[derive(Debug, Deserialize)]
pub(crate) struct Told {
    error: String,
    message: String,
    hint: Option<String>,
    step: Option<FailedStep>,
    output: Option<String>,
    partial_stdout: Option<String>,
    partial_stderr: Option<String>,
    stdout_bytes: Option<String>,
    stderr_bytes: Option<String>,
}

impl Told {
    /// The failure in an object, if it tells of one.
    pub(crate) fn read(object: &Map<String, Value>) -> Option<Self> {
        Self::deserialize(object).ok()
    }

    pub(crate) fn failed(self, status: Option<u16>) -> Error {
        let stdout = whole(self.partial_stdout, self.stdout_bytes.as_deref());
        let stderr = whole(self.partial_stderr, self.stderr_bytes.as_deref());
        let failure = Failure { hint: self.hint, status, ..Failure::new(self.message) };
        let kind = ErrorKind::of(&self.error);
        match self.step {
            Some(step) => {
                let output = self.output.unwrap_or_default();
                Error::Setup(Box::new(SetupFailure { kind, failure, step, output }))
            }
            None => failure.of(kind).having_said(stdout, stderr),
        }
    }
}

/// What an answer says that is no success.
pub(crate) fn refusal(status: u16, body: &[u8]) -> Error {
    match serde_json::from_slice::<Told>(body) {
        Ok(told) => told.failed(Some(status)),
        Err(_) => {
            let said = String::from_utf8_lossy(body);
            let said: String = said.trim().chars().take(MAX_SAID).collect();
            let what = format!("lampyr's server answered with {status}");
            let message = if said.is_empty() { what } else { format!("{what}: {said}") };
            Failure { status: Some(status), ..Failure::new(message) }
                .of(ErrorKind::ConnectionFailed)
        }
    }
}

/// How much is repeated of an answer that is no error of ours, in characters.
const MAX_SAID: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::error::Error as _;

    #[test]
    fn an_error_keeps_kind_message_hint_and_status() {
        let kinds = ["usage", "timeout", "vm_crashed", "connection_failed", "session_disconnected"];
        for word in kinds {
            let body = format!(r#"{{"error":"{word}","message":"No.","hint":"Go."}}"#);
            let error = refusal(409, body.as_bytes());
            assert_eq!(error.kind().to_string(), word);
            assert_eq!((error.message(), error.hint()), ("No.", Some("Go.")));
            assert_eq!(error.failure().status(), Some(409));
            assert_eq!(error.to_string(), "No. (Go.)");
        }
        let body = br#"{"error":"of_tomorrow","message":"New."}"#;
        let error = refusal(500, body);
        assert_eq!((error.kind(), error.hint()), (ErrorKind::ConnectionFailed, None));
    }

    #[test]
    fn an_answer_of_somebody_else_is_told_and_cut() {
        let error = refusal(502, b"<html>Bad Gateway</html>\n");
        assert_eq!(error.message(), "lampyr's server answered with 502: <html>Bad Gateway</html>");
        assert_eq!(refusal(500, b"").message(), "lampyr's server answered with 500");
        assert_eq!(
            format!("{:?}", refusal(500, b"").failure()),
            r#"Failure { message: "lampyr's server answered with 500", status: 500, .. }"#
        );
        assert!(refusal(500, &vec![b'x'; 1 << 20]).message().len() < 300);
    }

    #[test]
    fn a_step_that_failed_says_which() {
        let body = br#"{"error":"connection_failed","message":"step 2","output":"no\n",
            "step":{"index":2,"count":3,"description":"read it","exit_code":7}}"#;
        let error = refusal(400, body);
        assert_eq!(error.kind(), ErrorKind::ConnectionFailed);
        let Error::Setup(setup) = error else { panic!("{error:?}") };
        assert_eq!((setup.step(), setup.step_name(), setup.code()), (2, "read it", 7));
        assert_eq!(setup.output(), "no\n");
    }

    #[test]
    fn what_a_command_had_said_is_kept() {
        let body = br#"{"error":"timeout","message":"late","duration_ms":5,
            "partial_stdout":"\ufffd","stdout_bytes":"/w==","partial_stderr":"so"}"#;
        let error = refusal(200, body);
        assert_eq!(error.failure().stdout, [0xff]);
        assert_eq!(
            (error.failure().stdout(), error.failure().stderr()),
            ("\u{fffd}".into(), "so".into())
        );
    }

    #[test]
    fn an_error_keeps_its_source() {
        let cause = std::io::Error::other("broken");
        let error = Failure::new("no").because(cause).of(ErrorKind::ConnectionFailed);
        assert_eq!(error.source().unwrap().to_string(), "broken");
    }

    proptest! {
        #[test]
        fn whatever_a_server_says_is_an_error(status in 300..600_u16, body in any::<Vec<u8>>()) {
            let error = refusal(status, &body);
            prop_assert!(!error.message().is_empty());
            prop_assert_eq!(error.failure().status(), Some(status));
        }
    }
}
