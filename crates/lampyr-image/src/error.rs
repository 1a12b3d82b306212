use std::io;
use std::path::PathBuf;

use lampyr_oci::OciError;
use lampyr_store::StoreError;

use crate::DEFAULT_IMAGE;

/// What can go wrong with kits, images and QEMU builds.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The state directory could not be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A registry, or what came from one.
    #[error(transparent)]
    Oci(#[from] OciError),
    /// Work that ran beside could not be waited for.
    #[error("the work on an image was given up: {0}")]
    GivenUp(tokio::task::JoinError),
    /// Programs or files that the work needs are not on this host.
    #[error("{what} needs {}, which this host does not have", .tools.join(", "))]
    MissingTools {
        /// What was to be done.
        what: &'static str,
        /// What is missing.
        tools: Vec<&'static str>,
        /// The Debian packages that bring it.
        packages: Vec<&'static str>,
    },
    /// A program could not be run.
    #[error("cannot run {program}: {source}")]
    Run {
        /// The program.
        program: String,
        /// What the system said.
        source: io::Error,
    },
    /// A program failed.
    #[error("{program} failed ({status}): {said}")]
    Failed {
        /// The program.
        program: String,
        /// How it ended.
        status: std::process::ExitStatus,
        /// The last lines that it said.
        said: String,
    },
    /// A program did not finish in time and was stopped.
    #[error("{program} did not finish within {seconds} s and was stopped: {said}")]
    Slow {
        /// The program.
        program: String,
        /// How long it was given.
        seconds: u64,
        /// The last lines that it said.
        said: String,
    },
    /// Somebody wanted the work no more.
    #[error("{program} was interrupted")]
    Interrupted {
        /// The program that ran for it.
        program: String,
    },
    /// The archive does not have a package.
    #[error("the package {package} was not found in Debian's {suite}")]
    NoPackage {
        /// The package.
        package: String,
        /// Where it was looked for.
        suite: String,
    },
    /// A package does not hold what it should.
    #[error("the package {package} does not hold {what}")]
    BadPackage {
        /// The package.
        package: String,
        /// What was looked for in it.
        what: String,
    },
    /// There is no image of that name.
    #[error("image '{name}' not found")]
    NoImage {
        /// The name that was asked for.
        name: String,
    },
    /// Somebody uses an image that is to be removed.
    #[error("image '{name}' is in use by a VM")]
    InUse {
        /// The image.
        name: String,
    },
    /// An archive that should hold one image.
    #[error("{} holds {count} images, not one", .file.display())]
    NotOne {
        /// The archive.
        file: PathBuf,
        /// How many it holds.
        count: usize,
    },
    /// An archive that does not say what its image is called.
    #[error("{} does not say what its images are called", .file.display())]
    Nameless {
        /// The archive.
        file: PathBuf,
    },
    /// An image that no layers are kept of.
    #[error("image '{name}' cannot leave this host: it was not made of layers")]
    NoLayers {
        /// The image.
        name: String,
    },
    /// Blobs cannot be removed while images are fetched.
    #[error("images are being fetched just now")]
    Fetching,
    /// An image's disk is not the one that its manifest describes.
    #[error("image '{name}' is damaged: its disk is not the one that was made")]
    DamagedImage {
        /// The image.
        name: String,
    },
    /// The fetched QEMU says something else than it should.
    #[error("the fetched {program} does not work: it said '{said}'")]
    BadQemu {
        /// The program.
        program: &'static str,
        /// What it said when it was asked for its version.
        said: String,
    },
}

impl ImageError {
    /// What the user can do about it, as one sentence.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::MissingTools { packages, .. } => Some(format!(
                "install what is missing: apt-get install {} (on other distributions, the packages \
                 that bring the same programs)",
                packages.join(" ")
            )),
            Self::Failed { said, .. } if said.contains("No space left on device") => {
                Some("free some disk space, then try again".to_owned())
            }
            Self::Failed { .. } | Self::Slow { .. } => {
                Some("check that this host reaches its Debian mirror, then try again".to_owned())
            }
            Self::Oci(e) => e.hint(),
            Self::NoImage { name } => Some(format!(
                "`lampyr images pull {name}` fetches it, if a registry has it; `lampyr images \
                 list` shows those that are here"
            )),
            Self::DamagedImage { name } if name == DEFAULT_IMAGE => {
                Some("`lampyr doctor --fix` makes it anew".to_owned())
            }
            Self::DamagedImage { name } => Some(format!(
                "`lampyr images rm {name}` removes it; it can then be fetched or made anew"
            )),
            Self::InUse { .. } => {
                Some("end it first: `lampyr session list` shows sessions".to_owned())
            }
            Self::NotOne { .. } => {
                Some("`lampyr images load` takes all that an archive holds".to_owned())
            }
            Self::Nameless { .. } => {
                Some("`lampyr images import FILE NAME` gives an image a name".to_owned())
            }
            Self::NoLayers { .. } => Some(
                "`lampyr images create NAME --from default` makes an image of it that can be pushed \
                 and saved"
                    .to_owned(),
            ),
            Self::Fetching => Some("try again when that is over".to_owned()),
            Self::Store(e) if e.is_full() => {
                Some("free some disk space, then try again".to_owned())
            }
            Self::Store(StoreError::Io { .. }) => {
                Some("LAMPYR_HOME must be a directory that you can write to".to_owned())
            }
            _ => None,
        }
    }
}
