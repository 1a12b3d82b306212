//! `lampyr pool`: start, stop, list; and what `start` leaves behind: the
//! `pool-keeper` and its `pool-member`s.

mod batch;

use std::fmt::Write as _;
use std::io::{self, BufRead as _, Write as _};
use std::sync::Arc;

use lampyr_types::NoProgress;
use serde_json::{Value, json};
use tokio::io::AsyncReadExt as _;

use crate::args::{ListArgs, PoolCommand, PoolStartArgs, PoolStopArgs};
use crate::bad_input::BadInput;
use crate::core_api::{self as core, MemberWord, PoolRecord};
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::printer::Printer;
use crate::progress::progress;
use crate::settings::{Format, Layers, PoolSettings};
use crate::wiring;

use super::human;
use super::no_signals;
use super::session::{confirmed, detach, owner, reply};

/// Tells the commands under `pool` apart.
pub(super) fn pool(
    command: &PoolCommand,
    layers: &Layers<'_>,
    printer: &Printer,
) -> Result<u8, Failure> {
    match command {
        PoolCommand::Run(args) => batch::batch(args, layers, printer),
        PoolCommand::Start(args) => start(args, layers, printer),
        PoolCommand::Stop(args) => stop(args, layers, printer),
        PoolCommand::List(args) => list(args, layers, printer),
    }
}

fn start(args: &PoolStartArgs, layers: &Layers<'_>, printer: &Printer) -> Result<u8, Failure> {
    let PoolSettings { request, host } = PoolSettings::resolve(args, layers)?;
    let format = layers.format(false)?;
    let progress = progress(layers.world(), printer);
    let keeper = owner(layers.home(), "pool-keeper")?;
    let started = super::block_on(async {
        let mut interrupt = Interrupt::listen().map_err(no_signals)?;
        let starting = async {
            let host = core::Host::open(&wiring::host(host, progress)?).await?;
            core::start_pool(&host, &request, keeper).await.map_err(Failure::from)
        };
        tokio::select! {
            biased;
            status = interrupt.came() => Ok(Err(status)),
            started = starting => started.map(Ok),
        }
    })??;
    match (started, format) {
        (Err(status), _) => return Ok(status),
        (Ok(id), Format::Json) => printer.json(&json!({"id": id.to_string()}))?,
        (Ok(id), Format::Text) => printer.data(format!("{id}\n").as_bytes())?,
    }
    Ok(0)
}

/// Keeps a pool from now on: reads the request, says how the start went, and
/// stays until the pool is over.
pub(super) fn keep(layers: &Layers<'_>) -> Result<u8, Failure> {
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line).map_err(unread)?;
    let request = serde_json::from_str(&line).map_err(|e| unread(e.into()))?;
    detach().map_err(|source| Failure::System { what: "detach", source })?;
    let home = layers.home();
    let member = || owner(home, "pool-member").map_err(|e| io::Error::other(e.to_string()));
    super::block_on(core::keep_pool(home, &request, member, |started| reply(&started.into())))?;
    Ok(0)
}

/// Owns a member of a pool from now on: reads the request, says how the start
/// went, and stays until the keeper or the claimant lets go.
pub(super) fn own(layers: &Layers<'_>) -> Result<u8, Failure> {
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line).map_err(unread)?;
    let request = serde_json::from_str(&line).map_err(|e| unread(e.into()))?;
    let host = layers.host()?;
    super::block_on(async {
        // The keeper says nothing more; it only ends.
        let orphaned = async { drop(tokio::io::stdin().read(&mut [0]).await) };
        match core::Host::open(&wiring::host(host, Arc::new(NoProgress))?).await {
            Ok(host) => core::own_member(&host, &request, |word| tell(&word), orphaned).await,
            Err(e) => drop(tell(&MemberWord::Started(Err(e).into()))),
        }
        Ok(0)
    })?
}

fn unread(source: io::Error) -> Failure {
    Failure::System { what: "read the request", source }
}

/// Says a word to the keeper. Returns whether it was heard.
fn tell(word: &MemberWord) -> bool {
    let line = serde_json::to_string(word).unwrap_or_default();
    writeln!(io::stdout(), "{line}").and_then(|()| io::stdout().flush()).is_ok()
}

fn stop(args: &PoolStopArgs, layers: &Layers<'_>, printer: &Printer) -> Result<u8, Failure> {
    let home = layers.home();
    let ids = match (&args.id, args.all) {
        (Some(id), false) => vec![id.clone()],
        (None, true) => {
            core::pools(home)?.into_iter().map(|(pool, _)| pool.id.to_string()).collect()
        }
        _ => return Err(BadInput::OnePoolOrAll.into()),
    };
    let mut answers = Vec::new();
    for id in &ids {
        answers.push(confirmed(id, &super::block_on(core::stop_pool(home, id))??));
    }
    match (layers.format(false)?, &args.id) {
        (Format::Json, Some(_)) => printer.json(&answers.remove(0))?,
        (Format::Json, None) => printer.json(&Value::Array(answers))?,
        (Format::Text, _) => {
            for id in &ids {
                printer.data(format!("stopped {id}\n").as_bytes())?;
            }
        }
    }
    Ok(0)
}

fn list(args: &ListArgs, layers: &Layers<'_>, printer: &Printer) -> Result<u8, Failure> {
    let format = layers.format(args.json)?;
    let pools = core::pools(layers.home())?;
    match format {
        Format::Json => printer.json(&pools.iter().map(row).collect())?,
        Format::Text => printer.data(table(&pools).as_bytes())?,
    }
    Ok(0)
}

fn row((pool, ready): &(PoolRecord, usize)) -> Value {
    json!({
        "id": pool.id.to_string(),
        "image": pool.origin.to_string(),
        "cpus": pool.cpus,
        "memory": pool.memory,
        "size": pool.size,
        "ready": ready,
    })
}

fn table(pools: &[(PoolRecord, usize)]) -> String {
    if pools.is_empty() {
        return "no pools\n".to_owned();
    }
    let mut text = format!("{:36}  {:16}  {:>4}  {:>8}  READY\n", "ID", "IMAGE", "CPUS", "MEMORY");
    for (pool, ready) in pools {
        let (id, image, memory) =
            (pool.id.to_string(), pool.origin.to_string(), human(pool.memory));
        let (cpus, size) = (pool.cpus, pool.size);
        let _ = writeln!(text, "{id:36}  {image:16}  {cpus:>4}  {memory:>8}  {ready} of {size}");
    }
    text
}
