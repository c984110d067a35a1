//! What a store takes, checked before a statement runs.

use std::collections::HashSet;
use std::time::Duration;

use bulla_backend::{KekId, KekState, MemberId, NewDek, StoreError, StoredWrap, WrappedKey};

use crate::error::refused;

const KEK_ID_BYTES_MAX: usize = 512;
const KEK_VERSION_BYTES_MAX: usize = 255;
const MEMBER_ID_BYTES_MAX: usize = 64;

pub(crate) fn check_wrap(wrap: &WrappedKey) -> Result<(), StoreError> {
    if wrap.blob.is_empty() || wrap.blob.len() > WrappedKey::BLOB_BYTES_MAX {
        return Err(refused("a wrapped key is 1 to 1024 bytes"));
    }
    check_kek(&wrap.kek)?;
    wrap.kek_version.label().map_or(Ok(()), check_label)
}

/// Each wrap, how many there are, and that no two are by one KEK.
pub(crate) fn check_dek(dek: &NewDek) -> Result<(), StoreError> {
    dek.wraps().try_for_each(check_wrap)?;
    check_slot(u8::try_from(dek.also_wrapped.len()).unwrap_or(u8::MAX))?;
    let mut keks = HashSet::new();
    if dek.wraps().all(|wrap| keks.insert(&wrap.kek)) {
        return Ok(());
    }
    Err(refused("two wraps of one DEK are by the same KEK"))
}

pub(crate) fn check_slot(slot: u8) -> Result<(), StoreError> {
    if usize::from(slot) < StoredWrap::PER_DEK_MAX {
        return Ok(());
    }
    Err(refused("a DEK has 16 wraps at most"))
}

pub(crate) fn check_kek_state(state: &KekState) -> Result<(), StoreError> {
    check_kek(&state.kek)?;
    state.current.label().map_or(Ok(()), check_label)?;
    state.versions.iter().try_for_each(|version| check_label(&version.label))
}

pub(crate) fn check_member(member: &MemberId) -> Result<(), StoreError> {
    check_len(member.as_str(), MEMBER_ID_BYTES_MAX, "a member id is 1 to 64 bytes")
}

fn check_kek(kek: &KekId) -> Result<(), StoreError> {
    check_len(kek.as_str(), KEK_ID_BYTES_MAX, "a KEK id is 1 to 512 bytes")
}

fn check_label(label: &str) -> Result<(), StoreError> {
    check_len(label, KEK_VERSION_BYTES_MAX, "a KEK version is 1 to 255 bytes")
}

fn check_len(text: &str, max: usize, message: &'static str) -> Result<(), StoreError> {
    // A database may cut text off at a NUL.
    if text.is_empty() || text.len() > max || text.contains('\0') {
        return Err(refused(message));
    }
    Ok(())
}

/// The point `duration` after `now`, both in the milliseconds of a database; the end
/// of time if there is none. Rounds up: nothing ends early.
pub(crate) fn after(now: i64, duration: Duration) -> i64 {
    let millis = duration.as_nanos().div_ceil(1_000_000);
    now.saturating_add(i64::try_from(millis).unwrap_or(i64::MAX))
}

/// From `earlier` to `later`, in the milliseconds of a database; zero if the clock
/// was set back in between.
pub(crate) fn between(earlier: i64, later: i64) -> Duration {
    Duration::from_millis(u64::try_from(later.saturating_sub(earlier)).unwrap_or(0))
}

/// A revision as a database holds it. None is ever as large as the largest.
pub(crate) fn revision(rev: u64) -> i64 {
    i64::try_from(rev).unwrap_or(i64::MAX)
}
