//! AES-256-GCM through one of two libraries, chosen by a value.

#[cfg(feature = "aws-lc-rs")]
mod aws_lc_rs;
#[cfg(feature = "rust-crypto")]
mod rust_crypto;
#[cfg(test)]
mod tests;

use crate::error::KeyError;

/// Length of an AES-GCM tag, in bytes (NIST SP 800-38D, section 5.2.1.2).
pub(crate) const TAG_LEN: usize = 16;
/// Length of an AES-GCM nonce, in bytes (NIST SP 800-38D, section 5.2.1.1).
pub(crate) const NONCE_LEN: usize = 12;

/// The library that runs the AEAD. Both produce the same bytes; cargo features
/// choose which are compiled in, this value which is used.
///
/// The default is aws-lc-rs where it is compiled in: several times the speed on
/// machines with wide AES instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Library {
    /// AWS-LC through the `aws-lc-rs` crate (feature `aws-lc-rs`).
    #[cfg(feature = "aws-lc-rs")]
    #[default]
    AwsLcRs,
    /// The pure-Rust `aes-gcm` crate (feature `rust-crypto`).
    #[cfg(feature = "rust-crypto")]
    #[cfg_attr(not(feature = "aws-lc-rs"), default)]
    RustCrypto,
}

impl Library {
    /// Every library that is compiled in.
    pub const ALL: &'static [Self] = &[
        #[cfg(feature = "aws-lc-rs")]
        Self::AwsLcRs,
        #[cfg(feature = "rust-crypto")]
        Self::RustCrypto,
    ];
}

/// The tag did not match, or the library failed: nobody outside is told which.
#[derive(Debug)]
pub(crate) struct AeadError;

/// An AES-256-GCM key, its schedule expanded. Wiped on drop by its library.
pub(crate) enum AeadKey {
    #[cfg(feature = "aws-lc-rs")]
    AwsLcRs(aws_lc_rs::Key),
    #[cfg(feature = "rust-crypto")]
    RustCrypto(Box<rust_crypto::Key>),
}

impl AeadKey {
    pub(crate) fn new(library: Library, key: &[u8; 32]) -> Result<Self, KeyError> {
        match library {
            #[cfg(feature = "aws-lc-rs")]
            Library::AwsLcRs => Ok(Self::AwsLcRs(aws_lc_rs::Key::new(key)?)),
            #[cfg(feature = "rust-crypto")]
            Library::RustCrypto => Ok(Self::RustCrypto(Box::new(rust_crypto::Key::new(key)))),
        }
    }

    /// Encrypts `plaintext` into `out`, which is as long, and returns the tag.
    #[inline]
    pub(crate) fn seal(
        &self,
        nonce: &[u8; NONCE_LEN],
        aad: &[u8],
        plaintext: &[u8],
        out: &mut [u8],
    ) -> Result<[u8; TAG_LEN], AeadError> {
        match self {
            #[cfg(feature = "aws-lc-rs")]
            Self::AwsLcRs(key) => key.seal(nonce, aad, plaintext, out),
            #[cfg(feature = "rust-crypto")]
            Self::RustCrypto(key) => key.seal(nonce, aad, plaintext, out),
        }
    }

    /// Decrypts `ciphertext` into `out`, which is as long. After an error, `out`
    /// may hold anything and must be wiped.
    #[inline]
    pub(crate) fn open(
        &self,
        nonce: &[u8; NONCE_LEN],
        aad: &[u8],
        ciphertext: &[u8],
        tag: &[u8; TAG_LEN],
        out: &mut [u8],
    ) -> Result<(), AeadError> {
        match self {
            #[cfg(feature = "aws-lc-rs")]
            Self::AwsLcRs(key) => key.open(nonce, aad, ciphertext, tag, out),
            #[cfg(feature = "rust-crypto")]
            Self::RustCrypto(key) => key.open(nonce, aad, ciphertext, tag, out),
        }
    }
}
