//! What the guest's kernel has names for. A node is an entry of a directory:
//! where it was last seen, and which file that was, so that a name that means
//! another file by now is noticed.

use std::collections::HashMap;
use std::fs::File;
use std::sync::Arc;

use rustix::fs::{FileType, Stat};

use crate::errno::Errno;
use crate::sys;

/// The node of the directory itself.
pub(crate) const ROOT: u64 = 1;
/// A guest that never forgets has no more nodes than this.
const MAX_NODES: usize = 1 << 20;
/// A path that is longer no system call takes, in bytes.
const MAX_PATH: usize = 4096;

/// Which file it is, whatever its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Identity {
    device: u64,
    inode: u64,
    kind: u32,
}

impl Identity {
    #[allow(clippy::unnecessary_cast, reason = "macOS has narrower types")]
    pub(crate) fn of(stat: &Stat) -> Self {
        let kind = sys::bits(FileType::from_raw_mode(stat.st_mode).as_raw_mode());
        Self { device: stat.st_dev as u64, inode: stat.st_ino as u64, kind }
    }
}

#[derive(Debug)]
struct Node {
    parent: u64,
    /// `None`: it has no name any more.
    name: Option<Vec<u8>>,
    identity: Identity,
    lookups: u64,
    open: usize,
    file: Option<Arc<File>>,
}

/// All nodes.
#[derive(Debug)]
pub(crate) struct Nodes {
    all: HashMap<u64, Node>,
    known: HashMap<Identity, u64>,
    next: u64,
}

impl Nodes {
    pub(crate) fn new(root: Identity) -> Self {
        let name = Some(Vec::new());
        let node = Node { parent: ROOT, name, identity: root, lookups: 1, open: 0, file: None };
        Self { all: [(ROOT, node)].into(), known: [(root, ROOT)].into(), next: ROOT + 1 }
    }

    /// The kernel has found an entry: its node, old or new.
    pub(crate) fn found(&mut self, parent: u64, name: &[u8], stat: &Stat) -> Result<u64, Errno> {
        let identity = Identity::of(stat);
        if let Some(node) = self.known.get(&identity).copied().filter(|node| *node != ROOT) {
            let known = self.get_mut(node)?;
            (known.parent, known.name) = (parent, Some(name.to_vec()));
            known.lookups += 1;
            return Ok(node);
        }
        if self.all.len() >= MAX_NODES {
            return Err(Errno::NFILE);
        }
        let number = self.next;
        self.next += 1;
        let name = Some(name.to_vec());
        let node = Node { parent, name, identity, lookups: 1, open: 0, file: None };
        self.all.insert(number, node);
        self.known.insert(identity, number);
        Ok(number)
    }

    /// The kernel forgets so many of its findings.
    pub(crate) fn forget(&mut self, number: u64, lookups: u64) {
        let Some(node) = self.all.get_mut(&number).filter(|_| number != ROOT) else { return };
        node.lookups = node.lookups.saturating_sub(lookups);
        if node.lookups == 0 {
            let identity = node.identity;
            self.all.remove(&number);
            self.unknow(identity, number);
        }
    }

    fn unknow(&mut self, identity: Identity, number: u64) {
        if self.known.get(&identity) == Some(&number) {
            self.known.remove(&identity);
        }
    }

    fn get(&self, number: u64) -> Result<&Node, Errno> {
        self.all.get(&number).ok_or(Errno::STALE)
    }

    fn get_mut(&mut self, number: u64) -> Result<&mut Node, Errno> {
        self.all.get_mut(&number).ok_or(Errno::STALE)
    }

    /// The directory that it is in, and its name there.
    pub(crate) fn place(&self, number: u64) -> Result<(u64, &[u8]), Errno> {
        let node = self.get(number)?;
        let name = node.name.as_deref().ok_or(Errno::STALE)?;
        Ok((node.parent, if number == ROOT { b"." } else { name }))
    }

    /// Its path from the root on.
    pub(crate) fn path(&self, number: u64) -> Result<Vec<u8>, Errno> {
        let mut names = Vec::new();
        let (mut at, mut length) = (number, 1);
        while at != ROOT {
            let (parent, name) = self.place(at)?;
            length += name.len() + 1;
            // A chain of parents that bites its tail is longer, too.
            if length > MAX_PATH {
                return Err(Errno::NAMETOOLONG);
            }
            names.push(name);
            at = parent;
        }
        names.push(b".");
        names.reverse();
        Ok(names.join(&b'/'))
    }

    /// Refuses another file than the one that the kernel means. It looks the
    /// name up again then.
    pub(crate) fn check(&self, number: u64, stat: &Stat) -> Result<(), Errno> {
        let same = self.get(number)?.identity == Identity::of(stat);
        if same { Ok(()) } else { Err(Errno::STALE) }
    }

    /// An entry was renamed.
    pub(crate) fn moved(&mut self, from: (u64, &[u8]), to: (u64, &[u8]), stat: &Stat) {
        if let Some(number) = self.known.get(&Identity::of(stat)).copied()
            && let Some(node) = self.all.get_mut(&number)
            && node.parent == from.0
            && node.name.as_deref() == Some(from.1)
        {
            (node.parent, node.name) = (to.0, Some(to.1.to_vec()));
        }
    }

    /// An entry was removed. Returns whether somebody still has the file open.
    pub(crate) fn removed(&mut self, parent: u64, name: &[u8], stat: &Stat) -> bool {
        let identity = Identity::of(stat);
        let Some(number) = self.known.get(&identity).copied() else { return false };
        let Some(node) = self.all.get_mut(&number) else { return false };
        if node.parent == parent && node.name.as_deref() == Some(name) {
            node.name = None;
        }
        let open = node.open > 0;
        // The number of an inode that is gone is soon another file's.
        if stat.st_nlink <= 1 {
            node.name = None;
            self.unknow(identity, number);
        }
        open
    }

    /// Somebody opened it.
    pub(crate) fn opened(&mut self, number: u64, file: &Arc<File>) -> Result<(), Errno> {
        let node = self.get_mut(number)?;
        node.open += 1;
        node.file = Some(file.clone());
        Ok(())
    }

    /// Somebody closed it. Returns whether nothing leads to the file any more.
    pub(crate) fn closed(&mut self, number: u64) -> bool {
        let Some(node) = self.all.get_mut(&number) else { return false };
        node.open = node.open.saturating_sub(1);
        if node.open == 0 {
            node.file = None;
        }
        node.open == 0 && node.name.is_none()
    }

    /// An open file of it, by which a file without a name can be reached.
    pub(crate) fn file(&self, number: u64) -> Option<Arc<File>> {
        self.all.get(&number)?.file.clone()
    }
}
