//! What doctor says of a home that is not as it should be.

use std::sync::Arc;

use lampyr_core::{AccelChoice, Check, Engines, Error, Host, HostSettings, Severity, doctor};
use lampyr_engine::{Accel, Engine, EngineError};
use lampyr_image::{Image, NewImage};
use lampyr_store::Store;
use lampyr_types::NoProgress;

use crate::world::{World, in_time, no_network, no_registries};

async fn checks(world: &World) -> Vec<Check> {
    in_time(doctor(&world.settings(), None, false)).await.checks
}

async fn check(world: &World, id: &str) -> Check {
    checks(world).await.into_iter().find(|check| check.id == id).unwrap()
}

#[tokio::test]
async fn an_image_is_missing_whole_or_damaged() {
    let world = World::new().await;
    let missing = check(&world, "image").await;
    assert_eq!((missing.severity, missing.detail.as_str()), (Severity::Warning, "not made yet"));

    let staging = Store::open(&world.home()).unwrap().stage().unwrap();
    std::fs::write(staging.path().join("disk.ext4"), "disk").unwrap();
    let store = Store::open(&world.home()).unwrap();
    let made =
        Image::publish(&store, staging, &"default".parse().unwrap(), NewImage::default()).unwrap();
    assert_eq!(check(&world, "image").await.severity, Severity::Info);

    std::fs::write(made.disk, "other disk").unwrap();
    let damaged = check(&world, "image").await;
    assert_eq!(damaged.severity, Severity::Error);
    assert!(damaged.detail.contains("is damaged"), "{damaged:?}");
    assert_eq!(damaged.fix.unwrap(), "`lampyr doctor --fix` makes it anew");
}

#[tokio::test]
async fn of_a_home_that_cannot_be_opened_nothing_else_is_said() {
    let world = World::new().await;
    std::fs::write(world.home().join("format"), "99\n").unwrap();
    let checks = checks(&world).await;
    assert_eq!(checks.len(), 1, "{checks:?}");
    assert_eq!((checks[0].id, checks[0].severity), ("home", Severity::Error));
    assert!(checks[0].detail.contains("format '99'"), "{checks:?}");
}

/// A host without an engine.
struct NoEngine;

impl NoEngine {
    fn found<T>() -> Result<T, EngineError> {
        Err(EngineError::Unavailable { what: "there is none".into(), hint: "get one".into() })
    }
}

impl Engines for NoEngine {
    fn with(&self, _accel: Accel) -> Result<Arc<dyn Engine>, EngineError> {
        Self::found()
    }

    fn candidates(&self) -> Vec<Accel> {
        vec![Accel::Tcg]
    }

    fn obstacle(&self, _accel: Accel) -> Option<String> {
        None
    }

    fn describe(&self) -> Result<String, EngineError> {
        Self::found()
    }
}

#[tokio::test]
async fn without_an_engine_nothing_is_made_or_fetched() {
    let tmp = tempfile::tempdir().unwrap();
    let home = tmp.path().join("home");
    let settings = HostSettings {
        home: home.clone(),
        accel: AccelChoice::Auto,
        engines: Arc::new(NoEngine),
        agent: b"agent",
        registries: no_registries(),
        network: no_network(),
        progress: Arc::new(NoProgress),
    };
    let error = in_time(Host::open(&settings)).await.err().unwrap();
    assert!(matches!(error, Error::Engine(EngineError::Unavailable { .. })), "{error}");
    assert!(!home.join("kits").exists());
}
