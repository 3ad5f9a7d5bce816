//! Detectors of personal data: cards, accounts, addresses, numbers. Each reads forward from an anchor.
//!
//! Each says with [`Cursor::hold_here`] from where on nothing may pass before its verdict, and overwrites nothing before that.

mod card;
mod email;
mod iban;
mod ip;
mod phone;

use super::cursor::{Cursor, Hit, Keeps, Stop};

pub(super) use card::{begins_card, card, has_luhn_digit};
pub(super) use email::email;
pub(super) use iban::iban;
pub(super) use ip::{ipv4, ipv6};
pub(super) use phone::{begins_national, phone};

fn hit(cursor: &Cursor<'_>, to: usize, keeps: Keeps) -> Result<Hit, Stop> {
    let from = cursor.hold.ok_or(Stop::No)?;
    if from < to { Ok(Hit { from, to, keeps, rest: None }) } else { Err(Stop::No) }
}

/// True where a number begins that is no part of another: neither the fraction of one, nor a group of one.
fn starts_number(cursor: &Cursor<'_>) -> bool {
    let fraction =
        matches!(cursor.behind(1), Some(b'.' | b',')) && cursor.behind(2).is_some_and(|b| b.is_ascii_digit());
    cursor.starts_word() && !fraction
}

/// A US social security number with separators. The area number may pass.
pub(super) fn ssn(cursor: &mut Cursor<'_>) -> Result<Hit, Stop> {
    if !starts_number(cursor) || cursor.behind(1).is_some_and(|byte| matches!(byte, b'-' | b'+')) {
        return Err(Stop::No);
    }
    let area = cursor.digits(3)?;
    let separator = cursor.separator(b"- .")?.ok_or(Stop::No)?;
    if area == 0 || area == 666 || area >= 900 {
        return Err(Stop::No);
    }
    cursor.skip(separator.length);
    cursor.hold_here();
    let group = cursor.digits(2)?;
    if cursor.separator(b"- .")? != Some(separator) {
        return Err(Stop::No);
    }
    cursor.skip(separator.length);
    let serial = cursor.digits(4)?;
    if group == 0 || serial == 0 || !cursor.number_ends()? {
        return Err(Stop::No);
    }
    if separator.kind != b' '
        && cursor.separator(b"- .")? == Some(separator)
        && cursor.peek_at(separator.length)?.is_some_and(|byte| byte.is_ascii_digit())
    {
        return Err(Stop::No);
    }
    hit(cursor, cursor.at(), Keeps::Separators)
}
