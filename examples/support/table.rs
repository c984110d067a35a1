//! The table `records` in SQLite. It knows nothing of keys: sealed cells are BLOBs.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, ensure};
use bulla::DekVersion;
use rusqlite::types::{FromSql, ToSqlOutput};
use rusqlite::{Connection, ErrorCode, OptionalExtension, ToSql, params_from_iter};
use tokio::task::spawn_blocking;

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

/// One connection to the database; the only one that writes. SQLite blocks, so whatever
/// happens on it happens on a thread for that ([`Table::run`]).
#[derive(Debug)]
pub(crate) struct Table {
    connection: Arc<Mutex<Connection>>,
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
        let open = || -> rusqlite::Result<_> {
            let connection = Connection::open(path)?;
            connection.pragma_update(None, "journal_mode", "WAL")?;
            // The data can be imported again. The key store is synced in full.
            connection.pragma_update(None, "synchronous", "NORMAL")?;
            Ok(connection)
        };
        let connection =
            open().with_context(|| format!("cannot make the database {}", path.display()))?;
        let connection = Arc::new(Mutex::new(connection));
        let table = Self { connection, columns, longest_row_bytes: 0 };
        let columns = &table.columns;
        let mut sql = format!("CREATE TABLE {TABLE} ({ROW_NUMBER} INTEGER PRIMARY KEY");
        for (at, name) in columns.sql.iter().enumerate() {
            let kind = if columns.is_sealed(at) { "BLOB" } else { "TEXT" };
            // Finds double keys without remembering them all.
            let unique = if at == columns.key { " UNIQUE" } else { "" };
            sql.push_str(&format!(", {name} {kind} NOT NULL{unique}"));
        }
        sql.push_str(") STRICT");
        table.run(move |connection| Ok(connection.execute_batch(&sql)?)).await?;
        Ok(table)
    }

    /// Does `work` where it may block. Dropping the future lets it finish.
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let connection = Arc::clone(&self.connection);
        let locked = move || work(&mut connection.lock().unwrap_or_else(PoisonError::into_inner));
        spawn_blocking(locked).await?
    }

    /// Writes new rows, all or none, in a transaction of their own. False if there is a
    /// key among them that another row has too.
    pub(crate) async fn insert(&mut self, batch: &mut Batch) -> Result<bool> {
        let longest = batch.rows.iter().map(StoredRow::bytes).max().unwrap_or(0);
        self.longest_row_bytes = self.longest_row_bytes.max(longest);
        let width = self.columns.sql.len() + 1;
        batch.bytes = 0;
        let rows = std::mem::take(&mut batch.rows);
        let insert = move |connection: &mut Connection| {
            let transaction = connection.transaction()?;
            for rows in rows.chunks(rows_in_statement(width)) {
                let sql = format!("INSERT INTO {TABLE} VALUES {}", tuples(rows.len(), width));
                let values = rows.iter().flat_map(|row| {
                    let cells = row.cells.iter().map(|cell| cell as &dyn ToSql);
                    std::iter::once(&row.number as &dyn ToSql).chain(cells)
                });
                transaction.prepare_cached(&sql)?.execute(params_from_iter(values))?;
            }
            transaction.commit()
        };
        self.run(move |connection| match insert(connection) {
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::ConstraintViolation) => {
                Ok(false)
            }
            result => result.map(|()| true).context("cannot write to the database"),
        })
        .await
    }

    /// The number of the row with this key.
    pub(crate) async fn number_of(&mut self, key: &str) -> Result<Option<i64>> {
        let key_column = &self.columns.sql[self.columns.key];
        let sql = format!("SELECT {ROW_NUMBER} FROM {TABLE} WHERE {key_column} = ?");
        let key = key.to_owned();
        let find = move |connection: &mut Connection| {
            Ok(connection.query_row(&sql, (key,), |row| row.get(0)).optional()?)
        };
        self.run(find).await
    }

    /// The rows after row `after`: as many as memory should hold, none at the end.
    /// However far it is into the table, this is one look-up by the primary key.
    pub(crate) async fn rows_after(&mut self, after: i64) -> Result<Vec<StoredRow>> {
        let limit = (PAGE_BYTES / self.longest_row_bytes.max(1)).clamp(1, PAGE_ROWS_MAX);
        let sql = format!(
            "SELECT {ROW_NUMBER}, {} FROM {TABLE} WHERE {ROW_NUMBER} > ? ORDER BY {ROW_NUMBER} LIMIT ?",
            self.columns.sql.join(", ")
        );
        let columns = Arc::clone(&self.columns);
        let read = move |connection: &mut Connection| {
            let mut statement = connection.prepare_cached(&sql)?;
            let rows = statement.query_map((after, limit as i64), |row| {
                let cell = |column: usize| match columns.is_sealed(column) {
                    true => row.get(column + 1).map(Cell::Sealed),
                    false => row.get(column + 1).map(Cell::Clear),
                };
                let cells = (0..columns.sql.len()).map(cell).collect::<Result<_, _>>()?;
                Ok(StoredRow { number: row.get(0)?, cells })
            })?;
            Ok(rows.collect::<Result<_, _>>()?)
        };
        self.run(read).await
    }

    /// Replaces the sealed cells of rows, in one transaction, where all of them are
    /// still the old ones. Returns how many rows that was: whoever wrote a row in the
    /// meantime has won, and nothing is overwritten.
    pub(crate) async fn swap(&mut self, swaps: Vec<Swap>) -> Result<u64> {
        let columns = Arc::clone(&self.columns);
        let width = 1 + 2 * columns.sealed.len();
        let swap = move |connection: &mut Connection| {
            let mut swapped = 0;
            let transaction = connection.transaction()?;
            for swaps in swaps.chunks(rows_in_statement(width)) {
                let sql = swap_statement(&columns, swaps.len());
                let values = swaps.iter().flat_map(|swap| {
                    let cells = swap.old_and_new.iter();
                    let cells = cells.flat_map(|(old, new)| [old as &dyn ToSql, new]);
                    std::iter::once(&swap.number as &dyn ToSql).chain(cells)
                });
                swapped += transaction.prepare_cached(&sql)?.execute(params_from_iter(values))?;
            }
            transaction.commit()?;
            Ok(swapped as u64)
        };
        self.run(swap).await
    }

    /// How many cells are sealed under another DEK version than `active`: bytes 8 to 11
    /// of an envelope, which no key is needed to read.
    pub(crate) async fn count_stale(&mut self, active: DekVersion) -> Result<u64> {
        let counts: Vec<_> = self.sealed_names().map(stale_count).collect();
        let sql = format!("SELECT {} FROM {TABLE}", counts.join(", "));
        let count = move |connection: &mut Connection| {
            let columns = 0..counts.len();
            let stale = connection.query_row(&sql, (active.get().to_be_bytes(),), |row| {
                columns.map(|column| row.get::<_, u32>(column).map(u64::from)).sum()
            });
            Ok(stale?)
        };
        self.run(count).await
    }

    /// [`count_stale`](Self::count_stale) for one column, as one would type it.
    pub(crate) fn stale_query(&self, active: DekVersion) -> String {
        let name = self.sealed_names().next().unwrap_or_default();
        let version = active.get();
        format!("SELECT count(*) FROM {TABLE} WHERE substr({name}, 9, 4) <> x'{version:08x}'")
    }

    /// Moves the write-ahead log into the database file and closes it.
    pub(crate) async fn close(self) -> Result<()> {
        let checkpoint = |connection: &mut Connection| {
            Ok(connection.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)")?)
        };
        self.run(checkpoint).await
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

impl ToSql for Cell {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        match self {
            Self::Clear(text) => text.to_sql(),
            Self::Sealed(envelope) => envelope.to_sql(),
        }
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
        let names = [one, other].map(|at| self.columns.sql[at.column].clone());
        let exchange = move |connection: &mut Connection| {
            let transaction = connection.transaction()?;
            for (name, (at, envelope)) in names.iter().zip([(one, second), (other, first)]) {
                let sql = format!("UPDATE {TABLE} SET {name} = ? WHERE {ROW_NUMBER} = ?");
                let changed = transaction.execute(&sql, (envelope, at.number))?;
                ensure!(changed == 1, "row {} is gone", at.number);
            }
            Ok(transaction.commit()?)
        };
        self.run(exchange).await
    }

    /// The envelope in a sealed cell.
    pub(crate) async fn cell(&mut self, at: CellAt) -> Result<Vec<u8>> {
        self.select(at).await
    }

    /// The text in a clear cell.
    pub(crate) async fn text(&mut self, at: CellAt) -> Result<String> {
        self.select(at).await
    }

    async fn select<T: FromSql + Send + 'static>(&self, at: CellAt) -> Result<T> {
        let name = &self.columns.sql[at.column];
        let sql = format!("SELECT {name} FROM {TABLE} WHERE {ROW_NUMBER} = ?");
        let select = move |connection: &mut Connection| {
            Ok(connection.query_row(&sql, (at.number,), |row| row.get(0))?)
        };
        self.run(select).await
    }
}
