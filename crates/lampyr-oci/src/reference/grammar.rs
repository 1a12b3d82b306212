//! The grammar of references. Written out, since the regular expression that
//! libraries have for it takes longer to compile than a VM to be restored.

use super::HUB;

/// The most characters of a repository's name.
const MAX_REPOSITORY: usize = 255;
/// The most characters of a tag.
const MAX_TAG: usize = 128;
/// What Docker called its registry before.
const OLD_HUB: &str = "index.docker.io";

/// The parts of a reference, as they are written.
pub(super) struct Parts<'a> {
    pub(super) registry: &'a str,
    /// With the owner that Docker fills in.
    pub(super) repository: String,
    pub(super) tag: Option<&'a str>,
    pub(super) digest: Option<&'a str>,
}

/// Takes a reference apart; why not, in a few words.
pub(super) fn parts(text: &str) -> Result<Parts<'_>, &'static str> {
    let (rest, digest) = split(text, text.find('@'));
    let slash = rest.rfind('/').map_or(0, |at| at + 1);
    let colon = rest[slash..].find(':').map(|at| slash + at);
    let (name, tag) = split(rest, colon);
    let (registry, path) = registry(name);
    if !is_registry(registry) {
        return Err("the registry is no host name");
    }
    if tag.is_some_and(|tag| !is_tag(tag)) {
        return Err("the tag is no word of up to 128 letters, digits, '_', '.' and '-'");
    }
    let repository = repository(registry, path)?;
    Ok(Parts { registry, repository, tag, digest })
}

/// What is before and what is behind the character there.
fn split(text: &str, at: Option<usize>) -> (&str, Option<&str>) {
    at.map_or((text, None), |at| (&text[..at], Some(&text[at + 1..])))
}

/// A first part that could be a host is one; else the registry is Docker's.
fn registry(name: &str) -> (&str, &str) {
    match name.split_once('/') {
        Some((OLD_HUB, path)) => (HUB, path),
        Some((host, path)) if host.contains(['.', ':']) || host == "localhost" => (host, path),
        _ => (HUB, name),
    }
}

fn repository(registry: &str, path: &str) -> Result<String, &'static str> {
    if path.is_empty() {
        return Err("it names no repository");
    }
    if path.contains(|c: char| c.is_ascii_uppercase()) {
        return Err("a repository's name is in lower case");
    }
    if !path.split('/').all(is_component) {
        return Err("its repository is not made of letters and digits, with '.', '_', '-' between");
    }
    let official = registry == HUB && !path.contains('/');
    let repository = if official { format!("library/{path}") } else { path.to_owned() };
    if repository.len() > MAX_REPOSITORY { Err("its name is too long") } else { Ok(repository) }
}

/// Host names, and a port.
fn is_registry(text: &str) -> bool {
    let (host, port) = split(text, text.find(':'));
    let is_label = |label: &str| {
        let inner = |c: char| c.is_ascii_alphanumeric() || c == '-';
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.chars().all(inner)
    };
    let is_port = |port: &str| !port.is_empty() && port.chars().all(|c| c.is_ascii_digit());
    host.split('.').all(is_label) && port.is_none_or(is_port)
}

/// Letters and digits; between them `.`, `_`, `__` or any number of `-`.
fn is_component(text: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let is_between =
        |run: &str| matches!(run, "" | "." | "_" | "__") || run.bytes().all(|b| b == b'-');
    text.starts_with(is_plain) && text.ends_with(is_plain) && text.split(is_plain).all(is_between)
}

fn is_tag(text: &str) -> bool {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let inner = |c: char| is_word(c) || c == '.' || c == '-';
    text.len() <= MAX_TAG && text.starts_with(is_word) && text.chars().all(inner)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use crate::Reference;

    /// What another library makes of it, with a digest as it is written.
    fn theirs(text: &str) -> Option<[String; 4]> {
        let other: oci_spec::distribution::Reference = text.parse().ok()?;
        let [tag, digest] = [other.tag(), other.digest()].map(|part| part.unwrap_or("").to_owned());
        Some([other.registry().to_owned(), other.repository().to_owned(), tag, digest])
    }

    fn ours(text: &str) -> Option<[String; 4]> {
        let own: Reference = text.parse().ok()?;
        let digest = own.digest().map(|digest| digest.to_string()).unwrap_or_default();
        let tag = own.tag().unwrap_or_default().to_owned();
        Some([own.registry().to_owned(), own.repository().to_owned(), tag, digest])
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]

        /// No library's reading is known to be wrong but for capitals in what
        /// is no host after all, and hosts with a `_`, which no host's name has.
        #[test]
        fn it_reads_what_another_library_reads(
            text in "(localhost|a|b-c|-|A)?([.](d|e-|0))?(:(5000|x|))?/?[a-c0._-]{0,5}(/[a-c0._/-]{0,5})?(:[a-bA-B0-1_.-]{0,3})?(@sha256:(0{64}|f{63}|00))?"
        ) {
            let (own, other) = (ours(&text), theirs(&text));
            let wrong = |[registry, repository, ..]: &[String; 4]| {
                registry.contains('_') || repository.contains('A')
            };
            let refused = own.is_none() && other.as_ref().is_some_and(wrong);
            prop_assert!(own == other || refused, "{text}: {own:?}, {other:?}");
        }
    }
}
