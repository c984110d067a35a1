//! The conformance suite of the KMS contract, against OpenBao behind a proxy that breaks
//! things: for keys that derive and for keys that take associated data.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use support::fixture::Fixture;

mod derived {
    bulla_testkit::kms_conformance_tests!(match super::Fixture::of_derived().await {
        Some(fixture) => fixture,
        None => return,
    });
}

mod associated_data {
    bulla_testkit::kms_conformance_tests!(match super::Fixture::of_associated_data().await {
        Some(fixture) => fixture,
        None => return,
    });
}
