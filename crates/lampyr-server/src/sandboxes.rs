//! Sandboxes: sessions, as the command line calls them.

mod asked;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use lampyr_core::{
    Error, Mount, MountSource, SessionClient, SessionRecord, SessionState, Snapshot, Stopped,
    Volume, session_id, sessions, snapshot, stop_session,
};
use lampyr_types::{Name, SandboxId};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::app::{App, aside, blocking};
use crate::ask::{self, Body, Query, Sandbox};
use crate::error::{Answer, ApiError, ErrorBody};

use asked::{PolicyAsk, SandboxAsk, net};

/// How long what runs in a sandbox may take to end, where nobody says.
const GRACE: Duration = Duration::from_secs(5);

/// A sandbox
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SandboxView {
    /// Its id
    id: String,
    /// Its name
    name: Option<String>,
    /// The image that it was started from
    image: String,
    /// The snapshot that it was started from
    snapshot: Option<String>,
    /// Its processors
    cpus: u32,
    /// Its memory in bytes
    memory: u64,
    /// When it was started, as RFC 3339 has it
    created: String,
    /// `running` or `dead`
    status: &'static str,
    /// Whether it ends with this server
    attached: bool,
    /// The process that owns it
    pid: u32,
    /// How it is; only where one sandbox was asked for, and it answers
    #[serde(skip_serializing_if = "Option::is_none")]
    vitals: Option<VitalsView>,
}

/// How a sandbox is
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct VitalsView {
    /// How long it has been running
    uptime_ms: u64,
    /// How many commands run in it
    active_execs: u64,
    /// What it has of this host's memory, in bytes
    memory_bytes: Option<u64>,
}

/// How to stop a sandbox
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct StopAsk {
    /// How long what runs in it may take to end; `5s`
    grace: Option<String>,
    /// What runs in it is given no time at all
    #[serde(default)]
    force: bool,
}

/// A sandbox that is gone
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct StoppedView {
    /// Its id, or what it was called
    stopped: String,
    /// Nothing of it is left
    confirmed: bool,
    /// `already stopped`, where it had ended before
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<&'static str>,
}

impl SandboxView {
    pub(crate) fn new(app: &App, record: SessionRecord, state: SessionState) -> Self {
        Self {
            attached: app.is_attached(record.sid),
            id: record.sid.to_string(),
            name: record.name.map(String::from),
            image: record.image,
            snapshot: record.snapshot.map(String::from),
            cpus: record.cpus,
            memory: record.memory,
            created: record.created.to_string(),
            status: state.word(),
            pid: record.pid,
            vitals: None,
        }
    }

    async fn of(app: &App, client: &SessionClient) -> Answer<Self> {
        let mut view = Self::new(app, client.record()?, SessionState::Running);
        view.vitals = client.vitals().await.ok().map(|vitals| VitalsView {
            uptime_ms: vitals.uptime.as_millis() as u64,
            active_execs: vitals.active_execs,
            memory_bytes: vitals.memory_bytes,
        });
        Ok(view)
    }
}

/// Start a sandbox
///
/// It is attached unless `detached` is said: it ends when this server does,
/// however that ends.
#[utoipa::path(
    post, path = "/v1/sandboxes", tag = "sandboxes", operation_id = "createSandbox",
    request_body = SandboxAsk,
    responses(
        (status = 201, description = "It runs", body = SandboxView),
        (status = "default", description = "It does not", body = ErrorBody),
    ),
)]
pub(crate) async fn create(
    State(app): State<Arc<App>>,
    Body(asked): Body<SandboxAsk>,
) -> Answer<Response> {
    let (detached, overwrite) = (asked.detached, asked.overwrite.unwrap_or(true));
    let saved = saved(&app, asked.snapshot()?).await?;
    let request = asked.read(&app.settings.defaults, app.settings.limits, saved.as_ref())?;
    make_volumes(&app, &request.mounts).await?;
    if let Some(name) = request.name.as_ref().filter(|_| overwrite) {
        let (preparing, wanted) = (app.clone(), request.clone());
        aside(async move { preparing.prepare(&wanted).await }).await?;
        replace(&app, name).await?;
    }
    // Whoever breaks off while it starts would leave one that nobody knows of.
    let starting = app.clone();
    let sid = aside(async move { starting.start(&request, detached).await }).await?;
    let client = app.client(&sid.to_string()).await?;
    Ok((StatusCode::CREATED, Json(SandboxView::of(&app, &client).await?)).into_response())
}

/// Looks up what a sandbox is to be launched from.
async fn saved(app: &App, name: Option<Name>) -> Answer<Option<Snapshot>> {
    let home = app.home().to_owned();
    blocking(move || name.map(|name| snapshot(&home, &name)).transpose()).await
}

/// Stops whatever has the name.
async fn replace(app: &App, name: &Name) -> Answer<()> {
    let sid = session_id(app.home(), name.as_str());
    match stop_session(app.home(), name.as_str(), Duration::ZERO).await {
        Ok(_) => drop(sid.map(|sid| app.let_go(sid))),
        Err(Error::NoSession(_)) => {}
        Err(e) => return Err(e.into()),
    }
    Ok(())
}

/// Volumes are made when they are first used.
async fn make_volumes(app: &App, mounts: &[Mount]) -> Answer<()> {
    let volumes = mounts.iter().filter_map(|mount| match &mount.source {
        MountSource::Volume(name) => Some(name.clone()),
        MountSource::Directory(_) => None,
    });
    let (store, volumes) = (app.store()?, volumes.collect::<Vec<_>>());
    let ensure = move |name: &Name| Volume::ensure(&store, name, None, BTreeMap::new());
    blocking(move || volumes.iter().try_for_each(|name| ensure(name).map(drop))).await
}

/// List all sandboxes, the oldest first
#[utoipa::path(
    get, path = "/v1/sandboxes", tag = "sandboxes", operation_id = "listSandboxes",
    responses(
        (status = 200, description = "All of them", body = Vec<SandboxView>),
        (status = "default", description = "They cannot be listed", body = ErrorBody),
    ),
)]
pub(crate) async fn list(State(app): State<Arc<App>>) -> Answer<Json<Vec<SandboxView>>> {
    app.forget_ended();
    let home = app.home().to_owned();
    let all = blocking(move || sessions(&home)).await?.into_iter();
    Ok(Json(all.map(|(record, state)| SandboxView::new(&app, record, state)).collect()))
}

/// Look at a sandbox
#[utoipa::path(
    get, path = "/v1/sandboxes/{sandbox}", tag = "sandboxes", operation_id = "getSandbox",
    params(("sandbox" = String, Path, description = "Its id or its name")),
    responses(
        (status = 200, description = "What it is", body = SandboxView),
        (status = 410, description = "It has ended", body = ErrorBody),
        (status = "default", description = "There is none", body = ErrorBody),
    ),
)]
pub(crate) async fn inspect(
    State(app): State<Arc<App>>,
    Sandbox(word): Sandbox,
) -> Answer<Json<SandboxView>> {
    let client = app.client(&word).await?;
    SandboxView::of(&app, &client).await.map(Json)
}

/// Stop a sandbox, and wait until nothing of it is left
///
/// One that has ended already is stopped, too.
#[utoipa::path(
    delete, path = "/v1/sandboxes/{sandbox}", tag = "sandboxes", operation_id = "stopSandbox",
    params(("sandbox" = String, Path, description = "Its id or its name"), StopAsk),
    responses(
        (status = 200, description = "It is gone", body = StoppedView),
        (status = "default", description = "It is not", body = ErrorBody),
    ),
)]
pub(crate) async fn stop(
    State(app): State<Arc<App>>,
    Sandbox(word): Sandbox,
    Query(asked): Query<StopAsk>,
) -> Answer<Json<StoppedView>> {
    let grace = match (&asked.grace, asked.force) {
        (Some(_), true) => return Err(ApiError::usage("there is both grace and force")),
        (_, true) => Duration::ZERO,
        (Some(text), false) => ask::span("grace", text)?.duration(),
        (None, false) => GRACE,
    };
    // Once it is stopped nobody has its name any more.
    let sid: Option<SandboxId> = session_id(app.home(), &word);
    let stopped = stop_session(app.home(), &word, grace).await?;
    if let Some(sid) = sid {
        app.let_go(sid);
    }
    let note = (stopped == Stopped::Before).then_some("already stopped");
    let stopped = sid.map_or(word, |sid| sid.to_string());
    Ok(Json(StoppedView { stopped, confirmed: true, note }))
}

/// Let a sandbox outlive this server
#[utoipa::path(
    post, path = "/v1/sandboxes/{sandbox}/detach", tag = "sandboxes", operation_id = "detachSandbox",
    params(("sandbox" = String, Path, description = "Its id or its name")),
    responses(
        (status = 200, description = "It will", body = SandboxView),
        (status = "default", description = "It will not", body = ErrorBody),
    ),
)]
pub(crate) async fn detach(
    State(app): State<Arc<App>>,
    Sandbox(word): Sandbox,
) -> Answer<Json<SandboxView>> {
    let client = app.client(&word).await?;
    client.detach().await?;
    app.let_go(client.record()?.sid);
    SandboxView::of(&app, &client).await.map(Json)
}

/// Hold a sandbox's network to other rules from now on
#[utoipa::path(
    put, path = "/v1/sandboxes/{sandbox}/policy", tag = "sandboxes", operation_id = "setPolicy",
    params(("sandbox" = String, Path, description = "Its id or its name")),
    request_body = PolicyAsk,
    responses(
        (status = 204, description = "They are in force"),
        (status = "default", description = "They are not", body = ErrorBody),
    ),
)]
pub(crate) async fn restrict(
    State(app): State<Arc<App>>,
    Sandbox(word): Sandbox,
    Body(asked): Body<PolicyAsk>,
) -> Answer<StatusCode> {
    let policy = net(None, Some(&asked))?.unwrap_or_default();
    app.client(&word).await?.restrict(&policy).await?;
    Ok(StatusCode::NO_CONTENT)
}
