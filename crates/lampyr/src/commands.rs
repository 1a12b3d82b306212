//! One file for each command; here they are told apart.

mod bench;
mod clean;
mod completions;
mod cp;
mod doctor;
mod exec;
mod images;
mod network;
mod policy;
mod pool;
mod ps;
mod run;
mod serve;
mod session;
mod snapshot;
mod undo;
mod verify;
mod vm_network;
mod volume;

use std::ffi::OsString;
use std::time::Duration;

use clap::Parser;
use clap::error::ErrorKind as Clap;
use lampyr_types::ErrorKind;

use crate::args::{Cli, Command};
use crate::bad_input::BadInput;
use crate::core_api::{Error, Outcome, RunError};
use crate::failure::Failure;
use crate::interrupt;
use crate::printer::Printer;
use crate::report::Report;
use crate::settings::Layers;
use crate::world::World;

/// Carries out the command line and returns the exit status.
pub(crate) fn dispatch(
    words: impl Iterator<Item = OsString>,
    world: &World,
    printer: &Printer,
) -> Result<u8, Failure> {
    let cli = match Cli::try_parse_from(words) {
        Ok(cli) => cli,
        Err(answer) => return not_parsed(&answer, world, printer),
    };
    let layers = || Layers::open(world);
    match cli.command {
        Command::Run(args) => run::run(&args, &layers()?, printer),
        Command::Session(command) => session::session(&command, &layers()?, printer),
        Command::Exec(args) => exec::exec(&args, &layers()?, printer),
        Command::Cp(args) => cp::cp(&args, &layers()?, printer),
        Command::Ps(args) => ps::ps(&args, &layers()?, printer),
        Command::Volume(command) => volume::volume(&command, &layers()?, printer),
        Command::Snapshot(command) => snapshot::snapshot(&command, &layers()?, printer),
        Command::Fork(args) => snapshot::fork(&args, &layers()?, printer),
        Command::VerifyFork(args) => verify::verify_fork(&args, &layers()?, printer),
        Command::Log(args) => undo::log(&args, &layers()?, printer),
        Command::Undo(args) => undo::undo(&args, &layers()?, printer),
        Command::Images(command) => images::images(&command, &layers()?, printer),
        Command::VmNetwork => vm_network::be(),
        Command::SessionOwner => session::own(&layers()?),
        Command::Pool(command) => pool::pool(&command, &layers()?, printer),
        Command::PoolKeeper => pool::keep(&layers()?),
        Command::PoolMember => pool::own(&layers()?),
        Command::Network(command) => network::network(&command, &layers()?, printer),
        Command::Policy(command) => policy::policy(&command, &layers()?, printer),
        Command::Serve(args) => serve::serve(&args, &layers()?, printer),
        Command::Doctor(args) => doctor::doctor(&args, &layers()?, printer),
        Command::Clean(args) => clean::clean(&args, &layers()?, printer),
        Command::Bench(args) => bench::bench(&args, &layers()?, printer),
        Command::Completions(args) => completions::completions(&args, printer),
    }
}

/// Help and version are printed; anything else is bad input.
fn not_parsed(answer: &clap::Error, world: &World, printer: &Printer) -> Result<u8, Failure> {
    let text = answer.render();
    match answer.kind() {
        Clap::DisplayHelp | Clap::DisplayVersion => {
            let text = if world.colour() { text.ansi().to_string() } else { text.to_string() };
            printer.data(text.as_bytes())?;
            Ok(0)
        }
        Clap::DisplayHelpOnMissingArgumentOrSubcommand => {
            printer.aside(text.to_string().as_bytes())?;
            Ok(2)
        }
        _ => Err(command_line(&text.to_string()).into()),
    }
}

/// What clap says at length, as a sentence and a hint.
fn command_line(text: &str) -> BadInput {
    let mut parts =
        text.split("\n\n").map(|part| part.split_whitespace().collect::<Vec<_>>().join(" "));
    let first = parts.next().unwrap_or_default();
    // Clap's advice to put a stray flag after '--' would run it as a program.
    let tip = parts.find_map(|part| part.strip_prefix("tip: a similar ").map(str::to_owned));
    let tip = tip.map(|similar| format!("a similar {similar}"));
    let message = first.strip_prefix("error: ").unwrap_or(&first).to_owned();
    let stray = message.starts_with("unexpected argument") && !message.contains("'-");
    let usual =
        if stray { "quote a command: lampyr run \"echo hello\"" } else { "see lampyr --help" };
    BadInput::CommandLine { message, hint: tip.unwrap_or_else(|| usual.to_owned()) }
}

/// Runs a future to its end on a runtime of its own.
fn block_on<T>(future: impl Future<Output = T>) -> Result<T, Failure> {
    let built = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = built.map_err(|source| Failure::System { what: "start the runtime", source })?;
    let result = runtime.block_on(future);
    // A thread that waits for our standard input must not keep us.
    runtime.shutdown_background();
    Ok(result)
}

fn no_signals(source: std::io::Error) -> Failure {
    Failure::System { what: "listen for signals", source }
}

/// Lets this process have as many files open as it may: each port, each client
/// and each file that a guest has open in a mount is one.
fn raise_file_limit() -> std::io::Result<()> {
    let mut files = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    files.current = files.maximum;
    Ok(rustix::process::setrlimit(rustix::process::Resource::Nofile, files)?)
}

/// How long somebody may take to read the last of what a command said that was
/// told to end.
const LAST_READ: Duration = Duration::from_secs(1);

/// Prints how it ended. A request that makes no sense has no envelope. `told`
/// is the status of a command that a signal has told to end: we do not outlive
/// it for a reader who does not read.
fn finish(
    report: Box<dyn Report>,
    result: Result<Outcome, RunError>,
    told: Option<u8>,
) -> Result<u8, Failure> {
    if let Err(error) = result.as_ref()
        && error.kind == ErrorKind::Usage
    {
        return result.map(|_| 0).map_err(Failure::from);
    }
    let listen = |source| Failure::System { what: "listen for signals", source };
    interrupt::end_at_once().map_err(listen)?;
    let status = status(&result);
    let Some(told) = told else { return Ok(report.finish(result).map(|()| status)?) };
    let (printed, waiting) = std::sync::mpsc::channel();
    std::thread::spawn(move || printed.send(report.finish(result)));
    match waiting.recv_timeout(LAST_READ) {
        Ok(printed) => Ok(printed.map(|()| status)?),
        Err(_) => Ok(told),
    }
}

fn status(result: &Result<Outcome, RunError>) -> u8 {
    match result {
        Ok(outcome) => u8::try_from(outcome.exit_code).unwrap_or(u8::MAX),
        Err(error) => error.kind.exit_code(),
    }
}

/// A number of bytes for people.
fn human(bytes: u64) -> String {
    let units = [(30, "GB"), (20, "MB"), (10, "KB")];
    match units.into_iter().find(|(shift, _)| bytes >> shift > 0) {
        Some((shift, unit)) => format!("{:.1} {unit}", bytes as f64 / f64::from(1 << shift)),
        None => format!("{bytes} B"),
    }
}

/// Does something until a signal comes; then its status is the answer.
fn until_interrupted<T>(
    work: impl Future<Output = Result<T, Error>>,
) -> Result<Result<T, u8>, Failure> {
    block_on(interrupt::unless_interrupted(async { work.await.map_err(Failure::from) }))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_for_people() {
        for (bytes, text) in [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KB"), (5 << 30, "5.0 GB")] {
            assert_eq!(human(bytes), text);
        }
    }

    #[test]
    fn the_command_line_is_well_formed() {
        <Cli as clap::CommandFactory>::command().debug_assert();
    }
}
