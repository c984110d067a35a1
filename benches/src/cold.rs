//! The `cold` command: the first use of a key.
//!
//! KMS and store answer after real sleeps. The reference makes the same calls on the same
//! two without a manager, in the same run: timers are never exact, and the sum of two
//! sleeps is what it is.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use bulla_backend::{DekQuery, DekRecord, KeyStore, KeyWrapper, UnwrapRequest};
use bulla_core::{Header, RecordContext};
use bulla_manager::{Item, Manager, Policy, Scope};
use clap::Args;
use futures_util::future::try_join;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::cases::{Backends, Remote, record, runtime, scope};
use crate::measure::{median, round};
use crate::output::Output;
use crate::record::Record;

#[derive(Debug, Args)]
pub(crate) struct Cold {
    /// Print one JSON object per line instead of a table.
    #[arg(long)]
    json: bool,
    /// Milliseconds that the KMS takes.
    #[arg(long, default_value_t = 20)]
    kms_ms: u64,
    /// Milliseconds that the store takes.
    #[arg(long, default_value_t = 1)]
    store_ms: u64,
    /// Opens at once.
    #[arg(long, default_value_t = 10_000)]
    at_once: usize,
    /// Keys that are loaded together.
    #[arg(long, default_value_t = 100)]
    keys: usize,
}

/// How often each is measured, with a manager that has no key yet.
const ROUNDS: usize = 21;

impl Cold {
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let output = Output::start("cold", self.json)?;
        runtime()?.block_on(async {
            let table = Table::write(self.keys).await?;
            output.print(self.one(&table).await?)?;
            output.print(self.many(&table, 1).await?)?;
            output.print(self.many(&table, self.keys).await?)?;
            output.print(self.batch(&table).await?)
        })
    }

    /// One open, with a miss everywhere.
    async fn one(&self, table: &Table) -> anyhow::Result<Record> {
        self.measure("open", 1, 1, table, async |round: &Round<'_>| {
            let opened = timed(round.open_all(1, 1, None)).await?;
            let calls = timed(round.calls(1)).await?;
            Ok((opened, calls))
        })
        .await
    }

    /// Many opens at once of records under `keys` keys. In the reference as many tasks wait
    /// for the calls of these keys, by the plainest means, and then open when every key is
    /// at hand: that is what scheduling and decrypting take.
    async fn many(&self, table: &Table, keys: usize) -> anyhow::Result<Record> {
        self.measure("open (at once)", self.at_once, keys, table, async |round: &Round<'_>| {
            let opened = timed(round.open_all(self.at_once, keys, None)).await?;
            let (done, wait) = watch::channel(false);
            let reference = timed(async {
                let calls = async {
                    round.calls(keys).await?;
                    done.send_replace(true);
                    Ok(())
                };
                try_join(round.open_all(self.at_once, keys, Some(wait)), calls).await?;
                Ok(())
            });
            Ok((opened, reference.await?))
        })
        .await
    }

    /// One batch with a record under each of many keys.
    async fn batch(&self, table: &Table) -> anyhow::Result<Record> {
        self.measure("open_many", self.keys, self.keys, table, async |round: &Round<'_>| {
            let items: Vec<Item<'_>> =
                table.envelopes.iter().map(|envelope| (&envelope[..], &table.context)).collect();
            let opened = timed(async {
                let opened = round.scope.open_many(&items).await;
                opened.into_iter().try_for_each(|opened| opened.map(drop))?;
                anyhow::Ok(())
            })
            .await?;
            Ok((opened, timed(round.calls(self.keys)).await?))
        })
        .await
    }

    /// Runs `work`, which returns the time of ours and of the reference, with a new manager
    /// each time.
    async fn measure(
        &self,
        op: &str,
        opens: usize,
        keys: usize,
        table: &Table,
        work: impl AsyncFn(&Round<'_>) -> anyhow::Result<(Duration, Duration)>,
    ) -> anyhow::Result<Record> {
        let (mut ours, mut calls) = (Vec::new(), Vec::new());
        let mut counts = None;
        for _ in 0..ROUNDS {
            let round = Round::start(self, table).await?;
            let (our_time, reference) = work(&round).await?;
            ours.push(our_time.as_nanos() as f64);
            calls.push(reference.as_nanos() as f64);
            let counted = round.counts();
            anyhow::ensure!(*counts.get_or_insert(counted) == counted, "rounds differ in calls");
            round.manager.close().await?;
        }
        let (ns, raw_ns) = (median(ours), median(calls));
        let counts = counts.unwrap_or_default();
        let record = Record {
            subject: "bulla-manager".to_owned(),
            op: op.to_owned(),
            size: Some(Table::BYTES as u64),
            ns: Some(round(ns, 0)),
            raw_ns: Some(round(raw_ns, 0)),
            ratio: Some(round(ns / raw_ns, 4)),
            ..Record::default()
        };
        Ok(record
            .at("keys", keys)
            .under(&format!("KMS at {} ms, store at {} ms", self.kms_ms, self.store_ms))
            .counting("opens", opens as f64)
            .counting("kms_calls", counts.kms_calls as f64)
            .counting("kms_calls_at_once", counts.kms_calls_at_once as f64)
            .counting("store_reads", counts.store_reads as f64))
    }
}

/// A record under each version of one scope's DEK.
struct Table {
    backends: Backends,
    context: RecordContext,
    envelopes: Vec<Arc<[u8]>>,
}

impl Table {
    const BYTES: usize = 64;

    async fn write(keys: usize) -> anyhow::Result<Self> {
        let (backends, context) = (Backends::new()?, record()?);
        let writer = backends.builder().start().await?;
        let scope = scope(&writer, 1)?;
        let mut envelopes: Vec<Arc<[u8]>> = Vec::with_capacity(keys);
        for _ in 0..keys {
            scope.rotate().await?;
            envelopes.push(scope.seal(&[7; Self::BYTES], &context).await?.into());
        }
        writer.close().await?;
        Ok(Self { backends, context, envelopes })
    }
}

/// A manager that has no key yet.
struct Round<'a> {
    table: &'a Table,
    manager: Manager,
    scope: Scope,
    /// What the manager reaches its keys by.
    remote: Remote,
    /// The same for the reference, so that each counts for itself.
    reference: Remote,
}

#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Counts {
    kms_calls: u64,
    kms_calls_at_once: u64,
    store_reads: u64,
}

impl<'a> Round<'a> {
    async fn start(cold: &Cold, table: &'a Table) -> anyhow::Result<Self> {
        let (kms, store) =
            (Duration::from_millis(cold.kms_ms), Duration::from_millis(cold.store_ms));
        let remote = table.backends.remote(kms, store);
        let manager = remote.builder().start().await?;
        let scope = scope(&manager, 1)?;
        Ok(Self { table, manager, scope, remote, reference: table.backends.remote(kms, store) })
    }

    /// Opens so many records at once under so many keys, each in a task of its own, and
    /// after `wait` has said so where there is one.
    async fn open_all(
        &self,
        opens: usize,
        keys: usize,
        wait: Option<watch::Receiver<bool>>,
    ) -> anyhow::Result<()> {
        let mut tasks = JoinSet::new();
        for index in 0..opens {
            let (scope, context) = (self.scope.clone(), self.table.context.clone());
            let envelope = Arc::clone(&self.table.envelopes[index % keys]);
            let wait = wait.clone();
            tasks.spawn(async move {
                if let Some(mut wait) = wait {
                    wait.wait_for(|done| *done).await?;
                }
                scope.open(&envelope, &context).await?;
                anyhow::Ok(())
            });
        }
        while let Some(opened) = tasks.join_next().await {
            opened??;
        }
        Ok(())
    }

    /// The reference: reads so many DEKs at once and unwraps them, as many at a time as a
    /// manager does.
    async fn calls(&self, keys: usize) -> anyhow::Result<()> {
        let queries = self.table.envelopes[..keys]
            .iter()
            .map(|envelope| {
                let key_id = Header::parse(envelope)?.key_id;
                Ok(DekQuery::Key { scope: self.scope.id().clone(), key_id })
            })
            .collect::<anyhow::Result<Vec<_>>>()?;
        let found = self.reference.store.find_deks(&queries).await?;
        stream::iter(found)
            .map(|dek| self.unwrap(dek))
            .buffer_unordered(Policy::default().kms_concurrency)
            .try_collect::<()>()
            .await
    }

    async fn unwrap(&self, dek: Option<DekRecord>) -> anyhow::Result<()> {
        let dek = dek.context("the store has lost a DEK")?;
        let context = dek.scope.context().kms_context(dek.version);
        let wrapped = &dek.wraps.first().context("a DEK without a wrap")?.wrapped;
        self.reference.kms.unwrap_key(UnwrapRequest::new(wrapped, &context)).await?;
        Ok(())
    }

    fn counts(&self) -> Counts {
        let stats = self.manager.stats();
        Counts {
            kms_calls: stats.kms_calls - stats.kms_describes,
            kms_calls_at_once: self.remote.kms.layer().most_at_once(),
            store_reads: self.remote.store.reads(),
        }
    }
}

async fn timed(work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<Duration> {
    let start = Instant::now();
    work.await?;
    Ok(start.elapsed())
}
