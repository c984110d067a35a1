//! Where audit events go: to tracing, to metrics, to several places.

use std::fmt;
use std::sync::Arc;

use bulla_backend::{AuditSink, KmsCall, KmsOutcome};
use bulla_core::KmsContext;

/// One `tracing` event per call: `warn` for those that failed or were given up, `info`
/// for changes of a KEK, `debug` for the rest.
#[derive(Debug, Clone, Copy, Default)]
pub struct TracingSink;

impl AuditSink for TracingSink {
    fn record(&self, call: &KmsCall<'_>) {
        // The level is part of an event's static description.
        macro_rules! event {
            ($level:ident) => {
                tracing::$level!(
                    operation = call.operation.as_str(),
                    kek = %call.kek,
                    version = call.kek_version,
                    context = call.context.map(Pairs).map(tracing::field::display),
                    outcome = %call.outcome,
                    latency_seconds = call.latency.as_secs_f64(),
                    request_ids = ?call.request_ids,
                    "KMS call"
                )
            };
        }
        match (call.outcome, call.operation) {
            (KmsOutcome::Succeeded, operation) if operation.is_administration() => event!(info),
            (KmsOutcome::Succeeded, _) => event!(debug),
            _ => event!(warn),
        }
    }
}

/// A context as `key=value` pairs.
struct Pairs<'a>(&'a KmsContext);

impl fmt::Display for Pairs<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (key, value)) in self.0.pairs().enumerate() {
            let space = if at == 0 { "" } else { " " };
            write!(f, "{space}{key}={value:?}")?;
        }
        Ok(())
    }
}

/// Counts and times calls through the `metrics` facade: the counter
/// `bulla_kms_calls_total` by `kek`, `operation` and `outcome`, and the histogram
/// `bulla_kms_call_seconds` by `kek` and `operation`.
#[cfg(feature = "metrics")]
#[derive(Debug, Clone, Copy, Default)]
pub struct MetricsSink;

#[cfg(feature = "metrics")]
impl AuditSink for MetricsSink {
    fn record(&self, call: &KmsCall<'_>) {
        let (kek, operation) = (call.kek.as_str().to_owned(), call.operation.as_str());
        let outcome = match call.outcome {
            KmsOutcome::Succeeded => "ok",
            KmsOutcome::Failed(kind) => kind.as_str(),
            _ => "given-up",
        };
        metrics::counter!(
            "bulla_kms_calls_total",
            "kek" => kek.clone(), "operation" => operation, "outcome" => outcome
        )
        .increment(1);
        metrics::histogram!("bulla_kms_call_seconds", "kek" => kek, "operation" => operation)
            .record(call.latency);
    }
}

/// Tells several sinks, in their order.
#[derive(Debug, Clone, Default)]
pub struct Sinks(Vec<Arc<dyn AuditSink>>);

impl Sinks {
    /// Tells each of `sinks`.
    pub fn new(sinks: impl IntoIterator<Item = Arc<dyn AuditSink>>) -> Self {
        Self(sinks.into_iter().collect())
    }
}

impl AuditSink for Sinks {
    fn record(&self, call: &KmsCall<'_>) {
        for sink in &self.0 {
            sink.record(call);
        }
    }
}
