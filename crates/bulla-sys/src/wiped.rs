//! Buffers for plaintext, wiped at the speed of a copy.

use std::ops::{Deref, DerefMut};

/// A vector of bytes whose memory is overwritten with zeros when it is dropped: as
/// `Zeroizing<Vec<u8>>`, which writes byte by byte and takes three times as long as
/// encrypting what it wipes.
///
/// As there, a vector that grows leaves its old memory behind: make it as large as it will
/// be.
///
/// ```
/// let mut chunk = bulla_sys::WipedVec::from(vec![0; 4096]);
/// chunk[..5].copy_from_slice(b"plain");
/// chunk.wipe();
/// assert!(chunk.is_empty());
/// ```
#[derive(Default)]
pub struct WipedVec(Vec<u8>);

impl WipedVec {
    /// Overwrites all of the vector's memory with zeros, and makes it empty.
    pub fn wipe(&mut self) {
        self.0.clear();
        self.0.resize(self.0.capacity(), 0);
        // The compiler has to take it that somebody reads the zeros.
        zeroize::optimization_barrier(self.0.as_slice());
        self.0.clear();
    }
}

impl From<Vec<u8>> for WipedVec {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

impl Deref for WipedVec {
    type Target = Vec<u8>;

    fn deref(&self) -> &Vec<u8> {
        &self.0
    }
}

impl DerefMut for WipedVec {
    fn deref_mut(&mut self) -> &mut Vec<u8> {
        &mut self.0
    }
}

impl Drop for WipedVec {
    fn drop(&mut self) {
        self.wipe();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[allow(unsafe_code, reason = "looks at memory behind the end of a vector")]
    fn all_of_its_memory_is_wiped_and_none_is_made() {
        let mut bytes = WipedVec::from(vec![7; 1000]);
        let capacity = bytes.capacity();
        bytes.truncate(10);
        bytes.wipe();
        assert!(bytes.is_empty());
        assert_eq!(bytes.capacity(), capacity);
        // SAFETY: `wipe` has written all of it.
        let memory = bytes.spare_capacity_mut().iter().map(|byte| unsafe { byte.assume_init() });
        assert!(memory.len() >= 1000 && memory.into_iter().all(|byte| byte == 0));
    }
}
