//! Files of a sandbox: bytes in and out, and what can be done with names.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::{Body as Stream, Bytes};
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::{StreamExt, stream};
use lampyr_core::{Error, FileFacts, FileKind, FilePut, Output, SessionClient};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use utoipa::{IntoParams, ToSchema};

use crate::answer::RawBytes;
use crate::app::App;
use crate::ask::{self, Body, Query, Sandbox};
use crate::error::{Answer, ApiError, ErrorBody};
use crate::output::Pieces;

/// How long a client may take to send the next piece of a body.
const PIECE_WAIT: Duration = Duration::from_mins(5);

/// A path in a sandbox
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct PathAsk {
    /// The path, absolute
    path: String,
    /// As whom, by name or number; root
    user: Option<String>,
}

/// A path to be looked at
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct StatAsk {
    /// The path, absolute
    path: String,
    /// Look at what a link leads to; true where it is left out
    follow: Option<bool>,
    /// As whom, by name or number; root
    user: Option<String>,
}

/// A file to be written
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct WriteAsk {
    /// The path, absolute
    path: String,
    /// Its permissions, as in `0644`; those of the file that was there
    mode: Option<String>,
    /// Make directories that are missing
    #[serde(default)]
    parents: bool,
    /// As whom, by name or number; root
    user: Option<String>,
}

/// A path to be removed
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct RemoveAsk {
    /// The path, absolute
    path: String,
    /// With all that is in it
    #[serde(default)]
    recursive: bool,
    /// As whom, by name or number; root
    user: Option<String>,
}

/// A file to get another name
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct MoveAsk {
    /// The path that it has
    from: String,
    /// The path that it gets; what is there is replaced
    to: String,
    /// As whom, by name or number; root
    user: Option<String>,
}

/// A directory to be made
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct MkdirAsk {
    /// The path, absolute
    path: String,
    /// Make those it lies in, too; one that is there is no error
    #[serde(default)]
    parents: bool,
    /// Its permissions, as in `0755`
    mode: Option<String>,
    /// As whom, by name or number; root
    user: Option<String>,
}

/// A text to be replaced in a file
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct EditAsk {
    /// The path, absolute
    path: String,
    /// The text that is there
    old: String,
    /// The text that is to be there
    new: String,
    /// Replace it wherever it is; else it must be there once
    #[serde(default)]
    all: bool,
    /// As whom, by name or number; root
    user: Option<String>,
}

/// A file that was changed
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Edited {
    /// How often the text was replaced
    replacements: usize,
}

/// What is known of a file
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct FileView {
    /// The last part of its path; bytes that are no UTF-8 appear as U+FFFD
    name: String,
    /// `file`, `directory`, `symlink` or `other`
    kind: &'static str,
    /// How long it is, in bytes
    size: u64,
    /// Its permissions, as in `0644`
    mode: String,
    /// Who owns it
    uid: u32,
    /// Which group owns it
    gid: u32,
    /// When it was last changed, in milliseconds since 1970
    modified_ms: i64,
    /// Where it leads, if it is a link
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<String>,
}

impl From<FileFacts> for FileView {
    fn from(facts: FileFacts) -> Self {
        let text = |bytes: &Vec<u8>| String::from_utf8_lossy(bytes).into_owned();
        Self {
            name: text(&facts.name),
            kind: match facts.kind {
                FileKind::File => "file",
                FileKind::Directory => "directory",
                FileKind::Symlink => "symlink",
                FileKind::Other => "other",
            },
            size: facts.size,
            mode: format!("{:04o}", facts.mode & 0o7777),
            uid: facts.uid,
            gid: facts.gid,
            modified_ms: facts.modified_ms,
            target: facts.target.as_ref().map(text),
        }
    }
}

/// Checks a path and as whom it is to be used.
fn check(path: &str, user: Option<&String>) -> Answer<()> {
    ask::absolute("path", path)?;
    user.map_or(Ok(()), |user| ask::plain("user", user))
}

/// Read a file
#[utoipa::path(
    get, path = "/v1/sandboxes/{sandbox}/files", tag = "files", operation_id = "readFile",
    params(("sandbox" = String, Path, description = "Its id or its name"), PathAsk),
    responses(
        (status = 200, description = "Its bytes", body = RawBytes, content_type = "application/octet-stream"),
        (status = 404, description = "There is none", body = ErrorBody),
        (status = "default", description = "It cannot be read", body = ErrorBody),
    ),
)]
pub(crate) async fn read(
    State(app): State<Arc<App>>,
    Sandbox(word): Sandbox,
    Query(PathAsk { path, user }): Query<PathAsk>,
) -> Answer<Response> {
    check(&path, user.as_ref())?;
    let client = app.client(&word).await?;
    bytes_of(Fetch { client, path, user, archive: false }).await
}

/// Write a file
///
/// It has its name once all of it is there; until then, and where the request
/// breaks off, what was there before stays.
#[utoipa::path(
    put, path = "/v1/sandboxes/{sandbox}/files", tag = "files", operation_id = "writeFile",
    params(("sandbox" = String, Path, description = "Its id or its name"), WriteAsk),
    request_body(content = RawBytes, content_type = "application/octet-stream"),
    responses(
        (status = 204, description = "It is written"),
        (status = "default", description = "It is not", body = ErrorBody),
    ),
)]
pub(crate) async fn write(
    State(app): State<Arc<App>>,
    Sandbox(word): Sandbox,
    Query(WriteAsk { path, mode, parents, user }): Query<WriteAsk>,
    body: Stream,
) -> Answer<StatusCode> {
    check(&path, user.as_ref())?;
    let put = FilePut { path, mode: ask::mode(mode.as_deref())?, parents };
    let client = app.client(&word).await?;
    let (feed, input) = mpsc::channel(1);
    feed_to(client.write_file(put, user.as_deref(), input), feed, body).await
}

/// Remove a file or a directory
#[utoipa::path(
    delete, path = "/v1/sandboxes/{sandbox}/files", tag = "files", operation_id = "removeFile",
    params(("sandbox" = String, Path, description = "Its id or its name"), RemoveAsk),
    responses(
        (status = 204, description = "It is gone"),
        (status = "default", description = "It is not", body = ErrorBody),
    ),
)]
pub(crate) async fn remove(
    State(app): State<Arc<App>>,
    Sandbox(word): Sandbox,
    Query(RemoveAsk { path, recursive, user }): Query<RemoveAsk>,
) -> Answer<StatusCode> {
    check(&path, user.as_ref())?;
    app.client(&word).await?.remove_file(&path, recursive, user.as_deref()).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// List a directory by name
#[utoipa::path(
    get, path = "/v1/sandboxes/{sandbox}/files/list", tag = "files", operation_id = "listDirectory",
    params(("sandbox" = String, Path, description = "Its id or its name"), PathAsk),
    responses(
        (status = 200, description = "All that is in it", body = Vec<FileView>),
        (status = "default", description = "It cannot be listed", body = ErrorBody),
    ),
)]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    Sandbox(word): Sandbox,
    Query(PathAsk { path, user }): Query<PathAsk>,
) -> Answer<Json<Vec<FileView>>> {
    check(&path, user.as_ref())?;
    let all = app.client(&word).await?.list_dir(&path, user.as_deref()).await?;
    Ok(Json(all.into_iter().map(FileView::from).collect()))
}

/// Look at a file
#[utoipa::path(
    get, path = "/v1/sandboxes/{sandbox}/files/stat", tag = "files", operation_id = "statFile",
    params(("sandbox" = String, Path, description = "Its id or its name"), StatAsk),
    responses(
        (status = 200, description = "What is known of it", body = FileView),
        (status = 404, description = "There is none", body = ErrorBody),
        (status = "default", description = "It cannot be looked at", body = ErrorBody),
    ),
)]
pub(crate) async fn stat(
    State(app): State<Arc<App>>,
    Sandbox(word): Sandbox,
    Query(StatAsk { path, follow, user }): Query<StatAsk>,
) -> Answer<Json<FileView>> {
    check(&path, user.as_ref())?;
    let client = app.client(&word).await?;
    Ok(Json(client.stat(&path, follow.unwrap_or(true), user.as_deref()).await?.into()))
}

/// Give a file another name
#[utoipa::path(
    post, path = "/v1/sandboxes/{sandbox}/files/move", tag = "files", operation_id = "moveFile",
    params(("sandbox" = String, Path, description = "Its id or its name")),
    request_body = MoveAsk,
    responses(
        (status = 204, description = "It has it"),
        (status = "default", description = "It has not", body = ErrorBody),
    ),
)]
pub(crate) async fn rename(
    State(app): State<Arc<App>>,
    Sandbox(word): Sandbox,
    Body(MoveAsk { from, to, user }): Body<MoveAsk>,
) -> Answer<StatusCode> {
    check(&from, user.as_ref())?;
    check(&to, None)?;
    app.client(&word).await?.move_file(&from, &to, user.as_deref()).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Make a directory
#[utoipa::path(
    post, path = "/v1/sandboxes/{sandbox}/files/mkdir", tag = "files", operation_id = "makeDirectory",
    params(("sandbox" = String, Path, description = "Its id or its name")),
    request_body = MkdirAsk,
    responses(
        (status = 204, description = "It is there"),
        (status = "default", description = "It is not", body = ErrorBody),
    ),
)]
pub(crate) async fn mkdir(
    State(app): State<Arc<App>>,
    Sandbox(word): Sandbox,
    Body(MkdirAsk { path, parents, mode, user }): Body<MkdirAsk>,
) -> Answer<StatusCode> {
    check(&path, user.as_ref())?;
    let mode = ask::mode(mode.as_deref())?;
    app.client(&word).await?.make_dir(&path, parents, mode, user.as_deref()).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Replace a text in a file
#[utoipa::path(
    post, path = "/v1/sandboxes/{sandbox}/files/edit", tag = "files", operation_id = "editFile",
    params(("sandbox" = String, Path, description = "Its id or its name")),
    request_body = EditAsk,
    responses(
        (status = 200, description = "It was replaced", body = Edited),
        (status = "default", description = "It was not, and the file is as it was", body = ErrorBody),
    ),
)]
pub(crate) async fn edit(
    State(app): State<Arc<App>>,
    Sandbox(word): Sandbox,
    Body(EditAsk { path, old, new, all, user }): Body<EditAsk>,
) -> Answer<Json<Edited>> {
    check(&path, user.as_ref())?;
    let client = app.client(&word).await?;
    let edited = client.edit_file(&path, (&old, &new), all, user.as_deref()).await?;
    Ok(Json(Edited { replacements: edited }))
}

/// Fetch what is in a directory, as a tar archive
#[utoipa::path(
    get, path = "/v1/sandboxes/{sandbox}/archive", tag = "files", operation_id = "packDirectory",
    params(("sandbox" = String, Path, description = "Its id or its name"), PathAsk),
    responses(
        (status = 200, description = "The archive", body = RawBytes, content_type = "application/x-tar"),
        (status = "default", description = "It cannot be packed", body = ErrorBody),
    ),
)]
pub(crate) async fn pack(
    State(app): State<Arc<App>>,
    Sandbox(word): Sandbox,
    Query(PathAsk { path, user }): Query<PathAsk>,
) -> Answer<Response> {
    check(&path, user.as_ref())?;
    let client = app.client(&word).await?;
    bytes_of(Fetch { client, path, user, archive: true }).await
}

/// Unpack a tar archive into a directory, which is made where it is missing
#[utoipa::path(
    put, path = "/v1/sandboxes/{sandbox}/archive", tag = "files", operation_id = "unpackDirectory",
    params(("sandbox" = String, Path, description = "Its id or its name"), PathAsk),
    request_body(content = RawBytes, content_type = "application/x-tar"),
    responses(
        (status = 204, description = "It is unpacked"),
        (status = "default", description = "It is not, or not to its end", body = ErrorBody),
    ),
)]
pub(crate) async fn unpack(
    State(app): State<Arc<App>>,
    Sandbox(word): Sandbox,
    Query(PathAsk { path, user }): Query<PathAsk>,
    body: Stream,
) -> Answer<StatusCode> {
    check(&path, user.as_ref())?;
    let client = app.client(&word).await?;
    let (feed, input) = mpsc::channel(1);
    feed_to(client.unpack_into(&path, user.as_deref(), input), feed, body).await
}

/// A piece of a file, or how that ended.
enum Piece {
    Bytes(Bytes),
    End(Result<(), Error>),
}

/// Bytes to be fetched.
struct Fetch {
    client: Arc<SessionClient>,
    path: String,
    user: Option<String>,
    /// Not a file, but all that is in a directory.
    archive: bool,
}

impl Fetch {
    fn kind(&self) -> &'static str {
        if self.archive { "application/x-tar" } else { "application/octet-stream" }
    }

    async fn fetch(self, output: &mut dyn Output) -> Result<(), Error> {
        let (path, user) = (self.path.as_str(), self.user.as_deref());
        if self.archive {
            self.client.pack_dir(path, user, output).await
        } else {
            self.client.read_file(path, user, output).await
        }
    }
}

/// An answer of bytes. What fails before the first of them is an answer of its
/// own; what fails later breaks the answer off.
async fn bytes_of(what: Fetch) -> Answer<Response> {
    let kind = what.kind();
    let (mut pieces, mut taken) =
        Pieces::new(|_, bytes| Piece::Bytes(Bytes::copy_from_slice(bytes)));
    let gone = pieces.gone();
    tokio::spawn(async move {
        let fetching = async {
            let fetched = what.fetch(&mut pieces).await;
            pieces.last(Piece::End(fetched)).await;
        };
        tokio::select! {
            () = fetching => {}
            () = gone => {}
        }
    });
    let first = match taken.recv().await {
        Some(Piece::End(fetched)) => fetched.map(|()| Bytes::new())?,
        Some(Piece::Bytes(bytes)) => bytes,
        None => return Err(Error::Disconnected.into()),
    };
    let rest = stream::unfold(taken, |mut taken| async {
        match taken.recv().await? {
            Piece::Bytes(bytes) => Some((Ok(bytes), taken)),
            Piece::End(Ok(())) => None,
            Piece::End(Err(e)) => Some((Err(e), taken)),
        }
    });
    let body = Stream::from_stream(stream::iter([Ok(first)]).chain(rest));
    Ok(([(header::CONTENT_TYPE, kind)], body).into_response())
}

/// Feeds a body to whoever wants it. A body that breaks off is none: what takes
/// it is dropped, and never hears of its end.
async fn feed_to(
    taking: impl Future<Output = Result<(), Error>>,
    feed: mpsc::Sender<Vec<u8>>,
    body: Stream,
) -> Answer<StatusCode> {
    let feeding = async move {
        let mut body = body.into_data_stream();
        loop {
            let Ok(piece) = tokio::time::timeout(PIECE_WAIT, body.next()).await else {
                return (
                    ApiError::refused(StatusCode::REQUEST_TIMEOUT, "the body does not come"),
                    feed,
                );
            };
            let Some(piece) = piece else { break };
            let piece = piece.map_err(|e| ApiError::usage(format!("the body broke off: {e}")));
            match piece {
                // Whoever takes no more says why.
                Ok(piece) => drop(feed.send(piece.into()).await),
                Err(broken) => return (broken, feed),
            }
        }
        drop(feed);
        std::future::pending().await
    };
    tokio::select! {
        taken = taking => taken.map(|()| StatusCode::NO_CONTENT).map_err(ApiError::from),
        (broken, _feed) = feeding => Err(broken),
    }
}
