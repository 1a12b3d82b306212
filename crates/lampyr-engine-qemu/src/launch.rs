//! Launching a QEMU: descriptors, then a process, then a conversation.
//!
//! Each step owns what it made: an error on any of them drops the descriptors
//! and kills the process, so that nothing is left behind.

use std::collections::hash_map::RandomState;
use std::ffi::OsString;
use std::fs::File;
use std::hash::BuildHasher;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use lampyr_engine::{Accel, BootImage, EngineError, Machine, MachineSpec, Restore};
use lampyr_jail::{Identity, Jail};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::net::unix::pipe;
use tokio::process::Command;

use crate::Qemu;
use crate::arguments::{Memory, Plan, Start, Wire, append};
use crate::inherit::{Inherited, path_of};
use crate::log::Log;
use crate::machine::QemuMachine;
use crate::program::Program;
use crate::qmp::Qmp;
use crate::{clock, io, memory};

/// The longest file that a QEMU may write, beyond its memory: its disk layer.
const MAX_DISK: u64 = 1 << 44;
/// The most descriptors that a QEMU may hold.
const MAX_FILES: u64 = 256;
/// How long a QEMU may take to start and to load the devices' state.
const START_WAIT: Duration = Duration::from_secs(30);

/// Starts a machine from nothing.
pub(crate) async fn boot(
    qemu: &Qemu,
    spec: MachineSpec,
    image: BootImage,
) -> Result<Box<dyn Machine>, EngineError> {
    let mut launch = Launch::new(qemu)?;
    let keep = image.memory.as_ref().map(File::try_clone).transpose().map_err(io("keep memory"))?;
    if let (Some(identity), Some(memory)) = (launch.identity, &image.memory) {
        lend(memory, identity.id()).map_err(io("lend the guest its memory"))?;
    }
    let fds = &mut launch.inherited;
    let memory = image.memory.map_or(Memory::Anonymous, |file| Memory::Shared(fds.add(file)));
    let start = Start::Kernel {
        kernel: readable(fds, launch.identity, image.kernel)?,
        initramfs: readable(fds, launch.identity, image.initramfs)?,
        append: append(qemu.accel, clock::tsc_khz()),
    };
    let mut machine = launch.spawn(spec, memory, image.disks, start)?;
    machine.monitor(&[capabilities()]).await?;
    machine.keep_memory(keep);
    Ok(Box::new(machine))
}

/// Continues a saved machine.
pub(crate) async fn restore(
    qemu: &Qemu,
    spec: MachineSpec,
    restore: Restore,
) -> Result<Box<dyn Machine>, EngineError> {
    let mut launch = Launch::new(qemu)?;
    let mut saved = restore.image.memory;
    if launch.identity.is_some() && !qemu.program.maps_read_only() {
        saved = memory::copy(&saved).map_err(io("copy the guest's memory"))?;
    }
    let base = saved.try_clone().map_err(io("keep memory"))?;
    let memory = Memory::Private(launch.inherited.add(saved));
    let (devices, source) = pipe::pipe().map_err(io("make a pipe"))?;
    let source = source.into_blocking_fd().map_err(io("make a pipe"))?;
    let incoming = format!("fd:{}", launch.inherited.add(source));
    let mut machine = launch.spawn(spec, memory, restore.disks, Start::Incoming)?;
    machine.base = Some(base);
    let load = json!({"execute": "migrate-incoming", "arguments": {"uri": incoming}});
    let loaded = async {
        let mut commands = vec![migration_modes(), load];
        match restore.pages {
            Some(pages) => machine.load_pages(pages).await?,
            // All in one breath.
            None => commands.insert(0, capabilities()),
        }
        tokio::join!(machine.load(&commands), feed(devices, &restore.image.devices)).0
    };
    let loaded = tokio::time::timeout(START_WAIT, loaded).await;
    let slow = EngineError::Slow { what: "restore", seconds: START_WAIT.as_secs() };
    match loaded.map_err(|_| slow).and_then(|loaded| loaded) {
        Ok(()) => {
            machine.began = restore.image.devices;
            Ok(Box::new(machine))
        }
        Err(e) => Err(refused(&mut machine, e).await),
    }
}

/// A QEMU that ends by itself while it loads a state cannot use that state.
async fn refused(machine: &mut QemuMachine, error: EngineError) -> EngineError {
    match machine.explain(error).await {
        EngineError::Ended(ended) if machine.gave_up() => {
            let said = ended.log.lines().last().unwrap_or("it said nothing");
            EngineError::BadImage(said.chars().take(300).collect())
        }
        error => error,
    }
}

/// Writes the devices' state. A QEMU that ends early says why itself.
async fn feed(mut pipe: pipe::Sender, devices: &[u8]) {
    let _ = pipe.write_all(devices).await;
}

/// The monitor's first command.
pub(crate) fn capabilities() -> Value {
    json!({"execute": "qmp_capabilities"})
}

/// Memory stays in its file, and the end of a migration is told.
pub(crate) fn migration_modes() -> Value {
    let on = |name| json!({"capability": name, "state": true});
    let modes = [on("x-ignore-shared"), on("events")];
    json!({"execute": "migrate-set-capabilities", "arguments": {"capabilities": modes}})
}

/// A QEMU in the making.
struct Launch<'a> {
    qemu: &'a Qemu,
    inherited: Inherited,
    accel_device: Option<i32>,
    identity: Option<Identity>,
    monitor: UnixStream,
    monitor_fd: i32,
    channel: UnixStream,
    channel_fd: i32,
    console: UnixStream,
    console_fd: i32,
    /// Where the program's folder is for a process that may not walk to it.
    root: Option<PathBuf>,
}

impl<'a> Launch<'a> {
    fn new(qemu: &'a Qemu) -> Result<Self, EngineError> {
        let program = &qemu.program;
        let mut inherited = Inherited::default();
        let (monitor, monitor_fd) = wire(&mut inherited)?;
        let (channel, channel_fd) = wire(&mut inherited)?;
        let (console, console_fd) = wire(&mut inherited)?;
        let root = program.root.as_deref().map(|root| folder(&mut inherited, root)).transpose()?;
        let identity = Identity::for_vm(RandomState::new().hash_one(0) as u32);
        let accel_device = match qemu.accel {
            Accel::Kvm if program.takes_accel_device() => Some(device(&mut inherited)?),
            Accel::Kvm if identity.is_some() => return Err(no_device(program)),
            _ => None,
        };
        Ok(Self {
            accel_device,
            qemu,
            inherited,
            identity,
            monitor,
            monitor_fd,
            channel,
            channel_fd,
            console,
            console_fd,
            root,
        })
    }

    fn spawn(
        mut self,
        spec: MachineSpec,
        memory: Memory,
        disks: Vec<File>,
        start: Start,
    ) -> Result<QemuMachine, EngineError> {
        let disks = disks.into_iter().map(|disk| self.inherited.add(disk)).collect();
        let (ours, card) = if spec.network { self.card()? } else { (None, None) };
        let plan = Plan {
            accel: self.qemu.accel,
            spec,
            memory,
            disks,
            start,
            monitor: self.monitor_fd,
            channel: self.channel_fd,
            console: self.console_fd,
            card,
            accel_device: self.accel_device,
            firmware: self.qemu.program.firmware.iter().map(|dir| self.place(dir)).collect(),
        };
        let mut command = self.command(&plan);
        let mut child = command.spawn().map_err(io("start QEMU"))?;
        let log = Log::default();
        let mut said = vec![log.follow(self.console)];
        said.extend(child.stderr.take().map(|stderr| log.follow(stderr)));
        let mut machine = QemuMachine::new(child, Qmp::new(self.monitor), self.channel, log, said);
        machine.keep_card(ours);
        machine.layers.extend(plan.top());
        Ok(machine)
    }

    /// Our end of the network card's wire, and QEMU's.
    fn card(&mut self) -> Result<(Option<UnixStream>, Option<Wire>), EngineError> {
        if let Some(gateway) = self.qemu.gateway {
            return Ok((None, Some(Wire::Qemus { gateway })));
        }
        let (ours, theirs) = wire(&mut self.inherited)?;
        Ok((Some(ours), Some(Wire::Ours(theirs))))
    }

    /// A part of the program's folder as the jailed process can reach it.
    fn place(&self, part: &Path) -> PathBuf {
        self.root.as_deref().unwrap_or(Path::new("/")).join(part)
    }

    /// Where a QEMU in a folder of its own finds its libraries, and the parts
    /// of itself that Debian builds as modules.
    fn environment(&self) -> Vec<(&'static str, OsString)> {
        let libraries = &self.qemu.program.libraries;
        let path = std::env::join_paths(libraries.iter().map(|dir| self.place(dir)));
        let root = self.qemu.program.root.as_deref().unwrap_or(Path::new("/"));
        let modules = libraries.iter().find(|dir| root.join(dir).join("qemu").is_dir());
        let modules = modules.map(|dir| self.place(&dir.join("qemu")).into_os_string());
        let path = path.ok().filter(|_| !libraries.is_empty());
        let named = [("LD_LIBRARY_PATH", path), ("QEMU_MODULE_DIR", modules)];
        named.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
    }

    fn command(&self, plan: &Plan) -> Command {
        let mut command = std::process::Command::new(self.place(&self.qemu.program.executable));
        command.args(plan.arguments(&self.qemu.program));
        let descriptors = self.inherited.numbers();
        let (max_file, max_files) = (MAX_DISK, MAX_FILES);
        Jail { descriptors, identity: self.identity, max_file, max_files }.confine(&mut command);
        command.envs(self.environment());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut command = Command::from(command);
        command.kill_on_drop(true);
        command
    }
}

/// One of a machine's wires: our end, and the number of QEMU's.
fn wire(inherited: &mut Inherited) -> Result<(UnixStream, i32), EngineError> {
    let pair = || {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        Ok((UnixStream::from_std(ours)?, theirs))
    };
    let (ours, theirs) = pair().map_err(io("make a socket"))?;
    Ok((ours, inherited.add(OwnedFd::from(theirs))))
}

/// KVM's device, opened with our authority.
fn device(inherited: &mut Inherited) -> Result<i32, EngineError> {
    let kvm = File::options().read(true).write(true).open("/dev/kvm");
    Ok(inherited.add(kvm.map_err(io("open /dev/kvm"))?))
}

/// A VM under a user of its own cannot open the device by its path.
fn no_device(program: &Program) -> EngineError {
    EngineError::Unavailable {
        what: format!("QEMU {} cannot be given /dev/kvm by descriptor", program.version),
        hint: "use QEMU 9.1 or newer, or start lampyr as an ordinary user".into(),
    }
}

/// A folder by descriptor, where the system has paths for those.
fn folder(inherited: &mut Inherited, root: &Path) -> Result<PathBuf, EngineError> {
    if !cfg!(target_os = "linux") {
        return Ok(root.to_owned());
    }
    let dir = File::open(root).map_err(io("open QEMU's folder"))?;
    Ok(path_of(inherited.add(dir)).into())
}

/// A file that a QEMU under another user can open again by its descriptor.
fn readable(
    inherited: &mut Inherited,
    identity: Option<Identity>,
    file: File,
) -> Result<i32, EngineError> {
    if identity.is_some() {
        share(&file).map_err(io("share the kernel with the VM's user"))?;
    }
    Ok(inherited.add(file))
}

/// Lets every user read a file; the state directory lets none of them find it.
fn share(file: &File) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let mode = file.metadata()?.permissions().mode() & 0o777;
    if mode & 0o044 == 0o044 {
        return Ok(());
    }
    file.set_permissions(std::fs::Permissions::from_mode(mode | 0o044))
}

/// Makes the VM's user the owner of the memory that it is to write.
fn lend(memory: &File, owner: u32) -> std::io::Result<()> {
    std::os::unix::fs::fchown(memory, Some(owner), Some(owner))
}

/// Takes the memory back: ours, for everybody to read, for nobody to write.
pub(crate) fn take_back(memory: &File) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let me = rustix::process::geteuid();
    if me.is_root() {
        std::os::unix::fs::fchown(memory, Some(0), Some(0))?;
    }
    memory.set_permissions(std::fs::Permissions::from_mode(0o444))?;
    memory.sync_data()?;
    Ok(())
}
