//! A machine that was booted to be measured, on a network of its engine's own.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use lampyr_engine::{EngineError, Machine};
use lampyr_proto::{Card, Event, Request, Resumed};
use lampyr_store::Staging;
use lampyr_types::SandboxId;

use super::job;
use crate::channel::Channel;
use crate::exec::{Source, exec};
use crate::sandbox::identity;
use crate::template::Purpose;
use crate::{Error, Host, Output, RunRequest, template};

/// How long such a machine may take to start.
const PATIENCE: Duration = Duration::from_secs(90);
/// The guest's card, in the network of the gateway that every guest has.
const CARD: Card = Card {
    mac: [0x52, 0x54, 0x00, 0x12, 0x34, 0x56],
    v4: Ipv4Addr::new(192, 0, 0, 15),
    v6: Ipv6Addr::UNSPECIFIED,
};

/// A machine that was booted from nothing. Dropping it ends it.
pub struct Booted {
    machine: Box<dyn Machine>,
    channel: Channel,
    _staging: Staging,
}

/// Boots a machine with the distribution's kernel and a network card. `host` is
/// one of [`Host::with_own_network`].
pub async fn boot_on_own_network(host: &Host, request: &RunRequest) -> Result<Booted, Error> {
    let mut shape = request.shape();
    shape.spec.network = true;
    let purpose = Purpose::new(host, &request.origin, shape).await?;
    let staging = host.store.stage()?;
    let (kernel, dir) = (&host.kit.packed, staging.path());
    let (mut machine, _memory) =
        template::boot(host, kernel, &purpose.hold.base, shape, dir).await?;
    let channel = template::greet(&mut *machine, PATIENCE).await?;
    let resumed = Resumed { card: Some(CARD), ..identity(SandboxId::random()) };
    match channel.ask(&Request::Resumed(resumed)).await? {
        Event::Done => Ok(Booted { machine, channel, _staging: staging }),
        other => Err(Error::Agent(format!("the agent answered {other:?}"))),
    }
}

impl Booted {
    /// Where this host's loopback is for its guest.
    pub const GATEWAY: Ipv4Addr = Card::GATEWAY_V4;

    /// Runs a shell command, whose output somebody hears, in time.
    pub async fn hear(
        &mut self,
        command: &str,
        output: &mut dyn Output,
    ) -> Result<Duration, Error> {
        let start = Instant::now();
        let ran = exec(&self.channel, job(command), Source::Empty, output);
        let slow = EngineError::Slow { what: "transfer", seconds: PATIENCE.as_secs() };
        tokio::select! {
            ran = tokio::time::timeout(PATIENCE, ran) => ran.map_err(|_| slow)??,
            ended = self.machine.ended() => return Err(Error::Crashed(ended)),
        };
        Ok(start.elapsed())
    }

    /// Ends the machine.
    pub async fn end(self) {
        self.machine.stop().await;
    }
}
