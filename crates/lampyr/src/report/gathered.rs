//! Both streams of a command, kept until it ends.

use std::io;
use std::path::Path;

use lampyr_types::SandboxId;

use crate::core_api::OutputStream;
use crate::core_api::capture::{Capture, Captured};

/// The two streams so far.
pub(super) struct Gathered {
    stdout: Capture,
    stderr: Capture,
}

impl Gathered {
    /// Keeps `cap` bytes of each stream; a longer one goes whole into a file
    /// in `outputs`.
    pub(super) fn new(cap: usize, outputs: &Path) -> Self {
        let id = SandboxId::random();
        let capture = |name| Capture::new(cap, outputs.join(format!("{id}.{name}")));
        Self { stdout: capture("stdout"), stderr: capture("stderr") }
    }

    /// Adds to a stream.
    pub(super) fn push(&mut self, stream: OutputStream, bytes: &[u8]) -> io::Result<()> {
        match stream {
            OutputStream::Stdout => self.stdout.push(bytes),
            OutputStream::Stderr => self.stderr.push(bytes),
        }
    }

    /// Standard output and standard error.
    pub(super) fn finish(self) -> io::Result<(Captured, Captured)> {
        Ok((self.stdout.finish()?, self.stderr.finish()?))
    }
}
