//! A running Redis session: everything passes but logins, which are verified, and go up with the stored account.

use super::{login_of, said, verify};
use crate::close::Close;
use crate::credential::Account;
use crate::gateway::Route;
use crate::names::{Culprit, Direction, Side};
use crate::policy::{Identity, Permit};
use crate::protocol::redis::work::Kind;
use crate::protocol::redis::{Answer, Commands, Login, Passed, Replies, Work, encode, encode_auth, error};
use crate::protocol::{Edit, Fault};
use crate::relay::Traffic;
use crate::session::authorise::{Denial, authorise_account};
use crate::session::connected::Finish;
use crate::session::ending::End;
use crate::session::leg_close::LegClose;
use crate::session::raw::instant_of;
use crate::session::state::Session;
use crate::session::trail::Trail;
use crate::tls::leg::Leg;
use ring::rand::SecureRandom;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::Instant;
use zeroize::Zeroizing;

/// The traffic of a Redis route. Its permit is the last that a login of the client's was given.
pub(crate) struct Redis {
    session: Rc<Session>,
    route: Arc<Route>,
    /// The account in force upstream.
    account: Account,
    up: Commands,
    down: Replies,
    work: Work,
    /// A login whose token is being verified; what came behind it waits.
    verifying: Option<(Login, Verifying)>,
    /// Logins in a row that were refused.
    refused: usize,
    end: End<Vec<u8>>,
    /// The gateway is going away.
    draining: bool,
    /// When the permit ends.
    ends: Option<Instant>,
    fault: Option<Fault>,
    detail: Option<String>,
}

type Verifying = Pin<Box<dyn Future<Output = Result<Arc<Identity>, Denial>>>>;

/// Logins in a row that may be refused: a guesser gets no further on this connection.
const MAX_REFUSED: usize = 16;
/// Answers of the gateway's that wait for their place; no more commands are taken meanwhile.
const MAX_ANSWERS: usize = 256;

impl Redis {
    /// A session under `permit`, logged in as `account`. `None` without randomness.
    pub(super) fn new(
        permit: &Permit,
        session: Rc<Session>,
        route: Arc<Route>,
        account: Account,
    ) -> Option<Self> {
        let mut random = [0; 16];
        ring::rand::SystemRandom::new().fill(&mut random).ok()?;
        let secret: String = random.iter().map(|byte| format!("{byte:02X}")).collect();
        Some(Redis {
            session,
            route,
            account,
            up: Commands::default(),
            down: Replies::new(&secret),
            work: Work::default(),
            verifying: None,
            refused: 0,
            end: End::Open,
            draining: false,
            ends: permit.ends().map(instant_of),
            fault: None,
            detail: None,
        })
    }

    /// A command went up before the relay began.
    pub(super) fn expects_reply(&mut self) {
        self.work.up(Kind::Ordinary);
    }

    fn leave_if_idle(&mut self) {
        let quiet = self.up.is_between() && self.verifying.is_none() && self.down.answers() == 0;
        if self.draining && quiet && self.work.is_idle() && self.down.is_between() {
            // Unasked words would be taken for the reply to the next command.
            self.end.leave(Close::Done, Vec::new());
        }
    }

    /// Deals with a login that was withheld, up to where its token is to be verified.
    fn login(&mut self, login: Login, edit: &mut Edit<'_>) {
        match (&login, login.token()) {
            (_, Some(token)) => {
                let (session, route) = (self.session.clone(), self.route.clone());
                let token = Zeroizing::new(token.to_vec());
                let verifying = async move { verify(&session, &route, &token).await };
                self.verifying = Some((login, Box::pin(verifying)));
            }
            (Login::Reset, _) => {
                // Upstream, RESET leads back to the default user, whoever may be that.
                let mut commands = Zeroizing::new(Vec::new());
                encode(&[b"RESET"], &mut commands);
                self.work.up(Kind::Reset);
                self.down.mark(Answer::Login, &mut commands);
                let (user, password) = login_of(&self.account);
                encode_auth(user, password, &mut commands);
                edit.insert(&commands);
            }
            (Login::Wrong(words), _) => self.refuse(words, edit),
            _ => {
                let mut command = Vec::new();
                login.encode(None, &mut command);
                self.work.up(Kind::Ordinary);
                edit.insert(&command);
            }
        }
    }

    /// Deals with a login whose token was verified.
    fn verified(&mut self, login: &Login, verdict: Result<Arc<Identity>, Denial>, edit: &mut Edit<'_>) {
        let authorised = verdict.and_then(|identity| {
            let authorised = authorise_account(&self.session, &self.route, &identity);
            self.session.identified(&identity);
            authorised
        });
        match authorised {
            Ok((permit, account)) => {
                self.refused = 0;
                self.ends = permit.ends().map(instant_of);
                self.account = account;
                let mut command = Zeroizing::new(Vec::new());
                login.encode(Some(login_of(&self.account)), &mut command);
                self.work.up(Kind::Ordinary);
                edit.insert(&command);
            }
            Err(denial) => {
                self.session.shared.metrics.refused(denial.why.code());
                self.detail.get_or_insert_with(|| denial.detail.to_string());
                self.refuse(said(&denial), edit);
            }
        }
    }

    /// Sees to it that the client is told this where the reply of the upstream's would stand. Where replies are off,
    /// nobody hears of it, and the answer is kept: one reason more to bound them.
    fn refuse(&mut self, words: &str, edit: &mut Edit<'_>) {
        let mut mark = Vec::new();
        self.down.mark(Answer::Say(error(words)), &mut mark);
        edit.insert(&mark);
        self.refused += 1;
        if self.refused >= MAX_REFUSED {
            self.end.leave(Close::Refused, error("ERR too many logins were refused"));
        }
    }

    fn pass_up(&mut self, cx: &mut Context<'_>, edit: &mut Edit<'_>) -> Poll<()> {
        while self.end.is_open() {
            if let Some((login, verifying)) = &mut self.verifying {
                let verdict = ready!(verifying.as_mut().poll(cx));
                let login = std::mem::replace(login, Login::Nothing);
                self.verifying = None;
                self.verified(&login, verdict, edit);
                continue;
            }
            if self.down.answers() >= MAX_ANSWERS {
                return Poll::Pending;
            }
            match self.up.pass(edit, &mut self.work) {
                Ok(Passed::All) => {
                    if self.up.replicates() {
                        self.down.stop();
                    }
                    return Poll::Ready(());
                }
                Ok(Passed::Login(login)) => self.login(login, edit),
                Err(fault) => {
                    let words = error(&format!("ERR Protocol error: {}", fault.rule));
                    self.end.leave(Close::Protocol(Side::Client), words);
                    self.fault = Some(fault);
                }
            }
        }
        // What a client says after its end is for nobody.
        edit.skip(edit.rest().len());
        Poll::Ready(())
    }
}

impl Finish for Redis {
    fn finish(&mut self, close: Close, client: &mut Leg, trail: &mut Trail) -> (Close, LegClose) {
        let left = self.end.left();
        let close = left.unwrap_or(close);
        trail.set_account(&self.account.user);
        match &self.fault {
            Some(fault) => trail.explain(fault),
            None => self.detail.iter().for_each(|detail| trail.explain(detail)),
        }
        // Only who waits for a reply takes what comes for one.
        let sayable = self.down.is_between() && left.is_none() && self.work.is_awaited();
        if sayable && close.culprit() == Culprit::Upstream {
            // A leg that cannot take it any more ends without it.
            let _ = client.queue(&error("ERR the connection between the gateway and the upstream broke"));
        }
        // An end between two replies cuts nothing; one that the upstream did not agree on must not look so.
        let between = close.culprit() == Culprit::Gateway && self.down.is_between();
        (close, LegClose::clean(close == Close::Done || left.is_some() || between))
    }
}

impl Traffic for Redis {
    fn up(&mut self, cx: &mut Context<'_>, edit: &mut Edit<'_>) -> Poll<Result<(), Close>> {
        ready!(self.pass_up(cx, edit));
        Poll::Ready(Ok(()))
    }

    fn down(&mut self, edit: &mut Edit<'_>) -> Result<(), Close> {
        loop {
            if self.down.is_between()
                && let Some(words) = self.end.say()
            {
                edit.insert(&words);
            }
            if self.end.left().is_some() {
                edit.skip(edit.rest().len());
            }
            if edit.is_done() {
                return Ok(());
            }
            match self.down.pass(edit, &mut self.work) {
                Ok(_) if self.down.is_refused() && self.down.is_between() => {
                    let words = error("ERR the upstream does not let the gateway in any more");
                    self.detail.get_or_insert_with(|| "the upstream refused the stored account".to_owned());
                    self.end.leave(Close::Protocol(Side::Upstream), words);
                }
                Ok(_) => self.leave_if_idle(),
                Err(fault) => {
                    self.fault = Some(fault);
                    return Err(Close::Protocol(Side::Upstream));
                }
            }
        }
    }

    fn wants(&self, direction: Direction) -> bool {
        match direction {
            Direction::Up => false,
            Direction::Down => self.end.is_leaving() && self.down.is_between(),
        }
    }

    fn ended(&mut self, direction: Direction) -> Result<(), Close> {
        let (between, side) = match direction {
            Direction::Up => (self.up.is_between() && self.verifying.is_none(), Side::Client),
            Direction::Down => (self.down.is_between() || self.up.replicates(), Side::Upstream),
        };
        if !between {
            return Err(Close::Truncated(side));
        }
        if direction == Direction::Down {
            self.end.upstream_ended();
        }
        Ok(())
    }

    // Clients leave without a word; so does a server that was told QUIT.
    fn tolerates_eof(&self, direction: Direction) -> bool {
        match direction {
            Direction::Up => self.up.is_between(),
            Direction::Down => self.down.is_between() && !self.work.is_awaited(),
        }
    }

    fn awaits_response(&self) -> bool {
        self.work.is_awaited()
    }

    fn is_over(&self) -> bool {
        self.end.left().is_some()
    }

    fn idle_limit(&self) -> Option<Duration> {
        Some(self.route.timeouts.idle)
    }

    fn expires(&self) -> Option<Instant> {
        self.end.due(self.ends)
    }

    fn expire(&mut self, _: Instant) -> Result<(), Close> {
        self.end.patience()?;
        let words = "NOAUTH the permit of this session has ended; connect again with a new token";
        self.end.leave(Close::Expired, error(words));
        Ok(())
    }

    fn drain(&mut self) {
        self.draining = true;
        self.leave_if_idle();
    }
}
