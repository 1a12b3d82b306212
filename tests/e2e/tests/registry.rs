//! A real registry that is filled with the distribution's own packages, and
//! what goes wrong between it and a disk.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use lampyr_e2e::{Call, TestContext, entries, eventually, is_root};
use lampyr_test_registry::{Gate, Layout, Packing, Rule, Tar, TestRegistry, distribution, succeed};
use serde_json::json;

/// Booting for a template takes longer than a run.
const LONG: Duration = Duration::from_mins(3);

/// The most memory that a pull may take.
const MOST_MEMORY: u64 = 150 << 20;

fn filled() -> TestRegistry {
    let registry = TestRegistry::plain();
    let usual = distribution("usual");
    registry.fill(&usual, "python", "py:3", &["--preserve-digests"]);
    registry.fill(&usual, "debian", "debian:13", &["--preserve-digests"]);
    registry
}

/// An image with one large file that does not pack.
fn noise(len: usize) -> Layout {
    let mut state = 1_u64;
    let noise = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 56) as u8
    });
    let noise: Vec<u8> = noise.take(len).collect();
    let mut layout = Layout::default();
    layout.image("x", &[Tar::default().file("n", &noise).finish()], Packing::Plain, &json!({}));
    layout
}

fn pull(lampyr: &TestContext, reference: &str) -> Call {
    lampyr.lampyr(["images", "pull", reference]).within(LONG)
}

/// The names in a part of a home.
fn names(lampyr: &TestContext, part: &str) -> Vec<String> {
    let name = |path: &std::path::PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
    let mut names: Vec<_> = entries(&lampyr.home().join(part)).iter().map(name).collect();
    names.sort();
    names
}

/// The lengths of the files in a part of a home, together.
fn bytes(lampyr: &TestContext, part: &str) -> u64 {
    let files = entries(&lampyr.home().join(part));
    files.iter().map(|path| path.metadata().unwrap().len()).sum()
}

/// Requires that a failed pull has left nothing but what the next one goes on
/// with.
fn assert_as_it_was(lampyr: &TestContext) {
    lampyr.assert_tidy();
    assert_eq!(names(lampyr, "images"), ["default"]);
    assert_eq!(names(lampyr, "tmp"), Vec::<String>::new());
}

#[test]
fn python_of_a_registry_prints_and_what_it_shares_is_there() {
    let registry = filled();
    let lampyr = TestContext::with_images();
    let name = format!("localhost:{}/py:3", registry.port());
    let words = ["run", "--image", &name, "--", "python3", "-c", "print(1)"];
    assert_eq!(lampyr.lampyr(words).within(LONG).envelope().success(), "1\n");
    let before = bytes(&lampyr, "blobs/sha256");
    pull(&lampyr, &format!("{}/debian:13", registry.name())).finish().json();
    let added = bytes(&lampyr, "blobs/sha256") - before;
    // A manifest and a configuration.
    assert!(added < 20_000, "{added} more than {before}");
}

#[test]
fn an_encrypted_registry_that_wants_a_password_gives_images_of_docker_s_kind() {
    let registry = TestRegistry::encrypted_with_password();
    let usual = distribution("usual");
    let name = registry.fill(&usual, "busybox", "me/box:1", &["--format", "v2s2"]);
    let lampyr = TestContext::with_images();
    let docker = tempfile::tempdir().unwrap();
    let run = || {
        let run = lampyr.lampyr(["run", "--image", &name, "--", "/bin/busybox", "echo", "1"]);
        run.within(LONG).env("DOCKER_CONFIG", docker.path())
    };
    let (error, hint) = pull(&lampyr, &name).env("DOCKER_CONFIG", docker.path()).finish().failure();
    assert!(error.starts_with("cannot trust the registry"), "{error}");
    assert!(hint.contains("LAMPYR_REGISTRY_CA"), "{hint}");
    let run = || run().env("LAMPYR_REGISTRY_CA", registry.ca());
    let refused = run().envelope();
    let message = refused.error("connection_failed");
    assert!(message.ends_with("(401): it wants credentials"), "{message}");
    assert_as_it_was(&lampyr);
    registry.credentials(&docker.path().join("config.json"));
    assert_eq!(run().envelope().success(), "1\n");
}

#[test]
fn an_image_of_many_layers_is_one_disk() {
    let registry = TestRegistry::plain();
    let name = registry.fill(&distribution("usual"), "many", "many:1", &["--preserve-digests"]);
    let lampyr = TestContext::with_images();
    let command = "b=/bin/busybox; $b cat /etc/last; $b ls /etc/layers | $b wc -l";
    let words = ["run", "--image", &name, "--", "/bin/busybox", "sh", "-c", command];
    assert_eq!(lampyr.lampyr(words).within(LONG).envelope().success(), "120\n120\n");
    let inspected = lampyr.lampyr(["images", "inspect", &name]).finish().json();
    assert_eq!(inspected["origin"]["layers"].as_array().unwrap().len(), 121);
}

/// In bytes; none of a process that has ended.
fn peak_memory(process: lampyr_e2e::Process) -> u64 {
    let kib = process.status("VmHWM");
    kib.trim_end_matches(" kB").parse().map_or(0, |kib: u64| kib << 10)
}

#[test]
fn a_pull_takes_little_memory() {
    let registry = TestRegistry::plain();
    let name = registry.push(&noise(200 << 20), "x", "large:1");
    let lampyr = TestContext::with_images();
    let live = pull(&lampyr, &name).start();
    let mut peak = 0;
    while let Some(process) = live.process() {
        peak = peak.max(peak_memory(process));
        std::thread::sleep(Duration::from_millis(1));
    }
    live.finish().json();
    assert!((1 << 20..MOST_MEMORY).contains(&peak), "{peak} bytes");
}

#[test]
fn a_killed_pull_is_gone_on_with() {
    let registry = TestRegistry::plain();
    registry.push(&noise(20 << 20), "x", "x:1");
    let gate = Gate::before(&registry);
    let name = format!("{}/x:1", gate.name());
    let lampyr = TestContext::with_images();
    gate.set(Rule::Stall(8 << 20));
    let live = pull(&lampyr, &name).start();
    eventually("nothing comes", || bytes(&lampyr, "blobs/partial") > 7 << 20);
    live.signal(9);
    assert_eq!(live.finish().signal(), Some(9));
    assert_as_it_was(&lampyr);
    let kept = bytes(&lampyr, "blobs/partial");
    gate.set(Rule::Pass);
    gate.given();
    pull(&lampyr, &name).finish().json();
    let given = gate.given();
    let rest = (20 << 20) - kept;
    assert!((rest..rest + 100_000).contains(&given), "{given} given, {kept} kept");
    assert_eq!(names(&lampyr, "blobs/partial"), Vec::<String>::new());
}

#[test]
fn an_interrupt_ends_a_pull_and_nobody_prunes_under_one() {
    let registry = TestRegistry::plain();
    registry.push(&noise(1 << 20), "x", "x:1");
    let gate = Gate::before(&registry);
    gate.set(Rule::Stall(500_000));
    let lampyr = TestContext::with_images();
    let live = pull(&lampyr, &format!("{}/x:1", gate.name())).start();
    eventually("nothing comes", || bytes(&lampyr, "blobs/partial") > 400_000);
    let (error, hint) = lampyr.lampyr(["images", "prune"]).finish().failure();
    assert_eq!(
        (error.as_str(), hint.as_str()),
        ("images are being fetched just now", "try again when that is over",)
    );
    live.signal(2);
    let finished = live.finish();
    assert_eq!(finished.status(), Some(130), "{finished:?}");
    assert_as_it_was(&lampyr);
    let pruned = lampyr.lampyr(["images", "prune"]).finish().json();
    assert!(pruned["removed"].to_string().contains("part of a blob"), "{pruned}");
    assert_eq!(bytes(&lampyr, "blobs/partial"), 0);
}

#[test]
fn two_pulls_at_once_are_one_transfer() {
    let registry = TestRegistry::plain();
    registry.push(&noise(8 << 20), "x", "x:1");
    let gate = Gate::before(&registry);
    let name = format!("{}/x:1", gate.name());
    let lampyr = TestContext::with_images();
    let pulls = [(); 3].map(|()| pull(&lampyr, &name).start());
    let images = pulls.map(|live| live.finish().json());
    assert_eq!((&images[0], &images[1]), (&images[1], &images[2]));
    let given = gate.given();
    assert!((8 << 20..9 << 20).contains(&given), "{given}");
}

#[test]
fn every_failure_is_a_sentence_with_a_hint_and_leaves_nothing() {
    let registry = TestRegistry::plain();
    let mut layout = noise(100_000);
    layout.image_for("riscv64", "other", &[], Packing::Gzip, &json!({}));
    registry.push(&layout, "x", "x:1");
    let other = registry.push(&layout, "other", "other:1");
    let gate = Gate::before(&registry);
    let name = format!("{}/x:1", gate.name());
    let lampyr = TestContext::with_images();
    let fails = |reference: &str, error: &str, hint: &str| {
        let said = pull(&lampyr, reference).finish().failure();
        assert!(said.0.contains(error) && said.1.contains(hint), "{said:?}");
        assert_as_it_was(&lampyr);
        assert_eq!(bytes(&lampyr, "blobs/sha256"), 0, "{said:?}");
        let envelope = lampyr.lampyr(["run", "--image", reference, "true"]).within(LONG).envelope();
        assert_eq!(envelope.error("connection_failed"), said.0);
    };
    fails(&other, "is not made for linux/", "ask for another image");
    fails(&format!("{}/no:1", gate.name()), "there is no image", "check the name and the tag");
    fails("localhost:1/x", "cannot reach the registry localhost:1", "this host's network");
    gate.set(Rule::TooMany(Some(60)));
    fails(&name, "too many requests (429)", "try again in 60 s");
    gate.set(Rule::Pass);
    let image = Command::new("skopeo")
        .args(["--insecure-policy", "inspect", "--tls-verify=false", "--raw"])
        .arg(format!("docker://{name}"))
        .output()
        .unwrap();
    let manifest: serde_json::Value = serde_json::from_slice(&image.stdout).unwrap();
    registry.damage(manifest["layers"][0]["digest"].as_str().unwrap());
    let said = pull(&lampyr, &name).finish().failure();
    assert!(said.0.contains("its digest is") && said.1.contains("nothing of it was kept"));
    assert_as_it_was(&lampyr);
    assert_eq!(bytes(&lampyr, "blobs/partial"), 0);
}

/// A call for which `dir` is a file system of `size`.
fn on_a_small_disk(call: Call, size: &str, dir: &Path) -> Call {
    let script = format!("mount -t tmpfs -o size={size} none \"$0\" && exec \"$@\"");
    let dir = dir.to_str().unwrap();
    call.under(["unshare", "--mount", "sh", "-c", &script, dir])
}

#[test]
fn a_disk_that_fills_up_under_a_pull_is_told() {
    if !is_root() {
        return;
    }
    let registry = TestRegistry::plain();
    let name = registry.push(&noise(20 << 20), "x", "x:1");
    let lampyr = TestContext::with_images();
    let wanted = "free some disk space, then pull again: what was fetched is kept";
    for part in ["blobs", "tmp"] {
        let dir = lampyr.home().join(part);
        std::fs::create_dir_all(&dir).unwrap();
        let (error, hint) = on_a_small_disk(pull(&lampyr, &name), "8m", &dir).finish().failure();
        assert!(error.contains("No space left on device"), "{error}");
        assert_eq!(hint, wanted);
        assert_as_it_was(&lampyr);
    }
    pull(&lampyr, &name).finish().json();
}

#[test]
fn doctor_knows_the_registries() {
    let registry = TestRegistry::encrypted_with_password();
    let lampyr = TestContext::with_images();
    let docker = tempfile::tempdir().unwrap();
    let file = docker.path().join("config.json");
    registry.credentials(&file);
    let doctor = || {
        let call = lampyr.lampyr(["doctor"]).env("DOCKER_CONFIG", docker.path());
        call.env("LAMPYR_REGISTRY_CA", registry.ca())
    };
    let check = |finished: &lampyr_e2e::Finished| {
        let report: serde_json::Value = serde_json::from_str(&finished.stdout()).unwrap();
        let title = format!("the registry {}", registry.name());
        let mut checks = report["checks"].as_array().unwrap().iter();
        checks.find(|check| check["title"] == json!(title)).unwrap().clone()
    };
    let found = check(&doctor().finish());
    assert_eq!((&found["id"], &found["severity"]), (&json!("registry"), &json!("info")));
    assert_eq!(found["detail"], "answers, and takes the credentials that there are");
    let wrong = std::fs::read_to_string(&file).unwrap().replace("colon", "typo");
    std::fs::write(&file, wrong).unwrap();
    let finished = doctor().finish();
    let found = check(&finished);
    assert_eq!((finished.status(), &found["severity"]), (Some(1), &json!("warning")));
    assert!(found["fix"].as_str().unwrap().contains("docker login"), "{found}");
    std::fs::write(&file, json!({"auths": {"localhost:1": {}}}).to_string()).unwrap();
    let text = doctor().env("LAMPYR_FORMAT", "text").finish().stdout();
    let wanted =
        "warning  the registry localhost:1\n         cannot reach the registry localhost:1";
    assert!(text.contains(wanted), "{text}");
    assert!(text.contains("fix: check the name of the registry and this host's network"), "{text}");
}

/// What the issue of images asks for, in one table.
#[test]
#[ignore = "takes minutes: cargo xtask soak"]
fn pulls_are_measured() {
    let registry = TestRegistry::plain();
    let name = registry.fill(&distribution("large"), "large", "large:1", &["--preserve-digests"]);
    let dir = tempfile::tempdir().unwrap();
    let theirs = |n: usize| {
        let at = |what: &str| dir.path().join(format!("{what}-{n}")).display().to_string();
        let begun = std::time::Instant::now();
        registry.pull("large:1", Path::new(&at("layout")), "x");
        let image = format!("{}:x", at("layout"));
        succeed(Command::new("umoci").args(["unpack", "--image", &image]).arg(at("bundle")));
        begun.elapsed()
    };
    let (mut ours, mut others) = (Vec::new(), Vec::new());
    for n in 0..5 {
        let lampyr = TestContext::with_images();
        ours.push(pull(&lampyr, &name).finish().took);
        others.push(theirs(n));
    }
    ours.sort();
    others.sort();
    let packed: u64 = entries(&distribution("large").join("blobs/sha256"))
        .iter()
        .map(|blob| blob.metadata().unwrap().len())
        .sum();
    let lampyr = TestContext::with_images();
    let run = |image: &str| {
        let run = lampyr.lampyr(["run", "--image", image, "--", "/bin/true"]).within(LONG).finish();
        assert_eq!(run.status(), Some(0), "{run:?}");
        run.took
    };
    let images = ["default", &name];
    let [mut default, mut pulled] = images.map(|image| {
        run(image);
        Vec::new()
    });
    for _ in 0..20 {
        default.push(run("default"));
        pulled.push(run(&name));
    }
    default.sort();
    pulled.sort();
    println!("image: {packed} bytes packed");
    println!("pull to disk, median of 5: {:?}", ours[2]);
    println!("skopeo copy and umoci unpack, median of 5: {:?}", others[2]);
    println!("run /bin/true, median of 20: default {:?}, pulled {:?}", default[10], pulled[10]);
    assert!(ours[2] < others[2] * 3, "{ours:?} against {others:?}");
}
