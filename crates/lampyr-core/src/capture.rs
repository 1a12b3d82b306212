//! One output stream of a command, kept within bounds and never lost.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// The usual cap of a stream in bytes: 64 MiB.
pub const DEFAULT_CAP: usize = 64 << 20;

/// Collects one stream. Up to the cap everything is kept in memory; of a
/// longer stream the first and the last half of the cap are kept, and every
/// byte goes to a file.
#[derive(Debug)]
pub struct Capture {
    cap: usize,
    /// The first `cap` bytes; past them, the part after `head()` is a ring.
    kept: Vec<u8>,
    total: u64,
    path: PathBuf,
    spill: Option<File>,
}

/// A whole stream, as far as it was kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Captured {
    /// The stream; where it was too long, its head, a line that says so, and
    /// its tail. The cuts fall between any two bytes, also inside a character.
    pub bytes: Vec<u8>,
    /// What was left out, if anything was.
    pub truncated: Option<Truncated>,
}

/// How a stream was cut, and where all of it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Truncated {
    /// The length of the stream in bytes.
    pub total_bytes: u64,
    /// How many of these bytes were kept.
    pub kept_bytes: u64,
    /// The file that holds all of the stream, or the beginning of it.
    pub file: PathBuf,
    /// How many bytes of the stream the file holds: fewer than there are only
    /// where it could not be written to the end.
    pub file_bytes: u64,
}

impl Truncated {
    /// Whether the file holds every byte.
    pub fn is_whole(&self) -> bool {
        self.file_bytes == self.total_bytes
    }
}

impl Capture {
    /// A capture of at most `cap` bytes in memory. A longer stream is written
    /// to `spill`, a file that must not exist and is only made when needed.
    pub fn new(cap: usize, spill: PathBuf) -> Self {
        Self { cap, kept: Vec::new(), total: 0, path: spill, spill: None }
    }

    /// Takes the next bytes of the stream.
    ///
    /// Fails where the file cannot be made or written; the stream has then
    /// lost bytes, and the capture should be given up or finished.
    pub fn push(&mut self, bytes: &[u8]) -> io::Result<()> {
        let spilled = self.spill(bytes);
        if spilled.is_ok() || self.spill.is_some() {
            self.keep(bytes);
        }
        spilled
    }

    /// Keeps the next bytes in memory, over older ones where they must.
    fn keep(&mut self, bytes: &[u8]) {
        let room = (self.cap - self.kept.len()).min(bytes.len());
        let (first, rest) = bytes.split_at(room);
        self.grow(first);
        self.total += first.len() as u64;
        self.turn(rest);
        self.total += rest.len() as u64;
    }

    /// Ends the stream and hands out what was kept.
    pub fn finish(mut self) -> io::Result<Captured> {
        let Some(mut file) = self.spill.take() else {
            return Ok(Captured { bytes: self.kept, truncated: None });
        };
        file.flush()?;
        let cut = Truncated {
            total_bytes: self.total,
            kept_bytes: self.kept.len() as u64,
            file: self.path.clone(),
            file_bytes: file.metadata()?.len().min(self.total),
        };
        Ok(Captured { bytes: self.join(&marker(&cut)), truncated: Some(cut) })
    }

    /// The length of the head that is kept of a stream that is too long.
    fn head(&self) -> usize {
        self.cap / 2
    }

    /// Writes `bytes` to the file if the stream is too long for memory now;
    /// the first time, everything before them too.
    fn spill(&mut self, bytes: &[u8]) -> io::Result<()> {
        if let Some(file) = &mut self.spill {
            return file.write_all(bytes).map_err(|e| name(&self.path, &e));
        }
        if bytes.len() <= self.cap - self.kept.len() {
            return Ok(());
        }
        let mut file = create(&self.path)?;
        let written = file.write_all(&self.kept).and_then(|()| file.write_all(bytes));
        self.spill = Some(file);
        written.map_err(|e| name(&self.path, &e))
    }

    /// Appends bytes that fit, without ever reserving more than the cap.
    fn grow(&mut self, bytes: &[u8]) {
        let need = self.kept.len() + bytes.len();
        if need > self.kept.capacity() {
            let want = self.kept.capacity().saturating_mul(2).clamp(need, self.cap);
            self.kept.reserve_exact(want - self.kept.len());
        }
        self.kept.extend_from_slice(bytes);
    }

    /// Where in the ring the next byte goes, or the oldest one is.
    fn seam(&self) -> usize {
        let ring = (self.cap - self.head()) as u64;
        ((self.total - self.head() as u64) % ring) as usize
    }

    /// Writes bytes that come after the first `cap` over the oldest ones of
    /// the ring.
    fn turn(&mut self, bytes: &[u8]) {
        if self.cap == 0 || bytes.is_empty() {
            return;
        }
        let ring = self.cap - self.head();
        let skipped = bytes.len().saturating_sub(ring);
        let at = (self.seam() + skipped) % ring;
        let (last, head) = (&bytes[skipped..], self.head());
        let ring = &mut self.kept[head..];
        let (before, after) = last.split_at(last.len().min(ring.len() - at));
        ring[at..at + before.len()].copy_from_slice(before);
        ring[..after.len()].copy_from_slice(after);
    }

    /// Head, marker and tail in a row.
    fn join(mut self, marker: &[u8]) -> Vec<u8> {
        let head = self.head();
        if self.cap > 0 {
            let seam = self.seam();
            self.kept[head..].rotate_left(seam);
        }
        self.kept.reserve_exact(marker.len());
        self.kept.splice(head..head, marker.iter().copied());
        self.kept
    }
}

/// The line between head and tail.
fn marker(cut: &Truncated) -> Vec<u8> {
    let left_out = cut.total_bytes - cut.kept_bytes;
    let (file, held) = (cut.file.display(), cut.file_bytes);
    let what =
        if cut.is_whole() { "all of it is".to_owned() } else { format!("the first {held} are") };
    format!("\n[... {left_out} bytes left out; {what} in {file} ...]\n").into_bytes()
}

/// Makes a new file that only this user can read.
fn create(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    options.open(path).map_err(|e| name(path, &e))
}

fn name(path: &Path, error: &io::Error) -> io::Error {
    let path = path.display();
    io::Error::new(error.kind(), format!("cannot keep a long output in {path}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::os::unix::fs::PermissionsExt;

    fn capture(cap: usize, chunks: &[Vec<u8>], spill: &Path) -> Captured {
        let mut capture = Capture::new(cap, spill.to_owned());
        for chunk in chunks {
            capture.push(chunk).unwrap();
            assert!(capture.kept.capacity() <= cap, "more memory than the cap");
        }
        capture.finish().unwrap()
    }

    /// What `capture` should say of a stream that is `all` in the end.
    fn expected(cap: usize, all: &[u8], spill: &Path) -> Captured {
        if all.len() <= cap {
            return Captured { bytes: all.to_owned(), truncated: None };
        }
        let (head, tail) = (&all[..cap / 2], &all[all.len() - (cap - cap / 2)..]);
        let line = format!(
            "\n[... {} bytes left out; all of it is in {} ...]\n",
            all.len() - cap,
            spill.display()
        );
        let cut = Truncated {
            total_bytes: all.len() as u64,
            kept_bytes: cap as u64,
            file: spill.to_owned(),
            file_bytes: all.len() as u64,
        };
        Captured { bytes: [head, line.as_bytes(), tail].concat(), truncated: Some(cut) }
    }

    proptest! {
        #[test]
        fn every_byte_is_where_it_belongs(
            cap in 0_usize..70,
            chunks in proptest::collection::vec(
                proptest::collection::vec(any::<u8>(), 0..90), 0..12),
        ) {
            let dir = tempfile::tempdir().unwrap();
            let spill = dir.path().join("spill");
            let all = chunks.concat();
            let found = capture(cap, &chunks, &spill);
            prop_assert_eq!(&found, &expected(cap, &all, &spill));
            prop_assert_eq!(spill.exists(), all.len() > cap);
            if all.len() > cap {
                prop_assert_eq!(std::fs::read(&spill).unwrap(), all);
            }
        }
    }

    #[test]
    fn a_stream_as_long_as_the_cap_is_whole() {
        let dir = tempfile::tempdir().unwrap();
        let spill = dir.path().join("spill");
        let found = capture(4, &[b"ab".to_vec(), b"cd".to_vec()], &spill);
        assert_eq!(found, Captured { bytes: b"abcd".to_vec(), truncated: None });
        assert!(!spill.exists());
    }

    #[test]
    fn the_file_is_private() {
        let dir = tempfile::tempdir().unwrap();
        let spill = dir.path().join("spill");
        capture(1, &[b"ab".to_vec()], &spill);
        assert_eq!(spill.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_file_that_takes_no_more_is_not_said_to_hold_all() {
        let dir = tempfile::tempdir().unwrap();
        let spill = dir.path().join("spill");
        let mut capture = Capture::new(4, spill.clone());
        capture.push(b"abcdef").unwrap();
        // Open for reading alone, as good as a full disk.
        capture.spill = Some(File::open(&spill).unwrap());
        assert!(capture.push(b"gh").unwrap_err().to_string().contains("spill"));
        let found = capture.finish().unwrap();
        let cut = found.truncated.unwrap();
        assert_eq!((cut.total_bytes, cut.file_bytes, cut.is_whole()), (8, 6, false));
        let line =
            format!("\n[... 4 bytes left out; the first 6 are in {} ...]\n", spill.display());
        assert_eq!(String::from_utf8(found.bytes).unwrap(), format!("ab{line}gh"));
    }

    #[test]
    fn a_file_that_is_there_is_never_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let spill = dir.path().join("spill");
        std::fs::write(&spill, "old").unwrap();
        let mut capture = Capture::new(1, spill.clone());
        let error = capture.push(b"ab").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert!(error.to_string().contains("spill"));
        assert_eq!(std::fs::read(&spill).unwrap(), b"old");
    }
}
