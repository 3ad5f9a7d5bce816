//! The live sessions of a worker, and how they are told to drain or to stop.

use crate::close::Close;
use crate::names::SessionId;
use crate::relay::{Order, Orders};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::task::{Context, Waker};

/// All live sessions of one worker.
#[derive(Default)]
pub struct Live {
    sessions: RefCell<HashMap<SessionId, Rc<Entry>>>,
    order: Cell<Order>,
}

#[derive(Default)]
struct Entry {
    order: Cell<Order>,
    waker: RefCell<Option<Waker>>,
}

impl Entry {
    fn tell(&self, order: Order) {
        self.order.set(order);
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }
}

impl Live {
    /// Puts a session on the list until the ticket is dropped. A list that drains takes it in as draining.
    pub fn enter(self: &Rc<Self>, id: SessionId) -> Ticket {
        let entry = Rc::new(Entry { order: self.order.clone(), waker: RefCell::default() });
        self.sessions.borrow_mut().insert(id, entry.clone());
        Ticket { id, live: self.clone(), entry }
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

    fn tell_all(&self, order: Order) {
        self.order.set(order);
        for entry in self.sessions.borrow().values() {
            entry.tell(order);
        }
    }
}

/// One session's place on the list.
pub struct Ticket {
    id: SessionId,
    live: Rc<Live>,
    entry: Rc<Entry>,
}

impl Ticket {
    /// Whose it is.
    pub fn id(&self) -> SessionId {
        self.id
    }

    /// The order in force.
    pub fn order(&self) -> Order {
        self.entry.order.get()
    }
}

impl Orders for &Ticket {
    fn poll_order(&self, cx: &mut Context<'_>) -> Order {
        let mut waker = self.entry.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
        self.entry.order.get()
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.live.sessions.borrow_mut().remove(&self.id);
    }
}
