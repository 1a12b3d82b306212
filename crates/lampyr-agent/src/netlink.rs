//! Messages to the kernel about its network, and what it answers.

use std::io;
use std::os::fd::OwnedFd;

use rustix::net::{AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType};
use rustix::net::{netlink, recv, send, socket_with};

/// The kinds of its answers that are known to every protocol.
pub(crate) const ERROR: u16 = 2;
pub(crate) const DONE: u16 = 3;

const REQUEST: u16 = 0x1;
const ACKNOWLEDGE: u16 = 0x4;

/// The length of a message's head, in bytes.
const HEAD: usize = 16;
/// The most that the kernel says at once.
const MAX_ANSWER: usize = 32 << 10;

/// The kernel, as somebody to ask about one thing.
pub(crate) struct Kernel(OwnedFd);

impl Kernel {
    /// Who knows the cards, their addresses and the ways out.
    pub(crate) fn of_cards() -> io::Result<Self> {
        // The first protocol has the number 0, and no name.
        Self::about(None)
    }

    /// Who knows the sockets.
    pub(crate) fn of_sockets() -> io::Result<Self> {
        Self::about(Some(netlink::SOCK_DIAG))
    }

    fn about(protocol: Option<Protocol>) -> io::Result<Self> {
        let (family, flags) = (AddressFamily::NETLINK, SocketFlags::CLOEXEC);
        Ok(Self(socket_with(family, SocketType::RAW, flags, protocol)?))
    }

    /// Has something done, and waits until it is or is refused.
    pub(crate) fn order(&self, kind: u16, flags: u16, body: &[u8]) -> io::Result<()> {
        self.ask(kind, ACKNOWLEDGE | flags, body)?;
        let answer = self.hear()?;
        Messages::of(&answer).next().map_or(Ok(()), |(_, body)| refusal(body))
    }

    /// Asks for something; [`Self::hear`] has the answer.
    pub(crate) fn ask(&self, kind: u16, flags: u16, body: &[u8]) -> io::Result<()> {
        let mut message = ((HEAD + body.len()) as u32).to_ne_bytes().to_vec();
        message.extend(kind.to_ne_bytes());
        message.extend((REQUEST | flags).to_ne_bytes());
        // Neither a number nor a sender: one question is asked at a time.
        message.extend([0; 8]);
        message.extend(body);
        send(&self.0, &message, SendFlags::empty())?;
        Ok(())
    }

    /// What it says next: some [`Messages`].
    pub(crate) fn hear(&self) -> io::Result<Vec<u8>> {
        let mut answer = vec![0; MAX_ANSWER];
        let (length, _) = recv(&self.0, &mut *answer, RecvFlags::empty())?;
        answer.truncate(length);
        Ok(answer)
    }
}

/// What the kernel refuses: a negative number, or 0 where it does not.
pub(crate) fn refusal(body: &[u8]) -> io::Result<()> {
    match body.first_chunk().map_or(0, |number| i32::from_ne_bytes(*number)) {
        0 => Ok(()),
        number => Err(io::Error::from_raw_os_error(number.saturating_neg())),
    }
}

/// About a card: flags to set, and what else to change.
pub(crate) fn link(index: u32, flags: u32, attributes: &[u8]) -> Vec<u8> {
    let mut body = vec![0; 4];
    body.extend(index.to_ne_bytes());
    body.extend(flags.to_ne_bytes());
    // Which flags are meant: no others.
    body.extend(flags.to_ne_bytes());
    body.extend(attributes);
    body
}

/// An attribute, as it stands behind a message's body.
pub(crate) fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut attribute = ((4 + value.len()) as u16).to_ne_bytes().to_vec();
    attribute.extend(kind.to_ne_bytes());
    attribute.extend(value);
    attribute.resize(attribute.len().next_multiple_of(4), 0);
    attribute
}

/// The kinds and bodies of the messages in an answer.
pub(crate) struct Messages<'a>(&'a [u8]);

impl<'a> Messages<'a> {
    pub(crate) fn of(answer: &'a [u8]) -> Self {
        Self(answer)
    }
}

impl<'a> Iterator for Messages<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let length = u32::from_ne_bytes(*self.0.first_chunk()?) as usize;
        let kind = u16::from_ne_bytes(*self.0.get(4..)?.first_chunk()?);
        let body = self.0.get(HEAD..length)?;
        // The next one begins at a multiple of four bytes.
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, body))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_is_cut_short_has_no_more_messages() {
        let mut answer = 20_u32.to_ne_bytes().to_vec();
        answer.extend(DONE.to_ne_bytes());
        answer.extend([0; 14]);
        assert_eq!(
            Messages::of(&answer).map(|(kind, body)| (kind, body.len())).collect::<Vec<_>>(),
            [(DONE, 4)]
        );
        assert_eq!(Messages::of(&answer[..19]).count(), 0);
        answer[0] = 4;
        assert_eq!(Messages::of(&answer).count(), 0);
    }

    #[test]
    fn an_attribute_is_filled_up_and_says_its_own_length() {
        assert_eq!(attribute(1, &[7; 6]), [10, 0, 1, 0, 7, 7, 7, 7, 7, 7, 0, 0]);
        assert_eq!(attribute(4, &[7; 4]).len(), 8);
    }

    #[test]
    fn what_is_refused_is_an_error_whatever_the_number() {
        assert!(refusal(&[]).is_ok());
        assert!(refusal(&0_i32.to_ne_bytes()).is_ok());
        let refused = refusal(&(-libc::EEXIST).to_ne_bytes()).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(libc::EEXIST));
        assert!(refusal(&i32::MIN.to_ne_bytes()).is_err());
    }
}
