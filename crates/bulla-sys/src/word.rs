//! The word that a fork wipes.
//!
//! Two mechanisms set it to zero in the child, before the child can read it. A page
//! with `MADV_WIPEONFORK` (Linux 4.14) is zeroed by the kernel, whoever calls it. A
//! handler by `pthread_atfork` is run by the C library's `fork`. Where the page is not
//! to be had, the word is a static variable and the handler is all there is.
//!
//! # Safety argument
//! `WORD` only ever holds pointers made from `&'static AtomicU64`: to `ORDINARY`, or
//! to a page that `os` has handed over for good. Dereferencing it is therefore sound
//! at any time, in any thread, in a signal handler and in the child of a fork. The
//! handler does one such dereference and two atomic operations, all of which are
//! async-signal-safe.
#![allow(unsafe_code, reason = "dereferences an atomic pointer, registers a fork handler")]

use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU8, AtomicU64, Ordering};

use crate::os;

/// What the word holds before its first use and after a fork.
pub(crate) const WIPED: u64 = 0;

/// The word, where no page can be had.
static ORDINARY: AtomicU64 = AtomicU64::new(WIPED);
static WORD: AtomicPtr<AtomicU64> = AtomicPtr::new((&raw const ORDINARY).cast_mut());

/// The word of this process.
#[inline]
pub(crate) fn get() -> &'static AtomicU64 {
    // Acquire: the page was mapped before its address was published.
    let word = WORD.load(Ordering::Acquire);
    // SAFETY: see above, it comes from a `&'static AtomicU64`.
    unsafe { &*word }
}

/// What sets the word to zero in a child.
#[derive(Clone, Copy)]
pub(crate) struct Mechanisms(u8);

impl Mechanisms {
    const PAGE: u8 = 1;
    const HANDLER: u8 = 2;

    /// Whether there is the page, which notices copies made past the C library, too.
    pub(crate) fn page(self) -> bool {
        self.0 & Self::PAGE != 0
    }

    /// Whether there is one.
    pub(crate) fn any(self) -> bool {
        self.0 & (Self::PAGE | Self::HANDLER) != 0
    }
}

/// Puts both mechanisms in place, unless they are.
///
/// Does not wait (see the crate's documentation): threads that meet here each map a
/// page and register the handler. One page is kept; wiping twice does no harm.
pub(crate) fn protect() -> Mechanisms {
    const DONE: u8 = 4;
    static STATE: AtomicU8 = AtomicU8::new(0);
    let mut state = STATE.load(Ordering::Acquire);
    if state & DONE == 0 {
        // SAFETY: `wipe` is async-signal-safe, see above.
        if unsafe { os::in_forked_children(wipe) } {
            state |= Mechanisms::HANDLER;
        }
        if let Some(page) = os::word_wiped_on_fork() {
            state |= Mechanisms::PAGE;
            // The page of a thread that comes late is left mapped, never touched.
            let (before, after) = (ptr::from_ref(&ORDINARY), ptr::from_ref(page));
            let _ = WORD.compare_exchange(
                before.cast_mut(),
                after.cast_mut(),
                Ordering::AcqRel,
                Ordering::Relaxed,
            );
        }
        state = STATE.fetch_or(state | DONE, Ordering::AcqRel) | state;
    }
    Mechanisms(state)
}

extern "C" fn wipe() {
    get().store(WIPED, Ordering::Relaxed);
}
