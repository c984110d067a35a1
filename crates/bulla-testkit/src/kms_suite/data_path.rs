//! What goes in comes out, under the same context and KEK only.

use bulla_backend::{KekVersion, KmsErrorKind, RewrapRequest, WrapRequest, WrappedKey};
use bulla_core::DataKey;

use super::{KmsFixture, assert_fails, assert_unwraps, context, context_of, generate, unwrap};

/// A generated key unwraps at once, keys differ, and a wrap does not show its key.
pub async fn generated_keys_unwrap(fixture: &dyn KmsFixture) {
    let (kek, context) = (fixture.kek(), context());
    let first = generate(&*kek, &context).await;
    let second = generate(&*kek, &context).await;
    assert!(first.data_key != second.data_key, "the same data key was generated twice");
    for generated in [&first, &second] {
        let wrapped = &generated.wrapped;
        assert_eq!(wrapped.kek, *kek.kek(), "a wrap must name the KEK that made it");
        let len = wrapped.blob.len();
        assert!((1..=WrappedKey::BLOB_BYTES_MAX).contains(&len), "a blob of {len} bytes");
        let key = &generated.data_key.expose_secret()[..];
        assert!(!wrapped.blob.windows(16).any(|part| part == &key[..16]), "the blob shows the key");
        assert_unwraps(&*kek, wrapped, &context, &generated.data_key).await;
    }
}

/// A given key unwraps to the same bytes, whatever they are.
pub async fn wrapped_keys_unwrap(fixture: &dyn KmsFixture) {
    let (kek, context) = (fixture.kek(), context());
    for byte in [0x00, 0xff, 0x5a] {
        let data_key = DataKey::init_with(|bytes| bytes.fill(byte));
        let wrapped = kek.wrap_key(WrapRequest::new(&data_key, &context)).await;
        let wrapped = wrapped.unwrap_or_else(|error| panic!("wrap_key failed: {error}"));
        assert_eq!(wrapped.kek, *kek.kek(), "a wrap must name the KEK that made it");
        assert_unwraps(&*kek, &wrapped, &context, &data_key).await;
    }
}

/// Two KEKs have two names, and neither takes the other's wraps.
pub async fn keks_do_not_open_each_others_wraps(fixture: &dyn KmsFixture) {
    let (ours, theirs, context) = (fixture.kek(), fixture.other_kek(), context());
    assert_ne!(ours.kek(), theirs.kek(), "two KEKs must not have one name");
    for (maker, opener) in [(&ours, &theirs), (&theirs, &ours)] {
        let wrapped = generate(&**maker, &context).await.wrapped;
        let result = unwrap(&**opener, &wrapped, &context).await;
        assert_fails(result, &[KmsErrorKind::Tampered], "unwrapping another KEK's wrap");
        let rewrapped = opener.rewrap_key(RewrapRequest::new(&wrapped, &context)).await;
        assert_fails(rewrapped, &[KmsErrorKind::Tampered], "rewrapping another KEK's wrap");
    }
}

type Pairs<'a> = &'a [(&'a str, &'a str)];

/// A changed, missing or extra pair, and another DEK version, are refused by unwrap
/// and rewrap; the order in which the pairs were given is not.
pub async fn contexts_must_match(fixture: &dyn KmsFixture) {
    let kek = fixture.kek();
    let right = [("tenant", "t-1"), ("purpose", "orders")];
    let context = context_of(&right, 1);
    let generated = generate(&*kek, &context).await;
    let wrapped = &generated.wrapped;
    let wrong: [(&str, Pairs<'_>, u32); 9] = [
        ("another value", &[("tenant", "t-2"), ("purpose", "orders")], 1),
        ("another case", &[("tenant", "T-1"), ("purpose", "orders")], 1),
        ("another key", &[("owner", "t-1"), ("purpose", "orders")], 1),
        ("swapped values", &[("tenant", "orders"), ("purpose", "t-1")], 1),
        ("a missing pair", &[("tenant", "t-1")], 1),
        ("no pairs", &[], 1),
        ("an extra pair", &[("tenant", "t-1"), ("purpose", "orders"), ("x", "")], 1),
        ("a pair in two", &[("tenant", "t"), ("-1purpose", "orders")], 1),
        ("another DEK version", &right, 2),
    ];
    for (what, pairs, version) in wrong {
        let kinds: &[_] = match pairs {
            // Nobody has such a scope: to say so is as good.
            [] => &[KmsErrorKind::Tampered, KmsErrorKind::Misconfigured],
            _ => &[KmsErrorKind::Tampered],
        };
        let context = context_of(pairs, version);
        let result = unwrap(&*kek, wrapped, &context).await;
        assert_fails(result, kinds, &format!("unwrap under {what}"));
        let result = kek.rewrap_key(RewrapRequest::new(wrapped, &context)).await;
        assert_fails(result, kinds, &format!("rewrap under {what}"));
    }
    let reordered = context_of(&[("purpose", "orders"), ("tenant", "t-1")], 1);
    assert_unwraps(&*kek, wrapped, &reordered, &generated.data_key).await;
}

/// With `names_version`, generate, unwrap and rewrap name the version, and agree with
/// `describe`; without it, nobody makes one up. Wrap may not know it: some KMSs do
/// not tell.
pub async fn versions_are_reported_as_promised(fixture: &dyn KmsFixture) {
    let (kek, context) = (fixture.kek(), context());
    let generated = generate(&*kek, &context).await;
    let wrapped = kek.wrap_key(WrapRequest::new(&generated.data_key, &context)).await.unwrap();
    let rewrapped = kek.rewrap_key(RewrapRequest::new(&wrapped, &context)).await.unwrap();
    let unwrapped = assert_unwraps(&*kek, &generated.wrapped, &context, &generated.data_key).await;
    let said = [&generated.wrapped.kek_version, &rewrapped.kek_version, &unwrapped.kek_version];
    if !kek.capabilities().names_version {
        for version in said.into_iter().chain([&wrapped.kek_version]) {
            assert_eq!(*version, KekVersion::Unknown, "versions were said to be unknown");
        }
        return;
    }
    let current = kek.describe().await.unwrap().current;
    let current = current.label().expect("describe names the current version");
    for version in said {
        assert_eq!(version.label(), Some(current), "the version differs from describe's");
    }
    if let Some(label) = wrapped.kek_version.label() {
        assert_eq!(label, current, "the version of wrap_key differs from describe's");
    }
}
