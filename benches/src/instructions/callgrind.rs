//! Runs this program under callgrind, and reads what was counted.

use std::env;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::Context;
use serde::{Deserialize, Serialize};

use super::table::Table;
use super::workload::COUNTED;
use crate::record::Run;

/// Calls of the shorter of two runs. Twice as many less as many leaves what the calls
/// took, without what begins and ends a run.
pub(crate) const CALLS: u64 = 16;
/// How often both are run. The least is taken: whatever disturbs a count adds to it.
pub(crate) const TAKES: usize = 2;

/// Without these, glibc fills and copies by `rep stosb` and `rep movsb` from some 2 KiB on,
/// more or less by processor. Callgrind counts each byte of them as an instruction, though
/// they take a fraction of the time.
const TUNABLES: &str = "glibc.cpu.x86_rep_stosb_threshold=1073741824:\
                        glibc.cpu.x86_rep_movsb_threshold=1073741824";

/// What one call of a warm path takes, in instructions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Row {
    /// `raw`, `core` or `manager`.
    pub(crate) subject: String,
    pub(crate) op: String,
    /// Bytes of plaintext.
    pub(crate) size: usize,
    /// All of them, the cipher's too.
    #[serde(default)]
    pub(crate) instructions: u64,
}

impl Row {
    /// A row that has not been counted yet.
    pub(crate) fn named(subject: &str, op: &str, size: usize) -> Self {
        Self { subject: subject.to_owned(), op: op.to_owned(), size, instructions: 0 }
    }

    pub(crate) fn name(&self) -> String {
        format!("{} {}", self.subject, self.op)
    }
}

/// Counts every row.
pub(crate) fn count() -> anyhow::Result<Table> {
    let valgrind = valgrind_version()?;
    let directory = tempfile::tempdir()?;
    let out = directory.path().join("callgrind");
    let mut out_file = "--callgrind-out-file=".to_owned();
    out_file.push_str(out.to_str().context("the temporary directory has a name in UTF-8")?);
    let ran = Command::new("valgrind")
        .args(["--tool=callgrind", "--quiet", &out_file])
        .args([format!("--toggle-collect={COUNTED}"), format!("--dump-after={COUNTED}")])
        .arg(env::current_exe()?)
        .args(["instructions", "--inside"])
        .env("GLIBC_TUNABLES", TUNABLES)
        .stderr(Stdio::inherit())
        .output()?;
    anyhow::ensure!(ran.status.success(), "under valgrind: {}", ran.status);
    let printed = String::from_utf8(ran.stdout)?;
    let mut lines = printed.lines();
    let mut run: RunLine = serde_json::from_str(lines.next().context("no first line")?)?;
    run.run.versions.insert("valgrind".to_owned(), valgrind);
    run.run.versions.insert("libc".to_owned(), libc_version());
    run.run.command = "bulla-bench instructions".to_owned();
    let rows = lines.zip(0..).map(|(line, row)| {
        let named: Row = serde_json::from_str(line)?;
        Ok(Row { instructions: per_call(&out, row)?, ..named })
    });
    Ok(Table { run: run.run, rows: rows.collect::<anyhow::Result<_>>()? })
}

#[derive(Debug, Deserialize)]
struct RunLine {
    run: Run,
}

fn valgrind_version() -> anyhow::Result<String> {
    let output = Command::new("valgrind").arg("--version").output().context("valgrind")?;
    Ok(String::from_utf8(output.stdout)?.trim().trim_start_matches("valgrind-").to_owned())
}

/// The C library, whose copying and allocating is counted too: `glibc 2.36`.
fn libc_version() -> String {
    let output = Command::new("getconf").arg("GNU_LIBC_VERSION").output();
    let name = output.ok().filter(|output| output.status.success());
    let name = name.and_then(|output| String::from_utf8(output.stdout).ok());
    name.map_or_else(|| "another".to_owned(), |name| name.trim().to_owned())
}

/// Instructions of one call of the `row`th row. Callgrind numbers its files from 1.
fn per_call(out: &Path, row: usize) -> anyhow::Result<u64> {
    let first = row * 2 * TAKES + 1;
    let least = |from: usize| -> anyhow::Result<u64> {
        let totals = (0..TAKES).map(|take| total(out, from + 2 * take));
        Ok(totals.collect::<anyhow::Result<Vec<_>>>()?.into_iter().min().unwrap_or(0))
    };
    let (once, twice) = (least(first)?, least(first + 1)?);
    let calls = twice.checked_sub(once).context("more calls took fewer instructions")?;
    Ok((calls + CALLS / 2) / CALLS)
}

fn total(out: &Path, number: usize) -> anyhow::Result<u64> {
    let file = fs::read_to_string(out.with_extension(number.to_string()))
        .with_context(|| format!("callgrind's file number {number}"))?;
    let total = file.lines().find_map(|line| line.strip_prefix("totals: "));
    Ok(total.context("callgrind's file has no totals")?.trim().parse()?)
}
