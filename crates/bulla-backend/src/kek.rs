//! KEKs by name and version, and the keys that they wrap.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

/// Name of a KEK: the URI by which its backend finds it, at most 512 bytes. Holds no
/// credentials, and is written into stores and logs.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KekId(Arc<str>);

impl KekId {
    /// Names the KEK `uri`.
    pub fn new(uri: impl Into<Arc<str>>) -> Self {
        Self(uri.into())
    }

    /// The URI.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The number of its backend in the envelope format (section 6.1), by the scheme of
    /// the URI; 128, for private use, where the format has none.
    pub fn backend_number(&self) -> u8 {
        match self.0.split_once(':').map(|(scheme, _)| scheme) {
            Some("local") => 1,
            Some("aws-kms") => 2,
            Some("vault") => 3,
            Some("gcp-kms") => 4,
            Some("azure-key-vault") => 5,
            Some("pkcs11") => 6,
            _ => 128,
        }
    }
}

impl fmt::Display for KekId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for KekId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KekId({self})")
    }
}

/// Which version of a KEK made a wrap, and how that is known. Never guessed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum KekVersion {
    /// The KMS named the version in its answer.
    Reported(Arc<str>),
    /// The wrapped bytes name the version.
    Parsed(Arc<str>),
    /// Neither does.
    Unknown,
}

impl KekVersion {
    /// The version as its KMS names it, if it is known.
    pub fn label(&self) -> Option<&str> {
        match self {
            Self::Reported(label) | Self::Parsed(label) => Some(label),
            Self::Unknown => None,
        }
    }
}

/// The label, or `unknown`.
impl fmt::Display for KekVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label().unwrap_or("unknown"))
    }
}

/// A DEK as a KEK has wrapped it. Not secret.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct WrappedKey {
    /// The KEK that made it.
    pub kek: KekId,
    /// The version of that KEK.
    pub kek_version: KekVersion,
    /// What the KMS returned: 1 to 1024 bytes.
    pub blob: Vec<u8>,
}

impl WrappedKey {
    /// Longest blob, in bytes (spec, "Limits").
    pub const BLOB_BYTES_MAX: usize = 1024;

    /// A wrapped key.
    pub fn new(kek: KekId, kek_version: KekVersion, blob: Vec<u8>) -> Self {
        Self { kek, kek_version, blob }
    }
}

impl fmt::Debug for WrappedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "WrappedKey({} version {}, {} bytes)",
            self.kek,
            self.kek_version,
            self.blob.len()
        )
    }
}

/// What a KMS says about a KEK.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct KekState {
    /// The KEK.
    pub kek: KekId,
    /// Whether it can be used as a whole.
    pub status: KekStatus,
    /// The version that wraps now.
    pub current: KekVersion,
    /// Every version that the KMS tells about, oldest first; empty where it tells
    /// about none.
    pub versions: Vec<KekVersionState>,
}

impl KekState {
    /// A state without versions.
    pub fn new(kek: KekId, status: KekStatus, current: KekVersion) -> Self {
        Self { kek, status, current, versions: Vec::new() }
    }

    /// The same with versions.
    pub fn with_versions(mut self, versions: Vec<KekVersionState>) -> Self {
        self.versions = versions;
        self
    }
}

/// One version of a KEK.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct KekVersionState {
    /// The version as its KMS names it.
    pub label: Arc<str>,
    /// Whether it can be used.
    pub status: KekStatus,
    /// When it was made, where the KMS says so.
    pub created_at: Option<SystemTime>,
}

impl KekVersionState {
    /// A version without a date.
    pub fn new(label: impl Into<Arc<str>>, status: KekStatus) -> Self {
        Self { label: label.into(), status, created_at: None }
    }

    /// The same with the time at which it was made.
    pub fn with_created_at(mut self, created_at: SystemTime) -> Self {
        self.created_at = Some(created_at);
        self
    }
}

/// Whether a KEK, or one of its versions, can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum KekStatus {
    /// It wraps and unwraps.
    Enabled,
    /// It does neither until it is enabled again.
    Disabled,
    /// It does neither, and will be destroyed unless that is cancelled.
    PendingDestruction,
    /// It is gone, and with it all that only it can unwrap.
    Destroyed,
}

impl KekStatus {
    /// The word that stores and reports use.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Enabled => "enabled",
            Self::Disabled => "disabled",
            Self::PendingDestruction => "pending-destruction",
            Self::Destroyed => "destroyed",
        }
    }

    /// The status of a word that [`as_str`](Self::as_str) gives.
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Enabled, Self::Disabled, Self::PendingDestruction, Self::Destroyed]
            .into_iter()
            .find(|status| status.as_str() == word)
    }
}

impl fmt::Display for KekStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
