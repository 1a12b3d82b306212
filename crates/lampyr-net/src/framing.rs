//! Frames on a stream as QEMU has them: four bytes of length, the highest
//! first, and the frame.

use lampyr_proto::Card;

/// The longest packet that goes anywhere.
pub(crate) const MAX_PACKET: usize = Card::MTU as usize;
/// The header of every frame.
pub(crate) const ETHERNET: usize = 14;
/// The longest frame that goes anywhere: a packet and its Ethernet header.
pub const MAX_FRAME: usize = MAX_PACKET + ETHERNET;
/// The longest frame that QEMU says; a longer one is no QEMU's.
const MAX_SAID: usize = 4096 + 65_536;
const LENGTH: usize = 4;
/// Where it is said whom a frame is from: after its length and whom it is for.
const FROM: usize = LENGTH + 12;
/// What waits for QEMU at most, in bytes, before nothing more is made.
const MAX_WAITING: usize = 512 << 10;
/// As much as Linux takes whole or not at all on a line, in bytes. More than
/// one frame of ours fits.
const WHOLE: usize = 32 << 10;

/// The stream is not what it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Broken;

/// Finds the frames in what comes.
#[derive(Debug, Default)]
pub struct Inbox {
    bytes: Vec<u8>,
    taken: usize,
    /// Whose frame is looked for, in what begins in the middle of one.
    sought: Option<[u8; 6]>,
}

impl Inbox {
    /// What comes may begin in the middle of a frame: all before the next one
    /// that the card with this hardware address says is passed over.
    pub(crate) fn seek(&mut self, mac: [u8; 6]) {
        self.sought = Some(mac);
    }

    /// Goes to the beginning of a frame. Whoever speaks can make us believe in
    /// one, and would speak for itself there as well.
    fn find(&mut self, mac: [u8; 6]) {
        let begins = |head: &[u8]| {
            let length = head.first_chunk().map_or(0, |length| u32::from_be_bytes(*length));
            (ETHERNET..=MAX_FRAME).contains(&(length as usize)) && head.ends_with(&mac)
        };
        match self.bytes.windows(FROM).position(begins) {
            Some(at) => (self.taken, self.sought) = (at, None),
            None => self.taken = self.bytes.len().saturating_sub(FROM - 1),
        }
    }

    /// Takes what has come.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.bytes.drain(..self.taken);
        self.taken = 0;
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole frame.
    pub fn next_frame(&mut self) -> Result<Option<&[u8]>, Broken> {
        if let Some(mac) = self.sought {
            self.find(mac);
            if self.sought.is_some() {
                return Ok(None);
            }
        }
        let rest = self.bytes.get(self.taken..).unwrap_or_default();
        let Some((length, rest)) = rest.split_first_chunk::<LENGTH>() else { return Ok(None) };
        let length = u32::from_be_bytes(*length) as usize;
        if length > MAX_SAID {
            return Err(Broken);
        }
        let Some(frame) = rest.get(..length) else { return Ok(None) };
        self.taken += LENGTH + length;
        Ok(Some(frame))
    }
}

/// The frames that are to go.
///
/// They go whole, so that whoever sends them may die at any moment and another
/// go on: the rest of a frame would never come, and what the other says would
/// be taken for it.
#[derive(Debug, Default)]
pub struct Outbox {
    bytes: Vec<u8>,
    sent: usize,
    /// What has not gone of a piece that has not gone at once.
    rest: usize,
}

impl Outbox {
    /// Whether another frame has room.
    pub fn has_room(&self) -> bool {
        self.bytes.len() - self.sent < MAX_WAITING
    }

    /// Adds a frame of this length, which `fill` writes.
    pub fn push<R>(&mut self, length: usize, fill: impl FnOnce(&mut [u8]) -> R) -> R {
        self.bytes.extend_from_slice(&(length as u32).to_be_bytes());
        let start = self.bytes.len();
        self.bytes.resize(start + length, 0);
        fill(self.bytes.get_mut(start..).unwrap_or_default())
    }

    /// The piece that is to go next: whole frames, or what is left of them.
    pub fn next_piece(&self) -> &[u8] {
        let waiting = self.bytes.get(self.sent..).unwrap_or_default();
        let length = if self.rest > 0 { self.rest } else { whole(waiting) };
        waiting.get(..length).unwrap_or_default()
    }

    /// So much of the piece has gone.
    pub fn sent(&mut self, length: usize) {
        self.rest = self.next_piece().len().saturating_sub(length);
        self.sent += length;
        if self.sent == self.bytes.len() {
            self.bytes.clear();
            self.sent = 0;
        } else if self.sent > MAX_WAITING {
            self.bytes.drain(..self.sent);
            self.sent = 0;
        }
    }
}

/// The length of the first frames that fit together, of one at least.
fn whole(frames: &[u8]) -> usize {
    let mut length = 0;
    while let Some((head, _)) = frames.get(length..).and_then(<[u8]>::split_first_chunk) {
        let next = length + LENGTH + u32::from_be_bytes(*head) as usize;
        if length > 0 && next > WHOLE {
            break;
        }
        length = next;
    }
    length
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    use super::*;

    fn everything(out: &Outbox) -> Vec<u8> {
        out.bytes.clone()
    }

    #[test]
    fn pieces_are_whole_frames_and_what_is_left_of_them() {
        let mut out = Outbox::default();
        let lengths = [0, 1, MAX_FRAME, MAX_FRAME, 20_000, 60_000, 3];
        for length in lengths {
            out.push(length, |_| ());
        }
        let mut pieces = Vec::new();
        while !out.next_piece().is_empty() {
            pieces.push(out.next_piece().len());
            out.sent(1);
            assert_eq!(out.next_piece().len(), pieces.last().unwrap() - 1);
            out.sent(out.next_piece().len());
        }
        let each = |length: usize| length + LENGTH;
        let expected = [
            each(0) + each(1) + each(MAX_FRAME),
            each(MAX_FRAME),
            each(20_000),
            each(60_000),
            each(3),
        ];
        assert_eq!(pieces, expected);
    }

    /// Whoever dies has said whole frames, wherever the line was full.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_line_that_is_full_ends_with_a_whole_frame() {
        let (mut line, mut qemu) = UnixStream::pair().unwrap();
        line.set_nonblocking(true).unwrap();
        let (mut out, mut inbox, mut pushed) = (Outbox::default(), Inbox::default(), 0);
        let mut bytes = vec![0; 70_000];
        for round in 1..300 {
            while out.has_room() {
                pushed += 7919;
                out.push(ETHERNET + pushed % MAX_PACKET, |_| ());
            }
            while let Ok(n) = line.write(out.next_piece()) {
                assert_eq!(n, out.next_piece().len(), "a frame was torn");
                out.sent(n);
            }
            // So the next time it is full elsewhere.
            let n = qemu.read(&mut bytes[..round * 211]).unwrap();
            inbox.feed(&bytes[..n]);
            while inbox.next_frame().unwrap().is_some() {}
        }
        drop(line);
        while let Ok(n @ 1..) = qemu.read(&mut bytes) {
            inbox.feed(&bytes[..n]);
            while inbox.next_frame().unwrap().is_some() {}
        }
        assert_eq!(inbox.taken, inbox.bytes.len(), "the last frame is torn");
    }

    #[test]
    fn a_frame_is_found_behind_the_rest_of_another() {
        let mac = [2, 7, 7, 7, 7, 7];
        let frame = |payload: &[u8]| [&[2, 1, 1, 1, 1, 1][..], &mac, &[8, 0], payload].concat();
        let mut out = Outbox::default();
        for payload in [&[9; 500][..], b"second", b"third"] {
            let frame = frame(payload);
            out.push(frame.len(), |room| room.copy_from_slice(&frame));
        }
        let whole = frame(&[9; 500]).len() + LENGTH;
        for (cut, size) in [(1, 1), (20, 7), (whole - 1, 600), (whole, 5)] {
            let mut inbox = Inbox::default();
            inbox.seek(mac);
            let mut frames = Vec::new();
            for piece in everything(&out)[cut..].chunks(size) {
                inbox.feed(piece);
                while let Some(frame) = inbox.next_frame().unwrap() {
                    frames.push(frame.to_vec());
                }
            }
            assert_eq!(frames, [frame(b"second"), frame(b"third")], "{cut} {size}");
        }
    }

    #[test]
    fn frames_come_whole_however_they_are_cut() {
        let mut out = Outbox::default();
        for frame in [&b"one"[..], b"", b"three"] {
            out.push(frame.len(), |room| room.copy_from_slice(frame));
        }
        let bytes = everything(&out);
        for size in [1, 3, bytes.len()] {
            let (mut inbox, mut frames) = (Inbox::default(), Vec::new());
            for piece in bytes.chunks(size) {
                inbox.feed(piece);
                while let Some(frame) = inbox.next_frame().unwrap() {
                    frames.push(frame.to_vec());
                }
            }
            assert_eq!(frames, [&b"one"[..], b"", b"three"]);
        }
        out.sent(bytes.len());
        assert!(out.next_piece().is_empty() && out.has_room());
    }

    #[test]
    fn a_frame_that_no_qemu_says_ends_it() {
        let mut inbox = Inbox::default();
        inbox.feed(&u32::MAX.to_be_bytes());
        assert_eq!(inbox.next_frame(), Err(Broken));
    }
}
