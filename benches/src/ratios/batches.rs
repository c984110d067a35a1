//! A thousand records of 256 bytes at a time, as a bulk insert and a page of a table.
//!
//! The reference seals the same thousand plaintexts, each from where it lies, into one
//! ready buffer.

use std::hint::black_box;

use bulla_core::{EnvelopeKey, KeyOptions};
use bulla_manager::Item;
use tokio::runtime::Runtime;

use crate::cases::{RawMany, aad_len, record_of, warm_scope};
use crate::measure::{Measured, measure};
use crate::record::Record;

const RECORDS: usize = 1000;
const BYTES: usize = 256;

pub(super) fn all(options: KeyOptions, runtime: &Runtime) -> anyhow::Result<[Record; 2]> {
    let scope = runtime.block_on(warm_scope(options))?;
    let contexts: Vec<_> = (0..RECORDS).map(record_of).collect::<Result<_, _>>()?;
    let plaintexts = vec![7; RECORDS * BYTES];
    let items: Vec<Item<'_>> = plaintexts.chunks(BYTES).zip(&contexts).collect();
    let mut raw = RawMany::new(RECORDS, BYTES, aad_len(&contexts[0]))?;
    let seal = measure(
        |calls| {
            for _ in 0..calls {
                black_box(runtime.block_on(scope.seal_many(black_box(&items)))?);
            }
            Ok(())
        },
        |calls| raw.seal(calls * RECORDS as u64),
    )?;
    let envelopes = runtime.block_on(scope.seal_many(&items))?;
    let sealed: Vec<Item<'_>> = envelopes.iter().zip(&contexts).collect();
    let open = measure(
        |calls| {
            for _ in 0..calls {
                let opened = runtime.block_on(scope.open_many(black_box(&sealed)));
                anyhow::ensure!(opened.iter().all(Result::is_ok), "a record does not open");
                black_box(opened);
            }
            Ok(())
        },
        |calls| raw.open(calls * RECORDS as u64),
    )?;
    let per_record = |op, measured: Measured| {
        let record = measured.per_part(RECORDS).record("bulla-manager", op, BYTES);
        record.at("records", RECORDS)
    };
    Ok([
        per_record("seal_many", seal).giving(BYTES + EnvelopeKey::OVERHEAD),
        per_record("open_many", open).giving(BYTES),
    ])
}
