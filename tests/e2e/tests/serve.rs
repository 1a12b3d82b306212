//! `lampyr serve` on real VMs.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::time::{Duration, Instant};

use lampyr_e2e::{Process, Reply, Served, TestContext, eventually, rows, send};
use serde_json::{Value, json};
use tungstenite::{Message, WebSocket};

/// A server on a private socket that ends with its test.
fn serve(context: &TestContext) -> Served {
    Served::start(context, &["--parent"])
}

fn owner(sandbox: &Value) -> Process {
    Process::find(i32::try_from(sandbox["pid"].as_i64().unwrap()).unwrap()).unwrap()
}

fn name(what: &str) -> String {
    format!("{what}-{}", std::process::id())
}

/// Asks, and notes which route that was.
struct Caller<'a> {
    server: &'a Served,
    base: String,
    called: BTreeSet<String>,
}

impl Caller<'_> {
    fn ask(&mut self, method: &str, route: &str, query: &str, body: &[u8]) -> Reply {
        self.called.insert(format!("{} {route}", method.to_lowercase()));
        let path = route.replace("/v1/sandboxes/{sandbox}", &self.base);
        let path = path.replace("{volume}", &name("serve-v")).replace("{job}", "j1");
        self.server.ask(method, &format!("{path}{query}"), "", body)
    }

    fn json(&mut self, method: &str, route: &str, query: &str, body: &Value) -> (u16, Value) {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let reply = self.ask(method, route, query, body.as_bytes());
        (reply.status, reply.json())
    }
}

const BOX: &str = "/v1/sandboxes/{sandbox}";

#[test]
fn every_route_does_what_it_says() {
    let context = TestContext::shared();
    let server = serve(&context);
    let sandbox = server.sandbox(json!({
        "name": name("serve-all"), "env": {"A": "b"}, "workdir": "/tmp",
        "mounts": {"/data": {"volume": name("serve-v")}},
    }));
    let base = format!("/v1/sandboxes/{}", sandbox["id"].as_str().unwrap());
    let mut c = Caller { server: &server, base, called: BTreeSet::new() };
    c.called.extend(["post /v1/sandboxes", &format!("get {BOX}/exec/ws")].map(str::to_owned));

    let (status, all) = c.json("GET", "/v1/sandboxes", "", &Value::Null);
    let listed = all.as_array().unwrap().iter().any(|one| one["id"] == sandbox["id"]);
    assert!(status == 200 && listed, "{all}");
    let (status, one) = c.json("GET", BOX, "", &Value::Null);
    assert_eq!((status, &one["attached"], &one["status"]), (200, &json!(true), &json!("running")));
    assert!(one["vitals"]["memory_bytes"].as_u64().unwrap() > 1 << 20, "{one}");

    commands(&mut c);
    files(&mut c);
    trees(&mut c);
    rest(&mut c);

    let (status, one) = c.json("POST", &format!("{BOX}/detach"), "", &Value::Null);
    assert_eq!((status, &one["attached"]), (200, &json!(false)));
    let (status, gone) = c.json("DELETE", BOX, "?force=true", &Value::Null);
    assert_eq!((status, &gone["stopped"]), (200, &sandbox["id"]));
    let (status, gone) = c.json("DELETE", BOX, "", &Value::Null);
    assert_eq!((status, &gone["note"]), (200, &json!("already stopped")));
    assert_eq!(c.json("GET", BOX, "", &Value::Null).0, 410);
    assert_eq!(c.ask("DELETE", "/v1/volumes/{volume}", "", b"").status, 204);
    assert_eq!(c.ask("DELETE", "/v1/volumes/{volume}", "", b"").status, 404);

    let document = server.get("/openapi.json").1;
    let routes = document["paths"].as_object().unwrap().iter().flat_map(|(path, methods)| {
        methods.as_object().unwrap().keys().map(move |method| format!("{method} {path}"))
    });
    assert_eq!(c.called, routes.collect(), "every route is asked here, and no other");
}

fn commands(c: &mut Caller<'_>) {
    let exec = &format!("{BOX}/exec");
    let (status, told) =
        c.json("POST", exec, "", &json!({"command": "echo $A; pwd; cat; exit 3", "stdin": "in"}));
    assert_eq!(
        (status, &told["exit_code"], &told["stdout"]),
        (200, &json!(3), &json!("b\n/tmp\nin"))
    );
    let bytes = json!({"argv": ["cat"], "stdin_bytes": "/wA="});
    let (_, told) = c.json("POST", exec, "", &bytes);
    assert_eq!(told["stdout_bytes"], "/wA=");
    let other = json!({"argv": ["sh", "-c", "id -u; pwd; echo $B"], "user": "nobody", "workdir": "/", "env": {"B": "c"}});
    assert_eq!(c.json("POST", exec, "", &other).1["stdout"], "65534\n/\nc\n");
    let long = json!({"command": "echo said; sleep 60", "timeout": "1s"});
    let (status, told) = c.json("POST", exec, "", &long);
    let expected = (200, &json!("timeout"), &json!("said\n"));
    assert_eq!((status, &told["error"], &told["partial_stdout"]), expected);
    let cut = json!({"command": "seq 1000", "max_output": "20B"});
    assert_eq!(c.json("POST", exec, "", &cut).1["meta"]["truncated"]["stdout"]["kept_bytes"], 20);

    let job = json!({"command": "echo once; date +%N", "key": "k"});
    let first = c.json("POST", exec, "", &job).1;
    assert_eq!(c.json("POST", exec, "", &job).1["stdout"], first["stdout"]);
    let (status, told) = c.json("POST", exec, "", &json!({"command": "echo job", "detach": true}));
    assert_eq!((status, &told["job"]), (202, &json!("j2")));
    let known = c.json("GET", &format!("{BOX}/jobs/{{job}}"), "", &Value::Null).1;
    assert_eq!(known["stdout"], first["stdout"]);

    let head = "Accept: text/event-stream\r\n";
    let body = json!({"command": "echo one; echo two >&2; printf '\\377'; exit 4"}).to_string();
    let path = exec.replace(BOX, &c.base);
    let events = c.server.ask("POST", &path, head, body.as_bytes());
    assert!(events.head.contains("content-type: text/event-stream"), "{}", events.head);
    let events = events.text();
    assert!(
        events.contains("event: output\ndata: {\"data\":\"one\\n\",\"stream\":\"stdout\"}\n\n"),
        "{events}"
    );
    assert!(events.contains("\"data\":\"two\\n\",\"stream\":\"stderr\""), "{events}");
    assert!(events.contains("\"data_bytes\":\"/w==\""), "{events}");
    let end = events.trim_end().rsplit("\n\n").next().unwrap();
    assert!(end.starts_with("event: end\ndata: {") && end.contains("\"exit_code\":4"), "{end}");

    for bad in [
        json!({}),
        json!({"command": " "}),
        json!({"command": "a", "argv": ["b"]}),
        json!({"comand": "a"}),
        json!({"command": "a", "timeout": "1"}),
        json!({"command": "a\0"}),
        json!({"command": "a", "workdir": "x"}),
        json!({"command": "a", "env": {"=": "x"}}),
        json!({"command": "a", "stdin_bytes": "!"}),
        json!([]),
    ] {
        let (status, told) = c.json("POST", exec, "", &bad);
        assert_eq!((status, &told["error"]), (400, &json!("usage")), "{bad}: {told}");
    }
}

fn files(c: &mut Caller<'_>) {
    let at = &format!("{BOX}/files");
    let bytes: Vec<u8> = (0..3_000_000_u32).map(|n| n.wrapping_mul(n) as u8).collect();
    let put = c.ask("PUT", at, "?path=/w/deep/file&parents=true&mode=0640", &bytes);
    assert_eq!(put.status, 204, "{}", put.text());
    assert!(c.ask("GET", at, "?path=/w/deep/file", b"").body == bytes, "bytes come back");
    let (_, facts) = c.json("GET", &format!("{at}/stat"), "?path=/w/deep/file", &Value::Null);
    let known = (&facts["kind"], &facts["size"], &facts["mode"]);
    assert_eq!(known, (&json!("file"), &json!(3_000_000), &json!("0640")));
    assert_eq!(c.ask("PUT", at, "?path=/w/deep/file", b"one two two").status, 204);
    let facts = c.json("GET", &format!("{at}/stat"), "?path=/w/deep/file", &Value::Null).1;
    assert_eq!((&facts["size"], &facts["mode"]), (&json!(11), &json!("0640")), "its mode stays");

    let edit = &format!("{at}/edit");
    let mut replace = |old: &str, all: bool| {
        c.json(
            "POST",
            edit,
            "",
            &json!({"path": "/w/deep/file", "old": old, "new": "2", "all": all}),
        )
    };
    assert_eq!(replace("three", false).0, 400);
    assert_eq!(replace("two", false).0, 400);
    assert_eq!(replace("two", true), (200, json!({"replacements": 2})));
    assert_eq!(replace("one", false), (200, json!({"replacements": 1})));
    assert_eq!(c.ask("GET", at, "?path=/w/deep/file", b"").body, b"2 2 2");

    assert_eq!(
        c.json("POST", &format!("{at}/mkdir"), "", &json!({"path": "/w/d", "mode": "0700"})).0,
        204
    );
    assert_eq!(c.json("POST", &format!("{at}/mkdir"), "", &json!({"path": "/w/d"})).0, 409);
    let moved = json!({"from": "/w/deep/file", "to": "/w/d/moved"});
    assert_eq!(c.json("POST", &format!("{at}/move"), "", &moved).0, 204);
    let listed = c.json("GET", &format!("{at}/list"), "?path=/w", &Value::Null).1;
    let names: Vec<_> = listed.as_array().unwrap().iter().map(|one| one["name"].clone()).collect();
    assert_eq!(names, ["d", "deep"]);
    let link = json!({"command": "ln -s moved /w/d/link"});
    c.json("POST", &format!("{BOX}/exec"), "", &link);
    let facts =
        c.json("GET", &format!("{at}/stat"), "?path=/w/d/link&follow=false", &Value::Null).1;
    assert_eq!((&facts["kind"], &facts["target"]), (&json!("symlink"), &json!("moved")));
    assert_eq!(c.ask("PUT", at, "?path=/w/d/link", b"through").status, 204);
    assert_eq!(c.ask("GET", at, "?path=/w/d/moved", b"").body, b"through");

    let refused = [
        ("GET", "?path=/w/none", 404),
        ("GET", "?path=/w", 409),
        ("GET", "?path=w", 400),
        ("GET", "", 400),
        ("GET", "?path=/root&user=nobody", 403),
        ("PUT", "?path=/w/x/y", 404),
        ("PUT", "?path=/w/d", 409),
        ("PUT", "?path=/w/x&mode=9", 400),
        ("PUT", "?path=/w/x&user=nobody", 403),
        ("DELETE", "?path=/w/d", 409),
    ];
    for (method, query, status) in refused {
        let reply = c.ask(method, at, query, b"x");
        assert_eq!(reply.status, status, "{method} {query}: {}", reply.text());
        assert!(reply.json()["message"].is_string(), "{}", reply.text());
    }
    assert_eq!(c.ask("DELETE", at, "?path=/w/d/link", b"").status, 204);
    assert_eq!(c.ask("DELETE", at, "?path=/w&recursive=true", b"").status, 204);
}

fn trees(c: &mut Caller<'_>) {
    let at = &format!("{BOX}/archive");
    let mut archive = tar::Builder::new(Vec::new());
    let mut head = tar::Header::new_gnu();
    head.set_size(5);
    head.set_mode(0o750);
    head.set_mtime(1_000_000_000);
    head.set_uid(0);
    head.set_gid(0);
    archive.append_data(&mut head, "sub/run", &b"bytes"[..]).unwrap();
    let archive = archive.into_inner().unwrap();
    let put = c.ask("PUT", at, "?path=/t/new", &archive);
    assert_eq!(put.status, 204, "{}", put.text());
    let got = c.ask("GET", at, "?path=/t/new", b"");
    assert!(got.head.contains("application/x-tar"), "{}", got.head);
    let mut entries = tar::Archive::new(&got.body[..]);
    let mut found = Vec::new();
    for entry in entries.entries().unwrap() {
        let mut entry = entry.unwrap();
        let mut text = String::new();
        entry.read_to_string(&mut text).unwrap();
        let head = entry.header();
        let path = entry.path().unwrap().to_string_lossy().into_owned();
        found.push((path, head.mode().unwrap() & 0o777, head.mtime().unwrap(), text));
    }
    let run = ("sub/run".to_owned(), 0o750, 1_000_000_000, "bytes".to_owned());
    assert!(found.contains(&run), "{found:?}");
    assert_eq!(c.ask("GET", at, "?path=/etc/passwd", b"").status, 409);
    assert_ne!(c.ask("PUT", at, "?path=/t/bad", &[b'x'; 4096]).status, 204);
}

fn rest(c: &mut Caller<'_>) {
    let volume = "/v1/volumes/{volume}";
    let (status, made) = c.json("PUT", volume, "", &json!({"quota": "2GB"}));
    // The sandbox's mount has made it already, and it stays as it is.
    assert_eq!((status, &made["quota_bytes"]), (200, &Value::Null));
    assert_eq!(c.json("GET", volume, "", &Value::Null).0, 200);
    assert_eq!(c.json("DELETE", volume, "", &Value::Null).0, 409, "it is mounted");
    let all = c.json("GET", "/v1/volumes", "", &Value::Null).1;
    assert!(all.as_array().unwrap().iter().any(|one| one["name"] == made["name"]), "{all}");
    let images = c.json("GET", "/v1/images", "", &Value::Null).1;
    assert!(images.as_array().unwrap().iter().any(|one| one["name"] == "default"), "{images}");
    assert_eq!(c.json("GET", "/v1/health", "", &Value::Null).1["ok"], true);
    let metrics = c.ask("GET", "/v1/metrics", "", b"").text();
    assert!(metrics.contains("\nlampyr_sandboxes "), "{metrics}");
    // A sandbox without a card has no policy.
    let rules = json!({"rules": ["example.com"]});
    assert_eq!(c.json("PUT", &format!("{BOX}/policy"), "", &rules).0, 400);
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
    let (status, told) = server.json("POST", "/v1/sandboxes", &json!({"image": "no-such-image"}));
    assert_eq!(status, 404, "{told}");
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
        let vm = owner(&attached);
        match how {
            "its parent lets go" => server.let_go(),
            "it is asked to end" => server.signal(libc::SIGTERM),
            _ => server.signal(libc::SIGKILL),
        }
        server.finish();
        eventually(how, || !vm.is_alive());
        let left = rows(&context, &["session", "list"]);
        let lives = |one: &Value| {
            left.iter().any(|row| row["sid"] == one["id"] && row["status"] == "running")
        };
        assert!(!lives(&attached), "{how}: {left:?}");
        assert!(lives(&detached) && lives(&later), "{how}: {left:?}");
        assert!(how == "it is killed" || !socket.exists(), "{how}: the socket is left");
        for one in [&detached, &later] {
            let sid = one["id"].as_str().unwrap();
            let stopped = context.lampyr(["session", "stop", "--grace", "0", sid]).finish();
            assert_eq!(stopped.status(), Some(0), "{stopped:?}");
        }
    }
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
