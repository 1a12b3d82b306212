//! How a value looks where it is told: as it is, and within base64.
//!
//! Base64 makes four characters of three bytes, so a value looks in one of
//! three ways there, whatever stands around it. The characters at its edges
//! have bits of its neighbours, too, which can be any.
//!
//! ```text
//! bytes       |   a    |   b    |   c    |   d    |
//! characters  | 1  |  2  |  3  | 4  | 5  |  6  |
//! ```

use std::sync::Arc;

use zeroize::Zeroizing;

use crate::secret::{Secret, USUAL_HEADER};

/// What no guest hears.
pub(super) type Values = Arc<[Pattern]>;

/// What a byte is that is no character of base64.
const NONE: u8 = 0xff;
/// What stands for six bits, in the two alphabets that there are.
const SIX: [u8; 256] = six();

/// One way in which a value looks.
pub(super) struct Pattern {
    base64: bool,
    /// For each byte or character the bits that it has, and which count.
    units: Zeroizing<Vec<(u8, u8)>>,
}

/// All ways in which the values of secrets can come back: in base64 only
/// those that go out so.
pub(super) fn values(secrets: &[Secret]) -> Values {
    let patterns = secrets.iter().flat_map(|secret| {
        let encoded = if secret.header() == USUAL_HEADER { 0..3 } else { 0..0 };
        let encoded = encoded.map(|before| Pattern::base64(secret.value(), before));
        std::iter::once(Pattern::plain(secret.value())).chain(encoded)
    });
    patterns.collect()
}

impl Pattern {
    /// The value as it is.
    pub(super) fn plain(value: &str) -> Self {
        let units = value.bytes().map(|byte| (byte, 0xff)).collect();
        Self { base64: false, units: Zeroizing::new(units) }
    }

    /// The value in base64, after so many bytes of a group of three.
    pub(super) fn base64(value: &str, before: usize) -> Self {
        let mut units = Zeroizing::new(vec![(0, !63); ((before + value.len()) * 8).div_ceil(6)]);
        for (n, byte) in value.bytes().enumerate() {
            for bit in 0..8 {
                let at = (before + n) * 8 + bit;
                let (own, place) = ((byte >> (7 - bit)) & 1, 5 - at % 6);
                let unit = &mut units[at / 6];
                *unit = (unit.0 | own << place, unit.1 | 1 << place);
            }
        }
        // What has nothing of the value is not its part.
        units.drain(..before * 8 / 6);
        Self { base64: true, units }
    }

    /// How long it is, in bytes.
    pub(super) fn len(&self) -> usize {
        self.units.len()
    }

    /// Where it is in some bytes.
    pub(super) fn found(&self, bytes: &[u8]) -> impl Iterator<Item = usize> {
        let windows = bytes.windows(self.len()).enumerate();
        let is_it = |window: &[u8]| window.iter().enumerate().all(|(n, byte)| self.fits(n, *byte));
        windows.filter(move |(_, window)| is_it(window)).map(|(at, _)| at)
    }

    /// Whether a text has it that has lost its capitals.
    pub(super) fn is_in_lower(&self, text: &str) -> bool {
        let fits =
            |n: usize, byte: u8| self.fits(n, byte) || self.fits(n, byte.to_ascii_uppercase());
        let mut windows = text.as_bytes().windows(self.len());
        windows.any(|window| window.iter().enumerate().all(|(n, byte)| fits(n, *byte)))
    }

    fn fits(&self, n: usize, byte: u8) -> bool {
        let (bits, count) = self.units[n];
        let own = if self.base64 { SIX[usize::from(byte)] } else { byte };
        own & count == bits
    }
}

const fn six() -> [u8; 256] {
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/-_";
    let (mut table, mut n) = ([NONE; 256], 0);
    while n < alphabet.len() {
        // `-` and `_` are what `+` and `/` are.
        table[alphabet[n] as usize] = if n < 64 { n as u8 } else { n as u8 - 2 };
        n += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
    use proptest::prelude::*;

    use super::*;
    use crate::intercept::mask::Mask;

    fn all(value: &str) -> Values {
        (0..3).map(|before| Pattern::base64(value, before)).collect()
    }

    /// All characters with a bit of the value are blots, and no others.
    fn blotted(before: &[u8], value: &str, after: &[u8]) -> String {
        let text = STANDARD.encode([before, value.as_bytes(), after].concat());
        let own = before.len() * 8 / 6..((before.len() + value.len()) * 8).div_ceil(6);
        let blot = |(n, c)| if own.contains(&n) { '*' } else { c };
        text.chars().enumerate().map(blot).collect()
    }

    #[test]
    fn base64_is_found_in_both_alphabets() {
        let value = "k~>?k~>?k~>?";
        for engine in [STANDARD, URL_SAFE_NO_PAD] {
            let text = engine.encode(format!("u:{value}"));
            let masked = Mask::whole(&all(value), text.as_bytes());
            let masked = String::from_utf8(masked).unwrap();
            assert_eq!(masked.trim_end_matches('='), "dT".to_owned() + &"*".repeat(17));
        }
    }

    proptest! {
        #[test]
        fn no_bit_of_a_value_is_left_in_base64(
            before in prop::collection::vec(any::<u8>(), 0..20),
            value in "[!-~]{8,40}",
            after in prop::collection::vec(any::<u8>(), 0..20),
            size in 1_usize..30,
        ) {
            let text = STANDARD.encode([&before, value.as_bytes(), &after].concat());
            let mut mask = Mask::new(&all(&value));
            let mut out: Vec<u8> = text.as_bytes().chunks(size).flat_map(|piece| mask.feed(piece)).collect();
            out.extend(mask.end());
            prop_assert_eq!(String::from_utf8(out).unwrap(), blotted(&before, &value, &after));
        }

        #[test]
        fn text_that_has_no_value_stays(text in "[A-Za-z0-9+/=]{0,200}", size in 1_usize..50) {
            let mut mask = Mask::new(&all("a-real-value"));
            let mut out: Vec<u8> = text.as_bytes().chunks(size).flat_map(|piece| mask.feed(piece)).collect();
            out.extend(mask.end());
            prop_assert_eq!(out, text.into_bytes());
        }
    }
}
