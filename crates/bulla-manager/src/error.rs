//! Why the manager could not seal, open or rotate.

use std::io;
use std::sync::Arc;

use bulla_backend::{DekState, KekId, KekStatus, KmsError, ScopeIdError, StoreError};
use bulla_core::{ContextError, KeyError, KeyId, OpenError, SealError, WrapsError};

/// A failure of the DEK manager. Cheap to clone: callers who waited for the same key
/// share it.
///
/// Authentication failures are opaque ([`OpenError::Authentication`]); everything
/// else says what to do.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The record could not be sealed.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// The envelope could not be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The record context is not a context.
    #[error(transparent)]
    Context(#[from] ContextError),
    /// The scope has no valid name.
    #[error(transparent)]
    Scope(#[from] ScopeIdError),
    /// A key could not be made.
    #[error(transparent)]
    Key(#[from] KeyError),
    //= spec 8.2
    //# Failures of a key-management service or a KEK (denied, unavailable, throttled, a blob
    //# refused) are none of these and MUST be reported as what they are
    /// The KMS failed.
    #[error(transparent)]
    Kms(Arc<KmsError>),
    /// The key store failed.
    #[error(transparent)]
    Store(Arc<StoreError>),
    /// The scope has no DEK of that name: the envelope belongs to another scope, or
    /// the store has lost the key.
    #[error(
        "this scope has no data key {0}: the envelope belongs to another tenant or purpose, or \
         the key store has lost the key"
    )]
    UnknownKey(KeyId),
    /// The DEK is in a state in which it does not open.
    #[error("data key {key_id} is {state} and does not open")]
    KeyClosed {
        /// The DEK.
        key_id: KeyId,
        /// Its state.
        state: DekState,
    },
    /// What was unwrapped is not the key that the store says it is. Nothing was
    /// sealed or opened with it.
    #[error(
        "what {kek} unwrapped for data key {key_id} is another key; the store or the KMS was tampered with"
    )]
    WrongKeyUnwrapped {
        /// The DEK that was asked for.
        key_id: KeyId,
        /// The KEK that answered.
        kek: KekId,
    },
    /// The DEK is wrapped by a KEK that this manager was not given.
    #[error("data key {key_id} is wrapped by {kek}, which this manager was not given")]
    UnknownKek {
        /// The DEK.
        key_id: KeyId,
        /// The KEK.
        kek: KekId,
    },
    /// The KEK was revoked while the key was being unwrapped.
    #[error("{0} was revoked while a data key was being unwrapped")]
    Revoked(KekId),
    /// A rewrap came back under the version that it should have left.
    #[error("{0} still wraps with its old version; a rotation may take a while to spread")]
    StillOldVersion(KekId),
    /// The task that loaded the key ended without a result: a backend panicked, or the
    /// manager's runtime has ended.
    #[error("loading the key ended without a result; a backend may have panicked")]
    LoadDied,
    /// No key came within the policy's `load_timeout`.
    #[error("no key came in time; the key service or the key store may hang")]
    Timeout,
    /// The scope's next DEK version is still pending and the present one is used up.
    #[error("the scope's data key is used up and its successor is not active yet")]
    NotActiveYet,
    /// The 2^32 - 1 versions of the lineage are used up.
    #[error("the scope has no versions left")]
    LineageExhausted,
    /// The process could not reach the store for the length of its seal lease.
    #[error(
        "the seal lease has ended because the key store could not be reached; opening still works"
    )]
    SealLeaseEnded,
    /// The store was restored from a backup, or is another one, since the manager
    /// started. Nothing is sealed or opened until a new manager starts.
    #[error("the key store was replaced or restored; start again after checking it")]
    StoreReplaced,
    /// A call that does not wait needs a key that is not at hand: call `prepare`.
    #[error("the key is not at hand; call prepare first, or a method that waits")]
    NotWarm,
    /// The KEK is not enabled.
    #[error("{kek} is {status}; enable it before the service starts")]
    KekClosed {
        /// The KEK.
        kek: KekId,
        /// Its status.
        status: KekStatus,
    },
    /// There is no tokio runtime to run on.
    #[error("a manager needs a tokio runtime; without one, use the blocking manager")]
    NoRuntime,
    /// This process was forked from the one that started the manager, whose thread did not
    /// come along.
    #[error("this process was forked after the manager was started; start another one in it")]
    ProcessForked,
    /// The profile forbids a KEK.
    #[error("profile production refuses {kek}: {reason}")]
    Profile {
        /// The KEK.
        kek: KekId,
        /// Why, and what to do.
        reason: &'static str,
    },
    /// The policy contradicts itself.
    #[error("policy: {0}")]
    Policy(&'static str),
    /// Reading or writing a stream failed.
    #[error("a stream could not be read or written: {0}")]
    Io(#[source] Arc<io::Error>),
    /// A stream was open for sealing after the seal lease that it was begun under, or
    /// after its DEK had become too old.
    #[error("the stream has outlived its seal lease or its data key; seal it again")]
    StreamTooSlow,
    /// The DEK's budget ran out in the middle of a stream.
    #[error("the data key's budget was used up in the middle of the stream; seal it again")]
    BudgetUsedUp,
    /// A wrap of a single-use DEK does not unwrap to that DEK again.
    #[error("{0} does not unwrap what it wrapped; nothing was sealed")]
    WrapNotVerified(KekId),
    /// No wrap in the envelope is by a KEK that was given.
    #[error("the envelope has no wrap by any of the key-encryption keys at hand")]
    NoUsableWrap,
    /// The KEK that was to be removed from an envelope has no wrap there.
    #[error("{0} has no wrap in this envelope; nothing was removed")]
    NotARecipient(KekId),
    /// A value could not be written or read by its codec.
    #[cfg(any(feature = "json", feature = "bincode"))]
    #[error(transparent)]
    Value(bulla_core::ValueError),
    /// The wraps of an envelope cannot be what they were asked to be.
    #[error(transparent)]
    Wraps(#[from] WrapsError),
    /// The manager was closed.
    #[error("the manager is closed")]
    Closed,
}

impl From<KmsError> for Error {
    fn from(error: KmsError) -> Self {
        Self::Kms(Arc::new(error))
    }
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        Self::Store(Arc::new(error))
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Self::Io(Arc::new(error))
    }
}

/// For streams, whose errors are of one type.
impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::Open(error) => error.into(),
            Error::Seal(error) => error.into(),
            error => Self::other(error),
        }
    }
}

#[cfg(any(feature = "json", feature = "bincode"))]
impl From<bulla_core::ValueError> for Error {
    fn from(error: bulla_core::ValueError) -> Self {
        match error {
            bulla_core::ValueError::Seal(error) => Self::Seal(error),
            bulla_core::ValueError::Open(error) => Self::Open(error),
            error => Self::Value(error),
        }
    }
}
