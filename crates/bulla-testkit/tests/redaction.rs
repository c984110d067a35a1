//! The proof of redaction finds what it is to find.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use bulla_backend::GenerateRequest;
use bulla_core::{DekVersion, ScopeContext};
use bulla_testkit::TestKms;
use bulla_testkit::redaction::Redaction;

/// Only one may listen in a process: one test.
#[tokio::test]
async fn what_is_logged_or_shown_is_found() {
    let watch = Redaction::start();
    let kek = watch.spy(Arc::new(TestKms::new("a")));
    let scope = ScopeContext::new([("tenant", "t"), ("purpose", "p")]).unwrap();
    let context = scope.kms_context(DekVersion::FIRST);
    let generated = kek.generate_data_key(GenerateRequest::new(&context)).await.unwrap();
    watch.forbid("hvs.mark-of-a-token");
    watch.assert_clean();
    let found = || catch_unwind(AssertUnwindSafe(|| watch.assert_clean())).is_err();

    tracing::trace!(token = "hvs.mark-of-a-token", "a dependency that says too much");
    assert!(found(), "a token in a field");

    let watch_again = Redaction::default();
    watch_again.forbid_key(&generated.data_key);
    watch_again.show(&"redaction-self-check");
    watch_again.assert_clean();
    watch_again.show(generated.data_key.expose_secret());
    assert!(
        catch_unwind(AssertUnwindSafe(|| watch_again.assert_clean())).is_err(),
        "a key as numbers"
    );
}
