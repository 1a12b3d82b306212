//! What registries hold, kept by digest: each once, whoever needs it.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::PathBuf;

use lampyr_store::{Lock, Part, Store, StoreError, at, write_atomic};

use crate::keeper::Keeper;
use crate::manifest::senseless;
use crate::{Digest, OciError};

/// The blobs of a state directory: `blobs/sha256/<digits>`, whole and
/// verified, and `blobs/partial/<digits>`, on their way.
#[derive(Debug, Clone)]
pub struct Blobs {
    store: Store,
}

impl Blobs {
    /// The blobs of `store`.
    pub fn new(store: &Store) -> Self {
        Self { store: store.clone() }
    }

    fn dir(&self, name: &str) -> Result<PathBuf, StoreError> {
        let path = self.store.dir(Part::Blobs)?.join(name);
        std::fs::create_dir_all(&path).map_err(at(&path))?;
        Ok(path)
    }

    /// Where a blob is, or would be.
    pub fn path(&self, digest: Digest) -> Result<PathBuf, StoreError> {
        Ok(self.dir("sha256")?.join(digest.hex()))
    }

    /// Where a blob is while it comes.
    pub(crate) fn partial(&self, digest: Digest) -> Result<PathBuf, StoreError> {
        Ok(self.dir("partial")?.join(digest.hex()))
    }

    /// Whether a blob is there.
    pub fn has(&self, digest: Digest) -> Result<bool, StoreError> {
        Ok(self.path(digest)?.is_file())
    }

    /// Opens a blob, if it is there.
    pub fn open(&self, digest: Digest) -> Result<Option<File>, StoreError> {
        let path = self.path(digest)?;
        match File::open(&path) {
            Ok(file) => Ok(Some(file)),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(e) => Err(at(&path)(e)),
        }
    }

    /// The bytes of a small blob, if it is there and is what it should be.
    pub fn read(&self, digest: Digest, most: u64) -> Result<Option<Vec<u8>>, StoreError> {
        let Some(file) = self.open(digest)? else { return Ok(None) };
        let mut bytes = Vec::new();
        let path = self.path(digest)?;
        file.take(most).read_to_end(&mut bytes).map_err(at(&path))?;
        Ok((Digest::of(&bytes) == digest).then_some(bytes))
    }

    /// Keeps small bytes and returns their digest.
    pub fn keep(&self, bytes: &[u8]) -> Result<Digest, StoreError> {
        let digest = Digest::of(bytes);
        write_atomic(&self.path(digest)?, bytes)?;
        Ok(digest)
    }

    /// Takes bytes that become a blob.
    pub(crate) fn keeper(&self) -> Result<Keeper, StoreError> {
        Keeper::new(self, &self.dir("partial")?)
    }

    /// Waits until this process alone may fetch a blob.
    pub async fn fetching(&self, digest: Digest) -> Result<Lock, OciError> {
        let store = self.store.clone();
        let waiting = move || store.making(&fetching(digest));
        let waited = tokio::task::spawn_blocking(waiting).await;
        Ok(waited.map_err(|e| senseless(&digest.to_string(), &e))??)
    }

    /// Forgets what has come of a blob, unless somebody fetches it.
    pub fn forget(&self, digest: Digest) -> Result<(), StoreError> {
        let Some(_alone) = self.store.alone(&fetching(digest))? else { return Ok(()) };
        let path = self.partial(digest)?;
        match std::fs::remove_file(&path) {
            Err(e) if e.kind() != ErrorKind::NotFound => Err(at(&path)(e)),
            _ => Ok(()),
        }
    }

    /// Makes sure that nobody uses blobs, so that some can be removed; nothing
    /// where somebody does.
    pub fn alone(&self) -> Result<Option<Lock>, StoreError> {
        self.store.alone("blobs")
    }

    /// Waits until nobody removes blobs; they stay for as long as the lock is
    /// held. Any number of processes may hold it.
    pub fn hold(&self) -> Result<Lock, StoreError> {
        self.store.sharing("blobs")
    }
}

/// The lock of whoever fetches a blob.
fn fetching(digest: Digest) -> String {
    format!("blob-{}", &digest.hex()[..16])
}
