//! Forks: more sandboxes of one that runs.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use lampyr_core::envelope::millis;
use lampyr_core::limits::MOST_FORKS;
use lampyr_core::{ForkRequest, sessions};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::app::{App, aside, blocking};
use crate::ask::{Body, Sandbox};
use crate::error::{Answer, ApiError, ErrorBody};
use crate::sandboxes::SandboxView;

/// Forks to make
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ForkAsk {
    /// How many, at most 1000; one where it is left out
    count: Option<u32>,
    /// They outlive this server
    #[serde(default)]
    detached: bool,
    /// Fork it even if it holds secrets. The forks hold none
    #[serde(default)]
    with_secrets: bool,
}

/// What came of forking a sandbox
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ForkedView {
    /// The new ones
    sandboxes: Vec<SandboxView>,
    /// How long the one that was forked stood still
    pause_ms: f64,
}

/// Start sandboxes that are what one is now, which goes on at once
///
/// They have no name and none of its ports. Where one of them cannot be
/// started, none is left.
#[utoipa::path(
    post, path = "/v1/sandboxes/{sandbox}/fork", tag = "sandboxes", operation_id = "forkSandbox",
    params(("sandbox" = String, Path, description = "Its id or its name")),
    request_body = ForkAsk,
    responses(
        (status = 201, description = "They run", body = ForkedView),
        (status = 409, description = "It holds secrets", body = ErrorBody),
        (status = "default", description = "They do not", body = ErrorBody),
    ),
)]
pub(crate) async fn fork(
    State(app): State<Arc<App>>,
    Sandbox(word): Sandbox,
    Body(asked): Body<ForkAsk>,
) -> Answer<(StatusCode, Json<ForkedView>)> {
    let count = asked.count.unwrap_or(1);
    if !(1..=MOST_FORKS).contains(&count) {
        return Err(ApiError::usage(format!("count: it is from 1 to {MOST_FORKS}")));
    }
    let attached = !asked.detached;
    let wanted = ForkRequest { count, attached, with_secrets: asked.with_secrets };
    let forking = app.clone();
    let (sids, pause) = aside(async move { forking.fork(&word, wanted).await }).await?;
    let home = app.home().to_owned();
    let mut all = blocking(move || sessions(&home)).await?;
    all.retain(|(record, _)| sids.contains(&record.sid));
    let new = all.into_iter().map(|(record, state)| SandboxView::new(&app, record, state));
    let forked = ForkedView { sandboxes: new.collect(), pause_ms: millis(pause) };
    Ok((StatusCode::CREATED, Json(forked)))
}
