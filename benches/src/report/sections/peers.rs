//! Ours beside other libraries.

use super::super::chart::{Axis, Bars, Group, Lines, Look, Series, looks};
use super::super::notation::{bytes, count, number, rate_tick, time};
use super::super::page::Page;
use super::super::runs::{Bench, Runs};
use super::{by_size, bytes_of, points, ratio};
use crate::record::Record;

/// Figures of one subject and operation.
type Row<'a> = ((&'a str, &'a str), Vec<&'a Record>);

pub(super) fn section(runs: &Runs, page: &mut Page) -> anyhow::Result<()> {
    page.section("Beside other libraries", runs, "peers", |page, bench| {
        page.paragraph(
            "One process, the same plaintexts, sealed to bytes and opened from bytes, warm, each \
             library through its public API and as its documentation advises; \"(into)\" writes \
             into a ready buffer, the others into a new `Vec`. They do not all do the same: how \
             each was set up, and what it leaves out, is listed at the end of this section.",
        );
        let (seals, opens) = (rows(bench, "seal"), rows(bench, "open"));
        page.chart(
            "seal-throughput",
            "Throughput of sealing by record size, every library",
            throughput("Sealing", &seals)?,
        );
        page.chart(
            "open-throughput",
            "Throughput of opening by record size, every library",
            throughput("Opening", &opens)?,
        );
        for (what, rows) in [("Sealing", &seals), ("Opening", &opens)] {
            let rows: Vec<(String, Vec<&Record>)> =
                rows.iter().map(|(key, records)| (name(*key), records.clone())).collect();
            page.paragraph(&format!("{what}, time of one call:"));
            by_size("library", &rows, |record| record.ns.map(time), page);
            page.paragraph(&format!("{what}, ratio to the raw cipher:"));
            by_size("library", &rows, |record| record.ratio.map(ratio), page);
        }
        smallest(bench, &seals, &opens, page)?;
        settings(bench, page);
        Ok(())
    })
}

/// Overhead and allocations, of the smallest record that was measured.
fn smallest(
    bench: &Bench,
    seals: &[Row<'_>],
    opens: &[Row<'_>],
    page: &mut Page,
) -> anyhow::Result<()> {
    let Some(size) = bench.records.iter().filter_map(|record| record.size).min() else {
        return Ok(());
    };
    let least = bytes(size);
    page.heading(3, &format!("Bytes added to a record of {least}"));
    let mut overheads: Vec<(f64, &str, &str)> = Vec::new();
    for ((subject, op), record) in of_size(seals, size) {
        if let Some(out) = record.output_bytes {
            overheads.push((out as f64 - size as f64, subject, op));
        }
    }
    // Of a library with several operations of the same overhead, one.
    overheads.sort_by(|one, other| one.partial_cmp(other).unwrap_or(std::cmp::Ordering::Equal));
    overheads.dedup_by(|one, other| (one.0, one.1) == (other.0, other.1));
    page.chart(
        "overhead",
        &format!("Bytes that each library adds to a record of {least}"),
        Bars {
            title: format!("Bytes added to a record of {least}"),
            name: "bytes, less is better".to_owned(),
            parts: vec![("bytes".to_owned(), Look::PLAIN)],
            groups: overheads
                .iter()
                .map(|(added, subject, _)| Group {
                    name: (*subject).to_owned(),
                    values: vec![Some((*added, count(*added)))],
                    look: highlight(subject),
                })
                .collect(),
            logarithmic: false,
        }
        .svg()?,
    );
    let head = ["library", "bytes added"].map(str::to_owned);
    let cells =
        overheads.iter().map(|(added, subject, _)| vec![(*subject).to_owned(), count(*added)]);
    page.table(&head, &cells.collect::<Vec<_>>());
    allocations(size, seals, opens, page)
}

fn allocations(
    size: u64,
    seals: &[Row<'_>],
    opens: &[Row<'_>],
    page: &mut Page,
) -> anyhow::Result<()> {
    let least = bytes(size);
    page.heading(3, &format!("Allocations for a record of {least}"));
    let opened = of_size(opens, size);
    let mut rows: Vec<(String, &str, Option<&Record>, Option<&Record>)> = of_size(seals, size)
        .into_iter()
        .map(|(key, seal)| {
            let same = |op: &str| op.replacen("open", "seal", 1) == key.1;
            let open = opened.iter().find(|((subject, op), _)| *subject == key.0 && same(op));
            (name(key), key.0, Some(seal), open.map(|(_, open)| *open))
        })
        .collect();
    let allocs = |record: Option<&Record>| record.and_then(|record| record.allocs);
    rows.sort_by(|one, other| {
        allocs(one.2).partial_cmp(&allocs(other.2)).unwrap_or(std::cmp::Ordering::Equal)
    });
    let part = looks(["others", "others"]);
    page.chart(
        "allocations",
        &format!("Allocations of each library for a record of {least}"),
        Bars {
            title: format!("Allocations for a record of {least}"),
            name: "allocations per call, less is better; lengths are logarithmic".to_owned(),
            parts: vec![("sealing".to_owned(), part[0]), ("opening".to_owned(), part[1])],
            groups: rows
                .iter()
                .map(|(name, _, seal, open)| Group {
                    name: name.clone(),
                    values: [seal, open]
                        .map(|record| allocs(*record).map(|value| (value, number(value))))
                        .into(),
                    look: None,
                })
                .collect(),
            logarithmic: true,
        }
        .svg()?,
    );
    let head = ["library", "sealing", "bytes allocated", "opening", "bytes allocated"];
    let cells = rows.iter().map(|(name, _, seal, open)| {
        let mut row = vec![name.clone()];
        for record in [seal, open] {
            let record = record.as_ref();
            row.push(record.and_then(|r| r.allocs).map_or_else(String::new, number));
            row.push(record.and_then(|r| r.alloc_bytes).map_or_else(String::new, count));
        }
        row
    });
    page.table(&head.map(str::to_owned), &cells.collect::<Vec<_>>());
    Ok(())
}

fn settings(bench: &Bench, page: &mut Page) {
    page.heading(3, "How each was set up");
    let settings = bench.grouped(
        |record| record.settings.is_some(),
        |record| (&*record.subject, record.settings.as_deref().unwrap_or_default()),
    );
    let lines = settings.iter().map(|((subject, settings), _)| format!("- {subject}: {settings}."));
    page.paragraph(&lines.collect::<Vec<_>>().join("\n"));
}

/// Each subject has been measured in minutes of its own, and the machine was faster in some
/// than in others. So its ratio is applied to one time of the raw cipher for all: the median of
/// those of the run.
fn throughput(verb: &str, rows: &[Row<'_>]) -> anyhow::Result<Option<String>> {
    let looks = looks(rows.iter().map(|((subject, _), _)| *subject));
    let raw_ns = |size: u64| {
        let of_size = of_size(rows, size);
        let mut times: Vec<f64> = of_size.iter().filter_map(|(_, record)| record.raw_ns).collect();
        times.sort_by(f64::total_cmp);
        times.get(times.len() / 2).copied()
    };
    let per_second = |record: &Record| {
        let size = record.size?;
        Some(size as f64 / (record.ratio? * raw_ns(size)?) * 1e9)
    };
    let series: Vec<Series> = rows
        .iter()
        .zip(looks)
        .map(|((key, records), look)| Series {
            name: name(*key),
            look,
            points: points(records, per_second),
        })
        .collect();
    let of = |value: fn(&(f64, f64)) -> f64| {
        series.iter().flat_map(|series| series.points.iter().map(value)).collect::<Vec<f64>>()
    };
    let x = Axis::at("bytes of plaintext", &of(|point| point.0), bytes_of);
    let y = Axis::log(
        "plaintext per second, one thread; more is better",
        &of(|point| point.1),
        rate_tick,
    );
    Lines { title: format!("{verb}: throughput by record size"), x, y, series }.svg()
}

/// Operations that begin with `verb`, ours and the raw cipher first.
fn rows<'a>(bench: &'a Bench, verb: &str) -> Vec<Row<'a>> {
    let mut rows = bench
        .grouped(|record| record.op.starts_with(verb), |record| (&*record.subject, &*record.op));
    rows.sort_by_key(|((subject, _), _)| match () {
        () if subject.starts_with("raw") => 0,
        () if subject.starts_with("bulla") => 1,
        () => 2,
    });
    rows
}

fn of_size<'a>(rows: &[Row<'a>], size: u64) -> Vec<((&'a str, &'a str), &'a Record)> {
    let of = |(key, records): &Row<'a>| {
        let record = records.iter().find(|record| record.size == Some(size))?;
        Some((*key, *record))
    };
    rows.iter().filter_map(of).collect()
}

/// A subject, and what is special about its operation.
fn name((subject, op): (&str, &str)) -> String {
    let special = op.strip_prefix("seal").or(op.strip_prefix("open")).unwrap_or(op);
    match special {
        "_into" => format!("{subject} (into)"),
        _ => format!("{subject}{special}"),
    }
}

fn highlight(subject: &str) -> Option<Look> {
    (subject.starts_with("raw") || subject.starts_with("bulla")).then(|| looks([subject])[0])
}
