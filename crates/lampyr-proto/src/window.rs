//! Credit: how a receiver bounds what may be on its way to it.

use crate::WireError;

/// How many bytes of a lane may be under way without having been consumed.
pub const WINDOW: u32 = 256 * 1024;

/// The sending end of a lane.
#[derive(Debug, Clone, Copy)]
pub struct SendWindow {
    credit: u32,
}

impl Default for SendWindow {
    fn default() -> Self {
        Self { credit: WINDOW }
    }
}

impl SendWindow {
    /// How many bytes may be sent now.
    pub fn available(self) -> usize {
        self.credit as usize
    }

    /// Notes that `sent` bytes, at most [`Self::available`], were sent.
    pub fn spend(&mut self, sent: usize) {
        debug_assert!(sent <= self.available(), "senders ask first");
        self.credit = self.credit.saturating_sub(sent as u32);
    }

    /// The receiver gave more credit. More than a window is a broken peer.
    pub fn grant(&mut self, more: u32) -> Result<(), WireError> {
        let credit = self.credit.checked_add(more).filter(|c| *c <= WINDOW);
        self.credit = credit.ok_or(WireError::Overrun)?;
        Ok(())
    }
}

/// The receiving end of a lane.
#[derive(Debug, Clone, Copy)]
pub struct ReceiveWindow {
    credit: u32,
    consumed: u32,
}

impl Default for ReceiveWindow {
    fn default() -> Self {
        Self { credit: WINDOW, consumed: 0 }
    }
}

impl ReceiveWindow {
    /// Data of this length arrived; an error where the peer had no credit.
    pub fn arrive(&mut self, length: usize) -> Result<(), WireError> {
        let left = u32::try_from(length).ok().and_then(|l| self.credit.checked_sub(l));
        self.credit = left.ok_or(WireError::Overrun)?;
        Ok(())
    }

    /// Data of this length was consumed. Returns credit to send, in portions
    /// large enough that credit frames do not crowd the channel.
    pub fn consume(&mut self, length: usize) -> Option<u32> {
        self.consumed += length as u32;
        if self.consumed < WINDOW / 4 {
            return None;
        }
        let grant = std::mem::take(&mut self.consumed);
        self.credit += grant;
        Some(grant)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Whatever the order of sending and consuming, an honest pair never
        /// overruns and never gets stuck.
        #[test]
        fn an_honest_pair_moves_every_byte(steps in proptest::collection::vec(1_usize..200_000, 1..60)) {
            let (mut tx, mut rx) = (SendWindow::default(), ReceiveWindow::default());
            let mut waiting = 0;
            for step in steps {
                let n = step.min(tx.available());
                tx.spend(n);
                rx.arrive(n).unwrap();
                waiting += n;
                let eaten = waiting.min(step);
                waiting -= eaten;
                if let Some(grant) = rx.consume(eaten) {
                    tx.grant(grant).unwrap();
                }
            }
            if let Some(grant) = rx.consume(waiting) {
                tx.grant(grant).unwrap();
            }
            prop_assert!(tx.available() >= (WINDOW - WINDOW / 4) as usize);
        }
    }

    #[test]
    fn a_peer_without_credit_is_caught() {
        let mut rx = ReceiveWindow::default();
        rx.arrive(WINDOW as usize).unwrap();
        assert_eq!(rx.arrive(1), Err(WireError::Overrun));
        assert_eq!(SendWindow::default().grant(1), Err(WireError::Overrun));
    }
}
