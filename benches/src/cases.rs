//! What is measured: keys, contexts and buffers, made once.

use std::hint::black_box;
use std::sync::Arc;

use anyhow::Context;
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use bulla_core::{DataKey, DekVersion, EnvelopeKey, KeyOptions, RecordContext, ScopeContext};
use bulla_manager::{Manager, MemoryKeyStore, Profile, Scope, SystemClock};
use bulla_testkit::TestKms;

/// The context that every case binds: an ordinary cell of an ordinary table.
pub(crate) fn record() -> anyhow::Result<RecordContext> {
    Ok(RecordContext::new([("table", "customers"), ("column", "email"), ("row", "1234567")])?)
}

/// Raw AES-256-GCM: a reused key, a ready buffer, associated data of the length that
/// an envelope has.
pub(crate) struct Raw {
    key: LessSafeKey,
    aad: Vec<u8>,
    plaintext: Vec<u8>,
    ciphertext: Vec<u8>,
    tag: [u8; 16],
    nonce: u64,
}

impl Raw {
    pub(crate) fn new(size: usize, context: &RecordContext) -> anyhow::Result<Self> {
        let key = UnboundKey::new(&AES_256_GCM, &[7; 32]).ok().context("raw key")?;
        let mut raw = Self {
            key: LessSafeKey::new(key),
            aad: vec![1; 44 + context.as_bytes().len()],
            plaintext: vec![7; size],
            ciphertext: vec![0; size],
            tag: [0; 16],
            nonce: 0,
        };
        raw.seal(1);
        raw.nonce -= 1;
        Ok(raw)
    }

    pub(crate) fn seal(&mut self, calls: u64) {
        for _ in 0..calls {
            let nonce = self.next_nonce();
            let (key, aad) = (&self.key, Aad::from(&self.aad[..]));
            let (out, tag) = (&mut self.ciphertext, &mut self.tag);
            let sealed = key.seal_out_of_place_scatter(nonce, aad, &self.plaintext, out, &[], tag);
            black_box((sealed.is_ok(), out));
        }
    }

    /// Opens the last sealed record again and again; `seal` must not run between.
    pub(crate) fn open(&mut self, calls: u64) {
        for _ in 0..calls {
            let nonce = Nonce::assume_unique_for_key(nonce_bytes(self.nonce));
            let (key, aad) = (&self.key, Aad::from(&self.aad[..]));
            let out = &mut self.plaintext;
            let opened = key.open_separate_gather(nonce, aad, &self.ciphertext, &self.tag, out);
            black_box((opened.is_ok(), out));
        }
    }

    fn next_nonce(&mut self) -> Nonce {
        let nonce = Nonce::assume_unique_for_key(nonce_bytes(self.nonce));
        self.nonce += 1;
        nonce
    }
}

fn nonce_bytes(counter: u64) -> [u8; 12] {
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&counter.to_be_bytes());
    nonce
}

/// bulla-core with a key of its own.
pub(crate) fn core_key(options: KeyOptions) -> anyhow::Result<EnvelopeKey> {
    let scope = ScopeContext::new([("tenant", "t-9f2c"), ("purpose", "customers")])?;
    let dek = DataKey::generate()?;
    Ok(EnvelopeKey::derive(&dek, DekVersion::FIRST, &scope, options)?)
}

/// A warm scope of a manager in memory. The manager lives as long as the scope.
pub(crate) async fn warm_scope(options: KeyOptions) -> anyhow::Result<Scope> {
    let store = Arc::new(MemoryKeyStore::new(Arc::new(SystemClock))?);
    let kek = Arc::new(TestKms::new("bench"));
    let builder = Manager::builder(Profile::Development, kek, store).key_options(options);
    let scope = builder.start().await?.scope("t-9f2c", "customers")?;
    scope.prepare().await?;
    Ok(scope)
}
