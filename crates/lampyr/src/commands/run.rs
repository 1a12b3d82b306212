//! `lampyr run`.

use std::sync::Arc;
use std::time::Instant;

use lampyr_types::Progress;

use crate::args::RunArgs;
use crate::core_api::{self as core, Outcome, Output, RunError, RunRequest, Trace};
use crate::failure::Failure;
use crate::interrupt::{Interrupt, heard};
use crate::printer::Printer;
use crate::progress::progress;
use crate::report;
use crate::settings::{Layers, RunSettings};
use crate::waterfall;
use crate::wiring::{self, HostChoice};

/// Runs one command in a VM of its own; the exit status is the command's.
pub(super) fn run(args: &RunArgs, layers: &Layers<'_>, printer: &Printer) -> Result<u8, Failure> {
    let settings = RunSettings::resolve(args, layers)?;
    let progress = progress(layers.world(), printer);
    super::raise_file_limit()?;
    super::block_on(perform(settings, progress, printer))?
}

async fn perform(
    settings: RunSettings,
    progress: Arc<dyn Progress>,
    printer: &Printer,
) -> Result<u8, Failure> {
    let mut interrupt = Interrupt::listen().map_err(super::no_signals)?;
    let mut report = report::new(&settings.report, printer);
    let trace = Trace::new();
    let RunSettings { request, host, boot_trace, .. } = settings;
    let result = tokio::select! {
        biased;
        status = interrupt.came() => return Ok(status),
        result = heard(launch(host, &request, progress, report.as_mut(), &trace)) => result,
    };
    if boot_trace {
        printer.aside(waterfall::draw(&trace.stages()).as_bytes())?;
    }
    super::finish(report, result, None)
}

async fn launch(
    host: HostChoice,
    request: &RunRequest,
    progress: Arc<dyn Progress>,
    output: &mut dyn Output,
    trace: &Trace,
) -> Result<Outcome, RunError> {
    let start = Instant::now();
    let opened = core::Host::open(&wiring::host(host, progress)?).await;
    let host = opened.map_err(|e| RunError { duration: start.elapsed(), ..e.into() })?;
    core::run(&host, request, output, trace).await
}
