//! Commands in a sandbox.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, Engine};
use serde::Serialize;

use crate::asking::asking;
use crate::error::{Error, ErrorKind, Failure};
use crate::http::{Ask, call, route};
use crate::launch::span;
use crate::output::ExecOutput;
use crate::stream::{ExecStream, Input};

/// The longest standard input that goes along with the request, in bytes.
const MAX_INPUT: usize = 20 << 20;

/// A command to run; see [`Sandbox::exec`](crate::Sandbox::exec) and
/// [`Sandbox::shell`](crate::Sandbox::shell).
///
/// Awaiting it runs it to its end. An exit code that is not 0 is no error; a
/// command that could not be run to its end is one, and keeps what it had said.
///
/// ```no_run
/// # #[tokio::main]
/// # async fn main() -> Result<(), lampyr_sdk::Error> {
/// # let sandbox = lampyr_sdk::launch_sandbox(lampyr_sdk::LaunchOptions::new("agent")).await?;
/// use std::time::Duration;
/// use lampyr_sdk::Error;
///
/// let slow = sandbox.shell("echo begun; sleep 60").timeout(Duration::from_secs(2));
/// match slow.await {
///     Err(Error::Timeout(why)) => assert_eq!(why.stdout(), "begun\n"),
///     other => panic!("{other:?}"),
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
#[must_use = "it is run once it is awaited"]
pub struct Exec<'a> {
    sandbox: &'a str,
    asked: Asked,
    stdin: Vec<u8>,
    piped: bool,
}

/// A command as the server takes it.
#[derive(Debug, Clone, Default, Serialize)]
struct Asked {
    #[serde(skip_serializing_if = "Option::is_none")]
    command: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    argv: Vec<String>,
    env: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    workdir: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timeout: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stdin_bytes: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tty: Option<Tty>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_output: Option<String>,
}

/// The size of a terminal, in characters.
#[derive(Debug, Clone, Copy, Serialize)]
struct Tty {
    rows: u16,
    columns: u16,
}

impl<'a> Exec<'a> {
    pub(crate) fn program(sandbox: &'a str, cmd: String) -> Self {
        Self::new(sandbox, Asked { argv: vec![cmd], ..Asked::default() })
    }

    pub(crate) fn script(sandbox: &'a str, script: String) -> Self {
        Self::new(sandbox, Asked { command: Some(script), ..Asked::default() })
    }

    fn new(sandbox: &'a str, asked: Asked) -> Self {
        Self { sandbox, asked, stdin: Vec::new(), piped: false }
    }

    fn with(mut self, say: impl FnOnce(&mut Asked)) -> Self {
        say(&mut self.asked);
        self
    }

    /// One more argument: of the program, or `$0`, `$1` and so on of a script.
    pub fn arg(self, arg: impl Into<String>) -> Self {
        self.args([arg])
    }

    /// More arguments.
    pub fn args(self, args: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.with(|asked| {
            if let Some(script) = asked.command.take() {
                asked.argv = ["/bin/sh".into(), "-c".into(), script].into();
            }
            asked.argv.extend(args.into_iter().map(Into::into));
        })
    }

    /// An environment variable, over the sandbox's.
    pub fn env(self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.with(|asked| drop(asked.env.insert(key.into(), value.into())))
    }

    /// The directory that it starts in, absolute. Else the sandbox's `workdir`,
    /// the image's, or the user's home.
    pub fn cwd(self, cwd: impl Into<String>) -> Self {
        self.with(|asked| asked.workdir = Some(cwd.into()))
    }

    /// The user that it runs as, by name or number. Else the image's, or root.
    pub fn user(self, user: impl Into<String>) -> Self {
        self.with(|asked| asked.user = Some(user.into()))
    }

    /// Its standard input, 20 MiB at most; it has none where nothing is said.
    /// For more, [pipe](Self::pipe_stdin) it in or copy a file.
    pub fn stdin(self, stdin: impl Into<Vec<u8>>) -> Self {
        Self { stdin: stdin.into(), ..self }
    }

    /// How long it may run; as long as it likes where nothing is said.
    pub fn timeout(self, timeout: Duration) -> Self {
        self.with(|asked| asked.timeout = Some(span(timeout)))
    }

    /// How much of each output stream is kept, as in `"16MB"`; 64 MB where
    /// nothing is said. A [stream](Self::stream) keeps nothing.
    pub fn max_output(self, most: impl Into<String>) -> Self {
        self.with(|asked| asked.max_output = Some(most.into()))
    }

    /// Leaves the standard input of a [stream](Self::stream) open;
    /// [`ExecStream::take_stdin`] gives it.
    pub fn pipe_stdin(self) -> Self {
        Self { piped: true, ..self }
    }

    /// Gives a [stream](Self::stream) a terminal of this size, in characters.
    /// Both its outputs are one then.
    pub fn tty(self, rows: u16, columns: u16) -> Self {
        self.with(|asked| asked.tty = Some(Tty { rows, columns }))
    }

    /// Starts it, to be heard as it speaks.
    ///
    /// ```no_run
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), lampyr_sdk::Error> {
    /// # let sandbox = lampyr_sdk::launch_sandbox(lampyr_sdk::LaunchOptions::new("agent")).await?;
    /// use lampyr_sdk::ExecEvent;
    ///
    /// let mut stream = sandbox.shell("echo one; echo two >&2; exit 4").stream().await?;
    /// while let Some(event) = stream.recv().await? {
    ///     match event {
    ///         ExecEvent::Stdout(bytes) => assert_eq!(bytes, b"one\n"),
    ///         ExecEvent::Stderr(bytes) => assert_eq!(bytes, b"two\n"),
    ///         ExecEvent::Exited(code) => assert_eq!(code, 4),
    ///         _ => {}
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn stream(self) -> Result<ExecStream, Error> {
        let Self { sandbox, asked, stdin, piped } = self;
        let order = serde_json::to_string(&asked).map_err(|e| Error::usage(e.to_string()))?;
        ExecStream::start(sandbox, order, Input { first: stdin, piped }).await
    }

    async fn run(self) -> Result<ExecOutput, Error> {
        let Self { sandbox, mut asked, stdin, piped } = self;
        if piped || asked.tty.is_some() {
            return Err(Error::usage("a command with a terminal or a pipe is to be streamed"));
        }
        if stdin.len() > MAX_INPUT {
            return Err(Failure::new("stdin is longer than 20 MiB")
                .hint_at("stream the command and pipe it in, or copy a file")
                .of(ErrorKind::Usage));
        }
        asked.stdin_bytes =
            Some(stdin).filter(|s| !s.is_empty()).map(|s| BASE64_STANDARD.encode(s));
        let ask = Ask::post(route("sandboxes", sandbox, "/exec")).json(&asked)?;
        ExecOutput::read(call(ask).await?)
    }
}

asking!(Exec<'a>, run, ExecOutput);

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn asked(exec: Exec<'_>) -> serde_json::Value {
        serde_json::to_value(exec.asked).unwrap()
    }

    #[test]
    fn what_is_asked_is_what_the_server_takes() {
        let exec = Exec::program("s", "a".into()).arg("b").args(["c"]).env("K", "v").cwd("/d");
        let exec = exec.user("u").timeout(Duration::from_millis(5)).max_output("1M").tty(2, 3);
        let expected = json!({
            "argv": ["a", "b", "c"], "env": {"K": "v"}, "workdir": "/d", "user": "u",
            "timeout": "5ms", "max_output": "1M", "tty": {"rows": 2, "columns": 3},
        });
        assert_eq!(asked(exec), expected);
        assert_eq!(asked(Exec::script("s", "a b".into())), json!({"command": "a b", "env": {}}));
    }

    #[test]
    fn a_script_may_have_arguments() {
        let exec = Exec::script("s", "echo $1".into()).args(["sh", "a b"]);
        let argv = json!(["/bin/sh", "-c", "echo $1", "sh", "a b"]);
        assert_eq!(asked(exec), json!({"argv": argv, "env": {}}));
    }

    #[tokio::test]
    async fn what_makes_no_sense_is_refused_here() {
        for exec in [
            Exec::program("s", "a".into()).pipe_stdin(),
            Exec::program("s", "a".into()).tty(1, 1),
            Exec::program("s", "a".into()).stdin(vec![0; MAX_INPUT + 1]),
        ] {
            assert_eq!(exec.await.unwrap_err().kind(), ErrorKind::Usage);
        }
    }
}
