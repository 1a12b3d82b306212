//! Volumes: directories of this host that outlive the sandboxes they are in.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use lampyr_core::limits::quota;
use lampyr_core::{Error, Volume};
use lampyr_types::{Name, Size};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::app::{App, blocking};
use crate::ask::{self, Body};
use crate::error::{Answer, ApiError, ErrorBody};

/// A volume to make
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct VolumeAsk {
    /// The most that may be in it, as in `2GB`
    quota: Option<String>,
    /// What is noted about it
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

/// A volume
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct VolumeView {
    /// Its name
    name: String,
    /// What is in it, in bytes
    size_bytes: u64,
    /// The most that may be in it, in bytes
    quota_bytes: Option<u64>,
    /// What its maker noted
    labels: BTreeMap<String, String>,
    /// When it was made, as RFC 3339 has it
    created: String,
    /// When it was last mounted, likewise
    last_used: Option<String>,
}

impl From<Volume> for VolumeView {
    fn from(volume: Volume) -> Self {
        let Volume { name, size_bytes, quota_bytes, labels, created, last_used } = volume;
        Self { name: name.into(), size_bytes, quota_bytes, labels, created, last_used }
    }
}

/// List all volumes by name
#[utoipa::path(
    get, path = "/v1/volumes", tag = "volumes", operation_id = "listVolumes",
    responses(
        (status = 200, description = "All of them", body = Vec<VolumeView>),
        (status = "default", description = "They cannot be listed", body = ErrorBody),
    ),
)]
pub(crate) async fn list(State(app): State<Arc<App>>) -> Answer<Json<Vec<VolumeView>>> {
    let store = app.store()?;
    let all = blocking(move || {
        // One that was removed meanwhile is none.
        let names = Volume::list(&store)?.into_iter();
        Ok(names.filter_map(|name| Volume::inspect(&store, &name).ok()).collect::<Vec<_>>())
    });
    Ok(Json(all.await?.into_iter().map(VolumeView::from).collect()))
}

/// Make a volume, unless it is there
///
/// One that is there stays as it is.
#[utoipa::path(
    put, path = "/v1/volumes/{volume}", tag = "volumes", operation_id = "ensureVolume",
    params(("volume" = String, Path, description = "Its name")),
    request_body = VolumeAsk,
    responses(
        (status = 200, description = "It was there", body = VolumeView),
        (status = 201, description = "It was made", body = VolumeView),
        (status = "default", description = "It could not be made", body = ErrorBody),
    ),
)]
pub(crate) async fn ensure(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    Body(asked): Body<VolumeAsk>,
) -> Answer<(StatusCode, Json<VolumeView>)> {
    let (name, quota) = (read(&name)?, asked.quota.as_deref().map(bound).transpose()?);
    let (store, labels) = (app.store()?, ask::labels(asked.labels)?);
    let made = blocking(move || Volume::ensure(&store, &name, quota, labels));
    let (volume, new) = made.await?;
    let status = if new { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(volume.into())))
}

/// Look at a volume
#[utoipa::path(
    get, path = "/v1/volumes/{volume}", tag = "volumes", operation_id = "getVolume",
    params(("volume" = String, Path, description = "Its name")),
    responses(
        (status = 200, description = "What it is", body = VolumeView),
        (status = "default", description = "There is none", body = ErrorBody),
    ),
)]
pub(crate) async fn inspect(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
) -> Answer<Json<VolumeView>> {
    on(&app, &name, Volume::inspect).await.map(|volume| Json(volume.into()))
}

/// Remove a volume and what is in it
#[utoipa::path(
    delete, path = "/v1/volumes/{volume}", tag = "volumes", operation_id = "removeVolume",
    params(("volume" = String, Path, description = "Its name")),
    responses(
        (status = 204, description = "It is gone"),
        (status = 409, description = "It is in use", body = ErrorBody),
        (status = "default", description = "There is none", body = ErrorBody),
    ),
)]
pub(crate) async fn remove(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
) -> Answer<StatusCode> {
    on(&app, &name, Volume::remove).await.map(|()| StatusCode::NO_CONTENT)
}

async fn on<T: Send + 'static>(
    app: &App,
    name: &str,
    work: impl FnOnce(&lampyr_store::Store, &Name) -> Result<T, Error> + Send + 'static,
) -> Answer<T> {
    let (store, name) = (app.store()?, read(name)?);
    blocking(move || work(&store, &name)).await
}

fn read(name: &str) -> Answer<Name> {
    name.parse().map_err(ApiError::usage)
}

fn bound(text: &str) -> Answer<Size> {
    quota(ask::size("quota", text)?).map_err(|e| ApiError::usage(format!("quota: {e}")))
}
