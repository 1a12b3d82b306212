//! Templates, sandboxes and what becomes of them.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use lampyr_core::{Output, OutputStream, Trace, clean, run};
use lampyr_engine::EngineError;
use lampyr_proto::WINDOW;
use lampyr_types::ErrorKind;
use tokio::task::JoinSet;

use crate::world::{World, in_time, sh, until};

#[tokio::test]
async fn a_template_is_baked_once() {
    let world = World::new().await;
    let (one, two) = tokio::join!(world.sh("echo 1"), world.sh("echo 2"));
    assert_eq!((one.out.as_str(), two.out.as_str()), ("1\n", "2\n"));
    assert_eq!(world.sh("echo 3").await.out, "3\n");
    assert_eq!((world.engine.boots(), world.engine.restores()), (1, 3));
    let mut other = sh("true");
    other.cpus = 2;
    world.run(&other).await.result.unwrap();
    assert_eq!(world.engine.boots(), 2);
}

#[tokio::test]
async fn a_template_that_changed_is_baked_again() {
    let world = World::warm().await;
    let mut boots = 1;
    for file in ["memory", "devices", "disk0.qcow2", "manifest.json"] {
        let path = world.template().join(file);
        for change in [|p: &Path| std::fs::write(p, "changed"), |p: &Path| std::fs::remove_file(p)]
        {
            change(&path).unwrap();
            boots += 1;
            assert_eq!(world.sh("echo ok").await.out, "ok\n", "{file}");
            assert_eq!(world.engine.boots(), boots, "{file}");
        }
    }
}

#[tokio::test]
async fn a_template_that_does_not_restore_is_baked_again_once() {
    let world = World::warm().await;
    world.engine.fail_restore_once(EngineError::BadImage("made to order".into()));
    assert_eq!(world.sh("echo ok").await.out, "ok\n");
    assert_eq!((world.engine.boots(), world.sandboxes()), (2, 0));
}

#[tokio::test]
async fn other_failures_to_restore_leave_the_template_alone() {
    let world = World::warm().await;
    let slow = EngineError::Slow { what: "restore", seconds: 1 };
    world.engine.fail_restore_once(slow);
    let error = world.sh("true").await.result.unwrap_err();
    assert_eq!((error.kind, error.started), (ErrorKind::ConnectionFailed, false));
    assert_eq!((world.engine.boots(), world.sandboxes()), (1, 0));
}

#[tokio::test]
async fn a_machine_that_dies_is_a_crash() {
    let world = World::warm().await;
    let ran = world.sh("echo last; sleep 0.2; kill -9 $PPID; sleep 60").await;
    let error = ran.result.unwrap_err();
    assert_eq!((error.kind, error.started), (ErrorKind::VmCrashed, true), "{error:?}");
    assert_eq!((ran.out.as_str(), world.sandboxes()), ("last\n", 0));

    world.engine.die_after_restore_once();
    let error = world.sh("true").await.result.unwrap_err();
    assert_eq!((error.kind, error.started), (ErrorKind::ConnectionFailed, false), "{error:?}");
    assert!(error.message.contains("the VM ended"), "{}", error.message);
    assert_eq!(world.sandboxes(), 0);
    assert_eq!(world.sh("echo on").await.out, "on\n");
}

#[tokio::test]
async fn a_run_that_is_dropped_leaves_nothing() {
    let world = World::warm().await;
    let file = world.tmp.path().join("pid");
    let command = sh(&format!("echo $$ >{}; exec sleep 60", file.display()));
    let (mut output, trace) = (Refusing, Trace::new());
    let written = || std::fs::read_to_string(&file).is_ok_and(|text| text.ends_with('\n'));
    tokio::select! {
        ran = run(&world.host, &command, &mut output, &trace) => panic!("{ran:?}"),
        () = until(|| written() && world.sandboxes() == 1) => {}
    }
    assert_eq!(world.sandboxes(), 0);
    let pid = std::fs::read_to_string(&file).unwrap();
    let stat = format!("/proc/{}/stat", pid.trim());
    until(|| std::fs::read_to_string(&stat).map_or(true, |s| s.contains(") Z "))).await;
}

#[tokio::test]
async fn clean_leaves_the_living_alone() {
    let world = World::warm().await;
    let sandboxes = world.home().join("sandboxes");
    std::fs::create_dir(sandboxes.join("dead")).unwrap();
    std::fs::write(sandboxes.join("dead/lock"), "").unwrap();
    std::fs::write(sandboxes.join("dead/disk.qcow2"), "").unwrap();
    let go = world.tmp.path().join("go");
    let wait = format!("echo up >{0}.up; while [ ! -e {0} ]; do sleep 0.05; done", go.display());
    let up = go.with_extension("up");
    let (ran, ()) = tokio::join!(world.sh(&wait), async {
        until(|| up.exists()).await;
        let cleaned = clean(&world.home(), None, false).unwrap();
        let paths: Vec<_> = cleaned.items.iter().map(|item| item.path.clone()).collect();
        assert!(paths.contains(&sandboxes.join("dead")), "{paths:?}");
        assert!(paths.iter().filter(|p| p.starts_with(&sandboxes)).count() == 1, "{paths:?}");
        assert_eq!(world.sandboxes(), 1);
        std::fs::write(&go, "").unwrap();
    });
    assert_eq!((ran.code(), world.sandboxes()), (0, 0));
}

/// An output that takes nothing.
struct Refusing;

impl Output for Refusing {
    fn write(&mut self, _stream: OutputStream, _bytes: &[u8]) -> io::Result<()> {
        Err(io::Error::other("the disk is full"))
    }
}

#[tokio::test]
async fn an_output_that_fails_ends_the_run() {
    let world = World::warm().await;
    let request = sh("yes");
    let ran = in_time(run(&world.host, &request, &mut Refusing, &Trace::new())).await;
    let error = ran.unwrap_err();
    assert!(error.message.contains("the disk is full"), "{}", error.message);
    assert_eq!(world.sandboxes(), 0);
}

/// An output that is stuck for a while, then looks how far the command came.
struct Stuck<'a> {
    counter: &'a std::path::Path,
    came: Arc<AtomicUsize>,
}

impl Output for Stuck<'_> {
    fn write(&mut self, _stream: OutputStream, _bytes: &[u8]) -> io::Result<()> {
        // The channel's task goes on meanwhile.
        tokio::task::block_in_place(|| std::thread::sleep(Duration::from_millis(700)));
        let came = std::fs::metadata(self.counter)?.len();
        self.came.store(came as usize, Ordering::SeqCst);
        Err(io::Error::other("enough"))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_slow_output_holds_the_command_back() {
    let world = World::warm().await;
    let counter = world.tmp.path().join("counter");
    // Each line of the counter stands for 4096 bytes that were written.
    let command = format!(
        "piece=$(printf '%04095d' 0); while echo $piece; do printf x >>{}; done",
        counter.display()
    );
    let (host, came) = (world.host.clone(), Arc::new(AtomicUsize::new(0)));
    let seen = came.clone();
    in_time(tokio::spawn(async move {
        let mut stuck = Stuck { counter: &counter, came: seen };
        let _ = run(&host, &sh(&command), &mut stuck, &Trace::new()).await.unwrap_err();
    }))
    .await
    .unwrap();
    let written = came.load(Ordering::SeqCst) * 4096;
    // The window, what fits into the pipe, and a piece on its way.
    let most = 2 * WINDOW as usize + 65536;
    assert!(written > WINDOW as usize / 2 && written <= most, "{written}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_runs_at_once() {
    let world = World::warm().await;
    let mut all = JoinSet::new();
    for i in 0..200 {
        let host = world.host.clone();
        all.spawn(async move {
            let mut counted = Counted(Vec::new());
            let request = sh(&format!("echo {i}; exit {}", i % 256));
            let ran = run(&host, &request, &mut counted, &Trace::new()).await.unwrap();
            assert_eq!((ran.exit_code, counted.0), (i % 256, format!("{i}\n").into_bytes()));
        });
    }
    in_time(async {
        while let Some(done) = all.join_next().await {
            done.unwrap();
        }
    })
    .await;
    assert_eq!((world.engine.boots(), world.sandboxes()), (1, 0));
}

struct Counted(Vec<u8>);

impl Output for Counted {
    fn write(&mut self, _stream: OutputStream, bytes: &[u8]) -> io::Result<()> {
        self.0.extend(bytes);
        Ok(())
    }
}
