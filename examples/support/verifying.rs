//! Opens every cell and compares it with the file that it came from.

use std::time::Instant;

use anyhow::Result;
use bulla::Scope;

use super::columns::Columns;
use super::csv_source::{CsvRow, CsvSource};
use super::progress::Progress;
use super::report::Latency;
use super::sealing::context_of;
use super::table::{Cell, StoredRow, Table};

/// What verifying has come to.
#[derive(Debug)]
pub(crate) struct Verified {
    pub(crate) cells: u64,
    pub(crate) mismatches: u64,
    /// Where the first mismatch is, and why.
    pub(crate) first_mismatch: Option<String>,
    pub(crate) latency: Latency,
}

impl Verified {
    fn mismatch(&mut self, describe: impl FnOnce() -> String) {
        self.mismatches += 1;
        self.first_mismatch.get_or_insert_with(describe);
    }
}

/// Reads file and table in step, a page of the table at a time.
pub(crate) async fn verify_all(
    csv: &mut CsvSource,
    columns: &Columns,
    scope: &Scope,
    table: &mut Table,
) -> Result<Verified> {
    let progress = Progress::new("verifying", csv.bytes().0);
    let mut verified =
        Verified { cells: 0, mismatches: 0, first_mismatch: None, latency: Latency::new()? };
    let mut after = 0;
    loop {
        let page = table.rows_after(after).await?;
        for stored in &page {
            after = stored.number;
            match csv.next_row()? {
                Some(row) => verify_row(row, stored, columns, scope, &mut verified).await?,
                None => verified.mismatch(|| format!("row {after} is not in the file")),
            }
        }
        if page.is_empty() {
            break;
        }
        progress.set(csv.bytes().1);
    }
    while let Some(row) = csv.next_row()? {
        verified.mismatch(|| format!("{}: the row is not in the table", row.place(columns.key)));
    }
    Ok(verified)
}

async fn verify_row(
    row: CsvRow<'_>,
    stored: &StoredRow,
    columns: &Columns,
    scope: &Scope,
    verified: &mut Verified,
) -> Result<()> {
    for (column, (field, cell)) in row.fields.iter().zip(&stored.cells).enumerate() {
        let envelope = match cell {
            Cell::Sealed(envelope) => envelope,
            Cell::Clear(text) => {
                if text != field {
                    verified.mismatch(|| format!("{}: the text differs", row.place(column)));
                }
                continue;
            }
        };
        let context = context_of(columns, column, &row.fields[columns.key])?;
        let start = Instant::now();
        let opened = scope.open(envelope, &context).await;
        verified.latency.record(start.elapsed());
        verified.cells += 1;
        match opened {
            Ok(opened) if opened.plaintext == field.as_bytes() => {}
            Ok(_) => verified.mismatch(|| format!("{}: the text differs", row.place(column))),
            Err(error) => verified.mismatch(|| format!("{}: {error}", row.place(column))),
        }
    }
    Ok(())
}
