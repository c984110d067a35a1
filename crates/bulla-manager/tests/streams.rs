//! Streams under a manager: they outlive eviction, and end with the key.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::io;
use std::panic;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use bulla_backend::{DekState, KeyAdmin, KeyStore, StateChange};
use bulla_core::{Codec, Header, OpenError, StreamOptions};
use bulla_manager::{Error, Policy, Scope};
use common::{World, record, scope, secs};
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};

const CHUNK: usize = 4096;

fn options() -> StreamOptions {
    StreamOptions::default().with_chunk_log2(12)
}

fn plaintext(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i % 251) as u8).collect()
}

async fn seal(scope: &Scope, plaintext: &[u8]) -> Vec<u8> {
    let mut stream = scope.seal_stream(Vec::new(), &record("1"), options()).await.unwrap();
    stream.write_all(plaintext).await.unwrap();
    stream.shutdown().await.unwrap();
    stream.into_inner()
}

async fn open(scope: &Scope, envelope: &[u8], row: &str) -> io::Result<Vec<u8>> {
    let mut plaintext = Vec::new();
    let mut stream = scope.open_stream(envelope, &record(row), Codec::RAW).await?;
    stream.read_to_end(&mut plaintext).await?;
    Ok(plaintext)
}

#[tokio::test]
async fn what_is_sealed_opens_whatever_its_length() {
    let world = World::new();
    let manager = world.manager().await;
    let scope = scope(&manager);
    for len in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK, 5 * CHUNK + 7] {
        let envelope = seal(&scope, &plaintext(len)).await;
        assert_eq!(envelope.len(), 100 + len + 16 * (len / CHUNK + 1));
        assert_eq!(open(&scope, &envelope, "1").await.unwrap(), plaintext(len));
    }
    assert_eq!(world.kms.data_calls(), 2, "streams share the DEK of their scope");
}

/// Whole chunks are sealed from and opened to the caller's buffers, parts through those of
/// the stream; in any order, and however slowly the other side takes and gives.
#[tokio::test]
async fn whole_chunks_and_parts_go_together() {
    let world = World::new();
    let manager = world.manager().await;
    let scope = scope(&manager);
    let expected = plaintext(40 * CHUNK);
    for pipe in [100, CHUNK, 10 * CHUNK] {
        let (inner, mut other) = tokio::io::duplex(pipe);
        let sealing = async {
            let mut stream = scope.seal_stream(inner, &record("1"), options()).await.unwrap();
            let mut rest = &expected[..];
            for part in
                [CHUNK, 1, CHUNK, CHUNK - 1, 3 * CHUNK, 0, 5, CHUNK, CHUNK - 5].iter().cycle()
            {
                let (now, later) = rest.split_at((*part).min(rest.len()));
                stream.write_all(now).await.unwrap();
                if now.len() == CHUNK {
                    stream.flush().await.unwrap();
                }
                rest = later;
                if rest.is_empty() {
                    break;
                }
            }
            stream.shutdown().await.unwrap();
        };
        let mut envelope = Vec::new();
        let ((), read) = tokio::join!(sealing, other.read_to_end(&mut envelope));
        read.unwrap();
        assert_eq!(envelope.len(), 100 + 40 * CHUNK + 16 * 41);

        let (inner, mut other) = tokio::io::duplex(pipe);
        let giving = async {
            other.write_all(&envelope).await.unwrap();
            other.shutdown().await.unwrap();
        };
        let opening = async {
            let mut stream = scope.open_stream(inner, &record("1"), Codec::RAW).await.unwrap();
            let mut opened = Vec::new();
            for part in [CHUNK, 1, 2 * CHUNK, CHUNK - 1, 7].iter().cycle() {
                let mut buf = vec![0; *part];
                match stream.read(&mut buf).await.unwrap() {
                    0 => break,
                    len => opened.extend_from_slice(&buf[..len]),
                }
            }
            opened
        };
        let ((), opened) = tokio::join!(giving, opening);
        assert!(opened == expected, "through a pipe of {pipe} bytes");
    }
}

#[tokio::test]
async fn the_end_stays_the_end() {
    let world = World::new();
    let manager = world.manager().await;
    let scope = scope(&manager);
    let envelope = seal(&scope, b"payload").await;
    let mut stream = scope.open_stream(&envelope[..], &record("1"), Codec::RAW).await.unwrap();
    let mut buf = [0; 100];
    assert_eq!(stream.read(&mut buf).await.unwrap(), 7);
    for _ in 0..3 {
        assert_eq!(stream.read(&mut buf).await.unwrap(), 0);
    }
}

#[tokio::test]
async fn another_context_a_cut_and_garbage_are_refused() {
    let world = World::new();
    let manager = world.manager().await;
    let scope = scope(&manager);
    let envelope = seal(&scope, &plaintext(2 * CHUNK)).await;
    let refused = |error: io::Error| *error.into_inner().unwrap().downcast::<OpenError>().unwrap();
    assert_eq!(refused(open(&scope, &envelope, "2").await.unwrap_err()), OpenError::Authentication);
    for cut in [101, 100 + CHUNK + 16, envelope.len() - 16, envelope.len() - 1] {
        let error = open(&scope, &envelope[..cut], "1").await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData, "cut at {cut}");
        assert_eq!(refused(error), OpenError::Authentication);
    }
    for cut in [0, 67, 68, 99] {
        let error = open(&scope, &envelope[..cut], "1").await.unwrap_err();
        assert!(matches!(refused(error), OpenError::Header(_)), "cut at {cut}");
    }
    let one_shot = scope.seal(b"payload", &record("1")).await.unwrap();
    assert!(open(&scope, &one_shot, "1").await.is_err());
    assert!(scope.open(&envelope, &record("1")).await.is_err());
}

#[tokio::test]
async fn a_stream_that_is_not_shut_down_does_not_open() {
    let world = World::new();
    let manager = world.manager().await;
    let scope = scope(&manager);
    let mut envelope = Vec::new();
    let mut stream = scope.seal_stream(&mut envelope, &record("1"), options()).await.unwrap();
    stream.write_all(&plaintext(3 * CHUNK)).await.unwrap();
    stream.flush().await.unwrap();
    drop(stream);
    assert!(open(&scope, &envelope, "1").await.is_err());
}

#[tokio::test]
async fn ranges_fetch_the_chunks_that_they_lie_in() {
    let world = World::new();
    let manager = world.manager().await;
    let scope = scope(&manager);
    let whole = plaintext(10 * CHUNK + 100);
    let envelope = seal(&scope, &whole).await;
    let fetched = std::cell::RefCell::new(Vec::new());
    let fetch = |range: std::ops::Range<u64>| {
        fetched.borrow_mut().push(range.end - range.start);
        let bytes = envelope.get(range.start as usize..range.end as usize).map(<[u8]>::to_vec);
        async move { bytes.ok_or_else(|| io::ErrorKind::UnexpectedEof.into()) }
    };
    let total_len = envelope.len() as u64;
    let range = scope.open_range(fetch, total_len, &record("1"), Codec::RAW).await;
    let mut range = range.unwrap();
    let part = range.read_range(5000..5000 + 4096).await.unwrap();
    assert_eq!(part, whole[5000..5000 + 4096]);
    assert_eq!(*fetched.borrow(), [100, CHUNK as u64 + 16, CHUNK as u64 + 16]);
    assert_eq!(range.len().await.unwrap(), whole.len() as u64);
    assert_eq!(*fetched.borrow().last().unwrap(), 116);
    assert_eq!(range.read_range(0..whole.len() as u64).await.unwrap(), whole);
    let beyond = range.read_range(0..whole.len() as u64 + 1).await.unwrap_err();
    assert!(matches!(beyond, Error::Open(OpenError::OutOfRange { len }) if len == 10 * 4096 + 100));
    #[allow(clippy::reversed_empty_ranges, reason = "that is what is refused")]
    let backwards = range.read_range(5..4).await;
    assert!(matches!(backwards, Err(Error::Io(_))));
}

#[tokio::test]
async fn bytes_of_streams_count_towards_the_budget() {
    let world = World::new();
    let mut policy = Policy::default();
    policy.dek_bytes_max = 1 << 30;
    let manager = world.manager_with(policy).await;
    let scope = scope(&manager);
    let options = StreamOptions::default().with_chunk_log2(22);
    let mut stream = scope.seal_stream(tokio::io::sink(), &record("1"), options).await.unwrap();
    let chunk = vec![0; 4 << 20];
    for _ in 0..(1 << 30) / chunk.len() {
        stream.write_all(&chunk).await.unwrap();
    }
    let error = stream.write_all(&chunk).await.err();
    let error = match error {
        Some(error) => error,
        None => stream.shutdown().await.unwrap_err(),
    };
    let error = error.into_inner().unwrap().downcast::<Error>().unwrap();
    assert!(matches!(*error, Error::BudgetUsedUp), "{error}");
    assert!(stream.write_all(b"more").await.is_err(), "a stream that has failed keeps failing");
    // The successor was staged at half of the budget, and new streams take it.
    common::World::pass(&world, secs(30)).await;
    let next = seal(&scope, b"x").await;
    assert_eq!(Header::parse(&next).unwrap().dek_version.unwrap().get(), 2);
}

/// Panics at the second write, and would go on.
struct Panicking {
    writes: usize,
}

impl AsyncWrite for Panicking {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.writes += 1;
        assert_ne!(self.writes, 2, "as asked");
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn a_stream_whose_writer_panicked_has_failed() {
    let world = World::new();
    let scope = scope(&world.manager().await);
    let writer = Panicking { writes: 0 };
    let mut stream = scope.seal_stream(writer, &record("1"), options()).await.unwrap();
    stream.write_all(&plaintext(CHUNK)).await.unwrap();
    let mut flush =
        || Pin::new(&mut stream).poll_flush(&mut Context::from_waker(Waker::noop())).is_pending();
    assert!(panic::catch_unwind(panic::AssertUnwindSafe(&mut flush)).is_err());
    assert!(stream.shutdown().await.is_err());
}

#[tokio::test]
async fn streams_go_on_through_rotation_and_eviction() {
    let world = World::new();
    let mut policy = Policy::default();
    policy.cached_deks_max = 1;
    let manager = world.manager_with(policy).await;
    let scope = scope(&manager);
    let whole = plaintext(4 * CHUNK);
    let mut sealing = scope.seal_stream(Vec::new(), &record("1"), options()).await.unwrap();
    sealing.write_all(&whole[..2 * CHUNK]).await.unwrap();
    scope.rotate().await.unwrap();
    for other in 0..20 {
        let other = manager.scope(&format!("t-{other}"), "orders").unwrap();
        other.seal(b"x", &record("1")).await.unwrap();
    }
    world.pass(secs(5)).await;
    sealing.write_all(&whole[2 * CHUNK..]).await.unwrap();
    sealing.shutdown().await.unwrap();
    let envelope = sealing.into_inner();
    assert_eq!(Header::parse(&envelope).unwrap().dek_version.unwrap().get(), 1);
    assert_eq!(open(&scope, &envelope, "1").await.unwrap(), whole);
}

#[tokio::test]
async fn a_revoked_kek_ends_open_streams() {
    let world = World::new();
    let manager = world.manager().await;
    let scope = scope(&manager);
    let envelope = seal(&scope, &plaintext(4 * CHUNK)).await;
    let mut sealing = scope.seal_stream(Vec::new(), &record("1"), options()).await.unwrap();
    let mut opening = scope.open_stream(&envelope[..], &record("1"), Codec::RAW).await.unwrap();
    sealing.write_all(&plaintext(2 * CHUNK)).await.unwrap();
    let mut buf = [0; CHUNK];
    opening.read_exact(&mut buf).await.unwrap();
    world.kms.disable().await.unwrap();
    manager.sync().await.unwrap();
    assert!(opening.read_exact(&mut buf).await.is_err());
    assert!(sealing.write_all(&plaintext(2 * CHUNK)).await.is_err());
    assert!(sealing.shutdown().await.is_err());
}

#[tokio::test]
async fn a_shredded_dek_ends_open_streams() {
    let world = World::new();
    let manager = world.manager().await;
    let scope = scope(&manager);
    let envelope = seal(&scope, &plaintext(4 * CHUNK)).await;
    let key_id = Header::parse(&envelope).unwrap().key_id;
    let mut opening = scope.open_stream(&envelope[..], &record("1"), Codec::RAW).await.unwrap();
    let mut buf = [0; CHUNK];
    opening.read_exact(&mut buf).await.unwrap();
    scope.rotate().await.unwrap();
    let shred = StateChange::new(key_id, DekState::DecryptOnly, DekState::Shredded).unwrap();
    assert!(world.store.change_state(&shred).await.unwrap());
    manager.sync().await.unwrap();
    assert!(opening.read_exact(&mut buf).await.is_err());
}

#[tokio::test]
async fn a_sealing_stream_lasts_no_longer_than_the_seal_lease() {
    let world = World::new();
    let manager = world.manager().await;
    let scope = scope(&manager);
    let mut stream = scope.seal_stream(Vec::new(), &record("1"), options()).await.unwrap();
    let lease = Policy::default().seal_lease;
    world.clock.advance(lease);
    manager.sync().await.unwrap();
    // What the DEK needs to be seen as valid again.
    scope.seal(b"x", &record("1")).await.unwrap();
    let error = stream.write_all(&plaintext(2 * CHUNK)).await.unwrap_err();
    let error = error.into_inner().unwrap().downcast::<Error>().unwrap();
    assert!(matches!(*error, Error::StreamTooSlow), "{error}");
}
