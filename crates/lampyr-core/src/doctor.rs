//! `doctor`: what this host has, what it lacks, and what to do.

mod network;
mod registries;

use std::path::Path;

use lampyr_image::{Arch, Image, ImageError, Kit};
use lampyr_net::Outlook;
use lampyr_store::Store;

use crate::{AccelChoice, Error, HostSettings, Present, accel};

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Good to know.
    Info,
    /// It works, but not as well as it could.
    Warning,
    /// It does not work.
    Error,
}

/// One finding.
#[derive(Debug, Clone)]
pub struct Check {
    /// What was looked at; never changes.
    pub id: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// A few words.
    pub title: String,
    /// What was found.
    pub detail: String,
    /// What to do about it.
    pub fix: Option<String>,
}

/// All findings.
#[derive(Debug, Clone)]
pub struct Report {
    /// The accelerator that runs will use, or `none`.
    pub accel: String,
    /// Each finding.
    pub checks: Vec<Check>,
}

/// Looks at everything that a run needs. With `fix`, what is missing and can
/// be made without root is made: the guest kit and the default image. `proxy`
/// is a variable of this process's that names a proxy.
pub async fn doctor(settings: &HostSettings, proxy: Option<&str>, fix: bool) -> Report {
    let mut accel = "none".to_owned();
    let store = match Store::open(&settings.home) {
        Ok(store) => store,
        // Everything else may be in there, the engine too.
        Err(e) => {
            let checks = vec![failed("home", "the state directory", &e.into())];
            return Report { accel, checks };
        }
    };
    let mut checks = vec![engine(settings)];
    checks.push(info("home", "the state directory", settings.home.display().to_string()));
    let kit = kit(&store, settings, fix, &mut checks);
    image(&store, settings, fix, &mut checks);
    if let Some(kit) = kit.filter(|_| checks[0].severity < Severity::Error) {
        accel = accelerator(&store, &kit, settings, &mut checks).await;
    }
    checks.extend(network::checks(&Outlook::here(network::WAIT).await, proxy));
    checks.extend(registries::checks(&store, &settings.registries).await);
    checks.push(leftovers(settings));
    Report { accel, checks }
}

fn engine(settings: &HostSettings) -> Check {
    match settings.engines.describe() {
        Ok(what) if what.contains(" 7.") => Check {
            severity: Severity::Warning,
            fix: Some(
                "QEMU 10 runs commands 2 to 3 times faster; on Debian `lampyr doctor --fix` \
                 fetches the newest that there is"
                    .into(),
            ),
            ..info("engine", "the engine", what)
        },
        Ok(what) => info("engine", "the engine", what),
        Err(e) => failed("engine", "the engine", &e.into()),
    }
}

fn kit(store: &Store, settings: &HostSettings, fix: bool, checks: &mut Vec<Check>) -> Option<Kit> {
    let found = Kit::current(store, Arch::HOST, settings.agent);
    let made = match found {
        None if fix => Kit::ensure(store, Arch::HOST, settings.agent, &*settings.progress),
        None => {
            checks.push(missing("kit", "the guest kit"));
            return None;
        }
        Some(kit) => Ok(kit),
    };
    match made {
        Ok(kit) => {
            let manifest = &kit.manifest;
            let what = format!("kernel {} ({})", manifest.kernel_release, manifest.kernel_version);
            checks.push(info("kit", "the guest kit", what));
            Some(kit)
        }
        Err(e) => {
            checks.push(failed("kit", "the guest kit", &e.into()));
            None
        }
    }
}

fn image(store: &Store, settings: &HostSettings, fix: bool, checks: &mut Vec<Check>) {
    let name = lampyr_image::DEFAULT_IMAGE;
    let none = || ImageError::NoImage { name: name.to_owned() };
    let found = name.parse().map_err(|_| none()).and_then(|name| Image::find(store, &name));
    let made = match found {
        Err(_) if fix => Image::repair_default(store, &*settings.progress),
        Err(ImageError::NoImage { .. }) => {
            return checks.push(missing("image", "the default image"));
        }
        found => found,
    };
    checks.push(match made {
        Ok(image) => info("image", "the default image", format!("made {}", image.created)),
        Err(e) => failed("image", "the default image", &e.into()),
    });
}

async fn accelerator(
    store: &Store,
    kit: &Kit,
    settings: &HostSettings,
    checks: &mut Vec<Check>,
) -> String {
    let found = match settings.accel {
        AccelChoice::Only(_) => Vec::new(),
        AccelChoice::Auto => match accel::verdict(store, kit, settings).await {
            Ok(verdict) => verdict.found,
            Err(e) => {
                checks.push(failed("accel", "the accelerator", &e));
                return "none".into();
            }
        },
    };
    match accel::choose(store, kit, settings).await {
        Err(e) => {
            checks.push(failed("accel", "the accelerator", &e));
            "none".into()
        }
        Ok(accel) => {
            let slow = accel == lampyr_engine::Accel::Tcg;
            let severity = if slow { Severity::Warning } else { Severity::Info };
            let detail = format!("{accel}; {}", found.join("; "));
            let detail = detail.trim_end_matches("; ").to_owned();
            let fix =
                slow.then(|| "works everywhere, but hardware virtualization is faster".into());
            checks.push(Check { severity, fix, ..info("accel", "the accelerator", detail) });
            accel.to_string()
        }
    }
}

fn leftovers(settings: &HostSettings) -> Check {
    // The locks of work that ended well stay, and are no trouble.
    let is_lock = |path: &Path| path.extension().is_some_and(|extension| extension == "lock");
    let cleaned = match crate::clean(&settings.home, Present::of(settings).as_ref(), true) {
        Ok(cleaned) => cleaned,
        Err(e) => return failed("leftovers", "leftovers", &e),
    };
    match cleaned.items.iter().filter(|item| !is_lock(&item.path)).count() {
        0 => info("leftovers", "leftovers", "none".into()),
        count => Check {
            severity: Severity::Warning,
            fix: Some("lampyr clean".into()),
            ..info("leftovers", "leftovers", format!("{count} to remove"))
        },
    }
}

fn info(id: &'static str, title: &str, detail: String) -> Check {
    Check { id, severity: Severity::Info, title: title.to_owned(), detail, fix: None }
}

fn missing(id: &'static str, title: &str) -> Check {
    let fix = Some("lampyr doctor --fix (the first `lampyr run` makes it, too)".to_owned());
    Check { severity: Severity::Warning, fix, ..info(id, title, "not made yet".into()) }
}

fn failed(id: &'static str, title: &str, error: &Error) -> Check {
    let fix = error.hint();
    Check { severity: Severity::Error, fix, ..info(id, title, error.to_string()) }
}
