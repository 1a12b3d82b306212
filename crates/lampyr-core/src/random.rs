//! Randomness from the system.

/// Random bytes.
pub(crate) fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    let mut filled = 0;
    while filled < N {
        filled += sys::fill(&mut bytes[filled..]);
    }
    bytes
}

#[cfg(target_os = "linux")]
mod sys {
    use rustix::rand::{GetRandomFlags, getrandom};

    /// Fills some of the bytes; says how many. With no flags the call waits for
    /// the generator and can only be interrupted; it is asked again then.
    pub(super) fn fill(bytes: &mut [u8]) -> usize {
        getrandom(bytes, GetRandomFlags::empty()).unwrap_or(0)
    }
}

#[cfg(not(target_os = "linux"))]
mod sys {
    use std::fs::File;
    use std::io::Read;

    /// Fills some of the bytes; says how many. The file is always there; where
    /// this process has too many others open for now, it is asked again.
    pub(super) fn fill(bytes: &mut [u8]) -> usize {
        File::open("/dev/urandom").and_then(|mut system| system.read(bytes)).unwrap_or(0)
    }
}
