//! Much of everything, on real machines: many files, large files, many
//! connections. What CI has no time for is ignored here and called soak:
//! `cargo test -p lampyr-e2e --test scale -- --ignored soak`.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::time::{Duration, Instant};

use lampyr_e2e::tree::{Looks, look, plant};
use lampyr_e2e::{TestContext, eventually};

/// How long one copy of many or much may take.
const LONG: Duration = Duration::from_mins(30);

struct Session<'a>(&'a TestContext);

impl<'a> Session<'a> {
    fn start(context: &'a TestContext, flags: &[&str]) -> Self {
        let words = ["session", "start", "--name", "s"];
        let started = context.lampyr(words.iter().chain(flags)).finish();
        assert_eq!(started.status(), Some(0), "{started:?}");
        Self(context)
    }

    /// Copies, and tells how long that took.
    fn copy(&self, from: &str, to: &str) -> Duration {
        let copied = self.0.lampyr(["cp", from, to]).within(LONG).finish();
        assert_eq!((copied.status(), copied.stderr()), (Some(0), String::new()), "{copied:?}");
        copied.took
    }
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        let _ = self.0.lampyr(["session", "stop", "--grace", "0", "s"]).finish();
    }
}

/// Tells what was measured, for who runs the test with its output shown.
#[allow(clippy::print_stderr, reason = "a test has no printer")]
fn tell(what: &str, took: Duration) {
    eprintln!("{what}: {:.1} s", took.as_secs_f64());
}

fn many_files(files: usize) {
    let own = TestContext::own();
    let session = Session::start(&own, &[]);
    let dir = tempfile::tempdir().unwrap();
    let (here, back) = (dir.path().join("here"), dir.path().join("back"));
    plant(&here, files);
    tell(&format!("{files} files in"), session.copy(here.to_str().unwrap(), "s:/root/tree"));
    tell(&format!("{files} files out"), session.copy("s:/root/tree", back.to_str().unwrap()));
    let (sent, got) = (look(&here), look(&back));
    assert!(sent.len() > files && sent == got, "{} were sent, {} came back", sent.len(), got.len());
}

#[test]
fn five_thousand_files_come_back_as_they_went() {
    many_files(5_000);
}

#[test]
#[ignore = "takes a minute"]
fn soak_fifty_thousand_files_come_back_as_they_went() {
    many_files(50_000);
}

/// What is to be the same of two trees that were planted at different times.
fn planted(root: &Path) -> Vec<Looks> {
    let mut looks = look(root);
    for (_, mode, time, _) in &mut looks {
        if *mode & libc::S_IFMT != libc::S_IFREG {
            *time = (0, 0);
        }
    }
    looks
}

/// A directory with the guest's program in it, and a command to run there.
fn in_mount(dir: &Path, command: &str) {
    let (own, begun) = (TestContext::own(), Instant::now());
    fs::copy(env!("CARGO_BIN_EXE_guest-fs"), dir.join("guest-fs")).unwrap();
    let place = format!("{}:/m", dir.display());
    let run = own.run(&format!("cd /m; {command}")).args(["--mount", &place, "--timeout", "30m"]);
    assert_eq!(run.within(LONG).envelope().success(), "");
    tell(&format!("in a mount: {command}"), begun.elapsed());
}

fn tree_in_mount(files: usize) {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    plant(here.path(), files);
    in_mount(there.path(), &format!("./guest-fs plant tree {files}"));
    let (ours, theirs) = (planted(here.path()), planted(&there.path().join("tree")));
    assert!(ours.len() > files && ours == theirs, "{} and {}", ours.len(), theirs.len());
}

#[test]
fn files_that_a_guest_makes_in_a_mount_are_whole() {
    tree_in_mount(300);
}

#[test]
#[ignore = "takes minutes"]
fn soak_twenty_thousand_files_that_a_guest_makes_in_a_mount_are_whole() {
    tree_in_mount(20_000);
}

fn copied_in_mount(bytes: u64) {
    let dir = tempfile::tempdir().unwrap();
    let mut file = File::create(dir.path().join("in")).unwrap();
    noise(bytes).for_each(|piece| file.write_all(&piece).unwrap());
    file.write_all(b"end").unwrap();
    in_mount(dir.path(), "cp in out; cmp in out");
    assert_eq!(hash(&dir.path().join("in")), hash(&dir.path().join("out")));
}

#[test]
fn a_file_that_a_guest_copies_in_a_mount_is_whole() {
    copied_in_mount(64 << 20);
}

#[test]
#[ignore = "takes a minute"]
fn soak_a_file_of_500_mb_that_a_guest_copies_in_a_mount_is_whole() {
    copied_in_mount(500 << 20);
}

fn hash(path: &Path) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(File::open(path).unwrap()).unwrap();
    hasher.finalize()
}

/// Bytes that do not repeat soon.
fn noise(bytes: u64) -> impl Iterator<Item = Vec<u8>> {
    let mut reader = blake3::Hasher::new().update(b"noise").finalize_xof();
    (0..bytes.div_ceil(1 << 20)).map(move |_| {
        let mut piece = vec![0; 1 << 20];
        reader.fill(&mut piece);
        piece
    })
}

fn there_and_back(local: &Path, what: &str) {
    let own = TestContext::own();
    let session = Session::start(&own, &[]);
    let back = local.with_extension("back");
    tell(&format!("{what} in"), session.copy(local.to_str().unwrap(), "s:/root/file"));
    tell(&format!("{what} out"), session.copy("s:/root/file", back.to_str().unwrap()));
    let length = |path: &Path| fs::metadata(path).unwrap().len();
    assert_eq!((length(local), hash(local)), (length(&back), hash(&back)));
}

fn dense(bytes: u64) {
    let dir = tempfile::tempdir().unwrap();
    let local = dir.path().join("dense");
    let mut file = File::create(&local).unwrap();
    // The end is no whole page.
    noise(bytes).for_each(|piece| file.write_all(&piece).unwrap());
    file.write_all(b"end").unwrap();
    there_and_back(&local, &format!("a dense file of {} MB", bytes >> 20));
}

#[test]
fn a_dense_file_comes_back_as_it_went() {
    dense(256 << 20);
}

#[test]
#[ignore = "takes a minute"]
fn soak_a_dense_gigabyte_comes_back_as_it_went() {
    dense(1 << 30);
}

#[test]
fn a_sparse_gigabyte_comes_back_sparse() {
    let dir = tempfile::tempdir().unwrap();
    let local = dir.path().join("sparse");
    let file = File::create(&local).unwrap();
    file.set_len(1 << 30).unwrap();
    let long: Vec<u8> = noise(3 << 20).flatten().collect();
    for (at, bytes) in [(4096, b"early".as_slice()), (100 << 20, &long), ((1 << 30) - 5, b"last!")]
    {
        file.write_all_at(bytes, at).unwrap();
    }
    there_and_back(&local, "a sparse file of 1 GB");
    let taken = fs::metadata(local.with_extension("back")).unwrap().blocks() * 512;
    assert!(taken < 16 << 20, "{taken} bytes are on disk");
}

/// Says back what it hears, to any number at once.
const ECHO: &str = r#"
import _thread, socket
def echo(peer):
    while data := peer.recv(1 << 16):
        peer.sendall(data)
    peer.close()
server = socket.create_server(("127.0.0.1", 7000), backlog=512)
while True:
    _thread.start_new_thread(echo, (server.accept()[0],))
"#;

/// A session with an echo behind a port of this host.
fn echoing(context: &TestContext) -> (Session<'_>, u16) {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let session = Session::start(context, &["--forward", &format!("{port}:7000")]);
    let words = ["exec", "s", "--detach", "--", "python3", "-c", ECHO];
    assert_eq!(context.lampyr(words).finish().status(), Some(0));
    eventually("the server does not answer", || said_back(port, b"up").is_ok_and(|b| b == b"up"));
    (session, port)
}

fn connect(port: u16) -> std::io::Result<TcpStream> {
    let peer = TcpStream::connect(("127.0.0.1", port))?;
    peer.set_read_timeout(Some(Duration::from_mins(1)))?;
    Ok(peer)
}

fn said_back(port: u16, bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut peer = connect(port)?;
    peer.write_all(bytes)?;
    peer.shutdown(Shutdown::Write)?;
    let mut heard = Vec::new();
    peer.read_to_end(&mut heard)?;
    Ok(heard)
}

fn many_connections(connections: u32) {
    let own = TestContext::own();
    let (_session, port) = echoing(&own);
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for first in 0..16 {
            scope.spawn(move || {
                for i in (first..connections).step_by(16) {
                    assert_eq!(said_back(port, &i.to_le_bytes()).unwrap(), i.to_le_bytes());
                }
            });
        }
    });
    tell(&format!("{connections} connections"), begun.elapsed());
}

#[test]
fn a_thousand_connections_are_all_answered() {
    many_connections(1_000);
}

#[test]
#[ignore = "takes minutes"]
fn soak_ten_thousand_connections_are_all_answered() {
    many_connections(10_000);
}

fn transfer(bytes: u64) {
    let own = TestContext::own();
    let (_session, port) = echoing(&own);
    let begun = Instant::now();
    let mut peer = connect(port).unwrap();
    let mut outward = peer.try_clone().unwrap();
    let sending = std::thread::spawn(move || {
        let mut sent = blake3::Hasher::new();
        for piece in noise(bytes) {
            sent.update(&piece);
            outward.write_all(&piece).unwrap();
        }
        outward.shutdown(Shutdown::Write).unwrap();
        sent.finalize()
    });
    let mut heard = blake3::Hasher::new();
    heard.update_reader(&mut peer).unwrap();
    assert_eq!((heard.count(), heard.finalize()), (bytes, sending.join().unwrap()));
    tell(&format!("{} MB through a port and back", bytes >> 20), begun.elapsed());
}

#[test]
fn what_goes_through_a_port_is_whole() {
    transfer(128 << 20);
}

#[test]
#[ignore = "takes a minute"]
fn soak_a_gigabyte_through_a_port_is_whole() {
    transfer(1 << 30);
}
