//! A home of its own for as long as something is verified: what was set up is
//! the user's, everything else is new, and goes with it.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use lampyr_engine::MachineSpec;
use lampyr_image::DEFAULT_IMAGE;
use lampyr_store::{Lock, Part, Staging, Store, at};
use lampyr_types::Size;

use crate::clean::entries;
use crate::template::{Shape, Template};
use crate::{Error, Host, Origin};

/// What is only read.
const SET_UP: [Part; 3] = [Part::Kits, Part::Images, Part::Qemu];
/// How long owners that nobody holds any more may take to end.
const FAREWELL: Duration = Duration::from_secs(5);
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// See the module. Whatever kills this process, `clean` finds it in `tmp/`.
pub(super) struct Home {
    /// The host with this home.
    pub(super) host: Host,
    /// What its sessions are.
    pub(super) origin: Origin,
    pub(super) shape: Shape,
    /// Keeps what was baked where it is.
    _template: Template,
    _staging: Staging,
}

impl Home {
    pub(super) async fn make(host: &Host) -> Result<Self, Error> {
        let origin = Origin::Image(DEFAULT_IMAGE.parse().map_err(|_| Error::NotOurs)?);
        let shape = shape();
        let template = Template::get(host, &origin, shape).await?;
        let staging = host.store.stage()?;
        let root = staging.path().join("home");
        let store = Store::open(&root)?;
        for part in SET_UP {
            link(&host.store.root().join(part.name()), &root.join(part.name()))?;
        }
        let name = template.dir().file_name().unwrap_or_default();
        link(template.dir(), &store.dir(Part::Templates)?.join(name))?;
        let host = Host { store, ..host.clone() };
        Ok(Self { host, origin, shape, _template: template, _staging: staging })
    }

    pub(super) fn path(&self) -> &Path {
        self.host.store.root()
    }

    /// Whose locks say that somebody lives there.
    fn held(&self) -> bool {
        let held = |dir: &PathBuf| matches!(Lock::try_take(&dir.join("lock")), Ok(None));
        self.entries(Part::Sandboxes).iter().any(held)
    }

    /// What is in a part of it.
    pub(super) fn entries(&self, part: Part) -> Vec<PathBuf> {
        entries(&self.path().join(part.name())).unwrap_or_default()
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        // Whoever owned a session still puts it away.
        let begun = Instant::now();
        while self.held() && begun.elapsed() < FAREWELL {
            std::thread::sleep(LOOK_AGAIN);
        }
    }
}

/// Small, with a network card, and with what processors a host has.
fn shape() -> Shape {
    let cpus = std::thread::available_parallelism().map_or(1, |n| n.get().min(2) as u32);
    let memory = Size::mib(256).as_bytes();
    Shape { spec: MachineSpec { cpus, memory, network: true }, disk: Size::mib(2048) }
}

fn link(to: &Path, name: &Path) -> Result<(), Error> {
    if to.exists() {
        symlink(to, name).map_err(at(name))?;
    }
    Ok(())
}
