//! Times and allocations of one operation beside its reference.

use std::time::{Duration, Instant};

use crate::record::Record;

/// A measured operation. Times are medians, in nanoseconds for one call.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Measured {
    pub(crate) ns: f64,
    /// The reference in the same run.
    pub(crate) raw_ns: f64,
    /// Allocations per call.
    pub(crate) allocs: f64,
    /// Bytes allocated per call.
    pub(crate) alloc_bytes: f64,
    /// Bytes that were allocated at one time.
    pub(crate) peak_bytes: u64,
}

/// Batches of each of the two, taken in turn: whatever disturbs the machine disturbs
/// both.
const BATCHES: usize = 201;
/// A median needs this many, however long they take.
const BATCHES_MIN: usize = 5;
/// A batch takes about this long.
const BATCH: Duration = Duration::from_micros(300);
/// All batches of long operations together take about this long.
const TOTAL: Duration = Duration::from_secs(2);
/// Calls over which allocations are averaged.
const COUNTED: u64 = 1000;

/// Measures `ours` against `raw`. Each closure makes the given number of calls.
pub(crate) fn measure(
    mut ours: impl FnMut(u64) -> anyhow::Result<()>,
    mut raw: impl FnMut(u64) -> anyhow::Result<()>,
) -> anyhow::Result<Measured> {
    // The second call starts what later calls find ready.
    ours(3)?;
    let (our_calls, raw_calls) = (calls_per_batch(&mut ours)?, calls_per_batch(&mut raw)?);
    let counted = COUNTED.min(our_calls * 10);
    let mut outcome = Ok(());
    let allocated = allocation_counter::measure(|| outcome = ours(counted));
    outcome?;
    let once = time(&mut ours, our_calls)? * our_calls as f64
        + time(&mut raw, raw_calls)? * raw_calls as f64;
    let batches = (TOTAL.as_nanos() as f64 / once) as usize;
    let (mut our_times, mut raw_times) = (Vec::new(), Vec::new());
    for _ in 0..batches.clamp(BATCHES_MIN, BATCHES) {
        raw_times.push(time(&mut raw, raw_calls)?);
        our_times.push(time(&mut ours, our_calls)?);
    }
    Ok(Measured {
        ns: median(our_times),
        raw_ns: median(raw_times),
        allocs: allocated.count_total as f64 / counted as f64,
        alloc_bytes: allocated.bytes_total as f64 / counted as f64,
        peak_bytes: allocated.bytes_max,
    })
}

impl Measured {
    /// The share of one of `parts` things that each call does.
    pub(crate) fn per_part(self, parts: usize) -> Self {
        let parts = parts as f64;
        Self {
            ns: self.ns / parts,
            raw_ns: self.raw_ns / parts,
            allocs: self.allocs / parts,
            alloc_bytes: self.alloc_bytes / parts,
            peak_bytes: self.peak_bytes,
        }
    }

    pub(crate) fn record(&self, subject: &str, op: &str, size: usize) -> Record {
        Record {
            subject: subject.to_owned(),
            op: op.to_owned(),
            size: Some(size as u64),
            ns: Some(round(self.ns, 2)),
            raw_ns: Some(round(self.raw_ns, 2)),
            ratio: Some(round(self.ns / self.raw_ns, 4)),
            allocs: Some(round(self.allocs, 3)),
            alloc_bytes: Some(round(self.alloc_bytes, 1)),
            ..Record::default()
        }
    }
}

/// Digits that no run repeats only get in the way of comparing two.
pub(crate) fn round(value: f64, digits: i32) -> f64 {
    let scale = 10_f64.powi(digits);
    (value * scale).round() / scale
}

pub(crate) fn calls_per_batch(
    work: &mut impl FnMut(u64) -> anyhow::Result<()>,
) -> anyhow::Result<u64> {
    let mut calls = 1;
    while time(work, calls)? * (calls as f64) < BATCH.as_nanos() as f64 {
        calls *= 2;
    }
    Ok(calls)
}

/// Nanoseconds per call.
fn time(work: &mut impl FnMut(u64) -> anyhow::Result<()>, calls: u64) -> anyhow::Result<f64> {
    let mut elapsed = Ok(Duration::ZERO);
    // The counting of allocations takes time of its own.
    allocation_counter::opt_out(|| {
        let start = Instant::now();
        elapsed = work(calls).map(|()| start.elapsed());
    });
    Ok(elapsed?.as_nanos() as f64 / calls as f64)
}

pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
