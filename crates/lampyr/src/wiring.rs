//! The composition root: the one place that names the engines.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use lampyr_core::{AccelChoice, Engines, HostSettings, NetworkProgram, RunError};
use lampyr_engine::{Accel, Engine, EngineError};
use lampyr_engine_qemu::{Program, Qemu, Version};
use lampyr_image::{Arch, ImageError, QemuBuild, Registries};
use lampyr_store::Store;
use lampyr_types::{ErrorKind, Progress};

use crate::agent;

const HOW_TO_GET_ONE: &str = if cfg!(target_os = "macos") {
    "brew install qemu"
} else if cfg!(target_arch = "aarch64") {
    "apt-get install qemu-system-arm; or on Debian, without root: lampyr doctor --fix"
} else {
    "apt-get install qemu-system-x86; or on Debian, without root: lampyr doctor --fix"
};

/// The oldest QEMU that works.
const OLDEST: Version = Version(7, 2, 0);

/// What the settings say about the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HostChoice {
    /// The state directory.
    pub(crate) home: PathBuf,
    /// Which accelerator to use.
    pub(crate) accel: AccelChoice,
    /// A QEMU program instead of the one that would be found.
    pub(crate) qemu: Option<PathBuf>,
    /// How registries are spoken to.
    pub(crate) registries: Registries,
}

/// Puts the parts of a host together.
pub(crate) fn host(
    choice: HostChoice,
    progress: Arc<dyn Progress>,
) -> Result<HostSettings, RunError> {
    let agent = agent::bytes().ok_or_else(no_agent)?;
    let HostChoice { home, accel, qemu, registries } = choice;
    let engines = Arc::new(Qemus { home: home.clone(), asked: qemu, found: OnceLock::new() });
    let network = network();
    Ok(HostSettings { home, accel, engines, agent, registries, network, progress })
}

/// This very program, as a network: also where another has taken its place
/// since it was started.
fn network() -> NetworkProgram {
    let path = if cfg!(target_os = "linux") {
        "/proc/self/exe".into()
    } else {
        // One that cannot be found cannot be started, and that is told then.
        std::env::current_exe().unwrap_or_default()
    };
    NetworkProgram { path, arguments: vec!["vm-network".into()] }
}

fn no_agent() -> RunError {
    RunError {
        kind: ErrorKind::ConnectionFailed,
        message: "this lampyr was built without its guest agent".to_owned(),
        hint: Some("build it with `cargo xtask run` or `cargo xtask install`".to_owned()),
        duration: std::time::Duration::ZERO,
        started: false,
        usage: Box::default(),
        missing: false,
    }
}

/// Fetches a newer QEMU than the system's, unless one was asked for or is
/// there already. A QEMU is only ever fetched when a person asks for it.
pub(crate) fn fetch_qemu(choice: &HostChoice, progress: &dyn Progress) -> Result<(), ImageError> {
    if choice.qemu.is_some() || cfg!(not(target_os = "linux")) {
        return Ok(());
    }
    let store = Store::open(&choice.home)?;
    if QemuBuild::list(&store, Arch::HOST).is_empty() {
        lampyr_image::fetch_newer(&store, Arch::HOST, progress)?;
    }
    Ok(())
}

/// The QEMU engine with each accelerator, over whichever QEMU there is.
struct Qemus {
    home: PathBuf,
    asked: Option<PathBuf>,
    found: OnceLock<Program>,
}

impl Qemus {
    /// The QEMU that was asked for; else our own build, which is there because
    /// it is newer; else the system's.
    fn program(&self) -> Result<&Program, EngineError> {
        if let Some(program) = self.found.get() {
            return Ok(program);
        }
        let builds = Store::open(&self.home).map(|s| QemuBuild::list(&s, Arch::HOST));
        let builds = builds.unwrap_or_default();
        let program = match &self.asked {
            Some(path) => match builds.into_iter().find(|build| build.program == *path) {
                Some(build) => of_build(&build),
                None => of_system(path, &self.home),
            },
            None => builds.first().map_or_else(|| self.on_path(), of_build),
        };
        let program = program?;
        Ok(self.found.get_or_init(|| program))
    }

    fn on_path(&self) -> Result<Program, EngineError> {
        let name = Arch::HOST.qemu_program();
        let dirs = ["/usr/local/bin", "/usr/bin", "/opt/homebrew/bin"];
        let found = dirs.iter().map(|dir| Path::new(dir).join(name)).find(|path| path.is_file());
        let path = found.ok_or_else(|| EngineError::Unavailable {
            what: format!("there is no {name} on this host"),
            hint: HOW_TO_GET_ONE.into(),
        })?;
        of_system(&path, &self.home)
    }
}

impl Engines for Qemus {
    fn with(&self, accel: Accel) -> Result<Arc<dyn Engine>, EngineError> {
        Ok(Arc::new(Qemu::new(self.program()?.clone(), accel)))
    }

    fn with_own_network(
        &self,
        accel: Accel,
        gateway: Ipv4Addr,
    ) -> Result<Arc<dyn Engine>, EngineError> {
        Ok(Arc::new(Qemu::with_own_network(self.program()?.clone(), accel, gateway)))
    }

    fn candidates(&self) -> Vec<Accel> {
        if cfg!(target_os = "macos") {
            vec![Accel::Hvf, Accel::Tcg]
        } else {
            vec![Accel::Kvm, Accel::Tcg]
        }
    }

    fn obstacle(&self, accel: Accel) -> Option<String> {
        match accel {
            Accel::Tcg => None,
            Accel::Hvf if cfg!(target_os = "macos") => None,
            Accel::Hvf => Some("hvf is macOS's".into()),
            Accel::Kvm => {
                let opened = std::fs::File::options().read(true).write(true).open("/dev/kvm");
                opened.err().map(|e| format!("/dev/kvm cannot be opened: {e}"))
            }
        }
    }

    fn describe(&self) -> Result<String, EngineError> {
        let program = self.program()?;
        Ok(format!("QEMU {} ({})", program.version, program.path().display()))
    }
}

/// Our own build lives in one folder with all its parts.
fn of_build(build: &QemuBuild) -> Result<Program, EngineError> {
    // The program is at usr/bin/ in the folder.
    let root = build.program.ancestors().nth(3).unwrap_or(Path::new("/")).to_owned();
    let inside = |path: &PathBuf| path.strip_prefix(&root).unwrap_or(path).to_owned();
    Ok(Program {
        executable: inside(&build.program),
        libraries: build.lib_dirs.iter().map(inside).collect(),
        firmware: build.data_dirs.iter().map(inside).collect(),
        version: build.version.parse().map_err(|()| strange(&build.program))?,
        root: Some(root),
    })
}

/// A QEMU of the system's. Asking for its version costs as much as a tenth of
/// a launch, so the answer is kept for as long as the file stays the same.
fn of_system(path: &Path, home: &Path) -> Result<Program, EngineError> {
    let known = home.join("qemu").join("system.json");
    let stamp = stamp(path);
    let remembered: Option<(String, String)> = lampyr_store::read_json(&known).ok();
    let banner = if let Some((_, banner)) = remembered.filter(|(of, _)| *of == stamp) {
        banner
    } else {
        let banner = ask_version(path)?;
        // A cache that cannot be written costs time, nothing else.
        let _ = lampyr_store::write_json(&known, &(&stamp, &banner));
        banner
    };
    Ok(Program {
        root: None,
        executable: path.to_owned(),
        libraries: Vec::new(),
        firmware: Vec::new(),
        version: Version::from_banner(&banner)
            .filter(|version| *version >= OLDEST)
            .ok_or_else(|| strange(path))?,
    })
}

fn stamp(path: &Path) -> String {
    let meta = std::fs::metadata(path);
    let time = meta.as_ref().ok().and_then(|m| m.modified().ok());
    format!("{} {:?} {}", path.display(), time, meta.map_or(0, |m| m.len()))
}

fn ask_version(path: &Path) -> Result<String, EngineError> {
    let output = std::process::Command::new(path).arg("--version").output();
    let output = output.map_err(|e| EngineError::Unavailable {
        what: format!("{} cannot be run: {e}", path.display()),
        hint: "LAMPYR_QEMU names the QEMU to use; unset it to use the one that is found".into(),
    })?;
    Ok(String::from_utf8_lossy(&output.stdout).chars().take(200).collect())
}

fn strange(path: &Path) -> EngineError {
    EngineError::Unavailable {
        what: format!("{} is not a QEMU {OLDEST} or newer", path.display()),
        hint: "LAMPYR_QEMU names the QEMU to use; unset it to use the one that is found".into(),
    }
}
