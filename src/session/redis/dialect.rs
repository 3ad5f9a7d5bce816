//! A running Redis session: commands pass, logins are verified and replaced by the stored account's.
//!
//! ```text
//!   client                     gateway                             upstream
//!     AUTH token   ─────────▶  Verifying: nothing else passes up
//!                              mark, AUTH with the stored account ─▶
//!                              Sent: nothing else passes up
//!                              the mark's error                  ◀─
//!     +OK          ◀─────────  the permit and account change     ◀─ +OK
//!     -…           ◀─────────  nothing changes                   ◀─ -…
//! ```
//! Who a session speaks for changes with the upstream's reply, not with the command. Where a login's reply could not be told
//! from others (inside MULTI, with replies switched off, behind MONITOR) no login is taken.

use super::{log_login, login_of, said, verify};
use crate::audit::LoginResult;
use crate::close::Close;
use crate::credential::Account;
use crate::names::{Direction, SessionId, Side};
use crate::policy::{Identity, Permit};
use crate::protocol::Edit;
use crate::protocol::redis;
use crate::protocol::redis::work::Kind;
use crate::protocol::redis::{
    Answer, Commands, Login, LoginOf, Passed, Replies, Verdict, Work, encode, encode_auth, error,
};
use crate::session::authorise::{Denial, authorise_account};
use crate::session::database::{ClosingMessage, Dialect, Grant, Masks, Stop, Until};
use crate::session::trail::Trail;
use ring::rand::SecureRandom;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use zeroize::Zeroizing;

/// Redis' commands and replies.
pub(crate) struct Redis {
    up: Commands,
    down: Replies,
    work: Work,
    login: LoginState,
    /// Logins in a row that were refused.
    refused: usize,
    masks: Option<Box<Masks<redis::Masks>>>,
}

/// A login in the middle of a session. What came behind it waits.
enum LoginState {
    /// None is under way.
    None,
    /// Its token is being verified.
    Verifying(Login, Verifying),
    /// Sent upstream; the reply decides.
    Sent(Box<(Permit, Account)>),
}

type Verifying = Pin<Box<dyn Future<Output = Result<Arc<Identity>, Denial>>>>;

/// Logins in a row that may be refused: a guesser gets no further on this connection.
const MAX_REFUSED: usize = 16;
/// Answers of the gateway's that wait for their place; no more commands are taken meanwhile.
const MAX_ANSWERS: usize = 256;
/// What a login is told whose reply could not be told from others.
const NO_LOGIN_HERE: &str =
    "ERR no login is taken inside MULTI, behind MONITOR or with replies switched off; log in before";

impl Redis {
    /// `None` without randomness.
    pub(super) fn new(masks: Option<Box<Masks<redis::Masks>>>) -> Option<Self> {
        let mut random = [0; 16];
        ring::rand::SystemRandom::new().fill(&mut random).ok()?;
        let secret: String = random.iter().map(|byte| format!("{byte:02X}")).collect();
        Some(Redis {
            up: Commands::default(),
            down: Replies::new(&secret),
            work: Work::default(),
            login: LoginState::None,
            refused: 0,
            masks,
        })
    }

    /// Takes note of a command that went up before the relay began.
    pub(super) fn expect_reply(&mut self) {
        self.work.up(Kind::Ordinary);
    }

    /// Processes a withheld login up to its token's verification.
    fn begin_login(&mut self, login: Login, edit: &mut Edit<'_>, grant: &Grant) -> Result<(), Stop> {
        match (&login, login.token()) {
            (_, Some(_)) if !self.work.takes_logins() => return self.refuse(NO_LOGIN_HERE, edit),
            (_, Some(token)) => {
                let (session, route) = (grant.session.clone(), grant.route.clone());
                session.on_database_user(login.user());
                let token = Zeroizing::new(token.to_vec());
                let verifying = async move { verify(&session, &route, &token).await };
                self.login = LoginState::Verifying(login, Box::pin(verifying));
            }
            (Login::Reset, _) => {
                // Upstream, RESET leads back to the default user, whoever may be that.
                let mut commands = Zeroizing::new(Vec::new());
                encode(&[b"RESET"], &mut commands);
                self.work.up(Kind::Reset);
                self.down.mark(Answer::Login(LoginOf::Gateway), &mut commands);
                let (user, password) = login_of(grant.account());
                encode_auth(user, password, &mut commands);
                edit.insert(&commands);
            }
            (Login::Wrong(words), _) => return self.refuse(words, edit),
            _ => {
                let mut command = Vec::new();
                login.encode(None, &mut command);
                self.work.up(Kind::Ordinary);
                edit.insert(&command);
            }
        }
        Ok(())
    }

    /// Sends a login whose token was verified up, if it is permitted.
    fn send_login(
        &mut self,
        login: &Login,
        verdict: Result<Arc<Identity>, Denial>,
        edit: &mut Edit<'_>,
        grant: &Grant,
    ) -> Result<(), Stop> {
        let authorised =
            verdict.and_then(|identity| authorise_account(&grant.session, &grant.route, &identity));
        match authorised {
            Ok((permit, account)) => {
                self.refused = 0;
                let mut commands = Zeroizing::new(Vec::new());
                let kind = if matches!(login, Login::Auth { .. }) { LoginOf::Auth } else { LoginOf::Hello };
                self.down.mark(Answer::Login(kind), &mut commands);
                login.encode(Some(login_of(&account)), &mut commands);
                self.work.up(Kind::Ordinary);
                edit.insert(&commands);
                self.login = LoginState::Sent(Box::new((permit, account)));
                Ok(())
            }
            Err(denial) => {
                if let Some(identity) = &denial.identity {
                    log_login(&grant.session, &grant.route, identity, None, LoginResult::NotPermitted);
                }
                grant.session.counters().refused(denial.why.code());
                self.refuse(said(&denial), edit)
            }
        }
    }

    /// Sees to it that the client is told this where the reply of the upstream's would stand. Where replies are off,
    /// nobody hears of it, and the answer is kept: one reason more to bound them.
    fn refuse(&mut self, words: &str, edit: &mut Edit<'_>) -> Result<(), Stop> {
        let mut mark = Vec::new();
        self.down.mark(Answer::Say(error(words)), &mut mark);
        self.work.mark();
        edit.insert(&mark);
        self.refused += 1;
        if self.refused < MAX_REFUSED {
            return Ok(());
        }
        let detail = Some("too many logins in a row were refused");
        Err(Stop::Leave { close: Close::Refused, notice: ClosingMessage::LoginsRefused, detail })
    }

    /// Applies the upstream's reply to a login.
    fn decide_login(&mut self, verdict: Verdict, grant: &mut Grant) {
        let LoginState::Sent(sent) = std::mem::replace(&mut self.login, LoginState::None) else { return };
        let (permit, account) = *sent;
        match verdict {
            Verdict::Accepted => {
                let identity = permit.identity();
                let user = Some(&*account.user);
                log_login(&grant.session, &grant.route, identity, user, LoginResult::Accepted);
                grant.session.identified(identity);
                grant.replace(permit, account);
            }
            Verdict::Refused => {
                let (identity, user) = (permit.identity(), Some(&*account.user));
                log_login(&grant.session, &grant.route, identity, user, LoginResult::RefusedUpstream);
            }
        }
    }
}

impl Dialect for Redis {
    const TERMINATE: &'static [u8] = &[];
    const UPSTREAM_LEAVES_WITH_CLIENT: bool = true;

    fn pass_up(
        &mut self,
        cx: &mut Context<'_>,
        edit: &mut Edit<'_>,
        grant: &mut Grant,
    ) -> Poll<Result<(), Stop>> {
        loop {
            match &mut self.login {
                LoginState::None => {}
                LoginState::Sent(_) => return Poll::Pending,
                LoginState::Verifying(login, verifying) => {
                    let verdict = ready!(verifying.as_mut().poll(cx));
                    let login = std::mem::replace(login, Login::Nothing);
                    self.login = LoginState::None;
                    self.send_login(&login, verdict, edit, grant)?;
                    continue;
                }
            }
            if self.down.answers() >= MAX_ANSWERS {
                return Poll::Pending;
            }
            match self.up.pass(edit, &mut self.work) {
                Ok(Passed::All) => {
                    if self.up.replicates() {
                        self.down.stop();
                        self.masks.iter_mut().for_each(|masks| masks.stop());
                    }
                    return Poll::Ready(Ok(()));
                }
                Ok(Passed::Login(login)) => self.begin_login(login, edit, grant)?,
                Err(fault) => return Poll::Ready(Err(Stop::Fault(fault))),
            }
        }
    }

    fn pass_down(&mut self, edit: &mut Edit<'_>, until: Until, grant: &mut Grant) -> Result<(), Stop> {
        while !edit.is_done() {
            match &mut self.masks {
                None => drop(self.down.pass(edit, &mut self.work, &mut ()).map_err(Stop::Fault)?),
                Some(masks) => {
                    let (down, work) = (&mut self.down, &mut self.work);
                    masks.pass_replies(|masks| down.pass(edit, work, masks))?;
                }
            }
            if let Some(verdict) = self.down.take_verdict() {
                self.decide_login(verdict, grant);
            }
            if self.down.is_refused() && self.down.is_between() {
                let detail = Some("the upstream refused the stored account behind a RESET");
                let close = Close::Protocol(Side::Upstream);
                return Err(Stop::Leave { close, notice: ClosingMessage::AccountRefused, detail });
            }
            match until {
                Until::End => {}
                Until::Idle if self.is_idle() => break,
                Until::Boundary if self.down.is_between() => break,
                Until::Idle | Until::Boundary => {}
            }
        }
        Ok(())
    }

    fn is_between(&self, direction: Direction) -> bool {
        match direction {
            Direction::Up => self.up.is_between() && matches!(self.login, LoginState::None),
            Direction::Down => {
                let holds = self.masks.as_ref().is_some_and(|masks| masks.is_holding(direction));
                self.down.is_between() && !holds
            }
        }
    }

    fn is_whole(&self, direction: Direction) -> bool {
        self.is_between(direction) || direction == Direction::Down && self.up.replicates()
    }

    // Clients leave without a word; so does a server that was told QUIT.
    fn may_omit_close_notify(&self, direction: Direction) -> bool {
        direction == Direction::Up || !self.work.is_awaited()
    }

    fn is_idle(&self) -> bool {
        self.is_between(Direction::Up)
            && self.down.answers() == 0
            && self.work.is_idle()
            && self.down.is_between()
    }

    fn awaits_response(&self) -> bool {
        self.work.is_awaited()
    }

    // QUIT is a command like any other here: the server answers it, and ends the connection.
    fn has_quit(&self) -> bool {
        false
    }

    fn finish(&mut self, trail: &mut Trail) {
        self.masks.iter_mut().for_each(|masks| masks.finish(trail));
    }

    fn encode(&self, notice: &ClosingMessage, _: SessionId) -> Vec<u8> {
        let kind = match notice {
            // Unasked words would be taken for the reply to the next command.
            ClosingMessage::GoingAway | ClosingMessage::Ended | ClosingMessage::Idle => return Vec::new(),
            ClosingMessage::UpstreamBroke if !self.work.is_awaited() => return Vec::new(),
            ClosingMessage::Expired | ClosingMessage::NotPermitted => "NOAUTH",
            ClosingMessage::Fault(_) => "ERR Protocol error:",
            ClosingMessage::UpstreamBroke
            | ClosingMessage::LoginsRefused
            | ClosingMessage::AccountRefused => "ERR",
        };
        error(&format!("{kind} {}", notice.words()))
    }
}
