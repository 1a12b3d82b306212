//! Templates: machines that were booted once, to be restored ever after.
//!
//! A template is a directory under `templates-v1/`, named by a digest of
//! everything that it depends on: kit, image, engine, accelerator, shape. It
//! is baked in `tmp/` and renamed when it is whole. Before each use its files
//! are checked against their record; a template that does not hold is baked
//! again.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use lampyr_engine::{BootImage, Machine, MachineImage, MachineSpec};
use lampyr_image::{Image, ImageRef};
use lampyr_proto::{Event, Exec, Job, Request};
use lampyr_store::{Lock, Part, Store, at, read_json, write_json};
use lampyr_types::Size;
use serde::{Deserialize, Serialize};
use tokio::net::UnixStream;

use crate::channel::Channel;
use crate::exec::{Source, exec};
use crate::fingerprint::{Fingerprint, Verdict};
use crate::{Error, Host, Output, OutputStream};

/// How long a guest may take from power-on to its agent's greeting.
const BOOT_WAIT: Duration = Duration::from_secs(90);
/// How long each warming command may take.
const WARM_WAIT: Duration = Duration::from_secs(30);
/// The room that a template takes on the disk, in bytes.
const ROOM: u64 = 512 << 20;
/// What users run first. Run once before saving, its files are in the guest's
/// page cache, and a restored machine does not read them from the disk.
const WARMING: [&str; 4] = [
    "uname -a; ls -l / >/dev/null; cat /etc/os-release; id",
    "command -v git && git --version",
    "command -v curl && curl --version",
    "command -v python3 && python3 -c 'import sys, json, os'",
];

/// What a template is for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    /// The machine.
    pub(crate) spec: MachineSpec,
    /// The size of its root disk.
    pub(crate) disk: Size,
}

/// A template whose files are open and were checked.
#[derive(Debug)]
pub(crate) struct Template {
    /// Where it lies.
    dir: PathBuf,
    /// The image that it is made of.
    pub(crate) image: Image,
    /// Keeps the image where it is.
    pub(crate) hold: Arc<Lock>,
    disk: File,
    machine: MachineImage,
    /// What it is for.
    pub(crate) shape: Shape,
}

/// A template's record of itself.
#[derive(Debug, Serialize, Deserialize)]
struct Manifest {
    format: u32,
    /// What it depends on, in words.
    made_for: String,
    memory: Fingerprint,
    devices: Fingerprint,
    disk: Fingerprint,
}

impl Template {
    /// The template for an image and a shape, baked where there is none that
    /// holds. Two processes that want the same one bake it once.
    pub(crate) async fn get(host: &Host, image: &ImageRef, shape: Shape) -> Result<Self, Error> {
        Self::of(host, Purpose::new(host, image, shape).await?).await
    }

    /// The same for a purpose that is known already.
    pub(crate) async fn of(host: &Host, purpose: Purpose) -> Result<Self, Error> {
        let Purpose { image, hold, shape, words: made_for, key } = purpose;
        let dir = host.store.dir(Part::Templates)?.join(&key);
        if let Some(template) = Self::open(&dir, &image, &hold, shape) {
            return Ok(template);
        }
        let store = host.store.clone();
        let waiting = tokio::task::spawn_blocking(move || store.making(&key)).await;
        let _alone = waiting.map_err(|e| Error::Agent(e.to_string()))??;
        if let Some(template) = Self::open(&dir, &image, &hold, shape) {
            return Ok(template);
        }
        bake(host, &image, shape, &dir, made_for).await?;
        let lost = || Error::Agent("a template that was just made does not hold".into());
        Self::open(&dir, &image, &hold, shape).ok_or_else(lost)
    }

    /// Opens a template and checks it; `None` where it has to be baked.
    fn open(dir: &Path, image: &Image, hold: &Arc<Lock>, shape: Shape) -> Option<Self> {
        let mut manifest: Manifest = read_json(&dir.join("manifest.json")).ok()?;
        let open = |name| File::open(dir.join(name)).ok();
        let (memory, devices, disk) = (open("memory")?, open("devices")?, open("disk.qcow2")?);
        let mut touched = false;
        for (record, file) in [
            (&mut manifest.memory, &memory),
            (&mut manifest.devices, &devices),
            (&mut manifest.disk, &disk),
        ] {
            match record.check(file).ok()? {
                Verdict::Same => {}
                Verdict::Touched(new) => (*record, touched) = (new, true),
                Verdict::Changed => return None,
            }
        }
        if touched {
            // Only spares the next launch the hashing; this one may go on.
            let _ = write_json(&dir.join("manifest.json"), &manifest);
        }
        let devices = std::fs::read(dir.join("devices")).ok()?;
        let machine = MachineImage { memory, devices };
        Some(Self {
            dir: dir.to_owned(),
            image: image.clone(),
            hold: hold.clone(),
            disk,
            machine,
            shape,
        })
    }

    /// Forgets a template that does not restore.
    pub(crate) fn discard(self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }

    /// What a machine is restored from, with `top` as its own disk layer.
    pub(crate) fn restore(&self, top: File) -> Result<lampyr_engine::Restore, Error> {
        let copy = |file: &File| file.try_clone().map_err(at(&self.dir));
        let base = File::open(&self.image.disk).map_err(at(&self.image.disk))?;
        let image = MachineImage {
            memory: copy(&self.machine.memory)?,
            devices: self.machine.devices.clone(),
        };
        Ok(lampyr_engine::Restore { image, disks: vec![base, copy(&self.disk)?, top] })
    }
}

/// What a template is for, down to the last thing that it depends on.
#[derive(Debug)]
pub(crate) struct Purpose {
    pub(crate) image: Image,
    /// Keeps the image where it is.
    hold: Arc<Lock>,
    shape: Shape,
    words: String,
    /// What stands for all of it.
    pub(crate) key: String,
}

impl Purpose {
    /// An image of this host and a shape.
    pub(crate) async fn new(host: &Host, image: &ImageRef, shape: Shape) -> Result<Self, Error> {
        let image = host.image(image).await?;
        let hold = Arc::new(image.hold(&host.store)?);
        // A layer that is shorter than what lies beneath it would cut that off.
        let shape = Shape { disk: shape.disk.max(Size::bytes(image.size_bytes)), ..shape };
        let words = words(host, &image, shape);
        let key = blake3::hash(words.as_bytes()).to_hex()[..32].to_owned();
        Ok(Self { image, hold, shape, words, key })
    }
}

/// The templates of an image, which nobody can use without it.
pub(crate) fn of_image(store: &Store, image: &Image) -> Result<Vec<PathBuf>, Error> {
    let dir = store.dir(Part::Templates)?;
    let entries = std::fs::read_dir(&dir).map_err(at(&dir))?;
    let ours = format!(", image {} {}, ", image.name, image.digest);
    let made_of = |dir: &PathBuf| {
        let manifest = read_json::<Manifest>(&dir.join("manifest.json"));
        manifest.is_ok_and(|manifest| manifest.made_for.contains(&ours))
    };
    Ok(entries.filter_map(|entry| Some(entry.ok()?.path())).filter(made_of).collect())
}

/// Everything that a template depends on, in words.
fn words(host: &Host, image: &Image, shape: Shape) -> String {
    let (kit, engine) = (&host.kit.manifest.digest, host.engine.fingerprint());
    let MachineSpec { cpus, memory, network } = shape.spec;
    let card = if network { ", network card" } else { "" };
    let (name, digest) = (&image.name, &image.digest);
    let disk = shape.disk;
    format!(
        "kit {kit}, image {name} {digest}, {engine}, {cpus} cpus, {memory} bytes, disk {disk}{card}"
    )
}

/// Makes sure that a template fits on the disk: a guest whose memory has no
/// room any more dies without a word.
fn check_room(home: &Path) -> Result<(), Error> {
    const NO_SPACE: i32 = 28;
    let room = rustix::fs::statvfs(home).map_err(|e| at(home)(e.into()))?;
    if room.f_bavail.saturating_mul(room.f_frsize) < ROOM {
        return Err(at(home)(std::io::Error::from_raw_os_error(NO_SPACE)).into());
    }
    Ok(())
}

async fn bake(
    host: &Host,
    image: &Image,
    shape: Shape,
    dir: &Path,
    made_for: String,
) -> Result<(), Error> {
    let _task = host.progress.begin("booting a VM once, to restore it from now on");
    check_room(host.store.root())?;
    let staging = host.store.stage()?;
    let part = |name: &str| staging.path().join(name);
    let (mut machine, memory) = boot(host, &host.kit.kernel, image, shape, staging.path()).await?;
    let devices = match settle(&mut *machine).await {
        // The conversation stays open until the machine is saved: to the guest
        // a host that hangs up is an event of its own.
        Ok(_channel) => machine.save().await?,
        Err(e) => {
            machine.stop().await;
            return Err(e);
        }
    };
    std::fs::write(part("devices"), devices).map_err(at(&part("devices")))?;
    let record = |path: PathBuf| {
        let file = File::open(&path).map_err(at(&path))?;
        Fingerprint::of(&file).map_err(at(&path))
    };
    drop(memory);
    let manifest = Manifest {
        format: 1,
        made_for,
        memory: record(part("memory"))?,
        devices: record(part("devices"))?,
        disk: record(part("disk.qcow2"))?,
    };
    write_json(&part("manifest.json"), &manifest)?;
    Ok(staging.publish(dir)?)
}

/// Starts the machine that becomes the template, its parts in `dir`.
pub(crate) async fn boot(
    host: &Host,
    kernel: &Path,
    image: &Image,
    shape: Shape,
    dir: &Path,
) -> Result<(Box<dyn Machine>, File), Error> {
    let (memory_path, disk_path) = (dir.join("memory"), dir.join("disk.qcow2"));
    let memory = create(&memory_path)?;
    memory.set_len(shape.spec.memory).map_err(at(&memory_path))?;
    host.engine.make_layer(&disk_path, shape.disk.as_bytes()).map_err(at(&disk_path))?;
    let open = |path: &Path| File::open(path).map_err(at(path));
    let top = File::options().read(true).write(true).open(&disk_path).map_err(at(&disk_path))?;
    let boot = BootImage {
        kernel: open(kernel)?,
        initramfs: open(&host.kit.initramfs)?,
        memory: Some(memory.try_clone().map_err(at(&memory_path))?),
        disks: vec![open(&image.disk)?, top],
    };
    Ok((host.engine.boot(&shape.spec, boot).await?, memory))
}

fn create(path: &Path) -> Result<File, Error> {
    let created = File::options().read(true).write(true).create_new(true).open(path);
    Ok(created.map_err(at(path))?)
}

/// Waits for the agent, warms the guest and makes it ready to be saved.
async fn settle(machine: &mut dyn Machine) -> Result<Channel, Error> {
    let channel = greet(machine, BOOT_WAIT).await?;
    for command in WARMING {
        let warmed = warm(&channel, command);
        tokio::select! {
            // What an image lacks cannot be warmed, and need not be.
            _ = tokio::time::timeout(WARM_WAIT, warmed) => {}
            ended = machine.ended() => return Err(Error::Crashed(ended)),
        }
    }
    match channel.ask(&Request::Quiesce).await? {
        Event::Done => Ok(channel),
        other => Err(Error::Agent(format!("the agent answered {other:?} to a request to rest"))),
    }
}

/// Greets the agent of a machine that was just started, and waits for it.
pub(crate) async fn greet(machine: &mut dyn Machine, patience: Duration) -> Result<Channel, Error> {
    let channel = Channel::greet(connection(machine)?);
    let hello = channel.hello(patience);
    tokio::select! {
        greeted = hello => match greeted {
            Ok(_) => Ok(channel),
            // The channel breaks first when a machine ends; its end says more.
            Err(e) => match tokio::time::timeout(Duration::from_secs(1), machine.ended()).await {
                Ok(ended) => Err(Error::Crashed(ended)),
                Err(_) => Err(e.into()),
            },
        },
        ended = machine.ended() => Err(Error::Crashed(ended)),
    }
}

/// The connection to a machine's agent.
pub(crate) fn connection(machine: &mut dyn Machine) -> Result<UnixStream, Error> {
    let none = || Error::Agent("the engine gave no channel to the agent".into());
    machine.channel().ok_or_else(none)
}

async fn warm(channel: &Channel, command: &str) {
    let job = Exec::new(Job::Shell(command.into()));
    let _ = exec(channel, job, Source::Empty, &mut Nowhere).await;
}

/// Output that nobody wants.
pub(crate) struct Nowhere;

impl Output for Nowhere {
    fn write(&mut self, _stream: OutputStream, _bytes: &[u8]) -> std::io::Result<()> {
        Ok(())
    }
}
