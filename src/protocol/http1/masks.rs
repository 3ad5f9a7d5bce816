//! What masks found, in reports for the session.

use super::body::unmaskable;
use super::{ClientReading, Http1, UpstreamReading};
use crate::mask::Stream;
use crate::names::Direction;
use crate::protocol::{Event, Fault, masked};

impl Http1 {
    /// Tells what masks found in the body that comes down.
    pub(super) fn report_down(&mut self) {
        if let (UpstreamReading::Masked(_, stream), Some(front)) =
            (&mut self.upstream, self.exchanges.front())
        {
            self.mask_reports.extend(masked::report(front.key, Direction::Down, stream));
        }
    }

    /// Tells where masks overwrote what goes on, once that is much.
    pub(super) fn report_spans(&mut self) {
        let (Some(front), Some(back)) = (self.exchanges.front(), self.exchanges.back()) else { return };
        let mut reports = Vec::new();
        let mut report = |key, direction, stream: &mut Stream| {
            reports.extend(masked::report_spans(key, direction, stream))
        };
        if let ClientReading::Masked(_, stream) = &mut self.client {
            report(back.key, Direction::Up, stream);
        }
        if let UpstreamReading::Masked(_, stream) = &mut self.upstream {
            report(front.key, Direction::Down, stream);
        }
        self.tunnel.up.iter_mut().for_each(|stream| report(front.key, Direction::Up, stream));
        self.tunnel.down.iter_mut().for_each(|stream| report(front.key, Direction::Down, stream));
        if !reports.is_empty() {
            self.mask_reports.extend(reports);
            self.events.push_back(Event::Masked);
        }
    }

    /// Tells what masks found in a tunnel.
    pub(super) fn report_tunnel(&mut self) {
        let Some(front) = self.exchanges.front() else { return };
        let masks = [(Direction::Up, &mut self.tunnel.up), (Direction::Down, &mut self.tunnel.down)];
        for (direction, stream) in masks {
            if let Some(stream) = stream {
                self.mask_reports.extend(masked::report(front.key, direction, stream));
            }
        }
    }

    /// Tells that a body cannot be masked any more.
    pub(super) fn report_fault(&mut self, direction: Direction, rule: &'static str) {
        let exchange = match direction {
            Direction::Down => self.exchanges.front(),
            Direction::Up => self.exchanges.back(),
        };
        let Some(exchange) = exchange else { return };
        let body = match direction {
            Direction::Down => match &self.upstream {
                UpstreamReading::Masked(_, stream) => Some(stream),
                _ => self.tunnel.down.as_ref(),
            },
            Direction::Up => match &self.client {
                ClientReading::Masked(_, stream) => Some(stream),
                _ => self.tunnel.up.as_ref(),
            },
        };
        // Of an answer whose head tells it, no body has begun.
        let of_answer = || exchange.mask_down.as_ref().or(exchange.mask_up.as_ref());
        if let Some(rules) = body.map(|stream| stream.rules()).or_else(of_answer) {
            self.mask_reports.push_back(masked::fault(exchange.key, direction, rules.clone(), rule));
        }
    }

    /// Deals with what is held whose time is up.
    pub(super) fn expire_all_masks(&mut self) -> Result<(), Fault> {
        fn expire(
            stream: Option<&mut Stream>,
            clock: u64,
            released: &mut Vec<u8>,
        ) -> Result<(), &'static str> {
            let Some(stream) = stream else { return Ok(()) };
            let held = stream.expire(clock)?;
            stream.release(held, |bytes| released.extend_from_slice(bytes));
            Ok(())
        }
        let clock = self.clock;
        let tunnel = self.tunnel.up.as_deref_mut();
        expire(tunnel, clock, &mut self.released_up).map_err(|rule| self.tunnel_fault(rule))?;
        let tunnel = self.tunnel.down.as_deref_mut();
        expire(tunnel, clock, &mut self.released_down)
            .map_err(|rule| self.upstream_fault(unmaskable(rule)))?;
        let body =
            if let ClientReading::Masked(_, stream) = &mut self.client { Some(&mut **stream) } else { None };
        expire(body, clock, &mut self.released_up).map_err(|rule| self.client_fault(unmaskable(rule)))?;
        let body = if let UpstreamReading::Masked(_, stream) = &mut self.upstream {
            Some(&mut **stream)
        } else {
            None
        };
        expire(body, clock, &mut self.released_down).map_err(|rule| self.upstream_fault(unmaskable(rule)))
    }

    /// Tells what masks found in the body that goes up.
    pub(super) fn report_up(&mut self) {
        if let (ClientReading::Masked(_, stream), Some(back)) = (&mut self.client, self.exchanges.back()) {
            self.mask_reports.extend(masked::report(back.key, Direction::Up, stream));
        }
    }
}
