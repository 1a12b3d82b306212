//! Sandboxes: sessions, as the command line calls them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use lampyr_core::limits::{Limits, disk_size, mount_place, mounted_twice, session_name};
use lampyr_core::{
    Error, Forward, Mount, MountSource, Origin, Policy, SessionClient, SessionRecord,
    SessionRequest, SessionState, Stopped, Volume, session_id, sessions, stop_session,
};
use lampyr_types::{Name, SandboxId, Span};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::Defaults;
use crate::app::{App, blocking};
use crate::ask::{self, Body, Query, Sandbox};
use crate::error::{Answer, ApiError, ErrorBody};

/// How long what runs in a sandbox may take to end, where nobody says.
const GRACE: Duration = Duration::from_secs(5);

/// A sandbox to start; what is left out is as the server's settings have it
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SandboxAsk {
    /// A name to call it by
    name: Option<String>,
    /// The image to start from: a name, or a registry's
    image: Option<String>,
    /// The snapshot to start from
    snapshot: Option<String>,
    /// Processors
    cpus: Option<u32>,
    /// Memory, as in `512M`
    memory: Option<String>,
    /// The size of its disk, as in `8GB`
    disk_size: Option<String>,
    /// Environment variables of all that runs in it
    #[serde(default)]
    env: BTreeMap<String, String>,
    /// The working directory of what runs in it and has none of its own
    workdir: Option<String>,
    /// Ports of 127.0.0.1 here that lead to ports of its: host port to its port
    #[serde(default)]
    #[schema(value_type = BTreeMap<String, u16>)]
    ports: BTreeMap<u16, u16>,
    /// What of this host it sees, by where it sees it
    #[serde(default)]
    mounts: BTreeMap<String, MountAsk>,
    /// What it may reach, as `--net` has it: `none`, `public`, `record` or
    /// `allow=RULE[,RULE…]`
    net: Option<String>,
    /// What it may reach, as rules
    policy: Option<PolicyAsk>,
    /// It ends after this long without a command or a client, as in `10m`
    ttl: Option<String>,
    /// It outlives this server
    #[serde(default)]
    detached: bool,
    /// An earlier one of the same name is stopped first; true where it is left out
    overwrite: Option<bool>,
}

/// What a sandbox sees: a directory of this host, or something described
#[derive(Debug, Deserialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum MountAsk {
    /// A directory of this host, absolute
    Directory(String),
    /// A directory or a volume
    Source(SourceAsk),
}

/// Either a directory of this host or a volume
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SourceAsk {
    /// A directory, absolute
    directory: Option<String>,
    /// A volume's name; one that is not there is made
    volume: Option<String>,
    /// Nothing in it can be changed
    #[serde(default)]
    readonly: bool,
}

/// A network policy
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PolicyAsk {
    /// Rules as `--net allow=` has them: `[deny:]TARGET[:PORTS][/udp]`
    rules: Vec<String>,
}

/// A sandbox
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SandboxView {
    /// Its id
    id: String,
    /// Its name
    name: Option<String>,
    /// The image that it was started from
    image: String,
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
    fn new(app: &App, record: SessionRecord, state: SessionState) -> Self {
        Self {
            attached: app.is_attached(record.sid),
            id: record.sid.to_string(),
            name: record.name.map(String::from),
            image: record.image,
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

impl SandboxAsk {
    /// Checks everything; touches nothing.
    fn read(self, defaults: &Defaults, limits: Limits) -> Answer<SessionRequest> {
        if self.snapshot.is_some() {
            return Err(ApiError::refused(
                StatusCode::NOT_IMPLEMENTED,
                "snapshot: this server cannot start from snapshots",
            ));
        }
        let named = |what: &'static str| {
            move |e: &dyn std::fmt::Display| ApiError::usage(format!("{what}: {e}"))
        };
        let size = |what, text: Option<&String>| text.map(|t| ask::size(what, t)).transpose();
        let memory = size("memory", self.memory.as_ref())?.unwrap_or(defaults.memory);
        let disk = size("disk_size", self.disk_size.as_ref())?.unwrap_or(defaults.disk_size);
        let cpus = self.cpus.unwrap_or(defaults.cpus);
        let image = self.image.as_deref().map(str::parse).transpose();
        self.workdir.iter().try_for_each(|dir| ask::absolute("workdir", dir))?;
        let ttl = self.ttl.as_deref().map(|text| ask::span("ttl", text)).transpose()?;
        Ok(SessionRequest {
            name: self
                .name
                .as_deref()
                .map(session_name)
                .transpose()
                .map_err(|e| named("name")(&e))?,
            origin: image
                .map_err(|e| named("image")(&e))?
                .map_or_else(|| defaults.origin.clone(), Origin::Image),
            checkpoints: 0,
            cpus: limits.cpus(cpus).map_err(|e| named("cpus")(&e))?,
            memory: limits.memory(memory).map_err(|e| named("memory")(&e))?.as_bytes(),
            disk_size: disk_size(disk).map_err(|e| named("disk_size")(&e))?.as_bytes(),
            env: ask::variables(self.env)?,
            workdir: self.workdir,
            attached: false,
            ttl_ms: ttl.map(Span::as_millis).filter(|ms| *ms > 0),
            forwards: self.ports.into_iter().map(forward).collect::<Answer<_>>()?,
            mounts: mounts(self.mounts)?,
            net: net(self.net.as_deref(), self.policy.as_ref())?.map(Into::into),
        })
    }
}

fn forward((host, guest): (u16, u16)) -> Answer<Forward> {
    if host == 0 || guest == 0 {
        return Err(ApiError::usage("ports: a port is from 1 to 65535"));
    }
    Ok(Forward { host, guest })
}

fn mounts(asked: BTreeMap<String, MountAsk>) -> Answer<Vec<Mount>> {
    let mounts: Vec<_> = asked.into_iter().map(mount).collect::<Answer<_>>()?;
    match mounted_twice(&mounts) {
        Some(place) => Err(ApiError::usage(format!("mounts: two have the place '{place}'"))),
        None => Ok(mounts),
    }
}

fn mount((place, asked): (String, MountAsk)) -> Answer<Mount> {
    ask::plain("mounts", &place)?;
    let bad = || ApiError::usage(format!("mounts: cannot mount at '{}'", place.escape_debug()));
    let guest = mount_place(&place).ok_or_else(bad)?;
    let source = match asked {
        MountAsk::Directory(path) => SourceAsk { directory: Some(path), ..SourceAsk::default() },
        MountAsk::Source(source) => source,
    };
    let readonly = source.readonly;
    let source = match (source.directory, source.volume) {
        (Some(path), None) => MountSource::Directory(directory(path.into())?),
        (None, Some(name)) => MountSource::Volume(name.parse().map_err(ApiError::usage)?),
        _ => return Err(ApiError::usage("mounts: give either a directory or a volume")),
    };
    Ok(Mount { source, guest, readonly })
}

/// The server's own directory is nobody's: a path must be absolute.
fn directory(path: PathBuf) -> Answer<PathBuf> {
    let shown = path.display();
    if !path.is_absolute() {
        return Err(ApiError::usage(format!("mounts: '{shown}' is not absolute")));
    }
    if !path.is_dir() {
        return Err(ApiError::usage(format!("mounts: {shown} is no directory of this host")));
    }
    Ok(path)
}

fn net(text: Option<&str>, rules: Option<&PolicyAsk>) -> Answer<Option<Policy>> {
    let of = |ask: &PolicyAsk| Policy::of(ask.rules.iter().map(String::as_str)).map(Some);
    let read = match (text, rules) {
        (Some(_), Some(_)) => return Err(ApiError::usage("there is both net and policy")),
        (Some(text), None) => Policy::parse(text),
        (None, Some(ask)) => of(ask),
        (None, None) => Ok(None),
    };
    read.map_err(|e| ApiError::usage(format!("net: {e}")))
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
    let request = asked.read(&app.settings.defaults, app.settings.limits)?;
    if let Some(name) = request.name.as_ref().filter(|_| overwrite) {
        replace(&app, name).await?;
    }
    make_volumes(&app, &request.mounts).await?;
    // Whoever breaks off while it starts would leave one that nobody knows of.
    let starting = app.clone();
    let started = tokio::spawn(async move { starting.start(&request, detached).await }).await;
    let sid = started.map_err(ApiError::internal)??;
    let client = app.client(&sid.to_string()).await?;
    Ok((StatusCode::CREATED, Json(SandboxView::of(&app, &client).await?)).into_response())
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

#[cfg(test)]
mod tests {
    use super::*;
    use lampyr_types::Size;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn read(asked: &Value) -> Result<SessionRequest, String> {
        let asked = SandboxAsk::deserialize(asked).map_err(|e| e.to_string())?;
        let defaults = Defaults {
            origin: Origin::Image("default".parse().unwrap()),
            cpus: 2,
            memory: Size::mib(1024),
            disk_size: Size::mib(8192),
            max_output: 1 << 20,
        };
        let limits = Limits { cpus: 4, memory: Size::mib(8192) };
        asked.read(&defaults, limits).map_err(|e| e.to_string())
    }

    /// Keys as they are, and values of every kind.
    fn asked() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "[0-9]{1,3}[MGk]?B?|.{0,8}|/[a-z./]{0,8}".prop_map(Value::from),
        ];
        let value = leaf.prop_recursive(2, 8, 3, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
                proptest::collection::hash_map(
                    "volume|directory|rules|[0-9]{1,5}|/.{0,4}",
                    inner,
                    0..3
                )
                .prop_map(|map| map.into_iter().collect()),
            ]
        });
        let key =
            "name|image|snapshot|cpus|memory|disk_size|env|workdir|ports|mounts|net|policy|ttl";
        proptest::collection::hash_map(key, value, 0..4).prop_map(|map| map.into_iter().collect())
    }

    proptest! {
        #[test]
        fn whatever_is_asked_is_good_or_refused(asked in asked()) {
            if let Ok(request) = read(&asked) {
                prop_assert!((1..=4).contains(&request.cpus));
                prop_assert!((128 << 20..=8 << 30).contains(&request.memory));
                prop_assert!(request.forwards.iter().all(|port| port.host > 0 && port.guest > 0));
                prop_assert!(request.mounts.iter().all(|mount| mount.guest.starts_with('/')));
            }
        }
    }

    #[test]
    fn what_is_left_out_is_as_the_settings_have_it() {
        let request = read(&json!({})).unwrap();
        assert_eq!((request.cpus, request.memory, request.disk_size), (2, 1 << 30, 8 << 30));
        assert_eq!((request.origin.to_string().as_str(), request.attached), ("default", false));
        let request = read(&json!({"ports": {"8080": 80}, "ttl": "1s", "net": "none"})).unwrap();
        assert_eq!(request.forwards, [Forward { host: 8080, guest: 80 }]);
        assert_eq!((request.ttl_ms, request.net), (Some(1000), None));
    }
}
