//! Bulla's key store in SQL databases.
//!
//! [`SqliteKeyStore`] is the key store of one machine: a file of its own, shared by
//! any number of processes there, durable at every return.
//!
//! | crash, loss of power | everything that a call has confirmed is there |
//! |---|---|
//! | other processes | see a write as soon as the call that made it returns |
//! | backups | of the whole file; the loss of the store is the loss of the data |
//!
//! Wraps are useless without the KEKs that made them, so the file is not secret;
//! whoever can write it can still destroy keys, and with them data.
#![forbid(unsafe_code)]

mod error;
mod limits;
mod sqlite;

pub use sqlite::SqliteKeyStore;
