//! The token of one connection to Vault, and calls on its behalf.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use bulla_backend::KmsErrorKind;
use rustify::endpoint::Endpoint;
use tokio::sync::{Mutex, Notify};
use tokio::task::AbortHandle;

use super::VaultAuth;
use super::login::{self, Grant, Lease};
use super::renewal;
use crate::failure::Failure;
use crate::wire::{Headers, Reply, Wire};

/// One login to one Vault, shared by the KEKs that were made of one another.
pub(crate) struct Session {
    wire: Wire,
    auth: VaultAuth,
    /// Namespace of the engine.
    engine: Headers,
    /// Namespace of the login.
    login: Headers,
    token: ArcSwap<Token>,
    flight: Mutex<Flight>,
    logins: AtomicU64,
    /// Told when there is another token.
    pub(super) changed: Arc<Notify>,
    renewal: OnceLock<AbortHandle>,
}

pub(super) struct Token {
    /// One more for each login.
    generation: u64,
    /// For calls to the engine.
    engine: Headers,
    /// For calls about the token itself.
    login: Headers,
    pub(super) lease: Lease,
    /// When the lease began, or was renewed.
    pub(super) since: Instant,
    /// What the lease was when the token was new.
    pub(super) first_lease: Lease,
}

/// What those who wait for a login, or to hear whether one is needed, tell each other.
#[derive(Default)]
struct Flight {
    /// When this was found out, and what.
    last: Option<(Instant, Result<(), Failure>)>,
    /// The last login that was refused; how many in a row.
    refused: Option<(Instant, Failure, u32)>,
}

/// First and longest time without a login after one that was refused. Vault locks a role out
/// after some refusals, for its other instances too.
const REFUSED_FIRST: Duration = Duration::from_secs(1);
const REFUSED_MAX: Duration = Duration::from_secs(30);

impl Flight {
    /// The refusal of a login that was made so shortly ago that another would fare no better.
    fn recent_refusal(&self) -> Option<Failure> {
        let (at, failure, count) = self.refused.as_ref()?;
        let wait = REFUSED_FIRST.saturating_mul(1 << (count - 1).min(16)).min(REFUSED_MAX);
        (at.elapsed() < wait).then(|| failure.clone())
    }
}

impl Session {
    /// Logs in, and keeps the token valid for as long as the session is held.
    pub(crate) async fn start(
        wire: Wire,
        auth: VaultAuth,
        engine: Headers,
        login: Headers,
    ) -> Result<Arc<Self>, Failure> {
        let grant = auth.log_in(&wire, &login).await?;
        let session = Arc::new(Self {
            token: ArcSwap::from_pointee(Token::new(1, &engine, grant)),
            wire,
            auth,
            engine,
            login,
            flight: Mutex::default(),
            logins: AtomicU64::new(1),
            changed: Arc::default(),
            renewal: OnceLock::new(),
        });
        let task = tokio::spawn(renewal::run(Arc::downgrade(&session)));
        let _ = session.renewal.set(task.abort_handle());
        Ok(session)
    }

    /// For requests that need no token.
    pub(crate) fn wire(&self) -> &Wire {
        &self.wire
    }

    /// Logins so far, the first included.
    pub(crate) fn logins(&self) -> u64 {
        self.logins.load(Ordering::Relaxed)
    }

    /// Sends a request. Where Vault refuses it for want of a valid token, logs in and sends it
    /// once more.
    pub(crate) async fn call<E: Endpoint>(
        &self,
        endpoint: impl Fn() -> E + Sync,
    ) -> Result<Reply, Failure> {
        let token = self.token();
        match self.wire.exchange(endpoint(), &token.engine).await {
            Err(failure) if failure.is_forbidden() => {
                if !self.replace(&token).await? {
                    return Err(failure);
                }
                self.wire.exchange(endpoint(), &self.token().engine).await
            }
            answer => answer,
        }
    }

    /// Takes care of `refused`, a token with which Vault answered 403. Returns whether there
    /// is another one now; `false` if this one is valid, so that a policy forbids the call.
    async fn replace(&self, refused: &Token) -> Result<bool, Failure> {
        let asked = Instant::now();
        let mut flight = self.flight.lock().await;
        if self.token().generation != refused.generation {
            return Ok(true);
        }
        // Whoever was here while this caller waited has asked the same.
        let found = match flight.last.take() {
            Some((at, found)) if at >= asked => {
                flight.last = Some((at, found.clone()));
                return found.map(|()| false);
            }
            _ => match login::lookup(&self.wire, &refused.login).await {
                Ok(_) => Ok(()),
                Err(failure) if failure.kind() != KmsErrorKind::Unauthenticated => Err(failure),
                Err(invalid) if !self.auth.logs_in() => Err(invalid),
                Err(_) => match self.log_in(&mut flight, refused.generation).await {
                    Ok(()) => return Ok(true),
                    Err(failure) => Err(failure),
                },
            },
        };
        flight.last = Some((Instant::now(), found.clone()));
        found.map(|()| false)
    }

    /// Prolongs the token, or gets another one where that is not possible or gains little.
    pub(super) async fn renew(&self) -> Result<(), Failure> {
        let token = self.token();
        if token.lease.renewable {
            let renewed = match login::renew(&self.wire, &token.login).await {
                Ok(lease) => Some(lease),
                Err(failure) if failure.kind().is_retryable() => return Err(failure),
                Err(failure) if !self.auth.logs_in() => return Err(failure),
                Err(_) => None,
            };
            if let Some(lease) = renewed
                && !(token.nears_its_end(lease) && self.auth.logs_in())
            {
                // A login in between has made a better one, which must stay.
                let renewed = Arc::new(token.renewed(lease));
                self.token.compare_and_swap(&token, renewed);
                return Ok(());
            }
        }
        let mut flight = self.flight.lock().await;
        if self.token().generation != token.generation {
            return Ok(());
        }
        self.log_in(&mut flight, token.generation).await
    }

    /// Replaces the token of this generation. The caller holds the flight.
    async fn log_in(&self, flight: &mut Flight, generation: u64) -> Result<(), Failure> {
        if let Some(refusal) = flight.recent_refusal() {
            return Err(refusal);
        }
        let grant = match self.auth.log_in(&self.wire, &self.login).await {
            Ok(grant) => grant,
            Err(failure) => {
                if failure.is_answer() && self.auth.has_credentials() {
                    let count = flight.refused.as_ref().map_or(0, |(.., count)| *count);
                    let count = count.saturating_add(1);
                    flight.refused = Some((Instant::now(), failure.clone(), count));
                }
                return Err(failure);
            }
        };
        flight.refused = None;
        self.logins.fetch_add(1, Ordering::Relaxed);
        self.token.store(Arc::new(Token::new(generation + 1, &self.engine, grant)));
        self.changed.notify_one();
        tracing::debug!(auth = ?self.auth, "logged in to Vault");
        Ok(())
    }

    /// Whether there is a way to keep this token valid, or to get another one.
    pub(super) fn can_prolong(&self, token: &Token) -> bool {
        token.lease.renewable || self.auth.logs_in()
    }

    pub(super) fn token(&self) -> Arc<Token> {
        self.token.load_full()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Some(task) = self.renewal.get() {
            task.abort();
        }
    }
}

impl Token {
    pub(super) fn new(generation: u64, engine: &Headers, grant: Grant) -> Self {
        Self {
            generation,
            engine: grant.headers.in_namespace_of(engine),
            login: grant.headers,
            lease: grant.lease,
            since: Instant::now(),
            first_lease: grant.lease,
        }
    }

    /// The same after a renewal.
    fn renewed(&self, lease: Lease) -> Self {
        Self {
            generation: self.generation,
            engine: self.engine.clone(),
            login: self.login.clone(),
            lease,
            since: Instant::now(),
            first_lease: self.first_lease,
        }
    }

    /// Whether a renewal gave clearly less than the login had: the token comes near its
    /// `max_ttl`.
    fn nears_its_end(&self, renewed: Lease) -> bool {
        match (renewed.ttl, self.first_lease.ttl) {
            (Some(renewed), Some(first)) => renewed < first.mul_f64(0.9),
            // Less than a second.
            (None, Some(_)) => true,
            _ => false,
        }
    }
}
