//! Whether the server is there, and what it counts.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use lampyr_core::{SessionState, sessions};
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::{App, blocking};
use crate::error::{Answer, ErrorBody};

/// That a server is there
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Health {
    /// `true`
    ok: bool,
    /// Lampyr's version
    version: &'static str,
}

/// Ask whether the server is there
#[utoipa::path(
    get, path = "/v1/health", tag = "server", operation_id = "health", security(()),
    responses((status = 200, description = "It is", body = Health)),
)]
pub(crate) async fn health() -> Json<Health> {
    Json(Health { ok: true, version: env!("CARGO_PKG_VERSION") })
}

/// What the server counts, as Prometheus reads it
#[utoipa::path(
    get, path = "/v1/metrics", tag = "server", operation_id = "metrics",
    responses(
        (status = 200, description = "Metrics", body = String, content_type = "text/plain"),
        (status = "default", description = "They cannot be told", body = ErrorBody),
    ),
)]
pub(crate) async fn metrics(State(app): State<Arc<App>>) -> Answer<impl IntoResponse> {
    let home = app.home().to_owned();
    let all = blocking(move || sessions(&home)).await?;
    let living = all.into_iter().filter(|(_, state)| *state == SessionState::Running);
    let (mut sandboxes, mut execs, mut memory) = (0, 0, 0);
    for (record, _) in living {
        sandboxes += 1;
        let Ok(client) = app.client(&record.sid.to_string()).await else { continue };
        let Ok(vitals) = client.vitals().await else { continue };
        execs += vitals.active_execs;
        memory += vitals.memory_bytes.unwrap_or_default();
    }
    let begun = app.execs.load(Ordering::Relaxed);
    let mut text = String::new();
    let mut tell = |name: &str, kind: &str, help: &str, value: u64| {
        let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n");
    };
    tell("lampyr_sandboxes", "gauge", "Sandboxes that run.", sandboxes);
    tell("lampyr_active_execs", "gauge", "Commands that run in them.", execs);
    tell("lampyr_memory_bytes", "gauge", "What they have of the host's memory.", memory);
    tell("lampyr_execs_total", "counter", "Commands that this server began.", begun);
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text))
}
