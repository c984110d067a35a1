//! Ways to take the protection away, for tests that show what it protects from.
//! Behind the feature `testing`, which nothing but such tests may turn on.

use std::sync::atomic::Ordering;

use crate::word;

/// Makes this process believe that its generation is `generation`: a forked child that
/// is given its parent's goes on with its parent's counters, and **repeats nonces**.
///
/// # Panics
/// If `generation` is 0, which says that there is none.
pub fn pretend_generation(generation: u64) {
    assert_ne!(generation, word::WIPED, "a generation is never 0");
    word::get().store(generation, Ordering::Relaxed);
}
