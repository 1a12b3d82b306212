//! The card as the stack's library sees it.

use std::collections::VecDeque;

use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::time::Instant;

use crate::framing::{MAX_FRAME, Outbox};

/// Frames that the stack is to hear, and room for what it says.
#[derive(Default)]
pub(crate) struct Queue {
    pub(crate) heard: VecDeque<Vec<u8>>,
    pub(crate) out: Outbox,
}

impl Device for Queue {
    type RxToken<'a> = Frame;
    type TxToken<'a> = Room<'a>;

    fn receive(&mut self, _now: Instant) -> Option<(Frame, Room<'_>)> {
        if !self.out.has_room() {
            return None;
        }
        Some((Frame(self.heard.pop_front()?), Room(&mut self.out)))
    }

    fn transmit(&mut self, _now: Instant) -> Option<Room<'_>> {
        self.out.has_room().then_some(Room(&mut self.out))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = MAX_FRAME;
        capabilities
    }
}

/// A frame that was heard.
pub(crate) struct Frame(Vec<u8>);

impl RxToken for Frame {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

/// Room for a frame.
pub(crate) struct Room<'a>(&'a mut Outbox);

impl TxToken for Room<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, f: F) -> R {
        self.0.push(length, f)
    }
}
