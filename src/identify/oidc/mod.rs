//! OIDC tokens: which issuers are believed, and the verdict on one token.
//!
//! [`Issuers::verify`] runs on the data path: synchronous, no I/O, and it never waits for a key that is already
//! there. Fetching keys is one task per issuer on the control runtime ([`Issuers::start`]). Algorithms are pinned
//! per issuer; a token chooses an issuer by its `iss` and a key by its `kid`, and nothing else.
//!
//! ring verifies everything but ES512, whose curve P-521 it does not have: that is p521, which takes about a millisecond for
//! a token that is not in the cache.

pub mod cache;
mod discovery;
mod explain;
mod fault;
mod jwt;
mod keys;
mod login;
mod mistaken;
mod refresh;
mod security_event;
mod settings;
#[cfg(test)]
mod tests;

pub use discovery::LoginEndpoints;
pub use fault::TokenFault;
pub use login::{LoginCode, LoginFault, LoginSettings};
pub use mistaken::Mistaken;
pub use security_event::{SecurityEvent, SecurityEventFault};
pub use settings::{Algorithm, IssuerFault, IssuerSettings, Setting};

use super::provider::{Identification, IdentityProvider, Refused};
use crate::names::IssuerName;
use crate::net::https::HttpsUrl;
use crate::policy::{CLOCK_SKEW, Identity};
use crate::protocol::RefusalReason;
use cache::{RefusedToken, TokenCache, VerifiedToken};
use jwt::Jwt;
use keys::{KeySet, Search};
use parking_lot::Mutex;
use refresh::{Keeper, Limits};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};
use tokio::task::AbortHandle;

/// All configured issuers, with their keys.
#[derive(Debug)]
pub struct Issuers {
    /// Different for every instance of this process; caches belong to one instance.
    id: u64,
    list: Vec<Arc<Keeper>>,
    tasks: Mutex<Vec<AbortHandle>>,
}

/// Result of verifying a token.
#[derive(Debug)]
pub enum Verdict {
    /// Valid until [`Identity::expires`].
    Verified(Arc<Identity>),
    /// Refused.
    Refused(TokenFault),
    /// The keys to tell are not there. Wait for them once, then verify again; if the verdict is this one again,
    /// refuse with [`KeysWanted::fault`].
    Fetch(KeysWanted),
}

/// A request for an issuer's keys, not sent before [`KeysWanted::wait`].
#[derive(Debug)]
pub struct KeysWanted {
    keeper: Arc<Keeper>,
}

impl KeysWanted {
    /// Asks for one fetch, within the limits against storms, and waits until it is over, 5 s at the most. Can be
    /// awaited on any runtime, and dropped at any time.
    pub async fn wait(self) {
        self.keeper.ask().await;
    }

    /// What to refuse with when the keys did not come.
    pub fn fault(&self) -> TokenFault {
        TokenFault::Unavailable
    }

    /// Whose keys.
    pub fn issuer(&self) -> &IssuerName {
        &self.keeper.settings.name
    }
}

impl Issuers {
    /// Checks the settings; opens nothing and fetches nothing.
    pub fn new(settings: Vec<IssuerSettings>) -> Result<Arc<Issuers>, IssuerFault> {
        Self::with_limits(settings, Limits::default())
    }

    fn with_limits(settings: Vec<IssuerSettings>, limits: Limits) -> Result<Arc<Issuers>, IssuerFault> {
        static ID: AtomicU64 = AtomicU64::new(1);
        let mut list: Vec<Arc<Keeper>> = Vec::with_capacity(settings.len());
        for one in settings {
            let issuer = one.name.clone();
            let fault = |what: &str| IssuerFault { issuer: issuer.clone(), what: what.into() };
            let twin = list.iter().find(|k| k.settings.name == one.name || k.settings.url == one.url);
            if let Some(twin) = twin {
                return Err(fault(&format!("has the name or the URL of issuer {}", twin.settings.name)));
            }
            if let Some((_, what)) = one.faults().first() {
                return Err(fault(what));
            }
            list.push(Arc::new(Keeper::new(one, limits).map_err(|what| fault(&what))?));
        }
        Ok(Arc::new(Issuers { id: ID.fetch_add(1, Ordering::Relaxed), list, tasks: Mutex::default() }))
    }

    /// Starts one task per issuer on `control`: it fetches the keys and keeps them fresh until [`Issuers::stop`] or
    /// until this is dropped. A second call does nothing.
    pub fn start(self: &Arc<Self>, control: &tokio::runtime::Handle) {
        let mut tasks = self.tasks.lock();
        if tasks.is_empty() {
            // The tasks hold their own keeper and not `self`, so that the last user's drop ends them.
            tasks.extend(self.list.iter().map(|keeper| {
                keeper.starting();
                control.spawn(keeper.clone().keep()).abort_handle()
            }));
        }
    }

    /// Takes over the keys of issuers whose settings are the same, so that a reload loses none. They serve until
    /// [`Issuers::start`], called after this, has fetched them anew: a key that the issuer withdrew goes with a reload.
    pub fn adopt(&self, old: &Issuers) {
        for new in &self.list {
            if let Some(old) = old.list.iter().find(|k| k.settings == new.settings) {
                new.adopt(old);
            }
        }
    }

    /// Gives an issuer a set of keys (JWKS, RFC 7517 section 5) that came another way than by fetching, for a process that
    /// has no network: benches and fuzzing. The task of [`Issuers::start`] would replace it.
    pub fn provide(
        &self,
        issuer: &IssuerName,
        jwks: &[u8],
        serves_until: SystemTime,
    ) -> Result<(), IssuerFault> {
        let fault = |what: String| IssuerFault { issuer: issuer.clone(), what };
        let keeper = self.list.iter().find(|keeper| keeper.settings.name == *issuer);
        let keeper = keeper.ok_or_else(|| fault("is not among these issuers".into()))?;
        keeper.put(KeySet::parse(jwks, serves_until).map_err(|what| fault(what.to_string()))?);
        Ok(())
    }

    /// Stops the tasks. Known keys remain in use.
    pub fn stop(&self) {
        self.tasks.lock().drain(..).for_each(|task| task.abort());
        self.list.iter().for_each(|keeper| keeper.stopped());
    }

    /// How long ago each issuer's keys were fetched; `None` where they never were.
    pub fn key_ages(&self) -> Vec<(IssuerName, Option<Duration>)> {
        self.list.iter().map(|keeper| (keeper.settings.name.clone(), keeper.age())).collect()
    }

    /// True when every issuer has keys that serve at `now`.
    pub fn ready(&self, now: SystemTime) -> bool {
        self.list.iter().all(|k| k.keys(now).is_some())
    }

    /// The verdict on one token at the time `now`.
    ///
    /// A key that is not known is looked for once: the first verdict is [`Verdict::Fetch`], and the next one on the same
    /// token is a refusal if the keys were fetched meanwhile. Where they could not be, because the issuer is down or the
    /// budget for fetches is spent, nothing is known of the token and the fault is [`TokenFault::Unavailable`].
    pub fn verify(&self, cache: &mut TokenCache, token: &[u8], now: SystemTime) -> Verdict {
        if token.len() > jwt::MAX_BYTES {
            return Verdict::Refused(TokenFault::TooLong);
        }
        let id = (self.id, cache::digest(token));
        if let Some(entry) = cache.verified(&id)
            && let Some(keys) = self.list.get(entry.issuer).and_then(|k| k.keys(now))
            && entry.is_current(&keys)
        {
            let verdict = match entry.identity.expires + CLOCK_SKEW < now {
                true => Verdict::Refused(TokenFault::Expired),
                false => Verdict::Verified(entry.identity.clone()),
            };
            cache.count(true);
            return verdict;
        }
        let before = cache.refused(&id, now);
        if let Some(RefusedToken { fault: Some(fault), issuer, generation, .. }) = before
            && self.generation(issuer, now) == generation
        {
            cache.count(true);
            return Verdict::Refused(fault);
        }
        cache.count(false);
        let refused = |fault, issuer| {
            let generation = self.generation(issuer, now);
            RefusedToken { fault, issuer, generation, at: now }
        };
        match self.check(token, now) {
            Ok(entry) => {
                let identity = entry.identity.clone();
                cache.insert_verified(id, entry);
                Verdict::Verified(identity)
            }
            Err(Miss::Refused(fault, issuer)) => {
                if fault.is_lasting() {
                    cache.insert_refused(id, refused(Some(fault), issuer));
                }
                Verdict::Refused(fault)
            }
            Err(Miss::UnknownKey(issuer)) => {
                let looked_up = before.is_some_and(|before| {
                    before.fault.is_none() && before.generation != self.generation(Some(issuer), now)
                });
                let keeper = &self.list[issuer];
                if looked_up {
                    cache.insert_refused(id, refused(Some(TokenFault::UnknownKey), Some(issuer)));
                    return Verdict::Refused(TokenFault::UnknownKey);
                }
                match keeper.may_ask() {
                    true => {
                        cache.insert_refused(id, refused(None, Some(issuer)));
                        Verdict::Fetch(KeysWanted { keeper: keeper.clone() })
                    }
                    false => Verdict::Refused(TokenFault::Unavailable),
                }
            }
            Err(Miss::NoKeys(issuer)) => match self.list[issuer].may_ask() {
                true => Verdict::Fetch(KeysWanted { keeper: self.list[issuer].clone() }),
                false => Verdict::Refused(TokenFault::Unavailable),
            },
        }
    }

    /// The key set that an issuer has now.
    fn generation(&self, issuer: Option<usize>, now: SystemTime) -> Option<u64> {
        self.list.get(issuer?)?.keys(now).map(|keys| keys.generation())
    }

    fn check(&self, token: &[u8], now: SystemTime) -> Result<VerifiedToken, Miss> {
        let nowhere = |fault| Miss::Refused(fault, None);
        let jwt = Jwt::parse(token).map_err(nowhere)?;
        let name = jwt.issuer().map_err(nowhere)?;
        let issuer = self.list.iter().position(|k| k.settings.url == name);
        let issuer = issuer.ok_or(nowhere(TokenFault::UnknownIssuer))?;
        let refuse = |fault| Miss::Refused(fault, Some(issuer));
        let keeper = &self.list[issuer];
        let pinned = &keeper.settings.algorithms;
        let algorithm = pinned.iter().find(|a| a.name() == jwt.header.alg);
        let algorithm = *algorithm.ok_or(refuse(TokenFault::Algorithm))?;
        // A token that is refused in any case is not worth a fetch.
        let worth_a_fetch = |miss| match jwt.identity(&keeper.settings, now) {
            Ok(_) => miss,
            Err(fault) => refuse(fault),
        };
        let keys = keeper.keys(now).ok_or_else(|| worth_a_fetch(Miss::NoKeys(issuer)))?;
        let key = match keys.find(jwt.header.kid.as_deref(), algorithm) {
            Search::Key(key) => key,
            Search::Unknown => return Err(worth_a_fetch(Miss::UnknownKey(issuer))),
            Search::Unnamed => return Err(refuse(TokenFault::UnnamedKey)),
            Search::Unfit => return Err(refuse(TokenFault::KeyMismatch)),
        };
        if !key.verifies(algorithm, jwt.message, &jwt.signature) {
            return Err(refuse(TokenFault::Signature));
        }
        let identity = Arc::new(jwt.identity(&keeper.settings, now).map_err(refuse)?);
        Ok(VerifiedToken { identity, issuer, generation: keys.generation(), key: key.clone() })
    }
}

impl IdentityProvider for Issuers {
    fn identify(&self, cache: &mut TokenCache, token: &[u8], now: SystemTime) -> Identification {
        match self.verify(cache, token, now) {
            Verdict::Verified(identity) => Identification::Known(identity),
            Verdict::Refused(fault) => Identification::Refused(self.refused(fault, token, now)),
            Verdict::Fetch(wanted) => {
                let otherwise = self.refused(wanted.fault(), token, now);
                Identification::Pending { ready: Box::pin(wanted.wait()), otherwise }
            }
        }
    }
}

impl Issuers {
    /// A refusal, with what the token says and what is accepted.
    fn refused(&self, fault: TokenFault, token: &[u8], now: SystemTime) -> Refused {
        let why = match explain::is_service_key(fault, token) {
            true => RefusalReason::ServiceKey,
            false => fault.why(),
        };
        let settings = self.list.iter().map(|keeper| &keeper.settings);
        Refused { why, detail: explain::explain(fault, token, settings, now).into() }
    }

    /// What a token says of itself, a line each: what it is and the claim, cut.
    pub fn claims_shown(&self, token: &[u8]) -> Vec<(&'static str, String)> {
        explain::claims_shown(token)
    }

    /// Why a token of `issuer` gives nobody any groups.
    pub fn why_no_groups(&self, issuer: &IssuerName, token: &[u8]) -> Option<String> {
        let keeper = self.list.iter().find(|keeper| keeper.settings.name == *issuer)?;
        explain::why_no_groups(token, &keeper.settings.groups_claim)
    }

    /// What is seen in a token at the time `now`, its signature apart: no key is needed or asked for. The fault is explained.
    pub fn inspect(&self, token: &[u8], now: SystemTime) -> Result<Identity, Refused> {
        let judged = Jwt::parse(token).and_then(|jwt| {
            let issuer = self.list.iter().find(|keeper| jwt.issuer() == Ok(keeper.settings.url.as_str()));
            let settings = &issuer.ok_or(TokenFault::UnknownIssuer)?.settings;
            match settings.algorithms.iter().any(|algorithm| algorithm.name() == jwt.header.alg) {
                true => jwt.identity(settings, now),
                false => Err(TokenFault::Algorithm),
            }
        });
        judged.map_err(|fault| self.refused(fault, token, now))
    }
}

/// Security events, and people who log in.
impl Issuers {
    /// The issuer that a security event token claims; not verified.
    pub fn security_event_issuer(&self, token: &[u8]) -> Result<IssuerName, SecurityEventFault> {
        security_event::claimed_issuer(&self.list, token).map(|keeper| keeper.settings.name.clone())
    }

    /// Verifies a security event token that must be for one of `audience`. Waits once for keys that are not there.
    pub async fn security_event(
        &self,
        token: &[u8],
        audience: &[String],
        now: SystemTime,
    ) -> Result<SecurityEvent, SecurityEventFault> {
        security_event::security_event(&self.list, token, audience, now).await
    }

    /// Asks an issuer where people log in.
    pub async fn login_endpoints(&self, issuer: &IssuerName) -> Result<LoginEndpoints, LoginFault> {
        let keeper = self.keeper(issuer).ok_or(LoginFault::NoIssuer)?;
        Ok(keeper.source.login_endpoints(&keeper.settings.url).await?)
    }

    /// Exchanges a code, and returns whom the ID token proves.
    pub async fn log_in(
        &self,
        issuer: &IssuerName,
        endpoint: &HttpsUrl,
        code: &LoginCode<'_>,
        now: SystemTime,
    ) -> Result<Identity, LoginFault> {
        login::log_in(self.keeper(issuer).ok_or(LoginFault::NoIssuer)?, endpoint, code, now).await
    }

    /// The URL of an issuer, as in `iss`.
    pub fn issuer_url(&self, issuer: &IssuerName) -> Option<&str> {
        self.keeper(issuer).map(|keeper| keeper.settings.url.as_str())
    }

    fn keeper(&self, issuer: &IssuerName) -> Option<&Arc<Keeper>> {
        self.list.iter().find(|keeper| keeper.settings.name == *issuer)
    }
}

impl Drop for Issuers {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Why a token did not verify; issuers by their place.
enum Miss {
    Refused(TokenFault, Option<usize>),
    UnknownKey(usize),
    NoKeys(usize),
}
