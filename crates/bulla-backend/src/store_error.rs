//! Why a key-store call failed.

use std::error::Error;
use std::fmt;

/// A failed call of a [`KeyStore`](crate::KeyStore). Nothing was changed.
#[derive(Debug)]
pub struct StoreError {
    kind: StoreErrorKind,
    message: String,
    source: Option<Box<dyn Error + Send + Sync>>,
}

/// The class of a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StoreErrorKind {
    /// The database cannot be reached, is locked or is full; later may do.
    Unavailable,
    /// A row cannot be what this library has written: it was changed from outside.
    Corrupt,
    /// The set-up or the schema is wrong: an older or newer schema, no permission.
    Misconfigured,
    /// The request contradicts what the store holds.
    Refused,
}

impl StoreError {
    /// An error of class `kind`; `message` says what to do, without values of rows.
    pub fn new(kind: StoreErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), source: None }
    }

    /// The same with the error beneath.
    pub fn with_source(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The class.
    pub fn kind(&self) -> StoreErrorKind {
        self.kind
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "key store: {}", self.message)
    }
}

impl Error for StoreError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}
