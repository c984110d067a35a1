//! What Bulla needs from the operating system and safe Rust does not give: fork
//! detection and locked memory.
//!
//! A process that is copied repeats what it counts, and a nonce must not repeat.
//! [`generation`] is a number that a copy made by fork does not share with its
//! original; who counts compares it before every count. A key should reach neither
//! swap nor core dumps nor the next owner of its memory. [`LockedBytes`] sees to
//! that, as far as the system allows, and [`apart`] clears what was left on the way.
//! [`filled_vec`] is a new vector that was not zeroed first.
//!
//! | module | what | unsafe |
//! |---|---|---|
//! | `fork` | generations | |
//! | `word` | the word in memory that a fork wipes | one dereference, one handler |
//! | `memory` | secret bytes, in locked memory or on the heap | |
//! | `slab` | slots of locked memory, handed out once each | yes |
//! | `stack` | wiping the stack | volatile writes, registers |
//! | `thread` | numbers for threads | |
//! | `wiped` | buffers for plaintext | |
//! | `fresh` | vectors that are filled without being zeroed first | yes |
//! | `environment` | whether counting nonces is a good idea here | |
//! | `testing` | forks that go unnoticed, for tests (feature `testing`) | |
//! | `os` | the system calls, one module per kind of system | yes |
//!
//! **Nothing here waits for another thread.** The child of a fork has one thread,
//! and a lock that another thread held at that moment stays locked in the child for
//! ever. So there is no `Mutex`, `Once` or `OnceLock` in this crate: threads that
//! meet in a first use do the work twice, and one result is kept. (One lock is left, which
//! the standard library keeps for the environment: [`prefers_fresh_nonces`] takes it once.
//! It is in the way of a child that was forked while another thread set a variable.)
//!
//! # What each system gives
//!
//! | | forks | locked memory | kept from dumps |
//! |---|---|---|---|
//! | Linux, Android | wiped page (4.14), `pthread_atfork` | `mlock` | `MADV_DONTDUMP` |
//! | other Unix | `pthread_atfork` | `mlock` | no |
//! | Windows, WebAssembly | there are none | no, heap | no |
//!
//! # Miri and the sanitizers
//!
//! Under Miri and in unit tests, pages come from the heap and count as locked, so that
//! all unsafe code but the system calls is run, with the heap's checks. The system
//! calls are tested from outside, in `tests/`.
//!
//! ```text
//! cargo +nightly miri test -p bulla-sys --lib
//!
//! RUSTFLAGS=-Zsanitizer=address cargo +nightly test -p bulla-sys --lib --test fork \
//!     --target x86_64-unknown-linux-gnu --target-dir target/asan
//!
//! RUSTFLAGS=-Zsanitizer=thread cargo +nightly test -p bulla-sys --lib -Zbuild-std \
//!     --target x86_64-unknown-linux-gnu --target-dir target/tsan
//! ```
#![deny(unsafe_op_in_unsafe_fn)]
#![deny(clippy::undocumented_unsafe_blocks, clippy::missing_safety_doc)]

mod environment;
mod fork;
mod fresh;
mod memory;
mod os;
mod slab;
mod stack;
#[cfg(feature = "testing")]
pub mod testing;
mod thread;
mod wiped;
mod word;

pub use environment::prefers_fresh_nonces;
pub use fork::{detects_forks, generation, notify_restored};
pub use fresh::{extend_filled, filled_vec};
pub use memory::{LockStatus, LockedBytes, lock_status};
pub use stack::{apart, brush_stack, wipe_stack};
pub use thread::thread_number;
pub use wiped::{Unreleased, WipedVec};
