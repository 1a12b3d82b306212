//! The seam: what a machine is to everything above the engines.
//!
//! A [`MachineSpec`] is hardware only: an engine knows no sandbox names, no
//! policies, no commands. Every machine has exactly one byte channel to the
//! agent inside. The seam speaks of open files, never of paths, so that an
//! engine can run a machine under an authority that cannot open any.

#[cfg(feature = "fake")]
pub mod fake;
mod pages;
mod spec;

use std::fs::File;
use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::time::Duration;

pub use pages::{PAGE, Pages, PagesWriter, Stretch};
pub use spec::{Accel, BootImage, MachineImage, MachineSpec, Restore};
use tokio::net::UnixStream;

/// A future that an object-safe trait can return.
pub type Promise<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Something that runs machines.
pub trait Engine: Send + Sync {
    /// Which engine, which version, which accelerator: whatever decides
    /// whether a saved machine can be restored. Two machines with the same
    /// fingerprint and spec restore each other's images.
    fn fingerprint(&self) -> String;

    /// Starts a machine from nothing with `disk` (a layer made by
    /// [`Engine::make_layer`]) over `spec.root`; it is running on return, not
    /// yet booted. With `memory` the guest's memory lives in that file, so
    /// that the machine can be saved.
    fn boot<'a>(
        &'a self,
        spec: &'a MachineSpec,
        image: BootImage,
    ) -> Promise<'a, Result<Box<dyn Machine>, EngineError>>;

    /// Restores a saved machine; it is running on return.
    fn restore<'a>(
        &'a self,
        spec: &'a MachineSpec,
        image: Restore,
    ) -> Promise<'a, Result<Box<dyn Machine>, EngineError>>;

    /// Makes an empty copy-on-write disk layer of `size` bytes at `path`.
    fn make_layer(&self, path: &Path, size: u64) -> std::io::Result<()>;

    /// Whether a layer that somebody else made is one of `size` bytes that leads
    /// to no other file and has nothing that ours have not.
    ///
    /// # Errors
    ///
    /// [`std::io::ErrorKind::InvalidData`] where it is not.
    fn check_layer(&self, layer: &File, size: u64) -> std::io::Result<()>;
}

/// A running machine. Dropping it ends it at once.
pub trait Machine: Send {
    /// The byte channel to the agent; there is one, and it is given once.
    fn channel(&mut self) -> Option<UnixStream>;

    /// The other end of its network card, where it has one: Ethernet frames,
    /// each behind its length in four bytes, the highest first. It is given
    /// once.
    fn card(&mut self) -> Option<UnixStream> {
        None
    }

    /// Pauses the machine and returns its device state; its memory is then
    /// whole in the file that it was booted with. The machine ends.
    fn save(self: Box<Self>) -> Promise<'static, Result<Vec<u8>, EngineError>>;

    /// Copies a machine that was restored, while it goes on: its devices, its
    /// memory as far as that differs from what it was restored from, and its
    /// disk are from one instant. From then on it writes to `to.layer`, and the
    /// layer that it wrote to before does not change but by [`Self::merge`];
    /// where this fails, it writes where it wrote before. So it does where it
    /// has written nothing there.
    fn copy(&mut self, to: CopyTo) -> Promise<'_, Result<Copied, EngineError>>;

    /// Puts what is in the layer above layer `number` into that, while the
    /// machine goes on; then there is one layer less. They are counted from the
    /// one that it was restored with, 0; the one that it writes to stays.
    fn merge(&mut self, number: usize) -> Promise<'_, Result<(), EngineError>>;

    /// Waits until the machine has ended by itself and says how.
    fn ended(&mut self) -> Promise<'_, Ended>;

    /// Ends the machine and waits until nothing of it is left.
    fn stop(self: Box<Self>) -> Promise<'static, ()>;

    /// The process that is the machine, for accounting.
    fn pid(&self) -> Option<u32>;
}

/// Where a copy of a running machine goes.
#[derive(Debug)]
pub struct CopyTo {
    /// An empty file for the [`Pages`] of its memory.
    pub pages: File,
    /// An empty file for the state of its devices.
    pub devices: File,
    /// A new disk layer, made by [`Engine::make_layer`], of the disk's size.
    pub layer: File,
}

/// What a copy cost.
#[derive(Debug, Clone, Copy)]
pub struct Copied {
    /// How long the machine stood still.
    pub pause: Duration,
    /// Whether it writes to the new layer; else there was nothing in the last.
    pub layered: bool,
}

/// How a machine ended by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// One sentence on how it ended.
    pub how: String,
    /// The last lines that the engine or the guest's console said.
    pub log: String,
    /// Whether it was ended because the host had no room left for its memory.
    pub starved: bool,
}

/// Why an engine could not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The engine's program is not there or does not answer as it should.
    #[error("{what}")]
    Unavailable {
        /// What was found.
        what: String,
        /// What the user can do.
        hint: String,
    },
    /// The machine ended while it was being started.
    #[error("the VM ended while it was being started: {}", .0.how)]
    Ended(Ended),
    /// The machine did not come as far as it should in time.
    #[error("the VM did not {what} within {seconds} s")]
    Slow {
        /// What it should have done.
        what: &'static str,
        /// How long it was given.
        seconds: u64,
    },
    /// The engine cannot do that at all, or not on this host.
    #[error("{what}")]
    Unsupported {
        /// What it cannot do.
        what: String,
        /// What the user can do.
        hint: String,
    },
    /// The saved device state does not fit this engine.
    #[error("the saved machine could not be restored: {0}")]
    BadImage(String),
    /// The machine goes on, but there is no copy of it.
    #[error("the VM could not be copied: {0}")]
    NotCopied(String),
    /// The system refused something.
    #[error("cannot {what}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
}
