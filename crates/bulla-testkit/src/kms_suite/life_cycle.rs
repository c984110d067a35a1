//! Rotation, rewrapping and the states of keys and versions.

use std::sync::Arc;

use bulla_backend::{
    GenerateRequest, Kek, KekState, KekStatus, KmsErrorKind, RewrapRequest, WrapRequest, WrappedKey,
};

use super::{KmsFixture, assert_fails, assert_unwraps, context, generate, supported, unwrap};

const DISABLED: &[KmsErrorKind] = &[KmsErrorKind::Disabled];
const GONE: &[KmsErrorKind] = &[KmsErrorKind::Disabled, KmsErrorKind::NotFound];

/// `describe` names the KEK, says that it is enabled, and lists the current version
/// among the enabled ones if it lists any.
pub async fn describe_names_the_key(fixture: &dyn KmsFixture) {
    let kek = fixture.kek();
    let state = describe(&*kek).await;
    assert_eq!(state.kek, *kek.kek());
    assert_eq!(state.status, KekStatus::Enabled);
    if let (Some(current), false) = (state.current.label(), state.versions.is_empty()) {
        assert_eq!(status_of(&state, current), Some(KekStatus::Enabled));
    }
    let mut labels: Vec<_> = state.versions.iter().map(|version| &version.label).collect();
    labels.sort_unstable();
    labels.dedup();
    assert_eq!(labels.len(), state.versions.len(), "describe lists a version twice");
}

/// After a rotation, old wraps unwrap, new wraps carry the new version, and
/// `describe` shows it as the last.
pub async fn rotation_keeps_old_wraps(fixture: &dyn KmsFixture) {
    let (kek, context) = (fixture.kek(), context());
    let Some(admin) = fixture.admin() else { return };
    let mut generated = vec![generate(&*kek, &context).await];
    for _ in 0..3 {
        let before = describe(&*kek).await;
        let Some(version) = supported(admin.rotate().await) else { return };
        let after = describe(&*kek).await;
        assert_eq!(after.current.label(), version.label(), "describe misses the rotation");
        if version.label().is_some() {
            assert_ne!(before.current.label(), version.label(), "rotation kept the version");
        }
        if let Some(last) = after.versions.last() {
            assert_eq!(Some(&*last.label), version.label(), "versions are not oldest first");
            assert!(after.versions.len() > before.versions.len(), "no version was added");
        }
        let new = generate(&*kek, &context).await;
        if kek.capabilities().names_version {
            assert_eq!(new.wrapped.kek_version.label(), version.label());
        }
        generated.push(new);
        for old in &generated {
            let unwrapped = assert_unwraps(&*kek, &old.wrapped, &context, &old.data_key).await;
            if let Some(label) = old.wrapped.kek_version.label() {
                assert_eq!(unwrapped.kek_version.label(), Some(label));
            }
        }
    }
}

/// A rewrap holds the same DEK under the current version and the same context; the
/// old wrap still unwraps. At the current version it works too.
pub async fn rewrap_moves_to_the_current_version(fixture: &dyn KmsFixture) {
    let (kek, context) = (fixture.kek(), context());
    let old = generate(&*kek, &context).await;
    let rewrap = async |wrapped: &WrappedKey| {
        let rewrapped = kek.rewrap_key(RewrapRequest::new(wrapped, &context)).await;
        let rewrapped = rewrapped.unwrap_or_else(|error| panic!("rewrap_key failed: {error}"));
        assert_eq!(rewrapped.kek, *kek.kek(), "a rewrap must name the KEK that made it");
        assert_unwraps(&*kek, &rewrapped, &context, &old.data_key).await;
        rewrapped
    };
    rewrap(&old.wrapped).await;
    let Some(admin) = fixture.admin() else { return };
    let Some(version) = supported(admin.rotate().await) else { return };
    let new = rewrap(&old.wrapped).await;
    if kek.capabilities().names_version {
        assert_eq!(new.kek_version.label(), version.label(), "rewrap stayed at the old version");
    }
    assert_unwraps(&*kek, &old.wrapped, &context, &old.data_key).await;
    let elsewhere = super::context_of(&[("tenant", "t-2")], 1);
    let result = unwrap(&*kek, &new, &elsewhere).await;
    assert_fails(result, &[KmsErrorKind::Tampered], "unwrap of a rewrap under another context");
}

/// A disabled key refuses the whole data path as `Disabled`, tells so when asked, and
/// works again once enabled.
pub async fn a_disabled_key_does_nothing(fixture: &dyn KmsFixture) {
    let (kek, context) = (fixture.kek(), context());
    let Some(admin) = fixture.admin() else { return };
    let generated = generate(&*kek, &context).await;
    let Some(()) = supported(admin.disable().await) else { return };
    let wrapped = &generated.wrapped;
    let result = kek.generate_data_key(GenerateRequest::new(&context)).await;
    assert_fails(result, DISABLED, "generate under a disabled key");
    let result = kek.wrap_key(WrapRequest::new(&generated.data_key, &context)).await;
    assert_fails(result, DISABLED, "wrap under a disabled key");
    assert_fails(unwrap(&*kek, wrapped, &context).await, DISABLED, "unwrap under a disabled key");
    let result = kek.rewrap_key(RewrapRequest::new(wrapped, &context)).await;
    assert_fails(result, DISABLED, "rewrap under a disabled key");
    assert_eq!(describe(&*kek).await.status, KekStatus::Disabled);

    assert!(supported(admin.enable().await).is_some(), "a key that disables must enable");
    assert_unwraps(&*kek, wrapped, &context, &generated.data_key).await;
    assert_eq!(describe(&*kek).await.status, KekStatus::Enabled);
}

/// A key that waits for its destruction refuses the whole data path as `Disabled`, and
/// tells what it waits for.
pub async fn a_key_to_be_destroyed_does_nothing(fixture: &dyn KmsFixture) {
    let (kek, context) = (fixture.kek(), context());
    let generated = generate(&*kek, &context).await;
    if !fixture.schedule_destruction().await {
        return;
    }
    let result = kek.generate_data_key(GenerateRequest::new(&context)).await;
    assert_fails(result, DISABLED, "generate under a key to be destroyed");
    let result = unwrap(&*kek, &generated.wrapped, &context).await;
    assert_fails(result, DISABLED, "unwrap under a key to be destroyed");
    let result = kek.rewrap_key(RewrapRequest::new(&generated.wrapped, &context)).await;
    assert_fails(result, DISABLED, "rewrap under a key to be destroyed");
    assert_eq!(describe(&*kek).await.status, KekStatus::PendingDestruction);
}

/// A disabled version does not unwrap and is shown as disabled; the current version
/// works on; once enabled it unwraps again.
pub async fn a_disabled_version_does_not_unwrap(fixture: &dyn KmsFixture) {
    let Some(old) = OldVersion::of(fixture).await else { return };
    let (kek, context) = (fixture.kek(), context());
    let admin = fixture.admin().expect("it has just rotated");
    let Some(()) = supported(admin.disable_version(&old.label).await) else { return };
    assert_fails(unwrap(&*kek, &old.wrapped, &context).await, DISABLED, "unwrap by it");
    let result = kek.rewrap_key(RewrapRequest::new(&old.wrapped, &context)).await;
    assert_fails(result, DISABLED, "rewrap from it");
    assert_eq!(status_of(&describe(&*kek).await, &old.label), Some(KekStatus::Disabled));
    let new = generate(&*kek, &context).await;
    assert_unwraps(&*kek, &new.wrapped, &context, &new.data_key).await;

    assert!(supported(admin.enable_version(&old.label).await).is_some());
    assert_unwraps(&*kek, &old.wrapped, &context, &old.data_key).await;
    assert_eq!(status_of(&describe(&*kek).await, &old.label), Some(KekStatus::Enabled));
}

/// A version must be disabled before it is destroyed; then it does not unwrap and
/// `describe` says so or has forgotten it. What was rewrapped before lives on.
pub async fn a_destroyed_version_is_gone(fixture: &dyn KmsFixture) {
    let Some(old) = OldVersion::of(fixture).await else { return };
    let (kek, context) = (fixture.kek(), context());
    let admin = fixture.admin().expect("it has just rotated");
    let rewrapped = kek.rewrap_key(RewrapRequest::new(&old.wrapped, &context)).await.unwrap();

    let early = admin.destroy_version(&old.label).await;
    if early.as_ref().is_err_and(|error| error.kind() == KmsErrorKind::Unsupported) {
        return;
    }
    assert_fails(early, &[KmsErrorKind::Misconfigured], "destroying an enabled version");
    assert_unwraps(&*kek, &old.wrapped, &context, &old.data_key).await;

    let Some(()) = supported(admin.disable_version(&old.label).await) else { return };
    assert!(supported(admin.destroy_version(&old.label).await).is_some());
    assert_fails(unwrap(&*kek, &old.wrapped, &context).await, GONE, "unwrap by it");
    let result = kek.rewrap_key(RewrapRequest::new(&old.wrapped, &context)).await;
    assert_fails(result, GONE, "rewrap from it");
    let status = status_of(&describe(&*kek).await, &old.label);
    assert!(
        matches!(status, None | Some(KekStatus::PendingDestruction | KekStatus::Destroyed)),
        "describe says that a destroyed version is {status:?}"
    );
    assert_unwraps(&*kek, &rewrapped, &context, &old.data_key).await;
}

/// The current version refuses to be disabled or destroyed, and works afterwards.
pub async fn the_current_version_is_protected(fixture: &dyn KmsFixture) {
    let (kek, context) = (fixture.kek(), context());
    let Some(admin) = fixture.admin() else { return };
    let generated = generate(&*kek, &context).await;
    let state = describe(&*kek).await;
    let Some(current) = state.current.label() else { return };
    let kinds = &[KmsErrorKind::Misconfigured, KmsErrorKind::Unsupported];
    assert_fails(admin.disable_version(current).await, kinds, "disabling the current version");
    assert_fails(admin.destroy_version(current).await, kinds, "destroying the current version");
    assert_unwraps(&*kek, &generated.wrapped, &context, &generated.data_key).await;
    generate(&*kek, &context).await;
}

/// Everything but `rotate` may be said twice, and may be said when it is so already.
pub async fn administration_is_idempotent(fixture: &dyn KmsFixture) {
    let Some(old) = OldVersion::of(fixture).await else { return };
    let (kek, context) = (fixture.kek(), context());
    let admin = fixture.admin().expect("it has just rotated");
    for _ in 0..2 {
        supported(admin.enable().await);
        supported(admin.enable_version(&old.label).await);
    }
    assert_unwraps(&*kek, &old.wrapped, &context, &old.data_key).await;
    for _ in 0..2 {
        supported(admin.disable().await);
    }
    for _ in 0..2 {
        supported(admin.enable().await);
    }
    assert_unwraps(&*kek, &old.wrapped, &context, &old.data_key).await;
    let Some(()) = supported(admin.disable_version(&old.label).await) else { return };
    supported(admin.disable_version(&old.label).await);
    let before = describe(&*kek).await.versions.len();
    for _ in 0..2 {
        supported(admin.destroy_version(&old.label).await);
    }
    let after = describe(&*kek).await.versions.len();
    assert!(after <= before, "destroying a version made one");
}

/// Labels that name no version are `NotFound`.
pub async fn unknown_versions_are_not_found(fixture: &dyn KmsFixture) {
    let Some(old) = OldVersion::of(fixture).await else { return };
    let admin = fixture.admin().expect("it has just rotated");
    let kinds = &[KmsErrorKind::NotFound, KmsErrorKind::Unsupported];
    for label in ["", "no-such-version", "4000000000", &format!("0{}", old.label)] {
        assert_fails(admin.disable_version(label).await, kinds, "disabling an unknown version");
        assert_fails(admin.enable_version(label).await, kinds, "enabling an unknown version");
        assert_fails(admin.destroy_version(label).await, kinds, "destroying an unknown version");
    }
}

/// A version that is no longer current, and a wrap by it.
struct OldVersion {
    label: Arc<str>,
    wrapped: WrappedKey,
    data_key: bulla_core::DataKey,
}

impl OldVersion {
    /// `None` where the backend cannot rotate, or nobody can name the version.
    async fn of(fixture: &dyn KmsFixture) -> Option<Self> {
        let kek = fixture.kek();
        let admin = fixture.admin()?;
        let generated = generate(&*kek, &context()).await;
        let label = generated.wrapped.kek_version.label()?.into();
        supported(admin.rotate().await)?;
        Some(Self { label, wrapped: generated.wrapped, data_key: generated.data_key })
    }
}

async fn describe(kek: &dyn Kek) -> KekState {
    kek.describe().await.unwrap_or_else(|error| panic!("describe failed: {error}"))
}

fn status_of(state: &KekState, label: &str) -> Option<KekStatus> {
    state.versions.iter().find(|version| &*version.label == label).map(|version| version.status)
}
