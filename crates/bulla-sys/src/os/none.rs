//! Windows, WebAssembly and others: no fork, no locked memory.
#![allow(unsafe_code, reason = "declares the unsafe functions that other systems need")]

use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;

pub(crate) const FORKS: bool = false;

pub(crate) fn word_wiped_on_fork() -> Option<&'static AtomicU64> {
    None
}

/// # Safety
/// As on Unix; nothing is called here.
pub(crate) unsafe fn in_forked_children(_handler: extern "C" fn()) -> bool {
    false
}

pub(crate) fn reserve(_bytes: usize) -> Option<NonNull<u8>> {
    None
}

/// # Safety
/// As on Unix; nothing was reserved here.
pub(crate) unsafe fn release(_address: NonNull<u8>, _bytes: usize) {}

pub(crate) fn lock(_address: NonNull<u8>, _bytes: usize) -> bool {
    false
}

pub(crate) fn glibc_version() -> Option<&'static str> {
    None
}
