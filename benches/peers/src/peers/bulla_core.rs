//! bulla-core: the envelope and its cryptography, without key management.

use std::hint::black_box;

use bulla_core::{DataKey, DekVersion, EnvelopeKey, KeyOptions, RecordContext, ScopeContext};

use super::{CONTEXT, Ops, Peer};
use crate::host::Versions;

fn key() -> anyhow::Result<EnvelopeKey> {
    let scope = ScopeContext::new([("tenant", "t-9f2c"), ("purpose", "customers")])?;
    let dek = DataKey::generate()?;
    Ok(EnvelopeKey::derive(&dek, DekVersion::FIRST, &scope, KeyOptions::default())?)
}

/// `seal` and `open`: into a new `Vec`.
pub(crate) struct Core {
    key: EnvelopeKey,
    context: RecordContext,
}

impl Core {
    pub(crate) fn new() -> anyhow::Result<Self> {
        Ok(Self { key: key()?, context: RecordContext::new(CONTEXT)? })
    }
}

impl Peer for Core {
    fn name(&self, _: &Versions) -> anyhow::Result<String> {
        Ok(String::from("bulla-core"))
    }

    fn settings(&self) -> &'static str {
        "EnvelopeKey reused, default options (XAES-256-GCM by aws-lc-rs), record context of \
         three pairs bound, new Vec"
    }

    fn seal(&mut self, plaintext: &[u8]) -> anyhow::Result<Vec<u8>> {
        Ok(self.key.seal(plaintext, &self.context)?)
    }

    fn open(&mut self, envelope: &[u8]) -> anyhow::Result<Vec<u8>> {
        Ok(self.key.open(envelope, &self.context)?)
    }
}

/// `seal_into` and `open_into`: into buffers of the caller's.
pub(crate) struct CoreInto {
    key: EnvelopeKey,
    context: RecordContext,
    envelope: Vec<u8>,
    plaintext: Vec<u8>,
}

impl CoreInto {
    pub(crate) fn new() -> anyhow::Result<Self> {
        Ok(Self {
            key: key()?,
            context: RecordContext::new(CONTEXT)?,
            envelope: Vec::new(),
            plaintext: Vec::new(),
        })
    }
}

impl Peer for CoreInto {
    fn name(&self, _: &Versions) -> anyhow::Result<String> {
        Ok(String::from("bulla-core"))
    }

    fn settings(&self) -> &'static str {
        "EnvelopeKey reused, default options (XAES-256-GCM by aws-lc-rs), record context of \
         three pairs bound, ready buffer"
    }

    fn ops(&self) -> Ops {
        Ops::INTO
    }

    fn seal(&mut self, plaintext: &[u8]) -> anyhow::Result<Vec<u8>> {
        self.seal_times(plaintext, 1)?;
        Ok(self.envelope.clone())
    }

    fn open(&mut self, envelope: &[u8]) -> anyhow::Result<Vec<u8>> {
        self.open_times(envelope, 1)?;
        Ok(self.plaintext.clone())
    }

    fn seal_times(&mut self, plaintext: &[u8], calls: u64) -> anyhow::Result<()> {
        self.envelope.resize(EnvelopeKey::sealed_len(plaintext.len())?, 0);
        for _ in 0..calls {
            self.key.seal_into(black_box(plaintext), &self.context, &mut self.envelope)?;
            black_box(&self.envelope);
        }
        Ok(())
    }

    fn open_times(&mut self, envelope: &[u8], calls: u64) -> anyhow::Result<()> {
        self.plaintext.resize(EnvelopeKey::opened_len(envelope)?, 0);
        for _ in 0..calls {
            self.key.open_into(black_box(envelope), &self.context, &mut self.plaintext)?;
            black_box(&self.plaintext);
        }
        Ok(())
    }
}
