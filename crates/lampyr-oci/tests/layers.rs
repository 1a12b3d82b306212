//! Layers that were laid over each other, as umoci lays them and as they
//! should never be.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::Command;

use lampyr_oci::{Blobs, Digest, LayerError, Limits, Tree, changes};
use lampyr_store::Store;
use lampyr_test_registry::{Layout, Packing, Tar, succeed};
use lampyr_types::Size;

const LIMITS: Limits = Limits { size: Size::mib(256), files: 10_000 };

struct Disk {
    dir: tempfile::TempDir,
}

impl Disk {
    fn path(&self) -> PathBuf {
        self.dir.path().join("disk")
    }

    fn make(layers: &[Vec<u8>]) -> Result<Self, LayerError> {
        let dir = tempfile::tempdir().unwrap();
        let mut tree = Tree::new(File::create(dir.path().join("disk")).unwrap(), LIMITS).unwrap();
        for layer in layers {
            tree.lay(layer.as_slice(), Some(Digest::of(layer)))?;
        }
        tree.finish(*b"0123456789abcdef", |used| used + (16 << 20)).unwrap();
        let disk = Self { dir };
        succeed(Command::new("/sbin/e2fsck").arg("-fn").arg(disk.path()));
        Ok(disk)
    }

    fn ask(&self, request: &str) -> String {
        succeed(Command::new("/sbin/debugfs").args(["-R", request]).arg(self.path()))
    }

    /// Copies all of it into a directory of the host.
    fn dump(&self, to: &Path) {
        std::fs::create_dir(to).unwrap();
        self.ask(&format!("rdump / {}", to.display()));
        std::fs::remove_dir(to.join("lost+found")).unwrap();
    }
}

fn refusal(layers: &[Vec<u8>]) -> LayerError {
    match Disk::make(layers) {
        Ok(_) => panic!("it was not refused"),
        Err(e) => e,
    }
}

/// Names, kinds, permissions, owners and contents of a tree; without the bits
/// that `debugfs` loses when it dumps.
fn listing(root: &Path) -> String {
    let script = "cd \"$1\" && find . -mindepth 1 -printf '%p %y %#m %U %G %l\\n' | \
        sed -E 's/ 0[1-7]([0-7]{3}) / 0\\1 /' | sort && \
        find . -type f -print0 | sort -z | xargs -0 -r sha256sum";
    succeed(Command::new("sh").args(["-c", script, "list"]).arg(root))
}

/// What umoci makes of the same layers.
fn umoci(layers: &[Vec<u8>], packing: Packing, to: &Path) {
    let mut layout = Layout::default();
    layout.image("x", layers, packing, &serde_json::json!({}));
    let image = format!("{}:x", layout.path().display());
    succeed(Command::new("umoci").args(["unpack", "--image", &image]).arg(to));
}

fn same_as_umoci(layers: &[Vec<u8>]) {
    let dir = tempfile::tempdir().unwrap();
    let (ours, theirs) = (dir.path().join("ours"), dir.path().join("theirs"));
    Disk::make(layers).unwrap().dump(&ours);
    umoci(layers, Packing::Gzip, &theirs);
    assert_eq!(listing(&ours), listing(&theirs.join("rootfs")));
}

#[test]
fn whiteouts_hide_what_lies_beneath_and_nothing_else() {
    let lower = Tar::default()
        .directory("a/")
        .file("a/gone", b"1")
        .file("a/kept", b"2")
        .directory("b/")
        .file("b/gone", b"3")
        .directory("b/deep/")
        .file("b/deep/gone", b"4")
        .directory("c/")
        .file("c/gone", b"5")
        .file("d", b"6")
        .finish();
    // Whiteouts stand before and behind what is new.
    let upper = Tar::default()
        .directory("a/")
        .file("a/.wh.gone", b"")
        .directory("b/")
        .file("b/new", b"7")
        .file("b/.wh..wh..opq", b"")
        .file(".wh.c", b"")
        .directory("d/")
        .file("d/now a directory", b"8")
        .file(".wh.never was", b"")
        .finish();
    same_as_umoci(&[lower, upper]);
}

#[test]
fn paths_lead_through_links_inside_the_tree() {
    let lower = Tar::default()
        .directory("usr/")
        .directory("usr/bin/")
        .symlink("bin", "usr/bin")
        .symlink("absolute", "/usr/bin")
        .symlink("up", "../../../usr")
        .file("usr/bin/old", b"old")
        .finish();
    let upper = Tar::default()
        .file("bin/one", b"1")
        .file("absolute/two", b"2")
        .file("up/bin/three", b"3")
        .file("bin/.wh.old", b"")
        .link("usr/four", "bin/one")
        .finish();
    same_as_umoci(&[lower, upper]);
}

#[test]
fn files_replace_what_has_their_name() {
    let lower = Tar::default()
        .directory("a/")
        .file("a/x", b"x")
        .file("b", b"b")
        .link("c", "b")
        .symlink("d", "a")
        .finish();
    let upper = Tar::default()
        .file("a", b"a file now")
        .file("b", b"another")
        .directory("d/")
        .file("e/made/on/the/way", b"e")
        .finish();
    let layers = [lower, upper];
    same_as_umoci(&layers);
    let disk = Disk::make(&layers).unwrap();
    assert_eq!(disk.ask("cat /c"), "b");
}

#[test]
fn every_odd_kind_of_file_arrives() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    let script = r#"set -e; umask 022; mkdir "$1"; cd "$1"
        mkdir -m 1777 tmp; mkdir -m 2755 setgid; printf x > setuid; chmod 4711 setuid
        printf data > big-id; chown 3000000000:70000 big-id
        mknod null c 1 3; mknod far b 259 70000; mkfifo pipe
        ln big-id again; ln -s "$(printf %0500d 7)" long-link
        d=$(printf %0200d 1); mkdir -p "$d/$d"; printf deep > "$d/$d/$(printf %0255d 2)"
        printf e > "$(printf 'caf\303\251 \n odd')"
        truncate -s 3M sparse; printf here | dd of=sparse bs=1 seek=1500000 conv=notrunc status=none
        touch -d '1950-01-01 00:00:00.5' old; touch -d '2200-01-01' new"#;
    succeed(Command::new("sh").args(["-c", script, "make"]).arg(&root));
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(root.join("setuid"), "user.note", b"hello", flags).unwrap();
    for format in ["pax", "gnu"] {
        let tar = dir.path().join(format);
        let mut pack = Command::new("tar");
        pack.args(["--sparse", "--xattrs", "--format", format, "-C"]).arg(&root).arg("-cf");
        if format == "gnu" {
            // The old format knows no attributes, nor moments this odd.
            pack.arg(&tar).args(["--no-xattrs", "."]);
        } else {
            pack.arg(&tar).arg(".");
        }
        succeed(&mut pack);
        let disk = Disk::make(&[std::fs::read(&tar).unwrap()]).unwrap();
        let ours = dir.path().join(format!("{format}-dump"));
        disk.dump(&ours);
        let kinds =
            |line: &&str| !line.contains("null") && !line.contains("far") && !line.contains("pipe");
        let (found, wanted) = (listing(&ours), listing(&root));
        let found: Vec<_> = found.lines().filter(kinds).collect();
        assert_eq!(found, wanted.lines().filter(kinds).collect::<Vec<_>>());
        for (name, mode) in [("tmp", "01777"), ("setgid", "02755"), ("setuid", "04711")] {
            assert!(
                disk.ask(&format!("stat /{name}")).contains(&format!("Mode:  {mode}")),
                "{name}"
            );
        }
        assert!(disk.ask("stat /null").contains("01:03"));
        assert!(disk.ask("stat /far").contains("259:70000"));
        assert!(disk.ask("stat /again").contains("Links: 2"));
        assert!(disk.ask("stat /pipe").contains("Type: FIFO"));
        assert!(disk.ask("stat /sparse").contains("Size: 3145728"));
        if format == "pax" {
            assert!(disk.ask("ea_get /setuid user.note").contains("\"hello\""));
            assert!(disk.ask("stat /old").contains("1950"), "{}", disk.ask("stat /old"));
        }
        assert!(disk.ask("stat /new").contains("2200"), "{}", disk.ask("stat /new"));
    }
}

#[test]
fn packings_make_the_same_disk() {
    let layer = Tar::default().file("a", &vec![7; 100_000]).finish();
    let disk = |packed: &[u8]| {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("disk");
        let mut tree = Tree::new(File::create(&path).unwrap(), LIMITS).unwrap();
        tree.lay(packed, Some(Digest::of(&layer))).unwrap();
        tree.finish([1; 16], |used| used).unwrap();
        std::fs::read(path).unwrap()
    };
    let plain = disk(&layer);
    for packing in [Packing::Gzip, Packing::Zstd] {
        let mut layout = Layout::default();
        layout.image("x", std::slice::from_ref(&layer), packing, &serde_json::json!({}));
        let blobs = std::fs::read_dir(layout.path().join("blobs/sha256")).unwrap();
        let packed = blobs.map(|blob| std::fs::read(blob.unwrap().path()).unwrap());
        let packed: Vec<_> = packed.filter(|bytes| !bytes.starts_with(b"{")).collect();
        assert!(disk(&packed[0]) == plain, "{packing:?}");
    }
}

#[test]
fn hostile_layers_are_refused_in_words() {
    let circle = Tar::default().symlink("a", "b").symlink("b", "a").file("a/x", b"").finish();
    let said = |layers: &[Vec<u8>]| refusal(layers).to_string();
    assert_eq!(said(&[circle]), "'a' is a link that leads in circles");
    let escape = Tar::default().file("../etc/passwd", b"").finish();
    assert_eq!(said(&[escape]), "'../etc/passwd' leads out of the image");
    let escape = Tar::default().link("x", "../../etc/passwd").finish();
    assert_eq!(said(&[escape]), "'../../etc/passwd' leads out of the image");
    let nothing = Tar::default().link("x", "y").finish();
    assert_eq!(said(&[nothing]), "'x' is another name of a file that is not there");
    let directory = Tar::default().directory("d/").link("x", "d").finish();
    assert_eq!(said(&[directory]), "'x' is another name of a directory");
    let beneath = Tar::default().file("f", b"").file("f/x", b"").finish();
    assert_eq!(said(&[beneath]), "'f' is no directory, but files lie in it");
    let strange = Tar::default().entry(b'Z', "x", "", b"").finish();
    assert_eq!(said(&[strange]), "'x' is of a kind that no layer has");
}

#[test]
fn bombs_end_at_the_limit() {
    let mut layout = Layout::default();
    let bomb = Tar::default().file("bomb", &vec![0; 300 << 20]).finish();
    for packing in [Packing::Gzip, Packing::Zstd] {
        layout.image("x", std::slice::from_ref(&bomb), packing, &serde_json::json!({}));
    }
    let mut tried = 0;
    for blob in std::fs::read_dir(layout.path().join("blobs/sha256")).unwrap() {
        let bytes = std::fs::read(blob.unwrap().path()).unwrap();
        if !bytes.starts_with(b"{") {
            let dir = tempfile::tempdir().unwrap();
            let disk = File::create(dir.path().join("disk")).unwrap();
            let error = Tree::new(disk, LIMITS).unwrap().lay(bytes.as_slice(), None).unwrap_err();
            assert_eq!(error.to_string(), "the image unpacks to more than 256MB");
            tried += 1;
        }
    }
    assert_eq!(tried, 2);
    let mut many = Tar::default();
    for i in 0..10_001 {
        many = many.file(&i.to_string(), b"");
    }
    assert_eq!(refusal(&[many.finish()]).to_string(), "the image has more than 10000 files");
}

#[test]
fn damaged_layers_are_told() {
    let layer = Tar::default().file("a", &[7; 1000]).finish();
    let dir = tempfile::tempdir().unwrap();
    let lay = |bytes: &[u8], digest| {
        let disk = File::create(dir.path().join("disk")).unwrap();
        Tree::new(disk, LIMITS).unwrap().lay(bytes, digest)
    };
    let cut = lay(&layer[..700], None).unwrap_err();
    assert_eq!(cut.to_string(), "it is cut off");
    let garbage = lay(b"this is no archive, but it is longer than a block", None).unwrap_err();
    assert_eq!(garbage.to_string(), "it is cut off");
    let wrong = lay(&layer, Some(Digest::of(b"another"))).unwrap_err();
    assert!(matches!(wrong, LayerError::WrongDigest { .. }));
    let gzip = lay(&[0x1f, 0x8b, 8, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9], None).unwrap_err();
    assert!(matches!(gzip, LayerError::Damaged(_)), "{gzip}");
}

/// The names in a layer that takes `base` to `root`; both make the same disk.
fn changed(base: &[Vec<u8>], root: &[u8]) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let mut tree = Tree::remembering(File::create(at("scratch")).unwrap(), LIMITS).unwrap();
    for layer in base {
        tree.lay(layer.as_slice(), None).unwrap();
    }
    std::fs::write(at("root"), root).unwrap();
    let blobs = Blobs::new(&Store::open(&at("home")).unwrap());
    // Whoever has just written it stands at its end.
    let mut file = File::open(at("root")).unwrap();
    file.seek(SeekFrom::End(0)).unwrap();
    let layer = changes(&tree, &file, &blobs, LIMITS).unwrap();
    let packed = std::fs::read(blobs.path(layer.digest).unwrap()).unwrap();
    let mut bytes = Vec::new();
    flate2::read::GzDecoder::new(&packed[..]).read_to_end(&mut bytes).unwrap();
    assert_eq!(Digest::of(&bytes), layer.contents);
    let mut names: Vec<_> = tar::Archive::new(&bytes[..])
        .entries()
        .unwrap()
        .map(|entry| entry.unwrap().path().unwrap().to_str().unwrap().to_owned())
        .collect();
    names.sort();
    let listing_of = |layers: &[Vec<u8>], to: &str| {
        Disk::make(layers).unwrap().dump(&at(to));
        listing(&at(to))
    };
    let (ours, wanted) = ([base, &[bytes]].concat(), listing_of(&[root.to_vec()], "wanted"));
    assert_eq!(listing_of(&ours, "ours"), wanted);
    umoci(&ours, Packing::Gzip, &at("theirs"));
    assert_eq!(listing(&at("theirs/rootfs")), wanted);
    names
}

#[test]
fn a_layer_of_changes_has_them_and_nothing_else() {
    let tree =
        || Tar::default().directory("./").directory("d/").file("d/a", b"a").symlink("l", "d");
    let base = [tree().file("gone", b"").finish(), Tar::default().file("z", b"z").finish()];
    let same = tree().file("gone", b"").file("z", b"z");
    assert_eq!(changed(&base, &same.finish()), Vec::<String>::new());
    let other = tree().file("z", b"y").file("new", b"");
    assert_eq!(changed(&base, &other.finish()), [".wh.gone", "new", "z"]);
    let moved = Tar::default().directory("./").file("d", b"").symlink("l", "e").file("z", b"z");
    assert_eq!(changed(&base, &moved.finish()), [".wh.gone", "d", "l"]);
    let emptied = Tar::default().directory("./").directory("d/").program("z", b"z");
    assert_eq!(changed(&base, &emptied.finish()), [".wh.gone", ".wh.l", "d/.wh.a", "z"]);
    assert_eq!(changed(&[], &tree().finish()), ["./", "d/", "d/a", "l"]);
    assert_eq!(changed(&base, &Tar::default().directory("./").finish()).len(), 4);
}

#[test]
fn files_with_several_names_change_with_all_of_them() {
    let root = || Tar::default().directory("./").file("a", b"x");
    let base = [root().link("b", "a").link("c", "a").finish()];
    assert_eq!(
        changed(&base, &root().link("b", "a").link("c", "a").finish()),
        Vec::<String>::new()
    );
    assert_eq!(changed(&base, &root().link("b", "a").finish()), [".wh.c"]);
    let all = root().link("b", "a").link("c", "a").link("d", "a");
    assert_eq!(changed(&base, &all.finish()), ["a", "b", "c", "d"]);
    let copied = root().file("b", b"x").link("c", "a");
    assert_eq!(changed(&base, &copied.finish()), ["b"]);
    let written = Tar::default().directory("./").file("a", b"y").link("b", "a").file("c", b"x");
    assert_eq!(changed(&base, &written.finish()), ["a", "b"]);
}
