//! Every route of `lampyr serve`, on real VMs.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

use std::collections::BTreeSet;
use std::io::Read;

use lampyr_e2e::{Reply, Served, TestContext, send};
use lampyr_test_registry::TestRegistry;
use serde_json::{Value, json};

fn name(what: &str) -> String {
    format!("{what}-{}", std::process::id())
}

fn base(sandbox: &Value) -> String {
    format!("/v1/sandboxes/{}", sandbox["id"].as_str().unwrap())
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
        let path = path.replace("{snapshot}", &name("serve-s"));
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
    let server = Served::start(&context, &["--parent"]);
    let sandbox = server.sandbox(json!({
        "name": name("serve-all"), "env": {"A": "b"}, "workdir": "/tmp",
        "mounts": {"/data": {"volume": name("serve-v")}},
    }));
    let mut c = Caller { server: &server, base: base(&sandbox), called: BTreeSet::new() };
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
    past(&mut c);
    snapshots(&mut c);
    builds(&mut c);

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
    let unknown = c.server.ask("GET", &format!("{}/jobs/j99", c.base), "", b"");
    assert_eq!((unknown.status, &unknown.json()["error"]), (404, &json!("connection_failed")));

    let head = "Accept: text/event-stream\r\n";
    let path = exec.replace(BOX, &c.base);
    let events_of = |command: &str| {
        c.server.ask("POST", &path, head, json!({"command": command}).to_string().as_bytes())
    };
    let events = events_of("echo one; echo two >&2; exit 4");
    assert!(events.head.contains("content-type: text/event-stream"), "{}", events.head);
    let events = events.text();
    assert!(
        events.contains("event: output\ndata: {\"data\":\"one\\n\",\"stream\":\"stdout\"}\n\n"),
        "{events}"
    );
    assert!(events.contains("\"data\":\"two\\n\",\"stream\":\"stderr\""), "{events}");
    let bytes = events_of("printf '\\377'").text();
    assert!(bytes.contains("\"data_bytes\":\"/w==\""), "{bytes}");
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

/// What a sandbox was is remembered, and comes back.
fn past(c: &mut Caller<'_>) {
    let sandbox = c.server.sandbox(json!({"checkpoints": 2}));
    let main = std::mem::replace(&mut c.base, base(&sandbox));
    let (exec, undo) = (&format!("{BOX}/exec"), &format!("{BOX}/undo"));
    let count = |c: &mut Caller<'_>| c.json("POST", exec, "", &json!({"command": "cat /n"})).1;
    for n in ["1", "2", "3"] {
        c.json("POST", exec, "", &json!({"command": format!("echo {n} > /n")}));
    }
    let (status, log) = c.json("GET", &format!("{BOX}/log"), "", &Value::Null);
    let points: Vec<_> =
        log.as_array().unwrap().iter().map(|p| (&p["index"], &p["command"])).collect();
    let expected = [(&json!(2), &json!("echo 2 > /n")), (&json!(3), &json!("echo 3 > /n"))];
    assert_eq!((status, points.as_slice()), (200, expected.as_slice()));
    assert!(log[0]["at"].as_str().unwrap().ends_with('Z'), "{log}");

    // The conversation that the server has with its owner goes on.
    let (status, undone) = c.json("POST", undo, "", &json!({"to": 3}));
    assert_eq!((status, &undone["undone_to"]), (200, &json!(3)));
    assert!(undone["pause_ms"].as_f64().unwrap() > 0.0, "{undone}");
    assert_eq!(count(c)["stdout"], "2\n");
    let (status, undone) = c.json("POST", undo, "", &json!({"to": 2}));
    assert_eq!((status, &undone["undone_to"]), (200, &json!(2)));
    assert_eq!(count(c)["stdout"], "1\n");

    // What runs hears why it ends.
    let mut stream = c.server.connect();
    let body = json!({"command": "echo on > /n; echo on; exec sleep 600"}).to_string();
    let path = format!("{}/exec", c.base);
    send(&mut *stream, "POST", &path, "Accept: text/event-stream\r\n", body.as_bytes());
    let mut said = Vec::new();
    while !String::from_utf8_lossy(&said).contains("on\\n") {
        let mut piece = [0; 4096];
        let n = stream.read(&mut piece).unwrap();
        assert_ne!(n, 0, "it ended: {}", String::from_utf8_lossy(&said));
        said.extend(&piece[..n]);
    }
    assert_eq!(c.json("POST", undo, "", &Value::Null).0, 200);
    stream.read_to_end(&mut said).unwrap();
    let said = String::from_utf8_lossy(&said);
    assert!(said.contains("\"error\":\"session_disconnected\""), "{said}");
    assert!(said.contains("was taken back"), "{said}");
    assert_eq!(count(c)["stdout"], "1\n");

    for (bad, expected) in [(json!({"to": 77}), 409), (json!({"to": "1"}), 400)] {
        let (status, told) = c.json("POST", undo, "", &bad);
        assert_eq!((status, &told["error"]), (expected, &json!("usage")), "{told}");
    }
    assert_eq!(c.server.json("POST", "/v1/sandboxes", &json!({"checkpoints": 1001})).0, 400);
    forks(c);
    assert_eq!(c.json("DELETE", BOX, "?force=true", &Value::Null).0, 200);
    c.base = main;
}

/// Forks are what their parent was, and end with the server unless detached.
fn forks(c: &mut Caller<'_>) {
    let fork = &format!("{BOX}/fork");
    for bad in [json!({"count": 0}), json!({"count": 1001}), json!({"name": "x"})] {
        assert_eq!(c.json("POST", fork, "", &bad).0, 400, "{bad}");
    }
    let (status, forked) = c.json("POST", fork, "", &json!({"count": 2}));
    assert!(status == 201 && forked["pause_ms"].as_f64().unwrap() > 0.0, "{forked}");
    let (status, free) = c.json("POST", fork, "", &json!({"detached": true}));
    assert_eq!((status, &free["sandboxes"][0]["attached"]), (201, &json!(false)));
    let all = [&forked["sandboxes"][0], &forked["sandboxes"][1], &free["sandboxes"][0]];
    assert_eq!((&all[0]["attached"], &all[1]["attached"]), (&json!(true), &json!(true)));
    let ids: BTreeSet<_> = all.iter().map(|one| one["id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), 3);
    for one in all {
        let asked = json!({"command": "cat /n"});
        let told = c.server.json("POST", &format!("{}/exec", base(one)), &asked).1;
        assert_eq!(told["stdout"], "1\n", "{told}");
        assert_eq!(c.server.json("DELETE", &base(one), &Value::Null).0, 200);
    }
}

/// A snapshot is taken, launched from, built on and removed.
fn snapshots(c: &mut Caller<'_>) {
    let rules = json!({"policy": {"rules": ["example.com"]}});
    let sandbox = c.server.sandbox(rules);
    let keep = json!({"command": "echo kept > /kept"});
    c.server.json("POST", &format!("{}/exec", base(&sandbox)), &keep);
    let (all, one) = ("/v1/snapshots", "/v1/snapshots/{snapshot}");
    let asked = json!({"sandbox": sandbox["id"], "name": name("serve-s"), "labels": {"a": "b"}});
    let (status, mut taken) = c.json("POST", all, "", &asked);
    assert_eq!(status, 201, "{taken}");
    let pause = taken.as_object_mut().unwrap().remove("pause_ms");
    assert!(pause.unwrap().as_f64().unwrap() > 0.0);
    let known = (&taken["cpus"], &taken["memory"], &taken["network"], &taken["labels"]["a"]);
    assert_eq!(known, (&json!(1), &json!(256 << 20), &json!(true), &json!("b")));
    assert_eq!((&taken["image"], &taken["parent"]), (&json!("default"), &Value::Null));
    assert_eq!(c.json("GET", one, "", &Value::Null), (200, taken.clone()));
    let listed = c.json("GET", all, "", &Value::Null).1;
    assert!(listed.as_array().unwrap().iter().any(|row| row["name"] == taken["name"]), "{listed}");
    assert_eq!(c.server.json("DELETE", &base(&sandbox), &Value::Null).0, 200);
    travels(c, &taken);

    let launched = launch(c, &taken);
    let child = json!({"sandbox": launched["id"], "name": name("serve-t")});
    let (status, child) = c.json("POST", all, "", &child);
    assert_eq!((status, &child["parent"]["name"]), (201, &taken["name"]), "{child}");
    let refused = [
        (json!({"sandbox": launched["id"], "name": name("serve-s"), "overwrite": false}), 409),
        (json!({"sandbox": "no-such-box", "name": "x"}), 404),
        (json!({"sandbox": "A b", "name": "x"}), 404),
        (json!({"sandbox": launched["id"], "name": "A b"}), 400),
        (json!({"sandbox": launched["id"]}), 400),
        (json!([launched["id"], "x", null, {}, false]), 400),
        (json!({"sandbox": launched["id"], "name": "x", "labels": {"": "v"}}), 400),
    ];
    for (bad, expected) in refused {
        assert_eq!(c.json("POST", all, "", &bad).0, expected, "{bad}");
    }
    assert_eq!(c.json("DELETE", one, "", &Value::Null).0, 409, "another was built on it");
    assert_eq!(c.json("DELETE", one, "?force=true", &Value::Null).0, 409, "a sandbox runs from it");
    assert_eq!(c.server.json("DELETE", &base(&launched), &Value::Null).0, 200);
    let (status, gone) = c.json("DELETE", one, "?force=true", &Value::Null);
    assert_eq!((status, gone), (200, json!({"removed": [taken["name"], child["name"]]})));
    assert_eq!(c.json("GET", one, "", &Value::Null).0, 404);
    assert_eq!(c.json("DELETE", one, "", &Value::Null).0, 404);
    let (status, told) =
        c.server.json("POST", "/v1/sandboxes", &json!({"snapshot": taken["name"]}));
    assert_eq!((status, &told["error"]), (404, &json!("connection_failed")), "{told}");
}

/// What is built is told step by step, and a step that fails is named.
/// A snapshot goes to a registry and comes back.
fn travels(c: &mut Caller<'_>, taken: &Value) {
    let registry = TestRegistry::plain();
    let (push, pull) = ("/v1/snapshots/{snapshot}/push", "/v1/snapshots/pull");
    let there = format!("{}/me/{}:1", registry.name(), name("serve-u"));
    let (status, pushed) = c.json("POST", push, "", &json!({"reference": there}));
    assert_eq!((status, &pushed["pushed"]), (200, &json!(there)), "{pushed}");
    assert!(pushed["digest"].as_str().unwrap().starts_with("sha256:"), "{pushed}");
    let (status, pulled) = c.json("POST", pull, "", &json!({"reference": there}));
    let expected = (201, &json!(name("serve-u")), &taken["digest"]);
    assert_eq!((status, &pulled["name"], &pulled["digest"]), expected, "{pulled}");
    let none = format!("{}/me/none:1", registry.name());
    let refused = [
        (json!({"reference": "A b"}), 400),
        (json!({"reference": there, "name": "A b"}), 400),
        (json!({"reference": there, "overwrite": false}), 409),
        (json!({"reference": none}), 503),
    ];
    for (bad, expected) in refused {
        let (status, told) = c.json("POST", pull, "", &bad);
        assert_eq!(status, expected, "{bad}: {told}");
    }
    let other = format!("/v1/snapshots/{}", name("serve-u"));
    assert_eq!(c.server.json("DELETE", &other, &Value::Null).0, 200);
    let (status, told) =
        c.server.json("POST", &format!("{other}/push"), &json!({"reference": there}));
    assert_eq!((status, &told["error"]), (404, &json!("connection_failed")), "{told}");
}

fn builds(c: &mut Caller<'_>) {
    let route = "/v1/snapshots/build";
    let setup = json!(["echo one", {"kind": "shell", "script": "echo two; exit 3", "description": "fails"}]);
    let resources = json!({"cpus": 1, "memory": "256M"});
    let mut config = json!({
        "name": name("serve-b"), "image": "default", "resources": resources, "setup": setup,
    });
    let told = c.ask("POST", route, "", json!({"config": config}).to_string().as_bytes()).text();
    let step = "event: step\ndata: {\"count\":2,\"description\":\"echo one\",\"index\":1}";
    assert!(told.contains(step) && told.contains("\"data\":\"one\\n\""), "{told}");
    let last = told.trim_end().rsplit("\n\n").next().unwrap();
    let named = last.contains("\"index\":2") && last.contains("\"output\":\"two\\n\"");
    assert!(last.starts_with("event: failed\n") && named, "{last}");

    config["setup"] = json!(["echo one"]);
    for cached in [false, true] {
        let asked = json!({"config": config}).to_string();
        let told = c.ask("POST", route, "", asked.as_bytes()).text();
        let last = told.trim_end().rsplit("\n\n").next().unwrap();
        let expected = format!("\"cached\":{cached}");
        assert!(last.starts_with("event: built\n") && last.contains(&expected), "{last}");
    }
    config["setpu"] = json!([]);
    let (status, refused) = c.json("POST", route, "", &json!({"config": config}));
    assert_eq!((status, &refused["hint"]), (400, &json!("did you mean 'setup'?")), "{refused}");
    let built = format!("/v1/snapshots/{}", name("serve-b"));
    assert_eq!(c.server.json("DELETE", &built, &Value::Null).0, 200);
}

/// What is launched is what was saved, and nothing else can be asked for.
fn launch(c: &mut Caller<'_>, taken: &Value) -> Value {
    let different = [
        json!({"cpus": 2}),
        json!({"memory": "512M"}),
        json!({"disk_size": "2GB"}),
        json!({"image": "default"}),
    ];
    for mut bad in different {
        bad["snapshot"] = taken["name"].clone();
        let (status, told) = c.server.json("POST", "/v1/sandboxes", &bad);
        assert_eq!((status, &told["error"]), (400, &json!("usage")), "{bad}: {told}");
    }
    let (status, launched) =
        c.server.json("POST", "/v1/sandboxes", &json!({"snapshot": taken["name"]}));
    assert_eq!((status, &launched["snapshot"]), (201, &taken["name"]), "{launched}");
    // It has the card that was saved, by which nothing can be reached.
    let look = json!({"command": "cat /kept; ls /sys/class/net; getent hosts example.com"});
    let told = c.server.json("POST", &format!("{}/exec", base(&launched)), &look).1;
    assert_eq!(told["stdout"], "kept\neth0\nlo\n", "{told}");
    assert_eq!(told["meta"]["denied"][0]["host"], "example.com", "{told}");
    // What is said once more is no harm.
    let again = c.server.sandbox(json!({"snapshot": taken["name"], "disk_size": "8GB"}));
    assert_eq!(c.server.json("DELETE", &base(&again), &Value::Null).0, 200);
    launched
}
