use std::io;

use lampyr_ext4::Ext4Error;
use lampyr_store::StoreError;
use lampyr_types::{ErrorKind, Size};

use crate::Digest;

/// What can go wrong between a reference and a disk.
#[derive(Debug, thiserror::Error)]
pub enum OciError {
    /// The state directory could not be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Not a reference.
    #[error("invalid image reference '{given}': {why}")]
    Reference {
        /// What was given.
        given: String,
        /// What is wrong with it.
        why: String,
    },
    /// The registry does not answer.
    #[error("cannot reach the registry {registry}: {why}")]
    NoRoute {
        /// The registry.
        registry: String,
        /// What the system said.
        why: String,
    },
    /// The registry's certificate is nobody's that we know.
    #[error("cannot trust the registry {registry}: {why}")]
    Untrusted {
        /// The registry.
        registry: String,
        /// What is wrong with its certificate.
        why: String,
    },
    /// The registry wants to know who asks, or does not like who does.
    #[error("the registry {registry} refused access to {repository} (401){}",
        if *.known { " with the credentials that there are" } else { ": it wants credentials" })]
    Unauthorized {
        /// The registry.
        registry: String,
        /// What was asked for.
        repository: String,
        /// Whether there were credentials.
        known: bool,
    },
    /// The registry has no such image.
    #[error("there is no image {reference} (404)")]
    NotFound {
        /// What was asked for.
        reference: String,
    },
    /// The registry has had enough of us.
    #[error("the registry {registry} says that there were too many requests (429)")]
    TooMany {
        /// The registry.
        registry: String,
        /// When to come back, in seconds, if it said so.
        after: Option<u64>,
    },
    /// The registry said no in some other way.
    #[error("the registry {registry} refused to {what} ({status}){said}")]
    Refused {
        /// The registry.
        registry: String,
        /// What was tried.
        what: &'static str,
        /// The status of its answer.
        status: u16,
        /// What it said, after a colon.
        said: String,
    },
    /// The transfer broke off again and again.
    #[error("the transfer of {digest} from {registry} broke off: {why}")]
    Broken {
        /// The registry.
        registry: String,
        /// What was transferred.
        digest: Digest,
        /// What broke.
        why: String,
    },
    /// The bytes are not those that were asked for.
    #[error("{what} is not what it should be: its digest is {found}, not {wanted}")]
    WrongDigest {
        /// What was fetched.
        what: String,
        /// The digest that it should have.
        wanted: Digest,
        /// The one that it has.
        found: Digest,
    },
    /// There is no such image for this host's processors.
    #[error("{reference} is not made for {wanted}, only for {}", .found.join(", "))]
    WrongArch {
        /// The image.
        reference: String,
        /// What this host needs.
        wanted: String,
        /// What there is.
        found: Vec<String>,
    },
    /// A saved VM, where an image was asked for.
    #[error("{reference} is a snapshot, no image")]
    Snapshot {
        /// What was asked for.
        reference: String,
    },
    /// A manifest or a configuration that makes no sense.
    #[error("{what} makes no sense: {why}")]
    Senseless {
        /// What was read.
        what: String,
        /// Why it makes no sense.
        why: String,
    },
    /// A helper that keeps credentials failed.
    #[error("{helper} has no credentials for {registry}: {why}")]
    Helper {
        /// The program.
        helper: String,
        /// The registry.
        registry: String,
        /// What it said.
        why: String,
    },
    /// Docker's credential file does not read.
    #[error("{path} does not read as Docker's credential file: {why}")]
    CredentialFile {
        /// The file.
        path: String,
        /// What is wrong with it.
        why: String,
    },
    /// A layer that does not become part of a disk.
    #[error("layer {layer} of the image cannot be used: {source}")]
    Layer {
        /// The layer.
        layer: String,
        /// What is wrong with it.
        source: LayerError,
    },
    /// The disk could not be written.
    #[error("the image cannot become a disk: {0}")]
    Disk(Ext4Error),
}

/// What is wrong with a layer.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// Neither gzip nor zstd nor tar, or damaged.
    #[error("{0}")]
    Damaged(String),
    /// It could not be read, or the disk could not be written.
    #[error("{0}")]
    Io(io::Error),
    /// It tries what no honest layer does.
    #[error("'{path}' {what}")]
    Hostile {
        /// The entry.
        path: String,
        /// What it does.
        what: &'static str,
    },
    /// It unpacks to more than there may be.
    #[error("the image unpacks to more than {0}")]
    TooLarge(Size),
    /// It has more files than there may be.
    #[error("the image has more than {0} files")]
    TooMany(u64),
    /// Something does not fit the file system.
    #[error("'{path}': {source}")]
    Unfit {
        /// The entry.
        path: String,
        /// Why it does not fit.
        source: Ext4Error,
    },
    /// Unpacked it is not what the image's configuration says.
    #[error("its contents have the digest {found}, not {wanted}")]
    WrongDigest {
        /// The digest that it should have.
        wanted: Digest,
        /// The one that it has.
        found: Digest,
    },
}

impl From<io::Error> for LayerError {
    fn from(source: io::Error) -> Self {
        match source.downcast::<Self>() {
            Ok(ours) => ours,
            Err(source) => match source.kind() {
                io::ErrorKind::UnexpectedEof => Self::Damaged("it is cut off".to_owned()),
                io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput | io::ErrorKind::Other => {
                    Self::Damaged(format!("it is damaged: {source}"))
                }
                _ => Self::Io(source),
            },
        }
    }
}

impl OciError {
    /// What kind of failure it is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Reference { .. } => ErrorKind::Usage,
            _ => ErrorKind::ConnectionFailed,
        }
    }

    /// Whether the host's disk is full.
    fn is_full(&self) -> bool {
        let full = |e: &io::Error| {
            matches!(e.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
        };
        match self {
            Self::Store(e) => e.is_full(),
            Self::Layer { source: LayerError::Io(e), .. } | Self::Disk(Ext4Error::Io(e)) => full(e),
            Self::Layer { source: LayerError::Unfit { source: Ext4Error::Io(e), .. }, .. } => {
                full(e)
            }
            _ => false,
        }
    }

    /// What the user can do about it, as one sentence.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            _ if self.is_full() => "free some disk space, then pull again: what was fetched is \
                 kept"
                .to_owned(),
            Self::Reference { .. } => {
                "for example: python:3.12 or localhost:5000/tools:1".to_owned()
            }
            Self::NoRoute { .. } => {
                "check the name of the registry and this host's network".to_owned()
            }
            Self::Untrusted { .. } => {
                "LAMPYR_REGISTRY_CA names a file with the certificate to trust".to_owned()
            }
            Self::Unauthorized { registry, .. } => format!(
                "`docker login {registry}` or `skopeo login {registry}` keeps credentials where \
                 Lampyr finds them; an image that does not exist may be refused, too"
            ),
            Self::NotFound { .. } => "check the name and the tag".to_owned(),
            Self::TooMany { after: Some(seconds), .. } => format!("try again in {seconds} s"),
            Self::TooMany { .. } => "try again later, or log in".to_owned(),
            Self::Broken { .. } => "pull again: what was fetched is kept".to_owned(),
            Self::WrongDigest { .. } => {
                "somebody changed it on the way, or the registry is damaged; nothing of it was \
                 kept"
                    .to_owned()
            }
            Self::WrongArch { .. } => {
                "Lampyr's VMs have the processors of this host; ask for another image".to_owned()
            }
            Self::Snapshot { reference } => {
                format!("`lampyr snapshot pull {reference}` fetches it")
            }
            Self::Helper { registry, .. } => format!("`docker login {registry}` asks for them"),
            Self::CredentialFile { .. } => "mend or remove the file".to_owned(),
            Self::Layer { source: LayerError::TooLarge(_), .. } => {
                "LAMPYR_MAX_IMAGE sets how much an image may unpack to".to_owned()
            }
            Self::Layer { .. } | Self::Senseless { .. } | Self::Disk(_) => {
                "whoever made the image has to mend it".to_owned()
            }
            Self::Refused { .. } => "ask whoever runs the registry".to_owned(),
            Self::Store(_) => return None,
        })
    }
}
