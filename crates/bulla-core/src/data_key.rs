//! Data keys and their names.

use std::fmt;
use std::num::NonZeroU32;

use bulla_sys::LockedBytes;
use subtle::ConstantTimeEq;

use crate::ScopeContext;
use crate::error::KeyError;
use crate::kdf;

//= spec 8.1
//# What is found MUST be 32 bytes long, else unknown key
/// A data-encryption key: 32 uniform bytes in locked memory where there is some
/// ([`LockedBytes`]), wiped on drop, never shown.
///
/// It is not `Clone` and has no serialised form. Whoever wraps it reads it through
/// [`expose_secret`](Self::expose_secret), which is easy to search for in a review.
pub struct DataKey(LockedBytes<{ Self::LEN }>);

impl DataKey {
    /// Length of a data key, in bytes.
    pub const LEN: usize = 32;

    /// A fresh key from the operating system's generator.
    ///
    /// # Errors
    /// [`KeyError::Random`] when the generator fails.
    pub fn generate() -> Result<Self, KeyError> {
        Self::try_init_with(|bytes| getrandom::fill(bytes).map_err(|_| KeyError::Random))
    }

    /// A key whose bytes `fill` writes in place, where they stay: a key that is moved
    /// leaves a copy behind on the stack. What `fill` itself leaves there is wiped.
    pub fn init_with(fill: impl FnOnce(&mut [u8; Self::LEN])) -> Self {
        let mut key = LockedBytes::zeroed();
        bulla_sys::apart(|| fill(key.as_bytes_mut()));
        Self(key)
    }

    /// As [`init_with`](Self::init_with), with a `fill` that may fail; then what it
    /// has written is wiped.
    ///
    /// # Errors
    /// The error of `fill`.
    pub fn try_init_with<E>(
        fill: impl FnOnce(&mut [u8; Self::LEN]) -> Result<(), E>,
    ) -> Result<Self, E> {
        let mut key = LockedBytes::zeroed();
        bulla_sys::apart(|| fill(key.as_bytes_mut()))?;
        Ok(Self(key))
    }

    /// The 32 bytes, for wrapping.
    pub fn expose_secret(&self) -> &[u8; Self::LEN] {
        self.0.as_bytes()
    }

    /// The self-certifying name of this key as `version` of `scope`'s lineage.
    ///
    /// # Errors
    /// [`KeyError::Library`] when the KDF fails.
    pub fn id(&self, version: DekVersion, scope: &ScopeContext) -> Result<KeyId, KeyError> {
        self.id_of(version.get(), scope)
    }

    /// The self-certifying name of this key as the single-use key of a self-contained
    /// envelope of `scope`: version 0, which no lineage has.
    pub(crate) fn single_use_id(&self, scope: &ScopeContext) -> Result<KeyId, KeyError> {
        self.id_of(0, scope)
    }

    fn id_of(&self, version: u32, scope: &ScopeContext) -> Result<KeyId, KeyError> {
        let mut id = [0; KeyId::LEN];
        let parameters: [&[u8]; 2] = [&version.to_be_bytes(), scope.as_bytes()];
        kdf::expand(self.expose_secret(), "key-id", &parameters, &mut id)?;
        Ok(KeyId(id))
    }
}

impl fmt::Debug for DataKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DataKey([redacted])")
    }
}

/// Compares in constant time.
impl PartialEq for DataKey {
    fn eq(&self, other: &Self) -> bool {
        self.expose_secret().ct_eq(other.expose_secret()).into()
    }
}

impl Eq for DataKey {}

/// Name of a DEK: 32 bytes derived from the key itself, its version and its scope
/// (spec, "Key id").
///
/// Whoever has the key can recompute it, so it commits to the key, and a planted,
/// swapped or re-labelled one is found before it decrypts anything. Not secret.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId([u8; Self::LEN]);

impl KeyId {
    /// Length of a key id, in bytes.
    pub const LEN: usize = 32;

    /// A key id as read from a header or a store.
    pub const fn from_bytes(bytes: [u8; Self::LEN]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }
}

/// Lower-case hexadecimal, 64 digits.
impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyId({self})")
    }
}

/// Version of a DEK in the lineage of its scope: 1 and up.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DekVersion(NonZeroU32);

impl DekVersion {
    /// The first version of a lineage.
    pub const FIRST: Self = Self(NonZeroU32::MIN);

    /// `None` for 0, which the format keeps for self-contained envelopes.
    pub const fn new(version: u32) -> Option<Self> {
        match NonZeroU32::new(version) {
            Some(version) => Some(Self(version)),
            None => None,
        }
    }

    /// The number.
    pub const fn get(self) -> u32 {
        self.0.get()
    }

    /// The four bytes that a header has for this version.
    pub const fn to_be_bytes(self) -> [u8; 4] {
        self.0.get().to_be_bytes()
    }

    /// The version after this one, or `None` at the end of the 2^32 - 1.
    pub fn next(self) -> Option<Self> {
        self.0.checked_add(1).map(Self)
    }
}

impl fmt::Display for DekVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for DekVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope(tenant: &str) -> ScopeContext {
        ScopeContext::new([("tenant", tenant)]).unwrap()
    }

    #[test]
    fn versions_are_written_big_endian() {
        assert_eq!(DekVersion::new(0x0102_0304).unwrap().to_be_bytes(), [1, 2, 3, 4]);
    }

    #[test]
    fn the_id_depends_on_key_version_and_scope() {
        let key = DataKey::init_with(|bytes| bytes.fill(7));
        let other = DataKey::init_with(|bytes| bytes.fill(8));
        let v2 = DekVersion::FIRST.next().unwrap();
        let id = key.id(DekVersion::FIRST, &scope("a")).unwrap();
        assert_eq!(id, key.id(DekVersion::FIRST, &scope("a")).unwrap());
        assert_ne!(id, other.id(DekVersion::FIRST, &scope("a")).unwrap());
        assert_ne!(id, key.id(v2, &scope("a")).unwrap());
        assert_ne!(id, key.id(DekVersion::FIRST, &scope("b")).unwrap());
    }

    #[test]
    fn debug_shows_nothing() {
        let key = DataKey::init_with(|bytes| bytes.fill(0x41));
        assert_eq!(format!("{key:?}"), "DataKey([redacted])");
    }

    #[test]
    fn generated_keys_differ() {
        assert_ne!(DataKey::generate().unwrap(), DataKey::generate().unwrap());
    }

    #[test]
    fn versions_end_without_wrapping() {
        assert_eq!(DekVersion::new(0), None);
        assert_eq!(DekVersion::new(u32::MAX).unwrap().next(), None);
    }
}
