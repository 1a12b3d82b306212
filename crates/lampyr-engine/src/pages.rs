//! Pages: where a machine's memory differs from the file that it began with.
//!
//! ```text
//! the pages, one behind the other     those that are all zero are left out
//! runs     16 bytes each: first page, then number of pages * 2 + whether zero
//! footer   32 bytes: mark, number of runs, size of the memory
//! ```
//!
//! All numbers are little-endian. Runs ascend and do not touch twice the same
//! page, so a reader need not believe more than it checks in one pass.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::FileExt;

/// The size of a page, in bytes.
pub const PAGE: usize = 4096;

const MARK: [u8; 16] = *b"lampyr-pages-v1\n";
const RUN: usize = 16;
const FOOTER: u64 = 32;
/// More runs than this are nobody's: each second page of 128 GiB.
const MOST_RUNS: u64 = 1 << 24;
/// Pages that are read at once.
const PIECE: usize = 256;

/// Some pages that follow one another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Run {
    first: u64,
    count: u64,
    zero: bool,
}

impl Run {
    fn end(&self) -> u64 {
        self.first + self.count
    }
}

/// Writes pages to a file, from the lowest to the highest.
#[derive(Debug)]
pub struct PagesWriter {
    out: BufWriter<File>,
    runs: Vec<Run>,
    memory: u64,
}

impl PagesWriter {
    /// Writes to `file`, which is empty, about a memory of so many bytes.
    pub fn new(file: File, memory: u64) -> Self {
        Self { out: BufWriter::with_capacity(1 << 20, file), runs: Vec::new(), memory }
    }

    /// Adds the page at `at` bytes into the memory.
    ///
    /// # Errors
    ///
    /// What writing says.
    pub fn push(&mut self, at: u64, page: &[u8; PAGE]) -> io::Result<()> {
        let (first, zero) = (at / PAGE as u64, page == &[0; PAGE]);
        match self.runs.last_mut() {
            Some(run) if run.end() == first && run.zero == zero => run.count += 1,
            _ => self.runs.push(Run { first, count: 1, zero }),
        }
        if zero { Ok(()) } else { self.out.write_all(page) }
    }

    /// Writes what tells where each page belongs.
    ///
    /// # Errors
    ///
    /// What writing says.
    pub fn finish(mut self) -> io::Result<()> {
        for run in &self.runs {
            self.out.write_all(&run.first.to_le_bytes())?;
            self.out.write_all(&(run.count << 1 | u64::from(run.zero)).to_le_bytes())?;
        }
        self.out.write_all(&MARK)?;
        self.out.write_all(&(self.runs.len() as u64).to_le_bytes())?;
        self.out.write_all(&self.memory.to_le_bytes())?;
        self.out.flush()
    }
}

/// Pages in a file.
#[derive(Debug)]
pub struct Pages {
    file: File,
    runs: Vec<Run>,
    memory: u64,
}

impl Pages {
    /// Opens a file of pages, and believes nothing of it that is not checked.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::InvalidData`] where it is not whole, or none.
    pub fn open(file: File) -> io::Result<Self> {
        let length = file.metadata()?.len();
        let footer_at = length.checked_sub(FOOTER).ok_or_else(bad)?;
        let mut footer = [0; FOOTER as usize];
        file.read_exact_at(&mut footer, footer_at)?;
        let (mark, numbers) = footer.split_at(MARK.len());
        let (count, memory) = pair(numbers);
        let index = count.checked_mul(RUN as u64).filter(|_| mark == MARK && count <= MOST_RUNS);
        let index_at = index.and_then(|size| footer_at.checked_sub(size)).ok_or_else(bad)?;
        let mut index = vec![0; (footer_at - index_at) as usize];
        file.read_exact_at(&mut index, index_at)?;
        let runs = check(&index, memory, index_at).ok_or_else(bad)?;
        Ok(Self { file, runs, memory })
    }

    /// The size of the memory that they belong to, in bytes.
    pub fn memory(&self) -> u64 {
        self.memory
    }

    /// Gives each stretch of pages, with where it begins in the memory. What is
    /// zero is given as such: `None` and its length.
    ///
    /// # Errors
    ///
    /// What reading says, and what `take` says.
    pub fn each(&self, mut take: impl FnMut(u64, Stretch<'_>) -> io::Result<()>) -> io::Result<()> {
        let mut buffer = vec![0; PIECE * PAGE];
        let mut from = 0;
        for run in &self.runs {
            if run.zero {
                take(run.first * PAGE as u64, Stretch::Zero(run.count * PAGE as u64))?;
                continue;
            }
            let mut first = run.first;
            while first < run.end() {
                let size = (run.end() - first).min(PIECE as u64) * PAGE as u64;
                let piece = &mut buffer[..size as usize];
                self.file.read_exact_at(piece, from)?;
                take(first * PAGE as u64, Stretch::Data(piece))?;
                first += size / PAGE as u64;
                from += size;
            }
        }
        Ok(())
    }
}

/// Some of a memory's bytes.
#[derive(Debug)]
pub enum Stretch<'a> {
    /// These.
    Data(&'a [u8]),
    /// So many zeros.
    Zero(u64),
}

fn pair(bytes: &[u8]) -> (u64, u64) {
    let number = |at: usize| bytes[at..].first_chunk().map_or(0, |b| u64::from_le_bytes(*b));
    (number(0), number(8))
}

/// The runs of an index, if they ascend within the memory and their pages fill
/// the file up to the index.
fn check(index: &[u8], memory: u64, data: u64) -> Option<Vec<Run>> {
    let (mut end, mut stored) = (0, 0_u64);
    let mut runs = Vec::with_capacity(index.len() / RUN);
    for entry in index.chunks_exact(RUN) {
        let (first, word) = pair(entry);
        let run = Run { first, count: word >> 1, zero: word & 1 == 1 };
        let past = first.checked_add(run.count)?;
        let fits = first >= end && run.count > 0 && past <= memory / PAGE as u64;
        end = fits.then_some(past)?;
        stored += if run.zero { 0 } else { run.count * PAGE as u64 };
        runs.push(run);
    }
    (stored == data).then_some(runs)
}

fn bad() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "these are no pages of a machine's memory")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn written(pages: &[(u64, u8)], memory: u64) -> File {
        let file = tempfile::tempfile().unwrap();
        let mut writer = PagesWriter::new(file.try_clone().unwrap(), memory);
        for (page, byte) in pages {
            writer.push(page * PAGE as u64, &[*byte; PAGE]).unwrap();
        }
        writer.finish().unwrap();
        file
    }

    proptest! {
        #[test]
        fn pages_come_back_as_they_were(
            pages in proptest::collection::btree_map(0_u64..3000, 0_u8..3, 0..200),
        ) {
            let pages: Vec<_> = pages.into_iter().collect();
            let memory = 3000 * PAGE as u64;
            let read = Pages::open(written(&pages, memory)).unwrap();
            let mut found = Vec::new();
            read.each(|at, stretch| {
                let first = at / PAGE as u64;
                match stretch {
                    Stretch::Zero(n) => found.extend((0..n / PAGE as u64).map(|i| (first + i, 0))),
                    Stretch::Data(bytes) => {
                        let each = bytes.chunks(PAGE).enumerate();
                        found.extend(each.map(|(i, page)| (first + i as u64, page[PAGE / 2])));
                    }
                }
                Ok(())
            }).unwrap();
            prop_assert_eq!(read.memory(), memory);
            prop_assert_eq!(found, pages);
        }

        #[test]
        fn a_damaged_index_is_refused_or_stays_within_the_memory(
            at in 0_u64..200,
            byte in any::<u8>(),
        ) {
            let pages = [(1, 1), (2, 0), (7, 2), (8, 2), (90, 0)];
            let file = written(&pages, 100 * PAGE as u64);
            let end = file.metadata().unwrap().len();
            file.write_all_at(&[byte], end - 1 - at.min(end - 1)).unwrap();
            if let Ok(pages) = Pages::open(file) {
                let memory = pages.memory();
                let within = |at: u64, length: u64| at + length <= memory;
                pages.each(|at, stretch| {
                    let length = match stretch {
                        Stretch::Zero(n) => n,
                        Stretch::Data(bytes) => bytes.len() as u64,
                    };
                    assert!(within(at, length));
                    Ok(())
                }).unwrap();
            }
        }
    }

    /// Where this fails, docs/formats.md has the three ways to change a format.
    #[test]
    fn the_bytes_are_the_first_version_s() {
        let file = written(&[(3, 0), (4, 0), (9, 7)], 16 * PAGE as u64);
        let mut bytes = vec![0; file.metadata().unwrap().len() as usize];
        file.read_exact_at(&mut bytes, 0).unwrap();
        let (data, rest) = bytes.split_at(PAGE);
        assert!(data == [7; PAGE]);
        let numbers = |list: [u64; 2]| list.map(u64::to_le_bytes).concat();
        let index = [numbers([3, 2 << 1 | 1]), numbers([9, 1 << 1])].concat();
        let footer = [b"lampyr-pages-v1\n".to_vec(), numbers([2, 65_536])].concat();
        assert_eq!(rest, [index, footer].concat());
    }

    #[test]
    fn what_is_cut_short_is_no_pages() {
        let file = written(&[(1, 1), (5, 1)], 10 * PAGE as u64);
        for length in [0, 31, file.metadata().unwrap().len() - 1] {
            file.set_len(length).unwrap();
            assert!(Pages::open(file.try_clone().unwrap()).is_err());
        }
    }

    #[test]
    fn zero_pages_take_no_room() {
        let file = written(&[(1, 0), (2, 0)], 10 * PAGE as u64);
        assert_eq!(file.metadata().unwrap().len(), RUN as u64 + FOOTER);
    }
}
