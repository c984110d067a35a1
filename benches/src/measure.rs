//! Times and allocations of one operation beside its reference.

use std::time::{Duration, Instant};

use serde::Serialize;

/// A measured operation. Times are medians, in nanoseconds for one call.
#[derive(Debug, Serialize)]
pub(crate) struct Measured {
    pub(crate) op: &'static str,
    /// Bytes of plaintext.
    pub(crate) size: usize,
    pub(crate) ns: f64,
    /// The reference in the same run.
    pub(crate) raw_ns: f64,
    pub(crate) ratio: f64,
    /// Allocations per call.
    pub(crate) allocs: f64,
    /// Bytes allocated per call.
    pub(crate) alloc_bytes: f64,
}

/// Batches of each of the two, taken in turn: whatever disturbs the machine disturbs
/// both.
const BATCHES: usize = 201;
/// A batch takes about this long.
const BATCH: Duration = Duration::from_micros(300);
/// Calls over which allocations are averaged.
const COUNTED: u64 = 1000;

/// Measures `ours` against `raw`. Each closure makes the given number of calls.
pub(crate) fn measure(
    op: &'static str,
    size: usize,
    mut ours: impl FnMut(u64),
    mut raw: impl FnMut(u64),
) -> Measured {
    // The second call starts what later calls find ready.
    ours(3);
    let (our_calls, raw_calls) = (calls_per_batch(&mut ours), calls_per_batch(&mut raw));
    let counted = COUNTED.min(our_calls * 10);
    let allocated = allocation_counter::measure(|| ours(counted));
    let (mut our_times, mut raw_times) = (Vec::new(), Vec::new());
    for _ in 0..BATCHES {
        raw_times.push(time(&mut raw, raw_calls));
        our_times.push(time(&mut ours, our_calls));
    }
    let (ns, raw_ns) = (median(our_times), median(raw_times));
    Measured {
        op,
        size,
        ns,
        raw_ns,
        ratio: ns / raw_ns,
        allocs: allocated.count_total as f64 / counted as f64,
        alloc_bytes: allocated.bytes_total as f64 / counted as f64,
    }
}

fn calls_per_batch(work: &mut impl FnMut(u64)) -> u64 {
    let mut calls = 1;
    while time(work, calls) * (calls as f64) < BATCH.as_nanos() as f64 {
        calls *= 2;
    }
    calls
}

/// Nanoseconds per call.
fn time(work: &mut impl FnMut(u64), calls: u64) -> f64 {
    let start = Instant::now();
    work(calls);
    start.elapsed().as_nanos() as f64 / calls as f64
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}
