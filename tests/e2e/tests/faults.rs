//! Faults: whatever dies, fills up or is damaged, a run ends with a sentence,
//! leaves nothing, and the next one works.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use lampyr_e2e::{Call, Finished, Process, TestContext, eventually, is_root};

const SECOND: Duration = Duration::from_secs(1);
/// A machine that is baked quickly.
const SMALL: [&str; 2] = ["--memory", "256MB"];

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn assert_works(context: &TestContext) {
    assert_eq!(context.run("echo works").envelope().success(), "works\n");
}

#[test]
fn a_machine_killed_while_it_starts_is_a_typed_error() {
    let own = TestContext::own();
    for moment in (0..300).step_by(15) {
        let mut live = own.run("sleep 30").start();
        let machine = live.machine().expect("a machine");
        std::thread::sleep(ms(moment));
        machine.signal(libc::SIGKILL);
        let envelope = live.finish().envelope();
        let kind = envelope["error"].as_str().unwrap_or_default().to_owned();
        // Late enough, the command has started.
        assert!(["connection_failed", "vm_crashed"].contains(&kind.as_str()), "{envelope:?}");
        envelope.error(&kind);
        assert!(envelope.took < 5 * SECOND, "{moment} ms: {envelope:?}");
        own.assert_tidy();
    }
    assert_works(&own);
}

#[test]
fn a_machine_killed_under_a_command_has_crashed() {
    let own = TestContext::own();
    let mut live = own.run("echo begun; sleep 30").env("LAMPYR_OUTPUT", "ndjson").start();
    let machine = live.machine().expect("a machine");
    std::thread::sleep(2 * SECOND);
    machine.signal(libc::SIGKILL);
    let finished = live.finish();
    assert!(finished.stdout().contains(r#""error":"vm_crashed""#), "{finished:?}");
    assert!(finished.stdout().contains("begun"), "{finished:?}");
    assert!(finished.took < 5 * SECOND, "{finished:?}");
    own.assert_tidy();
}

#[test]
fn a_machine_that_is_stopped_ends_with_the_timeout() {
    let own = TestContext::own();
    let mut live = own.run("echo begun; sleep 30").args(["--timeout", "3s"]).start();
    let machine = live.machine().expect("a machine");
    std::thread::sleep(2 * SECOND);
    machine.signal(libc::SIGSTOP);
    live.finish().envelope().error("timeout");
    own.assert_tidy();
}

#[test]
fn a_program_killed_at_any_moment_leaves_nothing() {
    let own = TestContext::own();
    for moment in (0..400).step_by(12) {
        let live = own.run("sleep 30").start();
        std::thread::sleep(ms(moment));
        live.signal(libc::SIGKILL);
        assert_eq!(live.finish().signal(), Some(libc::SIGKILL));
    }
    own.assert_nothing_left();
    assert_works(&own);
}

#[test]
fn a_program_killed_during_a_first_run_leaves_nothing() {
    let own = TestContext::fresh();
    for moment in [100, 400, 900, 1700, 2600] {
        let live = own.run("true").args(SMALL).start();
        std::thread::sleep(ms(moment));
        live.signal(libc::SIGKILL);
        live.finish();
    }
    own.assert_nothing_left();
    own.run("true").args(SMALL).envelope().success();
}

#[test]
fn a_machine_dies_with_its_program_whatever_the_qemu() {
    let own = TestContext::own();
    for qemu in own.qemus() {
        let run = |command| own.run(command).env("LAMPYR_QEMU", &qemu).within(120 * SECOND);
        run("true").envelope().success();
        let mut live = run("sleep 30").start();
        let machine = live.machine().expect("a machine");
        std::thread::sleep(SECOND);
        assert!(machine.is_alive());
        live.signal(libc::SIGKILL);
        live.finish();
        let otherwise = format!("the machine of {} outlived its program", qemu.display());
        let dead = std::panic::catch_unwind(|| {
            eventually(&otherwise, || !machine.is_alive());
        });
        machine.signal(libc::SIGKILL);
        dead.unwrap();
    }
}

#[test]
fn an_interrupt_ends_everything() {
    for (signal, status) in [(libc::SIGINT, 130), (libc::SIGTERM, 143)] {
        let own = TestContext::own();
        for moment in [20, 150, 400, 1500] {
            let mut live = own.run("echo hi; sleep 30").start();
            live.machine().expect("a machine");
            std::thread::sleep(ms(moment));
            live.signal(signal);
            let finished = live.finish();
            assert_eq!(finished.status(), Some(status), "{moment} ms: {finished:?}");
            assert!(finished.took < 5 * SECOND, "{finished:?}");
            own.assert_tidy();
        }
    }
}

#[test]
fn an_image_that_is_being_made_ends_with_its_program() {
    for (signal, status) in [(libc::SIGTERM, Some(143)), (libc::SIGKILL, None)] {
        let own = TestContext::fresh();
        fs::remove_file(own.home().join("images")).unwrap();
        let (tools, mark) = (own.home().join("tools"), own.home().join("mark"));
        fs::create_dir(&tools).unwrap();
        let script = "#!/bin/sh\n\
            for word; do case $word in *.tar) echo half > $word;; esac; done\n\
            echo $$ > $MARK.new && mv $MARK.new $MARK && exec sleep 60\n";
        fs::write(tools.join("mmdebstrap"), script).unwrap();
        set_mode(&tools.join("mmdebstrap"), 0o700);
        let path = format!("{}:{}", tools.display(), std::env::var("PATH").unwrap());
        let live = own.run("true").env("PATH", path).env("MARK", &mark).start();
        eventually("nothing is made", || mark.exists());
        let pid = fs::read_to_string(&mark).unwrap().trim().parse().unwrap();
        live.signal(signal);
        let finished = live.finish();
        assert_eq!(finished.status(), status, "{finished:?}");
        assert!(finished.took < 20 * SECOND, "{finished:?}");
        eventually("what makes it lives on", || Process::find(pid).is_none());
        if status.is_some() {
            own.assert_tidy();
        }
        own.assert_nothing_left();
    }
}

/// Lets a call see the home after `prepare`, a shell command on `$HOME_DIR`, in
/// mounts of its own.
fn after(prepare: &str, call: Call, home: &Path) -> Finished {
    let script = format!("{prepare} && exec \"$@\"");
    let words = ["unshare", "-m", "--propagation", "private", "sh", "-ec", &script, "sh"];
    call.under(words).env("HOME_DIR", home).finish()
}

/// The sentence of an error envelope, which must be good for people.
fn sentence(finished: &Finished) -> String {
    let envelope = finished.envelope();
    let message = envelope.error("connection_failed").to_owned();
    assert!(envelope.get("hint").is_some(), "no hint: {envelope:?}");
    assert!(finished.took < 20 * SECOND, "{finished:?}");
    message
}

#[test]
fn a_read_only_home_is_one_clear_sentence() {
    let own = TestContext::own();
    // A run that ended has made all the directories.
    assert_works(&own);
    let message = if is_root() {
        let prepare = "mount --bind $HOME_DIR $HOME_DIR && mount -o remount,bind,ro $HOME_DIR";
        sentence(&after(prepare, own.run("true"), own.home()))
    } else {
        set_mode(&own.home().join("sandboxes"), 0o500);
        let finished = own.run("true").finish();
        set_mode(&own.home().join("sandboxes"), 0o700);
        sentence(&finished)
    };
    let told = message.contains("Read-only file system") || message.contains("Permission denied");
    assert!(told && message.contains(own.home().to_str().unwrap()), "{message}");
    own.assert_tidy();
}

fn set_mode(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// A file system of `size` in the place of the home, with what was set up.
fn on_a_small_disk(size: &str, more: &str) -> String {
    format!(
        "mkdir $HOME_DIR.old && mount --bind $HOME_DIR $HOME_DIR.old \
         && mount -t tmpfs -o size={size} none $HOME_DIR && chmod 700 $HOME_DIR \
         && cp -a $HOME_DIR.old/* $HOME_DIR/ && {more}"
    )
}

#[test]
fn a_full_disk_is_one_clear_sentence() {
    if !is_root() {
        return;
    }
    let own = TestContext::own();
    let fill = "{ cat /dev/zero > $HOME_DIR/fill 2>/dev/null || true; }";
    let message = sentence(&after(&on_a_small_disk("1m", fill), own.run("true"), own.home()));
    assert!(message.contains("No space left"), "{message}");
    own.assert_tidy();
}

#[test]
fn a_disk_that_fills_up_while_a_template_is_made_is_one_clear_sentence() {
    if !is_root() {
        return;
    }
    let own = TestContext::fresh();
    let script = on_a_small_disk("40m", "true");
    let message = sentence(&after(&script, own.run("true").args(SMALL), own.home()));
    let told = message.contains("No space left") || message.contains("disk is full");
    assert!(told, "{message}");
    own.assert_tidy();
}

#[test]
fn a_disk_that_fills_up_under_a_command_is_told_to_it() {
    if !is_root() {
        return;
    }
    let own = TestContext::own();
    let command = "dd if=/dev/urandom of=/big bs=1M count=40 conv=fsync; echo $?";
    let call = own.run(command).args(["--timeout", "20s"]);
    let finished = after(&on_a_small_disk("8m", "true"), call, own.home());
    let envelope = finished.envelope();
    assert_ne!(envelope["error"], "timeout", "{envelope:?}");
    own.assert_tidy();
}

#[test]
fn a_disk_that_fills_up_under_an_output_is_told_with_what_was_kept() {
    if !is_root() {
        return;
    }
    let own = TestContext::own();
    let call = own.run("head -c 20000000 /dev/zero").args(["--max-output", "1MB"]);
    let envelope = after(&on_a_small_disk("8m", "true"), call, own.home()).envelope();
    let message = envelope.error("connection_failed");
    assert!(message.contains("No space left") && envelope.get("hint").is_some(), "{message}");
    let cut = &envelope["meta"]["truncated"]["stdout"];
    let bytes = |key: &str| cut[key].as_u64().unwrap();
    assert!(bytes("file_bytes") < bytes("total_bytes"), "{cut}");
    own.assert_tidy();
}

#[test]
fn a_damaged_template_is_baked_again() {
    let own = TestContext::fresh();
    let run = || own.run("echo works").args(SMALL).envelope().success().to_owned();
    assert_eq!(run(), "works\n");
    let template = own.templates().remove(0);
    let length = |name: &str| fs::metadata(template.join(name)).unwrap().len();
    let open =
        |name: &str| File::options().read(true).write(true).open(template.join(name)).unwrap();
    let cut = |name: &str| open(name).set_len(length(name) - 4096.min(length(name) / 2)).unwrap();
    let flip = |name: &str, at: u64| {
        let (file, mut byte) = (open(name), [0]);
        file.read_exact_at(&mut byte, at).unwrap();
        file.write_all_at(&[!byte[0]], at).unwrap();
    };
    let damages: [(&str, &dyn Fn()); 8] = [
        ("memory cut short", &|| cut("memory")),
        ("memory flipped", &|| flip("memory", 20 << 20)),
        ("devices cut short", &|| cut("devices")),
        ("devices flipped", &|| flip("devices", length("devices") / 2)),
        ("disk cut short", &|| cut("disk0.qcow2")),
        ("disk flipped", &|| flip("disk0.qcow2", length("disk0.qcow2") / 2)),
        ("manifest flipped", &|| flip("manifest.json", 0)),
        ("memory gone", &|| fs::remove_file(template.join("memory")).unwrap()),
    ];
    for (what, damage) in damages {
        let before = inode(&template);
        damage();
        assert_eq!(run(), "works\n", "{what}");
        assert_eq!(own.templates(), std::slice::from_ref(&template), "{what}");
        assert_ne!(inode(&template), before, "{what}: it was not baked again");
    }
    own.assert_tidy();
}

#[test]
fn a_template_that_holds_but_does_not_restore_is_baked_again() {
    let own = TestContext::fresh();
    let run = || own.run("echo works").args(SMALL).envelope().success().to_owned();
    assert_eq!(run(), "works\n");
    let template = own.templates().remove(0);
    let before = inode(&template);
    // Devices of another machine, properly recorded.
    let mut devices = fs::read(template.join("devices")).unwrap();
    let middle = devices.len() / 2;
    devices[8..middle].fill(0x55);
    fs::write(template.join("devices"), &devices).unwrap();
    let mut hasher = blake3::Hasher::new();
    for (block, bytes) in devices.chunks(1 << 20).enumerate() {
        hasher.update(&((block as u64) << 20).to_le_bytes()).update(bytes);
    }
    let manifest = template.join("manifest.json");
    let mut record: serde_json::Value =
        serde_json::from_slice(&fs::read(&manifest).unwrap()).unwrap();
    record["devices"]["digest"] = hasher.finalize().to_hex().to_string().into();
    fs::write(&manifest, record.to_string()).unwrap();
    let finished = own.run("echo works").args(SMALL).finish();
    assert_eq!(finished.envelope().success(), "works\n");
    assert_ne!(inode(&template), before, "it was not baked again: {finished:?}");
    own.assert_tidy();
}

fn inode(path: &Path) -> (u64, i64) {
    use std::os::unix::fs::MetadataExt;
    let meta = fs::metadata(path).unwrap();
    (meta.ino(), meta.ctime_nsec())
}

#[test]
fn two_first_runs_at_once_bake_one_template() {
    let own = TestContext::fresh();
    let runs = [0, 1].map(|_| own.run("echo works").args(SMALL).start());
    let ends = runs.map(|run| run.finish().envelope());
    assert!(ends.iter().all(|end| end.success() == "works\n"));
    let bakes = ends.iter().filter(|end| end.stderr.contains("booting a VM once")).count();
    assert_eq!((own.templates().len(), bakes), (1, 1), "{ends:?}");
    own.assert_tidy();
}

#[test]
fn a_guest_out_of_memory_says_so() {
    let call = TestContext::shared().run("tail /dev/zero").args(SMALL);
    let envelope = call.envelope();
    assert_eq!(envelope["exit_code"], 137, "{envelope:?}");
    assert_eq!(envelope["meta"]["oom"], true, "{envelope:?}");
}

#[test]
fn a_fork_bomb_ends_in_time() {
    let own = TestContext::own();
    let bomb = "bomb() { bomb | bomb & }; bomb; sleep 60";
    let finished = own.run(bomb).args(["--timeout", "4s"]).finish();
    finished.envelope();
    assert!(finished.took < 12 * SECOND, "{finished:?}");
    own.assert_tidy();
    assert_works(&own);
}

#[test]
fn twenty_runs_at_once_all_succeed() {
    let own = TestContext::own();
    let runs: Vec<_> = (0..20).map(|i| own.run(&format!("echo {i}")).start()).collect();
    for (i, run) in runs.into_iter().enumerate() {
        assert_eq!(run.finish().envelope().success(), format!("{i}\n"));
    }
    own.assert_tidy();
}

#[test]
fn clean_beside_runs_harms_none() {
    let own = TestContext::own();
    for _ in 0..3 {
        let runs: Vec<_> = (0..3).map(|_| own.run("echo works").start()).collect();
        let deadline = std::time::Instant::now() + ms(700);
        while std::time::Instant::now() < deadline {
            assert_eq!(own.lampyr(["clean"]).finish().status(), Some(0));
        }
        for run in runs {
            assert_eq!(run.finish().envelope().success(), "works\n");
        }
    }
}

#[test]
fn a_machine_is_sealed() {
    let own = TestContext::own();
    let mut running = own.run("sleep 30").start();
    let machine: Process = running.machine().expect("a machine");
    std::thread::sleep(SECOND);
    let words = machine.command_line().join(" ");
    assert_eq!(machine.status("NoNewPrivs"), "1");
    assert_eq!(machine.status("Seccomp"), "2");
    for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        assert_eq!(machine.status(set), "0".repeat(16), "{set}");
    }
    let ids = [machine.status("Uid"), machine.status("Gid")].join("\t");
    assert!(!is_root() || ids.split_whitespace().all(|id| id != "0"), "{ids}");
    assert!(!is_root() || machine.status("Groups").is_empty());
    let seal = "-sandbox on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny";
    assert!(words.contains(seal), "{words}");
    for outside in ["-netdev", "-nic", "-net ", "virtfs", "fsdev", "vhost", "vnc", "-monitor"] {
        assert!(!words.contains(outside), "{outside}: {words}");
    }
    // Of this home it holds its own disk and what it shares with all, no more.
    for file in machine.files() {
        let inside = file.strip_prefix(own.home());
        let foreign = inside.is_ok_and(|path| !path.starts_with("sandboxes"));
        assert!(!foreign, "{}", file.display());
    }
    running.signal(libc::SIGTERM);
    running.finish();
    own.assert_tidy();
}

#[test]
fn the_home_is_its_owners_alone() {
    use std::os::unix::fs::PermissionsExt;
    let own = TestContext::own();
    set_mode(own.home(), 0o755);
    assert_works(&own);
    assert_eq!(fs::metadata(own.home()).unwrap().permissions().mode() & 0o777, 0o700);
}

#[test]
fn an_ordinary_user_needs_no_more() {
    if !is_root() {
        return;
    }
    let own = TestContext::whole(65534);
    let user = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", "--"];
    for _ in 0..2 {
        let mut live = own.run("id -u; sleep 1").args(SMALL).under(user).start();
        let machine = live.machine().expect("a machine");
        assert!(machine.status("Uid").starts_with("65534"), "{}", machine.status("Uid"));
        assert_eq!(live.finish().envelope().success(), "0\n");
    }
    own.assert_tidy();
}
