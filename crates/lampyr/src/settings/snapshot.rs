//! What the commands on snapshots are told.

use lampyr_types::{Name, Span};

use crate::args::{MachineArgs, SnapshotBuildArgs, SnapshotCreateArgs, SnapshotPullArgs};
use crate::bad_input::BadInput;
use crate::core_api::{
    BuildDefaults, BuildOptions, BuildPlan, PullRequest, SnapshotRequest, read_config,
};

use super::net::short_file;
use super::run::some_time;
use super::session::{sid, span};
use super::volume::label;
use super::{Layers, Machine, reference};

/// How long each step may take where nobody says.
const STEP: Span = Span::secs(3600);

/// A snapshot to take.
pub(crate) struct NewSnapshot {
    /// The session.
    pub(crate) sid: String,
    /// What to take.
    pub(crate) request: SnapshotRequest,
}

impl NewSnapshot {
    /// Resolves and checks everything; touches nothing.
    pub(crate) fn resolve(args: &SnapshotCreateArgs) -> Result<Self, BadInput> {
        let labels = args.label.iter().map(|given| label(given)).collect::<Result<_, _>>()?;
        let (name, overwrite) = (snapshot_name(&args.name)?, !args.keep);
        let with_secrets = args.with_secrets;
        let request = SnapshotRequest { name, overwrite, with_secrets, labels };
        Ok(Self { sid: sid(&args.sid)?, request })
    }
}

/// A snapshot to fetch.
pub(crate) fn pull_request(args: &SnapshotPullArgs) -> Result<PullRequest, BadInput> {
    let reference = reference(&args.reference)?;
    let last = || reference.repository().rsplit('/').next().unwrap_or_default().to_owned();
    let name = snapshot_name(&args.name.clone().unwrap_or_else(last))?;
    Ok(PullRequest { reference, name, overwrite: !args.keep })
}

/// A snapshot to build.
pub(crate) struct BuildSettings {
    /// What.
    pub(crate) plan: BuildPlan,
    /// How.
    pub(crate) options: BuildOptions,
}

impl BuildSettings {
    /// Resolves and checks everything; touches nothing.
    pub(crate) fn resolve(args: &SnapshotBuildArgs, layers: &Layers<'_>) -> Result<Self, BadInput> {
        let text = short_file("snapshot build", &args.file)?;
        let machine = Machine::resolve(&MachineArgs::default(), layers)?;
        let (cpus, memory, disk_size) = (machine.cpus, machine.memory, machine.disk_size);
        let defaults = BuildDefaults { cpus, memory, disk_size };
        let plan = read_config(&text)
            .and_then(|config| config.plan(defaults, layers.world().limits()))
            .map_err(|source| BadInput::SnapshotFile { path: args.file.clone().into(), source })?;
        let options = BuildOptions {
            overwrite: !args.keep,
            keep_builder: args.debug_builder,
            cache: !args.no_cache,
            step_timeout: args.step_timeout.as_deref().map_or(Ok(STEP), step_timeout)?,
        };
        Ok(Self { plan, options })
    }
}

fn step_timeout(given: &str) -> Result<Span, BadInput> {
    let flag = "--step-timeout";
    let bad = |reason| BadInput::Flag { flag, reason, example: "10m" };
    some_time(span(flag, given)?).map_err(bad)
}

/// The name of a snapshot.
pub(crate) fn snapshot_name(given: &str) -> Result<Name, BadInput> {
    given.parse().map_err(BadInput::Name)
}
