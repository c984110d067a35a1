//! The bytes of an envelope, of which some may be missing zeros.

use std::borrow::Cow;

/// An envelope that is stored without some of its zero bytes, so that one of 2^44 bytes can be
/// asked for its last chunk.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Blob {
    /// What is stored: pieces, each followed by a number of zeros.
    pieces: Vec<(Vec<u8>, u64)>,
}

/// Envelopes up to this length are put together: a one-shot envelope and a byte.
const DENSE_MAX: u64 = (1 << 30) + (1 << 16);

impl Blob {
    /// `bytes` with zeros put in: `holes` are offsets in the whole envelope and numbers of
    /// zeros, in ascending order. `None` if a hole lies beyond what precedes it.
    pub fn with_holes(mut bytes: Vec<u8>, holes: &[(u64, u64)]) -> Option<Self> {
        let mut pieces = Vec::new();
        let mut offset = 0_u64;
        for (at, zeros) in holes {
            let len = usize::try_from(at.checked_sub(offset)?).ok()?;
            let rest = (len <= bytes.len()).then(|| bytes.split_off(len))?;
            pieces.push((std::mem::replace(&mut bytes, rest), *zeros));
            offset = at.checked_add(*zeros)?;
        }
        offset.checked_add(bytes.len() as u64)?;
        pieces.push((bytes, 0));
        Some(Self { pieces })
    }

    /// Length of the whole envelope, in bytes.
    pub fn len(&self) -> u64 {
        self.pieces.iter().map(|(bytes, zeros)| bytes.len() as u64 + zeros).sum()
    }

    /// Whether there are no bytes at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes up to the first hole, of any length.
    pub fn prefix(&self) -> &[u8] {
        self.pieces.first().map_or(&[], |(bytes, _)| bytes)
    }

    /// One byte, if it lies before the first hole.
    pub fn byte(&self, at: usize) -> Option<u8> {
        self.prefix().get(at).copied()
    }

    /// The whole envelope; `None` if it is too long to be held in memory.
    pub fn dense(&self) -> Option<Cow<'_, [u8]>> {
        match &self.pieces[..] {
            [] => Some(Cow::Borrowed(&[])),
            [(bytes, 0)] => Some(Cow::Borrowed(bytes)),
            _ if self.len() <= DENSE_MAX => {
                // Zeros of the system's, which take up no memory until they are written to.
                let mut dense = vec![0; self.len() as usize];
                self.read_at(0, &mut dense).then_some(Cow::Owned(dense))
            }
            _ => None,
        }
    }

    /// Fills `buf`, which holds zeros, with the bytes from `offset` on; `false` if they are
    /// not all there.
    #[must_use]
    pub fn read_at(&self, offset: u64, buf: &mut [u8]) -> bool {
        let end = offset.saturating_add(buf.len() as u64);
        let mut at = 0_u64;
        for (bytes, zeros) in &self.pieces {
            let (from, to) = (at.max(offset), (at + bytes.len() as u64).min(end));
            if from < to {
                let there = &bytes[(from - at) as usize..(to - at) as usize];
                buf[(from - offset) as usize..(to - offset) as usize].copy_from_slice(there);
            }
            at += bytes.len() as u64 + zeros;
        }
        end <= at
    }
}

impl From<Vec<u8>> for Blob {
    fn from(bytes: Vec<u8>) -> Self {
        Self { pieces: vec![(bytes, 0)] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holes_are_read_as_zeros() {
        let blob = Blob::with_holes(b"abcde".to_vec(), &[(2, 3), (6, 1), (9, 2)]).unwrap();
        assert_eq!(blob.len(), 11);
        assert_eq!(&*blob.dense().unwrap(), b"ab\0\0\0c\0de\0\0");
        let mut buf = [0; 4];
        assert!(blob.read_at(5, &mut buf));
        assert_eq!(&buf, b"c\0de");
        assert!(!blob.read_at(8, &mut [0; 4]));
        assert_eq!(blob.prefix(), b"ab");
    }

    #[test]
    fn a_hole_where_nothing_precedes_it_is_refused() {
        assert_eq!(Blob::with_holes(b"ab".to_vec(), &[(3, 1)]), None);
        assert_eq!(Blob::with_holes(b"ab".to_vec(), &[(1, 3), (2, 1)]), None);
        assert_eq!(Blob::with_holes(b"ab".to_vec(), &[(0, u64::MAX)]), None);
    }

    #[test]
    fn what_is_too_long_for_memory_is_not_put_together() {
        let blob = Blob::with_holes(b"ab".to_vec(), &[(1, 1 << 44)]).unwrap();
        assert_eq!(blob.dense(), None);
        assert_eq!(blob.len(), (1 << 44) + 2);
        let mut last = [0; 2];
        assert!(blob.read_at(1 << 44, &mut last));
        assert_eq!(&last, b"\0b");
    }
}
