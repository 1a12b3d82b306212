//! Extended attributes, in a block of their own.

use std::collections::BTreeMap;

use crate::bytes::Record;
use crate::{BLOCK, Ext4Error};

const HEADER: usize = 32;
/// The end of the entries is four zeros.
const END: usize = 4;
/// Name spaces and their numbers. Longer ones first: `system.` comes last.
const SPACES: [(&[u8], u8); 6] = [
    (b"system.posix_acl_access", 2),
    (b"system.posix_acl_default", 3),
    (b"user.", 1),
    (b"trusted.", 4),
    (b"security.", 6),
    (b"system.", 7),
];

type Attributes = BTreeMap<Box<[u8]>, Box<[u8]>>;

/// An attribute as ext4 keeps it.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    space: u8,
    name_len: u8,
    name: Vec<u8>,
    value: Vec<u8>,
}

/// The block that holds `attributes`. Names in a space that ext4 does not
/// know are left out, as the kernel would refuse them.
pub(crate) fn block(attributes: &Attributes) -> Result<[u8; BLOCK as usize], Ext4Error> {
    let mut entries: Vec<Entry> =
        attributes.iter().filter_map(|(name, value)| entry(name, value)).collect();
    entries.sort();
    let mut block = Record::<{ BLOCK as usize }>::new();
    block.u32(0, 0xea02_0000);
    block.u32(4, 1);
    block.u32(8, 1);
    let (mut at, mut value_at) = (HEADER, BLOCK as usize);
    for entry in &entries {
        let len = (16 + entry.name.len()).next_multiple_of(4);
        let room = entry.value.len().next_multiple_of(4);
        if at + len + END + room > value_at {
            return Err(Ext4Error::TooManyAttributes);
        }
        value_at -= room;
        block.put(value_at, &entry.value);
        block.put(at, &head(entry, if room > 0 { value_at } else { 0 }));
        block.put(at + 16, &entry.name);
        at += len;
    }
    Ok(block.0)
}

fn head(entry: &Entry, value_at: usize) -> [u8; 16] {
    let mut head = Record::<16>::new();
    head.u8(0, entry.name_len);
    head.u8(1, entry.space);
    head.u16(2, value_at as u16);
    head.u32(8, entry.value.len() as u32);
    head.u32(12, hash(entry));
    head.0
}

fn entry(name: &[u8], value: &[u8]) -> Option<Entry> {
    let (space, name) = SPACES.iter().find_map(|(prefix, space)| {
        let rest = name.strip_prefix(*prefix)?;
        // The lists of access rights are whole names.
        (prefix.ends_with(b".") != rest.is_empty()).then_some((*space, rest))
    })?;
    let value = if matches!(space, 2 | 3) { access_list(value)? } else { value.to_vec() };
    Some(Entry { space, name_len: u8::try_from(name.len()).ok()?, name: name.to_vec(), value })
}

/// A list of access rights, from the form that programs see to the one that
/// ext4 keeps: without the number where an entry has none.
fn access_list(value: &[u8]) -> Option<Vec<u8>> {
    const USER: [u8; 2] = 2_u16.to_le_bytes();
    const GROUP: [u8; 2] = 8_u16.to_le_bytes();
    let entries = value.strip_prefix(&2_u32.to_le_bytes())?;
    let mut kept = 1_u32.to_le_bytes().to_vec();
    for entry in entries.chunks(8) {
        let entry: &[u8; 8] = entry.try_into().ok()?;
        let numbered = entry.starts_with(&USER) || entry.starts_with(&GROUP);
        kept.extend_from_slice(if numbered { entry } else { &entry[..4] });
    }
    Some(kept)
}

/// The check that is kept with an entry.
fn hash(entry: &Entry) -> u32 {
    let name = entry.name.iter().fold(0_u32, |hash, byte| hash.rotate_left(5) ^ u32::from(*byte));
    entry.value.chunks(4).fold(name, |hash, piece| {
        let mut word = [0; 4];
        word[..piece.len()].copy_from_slice(piece);
        hash.rotate_left(16) ^ u32::from_le_bytes(word)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(name: &[u8], value: &[u8]) -> Attributes {
        BTreeMap::from([(name.into(), value.into())])
    }

    #[test]
    fn what_does_not_fit_a_block_is_refused() {
        assert!(block(&one(b"user.x", &[1; 4000])).is_ok());
        let error = block(&one(b"user.x", &[1; 4096]));
        assert!(matches!(error, Err(Ext4Error::TooManyAttributes)));
    }

    #[test]
    fn access_lists_lose_the_numbers_that_they_have_not() {
        let seen = [
            &2_u32.to_le_bytes()[..],
            &[1, 0, 6, 0, 255, 255, 255, 255],
            &[2, 0, 4, 0, 9, 0, 0, 0],
        ];
        let kept = access_list(&seen.concat()).unwrap();
        assert_eq!(kept, [1, 0, 0, 0, 1, 0, 6, 0, 2, 0, 4, 0, 9, 0, 0, 0]);
        assert_eq!(access_list(b"nonsense"), None);
    }
}
