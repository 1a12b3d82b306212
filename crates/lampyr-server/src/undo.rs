//! What a sandbox can be taken back to.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use lampyr_core::Point;
use lampyr_core::envelope::{time, took};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::app::App;
use crate::ask::{Body, Sandbox};
use crate::error::{Answer, ErrorBody};

/// What a sandbox was before a command
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PointView {
    /// The command's number
    index: u64,
    /// When the command came, as RFC 3339 has it
    at: String,
    /// The command, the beginning of it where it is long
    command: String,
}

/// Where to go back to
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct UndoAsk {
    /// The number of the command before which it was so; the last one's where
    /// it is left out
    to: Option<u64>,
}

/// A sandbox that was taken back
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct UndoneView {
    /// The number of the command before which it was so
    undone_to: u64,
    /// How long that took
    pause_ms: f64,
}

impl From<Point> for PointView {
    fn from(point: Point) -> Self {
        Self { index: point.number, at: time(&point), command: point.command }
    }
}

/// List what a sandbox can be taken back to, the oldest first
///
/// It is remembered in those that are started with `checkpoints`.
#[utoipa::path(
    get, path = "/v1/sandboxes/{sandbox}/log", tag = "sandboxes", operation_id = "getLog",
    params(("sandbox" = String, Path, description = "Its id or its name")),
    responses(
        (status = 200, description = "All of it", body = Vec<PointView>),
        (status = "default", description = "It cannot be told", body = ErrorBody),
    ),
)]
pub(crate) async fn log(
    State(app): State<Arc<App>>,
    Sandbox(word): Sandbox,
) -> Answer<Json<Vec<PointView>>> {
    let points = app.client(&word).await?.log().await?;
    Ok(Json(points.into_iter().map(PointView::from).collect()))
}

/// Take a sandbox back to what it was before a command
///
/// What runs in it ends, and what came after never was.
#[utoipa::path(
    post, path = "/v1/sandboxes/{sandbox}/undo", tag = "sandboxes", operation_id = "undo",
    params(("sandbox" = String, Path, description = "Its id or its name")),
    request_body = UndoAsk,
    responses(
        (status = 200, description = "It is what it was", body = UndoneView),
        (status = 409, description = "Nothing is remembered of that", body = ErrorBody),
        (status = "default", description = "It is not", body = ErrorBody),
    ),
)]
pub(crate) async fn undo(
    State(app): State<Arc<App>>,
    Sandbox(word): Sandbox,
    Body(asked): Body<UndoAsk>,
) -> Answer<Json<UndoneView>> {
    let point = app.client(&word).await?.undo(asked.to).await?;
    Ok(Json(UndoneView { undone_to: point.number, pause_ms: took(&point) }))
}
