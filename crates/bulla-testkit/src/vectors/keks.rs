//! The key-management services of an opener, as a vector's tables say.

use std::cell::RefCell;

use super::{KmsFailure, Vector};

/// The KEKs of a vector, and what they were asked.
#[derive(Debug)]
pub struct Keks<'v> {
    vector: &'v Vector,
    asked: RefCell<Vec<Asked>>,
}

/// One call of an unwrap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// The blob.
    pub blob: Vec<u8>,
    /// How the KEK failed, if it did.
    pub failure: Option<KmsFailure>,
}

impl<'v> Keks<'v> {
    /// The KEKs of `vector`, which were not asked anything yet.
    pub fn new(vector: &'v Vector) -> Self {
        Self { vector, asked: RefCell::default() }
    }

    /// Whether the KEK is on the opener's own list.
    pub fn holds(&self, backend: u8, kek_id: &[u8]) -> bool {
        self.vector.keks.iter().any(|(of, id)| *of == backend && id == kek_id)
    }

    /// What the KEK unwraps `blob` to under the KMS context with this encoding.
    ///
    /// # Errors
    /// [`KmsFailure`].
    pub fn unwrap(
        &self,
        backend: u8,
        kek_id: &[u8],
        blob: &[u8],
        context: &[u8],
    ) -> Result<Vec<u8>, KmsFailure> {
        let vector = self.vector;
        let unwrapped = if vector.unavailable.iter().any(|(of, id)| *of == backend && id == kek_id)
        {
            Err(KmsFailure::Unavailable)
        } else {
            let unwraps = vector.unwraps.iter().find(|unwraps| {
                unwraps.backend == backend
                    && unwraps.kek_id == kek_id
                    && unwraps.blob == blob
                    && unwraps.context.as_ref().is_none_or(|bound| bound == context)
            });
            unwraps.map(|unwraps| unwraps.dek.clone()).ok_or(KmsFailure::Refused)
        };
        let failure = unwrapped.as_ref().err().copied();
        self.asked.borrow_mut().push(Asked { blob: blob.to_vec(), failure });
        unwrapped
    }

    /// All calls so far, in order.
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.borrow().clone()
    }
}
