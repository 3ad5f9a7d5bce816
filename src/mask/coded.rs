//! Numbers that databases do not send as text. Detectors read them in decimal.

use super::wire::Fragment;

/// How a number is coded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// An integer, its highest byte first (PostgreSQL).
    BigEndian,
    /// An integer, its lowest byte first (MySQL).
    LittleEndian,
    /// A double, its highest byte first.
    DoubleBigEndian,
    /// A double, its lowest byte first.
    DoubleLittleEndian,
    /// PostgreSQL's numeric: how many digits of base 10,000, the first one's weight, a sign, a scale, the digits.
    Numeric,
}

/// A number, as far as it came.
#[derive(Debug)]
pub(super) struct Coded {
    coding: Coding,
    bytes: Vec<u8>,
    /// Where it stands: all but a numeric's head, without which its digits were none.
    fragments: Vec<Fragment>,
    first: Option<u64>,
}

/// Bytes of a numeric before its digits.
const HEAD: usize = 8;
/// Bytes that are kept: what is longer is no number of anything that detectors know.
const MAX: usize = 64;

impl Coded {
    pub(super) fn new(coding: Coding) -> Self {
        Coded { coding, bytes: Vec::new(), fragments: Vec::new(), first: None }
    }

    /// Takes bytes that stand at `wire`.
    pub(super) fn push(&mut self, bytes: &[u8], wire: u64) {
        self.first.get_or_insert(wire);
        let kept = bytes.len().min(MAX - self.bytes.len());
        let head =
            if self.coding == Coding::Numeric { HEAD.saturating_sub(self.bytes.len()).min(kept) } else { 0 };
        if kept > head {
            self.fragments.push(Fragment { wire: wire + head as u64, length: (kept - head) as u8 });
        }
        self.bytes.extend_from_slice(&bytes[..kept]);
    }

    /// Where its first byte stands.
    pub(super) fn wire(&self) -> Option<u64> {
        self.first
    }

    pub(super) fn fragments(&self) -> &[Fragment] {
        &self.fragments
    }

    /// The number in decimal; `None`: it is none, or too long.
    pub(super) fn number(&self) -> Option<String> {
        let integer = |bytes: &mut dyn Iterator<Item = &u8>, negative: bool| {
            let start = if negative { -1 } else { 0 };
            bytes.fold(start, |number: i64, byte| number << 8 | i64::from(*byte)).to_string()
        };
        let negative = |highest: Option<&u8>| highest.is_some_and(|byte| byte >> 7 == 1);
        let bytes = &self.bytes[..];
        match self.coding {
            Coding::BigEndian if bytes.len() <= 8 => {
                Some(integer(&mut bytes.iter(), negative(bytes.first())))
            }
            Coding::LittleEndian if bytes.len() <= 8 => {
                Some(integer(&mut bytes.iter().rev(), negative(bytes.last())))
            }
            Coding::DoubleBigEndian => Some(f64::from_be_bytes(bytes.try_into().ok()?).to_string()),
            Coding::DoubleLittleEndian => Some(f64::from_le_bytes(bytes.try_into().ok()?).to_string()),
            Coding::Numeric if bytes.len() < MAX => numeric(bytes),
            _ => None,
        }
    }
}

fn numeric(bytes: &[u8]) -> Option<String> {
    let (head, digits) = bytes.split_first_chunk::<HEAD>()?;
    let weight = i16::from_be_bytes([head[2], head[3]]);
    let mut digits = digits.chunks_exact(2).map(|digit| u16::from_be_bytes([digit[0], digit[1]]));
    // Infinity and NaN have no digits. Before the point there are as many as the weight says, noughts too.
    let whole = usize::try_from(i32::from(weight) + 1).unwrap_or(0).min(MAX);
    let mut text: String = (0..whole).map(|_| format!("{:04}", digits.next().unwrap_or(0))).collect();
    text = text.trim_start_matches('0').to_owned();
    let fraction: String = digits.map(|digit| format!("{digit:04}")).collect();
    let fraction = fraction.trim_end_matches('0');
    if !fraction.is_empty() {
        text = format!("{text}.{fraction}");
    }
    Some(text)
}
