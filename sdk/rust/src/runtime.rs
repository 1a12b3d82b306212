//! Which Lampyr is used.

use serde::Deserialize;

use crate::error::Error;
use crate::http::{Ask, call};
use crate::program::RuntimeOptions;
use crate::server::chosen;

/// A Lampyr that is there.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct Runtime {
    /// Its version.
    pub version: String,
}

/// Finds Lampyr and starts its server, which every other call does, too. Call it
/// first to say which Lampyr is to be used, or to hear early that there is none.
///
/// ```no_run
/// # #[tokio::main]
/// # async fn main() -> Result<(), lampyr_sdk::Error> {
/// use lampyr_sdk::{RuntimeOptions, ensure_runtime};
///
/// let runtime = ensure_runtime(RuntimeOptions::new()).await?;
/// assert!(!runtime.version.is_empty());
/// # Ok(())
/// # }
/// ```
pub async fn ensure_runtime(options: RuntimeOptions) -> Result<Runtime, Error> {
    chosen(&options).await?;
    call(Ask::get("/v1/health")).await
}
