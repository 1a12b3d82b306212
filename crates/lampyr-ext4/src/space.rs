//! Which blocks are taken. Blocks are given out in order and never again.

use crate::{DESCRIPTOR_BLOCKS, Ext4Error, GROUP, MOST_BLOCKS};

/// Blocks at the beginning of a group that has copies.
pub(crate) const COPIES: u64 = 1 + DESCRIPTOR_BLOCKS;

/// Whether a group begins with a copy of superblock and descriptors.
pub(crate) fn has_copies(group: u64) -> bool {
    let power_of = |base: u64| {
        let mut power = base;
        while power < group {
            power *= base;
        }
        power == group
    };
    group <= 1 || power_of(3) || power_of(5) || power_of(7)
}

/// The groups with copies among the first `groups`, but for group 0.
pub(crate) fn copies(groups: u64) -> impl Iterator<Item = u64> {
    (1..groups).filter(|&group| has_copies(group))
}

/// Blocks that follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) start: u64,
    pub(crate) len: u64,
}

#[derive(Debug)]
pub(crate) struct Space {
    /// The next block that was never given out.
    next: u64,
    /// A bit for each block below `next`.
    taken: Vec<u64>,
    /// What was given back.
    freed: Vec<Run>,
}

impl Space {
    pub(crate) fn new() -> Self {
        let mut space = Self { next: 0, taken: Vec::new(), freed: Vec::new() };
        space.mark(Run { start: 0, len: COPIES });
        space.next = COPIES;
        space
    }

    /// Blocks below this were given out once.
    pub(crate) fn end(&self) -> u64 {
        self.next
    }

    /// What was given back.
    pub(crate) fn freed(&self) -> &[Run] {
        &self.freed
    }

    /// Takes up to `most` blocks that follow each other.
    pub(crate) fn take(&mut self, most: u64) -> Result<Run, Ext4Error> {
        self.step_over_copies();
        let border = self.next_copies();
        let run = Run { start: self.next, len: most.min(border - self.next) };
        self.give(run)
    }

    /// Takes exactly `len` blocks that follow each other.
    pub(crate) fn take_whole(&mut self, len: u64) -> Result<Run, Ext4Error> {
        self.step_over_copies();
        let border = self.next_copies();
        if self.next + len > border {
            self.next = border;
            self.step_over_copies();
        }
        self.give(Run { start: self.next, len })
    }

    fn give(&mut self, run: Run) -> Result<Run, Ext4Error> {
        if run.start + run.len > MOST_BLOCKS {
            return Err(Ext4Error::TooLarge);
        }
        self.mark(run);
        self.next = run.start + run.len;
        Ok(run)
    }

    /// Where copies begin behind the next block, or the group after its own
    /// ends.
    fn next_copies(&self) -> u64 {
        let mut group = self.next / GROUP + 1;
        if !has_copies(group) {
            group += 1;
        }
        group * GROUP
    }

    fn step_over_copies(&mut self) {
        let group = self.next / GROUP;
        if self.next.is_multiple_of(GROUP) && has_copies(group) {
            self.mark(Run { start: self.next, len: COPIES });
            self.next += COPIES;
        }
    }

    /// Gives blocks back.
    pub(crate) fn free(&mut self, run: Run) {
        for block in run.start..run.start + run.len {
            if let Some(word) = self.taken.get_mut((block / 64) as usize) {
                *word &= !(1 << (block % 64));
            }
        }
        self.freed.push(run);
    }

    fn mark(&mut self, run: Run) {
        let words = ((run.start + run.len).div_ceil(64)) as usize;
        if self.taken.len() < words {
            self.taken.resize(words, 0);
        }
        for block in run.start..run.start + run.len {
            self.taken[(block / 64) as usize] |= 1 << (block % 64);
        }
    }

    /// Marks the copies in all of the first `groups`.
    pub(crate) fn mark_copies(&mut self, groups: u64) {
        for group in copies(groups) {
            self.mark(Run { start: group * GROUP, len: COPIES });
        }
    }

    /// The bitmap of a group of a disk of `blocks`; there are no blocks behind
    /// its end, so they count as taken.
    pub(crate) fn bitmap(&self, group: u64, blocks: u64) -> [u8; GROUP as usize / 8] {
        let mut bits = [0; GROUP as usize / 8];
        let first = (group * GROUP / 64) as usize;
        let words = self.taken.get(first..).unwrap_or_default();
        for (place, word) in bits.chunks_exact_mut(8).zip(words) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        for block in blocks.saturating_sub(group * GROUP)..GROUP {
            bits[(block / 8) as usize] |= 1 << (block % 8);
        }
        bits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_are_where_the_kernel_looks_for_them() {
        let found: Vec<u64> = copies(130).collect();
        assert_eq!(found, [1, 3, 5, 7, 9, 25, 27, 49, 81, 125]);
    }

    #[test]
    fn runs_end_where_copies_begin() {
        let mut space = Space::new();
        let first = space.take(GROUP * 2).unwrap();
        assert_eq!(first, Run { start: COPIES, len: GROUP - COPIES });
        let second = space.take(GROUP * 9).unwrap();
        assert_eq!(second, Run { start: GROUP + COPIES, len: 2 * GROUP - COPIES });
        assert_eq!(space.take_whole(GROUP - COPIES).unwrap().start, 3 * GROUP + COPIES);
        assert_eq!(space.take_whole(GROUP).unwrap().start, 4 * GROUP);
    }

    #[test]
    fn what_was_given_back_is_free_and_what_is_not_there_is_taken() {
        let mut space = Space::new();
        let run = space.take(64).unwrap();
        space.free(Run { start: run.start, len: 1 });
        let bits = space.bitmap(0, 256);
        let taken = |block: u64| bits[(block / 8) as usize] >> (block % 8) & 1 == 1;
        assert!(taken(0) && taken(COPIES - 1) && !taken(COPIES) && taken(COPIES + 1));
        assert!(!taken(COPIES + 64) && !taken(255) && taken(256) && taken(GROUP - 1));
    }
}
