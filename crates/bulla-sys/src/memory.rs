//! Secret bytes in memory that the system keeps to itself.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use zeroize::Zeroizing;

use crate::slab::{SLOTS, Slab, Slot};

static SLAB: Slab = Slab::new();
static DEGRADED: AtomicU64 = AtomicU64::new(0);

/// `N` secret bytes, at most 64, in locked memory where there is some.
///
/// Locked memory is not written to swap, on Linux not to core dumps either, and lies
/// between pages that cannot be accessed. The bytes are zero at first and wiped on
/// drop. They stay where they are when the value is moved, so build a key in place,
/// through [`as_bytes_mut`](Self::as_bytes_mut). Not `Clone`, and `Debug` shows
/// nothing.
///
/// There is room for 1024 of these, in 64 KiB. When all is taken, or the system does
/// not let the process lock more (`ulimit -l`), the bytes are on the heap: wiped on
/// drop all the same, but neither locked nor kept from dumps. [`lock_status`] counts
/// how often that was so.
///
/// # Forks
/// The child of a fork has a copy of the bytes and may use it; they are not wiped
/// there, for a child may well go on with its parent's keys. Locks are not inherited
/// (`mlock(2)`), so in the child the memory is locked again with the next allocation
/// in the same page; being kept from dumps is inherited.
///
/// # What it does not do
/// Hibernation writes locked memory to disk. Who may read the memory of the process
/// (a debugger, root) reads this too. Copies elsewhere, in registers and on the
/// stack, are not covered; see [`wipe_stack`](crate::wipe_stack).
///
/// ```
/// let mut key = bulla_sys::LockedBytes::<32>::zeroed();
/// key.as_bytes_mut().fill(7);
/// assert_eq!(key.as_bytes(), &[7; 32]);
/// ```
///
/// More than 64 bytes do not compile:
/// ```compile_fail
/// bulla_sys::LockedBytes::<65>::zeroed();
/// ```
pub struct LockedBytes<const N: usize>(Place<N>);

enum Place<const N: usize> {
    Locked(Slot<N>),
    Heap(Box<Zeroizing<[u8; N]>>),
}

impl<const N: usize> LockedBytes<N> {
    /// `N` zeros, to be overwritten. Always succeeds; [`is_locked`](Self::is_locked)
    /// says how well.
    #[must_use]
    pub fn zeroed() -> Self {
        Self(match SLAB.take() {
            Some(slot) => Place::Locked(slot),
            None => {
                DEGRADED.fetch_add(1, Ordering::Relaxed);
                Place::Heap(Box::new(Zeroizing::new([0; N])))
            }
        })
    }

    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; N] {
        match &self.0 {
            Place::Locked(slot) => slot.as_bytes(),
            Place::Heap(bytes) => bytes,
        }
    }

    /// The bytes, to be filled in place.
    #[must_use]
    pub fn as_bytes_mut(&mut self) -> &mut [u8; N] {
        match &mut self.0 {
            Place::Locked(slot) => slot.as_bytes_mut(),
            Place::Heap(bytes) => bytes,
        }
    }

    /// Whether the bytes are known to be in memory that is locked now. After a fork,
    /// and after [`notify_restored`](crate::notify_restored), not until the page was
    /// locked again.
    #[must_use]
    pub fn is_locked(&self) -> bool {
        match &self.0 {
            Place::Locked(slot) => slot.is_locked(),
            Place::Heap(_) => false,
        }
    }
}

/// Shows that there is a secret.
impl<const N: usize> fmt::Debug for LockedBytes<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LockedBytes([redacted])")
    }
}

/// How much secret memory is locked; see [`lock_status`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct LockStatus {
    /// [`LockedBytes`] that exist now and are in locked memory.
    pub locked: u64,
    /// How many there can be in locked memory at a time, if the system allows it.
    pub capacity: u64,
    /// [`LockedBytes`] made since the process started that went to the heap, as there
    /// was no locked memory for them.
    pub degraded: u64,
}

/// How much secret memory is locked, for warnings and metrics: as soon as `degraded`
/// is not 0, keys may reach swap, and core dumps where locked memory is kept out of them
/// (Linux; elsewhere they may in any case).
///
/// The numbers are read one after the other; while others allocate they need not
/// agree.
#[must_use]
pub fn lock_status() -> LockStatus {
    LockStatus {
        locked: SLAB.locked(),
        capacity: SLOTS as u64,
        degraded: DEGRADED.load(Ordering::Relaxed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_zero_at_first_and_keep_what_is_written() {
        let mut key = LockedBytes::<32>::zeroed();
        assert_eq!(key.as_bytes(), &[0; 32]);
        key.as_bytes_mut().fill(9);
        let moved = Box::new(key);
        assert_eq!(moved.as_bytes(), &[9; 32]);
    }

    #[test]
    fn when_locked_memory_is_exhausted_the_heap_serves() {
        let before = lock_status();
        let mut keys: Vec<_> = (0..=SLOTS).map(|_| LockedBytes::<16>::zeroed()).collect();
        for (tag, key) in keys.iter_mut().enumerate() {
            key.as_bytes_mut().fill(tag as u8);
        }
        for (tag, key) in keys.iter().enumerate() {
            assert_eq!(key.as_bytes(), &[tag as u8; 16]);
        }
        assert!(keys.iter().any(|key| !key.is_locked()));
        assert!(lock_status().degraded > before.degraded);
        assert_eq!(lock_status().capacity, 1024);
    }

    #[test]
    fn debug_shows_nothing() {
        let mut key = LockedBytes::<8>::zeroed();
        key.as_bytes_mut().fill(0x41);
        assert_eq!(format!("{key:?}"), "LockedBytes([redacted])");
    }

    #[test]
    fn bytes_may_cross_threads() {
        fn crosses_threads<T: Send + Sync>() {}
        crosses_threads::<LockedBytes<32>>();
    }
}
