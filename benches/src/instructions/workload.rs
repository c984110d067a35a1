//! What runs under valgrind: each warm path, the same number of times every time.

use std::future::pending;
use std::hint::black_box;
use std::sync::Arc;

use async_trait::async_trait;
use bulla_backend::{Clock, Instant};
use bulla_core::{EnvelopeKey, KeyOptions, Library, NonceMode};
use bulla_manager::{Manager, MemoryKeyStore, Profile, Scope};
use bulla_testkit::TestKms;
use tokio::runtime::Runtime;

use super::callgrind::{CALLS, Row, TAKES};
use crate::cases::{Raw, aad_len, core_key, record, runtime};
use crate::environment;
use crate::record::Line;

const SIZES: [usize; 3] = [64, 1024, 65_536];

/// Epochs whatever the default is, so that the count is of the same path everywhere.
fn options() -> KeyOptions {
    KeyOptions::default().with_library(Library::AwsLcRs).with_nonces(NonceMode::Epoch)
}

/// Prints what is run, and then every row as it has been run.
pub(crate) fn run() -> anyhow::Result<()> {
    let run = environment::describe("instructions")?;
    println!("{}", serde_json::to_string(&Line::Run { run })?);
    let runtime = runtime()?;
    for size in SIZES {
        raw(size)?;
        core(size)?;
        manager(size, &runtime)?;
    }
    Ok(())
}

fn raw(size: usize) -> anyhow::Result<()> {
    let context = record()?;
    let mut raw = Raw::new(size, aad_len(&context))?;
    take("raw", "seal", size, |calls| raw.seal(calls))?;
    let mut raw = Raw::new(size, aad_len(&context))?;
    take("raw", "open", size, |calls| raw.open(calls))
}

fn core(size: usize) -> anyhow::Result<()> {
    let (key, context) = (core_key(options())?, record()?);
    let mut plaintext = vec![7; size];
    let mut envelope = vec![0; size + EnvelopeKey::OVERHEAD];
    take("core", "seal_into", size, |calls| {
        for _ in 0..calls {
            let (plaintext, context) = black_box((&plaintext, &context));
            black_box(key.seal_into(plaintext, context, &mut envelope)?);
        }
        Ok(())
    })?;
    take("core", "open_into", size, |calls| {
        for _ in 0..calls {
            let (envelope, context) = black_box((&envelope, &context));
            black_box(key.open_into(envelope, context, &mut plaintext)?);
        }
        Ok(())
    })
}

fn manager(size: usize, runtime: &Runtime) -> anyhow::Result<()> {
    let (scope, context) = (runtime.block_on(warm_scope())?, record()?);
    let mut plaintext = vec![7; size];
    let mut envelope = vec![0; size + EnvelopeKey::OVERHEAD];
    take("manager", "seal", size, |calls| {
        runtime.block_on(async {
            for _ in 0..calls {
                let (plaintext, context) = black_box((&plaintext, &context));
                black_box(scope.seal(plaintext, context).await?);
            }
            Ok(())
        })
    })?;
    take("manager", "try_seal", size, |calls| {
        for _ in 0..calls {
            let (plaintext, context) = black_box((&plaintext, &context));
            black_box(scope.try_seal(plaintext, context)?);
        }
        Ok(())
    })?;
    take("manager", "seal_into", size, |calls| {
        runtime.block_on(async {
            for _ in 0..calls {
                let (plaintext, context) = black_box((&plaintext, &context));
                black_box(scope.seal_into(plaintext, context, &mut envelope).await?);
            }
            Ok(())
        })
    })?;
    take("manager", "open", size, |calls| {
        runtime.block_on(async {
            for _ in 0..calls {
                let (envelope, context) = black_box((&envelope, &context));
                black_box(scope.open(envelope, context).await?);
            }
            Ok(())
        })
    })?;
    take("manager", "open_into", size, |calls| {
        runtime.block_on(async {
            for _ in 0..calls {
                let (envelope, context) = black_box((&envelope, &context));
                black_box(scope.open_into(envelope, context, &mut plaintext).await?);
            }
            Ok(())
        })
    })
}

/// Runs a path as callgrind is to count it: `CALLS` times, twice as often, and that again.
fn take(
    subject: &str,
    op: &str,
    size: usize,
    mut path: impl FnMut(u64) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    // The first calls start what later ones find ready.
    path(4)?;
    for _ in 0..TAKES {
        counted_by_callgrind(&mut path, CALLS)?;
        counted_by_callgrind(&mut path, 2 * CALLS)?;
    }
    println!("{}", serde_json::to_string(&Row::named(subject, op, size))?);
    Ok(())
}

/// The name by which callgrind knows the function that it is to count.
pub(crate) const COUNTED: &str = concat!(module_path!(), "::counted_by_callgrind");

/// Callgrind counts while this runs, and writes a file whenever it returns.
#[inline(never)]
fn counted_by_callgrind(
    path: &mut dyn FnMut(u64) -> anyhow::Result<()>,
    calls: u64,
) -> anyhow::Result<()> {
    black_box(path(calls))
}

async fn warm_scope() -> anyhow::Result<Scope> {
    let store = Arc::new(MemoryKeyStore::new(Arc::new(StillClock))?);
    let kek = Arc::new(TestKms::new("bench"));
    let builder = Manager::builder(Profile::Development, kek, store)
        .key_options(options())
        .clock(Arc::new(StillClock));
    let scope = builder.start().await?.scope("t-9f2c", "customers")?;
    scope.prepare().await?;
    Ok(scope)
}

/// No time passes, so nothing happens once a second: counts are the same in every run.
#[derive(Debug)]
struct StillClock;

#[async_trait]
impl Clock for StillClock {
    fn now(&self) -> Instant {
        Instant::from_nanos(3_600_000_000_000)
    }

    async fn sleep_until(&self, _: Instant) {
        pending().await
    }
}
