//! Debian packages, fetched by the host's apt in a private state: its lists,
//! caches, sources and locks lie in a directory of ours. Only the host's
//! settings for reaching the network (proxies, certificates) are taken over.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use lampyr_store::at;

use crate::sources::{KEYRING, Release};
use crate::{Arch, ImageError, child};

/// Which packages the host has, for those that are to run on it.
pub(crate) const HOST_STATUS: &str = "/var/lib/dpkg/status";

/// A private apt, with the package lists of some suites.
#[derive(Debug)]
pub(crate) struct Apt {
    dir: PathBuf,
    suite: String,
}

/// What the archive says about a package, by field name.
#[derive(Debug)]
pub(crate) struct Record(BTreeMap<String, String>);

impl Apt {
    /// Sets up an apt in `dir`, which must be empty, and gets the package
    /// lists of `release` and of `suite`, whose packages it will prefer.
    /// `status` says which packages count as installed.
    pub(crate) fn open(
        dir: &Path,
        arch: Arch,
        release: &Release,
        suite: &str,
        status: &str,
    ) -> Result<Self, ImageError> {
        need_apt()?;
        for part in ["state/lists/partial", "cache/archives/partial"] {
            let part = dir.join(part);
            std::fs::create_dir_all(&part).map_err(at(&part))?;
        }
        let options = format!("arch={}", arch.facts().debian);
        let mut sources = release.lines(Some(suite), &options).join("\n");
        sources.push('\n');
        write(&dir.join("sources.list"), &sources)?;
        write(&dir.join("status"), status)?;
        write(&dir.join("apt.conf"), &settings(dir, arch, release, suite))?;
        let apt = Self { dir: dir.to_owned(), suite: suite.to_owned() };
        child::run(apt.command("apt-get").arg("update"))?;
        Ok(apt)
    }

    /// What the archive says about the version of `package` that it prefers.
    pub(crate) fn record(&self, package: &str) -> Result<Record, ImageError> {
        let missing =
            || ImageError::NoPackage { package: package.to_owned(), suite: self.suite.clone() };
        let mut command = self.command("apt-cache");
        let text = child::run(command.args(["show", "--no-all-versions", package]));
        let text = text.map_err(|e| match e {
            ImageError::Failed { .. } => missing(),
            other => other,
        })?;
        Record::parse(&String::from_utf8_lossy(&text)).ok_or_else(missing)
    }

    /// Downloads `package` alone.
    pub(crate) fn download(&self, package: &str) -> Result<PathBuf, ImageError> {
        let dir = self.dir.join(package);
        std::fs::create_dir_all(&dir).map_err(at(&dir))?;
        child::run(self.command("apt-get").current_dir(&dir).args(["download", package]))?;
        debs(&dir)?.pop().ok_or_else(|| ImageError::NoPackage {
            package: package.to_owned(),
            suite: self.suite.clone(),
        })
    }

    /// Downloads `package` and all that it needs and the host does not have.
    pub(crate) fn download_missing(&self, package: &str) -> Result<Vec<PathBuf>, ImageError> {
        let mut command = self.command("apt-get");
        command.args(["--yes", "--no-install-recommends", "--download-only", "install", package]);
        child::run(&mut command)?;
        debs(&self.dir.join("cache/archives"))
    }

    fn command(&self, program: &str) -> Command {
        let mut command = child::command(program);
        command.arg("--config-file").arg(self.dir.join("apt.conf")).env_remove("APT_CONFIG");
        command
    }
}

impl Record {
    /// The first stanza of `text`.
    fn parse(text: &str) -> Option<Self> {
        let lines = text.lines().take_while(|line| !line.trim().is_empty());
        let field = |line: &str| {
            let (name, value) = line.split_once(": ")?;
            Some((name.to_owned(), value.trim().to_owned()))
        };
        let fields: BTreeMap<_, _> = lines.filter_map(field).collect();
        fields.contains_key("Version").then_some(Self(fields))
    }

    /// The package's version.
    pub(crate) fn version(&self) -> &str {
        self.0.get("Version").map_or("", String::as_str)
    }

    /// The names of the packages that it needs.
    pub(crate) fn needs(&self) -> impl Iterator<Item = &str> {
        names(self.0.get("Depends").map_or("", String::as_str))
    }
}

/// Unpacks a package's files under `dir`.
pub(crate) fn unpack(package: &Path, dir: &Path) -> Result<(), ImageError> {
    child::run(child::command("dpkg-deb").arg("--extract").args([package, dir]))?;
    Ok(())
}

/// The version of an installed package, according to `status`.
pub(crate) fn installed(status: &str, package: &str) -> Option<String> {
    let stanza = status.split("\n\n").find(|s| field(s, "Package") == Some(package))?;
    let here = field(stanza, "Status") == Some("install ok installed");
    here.then(|| field(stanza, "Version").map(str::to_owned))?
}

/// `status` without the packages whose name begins with one of `prefixes`, and
/// without those that need them: as if they had never been installed.
pub(crate) fn without(status: &str, prefixes: &[&str]) -> String {
    let mut kept: Vec<&str> = status.split("\n\n").collect();
    let mut gone = BTreeSet::new();
    loop {
        let goes = |stanza: &&str| {
            let name = field(stanza, "Package").unwrap_or_default();
            let needs =
                ["Depends", "Pre-Depends"].map(|key| field(stanza, key).unwrap_or_default());
            prefixes.iter().any(|prefix| name.starts_with(prefix))
                || needs.into_iter().flat_map(names).any(|name| gone.contains(name))
        };
        let (leaving, staying): (Vec<_>, Vec<_>) = kept.into_iter().partition(goes);
        kept = staying;
        if leaving.is_empty() {
            return kept.join("\n\n");
        }
        gone.extend(leaving.into_iter().filter_map(|stanza| field(stanza, "Package")));
    }
}

fn field<'a>(stanza: &'a str, key: &str) -> Option<&'a str> {
    let value = |line: &'a str| line.strip_prefix(key)?.strip_prefix(':');
    stanza.lines().find_map(value).map(str::trim)
}

/// The package names in a relationship field: `a (>= 1), b | c:any`.
fn names(relations: &str) -> impl Iterator<Item = &str> {
    let one = |relation: &str| relation.trim().find([' ', ':', '(']);
    relations.split([',', '|']).map(move |relation| {
        let end = one(relation).unwrap_or(relation.trim().len());
        &relation.trim()[..end]
    })
}

fn need_apt() -> Result<(), ImageError> {
    let tools = [
        ("apt-get", "apt"),
        ("apt-cache", "apt"),
        ("dpkg-deb", "dpkg"),
        (KEYRING, "debian-archive-keyring"),
    ];
    child::need("fetching Debian packages", &tools)
}

/// The settings of the private apt; it reads the host's first.
fn settings(dir: &Path, arch: Arch, release: &Release, suite: &str) -> String {
    let dir = dir.display();
    let arch = arch.facts().debian;
    let mut text = String::new();
    // The host's hooks and extra indexes are for the host's packages.
    for scope in [
        "APT::Architectures",
        "APT::Update::Pre-Invoke",
        "APT::Update::Post-Invoke",
        "APT::Update::Post-Invoke-Success",
        "APT::Default-Release",
        "Acquire::IndexTargets::deb::DEP-11",
        "Acquire::IndexTargets::deb::DEP-11-icons",
        "Acquire::IndexTargets::deb::DEP-11-icons-small",
        "Acquire::IndexTargets::deb::DEP-11-icons-hidpi",
        "Acquire::IndexTargets::deb::DEP-11-icons-large",
        "Acquire::IndexTargets::deb::DEP-11-icons-large-hidpi",
        "Acquire::IndexTargets::deb::Contents-deb",
        "Acquire::IndexTargets::deb::CNF",
        "DPkg::Pre-Install-Pkgs",
        "DPkg::Pre-Invoke",
        "DPkg::Post-Invoke",
    ] {
        let _ = writeln!(text, "#clear {scope};");
    }
    let _ = write!(
        text,
        r#"
Dir::State "{dir}/state";
Dir::State::status "{dir}/status";
Dir::Cache "{dir}/cache";
Dir::Cache::archives "archives";
Dir::Cache::pkgcache "pkgcache.bin";
Dir::Cache::srcpkgcache "srcpkgcache.bin";
Dir::Etc::sourcelist "{dir}/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
Dir::Log "{dir}";
APT::Architecture "{arch}";
APT::Architectures {{ "{arch}"; }};
// The directory is private, so that apt's own user could not write to it.
APT::Sandbox::User "root";
APT::Keep-Downloaded-Packages "true";
APT::Get::AllowUnauthenticated "false";
Acquire::AllowInsecureRepositories "false";
Acquire::AllowWeakRepositories "false";
Acquire::Languages "none";
Acquire::Retries "3";
Acquire::http::Timeout "30";
Acquire::https::Timeout "30";
"#
    );
    if suite != release.codename {
        let _ = writeln!(text, "APT::Default-Release \"{suite}\";");
    }
    text
}

fn write(path: &Path, text: &str) -> Result<(), ImageError> {
    Ok(std::fs::write(path, text).map_err(at(path))?)
}

fn debs(dir: &Path) -> Result<Vec<PathBuf>, ImageError> {
    let entries = std::fs::read_dir(dir).map_err(at(dir))?;
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    Ok(paths.filter(|path| path.extension().is_some_and(|e| e == "deb")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str = "Package: libc6\nStatus: install ok installed\nVersion: 2.36-9\n\n\
        Package: qemu-utils\nStatus: install ok installed\nVersion: 1:10.0\nDepends: libc6 (>= 2.34)\n\n\
        Package: vm-tool\nStatus: install ok installed\nDepends: libc6, qemu-utils:any (>= 5) | other\n\n\
        Package: vm-desk\nDepends: a | vm-tool\n\n\
        Package: seabios\nStatus: deinstall ok config-files\nVersion: 1.16\n";

    #[test]
    fn packages_leave_with_those_that_need_them() {
        let left = without(STATUS, &["qemu", "seabios"]);
        assert_eq!(left, "Package: libc6\nStatus: install ok installed\nVersion: 2.36-9");
    }

    #[test]
    fn only_a_package_that_is_installed_has_a_version() {
        assert_eq!(installed(STATUS, "qemu-utils").as_deref(), Some("1:10.0"));
        assert_eq!(installed(STATUS, "seabios"), None);
        assert_eq!(installed(STATUS, "qemu"), None);
    }

    #[test]
    fn a_record_knows_its_version_and_what_it_needs() {
        let text = "Package: linux-image-cloud-amd64\nVersion: 6.1.192-2\n\
            Depends: linux-image-6.1.0-56-cloud-amd64 (= 6.1.192-2), b | c\n\nVersion: 5\n";
        let record = Record::parse(text).unwrap();
        assert_eq!(record.version(), "6.1.192-2");
        let needs: Vec<_> = record.needs().collect();
        assert_eq!(needs, ["linux-image-6.1.0-56-cloud-amd64", "b", "c"]);
    }
}
