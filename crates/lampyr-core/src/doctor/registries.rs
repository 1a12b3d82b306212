//! The registries that this host has to do with: whether they can be reached,
//! and take the credentials that there are.

use std::collections::BTreeSet;
use std::time::Duration;

use lampyr_image::{Image, ImageError, ImageRef, Registries};
use lampyr_oci::{OciError, Reached, Settings, check};
use lampyr_store::Store;
use tokio::task::JoinSet;

use super::{Check, Severity, failed, info};
use crate::Error;

/// How long one may take to answer.
const WAIT: Duration = Duration::from_secs(5);
/// How many are asked, all at once.
const MOST: usize = 32;

/// A finding for each registry. None of them is worse than a warning: what is
/// here runs without.
pub(super) async fn checks(store: &Store, registries: &Registries) -> Vec<Check> {
    let settings = &registries.settings;
    let mut checks = Vec::new();
    let names = known(store, settings).unwrap_or_else(|e| {
        checks.push(warning("credentials", "the credentials for registries", e));
        settings.mirrors.values().flatten().cloned().collect()
    });
    let mut asked = JoinSet::new();
    for name in names.into_iter().take(MOST) {
        let settings = settings.clone();
        asked.spawn(async move { found(&name, check(&name, &settings, WAIT).await) });
    }
    let mut found: Vec<Check> = asked.join_all().await;
    found.sort_by(|a, b| a.title.cmp(&b.title));
    checks.extend(found);
    checks
}

/// The registries that credentials, mirrors and images name.
fn known(store: &Store, settings: &Settings) -> Result<BTreeSet<String>, ImageError> {
    let mut names = settings.credentials.registries()?;
    names.extend(settings.mirrors.values().flatten().cloned());
    names.extend(Image::list(store)?.iter().filter_map(|image| match image.name.parse().ok()? {
        ImageRef::Reference(reference) => Some(reference.registry().to_owned()),
        ImageRef::Name(_) => None,
    }));
    Ok(names)
}

fn found(name: &str, reached: Result<Reached, OciError>) -> Check {
    let title = format!("the registry {name}");
    let detail = match reached {
        Ok(Reached::Open) => "answers",
        Ok(Reached::Known) => "answers, and takes the credentials that there are",
        Ok(Reached::Unknown) => "answers; there are no credentials for it",
        Err(e) => return warning("registry", &title, e.into()),
    };
    info("registry", &title, detail.to_owned())
}

fn warning(id: &'static str, title: &str, error: ImageError) -> Check {
    Check { severity: Severity::Warning, ..failed(id, title, &Error::from(error)) }
}
