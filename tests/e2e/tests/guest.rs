//! The guest: what a command finds in its machine, and what goes in and out.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use lampyr_e2e::TestContext;

#[test]
fn an_argv_runs_without_a_shell() {
    let words = ["run", "--", "printf", "%s|", "a b", "$HOME", "*", ""];
    assert_eq!(TestContext::shared().lampyr(words).envelope().success(), "a b|$HOME|*||");
}

#[test]
fn a_program_that_is_not_there_is_127() {
    let envelope = TestContext::shared().lampyr(["run", "--", "no-such-program"]).envelope();
    assert_eq!(envelope["exit_code"], 127);
    assert!(envelope.text("stderr").contains("no-such-program"), "{envelope:?}");
}

#[test]
fn a_program_that_cannot_be_executed_is_126() {
    let envelope = TestContext::shared().lampyr(["run", "--", "/etc/passwd"]).envelope();
    assert_eq!(envelope["exit_code"], 126);
}

#[test]
fn standard_input_is_streamed_through() {
    let bytes: Vec<u8> = (0..5_000_000_u32).map(|i| b'a' + (i % 25) as u8).collect();
    let envelope = TestContext::shared().run("cat").stdin(bytes.clone()).envelope();
    assert!(envelope.success().as_bytes() == bytes);
}

#[test]
fn input_that_nobody_reads_is_no_obstacle() {
    let call = TestContext::shared().run("head -c 3").stdin(vec![b'x'; 3_000_000]);
    assert_eq!(call.envelope().success(), "xxx");
}

#[test]
fn variables_and_the_directory_are_as_asked() {
    let command = "echo \"$GREETING|$EMPTY|$PWD\"; env | grep -c LAMPYR_";
    let words = ["-e", "GREETING=a = b", "--env", "EMPTY=", "--workdir", "/usr/bin"];
    let envelope = TestContext::shared().run(command).args(words).envelope();
    assert_eq!(envelope.text("stdout"), "a = b||/usr/bin\n0\n");
}

#[test]
fn a_file_goes_in_and_comes_out() {
    let dir = tempfile::tempdir().unwrap();
    let (script, result) = (dir.path().join("say.sh"), dir.path().join("out/result"));
    fs::write(&script, "#!/bin/sh\necho \"$1\" > /root/result; chmod 750 /root/result\n").unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    fs::create_dir(dir.path().join("out")).unwrap();
    let call = TestContext::shared().run("/opt/deep/say.sh hello");
    let (copy, download) = (format!("{}:/opt/deep/say.sh", script.display()), result.display());
    call.args(["--copy", &copy, "--download", &format!("/root/result:{download}")])
        .envelope()
        .success();
    assert_eq!(fs::read_to_string(&result).unwrap(), "hello\n");
    assert_eq!(mode(&result), 0o750);
}

fn mode(path: &Path) -> u32 {
    path.symlink_metadata().unwrap().permissions().mode() & 0o7777
}

#[test]
fn a_directorys_contents_go_in_and_come_out() {
    let dir = tempfile::tempdir().unwrap();
    let (tree, back) = (dir.path().join("tree"), dir.path().join("back"));
    fs::create_dir_all(tree.join("sub/empty")).unwrap();
    fs::write(tree.join("plain"), vec![7; 300_000]).unwrap();
    fs::write(tree.join("sub/tool"), "#!/bin/sh\n").unwrap();
    fs::set_permissions(tree.join("sub/tool"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(tree.join("plain"), fs::Permissions::from_mode(0o600)).unwrap();
    symlink("sub/tool", tree.join("link")).unwrap();
    let call = TestContext::shared().run("cd /data && find . | sort && readlink link");
    let envelope = call
        .args(["--copy", &format!("{}:/data", tree.display())])
        .args(["--download", &format!("/data:{}", back.display())])
        .envelope();
    assert_eq!(
        envelope.success(),
        ".\n./link\n./plain\n./sub\n./sub/empty\n./sub/tool\nsub/tool\n"
    );
    assert_eq!(fs::read(back.join("plain")).unwrap(), vec![7; 300_000]);
    assert_eq!((mode(&back.join("plain")), mode(&back.join("sub/tool"))), (0o600, 0o755));
    assert_eq!(fs::read_link(back.join("link")).unwrap(), Path::new("sub/tool"));
    assert!(back.join("sub/empty").is_dir());
}

#[test]
fn a_download_of_what_is_not_there_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("target");
    let call = TestContext::shared().run("echo done");
    let download = format!("/no/such/file:{}", target.display());
    let envelope = call.args(["--download", &download]).envelope();
    let message = envelope.error("connection_failed");
    assert!(message.contains("/no/such/file"), "{message}");
    assert_eq!(envelope.text("partial_stdout"), "done\n");
    assert!(!target.exists());
}

#[test]
fn two_runs_are_two_machines() {
    let shared = TestContext::shared();
    let command = "hostname; cat /etc/machine-id; od -An -N16 -tx1 /dev/urandom; \
                   python3 -c 'import os; print(os.urandom(16).hex())'; \
                   cat /proc/sys/kernel/random/uuid";
    let facts = || shared.run(command).envelope().success().to_owned();
    let (one, other) = (facts(), facts());
    assert_eq!(one.lines().count(), 5, "{one}");
    for (one, other) in one.lines().zip(other.lines()) {
        assert_ne!(one, other);
    }
}

#[test]
fn nothing_that_a_run_wrote_is_there_in_the_next() {
    let shared = TestContext::shared();
    let command =
        "ls -A /root /tmp /var/tmp; echo x | tee /root/mark /tmp/mark /var/tmp/mark; sync";
    let first = shared.run(command).envelope().success().to_owned();
    assert_eq!(shared.run(command).envelope().success(), first);
}

#[test]
fn the_clock_is_right() {
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
    let before = now();
    let envelope = TestContext::shared().run("date +%s.%N").envelope();
    let guest: f64 = envelope.success().trim().parse().unwrap();
    assert!(guest > before - 2.0 && guest < now() + 2.0, "{before} {guest}");
}

#[test]
fn there_is_no_network_and_nothing_of_the_hosts() {
    let command = "ls /sys/class/net; echo; cut -d' ' -f3 /proc/mounts | sort -u";
    let envelope = TestContext::shared().run(command).envelope();
    let (net, mounts) = envelope.success().split_once("\n\n").unwrap();
    assert_eq!(net, "lo");
    let known = ["cgroup2", "devpts", "devtmpfs", "ext4", "mqueue", "proc", "sysfs", "tmpfs"];
    assert!(mounts.lines().all(|kind| known.contains(&kind)), "{mounts}");
}

#[test]
fn the_machine_has_the_size_that_was_asked_for() {
    let command = "nproc; grep MemTotal /proc/meminfo | tr -dc 0-9; echo; df -m / | tail -1";
    let words = ["--cpus", "1", "--memory", "256MB", "--disk-size", "3GB"];
    let envelope = TestContext::shared().run(command).args(words).envelope();
    let mut lines = envelope.success().lines();
    assert_eq!(lines.next(), Some("1"));
    let memory: u64 = lines.next().unwrap().parse().unwrap();
    assert!((180 << 10..=256 << 10).contains(&memory), "{memory} kB");
    let disk: u64 = lines.next().unwrap().split_whitespace().nth(1).unwrap().parse().unwrap();
    assert!((2700..=3072).contains(&disk), "{disk} MB");
}

#[test]
fn files_of_the_system_s_are_copied_with_what_they_hold() {
    let context = TestContext::shared();
    let dir = tempfile::tempdir().unwrap();
    let here = dir.path().join("mounts");
    let copies = [
        "--copy=/proc/version:/version".to_owned(),
        format!("--download=/proc/self/mounts:{}", here.display()),
    ];
    let envelope = context.run("cat /version").args(&copies).envelope();
    assert_eq!(envelope.success(), fs::read_to_string("/proc/version").unwrap());
    assert!(fs::read_to_string(here).unwrap().contains(" / ext4 "));
}
