//! HTTP masking: requests that cannot be masked, counts, and hold deadlines.

use super::{Exchange, HttpTraffic};
use crate::close::Close;
use crate::gateway::RouteMasks;
use crate::mask::Mode;
use crate::names::Direction;
use crate::protocol::Kind;
use crate::protocol::masked::format_of;
use crate::session::mask_spans::record_spans;
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

impl HttpTraffic {
    /// Why the withheld request cannot pass where the route masks; `None`: it can.
    pub(super) fn unmaskable(&self) -> Option<&'static str> {
        let masks = self.route.masks.as_ref().filter(|masks| masks.changes())?;
        let request = self.http.http_ref().request();
        match request.kind {
            Kind::Upgrade => {
                // HTTP/2 has the protocol in a field of its own, which only WebSocket is in use for (RFC 8441).
                let other = |name: &[u8]| !name.eq_ignore_ascii_case(b"websocket");
                let other = request.fields.all("upgrade").any(other);
                return other.then_some("what follows an upgrade to anything but WebSocket cannot be masked");
            }
            Kind::Grpc | Kind::Plain => {}
        }
        let up = masks.up.as_ref().filter(|_| !request.ends)?;
        format_of(&request.fields, &up.rules).err()
    }

    /// Prepares the withheld request, which is permitted, for masking.
    pub(super) fn mask(&mut self) {
        let Some(masks) = &self.route.masks else { return };
        self.masks = true;
        let masking = masks.masking(self.session.recording().is_some());
        self.http.http().mask(masking);
    }

    /// Counts what masks found. Comes before the ends of exchanges are noticed.
    pub(super) fn notice_masks(&mut self) {
        while let Some(report) = self.http.http().mask_report() {
            if !report.spans.is_empty() {
                let (request, rules) = (Some(report.key), &report.rules);
                record_spans(&self.session, request, report.direction, rules, &report.spans);
            }
            let route = &self.route;
            // A reload may have changed the rules since, and their places.
            let of = |masks: &RouteMasks| {
                let mask = if report.direction == Direction::Up { &masks.up } else { &masks.down };
                let mask = mask.as_ref().filter(|mask| Arc::ptr_eq(&mask.rules, &report.rules));
                mask.map(|mask| mask.counters.clone())
            };
            let counters = route.masks.as_deref().and_then(of);
            let mut text = String::new();
            for (rule, count) in report.counts.iter().enumerate().filter(|(_, count)| **count > 0) {
                self.masked += u64::from(*count);
                let name = report.rules.rules().get(rule).map_or("", |rule| rule.name());
                counters.iter().for_each(|counters| counters.found(rule, *count));
                // Writing to a String cannot fail.
                let _ = write!(text, "{}{name}={count}", if text.is_empty() { "" } else { "," });
            }
            if report.forced > 0 {
                counters.iter().for_each(|counters| counters.hold_limit(report.forced));
                let _ =
                    write!(text, "{}hold_limit={}", if text.is_empty() { "" } else { "," }, report.forced);
            }
            if let Some(fault) = report.fault {
                counters.iter().for_each(|counters| counters.unmaskable());
                text = format!("unmaskable ({fault})");
            }
            if text.is_empty() {
                continue;
            }
            if report.rules.mode == Mode::Observe {
                text = format!("observed {text}");
            }
            let direction = if report.direction == Direction::Up { "up" } else { "down" };
            if let Some(exchange) = self.exchanges.iter_mut().find(|exchange| exchange.key == report.key) {
                exchange.add_masked(direction, &text);
            }
        }
    }

    /// Notes until when what masks hold may be held.
    pub(super) fn note_holds(&mut self) {
        self.tick();
        let due = self.http.http().mask_due();
        self.mask_due =
            due.map(|(due, clock)| self.ticked + Duration::from_millis(due.saturating_sub(clock)));
        self.update_next_deadline();
    }

    /// Handles bytes that masks held for too long.
    pub(super) fn check_holds(&mut self, now: Instant) -> Result<(), Close> {
        if self.mask_due.is_some_and(|due| due <= now) {
            self.tick();
            let dealt = self.http.http().expire_masks();
            self.note_holds();
            if let Err(fault) = dealt {
                self.notice();
                return Err(self.record_fault(fault));
            }
        }
        Ok(())
    }
}

impl Exchange {
    fn add_masked(&mut self, direction: &str, text: &str) {
        let masked = self.masked.get_or_insert_default();
        let _ = write!(masked, "{}{direction}:{text}", if masked.is_empty() { "" } else { ";" });
    }
}
