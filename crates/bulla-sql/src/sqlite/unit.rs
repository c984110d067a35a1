//! One transaction.

use bulla_backend::StoreError;
use rusqlite::types::FromSql;
use rusqlite::{Connection, Params, Row, Transaction, TransactionBehavior};

use crate::error::{corrupt, from_sqlite};

/// A transaction, with the time and the revision at which it began.
pub(super) struct Unit<'c> {
    transaction: Transaction<'c>,
    /// Milliseconds since 1970.
    pub(super) now: i64,
    /// Revision of the store; that of the mutation after [`bump`](Self::bump).
    pub(super) rev: i64,
    mutates: bool,
}

impl<'c> Unit<'c> {
    pub(super) fn begin(
        connection: &'c mut Connection,
        behavior: TransactionBehavior,
    ) -> Result<Self, StoreError> {
        let transaction = connection.transaction_with_behavior(behavior).map_err(from_sqlite)?;
        let mut unit = Self { transaction, now: 0, rev: 0, mutates: false };
        (unit.rev, unit.now) = unit
            .first(
                "SELECT rev, CAST(round(unixepoch('now', 'subsec') * 1000) AS INTEGER)
                 FROM store_meta",
                (),
                |row| Ok((row.get(0).map_err(from_sqlite)?, row.get(1).map_err(from_sqlite)?)),
            )?
            .ok_or_else(|| corrupt("store_meta", "only_row"))?;
        Ok(unit)
    }

    /// Gives the mutation that this transaction is a revision of its own. Those of
    /// committed transactions are in the order of the commits, as there is one
    /// writer at a time.
    pub(super) fn bump(&mut self) -> Result<(), StoreError> {
        self.rev += 1;
        self.mutates = true;
        self.execute("UPDATE store_meta SET rev = ?1", (self.rev,)).map(drop)
    }

    /// Commits what has a revision. Without one there is nothing worth keeping.
    /// (Dropped, a transaction is rolled back.)
    pub(super) fn end(self) -> Result<(), StoreError> {
        match self.mutates {
            true => self.transaction.commit(),
            false => self.transaction.rollback(),
        }
        .map_err(from_sqlite)
    }

    /// Returns how many rows it changed.
    pub(super) fn execute(&self, sql: &str, params: impl Params) -> Result<usize, StoreError> {
        let statement = self.transaction.prepare_cached(sql);
        statement.and_then(|mut statement| statement.execute(params)).map_err(from_sqlite)
    }

    /// Every row of a query.
    pub(super) fn all<T>(
        &self,
        sql: &str,
        params: impl Params,
        read: impl Fn(&Row<'_>) -> Result<T, StoreError>,
    ) -> Result<Vec<T>, StoreError> {
        let mut statement = self.transaction.prepare_cached(sql).map_err(from_sqlite)?;
        let mut rows = statement.query(params).map_err(from_sqlite)?;
        let mut found = Vec::new();
        while let Some(row) = rows.next().map_err(from_sqlite)? {
            found.push(read(row)?);
        }
        Ok(found)
    }

    /// The first row of a query, if there is one.
    pub(super) fn first<T>(
        &self,
        sql: &str,
        params: impl Params,
        read: impl FnOnce(&Row<'_>) -> Result<T, StoreError>,
    ) -> Result<Option<T>, StoreError> {
        let mut statement = self.transaction.prepare_cached(sql).map_err(from_sqlite)?;
        let mut rows = statement.query(params).map_err(from_sqlite)?;
        rows.next().map_err(from_sqlite)?.map(read).transpose()
    }

    /// The value in the one column of the one row that there is.
    pub(super) fn scalar<T: FromSql>(
        &self,
        sql: &str,
        params: impl Params,
    ) -> Result<T, StoreError> {
        let statement = self.transaction.prepare_cached(sql);
        statement
            .and_then(|mut statement| statement.query_row(params, |row| row.get(0)))
            .map_err(from_sqlite)
    }
}
