//! `lampyr serve` on real VMs.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use lampyr_e2e::{Process, Served, TestContext, eventually, rows, send};
use serde_json::{Value, json};
use tungstenite::{Message, WebSocket};

/// A server on a private socket that ends with its test.
fn serve(context: &TestContext) -> Served {
    Served::start(context, &["--parent"])
}

fn owner(sandbox: &Value) -> Process {
    Process::find(i32::try_from(sandbox["pid"].as_i64().unwrap()).unwrap()).unwrap()
}

fn fork(server: &Served, sandbox: &Value, detached: bool) -> Value {
    let path = format!("/v1/sandboxes/{}/fork", sandbox["id"].as_str().unwrap());
    let (status, forked) = server.json("POST", &path, &json!({"detached": detached}));
    assert_eq!(status, 201, "{forked}");
    forked["sandboxes"][0].clone()
}

fn name(what: &str) -> String {
    format!("{what}-{}", std::process::id())
}

#[test]
fn a_sandbox_is_as_it_was_asked_for_or_not_at_all() {
    let context = TestContext::shared();
    let server = serve(&context);
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("seen"), "here").unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let name = name("serve-one");
    let asked = json!({
        "name": name, "ports": {port.to_string(): 7000}, "ttl": "10m",
        "mounts": {"/src": {"directory": dir.path(), "readonly": true}},
        "policy": {"rules": ["example.com:443"]},
    });
    let first = server.sandbox(asked.clone());
    let path = format!("/v1/sandboxes/{name}/exec");
    let seen = server.json(
        "POST",
        &path,
        &json!({"command": "cat /src/seen; touch /src/x || ls /sys/class/net"}),
    );
    let said = seen.1["stdout"].as_str().unwrap();
    assert!(said.starts_with("here") && said.contains("eth0"), "{said}");
    let (status, _) =
        server.json("PUT", &format!("/v1/sandboxes/{name}/policy"), &json!({"rules": []}));
    assert_eq!(status, 204);
    assert!(std::net::TcpListener::bind(("127.0.0.1", port)).is_err(), "the port is taken");
    // Another of the same name takes its place, unless that is not wanted.
    let mut kept = asked.clone();
    kept["overwrite"] = false.into();
    assert_eq!(server.json("POST", "/v1/sandboxes", &kept).0, 409);
    let second = server.sandbox(asked);
    assert_ne!(first["id"], second["id"]);
    let (status, _) = server.get(&format!("/v1/sandboxes/{}", first["id"].as_str().unwrap()));
    assert_eq!(status, 410);
    let bad = [
        json!({"cpus": 0}),
        json!({"cpus": 100_000}),
        json!({"memory": "1M"}),
        json!({"memory": 7}),
        json!({"disk_size": "1K"}),
        json!({"name": "A b"}),
        json!({"image": "A b"}),
        json!({"ports": {"0": 1}}),
        json!({"ports": {"70000": 1}}),
        json!({"mounts": {"/": "/tmp"}}),
        json!({"mounts": {"/a": "tmp"}}),
        json!({"mounts": {"/a": "/none/such"}}),
        json!({"mounts": {"/a": {"volume": "../x"}}}),
        json!({"mounts": {"/a": {}}}),
        json!({"mounts": {"/a": "/tmp", "/a/": "/tmp"}}),
        json!({"net": "all"}),
        json!({"ttl": "x"}),
        json!({"net": "public", "policy": {"rules": []}}),
        json!({"workdir": "x"}),
        json!({"x": 1}),
        json!({"name": first["id"]}),
    ];
    for bad in bad {
        let (status, told) = server.json("POST", "/v1/sandboxes", &bad);
        assert_eq!((status, &told["error"]), (400, &json!("usage")), "{bad}: {told}");
    }
    // Whatever is not there is said before the earlier one is stopped.
    let image = json!({"image": "no-such-image", "name": name});
    let (status, told) = server.json("POST", "/v1/sandboxes", &image);
    assert_eq!(status, 404, "{told}");
    let (status, _) = server.get(&format!("/v1/sandboxes/{}", second["id"].as_str().unwrap()));
    assert_eq!(status, 200);
}

#[test]
fn a_job_that_was_undone_is_told_with_what_it_said() {
    let context = TestContext::shared();
    let server = serve(&context);
    let sandbox = server.sandbox(json!({"checkpoints": 3}));
    let path = |of: &str| format!("/v1/sandboxes/{}/{of}", sandbox["id"].as_str().unwrap());
    let command = "echo said; touch /dev/shm/said; sleep 100";
    let job = server.json("POST", &path("exec"), &json!({"command": command, "detach": true}));
    assert_eq!((job.0, &job.1["job"]), (202, &json!("j1")));
    let wait = json!({"command": "until [ -e /dev/shm/said ]; do sleep 0.05; done"});
    assert_eq!(server.json("POST", &path("exec"), &wait).1["exit_code"], 0);
    assert_eq!(server.json("POST", &path("undo"), &json!({"to": 1})).0, 200);
    let (status, told) = server.get(&path("jobs/j1"));
    let undone = (200, &json!("session_disconnected"), &json!("said\n"));
    assert_eq!((status, &told["error"], &told["partial_stdout"]), undone, "{told}");
}

#[test]
fn of_two_who_take_a_name_at_once_one_hears_that_it_is_taken() {
    let context = TestContext::shared();
    let server = serve(&context);
    let asked = json!({"name": name("serve-twice")});
    let start = || server.json("POST", "/v1/sandboxes", &asked);
    let both = std::thread::scope(|scope| {
        [(); 2].map(|()| scope.spawn(start)).map(|one| one.join().unwrap())
    });
    let lost = both.iter().find(|(status, _)| *status != 201);
    let (status, told) = lost.expect("one of them is there, and the other in its way");
    assert_eq!((*status, &told["error"]), (409, &json!("usage")), "{told}");
}

/// A WebSocket to a command in a sandbox, which was told what to run.
fn socket(
    server: &Served,
    sandbox: &Value,
    asked: &Value,
) -> WebSocket<Box<dyn lampyr_e2e::Connection>> {
    let id = sandbox["id"].as_str().unwrap();
    let url = format!("ws://localhost/v1/sandboxes/{id}/exec/ws");
    let Ok((mut socket, _)) = tungstenite::client(url, server.connect()) else {
        panic!("there is no WebSocket");
    };
    socket.send(Message::Text(asked.to_string().into())).unwrap();
    socket
}

/// Hears output until `text` was in it.
fn hear(socket: &mut WebSocket<Box<dyn lampyr_e2e::Connection>>, text: &str) -> String {
    let mut heard = String::new();
    while !heard.contains(text) {
        match socket.read().unwrap() {
            Message::Binary(bytes) => {
                assert!([1, 2].contains(&bytes[0]));
                heard += &String::from_utf8_lossy(&bytes[1..]);
            }
            Message::Text(end) => panic!("it ended with {end} after {heard:?}"),
            _ => {}
        }
    }
    heard
}

/// Hears how it ended.
fn end(socket: &mut WebSocket<Box<dyn lampyr_e2e::Connection>>) -> Value {
    loop {
        if let Message::Text(text) = socket.read().unwrap() {
            return serde_json::from_str(&text).unwrap();
        }
    }
}

#[test]
fn a_websocket_is_a_terminal_and_a_stream() {
    let context = TestContext::shared();
    let server = serve(&context);
    let sandbox = server.sandbox(json!({}));
    let asked = json!({"argv": ["sh"], "tty": {"rows": 30, "columns": 100}});
    let mut terminal = socket(&server, &sandbox, &asked);
    let say = |socket: &mut WebSocket<_>, text: &str| {
        socket.send(Message::Binary(text.as_bytes().to_vec().into())).unwrap();
    };
    say(&mut terminal, "stty size; echo $TERM\n");
    hear(&mut terminal, "30 100");
    hear(&mut terminal, "xterm-256color");
    let resize = r#"{"type":"resize","rows":40,"columns":120}"#;
    terminal.send(Message::Text(resize.into())).unwrap();
    say(&mut terminal, "stty size\n");
    hear(&mut terminal, "40 120");
    say(&mut terminal, "exit 6\n");
    assert_eq!(end(&mut terminal)["exit_code"], 6);

    let mut stream = socket(&server, &sandbox, &json!({"command": "cat; echo err >&2; exit 7"}));
    say(&mut stream, "some\n");
    hear(&mut stream, "some\n");
    say(&mut stream, "more\n");
    hear(&mut stream, "more\n");
    stream.send(Message::Text(r#"{"type":"eof"}"#.into())).unwrap();
    hear(&mut stream, "err\n");
    assert_eq!(end(&mut stream)["exit_code"], 7);

    let mut told =
        socket(&server, &sandbox, &json!({"argv": ["sh", "-c", "echo on; exec sleep 60"]}));
    hear(&mut told, "on");
    told.send(Message::Text(r#"{"type":"signal","signal":15}"#.into())).unwrap();
    assert_eq!(end(&mut told)["exit_code"], 143);

    let mut refused = socket(&server, &sandbox, &json!({"argv": []}));
    assert_eq!(end(&mut refused)["error"], "usage");
}

#[test]
fn whoever_breaks_off_ends_the_command() {
    let context = TestContext::shared();
    let server = serve(&context);
    let sandbox = server.sandbox(json!({}));
    let exec = format!("/v1/sandboxes/{}/exec", sandbox["id"].as_str().unwrap());
    let running = || {
        let asked = json!({"command": "cat /proc/[0-9]*/comm | grep -cx sleep"});
        server.json("POST", &exec, &asked).1["stdout"].as_str().unwrap().trim().to_owned()
    };
    let body = json!({"command": "echo on; exec sleep 600"}).to_string();
    for head in ["", "Accept: text/event-stream\r\n"] {
        let mut stream = server.connect();
        send(&mut *stream, "POST", &exec, head, body.as_bytes());
        eventually("it runs", || running() == "1");
        drop(stream);
        eventually("it ends", || running() == "0");
    }
    let mut socket = socket(&server, &sandbox, &json!({"command": "echo on; exec sleep 600"}));
    hear(&mut socket, "on");
    drop(socket);
    eventually("it ends", || running() == "0");

    // A file whose bytes break off is the file that it was.
    let files = format!("/v1/sandboxes/{}/files?path=/kept", sandbox["id"].as_str().unwrap());
    assert_eq!(server.ask("PUT", &files, "", b"kept").status, 204);
    let mut stream = server.connect();
    let head =
        format!("PUT {files} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\npart");
    stream.write_all(head.as_bytes()).unwrap();
    drop(stream);
    let names = json!({"command": "ls -A / | grep -c lampyr-"});
    assert_eq!(server.json("POST", &exec, &names).1["stdout"], "0\n", "and nothing beside it");

    assert_eq!(server.ask("GET", &files, "", b"").body, b"kept");
}

#[test]
fn a_port_is_for_who_has_the_token_and_for_no_web_page() {
    let context = TestContext::shared();
    let server = Served::start(&context, &["--parent", "--listen", "0"]);
    let file = server.word["token_file"].as_str().unwrap();
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(file).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    let token = std::fs::read_to_string(file).unwrap();
    let shown = format!("Authorization: Bearer {token}\r\n");
    let own = format!("Origin: http://localhost\r\n{shown}");
    let cases = [
        ("", 401),
        ("Authorization: Bearer x\r\n", 401),
        (shown.as_str(), 200),
        (own.as_str(), 200),
        ("Origin: http://evil.example\r\n", 403),
        ("Host: evil.example\r\n", 403),
    ];
    for (head, status) in cases {
        let reply = server.ask("GET", "/v1/sandboxes", head, b"");
        assert_eq!(reply.status, status, "{head}: {}", reply.text());
        let head = format!("{head}Upgrade: websocket\r\n");
        assert_eq!(
            server.ask("POST", "/v1/sandboxes/x/exec", &head, br#"{"command":"x"}"#).status == 404,
            status == 200
        );
    }
    assert_eq!(server.ask("GET", "/v1/health", "", b"").status, 200);
    let open = Served::start(&context, &["--parent", "--listen", "0", "--no-auth"]);
    assert_eq!(open.ask("GET", "/v1/sandboxes", "", b"").status, 200);
    let page = "Origin: http://evil.example\r\n";
    assert_eq!(open.ask("GET", "/v1/sandboxes", page, b"").status, 403);
}

#[test]
fn what_was_not_detached_ends_with_the_server() {
    let context = TestContext::shared();
    for how in ["its parent lets go", "it is asked to end", "it is killed"] {
        let mut server = serve(&context);
        let socket = server.socket();
        let attached = server.sandbox(json!({}));
        let detached = server.sandbox(json!({"detached": true}));
        let later = server.sandbox(json!({}));
        let id = later["id"].as_str().unwrap().to_owned();
        assert_eq!(server.json("POST", &format!("/v1/sandboxes/{id}/detach"), &json!({})).0, 200);
        let forked = fork(&server, &later, false);
        let free = fork(&server, &later, true);
        let (vm, other) = (owner(&attached), owner(&forked));
        match how {
            "its parent lets go" => server.let_go(),
            "it is asked to end" => server.signal(libc::SIGTERM),
            _ => server.signal(libc::SIGKILL),
        }
        server.finish();
        eventually(how, || !vm.is_alive() && !other.is_alive());
        let left = rows(&context, &["session", "list"]);
        let lives = |one: &Value| {
            left.iter().any(|row| row["sid"] == one["id"] && row["status"] == "running")
        };
        assert!(!lives(&attached) && !lives(&forked), "{how}: {left:?}");
        assert!(lives(&detached) && lives(&later) && lives(&free), "{how}: {left:?}");
        assert!(how == "it is killed" || !socket.exists(), "{how}: the socket is left");
        for one in [&detached, &later, &free] {
            let sid = one["id"].as_str().unwrap();
            let stopped = context.lampyr(["session", "stop", "--grace", "0", sid]).finish();
            assert_eq!(stopped.status(), Some(0), "{stopped:?}");
        }
    }
}

#[test]
fn nothing_is_kept_of_those_that_end_by_themselves() {
    let context = TestContext::shared();
    let server = serve(&context);
    let pipes = || {
        let files = server.process().files();
        files.iter().filter(|file| file.to_string_lossy().starts_with("pipe:")).count()
    };
    let before = pipes();
    for end in ["ttl", "stop", "crash"] {
        let ttl = if end == "ttl" { "1s" } else { "10m" };
        let one = server.sandbox(json!({"ttl": ttl}));
        assert!(pipes() > before, "{end}");
        let (sid, vm) = (one["id"].as_str().unwrap(), owner(&one));
        match end {
            "stop" => drop(context.lampyr(["session", "stop", "--grace", "0", sid]).finish()),
            "crash" => vm.signal(libc::SIGKILL),
            _ => {}
        }
        eventually(end, || server.get("/v1/sandboxes").0 == 200 && pipes() == before);
        eventually(end, || !vm.is_alive());
    }
}

#[test]
fn a_damaged_snapshot_is_listed_and_says_what_is_wrong() {
    let context = TestContext::fresh();
    let (dir, digest) = (context.home().join("snapshots"), format!("sha256:{}", "0".repeat(64)));
    let index = json!({"schemaVersion": 2, "manifests": [{
        "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest, "size": 1,
        "annotations": {"org.opencontainers.image.ref.name": "broken"},
    }]});
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::write(dir.join("index.json"), index.to_string()).unwrap();
    let server = serve(&context);
    let (status, all) = server.get("/v1/snapshots");
    assert_eq!((status, &all[0]["name"], &all[0]["digest"]), (200, &json!("broken"), &json!("")));
    assert!(all[0]["damaged"].as_str().unwrap().contains(&digest), "{all}");
    let launch = json!({"snapshot": "broken"});
    for (status, told) in
        [server.get("/v1/snapshots/broken"), server.json("POST", "/v1/sandboxes", &launch)]
    {
        assert_eq!((status, &told["error"]), (422, &json!("connection_failed")), "{told}");
        assert!(told["message"].as_str().unwrap().starts_with("the snapshot is damaged"), "{told}");
    }
    assert_eq!(server.json("DELETE", "/v1/snapshots/broken", &Value::Null).0, 200);
    assert_eq!(server.get("/v1/snapshots"), (200, json!([])));
}

#[test]
fn nonsense_is_answered_or_dropped_and_nobody_else_minds() {
    let context = TestContext::shared();
    let server = serve(&context);
    let long = format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(1 << 17));
    let deep = format!(
        "POST /v1/sandboxes HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n{}",
        "[".repeat(100_000)
    );
    let large =
        "POST /v1/sandboxes HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999\r\n\r\n{";
    for bytes in ["\0\u{1}\u{2}", "GET\r\n\r\n", long.as_str(), deep.as_str(), large] {
        let mut stream = server.connect();
        let _ = stream.write_all(bytes.as_bytes());
        let mut answer = [0; 12];
        let begun = Instant::now();
        if stream.read_exact(&mut answer).is_ok() {
            assert!(answer.starts_with(b"HTTP/1.1 4"), "{:?}", String::from_utf8_lossy(&answer));
        }
        assert!(begun.elapsed() < Duration::from_secs(30));
    }
    for path in [
        "/",
        "/v1",
        "/v1/sandboxes/..%2f..",
        "/v1/sandboxes/%00/exec",
        "/v1/sandboxes/x/files?path=%ff",
    ] {
        let reply = server.ask("GET", path, "", b"");
        assert!((400..500).contains(&reply.status), "{path}: {}", reply.status);
        assert_eq!(reply.json()["error"], "usage", "{path}: {}", reply.text());
    }
    // Those who say nothing take no more than their seats.
    let silent: Vec<_> = (0..100).map(|_| server.connect()).collect();
    assert_eq!(server.get("/v1/health").0, 200);
    drop(silent);
}
