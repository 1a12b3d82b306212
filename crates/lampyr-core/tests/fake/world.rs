//! A host on the fake engine, with a kit and an image made up here.

use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use lampyr_core::{
    AccelChoice, Command, Engines, Host, HostSettings, NetworkProgram, Origin, Outcome, Output,
    OutputStream, RunError, RunRequest, Trace, run,
};
use lampyr_engine::fake::FakeEngine;
use lampyr_engine::{Accel, Engine, EngineError};
use lampyr_image::{Arch, FileFacts, Image, KitManifest, NewImage, Registries};
use lampyr_oci::Settings;
use lampyr_store::{Part, Store, write_json};
use lampyr_types::{NoProgress, Size, Span};
use tempfile::TempDir;

/// What stands for the agent in the kit; nobody boots it.
const KIT_AGENT: &[u8] = b"agent";

/// A host of its own for one test.
pub(crate) struct World {
    pub(crate) tmp: TempDir,
    pub(crate) engine: Arc<FakeEngine>,
    pub(crate) host: Arc<Host>,
}

struct OnlyFake(Arc<FakeEngine>);

impl Engines for OnlyFake {
    fn with(&self, _accel: Accel) -> Result<Arc<dyn Engine>, EngineError> {
        Ok(self.0.clone())
    }

    fn candidates(&self) -> Vec<Accel> {
        vec![Accel::Tcg]
    }

    fn obstacle(&self, _accel: Accel) -> Option<String> {
        None
    }

    fn describe(&self) -> Result<String, EngineError> {
        Ok("fake".into())
    }
}

/// The agent's program: `LAMPYR_TEST_AGENT`, else where `cargo xtask agent`
/// leaves it.
fn agent() -> PathBuf {
    let built = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/agent/lampyr-agent");
    let path = std::env::var_os("LAMPYR_TEST_AGENT").map_or_else(built, PathBuf::from);
    assert!(
        path.is_file(),
        "the agent is not at {}: build it with `cargo xtask agent`, or set LAMPYR_TEST_AGENT",
        path.display()
    );
    path
}

impl World {
    pub(crate) async fn new() -> Self {
        let tmp = tempfile::tempdir().unwrap();
        let store = Store::open(&tmp.path().join("home")).unwrap();
        make_kit(&store);
        publish(&store, "disk");
        let engine = Arc::new(FakeEngine::new(agent()));
        let settings = settings(tmp.path().join("home"), &engine);
        let host = Arc::new(Host::open(&settings).await.unwrap());
        Self { tmp, engine, host }
    }

    /// What the host was opened with.
    pub(crate) fn settings(&self) -> HostSettings {
        settings(self.home(), &self.engine)
    }

    /// A world whose template is baked.
    pub(crate) async fn warm() -> Self {
        let world = Self::new().await;
        world.sh("true").await.result.unwrap();
        world
    }

    pub(crate) fn home(&self) -> PathBuf {
        self.tmp.path().join("home")
    }

    /// Makes another image of the name, whose disk is this.
    pub(crate) fn replace_image(&self, disk: &str) {
        publish(&Store::open(&self.home()).unwrap(), disk);
    }

    /// A path for a command or a copy, as text.
    pub(crate) fn at(&self, name: &str) -> String {
        self.tmp.path().join(name).to_str().unwrap().to_owned()
    }

    /// How many sandboxes have a directory.
    pub(crate) fn sandboxes(&self) -> usize {
        std::fs::read_dir(self.home().join("sandboxes")).map_or(0, Iterator::count)
    }

    /// The only template.
    pub(crate) fn template(&self) -> PathBuf {
        let mut all = std::fs::read_dir(self.home().join("templates-v1")).unwrap();
        all.next().unwrap().unwrap().path()
    }

    pub(crate) async fn sh(&self, command: &str) -> Ran {
        self.run(&sh(command)).await
    }

    pub(crate) async fn run(&self, request: &RunRequest) -> Ran {
        let mut heard = Heard::default();
        let trace = Trace::new();
        let running = run(&self.host, request, &mut heard, &trace);
        let result = in_time(running).await;
        Ran { result, out: text(heard.out), err: text(heard.err) }
    }
}

fn publish(store: &Store, disk: &str) {
    let staging = store.stage().unwrap();
    std::fs::write(staging.path().join("disk.ext4"), disk).unwrap();
    Image::publish(store, staging, &"tiny".parse().unwrap(), NewImage::default()).unwrap();
}

fn settings(home: PathBuf, engine: &Arc<FakeEngine>) -> HostSettings {
    HostSettings {
        home,
        accel: AccelChoice::Only(Accel::Tcg),
        engines: Arc::new(OnlyFake(engine.clone())),
        agent: KIT_AGENT,
        registries: no_registries(),
        network: no_network(),
        progress: Arc::new(NoProgress),
    }
}

/// How a run went, and what the command said.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) result: Result<Outcome, RunError>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ran {
    /// Its exit code; it ran to its end.
    pub(crate) fn code(&self) -> i32 {
        self.result.as_ref().unwrap().exit_code
    }
}

#[derive(Default)]
pub(crate) struct Heard {
    pub(crate) out: Vec<u8>,
    pub(crate) err: Vec<u8>,
}

impl Output for Heard {
    fn write(&mut self, stream: OutputStream, bytes: &[u8]) -> io::Result<()> {
        match stream {
            OutputStream::Stdout => self.out.extend(bytes),
            OutputStream::Stderr => self.err.extend(bytes),
        }
        Ok(())
    }
}

pub(crate) fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap()
}

/// Nothing in these tests may take longer, even on a busy host.
pub(crate) async fn in_time<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_mins(1), work).await.unwrap()
}

/// Waits until something is so.
pub(crate) async fn until(so: impl Fn() -> bool) {
    in_time(async {
        while !so() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

pub(crate) fn sh(command: &str) -> RunRequest {
    request(Command::Shell(command.into()))
}

pub(crate) fn argv(argv: &[&str]) -> RunRequest {
    request(Command::Argv(argv.iter().map(|&a| a.to_owned()).collect()))
}

fn request(command: Command) -> RunRequest {
    RunRequest {
        origin: Origin::Image("tiny".parse().unwrap()),
        cpus: 1,
        memory: Size::mib(2),
        disk_size: Size::mib(1),
        command: Some(command),
        env: Vec::new(),
        workdir: None,
        timeout: Span::millis(30_000),
        copy_in: Vec::new(),
        copy_out: Vec::new(),
        stdin: false,
        forwards: Vec::new(),
        net: None,
        mounts: Vec::new(),
    }
}

/// The kit by its format, since a real one needs Debian's kernel.
fn make_kit(store: &Store) {
    let (name, digest) = ("0123456789abcdef", |bytes| blake3::hash(bytes).to_hex().to_string());
    let kits = store.dir(Part::Kits).unwrap();
    let dir = kits.join(name);
    std::fs::create_dir(&dir).unwrap();
    let files = ["vmlinuz", "initramfs"].map(|file| {
        std::fs::write(dir.join(file), file).unwrap();
        (file.into(), FileFacts { size: file.len() as u64, blake3: digest(file.as_bytes()) })
    });
    let manifest = KitManifest {
        format: 3,
        arch: Arch::HOST,
        kernel_package: "none".into(),
        kernel_version: "0".into(),
        kernel_release: "0".into(),
        modules: Vec::new(),
        files: files.into(),
        digest: digest(b"kit"),
    };
    write_json(&dir.join("manifest.json"), &manifest).unwrap();
    let pointer = serde_json::json!({
        "format": 3, "kit": name, "kernel_version": "0", "agent": digest(KIT_AGENT),
    });
    write_json(&kits.join(format!("current-{}.json", Arch::HOST)), &pointer).unwrap();
}

/// Nobody is asked for images.
/// No network can be started.
pub(crate) fn no_network() -> NetworkProgram {
    NetworkProgram { path: "/nowhere".into(), arguments: Vec::new() }
}

pub(crate) fn no_registries() -> Registries {
    Registries { settings: Settings::default(), most: Size::mib(64) }
}
