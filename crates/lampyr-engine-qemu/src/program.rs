//! Which QEMU: its program, its libraries, its firmware, its version.

use std::fmt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// The version of a QEMU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u32, pub u32, pub u32);

impl Version {
    /// The version in the first line of `qemu --version`.
    pub fn from_banner(text: &str) -> Option<Self> {
        let rest = text.trim_start().strip_prefix("QEMU emulator version ")?;
        rest.split_whitespace().next()?.parse().ok()
    }
}

impl FromStr for Version {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let digits = text.split(|c: char| !c.is_ascii_digit() && c != '.').next().unwrap_or("");
        let mut numbers = digits.split('.').map(str::parse);
        let mut next = || numbers.next().unwrap_or(Ok(0)).map_err(|_| ());
        Ok(Self(next()?, next()?, next()?))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

/// A QEMU that can be run.
#[derive(Debug, Clone)]
pub struct Program {
    /// The folder it lives in with all its parts, where it is not the system's.
    pub root: Option<PathBuf>,
    /// The executable, relative to `root` where there is one.
    pub executable: PathBuf,
    /// Folders of its libraries, relative to `root`.
    pub libraries: Vec<PathBuf>,
    /// Folders of its firmware, relative to `root`.
    pub firmware: Vec<PathBuf>,
    /// Its version.
    pub version: Version,
}

impl Program {
    /// The executable as a path of this host.
    pub fn path(&self) -> PathBuf {
        self.root.as_deref().unwrap_or(Path::new("/")).join(&self.executable)
    }

    /// Changes whenever the program does.
    pub(crate) fn fingerprint(&self) -> String {
        let meta = std::fs::metadata(self.path());
        let (length, time) = meta.map_or((0, 0), |m| (m.len(), m.mtime()));
        format!("{}-{length:x}-{time:x}", self.version)
    }

    /// Whether the accelerator's device can be given by descriptor (QEMU 9.1).
    pub(crate) fn takes_accel_device(&self) -> bool {
        self.version >= Version(9, 1, 0)
    }

    /// Whether memory can be mapped privately from a file that QEMU may only
    /// read (`rom=off`, QEMU 8.2).
    pub(crate) fn maps_read_only(&self) -> bool {
        self.version >= Version(8, 2, 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_the_banner() {
        let debian =
            "QEMU emulator version 10.0.2 (Debian 1:10.0.2+ds-2+deb13u1~bpo12+1)\nCopyright";
        assert_eq!(Version::from_banner(debian), Some(Version(10, 0, 2)));
        assert_eq!(
            Version::from_banner("QEMU emulator version 7.2.22 (x)"),
            Some(Version(7, 2, 22))
        );
        assert_eq!(
            Version::from_banner("QEMU emulator version 11.0.0-rc1"),
            Some(Version(11, 0, 0))
        );
        assert_eq!(Version::from_banner("bash: no such file"), None);
        assert_eq!(Version::from_banner("true (GNU coreutils) version 9.1"), None);
    }
}
