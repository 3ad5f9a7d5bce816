//! Columns by their types: how a mask reads a value, so that what it overwrites is still one of its type where that can be.

use crate::mask::{Coding, Shape, Value};

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
    /// One of which nothing is known. A text reads the same in both formats.
    pub(super) const UNKNOWN: Column = Column { rule: None, kind: 0, binary: true };
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

/// What stands in a value in binary format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// The value itself.
    Plain,
    Array,
    /// Of columns of any types.
    Composite,
    /// Bounds of this type.
    Range(u32),
    /// Ranges of this type.
    Multirange(u32),
    /// Words and where they stand (`tsvector`).
    Lexemes,
    /// A type that somebody made.
    Unknown,
}

/// Arrays of built-in types, and their elements (`pg_type.dat`).
const ARRAYS: [(u32, u32); 76] = [
    (22, 21),
    (30, 26),
    (143, 142),
    (199, 114),
    (271, 5069),
    (629, 628),
    (651, 650),
    (719, 718),
    (775, 774),
    (791, 790),
    (1000, 16),
    (1001, 17),
    (1002, 18),
    (1003, 19),
    (1005, 21),
    (1006, 22),
    (1007, 23),
    (1008, 24),
    (1009, 25),
    (1010, 27),
    (1011, 28),
    (1012, 29),
    (1013, 30),
    (1014, 1042),
    (1015, 1043),
    (1016, 20),
    (1017, 600),
    (1018, 601),
    (1019, 602),
    (1020, 603),
    (1021, 700),
    (1022, 701),
    (1027, 604),
    (1028, 26),
    (1034, 1033),
    (1040, 829),
    (1041, 869),
    (1115, 1114),
    (1182, 1082),
    (1183, 1083),
    (1185, 1184),
    (1187, 1186),
    (1231, 1700),
    (1263, 2275),
    (1270, 1266),
    (1561, 1560),
    (1563, 1562),
    (2201, 1790),
    (2207, 2202),
    (2208, 2203),
    (2209, 2204),
    (2210, 2205),
    (2211, 2206),
    (2287, 2249),
    (2949, 2970),
    (2951, 2950),
    (3221, 3220),
    (3643, 3614),
    (3645, 3615),
    (3735, 3734),
    (3770, 3769),
    (3807, 3802),
    (3905, 3904),
    (3907, 3906),
    (3909, 3908),
    (3911, 3910),
    (3913, 3912),
    (3927, 3926),
    (4073, 4072),
    (5039, 5038),
    (6150, 4451),
    (6151, 4532),
    (6152, 4533),
    (6153, 4534),
    (6155, 4535),
    (6157, 4536),
];
/// Ranges, their bounds, and the multirange of each (`pg_range.dat`).
const RANGES: [(u32, u32, u32); 6] = [
    (3904, 23, 4451),
    (3906, 1700, 4532),
    (3908, 1114, 4533),
    (3910, 1184, 4534),
    (3912, 1082, 4535),
    (3926, 20, 4536),
];

/// Types that are no text in binary: booleans, bytes, small and other numbers, points and lines, addresses, dates and times,
/// identifiers, names of what the server has.
const NO_TEXT: [u32; 40] = [
    16, 17, 24, 26, 27, 28, 29, 600, 601, 603, 628, 700, 718, 774, 790, 829, 1082, 1083, 1114, 1184, 1186,
    1266, 2202, 2203, 2204, 2205, 2206, 2950, 3220, 3361, 3402, 3734, 3769, 4089, 4096, 4191, 5017, 5069,
    4600, 4601,
];

/// What stands in a value of a column.
pub(super) fn form_of(column: Column) -> Form {
    let kind = column.kind;
    if !column.binary {
        return Form::Plain;
    }
    if let Some((_, bounds, _)) = RANGES.iter().find(|(range, ..)| *range == kind) {
        return Form::Range(*bounds);
    }
    if let Some((range, ..)) = RANGES.iter().find(|(.., multirange)| *multirange == kind) {
        return Form::Multirange(*range);
    }
    match kind {
        2249 => Form::Composite,
        3614 => Form::Lexemes,
        _ if element_of(kind).is_some() => Form::Array,
        _ if known(column).is_some() => Form::Plain,
        _ => Form::Unknown,
    }
}

fn element_of(array: u32) -> Option<u32> {
    ARRAYS.binary_search_by_key(&array, |(array, _)| *array).ok().map(|at| ARRAYS[at].1)
}

/// How values of a column are read.
pub(super) fn read_of(column: Column) -> Read {
    let element = element_of(column.kind).filter(|_| !column.binary);
    match element.and_then(|kind| known(Column { kind, ..column })) {
        // Braces and commas between elements stay, as much else of other texts would not.
        Some(Read { shape: Shape::Text | Shape::Json | Shape::Number, .. }) | None => {}
        Some(read) => return read,
    }
    let shape = if column.binary && column.rule.is_some() { Shape::Mixed } else { Shape::Words };
    known(column).unwrap_or(Read { shape, looks: true, prefix: 0 })
}

/// How values of a type are read that is no array and was made by nobody.
fn known(column: Column) -> Option<Read> {
    let read = |shape, looks, prefix| Some(Read { shape, looks, prefix });
    let number = |coding| if column.rule.is_some() { Shape::Binary } else { Shape::Coded(coding) };
    match (column.kind, column.binary) {
        // "char", name, text, xml, pg_node_tree, unknown, character, character varying, refcursor, cstring
        (18 | 19 | 25 | 142 | 194 | 705 | 1042 | 1043 | 1790 | 2275, _) => read(Shape::Text, true, 0),
        (114, _) | (3802, false) => read(Shape::Json, true, 0),
        // jsonb has a version before it, and so has jsonpath.
        (3802, true) => read(Shape::Json, true, 1),
        (4072, true) => read(Shape::Words, true, 1),
        // How many operands and operators there are stands before a tsquery's.
        (3615, true) => read(Shape::Words, true, 4),
        // Integers, numbers, money.
        (20 | 21 | 23 | 26 | 28 | 700 | 701 | 790 | 1700, false) => read(Shape::Number, true, 0),
        (869, false) => read(Shape::Hex, true, 0),
        // cidr
        (650, false) => read(Shape::Network, true, 0),
        (16, false) => read(Shape::Boolean, false, 0),
        // bytea, macaddr, macaddr8, uuid
        (17 | 774 | 829 | 2950, false) => read(Shape::Hex, false, 0),
        // Dates, times, intervals, and ranges of them.
        (1082 | 1083 | 1114 | 1184 | 1186 | 1266 | 3908 | 3910 | 3912 | 4533..=4535, false) => {
            read(Shape::Date, false, 0)
        }
        (20 | 21 | 23, true) => read(number(Coding::BigEndian), true, 0),
        (701, true) => read(number(Coding::DoubleBigEndian), true, 0),
        // How many digits there are, their weight, the sign and the scale stand before a numeric's, and stay.
        (1700, true) if column.rule.is_some() => read(Shape::Binary, true, 8),
        (1700, true) => read(number(Coding::Numeric), true, 0),
        // The family of an address, and how much of it counts; how many bits, points, numbers there are.
        (650 | 869 | 604 | 1560 | 1562 | 2970 | 5038, true) => read(Shape::Binary, false, 4),
        // A path is open or closed, and has so many points.
        (602, true) => read(Shape::Binary, false, 5),
        (kind, true) if NO_TEXT.contains(&kind) => read(Shape::Binary, false, 0),
        _ => None,
    }
}
