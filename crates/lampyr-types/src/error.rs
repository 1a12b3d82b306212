//! What kind of failure an error is, as users see it on every surface.

/// The kinds of failure a user can meet. One kind decides the process's exit
/// code and the envelope's `error` word; library errors map to it at the edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The request itself makes no sense; nothing was started.
    Usage,
    /// The command ran longer than its `--timeout`.
    Timeout,
    /// The VM ended by itself.
    VmCrashed,
    /// The VM never started or could not be reached, or something it needs
    /// (image, file, snapshot) is missing.
    ConnectionFailed,
    /// The session went away under a command.
    SessionDisconnected,
}

impl ErrorKind {
    /// The word in the envelope's `error` key.
    pub fn word(self) -> &'static str {
        match self {
            Self::Usage => "usage",
            Self::Timeout => "timeout",
            Self::VmCrashed => "vm_crashed",
            Self::ConnectionFailed => "connection_failed",
            Self::SessionDisconnected => "session_disconnected",
        }
    }

    /// The kind that a word stands for.
    pub fn from_word(word: &str) -> Option<Self> {
        let all = [
            Self::Usage,
            Self::Timeout,
            Self::VmCrashed,
            Self::ConnectionFailed,
            Self::SessionDisconnected,
        ];
        all.into_iter().find(|kind| kind.word() == word)
    }

    /// The exit code of a process that ends with this kind of failure.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Usage => 2,
            Self::Timeout
            | Self::VmCrashed
            | Self::ConnectionFailed
            | Self::SessionDisconnected => 1,
        }
    }
}
