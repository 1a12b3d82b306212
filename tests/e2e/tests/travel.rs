//! Snapshots in a real registry, and in homes that have nothing but the kit.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lampyr_e2e::{Call, Session, TestContext, entries, eventually, is_root, rows};
use lampyr_test_registry::{Gate, Layout, Packing, Rule, Tar, TestRegistry, digest};
use serde_json::{Value, json};

/// Packing and unpacking take longer than a run.
const LONG: Duration = Duration::from_mins(3);
/// A machine that is saved quickly.
const SMALL: [&str; 2] = ["--memory", "256MB"];

/// A home with a snapshot, of a VM with this in a file and in memory.
fn with_snapshot(name: &str, what: &str) -> TestContext {
    let own = TestContext::fresh();
    let session = Session::start(&own, &SMALL);
    session.sh(&format!("echo {what} | tee /root/file > /dev/shm/memory")).success();
    own.lampyr(["snapshot", "create", &session.sid, name]).finish().json();
    drop(session);
    own
}

/// A home that has a kit, and no image.
fn without_images() -> TestContext {
    let own = TestContext::fresh();
    fs::remove_file(own.home().join("images")).unwrap();
    own
}

fn push(from: &TestContext, name: &str, reference: &str) -> Value {
    from.lampyr(["snapshot", "push", name, reference]).within(LONG).finish().json()
}

fn pull(to: &TestContext, reference: &str) -> Call {
    to.lampyr(["snapshot", "pull", reference]).within(LONG)
}

fn said(of: &TestContext, snapshot: &str) -> String {
    let words = ["run", "--snapshot", snapshot, "cat /root/file /dev/shm/memory"];
    of.lampyr(words).within(LONG).envelope().success().to_owned()
}

fn names(of: &TestContext) -> Vec<String> {
    let rows = rows(of, &["snapshot", "list"]);
    rows.iter().map(|row| row["name"].as_str().unwrap().to_owned()).collect()
}

fn files(of: &TestContext, part: &str) -> Vec<PathBuf> {
    entries(&of.home().join(part))
}

fn bytes(of: &TestContext, part: &str) -> u64 {
    files(of, part).iter().map(|path| path.metadata().map_or(0, |meta| meta.len())).sum()
}

/// Requires that a pull that failed left no more than what the next one goes on
/// with.
fn assert_as_it_was(of: &TestContext) {
    of.assert_tidy();
    let left = [files(of, "snapshots/blobs/sha256"), files(of, "bases"), files(of, "tmp")].concat();
    assert_eq!(left, Vec::<PathBuf>::new());
    assert_eq!(names(of), Vec::<String>::new());
}

/// When each blob of a registry was written.
fn written(registry: &TestRegistry) -> Vec<(PathBuf, std::time::SystemTime)> {
    let blobs = registry.storage().join("docker/registry/v2/blobs/sha256");
    let blobs = entries(&blobs).into_iter().flat_map(|dir| entries(&dir));
    let data = blobs.map(|blob| blob.join("data"));
    let mut all: Vec<_> =
        data.map(|path| (path.clone(), path.metadata().unwrap().modified().unwrap())).collect();
    all.sort();
    all
}

#[test]
fn what_was_pushed_runs_in_a_home_that_has_nothing_but_the_kit() {
    let registry = TestRegistry::plain();
    let name = format!("{}/me/tools:1", registry.name());
    let from = with_snapshot("one", "kept");
    let pushed = push(&from, "one", &name);
    assert_eq!(pushed["pushed"], name.as_str());
    let before = written(&registry);
    assert_eq!(push(&from, "one", &name), pushed);
    // All is there already, but for the manifest, which is named anew.
    assert_eq!(written(&registry).len(), before.len());
    let large = |all: Vec<(PathBuf, _)>| -> Vec<_> {
        all.into_iter().filter(|(path, _)| path.metadata().unwrap().len() > 4096).collect()
    };
    assert_eq!(large(written(&registry)), large(before));

    let to = without_images();
    let pulled = pull(&to, &name).finish().json();
    let original = from.lampyr(["snapshot", "inspect", "one"]).finish().json();
    assert_eq!((&pulled["digest"], &pulled["name"]), (&original["digest"], &json!("tools")));
    assert_eq!(files(&to, "blobs/partial"), Vec::<PathBuf>::new());
    assert_eq!(said(&to, "tools"), "kept\nkept\n");
    // What came with it is no image: nobody else gets it.
    assert_eq!(to.lampyr(["images", "list"]).finish().json(), json!([]));
    let session = Session::start(&to, &["--snapshot", "tools"]);
    let fork = to.lampyr(["fork", &session.sid]).finish().json();
    let fork = Session::of(&to, fork["sids"][0].as_str().unwrap());
    assert_eq!(fork.sh("cat /root/file").success(), "kept\n");
    fork.sh("echo more >> /root/file").success();
    to.lampyr(["snapshot", "create", &fork.sid, "more"]).finish().json();
    to.lampyr(["snapshot", "rm", "tools", "--force"]).finish().refusal();
    fork.stop();
    session.stop();

    // What was built on it goes on, and comes back, with what it was built on.
    let second = format!("{}/me/more:1", registry.name());
    push(&to, "more", &second);
    let back = pull(&from, &second).args(["back"]).finish().json();
    let parent = rows(&to, &["snapshot", "list"])[0]["parent"].clone();
    assert_eq!((&parent["digest"], &parent["name"]), (&original["digest"], &json!("tools")));
    // There it has the name that it was pushed by.
    assert_eq!(back["parent"], json!({"digest": original["digest"], "name": "one"}));
    assert_eq!(said(&from, "back"), "kept\nmore\nkept\n");
    assert_eq!(files(&from, "bases"), Vec::<PathBuf>::new());
    for name in ["more", "tools"] {
        to.lampyr(["snapshot", "rm", name]).finish().json();
    }
    assert_as_it_was(&to);
}

#[test]
fn a_name_that_is_taken_is_replaced_when_all_is_here_or_kept() {
    let registry = TestRegistry::plain();
    let name = format!("{}/one:1", registry.name());
    let (new, old) = (with_snapshot("one", "new"), with_snapshot("one", "old"));
    push(&new, "one", &name);
    let kept = pull(&old, &name).args(["--keep"]).finish();
    assert_eq!(kept.status(), Some(2), "{kept:?}");
    assert!(kept.stderr().contains("there is a snapshot named 'one' already"), "{kept:?}");
    let stored = registry.manifest("one:1");
    registry.damage(stored["layers"][1]["digest"].as_str().unwrap());
    let (error, _) = pull(&old, &name).finish().failure();
    assert!(error.contains("its digest is"), "{error}");
    assert_eq!(said(&old, "one"), "old\nold\n");
    registry.damage(stored["layers"][1]["digest"].as_str().unwrap());
    pull(&old, &name).finish().json();
    assert_eq!(said(&old, "one"), "new\nnew\n");
    old.assert_tidy();
}

#[test]
fn a_killed_pull_is_gone_on_with_and_two_at_once_are_one_transfer() {
    let registry = TestRegistry::plain();
    let gate = Gate::before(&registry);
    let from = with_snapshot("one", "kept");
    push(&from, "one", &format!("{}/one:1", registry.name()));
    let name = format!("{}/one:1", gate.name());
    let to = TestContext::fresh();
    gate.set(Rule::Stall(4 << 20));
    let live = pull(&to, &name).start();
    eventually("nothing comes", || bytes(&to, "blobs/partial") > 3 << 20);
    let busy = to.lampyr(["images", "prune"]).finish().failure();
    assert_eq!(busy.0, "images are being fetched just now");
    live.signal(9);
    assert_eq!(live.finish().signal(), Some(9));
    to.assert_nothing_left();
    assert_as_it_was(&to);
    let kept = bytes(&to, "blobs/partial");
    assert!(kept > 3 << 20, "{kept}");
    gate.set(Rule::Pass);
    gate.given();
    let pulls = [(); 2].map(|()| pull(&to, &name).start());
    let [one, other] = pulls.map(|live| live.finish().json());
    assert_eq!(one["digest"], other["digest"]);
    let parts = registry.manifest("one:1")["layers"].as_array().unwrap().clone();
    // The last is the root disk, which is here.
    let size = |part: &Value| part["size"].as_u64().unwrap();
    let whole: u64 = parts[..parts.len() - 1].iter().map(size).sum();
    let given = gate.given();
    assert!(given < whole - kept + 200_000, "{given} of {whole} given, {kept} kept");
    assert_eq!(said(&to, "one"), "kept\nkept\n");
    assert_eq!(bytes(&to, "blobs/partial"), 0);
    to.assert_tidy();
}

/// Changes a manifest in a registry.
type Change = dyn Fn(&mut Value);

#[test]
fn what_is_no_snapshot_or_of_another_kind_is_told_in_a_sentence() {
    let registry = TestRegistry::plain();
    let from = with_snapshot("one", "kept");
    let name = |tag: &str| format!("{}/one:{tag}", registry.name());
    push(&from, "one", &name("1"));
    let to = TestContext::fresh();
    let refused = |reference: &str, error: &str, hint: &str| {
        let said = pull(&to, reference).finish().failure();
        assert!(said.0.contains(error) && said.1.contains(hint), "{said:?}");
        assert_as_it_was(&to);
        assert_eq!(bytes(&to, "blobs/partial"), 0);
    };
    let mut layout = Layout::default();
    layout.image("x", &[Tar::default().finish()], Packing::Gzip, &json!({}));
    let image = registry.push(&layout, "x", "image:1");
    refused(&image, "/image:1 is no snapshot", "lampyr images pull");
    refused(&name("none"), "there is no image", "check the name");
    let (said, hint) = to.lampyr(["images", "pull", &name("1")]).finish().failure();
    assert_eq!(said, format!("{} is a snapshot, no image", name("1")));
    assert_eq!(hint, format!("`lampyr snapshot pull {}` fetches it", name("1")));
    let good = registry.manifest("one:1");
    let changes: [(&str, &str, &Change); 4] = [
        ("snapshot.packed.v9", "use a newer lampyr", &|m| {
            m["artifactType"] = "application/vnd.lampyr.snapshot.packed.v9".into();
        }),
        ("it has application/vnd.lampyr.memory.v9", "use a newer lampyr", &|m| {
            m["layers"][1]["mediaType"] = "application/vnd.lampyr.memory.v9".into();
        }),
        ("the snapshot is damaged", "take it again", &|m| {
            m["layers"].as_array_mut().unwrap().remove(2);
        }),
        ("the snapshot is damaged", "take it again", &|m| {
            let other = m["layers"][3].clone();
            m["layers"][2]["digest"] = other["digest"].clone();
            m["layers"][2]["size"] = other["size"].clone();
        }),
    ];
    for (error, hint, change) in changes {
        let mut manifest = good.clone();
        change(&mut manifest);
        registry.set_manifest("one:2", &manifest);
        refused(&name("2"), error, hint);
    }
    let small = pull(&to, &name("1")).env("LAMPYR_MAX_IMAGE", "100MB").finish().failure();
    assert_eq!(small.0, "the snapshot unpacks to more than 100MB");
}

/// Writes a blob into a layout.
fn keep(of: &TestContext, bytes: &[u8]) -> String {
    let digest = digest(bytes);
    let blobs = of.home().join("snapshots/blobs/sha256");
    fs::write(blobs.join(digest.trim_start_matches("sha256:")), bytes).unwrap();
    digest
}

fn blob(of: &TestContext, digest: &Value) -> Vec<u8> {
    let name = digest.as_str().unwrap().trim_start_matches("sha256:");
    fs::read(of.home().join("snapshots/blobs/sha256").join(name)).unwrap()
}

/// Gives the one snapshot of a home another configuration, or other parts.
fn forge(of: &TestContext, change: &dyn Fn(&TestContext, &mut Value, &mut Value)) {
    let path = of.home().join("snapshots/index.json");
    let mut index: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let entry = &mut index["manifests"][0];
    let mut manifest: Value = serde_json::from_slice(&blob(of, &entry["digest"])).unwrap();
    let mut config = serde_json::from_slice(&blob(of, &manifest["config"]["digest"])).unwrap();
    change(of, &mut manifest, &mut config);
    let config = config.to_string();
    manifest["config"]["digest"] = keep(of, config.as_bytes()).into();
    manifest["config"]["size"] = config.len().into();
    let manifest = manifest.to_string();
    entry["digest"] = keep(of, manifest.as_bytes()).into();
    entry["size"] = manifest.len().into();
    fs::write(path, index.to_string()).unwrap();
}

/// Changes the header of a layer of a disk.
fn forge_layer(of: &TestContext, manifest: &mut Value, at: usize, byte: u8) {
    let layers = manifest["layers"].as_array_mut().unwrap();
    let is_disk = |part: &&mut Value| part["mediaType"].as_str().unwrap().contains("disk");
    let part = layers.iter_mut().find(is_disk).unwrap();
    let mut layer = blob(of, &part["digest"]);
    layer[at] = byte;
    part["digest"] = keep(of, &layer).into();
}

/// Changes a snapshot's manifest and its configuration.
type Forgery = dyn Fn(&TestContext, &mut Value, &mut Value);

#[test]
fn a_forged_snapshot_is_refused_before_anything_runs_of_it() {
    let registry = TestRegistry::plain();
    let from = with_snapshot("one", "kept");
    let index = from.home().join("snapshots/index.json");
    let honest = fs::read(&index).unwrap();
    let to = TestContext::fresh();
    let forgeries: [(&str, &Forgery); 6] = [
        // Layers with their data in a file, and over a file, that they name.
        ("the snapshot is damaged", &|of, manifest, _| forge_layer(of, manifest, 79, 4)),
        ("the snapshot is damaged", &|of, manifest, _| forge_layer(of, manifest, 15, 104)),
        ("the snapshot is damaged", &|_, _, config| config["of"]["memory"] = (1_u64 << 40).into()),
        ("the snapshot is damaged", &|_, _, config| config["of"]["image"] = "../../x".into()),
        ("the snapshot is damaged", &|_, _, config| config["engine"] = "\u{1b}[2J".into()),
        ("it needs qemu-99, here is qemu", &|_, _, config| config["engine"] = "qemu-99".into()),
    ];
    for (n, (error, forgery)) in forgeries.into_iter().enumerate() {
        forge(&from, forgery);
        let name = format!("{}/one:{n}", registry.name());
        if n == 3 {
            // It cannot leave: no image is called so.
            from.lampyr(["snapshot", "push", "one", &name]).within(LONG).finish().failure();
            fs::write(&index, &honest).unwrap();
            continue;
        }
        push(&from, "one", &name);
        fs::write(&index, &honest).unwrap();
        let said = pull(&to, &name).finish().failure();
        assert!(said.0.contains(error) && !said.1.is_empty(), "{n}: {said:?}");
        assert_as_it_was(&to);
        assert_eq!(bytes(&to, "blobs/partial"), 0, "{n}");
    }
}

/// A call for which `dir` is a file system of `size`.
fn on_a_small_disk(call: Call, size: &str, dir: &Path) -> Call {
    let script = format!("mount -t tmpfs -o size={size} none \"$0\" && exec \"$@\"");
    call.under(["unshare", "--mount", "sh", "-c", &script, dir.to_str().unwrap()])
}

#[test]
fn a_disk_that_fills_up_is_told_and_nothing_is_left() {
    if !is_root() {
        return;
    }
    let registry = TestRegistry::plain();
    let name = format!("{}/one:1", registry.name());
    let from = with_snapshot("one", "kept");
    let tmp = from.home().join("tmp");
    let call = from.lampyr(["snapshot", "push", "one", &name]).within(LONG);
    let (error, hint) = on_a_small_disk(call, "2m", &tmp).finish().failure();
    assert!(error.contains("No space left on device") && hint.contains("free some"), "{error}");
    from.assert_tidy();
    push(&from, "one", &name);
    let to = TestContext::fresh();
    for part in ["blobs", "tmp"] {
        let dir = to.home().join(part);
        fs::create_dir_all(&dir).unwrap();
        let (error, hint) = on_a_small_disk(pull(&to, &name), "2m", &dir).finish().failure();
        assert!(error.contains("No space left on device") && hint.contains("free some"), "{error}");
        assert_as_it_was(&to);
    }
    pull(&to, &name).finish().json();
    assert_eq!(said(&to, "one"), "kept\nkept\n");
}
