//! Copying a machine that goes on: while it stands still, the state of its
//! devices goes to a file, the pages that it has changed to another, and its
//! disk gets a new top layer.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Instant;

use lampyr_engine::{Copied, CopyTo, EngineError};
use serde_json::{Value, json};

use crate::arguments::layer_node;
use crate::devices::complete;
use crate::guest_memory::GuestMemory;
use crate::inherit::path_of;
use crate::io;
use crate::layers::Layer;
use crate::machine::QemuMachine;

/// The descriptor sets of copies count from here; the disks of the command
/// line are below.
const FIRST_SET: usize = 1000;

impl QemuMachine {
    /// See [`lampyr_engine::Machine::copy`].
    pub(crate) async fn copy_to(&mut self, to: CopyTo) -> Result<Copied, EngineError> {
        let memory = self.guest_memory(false)?;
        let number = self.copies;
        self.copies += 1;
        let (layer_set, devices_set) = (FIRST_SET + 2 * number, FIRST_SET + 2 * number + 1);
        self.lend(layer_set, &to.layer).await?;
        // QEMU takes a descriptor only if it is open as it would open it itself.
        let written = File::options().write(true).open(path_of(to.devices.as_raw_fd()));
        self.lend(devices_set, &written.map_err(io("open the devices' file"))?).await?;
        let layer = Layer { name: format!("copy{number}"), set: layer_set };
        self.monitor(&layer_node(&layer.name, layer_set)).await?;
        let begun = Instant::now();
        let saved = self.save_paused(memory, to.pages, &layer, (devices_set, to.devices)).await;
        let resumed = self.monitor(&[json!({"execute": "cont"})]).await;
        if resumed.is_err() {
            // One that stands still for ever is worse than none.
            self.kill();
        }
        let pause = begun.elapsed();
        let mut undo = vec![forget(devices_set)];
        if !matches!(saved, Ok(true)) {
            undo.extend(layer.forget());
        }
        // What is left of a copy takes a descriptor, and that is all.
        let _ = self.monitor(&undo).await;
        let layered = saved.map_err(not_copied)?;
        resumed.map_err(not_copied)?;
        Ok(Copied { pause, layered })
    }

    /// Its memory as this process may read it, or write it.
    pub(crate) fn guest_memory(&self, write: bool) -> Result<GuestMemory, EngineError> {
        let (Some(base), Some(pid)) = (&self.base, self.id()) else {
            return Err(not_restored());
        };
        GuestMemory::open(pid, base, write).map_err(|source| match source.kind() {
            std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::NotFound => no_access(),
            _ => EngineError::Io { what: "read the VM's memory", source },
        })
    }

    /// Everything that happens while the machine stands still. The layer comes
    /// last: where anything else fails, the disk is as it was. Returns whether
    /// it was needed.
    async fn save_paused(
        &mut self,
        memory: GuestMemory,
        pages: File,
        layer: &Layer,
        (set, mut devices): (usize, File),
    ) -> Result<bool, EngineError> {
        let filename = format!("/dev/fdset/{set}");
        let arguments = json!({"filename": filename, "live": false});
        let save = json!({"execute": "xen-save-devices-state", "arguments": arguments});
        self.monitor(&[json!({"execute": "stop"}), save]).await?;
        let saving = tokio::task::spawn_blocking(move || memory.save(pages));
        let saved = saving.await.map_err(|e| io("copy the VM's memory")(e.into()))?;
        saved.map_err(io("copy the VM's memory"))?;
        complete(&mut devices, &self.began).map_err(io("keep the state of the devices"))?;
        self.put_on(layer).await
    }

    /// Gives it an open file under a number.
    async fn lend(&mut self, set: usize, file: &File) -> Result<(), EngineError> {
        let command = json!({"execute": "add-fd", "arguments": {"fdset-id": set}});
        self.give(&command, file.as_fd()).await
    }
}

/// A copy that QEMU refuses says nothing about what was saved before.
fn not_copied(error: EngineError) -> EngineError {
    match error {
        EngineError::BadImage(why) => EngineError::NotCopied(why),
        error => error,
    }
}

pub(crate) fn forget(set: usize) -> Value {
    json!({"execute": "remove-fd", "arguments": {"fdset-id": set}})
}

fn not_restored() -> EngineError {
    EngineError::Unsupported {
        what: "only a VM that was restored can be copied".into(),
        hint: "this is a mistake in lampyr; please report it".into(),
    }
}

fn no_access() -> EngineError {
    EngineError::Unsupported {
        what: "this host does not let lampyr read the memory of its own VM".into(),
        hint: "copying a running VM needs Linux with /proc, and in a container the capability SYS_PTRACE".into(),
    }
}
