//! Making a machine that is ready for a command: restored, warmed, at rest.

use std::os::fd::AsFd;
use std::time::Duration;

use lampyr_engine::EngineError;
use lampyr_proto::{Exec, Job};
use tokio::net::UnixStream;

use crate::exec::{Source, exec};
use crate::run::restore;
use crate::sandbox::Resting;
use crate::template::{Nowhere, Purpose, Template};
use crate::{Error, Host, Origin, Trace};

/// Takes the way that most commands take, so that an emulated processor has
/// translated it.
const COMMAND: &str = "uname >/dev/null; :";
/// How long all of it may take. It is done in a second; the rest is for a host
/// that is very busy.
const WARM_WAIT: Duration = Duration::from_mins(1);

/// Restores a machine, lets it run a throw-away command and puts it to rest.
pub(super) async fn warm(host: &Host, origin: &Origin, purpose: Purpose) -> Result<Resting, Error> {
    let template = Template::of(host, purpose).await?;
    let resting = restore(host, origin, template, &Trace::new()).await?;
    let slow = |_| EngineError::Slow { what: "get warm", seconds: WARM_WAIT.as_secs() };
    tokio::time::timeout(WARM_WAIT, exercise(host, resting)).await.map_err(slow)?
}

async fn exercise(host: &Host, resting: Resting) -> Result<Resting, Error> {
    let line = again(&resting.line)
        .map_err(|source| EngineError::Io { what: "keep the connection to a VM", source })?;
    let mut sandbox = resting.rouse(&host.store, None).await?;
    sandbox.awake().await?;
    let channel = sandbox.channel();
    let job = Exec::new(Job::Shell(COMMAND.to_owned()));
    sandbox.while_alive(exec(&channel, job, Source::Empty, &mut Nowhere)).await?;
    drop(channel);
    sandbox.rest(line).await
}

/// A second end of the same connection.
fn again(line: &UnixStream) -> std::io::Result<UnixStream> {
    UnixStream::from_std(line.as_fd().try_clone_to_owned()?.into())
}
