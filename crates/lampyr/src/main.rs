//! `lampyr`: runs commands in sealed microVMs.

mod agent;
mod args;
mod bad_input;
mod bad_manifest;
mod bad_secret;
mod commands;
mod conceal;
mod core_api;
mod env_vars;
mod failure;
mod interrupt;
mod outlet;
mod printed;
mod printer;
mod progress;
mod report;
mod settings;
mod terminal;
mod waterfall;
mod wiring;
mod world;

use std::process::ExitCode;

fn main() -> ExitCode {
    let world = world::World::here();
    let printer = printer::Printer::standard();
    match commands::dispatch(std::env::args_os(), &world, &printer) {
        Ok(status) => ExitCode::from(status),
        Err(failure) => ExitCode::from(failure.tell(&printer)),
    }
}
