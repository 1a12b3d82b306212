//! Snapshots: taken, launched from, replaced, removed, and what is left of them.

use std::path::PathBuf;

use lampyr_core::{
    Cleaned, Error, Origin, Present, SnapshotRequest, Taken, clean, create_snapshot,
    remove_snapshot, snapshot, snapshots,
};
use lampyr_image::Image;
use lampyr_store::Store;
use lampyr_types::{ErrorKind, Name};

use crate::sessions::{Owned, end, plain, start};
use crate::world::{Ran, World, in_time, sh};

pub(crate) fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn request(text: &str, overwrite: bool) -> SnapshotRequest {
    SnapshotRequest { name: name(text), overwrite, with_secrets: false, labels: [].into() }
}

pub(crate) async fn take(world: &World, of: &Owned, as_: &str) -> Result<Taken, Error> {
    in_time(create_snapshot(&world.host, &of.sid, &request(as_, true))).await
}

pub(crate) async fn run_from(world: &World, snapshot: &str) -> Ran {
    let mut run = sh("echo ran");
    run.origin = Origin::Snapshot(name(snapshot));
    world.run(&run).await
}

pub(crate) async fn launch(world: &World, snapshot: &str) -> Owned {
    let mut session = plain();
    session.origin = Origin::Snapshot(name(snapshot));
    start(world, session).await.unwrap()
}

fn names(world: &World) -> Vec<String> {
    let all = snapshots(&world.home()).unwrap();
    assert!(all.unreadable.is_empty());
    all.whole.iter().map(|one| one.name.to_string()).collect()
}

pub(crate) fn files(world: &World, part: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(world.home().join(part));
    entries.map_or_else(|_| Vec::new(), |all| all.map(|entry| entry.unwrap().path()).collect())
}

const BLOBS: &str = "snapshots/blobs/sha256";

/// What each thing was that is gone, or would be.
fn whats(cleaned: &Cleaned) -> Vec<&str> {
    let mut all: Vec<_> = cleaned.items.iter().map(|item| item.what.as_str()).collect();
    all.sort_unstable();
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_taken_is_launched_and_goes_when_nobody_runs_from_it() {
    let world = World::warm().await;
    let session = start(&world, plain()).await.unwrap();
    let taken = take(&world, &session, "one").await.unwrap().snapshot;
    assert_eq!(taken, snapshot(&world.home(), &name("one")).unwrap());
    assert_eq!((taken.image.as_str(), taken.memory, taken.parent), ("tiny", 256 << 20, None));
    end(&world, session).await;
    assert_eq!(run_from(&world, "one").await.out, "ran\n");
    let launched = launch(&world, "one").await;
    let busy = remove_snapshot(&world.home(), &name("one"), false).unwrap_err();
    assert!(matches!(busy, Error::SnapshotBusy(_)), "{busy}");
    assert!(busy.hint().is_some());
    end(&world, launched).await;
    assert_eq!(remove_snapshot(&world.home(), &name("one"), false).unwrap(), [name("one")]);
    let gone = run_from(&world, "one").await.result.unwrap_err();
    assert_eq!(
        (gone.kind, gone.message.as_str()),
        (ErrorKind::ConnectionFailed, "snapshot 'one' not found")
    );
    assert!(files(&world, BLOBS).is_empty() && names(&world).is_empty());
    let is_of_one = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().starts_with("s-");
    assert!(!files(&world, "templates-v1").iter().any(is_of_one));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_is_kept_or_replaced_as_was_asked() {
    let world = World::warm().await;
    let session = start(&world, plain()).await.unwrap();
    let first = take(&world, &session, "one").await.unwrap().snapshot;
    let again = request("one", false);
    let again = create_snapshot(&world.host, &session.sid, &again);
    let taken = in_time(again).await.unwrap_err();
    assert_eq!(taken.to_string(), "there is a snapshot named 'one' already");
    assert_eq!(taken.kind(), ErrorKind::Usage);
    let second = take(&world, &session, "one").await.unwrap().snapshot;
    assert_ne!(first.digest, second.digest);
    assert_eq!(names(&world), ["one"]);
    let nobody = create_snapshot(&world.host, "nobody", &request("two", true)).await.unwrap_err();
    assert_eq!(nobody.to_string(), "session 'nobody' not found");
    assert_eq!(names(&world), ["one"]);
    assert!(files(&world, "tmp").is_empty());
    end(&world, session).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_were_built_on_goes_with_them_or_not_at_all() {
    let world = World::warm().await;
    let session = start(&world, plain()).await.unwrap();
    let base = take(&world, &session, "base").await.unwrap().snapshot;
    end(&world, session).await;
    let launched = launch(&world, "base").await;
    let top = take(&world, &launched, "top").await.unwrap().snapshot;
    end(&world, launched).await;
    assert_eq!(top.parent, Some((base.digest, Some(name("base")))));
    let needed = remove_snapshot(&world.home(), &name("base"), false).unwrap_err();
    assert_eq!(needed.to_string(), "snapshot 'top' was built on 'base'");
    assert_eq!(names(&world), ["base", "top"]);
    let launched = launch(&world, "top").await;
    let busy = remove_snapshot(&world.home(), &name("base"), true).unwrap_err();
    assert!(matches!(busy, Error::SnapshotBusy(by) if by == name("top")));
    assert_eq!(names(&world), ["base", "top"]);
    end(&world, launched).await;
    let removed = remove_snapshot(&world.home(), &name("base"), true).unwrap();
    assert_eq!(removed, [name("base"), name("top")]);
    assert!(files(&world, BLOBS).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn clean_says_and_takes_what_no_snapshot_needs() {
    let world = World::warm().await;
    let session = start(&world, plain()).await.unwrap();
    take(&world, &session, "one").await.unwrap();
    end(&world, session).await;
    let home = world.home();
    assert!(clean(&home, None, true).unwrap().items.is_empty());
    let (before, digits) = (files(&world, BLOBS).len(), "0".repeat(64));
    std::fs::write(home.join(BLOBS).join(&digits), "left by a pull that was killed").unwrap();
    // A template whose removal was killed has no record any more.
    let template = home.join(format!("templates-v1/s-{}", &digits[..32]));
    std::fs::create_dir(&template).unwrap();
    std::fs::write(template.join("memory"), "half").unwrap();
    let base = home.join("bases/@00000000000000000000000000000000");
    std::fs::create_dir_all(&base).unwrap();
    let wanted = ["part of a snapshot", "root disk of a snapshot", "template of a snapshot"];
    assert_eq!(whats(&clean(&home, None, true).unwrap()), wanted);
    assert_eq!(files(&world, BLOBS).len(), before + 1);
    assert_eq!(whats(&clean(&home, None, false).unwrap()), wanted);
    assert_eq!(files(&world, BLOBS).len(), before);
    assert!(!template.exists() && !base.exists());
    assert!(clean(&home, None, true).unwrap().items.is_empty());
    assert_eq!(run_from(&world, "one").await.out, "ran\n");
}

/// Gives the only template another record.
fn rewrite(world: &World, from: &str, to: &str) {
    let record = world.template().join("manifest.json");
    let text = std::fs::read_to_string(&record).unwrap();
    assert!(text.contains(from), "{text}");
    std::fs::write(&record, text.replace(from, to)).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn clean_takes_templates_that_nothing_is_restored_from_any_more() {
    let world = World::warm().await;
    let (home, present) = (world.home(), Present::of(&world.settings()));
    let take = |present: &Option<Present>, dry_run| {
        clean(&home, present.as_ref(), dry_run).unwrap().items.len()
    };
    let store = Store::open(&home).unwrap();
    let image = Image::find(&store, &"tiny".parse().unwrap()).unwrap();
    assert!(present.is_some());
    assert_eq!(take(&present, false), 0);
    for (from, to) in [("kit ", "kit of another agent: "), ("fake engine 1", "fake engine 0")] {
        world.sh("true").await.result.unwrap();
        let in_use = image.hold(&store).unwrap();
        rewrite(&world, from, to);
        // Who does not know what the host has takes none, and nobody takes one
        // whose image is in use.
        assert_eq!((take(&None, false), take(&present, false)), (0, 0), "{to}");
        drop(in_use);
        assert_eq!((take(&present, true), take(&present, false)), (1, 1), "{to}");
        assert!(files(&world, "templates-v1").is_empty());
    }
    world.sh("true").await.result.unwrap();
    std::fs::remove_dir_all(home.join("images/tiny")).unwrap();
    assert_eq!((take(&None, true), take(&None, false)), (1, 1));
    assert!(files(&world, "templates-v1").is_empty());
}
