//! Frames of the client's that carry no part of a message: settings, resets, windows.

use super::frame::*;
use super::stream::Stream;
use super::window::MAX_WINDOW;
use super::{Http2, REFUSED_BODY_CREDIT, Reading};
use crate::protocol::hpack::TABLE;
use crate::protocol::{Edit, Ended, Fault};

/// Milliseconds after which a reset of an unanswered stream is not one of a rapid reset attack: slower ones are bounded by the number
/// of streams that may be open at once.
const RAPID_RESET_MILLIS: u64 = 50;

impl Http2 {
    pub(super) fn up_settings(
        &mut self,
        frame: Head,
        payload: &[u8],
        edit: &mut Edit<'_>,
    ) -> Result<(), Fault> {
        if frame.has(ACK) {
            if self.own_settings > 0 {
                self.own_settings -= 1;
            } else {
                write(edit.insert_with(), SETTINGS, ACK, 0, &[]);
            }
            return Ok(());
        }
        let mut changed = Vec::with_capacity(payload.len() + 6);
        let mut push_named = false;
        self.client_table.settings_sent();
        for (id, value) in settings(payload) {
            let value = match id {
                HEADER_TABLE_SIZE => {
                    self.client_table.asked(value);
                    value.min(TABLE as u32)
                }
                ENABLE_PUSH if value > 1 => {
                    return Err(self.client_fault(
                        PROTOCOL_ERROR,
                        "ENABLE_PUSH out of range",
                        "RFC 9113 6.5.2",
                    ));
                }
                ENABLE_PUSH => 0,
                INITIAL_WINDOW_SIZE if value > 0x7fff_ffff => {
                    return Err(self.client_fault(FLOW_CONTROL_ERROR, "window too large", "RFC 9113 6.5.2"));
                }
                INITIAL_WINDOW_SIZE => {
                    let own = self.own_data.largest_window(value);
                    if own.is_some_and(|window| window > MAX_WINDOW)
                        || self.streams.values().any(|stream| stream.window(value) > MAX_WINDOW)
                    {
                        let rule = "window of a stream too large";
                        return Err(self.client_fault(FLOW_CONTROL_ERROR, rule, "RFC 9113 6.9.2"));
                    }
                    self.client_window = value;
                    self.late_data.set_window(value);
                    value
                }
                MAX_FRAME_SIZE if !(MAX_FRAME as u32..1 << 24).contains(&value) => {
                    return Err(self.client_fault(
                        PROTOCOL_ERROR,
                        "MAX_FRAME_SIZE out of range",
                        "RFC 9113 6.5.2",
                    ));
                }
                MAX_FRAME_SIZE => {
                    self.upstream.max_frame = self.upstream.max_frame.max(value as usize);
                    value
                }
                _ => value,
            };
            push_named |= id == ENABLE_PUSH;
            push_setting(&mut changed, id, value);
        }
        if !push_named {
            push_setting(&mut changed, ENABLE_PUSH, 0);
        }
        write(edit.insert_with(), SETTINGS, 0, 0, &changed);
        if self.last_forwarded == 0 {
            self.unacknowledged += 1;
        }
        self.write_own_data();
        Ok(())
    }

    pub(super) fn up_reset(&mut self, frame: Head, payload: &[u8], edit: &mut Edit<'_>) -> Result<(), Fault> {
        // Rapid reset is made of streams that are given up as soon as they were begun. A deadline that runs out, or an answer
        // that is not wanted any more, is what honest clients reset for.
        let clock = self.clock;
        let fresh =
            |stream: &Stream| !stream.answered && clock.saturating_sub(stream.begun) < RAPID_RESET_MILLIS;
        let known = self.streams.get(&frame.stream);
        let rapid = known.is_some_and(fresh) || self.queue.get_mut(frame.stream).is_some_and(|s| fresh(s));
        if rapid && !self.budget.reset() {
            return Err(self.client_fault(ENHANCE_YOUR_CALM, "too many resets", "CVE-2023-44487"));
        }
        if !self.streams.contains_key(&frame.stream) {
            // On a stream that the upstream never heard of, this would be an error of the whole connection.
            self.return_client_window(0, true);
            let waited = self.end_waiting(frame.stream, Ended::ByClient);
            let unsent = self.own_data.remove(frame.stream);
            let over = self.discarded.end(frame.stream) || self.ids.is_reset(frame.stream, true) || unsent;
            if !waited && !over {
                self.up_idle(Reading::Head)?;
            }
            return Ok(());
        }
        write(edit.insert_with(), RST_STREAM, 0, frame.stream, payload);
        self.end(frame.stream, Ended::ByClient);
        // Nothing of the client's can be on its way behind this.
        self.ids.is_reset(frame.stream, true);
        Ok(())
    }

    pub(super) fn up_window(
        &mut self,
        frame: Head,
        payload: &[u8],
        edit: &mut Edit<'_>,
    ) -> Result<(), Fault> {
        let bytes: [u8; 4] = payload.try_into().unwrap_or_default();
        let mut increment = u32::from_be_bytes(bytes) & 0x7fff_ffff;
        if increment == 0 {
            if self.is_open(frame.stream) {
                return self.reset_request(frame.stream, PROTOCOL_ERROR);
            }
            return Err(self.client_fault(PROTOCOL_ERROR, "WINDOW_UPDATE of nothing", "RFC 9113 6.9"));
        }
        let initial = self.client_window;
        if let Some(window) = self.own_data.grant(frame.stream, increment, initial) {
            if window > MAX_WINDOW {
                return self.reset_client(frame.stream, FLOW_CONTROL_ERROR);
            }
            self.write_own_data();
            return Ok(());
        }
        let known = self.streams.get_mut(&frame.stream).or_else(|| self.queue.get_mut(frame.stream));
        if let Some(stream) = known {
            stream.granted += i64::from(increment);
            if stream.window(initial) > MAX_WINDOW {
                return self.reset_request(frame.stream, FLOW_CONTROL_ERROR);
            }
        }
        if frame.stream != 0 && !self.streams.contains_key(&frame.stream) {
            let is_over = self.queue.get_mut(frame.stream).is_none();
            if is_over && i64::from(initial) + i64::from(increment) > MAX_WINDOW {
                // No window of any stream has room for it.
                return self.reset_client(frame.stream, FLOW_CONTROL_ERROR);
            }
            if self.queue.has_room(payload.len()) {
                self.queue.append(frame.stream, WINDOW_UPDATE, 0, payload);
            }
            return Ok(());
        }
        if frame.stream == 0 {
            self.client_connection_window += i64::from(increment);
            if self.client_connection_window > MAX_WINDOW {
                let rule = "connection window too large";
                return Err(self.client_fault(FLOW_CONTROL_ERROR, rule, "RFC 9113 6.9.1"));
            }
        }
        let missing = i64::from(REFUSED_BODY_CREDIT) - self.reserve;
        if frame.stream == 0 && missing > 0 {
            let kept = missing.min(i64::from(increment) - 1);
            self.reserve += kept;
            increment -= kept as u32;
            self.write_own_data();
        }
        write(edit.insert_with(), WINDOW_UPDATE, 0, frame.stream, &increment.to_be_bytes());
        Ok(())
    }
}
