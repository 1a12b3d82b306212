//! Templates: machines that were booted once, to be restored ever after.
//!
//! A template is a directory under `templates-v1/`, named by a digest of
//! everything that it depends on: kit, image, engine, accelerator, shape; or by
//! the snapshot or the fork that it is the template of. It is baked or
//! assembled in `tmp/` and renamed when it is whole. Before each use its files
//! are checked against their record; a template that does not hold is made
//! again.

mod assemble;
mod bake;
mod record;
mod stale;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lampyr_engine::{MachineImage, MachineSpec};
use lampyr_image::{HeldImage, Image, ImageRef};
use lampyr_oci::Digest;
use lampyr_store::{Lock, Part, Store, at};
use lampyr_types::{Name, SandboxId, Size};

use crate::clean::entries;
use crate::copy::Copy;
use crate::snapshot::{self, Saved};
use crate::{Error, Host, Origin, fork};
pub(crate) use assemble::{Moment, assemble};
pub(crate) use bake::{Nowhere, boot, connection, create, greet};
pub(crate) use record::{DEVICES, Description, layer_name};
use record::{MEMORY, Parts, Record, part_name};
pub use stale::Present;
pub(crate) use stale::Stale;

/// How often an image may be replaced while it is being taken.
const TRIES: usize = 10;

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
    /// Keeps what it is made of where it is.
    pub(crate) hold: Arc<Hold>,
    /// The layers of its disk above the image.
    disks: Vec<File>,
    machine: MachineImage,
    /// What it is for.
    pub(crate) shape: Shape,
    /// The snapshot that it comes from.
    snapshot: Option<Digest>,
    memory: FileId,
}

/// Which file one is, whatever its name: its file system and its number there.
pub(crate) type FileId = (u64, u64);

fn identity(file: &File) -> std::io::Result<FileId> {
    use std::os::unix::fs::MetadataExt;
    file.metadata().map(|meta| (meta.dev(), meta.ino()))
}

/// What a template stands on, and what keeps its parts where they are for as
/// long as it is there.
#[derive(Debug)]
pub(crate) struct Hold {
    /// The root disk beneath it all.
    pub(crate) base: HeldImage,
    _snapshot: Option<Lock>,
    /// Goes with the last who holds it.
    _fork: Option<fork::Held>,
}

impl Hold {
    /// Of what stands on an image alone.
    pub(crate) fn of(base: HeldImage) -> Arc<Self> {
        Arc::new(Self { base, _snapshot: None, _fork: None })
    }
}

impl Template {
    /// The template for an origin and a shape, made where there is none that
    /// holds. Two processes that want the same one make it once.
    pub(crate) async fn get(host: &Host, origin: &Origin, shape: Shape) -> Result<Self, Error> {
        Self::of(host, Purpose::new(host, origin, shape).await?).await
    }

    /// The same for a purpose that is known already.
    pub(crate) async fn of(host: &Host, purpose: Purpose) -> Result<Self, Error> {
        let dir = host.store.dir(Part::Templates)?.join(&purpose.key);
        if let Some(template) = Self::open(&dir, &purpose) {
            return Ok(template);
        }
        let (store, key) = (host.store.clone(), purpose.key.clone());
        let waiting = tokio::task::spawn_blocking(move || store.making(&key)).await;
        let _alone = waiting.map_err(|e| Error::Agent(e.to_string()))??;
        if let Some(template) = Self::open(&dir, &purpose) {
            return Ok(template);
        }
        match &purpose.from {
            From::Image => bake::bake(host, &purpose, &dir).await?,
            From::Snapshot(saved) => thaw(host, &purpose, saved, &dir)?,
            From::Fork(_) => return Err(Error::ForkGone),
        }
        let lost = || Error::Agent("a template that was just made does not hold".into());
        Self::open(&dir, &purpose).ok_or_else(lost)
    }

    /// Opens a template and checks it; `None` where it has to be made.
    fn open(dir: &Path, purpose: &Purpose) -> Option<Self> {
        let Parts { memory, disks } = Record::read(dir)?.open(dir)?;
        let devices = std::fs::read(dir.join(DEVICES)).ok()?;
        Some(Self {
            dir: dir.to_owned(),
            image: purpose.image.clone(),
            hold: purpose.hold.clone(),
            disks,
            memory: identity(&memory).ok()?,
            machine: MachineImage { memory, devices },
            shape: purpose.shape,
            snapshot: purpose.comes_from(),
        })
    }

    /// Forgets a template that does not restore.
    pub(crate) fn discard(self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }

    /// Where it lies.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// What a machine is restored from, with `top` as its own disk layer.
    pub(crate) fn restore(&self, top: File) -> Result<lampyr_engine::Restore, Error> {
        let copy = |file: &File| file.try_clone().map_err(at(&self.dir));
        let mut disks = vec![copy(&self.hold.base.disk)?];
        for layer in &self.disks {
            disks.push(copy(layer)?);
        }
        disks.push(top);
        let image = MachineImage {
            memory: copy(&self.machine.memory)?,
            devices: self.machine.devices.clone(),
        };
        Ok(lampyr_engine::Restore { image, pages: None, disks })
    }

    /// What a machine that is restored from it stands on.
    pub(crate) fn ground(&self) -> Ground {
        Ground {
            image: self.image.clone(),
            hold: self.hold.clone(),
            shape: self.shape,
            template: self.dir.clone(),
            memory: self.memory,
            layers: (0..self.disks.len()).map(|i| self.dir.join(layer_name(i))).collect(),
            snapshot: self.snapshot,
        }
    }
}

/// What a running machine stands on: everything that it has not written itself.
#[derive(Debug, Clone)]
pub(crate) struct Ground {
    pub(crate) image: Image,
    /// Keeps what it is made of where it is.
    pub(crate) hold: Arc<Hold>,
    pub(crate) shape: Shape,
    /// The template that it was restored from.
    pub(crate) template: PathBuf,
    /// Which file its memory was there.
    pub(crate) memory: FileId,
    /// The layers of its disk above the image, all but the one that it writes.
    pub(crate) layers: Vec<PathBuf>,
    /// The snapshot that the template comes from.
    pub(crate) snapshot: Option<Digest>,
}

impl Ground {
    /// What a machine is restored from that was copied into `dir` on this
    /// ground, with `top` as its own disk layer.
    pub(crate) fn restore(&self, dir: &Path, top: File) -> Result<lampyr_engine::Restore, Error> {
        let open = |path: &Path| File::open(path).map_err(at(path));
        let base = &self.hold.base.disk;
        let mut disks = vec![base.try_clone().map_err(at(&self.image.disk))?];
        for layer in &self.layers {
            disks.push(open(layer)?);
        }
        disks.push(top);
        let path = dir.join(DEVICES);
        let devices = std::fs::read(&path).map_err(at(&path))?;
        let image = MachineImage { memory: self.memory()?, devices };
        Ok(lampyr_engine::Restore { image, pages: Some(Copy::pages(dir)?), disks })
    }

    /// Where the memory is that it began with.
    pub(crate) fn memory_path(&self) -> PathBuf {
        self.template.join(MEMORY)
    }

    /// What that memory is made of: a whole memory, and pages over it.
    pub(crate) fn memory_parts(&self) -> Vec<PathBuf> {
        let parts = (0..).map(|number| self.template.join(part_name(number)));
        let parts: Vec<_> = parts.take_while(|part| part.exists()).collect();
        if parts.is_empty() { vec![self.memory_path()] } else { parts }
    }

    /// The memory that it began with, if it is there still.
    pub(crate) fn memory(&self) -> Result<File, Error> {
        let path = self.memory_path();
        let memory = File::open(&path).map_err(at(&path))?;
        if identity(&memory).map_err(at(&path))? == self.memory {
            Ok(memory)
        } else {
            Err(Error::TemplateReplaced)
        }
    }
}

/// What a template is for, down to the last thing that it depends on.
#[derive(Debug)]
pub(crate) struct Purpose {
    pub(crate) image: Image,
    /// Keeps what it is made of where it is.
    pub(crate) hold: Arc<Hold>,
    pub(crate) shape: Shape,
    words: String,
    from: From,
    /// What stands for all of it.
    pub(crate) key: String,
}

/// What a template is made from.
#[derive(Debug)]
enum From {
    Image,
    Snapshot(Box<Saved>),
    /// A session, which may come from a snapshot.
    Fork(Option<Digest>),
}

impl Purpose {
    /// An origin on this host and a shape. What was saved has a shape of its
    /// own.
    pub(crate) async fn new(host: &Host, origin: &Origin, shape: Shape) -> Result<Self, Error> {
        match origin {
            Origin::Image(image) => Self::image(host, image, shape).await,
            Origin::Snapshot(name) => Self::snapshot(host, name).await,
            Origin::Fork(id) => Self::fork(host, *id).await,
        }
    }

    async fn image(host: &Host, image: &ImageRef, shape: Shape) -> Result<Self, Error> {
        let (image, base) = held(host, || host.image(image)).await?;
        let (shape, words) = of_shape(host, &image, shape);
        let key = image_key(&words);
        Ok(Self { image, hold: Hold::of(base), shape, words, from: From::Image, key })
    }

    async fn snapshot(host: &Host, name: &Name) -> Result<Self, Error> {
        let (saved, lock) = snapshot::find(&host.store, name)?;
        saved.config.check(host)?;
        let of = &saved.config.of;
        let (image, base) = held(host, || image_of(host, of)).await?;
        let (shape, words) = (of.shape(), format!("snapshot {}", saved.digest));
        let key = snapshot_key(saved.digest);
        let hold = Arc::new(Hold { base, _snapshot: Some(lock), _fork: None });
        Ok(Self { image, hold, shape, words, from: From::Snapshot(Box::new(saved)), key })
    }

    async fn fork(host: &Host, id: SandboxId) -> Result<Self, Error> {
        let (fork, key) = fork::hold(&host.store, id)?;
        let dir = host.store.dir(Part::Templates)?.join(&key);
        let Record { of, made_for: words, snapshot, .. } =
            Record::read(&dir).ok_or(Error::ForkGone)?;
        let (image, base) = held(host, || image_of(host, &of)).await?;
        let hold = Hold { base, _snapshot: None, _fork: Some(fork) };
        let (hold, shape, from) = (Arc::new(hold), of.shape(), From::Fork(snapshot));
        Ok(Self { image, hold, shape, words, from, key })
    }

    /// What a copy of a machine on this ground is for.
    pub(crate) fn copy_of(ground: &Ground, key: String) -> Self {
        Self {
            image: ground.image.clone(),
            hold: ground.hold.clone(),
            shape: ground.shape,
            words: format!("a copy of a VM of image {}", ground.image.name),
            from: From::Fork(ground.snapshot),
            key,
        }
    }

    /// The snapshot that it comes from.
    fn comes_from(&self) -> Option<Digest> {
        match &self.from {
            From::Snapshot(saved) => Some(saved.digest),
            From::Fork(snapshot) => *snapshot,
            From::Image => None,
        }
    }
}

/// The key that the template for an origin and a shape has now; `None` where what
/// it starts as is not here.
pub(crate) fn key_now(host: &Host, origin: &Origin, shape: Shape) -> Option<String> {
    match origin {
        Origin::Image(image) => {
            let image = Image::find_any(&host.store, image).ok()?;
            Some(image_key(&of_shape(host, &image, shape).1))
        }
        Origin::Snapshot(name) => snapshot::digest(&host.store, name).ok()?.map(snapshot_key),
        Origin::Fork(_) => None,
    }
}

/// The shape of a machine of an image, and all that its template depends on.
fn of_shape(host: &Host, image: &Image, shape: Shape) -> (Shape, String) {
    // A layer that is shorter than what lies beneath it would cut that off.
    let shape = Shape { disk: shape.disk.max(Size::bytes(image.size_bytes)), ..shape };
    let of = Description::of(image, shape);
    (shape, words(&host.kit.manifest.digest, &host.engine.fingerprint(), &of))
}

fn image_key(words: &str) -> String {
    blake3::hash(words.as_bytes()).to_hex()[..32].to_owned()
}

fn snapshot_key(digest: Digest) -> String {
    format!("s-{}", &digest.hex()[..32])
}

/// An image, and what holds it. One that is replaced before it is held is looked
/// for again.
async fn held<F: Future<Output = Result<Image, Error>>>(
    host: &Host,
    look: impl Fn() -> F,
) -> Result<(Image, HeldImage), Error> {
    let mut image = look().await?;
    for _ in 0..TRIES {
        if let Some(base) = image.hold(&host.store)? {
            return Ok((image, base));
        }
        image = look().await?;
    }
    Err(Error::ImageChanged { image: image.name })
}

/// The image beneath what was saved: the one that has its name, if it is the
/// same still, or what came with it.
async fn image_of(host: &Host, of: &Description) -> Result<Image, Error> {
    if let Some(image) = image_here(&host.store, of) {
        return Ok(image);
    }
    let missing = || Error::ImageChanged { image: of.image.clone() };
    let reference = of.image.parse().map_err(|_| missing())?;
    let image = host.image(&reference).await?;
    if image.digest == of.image_digest { Ok(image) } else { Err(missing()) }
}

/// The same, where it is here.
pub(crate) fn image_here(store: &Store, of: &Description) -> Option<Image> {
    named(store, of).or_else(|| Image::base(store, &of.image_digest, &of.wants))
}

/// The image that has the name still.
fn named(store: &Store, of: &Description) -> Option<Image> {
    let image = Image::find(store, &of.image.parse().ok()?).ok()?;
    (image.digest == of.image_digest).then_some(image)
}

/// Makes the template of a snapshot.
fn thaw(host: &Host, purpose: &Purpose, saved: &Saved, dir: &Path) -> Result<(), Error> {
    let _task = host.progress.begin("unpacking the snapshot, to launch from it from now on");
    let staging = host.store.stage()?;
    assemble(&staging, purpose, &saved.moment(&host.store)?)?;
    Ok(staging.publish(dir)?)
}

/// The templates of an image, which nobody can use without it.
pub(crate) fn of_image(store: &Store, image: &Image) -> Result<Vec<PathBuf>, Error> {
    let ours = |of: &Description| of.image == image.name && of.image_digest == image.digest;
    let is_ours = |dir: &PathBuf| Record::read(dir).is_some_and(|record| ours(&record.of));
    Ok(entries(&store.dir(Part::Templates)?)?.into_iter().filter(is_ours).collect())
}

/// The templates of snapshots, each with the digits by which it is called.
pub(crate) fn of_snapshots(store: &Store) -> Result<Vec<(PathBuf, String)>, Error> {
    let all = entries(&store.dir(Part::Templates)?)?.into_iter();
    let digits = |path: &PathBuf| Some(path.file_name()?.to_str()?.strip_prefix("s-")?.to_owned());
    Ok(all.filter_map(|path| digits(&path).map(|digits| (path, digits))).collect())
}

/// Everything that a template depends on, in words.
fn words(kit: &str, engine: &str, of: &Description) -> String {
    let Description { image, image_digest, cpus, memory, network, .. } = of;
    let (card, disk) = (if *network { ", network card" } else { "" }, of.shape().disk);
    format!(
        "kit {kit}, image {image} {image_digest}, {engine}, {cpus} cpus, {memory} bytes, disk {disk}{card}"
    )
}
