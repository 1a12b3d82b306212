//! What stands before an entry and says more of it than its header can.

use std::collections::BTreeMap;

use lampyr_ext4::Time;

use crate::LayerError;
use crate::sparse::{Map, damaged};

const XATTR: &str = "SCHILY.xattr.";

/// What the entry that follows has, other than its header says.
#[derive(Debug, Default)]
pub(crate) struct Extra {
    pub(crate) path: Option<Vec<u8>>,
    pub(crate) link: Option<Vec<u8>>,
    pub(crate) size: Option<u64>,
    pub(crate) uid: Option<u64>,
    pub(crate) gid: Option<u64>,
    pub(crate) time: Option<Time>,
    pub(crate) xattrs: BTreeMap<Box<[u8]>, Box<[u8]>>,
    /// The length of a file with holes.
    pub(crate) real_size: Option<u64>,
    pub(crate) map: Option<Map>,
    /// The map stands before the data.
    pub(crate) map_follows: bool,
    /// Where the stretch begins whose length comes next.
    offset: u64,
}

impl Extra {
    /// Adds the records of a pax header.
    pub(crate) fn read(&mut self, bytes: &[u8]) -> Result<(), LayerError> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let (record, behind) = record(rest).ok_or_else(bad_record)?;
            let split = record.iter().position(|&byte| byte == b'=').ok_or_else(bad_record)?;
            let key = std::str::from_utf8(&record[..split]).map_err(|_| bad_record())?;
            self.take(key, &record[split + 1..])?;
            rest = behind;
        }
        Ok(())
    }

    fn take(&mut self, key: &str, value: &[u8]) -> Result<(), LayerError> {
        match key {
            "path" | "GNU.sparse.name" => self.path = Some(value.to_vec()),
            "linkpath" => self.link = Some(value.to_vec()),
            "size" => self.size = Some(number(value)?),
            "uid" => self.uid = Some(number(value)?),
            "gid" => self.gid = Some(number(value)?),
            "mtime" => self.time = Some(time(value).ok_or_else(bad_record)?),
            "GNU.sparse.size" | "GNU.sparse.realsize" => self.real_size = Some(number(value)?),
            "GNU.sparse.major" => self.map_follows = value == b"1",
            "GNU.sparse.map" => self.map = Some(Map::parse(text(value)?)?),
            "GNU.sparse.offset" => self.offset = number(value)?,
            "GNU.sparse.numbytes" => {
                let len = number(value)?;
                self.map.get_or_insert_default().push(self.offset, len)?;
            }
            _ => {
                if let Some(name) = key.strip_prefix(XATTR) {
                    self.xattrs.insert(name.as_bytes().into(), value.into());
                }
            }
        }
        Ok(())
    }
}

/// The first record, without its length, and what is behind it.
fn record(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let space = bytes.iter().take(20).position(|&byte| byte == b' ')?;
    let len: usize = std::str::from_utf8(&bytes[..space]).ok()?.parse().ok()?;
    let (record, rest) = bytes.split_at_checked(len)?;
    let record = record.get(space + 1..)?.strip_suffix(b"\n")?;
    Some((record, rest))
}

fn text(value: &[u8]) -> Result<&str, LayerError> {
    std::str::from_utf8(value).map_err(|_| damaged())
}

fn number(value: &[u8]) -> Result<u64, LayerError> {
    text(value)?.parse().map_err(|_| bad_record())
}

/// Seconds with a fraction, possibly before 1970.
fn time(value: &[u8]) -> Option<Time> {
    let text = std::str::from_utf8(value).ok()?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let sec: i64 = whole.parse().ok()?;
    let digits: String = fraction.chars().chain("000000000".chars()).take(9).collect();
    let nsec: u32 = digits.parse().ok()?;
    Some(match (text.starts_with('-'), nsec) {
        (true, 1..) => Time { sec: sec.checked_sub(1)?, nsec: 1_000_000_000 - nsec },
        _ => Time { sec, nsec },
    })
}

fn bad_record() -> LayerError {
    LayerError::Damaged("it has a bad pax record".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn record_of(text: &str) -> String {
        let len = text.len() + 2;
        let digits = (len + (len + 2).to_string().len()).to_string().len();
        format!("{} {text}\n", len + digits)
    }

    #[test]
    fn records_say_more_than_a_header_can() {
        let mut extra = Extra::default();
        for text in ["uid=4000000000", "mtime=-1.25", "SCHILY.xattr.user.a=x\ny=z"] {
            extra.read(record_of(text).as_bytes()).unwrap();
        }
        assert_eq!(extra.uid, Some(4_000_000_000));
        assert_eq!(extra.time, Some(Time { sec: -2, nsec: 750_000_000 }));
        let (name, value) = extra.xattrs.pop_first().unwrap();
        assert_eq!((&*name, &*value), (&b"user.a"[..], &b"x\ny=z"[..]));
    }

    #[test]
    fn damaged_records_are_refused() {
        for bad in ["x", "6 a=b", "3 a", "99 a=b\n", "8 size=\n", "0 ", "6 abc\n", "9 uid=-1\n"] {
            assert!(Extra::default().read(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Extra::default().read(&bytes);
        }
    }
}
