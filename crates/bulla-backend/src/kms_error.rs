//! Why a KMS call failed, whose fault it is, and whether to try again.

use std::error::Error;
use std::fmt;

use crate::KekId;

/// A failed KMS call: what was asked of which KEK, the class of the failure, and
/// what the KMS or its client said.
#[derive(Debug)]
pub struct KmsError(Box<Details>);

#[derive(Debug)]
struct Details {
    kind: KmsErrorKind,
    operation: KmsOperation,
    kek: KekId,
    message: Option<String>,
    source: Option<Box<dyn Error + Send + Sync>>,
}

/// The class of a failure. The DEK manager decides by it and by nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum KmsErrorKind {
    /// The caller is known and may not do this.
    Denied,
    /// The caller is not known: a token expired, a credential is wrong.
    Unauthenticated,
    /// The KEK, or the version that is needed, is disabled or to be destroyed.
    Disabled,
    /// There is no such KEK or version.
    NotFound,
    /// The blob or the context is not what was wrapped.
    Tampered,
    /// Too many calls; later will do.
    Throttled,
    /// The KMS cannot be reached or cannot answer.
    Unavailable,
    /// The request, the key or the client's set-up is wrong.
    Misconfigured,
    /// The backend cannot do this at all.
    Unsupported,
}

/// Whose fault a failure is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fault {
    /// The service's set-up, or what it asked for.
    Caller,
    /// Somebody who manages keys or permissions has to act, or has acted.
    Operator,
    /// The KMS, or the way there.
    Service,
    /// The data: it was changed, or belongs elsewhere.
    Data,
}

/// A call of the KMS contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum KmsOperation {
    /// [`generate_data_key`](crate::KeyWrapper::generate_data_key).
    GenerateDataKey,
    /// [`wrap_key`](crate::KeyWrapper::wrap_key).
    WrapKey,
    /// [`unwrap_key`](crate::KeyWrapper::unwrap_key).
    UnwrapKey,
    /// [`rewrap_key`](crate::KeyWrapper::rewrap_key).
    RewrapKey,
    /// [`describe`](crate::KeyInspector::describe).
    Describe,
    /// [`rotate`](crate::KeyAdmin::rotate).
    Rotate,
    /// [`disable`](crate::KeyAdmin::disable).
    Disable,
    /// [`enable`](crate::KeyAdmin::enable).
    Enable,
    /// [`disable_version`](crate::KeyAdmin::disable_version).
    DisableVersion,
    /// [`enable_version`](crate::KeyAdmin::enable_version).
    EnableVersion,
    /// [`destroy_version`](crate::KeyAdmin::destroy_version).
    DestroyVersion,
    /// [`rotation_period`](crate::RotationSchedule::rotation_period).
    ReadSchedule,
    /// [`set_rotation_period`](crate::RotationSchedule::set_rotation_period).
    SetSchedule,
    /// Any call of an operator, where it matters not which, or one that no contract has.
    Administer,
}

impl KmsErrorKind {
    /// Whether the same call may succeed later without anybody doing anything.
    pub const fn is_retryable(self) -> bool {
        matches!(self, Self::Throttled | Self::Unavailable)
    }

    /// Whose fault it is.
    pub const fn fault(self) -> Fault {
        match self {
            Self::Denied | Self::Disabled => Fault::Operator,
            Self::Unauthenticated | Self::NotFound | Self::Misconfigured | Self::Unsupported => {
                Fault::Caller
            }
            Self::Tampered => Fault::Data,
            Self::Throttled | Self::Unavailable => Fault::Service,
        }
    }

    /// The word that audit trails, metrics and scripts use.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Denied => "denied",
            Self::Unauthenticated => "unauthenticated",
            Self::Disabled => "disabled",
            Self::NotFound => "not-found",
            Self::Tampered => "tampered",
            Self::Throttled => "throttled",
            Self::Unavailable => "unavailable",
            Self::Misconfigured => "misconfigured",
            Self::Unsupported => "unsupported",
        }
    }

    const fn text(self) -> &'static str {
        match self {
            Self::Denied => "access denied",
            Self::Unauthenticated => "not authenticated",
            Self::Disabled => "the key is disabled",
            Self::NotFound => "no such key or version",
            Self::Tampered => "the wrapped key or its context was not recognised",
            Self::Throttled => "too many requests",
            Self::Unavailable => "the key service is unavailable",
            Self::Misconfigured => "wrong configuration or request",
            Self::Unsupported => "not supported by this key service",
        }
    }
}

impl KmsOperation {
    /// The word that audit trails, metrics and scripts use.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::GenerateDataKey => "generate-data-key",
            Self::WrapKey => "wrap-key",
            Self::UnwrapKey => "unwrap-key",
            Self::RewrapKey => "rewrap-key",
            Self::Describe => "describe",
            Self::Rotate => "rotate",
            Self::Disable => "disable",
            Self::Enable => "enable",
            Self::DisableVersion => "disable-version",
            Self::EnableVersion => "enable-version",
            Self::DestroyVersion => "destroy-version",
            Self::ReadSchedule => "read-schedule",
            Self::SetSchedule => "set-schedule",
            Self::Administer => "administer",
        }
    }

    /// Whether it is a call for operators, not for services.
    pub const fn is_administration(self) -> bool {
        !matches!(
            self,
            Self::GenerateDataKey
                | Self::WrapKey
                | Self::UnwrapKey
                | Self::RewrapKey
                | Self::Describe
        )
    }
}

impl KmsError {
    /// An error without details.
    pub fn new(kind: KmsErrorKind, operation: KmsOperation, kek: KekId) -> Self {
        Self(Box::new(Details { kind, operation, kek, message: None, source: None }))
    }

    /// The same with a sentence that says what to do. No key material, context
    /// value or credential may be in it.
    pub fn with_message(mut self, message: impl Into<String>) -> Self {
        self.0.message = Some(message.into());
        self
    }

    /// The same with the error beneath.
    pub fn with_source(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// The class.
    pub fn kind(&self) -> KmsErrorKind {
        self.0.kind
    }

    /// The call that failed.
    pub fn operation(&self) -> KmsOperation {
        self.0.operation
    }

    /// The KEK that it was about.
    pub fn kek(&self) -> &KekId {
        &self.0.kek
    }
}

impl fmt::Display for KmsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.0.operation, self.0.kek, self.0.kind.text())?;
        match &self.0.message {
            Some(message) => write!(f, ": {message}"),
            None => Ok(()),
        }
    }
}

impl Error for KmsError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}

impl fmt::Display for KmsOperation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::GenerateDataKey => "generate a data key under",
            Self::WrapKey => "wrap a key under",
            Self::UnwrapKey => "unwrap a key under",
            Self::RewrapKey => "rewrap a key under",
            Self::Describe => "describe",
            Self::Rotate => "rotate",
            Self::Disable => "disable",
            Self::Enable => "enable",
            Self::DisableVersion => "disable a version of",
            Self::EnableVersion => "enable a version of",
            Self::DestroyVersion => "destroy a version of",
            Self::ReadSchedule => "read the rotation period of",
            Self::SetSchedule => "set the rotation period of",
            Self::Administer => "administer",
        })
    }
}
