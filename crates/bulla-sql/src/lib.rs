//! bulla-sql.
#![forbid(unsafe_code)]
