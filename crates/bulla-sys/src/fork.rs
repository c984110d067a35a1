//! Generations: which copy of the process this is.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::{os, word};

/// The generation that begins next. In ordinary memory: a copy of the process takes
/// it along and goes on from there, so along any line of descent generations only
/// grow.
static NEXT: AtomicU64 = AtomicU64::new(1);

/// The generation of this process: a number that changes when the process turns out
/// to be a copy, and with [`notify_restored`]. Never 0.
///
/// What must not be used by two copies of a process, such as a nonce counter, is
/// kept together with the generation in which it was made, and given up when the two
/// differ. Read the generation before each use; it costs two atomic loads, 1 to 2 ns.
///
/// A copy made by `fork`, or by `clone` without `CLONE_VM`, has a generation that is
/// higher than every one that its original had before. That is all: the copies of one
/// process may have equal generations, and so may the original later, so generations
/// mean nothing outside the process. Threads share theirs, as does a child of
/// `vfork`, which borrows its parent's memory, counters included.
///
/// # Limits
/// Machines that are cloned and processes that are restored from a checkpoint are
/// not noticed. A signal handler that forks, and whose child returns from it, makes
/// the child go on in the middle of whatever was interrupted, possibly behind the
/// comparison.
///
/// ```
/// let made_in = bulla_sys::generation();
/// bulla_sys::notify_restored();
/// assert_ne!(bulla_sys::generation(), made_in);
/// ```
#[inline]
#[must_use]
pub fn generation() -> u64 {
    // Relaxed: of this word only its value is used, and a thread that learns of a new
    // generation from another thread is ordered behind it by how it learns.
    match word::get().load(Ordering::Relaxed) {
        word::WIPED => begin(),
        generation => generation,
    }
}

/// First use, or first use in a copy.
#[cold]
fn begin() -> u64 {
    word::protect();
    let fresh = NEXT.fetch_add(1, Ordering::Relaxed);
    // Threads that meet here agree on the first value.
    match word::get().compare_exchange(word::WIPED, fresh, Ordering::Relaxed, Ordering::Relaxed) {
        Ok(_) => fresh,
        Err(current) => current,
    }
}

/// Begins a new generation: call it after the machine was cloned or restored from a
/// snapshot, or the process from a checkpoint.
///
/// Everything that is bound to a generation is thereby given up, in all threads, with
/// the first use that begins after this call has returned. What was under way when the
/// snapshot was taken is finished as it began.
pub fn notify_restored() {
    word::protect();
    let fresh = NEXT.fetch_add(1, Ordering::Relaxed);
    // Two calls at once must not make the generation go back.
    word::get().fetch_max(fresh, Ordering::Relaxed);
}

/// Whether [`generation`] notices forks: at least one mechanism is in place, or the
/// system has no fork.
///
/// Where only `pthread_atfork` is in place, a fork that goes past the C library, by a raw
/// system call, is not noticed: on systems other than Linux, and on a Linux that wipes no
/// pages (before 4.14, and some emulators of it).
#[must_use]
pub fn detects_forks() -> bool {
    !os::FORKS || word::protect().any()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    #[test]
    fn a_generation_is_never_zero() {
        assert_ne!(generation(), 0);
    }

    // The others run at the same time and change it too, so nothing here is compared
    // for equality; tests/fork.rs does that.
    #[test]
    fn a_restored_process_has_a_higher_generation() {
        for _ in 0..100 {
            let before = generation();
            notify_restored();
            assert!(generation() > before);
        }
    }

    #[test]
    fn a_generation_that_a_thread_has_begun_is_seen_by_the_thread_that_joins_it() {
        for _ in 0..20 {
            let before = generation();
            let began = thread::spawn(|| {
                notify_restored();
                generation()
            });
            let began = began.join().unwrap();
            assert!(began > before);
            assert!(generation() >= began);
        }
    }

    #[test]
    fn generations_never_go_back() {
        const ROUNDS: usize = if cfg!(miri) { 100 } else { 100_000 };
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| (0..ROUNDS).for_each(|_| notify_restored()));
                scope.spawn(|| {
                    let mut last = 0;
                    for _ in 0..ROUNDS {
                        let now = generation();
                        assert!(now >= last);
                        last = now;
                    }
                });
            }
        });
    }
}
