//! Archives from text that a person can read and a fuzzer can change: a line
//! an entry. Checksums and lengths come out right, so that what is tried is
//! what entries say, and in which order.
//!
//! ```text
//! d NAME               a directory; the first is ./ in a tree
//! f NAME CONTENTS      a file
//! m NAME MAP CONTENTS  a file with holes; its map has commas for line ends
//! l NAME TARGET        a symbolic link
//! x KEY VALUE          a line of the pax record of the next entry
//! ? NAME TARGET        an entry of the kind that this letter stands for in tar
//! ```

use tar::{EntryType, Header};

const BLOCK: usize = 512;

/// The archive that the text stands for.
pub(crate) fn compose(text: &[u8]) -> Vec<u8> {
    let (mut out, mut record) = (Vec::new(), Vec::new());
    for line in text.split(|byte| *byte == b'\n') {
        let [kind, name, rest] = words(line);
        match kind {
            b"" => {}
            b"x" => pax(&mut record, name, rest),
            _ => {
                flush(&mut out, &mut record);
                entry(&mut out, kind[0], name, rest);
            }
        }
    }
    flush(&mut out, &mut record);
    close(&mut out);
    out
}

/// Fills an archive up to a whole block and closes it.
pub(crate) fn close(out: &mut Vec<u8>) {
    pad(out);
    out.extend([0; 2 * BLOCK]);
}

/// Corrects the checksum of each block that looks like a header.
pub(crate) fn repair(bytes: &mut [u8]) {
    for block in bytes.chunks_exact_mut(BLOCK).filter(|block| &block[257..262] == b"ustar") {
        let mut header = Header::new_old();
        header.as_mut_bytes().copy_from_slice(block);
        header.set_cksum();
        block.copy_from_slice(header.as_bytes());
    }
}

fn words(line: &[u8]) -> [&[u8]; 3] {
    let mut words = line.splitn(3, |byte| *byte == b' ');
    [(); 3].map(|()| words.next().unwrap_or_default())
}

fn entry(out: &mut Vec<u8>, kind: u8, name: &[u8], rest: &[u8]) {
    match kind {
        b'd' => header(out, EntryType::Directory, name, b"", 0),
        b'f' => filled(out, name, rest),
        b'm' => filled(out, name, &mapped(rest)),
        b'l' => header(out, EntryType::Symlink, name, rest, 0),
        other => header(out, EntryType::new(other), name, rest, 0),
    }
}

fn filled(out: &mut Vec<u8>, name: &[u8], contents: &[u8]) {
    header(out, EntryType::Regular, name, b"", contents.len());
    out.extend_from_slice(contents);
    pad(out);
}

/// The map in blocks of its own, then the data.
fn mapped(rest: &[u8]) -> Vec<u8> {
    let [map, data, more] = words(rest);
    let lines = |byte: &u8| if *byte == b',' { b'\n' } else { *byte };
    let mut contents: Vec<u8> = map.iter().map(lines).collect();
    pad(&mut contents);
    contents.extend_from_slice(data);
    contents.extend_from_slice(more);
    contents
}

/// Writes the record, if there is one, in front of the next entry.
fn flush(out: &mut Vec<u8>, record: &mut Vec<u8>) {
    if !record.is_empty() {
        header(out, EntryType::XHeader, b"pax", b"", record.len());
        out.append(record);
        pad(out);
    }
}

/// A line of a record; its length counts its own digits.
fn pax(record: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut len = rest + 1;
    while len != rest + len.to_string().len() {
        len += 1;
    }
    record.extend_from_slice(format!("{len} ").as_bytes());
    record.extend_from_slice(&[key, b"=", value, b"\n"].concat());
}

fn header(out: &mut Vec<u8>, kind: EntryType, name: &[u8], link: &[u8], len: usize) {
    let mut header = Header::new_ustar();
    let old = header.as_old_mut();
    put(&mut old.name, name);
    put(&mut old.linkname, link);
    header.set_entry_type(kind);
    header.set_mode(0o755);
    header.set_mtime(1);
    header.set_size(len as u64);
    header.set_cksum();
    out.extend_from_slice(header.as_bytes());
}

fn put(field: &mut [u8], bytes: &[u8]) {
    let len = bytes.len().min(field.len());
    field[..len].copy_from_slice(&bytes[..len]);
}

fn pad(bytes: &mut Vec<u8>) {
    bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
}
