//! What `bench` measures, from inside: the same steps that a run takes.

mod booted;

use std::path::Path;
use std::time::{Duration, Instant};

pub use booted::{Booted, boot_on_own_network};

use lampyr_engine::Machine;
use lampyr_proto::{Exec, Job};

use crate::exec::{Source, exec};
use crate::sandbox::Sandbox;
use crate::template::{Nowhere, Purpose, Template};
use crate::{Error, Host, Output, RunRequest, pool, template};

/// A machine that was launched to be measured.
pub struct Launched {
    sandbox: Sandbox,
}

/// How long a machine took that was booted from nothing.
#[derive(Debug, Clone, Copy)]
pub struct ColdBoot {
    /// From the start of its process to the agent's first answer.
    pub ready: Duration,
    /// From the start of its process to the result of a first `true`.
    pub first_result: Duration,
}

/// Boots a machine from nothing, runs one command in it and throws it away.
pub async fn cold_boot(host: &Host, request: &RunRequest) -> Result<ColdBoot, Error> {
    boot(host, &host.kit.kernel, request).await
}

/// The same as a script around QEMU does it: with the distribution's kernel
/// as it comes.
pub async fn plain_boot(host: &Host, request: &RunRequest) -> Result<ColdBoot, Error> {
    boot(host, &host.kit.packed, request).await
}

async fn boot(host: &Host, kernel: &Path, request: &RunRequest) -> Result<ColdBoot, Error> {
    let shape = request.shape();
    let purpose = Purpose::new(host, &request.origin, shape).await?;
    let staging = host.store.stage()?;
    let start = Instant::now();
    let (mut machine, _memory) =
        template::boot(host, kernel, &purpose.hold.base, shape, staging.path()).await?;
    let measured = first_result(&mut *machine, start).await;
    machine.stop().await;
    measured
}

async fn first_result(machine: &mut dyn Machine, start: Instant) -> Result<ColdBoot, Error> {
    let channel = template::greet(machine, Duration::from_secs(90)).await?;
    let ready = start.elapsed();
    exec(&channel, job("true"), Source::Empty, &mut Nowhere).await?;
    Ok(ColdBoot { ready, first_result: start.elapsed() })
}

fn job(command: &str) -> Exec {
    Exec::new(Job::Shell(command.to_owned()))
}

/// Restores a machine as `run` does.
pub async fn launch(host: &Host, request: &RunRequest) -> Result<Launched, Error> {
    let template = Template::get(host, &request.origin, request.shape()).await?;
    let mut sandbox = Sandbox::launch(host, &template, request.net.as_ref(), false).await?;
    sandbox.awake().await?;
    Ok(Launched { sandbox })
}

/// Claims a machine of a pool as `run` does; `None` where none is ready.
pub async fn claim(host: &Host, request: &RunRequest) -> Result<Option<Launched>, Error> {
    let purpose = Purpose::new(host, &request.origin, request.shape()).await?;
    let Some(resting) = pool::claim(host, &purpose.key).await else { return Ok(None) };
    Ok(Some(Launched { sandbox: resting.rouse(&host.store, None).await? }))
}

impl Launched {
    /// Runs a shell command. Returns the round trip and the part of it that
    /// the agent saw between spawn and exit.
    pub async fn exec(&mut self, command: &str) -> Result<(Duration, Duration), Error> {
        self.hear(command, &mut Nowhere).await
    }

    /// The same, and somebody hears what it says.
    pub async fn hear(
        &mut self,
        command: &str,
        output: &mut dyn Output,
    ) -> Result<(Duration, Duration), Error> {
        let channel = self.sandbox.channel();
        let start = Instant::now();
        let ran = exec(&channel, job(command), Source::Empty, output);
        let exited = self.sandbox.while_alive(ran).await?;
        Ok((start.elapsed(), Duration::from_micros(exited.wall_us)))
    }

    /// The process that is the machine.
    pub fn pid(&self) -> Option<u32> {
        self.sandbox.pid()
    }

    /// The process that is its network, where it has one.
    pub fn network_pid(&self) -> Option<u32> {
        Some(self.sandbox.network()?.pid())
    }

    /// Ends the machine.
    pub async fn end(self) {
        self.sandbox.end().await;
    }
}
