//! An empty qcow2 layer, written by hand: four clusters, three of them holes.
//!
//! Format: QEMU's `docs/interop/qcow2.txt`, version 3. The header names no
//! backing file; the engine says at run time what lies beneath, so that no
//! layer can lead QEMU to a file of its choice.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

const CLUSTER_BITS: u32 = 16;
const CLUSTER: u64 = 1 << CLUSTER_BITS;
/// One second-level table maps a cluster's worth of 8-byte entries.
const PER_L1_ENTRY: u64 = CLUSTER / 8 * CLUSTER;
/// A refcount block of one cluster counts this many clusters (16 bit each).
const PER_REFCOUNT_BLOCK: u64 = CLUSTER / 2;

/// Makes an empty layer of `size` bytes at `path`, which must not exist.
pub(crate) fn make(path: &Path, size: u64) -> io::Result<()> {
    let l1_entries = size.div_ceil(PER_L1_ENTRY);
    let l1_clusters = (l1_entries * 8).div_ceil(CLUSTER).max(1);
    // Header, refcount table, refcount block, first-level table.
    let used = 3 + l1_clusters;
    if used > PER_REFCOUNT_BLOCK {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "a disk too large for a layer"));
    }
    let file = File::options().write(true).create_new(true).open(path)?;
    file.write_all_at(&header(size, l1_entries), 0)?;
    file.write_all_at(&(2 * CLUSTER).to_be_bytes(), CLUSTER)?;
    file.write_all_at(&1_u16.to_be_bytes().repeat(used as usize), 2 * CLUSTER)?;
    file.set_len(used * CLUSTER)
}

/// The length of a header.
const HEADER: usize = 104;

fn header(size: u64, l1_entries: u64) -> Vec<u8> {
    let mut h = Vec::with_capacity(HEADER);
    h.extend(b"QFI\xfb");
    h.extend(3_u32.to_be_bytes());
    h.extend([0; 12]); // no backing file: offset and length of its name
    h.extend(CLUSTER_BITS.to_be_bytes());
    h.extend(size.to_be_bytes());
    h.extend([0; 4]); // not encrypted
    h.extend((l1_entries as u32).to_be_bytes());
    h.extend((3 * CLUSTER).to_be_bytes()); // first-level table
    h.extend(CLUSTER.to_be_bytes()); // refcount table
    h.extend(1_u32.to_be_bytes()); // its clusters
    h.extend([0; 12]); // no internal snapshots: count and offset
    h.extend([0; 24]); // no feature bits
    h.extend(4_u32.to_be_bytes()); // refcounts of 2^4 bits
    h.extend((HEADER as u32).to_be_bytes());
    h
}

/// Requires that a layer is of `size` bytes and names no other file.
///
/// All that tells a layer of ours from one that leads somewhere is in the
/// header: a backing file, encryption, internal snapshots, and the features,
/// of which a file for the data is one. The engine names the layer beneath and
/// reads the tables as what a guest may have written.
pub(crate) fn check(layer: &File, size: u64) -> io::Result<()> {
    let bad = |what: &str| Err(io::Error::new(io::ErrorKind::InvalidData, what));
    let mut found = [0; HEADER];
    if layer.read_exact_at(&mut found, 0).is_err() || found[..8] != *b"QFI\xfb\0\0\0\x03" {
        return bad("it is no layer of a disk");
    }
    let fields = [0..36, 60..100];
    let wanted = header(size, 0);
    if fields.into_iter().any(|field| found[field.clone()] != wanted[field]) {
        return bad("it is a layer of another kind");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_layers_like_ours_are_taken() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        make(&path, 1 << 30).unwrap();
        let layer = File::options().read(true).write(true).open(&path).unwrap();
        check(&layer, 1 << 30).unwrap();
        assert!(check(&layer, 1 << 31).is_err());
        // A backing file, encryption, a snapshot, a file for the data, a
        // compression.
        for at in [15, 35, 63, 79, 87] {
            let mut byte = [0];
            layer.read_exact_at(&mut byte, at).unwrap();
            layer.write_all_at(&[byte[0] | 4], at).unwrap();
            assert!(check(&layer, 1 << 30).is_err(), "{at}");
            layer.write_all_at(&byte, at).unwrap();
        }
        check(&layer, 1 << 30).unwrap();
        layer.set_len(50).unwrap();
        assert!(check(&layer, 1 << 30).is_err());
    }

    #[test]
    fn a_layer_is_as_the_format_says() {
        let dir = tempfile::tempdir().unwrap();
        for size in [1 << 20, 8 << 30, 64 << 40] {
            let path = dir.path().join(size.to_string());
            make(&path, size).unwrap();
            let bytes = std::fs::read(&path).unwrap();
            let word = |at: usize| u64::from_be_bytes(bytes[at..at + 8].try_into().unwrap());
            assert_eq!(&bytes[..8], b"QFI\xfb\0\0\0\x03");
            assert_eq!(word(24), size);
            let l1_entries = u64::from(u32::from_be_bytes(bytes[36..40].try_into().unwrap()));
            assert!(l1_entries * PER_L1_ENTRY >= size);
            assert!(word(40) + l1_entries * 8 <= bytes.len() as u64);
            assert_eq!((word(40), word(48)), (3 * CLUSTER, CLUSTER));
        }
    }

    #[test]
    fn a_layer_never_replaces_a_file() {
        let dir = tempfile::tempdir().unwrap();
        make(&dir.path().join("x"), 1 << 30).unwrap();
        assert!(make(&dir.path().join("x"), 1 << 30).is_err());
    }
}
