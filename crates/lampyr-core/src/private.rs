//! Private networks: who is on one, and how a VM comes to be.
//!
//! `networks/<network>/<name>` is the mark of a VM on it: which sandbox it is
//! and what its addresses are. In the sandbox's directory is the socket `wire`,
//! where those who come later connect.
//!
//! Invariants: whoever changes a network holds its lock. A mark whose sandbox
//! nobody holds is nobody's. A network without marks is none.

use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use lampyr_net::{Domain, Peer, Private, Wire};
use lampyr_store::{Lock, Part, Store, StoreError, at, read_json, write_json};
use lampyr_types::{Name, SandboxId};
use serde::{Deserialize, Serialize};

use crate::clean::entries;
use crate::pool::is_held;
use crate::session::socket;
use crate::{Error, sandbox};

const FORMAT: u32 = 1;
const SOCKET: &str = "wire";
/// How the names of locks begin.
const LOCK: &str = "network-";

/// A VM on a private network, as it is written down.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerRecord {
    /// The version of this file's layout.
    pub format: u32,
    /// The sandbox that it is.
    pub sid: SandboxId,
    /// What it is called there, and its addresses.
    #[serde(flatten)]
    pub peer: Peer,
}

/// A private network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrivateNetwork {
    /// What it is called.
    pub name: Name,
    /// Who is on it, by name.
    pub peers: Vec<PeerRecord>,
}

/// A VM's place on a private network. Dropping it gives it up; the network
/// goes with the last one.
#[derive(Debug)]
pub(crate) struct Place {
    store: Store,
    network: Name,
    mark: PathBuf,
    wire_at: PathBuf,
}

impl Place {
    /// Takes a place for the sandbox in `dir`, which this process holds, and
    /// connects it with those that are there.
    pub(crate) fn take(
        store: &Store,
        private: &Private,
        sid: SandboxId,
        dir: &Path,
    ) -> Result<(Self, Wire), Error> {
        let _alone = lock(store, &private.network)?;
        let others = living(store, &private.network)?;
        let peer = newcomer(private, sid, &others)?;
        let listener = socket::listen_at(dir, SOCKET).map_err(at(&dir.join(SOCKET)))?;
        let mut wire = Wire::new(peer.clone(), listener);
        for other in others {
            let line = socket::reach(&home(store, other.sid), SOCKET);
            // One that cannot be reached is just about to end.
            let _ = line.and_then(|line: UnixStream| wire.reach(other.peer, line));
        }
        let network = folder(store, &private.network)?;
        std::fs::create_dir_all(&network).map_err(at(&network))?;
        let mark = network.join(peer.name.as_str());
        write_json(&mark, &PeerRecord { format: FORMAT, sid, peer })?;
        let (store, network, wire_at) = (store.clone(), private.network.clone(), dir.join(SOCKET));
        Ok((Self { store, network, mark, wire_at }, wire))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // What cannot be removed now, `clean` removes.
        let Ok(alone) = lock(&self.store, &self.network) else { return };
        // Who goes back in time takes a place anew, in the same directory.
        let _ = std::fs::remove_file(&self.wire_at);
        let _ = std::fs::remove_file(&self.mark);
        let _ = self.mark.parent().map(std::fs::remove_dir);
        let _ = let_go(&self.store, &self.network, alone);
    }
}

/// Who a VM is to be among the others.
fn newcomer(private: &Private, sid: SandboxId, others: &[PeerRecord]) -> Result<Peer, Error> {
    let network = &private.network;
    let own = || Domain::try_from(sandbox::hostname(sid)).map_err(io::Error::other);
    let name = private.name.clone().map_or_else(own, Ok).map_err(Error::Network)?;
    if others.iter().any(|other| other.peer.name == name) {
        return Err(Error::PeerTaken { name, network: network.clone() });
    }
    let peers: Vec<_> = others.iter().map(|other| other.peer.clone()).collect();
    Peer::new(name, &peers).ok_or_else(|| Error::NetworkFull(network.clone()))
}

fn lock(store: &Store, network: &Name) -> Result<Lock, StoreError> {
    Lock::wait_again(&lock_of(store, network)?)
}

fn lock_of(store: &Store, network: &Name) -> Result<PathBuf, StoreError> {
    Ok(store.dir(Part::Locks)?.join(format!("{LOCK}{network}")))
}

/// Lets go of a network; its lock goes with it where it is none any more.
fn let_go(store: &Store, network: &Name, held: Lock) -> Result<(), StoreError> {
    if !folder(store, network)?.exists() {
        held.remove(&lock_of(store, network)?);
    }
    Ok(())
}

/// Lets the locks go of networks that are none any more.
pub(crate) fn let_all_go(store: &Store) -> Result<(), Error> {
    for path in entries(&store.dir(Part::Locks)?)? {
        let name = path.file_name().and_then(|name| name.to_str()?.strip_prefix(LOCK));
        let Some(network) = name.and_then(|name| name.parse().ok()) else { continue };
        // Whoever holds it lets it go himself.
        if let Some(held) = Lock::try_take(&path)? {
            let_go(store, &network, held)?;
        }
    }
    Ok(())
}

fn folder(store: &Store, network: &Name) -> Result<PathBuf, StoreError> {
    Ok(store.dir(Part::Networks)?.join(network.as_str()))
}

fn home(store: &Store, sid: SandboxId) -> PathBuf {
    store.root().join(Part::Sandboxes.name()).join(sid.to_string())
}

/// What a mark says, where its sandbox lives.
fn read(store: &Store, mark: &Path) -> Option<PeerRecord> {
    let record: PeerRecord = read_json(mark).ok()?;
    (record.format == FORMAT && is_held(&home(store, record.sid))).then_some(record)
}

/// Those that live on a network, by name.
fn living(store: &Store, network: &Name) -> Result<Vec<PeerRecord>, Error> {
    let dir = folder(store, network)?;
    let marks = if dir.exists() { entries(&dir)? } else { Vec::new() };
    let mut living: Vec<_> = marks.iter().filter_map(|mark| read(store, mark)).collect();
    living.sort_by(|a, b| a.peer.name.cmp(&b.peer.name));
    Ok(living)
}

/// All private networks, by name.
pub fn private_networks(home: &Path) -> Result<Vec<PrivateNetwork>, Error> {
    if !home.exists() {
        return Ok(Vec::new());
    }
    let store = Store::open(home)?;
    let mut found = Vec::new();
    for dir in entries(&store.dir(Part::Networks)?)? {
        let Some(name) = dir.file_name().and_then(|name| name.to_str()?.parse().ok()) else {
            continue;
        };
        let peers = living(&store, &name)?;
        if !peers.is_empty() {
            found.push(PrivateNetwork { name, peers });
        }
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

/// The private network of this name.
pub fn private_network(home: &Path, name: &Name) -> Result<PrivateNetwork, Error> {
    let found = private_networks(home)?.into_iter().find(|network| network.name == *name);
    found.ok_or_else(|| Error::NoNetwork(name.clone()))
}

/// The marks on a network that belong to nobody any more; whoever asks holds
/// the network until it drops what is returned.
pub(crate) fn abandoned(store: &Store, dir: &Path) -> Result<(Option<Lock>, Vec<PathBuf>), Error> {
    let name = dir.file_name().and_then(|name| name.to_str()?.parse().ok());
    let held = name.map(|name| lock(store, &name)).transpose()?;
    let marks = if dir.exists() { entries(dir)? } else { Vec::new() };
    Ok((held, marks.into_iter().filter(|mark| read(store, mark).is_none()).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use lampyr_net::{MAX_PEERS, peer_name};

    /// The directory and the lock of a sandbox that somebody owns.
    fn own(store: &Store) -> (SandboxId, PathBuf, Lock) {
        let sid = SandboxId::random();
        let dir = store.dir(Part::Sandboxes).unwrap().join(sid.to_string());
        std::fs::create_dir(&dir).unwrap();
        let lock = Lock::wait(&dir.join("lock")).unwrap();
        (sid, dir, lock)
    }

    fn lan(name: Option<&str>) -> Private {
        let name = name.map(|name| peer_name(name).unwrap());
        Private { network: "lan".parse().unwrap(), name }
    }

    #[test]
    fn a_network_comes_with_the_first_and_goes_with_the_last() {
        let tmp = tempfile::tempdir().unwrap();
        let store = Store::open(&tmp.path().join("home")).unwrap();
        let [one, two, three] = [(); 3].map(|()| own(&store));
        let (first, _wire) = Place::take(&store, &lan(Some("db")), one.0, &one.1).unwrap();
        let taken = Place::take(&store, &lan(Some("db")), two.0, &two.1).unwrap_err();
        assert!(matches!(taken, Error::PeerTaken { .. }), "{taken}");
        let (second, _wire) = Place::take(&store, &lan(None), two.0, &two.1).unwrap();
        let name = "lan".parse().unwrap();
        let found = private_network(store.root(), &name).unwrap();
        let names: Vec<_> = found.peers.iter().map(|record| record.peer.name.as_str()).collect();
        assert_eq!(names, ["db", &sandbox::hostname(two.0)]);

        // Who gives its place up may take one again.
        drop(second);
        let (second, _wire) = Place::take(&store, &lan(None), two.0, &two.1).unwrap();

        // Whoever died has no place any more, and left nothing that is in the way.
        std::mem::forget(first);
        drop(one.2);
        let (again, _wire) = Place::take(&store, &lan(Some("db")), three.0, &three.1).unwrap();
        let found = private_network(store.root(), &name).unwrap();
        assert!(found.peers.iter().all(|record| record.sid != one.0));
        drop((second, again));
        assert!(matches!(private_network(store.root(), &name), Err(Error::NoNetwork(_))));
        assert!(!folder(&store, &name).unwrap().exists());
        assert!(!lock_of(&store, &name).unwrap().exists());
    }

    #[test]
    fn no_lock_is_left_of_a_network_that_is_none() {
        let tmp = tempfile::tempdir().unwrap();
        let store = Store::open(&tmp.path().join("home")).unwrap();
        let (sid, dir, _held) = own(&store);
        let (_place, _wire) = Place::take(&store, &lan(None), sid, &dir).unwrap();
        let [gone, held] = ["gone", "held"].map(|name| name.parse().unwrap());
        drop(lock(&store, &gone).unwrap());
        let _held = lock(&store, &held).unwrap();
        let_all_go(&store).unwrap();
        let is_left = |name: &Name| lock_of(&store, name).unwrap().exists();
        assert!(!is_left(&gone) && is_left(&held) && is_left(&"lan".parse().unwrap()));
    }

    #[test]
    fn a_network_has_an_end() {
        let tmp = tempfile::tempdir().unwrap();
        let store = Store::open(&tmp.path().join("home")).unwrap();
        let take = |_| {
            let (sid, dir, lock) = own(&store);
            (Place::take(&store, &lan(None), sid, &dir), lock)
        };
        let all: Vec<_> = (0..=MAX_PEERS).map(take).collect();
        assert_eq!(all.iter().filter(|(taken, _)| taken.is_ok()).count(), MAX_PEERS);
        assert!(matches!(all.last(), Some((Err(Error::NetworkFull(_)), _))));
    }
}
