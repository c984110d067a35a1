//! Whether counting nonces is a good idea where this process runs.

use std::env;
use std::sync::atomic::{AtomicU8, Ordering};

use crate::{detects_forks, os, word};

/// Whether nonces should come from the operating system, for want of a reason to count
/// them, or with a reason not to:
///
/// - forks are not detected, see [`detects_forks`], or this is a Linux on which those that
///   go past the C library are not;
/// - the environment says that this process is restored from a snapshot, in as many
///   copies as are needed: `AWS_LAMBDA_INITIALIZATION_TYPE` is `snap-start`;
/// - random bytes cost no system call, so counting saves little: the C library takes
///   them from the vDSO (glibc 2.41 or newer, on Linux 6.11 or newer).
///
/// `false` does not mean that the machine is never cloned; no process can know that.
/// The answer is found once and then kept.
///
/// # Sources
/// The variable: AWS Lambda Developer Guide, "Defined runtime environment variables".
/// The versions: glibc 2.41, commit `461cab1de747` "linux: Add support for getrandom
/// vDSO": x86-64 with Linux 6.11; AArch64, LoongArch, PowerPC and S/390 with 6.12. The
/// `getrandom` crate calls the C library's function, so it benefits.
///
/// Not taken for signs: a VM generation ID, which most hypervisors offer to machines
/// that are never cloned; checkpoints by CRIU or CRaC, which leave no documented mark
/// in the environment.
#[must_use]
pub fn prefers_fresh_nonces() -> bool {
    const UNKNOWN: u8 = 0;
    const NO: u8 = 1;
    const YES: u8 = 2;
    static ANSWER: AtomicU8 = AtomicU8::new(UNKNOWN);
    match ANSWER.load(Ordering::Relaxed) {
        UNKNOWN => {
            let fresh = decide(&Signs::here());
            ANSWER.store(if fresh { YES } else { NO }, Ordering::Relaxed);
            fresh
        }
        answer => answer == YES,
    }
}

/// What the answer depends on.
struct Signs {
    detects_forks: bool,
    lambda_initialization: Option<String>,
    /// As in [`env::consts::ARCH`].
    architecture: &'static str,
    /// Release of the Linux kernel, such as "6.12.9-amd64".
    linux: Option<String>,
    glibc: Option<&'static str>,
}

impl Signs {
    fn here() -> Self {
        let linux = if cfg!(target_os = "linux") && !cfg!(miri) {
            // Where /proc is hidden, the kernel counts as old, which is safe.
            std::fs::read_to_string("/proc/sys/kernel/osrelease").ok()
        } else {
            None
        };
        Self {
            detects_forks: detects_forks()
                && (word::protect().page()
                    || !cfg!(any(target_os = "linux", target_os = "android"))),
            lambda_initialization: env::var("AWS_LAMBDA_INITIALIZATION_TYPE").ok(),
            architecture: env::consts::ARCH,
            linux,
            glibc: os::glibc_version(),
        }
    }
}

fn decide(signs: &Signs) -> bool {
    !signs.detects_forks
        || signs.lambda_initialization.as_deref() == Some("snap-start")
        || random_is_cheap(signs)
}

/// Whether the C library's `getrandom` makes no system call.
fn random_is_cheap(signs: &Signs) -> bool {
    let needed = match signs.architecture {
        "x86_64" => (6, 11),
        "aarch64" | "loongarch64" | "powerpc" | "powerpc64" | "s390x" => (6, 12),
        _ => return false,
    };
    let at_least = |text: Option<&str>, least| text.and_then(version).is_some_and(|is| is >= least);
    at_least(signs.linux.as_deref(), needed) && at_least(signs.glibc, (2, 41))
}

/// The first two numbers of a version.
fn version(text: &str) -> Option<(u32, u32)> {
    let (major, rest) = text.split_once('.')?;
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    Some((major.parse().ok()?, rest[..end].parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine on which counting is worth it, and nothing speaks against it.
    fn counting() -> Signs {
        Signs {
            detects_forks: true,
            lambda_initialization: None,
            architecture: "x86_64",
            linux: Some("6.10.14-1-amd64\n".into()),
            glibc: Some("2.36"),
        }
    }

    #[test]
    fn counting_is_fine_where_nothing_speaks_against_it() {
        assert!(!decide(&counting()));
    }

    #[test]
    fn undetected_forks_speak_against_counting() {
        assert!(decide(&Signs { detects_forks: false, ..counting() }));
    }

    #[test]
    fn only_lambda_functions_restored_from_a_snapshot_are_taken_for_copies() {
        let lambda = |how: &str| Signs { lambda_initialization: Some(how.into()), ..counting() };
        assert!(decide(&lambda("snap-start")));
        assert!(!decide(&lambda("on-demand")));
        assert!(!decide(&lambda("provisioned-concurrency")));
    }

    #[test]
    fn random_bytes_are_cheap_with_a_new_kernel_and_a_new_library_only() {
        let cheap = |architecture, linux: &str, glibc| {
            random_is_cheap(&Signs { architecture, linux: Some(linux.into()), glibc, ..counting() })
        };
        assert!(cheap("x86_64", "6.11.0", Some("2.41")));
        assert!(cheap("x86_64", "7.0", Some("2.42.9000")));
        assert!(!cheap("x86_64", "6.10.99", Some("2.41")));
        assert!(!cheap("x86_64", "6.9.1", Some("2.41")));
        assert!(!cheap("x86_64", "6.11.0", Some("2.40")));
        assert!(!cheap("x86_64", "6.11.0", None));
        assert!(!cheap("aarch64", "6.11.0", Some("2.41")));
        assert!(cheap("aarch64", "6.12.0-rc1", Some("2.41")));
        assert!(!cheap("riscv64", "6.12.0", Some("2.41")));
    }

    #[test]
    fn versions_are_read_as_numbers() {
        assert_eq!(version("6.18.44-fc-v669\n"), Some((6, 18)));
        assert_eq!(version("2.41"), Some((2, 41)));
        assert_eq!(version("6.11-rc1"), Some((6, 11)));
        assert_eq!(version("6"), None);
        assert_eq!(version("six.eleven"), None);
        assert_eq!(version("6.x"), None);
    }

    #[test]
    fn the_answer_does_not_change() {
        let first = prefers_fresh_nonces();
        assert_eq!(first, decide(&Signs::here()));
        assert_eq!(first, prefers_fresh_nonces());
    }
}
