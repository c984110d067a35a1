//! Outages, cancelled and concurrent calls, and what must never be printed.

use std::error::Error;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use bulla_backend::{
    GenerateRequest, KmsError, KmsErrorKind, RewrapRequest, UnwrapRequest, WrapRequest,
};
use tokio::task::JoinSet;

use crate::spellings::spellings;

use super::{
    Condition, KmsFixture, assert_fails, assert_unwraps, context, context_of, generate, supported,
    unwrap,
};

/// Calls that run at once.
const CONCURRENT_CALLS: usize = 1000;
/// Failed calls among all of them, while the KMS is overrun.
const MADE_AGAIN_MAX: usize = 30;
/// How long a call is waited for that is not expected to end; and the delay of a slow KMS.
const PATIENCE: Duration = Duration::from_millis(300);

/// While the KMS cannot be reached, or breaks off, calls fail as `Unavailable`; once it
/// can, they work.
pub async fn an_outage_is_retryable_and_ends(fixture: &dyn KmsFixture) {
    fails_as(fixture, Condition::Unreachable, KmsErrorKind::Unavailable).await;
    fails_as(fixture, Condition::Resetting, KmsErrorKind::Unavailable).await;
}

/// Too many calls are `Throttled`, which is no outage.
pub async fn throttling_is_told_apart(fixture: &dyn KmsFixture) {
    fails_as(fixture, Condition::Throttled, KmsErrorKind::Throttled).await;
}

/// A caller whom the KMS does not know is `Unauthenticated`, one whom it knows and who may
/// not is `Denied`: the manager tries to log in again after the one, and drops keys after
/// the other.
pub async fn missing_credentials_and_permissions_are_told_apart(fixture: &dyn KmsFixture) {
    fails_as(fixture, Condition::Unauthenticated, KmsErrorKind::Unauthenticated).await;
    fails_as(fixture, Condition::Denied, KmsErrorKind::Denied).await;
}

/// Brings about a condition, in which each call must fail in this way, and ends it.
async fn fails_as(fixture: &dyn KmsFixture, condition: Condition, kind: KmsErrorKind) {
    let (kek, context) = (fixture.kek(), context());
    let generated = generate(&*kek, &context).await;
    if !fixture.set_condition(condition).await {
        return;
    }
    let wrapped = &generated.wrapped;
    let result = kek.generate_data_key(GenerateRequest::new(&context)).await;
    assert_fails(result, &[kind], &format!("generate while {condition:?}"));
    let result = kek.wrap_key(WrapRequest::new(&generated.data_key, &context)).await;
    assert_fails(result, &[kind], &format!("wrap while {condition:?}"));
    let result = unwrap(&*kek, wrapped, &context).await;
    assert_fails(result, &[kind], &format!("unwrap while {condition:?}"));
    let result = kek.rewrap_key(RewrapRequest::new(wrapped, &context)).await;
    assert_fails(result, &[kind], &format!("rewrap while {condition:?}"));
    assert_fails(kek.describe().await, &[kind], &format!("describe while {condition:?}"));
    heal(fixture).await;
    assert_unwraps(&*kek, wrapped, &context, &generated.data_key).await;
}

/// A KMS that does not answer keeps a call waiting, for time-outs are the business of
/// those above; giving up leaves nothing behind, and the next call works once it answers.
pub async fn a_hanging_kms_can_be_given_up(fixture: &dyn KmsFixture) {
    let (kek, context) = (fixture.kek(), context());
    let generated = generate(&*kek, &context).await;
    if !fixture.set_condition(Condition::Hanging).await {
        return;
    }
    for _ in 0..3 {
        let request = UnwrapRequest::new(&generated.wrapped, &context);
        let answer = tokio::time::timeout(PATIENCE, kek.unwrap_key(request)).await;
        assert!(answer.is_err(), "a KMS that hangs answered, or its client gave up: {answer:?}");
    }
    heal(fixture).await;
    assert_unwraps(&*kek, &generated.wrapped, &context, &generated.data_key).await;
}

/// A slow KMS answers correctly, and many calls wait side by side, not in a row.
pub async fn a_slow_kms_is_waited_for(fixture: &dyn KmsFixture) {
    let (kek, context) = (fixture.kek(), context());
    let generated = generate(&*kek, &context).await;
    if !fixture.set_condition(Condition::Slow(PATIENCE)).await {
        return;
    }
    const CALLS: u32 = 20;
    let begun = std::time::Instant::now();
    let calls = (0..CALLS).map(|_| {
        let request = UnwrapRequest::new(&generated.wrapped, &context);
        kek.unwrap_key(request)
    });
    for answer in futures_util::future::join_all(calls).await {
        let unwrapped = answer.unwrap_or_else(|error| panic!("a slow call failed: {error}"));
        assert!(unwrapped.data_key == generated.data_key);
    }
    let took = begun.elapsed();
    assert!(took >= PATIENCE, "the KMS was to be slow");
    assert!(took < PATIENCE * CALLS, "{CALLS} calls took {took:?}: they waited in a row");
    heal(fixture).await;
}

async fn heal(fixture: &dyn KmsFixture) {
    assert!(
        fixture.set_condition(Condition::Healthy).await,
        "a fixture that breaks something must mend it"
    );
}

/// Calls that are dropped after some polls leave no lock held: the next one works.
pub async fn cancelled_calls_leave_nothing_behind(fixture: &dyn KmsFixture) {
    let (kek, context) = (fixture.kek(), context());
    let generated = generate(&*kek, &context).await;
    for polls in 0..12 {
        let wrapped = &generated.wrapped;
        give_up_after(polls, kek.generate_data_key(GenerateRequest::new(&context))).await;
        let request = WrapRequest::new(&generated.data_key, &context);
        give_up_after(polls, kek.wrap_key(request)).await;
        give_up_after(polls, kek.unwrap_key(UnwrapRequest::new(wrapped, &context))).await;
        give_up_after(polls, kek.rewrap_key(RewrapRequest::new(wrapped, &context))).await;
        give_up_after(polls, kek.describe()).await;
        assert_unwraps(&*kek, wrapped, &context, &generated.data_key).await;
    }
}

/// Rotations that are dropped half-way have happened or have not; the key is whole,
/// the next rotation works and every wrap made before unwraps.
pub async fn cancelled_administration_leaves_a_whole_key(fixture: &dyn KmsFixture) {
    let (kek, context) = (fixture.kek(), context());
    let Some(admin) = fixture.admin() else { return };
    let mut generated = vec![generate(&*kek, &context).await];
    let before = kek.describe().await.expect("describe").versions.len();
    const ROUNDS: usize = 12;
    for polls in 0..ROUNDS {
        give_up_after(polls, admin.rotate()).await;
        if supported(admin.rotate().await).is_none() {
            return;
        }
        generated.push(generate(&*kek, &context).await);
        for old in &generated {
            assert_unwraps(&*kek, &old.wrapped, &context, &old.data_key).await;
        }
    }
    let added = kek.describe().await.expect("describe").versions.len() - before;
    let possible = ROUNDS..=2 * ROUNDS;
    assert!(added == 0 || possible.contains(&added), "{added} versions, expected {possible:?}");
}

/// A thousand calls at once, each with a context of its own, do not get in each
/// other's way.
pub async fn concurrent_calls_are_independent(fixture: &dyn KmsFixture) {
    let kek = fixture.kek();
    let mut calls = JoinSet::new();
    let again = Arc::new(AtomicUsize::new(0));
    for call in 0..CONCURRENT_CALLS {
        let (kek, again) = (Arc::clone(&kek), Arc::clone(&again));
        calls.spawn(async move {
            let context = context_of(&[("tenant", &format!("t-{call}"))], 1);
            let generate = || kek.generate_data_key(GenerateRequest::new(&context));
            let generated = answered(&again, generate).await;
            let wrapped = &generated.wrapped;
            let rewrap = || kek.rewrap_key(RewrapRequest::new(wrapped, &context));
            let rewrapped = answered(&again, rewrap).await;
            let unwrapped = answered(&again, || unwrap(&*kek, &rewrapped, &context)).await;
            assert!(unwrapped.data_key == generated.data_key, "call {call} got another key");
            generated.data_key
        });
    }
    let keys = calls.join_all().await;
    assert_eq!(keys.len(), CONCURRENT_CALLS);
    for (at, key) in keys.iter().enumerate() {
        assert!(!keys[..at].contains(key), "one data key was generated twice");
    }
}

/// What `call` comes to. A server with so many callers may break a few connections, by which
/// nothing is mixed up: the call is made again then, and counted.
async fn answered<T, F: Future<Output = Result<T, KmsError>>>(
    again: &AtomicUsize,
    call: impl Fn() -> F,
) -> T {
    loop {
        match call().await {
            Ok(answer) => return answer,
            Err(error) => {
                let again = again.fetch_add(1, Ordering::Relaxed) + 1;
                let tolerable = error.kind().is_retryable() && again <= MADE_AGAIN_MAX;
                assert!(tolerable, "one of many calls, with {again} failures: {error}");
                tokio::time::sleep(PATIENCE).await;
            }
        }
    }
}

/// No key appears in what `Debug` and errors show, in hexadecimal, base64 or as a
/// list of numbers.
pub async fn debug_and_errors_show_no_key(fixture: &dyn KmsFixture) {
    let (kek, context) = (fixture.kek(), context());
    let generated = generate(&*kek, &context).await;
    let unwrapped = unwrap(&*kek, &generated.wrapped, &context).await.expect("unwrap");
    let request = WrapRequest::new(&generated.data_key, &context);
    let mut shown = vec![
        format!("{kek:?} {kek:#?} {request:?} {generated:?} {generated:#?}"),
        format!("{unwrapped:?} {unwrapped:#?}"),
    ];
    let mut broken = generated.wrapped.clone();
    broken.blob.reverse();
    let elsewhere = context_of(&[("tenant", "t-2")], 1);
    let failures = [
        unwrap(&*kek, &broken, &context).await,
        unwrap(&*kek, &generated.wrapped, &elsewhere).await,
    ];
    for failure in failures {
        let error = failure.expect_err("not what was wrapped");
        shown.push(format!("{error} {error:?} {error:#?}"));
        let mut source = error.source();
        while let Some(error) = source {
            shown.push(format!("{error} {error:?}"));
            source = error.source();
        }
    }
    if let Some(admin) = fixture.admin() {
        shown.push(format!("{admin:?} {admin:#?}"));
    }
    for text in &mut shown {
        text.retain(|character| !character.is_whitespace());
    }
    for form in spellings(&generated.data_key) {
        for text in &shown {
            assert!(!text.contains(&form), "a data key is shown as {form} in: {text}");
        }
    }
}

/// Polls a call so many times, with other tasks in between, then drops it.
async fn give_up_after<T>(polls: usize, call: impl Future<Output = T>) {
    let mut call = pin!(call);
    for _ in 0..polls {
        let polled = std::future::poll_fn(|context| Poll::Ready(call.as_mut().poll(context)));
        if polled.await.is_ready() {
            return;
        }
        tokio::task::yield_now().await;
    }
}
