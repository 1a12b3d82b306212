//! Takes values out of what a server says over a WebSocket.
//!
//! A message can come in several frames, with others in between, and a value
//! can be cut by their heads. So it is looked for in what the frames of one
//! message hold, and nothing of a message that is over is held back: whoever
//! waits for it gets it.

use std::collections::VecDeque;

use super::mask::Mask;
use super::pattern::Values;

/// The most bytes of heads that wait behind a value's beginning.
const MOST_WAITING: usize = 16 << 10;
/// The longest that a frame which is no part of a message can hold.
const MOST_CONTROL: u64 = 125;

/// That a server says what no client of a WebSocket may accept, or what
/// nobody can look into.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the server's frames are not those of a plain WebSocket")]
pub(super) struct Odd;

enum State {
    Head,
    /// So many bytes of a frame that is a part of a message, and whether it is
    /// the last one.
    Part(u64, bool),
    /// So many bytes of a frame that stands alone.
    Control(u64),
}

/// What a server says, frame by frame.
pub(super) struct Frames {
    values: Values,
    mask: Mask,
    state: State,
    /// A head that is not whole, or a frame that stands alone.
    own: Vec<u8>,
    in_message: bool,
    /// How many bytes of messages have come, and how many went on.
    come: u64,
    gone: u64,
    /// What goes on after so many bytes of messages.
    waiting: VecDeque<(u64, Vec<u8>)>,
    out: Vec<u8>,
}

impl Frames {
    pub(super) fn new(values: &Values) -> Self {
        Self {
            values: values.clone(),
            mask: Mask::new(values),
            state: State::Head,
            own: Vec::new(),
            in_message: false,
            come: 0,
            gone: 0,
            waiting: VecDeque::new(),
            out: Vec::new(),
        }
    }

    /// Takes what comes next; gives what can go on.
    pub(super) fn feed(&mut self, mut bytes: &[u8]) -> Result<Vec<u8>, Odd> {
        while !bytes.is_empty() {
            let taken = match self.state {
                State::Head => self.head(bytes[0])?,
                State::Part(left, last) => self.part(bytes, left, last),
                State::Control(left) => self.control(bytes, left)?,
            };
            bytes = &bytes[taken..];
        }
        Ok(std::mem::take(&mut self.out))
    }

    /// Nothing more comes.
    pub(super) fn end(&mut self) -> Vec<u8> {
        let clear = self.mask.end();
        self.go(&clear);
        std::mem::take(&mut self.out)
    }

    fn head(&mut self, byte: u8) -> Result<usize, Odd> {
        self.own.push(byte);
        let Some((first, length)) = whole(&self.own)? else { return Ok(1) };
        let (last, kind) = (first & 0x80 != 0, first & 0xf);
        match kind {
            // On with a message, or with a new one.
            0 if self.in_message => {}
            1 | 2 if !self.in_message => {}
            8..=10 if last && length <= MOST_CONTROL => {
                self.state = State::Control(length);
                return self.control(&[], length).map(|_| 1);
            }
            _ => return Err(Odd),
        }
        self.in_message = true;
        self.pass()?;
        self.part(&[], length, last);
        Ok(1)
    }

    fn part(&mut self, bytes: &[u8], left: u64, last: bool) -> usize {
        let own = first(bytes, left);
        self.come += own.len() as u64;
        let mut clear = self.mask.feed(own);
        let left = left - own.len() as u64;
        self.state = State::Part(left, last);
        if left == 0 {
            self.state = State::Head;
            if last {
                self.in_message = false;
                clear.append(&mut self.mask.end());
            }
        }
        self.go(&clear);
        own.len()
    }

    fn control(&mut self, bytes: &[u8], left: u64) -> Result<usize, Odd> {
        let own = first(bytes, left);
        self.own.extend_from_slice(own);
        let left = left - own.len() as u64;
        self.state = State::Control(left);
        if left == 0 {
            self.state = State::Head;
            let held = self.own.split_off(2);
            self.own.extend(Mask::whole(&self.values, &held));
            self.pass()?;
        }
        Ok(own.len())
    }

    /// Lets what is whole go on after all that has come of messages.
    fn pass(&mut self) -> Result<(), Odd> {
        self.waiting.push_back((self.come, std::mem::take(&mut self.own)));
        self.go(&[]);
        let waiting: usize = self.waiting.iter().map(|(_, bytes)| bytes.len()).sum();
        if waiting > MOST_WAITING { Err(Odd) } else { Ok(()) }
    }

    /// Lets these bytes of messages go on, and what waits for them.
    fn go(&mut self, mut clear: &[u8]) {
        while let Some((after, bytes)) = self.waiting.pop_front() {
            let now = first(clear, after - self.gone);
            self.out.extend_from_slice(now);
            self.gone += now.len() as u64;
            clear = &clear[now.len()..];
            if self.gone < after {
                return self.waiting.push_front((after, bytes));
            }
            self.out.extend(bytes);
        }
        self.out.extend_from_slice(clear);
        self.gone += clear.len() as u64;
    }
}

/// The first byte of a head and how much its frame holds; `None`: there is
/// more of it to come. A server masks nothing, and what an extension means,
/// nobody has asked for.
fn whole(head: &[u8]) -> Result<Option<(u8, u64)>, Odd> {
    let [first, second, long @ ..] = head else { return Ok(None) };
    if first & 0x70 != 0 || second & 0x80 != 0 {
        return Err(Odd);
    }
    let length = match (second, long.len()) {
        (0..126, _) => u64::from(*second),
        (126, 2) | (127, 8) => long.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)),
        _ => return Ok(None),
    };
    if length >> 63 == 0 { Ok(Some((*first, length))) } else { Err(Odd) }
}

/// The first of some bytes, so many at most.
fn first(bytes: &[u8], most: u64) -> &[u8] {
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    &bytes[..bytes.len().min(most)]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::pattern::Pattern;
    use super::*;

    const VALUE: &str = "the-real-value";

    fn frames() -> Frames {
        Frames::new(&[Pattern::plain(VALUE)].into_iter().collect())
    }

    fn frame(first: u8, body: &[u8]) -> Vec<u8> {
        let head = match body.len() {
            0..126 => vec![first, body.len() as u8],
            126..65_536 => [&[first, 126][..], &(body.len() as u16).to_be_bytes()].concat(),
            _ => [&[first, 127][..], &(body.len() as u64).to_be_bytes()].concat(),
        };
        [&head, body].concat()
    }

    fn said(bytes: &[u8], size: usize) -> Result<Vec<u8>, Odd> {
        let (mut frames, mut out) = (frames(), Vec::new());
        for piece in bytes.chunks(size) {
            out.extend(frames.feed(piece)?);
        }
        out.extend(frames.end());
        Ok(out)
    }

    fn blot(text: &str) -> Vec<u8> {
        text.replace(VALUE, &"*".repeat(VALUE.len())).into_bytes()
    }

    #[test]
    fn a_message_that_is_over_is_not_held() {
        let mut frames = frames();
        for text in ["the-re", "the", "", "the-real-value"] {
            let heard = frames.feed(&frame(0x81, text.as_bytes())).unwrap();
            assert_eq!(heard, frame(0x81, &blot(text)));
        }
        let heard = frames.feed(&frame(0x01, b"ping: the")).unwrap();
        assert!(heard.starts_with(b"\x01\x09"), "{heard:?}");
    }

    #[test]
    fn what_no_server_may_say_ends_it() {
        let odd: [&[u8]; 10] = [
            b"HTTP/1.1 200 OK",
            b"\xc1\x01x",
            b"\x81\x81keyyx",
            b"\x80\x01x",
            b"\x83\x01x",
            b"\x01\x01x\x81\x01x",
            b"\x09\x01x",
            b"\x89\x7e\x00\x7exx",
            b"\x82\x7f\xff\xff\xff\xff\xff\xff\xff\xff",
            b"\x8b\x00",
        ];
        for bytes in odd {
            assert_eq!(said(bytes, 100), Err(Odd), "{bytes:?}");
            assert_eq!(said(bytes, 1), Err(Odd), "{bytes:?}");
        }
    }

    #[test]
    fn heads_do_not_wait_without_bound() {
        let held = [frame(0x01, b"the-real-"), frame(0x00, b"").repeat(MOST_WAITING)].concat();
        assert_eq!(said(&held, 1000), Err(Odd));
        let gone = [frame(0x01, b"an-other\n"), frame(0x00, b"").repeat(MOST_WAITING)].concat();
        assert_eq!(said(&gone, 1000), Ok(gone));
    }

    #[test]
    fn a_close_tells_nothing() {
        let close = [b"\x03\xe8", VALUE.as_bytes()].concat();
        let clear = [b"\x03\xe8", blot(VALUE).as_slice()].concat();
        assert_eq!(said(&frame(0x88, &close), 3), Ok(frame(0x88, &clear)));
    }

    proptest! {
        /// Fragments of fragments, with frames between them that hold values, too.
        #[test]
        fn frames_stay_whole_and_tell_nothing(
            parts in prop::collection::vec(("[a-e ]{0,8}", any::<bool>(), 0_usize..20, any::<bool>()), 1..8),
            long in 0_usize..70_000,
            size in 1_usize..200,
        ) {
            let message: String = parts
                .iter()
                .map(|(text, has, ..)| text.clone() + if *has { VALUE } else { "" })
                .collect::<String>() + &"x".repeat(long);
            let (mut said_by, mut expected) = (Vec::new(), Vec::new());
            let (clear, mut at) = (blot(&message), 0);
            for (n, (.., length, ping)) in parts.iter().enumerate() {
                let until = if n + 1 == parts.len() { message.len() } else { message.len().min(at + length) };
                let first = u8::from(n == 0) | if n + 1 == parts.len() { 0x80 } else { 0 };
                if *ping {
                    said_by.extend(frame(0x89, VALUE.as_bytes()));
                    expected.extend(frame(0x89, &blot(VALUE)));
                }
                said_by.extend(frame(first, &message.as_bytes()[at..until]));
                expected.extend(frame(first, &clear[at..until]));
                at = until;
            }
            prop_assert_eq!(said(&said_by, size), Ok(expected.clone()));
            prop_assert_eq!(said(&said_by, usize::MAX), Ok(expected));
        }

        #[test]
        fn no_bytes_are_too_odd(bytes in prop::collection::vec(any::<u8>(), 0..200), size in 1_usize..20) {
            let whole = said(&bytes, 1000);
            prop_assert_eq!(said(&bytes, size), whole.clone());
            prop_assert!(whole.is_ok_and(|whole| whole.len() <= bytes.len()) || said(&bytes, size).is_err());
        }
    }
}
