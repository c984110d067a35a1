//! For Miri, which knows neither `fork` nor `madvise` nor `mlock`, and for the unit
//! tests, which must not depend on how much the system lets them lock: there is no
//! fork, and memory from the heap counts as locked.
#![allow(unsafe_code, reason = "allocates memory")]

use std::alloc::{Layout, alloc_zeroed, dealloc};
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

pub(crate) fn reserve(bytes: usize) -> Option<NonNull<u8>> {
    // SAFETY: the slab's arena has more than zero bytes.
    NonNull::new(unsafe { alloc_zeroed(layout(bytes)?) })
}

/// # Safety
/// `address` comes from `reserve(bytes)` and is not used any more.
pub(crate) unsafe fn release(address: NonNull<u8>, bytes: usize) {
    if let Some(layout) = layout(bytes) {
        // SAFETY: it was allocated with this layout, says the caller.
        unsafe { dealloc(address.as_ptr(), layout) }
    }
}

pub(crate) fn lock(_address: NonNull<u8>, _bytes: usize) -> bool {
    true
}

pub(crate) fn glibc_version() -> Option<&'static str> {
    None
}

fn layout(bytes: usize) -> Option<Layout> {
    Layout::from_size_align(bytes, 4096).ok()
}
