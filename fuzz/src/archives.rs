//! Properties of `lampyr-tree`.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use lampyr_tree::{Limits, Summary, TreeError, pack, unpack};

use crate::compose::{close, compose, repair};
use crate::memory::within;
use crate::room::Room;

/// Small, so that an input takes no long time: holes cost nothing to announce.
const LIMITS: Limits = Limits { bytes: 1 << 20, entries: 1000 };

/// The buffers of a reader, and the names that lead to an entry.
const BUFFERS: usize = 256 * 1024;

thread_local! {
    static ROOM: Room = Room::new();
}

/// Bytes that are an archive as they are, and the same with what a fuzzer
/// cannot guess put right: checksums and a proper end.
pub fn archive(bytes: &[u8]) {
    let mut repaired = bytes.to_vec();
    close(&mut repaired);
    repair(&mut repaired);
    ROOM.with(|room| {
        check(room, bytes);
        check(room, &repaired);
    });
}

/// Text that stands for an archive. `@` is the path of the canary.
pub fn entries(text: &[u8]) {
    ROOM.with(|room| {
        let canary = room.canary();
        let text: Vec<&[u8]> = text.split(|byte| *byte == b'@').collect();
        check(room, &compose(&text.join(canary.as_os_str().as_bytes())));
    });
}

/// Nothing outside the target changes, even where the archive meets all that
/// it has made before. What could be unpacked can be packed again.
fn check(room: &Room, archive: &[u8]) {
    let first = unpacked(archive, &room.target());
    let _ = unpacked(archive, &room.target());
    room.check_outside();
    if first.is_ok() {
        round_trip(room);
    }
    room.clear();
}

fn unpacked(archive: &[u8], target: &Path) -> Result<Summary, TreeError> {
    within(BUFFERS + 100 * archive.len(), || unpack(archive, target, LIMITS))
}

/// The target, its archive, and the archive of what is unpacked from that are
/// all the same. What has lost its rights or lies too deep is not packed.
fn round_trip(room: &Room) {
    let Ok(archive) = packed(&room.target()) else { return };
    if let Err(error) = unpack(archive.as_slice(), &room.twin(), Limits::default()) {
        panic!("our own archive is refused: {error}");
    }
    let again = packed(&room.twin()).unwrap_or_else(|error| panic!("cannot pack again: {error}"));
    assert!(again == archive, "the copy is not like its original");
}

fn packed(source: &Path) -> Result<Vec<u8>, TreeError> {
    let mut archive = Vec::new();
    pack(source, &mut archive)?;
    Ok(archive)
}
