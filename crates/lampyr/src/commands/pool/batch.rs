//! `lampyr pool run`.

use std::sync::Arc;

use crate::args::PoolRunArgs;
use crate::core_api as core;
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::printer::Printer;
use crate::progress::progress;
use crate::report::Row;
use crate::settings::{BatchSettings, Layers, numbered_run};
use crate::wiring;

use super::no_signals;

/// Runs a command many times; the exit status says whether all of them ran.
pub(super) fn batch(
    args: &PoolRunArgs,
    layers: &Layers<'_>,
    printer: &Printer,
) -> Result<u8, Failure> {
    let settings = BatchSettings::resolve(args, layers)?;
    let progress = progress(layers.world(), printer);
    super::super::block_on(async {
        let mut interrupt = Interrupt::listen().map_err(no_signals)?;
        let parts = wiring::host(settings.run.host.clone(), progress)?;
        tokio::select! {
            biased;
            status = interrupt.came() => Ok(status),
            ran = perform(&settings, &parts, printer) => ran,
        }
    })?
}

async fn perform(
    settings: &BatchSettings,
    parts: &core::HostSettings,
    printer: &Printer,
) -> Result<u8, Failure> {
    let host = Arc::new(core::Host::open(parts).await?);
    let request = |run| numbered_run(&settings.run.request, run);
    let empty = || Row::new(&settings.run.report);
    let mut status = 0;
    let done = |run, row: Row, result: Result<_, _>| {
        if result.is_err() {
            status = 1;
        }
        printer.json(&row.finish(run, &result)?)
    };
    core::run_batch(&host, settings.batch, request, empty, done).await?;
    Ok(status)
}
