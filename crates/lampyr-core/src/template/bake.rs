//! Baking: a machine is booted once, warmed, and saved.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use lampyr_engine::{BootImage, Machine};
use lampyr_image::HeldImage;
use lampyr_proto::{Event, Exec, Job, Request};
use lampyr_store::at;
use tokio::net::UnixStream;

use super::record::{DEVICES, MEMORY, Record, layer_name};
use super::{Purpose, Shape};
use crate::channel::Channel;
use crate::exec::{Source, exec};
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

/// Makes the template for `purpose` at `dir`.
pub(super) async fn bake(host: &Host, purpose: &Purpose, dir: &Path) -> Result<(), Error> {
    let _task = host.progress.begin("booting a VM once, to restore it from now on");
    check_room(host.store.root())?;
    let staging = host.store.stage()?;
    let (base, shape) = (&purpose.hold.base, purpose.shape);
    let (mut machine, memory) = boot(host, &host.kit.kernel, base, shape, staging.path()).await?;
    let devices = match settle(&mut *machine).await {
        // The conversation stays open until the machine is saved: to the guest
        // a host that hangs up is an event of its own.
        Ok(_channel) => machine.save().await?,
        Err(e) => {
            machine.stop().await;
            return Err(e);
        }
    };
    let path = staging.path().join(DEVICES);
    std::fs::write(&path, devices).map_err(at(&path))?;
    drop(memory);
    Record::write(staging.path(), purpose, 1)?;
    Ok(staging.publish(dir)?)
}

/// Starts the machine that becomes the template, its parts in `dir`.
pub(crate) async fn boot(
    host: &Host,
    kernel: &Path,
    base: &HeldImage,
    shape: Shape,
    dir: &Path,
) -> Result<(Box<dyn Machine>, File), Error> {
    let (memory_path, disk_path) = (dir.join(MEMORY), dir.join(layer_name(0)));
    let memory = create(&memory_path)?;
    memory.set_len(shape.spec.memory).map_err(at(&memory_path))?;
    host.engine.make_layer(&disk_path, shape.disk.as_bytes()).map_err(at(&disk_path))?;
    let open = |path: &Path| File::open(path).map_err(at(path));
    let top = File::options().read(true).write(true).open(&disk_path).map_err(at(&disk_path))?;
    let boot = BootImage {
        kernel: open(kernel)?,
        initramfs: open(&host.kit.initramfs)?,
        memory: Some(memory.try_clone().map_err(at(&memory_path))?),
        disks: vec![base.disk.try_clone().map_err(at(dir))?, top],
    };
    Ok((host.engine.boot(&shape.spec, boot).await?, memory))
}

pub(crate) fn create(path: &Path) -> Result<File, Error> {
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
