//! Snapshots, forks and undo.

mod lab;

use lab::{failure, fresh, on_vm};
use lampyr_sdk::{
    BuildEvent, BuildOptions, Error, ErrorKind, LaunchOptions, RemoveOptions, Resources, Secret,
    SnapshotConfig, build_snapshot, build_snapshot_stream, connect_to_sandbox, exec,
    launch_sandbox, list_snapshots, remove_snapshot, run_in_sandbox, sandbox_exists, shell,
    snapshot_exists,
};

const FORCE: fn() -> RemoveOptions = || RemoveOptions::new().force(true);

fn small(name: &str) -> SnapshotConfig {
    SnapshotConfig::new(name, "default").resources(Resources::new().cpus(1).memory("256M"))
}

#[test]
fn a_snapshot_is_built_and_told_as_it_goes() {
    on_vm(async {
        let name = fresh("built");
        let config = small(&name)
            .workdir("/srv")
            .env("WORD", "baked")
            .step("mkdir work")
            .step(shell("echo $WORD > work/word; echo said; echo so >&2").described("write it"))
            .step(exec("cp").args(["work/word", "work/copy"]))
            .label("team", "sdk");
        let mut stream = build_snapshot_stream(&config, BuildOptions::new()).await.unwrap();
        let (mut steps, mut stdout, mut stderr, mut built) = (vec![], vec![], vec![], None);
        while let Some(event) = stream.recv().await.unwrap() {
            match event {
                BuildEvent::Step { index, count, description, .. } => {
                    steps.push((index, count, description));
                }
                BuildEvent::Stdout(bytes) => stdout.extend(bytes),
                BuildEvent::Stderr(bytes) => stderr.extend(bytes),
                BuildEvent::Built(snapshot) => built = Some(snapshot),
                _ => {}
            }
        }
        let built = built.unwrap();
        assert_eq!(steps.len(), 3);
        assert_eq!(steps[1], (2, 3, "write it".into()));
        assert_eq!((stdout.as_slice(), stderr.as_slice()), (&b"said\n"[..], &b"so\n"[..]));
        assert_eq!((built.name.as_str(), built.cpus, built.memory), (name.as_str(), 1, 256 << 20));
        assert!(!built.cached);
        assert!(build_snapshot(&config, BuildOptions::new()).await.unwrap().cached);

        let out =
            run_in_sandbox(LaunchOptions::new(fresh("of")).snapshot(&name), async |sandbox| {
                assert_eq!(sandbox.info().snapshot.as_ref(), Some(&name));
                sandbox.read_file("/srv/work/copy").await
            });
        assert_eq!(out.await.unwrap(), b"baked\n");
        let listed = list_snapshots().await.unwrap();
        assert_eq!(listed.iter().find(|s| s.name == name).unwrap().labels["team"], "sdk");
        let again = build_snapshot(&config, BuildOptions::new().overwrite(false)).await;
        assert_eq!(failure(again).kind(), ErrorKind::Usage);
        assert_eq!(remove_snapshot(&name, RemoveOptions::new()).await.unwrap(), [name.as_str()]);
        assert_eq!(remove_snapshot(&name, RemoveOptions::new()).await.unwrap().len(), 0);
        assert!(!snapshot_exists(&name).await.unwrap());
    });
}

#[test]
fn a_step_that_fails_is_named_and_leaves_what_was_there() {
    on_vm(async {
        let name = fresh("fails");
        let before = build_snapshot(&small(&name), BuildOptions::new()).await.unwrap();
        let config = small(&name)
            .step("true")
            .step(exec("cat").arg("/missing").described("read it"))
            .step("touch /never");
        let options = BuildOptions::new().debug_builder(true);
        let error = failure(build_snapshot(&config, options).await);
        assert_eq!(error.kind(), ErrorKind::ConnectionFailed);
        let Error::Setup(why) = error else { panic!("{error:?}") };
        assert_eq!((why.step(), why.step_name(), why.code()), (2, "read it", 1));
        assert_eq!(why.output(), "cat: /missing: No such file or directory\n");
        let listed = list_snapshots().await.unwrap();
        assert_eq!(listed.iter().find(|s| s.name == name).unwrap().digest, before.digest);
        // The builder is there to be looked at.
        let builder = connect_to_sandbox(&format!("{name}-builder")).await.unwrap();
        assert!(!builder.fs().exists("/never").await.unwrap());
        builder.kill().await.unwrap();
        remove_snapshot(&name, FORCE()).await.unwrap();
    });
}

#[test]
fn a_build_that_nobody_hears_leaves_nothing() {
    on_vm(async {
        let name = fresh("unheard");
        let config = small(&name).step("echo up; sleep 600");
        let mut build = build_snapshot_stream(&config, BuildOptions::new()).await.unwrap();
        while !matches!(build.recv().await.unwrap(), Some(BuildEvent::Stdout(_))) {}
        drop(build);
        lab::gone(&format!("{name}-builder")).await;
        assert!(!snapshot_exists(&name).await.unwrap());
    });
}

#[test]
fn a_config_that_makes_no_sense_is_refused() {
    on_vm(async {
        let config = SnapshotConfig::new("Not A Name", "default");
        let error = failure(build_snapshot(&config, BuildOptions::new()).await);
        assert_eq!(error.kind(), ErrorKind::Usage);
        assert!(error.message().starts_with("config: "), "{error}");
    });
}

#[test]
fn a_snapshot_and_forks_go_on_from_where_it_is() {
    on_vm(async {
        let (name, base) = (fresh("taken"), fresh("base"));
        build_snapshot(&small(&base), BuildOptions::new()).await.unwrap();
        let options = LaunchOptions::new(fresh("source")).snapshot(&base);
        let sandbox = launch_sandbox(options).await.unwrap();
        sandbox.shell("echo draft > /root/file").await.unwrap();
        let taken = sandbox.snapshot(&name).label("a", "b").await.unwrap();
        assert!(taken.pause_ms.is_some_and(|ms| ms > 0.0));
        assert_eq!(taken.labels["a"], "b");
        assert_eq!(taken.parent.unwrap().name, Some(base.clone()));
        let refused = sandbox.snapshot(&name).overwrite(false).await;
        assert_eq!(failure(refused).failure().status(), Some(409));

        let forks = sandbox.fork(2).await.unwrap();
        for (number, fork) in forks.iter().enumerate() {
            let script = format!("echo {number} >> /root/file; cat /root/file");
            assert_eq!(fork.shell(script).await.unwrap().stdout(), format!("draft\n{number}\n"));
        }
        assert_eq!(sandbox.read_file("/root/file").await.unwrap(), b"draft\n");
        for fork in forks {
            fork.stop().await.unwrap();
        }
        sandbox.stop().await.unwrap();
        assert_eq!(
            failure(remove_snapshot(&base, RemoveOptions::new()).await).failure().status(),
            Some(409)
        );
        let mut removed = remove_snapshot(&base, FORCE()).await.unwrap();
        removed.sort();
        assert_eq!(removed, [base, name]);
    });
}

#[test]
fn what_a_command_did_is_taken_back() {
    on_vm(async {
        let options = LaunchOptions::new(fresh("undo"))
            .resources(Resources::new().cpus(1).memory("256M"))
            .checkpoints(4);
        let sandbox = launch_sandbox(options).await.unwrap();
        for word in ["one", "two", "three"] {
            sandbox.shell(format!("echo {word} > /root/file")).await.unwrap();
        }
        let log = sandbox.log().await.unwrap();
        assert_eq!(log.len(), 3);
        assert_eq!(log[2].command, "echo three > /root/file");
        let undone = sandbox.undo().await.unwrap();
        assert_eq!(undone.undone_to, log[2].index);
        assert_eq!(sandbox.read_file("/root/file").await.unwrap(), b"two\n");
        sandbox.undo_to(log[1].index).await.unwrap();
        assert_eq!(sandbox.read_file("/root/file").await.unwrap(), b"one\n");
        let error = failure(sandbox.undo_to(99).await);
        assert_eq!(error.failure().status(), Some(409), "{error:?}");
        sandbox.stop().await.unwrap();
    });
}

#[test]
fn one_with_secrets_is_copied_only_if_that_is_said() {
    on_vm(async {
        let options = LaunchOptions::new(fresh("secret"))
            .resources(Resources::new().cpus(1).memory("256M"))
            .net("a.example:443")
            .secret("TOKEN", Secret::new("a.example", "a hushed value"));
        let sandbox = launch_sandbox(options).await.unwrap();
        let out = sandbox.shell("echo $TOKEN").await.unwrap();
        assert!(!out.stdout().trim().is_empty() && !out.stdout().contains("a hushed value"));
        assert_eq!(failure(sandbox.fork(1).await).failure().status(), Some(409));
        let forks = sandbox.fork(1).with_secrets(true).await.unwrap();
        assert_eq!(forks.len(), 1);
        let id = forks[0].id().to_owned();
        assert!(sandbox_exists(&id).await.unwrap());
        for fork in forks {
            fork.kill().await.unwrap();
        }
        sandbox.kill().await.unwrap();
    });
}
