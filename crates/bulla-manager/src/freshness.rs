//! What `open` says besides the plaintext.

/// An opened record.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Opened {
    /// The plaintext.
    pub plaintext: Vec<u8>,
    /// Whether the record should be resealed.
    pub freshness: Freshness,
}

impl Opened {
    pub(crate) fn new(plaintext: Vec<u8>, freshness: Freshness) -> Self {
        Self { plaintext, freshness }
    }
}

impl std::fmt::Debug for Opened {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Opened")
            .field("plaintext", &format_args!("[{} bytes]", self.plaintext.len()))
            .field("freshness", &self.freshness)
            .finish()
    }
}

/// How a record stands to the keys in force, as far as this process knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub struct Freshness {
    /// The record is sealed under a DEK version that seals no more: reseal it when
    /// it suits.
    pub stale_dek: bool,
    /// The DEK is wrapped by a KEK version that is not the current one. Nothing to do
    /// for the caller: the wrap is renewed in the background, the record stays.
    pub stale_kek: bool,
    /// The record is in another suite than this manager seals in: reseal it when it
    /// suits.
    pub stale_suite: bool,
}

impl Freshness {
    /// Whether nothing is stale.
    pub const fn is_current(self) -> bool {
        !self.stale_dek && !self.stale_kek && !self.stale_suite
    }

    /// Whether the record itself should be sealed again, which
    /// [`Scope::reseal`](crate::Scope::reseal) does.
    pub const fn wants_reseal(self) -> bool {
        self.stale_dek || self.stale_suite
    }
}
