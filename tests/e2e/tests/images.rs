//! Images of a real registry, run in real machines.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

use std::process::Command;
use std::time::Duration;

use lampyr_e2e::{Session, TestContext, entries};
use lampyr_test_registry::{Layout, Packing, Tar, TestRegistry, succeed};
use serde_json::{Value, json};

/// Booting for a template takes longer than a run.
const LONG: Duration = Duration::from_mins(3);

/// A small system: busybox under all its names.
fn busybox() -> Tar {
    let program = std::fs::read("/bin/busybox").expect("busybox-static is installed");
    let mut tar = Tar::default()
        .directory("bin/")
        .directory("etc/")
        .file("etc/passwd", b"root:x:0:0::/:/bin/sh\nwww:x:33:33::/srv:/bin/sh\n")
        .file("etc/group", b"root:x:0:\nwww:x:33:\nextra:x:44:\n")
        .program("bin/busybox", &program);
    for name in succeed(Command::new("/bin/busybox").arg("--list")).lines() {
        if name != "busybox" {
            tar = tar.link(&format!("bin/{name}"), "bin/busybox");
        }
    }
    tar
}

fn layout(tag: &str, layers: &[Vec<u8>], config: &Value) -> Layout {
    let mut layout = Layout::default();
    layout.image(tag, layers, Packing::Gzip, config);
    layout
}

#[test]
fn an_image_is_fetched_at_its_first_run_and_run_as_it_says() {
    let registry = TestRegistry::plain();
    let config = json!({"Env": ["GREETING=hello", "NAME=image"], "WorkingDir": "/srv/new",
        "User": "www:extra", "Entrypoint": ["sh", "-c"],
        "Cmd": ["echo $GREETING $NAME; pwd; id"]});
    let reference = registry.push(&layout("x", &[busybox().finish()], &config), "x", "box:1");
    let lampyr = TestContext::with_images();
    let run = |words: &[&str]| {
        let call = lampyr.lampyr(["run", "--image", &reference]).args(words).within(LONG);
        call.envelope().success().to_owned()
    };
    let wanted = "hello image\n/srv/new\nuid=33(www) gid=44(extra) groups=44(extra)\n";
    assert_eq!(run(&[]), wanted);
    // From now on nobody asks the registry.
    drop(registry);
    assert_eq!(run(&["-e", "NAME=user", "--workdir", "/etc", "echo $NAME; pwd"]), "user\n/etc\n");
    assert_eq!(run(&["--", "busybox", "echo", "1"]), "1\n");
}

#[test]
fn images_are_listed_shared_removed_and_pruned() {
    let registry = TestRegistry::plain();
    let base = busybox().finish();
    let above = Tar::default().file("extra", b"extra").finish();
    let first = layout("x", std::slice::from_ref(&base), &json!({"Cmd": ["true"]}));
    let first = registry.push(&first, "x", "a:1");
    let second = registry.push(&layout("x", &[base, above], &json!({})), "x", "b:1");
    let lampyr = TestContext::with_images();
    let ask = |words: &[&str]| lampyr.lampyr(words).within(LONG).finish().json();
    let pulled = ask(&["images", "pull", &first]);
    assert_eq!((&pulled["name"], &pulled["command"]), (&json!(first), &json!(["true"])));
    ask(&["images", "pull", &second]);
    assert_eq!(ask(&["images", "list"]), json!(["default", first, second]));
    assert_eq!(ask(&["images", "inspect", &first]), pulled);
    assert_eq!(ask(&["images", "prune"])["removed"], json!([]));
    assert_eq!(ask(&["images", "rm", &second])["removed"][0]["what"], "image");
    // What the first image shares stays.
    assert_eq!(ask(&["images", "prune"])["removed"].as_array().unwrap().len(), 3);
    assert_eq!(ask(&["images", "list"]), json!(["default", first]));
    let again = lampyr.lampyr(["images", "inspect", &second]).finish();
    assert_eq!(again.failure().0, format!("image '{second}' not found"));
}

#[test]
fn an_image_in_use_stays() {
    let registry = TestRegistry::plain();
    let reference = registry.push(&layout("x", &[busybox().finish()], &json!({})), "x", "box:1");
    let lampyr = TestContext::with_images();
    let start = lampyr.lampyr(["session", "start", "--image", &reference]).within(LONG).finish();
    assert_eq!(start.status(), Some(0), "{start:?}");
    let sid: Value = serde_json::from_str(&start.stdout()).unwrap();
    let sid = sid["sid"].as_str().unwrap();
    let (error, hint) = lampyr.lampyr(["images", "rm", &reference]).finish().refusal();
    assert_eq!(error, format!("image '{reference}' is in use by a VM"));
    assert!(hint.contains("session list"));
    lampyr.lampyr(["exec", sid, "true"]).envelope().success();
    assert_eq!(lampyr.lampyr(["session", "stop", sid]).finish().status(), Some(0));
    let removed = lampyr.lampyr(["images", "rm", &reference]).finish();
    assert_eq!(removed.status(), Some(0), "{removed:?}");
    assert!(removed.stdout().contains("\"what\":\"template\""), "{removed:?}");
}

/// An image whose disk is another one for each number.
fn numbered(number: usize) -> Layout {
    let file = |n: usize| Tar::default().file(&format!("before-{n}"), &vec![b'x'; 40_000 * n]);
    let marker = Tar::default().file("marker", format!("{number}\n").as_bytes());
    layout("x", &[file(number).finish(), busybox().finish(), marker.finish()], &json!({}))
}

#[test]
fn what_stands_on_an_image_goes_on_when_that_is_replaced_or_removed() {
    let registry = TestRegistry::plain();
    let reference = registry.push(&numbered(1), "x", "box:1");
    let lampyr = TestContext::with_images();
    let ask = |words: &[&str]| lampyr.lampyr(words).within(LONG).finish().json();
    let flags = ["--image", &reference, "--memory", "256MB", "--checkpoints", "3"];
    let session = Session::start(&lampyr, &flags);
    session.sh("echo 1 > /file").success();
    ask(&["snapshot", "create", &session.sid, "early"]);
    registry.push(&numbered(2), "x", "box:1");
    ask(&["images", "pull", &reference]);
    let look = "sync; echo 3 > /proc/sys/vm/drop_caches; cat /marker; busybox | head -c 7";
    let launched = |words: &[&str]| {
        let run = lampyr.lampyr(["run"].iter().chain(words)).args([look]).within(LONG);
        run.envelope().success().to_owned()
    };
    assert_eq!(launched(&["--image", &reference]), "2\nBusyBox");
    ask(&["clean"]);
    ask(&["undo", &session.sid]);
    assert_eq!(session.sh(look).success(), "1\nBusyBox");
    let forked = ask(&["fork", &session.sid]);
    let fork = Session::of(&lampyr, forked["sids"][0].as_str().unwrap());
    assert_eq!(fork.sh(look).success(), "1\nBusyBox");
    ask(&["snapshot", "create", &fork.sid, "late"]);
    fork.stop();
    session.stop();

    ask(&["clean"]);
    ask(&["images", "rm", &reference]);
    for snapshot in ["early", "late"] {
        assert_eq!(launched(&["--snapshot", snapshot]), "1\nBusyBox");
        let to = format!("{}/{snapshot}:1", registry.name());
        ask(&["snapshot", "push", snapshot, &to]);
        ask(&["snapshot", "rm", snapshot]);
    }
    assert!(entries(&lampyr.home().join("bases")).is_empty());
    lampyr.assert_tidy();
}

#[test]
fn every_odd_file_is_what_umoci_makes_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    let script = r#"set -e; umask 022; mkdir "$1"; cd "$1"; mkdir odd; cd odd
        mkdir -m 1777 tmp; mkdir -m 2755 setgid; printf x > setuid; chmod 4711 setuid
        printf data > big-id; chown 3000000000:70000 big-id; ln big-id again
        mknod null c 1 3; mknod far b 259 70000; mkfifo pipe
        ln -s "$(printf %0500d 7)" long-link; truncate -s 3M sparse; printf x >> sparse
        d=$(printf %0200d 1); mkdir -p "$d/$d"; printf deep > "$d/$d/$(printf %0255d 2)"
        i=0; while [ $i -lt 300 ]; do printf $i > "many-$i"; i=$((i+1)); done"#;
    succeed(Command::new("sh").args(["-c", script, "make"]).arg(&root));
    let tar = dir.path().join("odd.tar");
    let mut pack = Command::new("tar");
    succeed(pack.args(["--sparse", "--format=pax", "-C"]).arg(&root).arg("-cf").arg(&tar).arg("."));
    let layers = [busybox().finish(), std::fs::read(&tar).unwrap()];
    let layout = layout("x", &layers, &json!({}));
    let theirs = dir.path().join("theirs");
    let image = format!("{}:x", layout.path().display());
    succeed(Command::new("umoci").args(["unpack", "--image", &image]).arg(&theirs));

    let list = "find . | sort | tr '\\n' '\\0' | xargs -0 stat -c '%n %a %u %g %F %t:%T %h %s %Y'; \
        find . -type f | sort | xargs md5sum";
    let here =
        format!("cd \"$1\" && export PATH= && {}", list.replace("find", "/bin/busybox find"));
    let here = ["sort", "tr", "xargs", "md5sum"].iter().fold(here, |text, name| {
        text.replace(&format!("| {name}"), &format!("| /bin/busybox {name}"))
    });
    let mut shell = Command::new("/bin/busybox");
    let wanted = succeed(shell.args(["sh", "-c", &here, "list"]).arg(theirs.join("rootfs/odd")));
    let registry = TestRegistry::plain();
    let reference = registry.push(&layout, "x", "odd:1");
    let lampyr = TestContext::with_images();
    let run = lampyr.lampyr(["run", "--image", &reference]).within(LONG);
    let found = run.args([format!("cd /odd && {list}")]).envelope();
    let without_directory_sizes = |text: &str| -> Vec<String> {
        // How long a directory is depends on the file system.
        text.lines().filter(|line| !line.contains(" directory ")).map(str::to_owned).collect()
    };
    let (found, wanted) =
        (without_directory_sizes(found.success()), without_directory_sizes(&wanted));
    assert!(wanted.len() > 600);
    assert_eq!(found, wanted);
}

#[test]
fn failures_are_told_and_leave_nothing() {
    let registry = TestRegistry::plain();
    let lampyr = TestContext::with_images();
    let none = format!("{}/none:1", registry.name());
    let (error, hint) = lampyr.lampyr(["images", "pull", &none]).finish().failure();
    assert_eq!(error, format!("there is no image {none} (404)"));
    assert_eq!(hint, "check the name and the tag");
    let envelope = lampyr.lampyr(["run", "--image", &none, "true"]).envelope();
    assert_eq!(envelope.error("connection_failed"), error);
    let escape = Tar::default().file("../escape", b"").finish();
    let hostile = registry.push(&layout("x", &[escape], &json!({})), "x", "hostile:1");
    let (error, hint) = lampyr.lampyr(["images", "pull", &hostile]).finish().failure();
    assert_eq!(hint, "whoever made the image has to mend it");
    assert!(error.ends_with("cannot be used: '../escape' leads out of the image"), "{error}");
    let bad = lampyr.lampyr(["run", "--image", "a:b:c", "true"]).finish();
    assert_eq!(bad.status(), Some(2), "{bad:?}");
    let (error, _) = lampyr.lampyr(["images", "inspect", "none"]).finish().failure();
    assert_eq!(error, "image 'none' not found");
    assert_eq!(std::fs::read_dir(lampyr.home().join("tmp")).unwrap().count(), 0);
    assert_eq!(std::fs::read_dir(lampyr.home().join("images")).unwrap().count(), 1);
}

#[test]
fn images_leave_as_they_came_and_come_back() {
    let registry = TestRegistry::plain();
    let above = Tar::default().file("above", b"above").finish();
    let config = json!({"Env": ["A=b"], "Cmd": ["cat", "/above"], "Labels": {"of": "tests"}});
    let layout = layout("x", &[busybox().finish(), above], &config);
    let reference = registry.push(&layout, "x", "box:1");
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let lampyr = TestContext::with_images();
    let ask = |words: &[&str]| lampyr.lampyr(words).within(LONG).finish().json();
    let pulled = ask(&["images", "pull", &reference]);

    // To another repository, where skopeo finds the very same image.
    let copy = format!("{}/copy:2", registry.name());
    assert_eq!(ask(&["images", "push", &reference, &copy]), json!({"pushed": copy}));
    registry.pull("copy:2", &dir.path().join("theirs"), "y");
    let manifest = &pulled["origin"]["manifest"];
    let index = std::fs::read_to_string(dir.path().join("theirs/index.json")).unwrap();
    assert!(index.contains(manifest.as_str().unwrap()), "{index}");

    // Into a file, from which we and skopeo read it.
    let saved = path("saved.tar");
    ask(&["images", "save", &reference, &saved]);
    ask(&["images", "rm", &reference]);
    ask(&["images", "prune"]);
    assert_eq!(ask(&["images", "load", &saved])[0]["digest"], pulled["digest"]);
    assert_eq!(ask(&["images", "import", &saved, "mine"])["config"], pulled["config"]);
    let docker = path("docker.tar");
    let mut skopeo = Command::new("skopeo");
    skopeo.args(["--insecure-policy", "copy", &format!("oci-archive:{saved}")]);
    succeed(skopeo.arg(format!("docker-archive:{docker}:box:3")));
    // What Docker saves has other layers, but the same files.
    assert_eq!(ask(&["images", "import", &docker, "theirs"])["config"], pulled["config"]);
    let run = lampyr.lampyr(["run", "--image", "theirs"]).within(LONG);
    assert_eq!(run.envelope().success(), "above");

    // A root directory is an image of one layer, and can be pushed.
    let root = path("root.tar");
    std::fs::write(&root, busybox().finish()).unwrap();
    assert_eq!(ask(&["images", "import", &root, "plain"])["command"], json!([]));
    let (error, hint) = lampyr.lampyr(["images", "push", "default", &copy]).finish().failure();
    assert_eq!(error, "image 'default' cannot leave this host: it was not made of layers");
    assert!(hint.starts_with("`lampyr images create NAME --from default`"), "{hint}");
    ask(&["images", "push", "plain", &copy]);
    assert_eq!(ask(&["images", "pull", &copy])["origin"]["layers"].as_array().unwrap().len(), 1);
    let none = lampyr.lampyr(["run", "--image", "plain"]).within(LONG).finish();
    assert_eq!(none.status(), Some(2), "{none:?}");
    assert!(none.stderr().contains("image 'plain' has none of its own"), "{none:?}");
}

#[test]
fn an_image_is_created_in_a_vm_and_unpacked_elsewhere() {
    let registry = TestRegistry::plain();
    let config = json!({"Env": ["A=b"], "Cmd": ["cat", "/made/a"], "WorkingDir": "/made"});
    let layout = layout("x", &[busybox().finish()], &config);
    let reference = registry.push(&layout, "x", "box:1");
    let lampyr = TestContext::with_images();
    let make = "echo $A > a; ln a again; printf x > setuid; chown 70000:3000000000 setuid; \
        chmod 4711 setuid; mknod null c 1 3; mkfifo pipe; ln -s a link; truncate -s 9M sparse; \
        touch -d '1960-01-01 00:00' old; mkdir -m 1777 sticky; touch $(printf %0200d 7)";
    let created = lampyr
        .lampyr(["images", "create", "mine", "--from", &reference, "--run", make])
        .args(["--run", "rm /etc/group; echo said"])
        .within(LONG)
        .finish();
    assert_eq!(created.status(), Some(0), "{created:?}");
    assert!(created.stderr().contains("said\n"), "{created:?}");
    let created: Value = serde_json::from_str(&created.stdout()).unwrap();
    assert_eq!((&created["base"], &created["name"]), (&json!(reference), &json!("mine")));
    // What it began as is a layer still, and what is new is all that the other has.
    let layers = created["origin"]["layers"].as_array().unwrap();
    let beneath = lampyr.lampyr(["images", "inspect", &reference]).finish().json();
    assert_eq!((layers.len(), &layers[0]), (2, &beneath["origin"]["layers"][0]));
    let digest = layers[1].as_str().unwrap().trim_start_matches("sha256:");
    let above = lampyr.home().join("blobs/sha256").join(digest).metadata().unwrap().len();
    // Nine megabytes of nothing, packed, are most of it.
    assert!(above < 200_000, "{above}");
    let run = |words: &[&str]| {
        let call = lampyr.lampyr(["run", "--image", "mine"]).args(words).within(LONG);
        call.envelope().success().to_owned()
    };
    assert_eq!(run(&[]), "b\n");
    assert_eq!(run(&["ls /etc/group 2>/dev/null || echo gone"]), "gone\n");

    let target = format!("{}/mine:1", registry.name());
    assert_eq!(lampyr.lampyr(["images", "push", "mine", &target]).finish().status(), Some(0));
    let dir = tempfile::tempdir().unwrap();
    let theirs = dir.path().join("layout");
    registry.pull("mine:1", &theirs, "y");
    let bundle = dir.path().join("bundle");
    let image = format!("{}:y", theirs.display());
    succeed(Command::new("umoci").args(["unpack", "--image", &image]).arg(&bundle));
    let list = "stat -c '%n %a %u %g %F %t:%T %h %s %Y' *; md5sum a again setuid sparse";
    let mut shell = Command::new("/bin/busybox");
    let here = format!("cd \"$1\"; busybox {}", list.replace("; md5sum", "; busybox md5sum"));
    let found = succeed(shell.args(["sh", "-c", &here, "list"]).arg(bundle.join("rootfs/made")));
    assert!(!bundle.join("rootfs/etc/group").exists() && bundle.join("rootfs/etc/passwd").exists());
    let files = |text: &str| -> Vec<String> {
        text.lines().filter(|line| !line.contains(" directory ")).map(str::to_owned).collect()
    };
    let wanted = files(&run(&[list]));
    assert!(wanted.len() >= 12, "{wanted:?}");
    assert_eq!(files(&found), wanted);

    let words = ["images", "create", "never", "--from", &reference, "--run", "exit 3"];
    let (error, _) = lampyr.lampyr(words).within(LONG).finish().failure();
    assert_eq!(error, "'exit 3' failed with exit code 3, and no image was made");
    assert_eq!(lampyr.lampyr(["images", "inspect", "never"]).finish().status(), Some(1));
}
