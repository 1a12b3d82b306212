//! The state of a machine's devices, as QEMU streams it.
//!
//! ```text
//! mark, version      4 bytes each
//! configuration      the machine's name, and the migration's capabilities
//! sections           1 or 4, a number of 4 bytes, the length of a name, a name…
//! ```
//!
//! QEMU saves the devices of a machine that goes on without the configuration,
//! and loads none without it. But what a machine was restored from has the
//! same one.

use std::fs::File;
use std::io::{self, Read, Seek, Write};

use crate::machine::MAX_DEVICES;

/// The mark and the version, in bytes.
const HEAD: usize = 8;
/// A section's kind and number, in bytes.
const SECTION: usize = 5;
/// The first section of a machine that was saved as a whole.
const MEMORY: &[u8] = b"\x03ram";

/// Completes what QEMU wrote to `saved`; `restored` is what the machine began
/// with.
pub(crate) fn complete(saved: &mut File, restored: &[u8]) -> io::Result<()> {
    let bad = || io::Error::new(io::ErrorKind::InvalidData, "QEMU saved no state of its devices");
    let mut sections = Vec::new();
    saved.rewind()?;
    saved.take(MAX_DEVICES).read_to_end(&mut sections)?;
    let configuration = configuration(restored, &sections).ok_or_else(bad)?.to_vec();
    saved.rewind()?;
    saved.write_all(&sections[..HEAD])?;
    saved.write_all(&configuration)?;
    saved.write_all(&sections[HEAD..])
}

/// The configuration of a stream that has the same first section as `other`,
/// or its memory before.
fn configuration<'a>(stream: &'a [u8], other: &[u8]) -> Option<&'a [u8]> {
    let name = other.get(HEAD + SECTION..)?;
    let name = name.get(..1 + usize::from(*name.first()?))?;
    let find = |name: &[u8]| stream.windows(name.len()).position(|window| window == name);
    let found = [find(MEMORY), find(name)].into_iter().flatten().min()?;
    stream.get(HEAD..found.checked_sub(SECTION)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn section(kind: u8, name: &str) -> Vec<u8> {
        [&[kind, 0, 0, 0, 9, name.len() as u8], name.as_bytes(), b"state"].concat()
    }

    #[test]
    fn a_copy_of_a_copy_has_the_configuration_still() {
        let head = b"QEVM\0\0\0\x03";
        let configuration = b"\x07\0\0\0\x07microvm\x05some capability";
        let (ram, timer) = (section(1, "ram"), section(4, "timer"));
        let whole = [&head[..], configuration, &ram, &timer].concat();
        let copied = [&head[..], &timer, &section(4, "cpu")].concat();
        let wanted = [&head[..], configuration, &copied[HEAD..]].concat();
        let mut began = whole;
        for _ in 0..2 {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(&copied).unwrap();
            complete(&mut file, &began).unwrap();
            let mut found = Vec::new();
            file.rewind().unwrap();
            file.read_to_end(&mut found).unwrap();
            assert!(found == wanted);
            began = found;
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for bytes in [&b""[..], b"QEVM\0\0\0\x03", b"QEVM\0\0\0\x03\x04\0\0\0\0\xffx"] {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(bytes).unwrap();
            assert!(complete(&mut file, b"QEVM\0\0\0\x03\x07").is_err());
        }
    }
}
