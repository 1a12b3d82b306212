//! Snapshots that are built as a description says.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;

use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use lampyr_core::{
    BadConfig, BuildDefaults, BuildOptions, BuildOutput, BuildPlan, Built, Error, Output,
    OutputStream, Room, build_snapshot, read_config,
};
use lampyr_types::Span;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use utoipa::ToSchema;

use crate::app::App;
use crate::ask::{self, Body};
use crate::error::{Answer, ApiError, ErrorBody};
use crate::output::{Pieces, Texts, event, named};
use crate::snapshots::SnapshotView;

/// How long each step may take where nobody says.
const STEP: Span = Span::secs(3600);
/// As much of what a step said as is told where it fails, in bytes.
const MAX_TAIL: usize = 8 << 10;

/// A snapshot to build
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct BuildAsk {
    /// What to build, as `snapshot.schema.json` has it
    #[schema(value_type = Object)]
    config: Value,
    /// An earlier one of the same name is replaced; true where it is left out
    overwrite: Option<bool>,
    /// The sandbox in which the steps are taken is left running
    #[serde(default, rename = "debugBuilder", alias = "debug_builder")]
    debug_builder: bool,
    /// One that was made just so will do; true where it is left out
    cache: Option<bool>,
    /// How long each step may take, as in `10m`; an hour
    step_timeout: Option<String>,
}

/// A snapshot that was built
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BuiltView {
    /// What it is
    #[serde(flatten)]
    snapshot: SnapshotView,
    /// Whether it was there already, made just so
    cached: bool,
}

impl BuildAsk {
    /// Checks everything; touches nothing.
    fn read(self, app: &App) -> Answer<(BuildPlan, BuildOptions)> {
        let timeout = self.step_timeout.as_deref().map(|text| ask::timeout("step_timeout", text));
        let options = BuildOptions {
            overwrite: self.overwrite.unwrap_or(true),
            keep_builder: self.debug_builder,
            cache: self.cache.unwrap_or(true),
            step_timeout: timeout.transpose()?.unwrap_or(STEP),
        };
        let of = &app.settings.defaults;
        let (cpus, memory, disk_size) = (of.cpus, of.memory, of.disk_size);
        let defaults = BuildDefaults { cpus, memory, disk_size };
        let config = read_config(&self.config.to_string());
        let plan = config.and_then(|config| config.plan(defaults, app.settings.limits));
        Ok((plan.map_err(|bad| not_built(&bad))?, options))
    }
}

fn not_built(bad: &BadConfig) -> ApiError {
    let error = ApiError::usage(format!("config: {bad}"));
    match bad.meant() {
        Some(word) => error.hint(format!("did you mean '{word}'?")),
        None => error,
    }
}

/// Build a snapshot
///
/// A sandbox of its own takes the steps, is saved, and is gone. The answer is a
/// stream: an event `step` for each step, `output` for what it says, and one
/// last event: `built`, which is the snapshot, or `failed`, which is the error.
/// Whoever breaks off ends it, and an earlier snapshot is as it was.
#[utoipa::path(
    post, path = "/v1/snapshots/build", tag = "snapshots", operation_id = "buildSnapshot",
    request_body = BuildAsk,
    responses(
        (status = 200, description = "How it goes", body = BuiltView, content_type = "text/event-stream"),
        (status = "default", description = "It makes no sense", body = ErrorBody),
    ),
)]
pub(crate) async fn build(
    State(app): State<Arc<App>>,
    Body(asked): Body<BuildAsk>,
) -> Answer<Response> {
    let (plan, options) = asked.read(&app)?;
    let (pieces, taken) = Pieces::new(event as Form);
    let gone = pieces.gone();
    // What is stored is read and hashed: that holds up nobody here.
    let runtime = Handle::current();
    let build = async move {
        let mut follower = Follower::new(pieces);
        let building = async {
            let built = perform(&app, &plan, options, &mut follower).await;
            follower.end(built).await;
        };
        tokio::select! {
            () = building => {}
            () = gone => {}
        }
    };
    tokio::task::spawn_blocking(move || runtime.block_on(build));
    let events = stream::unfold(taken, |mut taken| async {
        taken.recv().await.map(|event| (Ok::<_, Infallible>(event), taken))
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::default()).into_response())
}

async fn perform(
    app: &App,
    plan: &BuildPlan,
    options: BuildOptions,
    follower: &mut Follower,
) -> Result<Built, Error> {
    let host = app.host().await?;
    let owner = (app.settings.owner)().map_err(Error::Owner)?;
    build_snapshot(host, plan, options, owner, follower).await
}

type Form = fn(OutputStream, &[u8]) -> Event;

/// Tells a client how a build goes.
struct Follower {
    texts: Texts<Pieces<Event, Form>>,
    events: mpsc::Sender<Event>,
    /// The end of what the step said so far.
    tail: Vec<u8>,
}

impl Follower {
    fn new(pieces: Pieces<Event, Form>) -> Self {
        let events = pieces.sender();
        Self { texts: Texts::new(pieces), events, tail: Vec::new() }
    }

    /// Says how it ended.
    async fn end(self, built: Result<Built, Error>) {
        let last = match built {
            Ok(Built { snapshot, cached }) => {
                let view = BuiltView { snapshot: snapshot.into(), cached };
                named("built", &json!(view))
            }
            Err(error) => named("failed", &failure(error, &self.tail)),
        };
        self.texts.finish().await.last(last).await;
    }
}

/// An error as the object of every answer, and what a step had to do with it.
fn failure(error: Error, tail: &[u8]) -> Value {
    let step = match &error {
        Error::SetupStep { index, count, what, end, .. } => {
            let code = end.code();
            json!({"index": index, "count": count, "description": what, "exit_code": code})
        }
        _ => Value::Null,
    };
    let mut told = json!(ApiError::from(error).body());
    if !step.is_null() {
        told["step"] = step;
        told["output"] = String::from_utf8_lossy(tail).into();
    }
    told
}

impl Output for Follower {
    fn write(&mut self, stream: OutputStream, bytes: &[u8]) -> io::Result<()> {
        self.texts.write(stream, bytes)?;
        self.tail.extend_from_slice(bytes);
        let surplus = self.tail.len().saturating_sub(MAX_TAIL);
        self.tail.drain(..surplus);
        Ok(())
    }

    fn room(&mut self) -> Room<'_> {
        self.texts.room()
    }
}

impl BuildOutput for Follower {
    fn step(&mut self, index: usize, count: usize, description: &str) {
        self.tail.clear();
        let step = json!({"index": index, "count": count, "description": description});
        // There is room: that was waited for.
        let _ = self.events.try_send(named("step", &step));
    }
}

#[cfg(test)]
mod tests {
    use lampyr_core::StepEnd;

    use super::*;

    #[test]
    fn a_step_that_was_ended_is_named_with_what_it_said() {
        let end = StepEnd::Late(Span::secs(1));
        let what = "install".to_owned();
        let late = Error::SetupStep { index: 2, count: 3, what, end, sealed: true };
        let told = failure(late, b"said\n");
        assert_eq!((&told["error"], &told["output"]), (&json!("timeout"), &json!("said\n")));
        let step = json!({"index": 2, "count": 3, "description": "install", "exit_code": -1});
        assert_eq!(told["step"], step);
        assert!(told["hint"].as_str().is_some_and(|hint| hint.contains("`step_timeout`")));
    }
}
