//! All routes, and the document that describes them.

use std::sync::Arc;

use axum::extract::DefaultBodyLimit;
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router, middleware};
use utoipa::openapi::OpenApi;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::{Modify, OpenApi as _};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::access::{self, Access};
use crate::app::App;
use crate::ask::MAX_BODY;
use crate::error::ApiError;
use crate::{
    builds, exec, files, forks, images, metrics, registry, sandboxes, snapshots, socket, undo,
    volumes,
};

/// Sandboxes over HTTP: started, used and stopped.
///
/// Sizes are `512M` or `2GB`, in binary multiples; spans of time `500ms`, `3s`,
/// `5m` or `1h`.
#[derive(utoipa::OpenApi)]
#[openapi(
    info(title = "Lampyr", license(name = "Apache-2.0", identifier = "Apache-2.0")),
    components(schemas(socket::Word)),
    security(("token" = [])),
    modifiers(&Token),
)]
struct Document;

/// By a port a token is needed.
struct Token;

impl Modify for Token {
    fn modify(&self, document: &mut OpenApi) {
        let scheme = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
        if let Some(components) = &mut document.components {
            components.add_security_scheme("token", scheme);
        }
    }
}

/// Every route is here once.
fn described() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(sandboxes::create, sandboxes::list))
        .routes(routes!(sandboxes::inspect, sandboxes::stop))
        .routes(routes!(sandboxes::detach))
        .routes(routes!(sandboxes::restrict))
        .routes(routes!(forks::fork))
        .routes(routes!(undo::log))
        .routes(routes!(undo::undo))
        .routes(routes!(exec::exec))
        .routes(routes!(exec::job))
        .routes(routes!(socket::exec))
        .routes(routes!(files::read, files::write, files::remove))
        .routes(routes!(files::list))
        .routes(routes!(files::stat))
        .routes(routes!(files::rename))
        .routes(routes!(files::mkdir))
        .routes(routes!(files::edit))
        .routes(routes!(files::pack, files::unpack))
        .routes(routes!(builds::build))
        .routes(routes!(snapshots::create, snapshots::list))
        .routes(routes!(snapshots::inspect, snapshots::remove))
        .routes(routes!(registry::push))
        .routes(routes!(registry::pull))
        .routes(routes!(volumes::list))
        .routes(routes!(volumes::ensure, volumes::inspect, volumes::remove))
        .routes(routes!(images::list))
        .routes(routes!(metrics::health))
        .routes(routes!(metrics::metrics))
}

/// The document that describes all routes.
pub fn openapi() -> OpenApi {
    described().into_openapi()
}

/// What serves them to whoever has `access`.
pub(crate) fn router(app: Arc<App>, access: Access) -> Router {
    let (routes, document) = described().split_for_parts();
    routes
        .route("/openapi.json", get(async move || Json(document)))
        .fallback(async || ApiError::refused(StatusCode::NOT_FOUND, "there is no such route"))
        .method_not_allowed_fallback(async || {
            ApiError::refused(StatusCode::METHOD_NOT_ALLOWED, "the route has no such method")
        })
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(middleware::from_fn_with_state(access, access::check))
        .with_state(app)
}

#[cfg(test)]
mod tests {
    /// With `LAMPYR_REWRITE=1` the file is made anew.
    #[test]
    fn the_document_is_what_the_code_serves() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/reference/openapi.json");
        let made = super::openapi().to_pretty_json().unwrap() + "\n";
        if std::env::var_os("LAMPYR_REWRITE").is_some() {
            std::fs::write(path, &made).unwrap();
        }
        let found = std::fs::read_to_string(path).unwrap_or_default();
        let how = "write it anew: LAMPYR_REWRITE=1 cargo test -p lampyr-server the_document";
        assert!(found == made, "docs/reference/openapi.json is not what the code serves; {how}");
    }
}
