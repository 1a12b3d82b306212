//! What the tests on real virtual machines have in common. They use the program
//! in `LAMPYR_BIN`, and the state directory in `LAMPYR_HOME`.

#![allow(dead_code, unreachable_pub, reason = "each file of tests uses some of it")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "these are tests")]

use std::fmt::Debug;
use std::fs::File;
use std::io::Write;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use lampyr_sdk::{Error, LaunchOptions, Sandbox, launch_sandbox, sandbox_exists};

/// Names the file that holds a line for each test that was skipped.
const SKIPPED: &str = "LAMPYR_E2E_SKIPPED";
/// No test takes this long, unless it hangs.
pub const LIMIT: Duration = Duration::from_mins(3);
/// How long something may take to come true.
const PATIENCE: Duration = Duration::from_secs(30);

/// Runs a test. Where there is no Lampyr to try, it says so and is skipped.
pub fn on_vm(work: impl Future<Output = ()>) {
    if is_skipped() {
        return;
    }
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(2).enable_all().build().unwrap();
    let within = async { tokio::time::timeout(LIMIT, work).await };
    runtime.block_on(within).expect("the test hangs");
}

/// Whether there is no Lampyr to try. A test that was not made is no test that
/// has passed: whoever runs it reads this, captured or not, and whoever counts
/// finds it in a file.
pub fn is_skipped() -> bool {
    if std::env::var_os("LAMPYR_BIN").is_some() {
        return false;
    }
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("a test");
    let line = format!("Rust SDK, {test}: LAMPYR_BIN does not say what to try\n");
    std::io::stderr().write_all(format!("SKIPPED {line}").as_bytes()).unwrap();
    if let Some(path) = std::env::var_os(SKIPPED) {
        let file = File::options().append(true).create(true).open(path);
        file.unwrap().write_all(line.as_bytes()).unwrap();
    }
    true
}

/// A name that no other test has, nor another run of it.
pub fn fresh(what: &str) -> String {
    static NAMES: AtomicU32 = AtomicU32::new(0);
    let number = NAMES.fetch_add(1, Ordering::Relaxed);
    format!("rs-{what}-{}-{number}", std::process::id())
}

/// A sandbox that nothing was said about.
pub async fn plain() -> Sandbox {
    launch_sandbox(LaunchOptions::new(fresh("plain"))).await.unwrap()
}

/// Waits until something is true.
pub async fn eventually(what: &str, mut check: impl AsyncFnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !check().await {
        assert!(Instant::now() < end, "in vain: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Waits until a sandbox is gone.
pub async fn gone(name: &str) {
    eventually(&format!("{name} is gone"), async || !sandbox_exists(name).await.unwrap()).await;
}

/// What went wrong, where it must have.
pub fn failure<T: Debug>(result: Result<T, Error>) -> Error {
    result.expect_err("it worked")
}

/// Whether an error says that a sandbox is not there, or not any more.
pub fn is_gone(error: &Error) -> bool {
    matches!(error.failure().status(), Some(404 | 410))
}

/// Whether a process with this word in its command line runs in a sandbox.
pub async fn runs(sandbox: &Sandbox, word: &str) -> bool {
    // In brackets, the word is no word of the search's own.
    let (first, rest) = word.split_at(1);
    let search = "grep -qs \"$0\" /proc/[0-9]*/cmdline";
    sandbox.shell(search).arg(format!("[{first}]{rest}")).await.unwrap().success()
}
