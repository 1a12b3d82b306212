//! What must hold for whatever bytes a guest sends.
//!
//! Each target is a function that takes any bytes and panics where a property
//! does not hold. `cargo xtask fuzz` builds the programs in `bin` with
//! libFuzzer, which looks for such bytes. Built in any other way the same
//! programs replay the files that they are given. `cargo test` tries the
//! seeds.

mod archives;
mod compose;
mod memory;
mod mounts;
mod mutate;
mod network;
mod pieces;
mod room;
pub mod seeds;
mod wire;

use std::path::Path;
use std::process::ExitCode;

pub use archives::{archive, entries};
#[cfg(feature = "libfuzzer")]
pub use libfuzzer_sys;
pub use mounts::mount;
pub use mutate::mutate;
pub use network::network;
pub use wire::{frames, greeting, messages};

/// A property: panics where it does not hold for the bytes.
pub type Property = fn(&[u8]);

/// The property that a target checks.
pub fn property(target: &str) -> Option<Property> {
    match target {
        "frames" => Some(frames),
        "messages" => Some(messages),
        "greeting" => Some(greeting),
        "archive" => Some(archive),
        "entries" => Some(entries),
        "mount" => Some(mount),
        "network" => Some(network),
        _ => None,
    }
}

/// Tries a property on each file named on the command line. Says nothing: a
/// property that does not hold panics.
pub fn replay(property: Property) -> ExitCode {
    std::env::args_os().skip(1).for_each(|path| property(&read(Path::new(&path))));
    ExitCode::SUCCESS
}

fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Changes an input in place, for a program that changes more than bytes: now
/// and then by `mutate`, else as libFuzzer does. Returns the new length.
#[cfg(feature = "libfuzzer")]
pub fn change(mutate: fn(&[u8], u32) -> Vec<u8>, room: &mut [u8], len: usize, seed: u32) -> usize {
    if seed.is_multiple_of(4) {
        return libfuzzer_sys::fuzzer_mutate(room, len, room.len());
    }
    let mut changed = mutate(&room[..len], seed);
    changed.truncate(room.len());
    room[..changed.len()].copy_from_slice(&changed);
    changed.len()
}

/// Makes a program of a property, and of how its inputs change: for
/// libFuzzer, or to replay files.
#[cfg(feature = "libfuzzer")]
#[macro_export]
macro_rules! program {
    ($property:path) => {
        $crate::libfuzzer_sys::fuzz_target!(|bytes: &[u8]| $property(bytes));
    };
    ($property:path, $mutate:path) => {
        $crate::program!($property);
        $crate::libfuzzer_sys::fuzz_mutator!(|room: &mut [u8],
                                              len: usize,
                                              most: usize,
                                              seed: u32| {
            $crate::change($mutate, &mut room[..most], len, seed)
        });
    };
}

/// Makes a program of a property, and of how its inputs change: for
/// libFuzzer, or to replay files.
#[cfg(not(feature = "libfuzzer"))]
#[macro_export]
macro_rules! program {
    ($property:path $(, $mutate:path)?) => {
        fn main() -> std::process::ExitCode {
            $crate::replay($property)
        }
    };
}
