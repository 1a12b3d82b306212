//! Plain values that every room of Lampyr shares: ids, names, sizes,
//! durations, error kinds and progress. Nothing in here touches the system.

mod error;
mod id;
mod progress;
mod quantity;

pub use error::ErrorKind;
pub use id::{BadId, BadName, Name, SandboxId};
pub use progress::{NoProgress, Progress, Task};
pub use quantity::{BadQuantity, Size, Span};
