//! Looks at a KEK as a careful colleague would before a service goes live: is it there,
//! may we use it, does it do what it promises, and what will it cost.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! # use bulla::local::{LocalKek, Unlock};
//! # let kek = LocalKek::create(dir.path().join("kek.json"), "orders", Unlock::new_key_file(dir.path().join("key"))?).await?;
//! use bulla::doctor::{Examination, Role, Verdict};
//!
//! let report = Examination::new(Role::Service).run(&kek).await;
//! println!("{report}");
//! assert_eq!(report.verdict(), Verdict::Warning); // a local KEK has no place in production
//! # Ok(())
//! # }
//! ```
//!
//! Everything is checked through the contract that the manager uses, by calls that change
//! nothing: data keys that are made are thrown away. An examination makes at most nine calls
//! of the contract, of which layers may repeat some. It tries what the role should be
//! refused, so the log of the KMS will show refusals: run it before a deployment, not at each
//! start.
//!
//! [`Workload`] and [`Estimate`] are the cost calculator.

mod checks;
mod cost;

use std::fmt;
use std::time::Duration;

use bulla_backend::{Kek, KekId, KmsClock, ScopeId, WrappedKey};
use bulla_core::KmsContext;

pub use cost::{Estimate, Workload};

/// What the credentials at hand are for, and so what they should be allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Role {
    /// Seals and opens: makes, unwraps and rewraps data keys, reads the KEK's state.
    Service,
    /// Opens only: unwraps data keys. Must not make any.
    Opener,
    /// Rotates and retires: reads the KEK's state. Must not unwrap data keys.
    Operator,
}

/// A thing that is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Check {
    /// The KMS answers, and how fast.
    Reachable,
    /// It knows who we are.
    Authenticated,
    /// The KEK is enabled.
    KeyState,
    /// The KEK was rotated lately.
    KeyAge,
    /// Its state can be read.
    MayDescribe,
    /// Data keys can be made.
    MayGenerate,
    /// Data keys can be unwrapped.
    MayUnwrap,
    /// Data keys of others can be wrapped.
    MayWrap,
    /// Wraps can be renewed.
    MayRewrap,
    /// A wrap opens under its own context only.
    ContextBound,
    /// A data key comes back as it was, and each is another one.
    RoundTrip,
    /// What the backend promises: remote, authenticated, versions named.
    Promises,
    /// The clocks of this machine and of the KMS agree.
    ClockSkew,
}

impl Check {
    /// The word that reports and scripts use.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Reachable => "reachable",
            Self::Authenticated => "authenticated",
            Self::KeyState => "key-state",
            Self::KeyAge => "key-age",
            Self::MayDescribe => "may-describe",
            Self::MayGenerate => "may-generate",
            Self::MayUnwrap => "may-unwrap",
            Self::MayWrap => "may-wrap",
            Self::MayRewrap => "may-rewrap",
            Self::ContextBound => "context-bound",
            Self::RoundTrip => "round-trip",
            Self::Promises => "promises",
            Self::ClockSkew => "clock-skew",
        }
    }
}

/// How bad it is. Ordered: the worst is the greatest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// As it should be.
    Good,
    /// Could not be looked at.
    Unknown,
    /// Works, and should be better.
    Warning,
    /// Will not work, or is dangerous.
    Bad,
}

impl Verdict {
    /// The word that reports and scripts use.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Unknown => "unknown",
            Self::Warning => "warning",
            Self::Bad => "bad",
        }
    }
}

/// What was found out about one thing.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Finding {
    /// The thing.
    pub check: Check,
    /// How bad it is.
    pub verdict: Verdict,
    /// What was seen, and what to do about it.
    pub message: String,
}

/// Everything that was found out about a KEK.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// The KEK.
    pub kek: KekId,
    /// One finding for each check that was made, in the order of [`Check`].
    pub findings: Vec<Finding>,
}

impl Report {
    /// The worst of the findings. What could not be looked at does not count, but for the
    /// permission to unwrap where the role needs it: that is a warning by itself.
    pub fn verdict(&self) -> Verdict {
        let looked_at = self.findings.iter().map(|finding| finding.verdict);
        looked_at.filter(|verdict| *verdict != Verdict::Unknown).max().unwrap_or(Verdict::Unknown)
    }

    /// The finding about one thing.
    pub fn finding(&self, check: Check) -> Option<&Finding> {
        self.findings.iter().find(|finding| finding.check == check)
    }
}

/// A line for each finding.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {}", self.kek, self.verdict().as_str())?;
        for Finding { check, verdict, message } in &self.findings {
            writeln!(f, "  {:<8} {:<14} {message}", verdict.as_str(), check.as_str())?;
        }
        Ok(())
    }
}

/// How to look at a KEK.
#[derive(Debug, Clone)]
pub struct Examination<'a> {
    role: Role,
    rotated_within: Duration,
    patience: Duration,
    sample: Option<(&'a WrappedKey, &'a KmsContext)>,
    scope: Option<&'a ScopeId>,
    clock: Option<&'a dyn KmsClock>,
}

impl<'a> Examination<'a> {
    /// With credentials that are meant for `role`.
    pub fn new(role: Role) -> Self {
        Self {
            role,
            rotated_within: Duration::from_secs(400 * 24 * 3600),
            patience: Duration::from_secs(5),
            sample: None,
            scope: None,
            clock: None,
        }
    }

    /// Warns when the KEK was not rotated for this long. Default 400 days: a year, which
    /// is what most policies ask for, and the time to notice.
    #[must_use]
    pub fn rotated_within(mut self, age: Duration) -> Self {
        self.rotated_within = age;
        self
    }

    /// How long one call may take. Default 5 seconds.
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// A wrapped data key to unwrap, and its context. Those who may not make one need it
    /// ([`Role::Opener`]): take a wrap of a `DekRecord` from the key store, and
    /// `scope.context().kms_context(version)`.
    #[must_use]
    pub fn sample(mut self, wrapped: &'a WrappedKey, context: &'a KmsContext) -> Self {
        self.sample = Some((wrapped, context));
        self
    }

    /// The scope under which data keys are made and thrown away, where permissions depend on
    /// it. Default: tenant `bulla-doctor`, purpose `doctor`.
    #[must_use]
    pub fn scope(mut self, scope: &'a ScopeId) -> Self {
        self.scope = Some(scope);
        self
    }

    /// Compares this machine's clock with that of the KMS.
    #[must_use]
    pub fn clock(mut self, clock: &'a dyn KmsClock) -> Self {
        self.clock = Some(clock);
        self
    }

    /// Looks at `kek`. Never fails: what goes wrong is in the report. Dropping the future
    /// leaves nothing behind.
    pub async fn run(&self, kek: &dyn Kek) -> Report {
        checks::run(self, kek).await
    }
}
