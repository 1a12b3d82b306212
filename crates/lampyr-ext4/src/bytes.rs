//! Numbers in structures, least significant byte first.

/// A structure of `N` bytes that is filled in by offset.
#[derive(Debug, Clone)]
pub(crate) struct Record<const N: usize>(pub(crate) [u8; N]);

impl<const N: usize> Record<N> {
    pub(crate) fn new() -> Self {
        Self([0; N])
    }

    /// Puts bytes at an offset. What does not fit is left out, which no
    /// caller's constants let happen.
    pub(crate) fn put(&mut self, at: usize, bytes: &[u8]) {
        if let Some(place) = self.0.get_mut(at..at + bytes.len()) {
            place.copy_from_slice(bytes);
        }
    }

    pub(crate) fn u8(&mut self, at: usize, value: u8) {
        self.put(at, &[value]);
    }

    pub(crate) fn u16(&mut self, at: usize, value: u16) {
        self.put(at, &value.to_le_bytes());
    }

    pub(crate) fn u32(&mut self, at: usize, value: u32) {
        self.put(at, &value.to_le_bytes());
    }
}
