//! Pulls from real registries, good and bad ones.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod home;

use std::collections::BTreeMap;
use std::path::Path;

use home::{Home, PLATFORM, layer, one_image};
use lampyr_oci::{Credentials, OciError};
use lampyr_test_registry::{Packing, TestRegistry, digest};
use serde_json::json;

#[test]
fn an_image_arrives_whole_and_shared_layers_arrive_once() {
    let registry = TestRegistry::plain();
    let (base, one, two) = (layer(1, 300_000), layer(2, 10_000), layer(3, 10_000));
    let first = registry.push(&one_image(&[base.clone(), one]), "x", "first:1");
    let second = registry.push(&one_image(&[base, two]), "x", "second:1");
    let home = Home::new();
    let image = home.pull(&first).unwrap();
    assert_eq!(image.layers.len(), 2);
    let config = &image.config;
    assert_eq!(
        (config.env.len(), config.workdir.as_str(), config.user.as_str()),
        (1, "/srv", "1:2")
    );
    let before = home.bytes();
    assert!(before > 310_000);
    home.pull(&second).unwrap();
    assert!(home.bytes() < before + 20_000, "{} after {before}", home.bytes());
    assert!(home.is_empty("partial"));
    let by_digest = format!("{}@{}", first.trim_end_matches(":1"), image.manifest);
    assert_eq!(home.pull(&by_digest).unwrap(), image);
}

#[test]
fn a_hundred_and_twenty_layers_arrive() {
    let registry = TestRegistry::plain();
    let layers: Vec<_> = (0..120).map(|i| layer(i, 2000)).collect();
    let reference = registry.push(&one_image(&layers), "x", "many:1");
    assert_eq!(Home::new().pull(&reference).unwrap().layers.len(), 120);
}

#[test]
fn an_encrypted_registry_is_trusted_by_its_certificate_alone() {
    let registry = TestRegistry::encrypted();
    let reference = registry.push(&one_image(&[layer(1, 1000)]), "x", "x:1");
    let mut home = Home::new();
    let error = home.pull(&reference).unwrap_err();
    assert!(matches!(error, OciError::Untrusted { .. }), "{error:?}");
    assert!(error.hint().unwrap().contains("LAMPYR_REGISTRY_CA"));
    home.settings.ca = Some(registry.ca());
    home.pull(&reference).unwrap();
}

#[test]
fn a_password_is_asked_for_and_given() {
    let registry = TestRegistry::with_password();
    let reference = {
        let layout = one_image(&[layer(1, 1000)]);
        let name = format!("{}/x:1", registry.name());
        let mut skopeo = registry.skopeo("copy", "--dest");
        skopeo.arg(format!("oci:{}:x", layout.path().display())).arg(format!("docker://{name}"));
        lampyr_test_registry::succeed(&mut skopeo);
        name
    };
    let mut home = Home::new();
    let error = home.pull(&reference).unwrap_err().to_string();
    assert!(error.ends_with("refused access to x (401): it wants credentials"), "{error}");
    let file = home.dir.path().join("config.json");
    home.settings.credentials = Credentials { files: vec![file.clone()] };
    registry.credentials(&file);
    home.pull(&reference).unwrap();
    let wrong = std::fs::read_to_string(&file).unwrap().replace("colon", "typo");
    std::fs::write(&file, wrong).unwrap();
    let error = home.pull(&reference).unwrap_err().to_string();
    assert!(error.ends_with("(401) with the credentials that there are"), "{error}");
}

#[test]
fn a_transfer_goes_on_where_it_broke_off() {
    let registry = TestRegistry::plain();
    let layout = one_image(&[layer(1, 500_000)]);
    let reference = registry.push(&layout, "x", "x:1");
    let home = Home::new();
    let image = home.pull(&reference).unwrap();
    let blob = home.path("sha256").join(image.layers[0].digest.hex());
    let bytes = std::fs::read(&blob).unwrap();
    let partial = home.path("partial").join(image.layers[0].digest.hex());
    // The beginning is here, and no longer there.
    std::fs::write(&partial, &bytes[..400_000]).unwrap();
    std::fs::remove_file(&blob).unwrap();
    let mut damaged = bytes.clone();
    damaged[..400_000].fill(0);
    std::fs::write(registry.stored(&image.layers[0].digest.to_string()), damaged).unwrap();
    home.pull(&reference).unwrap();
    assert!(std::fs::read(&blob).unwrap() == bytes);
    assert!(home.is_empty("partial"));
}

#[test]
fn a_part_that_is_wrong_is_not_kept() {
    let registry = TestRegistry::plain();
    let reference = registry.push(&one_image(&[layer(1, 500_000)]), "x", "x:1");
    let home = Home::new();
    let image = home.pull(&reference).unwrap();
    let hex = image.layers[0].digest.hex();
    std::fs::remove_file(home.path("sha256").join(&hex)).unwrap();
    std::fs::write(home.path("partial").join(&hex), [0; 1000]).unwrap();
    let error = home.pull(&reference).unwrap_err();
    assert!(matches!(error, OciError::WrongDigest { .. }), "{error:?}");
    home.pull(&reference).unwrap();
}

#[test]
fn what_a_registry_got_wrong_is_told_and_not_kept() {
    let registry = TestRegistry::plain();
    let layout = one_image(&[layer(1, 100_000)]);
    let reference = registry.push(&layout, "x", "x:1");
    let manifest = Home::new().pull(&reference).unwrap();
    registry.damage(&manifest.layers[0].digest.to_string());
    let home = Home::new();
    let error = home.pull(&reference).unwrap_err();
    assert!(matches!(error, OciError::WrongDigest { .. }), "{error:?}");
    assert!(home.is_empty("partial"));
    assert!(!home.path("sha256").join(manifest.layers[0].digest.hex()).exists());
}

#[test]
fn failures_are_sentences() {
    let registry = TestRegistry::plain();
    let name = registry.name();
    let mut layout = one_image(&[layer(1, 1000)]);
    layout.image_for("riscv64", "other", &[layer(1, 1000)], Packing::Gzip, &json!({}));
    let other = registry.push(&layout, "other", "other:1");
    let home = Home::new();
    let error = home.pull(&format!("{name}/none:1")).unwrap_err();
    assert_eq!(error.to_string(), format!("there is no image {name}/none:1 (404)"));
    let error = home.pull(&other).unwrap_err().to_string();
    let wanted = format!("{other} is not made for {PLATFORM}, only for linux/riscv64");
    assert_eq!(error, wanted);
    drop(registry);
    let error = home.pull(&other).unwrap_err();
    assert!(matches!(&error, OciError::NoRoute { .. }), "{error:?}");
    assert!(error.to_string().contains("refused") && error.hint().is_some(), "{error}");
    let error = home.pull("no-such-host.invalid/x").unwrap_err();
    assert!(matches!(&error, OciError::NoRoute { .. }), "{error:?}");
}

#[test]
fn mirrors_are_asked_first() {
    let mirror = TestRegistry::plain();
    mirror.push(&one_image(&[layer(1, 1000)]), "x", "library/x:1");
    let mut home = Home::new();
    let gone = "localhost:1".to_owned();
    home.settings.mirrors = BTreeMap::from([("docker.io".to_owned(), vec![gone, mirror.name()])]);
    home.pull("x:1").unwrap();
}

#[test]
fn an_index_leads_to_the_image_for_this_host() {
    let registry = TestRegistry::plain();
    let mut layout = one_image(&[layer(1, 1000)]);
    let other = layout.image_for("riscv64", "other", &[layer(2, 900)], Packing::Gzip, &json!({}));
    let ours = layout.image("x", &[layer(3, 1000)], Packing::Zstd, &json!({}));
    let index = index(layout.path(), &[("riscv64", &other), (PLATFORM.architecture, &ours)]);
    std::fs::write(layout.path().join("index.json"), index).unwrap();
    let reference = format!("{}/many:1", registry.name());
    let mut skopeo = registry.skopeo("copy", "--dest");
    skopeo.args(["--all", &format!("oci:{}:both", layout.path().display())]);
    lampyr_test_registry::succeed(skopeo.arg(format!("docker://{reference}")));
    let image = Home::new().pull(&reference).unwrap();
    assert_eq!(image.manifest.to_string(), ours);
}

/// Keeps an index in a layout, and returns the layout's own that names it.
fn index(layout: &Path, images: &[(&str, &str)]) -> String {
    let entry = |(architecture, digest): &(&str, &str)| {
        let hex = digest.trim_start_matches("sha256:");
        let size = layout.join("blobs/sha256").join(hex).metadata().unwrap().len();
        json!({"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest,
            "size": size, "platform": {"os": "linux", "architecture": architecture}})
    };
    let kind = "application/vnd.oci.image.index.v1+json";
    let entries: Vec<_> = images.iter().map(entry).collect();
    let index = json!({"schemaVersion": 2, "mediaType": kind, "manifests": entries}).to_string();
    let name = digest(index.as_bytes());
    std::fs::write(layout.join("blobs/sha256").join(&name[7..]), &index).unwrap();
    let named = json!({"mediaType": kind, "digest": name, "size": index.len(),
        "annotations": {"org.opencontainers.image.ref.name": "both"}});
    json!({"schemaVersion": 2, "manifests": [named]}).to_string()
}
