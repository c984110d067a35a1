//! One record at a time, warm.

use std::hint::black_box;

use bulla_core::{EnvelopeKey, KeyOptions};
use tokio::runtime::Runtime;

use crate::cases::{Raw, aad_len, core_key, record, warm_scope};
use crate::measure::{Measured, measure};
use crate::record::Record;

/// bulla-core: into the caller's buffers, and into a new `Vec`.
pub(super) fn core(size: usize, options: KeyOptions) -> anyhow::Result<Vec<Record>> {
    let (key, context) = (core_key(options)?, record()?);
    let sealed_len = size + EnvelopeKey::OVERHEAD;
    let mut plaintext = vec![7; size];
    let mut envelope = vec![0; sealed_len];
    let record =
        |op, measured: Measured, output| measured.record("bulla-core", op, size).giving(output);
    let mut raw = Raw::new(size, aad_len(&context))?;
    let seal_into = measure(
        |calls| {
            for _ in 0..calls {
                let (plaintext, context) = black_box((&plaintext, &context));
                black_box(key.seal_into(plaintext, context, &mut envelope)?);
                black_box(&envelope);
            }
            Ok(())
        },
        |calls| raw.seal(calls),
    )?;
    let seal = measure(
        |calls| {
            for _ in 0..calls {
                let (plaintext, context) = black_box((&plaintext, &context));
                black_box(key.seal(plaintext, context)?);
            }
            Ok(())
        },
        |calls| raw.seal(calls),
    )?;
    let open_into = measure(
        |calls| {
            for _ in 0..calls {
                let (envelope, context) = black_box((&envelope, &context));
                black_box(key.open_into(envelope, context, &mut plaintext)?);
                black_box(&plaintext);
            }
            Ok(())
        },
        |calls| raw.open(calls),
    )?;
    let open = measure(
        |calls| {
            for _ in 0..calls {
                let (envelope, context) = black_box((&envelope, &context));
                black_box(key.open(envelope, context)?);
            }
            Ok(())
        },
        |calls| raw.open(calls),
    )?;
    anyhow::ensure!(plaintext == vec![7; size], "what was opened is not what was sealed");
    Ok(vec![
        record("seal_into", seal_into, sealed_len),
        record("seal", seal, sealed_len),
        record("open_into", open_into, size),
        record("open", open, size),
    ])
}

/// The DEK manager: context bound, budget counted, freshness told.
pub(super) fn manager(
    size: usize,
    options: KeyOptions,
    runtime: &Runtime,
) -> anyhow::Result<Vec<Record>> {
    let (scope, context) = (runtime.block_on(warm_scope(options))?, record()?);
    let sealed_len = size + EnvelopeKey::OVERHEAD;
    let mut plaintext = vec![7; size];
    let mut envelope = vec![0; sealed_len];
    let record =
        |op, measured: Measured, output| measured.record("bulla-manager", op, size).giving(output);
    let mut raw = Raw::new(size, aad_len(&context))?;
    let seal_into = measure(
        |calls| {
            runtime.block_on(async {
                for _ in 0..calls {
                    let (plaintext, context) = black_box((&plaintext, &context));
                    black_box(scope.seal_into(plaintext, context, &mut envelope).await?);
                    black_box(&envelope);
                }
                Ok(())
            })
        },
        |calls| raw.seal(calls),
    )?;
    let seal = measure(
        |calls| {
            runtime.block_on(async {
                for _ in 0..calls {
                    let (plaintext, context) = black_box((&plaintext, &context));
                    black_box(scope.seal(plaintext, context).await?);
                }
                Ok(())
            })
        },
        |calls| raw.seal(calls),
    )?;
    let open_into = measure(
        |calls| {
            runtime.block_on(async {
                for _ in 0..calls {
                    let (envelope, context) = black_box((&envelope, &context));
                    black_box(scope.open_into(envelope, context, &mut plaintext).await?);
                    black_box(&plaintext);
                }
                Ok(())
            })
        },
        |calls| raw.open(calls),
    )?;
    let open = measure(
        |calls| {
            runtime.block_on(async {
                for _ in 0..calls {
                    let (envelope, context) = black_box((&envelope, &context));
                    black_box(scope.open(envelope, context).await?);
                }
                Ok(())
            })
        },
        |calls| raw.open(calls),
    )?;
    anyhow::ensure!(plaintext == vec![7; size], "what was opened is not what was sealed");
    Ok(vec![
        record("seal_into", seal_into, sealed_len),
        record("seal", seal, sealed_len),
        record("open_into", open_into, size),
        record("open", open, size),
    ])
}
