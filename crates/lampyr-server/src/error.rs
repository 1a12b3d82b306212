//! What went wrong, as a status and an object.

use std::fmt::{self, Display};

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use lampyr_core::{Error, FileFault, RunError};
use lampyr_image::ImageError;
use lampyr_types::ErrorKind;
use serde::Serialize;
use utoipa::ToSchema;

/// What every answer that is no success has.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Error)]
pub(crate) struct ErrorBody {
    /// The kind of failure: `usage`, `timeout`, `vm_crashed`,
    /// `connection_failed` or `session_disconnected`
    error: &'static str,
    /// One sentence
    message: String,
    /// A next step
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
}

/// A request that came to nothing.
#[derive(Debug)]
pub(crate) struct ApiError {
    status: StatusCode,
    kind: ErrorKind,
    message: String,
    hint: Option<String>,
}

/// What a route gives.
pub(crate) type Answer<T> = Result<T, ApiError>;

impl ApiError {
    /// A request that makes no sense.
    pub(crate) fn usage(message: impl Display) -> Self {
        Self::refused(StatusCode::BAD_REQUEST, message)
    }

    /// A request that is refused with this status.
    pub(crate) fn refused(status: StatusCode, message: impl Display) -> Self {
        let message = format!("{message}");
        Self { status, kind: ErrorKind::Usage, message, hint: None }
    }

    /// A failure of ours.
    pub(crate) fn internal(message: impl Display) -> Self {
        let kind = ErrorKind::ConnectionFailed;
        Self { kind, ..Self::refused(StatusCode::INTERNAL_SERVER_ERROR, message) }
    }

    /// What is told of it.
    pub(crate) fn body(self) -> ErrorBody {
        ErrorBody { error: self.kind.word(), message: self.message, hint: self.hint }
    }

    /// Adds a next step.
    pub(crate) fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }
}

impl Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        (self.status, Json(self.body())).into_response()
    }
}

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        let (kind, hint) = (error.kind(), error.hint());
        Self { status: status(&error), kind, message: error.to_string(), hint }
    }
}

impl From<RunError> for ApiError {
    fn from(RunError { kind, message, hint, missing, .. }: RunError) -> Self {
        let status = if missing { StatusCode::NOT_FOUND } else { of_kind(kind) };
        Self { status, kind, message, hint }
    }
}

/// Some failures say more than their kind.
fn status(error: &Error) -> StatusCode {
    match error {
        Error::NoSession(_)
        | Error::NoVolume(_)
        | Error::NoSnapshot(_)
        | Error::Image(ImageError::NoImage { .. }) => StatusCode::NOT_FOUND,
        Error::DeadSession(_) | Error::EndedSession(_) => StatusCode::GONE,
        Error::NameTaken(_)
        | Error::VolumeTaken(_)
        | Error::VolumeBusy(_)
        | Error::SnapshotTaken(_)
        | Error::SnapshotNeeded { .. }
        | Error::SnapshotBusy(_)
        | Error::Incompatible(_)
        | Error::ImageChanged { .. }
        | Error::NoPoint(_)
        | Error::HoldsSecrets => StatusCode::CONFLICT,
        Error::File { fault, .. } => of_fault(*fault),
        other => of_kind(other.kind()),
    }
}

fn of_fault(fault: FileFault) -> StatusCode {
    match fault {
        FileFault::Missing => StatusCode::NOT_FOUND,
        FileFault::InTheWay | FileFault::WrongKind => StatusCode::CONFLICT,
        FileFault::Denied => StatusCode::FORBIDDEN,
        FileFault::Full => StatusCode::INSUFFICIENT_STORAGE,
        FileFault::Other => StatusCode::BAD_REQUEST,
    }
}

fn of_kind(kind: ErrorKind) -> StatusCode {
    match kind {
        ErrorKind::Usage => StatusCode::BAD_REQUEST,
        ErrorKind::Timeout => StatusCode::GATEWAY_TIMEOUT,
        ErrorKind::VmCrashed | ErrorKind::SessionDisconnected => StatusCode::BAD_GATEWAY,
        ErrorKind::ConnectionFailed => StatusCode::SERVICE_UNAVAILABLE,
    }
}
