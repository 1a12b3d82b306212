//! What registries say no with, and who they ask first.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod home;

use std::time::{Duration, Instant};

use home::{Home, layer, one_image};
use lampyr_oci::{Credentials, OciError, Reached, check};
use lampyr_test_registry::{Gate, IDENTITY, PASSWORD, Rule, TestRegistry, USER};
use serde_json::json;

const MOMENT: Duration = Duration::from_secs(20);

fn ask(name: &str, home: &Home, limit: Duration) -> Result<Reached, OciError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(check(name, &home.settings, limit))
}

/// Lets a home know a registry by this account.
fn log_in(home: &mut Home, registry: &str, account: &serde_json::Value) {
    let file = home.dir.path().join("config.json");
    std::fs::write(&file, json!({"auths": {registry: account}}).to_string()).unwrap();
    home.settings.credentials = Credentials { files: vec![file] };
}

#[test]
fn a_token_is_fetched_with_whatever_there_is() {
    let registry = TestRegistry::with_tokens();
    let layout = one_image(&[layer(1, 300_000), layer(2, 1000)]);
    let private = registry.push(&layout, "x", "private/x:1");
    let public = registry.push(&layout, "x", "public/x:1");
    let home = Home::new();
    home.pull(&public).unwrap();
    let error = home.pull(&private).unwrap_err().to_string();
    assert!(error.ends_with("refused access to private/x (401): it wants credentials"), "{error}");
    for (account, works) in [
        (json!({"username": USER, "password": PASSWORD}), true),
        (json!({"username": USER, "password": "wrong"}), false),
        (json!({"identitytoken": IDENTITY}), true),
        (json!({"identitytoken": "wrong"}), false),
    ] {
        let mut home = Home::new();
        log_in(&mut home, &registry.name(), &account);
        let checked = ask(&registry.name(), &home, MOMENT);
        match home.pull(&private) {
            Ok(image) if works => {
                assert_eq!((image.layers.len(), checked.unwrap()), (2, Reached::Known))
            }
            Err(OciError::Unauthorized { known: true, .. }) if !works => {
                assert!(matches!(checked, Err(OciError::Unauthorized { known: true, .. })));
            }
            other => panic!("{account}: {other:?}"),
        }
    }
}

#[test]
fn too_many_requests_are_told_with_the_time_to_come_back() {
    let registry = TestRegistry::plain();
    registry.push(&one_image(&[layer(1, 1000)]), "x", "x:1");
    let gate = Gate::before(&registry);
    let (home, name) = (Home::new(), format!("{}/x:1", gate.name()));
    gate.set(Rule::TooMany(Some(90)));
    let begun = Instant::now();
    let error = home.pull(&name).unwrap_err();
    let said = format!("the registry {} says that there were too many requests (429)", gate.name());
    assert_eq!((error.to_string(), error.hint().unwrap()), (said, "try again in 90 s".to_owned()));
    // Nobody waits for that long, or asks again at once.
    assert!(begun.elapsed() < MOMENT);
    let asked = gate.asked();
    gate.set(Rule::TooMany(None));
    let error = home.pull(&name).unwrap_err();
    assert_eq!(error.hint().unwrap(), "try again later, or log in");
    assert!(gate.asked() > asked + 3, "{} after {asked}", gate.asked());
    assert!(home.is_empty("sha256") && home.is_empty("partial"));
    gate.set(Rule::Pass);
    home.pull(&name).unwrap();
}

#[test]
fn a_transfer_that_breaks_off_again_and_again_arrives_and_is_sent_once() {
    let registry = TestRegistry::plain();
    registry.push(&one_image(&[layer(1, 1_000_000)]), "x", "x:1");
    let gate = Gate::before(&registry);
    let (home, name) = (Home::new(), format!("{}/x:1", gate.name()));
    gate.set(Rule::Cut(150_000));
    home.pull(&name).unwrap();
    let given = gate.given();
    assert!((1_000_000..1_100_000).contains(&given), "{given}");
    assert!(home.is_empty("partial"));
}

#[test]
fn a_part_stays_and_only_the_rest_is_asked_for() {
    let registry = TestRegistry::plain();
    registry.push(&one_image(&[layer(1, 1_000_000)]), "x", "x:1");
    let gate = Gate::before(&registry);
    let (home, name) = (Home::new(), format!("{}/x:1", gate.name()));
    let image = home.pull(&name).unwrap();
    let hex = image.layers[0].digest.hex();
    let bytes = std::fs::read(home.path("sha256").join(&hex)).unwrap();
    std::fs::remove_file(home.path("sha256").join(&hex)).unwrap();
    std::fs::write(home.path("partial").join(&hex), &bytes[..900_000]).unwrap();
    gate.given();
    home.pull(&name).unwrap();
    let (given, rest) = (gate.given(), bytes.len() as u64 - 900_000);
    assert!((rest..rest + 20_000).contains(&given), "{given} for {rest}");
}

#[test]
fn a_manifest_that_does_not_end_is_not_read_to_its_end() {
    let registry = TestRegistry::plain();
    let gate = Gate::before(&registry);
    gate.set(Rule::Swollen(64 << 20));
    let error = Home::new().pull(&format!("{}/x:1", gate.name())).unwrap_err();
    let said = format!("an answer of {} makes no sense: it is too long", gate.name());
    assert_eq!(error.to_string(), said);
}

#[test]
fn registries_are_asked_for_nothing_but_an_answer() {
    let (mut home, open) = (Home::new(), TestRegistry::plain());
    assert_eq!(ask(&open.name(), &home, MOMENT).unwrap(), Reached::Open);
    let token = TestRegistry::with_tokens();
    assert_eq!(ask(&token.name(), &home, MOMENT).unwrap(), Reached::Unknown);
    let asks = TestRegistry::encrypted_with_password();
    assert!(matches!(ask(&asks.name(), &home, MOMENT), Err(OciError::Untrusted { .. })));
    home.settings.ca = Some(asks.ca());
    let refused = ask(&asks.name(), &home, MOMENT).unwrap_err();
    assert!(matches!(refused, OciError::Unauthorized { known: false, .. }), "{refused:?}");
    log_in(&mut home, &asks.name(), &json!({"username": USER, "password": PASSWORD}));
    assert_eq!(ask(&asks.name(), &home, MOMENT).unwrap(), Reached::Known);
    log_in(&mut home, &asks.name(), &json!({"username": USER, "password": "wrong"}));
    let refused = ask(&asks.name(), &home, MOMENT).unwrap_err();
    assert!(matches!(refused, OciError::Unauthorized { known: true, .. }), "{refused:?}");
    let gate = Gate::before(&open);
    gate.set(Rule::Stall(0));
    let error = ask(&gate.name(), &home, Duration::from_secs(1)).unwrap_err().to_string();
    assert!(error.ends_with("no answer within 1 s"), "{error}");
}
