//! The `Dialect` trait: what each database protocol provides to the common traffic.

use crate::close::Close;
use crate::credential::Account;
use crate::gateway::Route;
use crate::names::{Direction, SessionId};
use crate::policy::Permit;
use crate::protocol::{Edit, Fault};
use crate::session::expiry::Expiry;
use crate::session::state::Session;
use crate::session::trail::Trail;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::time::Instant;

/// Follows one session's messages in both directions. One per connection; it decides nothing about the session's end.
///
/// **What the caller promises.** `pass_up` and `pass_down` get every byte of their direction once and in order. After
/// `pass_up` returned `Pending`, the same bytes are offered again, from where the edit stood. After either returned
/// [`Stop`], or once the session is to end, `pass_up` is not called any more; `pass_down` is called with
/// [`Until::Boundary`] until `is_between(Down)`, and then not any more. A [`ClosingMessage`] is only put in where
/// `is_between(Down)`, and [`Dialect::TERMINATE`] only where `is_between(Up)`: each at most once.
///
/// **What the dialect promises.** A call that returns `Ok` has dealt with the whole edit, or has stopped where `until`
/// says: it never returns without progress while input is left. `pass_up` that returns `Pending` has arranged that `cx` is
/// woken, or waits for something that `pass_down` will see. Nothing else wakes anybody: none of the questions (`is_…`,
/// `has_…`) has an effect, and their answers change only in the two `pass` calls.
pub trait Dialect {
    /// The message that ends the session from the client's side; empty where the protocol has none.
    const TERMINATE: &'static [u8];
    /// True where a server drops what it does for a client as soon as that ends its direction, and closes without a word.
    const UPSTREAM_LEAVES_WITH_CLIENT: bool = false;

    /// Passes the client's messages up, edited where needed.
    fn pass_up(
        &mut self,
        cx: &mut Context<'_>,
        edit: &mut Edit<'_>,
        grant: &mut Grant,
    ) -> Poll<Result<(), Stop>>;

    /// Lets the upstream's messages pass down, as far as `until` says.
    fn pass_down(&mut self, edit: &mut Edit<'_>, until: Until, grant: &mut Grant) -> Result<(), Stop>;

    /// True between two messages of this direction: one of the gateway's own may stand here.
    fn is_between(&self, direction: Direction) -> bool;

    /// True where the source of this direction may end without cutting anything.
    fn is_whole(&self, direction: Direction) -> bool {
        self.is_between(direction)
    }

    /// True where the source of this direction may leave without close_notify, between two messages.
    fn may_omit_close_notify(&self, _: Direction) -> bool {
        self.has_quit()
    }

    /// True when nothing is under way: the session waits for the client, between two messages of its and outside of any
    /// transaction.
    fn is_idle(&self) -> bool;

    /// True when the client is owed an answer.
    fn awaits_response(&self) -> bool;

    /// True once the client said, in its protocol, that it leaves.
    fn has_quit(&self) -> bool;

    /// The notice as a message for the client; empty where the protocol has no place for it.
    fn encode(&self, notice: &ClosingMessage, session: SessionId) -> Vec<u8>;

    /// The relay is over. Tells the trail what the dialect knows.
    fn finish(&mut self, _: &mut Trail) {}

    /// What stops the work that goes on upstream for a client that is not there any more.
    fn cancel_work(&self) -> Option<Pin<Box<dyn Future<Output = ()>>>> {
        None
    }
}

/// How far [`Dialect::pass_down`] goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// To the end of the input.
    End,
    /// To the first place where the dialect is idle.
    Idle,
    /// To the first place between two messages.
    Boundary,
}

/// Why a dialect stops the traffic.
#[derive(Debug)]
pub enum Stop {
    /// The source broke a rule.
    Fault(Fault),
    /// The session is to end; `detail` is for the log.
    Leave {
        /// The reason that counts.
        close: Close,
        /// What the client is told.
        notice: ClosingMessage,
        /// What the log says beside the reason.
        detail: Option<&'static str>,
    },
    /// Nothing more of what comes down may pass: a message is cut where it is.
    Cut {
        /// The reason that counts.
        close: Close,
        /// What the log says beside it.
        detail: &'static str,
    },
}

/// The message for a client at the end of its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClosingMessage {
    /// Its permit has ended.
    Expired,
    /// A new configuration does not permit it, or gives it another account.
    NotPermitted,
    /// The gateway goes away.
    GoingAway,
    /// An operator ended it.
    Ended,
    /// Nothing moved for too long.
    Idle,
    /// The connection to the upstream broke.
    UpstreamBroke,
    /// The client broke this rule.
    Fault(&'static str),
    /// Too many of its logins were refused.
    LoginsRefused,
    /// The upstream does not take the stored account any more.
    AccountRefused,
}

impl ClosingMessage {
    /// The sentence for the client.
    pub fn words(self) -> &'static str {
        match self {
            ClosingMessage::Expired => "the permit of this session has ended; connect again with a new token",
            ClosingMessage::NotPermitted => {
                "this session is not permitted any more, or not with this account; connect again"
            }
            ClosingMessage::GoingAway => "the gateway is going away; connect again",
            ClosingMessage::Ended => "an operator of the gateway ended this session",
            ClosingMessage::Idle => "nothing was said for as long as the gateway allows",
            ClosingMessage::UpstreamBroke => "the connection between the gateway and the upstream broke",
            ClosingMessage::Fault(rule) => rule,
            ClosingMessage::LoginsRefused => "too many logins were refused",
            ClosingMessage::AccountRefused => "the upstream does not let the gateway in any more",
        }
    }
}

/// What a session was permitted: by which permit, and as which account.
pub struct Grant {
    pub(in crate::session) session: Rc<Session>,
    pub(in crate::session) route: Arc<Route>,
    permit: Permit,
    account: Account,
    /// When the permit ends.
    ends: Option<Expiry>,
}

impl Grant {
    pub(in crate::session) fn new(
        session: Rc<Session>,
        route: Arc<Route>,
        permit: Permit,
        account: Account,
    ) -> Self {
        let ends = permit.ends().map(Expiry::new);
        Grant { session, route, permit, account, ends }
    }

    /// Puts another permit and its account in force. All of it changes at once.
    pub fn replace(&mut self, permit: Permit, account: Account) {
        self.ends = permit.ends().map(Expiry::new);
        (self.permit, self.account) = (permit, account);
    }

    /// The permit in force.
    pub fn permit(&self) -> &Permit {
        &self.permit
    }

    /// The account in force upstream.
    pub fn account(&self) -> &Account {
        &self.account
    }

    /// When to ask whether the permit in force has ended.
    pub fn ends(&self) -> Option<Instant> {
        self.ends.as_ref().map(Expiry::due)
    }

    /// True when the permit in force has ended. Otherwise [`Grant::ends`] is later than `now`.
    pub fn is_over(&self, now: Instant) -> bool {
        self.ends.as_ref().is_some_and(|ends| ends.is_over(now))
    }
}
