//! `lampyr snapshot` and `lampyr fork`.

use std::fmt::Write as _;
use std::io;

use lampyr_types::Name;
use serde_json::{Value, json};

use crate::args::{
    ForkArgs, SnapshotArgs, SnapshotBuildArgs, SnapshotCommand, SnapshotCreateArgs,
    SnapshotPullArgs, SnapshotPushArgs, SnapshotRmArgs,
};
use crate::core_api::envelope::millis;
use crate::core_api::{
    self as core, BuildOutput, ForkRequest, Host, Output, OutputStream, Snapshot, Snapshots,
};
use crate::failure::Failure;
use crate::interrupt::{Interrupt, heard};
use crate::printer::Printer;
use crate::progress::progress;
use crate::settings::{
    BuildSettings, Format, Layers, NewSnapshot, pull_request, reference, sid, snapshot_name,
};
use crate::wiring;

use super::human;

/// Tells the commands under `snapshot` apart.
pub(super) fn snapshot(
    command: &SnapshotCommand,
    layers: &Layers<'_>,
    printer: &Printer,
) -> Result<u8, Failure> {
    match command {
        SnapshotCommand::Build(args) => build(args, layers, printer),
        SnapshotCommand::Create(args) => create(args, layers, printer),
        SnapshotCommand::Inspect(args) => inspect(args, layers, printer),
        SnapshotCommand::Rm(args) => remove(args, layers, printer),
        SnapshotCommand::Push(args) => push(args, layers, printer),
        SnapshotCommand::Pull(args) => pull(args, layers, printer),
        SnapshotCommand::List(args) => list(layers, layers.format(args.json)?, printer),
    }
}

fn build(args: &SnapshotBuildArgs, layers: &Layers<'_>, printer: &Printer) -> Result<u8, Failure> {
    let BuildSettings { plan, options } = BuildSettings::resolve(args, layers)?;
    let owner = super::session::owner(layers.home(), "session-owner")?;
    let built = on_host(layers, printer, async |host| {
        let mut follower = Follower(printer);
        Ok(core::build_snapshot(&host, &plan, options, owner, &mut follower).await?)
    })?;
    let built = match built {
        Ok(built) => built,
        Err(status) => return Ok(status),
    };
    let mut told = row(&built.snapshot);
    told["cached"] = built.cached.into();
    match layers.format(false)? {
        Format::Json => printer.json(&told)?,
        Format::Text => printer.data(format!("{}\n", built.snapshot.name).as_bytes())?,
    }
    Ok(0)
}

/// Steps and what they say go to standard error: the answer is the snapshot.
struct Follower<'a>(&'a Printer);

impl Output for Follower<'_> {
    fn write(&mut self, _stream: OutputStream, bytes: &[u8]) -> std::io::Result<()> {
        self.0.aside(bytes)
    }
}

impl BuildOutput for Follower<'_> {
    fn step(&mut self, index: usize, count: usize, description: &str) {
        self.0.note(&format!("step {index} of {count}: {description}"));
    }
}

fn create(
    args: &SnapshotCreateArgs,
    layers: &Layers<'_>,
    printer: &Printer,
) -> Result<u8, Failure> {
    let NewSnapshot { sid, request } = NewSnapshot::resolve(args)?;
    let taken = on_host(layers, printer, async |host| {
        Ok(core::create_snapshot(&host, &sid, &request).await?)
    })?;
    let taken = match taken {
        Ok(taken) => taken,
        Err(status) => return Ok(status),
    };
    let mut told = row(&taken.snapshot);
    told["pause_ms"] = millis(taken.pause).into();
    match layers.format(false)? {
        Format::Json => printer.json(&told)?,
        Format::Text => printer.data(format!("{}\n", taken.snapshot.name).as_bytes())?,
    }
    Ok(0)
}

/// `lampyr fork`.
pub(super) fn fork(args: &ForkArgs, layers: &Layers<'_>, printer: &Printer) -> Result<u8, Failure> {
    let parent = sid(&args.sid)?;
    let owner = || super::session::owner(layers.home(), "session-owner").map_err(io::Error::other);
    let forked = on_host(layers, printer, async |host| {
        let wanted =
            ForkRequest { count: args.count, attached: true, with_secrets: args.with_secrets };
        Ok(core::fork(&host, &parent, wanted, owner).await?)
    })?;
    let forked = match forked {
        Ok(forked) => forked,
        Err(status) => return Ok(status),
    };
    let sids: Vec<_> = forked.sessions.iter().map(|(sid, _)| sid.to_string()).collect();
    // Sessions that nobody knows of would never be stopped: until these were told
    // they end with us.
    match layers.format(false)? {
        Format::Json => printer.json(&json!({"sids": sids, "pause_ms": millis(forked.pause)}))?,
        Format::Text => printer.data(format!("{}\n", sids.join("\n")).as_bytes())?,
    }
    forked.keep()?;
    Ok(0)
}

/// Does something on this host until it is done, or until a signal ends it:
/// then its status is the error.
pub(super) fn on_host<T>(
    layers: &Layers<'_>,
    printer: &Printer,
    work: impl AsyncFnOnce(Host) -> Result<T, Failure>,
) -> Result<Result<T, u8>, Failure> {
    let (host, progress) = (layers.host()?, progress(layers.world(), printer));
    super::block_on(async {
        let mut interrupt = Interrupt::listen().map_err(super::no_signals)?;
        let working = async { work(Host::open(&wiring::host(host, progress)?).await?).await };
        tokio::select! {
            biased;
            status = interrupt.came() => Ok(Err(status)),
            done = heard(working) => done.map(Ok),
        }
    })?
}

fn inspect(args: &SnapshotArgs, layers: &Layers<'_>, printer: &Printer) -> Result<u8, Failure> {
    let snapshot = core::snapshot(layers.home(), &snapshot_name(&args.name)?)?;
    match layers.format(false)? {
        Format::Json => printer.json(&row(&snapshot))?,
        Format::Text => printer.data(table(&[snapshot]).as_bytes())?,
    }
    Ok(0)
}

fn remove(args: &SnapshotRmArgs, layers: &Layers<'_>, printer: &Printer) -> Result<u8, Failure> {
    let name = snapshot_name(&args.name)?;
    let removed = core::remove_snapshot(layers.home(), &name, args.force)?;
    let names: Vec<_> = removed.iter().map(Name::as_str).collect();
    match layers.format(false)? {
        Format::Json => printer.json(&json!({"removed": names}))?,
        Format::Text => printer.data(format!("removed {}\n", names.join(" ")).as_bytes())?,
    }
    Ok(0)
}

fn push(args: &SnapshotPushArgs, layers: &Layers<'_>, printer: &Printer) -> Result<u8, Failure> {
    let (name, target) = (snapshot_name(&args.name)?, reference(&args.reference)?);
    let (format, progress) = (layers.format(false)?, progress(layers.world(), printer));
    let settings = layers.registries()?.settings;
    let pushing = core::push_snapshot(layers.home(), &name, &target, &settings, &*progress);
    match (super::until_interrupted(pushing)?, format) {
        (Err(status), _) => return Ok(status),
        (Ok(digest), Format::Json) => {
            let (pushed, digest) = (target.to_string(), digest.to_string());
            printer.json(&json!({"pushed": pushed, "digest": digest}))?;
        }
        (Ok(_), Format::Text) => printer.data(format!("pushed {target}\n").as_bytes())?,
    }
    Ok(0)
}

fn pull(args: &SnapshotPullArgs, layers: &Layers<'_>, printer: &Printer) -> Result<u8, Failure> {
    let (request, format) = (pull_request(args)?, layers.format(false)?);
    let pulled =
        on_host(layers, printer, async |host| Ok(core::pull_snapshot(&host, &request).await?))?;
    match (pulled, format) {
        (Err(status), _) => return Ok(status),
        (Ok(snapshot), Format::Json) => printer.json(&row(&snapshot))?,
        (Ok(snapshot), Format::Text) => {
            printer.data(format!("{}\n", snapshot.name).as_bytes())?;
        }
    }
    Ok(0)
}

fn list(layers: &Layers<'_>, format: Format, printer: &Printer) -> Result<u8, Failure> {
    let Snapshots { whole, unreadable } = core::snapshots(layers.home())?;
    for (name, why) in unreadable {
        printer.note(&format!("snapshot '{name}' is left out: {why}"));
    }
    match format {
        Format::Json => printer.json(&whole.iter().map(row).collect())?,
        Format::Text => printer.data(table(&whole).as_bytes())?,
    }
    Ok(0)
}

fn row(snapshot: &Snapshot) -> Value {
    let parent = snapshot.parent.as_ref().map(|(digest, name)| {
        json!({"digest": digest.to_string(), "name": name.as_ref().map(Name::as_str)})
    });
    json!({
        "name": snapshot.name.as_str(),
        "digest": snapshot.digest.to_string(),
        "created": snapshot.created.to_string(),
        "image": snapshot.image,
        "cpus": snapshot.cpus,
        "memory": snapshot.memory,
        "disk_size": snapshot.disk_size,
        "network": snapshot.network,
        "labels": snapshot.labels,
        "parent": parent,
        "own_bytes": snapshot.own_bytes,
        "total_bytes": snapshot.total_bytes,
    })
}

fn table(snapshots: &[Snapshot]) -> String {
    if snapshots.is_empty() {
        return "no snapshots\n".to_owned();
    }
    let mut text =
        format!("{:>9}  {:>8}  {:20}  {:16}  NAME\n", "OWN", "MEMORY", "CREATED", "IMAGE");
    for one in snapshots {
        let (own, memory) = (human(one.own_bytes), human(one.memory));
        let created = one.created.to_string();
        let (created, image) = (created.get(..19).unwrap_or(&created), &one.image);
        let _ = writeln!(text, "{own:>9}  {memory:>8}  {created:20}  {image:16}  {}", one.name);
    }
    text
}
