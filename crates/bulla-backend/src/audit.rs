//! What an audit trail learns of each KMS call.

use std::cell::RefCell;
use std::fmt;
use std::future::poll_fn;
use std::pin::pin;
use std::time::Duration;

use bulla_core::KmsContext;

use crate::{KekId, KmsErrorKind, KmsOperation};

/// Request ids kept of one call. A backend that sends more than this for one call has
/// lost its way.
const REQUEST_IDS_MAX: usize = 16;

/// Receives one event for each call of the KMS contract.
///
/// # Contract
/// - `record` is called once for each call, before its answer reaches the caller, and
///   also for calls that fail and for calls that are given up.
/// - It must not block and must not panic: it runs on the caller's task. Hand the event
///   to a channel if writing it takes long.
///
/// An event holds no key material and no credential. The context of a DEK is in it (a
/// tenant and a purpose, which are opaque ids; the KMS logs them too).
pub trait AuditSink: fmt::Debug + Send + Sync + 'static {
    /// Takes note of one call.
    fn record(&self, call: &KmsCall<'_>);
}

/// One call of the KMS contract, as it ended.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct KmsCall<'a> {
    /// What was asked for.
    pub operation: KmsOperation,
    /// The KEK that it was about.
    pub kek: &'a KekId,
    /// The version that wrapped or unwraps, where the answer or the wrap names it.
    pub kek_version: Option<&'a str>,
    /// The scope and version of the DEK; `None` for calls about the KEK itself.
    pub context: Option<&'a KmsContext>,
    /// How it ended.
    pub outcome: KmsOutcome,
    /// Time from the call to its end.
    pub latency: Duration,
    /// Under which ids the KMS logged the requests that it took; empty where it gives
    /// none, or none arrived.
    pub request_ids: &'a [Box<str>],
}

impl<'a> KmsCall<'a> {
    /// A call without version, context and request ids.
    pub fn new(
        operation: KmsOperation,
        kek: &'a KekId,
        outcome: KmsOutcome,
        latency: Duration,
    ) -> Self {
        let (kek_version, context, request_ids) = (None, None, &[][..]);
        Self { operation, kek, kek_version, context, outcome, latency, request_ids }
    }
}

/// How a KMS call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum KmsOutcome {
    /// With an answer.
    Succeeded,
    /// With an error of this class.
    Failed(KmsErrorKind),
    /// The caller gave it up, for lack of time or of interest. What the KMS did is not
    /// known.
    GivenUp,
}

/// The word for audit trails: `ok`, `given-up`, or the class of the error.
impl fmt::Display for KmsOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Succeeded => "ok",
            Self::Failed(kind) => kind.as_str(),
            Self::GivenUp => "given-up",
        })
    }
}

thread_local! {
    /// Where ids go while a call is being polled on this thread.
    static REQUEST_IDS: RefCell<Option<Vec<Box<str>>>> = const { RefCell::new(None) };
}

/// Says under which id the KMS logged a request: backends call it for each answer that
/// names one, errors included. Outside [`collect_request_ids`] it does nothing.
///
/// It must be called on the task that polls the call, not on one that the backend
/// spawned (decision 0013).
pub fn note_request_id(id: &str) {
    REQUEST_IDS.with_borrow_mut(|ids| {
        if let Some(ids) = ids.as_mut().filter(|ids| ids.len() < REQUEST_IDS_MAX) {
            ids.push(id.into());
        }
    });
}

/// Runs `call`, and adds to `ids` what it passes to [`note_request_id`]: at most 16. If
/// the future is dropped, `ids` has what was noted until then.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// use bulla_backend::{collect_request_ids, note_request_id};
///
/// let mut ids = Vec::new();
/// let answer = collect_request_ids(&mut ids, async {
///     note_request_id("b5c2-01"); // deep inside a backend
///     42
/// });
/// assert_eq!(answer.await, 42);
/// assert_eq!(ids, ["b5c2-01".into()]);
/// # });
/// ```
pub async fn collect_request_ids<T>(ids: &mut Vec<Box<str>>, call: impl Future<Output = T>) -> T {
    let mut call = pin!(call);
    poll_fn(|context| {
        let _collecting = Collecting::start(ids);
        call.as_mut().poll(context)
    })
    .await
}

/// Lends `ids` to this thread for the length of one poll, which may panic.
struct Collecting<'a> {
    ids: &'a mut Vec<Box<str>>,
    /// Those of the call around this one.
    outer: Option<Vec<Box<str>>>,
}

impl<'a> Collecting<'a> {
    fn start(ids: &'a mut Vec<Box<str>>) -> Self {
        let outer = REQUEST_IDS.replace(Some(std::mem::take(ids)));
        Self { ids, outer }
    }
}

impl Drop for Collecting<'_> {
    fn drop(&mut self) {
        *self.ids = REQUEST_IDS.replace(self.outer.take()).unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Poll, Waker};

    use super::*;

    fn noted(ids: &[Box<str>]) -> Vec<&str> {
        ids.iter().map(|id| &**id).collect()
    }

    /// Polls once, as a runtime would.
    fn poll<T>(future: std::pin::Pin<&mut impl Future<Output = T>>) -> Poll<T> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    /// Notes an id, waits for one poll, notes another.
    async fn two_steps(first: &str, second: &str) {
        note_request_id(first);
        let mut waited = false;
        poll_fn(
            |_| if std::mem::replace(&mut waited, true) { Poll::Ready(()) } else { Poll::Pending },
        )
        .await;
        note_request_id(second);
    }

    #[test]
    fn calls_that_take_turns_keep_their_ids_apart() {
        let (mut of_a, mut of_b) = (Vec::new(), Vec::new());
        {
            let mut a = pin!(collect_request_ids(&mut of_a, two_steps("a1", "a2")));
            let mut b = pin!(collect_request_ids(&mut of_b, two_steps("b1", "b2")));
            assert!(poll(a.as_mut()).is_pending());
            assert!(poll(b.as_mut()).is_pending());
            note_request_id("nobody's");
            assert!(poll(a.as_mut()).is_ready());
            assert!(poll(b.as_mut()).is_ready());
        }
        assert_eq!((noted(&of_a), noted(&of_b)), (vec!["a1", "a2"], vec!["b1", "b2"]));
    }

    #[test]
    fn a_call_that_is_given_up_leaves_what_it_noted() {
        let mut ids = Vec::new();
        {
            let mut call = pin!(collect_request_ids(&mut ids, two_steps("1", "2")));
            assert!(poll(call.as_mut()).is_pending());
        }
        assert_eq!(noted(&ids), ["1"]);
    }

    #[test]
    fn an_inner_collection_keeps_its_own() {
        let (mut outer, mut inner) = (Vec::new(), Vec::new());
        {
            let nested = async {
                note_request_id("before");
                collect_request_ids(&mut inner, two_steps("x", "y")).await;
                note_request_id("after");
            };
            let mut call = pin!(collect_request_ids(&mut outer, nested));
            while poll(call.as_mut()).is_pending() {}
        }
        assert_eq!(noted(&inner), ["x", "y"]);
        assert_eq!(noted(&outer), ["before", "after"]);
    }

    #[test]
    fn a_panic_leaves_the_thread_as_it_was() {
        let panicked = std::panic::catch_unwind(|| {
            let mut ids = Vec::new();
            let mut call = pin!(collect_request_ids(&mut ids, async { assert_eq!(1, 2) }));
            let _ = poll(call.as_mut());
        });
        assert!(panicked.is_err());
        assert!(REQUEST_IDS.with_borrow(Option::is_none));
    }

    #[test]
    fn there_is_a_limit() {
        let mut ids = Vec::new();
        {
            let mut call = pin!(collect_request_ids(&mut ids, async {
                (0..100).for_each(|at| note_request_id(&at.to_string()));
            }));
            assert!(poll(call.as_mut()).is_ready());
        }
        assert_eq!(ids.len(), REQUEST_IDS_MAX);
    }
}
