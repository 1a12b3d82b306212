//! Debian's order of package versions.

use std::cmp::Ordering;

/// Compares two package versions as dpkg does, epoch first.
pub(crate) fn compare(a: &str, b: &str) -> Ordering {
    let (epoch_a, a) = split_epoch(a);
    let (epoch_b, b) = split_epoch(b);
    epoch_a.cmp(&epoch_b).then_with(|| compare_rest(a.as_bytes(), b.as_bytes()))
}

/// The version without its epoch.
pub(crate) fn without_epoch(version: &str) -> &str {
    split_epoch(version).1
}

/// What the authors of the program call the version: `10.0.2` of
/// `1:10.0.2+ds-2+deb13u1~bpo12+1`.
pub(crate) fn upstream(version: &str) -> &str {
    let version = without_epoch(version);
    let end = version.find(|c: char| !c.is_ascii_digit() && c != '.');
    &version[..end.unwrap_or(version.len())]
}

fn split_epoch(version: &str) -> (u32, &str) {
    match version.split_once(':') {
        Some((epoch, rest)) => (epoch.parse().unwrap_or(0), rest),
        None => (0, version),
    }
}

/// Text and numbers alternate; text goes by [`weight`], numbers by value.
fn compare_rest(mut a: &[u8], mut b: &[u8]) -> Ordering {
    while !a.is_empty() || !b.is_empty() {
        while is_text(a) || is_text(b) {
            match weight(a).cmp(&weight(b)) {
                Ordering::Equal => (a, b) = (&a[1..], &b[1..]),
                unequal => return unequal,
            }
        }
        match take_number(&mut a).cmp(&take_number(&mut b)) {
            Ordering::Equal => {}
            unequal => return unequal,
        }
    }
    Ordering::Equal
}

fn is_text(rest: &[u8]) -> bool {
    rest.first().is_some_and(|c| !c.is_ascii_digit())
}

/// `~` sorts before the end, the end before letters, letters before the rest.
fn weight(rest: &[u8]) -> i32 {
    match rest.first() {
        Some(b'~') => -1,
        None => 0,
        Some(c) if c.is_ascii_digit() => 0,
        Some(c) if c.is_ascii_alphabetic() => i32::from(*c),
        Some(c) => i32::from(*c) + 256,
    }
}

fn take_number(rest: &mut &[u8]) -> u64 {
    let end = rest.iter().position(|c| !c.is_ascii_digit()).unwrap_or(rest.len());
    let (digits, after) = rest.split_at(end);
    *rest = after;
    digits.iter().fold(0, |n: u64, d| n.saturating_mul(10).saturating_add(u64::from(d - b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_sort_as_dpkg_sorts_them() {
        let ascending = [
            "7.2+dfsg-7+deb12u16",
            "9.2.0+ds-5",
            "10.0.2~rc1+ds-1",
            "10.0.2+ds-2+deb13u1~bpo12+1",
            "10.0.2+ds-2+deb13u1",
            "10.0.10+ds-1",
            "1:7.2+dfsg-7",
        ];
        for (i, a) in ascending.iter().enumerate() {
            for (j, b) in ascending.iter().enumerate() {
                assert_eq!(compare(a, b), i.cmp(&j), "{a} and {b}");
            }
        }
        assert_eq!(compare("1.01", "1.1"), Ordering::Equal);
    }

    #[test]
    fn the_upstream_version_is_what_the_authors_say() {
        assert_eq!(upstream("1:10.0.2+ds-2+deb13u1~bpo12+1"), "10.0.2");
        assert_eq!(upstream("1:7.2+dfsg-7+deb12u16"), "7.2");
        assert_eq!(upstream("6.1.192-2"), "6.1.192");
    }
}
