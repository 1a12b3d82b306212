//! The agent as an ordinary process, spoken to frame by frame. What it runs
//! runs on this host, and is harmless.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "tests")]

mod client;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use client::{Agent, Ended, shell};
use lampyr_proto::{
    Control, Event, Exec, Job, Kind, Lane, Request, Resumed, WINDOW, Window, encode_message,
};
use proptest::prelude::*;

/// Runs one command to its end.
fn run(exec: Exec) -> Ended {
    let mut agent = Agent::start();
    agent.greet();
    agent.open(1, &Request::Exec(Box::new(exec)));
    agent.until_exited(1)
}

/// Waits until a process of this host has ended.
fn assert_gone(pid: &str) {
    let start = Instant::now();
    let path = format!("/proc/{}/stat", pid.trim());
    while std::fs::read_to_string(&path).is_ok_and(|stat| !stat.contains(") Z ")) {
        assert!(start.elapsed() < Duration::from_secs(10), "{pid} still runs");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_terminal_has_the_size_it_is_told_and_both_outputs() {
    let mut agent = Agent::start();
    agent.greet();
    let window = |rows, columns| Window { rows, columns };
    let command = "trap 'stty size; exit 3' WINCH; tty; stty size; echo err >&2; while :; do sleep 0.02; done";
    let exec = Exec { terminal: Some(window(33, 77)), ..shell(command) };
    agent.open(1, &Request::Exec(Box::new(exec)));
    agent.until(|heard| heard.out(1).ends_with("err\r\n"));
    let first = agent.heard.out(1);
    assert!(first.starts_with("/dev/pts/") && first.contains("\r\n33 77\r\n"), "{first}");
    let resize = encode_message(&Control::Resize(window(10, 20)));
    agent.send(&client::frame(1, Kind::Message, &resize));
    let ended = agent.until_exited(1);
    assert_eq!((ended.exited.code, ended.err.as_str()), (Some(3), ""));
    assert!(ended.out.ends_with("10 20\r\n"), "{}", ended.out);
}

#[test]
fn what_is_typed_on_a_terminal_reaches_its_foreground() {
    let mut agent = Agent::start();
    agent.greet();
    let terminal = Some(Window { rows: 24, columns: 80 });
    let exec = Exec { terminal, ..shell("echo up; read line; echo got $line; exec sleep 60") };
    agent.open(1, &Request::Exec(Box::new(exec)));
    agent.until(|heard| heard.out(1).ends_with("up\r\n"));
    agent.send(&client::frame(1, Kind::Data, b"hello\r"));
    agent.until(|heard| heard.out(1).ends_with("got hello\r\n"));
    agent.send(&client::frame(1, Kind::Data, b"\x03"));
    assert_eq!(agent.until_exited(1).exited.signal, Some(libc::SIGINT));
}

#[test]
fn a_dialled_port_carries_both_ways_and_each_end_by_itself() {
    use std::io::{Read, Write};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = std::thread::spawn(move || {
        let mut heard = Vec::new();
        let mut peer = listener.accept().unwrap().0;
        peer.write_all(b"welcome").unwrap();
        peer.read_to_end(&mut heard).unwrap();
        peer.write_all(&heard.repeat(2)).unwrap();
    });
    let mut agent = Agent::start();
    agent.greet();
    agent.open(1, &Request::Exec(Box::new(Exec::new(Job::Dial(port)))));
    agent.until(|heard| heard.out(1) == "welcome");
    agent.send(&client::frame(1, Kind::Data, b"abc"));
    agent.send(&client::frame(1, Kind::End, b""));
    let ended = agent.until_exited(1);
    assert_eq!((ended.exited.code, ended.out.as_str()), (Some(0), "welcomeabcabc"));
    server.join().unwrap();

    agent.open(2, &Request::Exec(Box::new(Exec::new(Job::Dial(port)))));
    let refused = agent.until_exited(2);
    assert_eq!((refused.exited.code, refused.err.contains("refused")), (Some(1), true));
}

#[test]
fn a_dialled_port_that_says_no_more_may_still_listen() {
    use std::io::{Read, Write};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = std::thread::spawn(move || {
        let mut peer = listener.accept().unwrap().0;
        peer.write_all(&vec![b'x'; 300_000]).unwrap();
        peer.shutdown(std::net::Shutdown::Write).unwrap();
        let mut heard = String::new();
        peer.read_to_string(&mut heard).unwrap();
        heard
    });
    let mut agent = Agent::start();
    agent.greet();
    agent.open(1, &Request::Exec(Box::new(Exec::new(Job::Dial(port)))));
    agent.until(|heard| heard.events(1) == [Event::Done]);
    assert_eq!(agent.heard.len(1, Lane::Stdout), 300_000);
    agent.send(&client::frame(1, Kind::Data, b"thanks"));
    agent.send(&client::frame(1, Kind::End, b""));
    assert_eq!(agent.until_exited(1).exited.code, Some(0));
    assert_eq!(server.join().unwrap(), "thanks");
}

#[test]
fn a_user_of_the_image_runs_it() {
    let exec = Exec { user: Some("no such user".into()), ..shell("true") };
    let ended = run(exec);
    assert_eq!(ended.exited.code, Some(126));
    assert!(ended.err.contains("no user 'no such user'"), "{}", ended.err);
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let exec = Exec { user: Some("nobody".into()), ..shell("id -un; echo $USER; id -G") };
    let ended = run(exec);
    assert!(ended.out.starts_with("nobody\nnobody\n"), "{}", ended.out);
}

#[test]
fn signals_reach_the_group_and_nonsense_is_passed_over() {
    let mut agent = Agent::start();
    agent.greet();
    let command =
        "trap 'echo usr1' USR1; trap 'exit 9' TERM; echo up; while :; do sleep 0.02; done";
    agent.open(1, &Request::Exec(Box::new(shell(command))));
    agent.until(|heard| heard.out(1) == "up\n");
    for number in [-1, 0, 9999, i32::MIN, i32::MAX] {
        agent.signal(1, number);
    }
    agent.signal(77, libc::SIGKILL);
    agent.signal(1, libc::SIGUSR1);
    agent.until(|heard| heard.out(1) == "up\nusr1\n");
    agent.signal(1, libc::SIGTERM);
    let ended = agent.until_exited(1);
    assert_eq!(ended.exited.code, Some(9));
}

/// Sends a process and what should end it in one breath.
fn ended_in_one_breath(kind: Kind, payload: &[u8]) -> Agent {
    let mut agent = Agent::start();
    agent.greet();
    let request = Request::Exec(Box::new(shell("echo $$ $PPID; exec sleep 60")));
    let mut bytes = client::frame(1, Kind::Open, &encode_message(&request));
    bytes.extend(client::frame(1, kind, payload));
    agent.send(&bytes);
    agent
}

#[test]
fn a_signal_right_behind_its_process_is_not_lost() {
    for _ in 0..20 {
        let kill = encode_message(&Control::Signal(libc::SIGKILL));
        let mut agent = ended_in_one_breath(Kind::Message, &kill);
        let ended = agent.until_exited(1);
        assert_eq!(ended.exited.signal, Some(libc::SIGKILL));
    }
}

#[test]
fn a_process_that_is_closed_at_once_is_ended() {
    for _ in 0..20 {
        let mut agent = ended_in_one_breath(Kind::Close, &[]);
        agent.hello(2);
        let start = Instant::now();
        while !agent.children().is_empty() {
            assert!(start.elapsed() < Duration::from_secs(5), "it still runs");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

#[test]
fn what_is_left_running_is_told_and_does_not_hold_the_end() {
    let ended = run(shell("sleep 60 & echo $!"));
    assert!(ended.exited.left_running && ended.exited.code == Some(0));
    client::kill(&ended.out);
    assert!(!run(shell("sleep 60 >/dev/null 2>&1 & kill $!; wait")).exited.left_running);
}

#[test]
fn closing_a_stream_and_hanging_up_end_what_runs() {
    let mut agent = Agent::start();
    agent.greet();
    for stream in [1, 2, 3] {
        agent.open(stream, &Request::Exec(Box::new(shell("echo $$; exec sleep 60"))));
    }
    agent.until(|heard| [1, 2, 3].iter().all(|&s| heard.out(s).ends_with('\n')));
    let pids = [1, 2, 3].map(|stream| agent.heard.out(stream));
    agent.send(&client::frame(1, Kind::Close, &[]));
    assert_gone(&pids[0]);
    agent.send(&[0xff; 64]);
    assert_gone(&pids[1]);
    assert_gone(&pids[2]);
    agent.greet();
    agent.open(1, &Request::Exec(Box::new(shell("echo $$; exec sleep 60"))));
    agent.until(|heard| heard.out(1).ends_with('\n'));
    let pid = agent.heard.out(1);
    assert_eq!(agent.hang_up(), Some(0));
    assert_gone(&pid);
}

#[test]
fn a_stream_that_is_in_use_is_not_opened_again() {
    let mut agent = Agent::start();
    agent.greet();
    for _ in 0..2 {
        agent.open(1, &Request::Exec(Box::new(shell("echo $$; exec sleep 60"))));
        agent.until(|heard| heard.out(1).ends_with('\n'));
    }
    let pids = agent.heard.out(1);
    agent.send(&[0xff; 64]);
    pids.lines().for_each(assert_gone);
}

#[test]
fn a_hundred_processes_share_the_channel() {
    let mut agent = Agent::start();
    agent.greet();
    for stream in 1..=100 {
        let command = format!("cat; echo err {stream} >&2; seq 20000; exit {}", stream % 50);
        agent.open(stream, &Request::Exec(Box::new(shell(&command))));
        let text = format!("in {stream}\n");
        agent.send(&client::frame(stream, Kind::Data, text.as_bytes()));
        agent.send(&client::frame(stream, Kind::End, &[]));
    }
    let numbers: String = (1..=20_000).map(|i| i.to_string() + "\n").collect();
    for stream in 1..=100 {
        let ended = agent.until_exited(stream);
        assert_eq!(ended.exited.code, Some((stream % 50).cast_signed()));
        assert!(ended.out == format!("in {stream}\n{numbers}"), "{stream}");
        assert_eq!(ended.err, format!("err {stream}\n"));
    }
}

#[test]
fn no_more_comes_than_there_is_credit_for() {
    let mut agent = Agent::start();
    agent.greet();
    agent.generous = false;
    agent.open(1, &Request::Exec(Box::new(shell("yes"))));
    agent.open(2, &Request::Exec(Box::new(shell("yes >&2"))));
    agent.until(|heard| {
        heard.len(1, Lane::Stdout) == WINDOW as usize
            && heard.len(2, Lane::Stderr) == WINDOW as usize
    });
    // Others go on, and nothing more comes of these two.
    agent.generous = true;
    agent.open(3, &Request::Exec(Box::new(shell("sleep 0.2; echo on"))));
    assert_eq!(agent.until_exited(3).out, "on\n");
    assert_eq!(agent.heard.len(1, Lane::Stdout), WINDOW as usize);
    assert_eq!(agent.heard.len(2, Lane::Stderr), WINDOW as usize);
    // One byte of credit is one byte of data.
    agent.credit(1, Lane::Stdout, 1);
    agent.until(|heard| heard.len(1, Lane::Stdout) == WINDOW as usize + 1);
}

#[test]
fn what_cannot_start_says_so_and_nothing_else_suffers() {
    let mut agent = Agent::start();
    agent.greet();
    agent.open(1, &Request::Exec(Box::new(shell("a\0b"))));
    let ended = agent.until_exited(1);
    assert_eq!(ended.exited.code, Some(126));
    assert!(ended.err.starts_with("cannot start a process"), "{}", ended.err);
    agent.hello(2);
}

#[test]
fn a_broken_pipe_ends_a_program_in_silence() {
    let ended = run(shell("yes | head -1"));
    assert_eq!((ended.out.as_str(), ended.err.as_str()), ("y\n", ""));
}

#[test]
fn a_rested_agent_runs_nothing_before_it_knows_who_it_is() {
    let mut agent = Agent::start();
    agent.greet();
    agent.open(1, &Request::Quiesce);
    agent.until(|heard| heard.events(1) == [Event::Done]);
    agent.heard = client::Heard(BTreeMap::new());
    agent.greet();
    agent.open(1, &Request::Exec(Box::new(shell("echo early"))));
    agent.until(|heard| matches!(heard.events(1), [Event::Failed(_)]));
    let new = Resumed {
        card: None,
        authority: None,
        entropy: vec![7; 64],
        clock_ns: 0,
        hostname: "somebody".into(),
        machine_id: "0".repeat(32),
    };
    // In one breath, as a host does it.
    let mut bytes = client::frame(2, Kind::Open, &encode_message(&Request::Resumed(new)));
    let exec = Request::Exec(Box::new(shell("echo late")));
    bytes.extend(client::frame(3, Kind::Open, &encode_message(&exec)));
    agent.send(&bytes);
    assert_eq!(agent.until_exited(3).out, "late\n");
    assert_eq!(agent.heard.events(2), [Event::Done]);
}

#[test]
fn a_rested_agent_waits_for_the_next_greeting() {
    let mut agent = Agent::start();
    agent.greet();
    agent.open(1, &Request::Exec(Box::new(shell("echo $$; exec sleep 60"))));
    agent.until(|heard| heard.out(1).ends_with('\n'));
    let pid = agent.heard.out(1);
    agent.open(2, &Request::Quiesce);
    agent.until(|heard| heard.events(2) == [Event::Done]);
    assert_gone(&pid);
    agent.heard = client::Heard(BTreeMap::new());
    agent.greet();
    agent.hello(1);
}

/// Runs something that prints and then waits for a file, and freezes the agent.
fn frozen(dir: &std::path::Path) -> Agent {
    let mut agent = Agent::start();
    agent.greet();
    let flood = "dd if=/dev/zero bs=1024 count=500 2>/dev/null";
    let wait = format!("echo up; while ! test -e {0}/go; do sleep 0.02; done", dir.display());
    let command = format!("{wait}; {flood}; touch {}/end", dir.display());
    agent.open(1, &Request::Exec(Box::new(shell(&command))));
    agent.until(|heard| heard.out(1) == "up\n");
    agent.open(2, &Request::Freeze);
    agent.until(|heard| heard.events(2) == [Event::Done]);
    agent
}

#[test]
fn what_runs_while_it_is_copied_runs_on_in_the_copy_with_nobody_to_hear_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut agent = frozen(dir.path());
    agent.greet();
    agent.open(1, &Request::Exec(Box::new(shell("true"))));
    agent.until(|heard| matches!(heard.events(1), [Event::Failed(_)]));
    let resumed = Resumed {
        entropy: vec![1; 64],
        clock_ns: 0,
        hostname: "copy".into(),
        machine_id: "0".repeat(32),
        card: None,
        authority: None,
    };
    agent.open(2, &Request::Resumed(resumed));
    agent.until(|heard| heard.events(2) == [Event::Done]);
    std::fs::write(dir.path().join("go"), "").unwrap();
    let wait = format!("while ! test -e {}/end; do sleep 0.02; done", dir.path().display());
    agent.open(3, &Request::Exec(Box::new(shell(&wait))));
    assert_eq!(agent.until_exited(3).exited.code, Some(0));
    assert_eq!(agent.heard.out(1), "");
}

#[test]
fn the_one_that_was_copied_goes_on_as_before() {
    let dir = tempfile::tempdir().unwrap();
    let mut agent = frozen(dir.path());
    std::fs::write(dir.path().join("go"), "").unwrap();
    agent.open(3, &Request::Thaw);
    let ended = agent.until_exited(1);
    assert_eq!((ended.exited.code, ended.out.len()), (Some(0), 3 + 500 * 1024));
}

fn request() -> impl Strategy<Value = Vec<u8>> {
    let commands = prop_oneof![Just("true"), Just("yes"), Just("cat"), Just("exec sleep 60")];
    let window = (any::<u16>(), any::<u16>()).prop_map(|(rows, columns)| Window { rows, columns });
    let exec = (commands, proptest::option::of(window)).prop_map(|(command, terminal)| {
        Request::Exec(Box::new(Exec { terminal, ..shell(command) }))
    });
    let hello = Just(Request::Hello(lampyr_proto::Hello { generation: 7 }));
    prop_oneof![exec, hello].prop_map(|request| encode_message(&request))
}

/// Bytes from a host that is not well: frames in any order, and noise.
fn noise() -> impl Strategy<Value = Vec<u8>> {
    let bytes = proptest::collection::vec(any::<u8>(), 0..300);
    let control = any::<i32>().prop_map(|n| encode_message(&Control::Signal(n)));
    let credit = any::<u32>().prop_map(|n| n.to_le_bytes().to_vec());
    let framed = prop_oneof![
        4 => request().prop_map(|payload| (Kind::Open, payload)),
        1 => bytes.clone().prop_map(|payload| (Kind::Open, payload)),
        2 => control.prop_map(|payload| (Kind::Message, payload)),
        3 => bytes.clone().prop_map(|payload| (Kind::Data, payload)),
        1 => credit.prop_map(|payload| (Kind::Credit, payload)),
        1 => Just((Kind::End, Vec::new())),
        1 => Just((Kind::Close, Vec::new())),
    ];
    let framed = (0_u32..4, 0_u8..3, framed).prop_map(|(stream, lane, (kind, payload))| {
        let mut frame = client::frame(stream, kind, &payload);
        frame[9] = lane;
        frame
    });
    let piece = prop_oneof![8 => framed, 1 => bytes];
    proptest::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_bring_the_agent_down(
        greeted in any::<bool>(),
        noise in prop_oneof![
            noise(),
            proptest::collection::vec(any::<u8>(), 0..2000),
        ],
    ) {
        let mut agent = Agent::start();
        if greeted {
            agent.greet();
        }
        agent.send(&noise);
        // No frame is longer, and this begins none: the conversation is over.
        agent.send(&vec![0xff; 66_000]);
        agent.greet();
        agent.hello(1);
        agent.open(2, &Request::Exec(Box::new(shell("echo alive"))));
        prop_assert_eq!(agent.until_exited(2).out, "alive\n");
        agent.kill_children();
        prop_assert_eq!(agent.hang_up(), Some(0));
    }
}
