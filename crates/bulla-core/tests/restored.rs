//! What happens after `notify_restored`: nothing that counts is continued. In a process
//! of its own, since the generation is the whole process's.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::io::{self, Read, Seek, SeekFrom, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bulla_core::{
    ChunkSealer, Codec, DataKey, DekVersion, Envelope, EnvelopeKey, KeyOptions, NonceMode,
    RecordContext, ScopeContext, SealError, SingleUseKey, StreamOptions, Suite, UnwrappedKey, Wrap,
    Wraps, notify_restored,
};

/// One test at a time: `cargo test` runs them as threads of one process.
fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn scope() -> ScopeContext {
    ScopeContext::new([("tenant", "acme"), ("purpose", "people")]).unwrap()
}

fn record() -> RecordContext {
    RecordContext::new([("row", "42")]).unwrap()
}

fn key_with(options: KeyOptions) -> EnvelopeKey {
    let dek = DataKey::init_with(|bytes| bytes.fill(7));
    EnvelopeKey::derive(&dek, DekVersion::FIRST, &scope(), options).unwrap()
}

fn key() -> EnvelopeKey {
    key_with(KeyOptions::default())
}

/// The half of the nonce that an epoch has for itself.
fn prefix(key: &EnvelopeKey) -> Vec<u8> {
    key.seal(b"payload", &record()).unwrap()[44..56].to_vec()
}

#[test]
fn an_epoch_is_not_continued() {
    let _alone = alone();
    for suite in Suite::ALL {
        for mode in [NonceMode::Epoch, NonceMode::Fresh] {
            let key = key_with(KeyOptions::default().with_suite(*suite).with_nonces(mode));
            prefix(&key);
            let before = prefix(&key);
            assert_eq!(prefix(&key), before, "the control: an epoch goes on");
            for _ in 0..3 {
                notify_restored();
                let after = prefix(&key);
                assert_ne!(after, before, "{mode:?}");
                assert_eq!(prefix(&key), after, "another one goes on");
            }
        }
    }
}

/// Between two records of a batch, the process may be forked or restored as well.
#[test]
fn a_batch_does_not_continue_its_epoch() {
    let _alone = alone();
    for mode in [NonceMode::Epoch, NonceMode::Fresh] {
        let key = key_with(KeyOptions::default().with_nonces(mode));
        let record = record();
        let items = (0..6).map(|item| {
            if item == 2 || item == 4 {
                notify_restored();
            }
            (&b"payload"[..], &record)
        });
        let sealed = key.seal_many(items).unwrap();
        let prefixes: Vec<_> = sealed.iter().map(|envelope| &envelope[44..56]).collect();
        let same: Vec<_> = prefixes.windows(2).map(|pair| pair[0] == pair[1]).collect();
        assert_eq!(same, [true, false, true, false, true], "{mode:?}");
    }
}

#[test]
fn the_epochs_of_all_threads_end() {
    let _alone = alone();
    let key = key_with(KeyOptions::default().with_nonces(NonceMode::Epoch));
    let (sealed, notified) = (std::sync::Barrier::new(5), std::sync::Barrier::new(5));
    std::thread::scope(|threads| {
        let work = || {
            prefix(&key);
            let before = prefix(&key);
            sealed.wait();
            notified.wait();
            assert_ne!(prefix(&key), before);
        };
        let spawned: Vec<_> = (0..4).map(|_| threads.spawn(work)).collect();
        sealed.wait();
        notify_restored();
        notified.wait();
        spawned.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

/// Begin a stream of each kind.
const BEGIN: [fn() -> ChunkSealer; 2] = [
    || key().chunk_sealer(&record(), small_chunks()).unwrap(),
    || {
        let single_use = SingleUseKey::generate(&scope(), KeyOptions::default()).unwrap();
        single_use.chunk_sealer(&wraps(), &record(), small_chunks()).unwrap()
    },
];

fn small_chunks() -> StreamOptions {
    StreamOptions::default().with_chunk_log2(12)
}

fn wraps() -> Wraps {
    Wraps::new([Wrap::new(200, *b"my-kek", *b"", [7; 40])]).unwrap()
}

#[test]
fn an_open_sealer_fails_and_stays_failed() {
    let _alone = alone();
    for chunks_before in [0, 1, 3] {
        for begin in BEGIN {
            let mut sealer = begin();
            let (chunk, mut out) = ([7; 4096], [0; 4112]);
            for _ in 0..chunks_before {
                sealer.seal_next(&chunk, &mut out).unwrap();
            }
            notify_restored();
            out.fill(0x55);
            assert_eq!(sealer.seal_next(&chunk, &mut out), Err(SealError::ProcessCopied));
            assert_eq!(out, [0x55; 4112]);
            for _ in 0..2 {
                assert_eq!(sealer.seal_next(b"", &mut out), Err(SealError::StreamEnded));
            }
            assert!(sealer.is_ended());
            assert_eq!(sealer.plaintext_len(), chunks_before * 4096);
        }
    }
}

fn seal_error(error: &io::Error) -> &SealError {
    error.get_ref().and_then(|error| error.downcast_ref()).unwrap()
}

#[test]
fn a_writer_fails_and_its_envelope_is_cut_off() {
    let _alone = alone();
    for begin in BEGIN {
        let mut envelope = Vec::new();
        let mut writer = begin().into_writer(&mut envelope);
        writer.write_all(&[7; 5000]).unwrap();
        notify_restored();
        // What is only collected is not sealed yet; the chunk that it fills fails.
        let error = writer.write_all(&[7; 5000]).unwrap_err();
        assert_eq!(seal_error(&error), &SealError::ProcessCopied);
        let error = writer.write(b"more").unwrap_err();
        assert_eq!(seal_error(&error), &SealError::StreamEnded);
        let error = writer.finish().map(|_| ()).unwrap_err();
        assert_eq!(seal_error(&error), &SealError::StreamEnded);
        let layout = Envelope::parse(&envelope).unwrap().layout().unwrap();
        assert_eq!(layout.chunks(), 1);
    }
    for begin in BEGIN {
        let mut writer = begin().into_writer(Vec::new());
        writer.write_all(b"not a whole chunk").unwrap();
        notify_restored();
        let error = writer.finish().map(|_| ()).unwrap_err();
        assert_eq!(seal_error(&error), &SealError::ProcessCopied);
    }
}

#[test]
fn a_single_use_key_seals_no_more() {
    let _alone = alone();
    let generate = || SingleUseKey::generate(&scope(), KeyOptions::default()).unwrap();
    let (one, another) = (generate(), generate());
    notify_restored();
    assert_eq!(
        one.seal(&wraps(), Codec::RAW, b"payload", &record()),
        Err(SealError::ProcessCopied)
    );
    assert_eq!(
        another.chunk_sealer(&wraps(), &record(), StreamOptions::default()).map(|_| ()),
        Err(SealError::ProcessCopied)
    );
    assert!(generate().seal(&wraps(), Codec::RAW, b"payload", &record()).is_ok());
}

#[test]
fn a_new_stream_of_an_old_key_seals() {
    let _alone = alone();
    let key = key();
    notify_restored();
    let mut writer = key.seal_writer(Vec::new(), &record(), StreamOptions::default()).unwrap();
    writer.write_all(b"payload").unwrap();
    assert!(writer.finish().is_ok());
}

#[test]
fn what_opens_goes_on() {
    let _alone = alone();
    let key = key();
    let one_shot = key.seal(b"payload", &record()).unwrap();
    assert_eq!(key.open(&one_shot, &record()).unwrap(), b"payload");
    let options = StreamOptions::default().with_chunk_log2(12);
    let mut writer = key.seal_writer(Vec::new(), &record(), options).unwrap();
    writer.write_all(&[7; 10_000]).unwrap();
    let stream = writer.finish().unwrap();
    let single_use = SingleUseKey::generate(&scope(), KeyOptions::default()).unwrap();
    let dek = DataKey::init_with(|b| b.copy_from_slice(single_use.data_key().expose_secret()));
    let travelling = single_use.seal(&wraps(), Codec::RAW, b"payload", &record()).unwrap();
    let travelling = Envelope::parse(&travelling).unwrap();
    let unwrapped =
        UnwrappedKey::check(dek, travelling.head(), Codec::RAW, &scope(), KeyOptions::default())
            .unwrap();

    let mut reader = key.open_reader(&stream[..], &record(), Codec::RAW).unwrap();
    reader.read_exact(&mut [0; 100]).unwrap();
    let mut range = key.open_range(io::Cursor::new(&stream), &record(), Codec::RAW).unwrap();
    range.read_exact(&mut [0; 100]).unwrap();
    notify_restored();
    assert_eq!(reader.read_to_end(&mut Vec::new()).unwrap(), 9_900);
    assert_eq!(range.seek(SeekFrom::End(-1000)).unwrap(), 9_000);
    assert_eq!(range.read_to_end(&mut Vec::new()).unwrap(), 1000);
    assert_eq!(range.read_range(4000..5000).unwrap(), [7; 1000]);
    assert_eq!(key.open(&one_shot, &record()).unwrap(), b"payload");
    assert_eq!(unwrapped.open(travelling.payload(), &record()).unwrap(), b"payload");
    // A rewrap seals no payload: MAC and header are those of the first time.
    let next = wraps().replaced_by(wraps().entries().to_vec()).unwrap();
    assert!(unwrapped.rewrap(&next).is_ok());
}
