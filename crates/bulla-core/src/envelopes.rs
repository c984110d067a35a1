//! Envelopes that were sealed together.

use std::fmt;

/// Envelopes that were sealed together, one behind the other in one allocation: a bulk
/// insert binds them from where they lie.
///
/// ```
/// use bulla_core::{DataKey, DekVersion, EnvelopeKey, KeyOptions, RecordContext, ScopeContext};
///
/// let scope = ScopeContext::new([("tenant", "t-9f2c")])?;
/// let dek = DataKey::generate()?;
/// let key = EnvelopeKey::derive(&dek, DekVersion::FIRST, &scope, KeyOptions::default())?;
///
/// let rows = [("1", "ada@example.org"), ("2", "bob@example.org")];
/// let contexts = rows.map(|(row, _)| RecordContext::new([("column", "email"), ("row", row)]));
/// let contexts = contexts.into_iter().collect::<Result<Vec<_>, _>>()?;
/// let plaintexts = rows.iter().map(|(_, email)| email.as_bytes());
/// let envelopes = key.seal_many(plaintexts.zip(&contexts))?;
/// for (envelope, context) in envelopes.iter().zip(&contexts) {
///     assert!(key.open(envelope, context).is_ok());
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Envelopes {
    bytes: Vec<u8>,
    /// Where each ends.
    ends: Vec<usize>,
}

impl Envelopes {
    /// None yet, with room for so many, of so many bytes in all.
    pub fn with_capacity(envelopes: usize, bytes: usize) -> Self {
        Self { bytes: Vec::with_capacity(bytes), ends: Vec::with_capacity(envelopes) }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The envelope at `index`, from 0 on; `None` behind the last.
    pub fn get(&self, index: usize) -> Option<&[u8]> {
        let end = *self.ends.get(index)?;
        self.bytes.get(self.start_of(index)..end)
    }

    /// The envelopes, in the order in which they were sealed.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &[u8]> + ExactSizeIterator + Clone {
        (0..self.len()).map(|index| self.get(index).unwrap_or_default())
    }

    /// Adds one of `len` bytes, written by `fill`, which writes every byte or fails.
    #[inline]
    pub(crate) fn add<E>(
        &mut self,
        len: usize,
        fill: impl FnOnce(&mut [u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        bulla_sys::extend_filled(&mut self.bytes, len, fill)?;
        self.ends.push(self.bytes.len());
        Ok(())
    }

    /// Lets go of all but the first `len`.
    pub(crate) fn truncate(&mut self, len: usize) {
        self.bytes.truncate(self.start_of(len));
        self.ends.truncate(len);
    }

    fn start_of(&self, index: usize) -> usize {
        index.checked_sub(1).and_then(|before| self.ends.get(before)).copied().unwrap_or(0)
    }
}

/// The bytes of each in hexadecimal would be of little use: their number and size.
impl fmt::Debug for Envelopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Envelopes({} in {} bytes)", self.len(), self.bytes.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(envelopes: &[&[u8]]) -> Envelopes {
        let mut all = Envelopes::default();
        for envelope in envelopes {
            let added = all.add(envelope.len(), |out| {
                out.copy_from_slice(envelope);
                Ok::<_, ()>(())
            });
            added.unwrap();
        }
        all
    }

    #[test]
    fn each_is_where_it_was_put() {
        let all = of(&[b"one", b"", b"three"]);
        assert_eq!(all.iter().collect::<Vec<_>>(), [&b"one"[..], b"", b"three"]);
        assert_eq!(
            (all.get(1), all.get(2), all.get(3)),
            (Some(&[][..]), Some(&b"three"[..]), None)
        );
        assert_eq!((all.len(), all.is_empty()), (3, false));
        assert_eq!(format!("{all:?}"), "Envelopes(3 in 8 bytes)");
        assert!(Envelopes::with_capacity(2, 100).is_empty());
    }

    #[test]
    fn where_there_is_room_nothing_is_allocated() {
        let mut all = Envelopes::with_capacity(10, 1000);
        let info = allocation_counter::measure(|| {
            for _ in 0..10 {
                let _ = all.add(100, |out| {
                    out.fill(7);
                    Ok::<_, ()>(())
                });
            }
        });
        assert_eq!((all.len(), info.count_total), (10, 0));
    }

    #[test]
    fn what_could_not_be_written_is_not_there() {
        let mut all = of(&[b"one"]);
        assert_eq!(all.add(5, |_| Err("no")), Err("no"));
        assert_eq!(all, of(&[b"one"]));
    }

    #[test]
    fn the_last_ones_can_be_taken_away() {
        for (len, left) in [(0, of(&[])), (1, of(&[b"one"])), (2, of(&[b"one", b"two"]))] {
            let mut all = of(&[b"one", b"two"]);
            all.truncate(len);
            assert_eq!(all, left);
        }
    }
}
