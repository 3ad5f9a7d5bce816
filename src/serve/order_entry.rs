//! An operator's order as an entry of the log of recordings: who revokes, ends or looks stands where nobody takes it away.

use crate::audit::OrderLine;
use crate::recording::log::entry::word;
use std::fmt::Write;

/// The entry without its time.
pub(super) fn line(order: &OrderLine<'_>) -> String {
    let mut line = format!("order what={} operator={}", order.order.name(), word(order.operator));
    let mut add = |name: &str, value: String| {
        // A String takes all.
        let _ = write!(line, " {name}={value}");
    };
    if let Some(session) = order.session {
        add("session", session.to_string());
    }
    if let Some(sessions) = order.sessions {
        add("sessions", sessions.to_string());
    }
    if let Some(target) = order.target {
        for (name, value) in [
            ("subject", &target.subject),
            ("token_id", &target.token_id),
            ("group", &target.group),
            ("serial", &target.serial),
            ("issuer", &target.issuer),
            ("email", &target.email),
            ("session_id", &target.session_id),
        ] {
            if let Some(value) = value {
                add(name, word(value));
            }
        }
    }
    if let Some(reason) = order.reason {
        add("reason", word(reason));
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::OrderKind;
    use crate::names::SessionId;
    use crate::policy::revocation::Target;
    use crate::recording::log::entry::Entry;

    #[test]
    fn what_an_operator_writes_stays_in_its_field() {
        let target = Target { subject: Some("ann time=0".into()), ..Target::default() };
        let order = OrderLine {
            order: OrderKind::Revoke,
            operator: "mallory\nerase session=00000000000000ff",
            remote: None,
            session: Some(SessionId(7)),
            target: Some(&target),
            until: None,
            sessions: Some(3),
            reason: Some("stolen laptop"),
        };
        let line = line(&order);
        let entry = Entry::parse(&line).unwrap();
        assert!(!line.contains('\n'));
        assert_eq!(
            (entry.verb, entry.get("what"), entry.session()),
            ("order", Some("revoke"), Some(SessionId(7)))
        );
        assert_eq!(entry.get("subject"), Some("ann_time_0"));
        assert_eq!(entry.get("operator"), Some("mallory_erase_session_00000000000000ff"));
        assert_eq!(
            (entry.get("reason"), entry.number("sessions"), entry.get("time")),
            (Some("stolen_laptop"), Some(3), None)
        );
    }
}
