//! Names, what is needed, and what is damaged, by the files alone.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use lampyr_store::{Part, Store};

use super::*;
use crate::clean::clean;

/// A home in which `top` was built on `base`.
struct Home {
    tmp: tempfile::TempDir,
    store: Store,
    dir: PathBuf,
}

impl Home {
    fn new() -> Self {
        let tmp = tempfile::tempdir().unwrap();
        let store = Store::open(&tmp.path().join("home")).unwrap();
        let dir = store.dir(Part::Snapshots).unwrap();
        let home = Self { tmp, store, dir };
        home.add("base", None);
        home.add("top", Some(home.digest("base")));
        home
    }

    fn path(&self) -> PathBuf {
        self.tmp.path().join("home")
    }

    fn blobs(&self) -> Blobs {
        Blobs::new(&self.dir).unwrap()
    }

    fn index(&self) -> Index {
        Index::read(&self.dir).unwrap()
    }

    fn digest(&self, of: &str) -> Digest {
        self.index().find(&name(of)).unwrap()
    }

    /// Makes a snapshot by a recipe of the same name.
    fn add(&self, called: &str, parent: Option<Digest>) {
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/snapshot-v1");
        let digest = Index::read(&golden).unwrap().find(&name("base")).unwrap();
        let mut config = Config::read(&Blobs::new(&golden).unwrap(), digest).unwrap();
        (config.parent, config.made_by) = (parent, Some(called.to_owned()));
        let blobs = self.blobs();
        let pages = blobs.keep(Kind::Pages, format!("pages of {called}").as_bytes()).unwrap();
        let config = blobs.keep(Kind::Config, &config.to_bytes().unwrap()).unwrap();
        let bytes = Manifest::new(config, vec![pages]).to_bytes().unwrap();
        let manifest = blobs.keep(Kind::Manifest, &bytes).unwrap();
        let mut index = self.index();
        index.put(&name(called), manifest);
        index.write(&self.dir).unwrap();
    }

    /// Gives a snapshot another name, or a name another snapshot.
    fn alias(&self, of: &str, other: &str) {
        let mut index = self.index();
        index.put(&name(other), Descriptor::new(Kind::Manifest, self.digest(of), 1));
        index.write(&self.dir).unwrap();
    }

    fn names(&self) -> Vec<String> {
        self.index().names().map(|(name, _)| name.to_string()).collect()
    }

    fn rm(&self, called: &str, force: bool) -> Result<Vec<String>, Error> {
        let removed = remove_snapshot(&self.path(), &name(called), force)?;
        Ok(removed.iter().map(Name::to_string).collect())
    }

    fn own_bytes(&self, of: &str) -> u64 {
        snapshot(&self.path(), &name(of)).unwrap().own_bytes
    }
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

#[test]
fn where_there_is_another_name_only_the_name_goes() {
    let home = Home::new();
    assert!(home.own_bytes("base") > 0);
    home.alias("base", "other");
    assert_eq!((home.own_bytes("base"), home.own_bytes("other")), (0, 0));
    let in_use = home.store.sharing(&in_use(home.digest("base"))).unwrap();
    let blobs = home.blobs().all().unwrap().len();
    assert_eq!(home.rm("base", true).unwrap(), ["base"]);
    assert_eq!(home.names(), ["other", "top"]);
    assert_eq!(home.blobs().all().unwrap().len(), blobs);
    assert!(matches!(home.rm("other", false), Err(Error::SnapshotNeeded { .. })));
    assert!(matches!(home.rm("other", true), Err(Error::SnapshotBusy(_))));
    drop(in_use);
    assert_eq!(home.rm("other", true).unwrap(), ["other", "top"]);
    assert!(home.names().is_empty() && home.blobs().all().unwrap().is_empty());
}

#[test]
fn all_names_of_what_was_built_on_a_snapshot_go_with_it() {
    let home = Home::new();
    home.alias("top", "over");
    let needed = home.rm("base", false).unwrap_err().to_string();
    assert_eq!(needed, "snapshots 'over', 'top' were built on 'base'");
    assert_eq!(home.rm("base", true).unwrap(), ["base", "over", "top"]);
    assert!(home.names().is_empty());
}

#[test]
fn a_snapshot_that_is_replaced_while_it_is_looked_up_is_found() {
    let home = Home::new();
    let (old, new) = (home.digest("base"), home.digest("top"));
    let replacing = home.store.alone(&in_use(old)).unwrap();
    std::thread::scope(|scope| {
        let finding = scope.spawn(|| find(&home.store, &name("base")));
        // It has read the name, and waits for who has the snapshot.
        let deadline = Instant::now() + Duration::from_secs(30);
        while !waits_for_a_lock() && Instant::now() < deadline {
            std::thread::yield_now();
        }
        home.alias("top", "base");
        drop(replacing);
        let (saved, _held) = finding.join().unwrap().unwrap();
        assert_eq!(saved.digest, new);
    });
}

/// Whether a thread of ours waits for a lock to be shared.
fn waits_for_a_lock() -> bool {
    let ours = format!("READ {} ", std::process::id());
    let locks = fs::read_to_string("/proc/locks").unwrap_or_default();
    locks.lines().any(|line| line.contains("-> FLOCK") && line.contains(&ours))
}

#[test]
fn only_a_whole_snapshot_spares_a_build() {
    let home = Home::new();
    let made = |recipe: &str| made_by(&home.store, &name("top"), recipe).unwrap();
    assert!(made("top").is_some() && made("other").is_none());
    let manifest = Manifest::read(&home.blobs(), home.digest("top")).unwrap();
    let pages = manifest.of(Kind::Pages).next().unwrap().digest;
    for digest in [pages, manifest.config().digest, home.digest("top")] {
        let path = home.blobs().path(digest);
        let honest = fs::read(&path).unwrap();
        fs::write(&path, &honest[1..]).unwrap();
        assert!(made("top").is_none());
        fs::remove_file(&path).unwrap();
        assert!(made("top").is_none());
        fs::write(&path, honest).unwrap();
        assert!(made("top").is_some());
    }
}

#[test]
fn a_damaged_list_is_told_with_what_helps_and_the_rest_is_cleaned() {
    let home = Home::new();
    let list = home.dir.join("index.json");
    let text = fs::read_to_string(&list).unwrap();
    fs::write(&list, &text[..text.len() / 2]).unwrap();
    let left = home.store.dir(Part::Sandboxes).unwrap().join("dead");
    fs::create_dir(&left).unwrap();
    fs::write(left.join("session.json"), "").unwrap();
    for error in [snapshots(&home.path()).unwrap_err(), home.rm("top", false).unwrap_err()] {
        let path = list.display();
        assert_eq!(error.to_string(), format!("the list of snapshots is damaged: {path}"));
        assert!(error.hint().unwrap().contains(&format!("rm {path} and `lampyr clean`")));
    }
    assert_eq!(clean(&home.path(), None, false).unwrap().items.len(), 1);
    assert!(!home.blobs().all().unwrap().is_empty());
    fs::remove_file(&list).unwrap();
    clean(&home.path(), None, false).unwrap();
    assert!(home.blobs().all().unwrap().is_empty());
    assert!(snapshots(&home.path()).unwrap().whole.is_empty());
}

#[test]
fn where_there_is_no_home_none_is_made() {
    let tmp = tempfile::tempdir().unwrap();
    let home = tmp.path().join("home");
    let gone = remove_snapshot(&home, &name("x"), false).unwrap_err();
    assert_eq!(gone.to_string(), "snapshot 'x' not found");
    assert!(snapshots(&home).unwrap().whole.is_empty());
    assert!(!home.exists());
}

#[test]
fn a_damaged_blob_is_replaced_by_the_same_one_that_is_whole() {
    let home = Home::new();
    let (blobs, file) = (home.blobs(), home.tmp.path().join("file"));
    fs::write(&file, "memory").unwrap();
    let part = blobs.link(Kind::Memory, &file).unwrap();
    let damaged = home.tmp.path().join("damaged");
    for contents in ["mEmory", "mem"] {
        fs::write(&damaged, contents).unwrap();
        fs::rename(&damaged, blobs.path(part.digest)).unwrap();
        assert!(blobs.verified(&part).is_err());
        assert_eq!(blobs.link(Kind::Memory, &file).unwrap(), part);
        blobs.verified(&part).unwrap();
    }
}

#[test]
fn what_was_being_written_when_its_writer_was_killed_goes() {
    let home = Home::new();
    let begun = [home.dir.join("blobs/sha256/.tmpA1b2C3"), home.dir.join(".tmpD4e5F6")];
    for path in &begun {
        fs::write(path, "half").unwrap();
    }
    let cleaned = clean(&home.path(), None, false).unwrap();
    assert_eq!(cleaned.items.len(), begun.len());
    assert!(begun.iter().all(|path| !path.exists()));
    assert!(home.blobs().read(home.digest("top")).is_ok(), "what is whole stays");
}
