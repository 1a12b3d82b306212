//! Changes a list of entries as a person would: by whole lines and words. A
//! fuzzer that changes bytes alone hardly ever gets to a second entry that
//! has to do with the first.

const KINDS: &[&str] = &["d", "f", "l", "m", "x", "1"];

/// Names, link targets, keys, numbers and maps; each may go anywhere.
const WORDS: &[&str] = &[
    "./",
    "a",
    "a/",
    "a/f",
    "f",
    "l",
    "l/",
    "l/f",
    "..",
    "../canary/f",
    "@",
    "@/f",
    "path",
    "linkpath",
    "mtime",
    "GNU.sparse.realsize",
    "0",
    "-1.5",
    "513",
    "-9223372036854775808",
    "18446744073709551615",
    "1,0,1, y",
    "2,0,1,512,1, yz",
    "1,18446744073709551615,1, y",
];

/// The text with one thing about it changed.
pub fn mutate(text: &[u8], seed: u32) -> Vec<u8> {
    let mut dice = Dice(u64::from(seed));
    let mut lines: Vec<Vec<u8>> = text.split(|b| *b == b'\n').map(<[u8]>::to_vec).collect();
    let (one, other) = (dice.below(lines.len()), dice.below(lines.len()));
    match dice.below(8) {
        0 => lines.swap(one, other),
        1 => drop(lines.remove(one)),
        2 => lines.insert(one, lines[other].clone()),
        3 | 4 => lines.insert(one, line(&mut dice)),
        _ => lines[one] = reworded(&lines[one], &mut dice),
    }
    lines.join(&b'\n')
}

/// A new line.
fn line(dice: &mut Dice) -> Vec<u8> {
    [dice.pick(KINDS), dice.pick(WORDS), dice.pick(WORDS)].join(" ").into_bytes()
}

/// The line with another kind, another name, or something else behind it.
fn reworded(line: &[u8], dice: &mut Dice) -> Vec<u8> {
    let mut words: Vec<&[u8]> = line.splitn(3, |byte| *byte == b' ').collect();
    let at = dice.below(words.len());
    words[at] = dice.pick(if at == 0 { KINDS } else { WORDS }).as_bytes();
    words.join(&b' ')
}

/// Numbers that depend on the seed alone (`SplitMix64`).
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) as usize % limit
    }

    fn pick<'a>(&mut self, words: &[&'a str]) -> &'a str {
        words[self.below(words.len())]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_text_changes_and_the_same_seed_changes_it_the_same() {
        for text in [b"".as_slice(), b"\n\n", b"d ./\nf f text\n"] {
            let all = (0..200).map(|seed| mutate(text, seed)).collect::<Vec<_>>();
            assert!(all.iter().any(|changed| changed != text));
            assert_eq!(mutate(text, 7), all[7]);
        }
    }
}
