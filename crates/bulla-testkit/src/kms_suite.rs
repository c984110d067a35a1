//! Conformance of a KMS backend: what [`KeyWrapper`](bulla_backend::KeyWrapper),
//! [`KeyInspector`](bulla_backend::KeyInspector) and [`KeyAdmin`] promise, as tests.
//!
//! Describe your backend by a [`KmsFixture`] and let [`kms_conformance_tests!`] make
//! one Tokio test of each case:
//!
//! ```
//! use std::sync::Arc;
//! use bulla_backend::{Kek, KeyAdmin};
//! use bulla_testkit::TestKms;
//! use bulla_testkit::kms_suite::{self, Condition, KmsFixture};
//!
//! /// Here, the testing KMS in the place of your backend.
//! struct MyFixture(Arc<TestKms>, Arc<TestKms>);
//!
//! #[async_trait::async_trait]
//! impl KmsFixture for MyFixture {
//!     fn kek(&self) -> Arc<dyn Kek> {
//!         self.0.clone()
//!     }
//!     fn other_kek(&self) -> Arc<dyn Kek> {
//!         self.1.clone()
//!     }
//!     fn admin(&self) -> Option<Arc<dyn KeyAdmin>> {
//!         Some(self.0.clone())
//!     }
//!     async fn set_condition(&self, _condition: Condition) -> bool {
//!         false
//!     }
//!     async fn schedule_destruction(&self) -> bool {
//!         false
//!     }
//! }
//!
//! impl MyFixture {
//!     async fn start() -> Self {
//!         Self(Arc::new(TestKms::new("a")), Arc::new(TestKms::new("b")))
//!     }
//! }
//!
//! #[cfg(test)]
//! mod conformance {
//!     bulla_testkit::kms_conformance_tests!(super::MyFixture::start().await);
//! }
//!
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! kms_suite::generated_keys_unwrap(&MyFixture::start().await).await;
//! # });
//! ```
//!
//! Each case is a public function too. It takes a fixture of its own, as it may
//! leave keys disabled or destroyed, returns when all is well and panics with a
//! sentence otherwise. A case about an ability that the backend does not have
//! ([`Unsupported`](KmsErrorKind::Unsupported)) ends where that shows.
//!
//! [`kms_conformance_tests!`]: crate::kms_conformance_tests
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "assertions are what a conformance suite is for"
)]

mod blobs;
mod data_path;
mod life_cycle;
mod robustness;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bulla_backend::{
    GenerateRequest, GeneratedKey, Kek, KeyAdmin, KmsError, KmsErrorKind, UnwrapRequest,
    UnwrappedKey, WrappedKey,
};
use bulla_core::{DataKey, DekVersion, KmsContext, ScopeContext};

pub use blobs::{
    blobs_of_other_lengths_are_refused, blobs_that_name_another_kek_are_refused,
    changed_blobs_are_refused, foreign_blobs_are_refused_under_our_name,
};
pub use data_path::{
    contexts_must_match, generated_keys_unwrap, keks_do_not_open_each_others_wraps,
    versions_are_reported_as_promised, wrapped_keys_unwrap,
};
pub use life_cycle::{
    a_destroyed_version_is_gone, a_disabled_key_does_nothing, a_disabled_version_does_not_unwrap,
    a_key_to_be_destroyed_does_nothing, administration_is_idempotent, describe_names_the_key,
    rewrap_moves_to_the_current_version, rotation_keeps_old_wraps,
    the_current_version_is_protected, unknown_versions_are_not_found,
};
pub use robustness::{
    a_hanging_kms_can_be_given_up, a_slow_kms_is_waited_for, an_outage_is_retryable_and_ends,
    cancelled_administration_leaves_a_whole_key, cancelled_calls_leave_nothing_behind,
    concurrent_calls_are_independent, debug_and_errors_show_no_key,
    missing_credentials_and_permissions_are_told_apart, throttling_is_told_apart,
};

/// One backend, set up for one case.
#[async_trait]
pub trait KmsFixture: Send + Sync {
    /// The KEK under test: enabled, with a single version unless your backend cannot
    /// start so.
    fn kek(&self) -> Arc<dyn Kek>;

    /// Another KEK of the same backend, with key material and name of its own.
    fn other_kek(&self) -> Arc<dyn Kek>;

    /// Administration of the KEK under test; `None` leaves out the cases about
    /// rotation and states.
    fn admin(&self) -> Option<Arc<dyn KeyAdmin>>;

    /// Brings the way to the KMS, or the KMS itself, into a condition. Returns whether it
    /// could; where it cannot, the cases about that condition are left out.
    async fn set_condition(&self, condition: Condition) -> bool;

    /// Schedules the KEK under test for destruction. Returns whether it could; where it
    /// cannot, the case about it is left out.
    async fn schedule_destruction(&self) -> bool;
}

/// What can be wrong with a KMS, or with the way there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Condition {
    /// Nothing.
    Healthy,
    /// Connections are refused.
    Unreachable,
    /// Connections are accepted, and nothing comes back.
    Hanging,
    /// Connections are closed in the middle of an answer.
    Resetting,
    /// Answers take this long.
    Slow(Duration),
    /// The KMS answers that there are too many calls.
    Throttled,
    /// The KMS does not accept the credentials.
    Unauthenticated,
    /// The KMS knows the caller, who may do nothing.
    Denied,
}

/// Makes one `#[tokio::test]` of each case of [`kms_suite`](crate::kms_suite), each
/// with the fixture that the expression makes; it may `.await`. The calling crate
/// needs `tokio` with `macros` and `rt-multi-thread`.
#[macro_export]
macro_rules! kms_conformance_tests {
    ($fixture:expr) => {
        $crate::__kms_cases! { $crate::kms_conformance_tests, @each $fixture; }
    };
    (@each $fixture:expr; $($case:ident)+) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $case() {
            let fixture = $fixture;
            $crate::kms_suite::$case(&fixture).await;
        }
    )+};
}

/// Hands the names of all cases to another macro.
#[doc(hidden)]
#[macro_export]
macro_rules! __kms_cases {
    ($macro:path, $($before:tt)*) => {
        $macro! { $($before)*
            a_destroyed_version_is_gone
            a_disabled_key_does_nothing
            a_disabled_version_does_not_unwrap
            a_hanging_kms_can_be_given_up
            a_key_to_be_destroyed_does_nothing
            a_slow_kms_is_waited_for
            administration_is_idempotent
            an_outage_is_retryable_and_ends
            blobs_of_other_lengths_are_refused
            blobs_that_name_another_kek_are_refused
            cancelled_administration_leaves_a_whole_key
            cancelled_calls_leave_nothing_behind
            changed_blobs_are_refused
            concurrent_calls_are_independent
            contexts_must_match
            debug_and_errors_show_no_key
            describe_names_the_key
            foreign_blobs_are_refused_under_our_name
            generated_keys_unwrap
            keks_do_not_open_each_others_wraps
            missing_credentials_and_permissions_are_told_apart
            rewrap_moves_to_the_current_version
            rotation_keeps_old_wraps
            the_current_version_is_protected
            throttling_is_told_apart
            unknown_versions_are_not_found
            versions_are_reported_as_promised
            wrapped_keys_unwrap
        }
    };
}

/// Runs every case, one after the other, each with a fixture of its own: for tests that
/// watch something across all of them, such as a log.
///
/// # Panics
/// Where a case does.
pub async fn run_all<F: KmsFixture>(start: impl AsyncFn() -> F) {
    macro_rules! run {
        (@each $start:expr; $($case:ident)+) => {$(
            $case(&$start().await).await;
        )+};
    }
    crate::__kms_cases! { run, @each start; }
}

/// The context of most cases.
fn context() -> KmsContext {
    context_of(&[("tenant", "t-1"), ("purpose", "orders")], 1)
}

fn context_of(pairs: &[(&str, &str)], version: u32) -> KmsContext {
    let scope = ScopeContext::new(pairs.iter().copied()).expect("a context within the limits");
    scope.kms_context(DekVersion::new(version).expect("a version above zero"))
}

async fn generate(kek: &dyn Kek, context: &KmsContext) -> GeneratedKey {
    let generated = kek.generate_data_key(GenerateRequest::new(context)).await;
    generated.unwrap_or_else(|error| panic!("generate_data_key failed: {error}"))
}

async fn unwrap(
    kek: &dyn Kek,
    wrapped: &WrappedKey,
    context: &KmsContext,
) -> Result<UnwrappedKey, KmsError> {
    kek.unwrap_key(UnwrapRequest::new(wrapped, context)).await
}

/// Unwraps, and demands that `expected` comes out.
async fn assert_unwraps(
    kek: &dyn Kek,
    wrapped: &WrappedKey,
    context: &KmsContext,
    expected: &DataKey,
) -> UnwrappedKey {
    let unwrapped = unwrap(kek, wrapped, context).await;
    let unwrapped =
        unwrapped.unwrap_or_else(|error| panic!("{wrapped:?} does not unwrap: {error}"));
    assert!(unwrapped.data_key == *expected, "{wrapped:?} unwraps to another key");
    unwrapped
}

/// Demands that a call failed in one of these ways.
fn assert_fails<T>(result: Result<T, KmsError>, kinds: &[KmsErrorKind], what: &str) {
    match result {
        Ok(_) => panic!("{what} succeeded; expected one of {kinds:?}"),
        Err(error) => {
            assert!(
                kinds.contains(&error.kind()),
                "{what}: expected one of {kinds:?}, got {error}"
            );
        }
    }
}

/// The answer of an administrator, `None` where the backend cannot do this at all.
fn supported<T>(result: Result<T, KmsError>) -> Option<T> {
    match result {
        Ok(answer) => Some(answer),
        Err(error) if error.kind() == KmsErrorKind::Unsupported => None,
        Err(error) => panic!("administration failed: {error}"),
    }
}

#[cfg(test)]
mod tests;
