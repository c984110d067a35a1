//! bulla-manager: scopes, cached and versioned DEKs, budgets.

use std::hint::black_box;
use std::sync::Arc;

use bulla_core::{EnvelopeKey, RecordContext};
use bulla_manager::{MemoryKeyStore, Profile, Scope, SystemClock};
use bulla_testkit::TestKms;
use tokio::runtime::{Builder, Runtime};

use super::{CONTEXT, Ops, Peer};
use crate::host::Versions;

/// A warm scope. The manager lives as long as it does, its tasks run on `runtime`, of one
/// thread, while a batch does.
struct Warm {
    runtime: Runtime,
    scope: Scope,
    context: RecordContext,
}

impl Warm {
    fn new() -> anyhow::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let scope = runtime.block_on(async {
            let store = Arc::new(MemoryKeyStore::new(Arc::new(SystemClock))?);
            let kek = Arc::new(TestKms::new("bench"));
            let manager = bulla_manager::Manager::builder(Profile::Development, kek, store);
            let scope = manager.start().await?.scope("t-9f2c", "customers")?;
            scope.prepare().await?;
            anyhow::Ok(scope)
        })?;
        Ok(Self { runtime, scope, context: RecordContext::new(CONTEXT)? })
    }
}

/// `Scope::seal` and `Scope::open`: into a new `Vec`.
pub(crate) struct Manager(Warm);

impl Manager {
    pub(crate) fn new() -> anyhow::Result<Self> {
        Ok(Self(Warm::new()?))
    }
}

impl Peer for Manager {
    fn name(&self, _: &Versions) -> anyhow::Result<String> {
        Ok(String::from("bulla-manager"))
    }

    fn settings(&self) -> &'static str {
        "Scope warm, default options and policy, KEK and key store in memory, record context of \
         three pairs bound, budget counted, new Vec; awaited one by one on a current-thread \
         runtime, a batch in one block_on"
    }

    fn seal(&mut self, plaintext: &[u8]) -> anyhow::Result<Vec<u8>> {
        let Warm { runtime, scope, context } = &self.0;
        Ok(runtime.block_on(scope.seal(plaintext, context))?)
    }

    fn open(&mut self, envelope: &[u8]) -> anyhow::Result<Vec<u8>> {
        let Warm { runtime, scope, context } = &self.0;
        Ok(runtime.block_on(scope.open(envelope, context))?.plaintext)
    }

    fn seal_times(&mut self, plaintext: &[u8], calls: u64) -> anyhow::Result<()> {
        let Warm { runtime, scope, context } = &self.0;
        runtime.block_on(async {
            for _ in 0..calls {
                black_box(scope.seal(black_box(plaintext), context).await?);
            }
            Ok(())
        })
    }

    fn open_times(&mut self, envelope: &[u8], calls: u64) -> anyhow::Result<()> {
        let Warm { runtime, scope, context } = &self.0;
        runtime.block_on(async {
            for _ in 0..calls {
                black_box(scope.open(black_box(envelope), context).await?);
            }
            Ok(())
        })
    }
}

/// `Scope::seal_into` and `Scope::open_into`: into buffers of the caller's.
pub(crate) struct ManagerInto {
    warm: Warm,
    envelope: Vec<u8>,
    plaintext: Vec<u8>,
}

impl ManagerInto {
    pub(crate) fn new() -> anyhow::Result<Self> {
        Ok(Self { warm: Warm::new()?, envelope: Vec::new(), plaintext: Vec::new() })
    }
}

impl Peer for ManagerInto {
    fn name(&self, _: &Versions) -> anyhow::Result<String> {
        Ok(String::from("bulla-manager"))
    }

    fn settings(&self) -> &'static str {
        "Scope warm, default options and policy, KEK and key store in memory, record context of \
         three pairs bound, budget counted, ready buffer; awaited one by one on a \
         current-thread runtime, a batch in one block_on"
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
        let Warm { runtime, scope, context } = &self.warm;
        let out = &mut self.envelope;
        out.resize(EnvelopeKey::sealed_len(plaintext.len())?, 0);
        runtime.block_on(async {
            for _ in 0..calls {
                scope.seal_into(black_box(plaintext), context, out).await?;
                black_box(&*out);
            }
            Ok(())
        })
    }

    fn open_times(&mut self, envelope: &[u8], calls: u64) -> anyhow::Result<()> {
        let Warm { runtime, scope, context } = &self.warm;
        let out = &mut self.plaintext;
        out.resize(EnvelopeKey::opened_len(envelope)?, 0);
        runtime.block_on(async {
            for _ in 0..calls {
                scope.open_into(black_box(envelope), context, out).await?;
                black_box(&*out);
            }
            Ok(())
        })
    }
}
