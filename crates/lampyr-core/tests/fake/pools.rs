//! Pools: the owner of a member runs in the test, as a task.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use lampyr_core::{
    Batch, CopyIn, CopyOut, MemberWord, Origin, OwnerReply, PoolMachine, PoolMemberRequest,
    RunRequest, SnapshotRequest, create_snapshot, own_member, pools, run_batch,
};
use lampyr_engine::fake::Peer;
use lampyr_types::{ErrorKind, SandboxId};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::guest;
use crate::sessions;
use crate::world::{Heard, World, in_time, sh, text, until};

/// A member, its keeper's end of its lifeline, and its owner.
struct Member {
    id: SandboxId,
    words: mpsc::UnboundedReceiver<MemberWord>,
    lifeline: oneshot::Sender<()>,
    owner: JoinHandle<()>,
}

/// Makes a member that fits what `sh` asks for.
async fn member(world: &World) -> Member {
    member_of(world, sh("").origin).await
}

/// The same of another origin.
async fn member_of(world: &World, origin: Origin) -> Member {
    let like = sh("");
    let machine = PoolMachine {
        origin,
        cpus: like.cpus,
        memory: like.memory.as_bytes(),
        disk_size: like.disk_size.as_bytes(),
    };
    let request = PoolMemberRequest { pool: SandboxId::random(), machine };
    let (tell, mut words) = mpsc::unbounded_channel();
    let (lifeline, cut) = oneshot::channel();
    let host = world.host.clone();
    let owner = tokio::spawn(async move {
        let orphaned = async { drop(cut.await) };
        own_member(&host, &request, |word| tell.send(word).is_ok(), orphaned).await;
    });
    match in_time(words.recv()).await {
        Some(MemberWord::Started(OwnerReply::Ready(id))) => Member { id, words, lifeline, owner },
        other => panic!("{other:?}"),
    }
}

fn marks(world: &World) -> usize {
    std::fs::read_dir(world.home().join("members")).map_or(0, Iterator::count)
}

#[tokio::test]
async fn a_run_takes_a_member_and_leaves_nothing_of_it() {
    let world = World::warm().await;
    let restored = world.engine.restores();
    let mut member = member(&world).await;
    assert!(world.home().join("sandboxes").join(member.id.to_string()).join("socket").exists());
    assert_eq!((world.engine.restores(), marks(&world)), (restored + 1, 1));
    let ran = world.sh("echo out; echo err >&2; exit 3").await;
    assert_eq!((ran.code(), ran.out.as_str(), ran.err.as_str()), (3, "out\n", "err\n"));
    assert_eq!(in_time(member.words.recv()).await, Some(MemberWord::Claimed));
    // The run is over when nothing of the member is left.
    assert_eq!((world.engine.restores(), marks(&world)), (restored + 1, 0));
    assert_eq!(world.sandboxes(), 0);
    in_time(member.owner).await.unwrap();
    assert_eq!(world.sh("echo on").await.out, "on\n");
    assert_eq!(world.engine.restores(), restored + 2);
}

#[tokio::test]
async fn a_member_has_one_claimant() {
    let world = World::warm().await;
    let restored = world.engine.restores();
    let _member = member(&world).await;
    let five = tokio::join!(
        world.sh("echo 1"),
        world.sh("echo 2"),
        world.sh("echo 3"),
        world.sh("echo 4"),
        world.sh("echo 5"),
    );
    let said = [five.0, five.1, five.2, five.3, five.4].map(|ran| ran.out);
    assert_eq!(said.concat(), "1\n2\n3\n4\n5\n");
    assert_eq!((world.engine.restores(), world.sandboxes()), (restored + 5, 0));
}

#[tokio::test]
async fn a_member_of_another_kind_is_left_alone() {
    let world = World::warm().await;
    let member = member(&world).await;
    let mut other = sh("true");
    other.cpus = 2;
    assert_eq!(world.run(&other).await.code(), 0);
    assert_eq!((marks(&world), world.sandboxes()), (1, 1));
    drop(member.lifeline);
    in_time(member.owner).await.unwrap();
    assert_eq!((marks(&world), world.sandboxes()), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_ends_when_what_it_was_made_from_is_replaced() {
    let world = World::warm().await;
    let session = sessions::start(&world, sessions::plain()).await.unwrap();
    let save = async || {
        let (name, labels) = ("one".parse().unwrap(), [].into());
        let request = SnapshotRequest { name, overwrite: true, with_secrets: false, labels };
        in_time(create_snapshot(&world.host, &session.sid, &request)).await.unwrap();
    };
    save().await;
    let mut member = member_of(&world, Origin::Snapshot("one".parse().unwrap())).await;
    assert_eq!(marks(&world), 1);
    save().await;
    assert_eq!(in_time(member.words.recv()).await, Some(MemberWord::Outdated));
    in_time(member.owner).await.unwrap();
    assert_eq!(marks(&world), 0);
    sessions::end(&world, session).await;
}

#[tokio::test]
async fn a_claimed_member_outlives_its_keeper() {
    let world = World::warm().await;
    let Member { mut words, lifeline, owner, .. } = member(&world).await;
    let (ran, ()) = tokio::join!(world.sh("sleep 0.3; echo on"), async {
        assert_eq!(in_time(words.recv()).await, Some(MemberWord::Claimed));
        drop((lifeline, words));
    });
    assert_eq!((ran.out.as_str(), world.sandboxes()), ("on\n", 0));
    in_time(owner).await.unwrap();
}

#[tokio::test]
async fn a_member_ends_with_its_claimant() {
    let world = World::warm().await;
    let Member { owner, .. } = member(&world).await;
    let file = world.at("up");
    let command = format!("touch {file}; sleep 60");
    tokio::select! {
        ran = world.sh(&command) => panic!("{ran:?}"),
        () = until(|| std::path::Path::new(&file).exists()) => {}
    }
    in_time(owner).await.unwrap();
    assert_eq!(world.sandboxes(), 0);
}

#[tokio::test]
async fn a_claimed_machine_that_dies_is_a_crash() {
    let world = World::warm().await;
    let Member { owner, .. } = member(&world).await;
    let ran = world.sh("echo last; sleep 0.2; kill -9 $PPID; sleep 60").await;
    let error = ran.result.unwrap_err();
    assert_eq!((error.kind, error.started), (ErrorKind::VmCrashed, true), "{error:?}");
    assert!(error.message.contains("the agent ended"), "{}", error.message);
    in_time(owner).await.unwrap();
    assert_eq!((ran.out.as_str(), world.sandboxes()), ("last\n", 0));
}

#[tokio::test]
async fn files_go_in_and_out_of_a_member() {
    let world = World::warm().await;
    let restored = world.engine.restores();
    let _member = member(&world).await;
    let (here, there, back) = (world.at("here"), world.at("there"), world.at("back"));
    std::fs::write(&here, "content").unwrap();
    let mut request = sh(&format!("cat {there}"));
    request.copy_in = vec![CopyIn { local: here.into(), remote: there.clone() }];
    request.copy_out = vec![CopyOut { remote: there, local: back.clone().into() }];
    assert_eq!(world.run(&request).await.out, "content");
    assert_eq!(std::fs::read_to_string(back).unwrap(), "content");
    assert_eq!((world.engine.restores(), world.sandboxes()), (restored + 1, 0));
}

#[tokio::test]
async fn what_looks_like_a_member_and_is_none_costs_a_run_nothing() {
    let world = World::warm().await;
    let key = world.template().file_name().unwrap().to_str().unwrap().to_owned();
    let (members, id) = (world.home().join("members"), SandboxId::random());
    let dir = world.home().join("sandboxes").join(id.to_string());
    std::fs::create_dir_all(&members).unwrap();
    std::fs::write(members.join(format!("{key}.{id}")), "").unwrap();
    std::fs::write(members.join(format!("{key}.nonsense")), "").unwrap();
    assert_eq!(world.sh("echo 1").await.out, "1\n");
    // One whose owner gives nothing.
    std::fs::create_dir(&dir).unwrap();
    let silent = tokio::net::UnixListener::bind(dir.join("socket")).unwrap();
    let begun = Instant::now();
    assert_eq!(world.sh("echo 2").await.out, "2\n");
    assert!(begun.elapsed() < Duration::from_secs(10));
    drop(silent);
    // One whose owner is dead.
    assert_eq!(world.sh("echo 3").await.out, "3\n");
    std::fs::write(dir.join("lock"), "").unwrap();
    lampyr_core::clean(&world.home(), None, false).unwrap();
    assert_eq!((marks(&world), world.sandboxes()), (0, 0));
    assert!(pools(&world.home()).unwrap().is_empty());
}

#[tokio::test]
async fn a_member_whose_guest_does_not_wake_is_given_up() {
    let world = World::warm().await;
    let restored = world.engine.restores();
    world.engine.set_peer(guest::peer(|stream, _| guest::exited(stream, 0)));
    let Member { owner, .. } = member(&world).await;
    world.engine.set_peer(Peer::Agent);
    assert_eq!(world.sh("echo on").await.out, "on\n");
    in_time(owner).await.unwrap();
    assert_eq!((world.engine.restores(), world.sandboxes()), (restored + 2, 0));
}

/// A batch of `echo`s, and the rows that came of it.
async fn batch(
    world: &World,
    batch: Batch,
    request: impl Fn(u32) -> RunRequest,
) -> Vec<(u32, Result<i32, ErrorKind>, String)> {
    let mut rows = Vec::new();
    let row = |run, heard: Heard, result: Result<lampyr_core::Outcome, lampyr_core::RunError>| {
        let code = result.map(|outcome| outcome.exit_code).map_err(|e| e.kind);
        rows.push((run, code, text(heard.out)));
        Ok(())
    };
    in_time(run_batch(&world.host, batch, request, Heard::default, row)).await.unwrap();
    rows.sort_by_key(|(run, ..)| *run);
    rows
}

fn plan(count: u32, size: u32, concurrency: u32) -> Batch {
    let (size, concurrency) = (NonZeroU32::new(size), NonZeroU32::new(concurrency));
    Batch { count, size: size.unwrap(), concurrency: concurrency.unwrap() }
}

#[tokio::test]
async fn every_run_of_a_batch_has_its_row_and_its_machine() {
    let world = World::warm().await;
    let restored = world.engine.restores();
    let (now, most) = (world.at("now"), Arc::new(AtomicUsize::new(0)));
    std::fs::create_dir(&now).unwrap();
    let command =
        |run| format!("touch {now}/{run}; ls {now} | wc -l; sleep 0.1; rm {now}/{run}; exit {run}");
    let rows = batch(&world, plan(6, 3, 2), |run| sh(&command(run))).await;
    for (at, (run, code, out)) in rows.iter().enumerate() {
        assert_eq!((*run as usize, *code), (at + 1, Ok(at as i32 + 1)));
        most.fetch_max(out.trim().parse().unwrap(), Ordering::Relaxed);
    }
    assert_eq!((rows.len(), most.load(Ordering::Relaxed)), (6, 2));
    assert_eq!((world.engine.restores(), world.sandboxes()), (restored + 6, 0));
}

#[tokio::test]
async fn a_run_that_has_no_machine_has_a_row_too() {
    let world = World::warm().await;
    let nothing = |_| RunRequest { origin: Origin::Image("none".parse().unwrap()), ..sh("true") };
    let rows = batch(&world, plan(3, 2, 2), nothing).await;
    let kinds: Vec<_> = rows.into_iter().map(|(_, code, _)| code).collect();
    assert_eq!(kinds, [Err(ErrorKind::ConnectionFailed); 3]);
}

#[tokio::test]
async fn a_batch_that_is_dropped_leaves_nothing() {
    let world = World::warm().await;
    let up = world.at("up");
    let command = format!("touch {up}; sleep 60");
    tokio::select! {
        rows = batch(&world, plan(4, 2, 2), |_| sh(&command)) => panic!("{rows:?}"),
        () = until(|| std::path::Path::new(&up).exists()) => {}
    }
    until(|| world.sandboxes() == 0).await;
}

#[tokio::test]
async fn a_row_that_cannot_be_told_ends_the_batch() {
    let world = World::warm().await;
    let row = |_, _: Heard, _| Err(std::io::ErrorKind::BrokenPipe.into());
    let ran = run_batch(&world.host, plan(4, 2, 2), |_| sh("true"), Heard::default, row);
    assert_eq!(in_time(ran).await.unwrap_err().kind(), std::io::ErrorKind::BrokenPipe);
    until(|| world.sandboxes() == 0).await;
}
