//! Values that go on behind what was read of them, as far as their kind says.

use super::cursor::{Keeps, Rest};

/// The values of one text that go on.
#[derive(Debug, Default)]
pub(super) struct Rests {
    going: Vec<Going>,
    /// One for each kind of rest that there was.
    followed: Vec<Followed>,
}

/// A value that goes on.
#[derive(Clone, Copy, Debug)]
struct Going {
    rule: u16,
    rest: Rest,
    at: u64,
    dash: bool,
}

/// The last value that went on in this way: where its rest began, and how far it came.
#[derive(Clone, Copy, Debug)]
struct Followed {
    rest: Rest,
    from: u64,
    to: u64,
}

impl Rests {
    pub(super) fn clear(&mut self) {
        self.going.clear();
        self.followed.clear();
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.going.len()
    }

    /// Adds a value that was found up to `at`. False: one that goes on in the same way covers it. Values within each other that go on
    /// in the same way end together, so they are followed once.
    pub(super) fn add(&mut self, rule: u16, rest: Rest, at: u64) -> bool {
        let is_followed = |known: &Followed| known.rest == rest && known.from <= at && at <= known.to;
        if rest != Rest::PrivateKey && self.followed.iter().any(is_followed) {
            return false;
        }
        self.going.push(Going { rule, rest, at, dash: false });
        self.followed.retain(|known| known.rest != rest);
        self.followed.push(Followed { rest, from: at, to: at });
        true
    }

    /// Reads on in a text whose first byte has the place `base`. Shows what belongs to each value: its rule, from where, up to where,
    /// what of it stays.
    pub(super) fn read(&mut self, text: &[u8], base: u64, mut belongs: impl FnMut(u16, u64, u64, Keeps)) {
        let followed = &mut self.followed;
        self.going.retain_mut(|going| {
            let from = going.at;
            let text = &text[(from - base) as usize..];
            let (length, over) = match going.rest {
                Rest::Class(class) => run_of(text, |byte| class.has(byte)),
                Rest::Until(last) => run_of(text, |byte| byte != last && !is_line_end(byte)),
                Rest::PrivateKey => {
                    let mut dash = going.dash;
                    let end = text.iter().position(|byte| {
                        let ends = dash && *byte == b'-';
                        dash = *byte == b'-';
                        ends
                    });
                    going.dash = dash;
                    (end.unwrap_or(text.len()), end.is_some())
                }
            };
            going.at += length as u64;
            // Only what joins it: another value that goes on in the same way may have begun further back.
            let joins =
                |known: &&mut Followed| known.rest == going.rest && (known.from..=known.to).contains(&from);
            if let Some(known) = followed.iter_mut().find(joins) {
                known.to = known.to.max(going.at);
            }
            let keeps = if going.rest == Rest::PrivateKey { Keeps::Lines } else { Keeps::Nothing };
            belongs(going.rule, from, going.at, keeps);
            !over
        });
    }
}

fn is_line_end(byte: u8) -> bool {
    matches!(byte, b'\r' | b'\n')
}

fn run_of(text: &[u8], goes_on: impl Fn(u8) -> bool) -> (usize, bool) {
    let length = text.iter().position(|byte| !goes_on(*byte));
    (length.unwrap_or(text.len()), length.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mask::cursor::Class;

    /// What belongs to values that are found one after another, each up to the place before it.
    fn belonging(text: &[u8], found: &[usize]) -> String {
        let (mut rests, mut shown) = (Rests::default(), text.to_vec());
        for at in found {
            if rests.add(0, Rest::Class(Class::Word), *at as u64) {
                rests.read(text, 0, |_, from, to, _| shown[from as usize..to as usize].fill(b'*'));
            }
        }
        String::from_utf8(shown).unwrap()
    }

    #[test]
    fn values_that_go_on_at_once_are_each_followed_only_as_far_as_they_go() {
        // The last one goes on at the text's end when the first, whose verdict came later, is found; between both stands a third.
        assert_eq!(belonging(b"aaa bbb ccc", &[8, 0, 4]), "*** *** ***");
        assert_eq!(belonging(b"aaa bbb ccc", &[8, 0, 5]), "*** b** ***");
        assert_eq!(belonging(b"aaa bbb ccc", &[0, 1, 8, 9]), "*** bbb ***");
    }
}
