//! What the host and the agent say to each other over the one byte channel.
//!
//! A conversation begins with a [`Greeting`]: the host sends it, the agent
//! echoes it, and whatever either side heard before is forgotten. So a
//! restored guest, which remembers an older conversation, starts afresh.
//! After that both sides send frames:
//!
//! ```text
//! | stream u32 | length u32 | kind u8 | lane u8 | zero u16 | payload … |   little endian
//! ```
//!
//! The host opens streams, one per request. A stream has three lanes of raw
//! bytes ([`Lane`]), each with its own credit, and small typed messages beside
//! them ([`Request`], [`Event`], [`Control`]). Messages are CBOR maps with
//! numbered fields: a field may be added, never changed, and a peer skips what
//! it does not know. [`GENERATION`] counts such additions.
//!
//! Everything that comes from the guest is hostile. A frame that breaks a rule
//! is a [`WireError`], and the conversation ends there.

mod card;
mod file;
mod frame;
mod greeting;
mod message;
mod trust;
mod window;

pub use card::Card;
pub use file::{FileFacts, FileJob, FileKind, FileMkdir, FileStat, FileWrite, decode_facts};
pub use frame::{
    Decoder, Frame, HEADER, Kind, Lane, MAX_PAYLOAD, MAX_REQUEST, WireError, encode, split_frame,
};
pub use greeting::{GREETING_LEN, Greeting, GreetingScanner};
pub use message::{
    Control, Denied, Event, Exec, Exited, Failure, Hello, Job, Mount, NetUse, Point, Request,
    Resumed, Start, Status, Welcome, Window, decode_message, encode_message,
};
pub use trust::{AUTHORITY, BUNDLE};
pub use window::{ReceiveWindow, SendWindow, WINDOW};

/// The version of this protocol. Additions raise it. [`Hello`] and [`Welcome`]
/// carry each side's number; there is one so far, so nobody compares them yet.
pub const GENERATION: u32 = 3;
