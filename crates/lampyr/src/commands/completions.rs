//! `lampyr completions`.

use clap::CommandFactory;

use crate::args::{Cli, CompletionsArgs};
use crate::failure::Failure;
use crate::printer::Printer;

/// Prints the completions for a shell.
pub(super) fn completions(args: &CompletionsArgs, printer: &Printer) -> Result<u8, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "lampyr", &mut script);
    printer.data(&script)?;
    Ok(0)
}
