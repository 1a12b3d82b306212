//! `lampyr cp`.

use std::sync::Arc;

use lampyr_types::{NoProgress, Progress, Task};

use crate::args::CpArgs;
use crate::core_api::SessionClient;
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::printer::Printer;
use crate::progress::progress;
use crate::settings::{Copy, Layers};

/// Copies files between this host and a session; silent on success.
pub(super) fn cp(args: &CpArgs, layers: &Layers<'_>, printer: &Printer) -> Result<u8, Failure> {
    let copy = Copy::resolve(args)?;
    let world = layers.world();
    let shown: Arc<dyn Progress> =
        if world.stderr_is_terminal { progress(world, printer) } else { Arc::new(NoProgress) };
    super::block_on(async {
        let listen = Interrupt::listen();
        let mut interrupt =
            listen.map_err(|source| Failure::System { what: "listen for signals", source })?;
        let task = shown.begin(&format!("copying {}", args.source));
        tokio::select! {
            biased;
            status = interrupt.came() => Ok(status),
            copied = carry(&copy, layers, task.as_ref()) => copied.map(|()| 0),
        }
    })?
}

async fn carry(copy: &Copy, layers: &Layers<'_>, task: &dyn Task) -> Result<(), Failure> {
    match copy {
        Copy::In(sid, copy) => connect(sid, layers).await?.copy_in(copy, task).await?,
        Copy::Out(sid, copy) => connect(sid, layers).await?.copy_out(copy, task).await?,
    }
    Ok(())
}

async fn connect(sid: &str, layers: &Layers<'_>) -> Result<SessionClient, Failure> {
    Ok(SessionClient::connect(layers.home(), sid).await?)
}
