//! The wraps section of a self-contained envelope (spec, section 6).
//!
//! ```text
//!  0  2  wraps_len: generation to MAC
//!  2  4  generation
//!  6  1  count, 1 to 8
//!  7     entries: u8 backend, u16-prefixed KEK id, u8-prefixed KEK version,
//!        u16-prefixed blob
//!    32  MAC over the header and everything above
//! ```

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::Header;
use crate::error::{KeyError, WrapsError};
use crate::limits::{
    KEK_ID_BYTES_MAX, KEK_VERSION_BYTES_MAX, WRAP_BLOB_BYTES_MAX, WRAPS_LEN_MAX, WRAPS_LEN_MIN,
    WRAPS_MAX,
};

/// Length of the field `wraps_len`, in bytes.
pub(crate) const LEN_FIELD: usize = 2;
/// Length of the MAC, in bytes (HMAC-SHA256, RFC 2104).
pub(crate) const MAC_LEN: usize = 32;

/// One wrap: the single-use DEK of an envelope, wrapped by one version of one KEK.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Wrap {
    /// The service that holds the KEK, by its number in the specification (section
    /// 6.1): 1 local, 2 AWS KMS, 3 Vault transit, 4 GCP KMS, 5 Azure Key Vault,
    /// 6 PKCS#11; 128 to 255 are for private use.
    pub backend: u8,
    /// Name of the KEK, 1 to 512 bytes, as its backend understands it.
    pub kek_id: Box<[u8]>,
    /// Version of the KEK, up to 255 bytes; empty if it is not known.
    pub kek_version: Box<[u8]>,
    /// What the KEK made of the DEK, 1 to 1024 bytes.
    pub blob: Box<[u8]>,
}

impl Wrap {
    /// A wrap by `kek_version` (empty if not known) of `kek_id`.
    pub fn new(
        backend: u8,
        kek_id: impl Into<Box<[u8]>>,
        kek_version: impl Into<Box<[u8]>>,
        blob: impl Into<Box<[u8]>>,
    ) -> Self {
        let (kek_id, kek_version, blob) = (kek_id.into(), kek_version.into(), blob.into());
        Self { backend, kek_id, kek_version, blob }
    }

    /// What wraps are sorted by, and distinct in.
    fn name(&self) -> (u8, &[u8], &[u8]) {
        (self.backend, &self.kek_id, &self.kek_version)
    }

    fn check(&self) -> Result<(), WrapsError> {
        //= spec 6.1
        //# An opener MUST NOT refuse an envelope because an entry names a backend that it does not
        //# know
        if self.backend == 0 {
            return Err(WrapsError::Backend(0));
        }
        for (field, bytes, min, max) in [
            ("KEK id", &self.kek_id, 1, KEK_ID_BYTES_MAX),
            ("KEK version", &self.kek_version, 0, KEK_VERSION_BYTES_MAX),
            ("blob", &self.blob, 1, WRAP_BLOB_BYTES_MAX),
        ] {
            if !(min..=max).contains(&bytes.len()) {
                return Err(WrapsError::FieldLength { field, len: bytes.len(), min, max });
            }
        }
        Ok(())
    }
}

/// KEK id and version with everything escaped that is not printable ASCII; the blob
/// by its length.
impl fmt::Debug for Wrap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match BACKENDS.iter().find(|(number, _)| *number == self.backend) {
            Some((_, name)) => f.write_str(name)?,
            None => write!(f, "backend {}", self.backend)?,
        }
        //= spec 6.1
        //# A program that displays them MUST escape what is not printable.
        write!(f, " \"{}\"", self.kek_id.escape_ascii())?;
        match &*self.kek_version {
            [] => f.write_str(", version not known")?,
            version => write!(f, ", version \"{}\"", version.escape_ascii())?,
        }
        write!(f, ", {} bytes", self.blob.len())
    }
}

/// Names of the backends that have a number (spec, section 6.1).
const BACKENDS: [(u8, &str); 6] = [
    (1, "local"),
    (2, "aws-kms"),
    (3, "vault-transit"),
    (4, "gcp-kms"),
    (5, "azure-key-vault"),
    (6, "pkcs11"),
];

/// The wraps of a self-contained envelope: one to eight, sorted, none by the same
/// version of the same KEK as another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wraps {
    generation: u32,
    entries: Vec<Wrap>,
}

impl Wraps {
    /// The wraps of a new envelope, given in any order.
    ///
    /// # Errors
    /// [`WrapsError`] for a number or a length out of bounds, for a reserved backend,
    /// and for two wraps by the same version of the same KEK.
    pub fn new(entries: impl IntoIterator<Item = Wrap>) -> Result<Self, WrapsError> {
        Self::of_generation(0, entries)
    }

    /// The wraps that replace these: `entries`, of the next generation.
    ///
    /// # Errors
    /// As [`new`](Self::new); [`WrapsError::GenerationEnded`] after 2^32 - 1 times.
    pub fn replaced_by(&self, entries: impl IntoIterator<Item = Wrap>) -> Result<Self, WrapsError> {
        //= spec 6.6
        //# A rewrap of generation 2^32 - 1 MUST be refused.
        let generation = self.generation.checked_add(1).ok_or(WrapsError::GenerationEnded)?;
        Self::of_generation(generation, entries)
    }

    fn of_generation(
        generation: u32,
        entries: impl IntoIterator<Item = Wrap>,
    ) -> Result<Self, WrapsError> {
        let mut entries: Vec<_> = entries.into_iter().take(WRAPS_MAX + 1).collect();
        entries.sort_by(|a, b| a.name().cmp(&b.name()));
        //= spec 6.1
        //# A sealer MUST NOT write a reserved backend.
        if let Some(reserved) = entries.iter().find(|entry| matches!(entry.backend, 7..=127)) {
            return Err(WrapsError::Backend(reserved.backend));
        }
        let wraps = Self { generation, entries };
        wraps.check()?;
        Ok(wraps)
    }

    /// How often the wraps of this envelope have been replaced. Who remembers the
    /// highest one seen can tell when an older set is put back.
    pub fn generation(&self) -> u32 {
        self.generation
    }

    /// The wraps, sorted by backend, KEK id and KEK version.
    pub fn entries(&self) -> &[Wrap] {
        &self.entries
    }

    /// The wraps by the KEK `kek_id` of `backend`, the oldest version label first as
    /// byte strings go.
    pub fn by_kek(&self, backend: u8, kek_id: &[u8]) -> impl Iterator<Item = &Wrap> {
        self.entries
            .iter()
            .filter(move |entry| entry.backend == backend && *entry.kek_id == *kek_id)
    }

    /// What holds for wraps that are made and for wraps that are read.
    fn check(&self) -> Result<(), WrapsError> {
        if !(1..=WRAPS_MAX).contains(&self.entries.len()) {
            return Err(WrapsError::Count(self.entries.len()));
        }
        self.entries.iter().try_for_each(Wrap::check)?;
        match self.entries.is_sorted_by(|a, b| a.name() < b.name()) {
            true => Ok(()),
            false => Err(WrapsError::Order),
        }
    }

    /// The section without its MAC, `wraps_len` first.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; LEN_FIELD];
        bytes.extend_from_slice(&self.generation.to_be_bytes());
        // The checks keep the count within a u8 and every length within its prefix.
        bytes.push(self.entries.len() as u8);
        for entry in &self.entries {
            bytes.push(entry.backend);
            bytes.extend_from_slice(&(entry.kek_id.len() as u16).to_be_bytes());
            bytes.extend_from_slice(&entry.kek_id);
            bytes.push(entry.kek_version.len() as u8);
            bytes.extend_from_slice(&entry.kek_version);
            bytes.extend_from_slice(&(entry.blob.len() as u16).to_be_bytes());
            bytes.extend_from_slice(&entry.blob);
        }
        let wraps_len = (bytes.len() - LEN_FIELD + MAC_LEN) as u16;
        bytes[..LEN_FIELD].copy_from_slice(&wraps_len.to_be_bytes());
        bytes
    }

    /// Length of the section that starts with `wraps_len` at the start of `bytes`, in
    /// bytes, that field included.
    pub(crate) fn section_len(bytes: &[u8]) -> Result<usize, WrapsError> {
        let (wraps_len, _) = bytes.split_first_chunk().ok_or(WrapsError::SectionLength)?;
        match usize::from(u16::from_be_bytes(*wraps_len)) {
            //= spec 6.1
            //# wraps_len is at least 45 (one entry with the shortest fields) and MUST NOT exceed
            //# 16,384.
            len @ WRAPS_LEN_MIN..=WRAPS_LEN_MAX => Ok(LEN_FIELD + len),
            _ => Err(WrapsError::SectionLength),
        }
    }

    /// Reads a section that is as long as it states, and its MAC, which is not checked
    /// here.
    pub(crate) fn parse(section: &[u8]) -> Result<(Self, [u8; MAC_LEN]), WrapsError> {
        let cut = || WrapsError::SectionLength;
        let (body, mac) = section.split_last_chunk().ok_or_else(cut)?;
        let mut rest = Fields(body.get(LEN_FIELD..).ok_or_else(cut)?);
        let generation = u32::from_be_bytes(rest.array().ok_or_else(cut)?);
        let [count] = rest.array().ok_or_else(cut)?;
        if !(1..=WRAPS_MAX).contains(&usize::from(count)) {
            return Err(WrapsError::Count(usize::from(count)));
        }
        let entries: Option<_> = (0..count).map(|_| rest.wrap()).collect();
        let wraps = Self { generation, entries: entries.ok_or_else(cut)? };
        wraps.check()?;
        match rest.0 {
            [] => Ok((wraps, *mac)),
            _ => Err(cut()),
        }
    }
}

/// The MAC over `header` and a section without its MAC, for making or checking it in
/// constant time.
pub(crate) fn mac_of(
    key: &[u8; 32],
    header: &[u8; Header::LEN],
    section: &[u8],
) -> Result<Hmac<Sha256>, KeyError> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).map_err(|_| KeyError::Library)?;
    mac.update(header);
    mac.update(section);
    Ok(mac)
}

/// What is left of the bytes of a section.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (array, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*array)
    }

    fn bytes(&mut self, len: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(bytes)
    }

    fn wrap(&mut self) -> Option<Wrap> {
        let [backend] = self.array()?;
        let kek_id_len = u16::from_be_bytes(self.array()?);
        let kek_id = self.bytes(kek_id_len.into())?;
        let [kek_version_len] = self.array()?;
        let kek_version = self.bytes(kek_version_len.into())?;
        let blob_len = u16::from_be_bytes(self.array()?);
        let blob = self.bytes(blob_len.into())?;
        Some(Wrap::new(backend, kek_id, kek_version, blob))
    }
}

#[cfg(test)]
mod tests;
