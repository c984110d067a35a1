//! The key file as a document: its fields, its limits, and what makes it whole.
//!
//! ```json
//! {
//!   "format": "bulla-key-file/1",
//!   "name": "dev",
//!   "id": "9f2c…",                      16 random bytes, hexadecimal
//!   "unlock": { "kind": "raw" },         or "passphrase", with Argon2id's parameters
//!   "generation": 3,                     one more with every write
//!   "status": "enabled",                 of the key as a whole
//!   "versions": [
//!     { "version": 1, "status": "disabled", "created_at": "2026-11-22T10:00:00Z",
//!       "material": "QlVM…" }            32 bytes of KEK in an envelope; null once destroyed
//!   ],
//!   "mac": "…"                           HMAC-SHA256 over all of the above
//! }
//! ```
//!
//! Nothing in it is secret by itself. No I/O and no keys in here.

use std::fmt;

use base64ct::{Base64, Encoding};
use bulla_core::{DataKey, DekVersion, EnvelopeKey};
use data_encoding::HEXLOWER;
use jiff::Timestamp;
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::failure::Failure;
use crate::unlock::Argon2Cost;

/// The value of `format`.
pub(crate) const FORMAT: &str = "bulla-key-file/1";

/// Largest file that is read, in bytes: room for [`VERSIONS_MAX`] versions.
pub(crate) const FILE_BYTES_MAX: u64 = 4 << 20;

/// Versions that one file holds.
pub(crate) const VERSIONS_MAX: usize = 10_000;

/// Length of an envelope around 32 bytes of key: what one version's material and
/// what one wrapped DEK take, in bytes.
pub(crate) const SEALED_KEY_LEN: usize = DataKey::LEN + EnvelopeKey::OVERHEAD;

/// Longest name, in bytes.
const NAME_BYTES_MAX: usize = 64;

/// A key file, as parsed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct KeyFile {
    pub(crate) format: String,
    pub(crate) name: String,
    pub(crate) id: FileId,
    pub(crate) unlock: Method,
    pub(crate) generation: u64,
    pub(crate) status: KeyStatus,
    /// Versions 1 to n, in order; the last one is current.
    pub(crate) versions: Vec<Version>,
    pub(crate) mac: Mac,
}

/// How the unlock key comes about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub(crate) enum Method {
    /// It is given as it is. (Braces, so that unknown fields are refused here too.)
    Raw {},
    /// By Argon2id from a passphrase.
    Passphrase { m_cost_kib: u32, t_cost: u32, p_cost: u32, salt: Salt },
}

/// Whether the key as a whole can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum KeyStatus {
    Enabled,
    Disabled,
}

/// One version of the KEK.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Version {
    #[serde(with = "number")]
    pub(crate) version: DekVersion,
    pub(crate) status: VersionStatus,
    pub(crate) created_at: Timestamp,
    pub(crate) material: Option<Sealed>,
}

/// Whether one version can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum VersionStatus {
    Enabled,
    Disabled,
    Destroyed,
}

pub(crate) type Salt = Bytes<16>;
pub(crate) type Mac = Bytes<32>;
pub(crate) type Sealed = Bytes<SEALED_KEY_LEN>;

impl KeyFile {
    /// Reads a document and checks everything that needs no key.
    ///
    /// Says where the text is malformed, never what stands there: somebody may have
    /// named the file with the secret by mistake.
    pub(crate) fn parse(text: &[u8]) -> Result<Self, Failure> {
        let file: Self = json(text).map_err(|at| match json::<Probe>(text) {
            Ok(Probe { format }) if format != FORMAT => Failure::misconfigured(
                "the key file has a format that this version of bulla-local does not know; use a \
                 newer one",
            ),
            _ => Failure::misconfigured(format!("this is not a key file, or it was edited ({at})")),
        })?;
        match file.flaw() {
            None => Ok(file),
            Some(flaw) => Err(Failure::misconfigured(format!(
                "the key file is malformed or was edited ({flaw}); restore it from a backup"
            ))),
        }
    }

    /// The document for people: indented, one field a line, a line feed at the end.
    pub(crate) fn to_text(&self) -> Result<Vec<u8>, Failure> {
        let mut text = serde_json::to_vec_pretty(self).map_err(unwritable)?;
        text.push(b'\n');
        if text.len() as u64 > FILE_BYTES_MAX {
            return Err(Failure::misconfigured("the key file would exceed 4 MiB"));
        }
        Ok(text)
    }

    /// What the MAC covers: the compact document with a MAC of zeros. Made from
    /// what was parsed, so that nothing is used that was not authenticated.
    pub(crate) fn authenticated_bytes(&self) -> Result<Vec<u8>, Failure> {
        let zeroed = Self { mac: Mac::default(), ..self.clone() };
        serde_json::to_vec(&zeroed).map_err(unwritable)
    }

    /// The version that wraps.
    pub(crate) fn current(&self) -> Result<&Version, Failure> {
        self.versions.last().ok_or_else(|| Failure::misconfigured("the key file has no version"))
    }

    pub(crate) fn version(&self, number: DekVersion) -> Option<&Version> {
        self.versions.get(index(number)?)
    }

    pub(crate) fn version_mut(&mut self, number: DekVersion) -> Option<&mut Version> {
        self.versions.get_mut(index(number)?)
    }

    /// The first thing wrong with the fields, if any.
    fn flaw(&self) -> Option<&'static str> {
        let in_order = |(at, version): (usize, &Version)| index(version.version) == Some(at);
        if self.format != FORMAT {
            return Some("format");
        }
        if !is_name(&self.name) {
            return Some("name");
        }
        if self.generation == 0 {
            return Some("generation");
        }
        if self.versions.is_empty() || self.versions.len() > VERSIONS_MAX {
            return Some("number of versions");
        }
        if !self.versions.iter().enumerate().all(in_order) {
            return Some("order of versions");
        }
        if self.versions.iter().any(|version| version.is_destroyed() == version.material.is_some())
        {
            return Some("material of versions");
        }
        if self.versions.last().is_some_and(|last| last.status != VersionStatus::Enabled) {
            return Some("status of the current version");
        }
        match &self.unlock {
            Method::Passphrase { m_cost_kib, t_cost, p_cost, .. }
                if Argon2Cost::new(*m_cost_kib, *t_cost, *p_cost).is_err() =>
            {
                Some("Argon2id parameters out of bounds")
            }
            _ => None,
        }
    }
}

impl Version {
    pub(crate) fn is_destroyed(&self) -> bool {
        self.status == VersionStatus::Destroyed
    }
}

/// Place of a version in the list.
fn index(number: DekVersion) -> Option<usize> {
    usize::try_from(number.get()).ok()?.checked_sub(1)
}

/// Whether `name` has 1 to 64 letters, digits, dots, underscores and hyphens.
pub(crate) fn is_name(name: &str) -> bool {
    (1..=NAME_BYTES_MAX).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

/// Enough of a document of any format.
#[derive(Deserialize)]
struct Probe {
    format: String,
}

/// Parses, and reduces an error to its place.
fn json<T: DeserializeOwned>(text: &[u8]) -> Result<T, String> {
    serde_json::from_slice(text)
        .map_err(|error| format!("line {}, column {}", error.line(), error.column()))
}

fn unwritable(error: serde_json::Error) -> Failure {
    Failure::misconfigured("the key file cannot be written as JSON").because(error)
}

/// Random name of one key file, for life.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileId(pub(crate) [u8; 16]);

impl FileId {
    /// The first 16 of 32 digits: enough to tell files apart.
    pub(crate) fn short(&self) -> String {
        HEXLOWER.encode(&self.0[..8])
    }
}

/// Lower-case hexadecimal, 32 digits.
impl fmt::Display for FileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for FileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FileId({self})")
    }
}

impl Serialize for FileId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for FileId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = HEXLOWER.decode(text.as_bytes()).ok().and_then(|bytes| bytes.try_into().ok());
        bytes.map(Self).ok_or_else(|| D::Error::custom("expected 32 hexadecimal digits"))
    }
}

/// `N` bytes, in the document as base64 with padding.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Bytes<const N: usize>(pub(crate) [u8; N]);

impl<const N: usize> Default for Bytes<N> {
    fn default() -> Self {
        Self([0; N])
    }
}

/// Length only: these are not secret, but nobody reads them either.
impl<const N: usize> fmt::Debug for Bytes<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{N} bytes]")
    }
}

impl<const N: usize> Serialize for Bytes<N> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&Base64::encode_string(&self.0))
    }
}

impl<'de, const N: usize> Deserialize<'de> for Bytes<N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let mut bytes = [0; N];
        match Base64::decode(&text, &mut bytes) {
            Ok(decoded) if decoded.len() == N => Ok(Self(bytes)),
            _ => Err(D::Error::custom("expected base64 of another length")),
        }
    }
}

/// A version: a number from 1 up.
mod number {
    use bulla_core::DekVersion;
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(
        version: &DekVersion,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_u32(version.get())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<DekVersion, D::Error> {
        let version = DekVersion::new(u32::deserialize(deserializer)?);
        version.ok_or_else(|| D::Error::custom("versions start at 1"))
    }
}
