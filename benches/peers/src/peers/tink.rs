//! Tink for Rust.

use tink_aead::{KmsEnvelopeAead, aes256_gcm_key_template};
use tink_core::keyset::Handle;
use tink_core::{Aead, TinkError};

use super::{Peer, associated_data};
use crate::host::Versions;

/// An `Aead` of a keyset with one new AES-256-GCM key.
fn aead() -> anyhow::Result<Box<dyn Aead>> {
    tink_aead::init();
    let keyset = Handle::new(&aes256_gcm_key_template()).map_err(message)?;
    tink_aead::new(&keyset).map_err(message)
}

/// Errors of Tink stay on their thread, those of anyhow need not.
fn message(error: TinkError) -> anyhow::Error {
    anyhow::Error::msg(error.to_string())
}

/// A keyset of AES256_GCM: no envelope, the keyset is what the application has to keep.
pub(crate) struct Keyset {
    aead: Box<dyn Aead>,
    aad: Vec<u8>,
}

impl Keyset {
    pub(crate) fn new() -> anyhow::Result<Self> {
        Ok(Self { aead: aead()?, aad: associated_data()? })
    }
}

impl Peer for Keyset {
    fn name(&self, versions: &Versions) -> anyhow::Result<String> {
        versions.label("tink-aead")
    }

    fn settings(&self) -> &'static str {
        "AES256_GCM keyset of one key, Aead reused, associated data as the reference; no envelope"
    }

    fn seal(&mut self, plaintext: &[u8]) -> anyhow::Result<Vec<u8>> {
        self.aead.encrypt(plaintext, &self.aad).map_err(message)
    }

    fn open(&mut self, envelope: &[u8]) -> anyhow::Result<Vec<u8>> {
        self.aead.decrypt(envelope, &self.aad).map_err(message)
    }
}

/// `KmsEnvelopeAead`: a fresh key for each record, wrapped by the KEK each time. Here the KEK
/// is local, another keyset; with a KMS each record would cost a call.
pub(crate) struct Envelope {
    aead: KmsEnvelopeAead,
    aad: Vec<u8>,
}

impl Envelope {
    pub(crate) fn new() -> anyhow::Result<Self> {
        let aead = KmsEnvelopeAead::new(aes256_gcm_key_template(), aead()?);
        Ok(Self { aead, aad: associated_data()? })
    }
}

impl Peer for Envelope {
    fn name(&self, versions: &Versions) -> anyhow::Result<String> {
        Ok(format!("{} KmsEnvelopeAead", versions.label("tink-aead")?))
    }

    fn settings(&self) -> &'static str {
        "KmsEnvelopeAead with AES256_GCM data keys under a local AES256_GCM keyset in place of a \
         KMS, associated data as the reference"
    }

    fn seal(&mut self, plaintext: &[u8]) -> anyhow::Result<Vec<u8>> {
        self.aead.encrypt(plaintext, &self.aad).map_err(message)
    }

    fn open(&mut self, envelope: &[u8]) -> anyhow::Result<Vec<u8>> {
        self.aead.decrypt(envelope, &self.aad).map_err(message)
    }
}
