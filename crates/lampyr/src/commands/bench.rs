//! `lampyr bench`: the published table of speeds, measured here and now.

mod connections;
mod copies;
mod guest;
mod launches;
mod mount;
mod network;
mod peers;
mod pool;
mod process;
mod said;
mod server;
mod session;
mod snapshots;
mod table;

use std::path::Path;
use std::time::Duration;

use clap::Parser;
use lampyr_store::Store;

use crate::args::{BenchArgs, Cli, Command};
use crate::core_api::{self as core, Engines, Error, Host, RunRequest};
use crate::failure::Failure;
use crate::interrupt::unless_interrupted;
use crate::printer::Printer;
use crate::progress::progress;
use crate::settings::{Format, Layers, RunSettings};
use crate::wiring;

use table::{Row, Table, Unit};

/// Machines that run at once for the row on many idle VMs.
const MANY: usize = 20;
/// How long an idle machine is watched.
const IDLE: Duration = Duration::from_secs(5);

/// Measures and prints.
pub(super) fn bench(
    args: &BenchArgs,
    layers: &Layers<'_>,
    printer: &Printer,
) -> Result<u8, Failure> {
    let format = layers.format(args.json)?;
    let settings = usual_run(layers)?;
    let progress = progress(layers.world(), printer);
    let parts = wiring::host(settings.host, progress)?;
    let engine = parts.engines.describe().map_err(Error::from)?;
    let home = layers.home();
    let measured = super::block_on(async {
        let measuring = async {
            let host = Host::open(&parts).await?;
            let rows =
                measure(&host, &*parts.engines, home, &settings.request, args.n as usize).await?;
            Ok(Table::new(host.accel().word(), &engine, &settings.request, rows))
        };
        let measured = unless_interrupted(Box::pin(measuring)).await;
        // What an interrupt or a failure left; there is none after success.
        let _ = core::stop_session(home, &session::name(), Duration::ZERO).await;
        measured
    })??;
    let table = match measured {
        Ok(table) => table,
        Err(status) => return Ok(status),
    };
    match format {
        Format::Json => printer.json(&table.json())?,
        Format::Text => printer.data(table.text().as_bytes())?,
    }
    Ok(0)
}

/// What `lampyr run true` would do here.
fn usual_run(layers: &Layers<'_>) -> Result<RunSettings, Failure> {
    match Cli::parse_from(["lampyr", "run", "true"]).command {
        Command::Run(args) => Ok(RunSettings::resolve(&args, layers)?),
        _ => unreachable!("the words above are a run"),
    }
}

async fn measure(
    host: &Host,
    engines: &dyn Engines,
    home: &Path,
    request: &RunRequest,
    n: usize,
) -> Result<Vec<Row>, Failure> {
    let mut rows = launches::rows(host, request, n).await?;
    rows.extend(commands(host, request, 10 * n).await?);
    rows.push(processes(n)?);
    rows.extend(on_sessions(host, home, request, 10 * n).await?);
    rows.extend(launches::with_network(host, request, n).await?);
    rows.extend(network::rows(host, engines, request, n).await?);
    rows.extend(peers::rows(host, request, n).await?);
    rows.extend(copies::rows(host, home, request, n).await?);
    rows.extend(snapshots::rows(host, home, request, n).await?);
    rows.extend(pool::rows(host, home, request, n).await?);
    rows.extend(idle(host, request).await?);
    rows.extend(cold(host, request, (n / 4).max(2)).await?);
    Ok(rows)
}

/// The rows that need files of this host's: `clean` knows where they lie.
async fn on_sessions(
    host: &Host,
    home: &Path,
    request: &RunRequest,
    n: usize,
) -> Result<Vec<Row>, Failure> {
    let scratch = Store::open(home).and_then(|store| store.stage()).map_err(Error::from)?;
    session::large(&scratch.path().join("file"))?;
    let mut rows = session::rows(host, home, request, scratch.path(), n).await?;
    rows.extend(mount::rows(host, home, request, scratch.path()).await?);
    Ok(rows)
}

async fn commands(host: &Host, request: &RunRequest, n: usize) -> Result<Vec<Row>, Error> {
    let mut machine = core::launch(host, request).await?;
    for _ in 0..5 {
        machine.exec("true").await?;
    }
    let (mut round, mut ours) = (Vec::new(), Vec::new());
    for _ in 0..n {
        let (took, guest) = machine.exec("true").await?;
        round.push(took);
        ours.push(took.saturating_sub(guest));
    }
    machine.end().await;
    let definition = "`sh -c true` in a VM that has run it before, request to result";
    let part = "the same, less spawn to exit as the agent saw it";
    Ok(vec![
        Row::times("exec round trip", definition, &round),
        Row::times("our own part of an exec", part, &ours),
    ])
}

fn processes(n: usize) -> Result<Row, Failure> {
    let mut took = Vec::new();
    for _ in 0..n {
        took.push(process::run_true()?);
    }
    let definition = "`lampyr run true` as a whole process, template made before";
    Ok(Row::times("run true, whole process", definition, &took))
}

async fn idle(host: &Host, request: &RunRequest) -> Result<Vec<Row>, Error> {
    let mut machines = vec![ready(host, request).await?];
    tokio::time::sleep(IDLE).await;
    let pid = machines[0].pid();
    let (alone, before) = (process::pss(pid), process::cpu_time(pid));
    tokio::time::sleep(IDLE).await;
    let used = process::cpu_time(pid).saturating_sub(before);
    let share = 100.0 * used.as_secs_f64() / IDLE.as_secs_f64();
    while machines.len() < MANY {
        machines.push(ready(host, request).await?);
    }
    let each: Vec<_> = machines.iter().map(|m| process::pss(m.pid())).collect();
    for machine in machines {
        machine.end().await;
    }
    Ok(vec![
        Row::one("memory of an idle VM", "PSS of its process after one command", Unit::Mb, alone),
        Row::many("memory of each of 20 idle VMs", "the same, 20 at once", Unit::Mb, each),
        Row::one("processor of an idle VM", "share of one core over 5 s", Unit::Percent, share),
    ])
}

async fn ready(host: &Host, request: &RunRequest) -> Result<core::Launched, Error> {
    let mut machine = core::launch(host, request).await?;
    machine.exec("true").await?;
    Ok(machine)
}

async fn cold(host: &Host, request: &RunRequest, n: usize) -> Result<Vec<Row>, Error> {
    let (mut ready, mut first) = (Vec::new(), Vec::new());
    for _ in 0..n {
        ready.push(core::cold_boot(host, request).await?.ready);
        first.push(core::plain_boot(host, request).await?.first_result);
    }
    let plain = "QEMU with Debian's packed kernel and the same image, to a first result";
    Ok(vec![
        Row::times("cold boot to ready", "QEMU started to the agent's first answer", &ready),
        Row::times("plain QEMU to first result", plain, &first),
    ])
}

fn missing(what: &'static str) -> Failure {
    Failure::System { what, source: std::io::ErrorKind::NotFound.into() }
}
