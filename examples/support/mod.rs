//! What the quickstart needs besides Bulla.
//!
//! | module | what to copy from it |
//! |---|---|
//! | [`sealing`] | record contexts; sealing on the way into a database |
//! | [`resealing`] | moving sealed cells to a new DEK in bulk, beside running writers |
//! | [`verifying`] | opening everything once |
//! | [`table`] | sealed cells in SQL: BLOBs, counting stale ones, compare-and-swap |
//! | [`place`] | where an embedded KEK gets its unlock secret from |
//! | [`csv_source`], [`framing`], [`columns`] | reading CSV files that others wrote |
//! | [`args`], [`demo`], [`progress`], [`report`] | the command line and what it prints |

pub(crate) mod args;
pub(crate) mod columns;
pub(crate) mod csv_source;
pub(crate) mod demo;
pub(crate) mod framing;
pub(crate) mod place;
pub(crate) mod progress;
pub(crate) mod report;
pub(crate) mod resealing;
pub(crate) mod sealing;
pub(crate) mod table;
pub(crate) mod verifying;
