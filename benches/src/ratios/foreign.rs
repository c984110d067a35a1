//! Records of other writers. Each writer has nonce prefixes of its own, and each prefix
//! chooses a derived key: one that is not at hand is derived for the record.

use std::hint::black_box;

use bulla_core::{EnvelopeKey, KeyOptions};
use tokio::runtime::Runtime;

use crate::cases::{RawMany, aad_len, core_keys, record, warm_scopes};
use crate::measure::{Measured, measure};
use crate::record::Record;

/// Writers, so many that no prefix is at hand when it comes again.
const WRITERS: usize = 512;

/// Opens records each of which another writer has sealed.
pub(super) fn each_by_another(
    size: usize,
    options: KeyOptions,
    runtime: &Runtime,
) -> anyhow::Result<[Record; 2]> {
    let context = record()?;
    let plaintext = vec![7; size];
    let mut raw = RawMany::new(WRITERS, size, aad_len(&context))?;

    let keys = core_keys(WRITERS, options)?;
    let envelopes: Vec<_> =
        keys.iter().map(|key| key.seal(&plaintext, &context)).collect::<Result<_, _>>()?;
    let core = open_in_turn(&keys[0], &envelopes, &mut raw)?;

    let scopes = runtime.block_on(warm_scopes(WRITERS, options))?;
    let envelopes: Vec<_> = runtime.block_on(async {
        let mut envelopes = Vec::with_capacity(scopes.len());
        for scope in &scopes {
            envelopes.push(scope.seal(&plaintext, &context).await?);
        }
        anyhow::Ok(envelopes)
    })?;
    let (reader, mut next) = (&scopes[0], envelopes.iter().cycle());
    let manager = measure(
        |calls| {
            runtime.block_on(async {
                for envelope in next.by_ref().take(calls as usize) {
                    black_box(reader.open(black_box(envelope), &context).await?);
                }
                Ok(())
            })
        },
        |calls| raw.open(calls),
    )?;
    Ok([
        core.record("bulla-core", "open_into (foreign)", size).giving(size),
        manager.record("bulla-manager", "open (foreign)", size).giving(size),
    ])
}

/// Bytes of each record of the table that is scanned.
const SCANNED_BYTES: usize = 256;
/// Records of it.
const SCANNED: usize = 4096;

/// Opens every record of a table that 1 to 64 writers have sealed, whose records take
/// turns or lie writer by writer.
pub(super) fn scans(options: KeyOptions) -> anyhow::Result<Vec<Record>> {
    let context = record()?;
    let plaintext = vec![7; SCANNED_BYTES];
    let mut raw = RawMany::new(SCANNED, SCANNED_BYTES, aad_len(&context))?;
    let mut records = Vec::new();
    for writers in [1, 2, 4, 8, 16, 32, 64] {
        let keys = core_keys(writers, options)?;
        let table = |writer_of: &dyn Fn(usize) -> usize| -> anyhow::Result<Vec<Vec<u8>>> {
            let rows = (0..SCANNED).map(|row| keys[writer_of(row)].seal(&plaintext, &context));
            Ok(rows.collect::<Result<_, _>>()?)
        };
        for (op, table) in [
            ("scan (writers in turn)", table(&|row| row % writers)?),
            ("scan (by writer)", table(&|row| row * writers / SCANNED)?),
        ] {
            let measured = open_in_turn(&keys[0], &table, &mut raw)?;
            records.push(measured.record("bulla-core", op, SCANNED_BYTES).at("writers", writers));
        }
    }
    Ok(records)
}

/// Opens one record after the other.
fn open_in_turn(
    reader: &EnvelopeKey,
    envelopes: &[Vec<u8>],
    raw: &mut RawMany,
) -> anyhow::Result<Measured> {
    let context = record()?;
    let mut out = vec![0; envelopes.first().map_or(0, Vec::len)];
    let mut next = envelopes.iter().cycle();
    measure(
        |calls| {
            for envelope in next.by_ref().take(calls as usize) {
                let (envelope, context) = black_box((envelope, &context));
                black_box(reader.open_into(envelope, context, &mut out)?);
                black_box(&out);
            }
            Ok(())
        },
        |calls| raw.open(calls),
    )
}
