//! AES-256-GCM and AES-256-GCM-SIV of AWS-LC.

use aws_lc_rs::aead::{AES_256_GCM, AES_256_GCM_SIV, Aad, LessSafeKey, Nonce, UnboundKey};

use super::{AeadError, NONCE_LEN, TAG_LEN};
use crate::Suite;
use crate::error::KeyError;

/// AWS-LC keeps the schedule on its own heap and cleanses it when it is freed.
pub(crate) struct Key(LessSafeKey);

/// How deep in the stack an operation leaves hash keys and their powers, in bytes, with room
/// to spare: 0.7 KiB, and 2.5 KiB where the code for AVX-512 takes more than 256 bytes at a
/// time. Unoptimised code has larger frames.
#[inline(always)]
pub(super) fn left_bytes(aad: &[u8], text: &[u8]) -> usize {
    match aad.len().max(text.len()) {
        _ if cfg!(debug_assertions) => 16 * 1024,
        0..=256 => 1024,
        _ => 3 * 1024,
    }
}

impl Key {
    pub(super) fn new(suite: Suite, key: &[u8; 32]) -> Result<Self, KeyError> {
        let algorithm = match suite {
            Suite::Xaes256Gcm => &AES_256_GCM,
            Suite::Xaes256GcmSiv => &AES_256_GCM_SIV,
        };
        let key = UnboundKey::new(algorithm, key).map_err(|_| KeyError::Library)?;
        Ok(Self(LessSafeKey::new(key)))
    }

    #[inline]
    pub(super) fn seal(
        &self,
        nonce: &[u8; NONCE_LEN],
        aad: &[u8],
        plaintext: &[u8],
        out: &mut [u8],
        tag: &mut [u8; TAG_LEN],
    ) -> Result<(), AeadError> {
        let nonce = Nonce::assume_unique_for_key(*nonce);
        self.0
            .seal_out_of_place_scatter(nonce, Aad::from(aad), plaintext, out, &[], tag)
            .map_err(|_| AeadError)
    }

    #[inline]
    pub(super) fn open(
        &self,
        nonce: &[u8; NONCE_LEN],
        aad: &[u8],
        ciphertext: &[u8],
        tag: &[u8; TAG_LEN],
        out: &mut [u8],
    ) -> Result<(), AeadError> {
        let nonce = Nonce::assume_unique_for_key(*nonce);
        self.0
            .open_separate_gather(nonce, Aad::from(aad), ciphertext, tag, out)
            .map_err(|_| AeadError)
    }
}
