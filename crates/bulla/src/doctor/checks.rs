//! The checks themselves.

use std::fmt::Display;
use std::time::{Duration, SystemTime};

use bulla_backend::{
    GenerateRequest, GeneratedKey, Kek, KekState, KekStatus, KmsError, KmsErrorKind, RewrapRequest,
    UnwrapRequest, UnwrappedKey, WrapRequest,
};
use bulla_core::{DataKey, DekVersion, KmsContext, ScopeContext};
use tokio::time::{Instant, timeout};

use super::{Check, Examination, Finding, Report, Role, Verdict};

/// Clocks that differ by more than this are worth a word; AWS refuses signatures that are
/// older than 5 minutes, and tokens are checked against the clock too.
const SKEW_NOTICED: Duration = Duration::from_secs(5);
const SKEW_BAD: Duration = Duration::from_secs(120);
/// Answers that take longer make each cold open felt.
const SLOW: Duration = Duration::from_millis(500);

/// The answer to a call, or why there is none.
type Answer<T> = Result<T, Failed>;

enum Failed {
    Kms(KmsError),
    NoAnswer,
}

pub(super) async fn run(how: &Examination<'_>, kek: &dyn Kek) -> Report {
    let mut round = Round { how, kek, findings: Vec::new() };
    round.look().await;
    let mut findings = round.findings;
    findings.sort_by_key(|finding| finding.check as u8);
    Report { kek: kek.kek().clone(), findings }
}

struct Round<'a> {
    how: &'a Examination<'a>,
    kek: &'a dyn Kek,
    findings: Vec<Finding>,
}

impl Round<'_> {
    async fn look(&mut self) {
        let begun = Instant::now();
        let described = self.call(self.kek.describe()).await;
        let took = begun.elapsed();
        // A wrong clock may be why nothing else works.
        self.clock().await;
        if !self.can_talk(&described, took) {
            return;
        }
        self.state(&described);
        let (Some(context), Some(elsewhere)) = (self.context(), context("elsewhere")) else {
            return;
        };
        let generated = self.call(self.kek.generate_data_key(GenerateRequest::new(&context))).await;
        self.permission(Check::MayGenerate, &generated);
        match &generated {
            Ok(generated) => self.data_path(generated, &context, &elsewhere).await,
            Err(_) => self.without_a_key(&context, &elsewhere).await,
        }
        // Last: some backends learn what their KMS can do from its answers.
        self.promises();
    }

    /// The context under which data keys are made.
    fn context(&self) -> Option<KmsContext> {
        match self.how.scope {
            Some(scope) => Some(scope.context().kms_context(DekVersion::FIRST)),
            None => context("doctor"),
        }
    }

    /// What a data key of our own shows.
    async fn data_path(
        &mut self,
        generated: &GeneratedKey,
        context: &KmsContext,
        elsewhere: &KmsContext,
    ) {
        let wrapped = &generated.wrapped;
        let unwrapped = self.call(self.kek.unwrap_key(UnwrapRequest::new(wrapped, context))).await;
        self.permission(Check::MayUnwrap, &unwrapped);
        if let Ok(UnwrappedKey { data_key, .. }) = &unwrapped {
            self.round_trip(generated, *data_key == generated.data_key, context).await;
            let request = UnwrapRequest::new(wrapped, elsewhere);
            let answer = self.call(self.kek.unwrap_key(request)).await;
            self.context_bound(&answer);
        }
        let wrap = WrapRequest::new(&generated.data_key, context);
        let answer = self.call(self.kek.wrap_key(wrap)).await;
        self.permission(Check::MayWrap, &answer);
        let rewrapped = self.call(self.kek.rewrap_key(RewrapRequest::new(wrapped, context))).await;
        self.permission(Check::MayRewrap, &rewrapped);
    }

    /// What can be tried by those who may not make a data key: to wrap one of their own
    /// making, and to unwrap and rewrap one of somebody else's.
    async fn without_a_key(&mut self, context: &KmsContext, elsewhere: &KmsContext) {
        if let Ok(data_key) = DataKey::generate() {
            let answer = self.call(self.kek.wrap_key(WrapRequest::new(&data_key, context))).await;
            self.permission(Check::MayWrap, &answer);
        }
        let Some((wrapped, context)) = self.how.sample else {
            let verdict = match needs(self.how.role, Check::MayUnwrap) {
                Need::Must => Verdict::Warning,
                _ => Verdict::Unknown,
            };
            let message = "not tried: give a wrapped key as a sample";
            return self.note(Check::MayUnwrap, verdict, message);
        };
        let unwrapped = self.call(self.kek.unwrap_key(UnwrapRequest::new(wrapped, context))).await;
        self.permission(Check::MayUnwrap, &unwrapped);
        if unwrapped.is_ok() {
            let request = UnwrapRequest::new(wrapped, elsewhere);
            let answer = self.call(self.kek.unwrap_key(request)).await;
            self.context_bound(&answer);
        }
        let rewrapped = self.call(self.kek.rewrap_key(RewrapRequest::new(wrapped, context))).await;
        self.permission(Check::MayRewrap, &rewrapped);
    }

    async fn round_trip(&mut self, generated: &GeneratedKey, same: bool, context: &KmsContext) {
        let again = self.call(self.kek.generate_data_key(GenerateRequest::new(context))).await;
        let other = again.map_or(true, |again| again.data_key != generated.data_key);
        match (same, other) {
            (true, true) => self.note(Check::RoundTrip, Verdict::Good, "data keys come back whole"),
            (false, _) => self.note(
                Check::RoundTrip,
                Verdict::Bad,
                "a data key came back as another one: seal nothing under this KEK",
            ),
            (_, false) => self.note(
                Check::RoundTrip,
                Verdict::Bad,
                "the KMS made the same data key twice: seal nothing under this KEK",
            ),
        }
    }

    fn context_bound(&mut self, answer: &Answer<UnwrappedKey>) {
        match answer {
            Err(Failed::Kms(error)) if error.kind() == KmsErrorKind::Tampered => {
                self.note(Check::ContextBound, Verdict::Good, "another context is refused");
            }
            Ok(_) => self.note(
                Check::ContextBound,
                Verdict::Bad,
                "a wrap opens under another context: who can write the key store can swap keys \
                 between tenants",
            ),
            Err(failed) => self.note(
                Check::ContextBound,
                Verdict::Unknown,
                format!("another context was not refused as such: {}", failed.text()),
            ),
        }
    }

    /// Whether it makes sense to go on.
    fn can_talk(&mut self, described: &Answer<KekState>, took: Duration) -> bool {
        let (check, words, advice) = match described {
            Err(failed) if failed.is_outage() => {
                let advice = "look at the address, the network and the KMS itself";
                (Check::Reachable, failed.text(), advice)
            }
            Err(Failed::Kms(error)) if error.kind() == KmsErrorKind::Unauthenticated => {
                let advice = "look at the credentials, and at this machine's clock";
                (Check::Authenticated, error.to_string(), advice)
            }
            Err(Failed::Kms(error)) if error.kind() == KmsErrorKind::NotFound => {
                let advice = "look at the key's name, the region and the mount";
                (Check::KeyState, error.to_string(), advice)
            }
            Err(failed) if !failed.knows_us() => {
                let message = format!("the KMS did not say so: {}", failed.text());
                self.note(Check::Authenticated, Verdict::Unknown, message);
                return true;
            }
            _ => {
                self.speed(took);
                self.note(Check::Authenticated, Verdict::Good, "the credentials are accepted");
                return true;
            }
        };
        if check != Check::Reachable {
            self.speed(took);
        }
        self.note(check, Verdict::Bad, format!("{words}; {advice}"));
        false
    }

    fn speed(&mut self, took: Duration) {
        let took_ms = took.as_millis();
        if took > SLOW {
            let message = format!("the answer took {took_ms} ms; each cold open waits for one");
            self.note(Check::Reachable, Verdict::Warning, message);
        } else {
            self.note(Check::Reachable, Verdict::Good, format!("answered in {took_ms} ms"));
        }
    }

    fn state(&mut self, described: &Answer<KekState>) {
        self.permission(Check::MayDescribe, described);
        let Ok(state) = described else {
            let message = "its state could not be read";
            return self.note(Check::KeyState, Verdict::Unknown, message);
        };
        match state.status {
            KekStatus::Enabled => {
                let known = state.versions.len().max(1);
                let message = format!("enabled, at version {} of {known} known", state.current);
                self.note(Check::KeyState, Verdict::Good, message);
            }
            status => {
                let message = format!("the KEK is {status}; nothing can be opened under it");
                self.note(Check::KeyState, Verdict::Bad, message);
            }
        }
        let created = state.versions.iter().filter_map(|version| version.created_at).max();
        let age = created.and_then(|created| SystemTime::now().duration_since(created).ok());
        match age.map(|age| (age, age.as_secs() / (24 * 3600))) {
            Some((age, days)) if age > self.how.rotated_within => {
                let message = format!("not rotated for {days} days; rotate it");
                self.note(Check::KeyAge, Verdict::Warning, message);
            }
            Some((_, days)) => {
                self.note(Check::KeyAge, Verdict::Good, format!("rotated {days} days ago"));
            }
            None => {
                let message = "the dates of its versions are not told; AWS tells them to those \
                               who may kms:ListKeyRotations";
                self.note(Check::KeyAge, Verdict::Unknown, message);
            }
        }
    }

    fn promises(&mut self) {
        let can = self.kek.capabilities();
        let (verdict, message) = if !can.authenticated_wrap {
            (
                Verdict::Bad,
                "wraps are not authenticated: who can write the key store can plant keys",
            )
        } else if !can.remote {
            (Verdict::Warning, "the KEK's material is in this process; production wants a KMS")
        } else if !can.names_version {
            (Verdict::Warning, "versions are not named: rewraps cannot be proven by them")
        } else {
            (Verdict::Good, "remote, authenticated, and it names its versions")
        };
        self.note(Check::Promises, verdict, message);
    }

    async fn clock(&mut self) {
        let Some(clock) = self.how.clock else { return };
        let before = SystemTime::now();
        let answer = self.call(clock.now()).await;
        let after = SystemTime::now();
        let theirs = match answer {
            Ok(theirs) => theirs,
            Err(failed) => return self.note(Check::ClockSkew, Verdict::Unknown, failed.text()),
        };
        // Only what lies outside the time that the question took is skew for sure.
        let behind = theirs.duration_since(after).unwrap_or_default();
        let ahead = before.duration_since(theirs).unwrap_or_default();
        // HTTP tells whole seconds.
        let skew = behind.max(ahead).saturating_sub(Duration::from_secs(1));
        let verdict = match skew {
            skew if skew > SKEW_BAD => Verdict::Bad,
            skew if skew > SKEW_NOTICED => Verdict::Warning,
            _ => Verdict::Good,
        };
        let message = match verdict {
            Verdict::Good => "the clocks agree".to_owned(),
            _ => format!(
                "this machine is {} s {} the KMS; signatures and tokens will be refused",
                skew.as_secs(),
                if behind > ahead { "behind" } else { "ahead of" },
            ),
        };
        self.note(Check::ClockSkew, verdict, message);
    }

    /// Whether a call is allowed, and whether it should be.
    fn permission<T>(&mut self, check: Check, answer: &Answer<T>) {
        let needed = needs(self.how.role, check);
        let (verdict, message) = match (answer, needed) {
            (Ok(_), Need::Must) => (Verdict::Good, "allowed".to_owned()),
            (Ok(_), Need::May) => (Verdict::Good, "allowed, though not needed".to_owned()),
            (Ok(_), Need::MustNot) => {
                (Verdict::Warning, "allowed, and this role should not be: see the policies".into())
            }
            (Err(Failed::Kms(error)), need) if error.kind() == KmsErrorKind::Denied => match need {
                Need::Must => (Verdict::Bad, format!("{error}; this role needs it")),
                Need::May => (
                    Verdict::Good,
                    "denied; only recipients and KEKs that also wrap need it".to_owned(),
                ),
                Need::MustNot => (Verdict::Good, "denied, as it should be".to_owned()),
            },
            (Err(failed), Need::Must) => (Verdict::Bad, failed.text()),
            (Err(failed), _) => (Verdict::Unknown, failed.text()),
        };
        self.note(check, verdict, message);
    }

    async fn call<T>(&self, call: impl Future<Output = Result<T, KmsError>>) -> Answer<T> {
        match timeout(self.how.patience, call).await {
            Ok(answer) => answer.map_err(Failed::Kms),
            Err(_) => Err(Failed::NoAnswer),
        }
    }

    fn note(&mut self, check: Check, verdict: Verdict, message: impl Display) {
        self.findings.push(Finding { check, verdict, message: message.to_string() });
    }
}

impl Failed {
    fn is_outage(&self) -> bool {
        match self {
            Self::Kms(error) => error.kind() == KmsErrorKind::Unavailable,
            Self::NoAnswer => true,
        }
    }

    /// Whether it is an answer that only those get whom the KMS knows.
    fn knows_us(&self) -> bool {
        match self {
            Self::Kms(error) => {
                matches!(error.kind(), KmsErrorKind::Denied | KmsErrorKind::Disabled)
            }
            Self::NoAnswer => false,
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Kms(error) => error.to_string(),
            Self::NoAnswer => "no answer came in time".to_owned(),
        }
    }
}

enum Need {
    Must,
    May,
    MustNot,
}

/// What a role is allowed, by the policies that come with the backends.
fn needs(role: Role, check: Check) -> Need {
    match (role, check) {
        (Role::Service, Check::MayWrap) => Need::May,
        (Role::Service, _) => Need::Must,
        // Both backends describe the KEK when they connect.
        (Role::Opener, Check::MayUnwrap | Check::MayDescribe) => Need::Must,
        (Role::Opener, _) => Need::MustNot,
        (Role::Operator, Check::MayDescribe) => Need::Must,
        // To rewrap tells nobody a key.
        (Role::Operator, Check::MayRewrap) => Need::May,
        (Role::Operator, _) => Need::MustNot,
    }
}

/// A context that no scope of a service has.
fn context(purpose: &str) -> Option<KmsContext> {
    let scope = ScopeContext::new([("tenant", "bulla-doctor"), ("purpose", purpose)]).ok()?;
    Some(scope.kms_context(DekVersion::FIRST))
}
