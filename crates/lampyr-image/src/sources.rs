//! Which Debian this host takes its packages from.

use std::path::PathBuf;

/// The release that guests are made of where the host is not Debian.
const FALLBACK: &str = "bookworm";

/// Debian's keys, as the package `debian-archive-keyring` installs them.
pub(crate) const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// A release of Debian and where to get it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Release {
    /// `bookworm`, `trixie`, ...
    pub(crate) codename: String,
    /// Whether it is the release that this host runs.
    pub(crate) is_host: bool,
    mirror: String,
    security: String,
}

impl Release {
    /// The host's release from the host's mirrors, where it is Debian.
    pub(crate) fn of_host() -> Self {
        let os_release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
        let texts =
            source_files().into_iter().filter_map(|path| std::fs::read_to_string(path).ok());
        Self::parse(&os_release, &texts.collect::<Vec<_>>())
    }

    fn parse(os_release: &str, sources: &[String]) -> Self {
        let own = (os_field(os_release, "ID") == Some("debian"))
            .then(|| os_field(os_release, "VERSION_CODENAME"))
            .flatten();
        let codename = own.unwrap_or(FALLBACK).to_owned();
        let entries: Vec<_> = sources.iter().flat_map(|text| entries(text)).collect();
        let security_suite = format!("{codename}-security");
        let find = |suite: &str, end: &str| {
            let ours = |e: &&Entry| e.suite == suite && e.main && e.uri.ends_with(end);
            entries.iter().find(ours).map(|e| e.uri.clone())
        };
        let mirror = find(&codename, "/debian");
        let security = find(&security_suite, "/debian-security");
        Self {
            is_host: own.is_some(),
            mirror: mirror.unwrap_or("http://deb.debian.org/debian".to_owned()),
            security: security.unwrap_or("http://deb.debian.org/debian-security".to_owned()),
            codename,
        }
    }

    /// The suite of newer packages built for this release.
    pub(crate) fn backports(&self) -> String {
        format!("{}-backports", self.codename)
    }

    /// Lines of a sources.list: the release, its security updates, and `extra`
    /// if that is another suite. `options` go into the brackets.
    pub(crate) fn lines(&self, extra: Option<&str>, options: &str) -> Vec<String> {
        let Self { codename, mirror, security, .. } = self;
        let line = |uri: &str, suite: &str| {
            format!("deb [{options} signed-by={KEYRING}] {uri} {suite} main")
        };
        let mut lines =
            vec![line(mirror, codename), line(security, &format!("{codename}-security"))];
        lines.extend(extra.filter(|suite| suite != codename).map(|suite| line(mirror, suite)));
        lines
    }
}

/// One place that packages come from.
#[derive(Debug, PartialEq, Eq)]
struct Entry {
    uri: String,
    suite: String,
    main: bool,
}

fn source_files() -> Vec<PathBuf> {
    let parts = std::fs::read_dir("/etc/apt/sources.list.d").into_iter().flatten();
    let mut files: Vec<_> = parts.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.retain(|path| path.extension().is_some_and(|e| e == "list" || e == "sources"));
    files.sort();
    files.insert(0, "/etc/apt/sources.list".into());
    files
}

fn os_field<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    let value = |line: &'a str| line.strip_prefix(key)?.strip_prefix('=');
    text.lines().find_map(value).map(|value| value.trim().trim_matches('"'))
}

/// The entries of a sources file, in either of apt's two formats.
fn entries(text: &str) -> Vec<Entry> {
    let lines: Vec<&str> =
        text.lines().filter(|line| !line.trim_start().starts_with('#')).collect();
    let one_line = lines.iter().filter_map(|line| line_entry(line));
    let stanzas = lines.split(|line| line.trim().is_empty()).flat_map(stanza_entries);
    let web = |e: &Entry| e.uri.starts_with("http://") || e.uri.starts_with("https://");
    one_line.chain(stanzas).filter(web).collect()
}

/// `deb [options] URI suite component...`
fn line_entry(line: &str) -> Option<Entry> {
    let rest = line.trim().strip_prefix("deb ")?.trim_start();
    let rest = match rest.strip_prefix('[') {
        Some(options) => options.split_once(']')?.1,
        None => rest,
    };
    let mut words = rest.split_whitespace();
    let (uri, suite) = (words.next()?, words.next()?);
    Some(entry(uri, suite, words.any(|w| w == "main")))
}

/// A deb822 stanza: every URI with every suite.
fn stanza_entries(lines: &[&str]) -> Vec<Entry> {
    let field = |key: &str| {
        let value = |line: &&'_ str| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case(key).then(|| value.trim().to_owned())
        };
        lines.iter().find_map(value).unwrap_or_default()
    };
    let has = |key: &str, word: &str| field(key).split_whitespace().any(|w| w == word);
    if !has("Types", "deb") || field("Enabled").eq_ignore_ascii_case("no") {
        return Vec::new();
    }
    let (uris, suites, main) = (field("URIs"), field("Suites"), has("Components", "main"));
    let pairs =
        uris.split_whitespace().flat_map(|u| suites.split_whitespace().map(move |s| (u, s)));
    pairs.map(|(uri, suite)| entry(uri, suite, main)).collect()
}

fn entry(uri: &str, suite: &str, main: bool) -> Entry {
    Entry { uri: uri.trim_end_matches('/').to_owned(), suite: suite.to_owned(), main }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEBIAN: &str = "ID=debian\nVERSION_CODENAME=trixie\n";

    #[test]
    fn mirrors_come_from_either_format_and_only_from_debians_own() {
        let deb822 = "Types: deb\n# a comment\nURIs: https://mirror.example/debian/\n\
            Suites: trixie trixie-updates\nComponents: main contrib\n\n\
            Types: deb\nEnabled: no\nURIs: http://off.example/debian-security\n\
            Suites: trixie-security\nComponents: main\n";
        let lines = "deb-src http://src.example/debian trixie main\n\
            deb https://vendor.example/linux/debian trixie stable\n\
            # deb http://old.example/debian-security trixie-security main\n\
            deb [arch=amd64 signed-by=/k] http://sec.example/debian-security trixie-security main";
        let found = Release::parse(DEBIAN, &[lines.to_owned(), deb822.to_owned()]);
        assert_eq!(
            found.lines(Some("trixie-backports"), "arch=amd64"),
            [
                ("https://mirror.example/debian", "trixie"),
                ("http://sec.example/debian-security", "trixie-security"),
                ("https://mirror.example/debian", "trixie-backports"),
            ]
            .map(|(uri, suite)| format!("deb [arch=amd64 signed-by={KEYRING}] {uri} {suite} main"))
        );
    }

    #[test]
    fn a_host_that_is_not_debian_gets_the_fallback() {
        let ubuntu = "ID=ubuntu\nVERSION_CODENAME=noble\n";
        let found = Release::parse(ubuntu, &["deb http://x/debian noble main".to_owned()]);
        assert!(!found.is_host);
        assert_eq!(
            (found.codename.as_str(), found.mirror.as_str()),
            (FALLBACK, "http://deb.debian.org/debian")
        );
    }
}
