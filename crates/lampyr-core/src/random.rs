//! Randomness from the system.

use rustix::rand::{GetRandomFlags, getrandom};

/// Random bytes.
pub(crate) fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    let mut filled = 0;
    while filled < N {
        // With no flags the call waits for the generator and can only be
        // interrupted; it is asked again then.
        filled += getrandom(&mut bytes[filled..], GetRandomFlags::empty()).unwrap_or(0);
    }
    bytes
}
