//! Pools on real machines: what a user sees of them, and what they leave.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use lampyr_e2e::lab::in_lab;
use lampyr_e2e::{Call, Process, TestContext, entries, eventually, rows};
use serde_json::Value;

/// A member is there in half a second; the rest is for a busy host.
const REFILL: Duration = Duration::from_mins(1);
/// What tells one machine from another.
const WHO: &str = "hostname; cat /etc/machine-id";

/// A server that says what it heard.
const HEAR: &str = r#"import socket; c=socket.create_server(("127.0.0.1",7000)).accept()[0]; print(c.recv(9).decode())"#;

/// A pool that ends with its test.
struct Pool<'a> {
    context: &'a TestContext,
    id: String,
}

impl<'a> Pool<'a> {
    /// Starts a pool and waits until it is full.
    fn start(context: &'a TestContext, size: u64, flags: &[&str]) -> Self {
        let size_text = size.to_string();
        let words = ["pool", "start", "--size", &size_text];
        let started = context.lampyr(words.iter().chain(flags)).finish();
        assert_eq!(started.status(), Some(0), "{started:?}");
        let printed: Value = serde_json::from_str(&started.stdout()).unwrap();
        let pool = Self { context, id: printed["id"].as_str().unwrap().to_owned() };
        assert!(pool.row().unwrap()["ready"].as_u64().unwrap() >= 1);
        pool.full(size);
        pool
    }

    /// Its row in `pool list`.
    fn row(&self) -> Option<Value> {
        rows(self.context, &["pool", "list"]).into_iter().find(|row| row["id"] == self.id)
    }

    fn full(&self, size: u64) {
        let deadline = Instant::now() + REFILL;
        while self.row().unwrap()["ready"] != size {
            assert!(Instant::now() < deadline, "the pool does not get full: {:?}", self.row());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn keeper(&self) -> Process {
        let file = self.context.home().join("pools").join(&self.id).join("pool.json");
        let record: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
        Process::find(record["pid"].as_i64().unwrap() as i32).expect("the keeper lives")
    }

    fn stop(&self) -> Value {
        let stopped = self.context.lampyr(["pool", "stop", &self.id]).finish();
        assert_eq!(stopped.status(), Some(0), "{stopped:?}");
        serde_json::from_str(&stopped.stdout()).unwrap()
    }
}

impl Drop for Pool<'_> {
    fn drop(&mut self) {
        let _ = self.context.lampyr(["pool", "stop", &self.id]).finish();
    }
}

/// The host names of the members that wait.
fn members(context: &TestContext) -> Vec<String> {
    let marks = entries(&context.home().join("members")).into_iter();
    let name = |mark: std::path::PathBuf| {
        let id = mark.extension().unwrap().to_str().unwrap().to_owned();
        format!("lampyr-{}", &id[..8])
    };
    marks.map(name).collect()
}

fn host_name(said: &str) -> String {
    said.lines().next().unwrap().to_owned()
}

#[test]
fn a_claimed_machine_sees_what_is_mounted() {
    let (own, dir) = (TestContext::own(), tempfile::tempdir().unwrap());
    let pool = Pool::start(&own, 1, &[]);
    let waiting = members(&own);
    let place = format!("{}:/m", dir.path().display());
    let said = own.run("hostname | tee /m/name").args(["--mount", &place]).envelope();
    assert!(waiting.contains(&said.success().trim().to_owned()), "{waiting:?} {said:?}");
    assert_eq!(std::fs::read_to_string(dir.path().join("name")).unwrap(), said.success());
    pool.stop();
}

/// Builds the snapshot `made`, whose VMs have a network card.
fn build(own: &TestContext, what: &str) {
    let config = serde_json::json!({
        "name": "made", "image": "default", "resources": {"memory": "256M"},
        "net": ["good.example.com"], "setup": [format!("echo {what} > /root/what")],
    });
    let file = own.home().join("made.json");
    std::fs::write(&file, config.to_string()).unwrap();
    let built = own.lampyr(["snapshot", "build", file.to_str().unwrap()]).finish();
    assert_eq!(built.status(), Some(0), "{built:?}");
}

#[test]
fn a_pool_of_a_snapshot_has_its_card_and_follows_it() {
    const LOOK: &str = "hostname; cat /root/what; python3 -c 'import socket; \
        socket.create_connection((\"good.example.com\", 80), 5); print(\"reached\")' 2>/dev/null";
    in_lab("a_pool_of_a_snapshot_has_its_card_and_follows_it", |_| {
        let own = TestContext::fresh();
        build(&own, "one");
        let pool = Pool::start(&own, 1, &["--snapshot", "made"]);
        let look = |flags: &[&str]| {
            pool.full(1);
            let waiting = members(&own);
            let words = ["run", "--snapshot", "made"].into_iter().chain(flags.iter().copied());
            let said = own.lampyr(words.chain([LOOK])).envelope();
            let (who, what) = said.text("stdout").split_once('\n').unwrap();
            assert_eq!(waiting, [who], "{said:?}");
            (what.to_owned(), said["meta"]["denied"][0]["host"].clone())
        };
        assert_eq!(look(&[]), ("one\n".into(), "good.example.com".into()));
        let open = ["--net", "allow=good.example.com:80"];
        assert_eq!(look(&open), ("one\nreached\n".into(), Value::Null));
        pool.full(1);
        let before = members(&own);
        build(&own, "two");
        let other = |now: Vec<String>| !now.is_empty() && now != before;
        eventually("the pool keeps what nobody wants", || other(members(&own)));
        assert_eq!(look(&[]).0, "two\n");
        pool.stop();
    });
}

#[test]
fn a_run_takes_a_member_and_the_keeper_makes_another() {
    let own = TestContext::own();
    assert!(rows(&own, &["pool", "list"]).is_empty());
    let pool = Pool::start(&own, 1, &["--memory", "512MB"]);
    let row = pool.row().unwrap();
    assert_eq!((&row["size"], &row["memory"]), (&1.into(), &(512_u64 << 20).into()));
    assert!(rows(&own, &["session", "list"]).is_empty() && rows(&own, &["ps"]).is_empty());

    let waiting = members(&own);
    let like = |command: &str| own.lampyr(["run", "--memory", "512MB", command]);
    let ran = like(WHO).envelope();
    assert_eq!(vec![host_name(ran.success())], waiting);
    pool.full(1);
    assert_ne!(members(&own), waiting);

    // Its clock is the host's, its randomness its own, whatever it slept.
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let clock: u64 = like("date +%s").envelope().success().trim().parse().unwrap();
    assert!(clock.abs_diff(now.as_secs()) < 10, "{clock}");
    // A machine of another kind is none of the pool's.
    pool.full(1);
    let waiting = members(&own);
    let other = own.run(WHO).envelope();
    assert!(!waiting.contains(&host_name(other.success())));
    assert_eq!(members(&own), waiting);

    assert_eq!(pool.stop(), serde_json::json!({"stopped": pool.id, "confirmed": true}));
    assert_eq!(pool.stop()["note"], "already stopped");
    assert!(members(&own).is_empty() && rows(&own, &["pool", "list"]).is_empty());
    own.assert_tidy();
}

#[test]
fn runs_at_once_never_share_a_member() {
    let own = TestContext::own();
    let pool = Pool::start(&own, 2, &[]);
    let waiting = members(&own);
    // Each leaves a file and stays until the others have had the time to see it.
    let command = format!(
        "{WHO}; head -c 8 /dev/urandom | od -An -tx8; ls /tmp; touch /tmp/mine; sleep 1; ls /tmp"
    );
    let live: Vec<_> = (0..3).map(|_| own.run(&command).start()).collect();
    let said: Vec<_> = live.into_iter().map(|live| live.finish().envelope()).collect();
    let lines: Vec<Vec<_>> = said.iter().map(|said| said.success().lines().collect()).collect();
    for part in 0..3 {
        let mut parts: Vec<_> = lines.iter().map(|lines| lines[part]).collect();
        parts.sort_unstable();
        parts.dedup();
        assert_eq!(parts.len(), 3, "{lines:?}");
    }
    // The file of another would stand in the first list.
    assert!(lines.iter().all(|lines| lines[3..] == ["mine"]), "{lines:?}");
    let taken = waiting.iter().filter(|name| lines.iter().any(|lines| lines[0] == **name));
    assert_eq!(taken.count(), 2, "{waiting:?} {lines:?}");
    drop(pool);
    own.assert_tidy();
}

#[test]
fn files_input_and_ports_work_in_a_member_as_in_any_run() {
    let own = TestContext::own();
    let pool = Pool::start(&own, 1, &[]);
    let waiting = members(&own);
    let dir = tempfile::tempdir().unwrap();
    let (here, back) = (dir.path().join("here"), dir.path().join("back"));
    std::fs::write(&here, "copied\n").unwrap();
    let words = [
        "run".to_owned(),
        format!("--copy={}:/in", here.display()),
        format!("--download=/out:{}", back.display()),
        "-eA=b".to_owned(),
        "hostname >/out; cat /in; echo $A; cat".to_owned(),
    ];
    let ran = own.lampyr(words).stdin("piped\n").envelope();
    assert_eq!(ran.success(), "copied\nb\npiped\n");
    assert_eq!(vec![host_name(&std::fs::read_to_string(back).unwrap())], waiting);

    pool.full(1);
    let waiting = members(&own);
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let forward = format!("--forward={port}:7000");
    let live = own.lampyr(["run", &forward, "--", "python3", "-c", HEAR]).start();
    eventually("nobody is claimed", || members(&own) != waiting);
    // Until the server is up, connections are closed at once.
    while live.process().is_some() {
        if let Ok(mut peer) = TcpStream::connect(("127.0.0.1", port)) {
            let _ = peer.write_all(b"hello").and_then(|()| peer.shutdown(Shutdown::Write));
            let _ = peer.read_to_end(&mut Vec::new());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(live.finish().envelope().success(), "hello\n");
    drop(pool);
    own.assert_tidy();
}

#[test]
fn a_killed_keeper_takes_the_waiting_with_it_and_not_the_claimed() {
    let own = TestContext::own();
    let pool = Pool::start(&own, 2, &[]);
    let keeper = pool.keeper();
    let owners = keeper.children();
    let machines: Vec<_> = owners.iter().flat_map(|owner| owner.children()).collect();
    assert_eq!((owners.len(), machines.len()), (2, 2));
    let live = own.run("echo up; sleep 3; echo on").start();
    eventually("nobody is claimed", || members(&own).len() < 2);
    keeper.signal(libc::SIGKILL);
    eventually("the pool is listed", || rows(&own, &["pool", "list"]).is_empty());
    eventually("a member waits on", || members(&own).is_empty());
    assert_eq!(live.finish().envelope().success(), "up\non\n");
    eventually("a machine lives", || !machines.iter().any(|machine| machine.is_alive()));
    assert_eq!(pool.stop()["note"], "already stopped");
    own.assert_nothing_left();
    assert!(entries(&own.home().join("pools")).is_empty());
}

#[test]
fn a_killed_claimant_leaves_nothing() {
    let own = TestContext::own();
    let pool = Pool::start(&own, 1, &[]);
    let machine = pool.keeper().children()[0].children()[0];
    let live = own.run("sleep 60").start();
    eventually("nobody is claimed", || members(&own).is_empty());
    live.signal(libc::SIGKILL);
    drop(live);
    eventually("the machine lives", || !machine.is_alive());
    pool.full(1);
    pool.stop();
    own.assert_tidy();
}

#[test]
fn a_member_that_dies_is_replaced_and_a_claimed_one_is_a_crash() {
    let own = TestContext::own();
    let pool = Pool::start(&own, 1, &[]);
    let owner = |pool: &Pool<'_>| pool.keeper().children()[0];
    // Where the owner itself dies, nobody tidies up but the keeper.
    for dies in [|owner: Process| owner.children()[0], |owner| owner] {
        let (victim, waiting) = (dies(owner(&pool)), members(&own));
        victim.signal(libc::SIGKILL);
        eventually("it lives", || !victim.is_alive());
        eventually("it is known yet", || members(&own) != waiting);
        pool.full(1);
    }
    let machine = owner(&pool).children()[0];
    let live = own.run("echo part; sleep 60").start();
    eventually("nobody is claimed", || members(&own).is_empty());
    std::thread::sleep(Duration::from_millis(500));
    machine.signal(libc::SIGKILL);
    let envelope = live.finish().envelope();
    envelope.error("vm_crashed");
    assert_eq!(envelope.text("partial_stdout"), "part\n");
    pool.stop();
    own.assert_tidy();
}

#[test]
fn a_pool_that_nobody_wants_ends_by_itself_and_all_end_at_once() {
    let own = TestContext::own();
    let quiet = Pool::start(&own, 1, &["--ttl", "3s"]);
    let deadline = Instant::now() + Duration::from_secs(20);
    while quiet.row().is_some() {
        assert!(Instant::now() < deadline, "the pool does not end");
        std::thread::sleep(Duration::from_millis(100));
    }
    own.assert_tidy();
    let (_one, _two) = (Pool::start(&own, 1, &[]), Pool::start(&own, 1, &["--cpus", "1"]));
    assert_eq!(rows(&own, &["pool", "stop", "--all"]).len(), 2);
    assert!(rows(&own, &["pool", "list"]).is_empty());
    own.assert_tidy();
}

/// The rows of a batch, in the order of their numbers.
fn batch(call: Call) -> Vec<Value> {
    let ran = call.within(Duration::from_mins(2)).finish();
    assert_eq!(ran.status(), Some(0), "{ran:?}");
    let read = |line: &str| serde_json::from_str::<Value>(line).unwrap();
    let mut rows: Vec<_> = ran.stdout().lines().map(read).collect();
    rows.sort_by_key(|row| row["run"].as_u64());
    rows
}

#[test]
fn a_batch_has_a_row_and_a_machine_for_each_run() {
    let own = TestContext::own();
    let command = "hostname; echo err >&2; ls /tmp; touch /tmp/mine; exit 3";
    let words = ["pool", "run", "--count", "6", "--concurrency", "2", "--size", "2", command];
    let rows = batch(own.lampyr(words));
    assert_eq!(rows.len(), 6);
    let mut names = Vec::new();
    for (at, row) in rows.iter().enumerate() {
        let keys: Vec<_> = row.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(keys, ["duration_ms", "exit_code", "meta", "run", "stderr", "stdout"]);
        assert_eq!((&row["run"], &row["exit_code"]), (&(at + 1).into(), &3.into()));
        assert_eq!(row["stderr"], "err\n");
        let said = row["stdout"].as_str().unwrap();
        assert_eq!(said.lines().count(), 1, "a file of another run: {said}");
        names.push(said.to_owned());
    }
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 6);
    own.assert_tidy();
}

#[test]
fn a_batch_numbers_its_downloads_and_tells_errors_as_rows() {
    let own = TestContext::own();
    let dir = tempfile::tempdir().unwrap();
    let download = format!("/out:{}/out-{{run}}", dir.path().display());
    let words = ["pool", "run", "--count", "2", "--download", &download, "hostname >/out"];
    assert_eq!(batch(own.lampyr(words)).len(), 2);
    let read = |run| std::fs::read_to_string(dir.path().join(format!("out-{run}"))).unwrap();
    assert_ne!(read(1), read(2));

    let words = ["pool", "run", "--count", "2", "--timeout", "300ms", "echo part; sleep 60"];
    let late = own.lampyr(words).finish();
    assert_eq!((late.status(), late.stdout().lines().count()), (Some(1), 2), "{late:?}");
    for line in late.stdout().lines() {
        let row: Value = serde_json::from_str(line).unwrap();
        assert_eq!((&row["error"], &row["partial_stdout"]), (&"timeout".into(), &"part\n".into()));
    }
    own.assert_tidy();
}

#[test]
fn an_interrupted_batch_leaves_nothing() {
    let own = TestContext::own();
    for signal in [libc::SIGINT, libc::SIGKILL] {
        let words = ["pool", "run", "--count", "9", "--concurrency", "2", "sleep 60"];
        let mut live = own.lampyr(words).start();
        live.machine().expect("it starts a machine");
        std::thread::sleep(Duration::from_millis(700));
        live.signal(signal);
        let ended = live.finish();
        if signal == libc::SIGINT {
            assert_eq!(ended.status(), Some(130), "{ended:?}");
            own.assert_tidy();
        }
        own.assert_nothing_left();
    }
}

#[test]
fn what_makes_no_sense_starts_nothing() {
    let own = TestContext::own();
    for (words, reason) in [
        (&["pool", "start"][..], "--size"),
        (&["pool", "start", "--size", "0"], "'0'"),
        (&["pool", "start", "--size", "many"], "'many'"),
        (&["pool", "start", "--size", "1", "--ttl", "soon"], "soon"),
        (&["pool", "start", "--size", "1", "--memory", "1MB"], "too small"),
        (&["pool", "start", "--size", "1", "--forward", "1:2"], "--forward"),
        (&["pool", "stop"], "one pool or --all"),
        (&["pool", "stop", "x", "--all"], "--all"),
        (&["pool", "run"], "no command"),
        (&["pool", "run", " "], "empty"),
        (&["pool", "run", "--count", "0", "true"], "'0'"),
        (&["pool", "run", "--concurrency", "0", "true"], "'0'"),
        (&["pool", "run", "--pty", "true"], "--pty"),
        (&["pool", "run", "--forward", "1:2", "true"], "share the port"),
        (&["pool", "run", "--count", "2", "--download", "/a:b", "true"], "one place"),
    ] {
        let refused = own.lampyr(words).finish();
        assert_eq!(refused.status(), Some(2), "{words:?}: {refused:?}");
        let said = refused.stderr();
        assert!(said.starts_with("error: ") && said.contains("\nhint: "), "{refused:?}");
        assert!(said.contains(reason) && refused.stdout.is_empty(), "{words:?}: {refused:?}");
    }
    for (words, reason) in [
        (&["pool", "start", "--size", "1", "--image", "none"][..], "none"),
        (&["pool", "stop", "nobody"], "pool 'nobody' not found"),
    ] {
        let failed = own.lampyr(words).finish();
        assert_eq!(failed.status(), Some(1), "{failed:?}");
        assert!(failed.stderr().contains(reason) && failed.stdout.is_empty(), "{failed:?}");
    }
    own.assert_tidy();
    assert!(entries(&own.home().join("pools")).is_empty());
}
