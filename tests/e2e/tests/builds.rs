//! Builds of snapshots, on real machines.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

use std::fs;

use lampyr_e2e::{Call, TestContext, rows};
use serde_json::{Value, json};

/// Builds a snapshot called `made` of these steps.
fn build(own: &TestContext, steps: &Value, flags: &[&str]) -> Call {
    let config = json!({
        "name": "made", "image": "default", "resources": {"memory": "256M"}, "setup": steps,
    });
    let file = own.home().join("made.json");
    fs::write(&file, config.to_string()).unwrap();
    own.lampyr(["snapshot", "build", file.to_str().unwrap()].iter().chain(flags))
}

fn builders(own: &TestContext) -> Vec<Value> {
    rows(own, &["session", "list"]).iter().map(|row| row["name"].clone()).collect()
}

#[test]
fn a_step_that_ends_late_or_with_its_vm_is_named() {
    let own = TestContext::fresh();
    let named = |script: &str| json!(["true", {"kind": "shell", "script": script, "description": "the last one"}]);
    let none = build(&own, &named("true"), &["--step-timeout", "0s"]).finish();
    let refused = none.stderr().contains("0s is too small");
    assert_eq!((none.status(), refused), (Some(2), true), "{none:?}");
    for (script, how, next) in [
        ("echo said; sleep 100", "ran longer than 2s", "--step-timeout"),
        ("echo said; echo o > /proc/sysrq-trigger; sleep 100", "broke off: the VM ended", ""),
    ] {
        let failed = build(&own, &named(script), &["--step-timeout", "2s"]).finish();
        let (message, hint) = failed.failure();
        let sentence = format!("step 2 of 2 (the last one) {how}");
        assert!(message.contains(&sentence), "{failed:?}");
        assert!(hint.contains("what it said is above") && hint.contains(next), "{failed:?}");
        assert!(failed.stderr().contains("said\n"), "{failed:?}");
    }
    assert!(builders(&own).is_empty() && rows(&own, &["snapshot", "list"]).is_empty());
}

#[test]
fn a_builder_is_kept_even_of_what_was_built_before() {
    let own = TestContext::fresh();
    let steps = json!(["echo made > /root/file"]);
    assert_eq!(build(&own, &steps, &[]).finish().json()["cached"], false);
    assert_eq!(build(&own, &steps, &[]).finish().json()["cached"], true);
    assert_eq!(build(&own, &steps, &["--debug-builder"]).finish().json()["cached"], false);
    assert_eq!(builders(&own), ["made-builder"]);
    let said = own.lampyr(["exec", "made-builder", "cat /root/file"]).envelope();
    assert_eq!(said.success(), "made\n");
    assert_eq!(own.lampyr(["session", "stop", "made-builder"]).finish().status(), Some(0));
}

#[test]
fn two_builds_of_one_take_turns() {
    let own = TestContext::fresh();
    let steps = json!(["sleep 4"]);
    let both = [(); 2].map(|()| build(&own, &steps, &[]).start());
    let both = both.map(lampyr_e2e::Live::finish);
    let mut cached = both.each_ref().map(|one| one.json()["cached"].as_bool().unwrap());
    cached.sort_unstable();
    assert_eq!(cached, [false, true]);
    let waited = |text: String| text.contains("waiting for another build of made");
    assert_eq!(both.iter().filter(|one| waited(one.stderr())).count(), 1, "{both:?}");
    assert!(builders(&own).is_empty());
}
