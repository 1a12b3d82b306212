//! Who looks after a network's process: tells it the host's name servers, and
//! puts somebody in its place when it ends by itself, so that the guest hears
//! a refusal instead of nothing.

use std::io;
use std::os::unix::net::UnixStream as Line;
use std::sync::Arc;

use lampyr_proto::Card;
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::access::Access;
use crate::control::say;
use crate::network::{Beginning, Process, Program};
use crate::resolver::of_host;

/// A network's process with all that is needed to put another in its place.
#[derive(Debug)]
pub(crate) struct Kept {
    pub(crate) process: Process,
    /// On which it asks for name servers.
    pub(crate) servers: UnixStream,
    pub(crate) program: Program,
    /// The card's line.
    pub(crate) line: Line,
    pub(crate) card: Card,
}

/// Looks after a network's process. Dropping it ends that, and whoever has
/// taken its place.
#[derive(Debug)]
pub(crate) struct Keeper {
    /// The process that it began with.
    pub(crate) first: u32,
    task: JoinHandle<()>,
    enough: Arc<Notify>,
}

impl Keeper {
    /// Looks after a process, within a runtime.
    pub(crate) fn start(kept: Kept) -> Self {
        let enough = Arc::new(Notify::new());
        let first = kept.process.0.id();
        Self { first, task: tokio::spawn(kept.keep(enough.clone())), enough }
    }

    /// Ends the network's own process, if it is still there.
    pub(crate) fn end_first(&self) {
        self.enough.notify_one();
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Kept {
    async fn keep(self, enough: Arc<Notify>) {
        let Self { process, servers, program, line, card } = self;
        tokio::select! {
            () = answer(servers) => {}
            () = enough.notified() => {}
        }
        drop(process);
        let _ = stand_in(&program, &line, card).await;
    }
}

/// Says who the host's name servers are as often as it is asked, until nobody
/// is there.
async fn answer(mut servers: UnixStream) {
    while servers.read_exact(&mut [0]).await.is_ok() && say(&mut servers, &of_host()).await.is_ok()
    {
    }
}

/// Puts somebody there who refuses everything, and waits for the end.
async fn stand_in(program: &Program, line: &Line, card: Card) -> io::Result<()> {
    let begun = Beginning::new(program, &Access::default()).await?;
    let mut stand_in = begun.stand_in(line, card).await?;
    stand_in.ended().await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::process::Command;
    use std::time::{Duration, Instant};

    use super::*;
    use crate::control::PATIENCE;

    /// Waits until this is so.
    async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
        let deadline = Instant::now() + PATIENCE / 2;
        while !is_so() {
            assert!(Instant::now() < deadline, "{what}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    #[tokio::test]
    async fn one_that_is_dropped_waits_for_no_stand_in() {
        let dir = tempfile::tempdir().unwrap();
        // It may write no byte, and says by a name that it is there.
        let script = format!(": > {}/$$; exec /bin/sleep 600", dir.path().display());
        let arguments = ["-c".into(), script.into()].to_vec();
        let program = Program { path: "/bin/sh".into(), arguments };
        let process = Process(Command::new("/bin/sleep").arg("600").spawn().unwrap());
        let (servers, theirs) = UnixStream::pair().unwrap();
        let (line, _qemu) = Line::pair().unwrap();
        let card = crate::card::random();
        let keeper = Keeper::start(Kept { process, servers, program, line, card });
        drop(theirs);
        let mut name = None;
        until("nobody stands in", || {
            name = dir.path().read_dir().unwrap().next().map(|entry| entry.unwrap().file_name());
            name.is_some()
        })
        .await;
        drop(keeper);
        let process = Path::new("/proc").join(name.unwrap());
        until("the stand-in is still there", || !process.exists()).await;
    }
}
