//! More scopes, and more versions in one scope.
//!
//! The reference has as many keys and records, in the same order: what does not fit into the
//! processor's caches is slow for either.

use std::hint::black_box;

use bulla_core::{EnvelopeKey, RecordContext};
use bulla_manager::{Manager, Policy, Scope};
use tokio::runtime::Runtime;

use crate::cases::{Backends, RawMany, aad_len, record, scope};
use crate::measure::measure;
use crate::output::Output;
use crate::record::Record;

/// Bytes of plaintext of each record.
const BYTES: usize = 256;

/// One DEK in each of up to `most` scopes, all cached and used in no order.
pub(super) fn scopes(most: usize, runtime: &Runtime, output: &Output) -> anyhow::Result<()> {
    let manager = manager(most, runtime)?;
    let context = record()?;
    let mut cells: Vec<Cell> = Vec::with_capacity(most);
    for x in powers_of_ten(most) {
        runtime.block_on(async {
            manager.sync().await?;
            while cells.len() < x {
                let scope = scope(&manager, cells.len())?;
                cells.push(Cell::new(scope, &context).await?);
            }
            anyhow::Ok(())
        })?;
        let record = |measured: Record| output.print(measured.at("scopes", x));
        let order = shuffled(x);
        record(seal(&cells, &order, &context, runtime)?)?;
        record(open(&cells, &order, &context, runtime)?)?;
    }
    Ok(())
}

/// Up to `most` versions in one scope, all cached, their records opened in no order.
pub(super) fn versions(most: usize, runtime: &Runtime, output: &Output) -> anyhow::Result<()> {
    let manager = manager(most, runtime)?;
    let context = record()?;
    let scope = scope(&manager, 1)?;
    let mut cells: Vec<Cell> = Vec::with_capacity(most);
    for x in powers_of_ten(most) {
        runtime.block_on(async {
            while cells.len() < x {
                scope.rotate().await?;
                cells.push(Cell::new(scope.clone(), &context).await?);
            }
            anyhow::Ok(())
        })?;
        let record = |measured: Record| output.print(measured.at("versions", x));
        let order = shuffled(x);
        // Whatever the record, the newest version seals.
        record(seal(&cells[..1], &[0], &context, runtime)?)?;
        record(open(&cells, &order, &context, runtime)?)?;
    }
    Ok(())
}

/// A manager that keeps so many DEKs.
fn manager(deks: usize, runtime: &Runtime) -> anyhow::Result<Manager> {
    let mut policy = Policy::default();
    policy.cached_deks_max = 2 * deks as u64;
    Ok(runtime.block_on(Backends::new()?.builder().policy(policy).start())?)
}

/// A record and the scope that it belongs to.
struct Cell {
    scope: Scope,
    envelope: Vec<u8>,
}

impl Cell {
    /// A record that was sealed in the midst of an epoch.
    async fn new(scope: Scope, context: &RecordContext) -> anyhow::Result<Self> {
        scope.seal(&[], context).await?;
        let envelope = scope.seal(&[7; BYTES], context).await?;
        scope.open(&envelope, context).await?;
        Ok(Self { scope, envelope })
    }
}

fn seal(
    cells: &[Cell],
    order: &[usize],
    context: &RecordContext,
    runtime: &Runtime,
) -> anyhow::Result<Record> {
    let mut raw = RawMany::with_keys(cells.len(), BYTES, aad_len(context))?;
    let (plaintext, mut out) = (vec![7; BYTES], vec![0; BYTES + EnvelopeKey::OVERHEAD]);
    let (mut next, mut raw_next) = (order.iter().cycle(), order.iter().cycle());
    let measured = measure(
        |calls| {
            runtime.block_on(async {
                for index in next.by_ref().take(calls as usize) {
                    let (plaintext, context) = black_box((&plaintext, context));
                    black_box(cells[*index].scope.seal_into(plaintext, context, &mut out).await?);
                }
                Ok(())
            })
        },
        |calls| raw_next.by_ref().take(calls as usize).try_for_each(|index| raw.seal_at(*index)),
    )?;
    Ok(measured.record("bulla-manager", "seal_into", BYTES))
}

fn open(
    cells: &[Cell],
    order: &[usize],
    context: &RecordContext,
    runtime: &Runtime,
) -> anyhow::Result<Record> {
    let mut raw = RawMany::with_keys(cells.len(), BYTES, aad_len(context))?;
    let mut out = vec![0; BYTES];
    let (mut next, mut raw_next) = (order.iter().cycle(), order.iter().cycle());
    let measured = measure(
        |calls| {
            runtime.block_on(async {
                for index in next.by_ref().take(calls as usize) {
                    let Cell { scope, envelope } = &cells[*index];
                    black_box(scope.open_into(envelope, black_box(context), &mut out).await?);
                }
                Ok(())
            })
        },
        |calls| raw_next.by_ref().take(calls as usize).try_for_each(|index| raw.open_at(*index)),
    )?;
    Ok(measured.record("bulla-manager", "open_into", BYTES))
}

/// 1, 10, 100 and so on up to `most`.
fn powers_of_ten(most: usize) -> impl Iterator<Item = usize> {
    std::iter::successors(Some(1), |x| Some(x * 10)).take_while(move |x| *x <= most)
}

fn shuffled(count: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    fastrand::Rng::with_seed(5).shuffle(&mut order);
    order
}
