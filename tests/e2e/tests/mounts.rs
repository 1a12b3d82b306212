//! Directories of the host's in a guest, on real machines.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::time::Duration;

use lampyr_e2e::{Envelope, Session, TestContext, is_root, rows};
use serde_json::Value;

/// A program that tries a file system, for the guest.
const GUEST_FS: &str = env!("CARGO_BIN_EXE_guest-fs");
const MINUTE: Duration = Duration::from_mins(1);

fn mount(dir: &Path, place: &str) -> [String; 2] {
    ["--mount".to_owned(), format!("{}:{place}", dir.display())]
}

/// A directory with the program in it.
fn directory() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::copy(GUEST_FS, dir.path().join("guest-fs")).unwrap();
    dir
}

fn volume(context: &TestContext, words: &[&str]) -> Value {
    let done = context.lampyr(["volume"].iter().chain(words)).finish();
    assert_eq!(done.status(), Some(0), "{done:?}");
    serde_json::from_str(&done.stdout()).unwrap()
}

#[test]
fn a_directory_is_the_same_on_both_sides() {
    let (own, dir) = (TestContext::own(), tempfile::tempdir().unwrap());
    fs::write(dir.path().join("in"), "from the host").unwrap();
    symlink("/etc/hostname", dir.path().join("link")).unwrap();
    let command = "cat in; echo hello > out; chmod 640 out; mkdir -p a/b; mv out a/b/; ln -s / root; \
         test $(cat link) = $(hostname); cat root/proc/sys/kernel/hostname >/dev/null";
    let run = own.run(command).args(mount(dir.path(), "/some/where"));
    let said = run.args(["--workdir", "/some/where"]).envelope();
    assert_eq!(said.success(), "from the host");
    let out = dir.path().join("a/b/out");
    assert_eq!(fs::read_to_string(&out).unwrap(), "hello\n");
    assert_eq!(fs::metadata(&out).unwrap().permissions().mode() & 0o777, 0o640);
    own.assert_tidy();
}

#[test]
fn calls_answer_as_on_a_disk() {
    let (own, dir) = (TestContext::own(), directory());
    let command = "mkdir /tmp/x /src/x; cd /; \
         /src/guest-fs calls /tmp/x > /tmp/disk; /src/guest-fs calls /src/x > /tmp/mount; \
         wc -l < /tmp/disk; diff /tmp/disk /tmp/mount";
    let said = own.run(command).args(mount(dir.path(), "/src")).within(2 * MINUTE).envelope();
    assert!(said.success().trim().parse::<u32>().unwrap() > 30, "{said:?}");
}

#[test]
fn bytes_are_what_a_model_says() {
    let (own, dir) = (TestContext::own(), directory());
    for seed in [1, 2, 3] {
        let command = format!("/src/guest-fs model /src {seed} 400; sha256sum < /src/model-{seed}");
        let run = own.run(&command).args(mount(dir.path(), "/src"));
        let said = run.args(["--timeout", "5m"]).within(5 * MINUTE).envelope();
        let digest = said.success().lines().last().unwrap().to_owned();
        let there = std::process::Command::new("sha256sum")
            .stdin(fs::File::open(dir.path().join(format!("model-{seed}"))).unwrap())
            .output()
            .unwrap();
        assert_eq!(digest, String::from_utf8(there.stdout).unwrap().trim());
    }
}

#[test]
fn a_read_only_mount_cannot_be_changed() {
    let (own, dir) = (TestContext::own(), tempfile::tempdir().unwrap());
    fs::write(dir.path().join("a"), "as it was").unwrap();
    let place = format!("{}:/src:ro", dir.path().display());
    let command = "cd /src; cat a; echo x > a; touch b; rm a; chmod 777 a; mount -o remount,rw /src; \
         echo x > a";
    let said = own.run(command).args(["--volume", &place]).envelope();
    assert_eq!(said["stdout"], "as it was");
    assert_eq!(said.text("stderr").matches("Read-only file system").count(), 5, "{said:?}");
    assert_eq!(fs::read_to_string(dir.path().join("a")).unwrap(), "as it was");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn mounts_lie_in_mounts_and_all_of_them_in_a_session() {
    let (own, dir) = (TestContext::own(), tempfile::tempdir().unwrap());
    volume(&own, &["create", "cache"]);
    fs::create_dir(dir.path().join("modules")).unwrap();
    let outer = mount(dir.path(), "/w");
    let flags = ["--volume", "cache:/w/modules", &outer[0], &outer[1]];
    let session = Session::start(&own, &flags);
    session.sh("echo 1 > /w/modules/in-volume; echo 2 > /w/outside").success();
    assert_eq!(fs::read_dir(dir.path().join("modules")).unwrap().count(), 0);
    assert_eq!(fs::read_to_string(dir.path().join("outside")).unwrap(), "2\n");
    // What changes here is seen there at once.
    for text in ["longer than before", "short", ""] {
        fs::write(dir.path().join("outside"), text).unwrap();
        assert_eq!(session.sh("cat /w/outside").success(), text);
    }
    fs::rename(dir.path().join("outside"), dir.path().join("elsewhere")).unwrap();
    assert_eq!(session.sh("ls /w; test ! -e /w/outside").success(), "elsewhere\nmodules\n");
    session.stop();
    let again = own.run("cat /v/in-volume").args(["--volume", "cache:/v:ro"]).envelope();
    assert_eq!(again.success(), "1\n");
}

#[test]
fn a_volume_has_a_life_of_its_own() {
    let own = TestContext::own();
    let made = volume(&own, &["create", "v1", "--quota", "2GB", "--label", "team=build"]);
    assert_eq!((&made["name"], &made["size_bytes"]), (&"v1".into(), &0.into()));
    assert_eq!((&made["quota_bytes"], &made["last_used"]), (&(2_u64 << 30).into(), &Value::Null));
    assert_eq!(made["labels"]["team"], "build");
    let twice = own.lampyr(["volume", "create", "v1"]).finish();
    assert_eq!(twice.status(), Some(2), "{twice:?}");
    assert!(twice.stderr().contains("there is a volume named 'v1' already"), "{twice:?}");
    let session = Session::start(&own, &["--volume", "v1:/v"]);
    session.sh("head -c 100000 /dev/zero > /v/zeros").success();
    let busy = own.lampyr(["volume", "rm", "v1"]).finish();
    assert_eq!(busy.status(), Some(2), "{busy:?}");
    assert!(busy.stderr().contains("volume 'v1' is in use"), "{busy:?}");
    session.stop();
    let found = volume(&own, &["inspect", "v1"]);
    assert!(found["size_bytes"].as_u64().unwrap() >= 100_000, "{found}");
    assert!(found["last_used"].as_str().unwrap() >= found["created"].as_str().unwrap());
    assert_eq!(rows(&own, &["volume", "list"]), ["v1"]);
    assert_eq!(volume(&own, &["rm", "v1"])["removed"], "v1");
    for words in [&["inspect", "v1"], &["rm", "v1"]] {
        let gone = own.lampyr(["volume"].iter().chain(words)).finish();
        assert_eq!(gone.status(), Some(1), "{gone:?}");
        assert!(gone.stderr().contains("volume 'v1' not found"), "{gone:?}");
    }
    assert!(rows(&own, &["volume", "list"]).is_empty());
}

#[test]
fn a_full_volume_is_a_full_disk() {
    let own = TestContext::own();
    volume(&own, &["create", "small", "--quota", "8MB"]);
    let command = "df -m /v | tail -1 | tr -s ' ' | cut -d ' ' -f 2; head -c 20000000 /dev/zero > /v/big; \
         ls /v; rm /v/big; head -c 7000000 /dev/zero > /v/fits && echo fits";
    let said = own.run(command).args(["--volume", "small:/v"]).envelope();
    assert_eq!(said.success(), "8\nbig\nfits\n");
    assert!(said.text("stderr").contains("No space left on device"), "{said:?}");
    // The next one counts what is there.
    let more = own.run("head -c 7000000 /dev/zero > /v/more").args(["--volume", "small:/v"]);
    assert!(more.envelope().text("stderr").contains("No space left on device"));
}

#[test]
fn two_sessions_share_a_volume() {
    let own = TestContext::own();
    volume(&own, &["create", "shared"]);
    let (one, two) = (
        Session::start(&own, &["--volume", "shared:/v"]),
        Session::start(&own, &["--volume", "shared:/v"]),
    );
    for i in 0..5 {
        one.sh(&format!("seq {i} > /v/file; mv /v/file /v/current")).success();
        let said = two.sh("cat /v/current; echo -n x >> /v/current; wc -c < /v/current");
        let length = said.success().lines().last().unwrap().to_owned();
        assert_eq!(one.sh("wc -c < /v/current").success().trim(), length, "{i}");
    }
    let append = "for i in $(seq 100); do echo line >> /v/log; done";
    let both = [one.exec(append).start(), two.exec(append).start()];
    for each in both {
        assert_eq!(each.finish().envelope()["exit_code"], 0);
    }
    assert_eq!(one.sh("sort /v/log | uniq -c").success().trim(), "200 line");
    // A lock file works between them: who makes it has it.
    let lock = "for i in $(seq 20); do while ! mkdir /v/lock 2>/dev/null; do :; done; \
         n=$(cat /v/n); echo $((n + 1)) > /v/n; rmdir /v/lock; done";
    one.sh("echo 0 > /v/n").success();
    for each in [one.exec(lock).start(), two.exec(lock).start()] {
        assert_eq!(each.finish().envelope()["exit_code"], 0);
    }
    assert_eq!(two.sh("cat /v/n").success(), "40\n");
}

#[test]
fn a_repository_is_cloned_and_sound() {
    let (own, dir) = (TestContext::own(), tempfile::tempdir().unwrap());
    let command = "export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a GIT_COMMITTER_NAME=a \
         GIT_COMMITTER_EMAIL=a; set -e; git init -q /tmp/r; cd /tmp/r; \
         for d in 1 2 3; do mkdir $d; for f in $(seq 30); do seq $f $((f * 90)) > $d/$f; done; done; \
         git add .; git commit -qm one; rm -r 2; git mv 1 4; git add -A; git commit -qm two; \
         git clone -q /tmp/r /src/r; cd /src/r; git fsck; git checkout -q HEAD~1; git status --short; \
         git gc -q; git checkout -q -; diff -r -x .git /tmp/r /src/r; git log --oneline | wc -l";
    let said = own.run(command).args(mount(dir.path(), "/src")).within(2 * MINUTE).envelope();
    assert_eq!(said.success(), "2\n");
}

fn refused(said: &Envelope, sentence: &str) {
    assert!(said.error("connection_failed").contains(sentence), "{said:?}");
}

#[test]
fn what_cannot_be_mounted_is_said_before_anything_starts() {
    let own = TestContext::own();
    let file = own.home().join("format");
    fs::write(&file, "1\n").unwrap();
    let file = format!("{}:/x", file.display());
    for (flag, given, sentence) in [
        ("--mount", "/nowhere:/x", "/nowhere not found"),
        ("--mount", file.as_str(), "is no directory"),
        ("--mount", "/tmp:x", "a path in the VM must be absolute"),
        ("--volume", "Bad Name:/x", "invalid name"),
        ("--mount", "/tmp:/", "cannot mount at '/'"),
    ] {
        let done = own.run("true").args([flag, given]).finish();
        assert_eq!(done.status(), Some(2), "{done:?}");
        assert!(done.stderr().contains(sentence), "{done:?}");
    }
    let missing = own.run("true").args(["--volume", "nothing:/x"]).envelope();
    refused(&missing, "volume 'nothing' not found");
    // The place is a file in the VM.
    let taken = own.run("true").args(["--mount", "/tmp:/etc/passwd"]).envelope();
    refused(&taken, "cannot mount /etc/passwd");
    own.assert_tidy();
}

#[test]
fn an_ordinary_user_s_files_are_root_s_in_the_vm() {
    const USER: u32 = 65533;
    if !is_root() {
        return;
    }
    let own = TestContext::whole(USER);
    let dir = own.home().parent().unwrap().join("mounted");
    fs::create_dir(&dir).unwrap();
    std::os::unix::fs::chown(&dir, Some(USER), Some(USER)).unwrap();
    fs::write(dir.join("theirs"), "x").unwrap();
    let user = USER.to_string();
    let setpriv = ["setpriv", "--reuid", &user, "--regid", &user, "--clear-groups"];
    let command = "cd /src; stat -c '%u %g' . theirs; echo y > new; stat -c %u new; \
         chown 0:0 new && ! chown 1000 new 2>/dev/null; echo z > theirs";
    let run = own.run(command).args(mount(&dir, "/src")).within(2 * MINUTE);
    let said = run.under(setpriv).envelope();
    assert_eq!(said["stdout"], "0 0\n65534 65534\n0\n", "{said:?}");
    assert!(said.text("stderr").contains("Permission denied"), "{said:?}");
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&fs::metadata(dir.join("new")).unwrap()), USER);
}
