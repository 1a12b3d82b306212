//! From the arguments of the commands on pools to requests that can be carried
//! out.

use std::num::NonZeroU32;

use lampyr_types::Span;

use crate::args::{MachineArgs, PoolRunArgs, PoolStartArgs};
use crate::bad_input::BadInput;
use crate::core_api::{Batch, CopyOut, PoolMachine, PoolRequest, RunRequest};
use crate::wiring::HostChoice;

use super::run::fill;
use super::session::span;
use super::{Layers, Machine, RunSettings};

/// How many machines a batch makes ahead where nobody says.
const SIZE: u32 = 4;
/// What stands for the number of a run in the local side of `--download`.
const RUN: &str = "{run}";

/// Everything `pool start` needs to know, checked.
pub(crate) struct PoolSettings {
    /// What to start.
    pub(crate) request: PoolRequest,
    /// Where.
    pub(crate) host: HostChoice,
}

impl PoolSettings {
    /// Resolves and checks everything; touches nothing.
    pub(crate) fn resolve(args: &PoolStartArgs, layers: &Layers<'_>) -> Result<Self, BadInput> {
        let asked = MachineArgs {
            image: args.image.clone(),
            snapshot: args.snapshot.clone(),
            size: args.machine.clone(),
            ..MachineArgs::default()
        };
        let machine = Machine::resolve(&asked, layers)?;
        let ttl = args.ttl.as_deref().map(|given| span("--ttl", given)).transpose()?;
        let request = PoolRequest {
            machine: PoolMachine {
                origin: machine.origin,
                cpus: machine.cpus,
                memory: machine.memory.as_bytes(),
                disk_size: machine.disk_size.as_bytes(),
            },
            size: args.size,
            ttl_ms: ttl.map(Span::as_millis).filter(|ms| *ms > 0),
        };
        Ok(Self { request, host: layers.host()? })
    }
}

/// Everything `pool run` needs to know, checked.
pub(crate) struct BatchSettings {
    /// What each run does.
    pub(crate) run: RunSettings,
    /// How many there are.
    pub(crate) batch: Batch,
}

impl BatchSettings {
    /// Resolves and checks everything; then asks for what is secret.
    pub(crate) fn resolve(args: &PoolRunArgs, layers: &Layers<'_>) -> Result<Self, BadInput> {
        let (mut run, secrets) = RunSettings::checked(&args.run, layers)?;
        // There is one standard input and many runs.
        run.request.stdin = false;
        if !run.request.forwards.is_empty() {
            return Err(BadInput::PoolForward);
        }
        let (count, size) = (args.count.unwrap_or(1), args.size.unwrap_or(SIZE));
        let apart = |copy: &CopyOut| numbered(copy, 1).local != copy.local;
        if count > 1 && !run.request.copy_out.iter().all(apart) {
            return Err(BadInput::PoolDownload);
        }
        fill(&mut run.request.net, &secrets, layers)?;
        let at_least_one = |n| NonZeroU32::new(n).unwrap_or(NonZeroU32::MIN);
        let concurrency = at_least_one(args.concurrency.unwrap_or(size));
        Ok(Self { run, batch: Batch { count, size: at_least_one(size), concurrency } })
    }
}

/// What run number `run` does.
pub(crate) fn numbered_run(request: &RunRequest, run: u32) -> RunRequest {
    let copy_out = request.copy_out.iter().map(|copy| numbered(copy, run)).collect();
    RunRequest { copy_out, ..request.clone() }
}

fn numbered(copy: &CopyOut, run: u32) -> CopyOut {
    let local = copy.local.to_string_lossy().replace(RUN, &run.to_string());
    CopyOut { remote: copy.remote.clone(), local: local.into() }
}
