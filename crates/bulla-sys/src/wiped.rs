//! Buffers for plaintext, wiped at the speed of a copy.

use std::io::{self, Write};
use std::mem;
use std::ops::{Deref, DerefMut};

/// A vector of bytes whose memory is overwritten with zeros when it is dropped: as
/// `Zeroizing<Vec<u8>>`, which writes byte by byte and takes three times as long as
/// encrypting what it wipes.
///
/// As there, a vector that grows leaves its old memory behind: make it as large as it will
/// be, or write to it by [`io::Write`], which wipes what it leaves.
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

    /// The bytes, which are not wiped any more.
    pub fn into_inner(mut self) -> Vec<u8> {
        mem::take(&mut self.0)
    }

    /// Makes room for `more` bytes, and wipes the memory that is thereby left.
    fn grow(&mut self, more: usize) {
        let capacity = self.len().saturating_add(more).max(2 * self.capacity());
        let mut larger = Vec::with_capacity(capacity);
        larger.extend_from_slice(self);
        self.wipe();
        self.0 = larger;
    }
}

/// Appends. Cannot fail.
impl Write for WipedVec {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        if self.capacity() - self.len() < buf.len() {
            self.grow(buf.len());
        }
        self.0.extend_from_slice(buf);
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
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

/// Plaintext that its caller does not have yet: overwritten with zeros if that is never to be,
/// for an error, a panic or a cancelled future. Memory that was only reserved is not touched:
/// of a large range, most may never have been.
#[derive(Default)]
pub struct Unreleased(Vec<u8>);

impl Unreleased {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Appends `bytes`, for which there should be room: a vector that grows leaves its old
    /// memory behind.
    pub fn extend_from_slice(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// The bytes, for the caller.
    pub fn release(mut self) -> Vec<u8> {
        mem::take(&mut self.0)
    }
}

impl From<Vec<u8>> for Unreleased {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

impl Drop for Unreleased {
    fn drop(&mut self) {
        self.0.fill(0);
        // As in `WipedVec::wipe`.
        zeroize::optimization_barrier(self.0.as_slice());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_appended() {
        let mut bytes = WipedVec::default();
        for part in [&b"plain"[..], b"", &[7; 1000], b"end"] {
            bytes.write_all(part).unwrap();
        }
        bytes.flush().unwrap();
        assert_eq!(bytes.into_inner(), [&b"plain"[..], &[7; 1000], b"end"].concat());
    }

    #[test]
    fn what_is_released_is_whole() {
        let mut bytes = Unreleased::from(vec![7; 3]);
        bytes.extend_from_slice(b"x");
        assert_eq!(bytes.release(), [7, 7, 7, b'x']);
    }

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
