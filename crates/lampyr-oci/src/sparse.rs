//! Files with holes: which stretches of them an archive holds.

use crate::LayerError;

/// More stretches than this no honest file has.
const MOST: usize = 1 << 18;

/// Stretches of a file that hold data, in order.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Map {
    pub(crate) pieces: Vec<(u64, u64)>,
}

impl Map {
    /// Adds a stretch: where it begins and how long it is.
    pub(crate) fn push(&mut self, start: u64, len: u64) -> Result<(), LayerError> {
        let end = self.pieces.last().map_or(0, |(start, len)| start + len);
        if self.pieces.len() >= MOST || start < end || start.checked_add(len).is_none() {
            return Err(damaged());
        }
        if len > 0 {
            self.pieces.push((start, len));
        }
        Ok(())
    }

    /// Checks it against the file's length and the data that there is.
    pub(crate) fn check(&self, size: u64, stored: u64) -> Result<(), LayerError> {
        let end = self.pieces.last().map_or(0, |(start, len)| start + len);
        let held: u64 = self.pieces.iter().map(|(_, len)| len).sum();
        if end > size || held != stored { Err(damaged()) } else { Ok(()) }
    }

    /// Reads `start,len,start,len`.
    pub(crate) fn parse(text: &str) -> Result<Self, LayerError> {
        let mut numbers = text.split(',').map(|word| word.parse::<u64>().map_err(|_| damaged()));
        let mut map = Self::default();
        while let Some(start) = numbers.next() {
            map.push(start?, numbers.next().ok_or_else(damaged)??)?;
        }
        Ok(map)
    }
}

pub(crate) fn damaged() -> LayerError {
    LayerError::Damaged("the map of a file with holes is wrong".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_are_in_order_and_fit_their_file() {
        let map = Map::parse("0,10,20,5,30,0").unwrap();
        assert_eq!(map.pieces, [(0, 10), (20, 5)]);
        assert!(map.check(25, 15).is_ok());
        assert!(map.check(24, 15).is_err() && map.check(25, 14).is_err());
        for bad in ["", "1", "a,b", "10,5,0,1", "18446744073709551615,1"] {
            assert!(Map::parse(bad).is_err(), "{bad}");
        }
    }
}
