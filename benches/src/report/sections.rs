//! What is on the page, from top to bottom.

mod growth;
mod peers;
mod ratios;
mod services;

use super::notation::{bytes, count, number, time};
use super::page::Page;
use super::runs::{Bench, Runs};
use crate::record::Record;

const HEAD: &str = "\
<!-- Written by `bulla-bench report` from the runs named below; what is changed here by hand is lost. -->

What Bulla costs, beside the raw cipher and beside other libraries that encrypt records.";

const METHOD: &str = "\
Every measurement takes its subject and a reference in turn, batch by batch, in one process, and \
gives the median of each. The reference is AES-256-GCM of aws-lc-rs with a reused key, from one \
buffer into another, with as much associated data as an envelope authenticates: what remains if \
everything but the cipher is taken away. **Ratios hold, times do not**: on another machine, or in \
another minute, ours and the reference change together. The reference of a figure is the one of \
its own run, so the raw cipher may have different times in different tables.

Allocations are those of Rust code, counted in the allocator; what C code asks of `malloc` is not \
among them. \"Warm\" means that the key is at hand.

To measure again, with nothing else running:

```sh
for what in ratios scaling calls growth cold inserts; do
    cargo run --release -p bulla-bench -- $what --json > docs/benchmarks/runs/$what.jsonl
done
(cd benches/peers && cargo run --release --features aws-esdk -- --json) > docs/benchmarks/runs/peers.jsonl
cargo run --release -p bulla-bench -- report docs/benchmarks/runs/*.jsonl
```

Instructions, which do not change from minute to minute, are counted by `bulla-bench instructions` \
and compared with `benches/instructions.json`.";

pub(crate) fn all(runs: &Runs, page: &mut Page) -> anyhow::Result<()> {
    page.heading(1, "Benchmarks");
    page.paragraph(HEAD);
    method(runs, page);
    ratios::section(runs, page)?;
    peers::section(runs, page)?;
    services::scaling(runs, page)?;
    services::calls(runs, page)?;
    growth::section(runs, page)?;
    services::cold(runs, page)?;
    services::inserts(runs, page)
}

fn method(runs: &Runs, page: &mut Page) {
    page.heading(2, "How it is measured");
    page.paragraph(METHOD);
    let head = ["run", "day", "processor", "cores", "with", "system", "compiler"];
    let rows = runs.all().map(|Bench { run, .. }| {
        vec![
            run.bench.clone(),
            run.date.clone(),
            run.cpu.clone(),
            run.cores.to_string(),
            run.features.join(" "),
            run.os.clone(),
            run.rustc.clone(),
        ]
    });
    page.words(&head.map(str::to_owned), &rows.collect::<Vec<_>>());
    // Runs of the same program have the same versions.
    let mut versions: Vec<(String, Vec<String>)> = Vec::new();
    for Bench { run, .. } in runs.all() {
        let all = run.versions.iter().map(|(name, version)| format!("{name} {version}"));
        let all = all.collect::<Vec<_>>().join(", ");
        match versions.iter_mut().find(|(other, _)| *other == all) {
            Some((_, benches)) => benches.push(run.bench.clone()),
            None => versions.push((all, vec![run.bench.clone()])),
        }
    }
    let lines = versions.iter().map(|(all, benches)| format!("- {}: {all}.", benches.join(", ")));
    page.paragraph(&lines.collect::<Vec<_>>().join("\n"));
}

/// A table of figures as they are: one row each, with a column for whatever any of them has,
/// and their settings.
fn plain_table(records: &[&Record], page: &mut Page) {
    type Column = (&'static str, fn(&Record) -> Option<String>);
    let columns: [Column; 8] = [
        ("bytes", |r| r.size.map(bytes)),
        ("at", |r| r.axis.as_ref().zip(r.x).map(|(axis, x)| format!("{} {axis}", count(x)))),
        ("time", |r| r.ns.map(time)),
        ("reference", |r| r.raw_ns.map(time)),
        ("ratio", |r| r.ratio.map(ratio)),
        ("allocations", |r| r.allocs.map(number)),
        ("bytes allocated", |r| r.alloc_bytes.map(count)),
        ("bytes out", |r| r.output_bytes.map(|out| count(out as f64))),
    ];
    let used = |column: &Column| records.iter().any(|record| column.1(record).is_some());
    let columns: Vec<Column> = columns.into_iter().filter(used).collect();
    let mut counts: Vec<&String> = records.iter().flat_map(|r| r.counts.keys()).collect();
    counts.sort();
    counts.dedup();

    let settings = settings(records.iter().copied());

    let mut head = vec!["what".to_owned()];
    head.extend(columns.iter().map(|(name, _)| (*name).to_owned()));
    head.extend(counts.iter().map(|name| name.replace('_', " ")));
    head.extend((settings.len() > 1).then(|| "setting".to_owned()));
    let rows = records.iter().map(|record| {
        let mut row = vec![format!("{} `{}`", record.subject, record.op)];
        row.extend(columns.iter().map(|(_, value)| value(record).unwrap_or_default()));
        let counted = |name: &&String| record.counts.get(*name).copied().map(count);
        row.extend(counts.iter().map(|name| counted(name).unwrap_or_default()));
        row.extend((settings.len() > 1).then(|| setting(record, &settings)));
        row
    });
    page.table(&head, &rows.collect::<Vec<_>>());
    match &settings[..] {
        [] => {}
        [only] => page.paragraph(&format!("Setting: {only}.")),
        several => {
            let lines = several.iter().zip(1..).map(|(text, number)| format!("{number}. {text}."));
            page.paragraph("Settings:");
            page.paragraph(&lines.collect::<Vec<_>>().join("\n"));
        }
    }
}

/// Settings of figures, each once.
fn settings<'a>(records: impl Iterator<Item = &'a Record>) -> Vec<&'a str> {
    let mut settings = Vec::new();
    for setting in records.filter_map(|record| record.settings.as_deref()) {
        if !settings.contains(&setting) {
            settings.push(setting);
        }
    }
    settings
}

/// The number of a figure's setting among `settings`.
fn setting(record: &Record, settings: &[&str]) -> String {
    let own = record.settings.as_deref();
    let place = settings.iter().position(|setting| Some(*setting) == own);
    place.map_or_else(String::new, |place| (place + 1).to_string())
}

fn ratio(ratio: f64) -> String {
    if ratio < 10.0 { format!("{ratio:.2}") } else { number(ratio) }
}

/// Sizes of figures, each once, in order.
fn sizes<'a>(records: impl IntoIterator<Item = &'a Record>) -> Vec<u64> {
    let mut sizes: Vec<u64> = records.into_iter().filter_map(|record| record.size).collect();
    sizes.sort_unstable();
    sizes.dedup();
    sizes
}

/// A table with a row for each name and a column for each size.
fn by_size(
    corner: &str,
    rows: &[(String, Vec<&Record>)],
    cell: impl Fn(&Record) -> Option<String>,
    page: &mut Page,
) {
    let sizes = sizes(rows.iter().flat_map(|(_, records)| records.iter().copied()));
    let mut head = vec![corner.to_owned()];
    head.extend(sizes.iter().map(|size| bytes(*size)));
    let rows = rows.iter().map(|(name, records)| {
        let mut row = vec![name.clone()];
        row.extend(sizes.iter().map(|size| {
            let record = records.iter().find(|record| record.size == Some(*size));
            record.and_then(|record| cell(record)).unwrap_or_default()
        }));
        row
    });
    page.table(&head, &rows.collect::<Vec<_>>());
}

/// Size and another value of figures, for a line.
fn points(records: &[&Record], value: impl Fn(&Record) -> Option<f64>) -> Vec<(f64, f64)> {
    let mut points: Vec<(f64, f64)> =
        records.iter().filter_map(|record| Some((record.size? as f64, value(record)?))).collect();
    points.sort_by(|one, other| one.0.total_cmp(&other.0));
    points
}

fn bytes_of(value: f64) -> String {
    bytes(value as u64)
}
