//! What the host says, cut into frames: first a greeting, then the rest.

use lampyr_proto::{Decoder, Frame, Greeting, GreetingScanner, WireError};

/// Where we stand with the host.
pub(crate) enum Conversation {
    /// Nobody has greeted us yet; whatever else we hear is an older echo.
    Silent(GreetingScanner),
    /// A host has greeted us.
    Open(Decoder),
}

impl Conversation {
    pub(crate) fn new() -> Self {
        Self::Silent(GreetingScanner::default())
    }

    /// Takes bytes; returns the greeting that must be echoed, if this was one.
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> Option<Greeting> {
        match self {
            Self::Open(decoder) => {
                decoder.feed(bytes);
                None
            }
            Self::Silent(scanner) => {
                let (greeting, rest) = scanner.feed(bytes, |_| true)?;
                let mut decoder = Decoder::default();
                decoder.feed(&rest);
                *self = Self::Open(decoder);
                Some(greeting)
            }
        }
    }

    /// The next frame that is whole.
    pub(crate) fn next_frame(&mut self) -> Result<Option<Frame>, WireError> {
        match self {
            Self::Silent(_) => Ok(None),
            Self::Open(decoder) => decoder.next_frame(),
        }
    }
}
