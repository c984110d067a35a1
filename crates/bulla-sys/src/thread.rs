//! Numbers for threads.

use std::sync::atomic::{AtomicUsize, Ordering};

/// The number of this thread: 0, 1, 2, ... in the order in which threads ask. For dealing
/// threads to places, so that those that run at once seldom meet: `thread_number() % places`.
///
/// Numbers are not given out again. 0 in a thread that is being torn down.
#[inline]
#[must_use]
pub fn thread_number() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static NUMBER: usize = NEXT.fetch_add(1, Ordering::Relaxed);
    }
    NUMBER.try_with(|number| *number).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_keeps_its_number_and_shares_it_with_no_other() {
        let here = thread_number();
        let there = std::thread::spawn(thread_number).join().unwrap();
        assert_ne!(there, here);
        assert_eq!(thread_number(), here);
    }
}
