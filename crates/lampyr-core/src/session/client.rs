//! A client of a session: what the commands and the SDKs do with one.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use lampyr_proto::{Control, Event, Exec, Exited, Point, Request, Start, Status, Window};
use lampyr_store::{Lock, Store};
use lampyr_types::{ErrorKind, Span, Task};
use tokio::sync::mpsc;

use crate::channel::{Channel, ChannelError};
use crate::copy::Copy;
use crate::exec::{Asked, Source, Terms, job, outcome};
use crate::limits::named_twice;
use crate::{
    Command, CopyIn, CopyOut, Error, Outcome, Output, Policy, RunError, Suggestion, files,
};

use super::record::{self, Found, SessionRecord};
use super::socket;

/// How long an owner may take to answer what it knows by itself.
const PATIENCE: Duration = Duration::from_secs(5);
/// How much longer than its grace a stop may take.
const STOP_WAIT: Duration = Duration::from_secs(30);
/// How long a machine may take to be copied, with all the memory that it has changed.
const COPY_WAIT: Duration = Duration::from_mins(2);

/// A command to run in a session.
#[derive(Debug, Clone)]
pub struct ExecRequest {
    /// What to run.
    pub command: Command,
    /// Environment variables, over the session's.
    pub env: Vec<(String, String)>,
    /// The working directory; the user's home if there is none.
    pub workdir: Option<String>,
    /// The user that it runs as; root if there is none.
    pub user: Option<String>,
    /// How long it may run; `None`: as long as it likes.
    pub timeout: Option<Span>,
    /// Whether it reads our standard input.
    pub stdin: bool,
    /// The size of its terminal, where it has one.
    pub terminal: Option<Window>,
}

/// How a session is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vitals {
    /// How long it has been running.
    pub uptime: Duration,
    /// How many commands run in it.
    pub active_execs: u64,
    /// Host memory of its machine in bytes, where that is known.
    pub memory_bytes: Option<u64>,
}

/// A connection to a session's owner.
pub struct SessionClient {
    word: String,
    store: Store,
    dir: PathBuf,
    pub(super) channel: Channel,
}

/// How stopping a session went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stopped {
    /// It was running.
    Now,
    /// It had ended before.
    Before,
}

/// How long an owner may take from its last client to its end.
const LAST_WORDS: Duration = Duration::from_secs(5);

impl SessionClient {
    /// Connects to the session with this id or name.
    pub async fn connect(home: &Path, word: &str) -> Result<Self, Error> {
        if !home.exists() {
            return Err(Error::NoSession(word.chars().take(80).collect()));
        }
        let store = Store::open(home)?;
        let dir = match record::find(&store, word)? {
            Found::Alive(dir) => dir,
            Found::Dead(_) => return Err(Error::DeadSession(word.into())),
            Found::Gone => return Err(Error::EndedSession(word.into())),
        };
        let unreachable = |source| Error::Path { path: dir.join("socket"), source };
        let connection = match socket::connect(&dir).await {
            Ok(connection) => connection,
            Err(_) if has_ended(&dir).await => return Err(ended(&store, word)),
            Err(e) => return Err(unreachable(e)),
        };
        Ok(Self { word: word.into(), store, channel: Channel::greet(connection), dir })
    }

    /// What is written down about it.
    ///
    /// # Errors
    ///
    /// [`Error::EndedSession`] where nothing is left of it: its owner takes
    /// leave of its clients last.
    pub fn record(&self) -> Result<SessionRecord, Error> {
        match SessionRecord::read(&self.dir) {
            Err(_) if !record::remains(&self.dir) => Err(Error::EndedSession(self.word.clone())),
            read => Ok(read?),
        }
    }

    /// Runs a command to its end. Dropping the future ends it, too.
    pub async fn exec(
        &self,
        request: &ExecRequest,
        output: &mut dyn Output,
        controls: mpsc::Receiver<Control>,
    ) -> Result<Outcome, RunError> {
        let source = if request.stdin { Source::Ours } else { Source::Empty };
        self.run(request, source, output, controls).await
    }

    /// As [`Self::exec`] does, but standard input is what comes through `input`;
    /// it ends with the last sender.
    pub async fn exec_fed(
        &self,
        request: &ExecRequest,
        input: mpsc::Receiver<Vec<u8>>,
        output: &mut dyn Output,
        controls: mpsc::Receiver<Control>,
    ) -> Result<Outcome, RunError> {
        self.run(request, Source::Fed(input), output, controls).await
    }

    async fn run(
        &self,
        request: &ExecRequest,
        source: Source<'_>,
        output: &mut dyn Output,
        controls: mpsc::Receiver<Control>,
    ) -> Result<Outcome, RunError> {
        let begun = Instant::now();
        self.no_secret(request).map_err(|e| RunError { duration: begun.elapsed(), ..e.into() })?;
        let asked = Asked::ask(&self.channel, process(request)).await;
        let asked = asked.map_err(|e| self.failed(e, begun))?;
        let terms =
            Terms { timeout: request.timeout, controls: Some(controls), ..Terms::default() };
        let exited = asked.finish(source, output, terms).await;
        exited.map(|exited| outcome(&exited, begun.elapsed())).map_err(|e| self.failed(e, begun))
    }

    /// Refuses a variable that is a secret of the session's as well.
    fn no_secret(&self, request: &ExecRequest) -> Result<(), Error> {
        if request.env.is_empty() {
            return Ok(());
        }
        let record = self.record()?;
        let both = named_twice(record.secrets.iter().map(String::as_str), &request.env);
        both.map_or(Ok(()), |name| Err(Error::SecretVariable(name.to_owned())))
    }

    /// Starts a job: a command that goes on without us. With a `key`, what was
    /// started under that key before is the job. Returns its name.
    pub async fn start(&self, request: &ExecRequest, key: Option<&str>) -> Result<String, Error> {
        self.no_secret(request)?;
        let (exec, timeout_ms) = (process(request), request.timeout.map(Span::as_millis));
        let start = Start { exec, key: key.map(str::to_owned), timeout_ms };
        match self.ask(&Request::Start(Box::new(start)), PATIENCE).await? {
            Event::Job(name) => Ok(name),
            other => Err(strange(&other)),
        }
    }

    /// Hears all that a job says, to its end. Dropping the future leaves it be.
    pub async fn attach(
        &self,
        job: &str,
        output: &mut dyn Output,
        controls: mpsc::Receiver<Control>,
    ) -> Result<Outcome, RunError> {
        let begun = Instant::now();
        let asked = Asked::of(&self.channel, &Request::Attach(job.to_owned())).await;
        let asked = asked.map_err(|e| self.failed(e, begun))?;
        let terms = Terms { controls: Some(controls), ..Terms::default() };
        let exited = asked.finish(Source::Empty, output, terms).await;
        let took = |exited: &Exited| exited.host_us.map_or(begun.elapsed(), Duration::from_micros);
        exited.map(|e| outcome(&e, took(&e))).map_err(|e| self.failed(e, begun))
    }

    /// How it is.
    pub async fn vitals(&self) -> Result<Vitals, Error> {
        match self.ask(&Request::Status, PATIENCE).await? {
            Event::Status(Status { uptime_ms, active_execs, memory_bytes }) => {
                let uptime = Duration::from_millis(uptime_ms);
                Ok(Vitals { uptime, active_execs, memory_bytes })
            }
            other => Err(strange(&other)),
        }
    }

    /// Lets it outlive the process that started it. Its leash may be dropped
    /// from now on.
    pub async fn detach(&self) -> Result<(), Error> {
        match self.ask(&Request::Detach, PATIENCE).await? {
            Event::Done => Ok(()),
            other => Err(strange(&other)),
        }
    }

    /// Holds its network to another policy from now on.
    pub async fn restrict(&self, policy: &Policy) -> Result<(), Error> {
        let rules = policy.rules().iter().map(ToString::to_string).collect();
        match self.ask(&Request::Restrict(rules), PATIENCE).await? {
            Event::Done => Ok(()),
            other => Err(strange(&other)),
        }
    }

    /// The rules that open what it has reached so far, and nothing else.
    pub async fn suggest(&self) -> Result<Suggestion, Error> {
        match self.ask(&Request::Suggest, PATIENCE).await? {
            Event::Rules(rules, left_out) => Ok(Suggestion { rules, left_out }),
            other => Err(strange(&other)),
        }
    }

    /// Sends a file or a directory's contents into it; `task` hears how far it is.
    pub async fn copy_in(&self, copy: &CopyIn, task: &dyn Task) -> Result<(), Error> {
        files::send(&self.channel, copy, task).await.map_err(|e| self.story(e))
    }

    /// Fetches a file or a directory's contents from it; `task` hears how far
    /// it is.
    pub async fn copy_out(&self, copy: &CopyOut, task: &dyn Task) -> Result<(), Error> {
        files::fetch(&self.channel, copy, task).await.map_err(|e| self.story(e))
    }

    /// What it can be taken back to, the oldest first.
    pub async fn log(&self) -> Result<Vec<Point>, Error> {
        match self.ask(&Request::Log, PATIENCE).await? {
            Event::Points(points) => Ok(points),
            other => Err(strange(&other)),
        }
    }

    /// Takes it back to what it was before the command with this number, or
    /// before the last one.
    ///
    /// # Errors
    ///
    /// [`Error::NoPoint`] where nothing is remembered of that.
    pub async fn undo(&self, to: Option<u64>) -> Result<Point, Error> {
        match self.ask(&Request::Undo(to), COPY_WAIT).await? {
            Event::Points(points) => points.into_iter().next().ok_or(Error::NoPoint(to)),
            other => Err(strange(&other)),
        }
    }

    /// Copies its machine into `dir` while it goes on; even if it holds secrets,
    /// where that is said.
    pub(crate) async fn copy_to(&self, dir: &Path, with_secrets: bool) -> Result<Copy, Error> {
        if !with_secrets && self.record()?.has_secrets() {
            return Err(Error::HoldsSecrets);
        }
        let request = Request::Copy(dir.to_string_lossy().into_owned(), with_secrets);
        match self.ask(&request, COPY_WAIT).await? {
            Event::Done => Copy::find(&self.store, dir),
            other => Err(strange(&other)),
        }
    }

    async fn stop(&self, grace: Duration) -> Result<Stopped, Error> {
        let ms = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
        match self.ask(&Request::Stop(ms), grace.saturating_add(STOP_WAIT)).await {
            Ok(Event::Done) => Ok(Stopped::Now),
            Ok(other) => Err(strange(&other)),
            // Somebody else stopped it at the same time, or it ended by itself.
            Err(_) if self.channel.is_over() => Ok(Stopped::Before),
            Err(e) => Err(e),
        }
    }

    async fn ask(&self, request: &Request, patience: Duration) -> Result<Event, Error> {
        let answer = tokio::time::timeout(patience, self.channel.ask(request)).await;
        let silent = |_| Error::from(ChannelError::Silent(patience.as_secs()));
        match answer.map_err(silent)?.map_err(|e| self.story(e.into()))? {
            Event::Failure(failure) => Err(failure.into()),
            event => Ok(event),
        }
    }

    /// Whether the conversation is over, so that another is needed.
    pub fn is_over(&self) -> bool {
        self.channel.is_over()
    }

    /// A conversation that is over is a session that went away, and where its
    /// machine ended by itself, the owner has left word of it.
    pub(super) fn story(&self, error: Error) -> Error {
        if !(self.channel.is_over() && matches!(error, Error::Agent(_))) {
            return error;
        }
        record::crash(&self.dir).map_or(Error::Disconnected, Error::from)
    }

    fn failed(&self, error: Error, begun: Instant) -> RunError {
        let duration = error.took().unwrap_or_else(|| begun.elapsed());
        let error = RunError::from(self.story(error));
        let started = !matches!(error.kind, ErrorKind::ConnectionFailed | ErrorKind::Usage);
        RunError { duration, started, ..error }
    }
}

impl std::fmt::Debug for SessionClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SessionClient").field("session", &self.word).finish_non_exhaustive()
    }
}

/// Ends a session and waits until nothing of it is left. What runs in it gets
/// SIGTERM and `grace`.
pub async fn stop_session(home: &Path, word: &str, grace: Duration) -> Result<Stopped, Error> {
    match SessionClient::connect(home, word).await {
        Ok(client) => client.stop(grace).await,
        Err(Error::DeadSession(_) | Error::EndedSession(_)) => {
            let store = Store::open(home)?;
            if let Found::Dead(dir) = record::find(&store, word)? {
                record::remove_dead(&store, &dir)?;
            }
            Ok(Stopped::Before)
        }
        Err(e) => Err(e),
    }
}

/// Whether an owner that takes no more clients is gone in a moment: it only
/// says its last words.
async fn has_ended(dir: &Path) -> bool {
    let lock = dir.join("lock");
    let waiting = tokio::task::spawn_blocking(move || Lock::wait(&lock).map(drop));
    tokio::time::timeout(LAST_WORDS, waiting).await.is_ok()
}

/// What a session that has just ended is.
fn ended(store: &Store, word: &str) -> Error {
    match record::find(store, word) {
        Ok(Found::Gone) => Error::EndedSession(word.into()),
        Ok(Found::Alive(_) | Found::Dead(_)) => Error::DeadSession(word.into()),
        Err(e) => e,
    }
}

fn process(request: &ExecRequest) -> Exec {
    Exec {
        env: request.env.clone(),
        workdir: request.workdir.clone(),
        user: request.user.clone(),
        terminal: request.terminal,
        ..Exec::new(job(&request.command))
    }
}

fn strange(event: &Event) -> Error {
    Error::Agent(format!("the session answered {event:?}"))
}
