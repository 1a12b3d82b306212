//! Everything that can be wrong with what the user asked for, in words.

use std::fmt;
use std::io;
use std::path::PathBuf;

use lampyr_image::BadImageRef;
use lampyr_types::{BadName, BadQuantity, Span};

use crate::bad_manifest::BadManifest;
use crate::bad_secret::BadSecretInput;
use crate::core_api::limits::{BadSessionName, BadShape};
use crate::core_api::{BadConfig, BadFile, BadPeerName, BadPolicy, Differs};
use crate::env_vars::Variable;

/// A request that makes no sense; nothing was started.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BadInput {
    /// The command line does not parse.
    #[error("{message}")]
    CommandLine {
        /// What is wrong with it.
        message: String,
        /// What to type instead.
        hint: String,
    },
    /// A setting has a value that it cannot have.
    #[error("{origin}: {reason}")]
    Setting {
        /// Who said so.
        origin: Origin,
        /// What is wrong with the value.
        reason: BadValue,
        /// The setting.
        variable: &'static Variable,
    },
    /// No command at all.
    #[error("there is no command to run")]
    NoCommand,
    /// A command of nothing but spaces.
    #[error("the command is empty")]
    EmptyCommand,
    /// A command for the shell and a program as well.
    #[error("there is both a command and a program after '--'")]
    TwoCommands,
    /// A terminal for a VM that nobody can come back to.
    #[error("run has no --pty: only a command in a session can have a terminal")]
    Pty,
    /// A terminal for the command, and none for us.
    #[error("--pty needs a terminal on standard input")]
    NoTerminal,
    /// One port for many VMs.
    #[error("pool run has no --forward: its runs would share the port")]
    PoolForward,
    /// One place for the files of many VMs.
    #[error("--download of many runs to one place: each would replace the last")]
    PoolDownload,
    /// Neither one session nor all, or both.
    #[error("give either one session or --all")]
    OneOrAll,
    /// Neither one pool nor all, or both.
    #[error("give either one pool or --all")]
    OnePoolOrAll,
    /// A copy that is not between here and a session.
    #[error("exactly one side of a copy must be SESSION:/path")]
    CopySides,
    /// Not two ports.
    #[error("invalid --forward '{0}': it is not HOST:GUEST, two ports from 1 to 65535")]
    Forward(String),
    /// One port, two ways.
    #[error("--forward: port {0} of this host is given twice")]
    ForwardTwice(u16),
    /// Nothing to listen on.
    #[error("invalid --listen '{0}': it is not [ADDRESS:]PORT")]
    Listen(String),
    /// A path that is none.
    #[error("invalid --socket '{0}': it is no path")]
    Socket(String),
    /// A server for everybody.
    #[error("{0} can be reached from elsewhere, and --no-auth would let everybody in")]
    OpenServer(String),
    /// Nothing that a session could be called.
    #[error("'{0}' is not the id or the name of a session")]
    Session(String),
    /// A name that could be taken for an id.
    #[error(transparent)]
    NameIsId(BadSessionName),
    /// A flag that has no variable has a value that it cannot have.
    #[error("{flag}: {reason}")]
    Flag {
        /// The flag.
        flag: &'static str,
        /// What is wrong with the value.
        reason: BadValue,
        /// A good one.
        example: &'static str,
    },
    /// An environment variable without a name or a value.
    #[error("invalid variable '{0}': it is not KEY=VALUE")]
    Env(String),
    /// A zero byte, which no argument can carry.
    #[error("{0} has a NUL byte in it")]
    Nul(&'static str),
    /// A transfer without its two sides.
    #[error("invalid {flag} '{given}': it is not {form}")]
    Transfer {
        /// The flag.
        flag: &'static str,
        /// What was given.
        given: String,
        /// What it should look like.
        form: &'static str,
    },
    /// Nothing that a VM could be held to.
    #[error("--net: {0}")]
    Net(BadPolicy),
    /// A secret that cannot be handed over.
    #[error(transparent)]
    Secret(#[from] BadSecretInput),
    /// A limit to a network that there is not.
    #[error("--net-rate without a network")]
    RateOfNothing,
    /// A file that is no policy.
    #[error("{}: {source}", path.display())]
    PolicyFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: BadFile,
    },
    /// A file that describes no snapshot that can be built here.
    #[error("{}: {source}", path.display())]
    SnapshotFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: BadConfig,
    },
    /// Something else than what was saved.
    #[error("{flag}: {differs}")]
    Saved {
        /// The flag that asks for it.
        flag: &'static str,
        /// What it has.
        differs: Differs,
    },
    /// A file that is much longer than people write.
    #[error("{what}: {} is too long to be one", path.display())]
    FileSize {
        /// What it was to be.
        what: &'static str,
        /// The file.
        path: PathBuf,
    },
    /// A file that people do not write.
    #[error("{what}: {} is not text in UTF-8", path.display())]
    NotText {
        /// What it was to be.
        what: &'static str,
        /// The file.
        path: PathBuf,
    },
    /// A file that is not there, where a directory would not do.
    #[error("{what}: {} not found", path.display())]
    NoFile {
        /// What it was to be.
        what: &'static str,
        /// The file.
        path: PathBuf,
    },
    /// Nothing that a VM on a private network could be called.
    #[error(transparent)]
    PeerName(#[from] BadPeerName),
    /// A file that is no manifest.
    #[error("{}: {source}", path.display())]
    Manifest {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: BadManifest,
    },
    /// A label without a name or a value.
    #[error("invalid label '{0}': it is not KEY=VALUE")]
    Label(String),
    /// Not a name.
    #[error(transparent)]
    Name(BadName),
    /// A place in the VM where nothing can be mounted.
    #[error("cannot mount at '{0}' in the VM")]
    MountPlace(String),
    /// Two mounts, one place.
    #[error("two mounts have the place '{0}'")]
    MountedTwice(String),
    /// A file where a directory must be.
    #[error("{flag}: {} is no directory", path.display())]
    NotDirectory {
        /// Which argument says so.
        flag: &'static str,
        /// The file.
        path: PathBuf,
    },
    /// A path in the VM that does not begin at its root.
    #[error("invalid {what} '{path}': a path in the VM must be absolute")]
    Relative {
        /// What the path is for.
        what: &'static str,
        /// The path.
        path: String,
    },
    /// A local file that is not there.
    #[error("{what}: {} not found", path.display())]
    NotFound {
        /// Which argument says so.
        what: &'static str,
        /// The file.
        path: PathBuf,
    },
    /// A file that the system does not let us look at.
    #[error("cannot read {}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A configuration file that is not TOML.
    #[error("{}, line {line}: {message}", path.display())]
    ConfigSyntax {
        /// The file.
        path: PathBuf,
        /// Where in it.
        line: usize,
        /// What the parser said.
        message: String,
    },
    /// A key that the configuration file cannot have.
    #[error("{}: unknown key '{key}'", path.display())]
    ConfigKey {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
        /// The keys it can have.
        known: String,
    },
    /// Nothing that an image could be called.
    #[error(transparent)]
    Image(BadValue),
    /// Neither `LAMPYR_HOME` nor `HOME`.
    #[error("there is no home directory to keep Lampyr's files in")]
    NoHome,
    /// A home relative to a directory that is gone.
    #[error("{}: '{}' is relative to a directory that is not there any more", variable.name, path.display())]
    HomeNowhere {
        /// Which variable says so.
        variable: &'static Variable,
        /// What it says.
        path: PathBuf,
    },
    /// A home that is a file, or lies in one.
    #[error("{}: {} is no directory", variable.name, path.display())]
    HomeNoDirectory {
        /// Which variable says so.
        variable: &'static Variable,
        /// The home.
        path: PathBuf,
    },
}

/// What is wrong with the value of a setting.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BadValue {
    /// Not a size or a duration.
    #[error(transparent)]
    Quantity(#[from] BadQuantity),
    /// Not a name.
    #[error(transparent)]
    Name(#[from] BadName),
    /// Not what an image is called.
    #[error("{0}")]
    Image(String),
    /// Not a registry and its mirror.
    #[error("invalid mirror '{0}': it is not REGISTRY=MIRROR, two names of hosts")]
    Mirror(String),
    /// Not a whole number.
    #[error("invalid number '{0}'")]
    Number(String),
    /// None of the words it can be.
    #[error("invalid value '{given}': use {}", words.join(" or "))]
    Word {
        /// What was given.
        given: String,
        /// What could have been.
        words: &'static [&'static str],
    },
    /// Not text.
    #[error("invalid value: it is not UTF-8 text")]
    NotText,
    /// A table, a list or a date where a plain value belongs.
    #[error("invalid value: it must be a string or a number")]
    NotPlain,
    /// Not what a VM or a volume can have.
    #[error(transparent)]
    Shape(#[from] BadShape),
    /// Less than a command can live with.
    #[error("{asked} is too small: the least is {least}")]
    TooSmall {
        /// What was asked for.
        asked: Span,
        /// What would do.
        least: Span,
    },
}

impl From<BadImageRef> for BadValue {
    fn from(e: BadImageRef) -> Self {
        match e {
            BadImageRef::Name(e) => Self::Name(e),
            BadImageRef::Reference(e) => Self::Image(e.to_string()),
        }
    }
}

/// Who gave a setting its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A flag.
    Flag(&'static str),
    /// An environment variable.
    Environment(&'static str),
    /// A key in the configuration file.
    Config(&'static str, PathBuf),
    /// Nobody.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(name) | Self::Environment(name) => f.write_str(name),
            Self::Config(key, path) => write!(f, "{key} in {}", path.display()),
            Self::Default => f.write_str("the default"),
        }
    }
}

/// A good policy, and a good description of a snapshot.
const POLICY: &str = "for example: rules = [\"api.example.com:443\", \"host:8080\"]";
const SNAPSHOT: &str =
    "for example: name = \"tools\", image = \"default\", setup = [\"apt-get …\"]";

/// A guess at what was meant.
pub(crate) fn did_you_mean(word: &str) -> String {
    format!("did you mean '{word}'?")
}

impl BadInput {
    /// What the user can do.
    pub(crate) fn hint(&self) -> String {
        match self {
            Self::CommandLine { hint, .. } => hint.clone(),
            Self::Setting { origin, variable, .. } => example(origin, variable),
            Self::Flag { flag, example, .. } => format!("for example: {flag} {example}"),
            Self::Secret(secret) => secret.hint(),
            Self::SnapshotFile { source, .. } => {
                source.meant().map_or_else(|| SNAPSHOT.to_owned(), |word| did_you_mean(&word))
            }
            Self::PolicyFile { source, .. } => {
                source.meant().map_or_else(|| POLICY.to_owned(), |word| did_you_mean(&word))
            }
            Self::Manifest { source, .. } => source.hint(),
            Self::ConfigKey { known, .. } => format!("the keys are {known}"),
            other => other.fixed_hint().to_owned(),
        }
    }

    /// The hints that are the same every time.
    fn fixed_hint(&self) -> &'static str {
        match self {
            Self::NoCommand | Self::EmptyCommand => "for example: lampyr run \"echo hello\"",
            Self::TwoCommands => {
                "give one of them: lampyr run \"<command>\" or lampyr run -- <program>"
            }
            Self::Pty => "start one: lampyr session start, then lampyr exec --pty SID bash",
            Self::Env(_) => "for example: -e GREETING=hello",
            Self::Transfer { flag: "--mount", .. } => "for example: --mount ./src:/src:ro",
            Self::Transfer { flag: "--volume", .. } => "for example: --volume cache:/var/cache",
            Self::MountPlace(_) | Self::MountedTwice(_) => {
                "give each a directory of its own below '/', for example: --mount ./src:/src"
            }
            Self::NotDirectory { .. } => "mount the directory that it is in, or use --copy",
            Self::RateOfNothing => "for example: --net public --net-rate 1MB",
            Self::Net(_) => "for example: --net allow=api.example.com,*.cdn.example.com:443",
            Self::PeerName(_) => "it is a name as hosts have it, without a dot, as in --name db",
            Self::NoFile { .. } => "it must be a file on this host",
            Self::FileSize { .. } | Self::NotText { .. } => "is it the right file?",
            Self::Saved { .. } => "leave the flag out, or take a snapshot of a VM that has it",
            Self::Label(_) => "for example: --label team=build",
            Self::Name(_) => "a name is up to 63 of a-z, 0-9, '.', '_' and '-', as in build-cache",
            Self::Transfer { flag: "--copy", .. } => "for example: --copy ./input:/data",
            Self::Transfer { .. } => "for example: --download /data/result:./result",
            Self::Relative { .. } => "begin the path with '/'",
            Self::NotFound { .. } => "it must be a file or directory on this host",
            Self::Unreadable { .. } => "check who owns the file and what its permissions are",
            Self::NoTerminal => "without --pty, input that is piped in reaches the command",
            Self::Listen(_) | Self::OpenServer(_) => "for example: --listen 127.0.0.1:7700",
            Self::Socket(_) => "for example: --socket ./lampyr.socket",
            Self::Forward(_) | Self::ForwardTwice(_) => "for example: --forward 8080:80",
            Self::PoolForward => "use lampyr run --forward, or a session",
            Self::PoolDownload => "for example: --download /out:./out-{run}",
            Self::OneOrAll => "for example: lampyr session stop builder",
            Self::OnePoolOrAll => "`lampyr pool list` shows all pools",
            Self::CopySides => "for example: lampyr cp ./src builder:/src",
            Self::Session(_) | Self::NameIsId(_) => "`lampyr session list` shows all sessions",
            Self::Image(_) => "for example: default, python:3.12 or localhost:5000/tools:1",
            Self::HomeNowhere { .. } => "set it to an absolute path, or go to another directory",
            Self::HomeNoDirectory { .. } | Self::NoHome => {
                "set LAMPYR_HOME to a directory of your own"
            }
            Self::ConfigSyntax { .. } => "lines look like: memory = \"1GB\"",
            _ => "see lampyr run --help",
        }
    }
}

/// How to say it right in the place where it was said wrong.
fn example(origin: &Origin, variable: &Variable) -> String {
    let value = variable.example;
    match origin {
        Origin::Flag(flag) => format!("for example: {flag} {value}"),
        Origin::Environment(name) => format!("for example: {name}={value}"),
        Origin::Config(key, _) => format!("for example: {key} = \"{value}\""),
        Origin::Default => format!("say what you want, for example: {}={value}", variable.name),
    }
}
