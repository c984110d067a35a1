//! Copies of this process, made in two ways.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// How to copy the process.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Copy {
    /// `fork` of the C library, with its handlers.
    Fork,
    /// The system call that it makes, without them.
    #[cfg(target_os = "linux")]
    BareCall,
}

pub(crate) const WAYS: &[Copy] = &[
    Copy::Fork,
    #[cfg(target_os = "linux")]
    Copy::BareCall,
];

/// A child of this process, to be waited for.
pub(crate) struct Child(libc::pid_t);

impl Child {
    /// Does `work` in a copy of this process, which then ends.
    pub(crate) fn start(copy: Copy, work: impl FnOnce()) -> Self {
        let child = match copy {
            // SAFETY: the child does its work and ends. Allocating is fine even if there are
            // threads: the C libraries look after their allocators in `fork`.
            Copy::Fork => unsafe { libc::fork() },
            #[cfg(target_os = "linux")]
            // SAFETY: as before, and there are no threads. No stack and no thread area of
            // its own: the child goes on with copies of its parent's. (The order of
            // arguments differs between architectures; all but the flags are zero.)
            Copy::BareCall => unsafe {
                libc::syscall(libc::SYS_clone, libc::c_long::from(libc::SIGCHLD), 0, 0, 0, 0)
                    as libc::pid_t
            },
        };
        assert!(child >= 0, "{copy:?} failed");
        if child == 0 {
            // One that hangs is killed, and thereby fails.
            // SAFETY: a system call.
            unsafe { libc::alarm(120) };
            let done = catch_unwind(AssertUnwindSafe(work));
            // SAFETY: ends the process at once; nothing of the parent's is flushed twice.
            unsafe { libc::_exit(i32::from(done.is_err())) };
        }
        Self(child)
    }

    /// Waits until the child has ended, which must have done its work.
    pub(crate) fn wait(self) {
        let mut status = 0;
        // SAFETY: `status` is a place for an int, and the child is ours to wait for.
        let waited = unsafe { libc::waitpid(self.0, &mut status, 0) };
        assert_eq!((waited, status), (self.0, 0), "the child failed");
    }
}
