//! How a conversation begins, whatever was said on the channel before.

/// Marks a greeting; no frame can hold it in its header, since the length
/// field would be far over the limit.
const MAGIC: [u8; 16] = *b"\xf1\xa3lampyr-hello\xff\x0d";

/// The length of a greeting on the wire, in bytes.
pub const GREETING_LEN: usize = 32;

/// The first bytes of a conversation: a mark and a number used once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Greeting(pub [u8; 16]);

impl Greeting {
    /// The greeting as it goes over the wire.
    pub fn to_bytes(self) -> [u8; GREETING_LEN] {
        let mut bytes = [0; GREETING_LEN];
        bytes[..16].copy_from_slice(&MAGIC);
        bytes[16..].copy_from_slice(&self.0);
        bytes
    }
}

/// Looks for a greeting in a byte stream that may begin with anything.
#[derive(Debug, Default)]
pub struct GreetingScanner {
    seen: Vec<u8>,
}

impl GreetingScanner {
    /// Takes `bytes` and returns the first greeting that `accept` takes, with
    /// the bytes that followed it. Holds at most one greeting's length back.
    pub fn feed(
        &mut self,
        bytes: &[u8],
        accept: impl Fn(&Greeting) -> bool,
    ) -> Option<(Greeting, Vec<u8>)> {
        self.seen.extend_from_slice(bytes);
        let found = self.seen.windows(GREETING_LEN).enumerate().find_map(|(at, window)| {
            let nonce: [u8; 16] = window.strip_prefix(&MAGIC)?.try_into().ok()?;
            accept(&Greeting(nonce)).then_some((at, Greeting(nonce)))
        });
        match found {
            Some((at, greeting)) => {
                let rest = self.seen.split_off(at + GREETING_LEN);
                self.seen.clear();
                Some((greeting, rest))
            }
            None => {
                let keep = self.seen.len().min(GREETING_LEN - 1);
                self.seen.drain(..self.seen.len() - keep);
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_greeting_is_found_behind_any_noise(
            noise in proptest::collection::vec(any::<u8>(), 0..200),
            nonce in any::<[u8; 16]>(),
            rest in proptest::collection::vec(any::<u8>(), 0..50),
            chunk in 1_usize..40,
        ) {
            let greeting = Greeting(nonce);
            let mut all = noise;
            all.extend(greeting.to_bytes());
            all.extend(&rest);
            let mut scanner = GreetingScanner::default();
            let mut chunks = all.chunks(chunk);
            let (found, mut after) =
                chunks.find_map(|c| scanner.feed(c, |g| *g == greeting)).unwrap();
            after.extend(chunks.flatten());
            prop_assert_eq!(found, greeting);
            prop_assert_eq!(after, rest);
        }
    }

    #[test]
    fn another_conversation_s_greeting_is_passed_over() {
        let mut scanner = GreetingScanner::default();
        let mut bytes = Greeting([1; 16]).to_bytes().to_vec();
        bytes.extend(Greeting([2; 16]).to_bytes());
        let (found, rest) = scanner.feed(&bytes, |g| g.0 == [2; 16]).unwrap();
        assert_eq!((found.0, rest.len()), ([2; 16], 0));
    }
}
