//! What a measured command says, or nobody wants to hear.

use std::io;

use crate::core_api::{Output, OutputStream};

/// Output for a number to be read from.
#[derive(Debug, Default)]
pub(super) struct Said(pub(super) String);

impl Output for Said {
    fn write(&mut self, _stream: OutputStream, bytes: &[u8]) -> io::Result<()> {
        self.0.push_str(&String::from_utf8_lossy(bytes));
        Ok(())
    }
}

/// Output that nobody wants.
pub(super) struct Nowhere;

impl Output for Nowhere {
    fn write(&mut self, _stream: OutputStream, _bytes: &[u8]) -> io::Result<()> {
        Ok(())
    }
}
