//! Guests that break the rules: each is a typed error, soon.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lampyr_core::{CopyOut, Output, OutputStream, RunError, Trace, run};
use lampyr_engine::fake::Peer;
use lampyr_proto::{Event, Exec, Job, Kind, Lane, MAX_PAYLOAD, WINDOW};
use lampyr_types::ErrorKind;

use crate::guest::{event, exited, frame, peer};
use crate::world::{World, in_time, sh};

/// Runs against a guest that answers a command with these bytes.
async fn against(bytes: impl Fn(u32) -> Vec<u8> + Send + Sync + 'static) -> RunError {
    let world = World::warm().await;
    world.engine.set_peer(peer(move |stream, _| bytes(stream)));
    let start = Instant::now();
    let ran = world.sh("true").await;
    assert!(start.elapsed() < Duration::from_secs(15), "{:?}", start.elapsed());
    assert_eq!(world.sandboxes(), 0);
    ran.result.unwrap_err()
}

fn assert_broken(error: &RunError, words: &str) {
    assert_eq!((error.kind, error.started), (ErrorKind::ConnectionFailed, true), "{error:?}");
    assert!(error.message.contains(words), "{} has no '{words}'", error.message);
}

#[tokio::test]
async fn frames_that_break_a_rule_are_refused() {
    let raw = |kind: u8, lane: u8, length: u32, reserved: u8| {
        move |stream: u32| {
            let mut out = stream.to_le_bytes().to_vec();
            out.extend(length.to_le_bytes());
            out.extend([kind, lane, reserved, 0]);
            out
        }
    };
    let (kind, lane, length, reserved) = tokio::join!(
        against(raw(99, 0, 0, 0)),
        against(raw(3, 9, 1, 0)),
        against(raw(3, 1, u32::MAX, 0)),
        against(raw(3, 1, 1, 1)),
    );
    assert_broken(&kind, "unknown kind 99");
    assert_broken(&lane, "unknown lane 9");
    assert_broken(&length, "payload of 4294967295 bytes");
    assert_broken(&reserved, "reserved bits");
}

#[tokio::test]
async fn frames_in_the_wrong_place_are_refused() {
    let (stdin, empty, credit, much, short) = tokio::join!(
        against(|s| frame(s, Kind::Data, Lane::Stdin, b"x")),
        against(|s| frame(s, Kind::Data, Lane::Stdout, b"")),
        against(|s| frame(s, Kind::Credit, Lane::Stdout, &1_u32.to_le_bytes())),
        against(|s| frame(s, Kind::Credit, Lane::Stdin, &(WINDOW + 1).to_le_bytes())),
        against(|s| frame(s, Kind::Credit, Lane::Stdin, &u32::MAX.to_le_bytes())),
    );
    assert_broken(&stdin, "byte on stdin");
    assert_broken(&empty, "payload of 0 bytes");
    assert_broken(&credit, "credit for an output");
    assert_broken(&much, "beyond the credit");
    assert_broken(&short, "beyond the credit");
    let (open, end, close) = tokio::join!(
        against(|s| frame(s, Kind::Open, Lane::Stdin, b"")),
        against(|s| frame(s, Kind::End, Lane::Stdout, b"")),
        against(|s| frame(s, Kind::Close, Lane::Stdin, b"")),
    );
    for error in [open, end, close] {
        assert_broken(&error, "only a host may send");
    }
}

#[tokio::test]
async fn messages_that_make_no_sense_are_refused() {
    let (noise, behind, flood) = tokio::join!(
        against(|s| frame(s, Kind::Message, Lane::Stdin, b"\xff\xff\xff")),
        against(|s| {
            let mut message = lampyr_proto::encode_message(&Event::Done);
            message.push(0);
            frame(s, Kind::Message, Lane::Stdin, &message)
        }),
        against(|s| event(s, &Event::Done).repeat(1000)),
    );
    assert_broken(&noise, "cannot be read");
    assert_broken(&behind, "bytes behind its end");
    assert_broken(&flood, "flood of messages");
}

#[tokio::test]
async fn a_guest_that_says_no_is_believed() {
    let error = against(|s| event(s, &Event::Failed("not today".into()))).await;
    assert_broken(&error, "not today");
}

/// An output that takes its time over the first bytes.
struct Slow {
    pause: Duration,
    taken: usize,
}

impl Output for Slow {
    fn write(&mut self, _stream: OutputStream, bytes: &[u8]) -> io::Result<()> {
        let pause = std::mem::take(&mut self.pause);
        // The channel's task goes on meanwhile.
        tokio::task::block_in_place(|| std::thread::sleep(pause));
        self.taken += bytes.len();
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn data_beyond_its_credit_is_refused() {
    let world = World::warm().await;
    let piece = vec![b'x'; MAX_PAYLOAD];
    world.engine.set_peer(peer(move |stream, _| {
        frame(stream, Kind::Data, Lane::Stdout, &piece).repeat(WINDOW as usize / MAX_PAYLOAD + 1)
    }));
    let host = world.host.clone();
    let (error, taken) = in_time(tokio::spawn(async move {
        let mut slow = Slow { pause: Duration::from_millis(800), taken: 0 };
        let ran = run(&host, &sh("true"), &mut slow, &Trace::new()).await;
        (ran.unwrap_err(), slow.taken)
    }))
    .await
    .unwrap();
    assert_broken(&error, "beyond the credit");
    assert!(taken <= WINDOW as usize, "{taken}");
}

#[tokio::test]
async fn a_guest_that_never_greets_is_given_up() {
    let world = World::warm().await;
    world.engine.set_peer(Peer::Play(Arc::new(|channel| {
        Box::pin(async move {
            let _open = channel;
            std::future::pending::<()>().await;
        })
    })));
    tokio::time::pause(); // Half a minute passes at once.
    let error = world.sh("true").await.result.unwrap_err();
    assert_eq!((error.kind, error.started), (ErrorKind::ConnectionFailed, false));
    assert!(error.message.contains("within 30 s"), "{}", error.message);
    assert_eq!(world.sandboxes(), 0);
}

#[tokio::test]
async fn a_guest_that_only_echoes_is_given_up() {
    let world = World::warm().await;
    world.engine.set_peer(Peer::Script(Vec::new()));
    tokio::time::pause();
    let error = world.sh("true").await.result.unwrap_err();
    assert_eq!((error.kind, error.started), (ErrorKind::ConnectionFailed, false));
}

#[tokio::test]
async fn noise_behind_the_greeting_is_refused() {
    let world = World::warm().await;
    world.engine.set_peer(Peer::Script(vec![0xff; 4096]));
    let error = world.sh("true").await.result.unwrap_err();
    assert_eq!((error.kind, error.started), (ErrorKind::ConnectionFailed, false));
    assert!(error.message.contains("frame"), "{}", error.message);
}

#[tokio::test]
async fn a_guest_that_hangs_up_has_ended() {
    let world = World::warm().await;
    world.engine.set_peer(Peer::Play(Arc::new(|_channel| Box::pin(async {}))));
    let error = world.sh("true").await.result.unwrap_err();
    assert_eq!((error.kind, error.started), (ErrorKind::ConnectionFailed, false));
    assert!(error.message.contains("the VM ended"), "{}", error.message);
}

/// A tar header with a right checksum.
fn header(name: &str, kind: u8) -> Vec<u8> {
    let mut block = vec![0; 512];
    block[..name.len()].copy_from_slice(name.as_bytes());
    let fields = [(100, "0000755"), (124, "00000000000"), (136, "00000000001")];
    for (at, text) in fields {
        block[at..at + text.len()].copy_from_slice(text.as_bytes());
    }
    block[148..156].fill(b' ');
    block[156] = kind;
    block[257..265].copy_from_slice(b"ustar\x0000");
    let sum: u32 = block.iter().copied().map(u32::from).sum();
    block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    block
}

#[tokio::test]
async fn a_hostile_download_stays_inside() {
    let evil = [header("../evil", b'0'), header("/evil", b'0'), header("dev", b'3')];
    for entry in evil {
        let world = World::warm().await;
        let archive = [header("./", b'5'), entry, vec![0; 1024]].concat();
        world.engine.set_peer(peer(move |stream, exec: Exec| match exec.job {
            Job::Get(_) => {
                let data = frame(stream, Kind::Data, Lane::Stdout, &archive);
                [data, exited(stream, 0)].concat()
            }
            _ => exited(stream, 0),
        }));
        let before = std::fs::read_dir(world.tmp.path()).unwrap().count();
        let mut request = sh("true");
        let local = world.tmp.path().join("back");
        request.copy_out = vec![CopyOut { remote: "/x".into(), local }];
        let error = world.run(&request).await.result.unwrap_err();
        assert_broken(&error, "refused the archive's entry");
        let after = std::fs::read_dir(world.tmp.path()).unwrap().count();
        assert!(after <= before + 1, "something beside the target");
    }
}

#[tokio::test]
async fn a_download_that_is_cut_off_or_no_archive_is_an_error() {
    for bytes in [vec![], header("./", b'5'), vec![b'x'; 5000]] {
        let world = World::warm().await;
        world.engine.set_peer(peer(move |stream, exec: Exec| match exec.job {
            Job::Get(_) if !bytes.is_empty() => {
                let data = frame(stream, Kind::Data, Lane::Stdout, &bytes);
                [data, exited(stream, 0)].concat()
            }
            _ => exited(stream, 0),
        }));
        let mut request = sh("true");
        let local = world.tmp.path().join("back");
        request.copy_out = vec![CopyOut { remote: "/x".into(), local }];
        let error = world.run(&request).await.result.unwrap_err();
        assert_broken(&error, "cannot copy /x from the VM");
    }
}
