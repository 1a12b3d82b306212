//! `lampyr network`.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use lampyr_types::{Name, Progress, SandboxId};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::args::{NetworkCommand, NetworkRunArgs, NetworkStopArgs};
use crate::core_api::{self as core, Host, PeerRecord, PrivateNetwork, SessionRequest};
use crate::failure::Failure;
use crate::interrupt::{Interrupt, heard};
use crate::printer::Printer;
use crate::progress::progress;
use crate::settings::{Format, Layers, NetworkSettings, grace, network_name};
use crate::wiring;

use super::session::{owner, stop_all, tell_all};

/// Tells the commands under `network` apart.
pub(super) fn network(
    command: &NetworkCommand,
    layers: &Layers<'_>,
    printer: &Printer,
) -> Result<u8, Failure> {
    match command {
        NetworkCommand::Run(args) => run(args, layers, printer),
        NetworkCommand::Stop(args) => stop(args, layers, printer),
        NetworkCommand::List(args) => list(layers, layers.format(args.json)?, printer),
    }
}

fn run(args: &NetworkRunArgs, layers: &Layers<'_>, printer: &Printer) -> Result<u8, Failure> {
    let settings = NetworkSettings::resolve(args, layers)?;
    let (name, format) = (settings.name.clone(), layers.format(false)?);
    let progress = progress(layers.world(), printer);
    let mut started = Vec::new();
    let started_all = start(settings, layers.home(), progress, &mut started);
    let done = super::block_on(started_all)?.map_err(|e| e.within(&args.manifest));
    let told = match done {
        Ok(None) => tell(layers.home(), &name, &started, format, printer),
        Ok(Some(status)) => Ok(status),
        Err(e) => Err(e),
    };
    if !matches!(told, Ok(0)) {
        // All or none; and one that nobody knows of would never be stopped.
        let sids = started.iter().map(SandboxId::to_string).collect();
        super::block_on(stop_all(layers.home(), sids, Duration::ZERO))?;
    }
    told
}

/// Starts all sessions; those that are there are in `started`, whatever becomes
/// of the others. Returns the status with which a signal ended that.
async fn start(
    settings: NetworkSettings,
    home: &Path,
    progress: Arc<dyn Progress>,
    started: &mut Vec<SandboxId>,
) -> Result<Option<u8>, Failure> {
    let mut interrupt = Interrupt::listen().map_err(super::no_signals)?;
    let starting = async {
        let host = core::Host::open(&wiring::host(settings.host, progress)?).await?;
        start_all(&Arc::new(host), settings.requests, home, started).await
    };
    tokio::select! {
        biased;
        status = interrupt.came() => Ok(Some(status)),
        done = heard(starting) => done.map(|()| None),
    }
}

/// Starts sessions side by side and waits for every one.
async fn start_all(
    host: &Arc<Host>,
    requests: Vec<SessionRequest>,
    home: &Path,
    started: &mut Vec<SandboxId>,
) -> Result<(), Failure> {
    let mut starting = JoinSet::new();
    for request in requests {
        let (host, owner) = (host.clone(), owner(home, "session-owner")?);
        starting.spawn(async move {
            let name = request.name.as_ref().map_or_else(String::new, Name::to_string);
            let started = core::start_session(&host, &request, owner).await;
            started.map_err(|e| Failure::from(e).within(&format!("session '{name}'")))
        });
    }
    let mut failed = None;
    while let Some(ended) = starting.join_next().await {
        match ended {
            Ok(Ok(sid)) => started.push(sid),
            Ok(Err(e)) => drop(failed.get_or_insert(e)),
            Err(_) => {}
        }
    }
    failed.map_or(Ok(()), Err)
}

fn tell(
    home: &Path,
    name: &Name,
    started: &[SandboxId],
    format: Format,
    printer: &Printer,
) -> Result<u8, Failure> {
    let mut network = core::private_network(home, name)?;
    network.peers.retain(|peer| started.contains(&peer.sid));
    match format {
        Format::Json => printer.json(&row(&network))?,
        Format::Text => printer.data(table(&[network]).as_bytes())?,
    }
    Ok(0)
}

fn stop(args: &NetworkStopArgs, layers: &Layers<'_>, printer: &Printer) -> Result<u8, Failure> {
    let name = network_name("the network", &args.name)?;
    let (grace, format) = (grace(args.grace.as_deref())?, layers.format(false)?);
    let network = core::private_network(layers.home(), &name)?;
    let sessions = core::sessions(layers.home())?;
    // What is no session is a run's, and ends by itself.
    let is_session = |peer: &&PeerRecord| sessions.iter().any(|(s, _)| s.sid == peer.sid);
    let sids = network.peers.iter().filter(is_session).map(|peer| peer.sid.to_string()).collect();
    let answers = super::block_on(stop_all(layers.home(), sids, grace))?;
    tell_all(&answers, format, printer)
}

fn list(layers: &Layers<'_>, format: Format, printer: &Printer) -> Result<u8, Failure> {
    let networks = core::private_networks(layers.home())?;
    match format {
        Format::Json => printer.json(&networks.iter().map(row).collect())?,
        Format::Text => printer.data(table(&networks).as_bytes())?,
    }
    Ok(0)
}

fn row(network: &PrivateNetwork) -> Value {
    let session = |record: &PeerRecord| {
        let (name, address) = (record.peer.name.as_str(), record.peer.v4.to_string());
        json!({"name": name, "sid": record.sid.to_string(), "address": address})
    };
    let sessions: Vec<_> = network.peers.iter().map(session).collect();
    json!({"network": network.name.as_str(), "sessions": sessions})
}

fn table(networks: &[PrivateNetwork]) -> String {
    if networks.is_empty() {
        return "no networks\n".to_owned();
    }
    let mut text = format!("{:16}  {:16}  {:15}  SID\n", "NETWORK", "NAME", "ADDRESS");
    for network in networks {
        for PeerRecord { sid, peer, .. } in &network.peers {
            let (address, name) = (peer.v4.to_string(), peer.name.as_str());
            let _ = writeln!(text, "{:16}  {name:16}  {address:15}  {sid}", network.name.as_str());
        }
    }
    text
}
