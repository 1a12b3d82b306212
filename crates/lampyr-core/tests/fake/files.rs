//! Single files of a session's. The fake engine's agent is an ordinary process,
//! so its files are in a directory of the test's.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use lampyr_core::{Error, FileFault, FileKind, FilePut, SessionClient};
use tokio::sync::mpsc;

use crate::sessions::{client, end, plain, start};
use crate::world::{Heard, World, in_time};

async fn write(client: &SessionClient, path: &str, bytes: &[u8]) -> Result<(), Error> {
    let (feed, input) = mpsc::channel(1);
    feed.try_send(bytes.to_vec()).unwrap();
    drop(feed);
    let put = FilePut { path: path.into(), mode: None, parents: false };
    in_time(client.write_file(put, None, input)).await
}

fn fault<T: std::fmt::Debug>(done: Result<T, Error>) -> FileFault {
    match done.unwrap_err() {
        Error::File { fault, .. } => fault,
        other => panic!("{other}"),
    }
}

fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).unwrap();
    let mut names: Vec<_> =
        entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn files_are_written_read_and_looked_at() {
    let world = World::new().await;
    let session = start(&world, plain()).await.unwrap();
    let client = client(&world, &session.sid).await;
    let dir = world.tmp.path().join("files");
    let at = |name: &str| dir.join(name).to_str().unwrap().to_owned();
    client.make_dir(&at("a/b"), true, Some(0o700), None).await.unwrap();
    let bytes: Vec<u8> = (0..300_000_u32).map(|n| n.wrapping_mul(n) as u8).collect();
    write(&client, &at("a/file"), &bytes).await.unwrap();
    std::fs::set_permissions(at("a/file"), PermissionsExt::from_mode(0o751)).unwrap();
    let mut heard = Heard::default();
    client.read_file(&at("a/file"), None, &mut heard).await.unwrap();
    assert!(heard.out == bytes);

    // Through a link, and with the permissions that it had.
    symlink("file", at("a/link")).unwrap();
    write(&client, &at("a/link"), b"one two two").await.unwrap();
    let facts = client.stat(&at("a/link"), true, None).await.unwrap();
    assert_eq!((facts.kind, facts.size, facts.mode), (FileKind::File, 11, 0o751));
    let facts = client.stat(&at("a/link"), false, None).await.unwrap();
    assert_eq!((facts.kind, facts.target), (FileKind::Symlink, Some(b"file".to_vec())));
    let listed = client.list_dir(&at("a"), None).await.unwrap();
    let listed: Vec<_> = listed.iter().map(|facts| facts.name.as_slice()).collect();
    assert_eq!(listed, [&b"b"[..], b"file", b"link"]);

    let edit =
        |old: &'static str, all| client.edit_file(at("a/file").leak(), (old, "2"), all, None);
    assert_eq!(fault(edit("three", true).await), FileFault::Other);
    assert_eq!(fault(edit("two", false).await), FileFault::Other);
    assert_eq!(fault(edit("", true).await), FileFault::Other);
    assert_eq!(edit("two", true).await.unwrap(), 2);
    assert_eq!(std::fs::read(at("a/file")).unwrap(), b"one 2 2");

    client.move_file(&at("a/file"), &at("a/b/file"), None).await.unwrap();
    assert_eq!(fault(client.remove_file(&at("a/b"), false, None).await), FileFault::InTheWay);
    assert_eq!(fault(client.stat(&at("a/file"), true, None).await), FileFault::Missing);
    assert_eq!(fault(client.make_dir(&at("a"), false, None, None).await), FileFault::InTheWay);
    assert_eq!(fault(write(&client, &at("a"), b"").await), FileFault::WrongKind);
    assert_eq!(fault(client.list_dir(&at("a/b/file"), None).await), FileFault::WrongKind);
    client.remove_file(&at("a"), true, None).await.unwrap();
    assert_eq!(names(&dir), [""; 0]);
    end(&world, session).await;
}

#[tokio::test]
async fn what_breaks_off_leaves_what_was_there() {
    let world = World::new().await;
    let session = start(&world, plain()).await.unwrap();
    let client = client(&world, &session.sid).await;
    let dir = world.tmp.path().join("files");
    std::fs::create_dir(&dir).unwrap();
    std::fs::write(dir.join("file"), "old").unwrap();
    let path = dir.join("file").to_str().unwrap().to_owned();
    let (feed, input) = mpsc::channel(1);
    let put = FilePut { path: path.clone(), mode: None, parents: false };
    {
        let writing = client.write_file(put, None, input);
        tokio::pin!(writing);
        let feeding = async {
            // The third finds room when the first is on its way.
            for _ in 0..3 {
                feed.send(b"new".to_vec()).await.unwrap();
            }
        };
        tokio::select! {
            done = &mut writing => panic!("{done:?}"),
            () = feeding => {}
        }
    }
    // Whatever was begun is over when the next is answered and the session ends.
    client.stat(&path, true, None).await.unwrap();
    end(&world, session).await;
    assert_eq!(std::fs::read(&path).unwrap(), b"old");
    assert_eq!(names(&dir), ["file"]);
}

#[tokio::test]
async fn a_tree_goes_out_and_comes_back_as_an_archive() {
    let world = World::new().await;
    let session = start(&world, plain()).await.unwrap();
    let client = client(&world, &session.sid).await;
    let (from, to) = (world.tmp.path().join("from"), world.tmp.path().join("to/new"));
    std::fs::create_dir_all(from.join("sub")).unwrap();
    std::fs::write(from.join("sub/run"), "bytes").unwrap();
    std::fs::set_permissions(from.join("sub/run"), PermissionsExt::from_mode(0o750)).unwrap();
    symlink("sub/run", from.join("link")).unwrap();
    let mut archive = Heard::default();
    client.pack_dir(from.to_str().unwrap(), None, &mut archive).await.unwrap();
    let (feed, input) = mpsc::channel(1);
    feed.try_send(archive.out).unwrap();
    drop(feed);
    in_time(client.unpack_into(to.to_str().unwrap(), None, input)).await.unwrap();
    assert_eq!(std::fs::read(to.join("link")).unwrap(), b"bytes");
    let mode = to.join("sub/run").metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o750);
    let file = from.join("sub/run");
    let packed = client.pack_dir(file.to_str().unwrap(), None, &mut Heard::default()).await;
    assert_eq!(fault(packed), FileFault::WrongKind);
    end(&world, session).await;
}
