//! The seeds are those of today's protocol, and every property holds for them.

#![allow(clippy::unwrap_used, reason = "tests")]

use lampyr_fuzz::{property, seeds};

#[test]
fn the_seeds_on_disk_are_up_to_date() {
    for seed in seeds::all() {
        let path = seed.path();
        let same = std::fs::read(&path).is_ok_and(|bytes| bytes == seed.bytes);
        assert!(
            same,
            "{} is out of date: run `cargo run -p lampyr-fuzz --bin seeds`",
            path.display()
        );
        assert!(seed.bytes.len() < 2048, "{} is too long for a seed", path.display());
    }
}

#[test]
fn every_property_holds_for_its_seeds_and_what_they_begin_with() {
    for seed in seeds::all() {
        let property = property(seed.target).unwrap();
        for len in (0..=seed.bytes.len()).step_by(7).chain([seed.bytes.len()]) {
            property(&seed.bytes[..len]);
        }
    }
}
