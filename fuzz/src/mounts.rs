//! Properties of `lampyr-mount`.

use std::fs;
use std::path::Path;

use lampyr_mount::{Export, Quota, Server, recount};

use crate::memory::within;
use crate::room::{Room, sure};

/// A reply of a megabyte, what it is copied to, and some nodes.
const BUFFERS: usize = 4 << 20;
/// What the directory may hold: nothing is to fill a real disk.
const LIMIT: u64 = 1 << 20;

thread_local! {
    static ROOM: Room = Room::new();
}

/// Bytes as they come, and as a chain of requests: a byte for what is asked,
/// one for the node, one for the length of what follows. Nothing outside of
/// the directory changes.
pub fn mount(bytes: &[u8]) {
    ROOM.with(|room| {
        for asked in [bytes.to_vec(), requests(bytes)] {
            let target = room.target();
            sure(&target, fs::create_dir(&target));
            sure(&target, std::os::unix::fs::symlink("../canary", target.join("l")));
            within(BUFFERS + 100 * bytes.len(), || serve(&target, &asked));
            room.check_outside();
            room.clear();
        }
    });
}

fn serve(target: &Path, asked: &[u8]) {
    let Ok(count) = tempfile::NamedTempFile::new() else { panic!("no file") };
    sure(count.path(), recount(target, count.path()));
    let quota = Quota::open(LIMIT, count.path());
    let server = quota.and_then(|quota| Export::open(target, false, Some(quota)));
    let Ok(mut server) = server.and_then(Server::new) else { panic!("no server") };
    // A guest that is not understood is not heard any more.
    let _ = server.serve(asked, |reply| assert!(reply.len() >= 16));
}

/// Such a chain as a guest's kernel would send it.
pub(crate) fn requests(mut chain: &[u8]) -> Vec<u8> {
    let mut all = Vec::new();
    while let Some(([opcode, node, length], rest)) = chain.split_first_chunk() {
        let (body, rest) = rest.split_at(rest.len().min((*length).into()));
        all.extend((40 + body.len() as u32).to_le_bytes());
        all.extend(u32::from(*opcode).to_le_bytes());
        all.extend(1_u64.to_le_bytes());
        all.extend(u64::from(*node).to_le_bytes());
        all.extend([0; 16]);
        all.extend(body);
        chain = rest;
    }
    all
}
