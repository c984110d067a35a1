//! Unix. What only Linux has is marked.
//!
//! # Safety argument
//! Mappings are made at addresses that the kernel chooses, so they replace nothing
//! that exists. Who gets one owns it: no pointer to it is kept here. Advice and locks
//! are given for such mappings only, and none of those used changes what the process
//! reads, but for the wiping in a child, of a word that is atomic.
#![allow(unsafe_code, reason = "system calls")]

use std::ffi::c_int;
use std::ptr::{self, NonNull};
use std::sync::atomic::AtomicU64;

pub(crate) const FORKS: bool = true;

#[cfg(any(target_os = "linux", target_os = "android"))]
pub(crate) fn word_wiped_on_fork() -> Option<&'static AtomicU64> {
    let bytes = page_bytes();
    let page = map(bytes, libc::PROT_READ | libc::PROT_WRITE)?;
    // Old versions of QEMU's user mode accept any advice and do nothing. BoringSSL and
    // AWS-LC tell them by the same question (crypto/fipsmodule/rand/fork_detect.c).
    let believes_anything = advise(page, bytes, -1);
    if believes_anything || !advise(page, bytes, libc::MADV_WIPEONFORK) {
        // SAFETY: mapped above, and nobody else knows of it.
        unsafe { release_pages(page, bytes) };
        return None;
    }
    // SAFETY: a page of zeros is aligned, large enough, and a valid `AtomicU64`; it is
    // never unmapped and accessed through this reference only.
    Some(unsafe { page.cast::<AtomicU64>().as_ref() })
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(crate) fn word_wiped_on_fork() -> Option<&'static AtomicU64> {
    None
}

/// # Safety
/// `handler` is async-signal-safe: the other threads may have held any lock when the
/// process forked.
pub(crate) unsafe fn in_forked_children(handler: extern "C" fn()) -> bool {
    // SAFETY: the handler may be called in a child, says the caller, and never goes
    // away. (When a library that contains it is unloaded, the C library drops it.)
    unsafe { libc::pthread_atfork(None, None, Some(handler)) == 0 }
}

/// A page on either side cannot be accessed: who runs over the end of a neighbouring
/// mapping does not end up in here, nor the other way round.
pub(crate) fn reserve(bytes: usize) -> Option<NonNull<u8>> {
    let guard = page_bytes();
    let whole = map(with_guards(bytes), libc::PROT_NONE)?;
    // SAFETY: within the mapping, which has a guard and more.
    let inner = unsafe { whole.add(guard) };
    // SAFETY: these pages are ours, and nothing refers to them yet.
    let opened =
        unsafe { libc::mprotect(inner.as_ptr().cast(), bytes, libc::PROT_READ | libc::PROT_WRITE) };
    if opened != 0 {
        // SAFETY: mapped above, and nobody else knows of it.
        unsafe { release_pages(whole, with_guards(bytes)) };
        return None;
    }
    // Without it, there is still memory that can be locked.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    advise(inner, bytes.next_multiple_of(guard), libc::MADV_DONTDUMP);
    Some(inner)
}

/// # Safety
/// `address` comes from `reserve(bytes)` and is not used any more.
pub(crate) unsafe fn release(address: NonNull<u8>, bytes: usize) {
    // SAFETY: `reserve` has put one page in front of it.
    let whole = unsafe { address.sub(page_bytes()) };
    // SAFETY: that is the whole mapping, which is not used any more.
    unsafe { release_pages(whole, with_guards(bytes)) };
}

/// Locks do not count: one more of the same pages changes nothing. The kernel locks
/// whole pages, all that the range touches.
pub(crate) fn lock(address: NonNull<u8>, bytes: usize) -> bool {
    // SAFETY: locking changes nothing that the process can read, whatever the range;
    // the kernel refuses one that is not mapped.
    unsafe { libc::mlock(address.as_ptr().cast(), bytes) == 0 }
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub(crate) fn glibc_version() -> Option<&'static str> {
    // SAFETY: returns a static string that ends in a zero.
    unsafe { std::ffi::CStr::from_ptr(libc::gnu_get_libc_version()) }.to_str().ok()
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(crate) fn glibc_version() -> Option<&'static str> {
    None
}

fn with_guards(bytes: usize) -> usize {
    bytes.next_multiple_of(page_bytes()) + 2 * page_bytes()
}

fn page_bytes() -> usize {
    // SAFETY: `sysconf` takes no pointers.
    let bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(bytes).ok().filter(|bytes| bytes.is_power_of_two()).unwrap_or(4096)
}

/// New zeroed pages.
fn map(bytes: usize, protection: c_int) -> Option<NonNull<u8>> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANON;
    // SAFETY: without MAP_FIXED, no existing mapping is touched.
    let address = unsafe { libc::mmap(ptr::null_mut(), bytes, protection, flags, -1, 0) };
    if address == libc::MAP_FAILED { None } else { NonNull::new(address.cast()) }
}

/// # Safety
/// A whole mapping made by [`map`], which is not used any more.
unsafe fn release_pages(address: NonNull<u8>, bytes: usize) {
    // SAFETY: by the caller. Should it fail, the pages stay mapped and unused.
    unsafe { libc::munmap(address.as_ptr().cast(), bytes) };
}

/// Whether the kernel takes `advice` on pages that [`map`] has made: none that throws
/// their content away in this process.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn advise(address: NonNull<u8>, bytes: usize, advice: c_int) -> bool {
    // SAFETY: the advice used in this file leaves this process's memory as it is.
    unsafe { libc::madvise(address.as_ptr().cast(), bytes, advice) == 0 }
}
