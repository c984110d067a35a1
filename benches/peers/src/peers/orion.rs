//! orion: XChaCha20-Poly1305 in pure Rust.

use orion::aead::{SecretKey, open, seal};

use super::Peer;
use crate::host::Versions;

/// `orion::aead`, one key. It takes no associated data.
pub(crate) struct Orion {
    key: SecretKey,
}

impl Orion {
    pub(crate) fn new() -> anyhow::Result<Self> {
        Ok(Self { key: SecretKey::generate()? })
    }
}

impl Peer for Orion {
    fn name(&self, versions: &Versions) -> anyhow::Result<String> {
        versions.label("orion")
    }

    fn settings(&self) -> &'static str {
        "orion::aead::seal and open (XChaCha20-Poly1305), SecretKey reused, random nonce by the \
         library; it takes no associated data; no envelope"
    }

    fn seal(&mut self, plaintext: &[u8]) -> anyhow::Result<Vec<u8>> {
        Ok(seal(&self.key, plaintext)?)
    }

    fn open(&mut self, envelope: &[u8]) -> anyhow::Result<Vec<u8>> {
        Ok(open(&self.key, envelope)?)
    }
}
