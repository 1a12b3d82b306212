//! What a guest's kernel can ask for, and what a hostile guest can.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use lampyr_mount::{Export, Quota, Server, recount};
use proptest::prelude::*;

const ROOT: u64 = 1;

/// A guest's kernel, as far as a test needs one.
struct Guest {
    server: Server,
    dir: PathBuf,
    _tmp: tempfile::TempDir,
}

type Answer = Result<Vec<u8>, i32>;

impl Guest {
    fn new() -> Self {
        Self::with(|_, dir| Export::open(dir, false, None).unwrap())
    }

    fn readonly() -> Self {
        Self::with(|_, dir| Export::open(dir, true, None).unwrap())
    }

    fn limited(limit: u64) -> Self {
        Self::with(|tmp, dir| {
            let count = tmp.join("count");
            recount(dir, &count).unwrap();
            Export::open(dir, false, Some(Quota::open(limit, &count).unwrap())).unwrap()
        })
    }

    /// A directory with `in/` in a directory with `outside`.
    fn with(export: impl FnOnce(&Path, &Path) -> Export) -> Self {
        let tmp = tempfile::tempdir().unwrap();
        let dir = tmp.path().join("exported");
        fs::create_dir_all(dir.join("in")).unwrap();
        fs::write(tmp.path().join("outside"), "secret").unwrap();
        let server = Server::new(export(tmp.path(), &dir)).unwrap();
        Self { server, dir, _tmp: tmp }
    }

    fn ask(&mut self, opcode: u32, node: u64, body: &[u8]) -> Answer {
        let reply = self.tell(opcode, node, body).unwrap();
        assert_eq!(reply[0..4], (reply.len() as u32).to_le_bytes());
        assert_eq!(reply[8..16], 77_u64.to_le_bytes());
        match i32::from_le_bytes(reply[4..8].try_into().unwrap()) {
            0 => Ok(reply[16..].to_vec()),
            error => Err(-error),
        }
    }

    /// The reply, if there is one.
    fn tell(&mut self, opcode: u32, node: u64, body: &[u8]) -> Option<Vec<u8>> {
        let mut request = (40 + body.len() as u32).to_le_bytes().to_vec();
        request.extend(opcode.to_le_bytes());
        request.extend(77_u64.to_le_bytes());
        request.extend(node.to_le_bytes());
        request.extend([0; 16]);
        request.extend(body);
        let mut replies = Vec::new();
        self.server.serve(&request, |reply| replies.push(reply)).unwrap();
        assert!(replies.len() <= 1);
        replies.pop()
    }

    fn lookup(&mut self, parent: u64, name: &str) -> Result<u64, i32> {
        self.ask(1, parent, &text(name)).map(|entry| u64_at(&entry, 0))
    }

    fn open(&mut self, node: u64, flags: u32) -> Result<u64, i32> {
        self.ask(14, node, &words(&[flags, 0])).map(|opened| u64_at(&opened, 0))
    }

    /// Makes and opens a file: its node and its handle.
    fn create(&mut self, parent: u64, name: &str) -> Result<(u64, u64), i32> {
        let body = [words(&[2, 0o6755, 0, 0]), text(name)].concat();
        self.ask(35, parent, &body).map(|made| (u64_at(&made, 0), u64_at(&made, 128)))
    }

    fn write(&mut self, handle: u64, offset: u64, data: &[u8]) -> Answer {
        let mut body = longs(&[handle, offset]);
        body.extend(words(&[data.len() as u32, 0, 0, 0, 0, 0]));
        body.extend(data);
        self.ask(16, ROOT, &body)
    }

    fn read(&mut self, handle: u64, offset: u64, size: u32) -> Answer {
        let body = [longs(&[handle, offset]), words(&[size, 0, 0, 0, 0, 0])].concat();
        self.ask(15, ROOT, &body)
    }

    fn release(&mut self, handle: u64) {
        self.ask(18, ROOT, &longs(&[handle, 0, 0])).unwrap();
    }

    fn size(&mut self, node: u64) -> Result<u64, i32> {
        self.ask(3, node, &[0; 16]).map(|attributes| u64_at(&attributes, 24))
    }
}

fn text(text: &str) -> Vec<u8> {
    [text.as_bytes(), b"\0"].concat()
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

fn longs(longs: &[u64]) -> Vec<u8> {
    longs.iter().flat_map(|long| long.to_le_bytes()).collect()
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

#[test]
fn a_file_is_made_written_and_read() {
    let mut guest = Guest::new();
    let (node, handle) = guest.create(ROOT, "new").unwrap();
    guest.write(handle, 0, b"hello").unwrap();
    guest.write(handle, 5, b" world").unwrap();
    assert_eq!(guest.read(handle, 3, 100).unwrap(), b"lo world");
    assert_eq!(guest.size(node), Ok(11));
    let found = fs::metadata(guest.dir.join("new")).unwrap();
    // Whatever the guest says and whatever our umask is.
    assert_eq!(found.permissions().mode() & 0o7777, 0o755);
    assert_eq!(fs::read(guest.dir.join("new")).unwrap(), b"hello world");
}

#[test]
fn no_name_leads_out() {
    let mut guest = Guest::new();
    for name in ["..", ".", "", "../outside", "in/../../outside", "/etc/passwd"] {
        assert_eq!(guest.lookup(ROOT, name), Err(22), "{name}");
        assert_eq!(guest.create(ROOT, name), Err(22), "{name}");
    }
    assert_eq!(guest.lookup(ROOT, &"x".repeat(256)), Err(36));
    assert_eq!(guest.ask(1, ROOT, b"no end"), Err(22));
}

#[test]
fn no_link_is_followed() {
    let mut guest = Guest::new();
    symlink("..", guest.dir.join("up")).unwrap();
    symlink("../outside", guest.dir.join("out")).unwrap();
    let (up, out) = (guest.lookup(ROOT, "up").unwrap(), guest.lookup(ROOT, "out").unwrap());
    assert_eq!(guest.ask(5, up, &[]).unwrap(), b"..");
    assert_eq!(guest.lookup(up, "outside"), Err(116));
    assert_eq!(guest.create(up, "x"), Err(116));
    assert_eq!(guest.open(out, 2), Err(116));
    assert_eq!(guest.create(ROOT, "out").map(drop), Err(40));
    let mode = [words(&[1, 0]), vec![0; 60], words(&[0o777, 0, 0, 0, 0])].concat();
    assert_eq!(guest.ask(4, out, &mode), Err(95));
}

#[test]
fn a_directory_that_becomes_a_link_is_stale() {
    let mut guest = Guest::new();
    let inner = guest.lookup(ROOT, "in").unwrap();
    fs::write(guest.dir.join("in/file"), "x").unwrap();
    let file = guest.lookup(inner, "file").unwrap();
    fs::rename(guest.dir.join("in"), guest.dir.join("moved")).unwrap();
    symlink("..", guest.dir.join("in")).unwrap();
    assert_eq!(guest.lookup(inner, "outside"), Err(116));
    assert_eq!(guest.open(file, 0), Err(116));
    assert_eq!(guest.size(file), Err(116));
}

#[test]
fn a_name_that_means_another_file_is_stale() {
    let mut guest = Guest::new();
    fs::write(guest.dir.join("a"), "old").unwrap();
    let node = guest.lookup(ROOT, "a").unwrap();
    // Both at once, so that the new file has another inode.
    fs::write(guest.dir.join("b"), "newer").unwrap();
    fs::rename(guest.dir.join("b"), guest.dir.join("a")).unwrap();
    assert_eq!(guest.size(node), Err(116));
    assert_eq!(guest.open(node, 0), Err(116));
    let again = guest.lookup(ROOT, "a").unwrap();
    assert_eq!(guest.size(again), Ok(5));
}

#[test]
fn an_open_file_outlives_its_name() {
    let mut guest = Guest::limited(1 << 20);
    let (node, handle) = guest.create(ROOT, "gone").unwrap();
    guest.write(handle, 0, &[7; 5000]).unwrap();
    guest.ask(10, ROOT, &text("gone")).unwrap();
    assert_eq!(guest.size(node), Ok(5000));
    assert_eq!(guest.read(handle, 4999, 10).unwrap(), [7]);
    let free = |guest: &mut Guest| u64_at(&guest.ask(17, ROOT, &[]).unwrap(), 8);
    let before = free(&mut guest);
    guest.release(handle);
    assert_eq!(free(&mut guest), before + 3);
}

#[test]
fn names_move_with_what_is_in_them() {
    let mut guest = Guest::new();
    let inner = guest.lookup(ROOT, "in").unwrap();
    let (file, _) = guest.create(inner, "file").unwrap();
    let rename = [longs(&[ROOT]), text("in"), text("out")].concat();
    guest.ask(12, ROOT, &rename).unwrap();
    assert_eq!(guest.size(file), Ok(0));
    assert!(guest.dir.join("out/file").exists());
    // Only the two flags that Linux users know.
    let whiteout = [longs(&[ROOT, 4]), text("out"), text("in")].concat();
    assert_eq!(guest.ask(45, ROOT, &whiteout), Err(22));
}

#[test]
fn a_read_only_mount_stays_as_it_is() {
    let mut guest = Guest::readonly();
    fs::write(guest.dir.join("a"), "x").unwrap();
    let node = guest.lookup(ROOT, "a").unwrap();
    for flags in [1, 2, 0o1000] {
        assert_eq!(guest.open(node, flags), Err(30));
    }
    let handle = guest.open(node, 0).unwrap();
    assert_eq!(guest.read(handle, 0, 9).unwrap(), b"x");
    for opcode in [4, 6, 8, 9, 10, 11, 12, 13, 16, 35, 43, 45] {
        assert_eq!(guest.ask(opcode, node, &[0; 200]), Err(30), "{opcode}");
    }
    assert_eq!(guest.write(handle, 0, b"y"), Err(30));
    assert_eq!(fs::read(guest.dir.join("a")).unwrap(), b"x");
}

#[test]
fn a_full_volume_is_a_full_disk() {
    let mut guest = Guest::limited(10 * 4096);
    let (_, handle) = guest.create(ROOT, "a").unwrap();
    assert_eq!(guest.write(handle, 0, &vec![1; 9 * 4096]), Err(28));
    guest.write(handle, 0, &vec![1; 8 * 4096]).unwrap();
    assert_eq!(guest.create(ROOT, "b"), Err(28));
    assert_eq!(guest.write(handle, 1 << 40, b"x"), Err(28));
    guest.write(handle, 4096, b"over what is there").unwrap();
    guest.ask(10, ROOT, &text("a")).unwrap();
    guest.release(handle);
    guest.create(ROOT, "b").unwrap();
}

#[test]
fn a_write_that_was_answered_already_fails_at_the_flush() {
    let mut guest = Guest::limited(10 * 4096);
    let (_, handle) = guest.create(ROOT, "a").unwrap();
    assert!(!guest.server.is_roomy());
    let mut ahead = |offset, data: &[u8]| {
        let mut body = longs(&[handle, offset]);
        body.extend(words(&[data.len() as u32, 0, 0, 0, 0, 1]));
        body.extend(data);
        assert_eq!(guest.tell(16, ROOT, &body), None);
    };
    ahead(0, b"fits");
    ahead(1 << 20, b"does not");
    let flush = longs(&[handle, 0, 0]);
    assert_eq!(guest.ask(25, ROOT, &flush), Err(28));
    assert_eq!(guest.ask(25, ROOT, &flush), Ok(vec![]));
    assert_eq!(fs::read(guest.dir.join("a")).unwrap(), b"fits");
    let mut roomy = Guest::limited(1 << 40);
    assert!(roomy.server.is_roomy() && !Guest::readonly().server.is_roomy());
    let (_, handle) = roomy.create(ROOT, "a").unwrap();
    roomy.write(handle, 0, b"x").unwrap();
}

#[test]
fn devices_are_not_made() {
    let mut guest = Guest::new();
    let node = |mode| [words(&[mode, 0x0103, 0, 0]), text("node")].concat();
    assert_eq!(guest.ask(8, ROOT, &node(0o020_666)), Err(1));
    assert_eq!(guest.ask(8, ROOT, &node(0o060_666)), Err(1));
    guest.ask(8, ROOT, &node(0o010_640)).unwrap();
    let fifo = guest.lookup(ROOT, "node").unwrap();
    assert_eq!(guest.open(fifo, 0), Err(22));
    assert_eq!(fs::metadata(guest.dir.join("node")).unwrap().mode() & 0o777, 0o640);
}

#[test]
fn a_directory_is_listed_in_pieces() {
    let mut guest = Guest::new();
    for i in 0..50 {
        fs::write(guest.dir.join(format!("file{i}")), "").unwrap();
    }
    let handle = u64_at(&guest.ask(27, ROOT, &[0; 8]).unwrap(), 0);
    let (mut seen, mut offset) = (Vec::new(), 0);
    loop {
        let body = [longs(&[handle, offset]), words(&[200, 0, 0, 0, 0, 0])].concat();
        let listed = guest.ask(28, ROOT, &body).unwrap();
        let mut at = 0;
        while at < listed.len() {
            offset = u64_at(&listed, at + 8);
            let length = u64_at(&listed, at + 16) as u32 as usize;
            let name = &listed[at + 24..at + 24 + length];
            seen.push(String::from_utf8(name.to_vec()).unwrap());
            at += 24 + length.next_multiple_of(8);
        }
        if listed.is_empty() {
            break;
        }
    }
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 50 + 3, "with '.', '..' and 'in'");
}

#[test]
fn lengths_that_lie_end_the_conversation() {
    for length in [0_u32, 39, u32::MAX] {
        let mut guest = Guest::new();
        let mut bytes = length.to_le_bytes().to_vec();
        bytes.extend([0; 60]);
        assert!(guest.server.serve(&bytes, |_| panic!("answered")).is_err(), "{length}");
    }
}

proptest! {
    /// Any bytes are answered or refused, in pieces of any size, and nothing
    /// appears outside.
    #[test]
    fn whatever_is_asked_stays_inside(
        requests in prop::collection::vec(
            (0_u32..50, 0_u64..4, prop::collection::vec(any::<u8>(), 0..80)), 1..30),
        piece in 1_usize..100,
    ) {
        let mut guest = Guest::new();
        let mut bytes = Vec::new();
        for (opcode, node, body) in &requests {
            bytes.extend((40 + body.len() as u32).to_le_bytes());
            bytes.extend(opcode.to_le_bytes());
            bytes.extend(longs(&[1, *node, 0, 0]));
            bytes.extend(body);
        }
        for piece in bytes.chunks(piece) {
            guest.server.serve(piece, |_| {}).unwrap();
        }
        let outside: Vec<_> = fs::read_dir(guest.dir.parent().unwrap()).unwrap().collect();
        prop_assert_eq!(outside.len(), 2);
        prop_assert_eq!(fs::read(guest.dir.with_file_name("outside")).unwrap(), b"secret");
    }
}
