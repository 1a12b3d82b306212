//! Takes values out of what a guest hears, however it is cut.

use super::pattern::{Pattern, Values};

/// What stands for each byte of a value, so that lengths stay true.
const BLOT: u8 = b'*';

/// Blots values out of one stream of bytes.
///
/// A value has no end of a line in it. So what is held back is the end of a
/// line that goes on, whatever that says: if it were what a value begins with,
/// a guest that has its guesses echoed could see which of them wait.
pub(super) struct Mask {
    values: Values,
    /// The length of the longest one.
    longest: usize,
    /// What can be a part of a value that goes on, and whether each byte of it
    /// is a part of one that is whole.
    held: Vec<u8>,
    blots: Vec<bool>,
}

impl Mask {
    pub(super) fn new(values: &Values) -> Self {
        let longest = values.iter().map(Pattern::len).max().unwrap_or(0);
        Self { values: values.clone(), longest, held: Vec::new(), blots: Vec::new() }
    }

    /// Takes what comes next; gives what can be no part of a value any more.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> Vec<u8> {
        let new = self.held.len();
        self.held.extend_from_slice(bytes);
        self.blots.resize(self.held.len(), false);
        for value in self.values.iter() {
            // What ended before was found before.
            let from = (new + 1).saturating_sub(value.len());
            for at in value.found(&self.held[from..]).map(|at| from + at) {
                self.blots[at..at + value.len()].fill(true);
            }
        }
        let line = self.held.iter().rev().take(self.longest.saturating_sub(1));
        let keep = line.take_while(|byte| (b' '..=b'~').contains(byte)).count();
        self.give(self.held.len() - keep)
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
    fn nothing_is_held_of_a_line_that_is_over() {
        let mut mask = Mask::new(&values(&["secret"]));
        assert_eq!(mask.feed(b"data: x\n\n"), b"data: x\n\n");
        assert_eq!((mask.feed(b"se\0c"), mask.feed(b"ret")), (b"se\0".to_vec(), vec![]));
        assert_eq!((mask.feed(b"more"), mask.end()), (b"cre".to_vec(), b"tmore".to_vec()));
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

        /// Whoever guesses sees no guess wait for longer than another.
        #[test]
        fn what_is_held_does_not_tell_of_a_value(
            text in "[ab\n]{0,60}", [one, other] in ["[ab]{5}", "[ab]{5}"], size in 1_usize..10,
        ) {
            let mut masks = [one, other].map(|value| Mask::new(&values(&[&value])));
            for piece in text.as_bytes().chunks(size) {
                let [one, other] = masks.each_mut().map(|mask| mask.feed(piece).len());
                prop_assert_eq!(one, other);
            }
        }
    }
}
