//! Assembling: a template of a machine that was copied while it ran.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};

use lampyr_engine::{Pages, Stretch};
use lampyr_store::{Staging, at};
use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;

use super::Purpose;
use super::bake::create;
use super::record::{DEVICES, MEMORY, Record, layer_name, part_name};
use crate::Error;

/// What a machine was at one instant.
pub(crate) struct Moment {
    /// The memory that it began with.
    pub(crate) memory: File,
    /// What changed in it since, the oldest change first.
    pub(crate) pages: Vec<Pages>,
    /// Where these lie: the memory, then the pages.
    pub(crate) parts: Vec<PathBuf>,
    /// The state of its devices.
    pub(crate) devices: PathBuf,
    /// The layers of its disk above the image, the lowest first.
    pub(crate) layers: Vec<PathBuf>,
}

/// Puts the parts of a template together in `staging`.
pub(crate) fn assemble(staging: &Staging, purpose: &Purpose, moment: &Moment) -> Result<(), Error> {
    let dir = staging.path();
    remember(moment, &dir.join(MEMORY))?;
    let devices = dir.join(DEVICES);
    std::fs::copy(&moment.devices, &devices).map_err(at(&devices))?;
    // Nobody writes to them any more, so that a second name is as good as a copy.
    let link = |path: &Path, name| std::fs::hard_link(path, dir.join(name)).map_err(at(path));
    for (number, layer) in moment.layers.iter().enumerate() {
        link(layer, layer_name(number))?;
    }
    // Whoever saves what runs from here needs to keep only what is new.
    for (number, part) in moment.parts.iter().enumerate() {
        link(part, part_name(number))?;
    }
    Record::write(dir, purpose, moment.layers.len())
}

/// Makes the whole memory of it. What did not change costs no room where the
/// file system can share it.
fn remember(moment: &Moment, path: &Path) -> Result<(), Error> {
    let memory = create(path)?;
    duplicate(&moment.memory, &memory).map_err(at(path))?;
    for pages in &moment.pages {
        let put = |at, stretch: Stretch<'_>| match stretch {
            Stretch::Data(bytes) => memory.write_all_at(bytes, at),
            Stretch::Zero(length) => sys::clear(&memory, at, length),
        };
        pages.each(put).map_err(at(path))?;
    }
    Ok(memory.set_permissions(std::fs::Permissions::from_mode(0o444)).map_err(at(path))?)
}

/// Makes `to` the same as `from`, holes and all.
fn duplicate(from: &File, to: &File) -> io::Result<()> {
    if sys::share(from, to) {
        return Ok(());
    }
    let size = from.metadata()?.len();
    to.set_len(size)?;
    let mut at = 0;
    while at < size {
        let start = match seek(from, SeekFrom::Data(at)) {
            Ok(start) => start,
            Err(Errno::NXIO) => return Ok(()),
            Err(e) => return Err(e.into()),
        };
        at = seek(from, SeekFrom::Hole(start))?;
        sys::copy_range(from, to, start..at)?;
    }
    Ok(())
}

#[cfg(target_os = "linux")]
mod sys {
    use std::fs::File;
    use std::io;
    use std::os::unix::fs::FileExt;

    use rustix::fs::{FallocateFlags, copy_file_range, fallocate, ioctl_ficlone};
    use rustix::io::Errno;

    /// Makes `to` a file of the same blocks, where the file system can.
    pub(super) fn share(from: &File, to: &File) -> bool {
        ioctl_ficlone(to, from).is_ok()
    }

    pub(super) fn clear(file: &File, at: u64, length: u64) -> io::Result<()> {
        let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        match fallocate(file, hole, at, length) {
            Err(Errno::OPNOTSUPP) => file.write_all_at(&vec![0; length as usize], at),
            other => Ok(other?),
        }
    }

    pub(super) fn copy_range(
        from: &File,
        to: &File,
        range: std::ops::Range<u64>,
    ) -> io::Result<()> {
        let (mut read, mut written) = (range.start, range.start);
        while read < range.end {
            let left = (range.end - read) as usize;
            if copy_file_range(from, Some(&mut read), to, Some(&mut written), left)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(())
    }
}

/// No machine is copied here, so that this need not be quick.
#[cfg(not(target_os = "linux"))]
mod sys {
    use std::fs::File;
    use std::io;
    use std::os::unix::fs::FileExt;

    pub(super) fn share(_from: &File, _to: &File) -> bool {
        false
    }

    pub(super) fn clear(file: &File, at: u64, length: u64) -> io::Result<()> {
        file.write_all_at(&vec![0; length as usize], at)
    }

    pub(super) fn copy_range(
        from: &File,
        to: &File,
        range: std::ops::Range<u64>,
    ) -> io::Result<()> {
        let mut buffer = vec![0; 1 << 20];
        for at in range.clone().step_by(buffer.len()) {
            let length = (range.end - at).min(buffer.len() as u64) as usize;
            from.read_exact_at(&mut buffer[..length], at)?;
            to.write_all_at(&buffer[..length], at)?;
        }
        Ok(())
    }
}
