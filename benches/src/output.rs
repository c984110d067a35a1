//! Prints figures as they come: a table, or lines of JSON.

use std::fmt::Write;

use crate::environment;
use crate::record::{Line, Record};

/// Where the figures of one run go.
pub(crate) struct Output {
    bench: &'static str,
    json: bool,
}

impl Output {
    /// Begins a run: says what it is measured with.
    pub(crate) fn start(bench: &'static str, json: bool) -> anyhow::Result<Self> {
        let run = environment::describe(bench)?;
        if json {
            println!("{}", serde_json::to_string(&Line::Run { run })?);
        } else {
            println!("{}, {} cores, {}, {}", run.cpu, run.cores, run.os, run.rustc);
            println!(
                "{:<14} {:<22} {:>10} {:>18} {:>13} {:>13} {:>7} {:>7}",
                "subject", "op", "bytes", "at", "ns", "raw ns", "ratio", "allocs"
            );
        }
        Ok(Self { bench, json })
    }

    pub(crate) fn print(&self, record: Record) -> anyhow::Result<()> {
        let record = Record { bench: self.bench.to_owned(), ..record };
        if self.json {
            println!("{}", serde_json::to_string(&Line::Record(Box::new(record)))?);
        } else {
            println!("{}", row(&record)?);
        }
        Ok(())
    }
}

fn row(record: &Record) -> anyhow::Result<String> {
    let number = |value: Option<f64>, digits: usize| {
        value.map_or_else(String::new, |value| format!("{value:.digits$}"))
    };
    let at = record
        .axis
        .as_ref()
        .map_or_else(String::new, |axis| format!("{} {axis}", record.x.unwrap_or_default()));
    let mut row = format!(
        "{:<14} {:<22} {:>10} {:>18} {:>13} {:>13} {:>7} {:>7}",
        record.subject,
        record.op,
        record.size.map_or_else(String::new, |size| size.to_string()),
        at,
        number(record.ns, 1),
        number(record.raw_ns, 1),
        number(record.ratio, 3),
        number(record.allocs, 2),
    );
    for (name, count) in &record.counts {
        write!(row, "  {name}={count}")?;
    }
    Ok(row.trim_end().to_owned())
}
