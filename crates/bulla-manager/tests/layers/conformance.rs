//! With a layer around it a KMS is still a KMS.

use async_trait::async_trait;
use bulla_backend::{Capabilities, Kek, KeyAdmin, KeyWrapper};
use bulla_manager::SystemClock;
use bulla_manager::layers::{
    Audited, CircuitBreaker, ConcurrencyLimit, Failover, LayerOptions, LayeredAdmin, Retry,
    RetryBudget, Timeout, TracingSink, dependable,
};
use bulla_testkit::kms_suite::{Condition, KmsFixture};

use super::failover::Replica;
use super::*;

/// How long circuits stay open here.
const OPEN_FOR: Duration = millis(20);

/// What puts something around a KMS.
type Wrap = fn(Arc<TestKms>) -> Arc<dyn Kek>;

struct Fixture {
    kms: Arc<TestKms>,
    kek: Arc<dyn Kek>,
    other: Arc<dyn Kek>,
}

impl Fixture {
    fn start(wrap: Wrap) -> Self {
        let kms = Arc::new(TestKms::new("a"));
        Self { kek: wrap(kms.clone()), other: wrap(Arc::new(TestKms::new("b"))), kms }
    }

    /// Of a KMS that promises little.
    fn weak(wrap: Wrap) -> Self {
        let few = Capabilities::NONE.with_names_version(true);
        let weak = |name| Arc::new(TestKms::new(name).with_capabilities(few));
        let kms = weak("a");
        Self { kek: wrap(kms.clone()), other: wrap(weak("b")), kms }
    }
}

#[async_trait]
impl KmsFixture for Fixture {
    fn kek(&self) -> Arc<dyn Kek> {
        self.kek.clone()
    }

    fn other_kek(&self) -> Arc<dyn Kek> {
        self.other.clone()
    }

    fn admin(&self) -> Option<Arc<dyn KeyAdmin>> {
        let layer = Audited::new(Arc::new(TracingSink));
        Some(Arc::new(LayeredAdmin::new(layer, self.kms.kek().clone(), self.kms.clone())))
    }

    async fn set_condition(&self, condition: Condition) -> bool {
        self.kms.fail_all(None);
        self.kms.set_latency(Arc::new(SystemClock), Duration::ZERO);
        self.kms.release();
        match condition {
            Condition::Healthy => tokio::time::sleep(OPEN_FOR).await,
            Condition::Unreachable | Condition::Resetting => {
                self.kms.fail_all(Some(KmsErrorKind::Unavailable));
            }
            Condition::Hanging => self.kms.hold(),
            Condition::Slow(latency) => self.kms.set_latency(Arc::new(SystemClock), latency),
            Condition::Throttled => self.kms.fail_all(Some(KmsErrorKind::Throttled)),
            Condition::Unauthenticated => self.kms.fail_all(Some(KmsErrorKind::Unauthenticated)),
            Condition::Denied => self.kms.fail_all(Some(KmsErrorKind::Denied)),
            _ => return false,
        }
        true
    }

    async fn schedule_destruction(&self) -> bool {
        self.kms.schedule_destruction();
        true
    }
}

fn behind<L: Layer>(layer: L, kms: Arc<TestKms>) -> Arc<dyn Kek> {
    Arc::new(Layered::new(layer, kms))
}

/// Makes the suite of each thing that can be put around a KMS.
macro_rules! conformance {
    ($($name:ident: $fixture:ident($wrap:expr);)+) => {$(
        mod $name {
            use super::*;
            bulla_testkit::kms_conformance_tests!(Fixture::$fixture($wrap));
        }
    )+};
}

conformance! {
    audited: start(|kms| behind(Audited::new(Arc::new(TracingSink)), kms));
    breaker: start(|kms| behind(CircuitBreaker::new(3, OPEN_FOR), kms));
    failover: start(|kms| {
        let (first, second) = (kms.kek().as_str()["test:".len()..].to_owned(), "second");
        let replicas = [Replica::new(&first, &kms), Replica::new(second, &kms)];
        let [first, second] = replicas;
        Arc::new(Failover::new(first, [second as Arc<dyn Kek>]))
    });
    limit: start(|kms| behind(ConcurrencyLimit::new(32, 1000), kms));
    retry: start(|kms| {
        let budget = Arc::new(RetryBudget::default());
        behind(Retry::new(3, millis(1), millis(4), budget), kms)
    });
    stack: start(stack);
    timeout: start(|kms| behind(Timeout::new(secs(30)), kms));
    weak_stack: weak(stack);
}

fn stack(kms: Arc<TestKms>) -> Arc<dyn Kek> {
    let mut options = LayerOptions::default();
    (options.pause_min, options.open_for) = (millis(1), OPEN_FOR);
    options.audit = Some(Arc::new(TracingSink));
    dependable(kms, options)
}
