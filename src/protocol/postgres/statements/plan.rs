//! The parts of a message that concern statements.

use super::reader::{Plan, Size};

/// Bytes of an ErrorResponse up to the end of its code: two severities, of which one may be in any language.
const ERROR: usize = 256;

pub(super) fn plan_up(tag: u8) -> Plan {
    match tag {
        b'Q' => Plan { raw: 0, texts: &[Size::Statement] },
        b'P' => Plan { raw: 0, texts: &[Size::Name, Size::Statement] },
        b'B' => Plan { raw: 0, texts: &[Size::Name, Size::Name] },
        b'D' | b'C' => Plan { raw: 1, texts: &[Size::Name] },
        b'E' => Plan { raw: 0, texts: &[Size::Name] },
        b'F' => Plan { raw: 4, texts: &[] },
        _ => Plan { raw: 0, texts: &[] },
    }
}

pub(super) fn plan_down(tag: u8) -> Plan {
    match tag {
        b'C' => Plan { raw: 0, texts: &[Size::Name] },
        b'E' => Plan { raw: ERROR, texts: &[] },
        b'Z' => Plan { raw: 1, texts: &[] },
        _ => Plan { raw: 0, texts: &[] },
    }
}

/// The field `C` of an ErrorResponse whose front is `fields`: severities stand before it.
pub(super) fn sqlstate(fields: &[u8]) -> [u8; 5] {
    let code = fields.split(|byte| *byte == 0).find_map(|field| field.strip_prefix(b"C"));
    code.and_then(|code| code.try_into().ok()).unwrap_or(*b"?????")
}
