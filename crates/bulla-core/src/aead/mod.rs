//! The two AEADs of the format through one of two libraries, chosen by values.

#[cfg(feature = "aws-lc-rs")]
mod aws_lc_rs;
#[cfg(feature = "rust-crypto")]
mod rust_crypto;
#[cfg(test)]
mod tests;

use crate::Suite;
use crate::error::KeyError;

/// Length of the tag, in bytes (NIST SP 800-38D, section 5.2.1.2; RFC 8452, section 4).
pub(crate) const TAG_LEN: usize = 16;
/// Length of the nonce, in bytes (NIST SP 800-38D, section 5.2.1.1; RFC 8452, section 4).
pub(crate) const NONCE_LEN: usize = 12;

//= spec 11
//# AES and GHASH implementations with secret-dependent table look-ups MUST NOT be used.
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
    /// The pure-Rust `aes-gcm` and `aes-gcm-siv` crates (feature `rust-crypto`).
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

/// A key of a suite's AEAD, its schedule expanded. Wiped on drop by its library.
pub(crate) enum AeadKey {
    #[cfg(feature = "aws-lc-rs")]
    AwsLcRs(aws_lc_rs::Key),
    #[cfg(feature = "rust-crypto")]
    RustCryptoGcm(Box<rust_crypto::Gcm>),
    #[cfg(feature = "rust-crypto")]
    RustCryptoGcmSiv(Box<rust_crypto::GcmSiv>),
}

impl AeadKey {
    /// A key of the AEAD of `suite`: AES-256-GCM (NIST SP 800-38D) or AES-256-GCM-SIV
    /// (RFC 8452).
    pub(crate) fn new(library: Library, suite: Suite, key: &[u8; 32]) -> Result<Self, KeyError> {
        match (library, suite) {
            #[cfg(feature = "aws-lc-rs")]
            (Library::AwsLcRs, suite) => Ok(Self::AwsLcRs(aws_lc_rs::Key::new(suite, key)?)),
            #[cfg(feature = "rust-crypto")]
            (Library::RustCrypto, Suite::Xaes256Gcm) => {
                Ok(Self::RustCryptoGcm(Box::new(rust_crypto::Gcm::new(key))))
            }
            #[cfg(feature = "rust-crypto")]
            (Library::RustCrypto, Suite::Xaes256GcmSiv) => {
                Ok(Self::RustCryptoGcmSiv(Box::new(rust_crypto::GcmSiv::new(key))))
            }
        }
    }

    /// Writes the ciphertext of `plaintext` and its tag over `out`, which is 16 bytes longer.
    /// After an error, `out` may hold anything and must be wiped. Wipes what that has left
    /// on the stack.
    #[inline]
    pub(crate) fn seal(
        &self,
        nonce: &[u8; NONCE_LEN],
        aad: &[u8],
        plaintext: &[u8],
        out: &mut [u8],
    ) -> Result<(), AeadError> {
        let sealed = self.seal_unwiped(nonce, aad, plaintext, out);
        bulla_sys::brush_stack(self.left_bytes(aad, plaintext));
        sealed
    }

    /// As [`seal`](Self::seal), for one of many: within [`wiping_after`].
    #[inline]
    pub(crate) fn seal_unwiped(
        &self,
        nonce: &[u8; NONCE_LEN],
        aad: &[u8],
        plaintext: &[u8],
        out: &mut [u8],
    ) -> Result<(), AeadError> {
        let (out, tag) = out.split_last_chunk_mut().ok_or(AeadError)?;
        match self {
            #[cfg(feature = "aws-lc-rs")]
            Self::AwsLcRs(key) => key.seal(nonce, aad, plaintext, out, tag),
            #[cfg(feature = "rust-crypto")]
            Self::RustCryptoGcm(key) => key.seal(nonce, aad, plaintext, out, tag),
            #[cfg(feature = "rust-crypto")]
            Self::RustCryptoGcmSiv(key) => key.seal(nonce, aad, plaintext, out, tag),
        }
    }

    /// Decrypts `ciphertext` into `out`, which is as long. After an error, `out`
    /// may hold anything and must be wiped. Wipes what that has left on the stack.
    #[inline]
    pub(crate) fn open(
        &self,
        nonce: &[u8; NONCE_LEN],
        aad: &[u8],
        ciphertext: &[u8],
        tag: &[u8; TAG_LEN],
        out: &mut [u8],
    ) -> Result<(), AeadError> {
        let opened = match self {
            #[cfg(feature = "aws-lc-rs")]
            Self::AwsLcRs(key) => key.open(nonce, aad, ciphertext, tag, out),
            #[cfg(feature = "rust-crypto")]
            Self::RustCryptoGcm(key) => key.open(nonce, aad, ciphertext, tag, out),
            #[cfg(feature = "rust-crypto")]
            Self::RustCryptoGcmSiv(key) => key.open(nonce, aad, ciphertext, tag, out),
        };
        bulla_sys::brush_stack(self.left_bytes(aad, ciphertext));
        opened
    }

    /// How deep in the stack an operation leaves keys, in bytes.
    #[inline(always)]
    fn left_bytes(&self, aad: &[u8], text: &[u8]) -> usize {
        match self {
            #[cfg(feature = "aws-lc-rs")]
            Self::AwsLcRs(_) => aws_lc_rs::left_bytes(aad, text),
            #[cfg(feature = "rust-crypto")]
            Self::RustCryptoGcm(_) | Self::RustCryptoGcmSiv(_) => rust_crypto::LEFT_BYTES,
        }
    }
}

/// Runs `work`, in which keys seal without wiping, and then wipes the stack once: what a
/// record has left, below the frames that lead to it.
#[inline(always)]
pub(crate) fn wiping_after<T>(work: impl FnOnce() -> T) -> T {
    #[inline(never)]
    fn in_a_frame_of_its_own<T>(work: impl FnOnce() -> T) -> T {
        work()
    }
    // Also when `work` panics.
    struct Wiping;
    impl Drop for Wiping {
        fn drop(&mut self) {
            bulla_sys::brush_stack(if cfg!(debug_assertions) { 128 } else { 32 } * 1024);
        }
    }
    let _wiping = Wiping;
    in_a_frame_of_its_own(work)
}
