//! The two AEADs that sections 5.3 and 7.1 name.

use aes_gcm::Aes256Gcm;
use aes_gcm::aead::{Aead, KeyInit, Payload};
use aes_gcm_siv::Aes256GcmSiv;

use super::Class;

/// Ciphertext and tag: AES-256-GCM in suite 1, AES-256-GCM-SIV in suite 2.
pub fn seal(
    suite: u8,
    key: &[u8; 32],
    nonce: &[u8; 12],
    aad: &[u8],
    plaintext: &[u8],
) -> Result<Vec<u8>, Class> {
    let payload = Payload { msg: plaintext, aad };
    let sealed = match suite {
        1 => Aes256Gcm::new(key.into()).encrypt(nonce.into(), payload),
        2 => Aes256GcmSiv::new(key.into()).encrypt(nonce.into(), payload),
        _ => return Err(Class::Unsupported),
    };
    // It fails for lengths only, far above those of section 10.
    sealed.map_err(|_| Class::Refused)
}

/// The plaintext, or [`Class::Authentication`].
pub fn open(
    suite: u8,
    key: &[u8; 32],
    nonce: &[u8; 12],
    aad: &[u8],
    ciphertext_and_tag: &[u8],
) -> Result<Vec<u8>, Class> {
    let payload = Payload { msg: ciphertext_and_tag, aad };
    let opened = match suite {
        1 => Aes256Gcm::new(key.into()).decrypt(nonce.into(), payload),
        2 => Aes256GcmSiv::new(key.into()).decrypt(nonce.into(), payload),
        _ => return Err(Class::Unsupported),
    };
    opened.map_err(|_| Class::Authentication)
}
