//! Commands in a sandbox.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "these are tests")]

mod lab;

use std::time::Duration;

use lab::{eventually, failure, on_vm, plain, runs};
use lampyr_sdk::{ErrorKind, ExecEvent, ExecStream, LaunchOptions, launch_sandbox};

#[test]
fn a_command_is_run_as_it_was_asked_for() {
    on_vm(async {
        let sandbox = plain().await;
        let out = sandbox.exec("printf").args(["%s|", "$HOME", "a b"]).await.unwrap();
        assert_eq!((out.code(), &*out.stdout(), &*out.stderr()), (0, "$HOME|a b|", ""));
        let script = "echo $WORD $PWD $(id -un); cat; echo no >&2; exit 3";
        let asked = sandbox.shell(script).env("WORD", "said").cwd("/tmp").user("nobody");
        let out = asked.stdin("in").await.unwrap();
        assert_eq!((out.code(), &*out.stdout()), (3, "said /tmp nobody\nin"));
        assert_eq!((&*out.stderr(), out.success(), out.truncated()), ("no\n", false, false));
        let out = sandbox.shell("echo $0 $1").args(["a", "b"]).await.unwrap();
        assert_eq!(out.stdout(), "a b\n");
        assert_eq!(sandbox.shell("kill -9 $$").await.unwrap().code(), 137);
    });
}

#[test]
fn bytes_go_in_and_come_out_as_they_are() {
    on_vm(async {
        let sandbox = plain().await;
        let bytes: Vec<u8> = (0..=255).cycle().take(300_000).collect();
        let out = sandbox.exec("cat").stdin(bytes.clone()).await.unwrap();
        assert!(out.stdout_bytes() == bytes);
        let out = sandbox.shell("cat >&2").stdin(bytes.clone()).stream().await.unwrap();
        let out = out.collect().await.unwrap();
        assert!(out.stderr_bytes() == bytes);
        assert_eq!(out.stdout_bytes(), b"");
    });
}

#[test]
fn what_is_said_over_the_bound_is_told() {
    on_vm(async {
        let sandbox = plain().await;
        let out = sandbox.shell("yes | head -c 100000").max_output("10k").await.unwrap();
        assert!(out.truncated(), "{:?}", out.meta());
        // A line in the middle says what was cut.
        assert!(out.stdout_bytes().len() < 11 << 10, "{}", out.stdout_bytes().len());
    });
}

#[test]
fn a_command_that_takes_too_long_keeps_what_it_said() {
    on_vm(async {
        let sandbox = plain().await;
        let script = || sandbox.shell("echo so; echo far >&2; sleep 600");
        let error = failure(script().timeout(Duration::from_secs(1)).await);
        assert_eq!(error.kind(), ErrorKind::Timeout);
        assert_eq!((&*error.failure().stdout(), &*error.failure().stderr()), ("so\n", "far\n"));
        let stream = script().timeout(Duration::from_secs(1)).stream().await.unwrap();
        let error = failure(stream.collect().await);
        assert_eq!(error.kind(), ErrorKind::Timeout);
        assert_eq!((&*error.failure().stdout(), &*error.failure().stderr()), ("so\n", "far\n"));
    });
}

#[test]
fn a_program_that_is_not_there_is_an_answer_or_an_error() {
    on_vm(async {
        let sandbox = plain().await;
        assert_eq!(sandbox.shell("/no/program").await.unwrap().code(), 127);
        let error = failure(sandbox.exec("true").cwd("relative").await);
        assert_eq!(error.kind(), ErrorKind::Usage);
        let error =
            failure(sandbox.exec("true").cwd("relative").stream().await.unwrap().wait().await);
        assert_eq!(error.kind(), ErrorKind::Usage);
    });
}

/// Hears until all that was said ends with this.
async fn until(stream: &mut ExecStream, end: &str) -> String {
    let mut said = String::new();
    while !said.ends_with(end) {
        match stream.recv().await.unwrap() {
            Some(ExecEvent::Stdout(bytes)) => said += &String::from_utf8(bytes).unwrap(),
            other => panic!("{other:?} after {said:?}"),
        }
    }
    said
}

#[test]
fn a_conversation_with_a_command() {
    on_vm(async {
        let sandbox = plain().await;
        let script = "while read word; do echo got $word; done; echo over; exit 5";
        let mut stream = sandbox.shell(script).pipe_stdin().stream().await.unwrap();
        let stdin = stream.take_stdin().unwrap();
        assert!(stream.take_stdin().is_none());
        for word in ["one", "two"] {
            stdin.write(format!("{word}\n")).await.unwrap();
            assert_eq!(until(&mut stream, "\n").await, format!("got {word}\n"));
        }
        drop(stdin);
        assert_eq!(until(&mut stream, "over\n").await, "over\n");
        assert_eq!(stream.recv().await.unwrap(), Some(ExecEvent::Exited(5)));
        assert_eq!(stream.recv().await.unwrap(), None);
        // One that has ended hears nothing.
        stream.signal(15).await.unwrap();
        assert_eq!(stream.wait().await.unwrap(), 5);
    });
}

#[test]
fn more_goes_in_than_a_request_may_have() {
    on_vm(async {
        let sandbox = plain().await;
        let mut stream = sandbox.exec("wc").arg("-c").pipe_stdin().stream().await.unwrap();
        let stdin = stream.take_stdin().unwrap();
        let piece = vec![b'x'; 1 << 20];
        for _ in 0..24 {
            stdin.write(&piece).await.unwrap();
        }
        drop(stdin);
        assert_eq!(stream.collect().await.unwrap().stdout(), format!("{}\n", 24 << 20));
    });
}

#[test]
fn a_signal_and_a_terminal_reach_it() {
    on_vm(async {
        let sandbox = plain().await;
        let script = "trap 'echo caught; exit 9' USR1; echo up; while :; do sleep 0.05; done";
        let mut stream = sandbox.shell(script).stream().await.unwrap();
        until(&mut stream, "up\n").await;
        stream.signal(10).await.unwrap();
        let out = stream.collect().await.unwrap();
        assert_eq!((out.code(), &*out.stdout()), (9, "caught\n"));
        let stream = sandbox.exec("sleep").arg("600").stream().await.unwrap();
        stream.kill().await.unwrap();
        assert_eq!(stream.wait().await.unwrap(), 137);

        let shell = sandbox.shell("stty size; read line; stty size").tty(20, 70).pipe_stdin();
        let mut stream = shell.stream().await.unwrap();
        let stdin = stream.take_stdin().unwrap();
        assert_eq!(until(&mut stream, "\n").await, "20 70\r\n");
        stream.resize(30, 90).await.unwrap();
        stdin.write("\n").await.unwrap();
        assert_eq!(stream.collect().await.unwrap().stdout(), "\r\n30 90\r\n");
    });
}

#[test]
fn whoever_lets_go_of_a_command_ends_it() {
    on_vm(async {
        let sandbox = plain().await;
        let stream = sandbox.exec("sleep").arg("4711").stream().await.unwrap();
        eventually("it runs", async || runs(&sandbox, "4711").await).await;
        drop(stream);
        eventually("it has ended", async || !runs(&sandbox, "4711").await).await;
        let command = sandbox.exec("sleep").arg("4712");
        let waited = async {
            tokio::select! {
                out = command => panic!("{out:?}"),
                () = eventually("it runs", async || runs(&sandbox, "4712").await) => {}
            }
        };
        waited.await;
        eventually("it has ended", async || !runs(&sandbox, "4712").await).await;
    });
}

#[test]
fn a_stream_waits_for_whoever_hears_it() {
    on_vm(async {
        let sandbox = plain().await;
        let script = "yes | head -c 30000000; echo end >&2";
        let mut stream = sandbox.shell(script).stream().await.unwrap();
        let (mut length, mut code) = (0, None);
        while let Some(event) = stream.recv().await.unwrap() {
            match event {
                ExecEvent::Stdout(bytes) => length += bytes.len(),
                ExecEvent::Exited(ended) => code = Some(ended),
                _ => {}
            }
        }
        assert_eq!((length, code), (30_000_000, Some(0)));
    });
}

#[test]
fn many_commands_run_at_once() {
    on_vm(async {
        let sandbox = plain().await;
        let (one, two, three) = tokio::join!(
            sandbox.shell("echo 1").into_future(),
            sandbox.shell("echo 2").into_future(),
            sandbox.shell("echo 3").into_future(),
        );
        let said = [one, two, three].map(|out| out.unwrap().stdout().into_owned());
        assert_eq!(said, ["1\n", "2\n", "3\n"]);
    });
}

#[test]
fn a_sandbox_that_is_stopped_ends_its_commands() {
    on_vm(async {
        let sandbox = plain().await;
        let other = lampyr_sdk::connect_to_sandbox(sandbox.name()).await.unwrap();
        let mut stream = other.shell("echo up; exec sleep 600").stream().await.unwrap();
        until(&mut stream, "up\n").await;
        sandbox.kill().await.unwrap();
        let error = failure(stream.wait().await);
        let kinds = [ErrorKind::SessionDisconnected, ErrorKind::ConnectionFailed];
        assert!(kinds.contains(&error.kind()), "{error:?}");
        let error = failure(other.exec("true").await);
        assert!(kinds.contains(&error.kind()), "{error:?}");
    });
}

#[test]
fn it_may_be_awaited_in_a_task() {
    on_vm(async {
        let options = LaunchOptions::new(lab::fresh("task"));
        let work = tokio::spawn(async {
            let work = async |sandbox: &lampyr_sdk::Sandbox| sandbox.shell("echo here").await;
            lampyr_sdk::run_in_sandbox(options, work).await
        });
        assert_eq!(work.await.unwrap().unwrap().stdout(), "here\n");
        let sandbox = launch_sandbox(LaunchOptions::new(lab::fresh("task"))).await.unwrap();
        let work = tokio::spawn(async move { sandbox.exec("true").await.unwrap().code() });
        assert_eq!(work.await.unwrap(), 0);
    });
}
