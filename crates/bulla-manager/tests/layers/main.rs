//! Each layer over a KMS that fails, hangs and counts on command; by a clock that is moved
//! by nothing but the layers' own sleeps.

#![allow(clippy::unwrap_used, reason = "tests")]

mod audit;
mod breaker;
mod conformance;
mod failover;
mod limit;
mod retry;
mod sinks;
mod stack;
mod timeout;

use std::sync::Arc;
use std::time::Duration;

use bulla_backend::{
    GenerateRequest, KekState, KeyInspector, KmsError, KmsErrorKind, KmsOperation, WrappedKey,
};
use bulla_core::{DekVersion, KmsContext, ScopeContext};
use bulla_manager::layers::{Layer, Layered};
use bulla_testkit::TestKms;
use tokio::task::JoinHandle;

const ALL_KINDS: [KmsErrorKind; 9] = [
    KmsErrorKind::Denied,
    KmsErrorKind::Unauthenticated,
    KmsErrorKind::Disabled,
    KmsErrorKind::NotFound,
    KmsErrorKind::Tampered,
    KmsErrorKind::Throttled,
    KmsErrorKind::Unavailable,
    KmsErrorKind::Misconfigured,
    KmsErrorKind::Unsupported,
];

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// A KMS, and the same behind `layer`.
fn layered<L: Layer>(layer: L) -> (Arc<TestKms>, Arc<Layered<L>>) {
    let kms = Arc::new(TestKms::new("orders"));
    (kms.clone(), Arc::new(Layered::new(layer, kms)))
}

fn context() -> KmsContext {
    let scope = ScopeContext::new([("tenant", "t-1"), ("purpose", "orders")]).unwrap();
    scope.kms_context(DekVersion::FIRST)
}

/// A wrap by `kms`, made without the layer.
async fn wrap_of(kms: &TestKms) -> WrappedKey {
    use bulla_backend::KeyWrapper;
    kms.generate_data_key(GenerateRequest::new(&context())).await.unwrap().wrapped
}

/// How many calls reached the KMS; these tests mostly describe.
fn describes(kms: &TestKms) -> u64 {
    kms.calls(KmsOperation::Describe)
}

fn kind(outcome: Result<KekState, KmsError>) -> Option<KmsErrorKind> {
    outcome.err().map(|error| error.kind())
}

type Caller = JoinHandle<Result<KekState, KmsError>>;

/// So many callers at once, each on a task of its own, all of them as far as they get.
async fn callers<K: KeyInspector + ?Sized>(kek: &Arc<K>, count: usize) -> Vec<Caller> {
    let call = |_| {
        let kek = Arc::clone(kek);
        tokio::spawn(async move { kek.describe().await })
    };
    let callers = (0..count).map(call).collect();
    bulla_testkit::settle().await;
    callers
}

/// The outcomes of those that have ended.
async fn ended(callers: &mut Vec<Caller>) -> Vec<Option<KmsErrorKind>> {
    let mut outcomes = Vec::new();
    for caller in callers.extract_if(.., |caller| caller.is_finished()) {
        outcomes.push(kind(caller.await.unwrap()));
    }
    outcomes
}
