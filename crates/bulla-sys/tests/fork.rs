//! What forks do to generations and to locked memory.
//!
//! A program of its own, without the test harness: the harness runs threads, and the
//! child of a process with threads may do little. The first checks run single-threaded;
//! one at the end starts threads on purpose.
//!
//! Children are made in two ways. `fork` of the C library runs the handlers of
//! `pthread_atfork`. A bare `clone` system call does not, so what is noticed then was
//! noticed by the page that the kernel wipes. That the page is what notices is shown by
//! running the program once more without a page: there the bare call goes unnoticed.
#![allow(clippy::print_stdout, reason = "reports as libtest does")]
#![allow(clippy::unwrap_used, reason = "tests")]
#![allow(unsafe_code, reason = "forks")]

#[cfg(not(all(unix, not(miri))))]
fn main() {
    println!("\nrunning 0 tests\n\ntest result: ok. 0 passed; 0 failed; no fork here");
}

#[cfg(all(unix, not(miri)))]
fn main() {
    unix::main();
}

#[cfg(all(unix, not(miri)))]
mod copies;

#[cfg(all(unix, not(miri)))]
mod unix {
    use std::io::{PipeReader, Read, Write, pipe};
    use std::panic::catch_unwind;
    use std::process::Command;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;

    use super::copies::{Child, Copy, WAYS};
    use libtest_mimic::{Arguments, Trial};

    use bulla_sys::{LockedBytes, detects_forks, generation, notify_restored};

    type Check = (&'static str, fn());

    /// Set for the run of this program in which no page is to be had.
    #[cfg(target_os = "linux")]
    const WITHOUT_PAGE: &str = "BULLA_SYS_TEST_WITHOUT_PAGE";

    const CHECKS: &[Check] = &[
        ("forks_are_detected", forks_are_detected),
        ("a_forked_child_has_another_generation", a_forked_child_has_another_generation),
        ("a_grandchild_has_a_third_generation", a_grandchild_has_a_third_generation),
        ("a_child_that_never_looked_hides_no_fork", a_child_that_never_looked_hides_no_fork),
        ("a_child_can_be_restored_too", a_child_can_be_restored_too),
        ("starting_a_program_changes_nothing", starting_a_program_changes_nothing),
        ("a_child_has_its_parents_bytes", a_child_has_its_parents_bytes),
        ("a_child_wipes_its_own_copy_only", a_child_wipes_its_own_copy_only),
        #[cfg(target_os = "linux")]
        ("without_a_page_the_handler_alone_detects_forks", without_a_page_the_handler_detects),
        // Last, as it starts threads.
        ("a_child_waits_for_no_thread_of_its_parent", a_child_waits_for_no_thread_of_its_parent),
    ];

    pub(super) fn main() {
        #[cfg(target_os = "linux")]
        if std::env::var_os(WITHOUT_PAGE).is_some() {
            return without_page();
        }
        let mut args = Arguments::from_args();
        // In this thread: a process with others must not be forked.
        args.test_threads = Some(1);
        let trial = |(name, check): &Check| {
            let check = *check;
            Trial::test(*name, move || {
                check();
                Ok(())
            })
        };
        libtest_mimic::run(&args, CHECKS.iter().map(trial).collect()).exit();
    }

    fn forks_are_detected() {
        assert!(detects_forks());
        assert_ne!(generation(), 0);
    }

    fn a_forked_child_has_another_generation() {
        for copy in WAYS {
            let parents = generation();
            let childs = in_child(*copy, generation);
            assert!(childs > parents, "{copy:?}: {childs} after {parents}");
            assert_eq!(generation(), parents, "{copy:?}: the parent's has changed");
        }
    }

    fn a_grandchild_has_a_third_generation() {
        for copy in WAYS {
            let parents = generation();
            let [childs, grandchilds] = in_child_with(*copy, || {
                let childs = generation();
                [childs, in_child(*copy, generation)]
            });
            assert!(parents < childs && childs < grandchilds, "{copy:?}");
            assert_eq!(generation(), parents);
        }
    }

    fn a_child_that_never_looked_hides_no_fork() {
        for copy in WAYS {
            let parents = generation();
            assert!(in_child(*copy, || in_child(*copy, generation)) > parents, "{copy:?}");
        }
    }

    fn a_child_can_be_restored_too() {
        for copy in WAYS {
            let parents = generation();
            let [childs, restored] = in_child_with(*copy, || {
                let childs = generation();
                notify_restored();
                [childs, generation()]
            });
            assert!(parents < childs && childs < restored, "{copy:?}");
            // Without looking before.
            let restored = in_child(*copy, || {
                notify_restored();
                generation()
            });
            assert!(restored > parents, "{copy:?}");
            assert_eq!(generation(), parents);
        }
    }

    /// `posix_spawn` borrows the parent's memory for a while, as `vfork` does. A
    /// command with a working directory may fork instead; that child is not us.
    fn starting_a_program_changes_nothing() {
        let before = generation();
        assert!(Command::new("true").status().unwrap().success());
        assert!(Command::new("true").current_dir("/").status().unwrap().success());
        assert_eq!(generation(), before);
    }

    fn a_child_has_its_parents_bytes() {
        let mut key = LockedBytes::<32>::zeroed();
        key.as_bytes_mut().fill(0x42);
        for copy in WAYS {
            let [first, inherited_lock, new_lock, lock_again] = in_child_with(*copy, || {
                let inherited_lock = key.is_locked();
                let new = LockedBytes::<32>::zeroed();
                let first = u64::from(key.as_bytes()[0]);
                [first, inherited_lock.into(), new.is_locked().into(), key.is_locked().into()]
            });
            assert_eq!(first, 0x42, "{copy:?}");
            assert_eq!(inherited_lock, 0, "{copy:?}: locks are not inherited");
            if key.is_locked() {
                assert_eq!((new_lock, lock_again), (1, 1), "{copy:?}: not locked again");
            }
        }
    }

    fn a_child_wipes_its_own_copy_only() {
        for copy in WAYS {
            let mut key = LockedBytes::<32>::zeroed();
            key.as_bytes_mut().fill(0x43);
            let mut key = Some(key);
            in_child(*copy, || {
                drop(key.take());
                0
            });
            assert_eq!(key.unwrap().as_bytes(), &[0x43; 32], "{copy:?}");
        }
    }

    /// Threads claim and give back all the time, so that forks fall into the middle of
    /// it. Children that hang are ended by an alarm, which fails the check.
    fn a_child_waits_for_no_thread_of_its_parent() {
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    while !stop.load(Ordering::Relaxed) {
                        let keys = [(); 70].map(|()| LockedBytes::<64>::zeroed());
                        assert!(keys.iter().all(|key| key.as_bytes() == &[0; 64]));
                    }
                });
            }
            // Whatever happens, the threads end.
            let forks = catch_unwind(|| {
                for _ in 0..200 {
                    let parents = generation();
                    let childs = in_child(Copy::Fork, || {
                        // SAFETY: takes no pointers.
                        unsafe { libc::alarm(10) };
                        let keys = [(); 100].map(|()| LockedBytes::<64>::zeroed());
                        assert!(keys.iter().all(|key| key.as_bytes() == &[0; 64]));
                        generation()
                    });
                    assert!(childs > parents);
                }
            });
            stop.store(true, Ordering::Relaxed);
            assert!(forks.is_ok());
        });
    }

    #[cfg(target_os = "linux")]
    fn without_a_page_the_handler_detects() {
        let program = std::env::current_exe().unwrap();
        let run = Command::new(program).env(WITHOUT_PAGE, "1").output().unwrap();
        assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    }

    /// The positive control. In a process of its own, as a page once had stays.
    #[cfg(target_os = "linux")]
    fn without_page() {
        let parents = with_nothing_left_to_map(generation);
        assert!(detects_forks());
        assert!(in_child(Copy::Fork, generation) > parents);
        assert_eq!(generation(), parents);
        assert!(in_child(Copy::Fork, || in_child(Copy::Fork, generation)) > parents);
        assert_eq!(
            in_child(Copy::BareCall, generation),
            parents,
            "noticed without page and handler: then this program proves nothing about the page"
        );
    }

    /// Calls `f` while the process may not have more memory than it has.
    #[cfg(target_os = "linux")]
    fn with_nothing_left_to_map<T>(f: impl FnOnce() -> T) -> T {
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: `limit` is a place for an rlimit.
        assert_eq!(unsafe { libc::getrlimit(libc::RLIMIT_AS, &mut limit) }, 0);
        let none = libc::rlimit { rlim_cur: 0, ..limit };
        // SAFETY: `none` is an rlimit.
        assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_AS, &none) }, 0);
        let result = f();
        // SAFETY: `limit` is an rlimit.
        assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_AS, &limit) }, 0);
        result
    }

    /// What `f` returns in a copy of this process.
    fn in_child(copy: Copy, f: impl FnOnce() -> u64) -> u64 {
        let [result] = in_child_with(copy, || [f()]);
        result
    }

    fn in_child_with<const N: usize>(copy: Copy, f: impl FnOnce() -> [u64; N]) -> [u64; N] {
        let (reader, mut writer) = pipe().unwrap();
        let child = Child::start(copy, move || {
            f().iter().for_each(|word| writer.write_all(&word.to_ne_bytes()).unwrap());
        });
        let words = read_words(reader);
        child.wait();
        words
    }

    fn read_words<const N: usize>(mut reader: PipeReader) -> [u64; N] {
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes).unwrap();
        let mut words =
            bytes.chunks_exact(8).map(|word| u64::from_ne_bytes(word.try_into().unwrap()));
        let answer = [(); N].map(|()| words.next().unwrap_or_default());
        assert_eq!(bytes.len(), 8 * N, "the child has not answered");
        answer
    }
}
