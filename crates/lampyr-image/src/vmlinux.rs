//! The kernel inside Debian's `vmlinuz`, ready to be booted as it is.
//!
//! A `vmlinuz` unpacks itself in the guest, at the guest's speed: under
//! emulation two thirds of a second of every cold boot. An x86 kernel that has
//! the entry point for PVH machines needs none of its own boot code, so it is
//! unpacked here, once.

use std::io::Read;

/// The most that a kernel may unpack to; Debian's is 53 MB.
const MAX_KERNEL: u64 = 256 << 20;

/// Where the boot sector says how many sectors of boot code follow it.
const SETUP_SECTORS: usize = 0x1f1;
/// "`HdrS`", by which a boot sector that has the fields below is known.
const MAGIC: usize = 0x202;
/// Where the packed kernel begins, counted from the end of the boot code.
const PAYLOAD_OFFSET: usize = 0x248;
/// How long it is, with the size of the unpacked one in its last four bytes.
const PAYLOAD_LENGTH: usize = 0x24c;

/// The note in a kernel that says where a PVH machine enters it, as the ELF
/// note's header: the name's length, the content's, and the type (18).
const PVH_NOTES: [&[u8]; 2] =
    [b"\x04\0\0\0\x04\0\0\0\x12\0\0\0Xen\0", b"\x04\0\0\0\x08\0\0\0\x12\0\0\0Xen\0"];

/// The ELF kernel in `vmlinuz`; `None` where it is not packed in a way known
/// here or could not be booted without its boot code.
pub(crate) fn unpack(vmlinuz: &[u8]) -> Option<Vec<u8>> {
    let packed = payload(vmlinuz)?;
    let mut kernel = Vec::new();
    let mut unpacker = lz4_flex::frame::FrameDecoder::new(packed).take(MAX_KERNEL);
    unpacker.read_to_end(&mut kernel).ok()?;
    let enters = |note: &&[u8]| kernel.windows(note.len()).any(|bytes| bytes == *note);
    (kernel.starts_with(b"\x7fELF") && PVH_NOTES.iter().any(enters)).then_some(kernel)
}

fn payload(vmlinuz: &[u8]) -> Option<&[u8]> {
    if vmlinuz.get(MAGIC..MAGIC + 4)? != b"HdrS" {
        return None;
    }
    let word = |at: usize| {
        let bytes = vmlinuz.get(at..at + 4)?.try_into().ok()?;
        usize::try_from(u32::from_le_bytes(bytes)).ok()
    };
    let boot_code = (usize::from(vmlinuz[SETUP_SECTORS]) + 1) * 512;
    let begin = boot_code.checked_add(word(PAYLOAD_OFFSET)?)?;
    let end = begin.checked_add(word(PAYLOAD_LENGTH)?)?.checked_sub(4)?;
    vmlinuz.get(begin..end)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A `vmlinuz` whose packed part is `packed`.
    fn vmlinuz(packed: &[u8]) -> Vec<u8> {
        let mut file = vec![0; 1024 + 16];
        file[SETUP_SECTORS] = 1;
        file[MAGIC..MAGIC + 4].copy_from_slice(b"HdrS");
        file[PAYLOAD_OFFSET] = 16;
        let length = u32::try_from(packed.len() + 4).unwrap();
        file[PAYLOAD_LENGTH..PAYLOAD_LENGTH + 4].copy_from_slice(&length.to_le_bytes());
        file.extend_from_slice(packed);
        file.extend_from_slice(&[0; 4]);
        file
    }

    /// As the kernel's build packs it: the frame that LZ4 had first.
    fn packed(kernel: &[u8]) -> Vec<u8> {
        let block = lz4_flex::block::compress(kernel);
        let mut frame = 0x184c_2102_u32.to_le_bytes().to_vec();
        frame.extend_from_slice(&u32::try_from(block.len()).unwrap().to_le_bytes());
        frame.extend_from_slice(&block);
        frame
    }

    fn kernel(note: &[u8]) -> Vec<u8> {
        [b"\x7fELF".as_slice(), &[7; 5000], note, &[9; 5000]].concat()
    }

    #[test]
    fn a_kernel_with_an_entry_for_pvh_is_unpacked() {
        for note in PVH_NOTES {
            assert_eq!(unpack(&vmlinuz(&packed(&kernel(note)))), Some(kernel(note)));
        }
    }

    #[test]
    fn any_other_file_is_left_as_it_is() {
        let good = vmlinuz(&packed(&kernel(PVH_NOTES[0])));
        let mut nameless = good.clone();
        nameless[MAGIC] = 0;
        let mut wild = good.clone();
        wild[PAYLOAD_OFFSET..PAYLOAD_OFFSET + 4].fill(0xff);
        for file in [
            vmlinuz(&packed(&kernel(b"no note"))),
            vmlinuz(b"\x1f\x8b another packer"),
            good[..good.len() - 20].to_vec(),
            b"MZ".to_vec(),
            nameless,
            wild,
        ] {
            assert_eq!(unpack(&file), None);
        }
    }
}
