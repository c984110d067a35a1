//! AES-256-GCM of RustCrypto.

use aes_gcm::{AeadInOut as _, Aes256Gcm, KeyInit as _};
use anyhow::Context as _;

use super::{Counter, Peer, associated_data};
use crate::host::Versions;

/// One `Aes256Gcm`, in place in the output, with the nonce in front.
pub(crate) struct RustCrypto {
    cipher: Aes256Gcm,
    aad: Vec<u8>,
    nonces: Counter,
}

impl RustCrypto {
    pub(crate) fn new() -> anyhow::Result<Self> {
        let cipher = Aes256Gcm::new(&[7; 32].into());
        Ok(Self { cipher, aad: associated_data()?, nonces: Counter::default() })
    }
}

impl Peer for RustCrypto {
    fn name(&self, versions: &Versions) -> anyhow::Result<String> {
        versions.label("aes-gcm")
    }

    fn settings(&self) -> &'static str {
        "Aes256Gcm reused, nonce by counter and part of the output, associated data as the \
         reference, in place in a new Vec; no target-cpu, instructions found at run time"
    }

    // Inlined into a loop, the cipher at times takes twice as long.
    #[inline(never)]
    fn seal(&mut self, plaintext: &[u8]) -> anyhow::Result<Vec<u8>> {
        let nonce = self.nonces.next();
        let mut out = Vec::with_capacity(nonce.len() + plaintext.len() + 16);
        out.extend_from_slice(&nonce);
        out.extend_from_slice(plaintext);
        let sealed = (&mut out[nonce.len()..]).into();
        let tag = self.cipher.encrypt_inout_detached(&nonce.into(), &self.aad, sealed)?;
        out.extend_from_slice(&tag);
        Ok(out)
    }

    #[inline(never)]
    fn open(&mut self, envelope: &[u8]) -> anyhow::Result<Vec<u8>> {
        let (&nonce, sealed) = envelope.split_first_chunk::<12>().context("too short")?;
        let (ciphertext, &tag) = sealed.split_last_chunk::<16>().context("too short")?;
        let mut out = ciphertext.to_vec();
        let opened = out.as_mut_slice().into();
        self.cipher.decrypt_inout_detached(&nonce.into(), &self.aad, opened, &tag.into())?;
        Ok(out)
    }
}
