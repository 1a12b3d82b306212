//! The harness: the real program, real virtual machines, and a look from
//! outside at what they leave.
//!
//! `LAMPYR_BIN` names the program, `LAMPYR_HOME` a state directory that is set
//! up. Tests share that directory and its templates; a test that damages or
//! counts things has a home of its own ([`TestContext::own`]).

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod call;
mod envelope;
pub mod lab;
mod processes;
mod server;
mod session;
pub mod tree;

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use tempfile::TempDir;

pub use call::{Call, Finished, Live};
pub use envelope::Envelope;
pub use processes::Process;
pub use server::{Connection, Reply, Served, send};
pub use session::{Session, rows};

/// The parts of a home that tests only read.
const SET_UP: [&str; 3] = ["images", "kits", "qemu"];

/// A program and a home for it.
#[derive(Debug)]
pub struct TestContext {
    program: PathBuf,
    home: PathBuf,
    accel: Option<String>,
    own: Option<TempDir>,
}

impl TestContext {
    /// The home that is shared by all tests.
    pub fn shared() -> Self {
        let usual = || Some(PathBuf::from(std::env::var_os("HOME")?).join(".lampyr"));
        let home = std::env::var_os("LAMPYR_HOME").map(PathBuf::from).or_else(usual);
        let home = home.expect("set LAMPYR_HOME to a home that is set up");
        assert!(home.join("images").is_dir(), "{} is not set up", home.display());
        let accel = std::env::var("LAMPYR_ACCEL").ok();
        Self { program: program(), home, accel, own: None }
    }

    /// A home of one's own over the shared image, kit, QEMU and templates.
    pub fn own() -> Self {
        let own = Self::empty();
        symlink(warmed().home.join("templates-v1"), own.home.join("templates-v1")).unwrap();
        own
    }

    /// The same with templates of its own, for who copies what was restored
    /// from one.
    pub fn apart() -> Self {
        let own = Self::empty();
        // Shared, they would be made by two at once: each home has its own locks.
        let own_templates = own.home.join("templates-v1");
        fs::create_dir(&own_templates).unwrap();
        for template in warmed().templates() {
            link_files(&template, &own_templates.join(template.file_name().unwrap()));
        }
        own
    }

    /// A home of one's own in which nothing was ever run.
    pub fn fresh() -> Self {
        let own = Self::empty();
        fs::create_dir(own.home.join("templates-v1")).unwrap();
        own
    }

    /// A home of one's own in which nothing was ever run, with the default image
    /// and others that come and go.
    pub fn with_images() -> Self {
        let own = Self::fresh();
        let images = own.home.join("images");
        fs::remove_file(&images).unwrap();
        fs::create_dir(&images).unwrap();
        link_tree(&warmed().home.join("images/default"), &images.join("default"));
        own
    }

    fn empty() -> Self {
        let dir = tempfile::Builder::new().prefix("lampyr-e2e-").tempdir().unwrap();
        let home = dir.path().join("home");
        fs::create_dir(&home).unwrap();
        warmed().link_into(&home);
        // What an accelerator probe found holds for the shared home only.
        let accel = Some(warmed().accel());
        Self { program: program(), home, accel, own: Some(dir) }
    }

    /// A home of one's own that holds everything itself, for a user who may
    /// not read the shared one: its directory, which also holds the program.
    pub fn whole(owner: u32) -> Self {
        let mut own = Self::fresh();
        for part in SET_UP {
            fs::remove_file(own.home.join(part)).unwrap();
            link_tree(&warmed().home.join(part), &own.home.join(part));
        }
        let dir = own.own.as_ref().unwrap().path().to_owned();
        own.program = dir.join("lampyr");
        fs::copy(program(), &own.program).unwrap();
        give(&dir, owner);
        own.accel = Some("tcg".into());
        own
    }

    /// Links what was set up into `home`.
    pub fn link_into(&self, home: &Path) {
        for part in SET_UP {
            if self.home.join(part).exists() {
                symlink(self.home.join(part), home.join(part)).unwrap();
            }
        }
    }

    /// The state directory.
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// The program under test.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// Where the templates lie.
    pub fn templates(&self) -> Vec<PathBuf> {
        entries(&self.home.join("templates-v1"))
    }

    /// The QEMUs that belong to the home.
    pub fn qemus(&self) -> Vec<PathBuf> {
        let name = format!("usr/bin/qemu-system-{}", std::env::consts::ARCH);
        let builds = entries(&self.home.join("qemu")).into_iter();
        builds.map(|build| build.join(&name)).filter(|path| path.is_file()).collect()
    }

    /// The accelerator that the home's runs use.
    fn accel(&self) -> String {
        let found = || {
            let text = fs::read(self.home.join("accel.json")).ok()?;
            let json: serde_json::Value = serde_json::from_slice(&text).ok()?;
            Some(json["accel"].as_str()?.to_owned())
        };
        self.accel.clone().or_else(found).unwrap_or_else(|| "tcg".into())
    }

    /// `lampyr` with these words.
    pub fn lampyr<S: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = S>) -> Call {
        let mut call = Call::new(&self.program, words).env("LAMPYR_HOME", &self.home);
        if let Some(accel) = &self.accel {
            call = call.env("LAMPYR_ACCEL", accel);
        }
        call
    }

    /// `lampyr run` of a shell command.
    pub fn run(&self, command: &str) -> Call {
        self.lampyr(["run", command])
    }

    /// Requires that no process holds a file of this home, and, once `clean`
    /// has run, that no sandbox, half-made thing or lock is left in it.
    pub fn assert_nothing_left(&self) {
        eventually("a process still holds files of the home", || {
            processes::holders(&self.home).is_empty()
        });
        let left = |part: &str| entries(&self.home.join(part));
        // A directory whose owner died before there was more in it than its lock
        // is cleaned up only when it is older than ten seconds.
        let deadline = Instant::now() + Duration::from_secs(15);
        loop {
            let cleaned = self.lampyr(["clean"]).finish();
            assert_eq!(cleaned.status(), Some(0), "{cleaned:?}");
            let left = [left("sandboxes"), left("tmp")].concat();
            if left.is_empty() {
                return;
            }
            let is_born = |path: &PathBuf| {
                path.is_file() || entries(path).iter().any(|within| !within.ends_with("lock"))
            };
            assert!(!left.iter().any(is_born), "left after clean: {left:?}");
            assert!(Instant::now() < deadline, "left after clean: {left:?}");
            std::thread::sleep(Duration::from_millis(500));
        }
    }

    /// Requires that there is no sandbox and no half-made thing, before any
    /// `clean`: whoever ended in order has tidied up itself.
    pub fn assert_tidy(&self) {
        eventually("a process still holds files of the home", || {
            processes::holders(&self.home).is_empty()
        });
        let sandboxes = entries(&self.home.join("sandboxes"));
        assert!(sandboxes.is_empty(), "{sandboxes:?}");
        let tmp = entries(&self.home.join("tmp"));
        assert!(!tmp.iter().any(|path| path.is_dir()), "half made: {tmp:?}");
    }
}

/// Waits up to twenty seconds for something to become true.
pub fn eventually(otherwise: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < deadline, "{otherwise}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Whether the tests run as root.
pub fn is_root() -> bool {
    // SAFETY: the call has no preconditions.
    unsafe { libc::geteuid() == 0 }
}

/// The paths in a directory; none where there is no directory.
pub fn entries(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    entries.map(|entry| entry.unwrap().path()).collect()
}

/// The program under test.
fn program() -> PathBuf {
    let built = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/release/lampyr");
    std::env::var_os("LAMPYR_BIN").map_or_else(built, PathBuf::from)
}

/// The shared home, once a first run has made its template.
fn warmed() -> &'static TestContext {
    static WARMED: OnceLock<TestContext> = OnceLock::new();
    WARMED.get_or_init(|| {
        let shared = TestContext::shared();
        shared.run("true").within(Duration::from_mins(2)).envelope().success();
        shared
    })
}

/// Repeats a directory of files with hard links. One that goes meanwhile is no
/// template any more.
fn link_files(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for path in entries(from) {
        if fs::hard_link(&path, to.join(path.file_name().unwrap())).is_err() {
            let _ = fs::copy(&path, to.join(path.file_name().unwrap()));
        }
    }
}

/// Repeats a tree with hard links, or copies where those cannot be.
fn link_tree(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for path in entries(from) {
        let target = to.join(path.file_name().unwrap());
        let kind = path.symlink_metadata().unwrap().file_type();
        if kind.is_dir() {
            link_tree(&path, &target);
        } else if kind.is_symlink() {
            symlink(fs::read_link(&path).unwrap(), &target).unwrap();
        } else if path.metadata().unwrap().len() < 1 << 16 || fs::hard_link(&path, &target).is_err()
        {
            // Small files may be private, and are given away with their copy.
            fs::copy(&path, &target).unwrap();
        }
    }
}

/// Gives a tree to a user, but for files that have another name elsewhere.
fn give(path: &Path, owner: u32) {
    let meta = path.symlink_metadata().unwrap();
    if meta.is_dir() || meta.nlink() == 1 {
        std::os::unix::fs::lchown(path, Some(owner), Some(owner)).unwrap();
    }
    if meta.is_dir() {
        for path in entries(path) {
            give(&path, owner);
        }
    }
}
