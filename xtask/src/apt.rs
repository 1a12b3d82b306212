//! Packages of a Debian suite as plain files, without installing anything.
//!
//! apt is pointed at a state of our own: the system's sources and package
//! database are neither read nor changed, and no root is needed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::command::{read, run};
use crate::failure::{At, Result};

/// The keys that Debian signs its suites with.
pub(crate) const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

const MIRROR: &str = "http://deb.debian.org/debian";

/// An apt that knows one suite and believes nothing to be installed.
pub(crate) struct Apt {
    folder: PathBuf,
}

impl Apt {
    /// Makes the private state in `folder` and fetches the suite's index.
    pub(crate) fn open(folder: &Path, suite: &str) -> Result<Self> {
        for part in ["state/lists/partial", "cache/archives/partial"] {
            let part = folder.join(part);
            fs::create_dir_all(&part).at(&part)?;
        }
        let apt = Self { folder: folder.to_owned() };
        apt.write("status", "")?;
        apt.write("sources.list", &format!("deb [signed-by={KEYRING}] {MIRROR} {suite} main\n"))?;
        run(apt.command("apt-get").args(["-qq", "update"]))?;
        Ok(apt)
    }

    /// The versions of a package in the suite.
    pub(crate) fn versions(&self, package: &str) -> Result<Vec<String>> {
        let table = read(self.command("apt-cache").args(["madison", package]))?;
        let versions = table.lines().filter_map(|line| line.split('|').nth(1));
        Ok(versions.map(|version| version.trim().to_owned()).collect())
    }

    /// Downloads one package without what it depends on, and unpacks it.
    pub(crate) fn unpack_one(&self, package: &str, into: &Path) -> Result<()> {
        let archives = self.archives();
        run(self.command("apt-get").current_dir(&archives).args(["-qq", "download", package]))?;
        self.unpack_archives(into)
    }

    /// Downloads packages with all that they depend on, and unpacks them.
    pub(crate) fn unpack_closure(&self, packages: &[&str], into: &Path) -> Result<()> {
        run(self
            .command("apt-get")
            .args(["-qq", "-y", "--no-install-recommends", "--download-only", "install"])
            .args(packages))?;
        self.unpack_archives(into)
    }

    fn unpack_archives(&self, into: &Path) -> Result<()> {
        let archives = self.archives();
        for entry in fs::read_dir(&archives).at(&archives)?.flatten() {
            if entry.path().extension().is_some_and(|extension| extension == "deb") {
                run(Command::new("dpkg-deb").arg("-x").arg(entry.path()).arg(into))?;
            }
        }
        Ok(())
    }

    fn archives(&self) -> PathBuf {
        self.folder.join("cache/archives")
    }

    fn write(&self, name: &str, text: &str) -> Result<()> {
        let path = self.folder.join(name);
        fs::write(&path, text).at(&path)
    }

    fn command(&self, program: &str) -> Command {
        let at = |name: &str| self.folder.join(name).display().to_string();
        let mut command = Command::new(program);
        for option in [
            format!("Dir::Etc::sourcelist={}", at("sources.list")),
            "Dir::Etc::sourceparts=/dev/null".to_owned(),
            "Dir::Etc::preferences=/dev/null".to_owned(),
            "Dir::Etc::preferencesparts=/dev/null".to_owned(),
            format!("Dir::State={}", at("state")),
            format!("Dir::State::status={}", at("status")),
            format!("Dir::Cache={}", at("cache")),
            "Acquire::Languages=none".to_owned(),
            "Acquire::Retries=3".to_owned(),
            "APT::Sandbox::User=".to_owned(),
        ] {
            command.arg("-o").arg(option);
        }
        command
    }
}

/// Makes a folder whole or not at all: `fill` gets a new one, which then
/// appears under its name. One that is there already is left as it is.
pub(crate) fn cached(folder: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    let new = folder.with_extension("new");
    if new.exists() {
        fs::remove_dir_all(&new).at(&new)?;
    }
    fs::create_dir_all(&new).at(&new)?;
    fill(&new)?;
    fs::rename(&new, folder).at(folder)
}
