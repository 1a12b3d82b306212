//! Stress: many launches on a busy host. `cargo xtask soak` runs it.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

use std::sync::atomic::{AtomicBool, Ordering};

use lampyr_e2e::TestContext;

#[test]
#[ignore = "takes minutes: cargo xtask soak"]
fn two_hundred_launches_beside_two_busy_cores() {
    let own = TestContext::own();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        let launches = std::panic::catch_unwind(|| {
            for i in 0..200 {
                let envelope = own.run(&format!("echo {i}")).envelope();
                assert_eq!(envelope.success(), format!("{i}\n"));
            }
        });
        done.store(true, Ordering::Relaxed);
        launches.unwrap();
    });
    own.assert_nothing_left();
}
