//! The `calls` command: what a million warm operations cost the KMS and the store, and
//! what keeping their keys costs in memory.
//!
//! KMS and store count by themselves; the manager's own counts must agree with them. Probes
//! of the KEK are among them: they run in the background, as they do in a service.

use std::fs;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use bulla_backend::KmsOperation;
use bulla_core::{EnvelopeKey, RecordContext};
use bulla_manager::{Manager, Policy, Scope};
use bulla_testkit::{FaultyStore, TestKms};
use clap::Args;
use tokio::runtime::Runtime;
use tokio::task::yield_now;

use crate::cases::{Backends, record, runtime, scope, settings};
use crate::measure::round;
use crate::output::Output;
use crate::record::Record;

#[derive(Debug, Args)]
pub(crate) struct Calls {
    /// Print one JSON object per line instead of a table.
    #[arg(long)]
    json: bool,
    /// Scopes.
    #[arg(long, default_value_t = 1000)]
    scopes: usize,
    /// DEK versions of each scope.
    #[arg(long, default_value_t = 10)]
    versions: usize,
    /// Warm operations of each kind.
    #[arg(long, default_value_t = 1_000_000)]
    operations: usize,
}

/// Bytes of plaintext of each record.
const BYTES: usize = 64;

impl Calls {
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let runtime = runtime()?;
        let output = Output::start("calls", self.json)?;
        let backends = Backends::new()?;
        let deks = self.scopes * self.versions;
        // Room for every DEK, and for those that the cache has yet to count.
        let mut policy = Policy::default();
        policy.cached_deks_max = policy.cached_deks_max.max(2 * deks as u64);
        // The writer stays, so that the reader's keys do not move into its memory.
        let (writer, envelopes) = runtime.block_on(self.write(&backends, &policy))?;
        let reader = Reader::start(&backends, policy, &envelopes, &runtime)?;
        let settings = settings(&Default::default());
        for record in [
            reader.load_all(deks)?,
            reader.open(self.operations)?,
            reader.seal(self.scopes, self.operations)?,
        ] {
            output.print(record.at("deks", deks).under(&settings))?;
        }
        drop(writer);
        Ok(())
    }

    /// Makes every version of every scope, and seals a record under each.
    async fn write(
        &self,
        backends: &Backends,
        policy: &Policy,
    ) -> anyhow::Result<(Manager, Vec<Sealed>)> {
        let writer = backends.builder().policy(policy.clone()).start().await?;
        let (plaintext, context) = (vec![7; BYTES], record()?);
        let mut envelopes = Vec::with_capacity(self.scopes * self.versions);
        for number in 0..self.scopes {
            let scope = scope(&writer, number)?;
            for version in 0..self.versions {
                if version > 0 {
                    scope.rotate().await?;
                }
                envelopes.push(Sealed {
                    scope: number,
                    envelope: scope.seal(&plaintext, &context).await?,
                });
            }
        }
        Ok((writer, envelopes))
    }
}

struct Sealed {
    /// Its number.
    scope: usize,
    envelope: Vec<u8>,
}

/// A second process, which has none of the keys yet.
struct Reader<'a> {
    manager: Manager,
    kms: Arc<TestKms>,
    store: Arc<FaultyStore>,
    scopes: Vec<Scope>,
    envelopes: &'a [Sealed],
    /// The envelopes in no order that a cache could guess.
    order: Vec<usize>,
    context: RecordContext,
    runtime: &'a Runtime,
}

/// What KMS and store have counted.
#[derive(Clone, Copy)]
struct Counts {
    kms_calls: u64,
    kms_describes: u64,
    store_reads: u64,
}

impl<'a> Reader<'a> {
    fn start(
        backends: &Backends,
        policy: Policy,
        envelopes: &'a [Sealed],
        runtime: &'a Runtime,
    ) -> anyhow::Result<Self> {
        let (builder, store) = backends.counted();
        let manager = runtime.block_on(builder.policy(policy).start())?;
        let count = envelopes.last().map_or(0, |last| last.scope + 1);
        let scopes = (0..count).map(|number| scope(&manager, number)).collect::<Result<_, _>>()?;
        let mut order: Vec<usize> = (0..envelopes.len()).collect();
        fastrand::Rng::with_seed(5).shuffle(&mut order);
        let (kms, context) = (backends.kms.clone(), record()?);
        Ok(Self { manager, kms, store, scopes, envelopes, order, context, runtime })
    }

    /// Opens one record under each DEK: the first use of each.
    fn load_all(&self, deks: usize) -> anyhow::Result<Record> {
        let (before, resident) = (self.counts(), resident_bytes());
        let start = Instant::now();
        let mut outcome = Ok(());
        let allocated = allocation_counter::measure(|| outcome = self.open_all(deks));
        outcome?;
        let elapsed = start.elapsed();
        let per_dek = |bytes: f64| round(bytes / deks as f64, 1);
        let mut record = self.record("open (first)", before, elapsed.as_nanos() as f64, deks)?;
        record.allocs = Some(per_dek(allocated.count_total as f64));
        record.alloc_bytes = Some(per_dek(allocated.bytes_total as f64));
        record = record.counting("heap_bytes_per_dek", per_dek(allocated.bytes_current as f64));
        if let (Some(before), Some(after)) = (resident, resident_bytes()) {
            // All of it: what C code allocates for key objects, and the allocator's own.
            record = record.counting("bytes_per_dek", per_dek(after as f64 - before as f64));
        }
        Ok(record)
    }

    fn open(&self, operations: usize) -> anyhow::Result<Record> {
        let (before, start) = (self.counts(), Instant::now());
        self.open_all(operations)?;
        self.record("open", before, start.elapsed().as_nanos() as f64, operations)
    }

    fn open_all(&self, operations: usize) -> anyhow::Result<()> {
        let mut out = vec![0; BYTES];
        self.runtime.block_on(async {
            for (done, index) in self.order.iter().cycle().take(operations).enumerate() {
                let Sealed { scope, envelope } = &self.envelopes[*index];
                let scope = &self.scopes[*scope];
                black_box(scope.open_into(envelope, &self.context, &mut out).await?);
                give_way(done).await;
            }
            Ok(())
        })
    }

    fn seal(&self, scopes: usize, operations: usize) -> anyhow::Result<Record> {
        let (plaintext, mut out) = (vec![7; BYTES], vec![0; BYTES + EnvelopeKey::OVERHEAD]);
        let (before, start) = (self.counts(), Instant::now());
        self.runtime.block_on(async {
            for done in 0..operations {
                let scope = &self.scopes[done % scopes];
                black_box(scope.seal_into(&plaintext, &self.context, &mut out).await?);
                give_way(done).await;
            }
            anyhow::Ok(())
        })?;
        self.record("seal", before, start.elapsed().as_nanos() as f64, operations)
    }

    fn counts(&self) -> Counts {
        Counts {
            kms_calls: self.kms.data_calls(),
            kms_describes: self.kms.calls(KmsOperation::Describe),
            store_reads: self.store.reads(),
        }
    }

    fn record(
        &self,
        op: &str,
        before: Counts,
        elapsed_ns: f64,
        operations: usize,
    ) -> anyhow::Result<Record> {
        let now = self.counts();
        let stats = self.manager.stats();
        anyhow::ensure!(stats.store_reads == now.store_reads, "the manager counts other reads");
        let record = Record {
            subject: "bulla-manager".to_owned(),
            op: op.to_owned(),
            size: Some(BYTES as u64),
            ns: Some(round(elapsed_ns / operations as f64, 2)),
            ..Record::default()
        };
        Ok(record
            .counting("operations", operations as f64)
            .counting("kms_calls", (now.kms_calls - before.kms_calls) as f64)
            .counting("kms_describes", (now.kms_describes - before.kms_describes) as f64)
            .counting("store_reads", (now.store_reads - before.store_reads) as f64)
            .counting("evictions", stats.evictions as f64))
    }
}

/// Lets the background work go on, as it does in a service.
async fn give_way(done: usize) {
    if done.is_multiple_of(1024) {
        yield_now().await;
    }
}

/// Memory of this process that is resident, where the system tells.
fn resident_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()? * 1024)
}
