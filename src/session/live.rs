//! The live sessions of a worker, and how they are told to drain or to stop.

use crate::close::Close;
use crate::names::SessionId;
use crate::relay::{Order, Orders};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::task::Waker;

/// All live sessions of one worker, and the order that is in force for them all.
#[derive(Default)]
pub struct Live {
    /// What wakes each, once it waits for an order.
    sessions: RefCell<HashMap<SessionId, Option<Waker>>>,
    order: Cell<Order>,
}

impl Live {
    /// Puts a session on the list until the ticket is dropped.
    pub fn enter(self: &Rc<Self>, id: SessionId) -> Ticket {
        self.sessions.borrow_mut().insert(id, None);
        Ticket { id, live: self.clone() }
    }

    /// How many sessions live.
    pub fn len(&self) -> usize {
        self.sessions.borrow().len()
    }

    /// True when no session lives.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Tells all sessions, and all that come, to finish what is under way.
    pub fn drain(&self) {
        self.tell_all(Order::Drain);
    }

    /// Tells all sessions to end now.
    pub fn stop(&self, close: Close) {
        self.tell_all(Order::Stop(close));
    }

    /// Takes back what [`Live::stop`] told those that come.
    pub fn resume(&self) {
        self.order.set(Order::Go);
    }

    fn tell_all(&self, order: Order) {
        self.order.set(order);
        for waker in self.sessions.borrow().values().flatten() {
            waker.wake_by_ref();
        }
    }
}

/// One session's place on the list.
pub struct Ticket {
    id: SessionId,
    live: Rc<Live>,
}

impl Ticket {
    /// Whose it is.
    pub fn id(&self) -> SessionId {
        self.id
    }

    /// Where its relay hears of orders.
    pub(super) fn orders(&self) -> Heard<'_> {
        Heard { id: self.id, live: &self.live }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.live.sessions.borrow_mut().remove(&self.id);
    }
}

/// The orders for one session. Asking for them touches what all sessions share and nothing of its own, which for a
/// session that was quiet would have to come from memory.
#[derive(Clone, Copy)]
pub struct Heard<'a> {
    id: SessionId,
    live: &'a Live,
}

impl Orders for Heard<'_> {
    fn order(&self) -> Order {
        self.live.order.get()
    }

    fn wake_on_change(&self, waker: &Waker) {
        if let Some(entry) = self.live.sessions.borrow_mut().get_mut(&self.id) {
            *entry = Some(waker.clone());
        }
    }
}
