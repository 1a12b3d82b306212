//! How long a sandbox lives.

#![allow(clippy::unwrap_used, clippy::exit, reason = "these are tests")]

mod lab;

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use lab::{eventually, failure, fresh, gone, is_gone, on_vm, plain};
use lampyr_sdk::{
    Error, ErrorKind, LaunchOptions, Mount, RemoveOptions, Resources, RuntimeOptions,
    connect_to_sandbox, ensure_runtime, launch_sandbox, list_sandboxes, remove_sandbox,
    run_in_sandbox, sandbox_exists,
};

/// Says to a process of ours how it is to end, and what its sandbox is called.
const OWNER: &str = "LAMPYR_SDK_OWNER";
/// How long a process that only waits would wait.
const LONG: Duration = Duration::from_mins(10);

#[test]
#[ignore = "no test but the process that the others start, kill and watch"]
fn owner() {
    let Ok(said) = std::env::var(OWNER) else { return };
    let (end, name) = said.split_once(' ').unwrap();
    on_vm(async {
        let sandbox = launch_sandbox(LaunchOptions::new(name)).await.unwrap();
        sandbox.write_file("/root/kept", "still here").await.unwrap();
        if end == "detaches" {
            sandbox.detach().await.unwrap();
        }
        println!("\nup");
        match end {
            "exits" | "detaches" => std::process::exit(3),
            "aborts" => std::process::abort(),
            "waits" => tokio::time::sleep(LONG).await,
            other => panic!("{other}"),
        }
    });
}

/// A process of ours, whose sandbox is there.
fn owner_that(end: &str, name: &str) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["owner", "--exact", "--ignored", "--nocapture", "--test-threads=1"]);
    command.env(OWNER, format!("{end} {name}")).stderr(Stdio::null()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.map_while(Result::ok).any(|line| line == "up"), "it did not come up");
    child
}

#[test]
fn a_process_that_is_killed_takes_its_sandbox_along() {
    on_vm(async {
        let name = fresh("killed");
        let mut owner = owner_that("waits", &name);
        assert!(sandbox_exists(&name).await.unwrap());
        let server = children(owner.id());
        // By its own id: SIGKILL, of which it hears nothing.
        owner.kill().unwrap();
        owner.wait().unwrap();
        gone(&name).await;
        assert_eq!(server.len(), 1);
        let ended = async || !std::path::Path::new(&format!("/proc/{}", server[0])).exists();
        eventually("its server has ended", ended).await;
        assert!(list_sandboxes().await.unwrap().iter().all(|s| s.name.as_ref() != Some(&name)));
    });
}

#[test]
fn a_process_that_ends_otherwise_does_so_too() {
    on_vm(async {
        for end in ["exits", "aborts", "panics"] {
            let name = fresh(end);
            owner_that(end, &name).wait().unwrap();
            gone(&name).await;
        }
    });
}

#[test]
fn a_sandbox_that_was_detached_survives() {
    on_vm(async {
        let name = fresh("detached");
        assert_eq!(owner_that("detaches", &name).wait().unwrap().code(), Some(3));
        let sandbox = connect_to_sandbox(&name).await.unwrap();
        assert_eq!(sandbox.read_file("/root/kept").await.unwrap(), b"still here");
        assert_eq!((sandbox.name(), sandbox.info().attached), (name.as_str(), false));
        let listed = list_sandboxes().await.unwrap();
        let listed = listed.iter().find(|info| info.id == sandbox.id()).unwrap();
        assert!(listed.running);
        // A handle on somebody else's may go.
        drop(sandbox);
        let error = failure(remove_sandbox(&name, RemoveOptions::new()).await);
        assert_eq!((error.kind(), error.hint().is_some()), (ErrorKind::Usage, true));
        remove_sandbox(&name, RemoveOptions::new().force(true)).await.unwrap();
        assert!(is_gone(&failure(connect_to_sandbox(&name).await)));
        remove_sandbox(&name, RemoveOptions::new()).await.unwrap();
    });
}

/// The processes whose parent has this id.
fn children(parent: u32) -> Vec<u32> {
    let pids = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let of_parent = |pid: &u32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let rest = stat.rsplit_once(") ").map(|(_, rest)| rest.to_owned());
        rest.and_then(|rest| rest.split(' ').nth(1)?.parse().ok()) == Some(parent)
    };
    pids.filter(of_parent).collect()
}

#[test]
fn a_handle_that_is_dropped_stops_what_it_launched() {
    on_vm(async {
        let sandbox = plain().await;
        let name = sandbox.name().to_owned();
        let fork = sandbox.fork(1).await.unwrap().remove(0);
        let forked = fork.id().to_owned();
        drop((sandbox, fork));
        gone(&name).await;
        gone(&forked).await;

        let kept = plain().await;
        kept.detach().await.unwrap();
        let name = kept.name().to_owned();
        drop(kept);
        let again = connect_to_sandbox(&name).await.unwrap();
        assert_eq!(again.exec("true").await.unwrap().code(), 0);
        again.stop().await.unwrap();
        assert!(!sandbox_exists(&name).await.unwrap());
    });
}

#[test]
fn a_handle_may_be_dropped_where_there_is_no_runtime() {
    if lab::is_skipped() {
        return;
    }
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let first = runtime();
    let sandbox = first.block_on(plain());
    let name = sandbox.name().to_owned();
    drop(first);
    drop(sandbox);
    // The server outlives the runtime that it was started in.
    runtime().block_on(gone(&name));
}

#[test]
fn a_launch_that_nobody_waits_for_leaves_nothing() {
    on_vm(async {
        ensure_runtime(RuntimeOptions::new()).await.unwrap();
        let name = fresh("unwanted");
        let launch = launch_sandbox(LaunchOptions::new(&name));
        let seen = eventually("it is there", async || sandbox_exists(&name).await.unwrap());
        // It is seen before its launch is answered, or stopped when it is dropped.
        tokio::select! {
            launched = launch => drop(launched.unwrap()),
            () = seen => {}
        }
        gone(&name).await;
    });
}

#[test]
fn run_in_sandbox_stops_it_in_any_case() {
    on_vm(async {
        let name = fresh("run");
        let options = || LaunchOptions::new(&name);
        let code = run_in_sandbox(options(), async |sandbox| {
            Ok::<_, Error>(sandbox.shell("exit 7").await?.code())
        });
        assert_eq!(code.await.unwrap(), 7);
        assert!(!sandbox_exists(&name).await.unwrap());

        // An error of the caller's own.
        let failed: Result<(), Box<dyn std::error::Error>> =
            run_in_sandbox(options(), async |_| Err("no luck".into())).await;
        assert_eq!(failed.unwrap_err().to_string(), "no luck");
        assert!(!sandbox_exists(&name).await.unwrap());

        let options = options();
        let panicked = tokio::spawn(async {
            run_in_sandbox::<(), Error>(options, async |_| panic!("as it must")).await
        });
        assert!(panicked.await.unwrap_err().is_panic());
        gone(&name).await;
    });
}

#[test]
fn a_name_is_taken_over_or_refused() {
    on_vm(async {
        let name = fresh("name");
        let first = launch_sandbox(LaunchOptions::new(&name)).await.unwrap();
        let refused = launch_sandbox(LaunchOptions::new(&name).overwrite(false)).await;
        assert_eq!(failure(refused).failure().status(), Some(409));
        let second = launch_sandbox(LaunchOptions::new(&name)).await.unwrap();
        assert_ne!(first.id(), second.id());
        failure(first.exec("true").await);
        first.stop().await.unwrap();
        assert_eq!(second.exec("true").await.unwrap().code(), 0);
    });
}

#[test]
fn a_sandbox_is_launched_as_it_was_asked_for() {
    on_vm(async {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("file"), "from the host").unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let options = LaunchOptions::new(fresh("asked"))
            .resources(Resources::new().cpus(1).memory("256M"))
            .workdir("/usr/lib")
            .env("WORD", "said")
            .port(port, 8000)
            .ttl(LONG)
            .mount("/ro", Mount::directory(folder.path()).readonly())
            .mount("/rw", Mount::directory(folder.path()));
        let sandbox = launch_sandbox(options).await.unwrap();
        let info = sandbox.inspect().await.unwrap();
        assert_eq!((info.cpus, info.memory, info.attached), (1, 256 << 20, true));
        let script = "pwd; nproc; echo $WORD; cat /ro/file; touch /ro/x || echo made > /rw/made";
        let out = sandbox.shell(script).await.unwrap();
        assert_eq!(out.stdout(), "/usr/lib\n1\nsaid\nfrom the host");
        assert_eq!(std::fs::read(folder.path().join("made")).unwrap(), b"made\n");

        let server = sandbox.exec("python3").args(["-c", SERVE]).stream();
        let mut server = server.await.unwrap();
        server.recv().await.unwrap();
        let said = tokio::task::spawn_blocking(move || {
            let mut client = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
            client.set_read_timeout(Some(LONG)).unwrap();
            let mut said = [0; 5];
            client.read_exact(&mut said).map(|()| said)
        });
        assert_eq!(said.await.unwrap().unwrap(), *b"hello");
        assert_eq!(server.wait().await.unwrap(), 0);
    });
}

const SERVE: &str = "
import socket
server = socket.create_server(('127.0.0.1', 8000))
print('ready', flush=True)
server.accept()[0].sendall(b'hello')
";

#[test]
fn an_error_says_what_is_not_there() {
    on_vm(async {
        let name = fresh("nobody");
        let error = failure(connect_to_sandbox(&name).await);
        assert_eq!(error.kind(), ErrorKind::ConnectionFailed);
        assert!(error.message().contains(&name), "{error}");
        assert!(error.hint().is_some());
        let error = failure(connect_to_sandbox("no/name").await);
        assert_eq!((error.kind(), error.failure().status()), (ErrorKind::Usage, Some(404)));
        let options = LaunchOptions::new(&name).resources(Resources::new().memory("many"));
        let error = failure(launch_sandbox(options).await);
        assert_eq!(error.kind(), ErrorKind::Usage);
        assert!(error.message().starts_with("memory: "), "{error}");
        let options = LaunchOptions::new(&name).snapshot("no-such-snapshot");
        assert_eq!(failure(launch_sandbox(options).await).failure().status(), Some(404));
    });
}
