//! Self-contained envelopes for several KEKs.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;

use bulla_backend::{Kek, KeyWrapper, KmsErrorKind, KmsOperation, ScopeId};
use bulla_core::{
    Codec, Envelope, Head, KeyOptions, OpenError, RecordContext, StreamOptions, Suite,
};
use bulla_manager::{Error, Recipients};
use bulla_testkit::{Lie, TestKms};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn kms(name: &str) -> Arc<TestKms> {
    Arc::new(TestKms::new(name))
}

fn exports() -> ScopeId {
    ScopeId::new("t-1", "exports").unwrap()
}

fn file(name: &str) -> RecordContext {
    RecordContext::new([("file", name)]).unwrap()
}

fn wraps(envelope: &[u8]) -> usize {
    Envelope::parse(envelope).unwrap().head().wraps().unwrap().entries().len()
}

/// The envelope with `head` in place of its own.
fn with_head(envelope: &[u8], head: &[u8]) -> Vec<u8> {
    [head, &envelope[Head::len_of(envelope).unwrap()..]].concat()
}

#[tokio::test]
async fn any_of_its_keks_opens_it_and_no_other() {
    let (a, b, c) = (kms("a"), kms("b"), kms("c"));
    let envelope = Recipients::new([a.clone(), b.clone()]);
    let envelope = envelope.seal(&exports(), b"report", &file("1")).await.unwrap();
    for kek in [a.clone(), b] {
        let opened = Recipients::new([kek]).open(&exports(), &envelope, &file("1")).await;
        assert_eq!(opened.unwrap(), b"report");
    }
    let refused = Recipients::new([c.clone()]).open(&exports(), &envelope, &file("1")).await;
    assert!(matches!(refused, Err(Error::NoUsableWrap)));
    assert_eq!(c.data_calls(), 0, "a KEK that the envelope does not name is not asked");
    let other_file = Recipients::new([a.clone()]).open(&exports(), &envelope, &file("2")).await;
    assert!(matches!(other_file, Err(Error::Open(OpenError::Authentication))));
    let scope = ScopeId::new("t-2", "exports").unwrap();
    let other_scope = Recipients::new([a]).open(&scope, &envelope, &file("1")).await;
    assert!(
        matches!(other_scope, Err(Error::Kms(error)) if error.kind() == KmsErrorKind::Tampered)
    );
}

#[tokio::test]
async fn the_next_kek_is_asked_when_one_cannot_unwrap() {
    let (a, b) = (kms("a"), kms("b"));
    let both = Recipients::new([a.clone(), b.clone()]);
    let envelope = both.seal(&exports(), b"report", &file("1")).await.unwrap();
    a.fail_all(Some(KmsErrorKind::Unavailable));
    assert_eq!(both.open(&exports(), &envelope, &file("1")).await.unwrap(), b"report");
    b.fail_all(Some(KmsErrorKind::Denied));
    let refused = both.open(&exports(), &envelope, &file("1")).await;
    assert!(matches!(refused, Err(Error::Kms(error)) if error.kind() == KmsErrorKind::Denied));
}

#[tokio::test]
async fn rewraps_change_who_opens_it_and_not_the_payload() {
    let (a, b, c) = (kms("a"), kms("b"), kms("c"));
    let only = |kek: &Arc<TestKms>| Recipients::new([kek.clone()]);
    let envelope = only(&a).seal(&exports(), b"report", &file("1")).await.unwrap();

    let added = only(&a).add(&exports(), &envelope, &only(&b)).await.unwrap();
    let added = with_head(&envelope, &added);
    assert_eq!(wraps(&added), 2);
    assert_eq!(
        Envelope::parse(&added).unwrap().payload(),
        Envelope::parse(&envelope).unwrap().payload()
    );
    assert_eq!(only(&b).open(&exports(), &added, &file("1")).await.unwrap(), b"report");

    // Adding one that is there replaces its wrap.
    let again = with_head(&added, &only(&b).add(&exports(), &added, &only(&a)).await.unwrap());
    assert_eq!(wraps(&again), 2);

    let removed = only(&b).remove(&exports(), &again, KeyWrapper::kek(&*a)).await.unwrap();
    let removed = with_head(&again, &removed);
    assert_eq!(wraps(&removed), 1);
    assert!(only(&a).open(&exports(), &removed, &file("1")).await.is_err());

    let moved = only(&b).rewrap(&exports(), &removed, &only(&c)).await.unwrap();
    let moved = with_head(&removed, &moved);
    assert!(only(&b).open(&exports(), &moved, &file("1")).await.is_err());
    assert_eq!(only(&c).open(&exports(), &moved, &file("1")).await.unwrap(), b"report");
    let generation = Envelope::parse(&moved).unwrap().head().wraps().unwrap().generation();
    assert_eq!(generation, 4);

    let absent = only(&c).remove(&exports(), &moved, KeyWrapper::kek(&*b)).await;
    assert!(matches!(absent, Err(Error::NotARecipient(_))));
    let nobody = only(&c).remove(&exports(), &moved, KeyWrapper::kek(&*c)).await;
    assert!(matches!(nobody, Err(Error::Wraps(_))));
    // Wraps that were changed are not carried on.
    let mut forged = added;
    forged[75] ^= 0xff;
    assert!(only(&a).add(&exports(), &forged, &only(&c)).await.is_err());
}

#[tokio::test]
async fn a_wrap_that_does_not_unwrap_is_found_before_anything_is_sealed() {
    let a = kms("a");
    a.lie(Some(Lie::Wrap));
    let refused = Recipients::new([a]).seal(&exports(), b"report", &file("1")).await;
    assert!(matches!(refused, Err(Error::WrapNotVerified(_))));
}

#[tokio::test]
async fn keks_are_one_to_eight_and_distinct() {
    let none = Recipients::of([]).seal(&exports(), b"x", &file("1")).await;
    assert!(matches!(none, Err(Error::Wraps(_))));
    let nine = (0..9).map(|i| kms(&i.to_string()));
    let nine = Recipients::new(nine).seal(&exports(), b"x", &file("1")).await;
    assert!(matches!(nine, Err(Error::Wraps(_))));
    let a = kms("a");
    let twice = Recipients::new([a.clone(), a]).seal(&exports(), b"x", &file("1")).await;
    assert!(matches!(twice, Err(Error::Wraps(_))));
}

/// A suite that is only named for sealing is opened and rewrapped as well.
#[tokio::test]
async fn what_is_sealed_here_can_be_opened_and_rewrapped_here() {
    let mut options = KeyOptions::default();
    options.suite = Suite::Xaes256GcmSiv;
    let (a, b) = (kms("a"), kms("b"));
    let ours = Recipients::new([a]).key_options(options);
    let envelope = ours.seal(&exports(), b"report", &file("1")).await.unwrap();
    assert_eq!(ours.open(&exports(), &envelope, &file("1")).await.unwrap(), b"report");
    let added = ours.add(&exports(), &envelope, &Recipients::new([b])).await.unwrap();
    assert_eq!(wraps(&with_head(&envelope, &added)), 2);
}

#[tokio::test]
async fn streams_carry_their_key_too() {
    let (a, b) = (kms("a"), kms("b"));
    let kek: Arc<dyn Kek> = a.clone();
    for suite in Suite::ALL {
        let options = KeyOptions::default().with_suite(*suite);
        let recipients = Recipients::of([kek.clone(), b.clone()]).key_options(options);
        let stream = StreamOptions::default().with_chunk_log2(12);
        let sealing = recipients.seal_stream(&exports(), Vec::new(), &file("1"), stream).await;
        let mut sealing = sealing.unwrap();
        sealing.write_all(&[7; 10_000]).await.unwrap();
        sealing.shutdown().await.unwrap();
        let envelope = sealing.into_inner();
        let open = async |envelope: &[u8]| {
            let (scope, context) = (exports(), file("1"));
            let opening = recipients.open_stream(&scope, envelope, &context, Codec::RAW);
            let mut plaintext = Vec::new();
            opening.await?.read_to_end(&mut plaintext).await?;
            Ok::<_, Error>(plaintext)
        };
        assert_eq!(open(&envelope).await.unwrap(), [7; 10_000]);
        for cut in [0, 67, 69, 80, 300, envelope.len() - 1] {
            assert!(open(&envelope[..cut]).await.is_err(), "cut at {cut}");
        }
    }
    assert_eq!(a.calls(KmsOperation::WrapKey), 2, "one wrap for each envelope");
}
