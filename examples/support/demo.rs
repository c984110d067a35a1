//! What the chapters of the story share.

use std::sync::Arc;

use anyhow::Result;
use bulla::backend::{KeyStore, KeyWrapper};
use bulla::{Embedded, RecordContext, Scope};

use super::columns::Columns;
use super::report::{Figures, Story};
use super::sealing::context_of;
use super::table::{CellAt, Table};

/// A database with sealed records, its keys, and the story so far.
#[derive(Debug)]
pub(crate) struct Demo {
    pub(crate) story: Story,
    pub(crate) columns: Arc<Columns>,
    pub(crate) bulla: Embedded,
    pub(crate) scope: Scope,
    pub(crate) table: Table,
    pub(crate) figures: Figures,
}

impl Demo {
    /// Sealed cells to show: of the first two rows, in the first two sealed columns.
    pub(crate) fn some_cells(&self) -> Vec<CellAt> {
        let numbers = 1..=self.figures.rows.min(2).cast_signed();
        let columns = || self.columns.sealed.iter().take(2);
        numbers.flat_map(|number| columns().map(move |&column| CellAt { number, column })).collect()
    }

    /// Two cells that an attacker would swap: of one column if there are two rows.
    pub(crate) fn two_cells(&self) -> Option<(CellAt, CellAt)> {
        let cells = self.some_cells();
        let (one, others) = cells.split_first()?;
        let same_column = others.iter().find(|other| other.column == one.column);
        Some((*one, *same_column.or(others.first())?))
    }

    /// A sealed cell and the context that belongs to its place.
    pub(crate) async fn sealed_cell(&mut self, at: CellAt) -> Result<(Vec<u8>, RecordContext)> {
        let key = self.key_of(at.number).await?;
        let context = context_of(&self.columns, at.column, &key)?;
        Ok((self.table.cell(at).await?, context))
    }

    /// The key of a row.
    pub(crate) async fn key_of(&mut self, number: i64) -> Result<String> {
        self.table.text(CellAt { number, column: self.columns.key }).await
    }

    /// `row 1, email`
    pub(crate) fn name_of(&self, at: CellAt) -> String {
        format!("row {}, {}", at.number, self.columns.list([at.column]))
    }

    /// `1 under KEK version 1, 1 under KEK version 2`
    pub(crate) async fn wraps(&self) -> Result<String> {
        let usage = self.bulla.store.kek_usage(self.bulla.kek.kek()).await?;
        let counts = usage
            .iter()
            .map(|usage| format!("{} under KEK version {}", usage.wraps, usage.kek_version));
        Ok(counts.collect::<Vec<_>>().join(", "))
    }
}
