//! The memory of a machine that runs, seen from outside its process.
//!
//! A restored machine maps its memory file privately: a page that it has not
//! written is the file's, and one that it has written is its own. The kernel
//! tells them apart, so what a machine has changed is found without its help,
//! and without looking at what it has not.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt};

use lampyr_engine::{PAGE, Pages, PagesWriter, Stretch};

/// Pages that are looked at or copied at once.
const PIECE: usize = 256;
/// Entries of the kernel's page map that are read at once.
const ENTRIES: usize = 8192;
/// What the kernel's page map says of a page, by bit.
const IN_MEMORY: u64 = 1 << 63;
const SWAPPED: u64 = 1 << 62;
const OF_A_FILE: u64 = 1 << 61;

/// A process's private mapping of a memory file.
#[derive(Debug)]
pub(crate) struct GuestMemory {
    process: File,
    page_map: File,
    base: File,
    size: u64,
    mappings: Vec<Mapping>,
}

/// A part of the memory and where the process has it.
#[derive(Debug, PartialEq, Eq)]
struct Mapping {
    address: u64,
    offset: u64,
    length: u64,
}

impl GuestMemory {
    /// Opens what process `pid` has mapped of `base`.
    pub(crate) fn open(pid: u32, base: &File, write: bool) -> io::Result<Self> {
        let path = |name| format!("/proc/{pid}/{name}");
        let meta = base.metadata()?;
        let maps = std::fs::read_to_string(path("maps"))?;
        let mappings: Vec<_> = maps.lines().filter_map(|line| mapping(line, &meta)).collect();
        if mappings.iter().map(|m| m.length).sum::<u64>() != meta.len() {
            return Err(io::Error::other("the process has not mapped all of its memory"));
        }
        Ok(Self {
            process: File::options().read(true).write(write).open(path("mem"))?,
            page_map: File::open(path("pagemap"))?,
            base: base.try_clone()?,
            size: meta.len(),
            mappings,
        })
    }

    /// Writes every page that differs from the file's. The process stands
    /// still meanwhile.
    pub(crate) fn save(&self, pages: File) -> io::Result<()> {
        let mut out = PagesWriter::new(pages, self.size);
        for mapping in &self.mappings {
            let mut at = 0;
            while at < mapping.length {
                let length = (mapping.length - at).min((ENTRIES * PAGE) as u64);
                for own in self.own_pages(mapping.address + at, length)? {
                    self.save_range(mapping, own, &mut out)?;
                }
                at += length;
            }
        }
        out.finish()
    }

    /// The addresses of pages that are the process's own.
    fn own_pages(&self, address: u64, length: u64) -> io::Result<Vec<Range<u64>>> {
        let mut entries = vec![0; length as usize / PAGE * 8];
        self.page_map.read_exact_at(&mut entries, address / PAGE as u64 * 8)?;
        let mut found: Vec<Range<u64>> = Vec::new();
        for (i, entry) in entries.chunks_exact(8).enumerate() {
            let entry = entry.first_chunk().map_or(0, |bytes| u64::from_ne_bytes(*bytes));
            if entry & (IN_MEMORY | SWAPPED) == 0 || entry & OF_A_FILE != 0 {
                continue;
            }
            let page = address + (i * PAGE) as u64;
            match found.last_mut() {
                Some(last) if last.end == page => last.end += PAGE as u64,
                _ => found.push(page..page + PAGE as u64),
            }
        }
        Ok(found)
    }

    fn save_range(
        &self,
        mapping: &Mapping,
        own: Range<u64>,
        out: &mut PagesWriter,
    ) -> io::Result<()> {
        let (mut now, mut before) = (vec![0; PIECE * PAGE], vec![0; PIECE * PAGE]);
        for address in own.clone().step_by(PIECE * PAGE) {
            let length = (own.end - address).min((PIECE * PAGE) as u64) as usize;
            let at = mapping.offset + (address - mapping.address);
            self.process.read_exact_at(&mut now[..length], address)?;
            self.base.read_exact_at(&mut before[..length], at)?;
            let (now, _) = now[..length].as_chunks::<PAGE>();
            let (before, _) = before[..length].as_chunks::<PAGE>();
            for (i, (now, before)) in now.iter().zip(before).enumerate() {
                if now != before {
                    out.push(at + (i * PAGE) as u64, now)?;
                }
            }
        }
        Ok(())
    }

    /// Puts pages over what the process has.
    pub(crate) fn load(&self, pages: &Pages) -> io::Result<()> {
        if pages.memory() != self.size {
            return Err(io::Error::other("these pages are of a memory of another size"));
        }
        let zeros = vec![0; PIECE * PAGE];
        pages.each(|at, stretch| match stretch {
            Stretch::Data(bytes) => self.write(at, bytes),
            Stretch::Zero(length) => (0..length).step_by(zeros.len()).try_for_each(|done| {
                let piece = (length - done).min(zeros.len() as u64) as usize;
                self.write(at + done, &zeros[..piece])
            }),
        })
    }

    /// Writes bytes at an offset of the memory.
    fn write(&self, at: u64, bytes: &[u8]) -> io::Result<()> {
        let mut done = 0;
        while done < bytes.len() {
            let offset = at + done as u64;
            let holds = |m: &&Mapping| (m.offset..m.offset + m.length).contains(&offset);
            let mapping = self.mappings.iter().find(holds).ok_or(io::ErrorKind::InvalidInput)?;
            let room = (mapping.offset + mapping.length - offset).min((bytes.len() - done) as u64);
            let piece = &bytes[done..done + room as usize];
            self.process.write_all_at(piece, mapping.address + (offset - mapping.offset))?;
            done += piece.len();
        }
        Ok(())
    }
}

/// A line of a process's `maps`, if it is a mapping of this file.
fn mapping(line: &str, file: &std::fs::Metadata) -> Option<Mapping> {
    let mut words = line.split_ascii_whitespace();
    let (range, _mode) = (words.next()?, words.next()?);
    let (offset, device, inode) = (words.next()?, words.next()?, words.next()?);
    let hex = |text| u64::from_str_radix(text, 16).ok();
    let (major, minor) = device.split_once(':')?;
    #[allow(clippy::unnecessary_cast, clippy::cast_sign_loss, reason = "it is u64 on Linux")]
    let device = rustix::fs::makedev(hex(major)? as u32, hex(minor)? as u32) as u64;
    if inode.parse() != Ok(file.ino()) || device != file.dev() {
        return None;
    }
    let (from, to) = range.split_once('-')?;
    let address = hex(from)?;
    Some(Mapping { address, offset: hex(offset)?, length: hex(to)?.checked_sub(address)? })
}
