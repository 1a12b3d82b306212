//! What the guest has open.

use std::collections::HashMap;
use std::fs::File;
use std::sync::Arc;

use rustix::process::{Resource, getrlimit};

use crate::errno::Errno;

/// A guest has never more files open than this.
const MAX_OPEN: u64 = 16 * 1024;

/// A file or directory that is open.
#[derive(Debug)]
pub(crate) enum Handle {
    /// `failed`: a write that was answered before it was done.
    File {
        node: u64,
        file: Arc<File>,
        failed: Option<Errno>,
    },
    Directory {
        node: u64,
        listing: Vec<Listed>,
    },
}

/// One entry of a directory.
#[derive(Debug)]
pub(crate) struct Listed {
    pub(crate) name: Vec<u8>,
    pub(crate) inode: u64,
    /// Its type as `readdir` has it.
    pub(crate) kind: u32,
}

/// All that is open.
#[derive(Debug)]
pub(crate) struct Handles {
    open: HashMap<u64, Handle>,
    next: u64,
    most: usize,
}

impl Handles {
    pub(crate) fn new() -> Self {
        // The process needs files for others, too.
        let limit = getrlimit(Resource::Nofile).current.map_or(MAX_OPEN, |limit| limit / 4);
        Self { open: HashMap::new(), next: 1, most: limit.min(MAX_OPEN) as usize }
    }

    pub(crate) fn add(&mut self, handle: Handle) -> u64 {
        let number = self.next;
        self.next += 1;
        self.open.insert(number, handle);
        number
    }

    /// Refuses where too much is open already.
    pub(crate) fn check_room(&self) -> Result<(), Errno> {
        if self.open.len() < self.most { Ok(()) } else { Err(Errno::NFILE) }
    }

    pub(crate) fn file(&self, number: u64) -> Result<Arc<File>, Errno> {
        match self.open.get(&number) {
            Some(Handle::File { file, .. }) => Ok(file.clone()),
            _ => Err(Errno::BADF),
        }
    }

    /// A write that was answered already has failed: the next who asks is told.
    pub(crate) fn fail(&mut self, number: u64, errno: Errno) {
        if let Some(Handle::File { failed, .. }) = self.open.get_mut(&number) {
            *failed = Some(errno);
        }
    }

    /// Tells of such a failure, once.
    pub(crate) fn told(&mut self, number: u64) -> Result<(), Errno> {
        match self.open.get_mut(&number) {
            Some(Handle::File { failed, .. }) => failed.take().map_or(Ok(()), Err),
            _ => Ok(()),
        }
    }

    /// The listing of a directory, and which node it is.
    pub(crate) fn directory(&mut self, number: u64) -> Result<(u64, &mut Vec<Listed>), Errno> {
        match self.open.get_mut(&number) {
            Some(Handle::Directory { node, listing }) => Ok((*node, listing)),
            _ => Err(Errno::BADF),
        }
    }

    pub(crate) fn remove(&mut self, number: u64) -> Option<Handle> {
        self.open.remove(&number)
    }
}
