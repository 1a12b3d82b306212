//! The blobs of snapshots: files called by their SHA-256.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use lampyr_oci::{Digest, Digester};
use lampyr_store::{at, write_atomic};
use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;

use super::layout::{Descriptor, Kind};
use crate::Error;
use crate::clean::entries;

/// No manifest or configuration is longer, in bytes.
pub(super) const MAX_SMALL: u64 = 4 << 20;
/// What is read at once, in bytes.
const PIECE: usize = 1 << 20;

pub(super) struct Blobs {
    dir: PathBuf,
}

impl Blobs {
    /// The blobs of the layout in `dir`.
    pub(super) fn new(dir: &Path) -> Result<Self, Error> {
        let dir = dir.join("blobs/sha256");
        std::fs::create_dir_all(&dir).map_err(at(&dir))?;
        Ok(Self { dir })
    }

    pub(super) fn path(&self, digest: Digest) -> PathBuf {
        self.dir.join(digest.hex())
    }

    /// All there are.
    pub(super) fn all(&self) -> Result<Vec<Digest>, Error> {
        Ok(entries(&self.dir)?.iter().filter_map(|path| called(path)).collect())
    }

    /// What somebody began to write who was killed. Nobody else writes while the
    /// caller holds the lock.
    pub(super) fn begun(&self) -> Result<Vec<PathBuf>, Error> {
        Ok(entries(&self.dir)?.into_iter().filter(|path| called(path).is_none()).collect())
    }

    /// Keeps small bytes.
    pub(super) fn keep(&self, kind: Kind, bytes: &[u8]) -> Result<Descriptor, Error> {
        let digest = Digest::of(bytes);
        write_atomic(&self.path(digest), bytes)?;
        Ok(Descriptor::new(kind, digest, bytes.len() as u64))
    }

    /// Makes a blob of a file that nobody will write to, without a copy.
    pub(super) fn link(&self, kind: Kind, path: &Path) -> Result<Descriptor, Error> {
        let file = File::open(path).map_err(at(path))?;
        let meta = file.metadata().map_err(at(path))?;
        if let Some(digest) = self.same_file(&meta)? {
            return Ok(Descriptor::new(kind, digest, meta.len()));
        }
        file.sync_all().map_err(at(path))?;
        let part = Descriptor::new(kind, digest(&file).map_err(at(path))?, meta.len());
        let blob = self.path(part.digest);
        match std::fs::hard_link(path, &blob) {
            Err(e) if e.kind() == ErrorKind::AlreadyExists => {
                if self.verified(&part).is_err() {
                    // Nothing is lost with one that is damaged.
                    std::fs::remove_file(&blob).map_err(at(&blob))?;
                    std::fs::hard_link(path, &blob).map_err(at(path))?;
                }
            }
            linked => linked.map_err(at(path))?,
        }
        Ok(part)
    }

    /// Whether a blob is there, and as long as it should be.
    pub(super) fn has(&self, part: &Descriptor) -> bool {
        self.path(part.digest).metadata().is_ok_and(|meta| meta.len() == part.size)
    }

    /// The blob that is this very file, which need not be read for that.
    fn same_file(&self, file: &std::fs::Metadata) -> Result<Option<Digest>, Error> {
        for digest in self.all()? {
            let blob = self.path(digest).metadata();
            if blob.is_ok_and(|blob| (blob.dev(), blob.ino()) == (file.dev(), file.ino())) {
                return Ok(Some(digest));
            }
        }
        Ok(None)
    }

    /// The bytes of a small blob, verified.
    pub(super) fn read(&self, digest: Digest) -> Result<Vec<u8>, Error> {
        let path = self.path(digest);
        let file = File::open(&path).map_err(|_| Error::SnapshotDamaged(digest))?;
        let mut bytes = Vec::new();
        file.take(MAX_SMALL).read_to_end(&mut bytes).map_err(at(&path))?;
        if Digest::of(&bytes) == digest { Ok(bytes) } else { Err(Error::SnapshotDamaged(digest)) }
    }

    /// A blob, open, and what it should be.
    pub(super) fn verified(&self, part: &Descriptor) -> Result<File, Error> {
        let (path, damaged) = (self.path(part.digest), || Error::SnapshotDamaged(part.digest));
        let file = File::open(&path).map_err(|_| damaged())?;
        if file.metadata().map_err(at(&path))?.len() != part.size {
            return Err(damaged());
        }
        let found = digest(&file).map_err(at(&path))?;
        if found == part.digest { Ok(file) } else { Err(damaged()) }
    }

    /// How much room a blob takes on the disk, in bytes.
    pub(super) fn takes(&self, digest: Digest) -> u64 {
        self.path(digest).metadata().map_or(0, |meta| meta.blocks() * 512)
    }
}

/// The digest that a blob is called by.
fn called(path: &Path) -> Option<Digest> {
    format!("sha256:{}", path.file_name()?.to_str()?).parse().ok()
}

/// The digest of a file. Its holes count as the zeros that they are, but are
/// not read.
fn digest(file: &File) -> io::Result<Digest> {
    let size = file.metadata()?.len();
    let (mut digester, mut buffer, zeros) = (Digester::default(), vec![0; PIECE], vec![0; PIECE]);
    let mut done = 0;
    while done < size {
        let data = next_data(file, done, size)?;
        let (bytes, from) = if data > done { (&zeros, None) } else { (&buffer, Some(done)) };
        let end = if data > done { data } else { size };
        let length = (end - done).min(bytes.len() as u64) as usize;
        match from {
            None => digester.update(&zeros[..length]),
            Some(from) => {
                file.read_exact_at(&mut buffer[..length], from)?;
                digester.update(&buffer[..length]);
            }
        }
        done += length as u64;
    }
    Ok(digester.finish())
}

/// Where there is data next, from `from` on; `size` where there is none.
fn next_data(file: &File, from: u64, size: u64) -> io::Result<u64> {
    match seek(file, SeekFrom::Data(from)) {
        Ok(at) => Ok(at),
        Err(Errno::NXIO) => Ok(size),
        // A file system without holes: all of it is data.
        Err(Errno::INVAL) => Ok(from),
        Err(e) => Err(e.into()),
    }
}
