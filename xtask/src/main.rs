//! The tasks of this repository: `cargo xtask <task>`, one file per task.
//!
//! This is the first thing that a newcomer's machine compiles, so it depends
//! on the standard library alone. Tasks speak on standard error; standard
//! output belongs to the program that they run.

mod agent;
mod apt;
mod check_macos;
mod command;
mod failure;
mod fuzz;
mod images;
mod install;
mod packages;
mod python_sdk;
mod run;
mod rust_sdk;
mod soak;
mod test;
mod test_kvm;
mod typescript;
mod workspace;

use std::process::ExitCode;

use command::say;
use failure::{Failure, Result};

const USAGE: &str = "\
usage: cargo xtask <task>

  run -- <args>    build everything and run `lampyr run <args>`
  agent [arch]     build the guest agent (x86_64 or aarch64)
  install          put the release build of lampyr on the PATH
  test [--quick]   everything that must hold before a change is merged
  fuzz [--seconds N] [target]
                   look for bytes that break what reads hostile bytes
  soak [--seconds N]
                   everything at random for ten minutes, and 200 launches
  test-python      try the Python SDK with the release build
  check-macos      type-check and lint the host side for macOS, without a Mac
  test-kvm         try lampyr on an emulated host that has KVM";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match dispatch(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if !failure.is_told() {
                say(&format!("error: {failure}"));
            }
            ExitCode::FAILURE
        }
    }
}

fn dispatch(args: &[String]) -> Result<()> {
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args.as_slice() {
        ["run", "--", rest @ ..] | ["run", rest @ ..] => run::run(rest),
        ["agent"] => agent::build(workspace::HOST_ARCH),
        ["agent", arch] => agent::build(arch),
        ["install"] => install::install(),
        ["test"] => test::test(test::Extent::Full),
        ["test", "--quick"] => test::test(test::Extent::Quick),
        ["fuzz", rest @ ..] => fuzz::fuzz(rest),
        ["soak", rest @ ..] => soak::soak(rest),
        ["test-python"] => python_sdk::test(),
        ["check-macos"] => check_macos::check(),
        ["test-kvm"] => test_kvm::test(),
        [] | ["help" | "--help" | "-h"] => {
            say(USAGE);
            Ok(())
        }
        _ => Err(Failure::new(format!("no such task: {}\n\n{USAGE}", args.join(" ")))),
    }
}
