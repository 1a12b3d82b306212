//! Commands in a sandbox.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::sse::{KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use lampyr_core::envelope::{Gathered, envelope};
use lampyr_core::{
    Command, Control, ExecRequest, Outcome, Output, RunError, SessionClient, Window,
};
use lampyr_types::ErrorKind;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use utoipa::ToSchema;

use crate::answer::{Envelope, OutputPiece};
use crate::app::App;
use crate::ask::{self, Body, Sandbox};
use crate::error::{Answer, ApiError, ErrorBody, without_flags};
use crate::output::{Pieces, Texts, end_event, event};

/// What a terminal is called where nobody says.
const TERM: &str = "xterm-256color";

/// A command to run: either `command` or `argv`
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ExecAsk {
    /// A command, which /bin/sh runs
    command: Option<String>,
    /// A program and its arguments, run without a shell
    argv: Option<Vec<String>>,
    /// Environment variables, over the sandbox's
    #[serde(default)]
    env: BTreeMap<String, String>,
    /// The directory it starts in; the sandbox's, the image's, or the user's home
    workdir: Option<String>,
    /// The user it runs as, by name or number; root
    user: Option<String>,
    /// How long it may run, as in `1500ms`; as long as it likes
    timeout: Option<String>,
    /// Its standard input
    stdin: Option<String>,
    /// Its standard input in base64
    stdin_bytes: Option<String>,
    /// Run it once, however often it is asked for under this key
    key: Option<String>,
    /// Do not wait for it; the answer is its job
    #[serde(default)]
    detach: bool,
    /// Give it a terminal of this size; both its outputs are one then
    tty: Option<Tty>,
    /// How much of each output stream the answer keeps, as in `16MB`
    max_output: Option<String>,
}

/// The size of a terminal, in characters
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Tty {
    /// Lines
    pub(crate) rows: u16,
    /// Columns
    pub(crate) columns: u16,
}

impl From<Tty> for Window {
    fn from(Tty { rows, columns }: Tty) -> Self {
        Self { rows, columns }
    }
}

/// A job: a command that goes on by itself
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct JobView {
    /// Its name
    job: String,
    /// The sandbox that it runs in
    sandbox: String,
}

/// A command to run, checked.
pub(crate) struct Order {
    pub(crate) request: ExecRequest,
    stdin: Vec<u8>,
    key: Option<String>,
    detach: bool,
    max_output: Option<usize>,
}

impl Order {
    /// Checks everything; touches nothing.
    pub(crate) fn read(ask: ExecAsk) -> Answer<Self> {
        let argv = ask.argv.unwrap_or_default();
        let command = Command::of(ask.command.as_deref(), &argv).map_err(ApiError::usage)?;
        let texts = [&ask.command, &ask.user].into_iter().flatten().chain(&argv);
        texts.into_iter().try_for_each(|text| ask::plain("the command", text))?;
        ask.workdir.iter().try_for_each(|dir| ask::absolute("workdir", dir))?;
        let mut env = ask::variables(ask.env)?;
        if ask.tty.is_some() && !env.iter().any(|(key, _)| key == "TERM") {
            env.push(("TERM".into(), TERM.into()));
        }
        let size = |text: &String| ask::size("max_output", text).map(lampyr_types::Size::as_bytes);
        let request = ExecRequest {
            command,
            env,
            workdir: ask.workdir,
            user: ask.user,
            timeout: ask
                .timeout
                .as_deref()
                .map(|text| ask::timeout("timeout", text))
                .transpose()?,
            stdin: false,
            terminal: ask.tty.map(Window::from),
        };
        let stdin = ask::bytes("stdin", ask.stdin, ask.stdin_bytes.as_deref())?;
        let (key, detach) = (ask.key, ask.detach);
        if !stdin.is_empty() && (key.is_some() || detach) {
            return Err(ApiError::usage("a job has no standard input"));
        }
        let max_output = ask.max_output.as_ref().map(size).transpose()?;
        let max_output = max_output.map(|most| usize::try_from(most).unwrap_or(usize::MAX));
        Ok(Self { request, stdin, key, detach, max_output })
    }

    /// Whether it has no more than a stream needs.
    pub(crate) fn is_plain(&self) -> bool {
        self.stdin.is_empty() && self.key.is_none() && !self.detach
    }

    /// What is to be heard to its end: the command itself, or its job.
    async fn work(self, client: &SessionClient) -> Answer<Work> {
        match self.key {
            None => Ok(Work::Run(self.request, self.stdin)),
            key => Ok(Work::Attach(client.start(&self.request, key.as_deref()).await?)),
        }
    }
}

/// What is heard to its end.
enum Work {
    Run(ExecRequest, Vec<u8>),
    Attach(String),
}

impl Work {
    /// Dropping the future ends the command, but leaves a job be.
    async fn perform(
        self,
        client: &SessionClient,
        output: &mut dyn Output,
    ) -> Result<Outcome, RunError> {
        let (_nobody, controls) = mpsc::channel::<Control>(1);
        let result = match self {
            Self::Run(request, stdin) => {
                let (feed, input) = mpsc::channel(1);
                let _ = feed.try_send(stdin);
                drop(feed);
                client.exec_fed(&request, input, output, controls).await
            }
            Self::Attach(job) => client.attach(&job, output, controls).await,
        };
        result.map_err(without_flags)
    }
}

/// Run a command
///
/// The answer comes at its end. With `Accept: text/event-stream` it is a stream:
/// an event `output` for each piece of output, and one event `end`, which is the
/// answer without the streams. Whoever breaks off ends the command.
#[utoipa::path(
    post, path = "/v1/sandboxes/{sandbox}/exec", tag = "exec", operation_id = "exec",
    params(("sandbox" = String, Path, description = "Its id or its name")),
    request_body = ExecAsk,
    responses(
        (status = 200, description = "It was started, and this is how it went", content(
            (Envelope = "application/json"), (OutputPiece = "text/event-stream"),
        )),
        (status = 202, description = "With `detach`: its job", body = JobView),
        (status = "default", description = "It was not started", body = ErrorBody),
    ),
)]
pub(crate) async fn exec(
    State(app): State<Arc<App>>,
    Sandbox(word): Sandbox,
    headers: HeaderMap,
    Body(ask): Body<ExecAsk>,
) -> Answer<Response> {
    let order = Order::read(ask)?;
    let client = app.client(&word).await?;
    app.execs.fetch_add(1, Ordering::Relaxed);
    if order.detach {
        let job = client.start(&order.request, order.key.as_deref()).await?;
        let sandbox = client.record()?.sid.to_string();
        return Ok((StatusCode::ACCEPTED, Json(JobView { job, sandbox })).into_response());
    }
    let cap = order.max_output.unwrap_or(app.settings.defaults.max_output);
    let heard = order.work(&client).await?;
    tell(&app, client, heard, cap, &headers).await
}

/// Hear a job to its end
///
/// All that it said comes from its beginning, in the form of the answer to
/// `exec`. Whoever breaks off leaves it be.
#[utoipa::path(
    get, path = "/v1/sandboxes/{sandbox}/jobs/{job}", tag = "exec", operation_id = "attachJob",
    params(
        ("sandbox" = String, Path, description = "Its id or its name"),
        ("job" = String, Path, description = "The job's name"),
    ),
    responses(
        (status = 200, description = "How it went", content(
            (Envelope = "application/json"), (OutputPiece = "text/event-stream"),
        )),
        (status = "default", description = "It cannot be heard", body = ErrorBody),
    ),
)]
pub(crate) async fn job(
    State(app): State<Arc<App>>,
    Sandbox(word): Sandbox,
    Path((_, job)): Path<(String, String)>,
    headers: HeaderMap,
) -> Answer<Response> {
    let client = app.client(&word).await?;
    let cap = app.settings.defaults.max_output;
    tell(&app, client, Work::Attach(job), cap, &headers).await
}

async fn tell(
    app: &App,
    client: Arc<SessionClient>,
    work: Work,
    cap: usize,
    headers: &HeaderMap,
) -> Answer<Response> {
    let accepted = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
    if accepted.is_some_and(|accepted| accepted.contains("text/event-stream")) {
        return Ok(events(client, work));
    }
    let mut gathered = Gathered::new(cap, &app.home().join("outputs"));
    let result = work.perform(&client, &mut gathered).await;
    if let Err(error) = &result
        && !error.started
        && matches!(error.kind, ErrorKind::Usage | ErrorKind::ConnectionFailed)
    {
        return Err(result.err().map_or_else(|| ApiError::usage(""), ApiError::from));
    }
    let (stdout, stderr) = gathered.finish().map_err(lampyr_core::Error::Output)?;
    Ok(Json(envelope(&result, &stdout, &stderr)).into_response())
}

/// The stream of a command's events. It runs for as long as they are taken.
fn events(client: Arc<SessionClient>, work: Work) -> Response {
    let (pieces, taken) = Pieces::new(event);
    let gone = pieces.gone();
    tokio::spawn(async move {
        let running = async {
            let mut texts = Texts::new(pieces);
            let result = work.perform(&client, &mut texts).await;
            texts.finish().await.last(end_event(&result)).await;
        };
        tokio::select! {
            () = running => {}
            () = gone => {}
        }
    });
    let events = stream::unfold(taken, |mut taken| async {
        taken.recv().await.map(|event| (Ok::<_, Infallible>(event), taken))
    });
    Sse::new(events).keep_alive(KeepAlive::default()).into_response()
}
