//! bulla-manager.
#![forbid(unsafe_code)]
