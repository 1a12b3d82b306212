//! Sessions: their owner runs in the test, as a task.

use std::time::{Duration, Instant};

use lampyr_core::{
    Command, Control, CopyIn, CopyOut, Error, ExecRequest, Forward, Origin, OwnerReply, RunError,
    SessionClient, SessionRequest, SessionState, Stopped, own_session, session_id, sessions,
    stop_session,
};
use lampyr_types::{ErrorKind, NoProgress, SandboxId, Span};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::world::{Heard, Ran, World, in_time, text, until};

const GRACE: Duration = Duration::from_millis(300);

pub(crate) fn plain() -> SessionRequest {
    SessionRequest {
        name: None,
        origin: Origin::Image("tiny".parse().unwrap()),
        cpus: 1,
        memory: 256 << 20,
        disk_size: 1 << 30,
        env: Vec::new(),
        workdir: None,
        attached: false,
        ttl_ms: None,
        checkpoints: 0,
        crowd: false,
        forwards: Vec::new(),
        net: None,
        mounts: Vec::new(),
    }
}

fn named(name: &str) -> SessionRequest {
    SessionRequest { name: Some(name.parse().unwrap()), ..plain() }
}

pub(crate) fn sh(command: &str) -> ExecRequest {
    ExecRequest {
        command: Command::Shell(command.into()),
        env: Vec::new(),
        workdir: Some("/".into()),
        user: None,
        timeout: Some(Span::secs(50)),
        stdin: false,
        terminal: None,
    }
}

pub(crate) struct Owned {
    pub(crate) sid: String,
    owner: JoinHandle<()>,
}

/// Starts a session whose owner is a task.
pub(crate) async fn start(world: &World, request: SessionRequest) -> Result<Owned, Error> {
    let (tell, told) = oneshot::channel();
    let host = world.host.clone();
    let owner = tokio::spawn(async move {
        own_session(&host, &request, std::future::pending(), |started| tell.send(started).is_ok())
            .await;
    });
    let sid: SandboxId = in_time(told).await.unwrap()?;
    Ok(Owned { sid: sid.to_string(), owner })
}

pub(crate) async fn client(world: &World, sid: &str) -> SessionClient {
    SessionClient::connect(&world.home(), sid).await.unwrap()
}

pub(crate) async fn exec(client: &SessionClient, request: &ExecRequest) -> Ran {
    let (_nobody, controls) = mpsc::channel(1);
    let mut heard = Heard::default();
    let result = in_time(client.exec(request, &mut heard, controls)).await;
    Ran { result, out: text(heard.out), err: text(heard.err) }
}

async fn attach(client: &SessionClient, job: &str) -> Ran {
    let (_nobody, controls) = mpsc::channel(1);
    let mut heard = Heard::default();
    let result = in_time(client.attach(job, &mut heard, controls)).await;
    Ran { result, out: text(heard.out), err: text(heard.err) }
}

pub(crate) async fn end(world: &World, owned: Owned) {
    assert_eq!(stop_session(&world.home(), &owned.sid, GRACE).await.unwrap(), Stopped::Now);
    in_time(owned.owner).await.unwrap();
    assert_eq!(world.sandboxes(), 0);
}

fn kind(ran: &Ran) -> (ErrorKind, bool) {
    let error: &RunError = ran.result.as_ref().unwrap_err();
    (error.kind, error.started)
}

#[tokio::test]
async fn a_session_lives_from_its_start_to_its_stop() {
    let world = World::new().await;
    let request = SessionRequest { env: vec![("A".into(), "1".into())], ..named("one") };
    let owned = start(&world, request).await.unwrap();
    let listed = sessions(&world.home()).unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!(
        (listed[0].0.sid.to_string(), listed[0].1),
        (owned.sid.clone(), SessionState::Running)
    );

    let client = client(&world, "one").await;
    let ran = exec(&client, &sh("echo out $A; echo err >&2; exit 7")).await;
    assert_eq!((ran.code(), ran.out.as_str(), ran.err.as_str()), (7, "out 1\n", "err\n"));
    // Nothing is carried from one to the next, and what is asked for wins.
    let mut other = sh("echo $A$B");
    other.env = vec![("A".into(), "2".into())];
    assert_eq!(exec(&client, &sh("export B=3; cd /tmp")).await.code(), 0);
    assert_eq!(exec(&client, &other).await.out, "2\n");
    assert_eq!(client.vitals().await.unwrap().active_execs, 0);

    let sid = owned.sid.parse().ok();
    assert_eq!(session_id(&world.home(), "one"), sid);
    end(&world, owned).await;
    assert_eq!(session_id(&world.home(), "one"), sid);
    assert_eq!(session_id(&world.home(), "two"), None);
    assert!(sessions(&world.home()).unwrap().is_empty());
    let again = stop_session(&world.home(), "one", GRACE).await.unwrap();
    assert_eq!(again, Stopped::Before);
    let never = stop_session(&world.home(), "two", GRACE).await.unwrap_err();
    assert_eq!(never.to_string(), "session 'two' not found");
}

#[tokio::test]
async fn a_name_belongs_to_one_session_that_lives() {
    let world = World::new().await;
    let first = start(&world, named("it")).await.unwrap();
    let second = start(&world, named("it")).await.err().unwrap();
    assert!(matches!(second, Error::NameTaken(_)), "{second}");
    assert_eq!(world.sandboxes(), 1);
    end(&world, first).await;
    let third = start(&world, named("it")).await.unwrap();
    end(&world, third).await;
}

#[tokio::test]
async fn a_session_that_nobody_waited_for_ends() {
    let world = World::new().await;
    let request = plain();
    let owning = own_session(&world.host, &request, std::future::pending(), |_| false);
    Box::pin(in_time(owning)).await;
    assert_eq!(world.sandboxes(), 0);
}

#[tokio::test]
async fn many_commands_at_once_are_all_answered() {
    let world = World::new().await;
    let owned = start(&world, plain()).await.unwrap();
    let client = std::sync::Arc::new(client(&world, &owned.sid).await);
    let all: Vec<_> = (0..100)
        .map(|i| {
            let client = client.clone();
            tokio::spawn(async move { exec(&client, &sh(&format!("echo {i}; exit {i}"))).await })
        })
        .collect();
    for (i, one) in all.into_iter().enumerate() {
        let ran = in_time(one).await.unwrap();
        assert_eq!((ran.code() as usize, ran.out), (i, format!("{i}\n")));
    }
    end(&world, owned).await;
}

#[tokio::test]
async fn a_timeout_asks_first_and_keeps_what_was_said() {
    let world = World::new().await;
    let owned = start(&world, plain()).await.unwrap();
    let client = client(&world, &owned.sid).await;
    let limited = |command: &str| ExecRequest { timeout: Some(Span::millis(300)), ..sh(command) };
    let polite = exec(
        &client,
        &limited("trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.01; done"),
    )
    .await;
    assert_eq!(kind(&polite), (ErrorKind::Timeout, true));
    assert_eq!(polite.out, "up\nbye\n");
    let begun = Instant::now();
    let deaf = exec(&client, &limited("trap '' TERM; echo $$; while :; do sleep 0.01; done")).await;
    assert_eq!(kind(&deaf), (ErrorKind::Timeout, true));
    assert!(begun.elapsed() < Duration::from_secs(20));
    let pid = deaf.out.trim().to_owned();
    until(|| !std::path::Path::new(&format!("/proc/{pid}")).exists()).await;
    assert_eq!(exec(&client, &sh("echo on")).await.out, "on\n");
    end(&world, owned).await;
}

#[tokio::test]
async fn signals_reach_the_command() {
    let world = World::new().await;
    let owned = start(&world, plain()).await.unwrap();
    let client = client(&world, &owned.sid).await;
    let marker = world.at("up");
    let command =
        format!("trap 'echo int; exit 9' INT; echo > {marker}; while :; do sleep 0.01; done");
    let (to, controls) = mpsc::channel(1);
    let mut heard = Heard::default();
    let (request, signalled) = (sh(&command), async {
        until(|| std::path::Path::new(&marker).exists()).await;
        to.send(Control::Signal(2)).await.unwrap();
    });
    let (ran, ()) =
        in_time(async { tokio::join!(client.exec(&request, &mut heard, controls), signalled) })
            .await;
    assert_eq!((ran.unwrap().exit_code, text(heard.out).as_str()), (9, "int\n"));
    end(&world, owned).await;
}

#[tokio::test]
async fn a_command_ends_with_its_client() {
    let world = World::new().await;
    let owned = start(&world, plain()).await.unwrap();
    let marker = world.at("pid");
    let client = client(&world, &owned.sid).await;
    let request = sh(&format!("echo $$ > {marker}; exec sleep 60"));
    let path = marker.clone();
    tokio::select! {
        ran = exec(&client, &request) => panic!("{ran:?}"),
        () = until(|| std::fs::read_to_string(&path).is_ok_and(|t| t.ends_with('\n'))) => {}
    }
    drop(client);
    let pid = std::fs::read_to_string(&marker).unwrap().trim().to_owned();
    until(|| !std::path::Path::new(&format!("/proc/{pid}")).exists()).await;
    end(&world, owned).await;
}

#[tokio::test]
async fn a_job_outlives_its_client_and_is_heard_from_its_beginning() {
    let world = World::new().await;
    let owned = start(&world, plain()).await.unwrap();
    let gate = world.at("gate");
    let request =
        sh(&format!("echo one; until [ -e {gate} ]; do sleep 0.01; done; echo two >&2; exit 4"));
    let first = client(&world, &owned.sid).await;
    let job = first.start(&request, None).await.unwrap();
    drop(first);
    let second = client(&world, &owned.sid).await;
    std::fs::write(&gate, "").unwrap();
    for _ in 0..2 {
        let ran = attach(&second, &job).await;
        assert_eq!((ran.code(), ran.out.as_str(), ran.err.as_str()), (4, "one\n", "two\n"));
    }
    let limited = ExecRequest { timeout: Some(Span::millis(300)), ..sh("exec sleep 60") };
    let late = second.start(&limited, None).await.unwrap();
    for _ in 0..2 {
        let ran = attach(&second, &late).await;
        assert_eq!(kind(&ran), (ErrorKind::Timeout, true));
        assert!(ran.result.unwrap_err().duration >= Duration::from_millis(300));
    }
    assert_eq!(kind(&attach(&second, "j99").await), (ErrorKind::ConnectionFailed, false));
    end(&world, owned).await;
}

#[tokio::test]
async fn what_has_a_key_runs_once() {
    let world = World::new().await;
    let owned = start(&world, plain()).await.unwrap();
    let client = client(&world, &owned.sid).await;
    let file = world.at("count");
    let request = sh(&format!("echo x >> {file}; cat {file}"));
    for _ in 0..3 {
        let job = client.start(&request, Some("k")).await.unwrap();
        assert_eq!(attach(&client, &job).await.out, "x\n");
    }
    let other = client.start(&sh("true"), Some("k")).await.unwrap_err();
    assert_eq!(other.kind(), ErrorKind::Usage, "{other}");
    let second = client.start(&request, Some("k2")).await.unwrap();
    assert_eq!(attach(&client, &second).await.out, "x\nx\n");
    end(&world, owned).await;
}

#[tokio::test]
async fn a_stop_gives_what_runs_its_grace() {
    let world = World::new().await;
    let owned = start(&world, plain()).await.unwrap();
    let client = client(&world, &owned.sid).await;
    let marker = world.at("up");
    let polite =
        sh(&format!("trap 'echo bye; exit 0' TERM; echo > {marker}; while :; do sleep 0.01; done"));
    let (home, sid) = (world.home(), owned.sid.clone());
    let stopping = async {
        until(|| std::path::Path::new(&marker).exists()).await;
        stop_session(&home, &sid, Duration::from_secs(20)).await.unwrap()
    };
    let begun = Instant::now();
    let (ran, stopped) = tokio::join!(exec(&client, &polite), stopping);
    assert_eq!((ran.code(), ran.out.as_str(), stopped), (0, "bye\n", Stopped::Now));
    assert!(begun.elapsed() < Duration::from_secs(15));
    in_time(owned.owner).await.unwrap();
}

#[tokio::test]
async fn a_command_in_a_session_that_is_stopped_is_disconnected() {
    let world = World::new().await;
    let owned = start(&world, plain()).await.unwrap();
    let client = client(&world, &owned.sid).await;
    let marker = world.at("up");
    let deaf =
        sh(&format!("trap '' TERM; echo partial; echo > {marker}; while :; do sleep 0.01; done"));
    let (home, sid) = (world.home(), owned.sid.clone());
    let stopping = async {
        until(|| std::path::Path::new(&marker).exists()).await;
        stop_session(&home, &sid, Duration::from_millis(50)).await.unwrap()
    };
    let (ran, _) = tokio::join!(exec(&client, &deaf), stopping);
    assert_eq!(kind(&ran), (ErrorKind::SessionDisconnected, true));
    assert_eq!(ran.out, "partial\n");
    in_time(owned.owner).await.unwrap();
    assert_eq!(world.sandboxes(), 0);
}

#[tokio::test]
async fn a_machine_that_ends_is_a_crash_and_leaves_a_dead_session() {
    let world = World::new().await;
    let owned = start(&world, named("frail")).await.unwrap();
    let client = client(&world, "frail").await;
    // On the fake engine the machine is the parent of its commands.
    let ran = exec(&client, &sh("echo partial; kill -9 $PPID; sleep 60")).await;
    assert_eq!(kind(&ran), (ErrorKind::VmCrashed, true));
    in_time(owned.owner).await.unwrap();
    let listed = sessions(&world.home()).unwrap();
    assert_eq!((listed.len(), listed[0].1), (1, SessionState::Dead));
    let error = SessionClient::connect(&world.home(), "frail").await.err().unwrap();
    assert!(matches!(error, Error::DeadSession(..)), "{error}");
    let stopped = stop_session(&world.home(), "frail", GRACE).await.unwrap();
    assert_eq!((stopped, world.sandboxes()), (Stopped::Before, 0));
}

#[tokio::test]
async fn a_command_that_comes_behind_the_machine_s_end_hears_of_that() {
    let world = World::new().await;
    let (tell, told) = oneshot::channel();
    let host = world.host.clone();
    // The connections of an owner with a runtime of its own end with it.
    let owner = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let heard = |started: Result<SandboxId, Error>| tell.send(started).is_ok();
        runtime.block_on(own_session(&host, &plain(), std::future::pending(), heard));
    });
    let sid = in_time(told).await.unwrap().unwrap().to_string();
    let late = client(&world, &sid).await;
    let ran = exec(&client(&world, &sid).await, &sh("kill -9 $PPID; sleep 60")).await;
    assert_eq!(kind(&ran), (ErrorKind::VmCrashed, true));
    in_time(tokio::task::spawn_blocking(move || owner.join())).await.unwrap().unwrap();
    assert_eq!(kind(&exec(&late, &sh("true")).await), (ErrorKind::VmCrashed, true));
}

#[tokio::test]
async fn a_quiet_session_ends_after_its_ttl_and_no_sooner() {
    let world = World::new().await;
    let request = SessionRequest { ttl_ms: Some(400), ..plain() };
    let owned = start(&world, request).await.unwrap();
    let begun = Instant::now();
    let client = client(&world, &owned.sid).await;
    assert_eq!(exec(&client, &sh("sleep 1")).await.code(), 0);
    assert!(begun.elapsed() >= Duration::from_secs(1));
    in_time(owned.owner).await.unwrap();
    assert!(begun.elapsed() >= Duration::from_millis(1400));
    assert_eq!(world.sandboxes(), 0);
    let ended = SessionClient::connect(&world.home(), &owned.sid).await.err().unwrap();
    assert!(matches!(ended, Error::EndedSession(_)), "{ended}");
    assert!(ended.hint().unwrap().contains("session start"));
}

#[tokio::test]
async fn files_go_both_ways() {
    let world = World::new().await;
    let owned = start(&world, plain()).await.unwrap();
    let client = client(&world, &owned.sid).await;
    let (here, there, back) = (world.at("here"), world.at("there"), world.at("back"));
    std::fs::create_dir(&here).unwrap();
    std::fs::write(format!("{here}/file"), "content").unwrap();
    let copy = CopyIn { local: here.into(), remote: there.clone() };
    in_time(client.copy_in(&copy, &NoProgress)).await.unwrap();
    let copy = CopyOut { remote: there, local: back.clone().into() };
    in_time(client.copy_out(&copy, &NoProgress)).await.unwrap();
    assert_eq!(std::fs::read_to_string(format!("{back}/file")).unwrap(), "content");
    end(&world, owned).await;
}

#[tokio::test]
async fn a_forwarded_port_leads_into_the_session_until_it_ends() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let world = World::new().await;
    // On the fake engine the guest's loopback is this host's.
    let inside = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let guest = inside.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut peer, _)) = inside.accept().await {
            tokio::spawn(async move {
                let mut heard = Vec::new();
                peer.read_to_end(&mut heard).await.unwrap();
                heard.reverse();
                peer.write_all(&heard).await.unwrap();
            });
        }
    });
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let host = free.local_addr().unwrap().port();
    let request = || SessionRequest { forwards: vec![Forward { host, guest }], ..plain() };
    let taken = start(&world, request()).await.err().unwrap();
    assert!(matches!(taken, Error::Port { port, .. } if port == host), "{taken}");
    assert_eq!(world.sandboxes(), 0);
    drop(free);

    let owned = start(&world, request()).await.unwrap();
    for _ in 0..20 {
        let mut peer = tokio::net::TcpStream::connect(("127.0.0.1", host)).await.unwrap();
        let sent: Vec<u8> = (0..=255).cycle().take(300_000).collect();
        peer.write_all(&sent).await.unwrap();
        peer.shutdown().await.unwrap();
        let mut heard = Vec::new();
        in_time(peer.read_to_end(&mut heard)).await.unwrap();
        heard.reverse();
        assert!(heard == sent, "{} bytes came back", heard.len());
    }
    end(&world, owned).await;
    assert!(tokio::net::TcpStream::connect(("127.0.0.1", host)).await.is_err());
}

#[tokio::test]
async fn noise_on_the_socket_ends_the_connection_alone() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let world = World::new().await;
    let owned = start(&world, plain()).await.unwrap();
    let socket = world.home().join("sandboxes").join(&owned.sid).join("socket");
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&socket).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    let mut noise = tokio::net::UnixStream::connect(&socket).await.unwrap();
    let greeting = lampyr_proto::Greeting([7; 16]).to_bytes();
    noise.write_all(&greeting).await.unwrap();
    noise.write_all(&[0xff; 64]).await.unwrap();
    let mut heard = Vec::new();
    let _ = in_time(noise.read_to_end(&mut heard)).await;
    assert_eq!(heard, greeting);
    assert_eq!(exec(&client(&world, &owned.sid).await, &sh("echo on")).await.out, "on\n");
    end(&world, owned).await;
}

/// A session that remembers what it was before each of its last commands.
fn remembering() -> SessionRequest {
    SessionRequest { checkpoints: 3, ..plain() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_was_undone_hears_that_and_keeps_what_it_said() {
    let world = World::warm().await;
    let owned = start(&world, remembering()).await.unwrap();
    let client = client(&world, &owned.sid).await;
    let said = world.at("said");
    let job = client.start(&sh(&format!("echo said; touch {said}; sleep 100")), None).await;
    let job = job.unwrap();
    until(|| std::fs::exists(&said).unwrap()).await;
    in_time(client.undo(None)).await.unwrap();
    let ran = attach(&client, &job).await;
    assert_eq!((kind(&ran), ran.out.as_str()), ((ErrorKind::SessionDisconnected, true), "said\n"));
    assert!(ran.result.unwrap_err().message.contains("taken back"));
    end(&world, owned).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_asked_again_is_no_point_and_an_undone_one_is_asked_anew() {
    let world = World::warm().await;
    let owned = start(&world, remembering()).await.unwrap();
    let client = client(&world, &owned.sid).await;
    let keyed = async |key: &str| client.start(&sh("true"), Some(key)).await.unwrap();
    let points = async || client.log().await.unwrap().len();
    assert_eq!((keyed("a").await, keyed("a").await), ("j1".into(), "j1".into()));
    let (one, other) = tokio::join!(keyed("b"), keyed("b"));
    assert_eq!((one.as_str(), other.as_str(), points().await), ("j2", "j2", 2));
    let refused = client.start(&sh("false"), Some("a")).await.unwrap_err();
    assert_eq!((refused.kind(), points().await), (ErrorKind::Usage, 2));
    in_time(client.undo(None)).await.unwrap();
    assert_eq!((keyed("a").await, keyed("b").await), ("j1".into(), "j3".into()));
    end(&world, owned).await;
}

#[test]
fn who_knows_that_a_name_was_taken_meanwhile_is_told_so() {
    let taken = Error::NameTaken("it".parse().unwrap());
    let told = serde_json::to_string(&OwnerReply::from(Err(taken))).unwrap();
    let heard = Result::from(serde_json::from_str::<OwnerReply>(&told).unwrap());
    assert!(matches!(heard, Err(Error::NameTaken(name)) if name.as_str() == "it"));
}
