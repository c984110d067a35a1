//! Asherah: a fresh key for each record, under a cached key of its partition.

use std::hint::black_box;
use std::sync::Arc;

use asherah::aead::AES256GCM;
use asherah::kms::StaticKMS;
use asherah::metastore::InMemoryMetastore;
use asherah::{Config, DataRowRecord, Session};

use super::{Ops, Peer};
use crate::host::Versions;

/// One session, held for as long as it is used; static KMS and metastore in memory, as in the
/// example `simple` of its repository. The default policy caches system and intermediate keys
/// with their key schedules.
fn session() -> anyhow::Result<Session<AES256GCM, StaticKMS<AES256GCM>, InMemoryMetastore>> {
    let crypto = Arc::new(AES256GCM::new());
    let kms = Arc::new(StaticKMS::new(Arc::clone(&crypto), vec![7; 32])?);
    let metastore = Arc::new(InMemoryMetastore::new());
    let config = Config::new("customers", "bench");
    Ok(asherah::NewSessionFactory(config, metastore, kms, crypto).get_session("t-9f2c"))
}

/// To bytes: the JSON of a `DataRowRecord`, which is what its bindings to other languages
/// exchange.
pub(crate) struct Asherah {
    session: Session<AES256GCM, StaticKMS<AES256GCM>, InMemoryMetastore>,
}

impl Asherah {
    pub(crate) fn new() -> anyhow::Result<Self> {
        Ok(Self { session: session()? })
    }
}

impl Peer for Asherah {
    fn name(&self, versions: &Versions) -> anyhow::Result<String> {
        versions.label("asherah")
    }

    fn settings(&self) -> &'static str {
        "session held, default policy, StaticKMS, InMemoryMetastore; DataRowRecord to JSON by \
         its own to_json_fast, from JSON by serde_json; it binds no context to a record"
    }

    fn seal(&mut self, plaintext: &[u8]) -> anyhow::Result<Vec<u8>> {
        Ok(self.session.encrypt(plaintext)?.to_json_fast().into_bytes())
    }

    fn open(&mut self, envelope: &[u8]) -> anyhow::Result<Vec<u8>> {
        self.session.decrypt(serde_json::from_slice::<DataRowRecord>(envelope)?)
    }
}

/// To a struct that the application has yet to write somewhere.
pub(crate) struct AsherahStruct(Asherah);

impl AsherahStruct {
    pub(crate) fn new() -> anyhow::Result<Self> {
        Ok(Self(Asherah::new()?))
    }
}

impl Peer for AsherahStruct {
    fn name(&self, versions: &Versions) -> anyhow::Result<String> {
        self.0.name(versions)
    }

    fn settings(&self) -> &'static str {
        "session held, default policy, StaticKMS, InMemoryMetastore; to a DataRowRecord, not to \
         bytes; it binds no context to a record"
    }

    fn ops(&self) -> Ops {
        Ops { seal: "seal (struct)", open: None }
    }

    fn seal(&mut self, plaintext: &[u8]) -> anyhow::Result<Vec<u8>> {
        self.0.seal(plaintext)
    }

    fn open(&mut self, envelope: &[u8]) -> anyhow::Result<Vec<u8>> {
        self.0.open(envelope)
    }

    fn seal_times(&mut self, plaintext: &[u8], calls: u64) -> anyhow::Result<()> {
        for _ in 0..calls {
            black_box(self.0.session.encrypt(black_box(plaintext))?);
        }
        Ok(())
    }
}
