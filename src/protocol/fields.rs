//! Header fields of one message, in order, in one buffer that is used again and again.

/// Fields as sent: order, case and repetition kept. One allocation for all, kept across [`Fields::clear`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields {
    /// Names and values back to back: `name value name value …`.
    bytes: Vec<u8>,
    /// For each field: where its name starts, where its value starts, where it ends.
    spans: Vec<(u32, u32, u32)>,
}

impl Fields {
    /// Forgets all fields and keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.spans.clear();
    }

    /// Appends a field.
    pub fn push(&mut self, name: &[u8], value: &[u8]) {
        let start = self.bytes.len() as u32;
        self.bytes.extend_from_slice(name);
        let middle = self.bytes.len() as u32;
        self.bytes.extend_from_slice(value);
        self.spans.push((start, middle, self.bytes.len() as u32));
    }

    /// How many fields.
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// True without any field.
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// All fields as (name, value), in order.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.spans.iter().map(|&(start, middle, end)| {
            (&self.bytes[start as usize..middle as usize], &self.bytes[middle as usize..end as usize])
        })
    }

    /// Values of all fields of this name, compared without case.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.iter().filter(move |(n, _)| n.eq_ignore_ascii_case(name.as_bytes())).map(|(_, v)| v)
    }

    /// The value of the first field of this name, compared without case.
    pub fn get<'a>(&'a self, name: &'a str) -> Option<&'a [u8]> {
        self.all(name).next()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_keep_order_and_repetition_and_compare_names_without_case() {
        let mut fields = Fields::default();
        fields.push(b"Accept", b"a");
        fields.push(b"x-one", b"");
        fields.push(b"ACCEPT", b"b");
        assert_eq!(fields.all("accept").collect::<Vec<_>>(), [b"a", b"b"]);
        assert_eq!(fields.get("X-One"), Some(&b""[..]));
        assert_eq!(fields.get("absent"), None);
        fields.clear();
        assert!(fields.is_empty());
    }
}
