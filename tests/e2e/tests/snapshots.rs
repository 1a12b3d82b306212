//! Snapshots of running sessions, on real machines.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lampyr_e2e::{Finished, Session, TestContext, entries, is_root, rows};
use serde_json::Value;

/// Booting for a template takes longer than a run.
const LONG: Duration = Duration::from_mins(3);
/// A machine that is saved quickly.
const SMALL: [&str; 2] = ["--memory", "256MB"];
const SERVER: &str = "python3 -c '
import socket
s = socket.create_server((\"127.0.0.1\", 4000))
while True:
    c = s.accept()[0]
    c.sendall(b\"served\\n\"); c.close()
'";
const ASK: &str = "exec 3<>/dev/tcp/127.0.0.1/4000; cat <&3";

/// Saves a session; what was printed.
fn create(of: &Session<'_>, context: &TestContext, name: &str) -> Value {
    context.lampyr(["snapshot", "create", &of.sid, name]).finish().json()
}

fn run_from(context: &TestContext, name: &str, command: &str) -> lampyr_e2e::Call {
    context.lampyr(["run", "--snapshot", name, command])
}

fn names(context: &TestContext) -> Vec<String> {
    let rows = rows(context, &["snapshot", "list"]);
    rows.iter().map(|row| row["name"].as_str().unwrap().to_owned()).collect()
}

/// Requires a sentence with this in it, and a hint.
fn refused(finished: &Finished, what: &str) {
    let said = finished.stderr();
    assert!(matches!(finished.status(), Some(1 | 2)), "{finished:?}");
    assert!(said.contains(what) && said.contains("\nhint: "), "{finished:?}");
}

fn rm(context: &TestContext, words: &[&str]) -> Finished {
    context.lampyr(["snapshot", "rm"].iter().chain(words)).finish()
}

/// All blobs, by what they are.
fn blobs(context: &TestContext) -> Vec<PathBuf> {
    entries(&context.home().join("snapshots/blobs/sha256"))
}

#[test]
fn what_is_launched_from_a_snapshot_runs_already() {
    let own = TestContext::fresh();
    let session = Session::start(&own, &SMALL);
    session.sh("echo kept > /root/file; echo here > /dev/shm/memory").success();
    let serving = own.lampyr(["exec", &session.sid, "--detach", SERVER]).finish();
    assert_eq!(serving.status(), Some(0), "{serving:?}");
    session.sh("until grep -qs :0FA0 /proc/net/tcp; do sleep 0.05; done").success();
    let told = create(&session, &own, "served");
    assert!(told["pause_ms"].as_f64().unwrap() > 0.0 && told["parent"].is_null(), "{told}");
    assert_eq!((&told["name"], &told["memory"]), (&"served".into(), &(256_u64 << 20).into()));
    // The session goes on, and what comes later is not in the snapshot.
    session.sh("echo later > /root/file").success();
    session.stop();

    let look = format!("cat /root/file /dev/shm/memory; bash -c '{ASK}'");
    assert_eq!(run_from(&own, "served", &look).envelope().success(), "kept\nhere\nserved\n");
    let again = Session::start(&own, &["--snapshot", "served"]);
    assert_eq!(again.row().unwrap()["memory"], 256_u64 << 20);
    assert_eq!(again.sh(&look).success(), "kept\nhere\nserved\n");
    refused(&rm(&own, &["served"]), "in use");
    again.stop();
    assert_eq!(rm(&own, &["served"]).json(), serde_json::json!({"removed": ["served"]}));
    assert!(blobs(&own).is_empty() && names(&own).is_empty(), "{:?}", blobs(&own));
    let templates = own.templates();
    assert!(!templates.iter().any(|t| t.file_name().unwrap().to_string_lossy().starts_with("s-")));
    own.assert_tidy();
}

#[test]
fn what_does_not_go_with_a_snapshot_is_refused() {
    let own = TestContext::fresh();
    let gone = run_from(&own, "nothing", "true").envelope();
    assert!(gone.error("connection_failed").contains("snapshot 'nothing' not found"), "{gone:?}");
    refused(&rm(&own, &["nothing"]), "not found");
    refused(&own.lampyr(["snapshot", "inspect", "nothing"]).finish(), "not found");
    let session = Session::start(&own, &SMALL);
    create(&session, &own, "one");
    let larger = run_from(&own, "one", "true").args(["--memory", "1GB"]).finish();
    assert_eq!(larger.status(), Some(2), "{larger:?}");
    assert!(larger.stderr().contains("memory"), "{larger:?}");
    run_from(&own, "one", "true").args(SMALL).envelope().success();
    refused(&own.lampyr(["snapshot", "create", "nobody", "x"]).finish(), "not found");
    let taken = own.lampyr(["snapshot", "create", &session.sid, "one", "--keep"]).finish();
    assert!(taken.stderr().contains("there is a snapshot named 'one' already"), "{taken:?}");
    session.sh("echo two > /root/file").success();
    create(&session, &own, "one");
    assert_eq!(run_from(&own, "one", "cat /root/file").envelope().success(), "two\n");
    assert_eq!(names(&own), ["one"]);
    session.stop();
    own.assert_tidy();
}

#[test]
fn a_snapshot_of_what_was_launched_from_one_is_built_on_it() {
    let own = TestContext::fresh();
    let session = Session::start(&own, &SMALL);
    session.sh("echo 1 >> /root/file").success();
    create(&session, &own, "base");
    session.stop();
    let session = Session::start(&own, &["--snapshot", "base"]);
    session.sh("echo 2 >> /root/file").success();
    let top = create(&session, &own, "top");
    session.stop();
    assert_eq!(top["parent"]["name"], "base");
    let bytes = |key: &str| top[key].as_u64().unwrap();
    assert!(bytes("own_bytes") * 2 < bytes("total_bytes"), "{top}");
    assert_eq!(run_from(&own, "top", "cat /root/file").envelope().success(), "1\n2\n");
    refused(&rm(&own, &["base"]), "snapshot 'top' was built on 'base'");
    assert_eq!(run_from(&own, "base", "cat /root/file").envelope().success(), "1\n");
    let mut removed = rm(&own, &["base", "--force"]).json()["removed"].as_array().unwrap().clone();
    removed.sort_by_key(ToString::to_string);
    assert_eq!(removed, ["base", "top"]);
    assert!(blobs(&own).is_empty());
    own.assert_tidy();
}

/// Forks a session once.
fn fork<'a>(context: &'a TestContext, of: &Session<'_>) -> Session<'a> {
    let told = context.lampyr(["fork", of.sid.as_str()]).finish().json();
    Session::of(context, told["sids"][0].as_str().unwrap())
}

#[test]
fn a_snapshot_of_a_fork_keeps_what_is_new_and_what_it_was_built_on() {
    let own = TestContext::fresh();
    let session = Session::start(&own, &SMALL);
    session.sh("echo 1 > /root/file; echo 1 > /dev/shm/memory").success();
    create(&session, &own, "base");
    session.stop();
    let parent = Session::start(&own, &["--snapshot", "base"]);
    parent.sh("echo 2 >> /root/file; echo 2 >> /dev/shm/memory").success();
    let child = fork(&own, &parent);
    let grandchild = fork(&own, &child);
    parent.stop();
    child.stop();
    grandchild.sh("echo 3 >> /root/file; echo 3 >> /dev/shm/memory").success();
    let top = create(&grandchild, &own, "top");
    grandchild.stop();
    let bytes = |key: &str| top[key].as_u64().unwrap();
    assert!(bytes("own_bytes") * 2 < bytes("total_bytes"), "{top}");
    assert_eq!(top["parent"]["name"], "base");
    let told = run_from(&own, "top", "cat /root/file /dev/shm/memory").envelope();
    assert_eq!(told.success(), "1\n2\n3\n1\n2\n3\n");
    refused(&rm(&own, &["base"]), "snapshot 'top' was built on 'base'");
    own.assert_tidy();
}

#[test]
fn two_that_are_saved_at_once_are_both_there() {
    let own = TestContext::fresh();
    let session = Session::start(&own, &SMALL);
    session.sh("echo both > /root/file").success();
    let start = |name: &str| own.lampyr(["snapshot", "create", &session.sid, name]).start();
    let live = [start("a"), start("b"), start("b")];
    for live in live {
        live.finish().json();
    }
    session.stop();
    assert_eq!(names(&own), ["a", "b"]);
    for name in ["a", "b"] {
        assert_eq!(run_from(&own, name, "cat /root/file").envelope().success(), "both\n");
    }
    own.assert_tidy();
}

/// Changes a byte in the middle of a file, whatever its mode; changes it back
/// when it is dropped.
struct Damage<'a>(&'a Path, u64);

impl<'a> Damage<'a> {
    fn to(path: &'a Path) -> Self {
        let damage = Self(path, path.metadata().unwrap().len() / 2);
        damage.flip();
        damage
    }

    fn flip(&self) {
        let file = File::options().read(true).write(true).open(self.0).unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, self.1).unwrap();
        file.write_all_at(&[byte[0] ^ 0x20], self.1).unwrap();
    }
}

impl Drop for Damage<'_> {
    fn drop(&mut self) {
        self.flip();
    }
}

#[test]
fn a_damaged_snapshot_is_refused_in_a_sentence_and_can_be_removed() {
    let own = TestContext::fresh();
    let session = Session::start(&own, &SMALL);
    session.sh("echo good > /root/file; sync").success();
    create(&session, &own, "good");
    let of_good = blobs(&own);
    create(&session, &own, "other");
    session.stop();
    // Configuration, manifest, memory, pages, devices and two layers of a disk.
    assert_eq!(of_good.len(), 7);
    for blob in &of_good {
        let _damage = Damage::to(blob);
        let templates = own.templates().into_iter();
        let of_snapshot = |t: &PathBuf| t.file_name().unwrap().to_string_lossy().starts_with("s-");
        templates.filter(of_snapshot).for_each(|t| fs::remove_dir_all(t).unwrap());
        let run = run_from(&own, "good", "true").envelope();
        let message = run.error("connection_failed");
        assert!(message.contains("the snapshot is damaged"), "{}: {run:?}", blob.display());
        assert_eq!(own.lampyr(["snapshot", "list"]).finish().status(), Some(0));
    }
    let index = own.home().join("snapshots/index.json");
    let index: Value = serde_json::from_slice(&fs::read(index).unwrap()).unwrap();
    let manifest = index["manifests"][0]["digest"].as_str().unwrap().replace("sha256:", "");
    fs::remove_file(own.home().join("snapshots/blobs/sha256").join(manifest)).unwrap();
    let listed = own.lampyr(["snapshot", "list"]).finish();
    assert_eq!(listed.json().as_array().unwrap().len(), 1);
    assert!(listed.stderr().contains("snapshot 'good' is left out"), "{listed:?}");
    rm(&own, &["good"]).json();
    run_from(&own, "other", "true").envelope().success();
    rm(&own, &["other"]).json();
    assert!(blobs(&own).is_empty());
    own.assert_tidy();
}

#[test]
fn an_image_that_is_gone_or_another_one_is_told_of() {
    let own = TestContext::with_images();
    let mine = image(&own, '1');
    let session = Session::start(&own, &[&SMALL[..], &["--image", "mine"]].concat());
    create(&session, &own, "on-mine");
    session.stop();
    run_from(&own, "on-mine", "true").envelope().success();
    fs::remove_dir_all(&mine).unwrap();
    let run = run_from(&own, "on-mine", "true").envelope();
    assert!(run.error("connection_failed").contains("mine"), "{run:?}");
    image(&own, '2');
    let run = run_from(&own, "on-mine", "true").envelope();
    assert!(run.error("connection_failed").contains("not what it was"), "{run:?}");
    own.assert_tidy();
}

/// Makes an image `mine` of the default one, with a digest of its own.
fn image(own: &TestContext, digit: char) -> PathBuf {
    let (default, mine) = (own.home().join("images/default"), own.home().join("images/mine"));
    fs::create_dir(&mine).unwrap();
    fs::hard_link(default.join("disk.ext4"), mine.join("disk.ext4")).unwrap();
    let manifest = fs::read(default.join("manifest.json")).unwrap();
    let mut manifest: Value = serde_json::from_slice(&manifest).unwrap();
    manifest["name"] = "mine".into();
    manifest["digest"] = digit.to_string().repeat(64).into();
    fs::write(mine.join("manifest.json"), manifest.to_string()).unwrap();
    mine
}

/// A session on a disk of its own, which has no room for its copy.
const ON_A_FULL_DISK: &str = r#"
mkdir "$LAMPYR_HOME.old" && mount --bind "$LAMPYR_HOME" "$LAMPYR_HOME.old"
mount -t tmpfs -o size=700m none "$LAMPYR_HOME" && chmod 700 "$LAMPYR_HOME"
cp -a "$LAMPYR_HOME.old"/* "$LAMPYR_HOME"/
"$1" session start --memory 256MB --name full >&2
"$1" exec full "head -c 30000000 /dev/urandom > /dev/shm/x" >&2
used=$(df -k --output=used "$LAMPYR_HOME" | tail -1)
mount -o remount,size=$((used + 4096))k "$LAMPYR_HOME"
"$1" snapshot create full one && exit 9
mount -o remount,size=700m "$LAMPYR_HOME"
cd "$LAMPYR_HOME"
echo left: $(ls tmp) $(ls snapshots/blobs/sha256 2>/dev/null)
"$1" snapshot list
"$1" exec full "echo alive"
"$1" snapshot create full one
"$1" session stop full
"#;

#[test]
fn a_create_on_a_full_disk_is_one_sentence_and_leaves_nothing() {
    if !is_root() {
        return;
    }
    let own = TestContext::fresh();
    let words = ["unshare", "-m", "--propagation", "private", "sh", "-ec", ON_A_FULL_DISK, "sh"];
    let finished = own.lampyr(Vec::<&str>::new()).under(words).within(LONG).finish();
    assert_eq!(finished.status(), Some(0), "{finished:?}");
    let (said, told) = (finished.stdout(), finished.stderr());
    assert!(said.starts_with("left:\n[]\n"), "{finished:?}");
    assert!(said.contains("alive") && said.contains("\"name\":\"one\""), "{finished:?}");
    let errors = told.lines().filter(|line| line.starts_with("error: ")).collect::<Vec<_>>();
    assert!(errors.len() == 1 && errors[0].contains("No space left on device"), "{finished:?}");
    assert!(told.contains("\nhint: free some space"), "{finished:?}");
}
