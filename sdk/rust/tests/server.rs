//! The server of this process, in a file of its own: what happens to it concerns
//! every test in the same process.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "these are tests")]

mod lab;

use lab::{eventually, failure, fresh, gone, on_vm};
use lampyr_sdk::{
    ErrorKind, LaunchOptions, RuntimeOptions, ensure_runtime, launch_sandbox, sandbox_exists,
};

/// The server's process: the one that owns nothing else of ours.
fn server() -> u32 {
    let children = format!("/proc/self/task/{}/children", std::process::id());
    let mine = std::fs::read_to_string(children).unwrap_or_default();
    let tasks = std::fs::read_dir("/proc/self/task").unwrap().flatten();
    let all = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
    let all = all.collect::<String>() + &mine;
    all.split_whitespace().next().expect("there is no server").parse().unwrap()
}

#[test]
fn a_server_that_dies_is_told_of_and_the_next_call_has_another() {
    on_vm(async {
        let error = failure(ensure_runtime(RuntimeOptions::new().bin("/no/lampyr")).await);
        assert_eq!(error.kind(), ErrorKind::ConnectionFailed);

        let runtime = ensure_runtime(RuntimeOptions::new()).await.unwrap();
        assert!(!runtime.version.is_empty());
        let error = failure(ensure_runtime(RuntimeOptions::new().home("/elsewhere")).await);
        assert_eq!(error.kind(), ErrorKind::Usage);
        assert_eq!(ensure_runtime(RuntimeOptions::new()).await.unwrap(), runtime);

        let name = fresh("orphan");
        let sandbox = launch_sandbox(LaunchOptions::new(&name)).await.unwrap();
        let mut stream = sandbox.shell("echo up; exec sleep 600").stream().await.unwrap();
        stream.recv().await.unwrap();
        let pid = server();
        rustix::process::kill_process(
            rustix::process::Pid::from_raw(pid.cast_signed()).unwrap(),
            rustix::process::Signal::KILL,
        )
        .unwrap();
        let error = failure(stream.wait().await);
        assert_eq!(error.kind(), ErrorKind::ConnectionFailed);
        let next = async || ensure_runtime(RuntimeOptions::new()).await.is_ok();
        eventually("there is another", next).await;
        // Its sandboxes end by themselves.
        gone(&name).await;
        assert_ne!(server(), pid);
        let error = failure(sandbox.exec("true").await);
        assert!(error.failure().status().is_some(), "{error:?}");
        let next = launch_sandbox(LaunchOptions::new(&name)).await.unwrap();
        assert_eq!(next.exec("true").await.unwrap().code(), 0);
        drop(sandbox);
        eventually("the next one stays", async || sandbox_exists(&name).await.unwrap()).await;
        next.stop().await.unwrap();
    });
}
