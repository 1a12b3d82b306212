//! Files into a guest and out of it.

use std::path::Path;

use lampyr_proto::{Event, Exec, Exited, Job, Lane, Request};
use lampyr_types::Task;
use tokio::io::AsyncWriteExt;
use tokio::net::unix::pipe;

use crate::channel::{Channel, Incoming};
use crate::exec::{Source, exec};
use crate::{CopyIn, CopyOut, Error, Output, OutputStream};

/// How much of a complaint from the guest is kept, in bytes.
const MAX_COMPLAINT: usize = 1000;

/// Sends a file or a directory's contents into the guest.
pub(crate) async fn send(channel: &Channel, copy: &CopyIn, task: &dyn Task) -> Result<(), Error> {
    let mut said = Complaint::default();
    let source = Source::Tree(&copy.local, task);
    let exited = exec(channel, plain(Job::Put(copy.remote.clone())), source, &mut said).await?;
    said.check(&exited, || format!("{} into the VM", copy.local.display()))
}

/// Fetches a file or a directory's contents. Nothing that the guest sends is
/// written outside `copy.local`.
pub(crate) async fn fetch(channel: &Channel, copy: &CopyOut, task: &dyn Task) -> Result<(), Error> {
    let what = || format!("{} from the VM", copy.remote);
    let failed = |why: String| Error::Copy { what: what(), why };
    let (sink, source) = pipe::pipe().map_err(|e| failed(e.to_string()))?;
    let source = source.into_blocking_fd().map_err(|e| failed(e.to_string()))?;
    let target = copy.local.clone();
    let unpacking = tokio::task::spawn_blocking(move || unpack(source.into(), &target));
    let mut said = Complaint::default();
    let sink = Sink { pipe: sink, taken: 0, task };
    let exited = receive(channel, &copy.remote, sink, &mut said).await?;
    let unpacked = unpacking.await.map_err(|e| failed(e.to_string()))?;
    // A guest that failed sent half a tree; its own words say more.
    said.check(&exited, what)?;
    unpacked.map_err(failed)
}

fn unpack(source: std::fs::File, target: &Path) -> Result<(), String> {
    let unpacked = lampyr_tree::unpack(source, target, lampyr_tree::Limits::default());
    unpacked.map(drop).map_err(|e| e.to_string())
}

/// Pours a packed tree from the guest into `sink`, at the sink's pace.
async fn receive(
    channel: &Channel,
    remote: &str,
    mut sink: Sink<'_>,
    said: &mut Complaint,
) -> Result<Exited, Error> {
    let job = Box::new(plain(Job::Get(remote.to_owned())));
    let mut stream = channel.open(&Request::Exec(job)).await?;
    let _ = stream.input().end().await;
    loop {
        match stream.next().await {
            // Whoever unpacks may have given up, and then says why itself.
            Some(Incoming::Data(Lane::Stdout, bytes)) => sink.take(&bytes).await,
            Some(Incoming::Data(_, bytes)) => {
                said.write(OutputStream::Stderr, &bytes).unwrap_or(())
            }
            Some(Incoming::Event(Event::Exited(exited))) => return Ok(exited),
            Some(Incoming::Event(Event::Failed(why))) => return Err(Error::Agent(why)),
            Some(Incoming::Event(_)) => {}
            None => return Err(channel.verdict().into()),
        }
    }
}

/// Where a packed tree goes, and who hears of it. How long the tree will be,
/// nobody knows before its end.
struct Sink<'a> {
    pipe: pipe::Sender,
    taken: u64,
    task: &'a dyn Task,
}

impl Sink<'_> {
    async fn take(&mut self, bytes: &[u8]) {
        let _ = self.pipe.write_all(bytes).await;
        self.taken += bytes.len() as u64;
        self.task.moved(self.taken, None);
    }
}

pub(crate) fn plain(job: Job) -> Exec {
    Exec { workdir: Some("/".into()), ..Exec::new(job) }
}

/// What a copying process in the guest complains of.
#[derive(Default)]
pub(crate) struct Complaint(Vec<u8>);

impl Output for Complaint {
    fn write(&mut self, stream: OutputStream, bytes: &[u8]) -> std::io::Result<()> {
        if stream == OutputStream::Stderr {
            let room = MAX_COMPLAINT.saturating_sub(self.0.len());
            self.0.extend(&bytes[..bytes.len().min(room)]);
        }
        Ok(())
    }
}

impl Complaint {
    fn check(self, exited: &Exited, what: impl Fn() -> String) -> Result<(), Error> {
        if exited.code == Some(0) {
            return Ok(());
        }
        Err(Error::Copy { what: what(), why: self.words() })
    }

    /// What was said, as one line.
    pub(crate) fn words(&self) -> String {
        let text = String::from_utf8_lossy(&self.0);
        let plain: String = text.trim().chars().filter(|c| !c.is_control()).collect();
        if plain.is_empty() { "the VM gave no reason".into() } else { plain }
    }
}
