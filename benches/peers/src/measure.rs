//! Times and allocations of one operation beside its reference.

use std::alloc::System;
use std::time::{Duration, Instant};

use alloc_tracker::{Allocator, Session};
use anyhow::Context as _;

use crate::record::Record;

/// The system's allocator, with counters of each thread beside it: the little that they take
/// is part of every time measured here.
#[global_allocator]
static ALLOCATOR: Allocator<System> = Allocator::system();

/// Batches of each of the two, taken in turn.
const BATCHES: usize = 201;
/// A batch takes at least this long.
const BATCH: Duration = Duration::from_micros(300);
/// Calls over which allocations are averaged, at most.
const COUNTED: u64 = 1000;

/// Measures `ours` against `raw`. Each makes the given number of calls.
///
/// # Errors
/// The first that a call returns: a failed call is no figure.
pub(crate) fn measure(
    mut ours: impl FnMut(u64) -> anyhow::Result<()>,
    mut raw: impl FnMut(u64) -> anyhow::Result<()>,
) -> anyhow::Result<Record> {
    // The second call starts what later calls find ready.
    ours(3)?;
    let (our_calls, raw_calls) = (calls_per_batch(&mut ours)?, calls_per_batch(&mut raw)?);
    let (allocs, alloc_bytes) = allocations(&mut ours, COUNTED.min(our_calls * 10))?;
    let (mut our_times, mut raw_times) = (Vec::new(), Vec::new());
    for _ in 0..BATCHES {
        raw_times.push(time(&mut raw, raw_calls)?);
        our_times.push(time(&mut ours, our_calls)?);
    }
    let (ns, raw_ns) = (median(our_times), median(raw_times));
    Ok(Record {
        bench: String::from("peers"),
        ns: Some(round(ns, 2)),
        raw_ns: Some(round(raw_ns, 2)),
        ratio: Some(round(ns / raw_ns, 4)),
        allocs: Some(round(allocs, 3)),
        alloc_bytes: Some(round(alloc_bytes, 1)),
        ..Record::default()
    })
}

/// Allocations and the bytes asked for, per call, on any thread.
fn allocations(
    work: &mut impl FnMut(u64) -> anyhow::Result<()>,
    calls: u64,
) -> anyhow::Result<(f64, f64)> {
    let session = Session::new().no_stdout().no_file();
    let operation = session.operation("work");
    {
        let _span = operation.measure_process().iterations(calls);
        work(calls)?;
    }
    let report = session.to_report();
    let (_, counted) = report.operations().next().context("nothing was counted")?;
    counted.allocations().zip(counted.bytes()).context("nothing was counted")
}

fn calls_per_batch(work: &mut impl FnMut(u64) -> anyhow::Result<()>) -> anyhow::Result<u64> {
    let mut calls = 1;
    while time(work, calls)? * (calls as f64) < BATCH.as_nanos() as f64 {
        calls *= 2;
    }
    Ok(calls)
}

/// Nanoseconds per call.
fn time(work: &mut impl FnMut(u64) -> anyhow::Result<()>, calls: u64) -> anyhow::Result<f64> {
    let start = Instant::now();
    work(calls)?;
    Ok(start.elapsed().as_nanos() as f64 / calls as f64)
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// Without the digits that no other run would show.
fn round(value: f64, digits: i32) -> f64 {
    let scale = 10_f64.powi(digits);
    (value * scale).round() / scale
}
