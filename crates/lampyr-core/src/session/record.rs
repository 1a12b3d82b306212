//! What is written down about a session: `session.json` in its directory, and
//! `crash.json` once its machine has ended by itself; a link in `names/` where
//! it has a name, a mark in `ended/` once it is gone.
//!
//! Invariant: a session whose lock can be taken is dead, whatever its file
//! says. The file is written before the session can be found by its name.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use lampyr_engine::MachineSpec;
use lampyr_proto::Failure;
use lampyr_store::{Lock, Part, Store, StoreError, at, read_json, write_json};
use lampyr_types::{ErrorKind, Name, SandboxId};
use serde::{Deserialize, Serialize};

use crate::{Error, SessionRequest};

const FORMAT: u32 = 1;
const FILE: &str = "session.json";
const CRASH: &str = "crash.json";

/// A session as its owner wrote it down.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionRecord {
    /// The version of this file's layout.
    pub format: u32,
    /// The session's id.
    pub sid: SandboxId,
    /// Its name, where it was given one.
    pub name: Option<Name>,
    /// The process that owns it.
    pub pid: u32,
    /// The image beneath its disk.
    pub image: String,
    /// The snapshot that it was started from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<Name>,
    /// Virtual processors.
    pub cpus: u32,
    /// Memory in bytes.
    pub memory: u64,
    /// When it was started.
    pub created: jiff::Timestamp,
    /// The names of its secrets; their values are written down nowhere.
    #[serde(default)]
    pub secrets: Vec<String>,
}

/// How a session's machine ended by itself, as its owner wrote it down.
#[derive(Debug, Serialize, Deserialize)]
struct Crash {
    format: u32,
    message: String,
    hint: Option<String>,
}

/// Whether a session lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionState {
    /// Its owner is there.
    Running,
    /// Its owner is gone, and `clean` will remove what it left.
    Dead,
}

impl SessionState {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Dead => "dead",
        }
    }
}

/// What was found where a session was looked for.
#[derive(Debug)]
pub(crate) enum Found {
    /// It lives here.
    Alive(PathBuf),
    /// It is dead, and this is what is left.
    Dead(PathBuf),
    /// There was one once.
    Gone,
}

impl SessionRecord {
    /// The record of a session that this process owns from now on.
    pub(crate) fn new(
        sid: SandboxId,
        request: &SessionRequest,
        image: &str,
        spec: MachineSpec,
    ) -> Self {
        let secrets = request.net.iter().flat_map(|access| &access.secrets);
        let names: BTreeSet<_> = secrets.map(|secret| secret.name().to_owned()).collect();
        Self {
            format: FORMAT,
            sid,
            name: request.name.clone(),
            pid: std::process::id(),
            image: image.to_owned(),
            snapshot: request.origin.snapshot().cloned(),
            cpus: spec.cpus,
            memory: spec.memory,
            created: jiff::Timestamp::now(),
            secrets: names.into_iter().collect(),
        }
    }

    /// Whether its requests carry secrets, so that nobody may copy what it is.
    pub fn has_secrets(&self) -> bool {
        !self.secrets.is_empty()
    }

    /// Writes it into the session's directory and makes its name known.
    pub(crate) fn publish(&self, store: &Store, dir: &Path) -> Result<(), Error> {
        write_json(&dir.join(FILE), self)?;
        match &self.name {
            Some(name) => take_name(store, name, dir),
            None => Ok(()),
        }
    }

    /// Reads the record of the session in `dir`.
    pub(crate) fn read(dir: &Path) -> Result<Self, StoreError> {
        read_json(&dir.join(FILE))
    }
}

/// Writes down how the machine of the session in `dir` ended, for those whose
/// conversation the owner has no time left to end.
pub(crate) fn leave_word(dir: &Path, crash: &Failure) -> Result<(), StoreError> {
    let (message, hint) = (crash.message.clone(), crash.hint.clone());
    write_json(&dir.join(CRASH), &Crash { format: FORMAT, message, hint })
}

/// How the machine of the session in `dir` ended, where it did by itself.
pub(crate) fn crash(dir: &Path) -> Option<Failure> {
    let Crash { message, hint, .. } = read_json(&dir.join(CRASH)).ok()?;
    let kind = ErrorKind::VmCrashed.word().to_owned();
    Some(Failure { kind, message, hint, host_us: None })
}

/// Links `name` to a session, unless one that lives has it.
fn take_name(store: &Store, name: &Name, dir: &Path) -> Result<(), Error> {
    let _taking = store.making("session-names")?;
    let link = store.dir(Part::Names)?.join(name.as_str());
    if is_alive(&link)? {
        return Err(Error::NameTaken(name.clone()));
    }
    match std::fs::remove_file(&link) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(at(&link)(e).into()),
        _ => {}
    }
    let target = Path::new("../sandboxes").join(dir.file_name().unwrap_or_default());
    Ok(std::os::unix::fs::symlink(target, &link).map_err(at(&link))?)
}

/// Lets go of the name of a session that is about to be removed.
fn drop_name(store: &Store, record: &SessionRecord) -> Result<(), Error> {
    let Some(name) = &record.name else { return Ok(()) };
    let _dropping = store.making("session-names")?;
    let link = store.dir(Part::Names)?.join(name.as_str());
    // Somebody may have taken the name of a session that was dead.
    let ours = std::fs::read_link(&link).is_ok_and(|to| to.ends_with(record.sid.to_string()));
    if ours {
        std::fs::remove_file(&link).map_err(at(&link))?;
    }
    Ok(())
}

/// Leaves word that there was this session.
fn mark_ended(store: &Store, record: &SessionRecord) -> Result<(), Error> {
    let dir = store.dir(Part::Ended)?;
    let names = [Some(record.sid.to_string()), record.name.as_ref().map(ToString::to_string)];
    for name in names.into_iter().flatten() {
        std::fs::write(dir.join(&name), record.sid.to_string()).map_err(at(&dir.join(name)))?;
    }
    Ok(())
}

/// The id of the session with this id or name, whether it lives or has ended;
/// `None` where nothing says so.
pub fn session_id(home: &Path, word: &str) -> Option<SandboxId> {
    if let Ok(id) = word.parse() {
        return Some(id);
    }
    let name: Name = word.parse().ok()?;
    let of = |part: Part| home.join(part.name()).join(name.as_str());
    let named = std::fs::canonicalize(of(Part::Names)).ok();
    let living = named.and_then(|dir| dir.file_name()?.to_str()?.parse().ok());
    living.or_else(|| std::fs::read_to_string(of(Part::Ended)).ok()?.parse().ok())
}

/// Whether anything is left of the session in `dir`, alive or dead.
pub(crate) fn remains(dir: &Path) -> bool {
    dir.join(FILE).exists()
}

/// Whether somebody owns the session in `dir`.
pub(crate) fn is_alive(dir: &Path) -> Result<bool, Error> {
    if !remains(dir) {
        return Ok(false);
    }
    match Lock::try_take(&dir.join("lock")) {
        Ok(taken) => Ok(taken.is_none()),
        // It went away meanwhile.
        Err(_) if !dir.exists() => Ok(false),
        Err(e) => Err(e.into()),
    }
}

/// Looks for a session by its id or its name.
pub(crate) fn find(store: &Store, word: &str) -> Result<Found, Error> {
    let missing = || Error::NoSession(word.chars().take(80).collect());
    let link = match (word.parse::<SandboxId>(), word.parse::<Name>()) {
        (Ok(id), _) => store.root().join(Part::Sandboxes.name()).join(id.to_string()),
        (_, Ok(name)) => store.root().join(Part::Names.name()).join(name.as_str()),
        _ => return Err(missing()),
    };
    match std::fs::canonicalize(&link) {
        Ok(dir) if is_alive(&dir)? => Ok(Found::Alive(dir)),
        Ok(dir) if remains(&dir) => Ok(Found::Dead(dir)),
        _ if store.root().join(Part::Ended.name()).join(word).exists() => Ok(Found::Gone),
        _ => Err(missing()),
    }
}

/// All sessions, the oldest first.
pub fn sessions(home: &Path) -> Result<Vec<(SessionRecord, SessionState)>, Error> {
    if !home.exists() {
        return Ok(Vec::new());
    }
    let dir = Store::open(home)?.dir(Part::Sandboxes)?;
    let mut found = Vec::new();
    for entry in std::fs::read_dir(&dir).map_err(at(&dir))?.flatten() {
        // One without a record is a run's, or not yet born.
        let Ok(record) = SessionRecord::read(&entry.path()) else { continue };
        let alive = is_alive(&entry.path())?;
        found.push((record, if alive { SessionState::Running } else { SessionState::Dead }));
    }
    found.sort_by_key(|(record, _)| record.created);
    Ok(found)
}

/// Lets go of the name of what is about to be removed, and leaves word of it,
/// if it was a session.
pub(crate) fn bury(store: &Store, dir: &Path) -> Result<(), Error> {
    let Ok(record) = SessionRecord::read(dir) else { return Ok(()) };
    mark_ended(store, &record)?;
    drop_name(store, &record)
}

/// Removes what a dead session left.
pub(crate) fn remove_dead(store: &Store, dir: &Path) -> Result<(), Error> {
    let Some(_mine) = Lock::try_take(&dir.join("lock"))? else { return Ok(()) };
    bury(store, dir)?;
    Ok(std::fs::remove_dir_all(dir).map_err(at(dir))?)
}

#[cfg(test)]
mod tests {
    use lampyr_net::{Access, Domain, Secret};
    use zeroize::Zeroizing;

    use super::*;
    use crate::Origin;

    #[test]
    fn a_record_has_the_names_of_secrets_and_nothing_more_of_them() {
        let host = Domain::parse("api.example.com").unwrap();
        let value = Zeroizing::new("a-value-of-theirs".to_owned());
        let one = Secret::new("TOKEN", host.clone(), "authorization", value).unwrap();
        let secrets = vec![one.also(host, "x-key").unwrap(), one];
        let request = SessionRequest {
            name: None,
            origin: Origin::Image("default".parse().unwrap()),
            workdir: None,
            attached: false,
            checkpoints: 0,
            crowd: false,
            cpus: 1,
            memory: 1,
            disk_size: 1,
            env: Vec::new(),
            ttl_ms: None,
            forwards: Vec::new(),
            mounts: Vec::new(),
            net: Some(Access { secrets, ..Access::default() }),
        };
        let record = SessionRecord::new(SandboxId::random(), &request, "default", request.spec());
        let mut json = serde_json::to_value(&record).unwrap();
        assert_eq!((record.has_secrets(), &record.secrets), (true, &vec!["TOKEN".to_owned()]));
        assert!(!json.to_string().contains("theirs"), "{json}");
        // One that was written by an older lampyr has none.
        json.as_object_mut().unwrap().remove("secrets");
        assert!(!serde_json::from_value::<SessionRecord>(json).unwrap().has_secrets());
    }
}
