//! AES-256-GCM of ring.

use anyhow::Context as _;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};

use super::{Counter, Peer, associated_data};
use crate::host::Versions;

/// One `LessSafeKey`. ring works in place only, so the plaintext is copied behind its nonce
/// into the output and sealed there; and the ciphertext is copied and opened there.
pub(crate) struct Ring {
    key: LessSafeKey,
    aad: Vec<u8>,
    nonces: Counter,
}

impl Ring {
    pub(crate) fn new() -> anyhow::Result<Self> {
        let key = UnboundKey::new(&AES_256_GCM, &[7; 32]).ok().context("key")?;
        let key = LessSafeKey::new(key);
        Ok(Self { key, aad: associated_data()?, nonces: Counter::default() })
    }
}

impl Peer for Ring {
    fn name(&self, versions: &Versions) -> anyhow::Result<String> {
        versions.label("ring")
    }

    fn settings(&self) -> &'static str {
        "AES-256-GCM, LessSafeKey reused, nonce by counter and part of the output, associated \
         data as the reference, in place in a new Vec"
    }

    fn seal(&mut self, plaintext: &[u8]) -> anyhow::Result<Vec<u8>> {
        let nonce = self.nonces.next();
        let aad = Aad::from(&self.aad[..]);
        let mut out = Vec::with_capacity(NONCE_LEN + plaintext.len() + AES_256_GCM.tag_len());
        out.extend_from_slice(&nonce);
        out.extend_from_slice(plaintext);
        let nonce = Nonce::assume_unique_for_key(nonce);
        let tag = self.key.seal_in_place_separate_tag(nonce, aad, &mut out[NONCE_LEN..]);
        out.extend_from_slice(tag.ok().context("not sealed")?.as_ref());
        Ok(out)
    }

    fn open(&mut self, envelope: &[u8]) -> anyhow::Result<Vec<u8>> {
        let (nonce, sealed) = envelope.split_first_chunk().context("too short")?;
        let mut out = sealed.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let opened = self.key.open_in_place(nonce, Aad::from(&self.aad[..]), &mut out);
        let len = opened.ok().context("not opened")?.len();
        out.truncate(len);
        Ok(out)
    }
}
