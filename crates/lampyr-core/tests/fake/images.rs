//! Images that are replaced or removed while something stands on them.

use lampyr_core::{Error, clean, remove_image, remove_snapshot, snapshot};
use lampyr_image::{Image, ImageError};
use lampyr_store::Store;

use crate::sessions::{Owned, client, end, exec, plain, sh, start};
use crate::snapshots::{files, launch, name, run_from, take};
use crate::world::{World, in_time, until};

/// Its owner ends in time; a process that another test starts just then has its
/// locks for a moment longer.
async fn session(world: &World) -> Owned {
    let mut request = plain();
    request.checkpoints = 1;
    start(world, request).await.unwrap()
}

/// Removes what nobody needs; what is left of bases and of templates that were
/// baked.
fn left(world: &World) -> (usize, usize) {
    clean(&world.home(), None, false).unwrap();
    let templates = files(world, "templates-v1").into_iter();
    let baked = |path: &std::path::PathBuf| path.file_name().unwrap().len() == 32;
    (files(world, "bases").len(), templates.filter(baked).count())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_runs_goes_on_with_the_disk_that_its_image_had() {
    let world = World::warm().await;
    let running = session(&world).await;
    let talk = client(&world, &running.sid).await;
    exec(&talk, &sh("true")).await.result.unwrap();
    world.replace_image("DISK");
    world.sh("true").await.result.unwrap();
    assert_eq!(world.engine.base(), "DISK");
    assert_eq!(left(&world).0, 1);
    in_time(talk.undo(None)).await.unwrap();
    assert_eq!(world.engine.base(), "disk");
    take(&world, &running, "kept").await.unwrap();
    end(&world, running).await;
    // The snapshot needs the disk, nobody the templates that were baked on it.
    until(|| left(&world) == (1, 1)).await;
    run_from(&world, "kept").await.result.unwrap();
    assert_eq!(world.engine.base(), "disk");
    until(|| remove_snapshot(&world.home(), &name("kept"), false).is_ok()).await;
    until(|| left(&world).0 == 0).await;
    world.sh("true").await.result.unwrap();
    assert_eq!(world.engine.base(), "DISK");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nothing_stands_on_goes() {
    let world = World::warm().await;
    let running = session(&world).await;
    world.replace_image("DISK");
    world.replace_image("Disk");
    assert_eq!(left(&world), (1, 2));
    end(&world, running).await;
    until(|| left(&world) == (0, 0)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn snapshots_outlive_the_image_that_they_were_made_on() {
    let (world, tiny) = (World::warm().await, "tiny".parse().unwrap());
    let running = session(&world).await;
    take(&world, &running, "one").await.unwrap();
    let refused = remove_image(&world.home(), &tiny).unwrap_err();
    assert!(matches!(refused, Error::Image(ImageError::InUse { .. })), "{refused}");
    end(&world, running).await;
    until(|| remove_image(&world.home(), &tiny).is_ok()).await;
    let gone = Image::find(&Store::open(&world.home()).unwrap(), &tiny);
    assert!(matches!(gone, Err(ImageError::NoImage { .. })), "{gone:?}");
    // What is made on the snapshot stands on the same disk.
    let launched = launch(&world, "one").await;
    take(&world, &launched, "two").await.unwrap();
    end(&world, launched).await;
    assert_eq!(left(&world).0, 1);
    run_from(&world, "two").await.result.unwrap();
    assert_eq!(world.engine.base(), "disk");
    assert_eq!(snapshot(&world.home(), &name("two")).unwrap().image, "tiny");
    until(|| remove_snapshot(&world.home(), &name("one"), true).is_ok()).await;
    until(|| left(&world).0 == 0).await;
    assert!(world.sh("true").await.result.is_err());
}
