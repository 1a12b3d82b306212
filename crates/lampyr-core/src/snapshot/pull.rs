//! Snapshots that come from elsewhere. Nothing of what comes is believed: each
//! part is what its digest says and no larger, no part leads to another file, and
//! until all are there nothing has the name.

use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use futures_util::stream::{StreamExt, TryStreamExt, iter};
use lampyr_engine::Pages;
use lampyr_image::{DISK, HeldImage, Image, ImageRef};
use lampyr_oci::{Blobs as Coming, Digest, Offer, Part, Reference, most_packed, unpack};
use lampyr_store::{Staging, Store, at};
use lampyr_types::{Name, Size};

use super::blobs::{Blobs, MAX_SMALL};
use super::config::Config;
use super::layout::{Descriptor, Kind, Manifest};
use super::packed::{check_kind, check_parts};
use super::{LOCK, Snapshot, beside, dir, name_it, refuse_taken};
use crate::template::{self, Description};
use crate::{Error, Host, limits};

/// How many parts are fetched at a time.
const AT_ONCE: usize = 4;
/// The state of all devices takes some hundred kilobytes.
const MOST_DEVICES: u64 = 64 << 20;

/// A snapshot to fetch.
#[derive(Debug, Clone)]
pub struct PullRequest {
    /// Where it is.
    pub reference: Reference,
    /// What to call it here.
    pub name: Name,
    /// Whether it replaces one that has the name.
    pub overwrite: bool,
}

/// Fetches a snapshot from a registry, and the root disk that it stands on where
/// that is not here. What is here is not fetched.
///
/// # Errors
///
/// Whatever goes wrong, a snapshot that had the name before is as it was, and
/// what was fetched is gone on with the next time.
pub async fn pull_snapshot(host: &Host, request: &PullRequest) -> Result<Snapshot, Error> {
    let PullRequest { reference, name, overwrite } = request;
    refuse_taken(&host.store, name, *overwrite)?;
    let coming = Coming::new(&host.store);
    let _hold = coming.hold()?;
    let _task = host.progress.begin(&format!("Pulling {reference}"));
    let offer = Offer::find(reference, &host.registries.settings).await?;
    check_kind(&offer.artifact, &reference.to_string())?;
    let wanted = Wanted::read(host, &offer).await?;
    let pulled = Pull { host, offer: &offer, coming: &coming }.all(&wanted, request).await;
    // A part that is damaged where it came from would be so the next time, too.
    if matches!(pulled, Ok(_) | Err(Error::SnapshotDamaged(_))) {
        for part in &offer.artifact.parts {
            coming.forget(part.digest)?;
        }
    }
    pulled
}

/// What a snapshot says of itself, as far as that can be checked before the rest
/// of it is here.
struct Wanted {
    manifest: Manifest,
    /// The manifest's own bytes, and the configuration's.
    small: [Vec<u8>; 2],
    config: Config,
}

impl Wanted {
    async fn read(host: &Host, offer: &Offer) -> Result<Self, Error> {
        let itself = &offer.artifact.config;
        let damaged = || Error::SnapshotDamaged(itself.digest);
        let bytes = offer.read(itself, MAX_SMALL).await?;
        let manifest = Manifest::parse(&bytes)?;
        let (parts, base) = check_parts(&offer.artifact, &manifest)?;
        let (described, sent) = (manifest.config(), parts.first().ok_or_else(damaged)?);
        if described.digest != sent.digest {
            return Err(damaged());
        }
        let about = offer.read(sent, MAX_SMALL).await?;
        let config = Config::parse(&about)?;
        if !sensible(&manifest, &config) {
            return Err(damaged());
        }
        config.check(host)?;
        bounded(host.registries.most, &manifest, parts, base, &config)?;
        Ok(Self { manifest, small: [bytes, about], config })
    }
}

/// Whether a snapshot's words fit one another.
fn sensible(manifest: &Manifest, config: &Config) -> bool {
    let of = &config.of;
    let count = |kind| manifest.of(kind).count();
    let digest = |text: &str| text.len() == 64 && text.bytes().all(|c| c.is_ascii_hexdigit());
    manifest.of(Kind::Memory).all(|memory| memory.size == of.memory)
        && (count(Kind::Memory), count(Kind::Devices)) == (1, 1)
        && count(Kind::Disk) > 0
        && manifest.all().skip(1).all(|part| part.size <= most(part.media_type, of.memory))
        && limits::disk_size(Size::bytes(of.disk)).is_ok()
        && of.cpus > 0
        && digest(&of.image_digest)
        && of.image.parse::<ImageRef>().is_ok()
        && config.is_plain()
}

/// The most bytes of a part, of a machine with so much memory.
fn most(kind: Kind, memory: u64) -> u64 {
    match kind {
        Kind::Manifest | Kind::Config => 0,
        Kind::Devices => MOST_DEVICES,
        // All pages, and a run for each.
        Kind::Pages => memory.saturating_add(memory / 256).saturating_add(1 << 12),
        Kind::Memory | Kind::Disk => u64::MAX,
    }
}

/// Refuses what would take more than there may be, packed or not.
fn bounded(
    most: Size,
    manifest: &Manifest,
    parts: &[Part],
    base: &Part,
    config: &Config,
) -> Result<(), Error> {
    let honest = |(part, packed): (&Descriptor, &Part)| packed.size <= most_packed(part.size);
    let total = manifest.all().try_fold(0_u64, |total, part| total.checked_add(part.size));
    let packed = parts.iter().chain([base]).try_fold(0_u64, |total, p| total.checked_add(p.size));
    let room = most.as_bytes();
    if total.is_none_or(|total| total > room) || packed.is_none_or(|all| all > most_packed(room)) {
        return Err(Error::SnapshotTooLarge(most));
    }
    if !manifest.all().zip(parts).all(honest) || base.size > most_packed(config.of.disk) {
        return Err(Error::SnapshotDamaged(base.digest));
    }
    Ok(())
}

/// The root disk beneath a snapshot.
enum Base {
    /// It is here, and held.
    Here(HeldImage),
    /// It was fetched.
    Came(Staging),
}

/// A snapshot on its way.
struct Pull<'a> {
    host: &'a Host,
    offer: &'a Offer,
    coming: &'a Coming,
}

impl Pull<'_> {
    async fn all(&self, wanted: &Wanted, request: &PullRequest) -> Result<Snapshot, Error> {
        let (packed, base) = check_parts(&self.offer.artifact, &wanted.manifest)?;
        // Parts that are whole and verified, each called by its digits.
        let staging = self.host.store.stage()?;
        let pairs = wanted.manifest.all().zip(packed).skip(1);
        let part = |(part, packed)| self.part(part, packed, &wanted.config.of, staging.path());
        let fetches: Vec<_> = pairs.map(part).collect();
        iter(fetches).buffer_unordered(AT_ONCE).try_collect::<()>().await?;
        let base = self.base(&wanted.config.of, base).await?;
        self.publish(wanted, staging.path(), base, request)
    }

    /// Fetches a part, unless it is here, and unpacks it into `dir`.
    async fn part(
        &self,
        part: &Descriptor,
        packed: &Part,
        of: &Description,
        dir: &Path,
    ) -> Result<(), Error> {
        let place = dir.join(part.digest.hex());
        if self.is_here(part, &place).await? {
            return Ok(());
        }
        let _alone = self.coming.fetching(packed.digest).await?;
        // Somebody else may have brought it meanwhile.
        if self.is_here(part, &place).await? {
            return Ok(());
        }
        let name = format!("Part {}", &packed.digest.hex()[..12]);
        let task = self.host.progress.begin(&name);
        let file = self.offer.fetch(self.coming, packed, &*task).await?;
        let (part, engine) = (part.clone(), self.host.engine.clone());
        let (disk, memory) = (of.disk, of.memory);
        beside(move || {
            let whole = open_out(&file, &place, part.size, part.digest)?;
            let good = match part.media_type {
                Kind::Disk => engine.check_layer(&whole, disk).is_ok(),
                Kind::Pages => Pages::open(whole).is_ok_and(|pages| pages.memory() == memory),
                _ => true,
            };
            if good { Ok(()) } else { Err(Error::SnapshotDamaged(part.digest)) }
        })
        .await
    }

    /// Whether a part is here already; then it gets a second name at `place`.
    async fn is_here(&self, part: &Descriptor, place: &Path) -> Result<bool, Error> {
        let (part, place) = (part.clone(), place.to_owned());
        let blobs = Blobs::new(&dir(&self.host.store)?)?;
        beside(move || {
            if place.exists() {
                return Ok(true);
            }
            let good = blobs.verified(&part).is_ok();
            // It can go in this very moment.
            Ok(good && std::fs::hard_link(blobs.path(part.digest), &place).is_ok())
        })
        .await
    }

    /// Fetches the root disk, unless it is here.
    async fn base(&self, of: &Description, packed: &Part) -> Result<Base, Error> {
        if let Some(image) = template::image_here(&self.host.store, of)
            && let Some(held) = image.hold(&self.host.store)?
        {
            return Ok(Base::Here(held));
        }
        let _alone = self.coming.fetching(packed.digest).await?;
        let task = self.host.progress.begin(&format!("Root disk {}", &packed.digest.hex()[..12]));
        let file = self.offer.fetch(self.coming, packed, &*task).await?;
        let most = of.disk.min(self.host.registries.most.as_bytes());
        let (staging, digest) = (self.host.store.stage()?, packed.digest);
        let place = staging.path().join(DISK);
        beside(move || {
            let disk = File::create_new(&place).map_err(at(&place))?;
            unpack(&file, &disk, most).map(drop).map_err(unpacked(&place, digest))
        })
        .await?;
        Ok(Base::Came(staging))
    }

    /// Gives all that came its place, and then the name.
    fn publish(
        &self,
        wanted: &Wanted,
        parts: &Path,
        base: Base,
        request: &PullRequest,
    ) -> Result<Snapshot, Error> {
        let (store, of) = (&self.host.store, &wanted.config.of);
        let dir = dir(store)?;
        let _alone = store.making(LOCK)?;
        refuse_taken(store, &request.name, request.overwrite)?;
        // What is here stays until the snapshot has its name.
        let _held = match base {
            Base::Here(held) => Some(held),
            Base::Came(staging) => {
                keep_base(store, staging, &of.image, &of.image_digest, self.offer)?;
                None
            }
        };
        let blobs = Blobs::new(&dir)?;
        for part in wanted.manifest.all().skip(1) {
            let from = parts.join(part.digest.hex());
            let to = blobs.path(part.digest);
            match std::fs::rename(&from, &to) {
                // The same part twice.
                Err(e) if e.kind() == ErrorKind::NotFound && to.exists() => {}
                renamed => renamed.map_err(at(&to))?,
            }
        }
        let [manifest, config] = &wanted.small;
        blobs.keep(Kind::Config, config)?;
        let manifest = blobs.keep(Kind::Manifest, manifest)?;
        name_it(store, &dir, &request.name, manifest)
    }
}

fn keep_base(
    store: &Store,
    base: Staging,
    name: &str,
    digest: &str,
    offer: &Offer,
) -> Result<(), Error> {
    let kept = Image::keep_base(store, base, name, digest)?;
    let damaged = || Error::SnapshotDamaged(offer.artifact.config.digest);
    kept.map(drop).ok_or_else(damaged)
}

/// Unpacks a part to `place` and verifies it.
fn open_out(packed: &File, place: &PathBuf, size: u64, digest: Digest) -> Result<File, Error> {
    let created = File::options().read(true).write(true).create_new(true).open(place);
    let whole = created.map_err(at(place))?;
    let found = unpack(packed, &whole, size).map_err(unpacked(place, digest))?;
    whole.sync_all().map_err(at(place))?;
    if found == (digest, size) { Ok(whole) } else { Err(Error::SnapshotDamaged(digest)) }
}

/// What an error in unpacking says: of the part, or of this host's disk.
fn unpacked(place: &Path, digest: Digest) -> impl FnOnce(std::io::Error) -> Error {
    let place = place.to_owned();
    move |e| match e.kind() {
        ErrorKind::InvalidData => Error::SnapshotDamaged(digest),
        _ => at(&place)(e).into(),
    }
}
