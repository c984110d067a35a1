//! The table `records` in SQLite. It knows nothing of keys: sealed cells are BLOBs.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use bulla::DekVersion;
use sqlx::sqlite::{SqliteArguments, SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{
    AssertSqlSafe, ConnectOptions, Connection, Row, Sqlite, SqliteConnection, query::Query,
};

use super::columns::{Columns, ROW_NUMBER};

/// Name of the table; in the record context too.
pub(crate) const TABLE: &str = "records";

/// SQLite takes 32,766 variables in a statement.
const VARIABLES_MAX: usize = 32_766;
/// Rows in a statement at most. More of them gain nothing.
const STATEMENT_ROWS_MAX: usize = 64;
/// Rows, and bytes, that are held in memory at a time.
const PAGE_ROWS_MAX: usize = 1024;
const PAGE_BYTES: usize = 4 << 20;

/// One connection to the database; the only one that writes.
#[derive(Debug)]
pub(crate) struct Table {
    connection: SqliteConnection,
    columns: Arc<Columns>,
    longest_row_bytes: usize,
}

/// What lies in a cell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Cell {
    Clear(String),
    Sealed(Vec<u8>),
}

/// A row as it is stored: its number, counted from 1, and its cells in the order of the
/// file.
#[derive(Debug, Clone)]
pub(crate) struct StoredRow {
    pub(crate) number: i64,
    pub(crate) cells: Vec<Cell>,
}

/// New envelopes for the sealed cells of a row, each with the one it replaces.
#[derive(Debug)]
pub(crate) struct Swap {
    pub(crate) number: i64,
    pub(crate) old_and_new: Vec<(Vec<u8>, Vec<u8>)>,
}

/// Rows to write, until they are enough for a transaction.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) rows: Vec<StoredRow>,
    bytes: usize,
}

impl Batch {
    /// Adds a row.
    pub(crate) fn push(&mut self, row: StoredRow) {
        self.bytes += row.bytes();
        self.rows.push(row);
    }

    /// Whether it is time to write them.
    pub(crate) fn is_full(&self) -> bool {
        self.rows.len() >= PAGE_ROWS_MAX || self.bytes >= PAGE_BYTES
    }
}

impl StoredRow {
    fn bytes(&self) -> usize {
        let len = |cell: &Cell| match cell {
            Cell::Clear(text) => text.len(),
            Cell::Sealed(envelope) => envelope.len(),
        };
        self.cells.iter().map(len).sum()
    }
}

impl Cell {
    /// The envelope in a sealed cell; no bytes in another.
    pub(crate) fn envelope(&self) -> &[u8] {
        match self {
            Self::Sealed(envelope) => envelope,
            Self::Clear(_) => &[],
        }
    }

    /// The text in a clear cell; no text in another.
    pub(crate) fn text(&self) -> &str {
        match self {
            Self::Clear(text) => text,
            Self::Sealed(_) => "",
        }
    }
}

impl Table {
    /// Makes the database and the table.
    pub(crate) async fn create(path: &Path, columns: Arc<Columns>) -> Result<Self> {
        let connection = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            // The data can be imported again. The key store is synced in full.
            .synchronous(SqliteSynchronous::Normal)
            .row_buffer_size(PAGE_ROWS_MAX)
            .disable_statement_logging()
            .connect()
            .await
            .with_context(|| format!("cannot make the database {}", path.display()))?;
        let mut table = Self { connection, columns, longest_row_bytes: 0 };
        let columns = &table.columns;
        let mut sql = format!("CREATE TABLE {TABLE} ({ROW_NUMBER} INTEGER PRIMARY KEY");
        for (at, name) in columns.sql.iter().enumerate() {
            let kind = if columns.is_sealed(at) { "BLOB" } else { "TEXT" };
            // Finds double keys without remembering them all.
            let unique = if at == columns.key { " UNIQUE" } else { "" };
            sql.push_str(&format!(", {name} {kind} NOT NULL{unique}"));
        }
        sql.push_str(") STRICT");
        sqlx::query(AssertSqlSafe(sql)).execute(&mut table.connection).await?;
        Ok(table)
    }

    /// Writes new rows, all or none, in a transaction of their own. False if there is a
    /// key among them that another row has too.
    pub(crate) async fn insert(&mut self, batch: &mut Batch) -> Result<bool> {
        let longest = batch.rows.iter().map(StoredRow::bytes).max().unwrap_or(0);
        self.longest_row_bytes = self.longest_row_bytes.max(longest);
        let width = self.columns.sql.len() + 1;
        let mut transaction = self.connection.begin().await?;
        while !batch.rows.is_empty() {
            let count = batch.rows.len().min(rows_in_statement(width));
            let sql = format!("INSERT INTO {TABLE} VALUES {}", tuples(count, width));
            let mut query = sqlx::query(AssertSqlSafe(sql));
            for row in batch.rows.drain(..count) {
                query = row.cells.into_iter().fold(query.bind(row.number), bind_cell);
            }
            match query.execute(&mut *transaction).await {
                Ok(_) => {}
                Err(sqlx::Error::Database(error)) if error.is_unique_violation() => {
                    return Ok(false);
                }
                Err(error) => return Err(error).context("cannot write to the database"),
            }
        }
        transaction.commit().await.context("cannot write to the database")?;
        batch.bytes = 0;
        Ok(true)
    }

    /// The number of the row with this key.
    pub(crate) async fn number_of(&mut self, key: &str) -> Result<Option<i64>> {
        let key_column = &self.columns.sql[self.columns.key];
        let sql = format!("SELECT {ROW_NUMBER} FROM {TABLE} WHERE {key_column} = ?");
        let query = sqlx::query_scalar(AssertSqlSafe(sql)).bind(key.to_owned());
        Ok(query.fetch_optional(&mut self.connection).await?)
    }

    /// The rows after row `after`: as many as memory should hold, none at the end.
    /// However far it is into the table, this is one look-up by the primary key.
    pub(crate) async fn rows_after(&mut self, after: i64) -> Result<Vec<StoredRow>> {
        let limit = (PAGE_BYTES / self.longest_row_bytes.max(1)).clamp(1, PAGE_ROWS_MAX);
        let sql = format!(
            "SELECT {ROW_NUMBER}, {} FROM {TABLE} WHERE {ROW_NUMBER} > ? ORDER BY {ROW_NUMBER} LIMIT ?",
            self.columns.sql.join(", ")
        );
        let query = sqlx::query(AssertSqlSafe(sql)).bind(after).bind(limit as i64);
        let rows = query.fetch_all(&mut self.connection).await?;
        rows.iter()
            .map(|row| {
                let cell = |column: usize| match self.columns.is_sealed(column) {
                    true => row.try_get(column + 1).map(Cell::Sealed),
                    false => row.try_get(column + 1).map(Cell::Clear),
                };
                let cells = (0..self.columns.sql.len()).map(cell).collect::<Result<_, _>>()?;
                Ok(StoredRow { number: row.try_get(0)?, cells })
            })
            .collect()
    }

    /// Replaces the sealed cells of rows, in one transaction, where all of them are
    /// still the old ones. Returns how many rows that was: whoever wrote a row in the
    /// meantime has won, and nothing is overwritten.
    pub(crate) async fn swap(&mut self, mut swaps: Vec<Swap>) -> Result<u64> {
        let columns = Arc::clone(&self.columns);
        let width = 1 + 2 * columns.sealed.len();
        let mut swapped = 0;
        let mut transaction = self.connection.begin().await?;
        while !swaps.is_empty() {
            let count = swaps.len().min(rows_in_statement(width));
            let sql = AssertSqlSafe(swap_statement(&columns, count));
            let query = swaps.drain(..count).fold(sqlx::query(sql), |query, swap| {
                let cells = swap.old_and_new.into_iter();
                cells.fold(query.bind(swap.number), |query, (old, new)| query.bind(old).bind(new))
            });
            swapped += query.execute(&mut *transaction).await?.rows_affected();
        }
        transaction.commit().await?;
        Ok(swapped)
    }

    /// How many cells are sealed under another DEK version than `active`: bytes 8 to 11
    /// of an envelope, which no key is needed to read.
    pub(crate) async fn count_stale(&mut self, active: DekVersion) -> Result<u64> {
        let counts: Vec<_> = self.sealed_names().map(stale_count).collect();
        let sql = format!("SELECT {} FROM {TABLE}", counts.join(", "));
        let query = sqlx::query(AssertSqlSafe(sql)).bind(active.get().to_be_bytes().to_vec());
        let row = query.fetch_one(&mut self.connection).await?;
        let mut stale = 0;
        for column in 0..counts.len() {
            stale += row.try_get::<i64, _>(column)?.unsigned_abs();
        }
        Ok(stale)
    }

    /// [`count_stale`](Self::count_stale) for one column, as one would type it.
    pub(crate) fn stale_query(&self, active: DekVersion) -> String {
        let name = self.sealed_names().next().unwrap_or_default();
        let version = active.get();
        format!("SELECT count(*) FROM {TABLE} WHERE substr({name}, 9, 4) <> x'{version:08x}'")
    }

    /// Moves the write-ahead log into the database file and closes it.
    pub(crate) async fn close(mut self) -> Result<()> {
        sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(&mut self.connection).await?;
        Ok(self.connection.close().await?)
    }

    fn sealed_names(&self) -> impl Iterator<Item = &str> {
        self.columns.sealed.iter().map(|&column| self.columns.sql[column].as_str())
    }
}

fn stale_count(name: &str) -> String {
    format!("count(*) FILTER (WHERE substr({name}, 9, 4) <> ?1)")
}

/// Compare and swap: `o1`, `o2`, … are the old envelopes, `n1`, `n2`, … the new ones.
fn swap_statement(columns: &Columns, rows: usize) -> String {
    let sealed = || (1..).zip(columns.sealed.iter().map(|&column| &columns.sql[column]));
    let list = |item: &dyn Fn(usize, &str) -> String| {
        sealed().map(|(at, name)| item(at, name)).collect::<Vec<_>>().join(", ")
    };
    format!(
        "WITH swap({ROW_NUMBER}, {}) AS (VALUES {}) UPDATE {TABLE} SET {} FROM swap \
         WHERE {TABLE}.{ROW_NUMBER} = swap.{ROW_NUMBER} AND ({}) = ({})",
        list(&|at, _| format!("o{at}, n{at}")),
        tuples(rows, 1 + 2 * columns.sealed.len()),
        list(&|at, name| format!("{name} = swap.n{at}")),
        list(&|_, name| format!("{TABLE}.{name}")),
        list(&|at, _| format!("swap.o{at}")),
    )
}

fn bind_cell(
    query: Query<'_, Sqlite, SqliteArguments>,
    cell: Cell,
) -> Query<'_, Sqlite, SqliteArguments> {
    match cell {
        Cell::Clear(text) => query.bind(text),
        Cell::Sealed(envelope) => query.bind(envelope),
    }
}

/// `(?, ?), (?, ?)` and so on.
fn tuples(count: usize, width: usize) -> String {
    let tuple = format!("({})", vec!["?"; width].join(", "));
    vec![tuple.as_str(); count].join(", ")
}

fn rows_in_statement(width: usize) -> usize {
    (VARIABLES_MAX / width).clamp(1, STATEMENT_ROWS_MAX)
}

/// The place of one cell, for the demonstrations.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CellAt {
    pub(crate) number: i64,
    pub(crate) column: usize,
}

impl Table {
    /// Exchanges two sealed cells, as anybody can who may write to the database.
    pub(crate) async fn exchange(&mut self, one: CellAt, other: CellAt) -> Result<()> {
        let (first, second) = (self.cell(one).await?, self.cell(other).await?);
        let mut transaction = self.connection.begin().await?;
        for (at, envelope) in [(one, second), (other, first)] {
            let name = &self.columns.sql[at.column];
            let sql = format!("UPDATE {TABLE} SET {name} = ? WHERE {ROW_NUMBER} = ?");
            let query = sqlx::query(AssertSqlSafe(sql)).bind(envelope).bind(at.number);
            let changed = query.execute(&mut *transaction).await?.rows_affected();
            ensure!(changed == 1, "row {} is gone", at.number);
        }
        Ok(transaction.commit().await?)
    }

    /// The envelope in a sealed cell.
    pub(crate) async fn cell(&mut self, at: CellAt) -> Result<Vec<u8>> {
        let query = sqlx::query_scalar(self.select(at)).bind(at.number);
        Ok(query.fetch_one(&mut self.connection).await?)
    }

    /// The text in a clear cell.
    pub(crate) async fn text(&mut self, at: CellAt) -> Result<String> {
        let query = sqlx::query_scalar(self.select(at)).bind(at.number);
        Ok(query.fetch_one(&mut self.connection).await?)
    }

    fn select(&self, at: CellAt) -> AssertSqlSafe<String> {
        let name = &self.columns.sql[at.column];
        AssertSqlSafe(format!("SELECT {name} FROM {TABLE} WHERE {ROW_NUMBER} = ?"))
    }
}
