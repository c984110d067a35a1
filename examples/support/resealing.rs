//! Moves every sealed cell to the active DEK, beside whoever else reads and writes.

use anyhow::{Context, Result};
use bulla::{Item, RecordContext, Scope};

use super::columns::Columns;
use super::progress::Progress;
use super::sealing::context_of;
use super::table::{Cell, StoredRow, Swap, Table};

/// What resealing has come to.
#[derive(Debug, Default)]
pub(crate) struct Resealed {
    /// Cells that were stale.
    pub(crate) cells: u64,
    /// Rows that another writer was faster to change. Nothing of them is overwritten;
    /// what is stale there still, another run finds.
    pub(crate) rows_lost: u64,
}

/// Reseals what is stale of `rows` rows.
///
/// It goes through the table by row number, a page at a time, and each page is a
/// transaction of its own: after a crash it may start again anywhere.
pub(crate) async fn reseal_all(
    columns: &Columns,
    scope: &Scope,
    table: &mut Table,
    rows: u64,
) -> Result<Resealed> {
    let progress = Progress::new("resealing", rows);
    let mut resealed = Resealed::default();
    let mut after = 0;
    loop {
        let page = table.rows_after(after).await?;
        let Some(last) = page.last() else { return Ok(resealed) };
        after = last.number;
        let (swaps, cells) = reseal_page(columns, scope, page).await?;
        let asked = swaps.len() as u64;
        resealed.rows_lost += asked - table.swap(swaps).await?;
        resealed.cells += cells;
        progress.set(after.unsigned_abs());
    }
}

/// New envelopes for the rows that have stale cells, and how many of these there are.
async fn reseal_page(
    columns: &Columns,
    scope: &Scope,
    page: Vec<StoredRow>,
) -> Result<(Vec<Swap>, u64)> {
    let mut contexts: Vec<RecordContext> = Vec::new();
    for row in &page {
        let key = row.cells[columns.key].text();
        for &column in &columns.sealed {
            contexts.push(context_of(columns, column, key)?);
        }
    }
    let envelopes = page.iter().flat_map(|row| sealed_cells(columns, row));
    let items: Vec<Item<'_>> = envelopes.zip(&contexts).collect();
    let mut resealed = scope.reseal_many(&items).await.into_iter();

    let mut swaps = Vec::new();
    let mut stale = 0;
    for row in page {
        let stale_before = stale;
        let mut old_and_new = Vec::with_capacity(columns.sealed.len());
        for (column, cell) in row.cells.into_iter().enumerate() {
            let Cell::Sealed(old) = cell else { continue };
            let new = resealed.next().context("reseal_many answers every item")?;
            let new = new.with_context(|| {
                format!("row {}, column {:?}", row.number, columns.names[column])
            })?;
            stale += u64::from(new.is_some());
            let new = new.unwrap_or_else(|| old.clone());
            old_and_new.push((old, new));
        }
        if stale > stale_before {
            swaps.push(Swap { number: row.number, old_and_new });
        }
    }
    Ok((swaps, stale))
}

fn sealed_cells<'a>(columns: &'a Columns, row: &'a StoredRow) -> impl Iterator<Item = &'a [u8]> {
    columns.sealed.iter().map(|&column| row.cells[column].envelope())
}
