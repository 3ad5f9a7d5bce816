//! Columns by their types: how a mask reads a value, so that what it overwrites is still one of its type where that can be.

use crate::mask::{Shape, Value};

/// A column of a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Column {
    /// The rule that overwrites it whole.
    pub(super) rule: Option<u16>,
    /// The type's object identifier.
    pub(super) kind: u32,
    /// Its values come in the type's binary format.
    pub(super) binary: bool,
}

impl Column {
    /// One of which nothing is known.
    pub(super) const UNKNOWN: Column = Column { rule: None, kind: 0, binary: false };

    pub(super) fn is_binary_array(&self) -> bool {
        self.binary && ARRAYS.contains(&self.kind)
    }
}

/// How values of a column are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Read {
    shape: Shape,
    /// Detectors look at it; otherwise only a rule that names its column does.
    looks: bool,
    /// Bytes before it that are no part of it.
    pub(super) prefix: usize,
}

impl Read {
    /// The value to mask; `None`: nobody looks at it.
    pub(super) fn value(self, whole: Option<u16>) -> Option<Value> {
        (self.looks || whole.is_some()).then_some(Value { shape: self.shape, whole })
    }
}

/// Types that PostgreSQL has built in (`pg_type.dat`); all others are made by somebody.
const FIRST_USER_OID: u32 = 16_384;
/// Arrays of built-in types.
const ARRAYS: [u32; 27] = [
    143, 199, 651, 791, 1000, 1001, 1002, 1003, 1005, 1007, 1009, 1014, 1015, 1016, 1021, 1022, 1028, 1040,
    1041, 1115, 1182, 1183, 1185, 1187, 1231, 2951, 3807,
];

/// How values of a column are read.
pub(super) fn read_of(column: Column) -> Read {
    let read = |shape, looks, prefix| Read { shape, looks, prefix };
    match (column.kind, column.binary) {
        // "char", name, text, xml, unknown, character, character varying
        (18 | 19 | 25 | 142 | 705 | 1042 | 1043, _) => read(Shape::Text, true, 0),
        (114, _) | (3802, false) => read(Shape::Json, true, 0),
        // jsonb has a version before it.
        (3802, true) => read(Shape::Json, true, 1),
        // Integers, numbers, money.
        (20 | 21 | 23 | 26 | 28 | 700 | 701 | 790 | 1700, false) => read(Shape::Number, true, 0),
        // cidr, inet
        (650 | 869, false) => read(Shape::Hex, true, 0),
        // boolean, bytea, macaddr, macaddr8, uuid
        (16 | 17 | 774 | 829 | 2950, false) => read(Shape::Hex, false, 0),
        // Dates, times, intervals.
        (1082 | 1083 | 1114 | 1184 | 1186 | 1266, false) => read(Shape::Date, false, 0),
        // How many digits there are, their weight, the sign and the scale stand before a numeric's.
        (1700, true) => read(Shape::Binary, false, 8),
        // The family of an address, and how much of it counts.
        (650 | 869, true) => read(Shape::Binary, false, 4),
        (kind, true) if kind >= FIRST_USER_OID => read(Shape::Words, true, 0),
        (0, _) | (_, false) => read(Shape::Words, true, 0),
        (_, true) => read(Shape::Binary, false, 0),
    }
}
