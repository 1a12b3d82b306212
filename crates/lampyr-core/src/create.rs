//! `images create`: a machine whose disk, after some commands, is an image.

use std::fs::File;
use std::path::Path;

use lampyr_engine::MachineSpec;
use lampyr_image::{Image, ImageRef};
use lampyr_oci::LayerError;
use lampyr_proto::{Exec, Job};
use lampyr_store::at;
use lampyr_types::{Size, Span};

use crate::exec::{Asked, Source, Terms, exec, outcome};
use crate::sandbox::Sandbox;
use crate::template::{Shape, Template};
use crate::{Access, Error, Host, Origin, Output, OutputStream, snapshot, wish};

/// How long packing the disk may take.
const EXPORT_WAIT: Span = Span::secs(1800);

/// An image to make.
#[derive(Debug, Clone)]
pub struct CreateRequest {
    /// What to call it.
    pub name: ImageRef,
    /// The image that it begins as.
    pub from: Origin,
    /// What the shell runs in it, one after the other.
    pub commands: Vec<String>,
    /// How long each may take.
    pub timeout: Span,
    /// What they may reach.
    pub access: Option<Access>,
    /// Virtual processors.
    pub cpus: u32,
    /// Memory.
    pub memory: Size,
    /// The size of the disk that they work on.
    pub disk_size: Size,
}

/// Runs commands in a machine of its own and makes an image of its disk. What
/// the commands say goes to `output`. A command that fails ends it all.
pub async fn create_image(
    host: &Host,
    request: &CreateRequest,
    output: &mut dyn Output,
) -> Result<Image, Error> {
    let (cpus, memory) = (request.cpus, request.memory.as_bytes());
    let spec = MachineSpec { cpus, memory, network: request.access.is_some() };
    let shape = Shape { spec, disk: request.disk_size };
    let template = Template::get(host, &request.from, shape).await?;
    let staging = host.store.stage()?;
    let mut root = Packed::new(staging.path(), host.registries.most)?;
    let access = request.access.as_ref();
    let mut sandbox = Box::pin(Sandbox::launch(host, &template, access, false)).await?;
    let worked = Box::pin(work(&mut sandbox, host, request, &template.image, &mut root, output));
    let worked = worked.await;
    sandbox.end().await;
    worked?;
    let progress = &*host.progress;
    let (store, registries) = (&host.store, &host.registries);
    let (name, base) = (&request.name, template.image.clone());
    // It may be the base itself that is replaced.
    drop(template);
    let made = Image::of_root(store, name, &base, root.file, registries, progress).await?;
    snapshot::forget_bases(store);
    Ok(made)
}

async fn work(
    sandbox: &mut Sandbox,
    host: &Host,
    request: &CreateRequest,
    base: &Image,
    root: &mut Packed,
    output: &mut dyn Output,
) -> Result<(), Error> {
    sandbox.awake().await?;
    for command in &request.commands {
        let _task = host.progress.begin(&format!("Running {}", short(command)));
        step(sandbox, command, request.timeout, base, output).await?;
    }
    let _task = host.progress.begin("Packing the disk");
    let channel = sandbox.channel();
    let exporting = exec(&channel, Exec::new(Job::Export), Source::Empty, root);
    let in_time = tokio::time::timeout(EXPORT_WAIT.duration(), sandbox.while_alive(exporting));
    let exited = in_time.await.map_err(|_| Error::Timeout(EXPORT_WAIT))??;
    if exited.code != Some(0) {
        let why = String::from_utf8_lossy(&root.said).trim().chars().take(300).collect();
        return Err(Error::Copy { what: "the VM's disk".to_owned(), why });
    }
    Ok(())
}

async fn step(
    sandbox: &mut Sandbox,
    command: &str,
    timeout: Span,
    base: &Image,
    output: &mut dyn Output,
) -> Result<(), Error> {
    let channel = sandbox.channel();
    let asked = wish::fill_in(Exec::new(Job::Shell(command.to_owned())), &base.config);
    let terms = Terms { timeout: Some(timeout), ..Terms::default() };
    let running =
        async { Asked::ask(&channel, asked).await?.finish(Source::Empty, output, terms).await };
    let exited = sandbox.while_alive(running).await?;
    let code = outcome(&exited, std::time::Duration::ZERO).exit_code;
    if code == 0 { Ok(()) } else { Err(Error::Step { command: short(command), code }) }
}

/// As much of a command as fits a sentence.
fn short(command: &str) -> String {
    let line = command.lines().next().unwrap_or_default();
    line.chars().take(60).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// The disk of a VM, as it comes.
struct Packed {
    file: File,
    most: Size,
    len: u64,
    /// What went wrong, if anything did.
    said: Vec<u8>,
}

impl Packed {
    /// A new file in `dir` for so many bytes.
    fn new(dir: &Path, most: Size) -> Result<Self, Error> {
        let path = dir.join("root.tar");
        let mut options = File::options();
        let file = options.read(true).write(true).create_new(true).open(&path);
        Ok(Self { file: file.map_err(at(&path))?, most, len: 0, said: Vec::new() })
    }
}

impl Output for Packed {
    fn write(&mut self, stream: OutputStream, bytes: &[u8]) -> std::io::Result<()> {
        use std::io::Write as _;
        match stream {
            OutputStream::Stdout => {
                self.len = self.len.saturating_add(bytes.len() as u64);
                if self.len > self.most.as_bytes() {
                    return Err(std::io::Error::other(LayerError::TooLarge(self.most)));
                }
                self.file.write_all(bytes)
            }
            OutputStream::Stderr => {
                let room = 4096 - self.said.len().min(4096);
                self.said.extend_from_slice(&bytes[..bytes.len().min(room)]);
                Ok(())
            }
        }
    }
}
