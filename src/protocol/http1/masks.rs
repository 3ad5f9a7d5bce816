//! What masks found, in reports for the session.

use super::{ClientReading, Http1, UpstreamReading};
use crate::mask::Stream;
use crate::names::Direction;
use crate::protocol::{Event, masked};

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

    /// Tells what masks found in the body that goes up.
    pub(super) fn report_up(&mut self) {
        if let (ClientReading::Masked(_, stream), Some(back)) = (&mut self.client, self.exchanges.back()) {
            self.mask_reports.extend(masked::report(back.key, Direction::Up, stream));
        }
    }
}
