//! Masks of a database session: what they find is counted, and what they cannot follow ends it.

use super::dialect::{ClosingMessage, Stop};
use crate::close::Close;
use crate::gateway::{Route, RouteMask};
use crate::names::Direction;
use crate::protocol::Fault;
use crate::protocol::masked::{Masked, Masking, UNMASKABLE};
use crate::protocol::redis;
use crate::session::mask_spans::record_spans;
use crate::session::state::Session;
use crate::session::trail::Trail;
use std::rc::Rc;
use std::sync::Arc;

/// The masks with which a session began. A reload does not change them.
pub(in crate::session) struct Masks<M> {
    masks: M,
    session: Rc<Session>,
    route: Arc<Route>,
    found: u64,
}

impl Masks<redis::Masks> {
    /// What comes down are no replies any more.
    pub(in crate::session) fn stop(&mut self) {
        self.masks.stop();
    }
}

impl<M: Masked> Masks<M> {
    /// `None` where the route masks nothing.
    pub(in crate::session) fn new(
        session: &Rc<Session>,
        route: &Arc<Route>,
        make: impl FnOnce(Masking) -> M,
    ) -> Option<Box<Self>> {
        let masking = route.masks.as_ref()?.masking(session.recording().is_some());
        let (session, route) = (session.clone(), route.clone());
        Some(Box::new(Masks { masks: make(masking), session, route, found: 0 }))
    }

    /// True while a message of the gateway's own may not stand in this direction.
    pub(in crate::session) fn is_holding(&self, direction: Direction) -> bool {
        self.masks.is_holding(direction)
    }

    /// Lets bytes pass, and counts what was found.
    pub(in crate::session) fn pass(
        &mut self,
        direction: Direction,
        pass: impl FnOnce(&mut M) -> Result<(), &'static str>,
    ) -> Result<(), Stop> {
        let passed = pass(&mut self.masks);
        self.count();
        self.record_spans(false);
        let Err(detail) = passed else { return Ok(()) };
        self.of(direction).iter().for_each(|mask| mask.counters.unmaskable());
        Err(match direction {
            Direction::Up => {
                let notice = ClosingMessage::Fault(detail);
                Stop::Leave { close: Close::Unmaskable, notice, detail: Some(detail) }
            }
            Direction::Down => Stop::Cut { close: Close::Unmaskable, detail },
        })
    }

    /// The same for replies, whose machine shows them itself.
    pub(in crate::session) fn pass_replies<T>(
        &mut self,
        pass: impl FnOnce(&mut M) -> Result<T, Fault>,
    ) -> Result<(), Stop> {
        let mut broken = None;
        let passed = self.pass(Direction::Down, |masks| match pass(masks) {
            Err(fault) if fault.section == UNMASKABLE => Err(fault.rule),
            Err(fault) => {
                broken = Some(fault);
                Ok(())
            }
            Ok(_) => Ok(()),
        });
        broken.map_or(passed, |fault| Err(Stop::Fault(fault)))
    }

    fn of(&self, direction: Direction) -> Option<&RouteMask> {
        let masks = self.route.masks.as_ref()?;
        match direction {
            Direction::Up => masks.up.as_ref(),
            Direction::Down => masks.down.as_ref(),
        }
    }

    fn count(&mut self) {
        for (direction, stream) in [Direction::Up, Direction::Down].into_iter().zip(self.masks.streams()) {
            let Some(stream) = stream.filter(|stream| stream.has_found()) else { continue };
            let (counts, forced) = stream.take_counts();
            let masks = self.route.masks.as_ref();
            let mask = masks.and_then(|masks| match direction {
                Direction::Up => masks.up.as_ref(),
                Direction::Down => masks.down.as_ref(),
            });
            let Some(mask) = mask else { continue };
            mask.counters.hold_limit(forced);
            for (rule, count) in counts.into_iter().enumerate().filter(|(_, count)| *count > 0) {
                self.found += u64::from(count);
                mask.counters.found(rule, count);
            }
        }
    }

    /// Records where values were overwritten. `all`: also if that is not much yet.
    fn record_spans(&mut self, all: bool) {
        for (direction, stream) in [Direction::Up, Direction::Down].into_iter().zip(self.masks.streams()) {
            let Some(stream) = stream.filter(|stream| all || stream.has_many_spans()) else { continue };
            let spans = stream.take_spans();
            if !spans.is_empty() {
                record_spans(&self.session, None, direction, stream.rules(), &spans);
            }
        }
    }

    /// The session is over.
    pub(in crate::session) fn finish(&mut self, trail: &mut Trail) {
        self.record_spans(true);
        trail.set_masked(self.found);
    }
}
