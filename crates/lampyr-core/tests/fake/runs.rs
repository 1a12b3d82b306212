//! What a run gives back, whatever the command does.

use std::io::Write;
use std::process::Stdio;
use std::time::{Duration, Instant};

use lampyr_core::{CopyIn, CopyOut};
use lampyr_types::{ErrorKind, Span};

use crate::world::{World, argv, sh};

#[tokio::test]
async fn a_command_s_output_and_exit_code_come_back() {
    let world = World::new().await;
    let ran = world.sh("echo out; echo err >&2; exit 3").await;
    assert_eq!((ran.code(), ran.out.as_str(), ran.err.as_str()), (3, "out\n", "err\n"));
    let cases = [("true", 0), ("exit 255", 255), ("kill -9 $$", 137), ("kill -15 $$", 143)];
    for (command, code) in cases {
        assert_eq!(world.sh(command).await.code(), code, "{command}");
    }
    let usage = world.sh("true").await.result.unwrap().usage;
    assert!(usage.guest_wall_us > 0 && !usage.left_running, "{usage:?}");
}

#[tokio::test]
async fn much_output_comes_back_whole_and_in_order() {
    let world = World::new().await;
    let ran = world.sh("seq 400000; seq 100000 >&2").await;
    let expected = |n: u32| (1..=n).map(|i| i.to_string() + "\n").collect::<String>();
    assert!(ran.out == expected(400_000), "{} bytes", ran.out.len());
    assert!(ran.err == expected(100_000), "{} bytes", ran.err.len());
}

#[tokio::test]
async fn arguments_environment_and_workdir_arrive_as_they_were_given() {
    let world = World::new().await;
    let ran = world.run(&argv(&["printf", "%s|", "a b", "$HOME", "", "é"])).await;
    assert_eq!((ran.code(), ran.out.as_str()), (0, "a b|$HOME||é|"));

    let mut request = sh("printf '%s,' \"$NEW\" \"$LANG\" \"$USER\" \"$PWD\"");
    let dir = world.tmp.path().canonicalize().unwrap();
    request.env = vec![("NEW".into(), "1=2 3".into()), ("LANG".into(), "C".into())];
    request.workdir = Some(dir.to_str().unwrap().into());
    let ran = world.run(&request).await;
    assert_eq!(ran.out, format!("1=2 3,C,root,{},", dir.display()));

    let ran = world.run(&argv(&["env"])).await;
    let mut names: Vec<_> = ran.out.lines().filter_map(|l| Some(l.split_once('=')?.0)).collect();
    names.sort_unstable();
    assert_eq!(names, ["HOME", "LANG", "LOGNAME", "PATH", "SHELL", "USER"]);
}

#[tokio::test]
async fn what_cannot_be_run_exits_as_a_shell_has_it() {
    let world = World::new().await;
    for name in ["no-such-program", "/no/such/program"] {
        let ran = world.run(&argv(&[name])).await;
        assert_eq!(ran.code(), 127, "{name}: {ran:?}");
        assert!(ran.err.contains("not found"), "{ran:?}");
    }
    for name in ["/etc/passwd", "/etc"] {
        let ran = world.run(&argv(&[name])).await;
        assert_eq!(ran.code(), 126, "{name}: {ran:?}");
    }
    let mut request = sh("true");
    request.workdir = Some("/no/such/directory".into());
    let ran = world.run(&request).await;
    assert_eq!(ran.code(), 126, "{ran:?}");
    assert!(ran.err.contains("/no/such/directory"), "{ran:?}");
}

#[tokio::test]
async fn a_name_that_no_directory_can_hold_is_not_found() {
    let world = World::warm().await;
    assert_eq!(world.run(&argv(&[""])).await.code(), 127);
    let mut request = argv(&["no-such-program"]);
    request.env = vec![("PATH".into(), "/etc/passwd:/bin".into())];
    assert_eq!(world.run(&request).await.code(), 127);
}

#[tokio::test]
async fn a_command_that_no_process_can_have_is_told_as_a_shell_would() {
    let world = World::warm().await;
    for request in [argv(&["echo", "a\0b"]), argv(&[])] {
        let ran = world.run(&request).await;
        assert_eq!(ran.code(), 126);
        assert!(ran.err.contains("cannot start a process"), "{}", ran.err);
    }
    assert_eq!(world.sh("echo on").await.out, "on\n");
}

#[tokio::test]
async fn a_timeout_keeps_what_was_said_and_ends_the_command() {
    let world = World::warm().await;
    let mut request = sh("echo partial; echo $$; exec sleep 60");
    request.timeout = Span::millis(300);
    let start = Instant::now();
    let ran = world.run(&request).await;
    let error = ran.result.unwrap_err();
    assert_eq!((error.kind, error.started), (ErrorKind::Timeout, true));
    assert!(error.message.contains("300ms"), "{}", error.message);
    assert!(error.duration >= Duration::from_millis(300), "{error:?}");
    assert!(start.elapsed() < Duration::from_secs(10));
    let pid = ran.out.strip_prefix("partial\n").unwrap().trim();
    assert!(gone(pid), "{pid} still runs");
    assert_eq!(world.sandboxes(), 0);
}

/// Whether a process has ended, if perhaps nobody has collected it yet.
fn gone(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
    stat.map_or(true, |stat| stat.contains(") Z "))
}

#[tokio::test]
async fn something_left_running_does_not_hold_the_run() {
    let world = World::warm().await;
    let start = Instant::now();
    let ran = world.sh("sleep 60 & echo started").await;
    assert_eq!((ran.code(), ran.out.as_str()), (0, "started\n"));
    assert!(ran.result.unwrap().usage.left_running);
    assert!(start.elapsed() < Duration::from_secs(10));
}

/// Set in the process that [`standard_input_reaches_the_command`] starts.
const STDIN_HELPER: &str = "LAMPYR_TEST_STDIN_HELPER";

#[test]
fn standard_input_reaches_the_command() {
    let program = std::env::current_exe().unwrap();
    for len in [0, 5, 3_000_000] {
        let mut helper = std::process::Command::new(&program)
            .args(["--exact", "runs::stdin_helper", "--nocapture"])
            .env(STDIN_HELPER, len.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        helper.stdin.take().unwrap().write_all(&vec![b'x'; len]).unwrap();
        assert!(helper.wait().unwrap().success(), "{len} bytes");
    }
}

/// Copies the process's own standard input through a command; does nothing in
/// an ordinary run of the tests.
#[tokio::test]
async fn stdin_helper() {
    let Ok(len) = std::env::var(STDIN_HELPER) else { return };
    let world = World::new().await;
    let mut request = sh("cat");
    request.stdin = true;
    let ran = world.run(&request).await;
    assert_eq!((ran.code(), ran.out.len().to_string()), (0, len));
    // Whoever does not ask for it hears its end at once.
    assert_eq!(world.sh("cat").await.out, "");
}

#[tokio::test]
async fn a_tree_comes_out() {
    let world = World::warm().await;
    let guest = world.at("guest");
    let command =
        format!("mkdir -p {guest}/sub && cd {guest} && seq 300000 >sub/f && ln -s f sub/l");
    let mut request = sh(&command);
    let back = world.tmp.path().join("back");
    request.copy_out = vec![CopyOut { remote: guest.clone(), local: back.clone() }];
    assert_eq!(world.run(&request).await.code(), 0);
    let sent = std::fs::read(format!("{guest}/sub/f")).unwrap();
    assert!(sent.len() > 1_900_000 && std::fs::read(back.join("sub/f")).unwrap() == sent);
    assert_eq!(std::fs::read_link(back.join("sub/l")).unwrap().to_str(), Some("f"));
}

#[tokio::test]
async fn a_tree_goes_in_and_comes_out() {
    let world = World::warm().await;
    let local = world.tmp.path().join("local");
    std::fs::create_dir_all(local.join("sub")).unwrap();
    std::fs::write(local.join("sub/f"), vec![b'x'; 2_000_000]).unwrap();
    let mut request = sh(&format!("cd {} && wc -c <sub/f && echo new >n", world.at("guest")));
    request.copy_in = vec![CopyIn { local, remote: world.at("guest") }];
    let back = world.tmp.path().join("back");
    request.copy_out = vec![
        CopyOut { remote: world.at("guest"), local: back.clone() },
        CopyOut { remote: world.at("guest/n"), local: world.tmp.path().join("one") },
    ];
    let ran = world.run(&request).await;
    assert_eq!((ran.code(), ran.out.trim()), (0, "2000000"));
    assert_eq!(std::fs::read(back.join("sub/f")).unwrap().len(), 2_000_000);
    assert_eq!(std::fs::read(back.join("n")).unwrap(), b"new\n");
    assert_eq!(std::fs::read(world.tmp.path().join("one")).unwrap(), b"new\n");
}

#[tokio::test]
async fn copies_that_cannot_be_made_say_why() {
    let world = World::warm().await;
    let missing = world.tmp.path().join("missing");
    let mut request = sh("echo ran");
    request.copy_in = vec![CopyIn { local: missing, remote: world.at("guest") }];
    let ran = world.run(&request).await;
    let error = ran.result.unwrap_err();
    assert_eq!((error.kind, error.started), (ErrorKind::ConnectionFailed, false));
    assert!(error.message.contains("missing not found"), "{}", error.message);
    assert_eq!(ran.out, "");

    let mut request = sh("echo ran");
    let local = world.tmp.path().join("back");
    request.copy_out = vec![CopyOut { remote: "/no/such/file".into(), local: local.clone() }];
    let ran = world.run(&request).await;
    let error = ran.result.unwrap_err();
    assert_eq!((error.kind, error.started), (ErrorKind::ConnectionFailed, true));
    assert!(error.message.contains("/no/such/file not found"), "{}", error.message);
    assert_eq!(ran.out, "ran\n");
    assert!(!local.exists());
    assert_eq!(world.sandboxes(), 0);
}
