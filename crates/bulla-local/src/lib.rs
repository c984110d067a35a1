//! bulla-local.
#![forbid(unsafe_code)]
