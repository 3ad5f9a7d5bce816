//! HPACK (RFC 7541): a decoder with limits, and an encoder that uses literals only.
//!
//! The decoder keeps a dynamic table of at most [`TABLE`] bytes, whatever the peer would like. The encoder never touches
//! the dynamic table, so it has no state, its output means the same wherever it is put in, and nobody learns anything
//! from its size (CRIME).

mod fault;
mod huffman;
mod table;

use super::Fields;
pub use fault::HpackFault;
use table::{STATIC, Table};

/// Bytes of a decoder's dynamic table; the default of RFC 9113 section 6.5.2. Larger settings are clamped on their way.
pub const TABLE: usize = 4_096;

/// Decodes the header blocks of one direction of one connection.
#[derive(Debug)]
pub struct Decoder {
    table: Table,
    name: Vec<u8>,
    value: Vec<u8>,
    changes: u64,
}

impl Default for Decoder {
    fn default() -> Self {
        Decoder { table: Table::new(TABLE), name: Vec::new(), value: Vec::new(), changes: 0 }
    }
}

/// What counts against the limit for each field besides its bytes (RFC 9113 section 6.5.2).
const FIELD_OVERHEAD: usize = 32;

impl Decoder {
    /// Decodes a whole block into `fields`, pseudo-header fields included. Each field counts with its bytes and 32,
    /// indexed ones too. Browsers send a cookie in as many crumbs as it has pairs (RFC 9113 section 8.2.3): these do not count as
    /// fields, and have `most_bytes` of their own. Where a limit is passed nothing more is put out, for a few bytes must not stand for megabytes;
    /// the rest is only followed, so that the table stays what the peer thinks it is.
    pub fn decode(
        &mut self,
        block: &[u8],
        most_bytes: usize,
        most_fields: usize,
        fields: &mut Fields,
    ) -> Result<(), HpackFault> {
        let mut input = block;
        let (mut bytes, mut count, mut crumbs) = (0, 0, 0);
        let (mut over, mut begun) = (None, false);
        while let Some(&first) = input.first() {
            if first & 0xe0 == 0x20 {
                let size = integer(&mut input, 5)?;
                if begun {
                    return Err(HpackFault::TableSize);
                }
                self.table.resize(size)?;
                self.changes += 1;
                continue;
            }
            begun = true;
            if over.is_some() && first & 0x80 != 0 {
                self.table.get(integer(&mut input, 7)?)?;
                continue;
            }
            let kept = self.field(&mut input, first, most_bytes.max(TABLE))?;
            let size = self.name.len() + self.value.len() + FIELD_OVERHEAD;
            if self.name == b"cookie" {
                crumbs += size;
            } else {
                count += 1;
                bytes += size;
            }
            if first & 0xc0 == 0x40 {
                self.changes += 1;
                match kept {
                    true => self.table.insert(&self.name, &self.value),
                    false => self.table.clear(),
                }
            }
            if !kept || bytes > most_bytes + most_fields * FIELD_OVERHEAD || crumbs > most_bytes {
                over = over.or(Some(HpackFault::TooLarge));
            } else if count > most_fields {
                over = over.or(Some(HpackFault::TooMany));
            }
            if over.is_none() {
                fields.push(&self.name, &self.value);
            }
        }
        over.map_or(Ok(()), Err)
    }

    /// How often the dynamic table was changed so far, its size included.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// Reads one field into `name` and `value`. False: one of them is longer than `most`, which is more than the table has
    /// room for, and is not there.
    fn field(&mut self, input: &mut &[u8], first: u8, most: usize) -> Result<bool, HpackFault> {
        self.name.clear();
        self.value.clear();
        if first & 0x80 != 0 {
            let (name, value) = self.table.get(integer(input, 7)?)?;
            self.name.extend_from_slice(name);
            self.value.extend_from_slice(value);
            return Ok(true);
        }
        let prefix = if first & 0x40 != 0 { 6 } else { 4 };
        let named = match integer(input, prefix)? {
            0 => text(input, most, &mut self.name)?,
            index => {
                self.name.extend_from_slice(self.table.get(index)?.0);
                true
            }
        };
        Ok(text(input, most, &mut self.value)? && named)
    }
}

/// An integer with a prefix of `bits` (RFC 7541 section 5.1), bounded to what a block can hold.
fn integer(input: &mut &[u8], bits: u32) -> Result<usize, HpackFault> {
    let (&first, rest) = input.split_first().ok_or(HpackFault::Truncated)?;
    *input = rest;
    let most = (1usize << bits) - 1;
    let mut value = usize::from(first) & most;
    if value < most {
        return Ok(value);
    }
    for shift in [0, 7, 14, 21] {
        let (&byte, rest) = input.split_first().ok_or(HpackFault::Truncated)?;
        *input = rest;
        value += usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(HpackFault::Integer)
}

/// A text, Huffman-coded or not (RFC 7541 section 5.2). False: it is longer than `most`, and was passed over.
fn text(input: &mut &[u8], most: usize, into: &mut Vec<u8>) -> Result<bool, HpackFault> {
    let huffman = input.first().is_some_and(|first| first & 0x80 != 0);
    let length = integer(input, 7)?;
    let (coded, rest) = input.split_at_checked(length).ok_or(HpackFault::Truncated)?;
    *input = rest;
    if huffman {
        return match huffman::decode(coded, most, into) {
            Err(HpackFault::TooLarge) => {
                into.clear();
                Ok(false)
            }
            decoded => decoded.map(|()| true),
        };
    }
    if length <= most {
        into.extend_from_slice(coded);
    }
    Ok(length <= most)
}

/// Appends one field as a literal without indexing; a field that the static table has whole takes one byte. With
/// `never`, intermediaries are told not to index it either (RFC 7541 section 7.1.3): for credentials.
pub fn encode(name: &[u8], value: &[u8], never: bool, out: &mut Vec<u8>) {
    let by_name = STATIC.iter().position(|(known, _)| known.as_bytes() == name);
    if let (Some(first), false) = (by_name, never) {
        let same = STATIC[first..].iter().take_while(|(known, _)| known.as_bytes() == name);
        if let Some(offset) = same.map(|(_, v)| v).position(|v| v.as_bytes() == value) {
            return write_integer(first + offset + 1, 7, 0x80, out);
        }
    }
    let pattern = if never { 0x10 } else { 0 };
    write_integer(by_name.map_or(0, |index| index + 1), 4, pattern, out);
    if by_name.is_none() {
        write_integer(name.len(), 7, 0, out);
        out.extend_from_slice(name);
    }
    write_integer(value.len(), 7, 0, out);
    out.extend_from_slice(value);
}

/// Says at the start of a block how much room the dynamic table has. A decoder that has made its table smaller refuses
/// blocks until it was told (RFC 7541 section 4.2); saying so again changes nothing.
pub fn encode_table_size(bytes: u32, out: &mut Vec<u8>) {
    write_integer(bytes as usize, 5, 0x20, out);
}

fn write_integer(value: usize, bits: u32, pattern: u8, out: &mut Vec<u8>) {
    let most = (1usize << bits) - 1;
    if value < most {
        return out.push(pattern | value as u8);
    }
    out.push(pattern | most as u8);
    let mut rest = value - most;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

#[cfg(test)]
mod tests;
