//! Plaintext that no caller got is wiped before its memory is freed: of values that are being
//! written, and of calls that fail or are cancelled half-way.
//!
//! An allocator looks at all that this process frees.
#![cfg(all(feature = "json", feature = "bincode"))]
#![allow(clippy::unwrap_used, reason = "tests")]
#![allow(unsafe_code, reason = "an allocator that looks at what is freed")]

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::future::{Future, pending};
use std::io;
use std::slice;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bulla_backend::KmsOperation;
use bulla_core::{
    Bincode, Codec, DataKey, DekVersion, EnvelopeKey, Json, KeyOptions, ScopeContext,
    StreamOptions, ValueCodec,
};
use bulla_manager::Policy;
use bulla_testkit::settle;
use common::{World, record, scope};
use serde::ser::{Error as _, SerializeSeq};
use serde::{Serialize, Serializer};
use tokio::io::AsyncWriteExt;

/// What is looked for. As a constant of the program, it is in no memory that is freed.
const MARK: &str = "plaintext-that-nobody-got-0123456789";
/// Blocks that were freed with a mark in them.
static SEEN: AtomicUsize = AtomicUsize::new(0);

/// The system's allocator; `realloc` is left to its default, which frees the old block.
struct Looking;

#[global_allocator]
static ALLOCATOR: Looking = Looking;

// SAFETY: allocates and frees by the system's allocator, and reads in between what is the
// caller's until `dealloc` returns.
unsafe impl GlobalAlloc for Looking {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // Zeroed, so that there is nothing in a block that its owner did not write.
        // SAFETY: as the caller promises.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: a block of this length, which `alloc` has filled.
        let bytes = unsafe { slice::from_raw_parts(block, layout.size()) };
        let mark = MARK.as_bytes();
        if bytes.windows(mark.len()).any(|window| window == mark) {
            SEEN.fetch_add(1, Ordering::Relaxed);
        }
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(block, layout) }
    }
}

/// Tests of this file run one after the other, or they would see each other's blocks.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How many blocks with a mark `work` frees.
async fn marks_freed_by(work: impl Future<Output = ()>) -> usize {
    let before = SEEN.load(Ordering::Relaxed);
    work.await;
    settle().await;
    SEEN.load(Ordering::Relaxed) - before
}

/// Lets `call` run until it waits for what does not come, and drops it.
async fn cancelled<T>(call: impl Future<Output = T>) {
    tokio::select! {
        biased;
        _ = call => panic!("it did not wait"),
        () = settle() => {}
    }
}

#[tokio::test]
#[allow(clippy::await_holding_lock, reason = "each test has a runtime of its own")]
async fn the_allocator_sees_what_is_freed() {
    let _alone = alone();
    assert_eq!(marks_freed_by(async { drop(MARK.to_owned()) }).await, 1);
}

/// A hundred marks, and at the end a failure if that is wanted.
struct Marks {
    fails: bool,
}

impl Serialize for Marks {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut seq = serializer.serialize_seq(Some(100))?;
        for _ in 0..100 {
            seq.serialize_element(MARK)?;
        }
        match self.fails {
            true => Err(S::Error::custom("as asked")),
            false => seq.end(),
        }
    }
}

#[tokio::test]
#[allow(clippy::await_holding_lock, reason = "each test has a runtime of its own")]
async fn a_value_that_is_written_leaves_nothing() {
    let _alone = alone();
    let world = World::new();
    let manager = world.manager().await;
    let scope = scope(&manager);
    for fails in [false, true] {
        let freed = marks_freed_by(async {
            let json = scope.seal_value::<Json, _>(&Marks { fails }, &record("1")).await;
            let bincode = scope.seal_value::<Bincode, _>(&Marks { fails }, &record("1")).await;
            assert_eq!((json.is_err(), bincode.is_err()), (fails, fails));
        });
        assert_eq!(freed.await, 0, "fails: {fails}");
    }
    assert_eq!(Json::encode(&Marks { fails: false }).unwrap().len(), 100 * (MARK.len() + 3) + 1);
}

#[tokio::test]
#[allow(clippy::await_holding_lock, reason = "each test has a runtime of its own")]
async fn a_range_that_is_cancelled_leaves_nothing() {
    let _alone = alone();
    let world = World::new();
    let manager = world.manager().await;
    let scope = scope(&manager);
    let options = StreamOptions::default().with_chunk_log2(12);
    let context = record("1");
    let mut stream = scope.seal_stream(Vec::new(), &context, options).await.unwrap();
    for _ in 0..1000 {
        stream.write_all(MARK.as_bytes()).await.unwrap();
    }
    stream.shutdown().await.unwrap();
    let envelope = stream.into_inner();
    let freed = marks_freed_by(async {
        let mut fetched = 0;
        let fetch = |range: std::ops::Range<u64>| {
            fetched += 1;
            let bytes = envelope[range.start as usize..range.end as usize].to_vec();
            let stalls = fetched == 4;
            async move {
                if stalls {
                    pending::<()>().await;
                }
                Ok(bytes)
            }
        };
        let len = envelope.len() as u64;
        let range = scope.open_range(fetch, len, &context, Codec::RAW).await;
        cancelled(range.unwrap().read_range(0..20_000)).await;
    });
    assert_eq!(freed.await, 0);
}

#[tokio::test]
#[allow(clippy::await_holding_lock, reason = "each test has a runtime of its own")]
async fn a_range_whose_source_fails_or_panics_leaves_nothing() {
    let _alone = alone();
    let names = ScopeContext::new([("tenant", "t-1")]).unwrap();
    let key = DataKey::generate().unwrap();
    let key = EnvelopeKey::derive(&key, DekVersion::FIRST, &names, KeyOptions::default()).unwrap();
    let options = StreamOptions::default().with_chunk_log2(12);
    let mut writer = key.seal_writer(Vec::new(), &record("1"), options).unwrap();
    for _ in 0..1000 {
        io::Write::write_all(&mut writer, MARK.as_bytes()).unwrap();
    }
    let envelope = writer.finish().unwrap();
    for panics in [false, true] {
        let freed = marks_freed_by(async {
            let source = |offset: u64, buf: &mut [u8]| match offset > 12_000 {
                true if panics => panic!("as asked"),
                true => Err(io::ErrorKind::ConnectionReset.into()),
                false => {
                    buf.copy_from_slice(&envelope[offset as usize..][..buf.len()]);
                    Ok(())
                }
            };
            let len = envelope.len() as u64;
            let mut range = key.open_range_with(source, len, &record("1"), Codec::RAW).unwrap();
            let read = || range.read_range(0..20_000);
            let read = std::panic::catch_unwind(std::panic::AssertUnwindSafe(read));
            assert!(read.is_err() == panics && !read.is_ok_and(|read| read.is_ok()));
        });
        assert_eq!(freed.await, 0, "panics: {panics}");
    }
}

/// More keys than a scope and a cache of one have at hand: some have to be loaded again when
/// their turn comes.
#[tokio::test]
#[allow(clippy::await_holding_lock, reason = "each test has a runtime of its own")]
async fn records_of_a_batch_that_is_cancelled_leave_nothing() {
    let _alone = alone();
    let world = World::new();
    let mut policy = Policy::default();
    policy.cached_deks_max = 1;
    let mut envelopes = Vec::new();
    let context = record("1");
    let manager = world.manager_with(policy.clone()).await;
    for _ in 0..40 {
        envelopes.push(scope(&manager).seal(MARK.as_bytes(), &context).await.unwrap());
        scope(&manager).rotate().await.unwrap();
    }
    let mut waited = 0;
    for _ in 0..2 {
        envelopes.reverse();
        let manager = world.manager_with(policy.clone()).await;
        let scope = scope(&manager);
        let items: Vec<_> = envelopes.iter().map(|envelope| (&envelope[..], &context)).collect();
        let before = world.kms.calls(KmsOperation::UnwrapKey);
        let freed = marks_freed_by(async {
            let hold = async {
                while world.kms.calls(KmsOperation::UnwrapKey) < before + 40 {
                    tokio::task::yield_now().await;
                }
                world.kms.hold();
                settle().await;
            };
            tokio::select! {
                biased;
                opened = scope.open_many(&items) => {
                    use zeroize::Zeroize;
                    opened.into_iter().for_each(|opened| opened.unwrap().plaintext.zeroize());
                }
                () = hold => waited += 1,
            }
        });
        assert_eq!(freed.await, 0);
        world.kms.release();
    }
    assert!(waited > 0, "no call had to wait");
}
