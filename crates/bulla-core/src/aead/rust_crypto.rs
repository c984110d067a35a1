//! AES-256-GCM and AES-256-GCM-SIV of the RustCrypto project.

use aes_gcm::aead::inout::InOutBuf;
use aes_gcm::{AeadInOut, Aes256Gcm, KeyInit};
use aes_gcm_siv::Aes256GcmSiv;

use super::{AeadError, NONCE_LEN, TAG_LEN};

/// Both are wiped on drop through the `zeroize` features of `aes`, `ghash` and
/// `polyval`.
pub(crate) type Gcm = Key<Aes256Gcm>;
pub(crate) type GcmSiv = Key<Aes256GcmSiv>;

pub(crate) struct Key<A>(A);

/// How deep in the stack round keys are left (by the code for AVX-512, which spills them,
/// 9.7 KiB), with room to spare. Unoptimised code has larger frames.
pub(super) const LEFT_BYTES: usize = if cfg!(debug_assertions) { 128 } else { 16 } * 1024;

impl<A> Key<A>
where
    A: AeadInOut<NonceSize = aes_gcm::aead::consts::U12, TagSize = aes_gcm::aead::consts::U16>
        + KeyInit<KeySize = aes_gcm::aead::consts::U32>,
{
    pub(super) fn new(key: &[u8; 32]) -> Self {
        Self(A::new(key.into()))
    }

    // Inlined into a caller, this loop has been seen to take twice as long; and its frame
    // could not be wiped.
    #[inline(never)]
    pub(super) fn seal(
        &self,
        nonce: &[u8; NONCE_LEN],
        aad: &[u8],
        plaintext: &[u8],
        out: &mut [u8],
        tag: &mut [u8; TAG_LEN],
    ) -> Result<(), AeadError> {
        let buffer = InOutBuf::new(plaintext, out).map_err(|_| AeadError)?;
        let sealed = self.0.encrypt_inout_detached(nonce.into(), aad, buffer);
        *tag = sealed.map_err(|_| AeadError)?.into();
        Ok(())
    }

    #[inline(never)]
    pub(super) fn open(
        &self,
        nonce: &[u8; NONCE_LEN],
        aad: &[u8],
        ciphertext: &[u8],
        tag: &[u8; TAG_LEN],
        out: &mut [u8],
    ) -> Result<(), AeadError> {
        let buffer = InOutBuf::new(ciphertext, out).map_err(|_| AeadError)?;
        self.0.decrypt_inout_detached(nonce.into(), aad, buffer, tag.into()).map_err(|_| AeadError)
    }
}
