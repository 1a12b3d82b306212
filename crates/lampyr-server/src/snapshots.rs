//! Snapshots: sandboxes that were saved while they ran, by name.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use lampyr_core::envelope::millis;
use lampyr_core::{
    Error, Snapshot, SnapshotRequest, Snapshots, Taken, create_snapshot, remove_snapshot, snapshot,
    snapshots,
};
use lampyr_types::Name;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::app::{App, aside, blocking};
use crate::ask::{self, Body, Query};
use crate::error::{Answer, ApiError, ErrorBody};

/// When something was made of which that is not known.
const NEVER: &str = "1970-01-01T00:00:00Z";

/// A snapshot to take
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SnapshotAsk {
    /// The sandbox to save: its id or its name
    sandbox: String,
    /// A name to call the snapshot by
    name: String,
    /// An earlier one of the same name is replaced; true where it is left out
    overwrite: Option<bool>,
    /// What is noted about it
    #[serde(default)]
    labels: BTreeMap<String, String>,
    /// Take it even if the sandbox holds secrets. Their values are not in it
    #[serde(default)]
    with_secrets: bool,
}

/// A snapshot
#[derive(Debug, Default, Serialize, ToSchema)]
pub(crate) struct SnapshotView {
    /// Its name
    name: String,
    /// What is wrong with it, where it cannot be read: then its name alone is
    /// known, all else is empty, and it can be removed
    #[serde(skip_serializing_if = "Option::is_none")]
    damaged: Option<String>,
    /// The digest of its manifest
    digest: String,
    /// When it was taken, as RFC 3339 has it
    created: String,
    /// The image beneath its disk
    image: String,
    /// Its processors
    cpus: u32,
    /// Its memory in bytes
    memory: u64,
    /// The size of its disk in bytes
    disk_size: u64,
    /// Whether it has a network card
    network: bool,
    /// What its maker noted
    labels: BTreeMap<String, String>,
    /// The snapshot that it was built on
    parent: Option<ParentView>,
    /// What it takes on the disk that no other snapshot does, in bytes
    own_bytes: u64,
    /// What all of its parts take, in bytes
    total_bytes: u64,
    /// How long the sandbox stood still; only where it has just been taken
    #[serde(skip_serializing_if = "Option::is_none")]
    pause_ms: Option<f64>,
}

/// The snapshot that another was built on
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ParentView {
    /// The digest of its manifest
    digest: String,
    /// Its name, where it has one still
    name: Option<String>,
}

/// How to remove a snapshot
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct RemoveAsk {
    /// Those that were built on it are removed, too
    #[serde(default)]
    force: bool,
}

/// Snapshots that are gone
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RemovedView {
    /// Their names
    removed: Vec<String>,
}

impl From<Snapshot> for SnapshotView {
    fn from(snapshot: Snapshot) -> Self {
        let Snapshot { name, digest, created, image, cpus, memory, disk_size, network, .. } =
            snapshot;
        let parent = |(digest, name): (_, Option<Name>)| ParentView {
            digest: format!("{digest}"),
            name: name.map(String::from),
        };
        Self {
            name: name.into(),
            digest: digest.to_string(),
            created: created.to_string(),
            image,
            cpus,
            memory,
            disk_size,
            network,
            labels: snapshot.labels,
            parent: snapshot.parent.map(parent),
            own_bytes: snapshot.own_bytes,
            total_bytes: snapshot.total_bytes,
            pause_ms: None,
            damaged: None,
        }
    }
}

impl SnapshotView {
    /// One that cannot be read, and why.
    fn damaged((name, why): (Name, Error)) -> Self {
        let (name, damaged) = (name.into(), Some(why.to_string()));
        Self { name, damaged, created: NEVER.to_owned(), ..Self::default() }
    }
}

/// Take a snapshot of a sandbox, which goes on at once
///
/// Where it fails, an earlier one of the same name is as it was.
#[utoipa::path(
    post, path = "/v1/snapshots", tag = "snapshots", operation_id = "createSnapshot",
    request_body = SnapshotAsk,
    responses(
        (status = 201, description = "It is there", body = SnapshotView),
        (status = 409, description = "The name is taken, or the sandbox holds secrets", body = ErrorBody),
        (status = "default", description = "It is not", body = ErrorBody),
    ),
)]
pub(crate) async fn create(
    State(app): State<Arc<App>>,
    Body(asked): Body<SnapshotAsk>,
) -> Answer<(StatusCode, Json<SnapshotView>)> {
    let word = ask::sandbox("sandbox", &asked.sandbox)?;
    let request = SnapshotRequest {
        name: read(&asked.name)?,
        overwrite: asked.overwrite.unwrap_or(true),
        with_secrets: asked.with_secrets,
        labels: ask::labels(asked.labels)?,
    };
    let taking = async move { create_snapshot(app.host().await?, &word, &request).await };
    let Taken { snapshot, pause } = aside(taking).await?;
    Ok((StatusCode::CREATED, Json(taken(snapshot, pause))))
}

fn taken(snapshot: Snapshot, pause: Duration) -> SnapshotView {
    SnapshotView { pause_ms: Some(millis(pause)), ..snapshot.into() }
}

/// List all snapshots by name, also those that are damaged
#[utoipa::path(
    get, path = "/v1/snapshots", tag = "snapshots", operation_id = "listSnapshots",
    responses(
        (status = 200, description = "All of them", body = Vec<SnapshotView>),
        (status = "default", description = "They cannot be listed", body = ErrorBody),
    ),
)]
pub(crate) async fn list(State(app): State<Arc<App>>) -> Answer<Json<Vec<SnapshotView>>> {
    let home = app.home().to_owned();
    let Snapshots { whole, unreadable } = blocking(move || snapshots(&home)).await?;
    let unreadable = unreadable.into_iter().map(SnapshotView::damaged);
    let mut all: Vec<_> = whole.into_iter().map(SnapshotView::from).chain(unreadable).collect();
    all.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(Json(all))
}

/// Look at a snapshot
#[utoipa::path(
    get, path = "/v1/snapshots/{snapshot}", tag = "snapshots", operation_id = "getSnapshot",
    params(("snapshot" = String, Path, description = "Its name")),
    responses(
        (status = 200, description = "What it is", body = SnapshotView),
        (status = 422, description = "It is there, but damaged", body = ErrorBody),
        (status = "default", description = "There is none", body = ErrorBody),
    ),
)]
pub(crate) async fn inspect(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
) -> Answer<Json<SnapshotView>> {
    let (home, name) = (app.home().to_owned(), read(&name)?);
    let found = blocking(move || snapshot(&home, &name)).await?;
    Ok(Json(found.into()))
}

/// Remove a snapshot
///
/// One that others were built on stays, unless `force` takes them along; so
/// does one that a sandbox runs from.
#[utoipa::path(
    delete, path = "/v1/snapshots/{snapshot}", tag = "snapshots", operation_id = "removeSnapshot",
    params(("snapshot" = String, Path, description = "Its name"), RemoveAsk),
    responses(
        (status = 200, description = "It is gone", body = RemovedView),
        (status = 409, description = "It is needed", body = ErrorBody),
        (status = "default", description = "There is none", body = ErrorBody),
    ),
)]
pub(crate) async fn remove(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    Query(asked): Query<RemoveAsk>,
) -> Answer<Json<RemovedView>> {
    let (home, name) = (app.home().to_owned(), read(&name)?);
    let removed = blocking(move || remove_snapshot(&home, &name, asked.force)).await?;
    Ok(Json(RemovedView { removed: removed.into_iter().map(String::from).collect() }))
}

pub(crate) fn read(name: &str) -> Answer<Name> {
    name.parse().map_err(ApiError::usage)
}
