//! Locked memory and the wiped stack, as the kernel sees them. Not for address
//! sanitizer, which makes `mlock` do nothing and has a heap and stacks of its own.
#![cfg(all(target_os = "linux", not(miri)))]
#![allow(clippy::panic, clippy::unwrap_used, reason = "tests")]

use std::fs::{self, File};
use std::hint::black_box;
use std::os::unix::fs::FileExt;
use std::sync::{Mutex, PoisonError};

use bulla_sys::{LockedBytes, lock_status, wipe_stack};

/// The flags of the mapping that `address` is in: proc_pid_smaps(5), `VmFlags`.
fn mapping_flags(address: usize) -> Vec<String> {
    let smaps = fs::read_to_string("/proc/self/smaps").unwrap();
    let mut inside = false;
    for line in smaps.lines() {
        let first = line.split(' ').next().unwrap();
        if let Some((from, to)) = first.split_once('-') {
            let bound = |hex| usize::from_str_radix(hex, 16).unwrap();
            inside = (bound(from)..bound(to)).contains(&address);
        } else if inside && first == "VmFlags:" {
            return line.split_whitespace().skip(1).map(String::from).collect();
        }
    }
    panic!("{address:x} is not mapped");
}

/// Held by tests of locked memory, which all share.
static LOCKED_MEMORY: Mutex<()> = Mutex::new(());

#[test]
fn locked_bytes_are_locked_and_kept_from_dumps_and_the_heap_is_not() {
    let _alone = LOCKED_MEMORY.lock().unwrap_or_else(PoisonError::into_inner);
    let has = |address: usize, flag: &str| mapping_flags(address).iter().any(|it| it == flag);
    let heap = Box::new([0_u8; 32]);
    let key = LockedBytes::<32>::zeroed();
    assert!(key.is_locked(), "the system lets this process lock nothing: see `ulimit -l`");
    let (heap, locked) = (heap.as_ptr().addr(), key.as_bytes().as_ptr().addr());
    assert!(has(locked, "lo") && has(locked, "dd"), "{:?}", mapping_flags(locked));
    assert!(!has(heap, "lo") && !has(heap, "dd"), "{:?}", mapping_flags(heap));
    assert_eq!(lock_status().locked, 1);
}

#[test]
fn what_does_not_fit_into_locked_memory_goes_to_the_heap_and_is_counted() {
    let _alone = LOCKED_MEMORY.lock().unwrap_or_else(PoisonError::into_inner);
    let before = lock_status();
    let mut keys: Vec<_> = (0..before.capacity + 3).map(|_| LockedBytes::<64>::zeroed()).collect();
    keys.iter_mut().zip(0..).for_each(|(key, tag)| key.as_bytes_mut().fill(tag as u8));
    assert!(keys.iter().zip(0..).all(|(key, tag)| key.as_bytes() == &[tag as u8; 64]));
    let after = lock_status();
    assert_eq!(after.locked + after.degraded - before.degraded, after.capacity + 3);
    assert!(after.degraded >= before.degraded + 3);
    assert_eq!(keys.iter().filter(|key| key.is_locked()).count() as u64, after.locked);
    drop(keys);
    assert_eq!(lock_status().locked, 0);
    assert!(LockedBytes::<64>::zeroed().is_locked(), "what was given back cannot be had again");
}

#[test]
fn no_page_is_accessible_beside_the_locked_ones() {
    let _alone = LOCKED_MEMORY.lock().unwrap_or_else(PoisonError::into_inner);
    let key = LockedBytes::<32>::zeroed();
    let address = key.as_bytes().as_ptr().addr();
    let readable = |address| mapping_flags(address).iter().any(|flag| flag == "rd");
    assert!(readable(address));
    // The other slots are in between, 64 KiB at most on either side.
    assert!((1..=17).any(|pages| !readable(address - pages * 4096)));
    assert!((1..=17).any(|pages| !readable(address + pages * 4096)));
}

const SECRET: [u8; 16] = *b"not on the stack";

/// Fills some KiB of its frame with the secret.
#[inline(never)]
fn leave_secret() {
    let mut copies = [[0_u8; 16]; 512];
    // Not written as such in the program, so that only the running code makes them.
    for copy in black_box(&mut copies) {
        *copy = SECRET.map(black_box);
    }
    black_box(&copies);
}

/// How often the secret is in the 64 KiB of stack below the caller. Reads through the
/// kernel, as a debugger would: the frames there are dead, and not Rust's to read.
#[inline(never)]
fn secrets_below() -> usize {
    const LOOK: usize = 64 * 1024;
    let here = 0_u8;
    let mut stack = vec![0; LOOK];
    let memory = File::open("/proc/self/mem").unwrap();
    memory.read_exact_at(&mut stack, ((&raw const here).addr() - LOOK) as u64).unwrap();
    stack.windows(16).filter(|window| *window == SECRET).count()
}

#[test]
fn a_secret_that_a_call_left_on_the_stack_is_gone_after_wiping() {
    // Deep enough, and mapped: stacks of threads are.
    leave_secret();
    let left = secrets_below();
    assert!(left > 100, "nothing was left to be wiped: {left}");
    leave_secret();
    wipe_stack();
    assert_eq!(secrets_below(), 0);
}
