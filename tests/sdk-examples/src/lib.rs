//! The examples of the Rust SDK, run on real virtual machines: with the program
//! in `LAMPYR_BIN`, and the state directory in `LAMPYR_HOME`.
#![cfg(test)]

use std::fmt::Debug;
use std::sync::mpsc;
use std::thread;

use lampyr_sdk::{RemoveOptions, remove_sandbox, remove_snapshot, remove_volume};

#[path = "../../../sdk/rust/tests/lab/mod.rs"]
mod lab;

#[allow(clippy::all, clippy::pedantic, clippy::unwrap_used, reason = "they are for readers")]
mod examples {
    include!(concat!(env!("OUT_DIR"), "/examples.rs"));
}

/// What an example gives: nothing, or perhaps an error.
trait Given {
    fn check(self);
}

impl Given for () {
    fn check(self) {}
}

impl<E: Debug> Given for Result<(), E> {
    fn check(self) {
        self.unwrap();
    }
}

/// Runs an example, and removes what it made.
fn run<T: Given + 'static>(main: fn() -> T, names: &[&str]) {
    if lab::is_skipped() {
        return;
    }
    let (tell, done) = mpsc::channel();
    thread::spawn(move || {
        main().check();
        tell.send(())
    });
    done.recv_timeout(lab::LIMIT).expect("it hangs or has panicked");
    lab::on_vm(async {
        let force = RemoveOptions::new().force(true);
        for name in names {
            remove_sandbox(name, force).await.unwrap();
            remove_snapshot(name, force).await.unwrap();
            lab::eventually("it is removed", async || remove_volume(name).await.is_ok()).await;
        }
    });
}
