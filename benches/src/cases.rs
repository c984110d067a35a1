//! What is measured: keys, contexts, managers and their reference, made once.

mod raw;
mod remote;

use std::sync::Arc;
use std::time::Duration;

use bulla_core::{
    DataKey, DekVersion, EnvelopeKey, Header, KeyOptions, NonceMode, RecordContext, ScopeContext,
};
use bulla_manager::layers::Layered;
use bulla_manager::{Manager, ManagerBuilder, MemoryKeyStore, Profile, Scope, SystemClock};
use bulla_testkit::{FaultyStore, TestKms};
use tokio::runtime::{Builder, Runtime};

pub(crate) use raw::{Raw, RawMany};
pub(crate) use remote::{Distance, RemoteStore};

/// A runtime on the calling thread, on which all allocations are counted.
pub(crate) fn runtime() -> anyhow::Result<Runtime> {
    Ok(Builder::new_current_thread().enable_all().build()?)
}

/// The context that most cases bind: an ordinary cell of an ordinary table.
pub(crate) fn record() -> anyhow::Result<RecordContext> {
    record_of(1_234_567)
}

/// The same cell of another row.
pub(crate) fn record_of(row: usize) -> anyhow::Result<RecordContext> {
    let row = format!("{row:07}");
    Ok(RecordContext::new([("table", "customers"), ("column", "email"), ("row", &row)])?)
}

/// Bytes of associated data that an envelope under `context` has.
pub(crate) fn aad_len(context: &RecordContext) -> usize {
    Header::LEN - Header::NONCE_LEN + context.as_bytes().len()
}

/// How nonces are made with `options` here, where the library chooses.
pub(crate) fn settings(options: &KeyOptions) -> String {
    let nonces = match (options.nonces, bulla_sys::prefers_fresh_nonces()) {
        (NonceMode::Auto, true) => "fresh, chosen by the library",
        (NonceMode::Auto, false) => "epoch, chosen by the library",
        (NonceMode::Fresh, _) => "fresh",
        _ => "epoch",
    };
    format!("{:?}; nonces: {nonces}", options.library)
}

/// bulla-core with a key of its own.
pub(crate) fn core_key(options: KeyOptions) -> anyhow::Result<EnvelopeKey> {
    Ok(core_keys(1, options)?.remove(0))
}

/// One DEK as so many processes have it that are in the midst of sealing.
pub(crate) fn core_keys(processes: usize, options: KeyOptions) -> anyhow::Result<Vec<EnvelopeKey>> {
    let scope = ScopeContext::new([("tenant", "t-9f2c"), ("purpose", "customers")])?;
    let dek = DataKey::generate()?;
    (0..processes)
        .map(|_| {
            let key = EnvelopeKey::derive(&dek, DekVersion::FIRST, &scope, options)?;
            // The first record has a derived key of its own, the second begins an epoch.
            key.seal(&[], &RecordContext::empty())?;
            Ok(key)
        })
        .collect()
}

/// A KMS and a key store in memory, which managers share as processes would.
pub(crate) struct Backends {
    pub(crate) kms: Arc<TestKms>,
    pub(crate) store: MemoryKeyStore,
}

impl Backends {
    pub(crate) fn new() -> anyhow::Result<Self> {
        let store = MemoryKeyStore::new(Arc::new(SystemClock))?;
        Ok(Self { kms: Arc::new(TestKms::new("bench")), store })
    }

    pub(crate) fn builder(&self) -> ManagerBuilder {
        let store = Arc::new(self.store.clone());
        Manager::builder(Profile::Development, self.kms.clone(), store)
    }

    /// The same, with a store that counts.
    pub(crate) fn counted(&self) -> (ManagerBuilder, Arc<FaultyStore>) {
        let store = Arc::new(FaultyStore::new(Arc::new(self.store.clone())));
        let builder = Manager::builder(Profile::Development, self.kms.clone(), store.clone());
        (builder, store)
    }

    /// The same KMS and store, some way off.
    pub(crate) fn remote(&self, kms: Duration, store: Duration) -> Remote {
        Remote {
            kms: Arc::new(Layered::new(Distance::new(kms), self.kms.clone())),
            store: Arc::new(RemoteStore::new(self.store.clone(), store)),
        }
    }
}

/// What [`Backends::remote`] makes.
pub(crate) struct Remote {
    pub(crate) kms: Arc<Layered<Distance>>,
    pub(crate) store: Arc<RemoteStore>,
}

impl Remote {
    pub(crate) fn builder(&self) -> ManagerBuilder {
        Manager::builder(Profile::Development, self.kms.clone(), self.store.clone())
    }
}

/// The scope `number` of `manager`.
pub(crate) fn scope(manager: &Manager, number: usize) -> anyhow::Result<Scope> {
    Ok(manager.scope(&format!("t-{number:07}"), "customers")?)
}

/// A warm scope of a manager in memory. The manager lives as long as the scope.
pub(crate) async fn warm_scope(options: KeyOptions) -> anyhow::Result<Scope> {
    let scope = scope(&Backends::new()?.builder().key_options(options).start().await?, 1)?;
    scope.prepare().await?;
    Ok(scope)
}

/// One scope as so many processes have it that are in the midst of sealing.
pub(crate) async fn warm_scopes(
    processes: usize,
    options: KeyOptions,
) -> anyhow::Result<Vec<Scope>> {
    let backends = Backends::new()?;
    let mut scopes = Vec::with_capacity(processes);
    for _ in 0..processes {
        let scope = scope(&backends.builder().key_options(options).start().await?, 1)?;
        scope.seal(&[], &RecordContext::empty()).await?;
        scopes.push(scope);
    }
    Ok(scopes)
}
