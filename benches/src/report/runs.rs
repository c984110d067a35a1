//! The lines of runs, read.

use std::collections::BTreeMap;

use anyhow::{Context, bail, ensure};
use serde_json::Value;

use crate::record::{Record, Run};

/// Runs, by what they measured.
#[derive(Debug, Default)]
pub(crate) struct Runs(BTreeMap<String, Bench>);

/// One run.
#[derive(Debug)]
pub(crate) struct Bench {
    pub(crate) run: Run,
    /// The name of the file that it was in.
    pub(crate) file: String,
    pub(crate) records: Vec<Record>,
}

impl Runs {
    /// Adds what is in `text`, the file `file`.
    ///
    /// # Errors
    /// Names file and line of what is no run and no figure, of a figure before its run,
    /// and of a second run of one measurement.
    pub(crate) fn read(&mut self, file: &str, text: &str) -> anyhow::Result<()> {
        let mut bench = None;
        for (line, number) in text.lines().zip(1..) {
            if !line.trim().is_empty() {
                self.line(file, line, &mut bench).with_context(|| format!("{file}:{number}"))?;
            }
        }
        ensure!(bench.is_some(), "{file}: no run");
        Ok(())
    }

    /// Adds one line. `bench` is the measurement whose run came last in the file.
    fn line(&mut self, file: &str, line: &str, bench: &mut Option<String>) -> anyhow::Result<()> {
        let value: Value = serde_json::from_str(line)?;
        if let Some(run) = value.get("run") {
            let run: Run = serde_json::from_value(run.clone())?;
            *bench = Some(run.bench.clone());
            let new = Bench { run, file: file.to_owned(), records: Vec::new() };
            if let Some(old) = self.0.insert(new.run.bench.clone(), new) {
                bail!("there is a run of {} already, in {}", old.run.bench, old.file);
            }
            return Ok(());
        }
        let record: Record = serde_json::from_value(value)?;
        let bench = bench.as_ref().and_then(|bench| self.0.get_mut(bench));
        let bench = bench.context("a figure before the run that it belongs to")?;
        ensure!(
            record.bench == bench.run.bench && !record.subject.is_empty() && !record.op.is_empty(),
            "no figure of a run of {}",
            bench.run.bench
        );
        bench.records.push(record);
        Ok(())
    }

    pub(crate) fn get(&self, bench: &str) -> Option<&Bench> {
        self.0.get(bench)
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Bench> {
        self.0.values()
    }
}

impl Bench {
    /// Figures of one subject and operation, in the order of their lines.
    pub(crate) fn of<'a>(
        &'a self,
        subject: &'a str,
        op: &'a str,
    ) -> impl Iterator<Item = &'a Record> + 'a {
        self.records.iter().filter(move |record| (&*record.subject, &*record.op) == (subject, op))
    }

    /// The figures for which `wanted` holds, grouped by what `key` says of them, in the order
    /// in which the groups begin.
    pub(crate) fn grouped<'a, K: PartialEq>(
        &'a self,
        wanted: impl Fn(&Record) -> bool,
        key: impl Fn(&'a Record) -> K,
    ) -> Vec<(K, Vec<&'a Record>)> {
        let mut groups: Vec<(K, Vec<&Record>)> = Vec::new();
        for record in self.records.iter().filter(|record| wanted(record)) {
            let key = key(record);
            match groups.iter_mut().find(|(other, _)| *other == key) {
                Some((_, records)) => records.push(record),
                None => groups.push((key, vec![record])),
            }
        }
        groups
    }
}
