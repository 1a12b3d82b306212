//! Volumes: directories of ours that outlive the sandboxes they are mounted
//! in.
//!
//! ```text
//! volumes/<name>/
//!   volume.json   what it is
//!   data/         what is in it
//!   used          how much that is, where there is a quota
//!   lock          shared by who has it mounted; its time is when that began
//! ```

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use lampyr_mount::Quota;
use lampyr_store::{Lock, Part, Store, StoreError, at, read_json, write_json};
use lampyr_types::{Name, Size};
use serde::{Deserialize, Serialize};

use crate::Error;

const FORMAT: u32 = 1;
const RECORD: &str = "volume.json";
const DATA: &str = "data";
const USED: &str = "used";
const LOCK: &str = "lock";

/// A volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// Its name.
    pub name: Name,
    /// What is in it, in bytes, as a quota counts.
    pub size_bytes: u64,
    /// The most that may be in it, in bytes.
    pub quota_bytes: Option<u64>,
    /// What its maker noted.
    pub labels: BTreeMap<String, String>,
    /// When it was made, as RFC 3339 has it.
    pub created: String,
    /// When it was last mounted, likewise.
    pub last_used: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Record {
    format: u32,
    quota_bytes: Option<u64>,
    labels: BTreeMap<String, String>,
    created: String,
}

impl Volume {
    /// Makes an empty volume.
    pub fn create(
        store: &Store,
        name: &Name,
        quota: Option<Size>,
        labels: BTreeMap<String, String>,
    ) -> Result<Self, Error> {
        let _making = making(store, name)?;
        let dir = dir(store, name)?;
        if dir.exists() {
            return Err(Error::VolumeTaken(name.clone()));
        }
        let staging = store.stage()?;
        let data = staging.path().join(DATA);
        std::fs::create_dir(&data).map_err(at(&data))?;
        let created = jiff::Timestamp::now().to_string();
        let quota_bytes = quota.map(Size::as_bytes);
        write_json(
            &staging.path().join(RECORD),
            &Record { format: FORMAT, quota_bytes, labels, created },
        )?;
        staging.publish(&dir)?;
        Self::inspect(store, name)
    }

    /// Makes an empty volume, unless there is one by that name; says whether it
    /// was made.
    pub fn ensure(
        store: &Store,
        name: &Name,
        quota: Option<Size>,
        labels: BTreeMap<String, String>,
    ) -> Result<(Self, bool), Error> {
        match Self::create(store, name, quota, labels) {
            Err(Error::VolumeTaken(_)) => Self::inspect(store, name).map(|volume| (volume, false)),
            made => made.map(|volume| (volume, true)),
        }
    }

    /// What a volume is and holds. Counts everything in it.
    pub fn inspect(store: &Store, name: &Name) -> Result<Self, Error> {
        let dir = dir(store, name)?;
        let Record { quota_bytes, labels, created, .. } = record(&dir, name)?;
        let data = dir.join(DATA);
        let size_bytes = lampyr_mount::weigh(&data).map_err(at(&data))?;
        let used = std::fs::metadata(dir.join(LOCK)).and_then(|found| found.modified()).ok();
        let used = used.and_then(|time| jiff::Timestamp::try_from(time).ok());
        let last_used = used.map(|time| time.to_string());
        Ok(Self { name: name.clone(), size_bytes, quota_bytes, labels, created, last_used })
    }

    /// The names of all volumes, in their order.
    pub fn list(store: &Store) -> Result<Vec<Name>, Error> {
        let dir = store.dir(Part::Volumes)?;
        let entries = std::fs::read_dir(&dir).map_err(at(&dir))?;
        let names = entries.filter_map(|e| e.ok()?.file_name().to_str()?.parse::<Name>().ok());
        let mut names: Vec<_> = names.collect();
        names.sort();
        Ok(names)
    }

    /// Removes a volume and what is in it, unless somebody has it mounted.
    pub fn remove(store: &Store, name: &Name) -> Result<(), Error> {
        let _making = making(store, name)?;
        let dir = dir(store, name)?;
        record(&dir, name)?;
        let Some(_lock) = Lock::try_take(&dir.join(LOCK))? else {
            return Err(Error::VolumeBusy(name.clone()));
        };
        // By its new name `clean` knows it for rubbish, should we not finish.
        let gone = store.stage()?;
        std::fs::rename(&dir, gone.path().join(name.as_str())).map_err(at(&dir))?;
        Ok(())
    }
}

/// A volume that is about to be mounted.
pub(crate) struct Opened {
    pub(crate) dir: PathBuf,
    pub(crate) quota: Option<Quota>,
    pub(crate) lock: Lock,
}

/// Takes a volume's lock together with others who have it mounted. The first
/// one counts what is in it.
pub(crate) fn open(store: &Store, name: &Name) -> Result<Opened, Error> {
    let _making = making(store, name)?;
    let dir = dir(store, name)?;
    let record = record(&dir, name)?;
    let (data, used, lock) = (dir.join(DATA), dir.join(USED), dir.join(LOCK));
    if record.quota_bytes.is_some() && Lock::try_take(&lock)?.is_some() {
        lampyr_mount::recount(&data, &used).map_err(at(&used))?;
    }
    let quota = record.quota_bytes.map(|limit| Quota::open(limit, &used).map_err(at(&used)));
    let shared = Lock::share(&lock)?;
    touch(&lock)?;
    Ok(Opened { dir: data, quota: quota.transpose()?, lock: shared })
}

fn touch(path: &Path) -> Result<(), StoreError> {
    let file = std::fs::File::options().write(true).open(path).map_err(at(path))?;
    file.set_modified(SystemTime::now()).map_err(at(path))
}

fn dir(store: &Store, name: &Name) -> Result<PathBuf, Error> {
    Ok(store.dir(Part::Volumes)?.join(name.as_str()))
}

/// Whoever makes, opens or removes a volume does so alone.
fn making(store: &Store, name: &Name) -> Result<Lock, StoreError> {
    store.making(&format!("volume-{name}"))
}

fn record(dir: &Path, name: &Name) -> Result<Record, Error> {
    match read_json::<Record>(&dir.join(RECORD)) {
        Ok(record) if record.format == FORMAT => Ok(record),
        Ok(_) => Err(Error::NoVolume(name.clone())),
        Err(StoreError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
            Err(Error::NoVolume(name.clone()))
        }
        Err(e) => Err(e.into()),
    }
}
