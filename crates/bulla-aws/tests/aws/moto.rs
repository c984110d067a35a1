//! Cases of the conformance suite on which moto is right.
//!
//! The others run against LocalStack and the fake. moto differs from AWS KMS:
//! - Disabled keys, and keys that wait for their destruction, keep working.
//! - A blob that it cannot read, or of another key, is `AccessDenied`, not an invalid
//!   ciphertext: no case about changed or foreign blobs.
//! - Multi-region keys have nothing in common.
//! - It names no key materials and tells no rotation periods.

use bulla_testkit::kms_suite;
use bulla_testkit::servers::{Server, find};

use crate::support::Fixture;

macro_rules! cases {
    ($($case:ident)+) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $case() {
            if let Some(endpoint) = find(Server::Moto) {
                kms_suite::$case(&Fixture::start(&endpoint).await).await;
            }
        }
    )+};
}

cases! {
    a_hanging_kms_can_be_given_up
    a_slow_kms_is_waited_for
    an_outage_is_retryable_and_ends
    blobs_that_name_another_kek_are_refused
    cancelled_calls_leave_nothing_behind
    contexts_must_match
    debug_and_errors_show_no_key
    describe_names_the_key
    generated_keys_unwrap
    rewrap_moves_to_the_current_version
    rotation_keeps_old_wraps
    versions_are_reported_as_promised
    wrapped_keys_unwrap
}
