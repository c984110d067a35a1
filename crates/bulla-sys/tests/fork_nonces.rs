//! No nonce is used twice when a process that seals is forked.
//!
//! Parent and child go on sealing with the same keys, and tell each other which nonces
//! they used. As in `fork.rs`, this is a program of its own with one thread, and children
//! are made by `fork` of the C library and by a bare `clone` system call.
//!
//! With the detection taken away from the child, it repeats its parent's nonces: that is
//! what shows that the other checks look at the right thing.
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
    use std::collections::HashSet;
    use std::io::{PipeReader, Read, Write, pipe};
    use std::sync::Arc;

    use super::copies::{self, Copy, WAYS};
    use bulla_core::{
        ChunkSealer, Codec, DataKey, DekVersion, EnvelopeKey, Header, KeyOptions, Library,
        NonceMode, RecordContext, ScopeContext, SealError, SingleUseKey, StreamOptions, Suite,
        Wrap, Wraps,
    };
    use bulla_manager::{Error, Manager, MemoryKeyStore, Profile, Scope, SystemClock, blocking};
    use bulla_sys::{generation, testing::pretend_generation};
    use bulla_testkit::TestKms;
    use libtest_mimic::{Arguments, Trial};

    type Check = (&'static str, fn());

    const CHECKS: &[Check] = &[
        ("counted_nonces_are_not_repeated_by_a_child", counted_nonces_are_not_repeated),
        ("without_detection_a_child_repeats_them_all", without_detection_they_are_repeated),
        ("fresh_nonces_are_not_repeated_by_a_child", fresh_nonces_are_not_repeated),
        ("nor_by_a_grandchild", nor_by_a_grandchild),
        ("two_children_do_not_repeat_each_others", two_children_do_not_repeat_each_others),
        ("a_child_may_seal_first", a_child_may_seal_first),
        ("a_stream_goes_on_in_the_parent_only", a_stream_goes_on_in_the_parent_only),
        ("without_detection_a_stream_forks_too", without_detection_a_stream_forks_too),
        ("a_single_use_key_is_of_no_use_in_a_child", a_single_use_key_is_of_no_use_in_a_child),
        ("a_warm_manager_does_not_repeat_nonces", a_warm_manager_does_not_repeat_nonces),
        ("without_detection_a_warm_manager_does", without_detection_a_warm_manager_does),
        // The last one: it leaves a thread behind.
        ("a_blocking_manager_does_not_hang_in_a_child", a_blocking_manager_does_not_hang),
    ];

    pub(super) fn main() {
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

    /// Records that each process seals after a fork.
    const RECORDS: usize = 3000;
    /// Records sealed before: an epoch begins with the second.
    const BEFORE: usize = 10;

    fn counted_nonces_are_not_repeated() {
        for key in keys(NonceMode::Epoch) {
            for copy in WAYS {
                let before = nonces(BEFORE, seal_with(&key));
                let child = Child::new(*copy, || nonces(RECORDS, seal_with(&key)));
                let parents = nonces(RECORDS, seal_with(&key));
                let childs = child.answer();
                assert_disjoint(&[&before, &childs], "child and past");
                assert_disjoint(&[&parents, &childs], "child and parent");
                assert_eq!(
                    before.iter().chain(&parents).collect::<HashSet<_>>().len(),
                    BEFORE + RECORDS
                );
                // Not by luck of the counters: even the keys that they count under differ.
                assert!(prefixes(&childs).is_disjoint(&prefixes(&before)), "{key:?}, {copy:?}");
                assert!(prefixes(&childs).is_disjoint(&prefixes(&parents)), "{key:?}, {copy:?}");
            }
        }
    }

    /// The positive control.
    fn without_detection_they_are_repeated() {
        for key in keys(NonceMode::Epoch) {
            for copy in WAYS {
                nonces(BEFORE, seal_with(&key));
                let parents_generation = generation();
                let child = Child::new(*copy, || {
                    pretend_generation(parents_generation);
                    nonces(RECORDS, seal_with(&key))
                });
                let parents = nonces(RECORDS, seal_with(&key));
                assert_eq!(child.answer(), parents, "{key:?}, {copy:?}");
            }
        }
    }

    fn fresh_nonces_are_not_repeated() {
        for key in keys(NonceMode::Fresh) {
            for copy in WAYS {
                let before = nonces(BEFORE, seal_with(&key));
                let child = Child::new(*copy, || nonces(RECORDS, seal_with(&key)));
                let parents = nonces(RECORDS, seal_with(&key));
                let childs = child.answer();
                assert_disjoint(&[&before, &parents, &childs], "fresh");
                assert!(prefixes(&childs).is_disjoint(&prefixes(&parents)), "{key:?}, {copy:?}");
            }
        }
    }

    fn nor_by_a_grandchild() {
        for key in keys(NonceMode::Epoch) {
            for copy in WAYS {
                nonces(BEFORE, seal_with(&key));
                let child = Child::new(*copy, || {
                    let mut both = nonces(BEFORE, seal_with(&key));
                    let grandchild = Child::new(*copy, || nonces(RECORDS, seal_with(&key)));
                    both.extend(nonces(RECORDS, seal_with(&key)));
                    both.extend(grandchild.answer());
                    both
                });
                let parents = nonces(RECORDS, seal_with(&key));
                let both = child.answer();
                let (childs, grandchilds) = both.split_at(BEFORE + RECORDS);
                assert_disjoint(&[&parents, childs, grandchilds], "three generations");
                assert!(prefixes(childs).is_disjoint(&prefixes(grandchilds)));
                assert!(prefixes(&parents).is_disjoint(&prefixes(&both)));
            }
        }
    }

    /// Their generations may well be equal.
    fn two_children_do_not_repeat_each_others() {
        for key in keys(NonceMode::Epoch) {
            nonces(BEFORE, seal_with(&key));
            let children =
                [(); 2].map(|()| Child::new(Copy::Fork, || nonces(RECORDS, seal_with(&key))));
            let [first, second] = children.map(Child::answer);
            assert_disjoint(&[&first, &second], "siblings");
            assert!(prefixes(&first).is_disjoint(&prefixes(&second)));
        }
    }

    /// A key that was made before the fork, and used after it only.
    fn a_child_may_seal_first() {
        for key in keys(NonceMode::Epoch) {
            let childs = Child::new(Copy::Fork, || nonces(RECORDS, seal_with(&key))).answer();
            assert_disjoint(&[&childs, &nonces(RECORDS, seal_with(&key))], "child first");
        }
    }

    fn a_stream_goes_on_in_the_parent_only() {
        for key in keys(NonceMode::Epoch) {
            for copy in WAYS {
                let mut sealer = begun_stream(&key);
                let child = Child::new(*copy, || {
                    let first = seal_chunk(&mut sealer);
                    // For good, and not because the stream had ended.
                    let refused = matches!(first, Err(SealError::ProcessCopied));
                    let again = matches!(seal_chunk(&mut sealer), Err(SealError::StreamEnded));
                    vec![[u8::from(refused); 24], [u8::from(again); 24]]
                });
                assert_eq!(child.answer(), [[1; 24]; 2], "{key:?}, {copy:?}");
                assert!(seal_chunk(&mut sealer).is_ok(), "{key:?}, {copy:?}");
            }
        }
    }

    /// The positive control: two continuations of one stream, under the same nonces.
    fn without_detection_a_stream_forks_too() {
        for key in keys(NonceMode::Epoch) {
            let mut sealer = begun_stream(&key);
            let parents_generation = generation();
            let child = Child::new(Copy::Fork, || {
                pretend_generation(parents_generation);
                vec![seal_chunk(&mut sealer).unwrap()]
            });
            assert_eq!(child.answer(), [seal_chunk(&mut sealer).unwrap()], "{key:?}");
        }
    }

    fn a_single_use_key_is_of_no_use_in_a_child() {
        for copy in WAYS {
            let new = || SingleUseKey::generate(&scope(), KeyOptions::default()).unwrap();
            let (key, mut for_child) = (new(), Some(new()));
            let wraps = Wraps::new([Wrap::new(200, *b"kek", *b"", *b"blob")]).unwrap();
            let child = Child::new(*copy, || {
                let key = for_child.take().unwrap();
                let sealed = key.seal(&wraps, Codec::RAW, b"x", &RecordContext::empty());
                vec![[u8::from(matches!(sealed, Err(SealError::ProcessCopied))); 24]]
            });
            assert_eq!(child.answer(), [[1; 24]], "{copy:?}");
            assert!(key.seal(&wraps, Codec::RAW, b"x", &RecordContext::empty()).is_ok());
        }
    }

    fn a_warm_manager_does_not_repeat_nonces() {
        with_warm_scope(|scope| {
            for copy in WAYS {
                let before = nonces(BEFORE, || try_seal(scope));
                let child = Child::new(*copy, || nonces(RECORDS, || try_seal(scope)));
                let parents = nonces(RECORDS, || try_seal(scope));
                let childs = child.answer();
                assert_disjoint(&[&before, &parents, &childs], "manager");
                assert!(prefixes(&childs).is_disjoint(&prefixes(&parents)), "{copy:?}");
            }
        });
    }

    fn without_detection_a_warm_manager_does() {
        with_warm_scope(|scope| {
            nonces(BEFORE, || try_seal(scope));
            let parents_generation = generation();
            let child = Child::new(Copy::Fork, || {
                pretend_generation(parents_generation);
                nonces(RECORDS, || try_seal(scope))
            });
            assert_eq!(child.answer(), nonces(RECORDS, || try_seal(scope)));
        });
    }

    /// What is at hand seals in the child; what would need the thread of the parent fails.
    fn a_blocking_manager_does_not_hang() {
        let kms = Arc::new(TestKms::new("fork"));
        let store = Arc::new(MemoryKeyStore::new(Arc::new(SystemClock)).unwrap());
        let builder = Manager::builder(Profile::Development, kms, store);
        let manager = blocking::Manager::start(builder).unwrap();
        let (warm, cold) = ["warm", "cold"].map(|name| manager.scope("t-1", name).unwrap()).into();
        let record = RecordContext::empty();
        warm.prepare().unwrap();
        let child = Child::new(Copy::Fork, || {
            let seals = warm.seal(b"x", &record).is_ok();
            let refused = [warm.prepare().map(drop), cold.seal(b"x", &record).map(drop)];
            let refused = refused.iter().all(|call| matches!(call, Err(Error::ProcessForked)));
            vec![[u8::from(seals); 24], [u8::from(refused); 24]]
        });
        assert_eq!(child.answer(), [[1; 24]; 2]);
        assert!(cold.seal(b"x", &record).is_ok(), "the parent goes on");
    }

    /// Calls `f` with a scope that has its key at hand, of a manager on a runtime without
    /// threads.
    fn with_warm_scope(f: impl FnOnce(&Scope)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let kms = Arc::new(TestKms::new("fork"));
            let store = Arc::new(MemoryKeyStore::new(Arc::new(SystemClock)).unwrap());
            let manager = Manager::builder(Profile::Development, kms, store)
                .key_options(KeyOptions::default().with_nonces(NonceMode::Epoch))
                .start()
                .await
                .unwrap();
            let scope = manager.scope("t-1", "fork").unwrap();
            scope.prepare().await.unwrap();
            f(&scope);
        });
    }

    fn try_seal(scope: &Scope) -> Vec<u8> {
        scope.try_seal(b"x", &RecordContext::empty()).unwrap()
    }

    /// One for each library and suite.
    fn keys(nonces: NonceMode) -> Vec<EnvelopeKey> {
        let options = Library::ALL.iter().flat_map(|library| {
            let options = KeyOptions::default().with_library(*library).with_nonces(nonces);
            Suite::ALL.iter().map(move |suite| options.with_suite(*suite))
        });
        let derive = |options| {
            let dek = DataKey::generate().unwrap();
            EnvelopeKey::derive(&dek, DekVersion::FIRST, &scope(), options).unwrap()
        };
        options.map(derive).collect()
    }

    fn scope() -> ScopeContext {
        ScopeContext::new([("tenant", "t-1")]).unwrap()
    }

    fn seal_with(key: &EnvelopeKey) -> impl FnMut() -> Vec<u8> {
        || key.seal(b"x", &RecordContext::empty()).unwrap()
    }

    fn begun_stream(key: &EnvelopeKey) -> ChunkSealer {
        let options = StreamOptions::default().with_chunk_log2(12);
        let mut sealer = key.chunk_sealer(&RecordContext::empty(), options).unwrap();
        seal_chunk(&mut sealer).unwrap();
        sealer
    }

    /// The first bytes of the sealed chunk: those of the key stream, as the plaintext is 0.
    fn seal_chunk(sealer: &mut ChunkSealer) -> Result<Nonce, SealError> {
        let mut out = vec![0; sealer.chunk_len() + 16];
        sealer.seal_next(&vec![0; sealer.chunk_len()], &mut out)?;
        Ok(*out.first_chunk().unwrap())
    }

    type Nonce = [u8; Header::NONCE_LEN];

    /// The nonces of `count` envelopes.
    fn nonces(count: usize, mut seal: impl FnMut() -> Vec<u8>) -> Vec<Nonce> {
        (0..count)
            .map(|_| seal()[Header::LEN - Header::NONCE_LEN..Header::LEN].try_into().unwrap())
            .collect()
    }

    fn prefixes(nonces: &[Nonce]) -> HashSet<&[u8]> {
        nonces.iter().map(|nonce| &nonce[..12]).collect()
    }

    fn assert_disjoint(parts: &[&[Nonce]], what: &str) {
        let distinct: HashSet<_> = parts.iter().copied().flatten().collect();
        let all: usize = parts.iter().map(|part| part.len()).sum();
        assert_eq!(distinct.len(), all, "{what}: nonces are repeated");
    }

    /// A copy of this process, at work while this one goes on.
    struct Child {
        process: copies::Child,
        reader: PipeReader,
    }

    impl Child {
        /// Begins `work` in a copy.
        fn new(copy: Copy, work: impl FnOnce() -> Vec<Nonce>) -> Self {
            let (reader, mut writer) = pipe().unwrap();
            let process = copies::Child::start(copy, move || {
                writer.write_all(work().as_flattened()).unwrap();
            });
            Self { process, reader }
        }

        fn answer(mut self) -> Vec<Nonce> {
            let mut bytes = Vec::new();
            self.reader.read_to_end(&mut bytes).unwrap();
            self.process.wait();
            let (nonces, rest) = bytes.as_chunks();
            assert!(rest.is_empty());
            nonces.to_vec()
        }
    }
}
