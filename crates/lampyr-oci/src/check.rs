//! Whether a registry can be reached, and takes the credentials that there are.

use std::time::Duration;

use reqwest::header::AUTHORIZATION;

use crate::auth::{self, Challenge, Scope};
use crate::registry::{connect, login, unreachable};
use crate::{Access, OciError, Settings};

/// How a registry answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reached {
    /// It asks nobody who he is.
    Open,
    /// It takes the credentials that there are.
    Known,
    /// It gives to each what he may have; there are no credentials for it.
    Unknown,
}

/// Asks a registry for nothing but an answer, within `limit`.
pub async fn check(name: &str, settings: &Settings, limit: Duration) -> Result<Reached, OciError> {
    let slow = |_| OciError::NoRoute {
        registry: name.to_owned(),
        why: format!("no answer within {} s", limit.as_secs()),
    };
    tokio::time::timeout(limit, ask(name, settings)).await.map_err(slow)?
}

async fn ask(name: &str, settings: &Settings) -> Result<Reached, OciError> {
    let (http, base) = connect(name, settings).await?;
    let request = || http.get(format!("{base}/v2/"));
    let failed = |e| unreachable(name, &e);
    let answer = request().send().await.map_err(failed)?;
    match answer.status().as_u16() {
        401 => {}
        200..300 => return Ok(Reached::Open),
        status => {
            let (registry, said) = (name.to_owned(), String::new());
            return Err(OciError::Refused { registry, what: "answer", status, said });
        }
    }
    let encrypted = base.starts_with("https:");
    let scope = Scope { registry: name, repository: None, access: Access::Pull, encrypted };
    let login = login(name, settings).await?;
    let challenge = Challenge::read(answer.headers());
    let challenge = challenge.ok_or_else(|| scope.unauthorized(login.is_some()))?;
    if login.is_none() && matches!(challenge, Challenge::Bearer { .. }) {
        return Ok(Reached::Unknown);
    }
    let value = auth::answer(&http, &challenge, login.as_ref(), scope).await?;
    let answer = request().header(AUTHORIZATION, value).send().await.map_err(failed)?;
    match answer.status().as_u16() {
        401 | 403 => Err(scope.unauthorized(true)),
        _ => Ok(Reached::Known),
    }
}
