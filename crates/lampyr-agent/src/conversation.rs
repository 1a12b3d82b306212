//! What the host says: first a greeting, then the rest.

use lampyr_proto::{Greeting, GreetingScanner};

/// Where we stand with the host.
pub(crate) enum Conversation {
    /// Nobody has greeted us yet; whatever else we hear is an older echo.
    Silent(GreetingScanner),
    /// A host has greeted us.
    Open,
}

impl Conversation {
    pub(crate) fn new() -> Self {
        Self::Silent(GreetingScanner::default())
    }

    /// Takes bytes; returns the greeting that must be echoed, if this was one,
    /// and those bytes that belong to frames.
    pub(crate) fn feed<'a>(&mut self, bytes: &'a [u8]) -> (Option<Greeting>, &'a [u8]) {
        let Self::Silent(scanner) = self else { return (None, bytes) };
        match scanner.feed(bytes, |_| true) {
            Some((greeting, rest)) => {
                *self = Self::Open;
                // A greeting ends in the bytes that complete it.
                (Some(greeting), &bytes[bytes.len() - rest.len()..])
            }
            None => (None, &[]),
        }
    }

    pub(crate) fn is_open(&self) -> bool {
        matches!(self, Self::Open)
    }
}
