//! From the CSV file into the database, sealed on the way.

use std::collections::HashMap;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use bulla::{ContextError, RecordContext, Scope};

use super::columns::Columns;
use super::csv_source::{CsvRow, CsvSource};
use super::progress::Progress;
use super::report::Latency;
use super::table::{Batch, Cell, StoredRow, TABLE, Table};

/// What sealing a file has come to.
#[derive(Debug)]
pub(crate) struct Sealed {
    pub(crate) rows: u64,
    pub(crate) cells: u64,
    pub(crate) plaintext_bytes: u64,
    pub(crate) envelope_bytes: u64,
    pub(crate) latency: Latency,
}

/// What a cell is bound to. An envelope that is moved to another table, column or row
/// does not open there. These are the names that the application uses, which stay when
/// the database is reorganised.
pub(crate) fn context_of(
    columns: &Columns,
    column: usize,
    key: &str,
) -> Result<RecordContext, ContextError> {
    let name = columns.names[column].as_str();
    RecordContext::new([("table", TABLE), ("column", name), ("row", key)])
}

/// Reads `csv` to its end and writes every row, with the chosen columns sealed.
pub(crate) async fn seal_all(
    csv: &mut CsvSource,
    columns: &Columns,
    scope: &Scope,
    table: &mut Table,
) -> Result<Sealed> {
    let progress = Progress::new("sealing", csv.bytes().0);
    let mut sealed = Sealed {
        rows: 0,
        cells: 0,
        plaintext_bytes: 0,
        envelope_bytes: 0,
        latency: Latency::new()?,
    };
    let mut batch = Batch::default();
    // Line and key of each row in the batch, to name them if a key turns up twice.
    let mut keys = Vec::new();
    while let Some(row) = csv.next_row()? {
        let key = &row.fields[columns.key];
        ensure!(!key.is_empty(), "{}: the row has no key", row.place(columns.key));
        keys.push((row.line, key.to_owned()));
        sealed.rows += 1;
        let number = i64::try_from(sealed.rows)?;
        let cells = seal_row(row, columns, scope, &mut sealed).await?;
        batch.push(StoredRow { number, cells });
        if batch.is_full() {
            write(&mut batch, &mut keys, csv, columns, table).await?;
            progress.set(csv.bytes().1);
        }
    }
    write(&mut batch, &mut keys, csv, columns, table).await?;
    Ok(sealed)
}

/// Seals the chosen fields of a row; the others stay as they are.
async fn seal_row(
    row: CsvRow<'_>,
    columns: &Columns,
    scope: &Scope,
    sealed: &mut Sealed,
) -> Result<Vec<Cell>> {
    let mut cells = Vec::with_capacity(row.fields.len());
    for (column, field) in row.fields.iter().enumerate() {
        if !columns.is_sealed(column) {
            cells.push(Cell::Clear(field.to_owned()));
            continue;
        }
        let context = context_of(columns, column, &row.fields[columns.key]);
        let context = context.map_err(|error| {
            // The key that names the row may be what is too long for a context.
            let of_key = matches!(&error, ContextError::ValueTooLong { key, .. } if key == "row");
            let place = row.place(if of_key { columns.key } else { column });
            anyhow::Error::new(error).context(place)
        })?;
        let start = Instant::now();
        let envelope = scope.seal(field.as_bytes(), &context).await;
        sealed.latency.record(start.elapsed());
        let envelope = envelope.with_context(|| row.place(column))?;
        sealed.cells += 1;
        sealed.plaintext_bytes += field.len() as u64;
        sealed.envelope_bytes += envelope.len() as u64;
        cells.push(Cell::Sealed(envelope));
    }
    Ok(cells)
}

/// Writes the batch, and explains it if there is a key twice.
async fn write(
    batch: &mut Batch,
    keys: &mut Vec<(u64, String)>,
    csv: &CsvSource,
    columns: &Columns,
    table: &mut Table,
) -> Result<()> {
    if table.insert(batch).await? {
        keys.clear();
        return Ok(());
    }
    let mut seen = HashMap::new();
    for (line, key) in keys.iter() {
        let first = match table.number_of(key).await? {
            Some(number) => Some(csv.line_of_row(number)?),
            None => seen.insert(key, *line),
        };
        if let Some(first) = first {
            bail!(
                "{}: the key {key:?} names the row in line {first} already",
                csv.place(*line, columns.key)
            );
        }
    }
    bail!("the database refuses a key of which there is no other");
}
