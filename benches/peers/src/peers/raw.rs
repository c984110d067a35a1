//! Raw AES-256-GCM of aws-lc-rs: the reference.

use std::hint::black_box;

use anyhow::Context as _;
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};

use super::{Counter, Ops, Peer, associated_data};
use crate::host::Versions;

/// One `LessSafeKey`, used again and again, out of place from the caller's buffer into a ready
/// one: no copy, no allocation, no format. What a record costs at least.
pub(crate) struct Raw {
    key: LessSafeKey,
    aad: Vec<u8>,
    nonces: Counter,
    ciphertext: Vec<u8>,
    tag: [u8; 16],
    plaintext: Vec<u8>,
}

impl Raw {
    pub(crate) fn new() -> anyhow::Result<Self> {
        Ok(Self {
            key: LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &[7; 32])?),
            aad: associated_data()?,
            nonces: Counter::default(),
            ciphertext: Vec::new(),
            tag: [0; 16],
            plaintext: Vec::new(),
        })
    }
}

impl Peer for Raw {
    fn name(&self, _: &Versions) -> anyhow::Result<String> {
        Ok(String::from("raw aws-lc-rs"))
    }

    fn settings(&self) -> &'static str {
        "AES-256-GCM, LessSafeKey reused, nonce by counter, associated data of the length that \
         an envelope of Bulla has, seal_out_of_place_scatter and open_separate_gather into a \
         ready buffer"
    }

    fn ops(&self) -> Ops {
        Ops::INTO
    }

    fn seal(&mut self, plaintext: &[u8]) -> anyhow::Result<Vec<u8>> {
        self.seal_times(plaintext, 1)?;
        let mut nonce = [0; 12];
        nonce[4..].copy_from_slice(&self.nonces.0.to_be_bytes());
        Ok([&nonce, &self.ciphertext[..], &self.tag].concat())
    }

    fn open(&mut self, envelope: &[u8]) -> anyhow::Result<Vec<u8>> {
        self.open_times(envelope, 1)?;
        Ok(self.plaintext.clone())
    }

    fn seal_times(&mut self, plaintext: &[u8], calls: u64) -> anyhow::Result<()> {
        self.ciphertext.resize(plaintext.len(), 0);
        for _ in 0..calls {
            let nonce = Nonce::assume_unique_for_key(self.nonces.next());
            let (aad, out) = (Aad::from(&self.aad[..]), &mut self.ciphertext[..]);
            let plaintext = black_box(plaintext);
            self.key.seal_out_of_place_scatter(nonce, aad, plaintext, out, &[], &mut self.tag)?;
            black_box((&self.ciphertext, &self.tag));
        }
        Ok(())
    }

    fn open_times(&mut self, envelope: &[u8], calls: u64) -> anyhow::Result<()> {
        let (nonce, sealed) = envelope.split_first_chunk().context("too short")?;
        let (ciphertext, tag) = sealed.split_last_chunk::<16>().context("too short")?;
        self.plaintext.resize(ciphertext.len(), 0);
        for _ in 0..calls {
            let nonce = Nonce::assume_unique_for_key(*nonce);
            let (aad, out) = (Aad::from(&self.aad[..]), &mut self.plaintext[..]);
            self.key.open_separate_gather(nonce, aad, black_box(ciphertext), tag, out)?;
            black_box(&self.plaintext);
        }
        Ok(())
    }
}
