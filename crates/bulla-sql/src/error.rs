//! What went wrong beneath, in the words of the contract.

use std::fmt;

use bulla_backend::{StoreError, StoreErrorKind};

/// The request contradicts what the store holds, or exceeds a limit.
pub(crate) fn refused(message: &'static str) -> StoreError {
    StoreError::new(StoreErrorKind::Refused, message)
}

/// Later may do.
pub(crate) fn unavailable(message: &'static str) -> StoreError {
    StoreError::new(StoreErrorKind::Unavailable, message)
}

/// The set-up is wrong.
pub(crate) fn misconfigured(message: impl Into<String>) -> StoreError {
    StoreError::new(StoreErrorKind::Misconfigured, message)
}

/// A column holds what this library cannot have written there. Names the place,
/// not the value.
pub(crate) fn corrupt(table: &str, column: &str) -> StoreError {
    let message = format!(
        "a value in {table}.{column} cannot have been written by this library: \
         restore the database from a backup"
    );
    StoreError::new(StoreErrorKind::Corrupt, message)
}

/// The class of a failed statement.
pub(crate) fn from_sqlite(error: rusqlite::Error) -> StoreError {
    use StoreErrorKind::{Corrupt, Misconfigured};
    use rusqlite::Error as E;
    let (kind, message) = match &error {
        // The primary result code, without the bits that extend it.
        E::SqliteFailure(error, _) | E::SqlInputError { error, .. } => {
            from_code(error.extended_code & 0xff)
        }
        E::QueryReturnedNoRows
        | E::FromSqlConversionFailure(..)
        | E::IntegralValueOutOfRange(..)
        | E::InvalidColumnType(..)
        | E::Utf8Error(..) => {
            (Corrupt, "a row is missing or cannot have been written by this library")
        }
        _ => (Misconfigured, "the database does not do what this library asks for"),
    };
    StoreError::new(kind, message).with_source(error)
}

/// <https://www.sqlite.org/rescode.html>
fn from_code(code: i32) -> (StoreErrorKind, &'static str) {
    use StoreErrorKind::{Corrupt, Misconfigured, Unavailable};
    match code {
        5 | 6 | 15 => (Unavailable, "the database is locked"),
        7 => (Unavailable, "the database is out of memory"),
        9 => (Unavailable, "the statement was interrupted"),
        10 => (Unavailable, "the disk cannot be read or written"),
        13 => (Unavailable, "the disk is full"),
        3 | 8 | 23 => (Misconfigured, "no permission to write to the database"),
        14 => (Misconfigured, "the database file cannot be opened"),
        26 => (Misconfigured, "the file is not an SQLite database"),
        11 => (Corrupt, "the database file is damaged: restore it from a backup"),
        19 | 20 => (Corrupt, "a row contradicts the schema: it was changed from outside"),
        _ => (Misconfigured, "the database does not do what this library asks for"),
    }
}

/// For [`Result::map_err`] where a column is read.
pub(crate) fn corrupt_at<E: fmt::Debug>(
    table: &'static str,
    column: &'static str,
) -> impl FnOnce(E) -> StoreError {
    move |_| corrupt(table, column)
}
