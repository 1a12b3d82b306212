//! The pax record before an entry: lines of `length key=value`.

use crate::entry::Time;
use crate::error::{TreeError, damaged};

/// What a record says; unknown keys say nothing.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) path: Option<Vec<u8>>,
    pub(crate) link: Option<Vec<u8>>,
    pub(crate) time: Option<Time>,
    /// The size of a file with holes; its contents begin with their map.
    pub(crate) sparse: Option<u64>,
}

impl Record {
    /// The bytes of this record.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let mut put = |key: &str, value: &[u8]| line(&mut out, key, value);
        self.path.iter().for_each(|path| put("path", path));
        self.link.iter().for_each(|link| put("linkpath", link));
        self.time.iter().for_each(|time| put("mtime", decimal(*time).as_bytes()));
        if let Some(size) = self.sparse {
            put("GNU.sparse.major", b"1");
            put("GNU.sparse.minor", b"0");
            put("GNU.sparse.realsize", size.to_string().as_bytes());
        }
        out
    }

    /// Reads a record from all of `bytes`.
    pub(crate) fn decode(mut bytes: &[u8]) -> Result<Self, TreeError> {
        let mut record = Self::default();
        while !bytes.is_empty() {
            let (key, value, rest) =
                split(bytes).ok_or_else(|| damaged("a pax record has a broken line"))?;
            record.set(key, value).ok_or_else(|| damaged("a pax record has a bad number"))?;
            bytes = rest;
        }
        Ok(record)
    }

    fn set(&mut self, key: &[u8], value: &[u8]) -> Option<()> {
        match key {
            b"path" => self.path = Some(value.to_owned()),
            b"linkpath" => self.link = Some(value.to_owned()),
            b"mtime" => self.time = Some(parse_time(value)?),
            b"GNU.sparse.realsize" => self.sparse = Some(number(value)?),
            _ => {}
        }
        Some(())
    }
}

/// Appends one line; its length counts its own digits.
fn line(out: &mut Vec<u8>, key: &str, value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut len = rest + 1;
    while len != rest + len.to_string().len() {
        len += 1;
    }
    out.extend_from_slice(format!("{len} {key}=").as_bytes());
    out.extend_from_slice(value);
    out.push(b'\n');
}

/// Takes the first line off: its key, its value, and what follows.
fn split(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = bytes.iter().position(|&byte| byte == b' ')?;
    let len = usize::try_from(number(&bytes[..space])?).ok()?;
    let (line, rest) = bytes.split_at_checked(len)?;
    let line = line.get(space + 1..)?.strip_suffix(b"\n")?;
    let equals = line.iter().position(|&byte| byte == b'=')?;
    Some((&line[..equals], &line[equals + 1..], rest))
}

/// A number of decimal digits and nothing else.
pub(crate) fn number(digits: &[u8]) -> Option<u64> {
    let plain = digits.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(digits).ok().filter(|_| plain)?.parse().ok()
}

/// Times further from 1970 than this many seconds are nobody's.
const MAX_SECONDS: u64 = 1 << 40;
const NANOS: u32 = 1_000_000_000;

/// A time as pax writes it: `-1.5` is one and a half seconds before 1970.
fn decimal(time: Time) -> String {
    match time {
        Time { sec, nsec } if sec < 0 && nsec > 0 => {
            format!("-{}.{:09}", (sec + 1).unsigned_abs(), NANOS.saturating_sub(nsec))
        }
        Time { sec, nsec } => format!("{sec}.{nsec:09}"),
    }
}

fn parse_time(text: &[u8]) -> Option<Time> {
    let (negative, text) = text.strip_prefix(b"-").map_or((false, text), |rest| (true, rest));
    let dot = text.iter().position(|&byte| byte == b'.').unwrap_or(text.len());
    let fraction = text.get(dot + 1..).unwrap_or_default();
    let sec = number(&text[..dot]).filter(|&sec| sec <= MAX_SECONDS)?.cast_signed();
    let nsec = nanoseconds(fraction)?;
    Some(match (negative, nsec) {
        (false, _) => Time { sec, nsec },
        (true, 0) => Time { sec: -sec, nsec },
        (true, _) => Time { sec: -sec - 1, nsec: NANOS - nsec },
    })
}

/// The first nine digits after the point.
fn nanoseconds(fraction: &[u8]) -> Option<u32> {
    let mut digits = *b"000000000";
    let len = fraction.len().min(digits.len());
    digits[..len].copy_from_slice(&fraction[..len]);
    number(&digits)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_encoded_decodes(
            path in proptest::collection::vec(any::<u8>(), 0..300),
            link in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..120)),
            sec in -(1_i64 << 39)..(1 << 39),
            nsec in 0..NANOS,
            sparse in any::<Option<u64>>(),
        ) {
            let record =
                Record { path: Some(path), link, time: Some(Time { sec, nsec }), sparse };
            prop_assert_eq!(Record::decode(&record.encode()).unwrap(), record);
        }

        #[test]
        fn noise_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = Record::decode(&bytes);
        }
    }

    #[test]
    fn broken_lines_are_refused() {
        let bad: [&[u8]; 6] =
            [b"x", b"8 path=a\n", b"3 a", b"99999999999999999999 a=b\n", b"1 \n", b"12 mtime=--\n"];
        for bytes in bad {
            assert!(Record::decode(bytes).is_err(), "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn lengths_count_their_own_digits() {
        for len in 0..1100 {
            let record = Record { path: Some(vec![b'x'; len]), ..Record::default() };
            assert_eq!(Record::decode(&record.encode()).unwrap(), record);
        }
    }
}
