//! Properties of `lampyr-proto`.

use std::fmt::Debug;

use lampyr_proto::{
    Control, Decoder, Event, Frame, GREETING_LEN, Greeting, GreetingScanner, HEADER, Kind,
    MAX_REQUEST, ReceiveWindow, Request, SendWindow, WINDOW, WireError, decode_message, encode,
    encode_message,
};
use minicbor::{Decode, Encode};

use crate::memory::within;
use crate::pieces::however_cut;

/// Frames are the same however the bytes are cut, encode to the bytes that
/// they came from, and take no more memory than was fed.
pub fn frames(bytes: &[u8]) {
    let (frames, error) = however_cut(bytes, |pieces| within(bound(bytes), || decoded(pieces)));
    let mut again = Vec::new();
    for f in &frames {
        encode(&mut again, f.stream, f.kind, f.lane, &f.payload);
    }
    let rest = bytes.strip_prefix(again.as_slice());
    let rest = rest.unwrap_or_else(|| panic!("other bytes when encoded again: {frames:?}"));
    assert!(error.is_some() || rest.len() < HEADER + MAX_REQUEST, "a frame was not heard");
    windows(&frames);
}

/// Some copies of what was fed, as vectors grow, and an error.
fn bound(bytes: &[u8]) -> usize {
    1024 + 20 * bytes.len()
}

/// The frames, and the error that ended them if one did.
fn decoded(pieces: &[&[u8]]) -> (Vec<Frame>, Option<WireError>) {
    let (mut decoder, mut frames) = (Decoder::default(), Vec::new());
    for piece in pieces {
        decoder.feed(piece);
        loop {
            match decoder.next_frame() {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(error) => return (frames, Some(error)),
            }
        }
    }
    (frames, None)
}

/// No credit that a peer gives makes a window larger than it is.
fn windows(frames: &[Frame]) {
    let (mut sent, mut received) = (SendWindow::default(), ReceiveWindow::default());
    for frame in frames {
        let len = frame.payload.len();
        sent.spend(len.min(sent.available()));
        if received.arrive(len).is_ok() {
            received.consume(len);
        }
        let credit = frame.credit();
        assert!(credit.is_ok() || frame.kind != Kind::Credit, "a credit frame without a number");
        let _ = credit.and_then(|more| sent.grant(more));
        assert!(sent.available() <= WINDOW as usize, "credit beyond the window");
    }
}

/// A message that decodes encodes to bytes that decode to it, and one that
/// does not decode takes no more memory than it is worth.
pub fn messages(bytes: &[u8]) {
    message::<Request>(bytes);
    message::<Event>(bytes);
    message::<Control>(bytes);
}

fn message<T>(bytes: &[u8])
where
    T: for<'b> Decode<'b, ()> + Encode<()> + PartialEq + Debug,
{
    // An empty string is one byte on the wire and three words here, and twice
    // that and more while a vector of them grows.
    let limit = 1024 + 100 * bytes.len();
    let Ok(message) = within(limit, || decode_message::<T>(bytes)) else { return };
    let again = encode_message(&message);
    assert_eq!(decode_message::<T>(&again).as_ref(), Ok(&message), "{}", again.escape_ascii());
}

/// The first greeting that is wanted is found however the bytes are cut, with
/// all that follows it; while there is none, hardly anything is held.
pub fn greeting(bytes: &[u8]) {
    let found = however_cut(bytes, |pieces| within(bound(bytes), || scanned(pieces)));
    assert_eq!(found, searched(bytes), "not what is in the bytes");
    if found.is_none() {
        let pieces: Vec<&[u8]> = bytes.chunks(1).collect();
        within(4 * GREETING_LEN, || scanned(&pieces));
    }
}

/// Half of all greetings, so that the others have to be passed over.
fn wanted(greeting: &Greeting) -> bool {
    greeting.0[0].is_multiple_of(2)
}

fn scanned(pieces: &[&[u8]]) -> Option<(Greeting, Vec<u8>)> {
    let mut scanner = GreetingScanner::default();
    let mut pieces = pieces.iter();
    let (greeting, mut rest) = pieces.find_map(|piece| scanner.feed(piece, wanted))?;
    rest.extend(pieces.copied().flatten());
    Some((greeting, rest))
}

/// The same by plain search in all of the bytes.
fn searched(bytes: &[u8]) -> Option<(Greeting, Vec<u8>)> {
    (0..bytes.len()).find_map(|at| {
        let (here, rest) = bytes[at..].split_first_chunk::<GREETING_LEN>()?;
        let greeting = Greeting(*here.last_chunk()?);
        let found = greeting.to_bytes() == *here && wanted(&greeting);
        found.then(|| (greeting, rest.to_vec()))
    })
}
