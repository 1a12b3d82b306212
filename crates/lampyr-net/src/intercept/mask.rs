//! Takes values out of what a guest hears, however it is cut.

use super::pattern::Values;

/// What stands for each byte of a value, so that lengths stay true.
const BLOT: u8 = b'*';

/// Blots values out of one stream of bytes.
pub(super) struct Mask {
    values: Values,
    /// What could be the beginning of a value, and whether each byte of it is
    /// a part of another one.
    held: Vec<u8>,
    blots: Vec<bool>,
}

impl Mask {
    pub(super) fn new(values: &Values) -> Self {
        Self { values: values.clone(), held: Vec::new(), blots: Vec::new() }
    }

    /// Takes what comes next; gives what can be no part of a value any more.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.held.extend_from_slice(bytes);
        self.blots.resize(self.held.len(), false);
        for value in self.values.iter() {
            for at in value.found(&self.held) {
                self.blots[at..at + value.len()].fill(true);
            }
        }
        let keep = self.values.iter().map(|value| value.begun(&self.held)).max();
        self.give(self.held.len() - keep.unwrap_or(0))
    }

    /// Nothing more comes.
    pub(super) fn end(&mut self) -> Vec<u8> {
        self.give(self.held.len())
    }

    /// Blots one whole text.
    pub(super) fn whole(values: &Values, bytes: &[u8]) -> Vec<u8> {
        let mut mask = Self::new(values);
        let mut out = mask.feed(bytes);
        out.append(&mut mask.end());
        out
    }

    fn give(&mut self, length: usize) -> Vec<u8> {
        let bytes = self.held.drain(..length).zip(self.blots.drain(..length));
        bytes.map(|(byte, blot)| if blot { BLOT } else { byte }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::pattern::Pattern;
    use super::*;
    use proptest::prelude::*;

    fn values(texts: &[&str]) -> Values {
        texts.iter().map(|text| Pattern::plain(text)).collect()
    }

    fn masked(texts: &[&str], text: &str, size: usize) -> String {
        let mut mask = Mask::new(&values(texts));
        let mut out = Vec::new();
        for piece in text.as_bytes().chunks(size) {
            out.extend(mask.feed(piece));
        }
        out.extend(mask.end());
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn values_go_however_they_are_cut() {
        for size in 1..30 {
            let said = masked(&["s3cret-value"], "as3cret s3cret-values3cret-value.s3c", size);
            assert_eq!(said, "as3cret ************************.s3c");
            assert_eq!(masked(&["abcdefgh", "efghijkl"], "-abcdefghijkl-", size), "-************-");
            assert_eq!(masked(&["abababab"], "xababababab", size), "x**********");
        }
    }

    #[test]
    fn nothing_is_held_that_begins_no_value() {
        let mut mask = Mask::new(&values(&["secret"]));
        assert_eq!(mask.feed(b"data: x\n\n"), b"data: x\n\n");
        assert_eq!((mask.feed(b"se"), mask.feed(b"e")), (vec![], b"see".to_vec()));
        assert_eq!(Mask::whole(&values(&["secret"]), b"a secret"), b"a ******");
    }

    proptest! {
        #[test]
        fn no_cut_lets_a_value_through(
            text in "[ab]{0,60}", value in "[ab]{3,6}", size in 1_usize..10,
        ) {
            let said = masked(&[&value], &text, size);
            prop_assert_eq!(said.len(), text.len());
            prop_assert!(!said.contains(&value));
            prop_assert_eq!(said, masked(&[&value], &text, 100));
        }
    }
}
