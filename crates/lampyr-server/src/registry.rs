//! Snapshots that go to a registry, and come from one.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use lampyr_core::{PullRequest, pull_snapshot, push_snapshot};
use lampyr_oci::{OciError, Reference};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::app::{App, aside};
use crate::ask::Body;
use crate::error::{Answer, ApiError, ErrorBody};
use crate::snapshots::{SnapshotView, read};

/// Where to put a snapshot
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PushAsk {
    /// The registry's name, the repository and the tag, as images have them
    reference: String,
}

/// A snapshot that is in a registry
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PushedView {
    /// Where it is
    pushed: String,
    /// The digest of what is there
    digest: String,
}

/// A snapshot to fetch
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PullAsk {
    /// Where it is
    reference: String,
    /// What to call it here; the last word of the repository where it is left out
    name: Option<String>,
    /// An earlier one of the same name is replaced; true where it is left out
    overwrite: Option<bool>,
}

/// Put a snapshot into a registry
///
/// The disk that it stands on goes along; what the registry has is not sent.
/// Where it fails, the reference stands for what it stood for before. It goes on
/// where whoever asked for it breaks off.
#[utoipa::path(
    post, path = "/v1/snapshots/{snapshot}/push", tag = "snapshots", operation_id = "pushSnapshot",
    params(("snapshot" = String, Path, description = "Its name")),
    request_body = PushAsk,
    responses(
        (status = 200, description = "It is there", body = PushedView),
        (status = 422, description = "The snapshot is damaged", body = ErrorBody),
        (status = "default", description = "It is not", body = ErrorBody),
    ),
)]
pub(crate) async fn push(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    Body(asked): Body<PushAsk>,
) -> Answer<Json<PushedView>> {
    let (name, reference) = (read(&name)?, known(&asked.reference)?);
    let pushed = reference.to_string();
    let pushing = async move {
        let host = &app.settings.host;
        let (settings, progress) = (&host.registries.settings, &*host.progress);
        push_snapshot(app.home(), &name, &reference, settings, progress).await
    };
    let digest = aside(pushing).await?.to_string();
    Ok(Json(PushedView { pushed, digest }))
}

/// Fetch a snapshot from a registry
///
/// What is here is not fetched. Where it fails, an earlier one of the same name
/// is as it was, and the next time goes on with what came. It goes on where
/// whoever asked for it breaks off.
#[utoipa::path(
    post, path = "/v1/snapshots/pull", tag = "snapshots", operation_id = "pullSnapshot",
    request_body = PullAsk,
    responses(
        (status = 201, description = "It is here", body = SnapshotView),
        (status = 409, description = "The name is taken", body = ErrorBody),
        (status = 422, description = "It is damaged, or does not fit this host", body = ErrorBody),
        (status = "default", description = "It is not", body = ErrorBody),
    ),
)]
pub(crate) async fn pull(
    State(app): State<Arc<App>>,
    Body(asked): Body<PullAsk>,
) -> Answer<(StatusCode, Json<SnapshotView>)> {
    let reference = known(&asked.reference)?;
    let last = reference.repository().rsplit('/').next().unwrap_or_default();
    let name = read(asked.name.as_deref().unwrap_or(last))?;
    let request = PullRequest { name, overwrite: asked.overwrite.unwrap_or(true), reference };
    let pulling = async move { pull_snapshot(app.host().await?, &request).await };
    Ok((StatusCode::CREATED, Json(aside(pulling).await?.into())))
}

/// A place in a registry.
fn known(reference: &str) -> Answer<Reference> {
    reference.parse().map_err(|e: OciError| ApiError::usage(format!("reference: {e}")))
}
