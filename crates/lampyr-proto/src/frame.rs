//! Frames: the only thing on the channel after the greeting.

/// The length of a frame's header in bytes.
pub const HEADER: usize = 12;

/// The longest payload a frame may have, in bytes.
pub const MAX_PAYLOAD: usize = 64 * 1024;

/// The longest request, in bytes: it carries a whole command line and its
/// environment, and Linux takes 2 MiB of each.
pub const MAX_REQUEST: usize = 8 << 20;

/// What a frame is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Host: opens a stream; the payload is a [`crate::Request`].
    Open = 1,
    /// A message beside the data: an [`crate::Event`] from the agent, a
    /// [`crate::Control`] from the host.
    Message = 2,
    /// Raw bytes of a lane.
    Data = 3,
    /// The receiver of a lane takes so many more bytes (payload: u32).
    Credit = 4,
    /// No more data follows on this lane.
    End = 5,
    /// The stream is over. From the host: end what it stood for.
    Close = 6,
}

/// The byte lanes of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Lane {
    /// Host to guest.
    Stdin = 0,
    /// Guest to host.
    Stdout = 1,
    /// Guest to host.
    Stderr = 2,
}

/// How a peer broke the protocol.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// A kind of frame that does not exist.
    #[error("a frame of unknown kind {0}")]
    Kind(u8),
    /// A lane that does not exist.
    #[error("a frame for unknown lane {0}")]
    Lane(u8),
    /// A payload over the limit, or one of the wrong length for its kind.
    #[error("a frame with a payload of {0} bytes where that cannot be")]
    Length(u32),
    /// Reserved bits that were not zero.
    #[error("a frame with reserved bits set")]
    Reserved,
    /// More data than there was credit for.
    #[error("data beyond the credit given")]
    Overrun,
    /// A frame for a stream or in an order that makes no sense.
    #[error("a {0} where there should be none")]
    OutOfPlace(&'static str),
    /// A message that does not decode.
    #[error("a message that cannot be read: {0}")]
    Message(String),
}

/// One frame; its payload is its own, or borrowed from what was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame<P = Vec<u8>> {
    /// The stream it belongs to.
    pub stream: u32,
    /// What it is for.
    pub kind: Kind,
    /// Its lane; meaningful for data, credit and end.
    pub lane: Lane,
    /// What it carries.
    pub payload: P,
}

impl<P: AsRef<[u8]>> Frame<P> {
    /// The number that a credit frame carries.
    pub fn credit(&self) -> Result<u32, WireError> {
        let payload = self.payload.as_ref();
        let bytes = payload.try_into();
        bytes.map(u32::from_le_bytes).map_err(|_| WireError::Length(payload.len() as u32))
    }
}

/// Takes the first frame off `bytes`, or nothing while it is not whole. A frame
/// that breaks a rule is refused by its header, before its payload arrives.
pub fn split_frame<'a>(bytes: &mut &'a [u8]) -> Result<Option<Frame<&'a [u8]>>, WireError> {
    let Some(header) = bytes.first_chunk::<HEADER>() else { return Ok(None) };
    let (stream, length, kind, lane) = parse_header(*header)?;
    let Some(payload) = bytes.get(HEADER..HEADER + length) else { return Ok(None) };
    *bytes = &bytes[HEADER + length..];
    Ok(Some(Frame { stream, kind, lane, payload }))
}

/// Appends a frame to `out`. The payload is at most [`MAX_PAYLOAD`] long, a
/// request at most [`MAX_REQUEST`].
pub fn encode(out: &mut Vec<u8>, stream: u32, kind: Kind, lane: Lane, payload: &[u8]) {
    debug_assert!(payload.len() <= most(kind), "callers cut data into frames");
    out.extend_from_slice(&stream.to_le_bytes());
    out.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    out.extend_from_slice(&[kind as u8, lane as u8, 0, 0]);
    out.extend_from_slice(payload);
}

/// Cuts a byte stream into frames. Never holds more than it was fed, and
/// refuses a frame by its header, before its payload arrives.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: Vec<u8>,
    taken: usize,
}

impl Decoder {
    /// Takes bytes from the channel.
    pub fn feed(&mut self, bytes: &[u8]) {
        if self.taken > 0 {
            self.buffer.drain(..self.taken);
            self.taken = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole frame, or `None` until more bytes come. After an error
    /// the stream has no meaning any more.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, WireError> {
        let mut rest = &self.buffer[self.taken..];
        let Some(frame) = split_frame(&mut rest)? else { return Ok(None) };
        let Frame { stream, kind, lane, payload } = frame;
        let frame = Frame { stream, kind, lane, payload: payload.to_vec() };
        self.taken = self.buffer.len() - rest.len();
        Ok(Some(frame))
    }
}

fn parse_header(h: [u8; HEADER]) -> Result<(u32, usize, Kind, Lane), WireError> {
    let stream = u32::from_le_bytes([h[0], h[1], h[2], h[3]]);
    let length = u32::from_le_bytes([h[4], h[5], h[6], h[7]]);
    if h[10] != 0 || h[11] != 0 {
        return Err(WireError::Reserved);
    }
    let (kind, lane) = (parse_kind(h[8])?, parse_lane(h[9])?);
    let fits = match kind {
        Kind::Open | Kind::Message | Kind::Data => length as usize <= most(kind),
        Kind::Credit => length == 4,
        Kind::End | Kind::Close => length == 0,
    };
    if fits { Ok((stream, length as usize, kind, lane)) } else { Err(WireError::Length(length)) }
}

fn most(kind: Kind) -> usize {
    if kind == Kind::Open { MAX_REQUEST } else { MAX_PAYLOAD }
}

fn parse_kind(byte: u8) -> Result<Kind, WireError> {
    use Kind::{Close, Credit, Data, End, Message, Open};
    let kinds = [Open, Message, Data, Credit, End, Close];
    kinds.into_iter().find(|k| *k as u8 == byte).ok_or(WireError::Kind(byte))
}

fn parse_lane(byte: u8) -> Result<Lane, WireError> {
    let lanes = [Lane::Stdin, Lane::Stdout, Lane::Stderr];
    lanes.into_iter().find(|l| *l as u8 == byte).ok_or(WireError::Lane(byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frames() -> impl Strategy<Value = Frame> {
        let kind = prop_oneof![
            Just((Kind::Open, 0..200_usize)),
            Just((Kind::Message, 0..200)),
            Just((Kind::Data, 0..5000)),
            Just((Kind::Credit, 4..5)),
            Just((Kind::End, 0..1)),
            Just((Kind::Close, 0..1)),
        ];
        let lane = prop_oneof![Just(Lane::Stdin), Just(Lane::Stdout), Just(Lane::Stderr)];
        (any::<u32>(), kind, lane).prop_flat_map(|(stream, (kind, len), lane)| {
            proptest::collection::vec(any::<u8>(), len).prop_map(move |payload| Frame {
                stream,
                kind,
                lane,
                payload,
            })
        })
    }

    proptest! {
        #[test]
        fn frames_survive_any_chunking(
            sent in proptest::collection::vec(frames(), 0..12),
            chunk in 1_usize..700,
        ) {
            let mut bytes = Vec::new();
            for f in &sent {
                encode(&mut bytes, f.stream, f.kind, f.lane, &f.payload);
            }
            let (mut decoder, mut got) = (Decoder::default(), Vec::new());
            for piece in bytes.chunks(chunk) {
                decoder.feed(piece);
                while let Some(frame) = decoder.next_frame().unwrap() {
                    got.push(frame);
                }
            }
            prop_assert_eq!(got, sent);
        }

        #[test]
        fn hostile_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let mut decoder = Decoder::default();
            decoder.feed(&bytes);
            while let Ok(Some(frame)) = decoder.next_frame() {
                let _ = frame.credit();
                let _ = crate::decode_message::<crate::Event>(&frame.payload);
                let _ = crate::decode_message::<crate::Request>(&frame.payload);
            }
        }
    }

    #[test]
    fn a_giant_length_is_refused_by_its_header() {
        let mut decoder = Decoder::default();
        decoder.feed(&[1, 0, 0, 0, 255, 255, 255, 255, 3, 1, 0, 0]);
        assert_eq!(decoder.next_frame(), Err(WireError::Length(u32::MAX)));
    }
}
