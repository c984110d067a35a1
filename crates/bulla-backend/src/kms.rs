//! What a KMS does for Bulla, by role.

use std::fmt;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bulla_core::{DataKey, KmsContext};

use crate::{KekId, KekState, KekVersion, KmsError, WrappedKey};

/// The data path: makes, wraps and unwraps data keys under one KEK.
///
/// # Contract
/// - An object stands for one KEK. A blob that names another one is refused as
///   [`Tampered`](crate::KmsErrorKind::Tampered) before any request is sent.
/// - The KEK wraps by authenticated encryption or RSA-OAEP, never by PKCS #1 v1.5 or by CBC
///   with padding: callers tell a blob that was refused from a key that is another one, and
///   with such a KEK that is enough to recover a DEK.
/// - The whole context reaches the KMS with every call and is authenticated there:
///   a missing, extra or changed pair fails as `Tampered`.
/// - [`KekVersion`] is what the KMS reported or the blob says, or `Unknown`.
/// - `wrap_key` and `generate_data_key` use the current version. What they return
///   can be unwrapped at once.
/// - `rewrap_key` returns the same DEK under the current version, with the same
///   context. Callers unwrap the result before they store it.
/// - Key material is written straight into a [`DataKey`]; every other copy that the
///   implementation controls is wiped.
/// - Errors are classified ([`KmsErrorKind`](crate::KmsErrorKind)) and hold no key
///   material, context value or credential.
/// - Dropping a future cancels the call as far as this process is concerned; it
///   leaves no lock held and nothing half-written.
/// - No retries and no time-outs in here: both are decorators' work.
#[async_trait]
//= spec 6.1
//# A KEK MUST wrap by authenticated encryption, by RSA-OAEP, or by whatever else tells nothing about
//# a key to those who may submit blobs of their own making and learn which of them unwrap.
pub trait KeyWrapper: fmt::Debug + Send + Sync + 'static {
    /// The KEK that this object stands for.
    fn kek(&self) -> &KekId;

    /// What this backend can promise.
    fn capabilities(&self) -> Capabilities;

    /// A new data key and its wrap.
    async fn generate_data_key(
        &self,
        request: GenerateRequest<'_>,
    ) -> Result<GeneratedKey, KmsError>;

    /// Wraps an existing data key.
    async fn wrap_key(&self, request: WrapRequest<'_>) -> Result<WrappedKey, KmsError>;

    /// Unwraps a data key.
    async fn unwrap_key(&self, request: UnwrapRequest<'_>) -> Result<UnwrappedKey, KmsError>;

    /// Moves a wrap to the current version of the KEK.
    async fn rewrap_key(&self, request: RewrapRequest<'_>) -> Result<WrappedKey, KmsError>;
}

/// Reads the state of one KEK.
///
/// # Contract
/// - `describe` tells the state as of the call, not a cached one.
/// - A KEK that is disabled, pending destruction or destroyed is an answer, not an
///   error; one that does not exist is
///   [`NotFound`](crate::KmsErrorKind::NotFound).
#[async_trait]
pub trait KeyInspector: fmt::Debug + Send + Sync + 'static {
    /// The state of the KEK and its versions.
    async fn describe(&self) -> Result<KekState, KmsError>;
}

/// Changes one KEK; for operators, not for services.
///
/// # Contract
/// - Each call is durable when it returns, and idempotent but for `rotate`.
/// - A backend that cannot do one of these says
///   [`Unsupported`](crate::KmsErrorKind::Unsupported).
/// - A version that is disabled fails to unwrap as
///   [`Disabled`](crate::KmsErrorKind::Disabled), a destroyed one as `Disabled` or
///   `NotFound`.
/// - The current version can be neither disabled nor destroyed on its own
///   ([`Misconfigured`](crate::KmsErrorKind::Misconfigured)): rotate first.
#[async_trait]
pub trait KeyAdmin: fmt::Debug + Send + Sync + 'static {
    /// Makes a new version the current one and returns it. Older versions still
    /// unwrap.
    async fn rotate(&self) -> Result<KekVersion, KmsError>;

    /// Stops every use of the KEK until it is enabled again.
    async fn disable(&self) -> Result<(), KmsError>;

    /// Allows the KEK to be used again.
    async fn enable(&self) -> Result<(), KmsError>;

    /// Stops every use of one version until it is enabled again.
    async fn disable_version(&self, label: &str) -> Result<(), KmsError>;

    /// Allows one version to be used again.
    async fn enable_version(&self, label: &str) -> Result<(), KmsError>;

    /// Destroys one disabled version, at once or after the KMS's waiting time. What
    /// only it can unwrap is then lost for good.
    async fn destroy_version(&self, label: &str) -> Result<(), KmsError>;
}

/// Rotation by the KMS itself, on a timer; for KMSs that have it.
///
/// # Contract
/// - What `set_rotation_period` has set, `rotation_period` tells.
/// - A period that the KMS does not accept is
///   [`Misconfigured`](crate::KmsErrorKind::Misconfigured), with the range that it does.
#[async_trait]
pub trait RotationSchedule: fmt::Debug + Send + Sync + 'static {
    /// How long the KMS waits from one version to the next; `None` if it makes none by
    /// itself.
    async fn rotation_period(&self) -> Result<Option<Duration>, KmsError>;

    /// Makes the KMS rotate by itself once in `period`, or no more.
    async fn set_rotation_period(&self, period: Option<Duration>) -> Result<(), KmsError>;
}

/// The clock of a KMS; for KMSs that tell the time.
#[async_trait]
pub trait KmsClock: fmt::Debug + Send + Sync + 'static {
    /// The time by the KMS's clock while the call lasted, to the second at least.
    async fn now(&self) -> Result<SystemTime, KmsError>;
}

/// What the DEK manager needs of a KEK.
pub trait Kek: KeyWrapper + KeyInspector {}

impl<T: KeyWrapper + KeyInspector> Kek for T {}

/// What a backend can promise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Capabilities {
    /// Nobody without the KEK can make a wrap that unwraps. False for public-key
    /// wraps such as RSA-OAEP.
    pub authenticated_wrap: bool,
    /// The KEK's key material never enters this process.
    pub remote: bool,
    /// The version behind a wrap is reported or can be parsed.
    pub names_version: bool,
}

impl Capabilities {
    /// A backend that promises nothing.
    pub const NONE: Self = Self { authenticated_wrap: false, remote: false, names_version: false };

    /// The same, with authenticated wraps or without.
    pub const fn with_authenticated_wrap(mut self, yes: bool) -> Self {
        self.authenticated_wrap = yes;
        self
    }

    /// The same, with a remote KEK or without.
    pub const fn with_remote(mut self, yes: bool) -> Self {
        self.remote = yes;
        self
    }

    /// The same, with known versions or without.
    pub const fn with_names_version(mut self, yes: bool) -> Self {
        self.names_version = yes;
        self
    }
}

/// Declares a request or answer: public fields, growable, with a constructor.
macro_rules! message {
    ($(#[$doc:meta])* $name:ident $(<$life:lifetime>)? { $($(#[$field_doc:meta])* $field:ident: $type:ty,)+ }) => {
        $(#[$doc])*
        #[derive(Debug)]
        #[non_exhaustive]
        pub struct $name $(<$life>)? { $($(#[$field_doc])* pub $field: $type,)+ }

        impl $(<$life>)? $name $(<$life>)? {
            /// Puts the fields together.
            pub fn new($($field: $type),+) -> Self {
                Self { $($field),+ }
            }
        }
    };
}

message! {
    /// Asks for a new data key.
    GenerateRequest<'a> {
        /// What the wrap is bound to.
        context: &'a KmsContext,
    }
}

message! {
    /// A new data key.
    GeneratedKey {
        /// The key.
        data_key: DataKey,
        /// The same, wrapped by the current version of the KEK.
        wrapped: WrappedKey,
    }
}

message! {
    /// Asks for a wrap of an existing data key.
    WrapRequest<'a> {
        /// The key.
        data_key: &'a DataKey,
        /// What the wrap is bound to.
        context: &'a KmsContext,
    }
}

message! {
    /// Asks for a data key.
    UnwrapRequest<'a> {
        /// The wrap.
        wrapped: &'a WrappedKey,
        /// What the wrap was bound to.
        context: &'a KmsContext,
    }
}

message! {
    /// An unwrapped data key.
    UnwrappedKey {
        /// The key.
        data_key: DataKey,
        /// The version of the KEK that had wrapped it.
        kek_version: KekVersion,
    }
}

message! {
    /// Asks to move a wrap to the current version of the KEK.
    RewrapRequest<'a> {
        /// The wrap.
        wrapped: &'a WrappedKey,
        /// What it was, and will be, bound to.
        context: &'a KmsContext,
    }
}
