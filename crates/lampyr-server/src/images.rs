//! Images.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use lampyr_image::Image;
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::{App, blocking};
use crate::error::{Answer, ErrorBody};

/// An image
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ImageView {
    /// Its name
    name: String,
    /// The image that it was made from
    base: Option<String>,
    /// The digest of its disk
    digest: String,
    /// What it runs where nobody says anything else
    command: Vec<String>,
    /// The size of its disk in bytes
    size_bytes: u64,
    /// When it was made, as RFC 3339 has it
    created: String,
}

impl From<Image> for ImageView {
    fn from(image: Image) -> Self {
        let Image { name, base, digest, command, size_bytes, created, .. } = image;
        Self { name, base, digest, command, size_bytes, created }
    }
}

/// List all images that are here, by name
#[utoipa::path(
    get, path = "/v1/images", tag = "images", operation_id = "listImages",
    responses(
        (status = 200, description = "All of them", body = Vec<ImageView>),
        (status = "default", description = "They cannot be listed", body = ErrorBody),
    ),
)]
pub(crate) async fn list(State(app): State<Arc<App>>) -> Answer<Json<Vec<ImageView>>> {
    let home = app.home().to_owned();
    let all = blocking(move || lampyr_core::images(&home)).await?;
    Ok(Json(all.into_iter().map(ImageView::from).collect()))
}
