//! `pool run`: one command many times, each in a machine of its own that was
//! made ready ahead. The machines belong to this process and end with it.

use std::io;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Instant;

use lampyr_image::Image;
use tokio::task::{JoinError, JoinSet};

use super::warm::warm;
use crate::mount::Mounts;
use crate::network::Begun;
use crate::run::{Wished, not_started, prepare, wished, work};
use crate::sandbox::Resting;
use crate::template::Purpose;
use crate::{Error, Host, Outcome, Output, RunError, RunRequest, Trace};

/// How many runs, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Batch {
    /// Runs in all.
    pub count: u32,
    /// Machines that are ready, or getting ready, for the next runs.
    pub size: NonZeroU32,
    /// Runs at once.
    pub concurrency: NonZeroU32,
}

type Ended<O> = (u32, O, Result<Outcome, RunError>);

/// Runs `request(n)` for each n from 1 to the batch's count. `output` makes
/// what takes the output of one; `done` is given each that has ended, and an
/// error of it ends everything. Dropping the future does, too.
pub async fn run_batch<O: Output + 'static>(
    host: &Arc<Host>,
    batch: Batch,
    request: impl Fn(u32) -> RunRequest,
    output: impl Fn() -> O,
    mut done: impl FnMut(u32, O, Result<Outcome, RunError>) -> io::Result<()>,
) -> io::Result<()> {
    let (mut ahead, mut running) = (JoinSet::new(), JoinSet::new());
    let (mut asked, mut begun) = (0, 0);
    let at_most = |limit: NonZeroU32| usize::try_from(limit.get()).unwrap_or(usize::MAX);
    loop {
        while asked < batch.count && ahead.len() < at_most(batch.size) {
            asked += 1;
            ahead.spawn(machine(host.clone(), request(asked)));
        }
        let free = running.len() < at_most(batch.concurrency);
        tokio::select! {
            Some(made) = ahead.join_next(), if free => {
                begun += 1;
                running.spawn(one(host.clone(), begun, joined(made), request(begun), output()));
            }
            Some(ended) = running.join_next() => {
                let (run, output, result) = ended.map_err(io::Error::other)?;
                done(run, output, result)?;
            }
            else => return Ok(()),
        }
    }
}

/// A machine, and how long it took.
type Made = (Instant, Result<(Resting, Image), Error>);

async fn machine(host: Arc<Host>, request: RunRequest) -> Made {
    let start = Instant::now();
    let made = async {
        let purpose = Purpose::new(&host, &request.origin, request.shape()).await?;
        let image = purpose.image.clone();
        Ok((warm(&host, &request.origin, purpose).await?, image))
    };
    (start, made.await)
}

fn joined(made: Result<Made, JoinError>) -> Result<(Resting, Image), RunError> {
    let broken = |e: JoinError| RunError::from(Error::Agent(e.to_string()));
    let (start, made) = made.map_err(broken)?;
    made.map_err(|e| not_started(e, start))
}

async fn one<O: Output>(
    host: Arc<Host>,
    run: u32,
    made: Result<(Resting, Image), RunError>,
    request: RunRequest,
    mut output: O,
) -> Ended<O> {
    let result = match made {
        Ok((resting, image)) => perform(&host, resting, &image, &request, &mut output).await,
        Err(e) => Err(e),
    };
    (run, output, result)
}

async fn perform(
    host: &Host,
    resting: Resting,
    image: &Image,
    request: &RunRequest,
    output: &mut dyn Output,
) -> Result<Outcome, RunError> {
    let start = Instant::now();
    let trace = Trace::new();
    let ready = async {
        let Wished { exec, stop_signal } = wished(request, image)?;
        let mounts = Mounts::open(&host.store, &request.mounts)?;
        let begun = Begun::new(host, request.net.as_ref()).await?;
        let sandbox = resting.rouse(&host.store, begun).await?;
        let (sandbox, asked) = prepare(sandbox, request, exec, mounts, &trace).await?;
        Ok((sandbox, asked, stop_signal))
    };
    let ready: Result<_, Error> = ready.await;
    let (mut sandbox, asked, stop_signal) = ready.map_err(|e| not_started(e, start))?;
    let outcome = Box::pin(work(&mut sandbox, asked, stop_signal, request, output, &trace)).await;
    sandbox.end().await;
    outcome
}
