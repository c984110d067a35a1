//! The table of counts: read, written, printed and compared.

use std::fs;
use std::path::Path;

use anyhow::Context;
use serde::{Deserialize, Serialize};

use super::callgrind::Row;
use crate::record::Run;

/// A count of ours may grow by this much, in instructions, …
const GROWTH: u64 = 40;
/// … or by this much of itself, in percent.
const GROWTH_PERCENT: u64 = 5;

/// Where more is allocated than glibc's cache of each thread holds (1,032 bytes), an allocation
/// takes this much more or less, by what the heap looks like.
const HEAP: u64 = 200;

const RENEW: &str = "renew it with `bulla-bench instructions --write FILE`, and say why";

/// Counts, and what they were counted with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Table {
    pub(crate) run: Run,
    pub(crate) rows: Vec<Row>,
}

impl Table {
    pub(crate) fn read(path: &Path) -> anyhow::Result<Self> {
        let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
        serde_json::from_str(&text).with_context(|| path.display().to_string())
    }

    pub(crate) fn write(&self, path: &Path) -> anyhow::Result<()> {
        let text = serde_json::to_string_pretty(self)? + "\n";
        fs::write(path, text).with_context(|| path.display().to_string())
    }

    /// Prints every row, with its change since `before`.
    pub(crate) fn print(&self, before: Option<&Self>) {
        println!("instructions for one call: {}", self.tools());
        println!(
            "{:<20} {:>7} {:>9} {:>9} {:>9} {:>9} {:>8} {:>8}",
            "", "bytes", "all", "raw", "ours", "before", "change", "percent"
        );
        for row in &self.rows {
            let mut line = format!("{:<20} {:>7} {:>9}", row.name(), row.size, row.instructions);
            if let Some((raw, ours)) = self.parts(row) {
                line += &format!(" {raw:>9} {ours:>9}");
                if let Some((_, was)) = before.and_then(|before| before.parts(before.find(row)?)) {
                    let change = ours as i64 - was as i64;
                    let percent = 100.0 * change as f64 / was.max(1) as f64;
                    line += &format!(" {was:>9} {change:>+8} {percent:>+7.1}%");
                }
            }
            println!("{line}");
        }
    }

    /// Says whether the counts are as they may be, seen from `before`.
    ///
    /// # Errors
    /// A count of ours has grown too much; or the tables have different rows.
    pub(crate) fn judge(&self, before: &Self) -> anyhow::Result<String> {
        if before.tools() != self.tools() {
            let tools = before.tools();
            return Ok(format!(
                "counted with other tools: shown, not judged. The table's: {tools}"
            ));
        }
        let same_rows = before.rows.len() == self.rows.len()
            && self.rows.iter().all(|row| before.find(row).is_some());
        anyhow::ensure!(same_rows, "the table has other rows: {RENEW}");
        let grown: Vec<String> =
            self.rows.iter().filter_map(|row| self.growth(row, before)).collect();
        anyhow::ensure!(
            grown.is_empty(),
            "more than {GROWTH} instructions ({HEAP} on top where the heap is used) and {GROWTH_PERCENT} percent more:\n  {}\n\
             Where it has to be: {RENEW}",
            grown.join("\n  ")
        );
        Ok(format!(
            "nothing has grown by more than {GROWTH} instructions and {GROWTH_PERCENT} percent"
        ))
    }

    /// How `row` has grown, if it has grown too much.
    fn growth(&self, row: &Row, before: &Self) -> Option<String> {
        let ((_, ours), (_, was)) = (self.parts(row)?, before.parts(before.find(row)?)?);
        let allocates = row.subject == "manager" && !row.op.ends_with("_into") && row.size > 900;
        let allowed = GROWTH + if allocates { HEAP } else { 0 };
        let grown = ours.saturating_sub(was);
        (grown > allowed && grown * 100 > was * GROWTH_PERCENT)
            .then(|| format!("{} of {} bytes: {was}, now {ours}", row.name(), row.size))
    }

    /// What the counts depend on beside our code.
    fn tools(&self) -> String {
        let version = |name| self.run.versions.get(name).map_or("", String::as_str);
        let (libc, valgrind) = (version("libc"), version("valgrind"));
        let features = self.run.features.join(" ");
        format!("{features}, {}, {libc}, valgrind {valgrind}", self.run.rustc)
    }

    /// The cipher's part of `row`, and ours; nothing where the row is the cipher's own.
    fn parts(&self, row: &Row) -> Option<(u64, u64)> {
        if row.subject == "raw" {
            return None;
        }
        let op = if row.op.contains("open") { "open" } else { "seal" };
        let raw = self.find(&Row::named("raw", op, row.size))?.instructions;
        Some((raw, row.instructions.saturating_sub(raw)))
    }

    /// The row that has the name and the size of `row`.
    fn find(&self, row: &Row) -> Option<&Row> {
        self.rows.iter().find(|other| (other.name(), other.size) == (row.name(), row.size))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(seal: u64, libc: &str) -> Table {
        let run = serde_json::json!({
            "bench": "instructions", "cpu": "a processor", "cores": 2, "features": ["avx2"],
            "os": "linux", "rustc": "rustc 1.89.0", "versions": { "libc": libc }, "date": "2026-01-31",
            "command": "bulla-bench instructions",
        });
        let run = serde_json::from_value(run).unwrap();
        let rows = [("raw", 1000), ("core", 1000 + seal)]
            .map(|(subject, instructions)| Row { instructions, ..Row::named(subject, "seal", 64) });
        Table { run, rows: rows.into() }
    }

    #[test]
    fn growth_counts_when_it_is_large_in_both_ways() {
        let judge = |was, now| table(now, "glibc 2.36").judge(&table(was, "glibc 2.36"));
        assert!(
            judge(100, 141)
                .unwrap_err()
                .to_string()
                .contains("core seal of 64 bytes: 100, now 141")
        );
        judge(100, 140).unwrap();
        judge(1000, 1050).unwrap();
        assert!(judge(1000, 1051).is_err());
        judge(1000, 0).unwrap();
    }

    #[test]
    fn the_heap_is_allowed_for_where_it_is_used() {
        let of = |op, ours| {
            let mut table = table(0, "glibc 2.36");
            table.rows = [("raw", "seal", 1000_u64), ("manager", op, 1000_u64 + ours)]
                .map(|(subject, op, instructions)| Row {
                    instructions,
                    ..Row::named(subject, op, 1024)
                })
                .into();
            table
        };
        of("seal", 1240).judge(&of("seal", 1000)).unwrap();
        assert!(of("seal", 1241).judge(&of("seal", 1000)).is_err());
        assert!(of("seal_into", 1100).judge(&of("seal_into", 1000)).is_err());
    }

    #[test]
    fn another_c_library_is_not_judged() {
        let verdict = table(900, "glibc 2.41").judge(&table(100, "glibc 2.36")).unwrap();
        assert!(verdict.contains("not judged"), "{verdict}");
    }

    #[test]
    fn a_row_that_is_missing_is_noticed() {
        let (whole, mut part) = (table(100, "glibc 2.36"), table(100, "glibc 2.36"));
        part.rows.pop();
        assert!(whole.judge(&part).is_err());
        assert!(part.judge(&whole).is_err());
    }

    #[test]
    fn a_table_is_read_as_it_was_written() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("table.json");
        table(100, "glibc 2.36").write(&path).unwrap();
        assert_eq!(Table::read(&path).unwrap(), table(100, "glibc 2.36"));
    }
}
