use std::fmt::Write;
use std::sync::Mutex;
use std::time::Duration;

use bulla_backend::{AuditSink, KekId, KmsCall, KmsOutcome};
use bulla_manager::layers::TracingSink;
use tracing::field::{Field, Visit};
use tracing::span;

use super::*;

/// A subscriber that writes events down, with their levels.
#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<String>>>);

impl tracing::Subscriber for Written {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.target().starts_with("bulla_manager::layers")
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        struct Fields(String);
        impl Visit for Fields {
            fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
                write!(self.0, " {field}={value:?}").unwrap();
            }
        }
        let mut fields = Fields(event.metadata().level().to_string());
        event.record(&mut fields);
        self.0.lock().unwrap().push(fields.0);
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

#[test]
fn tracing_has_one_event_at_the_right_level() {
    let (written, kek, context) = (Written::default(), KekId::new("test:orders"), context());
    let ids = ["r-1".into()];
    tracing::subscriber::with_default(written.clone(), || {
        let latency = Duration::from_millis(1500);
        let outcomes = [
            (KmsOperation::UnwrapKey, KmsOutcome::Succeeded),
            (KmsOperation::Rotate, KmsOutcome::Succeeded),
            (KmsOperation::UnwrapKey, KmsOutcome::Failed(KmsErrorKind::Denied)),
            (KmsOperation::Describe, KmsOutcome::GivenUp),
        ];
        for (operation, outcome) in outcomes {
            let mut call = KmsCall::new(operation, &kek, outcome, latency);
            if operation == KmsOperation::UnwrapKey {
                (call.context, call.kek_version) = (Some(&context), Some("3"));
                call.request_ids = &ids;
            }
            TracingSink.record(&call);
        }
    });
    let unwrap = "operation=\"unwrap-key\" kek=test:orders version=\"3\" context=bulla-dek-version=\"1\" \
                  bulla-format=\"1\" purpose=\"orders\" tenant=\"t-1\"";
    let expected = [
        format!(
            "DEBUG message=KMS call {unwrap} outcome=ok latency_seconds=1.5 request_ids=[\"r-1\"]"
        ),
        "INFO message=KMS call operation=\"rotate\" kek=test:orders outcome=ok \
         latency_seconds=1.5 request_ids=[]"
            .to_owned(),
        format!(
            "WARN message=KMS call {unwrap} outcome=denied latency_seconds=1.5 request_ids=[\"r-1\"]"
        ),
        "WARN message=KMS call operation=\"describe\" kek=test:orders outcome=given-up \
         latency_seconds=1.5 request_ids=[]"
            .to_owned(),
    ];
    assert_eq!(*written.0.lock().unwrap(), expected);
}

#[cfg(feature = "metrics")]
#[test]
fn metrics_count_and_time() {
    use bulla_manager::layers::MetricsSink;
    use metrics_util::debugging::{DebugValue, DebuggingRecorder};

    let recorder = DebuggingRecorder::new();
    let kek = KekId::new("test:orders");
    metrics::with_local_recorder(&recorder, || {
        let outcomes = [
            KmsOutcome::Succeeded,
            KmsOutcome::Succeeded,
            KmsOutcome::Failed(KmsErrorKind::Throttled),
            KmsOutcome::GivenUp,
        ];
        for outcome in outcomes {
            MetricsSink.record(&KmsCall::new(KmsOperation::WrapKey, &kek, outcome, millis(250)));
        }
    });
    let mut seen: Vec<_> = recorder
        .snapshotter()
        .snapshot()
        .into_vec()
        .into_iter()
        .map(|(key, _, _, value)| {
            let labels: Vec<_> = key
                .key()
                .labels()
                .map(|label| format!("{}={}", label.key(), label.value()))
                .collect();
            let value = match value {
                DebugValue::Counter(count) => count.to_string(),
                DebugValue::Histogram(times) => format!("{times:?}"),
                DebugValue::Gauge(_) => "a gauge".into(),
            };
            format!("{} {} {value}", key.key().name(), labels.join(" "))
        })
        .collect();
    seen.sort();
    let labels = "kek=test:orders operation=wrap-key";
    let expected = [
        format!("bulla_kms_call_seconds {labels} [0.25, 0.25, 0.25, 0.25]"),
        format!("bulla_kms_calls_total {labels} outcome=given-up 1"),
        format!("bulla_kms_calls_total {labels} outcome=ok 2"),
        format!("bulla_kms_calls_total {labels} outcome=throttled 1"),
    ];
    assert_eq!(seen, expected);
}
