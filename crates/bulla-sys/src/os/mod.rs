//! The system calls, one module per kind of system. Each has the same functions:
//!
//! - `FORKS`: whether the system has `fork`.
//! - `word_wiped_on_fork()`: a word that the kernel zeroes in the child of a fork,
//!   initially zero, valid for good; `None` where there is no such thing.
//! - `in_forked_children(handler)`: has `handler` called in the children of forks
//!   before they go on, and whether that worked.
//! - `reserve(bytes)`: zeroed memory, aligned to 4096 bytes, readable and writable,
//!   kept from core dumps where possible; `None` where there is none to be locked.
//! - `release(address, bytes)`: gives it back.
//! - `lock(address, bytes)`: keeps it from swap, and whether that worked.
//! - `glibc_version()`: such as "2.41", if that is the C library.

#[cfg(any(test, miri))]
#[path = "simulated.rs"]
mod this;

#[cfg(all(unix, not(any(test, miri))))]
#[path = "unix.rs"]
mod this;

#[cfg(not(any(unix, test, miri)))]
#[path = "none.rs"]
mod this;

pub(crate) use this::{
    FORKS, glibc_version, in_forked_children, lock, release, reserve, word_wiped_on_fork,
};
