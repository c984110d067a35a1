//! The conformance suite of the KMS contract, for both ways to unlock.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

mod raw_key {
    bulla_testkit::kms_conformance_tests!(super::support::Fixture::raw().await);
}

mod passphrase {
    bulla_testkit::kms_conformance_tests!(super::support::Fixture::passphrase().await);
}
