//! Directories of this host's in a guest: its kernel speaks FUSE, and a
//! thread of ours answers.

use std::path::PathBuf;
use std::time::Duration;

use lampyr_mount::{Export, Server};
use lampyr_proto::{Control, Event, Lane, Request};
use lampyr_store::{Lock, Store};
use lampyr_types::Name;
use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;

use crate::channel::{Channel, Incoming, Stream};
use crate::{Error, volume};

/// How long a guest may take to mount something.
const MOUNT_WAIT: Duration = Duration::from_secs(30);

/// A directory of this host's that a guest sees.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// What it sees.
    pub source: MountSource,
    /// Where, absolute.
    pub guest: String,
    /// Nothing in it can be changed.
    pub readonly: bool,
}

/// What a guest sees.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MountSource {
    /// A directory, absolute.
    Directory(PathBuf),
    /// A volume.
    Volume(Name),
}

/// Mounts that are open here, and in no guest yet.
pub(crate) struct Mounts(Vec<Open>);

struct Open {
    request: lampyr_proto::Mount,
    server: Server,
    /// Held for as long as a volume is mounted.
    lock: Option<Lock>,
}

impl Mounts {
    /// Opens everything, or says what is not there.
    pub(crate) fn open(store: &Store, mounts: &[Mount]) -> Result<Self, Error> {
        let mut opened: Vec<_> =
            mounts.iter().map(|mount| open(store, mount)).collect::<Result<_, _>>()?;
        // What lies in another mount comes after it, or it would be hidden.
        opened.sort_by_key(|open| open.request.path.matches('/').count());
        Ok(Self(opened))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Mounts everything. It is served for as long as the channel lives.
    pub(crate) async fn attach(self, channel: &Channel) -> Result<(), Error> {
        for open in self.0 {
            attach(channel, open).await?;
        }
        Ok(())
    }
}

fn open(store: &Store, mount: &Mount) -> Result<Open, Error> {
    let (dir, quota, lock) = match &mount.source {
        MountSource::Directory(dir) => (dir.clone(), None, None),
        MountSource::Volume(name) => {
            let opened = volume::open(store, name)?;
            (opened.dir, opened.quota, Some(opened.lock))
        }
    };
    let failed =
        |e: std::io::Error| Error::Mount { what: dir.display().to_string(), why: e.to_string() };
    let export = Export::open(&dir, mount.readonly, quota).map_err(failed)?;
    let request = lampyr_proto::Mount {
        path: mount.guest.clone(),
        readonly: mount.readonly,
        owners: export.has_owners(),
    };
    Ok(Open { request, server: Server::new(export).map_err(failed)?, lock })
}

async fn attach(channel: &Channel, open: Open) -> Result<(), Error> {
    let Open { request, server, lock } = open;
    let what = request.path.clone();
    let mut stream = channel.open(&Request::Mount(request)).await?;
    let answered = tokio::time::timeout(MOUNT_WAIT, stream.next()).await;
    let late = |_| Error::Mount { what: what.clone(), why: "the VM did not answer".to_owned() };
    match answered.map_err(late)? {
        Some(Incoming::Event(Event::Done)) => {}
        Some(Incoming::Event(Event::Failed(why))) => return Err(Error::Mount { what, why }),
        Some(_) => return Err(Error::Agent("the agent answered out of turn".into())),
        None => return Err(channel.verdict().into()),
    }
    let handle = Handle::current();
    let thread = std::thread::Builder::new().name("mount".into());
    let serving = thread.spawn(move || {
        serve(&handle, stream, server);
        drop(lock);
    });
    serving.map(drop).map_err(|e| Error::Mount { what, why: e.to_string() })
}

/// Answers until the guest has unmounted it or is gone. A disk that is slow
/// here holds up this mount, and nothing else.
fn serve(handle: &Handle, mut stream: Stream, mut server: Server) {
    let input = stream.input();
    let mut behind = false;
    while let Some(Incoming::Data(Lane::Stdout, bytes)) = handle.block_on(stream.next()) {
        let mut heard = true;
        let understood = server.serve(&bytes, |reply| {
            heard &= handle.block_on(input.send(&reply)).is_ok();
        });
        if understood.is_err() || !heard {
            return;
        }
        let roomy = server.is_roomy();
        if roomy != behind {
            behind = roomy;
            let _ = handle.block_on(input.control(&Control::Behind(behind)));
        }
    }
}
