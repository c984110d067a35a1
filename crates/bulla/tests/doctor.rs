//! The doctor finds what is wrong, and only that; and the cost calculator counts as the
//! manager does.
#![allow(clippy::panic, clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bulla::doctor::{Check, Examination, Report, Role, Verdict, Workload};
use bulla::{Manager, MemoryKeyStore, Policy, Profile, RecordContext};
use bulla_backend::{
    Capabilities, GenerateRequest, KekId, KeyAdmin, KeyWrapper, KmsClock, KmsError, KmsErrorKind,
    KmsOperation,
};
use bulla_core::{DekVersion, ScopeContext};
use bulla_testkit::{ManualClock, TestKms, settle};

async fn examine(kms: &TestKms, role: Role) -> Report {
    Examination::new(role).run(kms).await
}

fn verdict(report: &Report, check: Check) -> Verdict {
    report.finding(check).unwrap_or_else(|| panic!("no finding about {check:?}: {report}")).verdict
}

#[tokio::test]
async fn a_healthy_kek_is_good() {
    let kms = TestKms::new("a");
    let report = examine(&kms, Role::Service).await;
    assert_eq!(report.verdict(), Verdict::Good, "{report}");
    assert_eq!(report.findings.len(), 12, "{report}");
    let operations = [KmsOperation::Describe, KmsOperation::Administer];
    let others: u64 = operations.iter().map(|operation| kms.calls(*operation)).sum();
    assert!(kms.data_calls() + others <= 9, "the documentation promises no more");
    assert!(report.findings.is_sorted_by_key(|finding| finding.check as u8));
}

#[tokio::test]
async fn what_is_wrong_is_found_and_named() {
    let fault = |kind| {
        let kms = TestKms::new("a");
        kms.fail_all(Some(kind));
        kms
    };
    for (kind, check) in [
        (KmsErrorKind::Unavailable, Check::Reachable),
        (KmsErrorKind::Unauthenticated, Check::Authenticated),
        (KmsErrorKind::NotFound, Check::KeyState),
        (KmsErrorKind::Misconfigured, Check::MayDescribe),
        (KmsErrorKind::Denied, Check::MayUnwrap),
    ] {
        let kms = fault(kind);
        let report = match kind {
            KmsErrorKind::Denied => denied_with_sample(&kms).await,
            _ => examine(&kms, Role::Service).await,
        };
        assert_eq!(verdict(&report, check), Verdict::Bad, "{kind:?}: {report}");
        assert_eq!(report.verdict(), Verdict::Bad);
    }
    let kms = TestKms::new("a");
    kms.disable().await.unwrap();
    assert_eq!(verdict(&examine(&kms, Role::Service).await, Check::KeyState), Verdict::Bad);

    let kms = TestKms::new("a");
    kms.lie(Some(bulla_testkit::Lie::Generate));
    assert_eq!(verdict(&examine(&kms, Role::Service).await, Check::RoundTrip), Verdict::Bad);

    let kms = TestKms::new("a").with_capabilities(Capabilities::NONE.with_remote(true));
    assert_eq!(verdict(&examine(&kms, Role::Service).await, Check::Promises), Verdict::Bad);
}

async fn denied_with_sample(kms: &TestKms) -> Report {
    kms.fail_all(None);
    let scope = ScopeContext::new([("tenant", "t"), ("purpose", "p")]).unwrap();
    let context = scope.kms_context(DekVersion::FIRST);
    let generated = kms.generate_data_key(GenerateRequest::new(&context)).await.unwrap();
    kms.fail_all(Some(KmsErrorKind::Denied));
    Examination::new(Role::Service).sample(&generated.wrapped, &context).run(kms).await
}

#[tokio::test(start_paused = true)]
async fn a_kms_that_hangs_is_given_up() {
    let kms = TestKms::new("a");
    kms.hold();
    let report = Examination::new(Role::Service).patience(Duration::from_secs(3)).run(&kms).await;
    assert_eq!(verdict(&report, Check::Reachable), Verdict::Bad, "{report}");
}

#[tokio::test]
async fn a_role_that_may_too_much_is_warned_about() {
    let kms = TestKms::new("a");
    let report = examine(&kms, Role::Opener).await;
    assert_eq!(verdict(&report, Check::MayGenerate), Verdict::Warning, "{report}");
    kms.fail(KmsOperation::GenerateDataKey, Some(KmsErrorKind::Denied));
    let report = examine(&kms, Role::Opener).await;
    assert_eq!(verdict(&report, Check::MayGenerate), Verdict::Good, "{report}");
    assert_eq!(verdict(&report, Check::MayUnwrap), Verdict::Warning, "{report}");
    assert_eq!(verdict(&report, Check::MayWrap), Verdict::Warning, "{report}");
    kms.fail(KmsOperation::WrapKey, Some(KmsErrorKind::Denied));
    kms.fail(KmsOperation::UnwrapKey, Some(KmsErrorKind::Denied));
    let report = examine(&kms, Role::Operator).await;
    assert_eq!(report.verdict(), Verdict::Good, "{report}");
    let report = examine(&kms, Role::Opener).await;
    assert_eq!(report.verdict(), Verdict::Warning, "what it is for was not tried: {report}");
}

#[derive(Debug)]
struct Skewed(i64);

#[async_trait]
impl KmsClock for Skewed {
    async fn now(&self) -> Result<SystemTime, KmsError> {
        if self.0 == i64::MAX {
            let kek = KekId::new("test:a");
            return Err(KmsError::new(KmsErrorKind::Unavailable, KmsOperation::Describe, kek));
        }
        let skew = Duration::from_secs(self.0.unsigned_abs());
        let now = SystemTime::now();
        Ok(if self.0 < 0 { now - skew } else { now + skew })
    }
}

#[tokio::test]
async fn clocks_are_compared_both_ways() {
    for (skew, expected, word) in [
        (0, Verdict::Good, "agree"),
        (-4, Verdict::Good, "agree"),
        (60, Verdict::Warning, "behind"),
        (-60, Verdict::Warning, "ahead of"),
        (600, Verdict::Bad, "behind"),
        (i64::MAX, Verdict::Unknown, "unavailable"),
    ] {
        let clock = Skewed(skew);
        let kms = TestKms::new("a");
        let report = Examination::new(Role::Service).clock(&clock).run(&kms).await;
        let finding = report.finding(Check::ClockSkew).unwrap();
        assert_eq!(finding.verdict, expected, "{skew}: {report}");
        assert!(finding.message.contains(word), "{skew}: {report}");
    }
}

/// Six hours of a manager in steady use, by the clock of the test: the calls that it makes
/// are those that the calculator foretells.
#[tokio::test]
async fn the_estimate_is_what_a_manager_does() {
    const SCOPES: u64 = 20;
    const HOURS: u32 = 6;
    let clock = Arc::new(ManualClock::new());
    let kms = Arc::new(TestKms::new("a"));
    let store = Arc::new(MemoryKeyStore::new(clock.clone()).unwrap());
    let manager = Manager::builder(Profile::Development, kms.clone(), store)
        .clock(clock.clone())
        .start()
        .await
        .unwrap();
    let scopes: Vec<_> =
        (0..SCOPES).map(|at| manager.scope(&format!("t-{at}"), "orders").unwrap()).collect();
    let record = RecordContext::empty();
    for scope in &scopes {
        scope.seal(b"x", &record).await.unwrap();
    }
    let calls = |kms: &TestKms| kms.data_calls() + kms.calls(KmsOperation::Describe);
    let before = calls(&kms);
    for _ in 0..HOURS * 60 * 6 {
        clock.advance(Duration::from_secs(10));
        settle().await;
        for scope in &scopes {
            scope.seal(b"x", &record).await.unwrap();
        }
        settle().await;
    }
    let made = (calls(&kms) - before) as f64;
    let mut workload = Workload::default();
    (workload.scopes, workload.deks_in_use) = (SCOPES, SCOPES);
    (workload.starts_per_month, workload.kek_rotations_per_month) = (0.0, 0.0);
    let estimate = workload.estimate(&Policy::default());
    let foretold = (estimate.refreshes + estimate.probes) * f64::from(HOURS) / (30.0 * 24.0);
    let ratio = made / foretold;
    assert!((0.8..=1.02).contains(&ratio), "{made} calls were made, {foretold} foretold");
}
