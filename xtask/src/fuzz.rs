//! `cargo xtask fuzz`: looks for bytes that break what reads hostile bytes.
//!
//! The programs in `fuzz` carry libFuzzer. Our own rustc makes the marks that
//! it follows, by flags to LLVM; no other toolchain is needed. What it learns
//! stays in `target/fuzz/corpus`, and it begins with `fuzz/seeds`.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::command::{bounded, run, say, status};
use crate::failure::{At, Failure, Result};
use crate::{packages, workspace};

const TARGETS: &[&str] =
    &["frames", "messages", "greeting", "archive", "entries", "mount", "network"];

/// Those that hear frames: of a guest's network card, and of its channel.
const OF_FRAMES: &[&str] = &["network", "frames"];

/// How long each target runs, unless somebody says so, and in `xtask test`.
const SECONDS: u64 = 60;
const BRIEFLY: u64 = 10;

/// How much longer a run may take to begin and to end before it hangs.
const GRACE: u64 = 60;

/// What each input is bound by: bytes, seconds, and mebibytes of memory.
const BOUNDS: &[&str] = &["-max_len=4096", "-timeout=10", "-rss_limit_mb=1024"];

/// Marks each branch and each comparison, as `cargo fuzz` does.
const RUSTFLAGS: &str = "\
    -Cpasses=sancov-module \
    -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares \
    -Cllvm-args=-simplifycfg-branch-fold-threshold=0 \
    -Ccodegen-units=1";

/// `[--seconds N] [TARGET]`: all targets, or one.
pub(crate) fn fuzz(args: &[&str]) -> Result<()> {
    let (seconds, rest) = match args {
        ["--seconds", number, rest @ ..] => (seconds(number)?, rest),
        rest => (SECONDS, rest),
    };
    let targets = match rest {
        [] => TARGETS,
        [target] if TARGETS.contains(target) => rest,
        _ => return Err(Failure::new(format!("the targets are {}", TARGETS.join(", ")))),
    };
    at_length(targets, seconds)
}

/// What hears frames, for so many seconds each.
pub(crate) fn of_frames(seconds: u64) -> Result<()> {
    at_length(OF_FRAMES, seconds)
}

fn at_length(targets: &[&str], seconds: u64) -> Result<()> {
    each(targets, |target| search(target, seconds, &[corpus(target), seeds(target)]))
}

/// All targets for a moment. What is learned goes away again: a test leaves
/// things as they were.
pub(crate) fn briefly() -> Result<()> {
    each(TARGETS, |target| {
        let learned = Scratch::new(target)?;
        search(target, BRIEFLY, &[learned.0.clone(), corpus(target), seeds(target)])
    })
}

pub(crate) fn seconds(number: &str) -> Result<u64> {
    let seconds = number.parse().ok().filter(|seconds| *seconds > 0);
    seconds.ok_or_else(|| Failure::new(format!("'{number}' is no number of seconds")))
}

fn each(targets: &[&str], search: impl Fn(&str) -> Result<()>) -> Result<()> {
    packages::ensure(packages::FUZZ)?;
    build(targets)?;
    targets.iter().try_for_each(|target| search(target))
}

/// Builds with assertions and overflow checks. The target is named so that
/// the flags spare what runs in the build itself.
fn build(targets: &[&str]) -> Result<()> {
    let mut command = workspace::cargo();
    command
        .env("RUSTFLAGS", RUSTFLAGS)
        .env("CARGO_PROFILE_DEV_OPT_LEVEL", "3")
        .args(["build", "--quiet", "-p", "lampyr-fuzz", "--features", "libfuzzer"])
        .args(["--target", &triple(), "--target-dir"])
        .arg(folder("build"));
    for target in targets {
        command.args(["--bin", target]);
    }
    run(&mut command)
}

/// Runs one target. New inputs go to the first of the folders.
fn search(target: &str, seconds: u64, inputs: &[PathBuf]) -> Result<()> {
    let log = made(folder("log"))?.join(target);
    let told = File::create(&log).at(&log)?;
    let room = Scratch::new("room")?;
    let mut command = program(target, seconds, inputs)?;
    command.env("TMPDIR", &room.0).stderr(told);
    let passed = status(&mut command)?.success();
    let told = fs::read(&log).at(&log)?;
    let told = String::from_utf8_lossy(&told);
    if passed { summary(target, &told) } else { Err(found(target, &told, &log)) }
}

fn program(target: &str, seconds: u64, inputs: &[PathBuf]) -> Result<Command> {
    let program = folder("build").join(triple()).join("debug").join(target);
    let crashes = made(folder("crashes").join(target))?;
    let mut command = bounded(Duration::from_secs(seconds + GRACE), program);
    command
        .args(BOUNDS)
        .arg(format!("-max_total_time={seconds}"))
        .arg("-print_final_stats=1")
        .arg(format!("-artifact_prefix={}/", crashes.display()));
    for folder in inputs {
        command.arg(made(folder.clone())?);
    }
    Ok(command)
}

/// A folder that is there, made or not.
fn made(folder: PathBuf) -> Result<PathBuf> {
    fs::create_dir_all(&folder).at(&folder)?;
    Ok(folder)
}

fn summary(target: &str, told: &str) -> Result<()> {
    let tried = after(told, "stat::number_of_executed_units:");
    let tried = tried.ok_or_else(|| Failure::new(format!("{target}: libFuzzer tried nothing")))?;
    say(&format!("{target}: {} inputs, nothing found", tried.trim()));
    Ok(())
}

/// What broke, with which input, and how to see it again.
fn found(target: &str, told: &str, log: &Path) -> Failure {
    let log = log.display();
    let Some(input) = after(told, "Test unit written to ") else {
        return Failure::new(format!("fuzzing {target} ended before its time; see {log}"));
    };
    let panic = told.split_once("panicked at ").map(|(_, rest)| rest.lines().take(2));
    let what = match panic {
        Some(lines) => lines.collect::<Vec<_>>().join(" "),
        None => after(told, "libFuzzer: ").unwrap_or("it ended").to_owned(),
    };
    Failure::new(format!(
        "{target} fails on {input}: {what}\n\
         replay it with `cargo run -p lampyr-fuzz --bin {target} -- {input}`; the log is {log}"
    ))
}

/// The rest of the first line that contains `mark`.
fn after<'a>(told: &'a str, mark: &str) -> Option<&'a str> {
    told.lines().find_map(|line| line.split_once(mark)).map(|(_, rest)| rest)
}

fn folder(name: &str) -> PathBuf {
    workspace::target().join("fuzz").join(name)
}

fn corpus(target: &str) -> PathBuf {
    folder("corpus").join(target)
}

fn seeds(target: &str) -> PathBuf {
    workspace::root().join("fuzz/seeds").join(target)
}

fn triple() -> String {
    format!("{}-unknown-linux-gnu", workspace::HOST_ARCH)
}

/// A directory in memory where there is such a place, gone when dropped:
/// unpacking there is many times faster than on a disk.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Result<Self> {
        let memory = Path::new("/dev/shm");
        let around = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        let path = around.join(format!("lampyr-fuzz-{}-{name}", std::process::id()));
        fs::create_dir(&path).at(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
