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
        let (kind, message) = (error.kind(), plain(&error.to_string()));
        Self { status: status(&error), kind, message, hint: error.hint().as_deref().map(plain) }
    }
}

impl From<RunError> for ApiError {
    fn from(error: RunError) -> Self {
        let RunError { kind, message, hint, missing, .. } = without_flags(error);
        let status = if missing { StatusCode::NOT_FOUND } else { of_kind(kind) };
        Self { status, kind, message, hint }
    }
}

/// What is told of a command that failed, in the words of this API.
pub(crate) fn without_flags(error: RunError) -> RunError {
    let (message, hint) = (plain(&error.message), error.hint.as_deref().map(plain));
    RunError { message, hint, ..error }
}

/// A flag of the command line's is a key here: `--with-secrets` is
/// `with_secrets`. What names a whole command stays: that can be run.
fn plain(text: &str) -> String {
    if text.contains("lampyr ") {
        return text.to_owned();
    }
    let words = text.split(' ').map(|word| match word.strip_prefix("--") {
        Some(flag) if !flag.is_empty() => format!("`{}`", flag.replace('-', "_")),
        _ => word.to_owned(),
    });
    words.collect::<Vec<_>>().join(" ")
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
        | Error::Image(ImageError::InUse { .. })
        | Error::SnapshotTaken(_)
        | Error::SnapshotNeeded { .. }
        | Error::SnapshotBusy(_)
        | Error::NoPoint(_)
        | Error::HoldsSecrets => StatusCode::CONFLICT,
        Error::SnapshotDamaged(_)
        | Error::SnapshotFormat(_)
        | Error::SnapshotTooLarge(_)
        | Error::NotSnapshot(_)
        | Error::Incompatible(_)
        | Error::ImageChanged { .. } => StatusCode::UNPROCESSABLE_ENTITY,
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

#[cfg(test)]
mod tests {
    use lampyr_types::Name;

    use super::*;

    fn name() -> Name {
        "one".parse().unwrap()
    }

    #[test]
    fn what_is_in_the_way_is_a_conflict_and_no_other_failure_is() {
        let (usage, failed) = (ErrorKind::Usage, ErrorKind::ConnectionFailed);
        let cases = [
            (Error::SnapshotBusy(name()), 409, usage),
            (Error::SnapshotNeeded { name: name(), by: vec![name()] }, 409, usage),
            (Error::SnapshotTaken(name()), 409, usage),
            (Error::VolumeBusy(name()), 409, usage),
            (Error::NameTaken(name()), 409, usage),
            (Error::HoldsSecrets, 409, usage),
            (Error::NoSnapshot(name()), 404, failed),
            (Error::Incompatible("a difference".into()), 422, failed),
            (Error::SnapshotFormat("a part".into()), 422, failed),
            (Error::ImageChanged { image: "default".into() }, 422, failed),
        ];
        for (error, status, kind) in cases {
            let told = ApiError::from(error);
            assert_eq!((told.status.as_u16(), told.kind), (status, kind), "{told}");
        }
    }

    #[test]
    fn nobody_is_told_of_flags() {
        let hint = |error: Error| ApiError::from(error).hint.unwrap();
        assert_eq!(
            hint(Error::SnapshotNeeded { name: name(), by: vec![name()] }),
            "`force` removes all of them"
        );
        let secrets = "`with_secrets` copies it all the same, without their values";
        assert_eq!(hint(Error::HoldsSecrets), secrets);
        let timeout = Error::Timeout(lampyr_types::Span::secs(1));
        let late = without_flags(timeout.into());
        assert_eq!(late.hint.as_deref(), Some("give it longer with `timeout`"));
        let command = "`lampyr doctor --fix` makes it anew";
        assert_eq!(plain(command), command);
        assert_eq!(plain("a -- b"), "a -- b");
    }
}
