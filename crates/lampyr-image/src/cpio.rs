//! A writer of cpio archives ("newc"), the format of an initramfs. The same
//! entries give the same bytes, always: no times, no owners, no host inodes.

/// An archive under construction. Directories go before what lies in them.
#[derive(Debug, Default)]
pub(crate) struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

/// The length of a page of the guest's memory.
const PAGE: usize = 4096;
const DIRECTORY: u32 = 0o040_000;
const FILE: u32 = 0o100_000;
const CHARACTER_DEVICE: u32 = 0o020_000;

impl Archive {
    /// Adds a directory. Paths are relative to the root: `lib/modules`.
    pub(crate) fn directory(&mut self, path: &str) {
        self.entry(path, DIRECTORY | 0o755, (0, 0), &[]);
    }

    /// Adds a file with the given permissions.
    pub(crate) fn file(&mut self, path: &str, permissions: u32, data: &[u8]) {
        self.entry(path, FILE | permissions, (0, 0), data);
    }

    /// Adds a character device, for root alone.
    pub(crate) fn character_device(&mut self, path: &str, major: u32, minor: u32) {
        self.entry(path, CHARACTER_DEVICE | 0o600, (major, minor), &[]);
    }

    /// The finished archive, in whole pages: QEMU loads it to the end of the
    /// guest's memory, and what is left of its last page may be taken for the
    /// tables of ACPI, although the archive reaches into them.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.entries = 0;
        self.header("TRAILER!!!", 0, 1, (0, 0), 0);
        let pages = self.bytes.len().next_multiple_of(PAGE);
        self.bytes.resize(pages, 0);
        self.bytes
    }

    fn entry(&mut self, path: &str, mode: u32, device: (u32, u32), data: &[u8]) {
        let links = if mode & DIRECTORY == DIRECTORY { 2 } else { 1 };
        self.entries += 1;
        self.header(path, mode, links, device, data.len());
        self.bytes.extend_from_slice(data);
        self.pad();
    }

    fn header(&mut self, path: &str, mode: u32, links: u32, device: (u32, u32), size: usize) {
        const OWNER: [u32; 2] = [0, 0];
        const NEVER: u32 = 0;
        const HOST_DEVICE: [u32; 2] = [0, 0];
        const CHECKSUM: u32 = 0;
        let (size, path_size) = (size as u32, path.len() as u32 + 1);
        let fields = [self.entries, mode, OWNER[0], OWNER[1], links, NEVER, size]
            .into_iter()
            .chain(HOST_DEVICE)
            .chain([device.0, device.1, path_size, CHECKSUM]);
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(path.as_bytes());
        self.bytes.push(0);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Vec<u8> {
        let mut archive = Archive::default();
        archive.directory("dev");
        archive.character_device("dev/console", 5, 1);
        archive.file("init", 0o755, b"hello");
        archive.finish()
    }

    #[test]
    fn the_same_entries_give_the_same_bytes() {
        assert_eq!(sample(), sample());
        assert_eq!(sample().len() % PAGE, 0);
    }

    #[test]
    fn the_bytes_are_those_of_the_format() {
        let text = String::from_utf8(sample()).unwrap();
        let golden = [
            "070701",
            "00000001",
            "000041ed",
            "00000000",
            "00000000",
            "00000002",
            "00000000",
            "00000000",
            "00000000",
            "00000000",
            "00000000",
            "00000000",
            "00000004",
            "00000000",
            "dev\0\0\0",
            "070701",
            "00000002",
            "00002180",
            "00000000",
            "00000000",
            "00000001",
            "00000000",
            "00000000",
            "00000000",
            "00000000",
            "00000005",
            "00000001",
            "0000000c",
            "00000000",
            "dev/console\0\0\0",
            "070701",
            "00000003",
            "000081ed",
            "00000000",
            "00000000",
            "00000001",
            "00000000",
            "00000005",
            "00000000",
            "00000000",
            "00000000",
            "00000000",
            "00000005",
            "00000000",
            "init\0\0hello\0\0\0",
        ];
        let golden = golden.concat();
        assert!(text.starts_with(&golden), "{text:?}\n{golden:?}");
        assert!(text[golden.len()..].starts_with("07070100000000"));
        assert!(text.trim_end_matches('\0').ends_with("TRAILER!!!"));
    }
}
