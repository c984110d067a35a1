//! What is not a wrap of this KEK is refused, whatever it looks like.

use bulla_backend::{KekId, KekVersion, KmsErrorKind, RewrapRequest, WrappedKey};

use super::{Condition, KmsFixture, assert_fails, assert_unwraps, context, generate, unwrap};

/// Positions that are flipped in one blob; longer blobs are sampled.
const FLIPS_MAX: usize = 160;

/// Any changed byte is noticed: as `Tampered`, or as `NotFound` where the blob names
/// the version and the change made it another one.
pub async fn changed_blobs_are_refused(fixture: &dyn KmsFixture) {
    let (kek, context) = (fixture.kek(), context());
    let generated = generate(&*kek, &context).await;
    let kinds: &[_] = match generated.wrapped.kek_version {
        KekVersion::Parsed(_) => &[KmsErrorKind::Tampered, KmsErrorKind::NotFound],
        _ => &[KmsErrorKind::Tampered],
    };
    let len = generated.wrapped.blob.len();
    for at in (0..len).step_by(len.div_ceil(FLIPS_MAX)) {
        let mut changed = generated.wrapped.clone();
        changed.blob[at] ^= if at % 2 == 0 { 0x01 } else { 0x80 };
        let what = format!("unwrap with byte {at} of {len} changed");
        assert_fails(unwrap(&*kek, &changed, &context).await, kinds, &what);
    }
    let mut changed = generated.wrapped.clone();
    changed.blob[len - 1] ^= 0x10;
    let result = kek.rewrap_key(RewrapRequest::new(&changed, &context)).await;
    assert_fails(result, kinds, "rewrap of a changed blob");
    assert_unwraps(&*kek, &generated.wrapped, &context, &generated.data_key).await;
}

/// Cut, extended, doubled, empty and oversized blobs are `Tampered`.
pub async fn blobs_of_other_lengths_are_refused(fixture: &dyn KmsFixture) {
    let (kek, context) = (fixture.kek(), context());
    let generated = generate(&*kek, &context).await;
    let blob = &generated.wrapped.blob;
    let with = |more: &[u8]| [&blob[..], more].concat();
    let others = [
        ("an empty blob", Vec::new()),
        ("one byte", blob[..1].to_vec()),
        ("half of the blob", blob[..blob.len() / 2].to_vec()),
        ("all but the last byte", blob[..blob.len() - 1].to_vec()),
        ("all but the first byte", blob[1..].to_vec()),
        ("one byte more", with(&[0])),
        ("the blob twice", with(blob)),
        ("one byte too many for any blob", vec![b'A'; WrappedKey::BLOB_BYTES_MAX + 1]),
        ("a mebibyte behind the blob", with(&vec![0; 1 << 20])),
        ("zeros", vec![0; blob.len()]),
    ];
    for (what, blob) in others {
        let mut changed = generated.wrapped.clone();
        changed.blob = blob;
        let result = unwrap(&*kek, &changed, &context).await;
        assert_fails(result, &[KmsErrorKind::Tampered], &format!("unwrap of {what}"));
        let result = kek.rewrap_key(RewrapRequest::new(&changed, &context)).await;
        assert_fails(result, &[KmsErrorKind::Tampered], &format!("rewrap of {what}"));
    }
}

/// A wrap that names another KEK is `Tampered` though its blob is ours, and before
/// any request is sent: even when the KMS cannot be reached.
pub async fn blobs_that_name_another_kek_are_refused(fixture: &dyn KmsFixture) {
    let (kek, context) = (fixture.kek(), context());
    let generated = generate(&*kek, &context).await;
    fixture.set_condition(Condition::Unreachable).await;
    for name in [fixture.other_kek().kek().clone(), KekId::new("nobody:nothing"), KekId::new("")] {
        let mut renamed = generated.wrapped.clone();
        renamed.kek = name.clone();
        let what = format!("unwrap of a wrap that names {name:?}");
        assert_fails(unwrap(&*kek, &renamed, &context).await, &[KmsErrorKind::Tampered], &what);
        let result = kek.rewrap_key(RewrapRequest::new(&renamed, &context)).await;
        assert_fails(result, &[KmsErrorKind::Tampered], "rewrap of a wrap that names another KEK");
    }
    fixture.set_condition(Condition::Healthy).await;
}

/// Another KEK's blob with our name on it is `Tampered`.
pub async fn foreign_blobs_are_refused_under_our_name(fixture: &dyn KmsFixture) {
    let (kek, other, context) = (fixture.kek(), fixture.other_kek(), context());
    let mut relabelled = generate(&*other, &context).await.wrapped;
    relabelled.kek = kek.kek().clone();
    let result = unwrap(&*kek, &relabelled, &context).await;
    assert_fails(result, &[KmsErrorKind::Tampered], "unwrap of a relabelled foreign blob");
    let result = kek.rewrap_key(RewrapRequest::new(&relabelled, &context)).await;
    assert_fails(result, &[KmsErrorKind::Tampered], "rewrap of a relabelled foreign blob");
}
