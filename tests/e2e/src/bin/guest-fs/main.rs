//! Tries a file system from inside a guest: `guest-fs model DIR SEED COUNT`
//! does things at random to one file and compares each result with a model in
//! memory; `guest-fs calls DIR` prints what many calls answer, to be compared
//! with another file system's answers; `guest-fs create DIR FILES THREADS`
//! prints how many small files are made in a second; `guest-fs plant DIR FILES`
//! plants a tree that is the same wherever it is planted.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test may panic and print")]

mod calls;
mod create;
mod model;

use std::path::Path;

fn main() {
    let words: Vec<_> = std::env::args().collect();
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    match words[1..] {
        ["model", dir, seed, count] => {
            model::compare(Path::new(dir), seed.parse().unwrap(), count.parse().unwrap());
        }
        ["calls", dir] => calls::print(Path::new(dir)),
        ["create", dir, files, threads] => {
            create::many(Path::new(dir), files.parse().unwrap(), threads.parse().unwrap());
        }
        ["plant", dir, files] => lampyr_e2e::tree::plant(Path::new(dir), files.parse().unwrap()),
        _ => panic!("model DIR SEED COUNT, calls DIR, create DIR FILES THREADS or plant DIR FILES"),
    }
}
