//! What a layer sees of a call: the question, the means to ask it, and the answer.

use bulla_backend::{
    GeneratedKey, KekId, KekState, KekVersion, KmsError, KmsErrorKind, KmsOperation, UnwrappedKey,
    WrappedKey,
};
use bulla_core::KmsContext;
use futures_util::future::BoxFuture;

/// One call of the KMS contract, as a layer sees it. Holds no key.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Call<'a> {
    /// What is asked for.
    pub operation: KmsOperation,
    /// The KEK that it is about.
    pub kek: &'a KekId,
    /// The scope and version of the DEK; `None` for calls about the KEK itself.
    pub context: Option<&'a KmsContext>,
    /// The wrap that is to be unwrapped or rewrapped.
    pub wrapped: Option<&'a WrappedKey>,
    /// The version of the KEK that the question names, by its wrap or by itself.
    pub kek_version: Option<&'a str>,
}

impl<'a> Call<'a> {
    pub(super) fn new(operation: KmsOperation, kek: &'a KekId) -> Self {
        Self { operation, kek, context: None, wrapped: None, kek_version: None }
    }

    pub(super) fn with_context(mut self, context: &'a KmsContext) -> Self {
        self.context = Some(context);
        self
    }

    pub(super) fn with_wrapped(mut self, wrapped: &'a WrappedKey) -> Self {
        self.wrapped = Some(wrapped);
        self.kek_version = wrapped.kek_version.label();
        self
    }

    pub(super) fn with_kek_version(mut self, label: &'a str) -> Self {
        self.kek_version = Some(label);
        self
    }

    /// Whether the call asks the KMS at all. A wrap that names another KEK is refused by
    /// the backend, also while the KMS cannot be reached: no layer may stand in the way.
    pub fn is_sent(&self) -> bool {
        self.wrapped.is_none_or(|wrapped| wrapped.kek == *self.kek)
    }

    /// An error of this call, with a sentence about it.
    pub fn error(&self, kind: KmsErrorKind, message: impl Into<String>) -> KmsError {
        KmsError::new(kind, self.operation, self.kek.clone()).with_message(message)
    }
}

/// The means to make a call. Each use makes it anew; dropping the future gives it up.
///
/// A name for a kind of closure; there is nothing to implement.
pub trait Attempt<'a, T>: Fn() -> BoxFuture<'a, Result<T, KmsError>> + Send + Sync {}

impl<'a, T, F> Attempt<'a, T> for F where F: Fn() -> BoxFuture<'a, Result<T, KmsError>> + Send + Sync
{}

/// What a call of the KMS contract answers.
pub trait Answer: Send {
    /// The version of the KEK that the answer names.
    fn kek_version(&self) -> Option<&str>;
}

impl Answer for GeneratedKey {
    fn kek_version(&self) -> Option<&str> {
        self.wrapped.kek_version.label()
    }
}

impl Answer for WrappedKey {
    fn kek_version(&self) -> Option<&str> {
        self.kek_version.label()
    }
}

impl Answer for UnwrappedKey {
    fn kek_version(&self) -> Option<&str> {
        self.kek_version.label()
    }
}

impl Answer for KekState {
    fn kek_version(&self) -> Option<&str> {
        self.current.label()
    }
}

impl Answer for KekVersion {
    fn kek_version(&self) -> Option<&str> {
        self.label()
    }
}

/// For calls that change something and tell nothing.
impl Answer for () {
    fn kek_version(&self) -> Option<&str> {
        None
    }
}

/// A rotation period.
impl Answer for Option<std::time::Duration> {
    fn kek_version(&self) -> Option<&str> {
        None
    }
}
