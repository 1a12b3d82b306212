//! One file and what it should hold.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, fallocate};
use rustix::mm::{MapFlags, MsyncFlags, ProtFlags, mmap, msync, munmap};

/// The file is never longer than this.
const MOST: usize = 600_000;

/// Does `count` things to a file, chosen by `seed`.
pub(crate) fn compare(dir: &Path, seed: u64, count: usize) {
    let path = dir.join(format!("model-{seed}"));
    let mut tried = Tried { file: open(&path), path, model: Vec::new(), dice: Dice(seed | 1) };
    for step in 0..count {
        let action = tried.act();
        tried.check(&format!("seed {seed}, step {step}: {action}"));
    }
    println!("{count} steps, {} bytes", tried.model.len());
}

fn open(path: &Path) -> File {
    File::options().create(true).truncate(false).read(true).write(true).open(path).unwrap()
}

/// Numbers that look random (xorshift).
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit as u64) as usize
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        let first = self.below(256);
        (0..length).map(|i| (first + i * 7) as u8).collect()
    }
}

struct Tried {
    file: File,
    path: PathBuf,
    model: Vec<u8>,
    dice: Dice,
}

impl Tried {
    fn act(&mut self) -> String {
        let offset = self.dice.below(MOST - 100_000);
        let length = 1 + self.dice.below(100_000);
        match self.dice.below(9) {
            0..=2 => self.write(offset, length),
            3 => self.write_mapped(length),
            4 => self.truncate(offset),
            5 => self.punch(offset, length),
            6 => self.reopen(),
            7 => self.append(length),
            _ => self.sync(),
        }
    }

    fn write(&mut self, offset: usize, length: usize) -> String {
        let bytes = self.dice.bytes(length);
        self.file.write_all_at(&bytes, offset as u64).unwrap();
        self.put(offset, &bytes);
        format!("write {length} at {offset}")
    }

    fn put(&mut self, offset: usize, bytes: &[u8]) {
        let end = offset + bytes.len();
        self.model.resize(self.model.len().max(end), 0);
        self.model[offset..end].copy_from_slice(bytes);
    }

    fn append(&mut self, length: usize) -> String {
        use std::io::Write;
        if self.model.len() + length > MOST {
            return "nothing".into();
        }
        let bytes = self.dice.bytes(length);
        let mut file = File::options().append(true).open(&self.path).unwrap();
        file.write_all(&bytes).unwrap();
        self.put(self.model.len(), &bytes);
        format!("append {length}")
    }

    fn write_mapped(&mut self, length: usize) -> String {
        if self.model.is_empty() {
            return "nothing".into();
        }
        let length = length.min(self.model.len());
        let offset = self.dice.below(self.model.len() - length + 1);
        let bytes = self.dice.bytes(length);
        let both = ProtFlags::READ | ProtFlags::WRITE;
        let whole = self.model.len();
        // SAFETY: the mapping is as long as the file, which nobody shortens
        // meanwhile, and it is gone before this returns.
        unsafe {
            let at = mmap(std::ptr::null_mut(), whole, both, MapFlags::SHARED, &self.file, 0);
            let at = at.unwrap();
            std::slice::from_raw_parts_mut(at.cast::<u8>(), whole)[offset..offset + length]
                .copy_from_slice(&bytes);
            msync(at, whole, MsyncFlags::SYNC).unwrap();
            munmap(at, whole).unwrap();
        }
        self.put(offset, &bytes);
        format!("write {length} at {offset} through memory")
    }

    fn truncate(&mut self, length: usize) -> String {
        self.file.set_len(length as u64).unwrap();
        self.model.resize(length, 0);
        format!("truncate to {length}")
    }

    fn punch(&mut self, offset: usize, length: usize) -> String {
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        fallocate(&self.file, flags, offset as u64, length as u64).unwrap();
        let end = (offset + length).min(self.model.len());
        if offset < end {
            self.model[offset..end].fill(0);
        }
        format!("punch {length} at {offset}")
    }

    fn reopen(&mut self) -> String {
        self.file = open(&self.path);
        "reopen".into()
    }

    fn sync(&mut self) -> String {
        if self.dice.below(2) == 0 {
            self.file.sync_all().unwrap();
        } else {
            self.file.sync_data().unwrap();
        }
        "sync".into()
    }

    /// Reads a piece, its length, and now and then everything.
    fn check(&mut self, after: &str) {
        assert_eq!(self.file.metadata().unwrap().len(), self.model.len() as u64, "{after}");
        if self.dice.below(10) == 0 {
            assert!(std::fs::read(&self.path).unwrap() == self.model, "all of it, after {after}");
        }
        if self.model.is_empty() {
            return;
        }
        let offset = self.dice.below(self.model.len());
        let length = (1 + self.dice.below(50_000)).min(self.model.len() - offset);
        let mut bytes = vec![0; length];
        self.file.read_exact_at(&mut bytes, offset as u64).unwrap();
        assert!(
            bytes == self.model[offset..offset + length],
            "{length} at {offset}, after {after}"
        );
    }
}
