//! Ours beside the raw cipher.

use super::super::chart::{Axis, Lines, Look, Series, looks};
use super::super::notation::{number, time, time_tick};
use super::super::page::Page;
use super::super::runs::{Bench, Runs};
use super::{by_size, bytes_of, plain_table, points, ratio, settings};
use crate::record::Record;

/// Operations on one record, in the order in which they are shown.
const OPS: [(&str, &str); 8] = [
    ("bulla-core", "seal_into"),
    ("bulla-core", "open_into"),
    ("bulla-core", "seal"),
    ("bulla-core", "open"),
    ("bulla-manager", "seal_into"),
    ("bulla-manager", "open_into"),
    ("bulla-manager", "seal"),
    ("bulla-manager", "open"),
];

/// What is in the charts: the two ends of what a caller can choose.
const CHARTED: [(&str, &str); 4] = [
    ("bulla-core", "seal_into"),
    ("bulla-core", "open_into"),
    ("bulla-manager", "seal"),
    ("bulla-manager", "open"),
];

pub(super) fn section(runs: &Runs, page: &mut Page) -> anyhow::Result<()> {
    page.section("Beside the raw cipher", runs, "ratios", |page, bench| {
        page.paragraph(
            "`*_into` writes into a buffer of the caller's, `seal` and `open` into a new `Vec`. \
             `bulla-core` is given a key; `bulla-manager` finds it, checks that it may be used, \
             and counts what it seals.",
        );
        page.chart(
            "ratios",
            "Ratio of Bulla's time to that of the raw cipher, by record size",
            ratios(bench)?,
        );
        page.chart(
            "nanoseconds",
            "Time of one call by record size, Bulla and the raw cipher",
            times(bench)?,
        );
        let rows = one_record(bench);
        page.paragraph("Ratios to the raw cipher:");
        by_size("operation", &rows, |record| record.ratio.map(ratio), page);
        page.paragraph("Times, each with that of the raw cipher in the same batches:");
        by_size(
            "operation",
            &rows,
            |record| Some(format!("{} ({})", time(record.ns?), time(record.raw_ns?))),
            page,
        );
        page.paragraph("Allocations per call:");
        by_size("operation", &rows, |record| record.allocs.map(number), page);
        let settings = settings(rows.iter().flat_map(|(_, records)| records.iter().copied()));
        if !settings.is_empty() {
            page.paragraph(&format!("Settings: {}.", settings.join("; ")));
        }

        let others = |record: &&Record| !is_one_record(record);
        let others: Vec<&Record> = bench.records.iter().filter(others).collect();
        if !others.is_empty() {
            page.heading(3, "Batches, streams, and records of other writers");
            page.paragraph(
                "`seal_many` and `open_many` per record. \"Foreign\" records were sealed by other \
                 processes, so the keys of their epochs are derived as they are met. The \
                 reference of a stream goes over the same bytes in calls of 64 KiB, and copies \
                 them first, as a reader does, where a stream is opened through one; that of a \
                 part of a stream opens one chunk.",
            );
            plain_table(&others, page);
        }
        Ok(())
    })
}

fn is_one_record(record: &Record) -> bool {
    record.axis.is_none() && OPS.contains(&(&record.subject, &record.op))
}

fn one_record(bench: &Bench) -> Vec<(String, Vec<&Record>)> {
    let rows = OPS.iter().map(|(subject, op)| {
        let records = bench.of(subject, op).filter(|record| is_one_record(record)).collect();
        (format!("{subject} `{op}`"), records)
    });
    rows.filter(|(_, records): &(_, Vec<&Record>)| !records.is_empty()).collect()
}

fn charted(bench: &Bench, value: impl Fn(&Record) -> Option<f64>) -> Vec<Series> {
    let looks = looks(CHARTED.iter().map(|(subject, _)| *subject));
    let series = CHARTED.iter().zip(looks).map(|((subject, op), look)| {
        let records: Vec<&Record> =
            bench.of(subject, op).filter(|record| is_one_record(record)).collect();
        Series { name: format!("{subject} {op}"), look, points: points(&records, &value) }
    });
    series.filter(|series| !series.points.is_empty()).collect()
}

fn ratios(bench: &Bench) -> anyhow::Result<Option<String>> {
    let mut series = charted(bench, |record| record.ratio);
    let xs = xs(&series);
    if !series.is_empty() {
        let points = xs.iter().map(|x| (*x, 1.0)).collect();
        series.push(Series { name: "raw AES-256-GCM".to_owned(), look: Look::RAW, points });
    }
    let ys = ys(&series);
    let least = ys.iter().copied().fold(1.0, f64::min);
    Lines {
        title: "Ratio to the raw cipher".to_owned(),
        x: Axis::at("bytes of plaintext", &xs, bytes_of),
        y: Axis::linear("time of one call / time of AES-256-GCM alone", least - 0.05, &ys),
        series,
    }
    .svg()
}

fn times(bench: &Bench) -> anyhow::Result<Option<String>> {
    let mut series = charted(bench, |record| record.ns);
    let raw: Vec<&Record> =
        bench.of("bulla-core", "seal_into").filter(|record| is_one_record(record)).collect();
    let points = points(&raw, |record| record.raw_ns);
    series.push(Series { name: "raw AES-256-GCM".to_owned(), look: Look::RAW, points });
    Lines {
        title: "Time of one call".to_owned(),
        x: Axis::at("bytes of plaintext", &xs(&series), bytes_of),
        y: Axis::log("time", &ys(&series), time_tick),
        series,
    }
    .svg()
}

/// Where the series have points, each place once, in order.
fn xs(series: &[Series]) -> Vec<f64> {
    let points = series.iter().flat_map(|series| &series.points);
    let mut xs: Vec<f64> = points.map(|(x, _)| *x).collect();
    xs.sort_by(f64::total_cmp);
    xs.dedup();
    xs
}

fn ys(series: &[Series]) -> Vec<f64> {
    series.iter().flat_map(|series| series.points.iter().map(|(_, y)| *y)).collect()
}
