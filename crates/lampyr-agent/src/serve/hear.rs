//! Hearing the host: bytes from the port, cut into frames.

use std::io;

use lampyr_proto::{Greeting, MAX_PAYLOAD, split_frame};

use super::Server;
use crate::port::More;

/// Heard before it is done, in bytes. The port gives a page at a time, and
/// each piece by itself would be a change of process.
pub(super) const HEARD: usize = 4 * MAX_PAYLOAD;

impl Server {
    /// Reads all that the host has said, and does it.
    pub(super) fn hear(&mut self) -> io::Result<()> {
        let mut heard = std::mem::take(&mut self.heard);
        loop {
            let (n, more) = self.port.read_all(&mut heard[self.held..])?;
            let end = self.held + n;
            if n > 0 {
                self.host_gone = false;
                let rest = self.listen(&heard[..end])?.len();
                heard.copy_within(end - rest..end, 0);
                self.held = rest;
            }
            if self.held == heard.len() {
                // A request that is longer than most.
                heard.resize(2 * self.held, 0);
            }
            match more {
                More::Perhaps => {}
                More::Later => break,
                More::Never => {
                    self.host_gone = true;
                    self.end_conversation();
                    break;
                }
            }
        }
        if heard.len() > HEARD && self.held <= HEARD {
            heard.truncate(HEARD);
            heard.shrink_to_fit();
        }
        self.heard = heard;
        Ok(())
    }

    /// Does what is said in `bytes`; returns the start of a frame at their end.
    /// Behind the end of a conversation the next one may begin.
    fn listen<'a>(&mut self, mut bytes: &'a [u8]) -> io::Result<&'a [u8]> {
        while !bytes.is_empty() {
            let (greeting, rest) = self.conversation.feed(bytes);
            if let Some(greeting) = greeting {
                self.greeted(greeting);
            }
            bytes = rest;
            while self.conversation.is_open() {
                let done = match split_frame(&mut bytes) {
                    Ok(None) => return Ok(bytes),
                    Ok(Some(frame)) => self.obey(&frame)?,
                    // A greeting is no frame.
                    Err(_) if self.frozen => {
                        self.be_copy();
                        continue;
                    }
                    Err(e) => Err(e),
                };
                if done.is_err() {
                    self.end_conversation();
                }
            }
        }
        Ok(bytes)
    }

    fn greeted(&mut self, greeting: Greeting) {
        self.port.out().extend_from_slice(&greeting.to_bytes());
    }
}
