//! Disks as e2fsprogs see them: `e2fsck` finds nothing to mend, and `debugfs`
//! finds every file as it was made.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use lampyr_ext4::{Builder, Content, Ext4Error, Kind, Meta, NodeId, Time};

const IDENTITY: [u8; 16] = *b"0123456789abcdef";

struct Bench {
    dir: tempfile::TempDir,
    builder: Builder,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let file = File::create(dir.path().join("disk")).unwrap();
        Self { dir, builder: Builder::new(file).unwrap() }
    }

    fn add(&mut self, directory: NodeId, name: &str, kind: Kind) -> NodeId {
        self.builder.add(directory, name.as_bytes(), meta(0o644), kind).unwrap()
    }

    fn content(&mut self, bytes: &[u8]) -> Kind {
        let mut content = Content::default();
        self.builder.append(&mut content, bytes).unwrap();
        Kind::File(content)
    }

    fn file(&mut self, directory: NodeId, name: &str, bytes: &[u8]) -> NodeId {
        let kind = self.content(bytes);
        self.add(directory, name, kind)
    }

    fn finish(self) -> Disk {
        self.builder.finish(IDENTITY, "lampyr", |used| used + (64 << 20)).unwrap();
        let path = self.dir.path().join("disk");
        let disk = Disk { _dir: self.dir, path };
        disk.check();
        disk
    }
}

struct Disk {
    _dir: tempfile::TempDir,
    path: PathBuf,
}

impl Disk {
    fn check(&self) {
        let output = Command::new("/sbin/e2fsck").arg("-fn").arg(&self.path).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    }

    fn ask(&self, request: &str) -> Vec<u8> {
        let mut debugfs = Command::new("/sbin/debugfs");
        debugfs.args(["-R", request]).arg(&self.path).output().unwrap().stdout
    }

    fn text(&self, request: &str) -> String {
        String::from_utf8_lossy(&self.ask(request)).into_owned()
    }
}

fn meta(mode: u16) -> Meta {
    let time = Time { sec: 1_600_000_000, nsec: 5 };
    Meta { mode, uid: 70_000, gid: 300_000, time, ..Meta::default() }
}

/// Bytes that are nowhere zeros.
fn noise(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i % 251) as u8 + 1).collect()
}

#[test]
fn an_empty_disk_is_sound() {
    let disk = Bench::new().finish();
    assert!(disk.text("ls /").contains("lost+found"));
}

#[test]
fn every_kind_of_file_is_found_again() {
    let mut bench = Bench::new();
    let etc = bench.add(Builder::ROOT, "etc", Kind::Directory);
    let file = bench.file(etc, "motd", b"hello\n");
    bench.builder.link(Builder::ROOT, b"motd", file).unwrap();
    bench.add(etc, "short", Kind::Symlink(b"motd"[..].into()));
    bench.add(etc, "long", Kind::Symlink(vec![b'x'; 4000].into()));
    bench.add(etc, "null", Kind::Character(1, 3));
    bench.add(etc, "disk", Kind::Block(259, 70_000));
    bench.add(etc, "pipe", Kind::Fifo);
    bench.file(etc, &"n".repeat(255), b"");
    let disk = bench.finish();
    assert_eq!(disk.ask("cat /motd"), b"hello\n");
    let stat = disk.text("stat /etc/motd");
    assert!(stat.contains("Links: 2") && stat.contains("User: 70000"), "{stat}");
    assert!(stat.contains("Group: 300000") && stat.contains("0x5f5e1000:00000014"), "{stat}");
    assert!(disk.text("stat /etc/short").contains("Fast link dest: \"motd\""));
    assert!(disk.text("stat /etc/long").contains("Size: 4000"));
    assert!(disk.text("stat /etc/null").contains("01:03"));
    assert!(disk.text("stat /etc/disk").contains("259:70000"));
    assert!(disk.text("stat /etc/pipe").contains("Type: FIFO"));
}

#[test]
fn contents_with_and_without_holes_are_whole() {
    let mut bench = Bench::new();
    let mut wanted = noise(300_000);
    wanted[70_000..200_000].fill(0);
    bench.file(Builder::ROOT, "holes", &wanted);
    // So many extents that their tree has three levels.
    let mut content = Content::default();
    let piece = noise(4096);
    for _ in 0..3000 {
        bench.builder.append(&mut content, &piece).unwrap();
        bench.builder.append_zeros(&mut content, (2 << 16) - 4096).unwrap();
    }
    bench.add(Builder::ROOT, "many", Kind::File(content));
    let mut content = Content::default();
    bench.builder.append_zeros(&mut content, 5 << 40).unwrap_err();
    let mut content = Content::default();
    bench.builder.append_zeros(&mut content, 50 << 30).unwrap();
    bench.add(Builder::ROOT, "empty", Kind::File(content));
    let disk = bench.finish();
    assert_eq!(disk.ask("cat /holes"), wanted);
    let many = disk.ask("cat /many");
    assert_eq!(many.len(), 3000 * (2 << 16));
    assert!(many.chunks(2 << 16).all(|c| c[..4096] == piece && c[4096..].iter().all(|b| *b == 0)));
    assert!(disk.text("stat /empty").contains("Size: 53687091200"));
    let size =
        std::os::unix::fs::MetadataExt::blocks(&std::fs::metadata(&disk.path).unwrap()) * 512;
    assert!(size < 40 << 20, "{size}");
}

#[test]
fn a_large_file_goes_around_the_copies() {
    let mut bench = Bench::new();
    let mut content = Content::default();
    let piece = noise(1 << 20);
    for _ in 0..600 {
        bench.builder.append(&mut content, &piece).unwrap();
    }
    bench.add(Builder::ROOT, "large", Kind::File(content));
    let disk = bench.finish();
    let large = disk.ask("cat /large");
    assert!(large.len() == 600 << 20 && large.chunks(1 << 20).all(|chunk| chunk == piece));
    let copy = Command::new("/sbin/e2fsck").args(["-fn", "-b", "98304"]).arg(&disk.path).output();
    assert!(copy.unwrap().status.success());
}

#[test]
fn many_files_have_inodes_and_names() {
    let mut bench = Bench::new();
    for directory in 0..10 {
        let directory = bench.add(Builder::ROOT, &format!("d{directory}"), Kind::Directory);
        for file in 0..7000 {
            bench.file(directory, &format!("a file with the number {file}"), b"");
        }
    }
    let disk = bench.finish();
    assert!(disk.text("stat /d9").contains("Type: directory"));
    assert!(disk.text("stat \"/d9/a file with the number 6999\"").contains("Type: regular"));
}

#[test]
fn attributes_are_kept() {
    let mut bench = Bench::new();
    let mut meta = meta(0o4755);
    meta.xattrs.insert(b"user.origin"[..].into(), b"here"[..].into());
    meta.xattrs.insert(b"security.capability"[..].into(), noise(20).into());
    meta.xattrs.insert(b"unknown.space"[..].into(), b"x"[..].into());
    bench.builder.add(Builder::ROOT, b"x", meta, Kind::Fifo).unwrap();
    let disk = bench.finish();
    assert!(disk.text("ea_get /x user.origin").starts_with("user.origin (4) = \"here\""));
    let list = disk.text("ea_list /x");
    assert!(list.contains("security.capability (20)") && !list.contains("unknown"), "{list}");
}

#[test]
fn what_is_removed_takes_no_room() {
    let mut bench = Bench::new();
    let dir = bench.add(Builder::ROOT, "dir", Kind::Directory);
    let secret = noise(30 << 20);
    let file = bench.file(dir, "secret", &secret);
    bench.builder.link(dir, b"again", file).unwrap();
    assert!(bench.builder.remove(Builder::ROOT, b"dir"));
    assert!(!bench.builder.remove(Builder::ROOT, b"dir"));
    bench.file(Builder::ROOT, "x", b"x");
    bench.file(Builder::ROOT, "x", b"y");
    let disk = bench.finish();
    assert_eq!(disk.ask("cat /x"), b"y");
    let bytes = std::fs::read(&disk.path).unwrap();
    assert!(!bytes.windows(64).any(|window| window == &secret[1000..1064]));
}

#[test]
fn the_same_calls_make_the_same_bytes() {
    let make = || {
        let mut bench = Bench::new();
        for name in ["b", "a", "c"] {
            bench.file(Builder::ROOT, name, &noise(100_000));
        }
        bench.builder.remove(Builder::ROOT, b"a");
        std::fs::read(&bench.finish().path).unwrap()
    };
    assert!(make() == make());
}

#[test]
fn names_that_no_file_can_have_are_refused() {
    let mut bench = Bench::new();
    let long = "x".repeat(256);
    for name in ["", ".", "..", "a/b", "a\0b", &long] {
        let made = bench.builder.add(Builder::ROOT, name.as_bytes(), meta(0), Kind::Fifo);
        assert!(matches!(made, Err(Ext4Error::BadName)), "{name}");
    }
    let fifo = bench.add(Builder::ROOT, "fifo", Kind::Fifo);
    let made = bench.builder.add(fifo, b"x", meta(0), Kind::Fifo);
    assert!(matches!(made, Err(Ext4Error::NotADirectory)));
}

#[test]
fn resize2fs_finds_room_to_grow() {
    let disk = Bench::new().finish();
    grow(&disk.path, 20 << 30);
    disk.check();
}

fn grow(path: &Path, size: u64) {
    File::options().write(true).open(path).unwrap().set_len(size).unwrap();
    let output = Command::new("/sbin/resize2fs").arg(path).output().unwrap();
    std::io::stderr().write_all(&output.stderr).unwrap();
    assert!(output.status.success());
}
