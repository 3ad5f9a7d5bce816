//! An edit: changes a stretch of plaintext without copying the parts that stay.

/// A stretch of plaintext on its way through, read front to back exactly once.
///
/// ```text
///   data   | dealt with (kept or skipped) | not yet looked at |
///          0                              at                  data.len()
///   out    | what is sent instead of data[..at], once the two differ |
/// ```
///
/// As long as everything is kept, `out` stays empty and the caller seals `data` where it lies. The first
/// [`Edit::skip`] or [`Edit::insert`] makes the two diverge; from then on kept bytes are copied to `out`.
/// Bytes may be changed in place at equal length through [`Edit::rest_mut`] before they are kept.
///
/// An edit of what a recorded client sends has a *view* besides: what its recording holds of it. That is what passes, less
/// all that is put in, and with [`Edit::view`] in the place of what is taken out. What nobody writes there is not
/// recorded, so a token that is taken out is not, and neither is a credential that is put in.
pub struct Edit<'a> {
    data: &'a mut [u8],
    at: usize,
    out: &'a mut Vec<u8>,
    diverged: bool,
    view: Option<&'a mut Vec<u8>>,
}

impl<'a> Edit<'a> {
    /// Starts at the front of `data`. `out` must be empty.
    pub fn new(data: &'a mut [u8], out: &'a mut Vec<u8>) -> Self {
        Self::with_view(data, out, None)
    }

    /// The same with a view, to which what the recording holds is appended once the edit has diverged; until then that is
    /// all that was kept.
    pub fn with_view(data: &'a mut [u8], out: &'a mut Vec<u8>, view: Option<&'a mut Vec<u8>>) -> Self {
        debug_assert!(out.is_empty());
        Edit { data, at: 0, out, diverged: false, view }
    }

    /// Buffer for what the recording holds of removed bytes; `None` where nothing is recorded.
    pub fn view(&mut self) -> Option<&mut Vec<u8>> {
        if self.view.is_some() {
            self.diverge();
        }
        self.view.as_deref_mut()
    }

    /// Input that is not consumed yet.
    pub fn rest(&self) -> &[u8] {
        &self.data[self.at..]
    }

    /// Input that is not consumed yet, mutable at equal length.
    pub fn rest_mut(&mut self) -> &mut [u8] {
        &mut self.data[self.at..]
    }

    /// True when all input is consumed.
    pub fn is_done(&self) -> bool {
        self.at == self.data.len()
    }

    /// Number of input bytes consumed.
    pub fn position(&self) -> usize {
        self.at
    }

    /// Lets the next `n` bytes pass.
    #[inline]
    pub fn keep(&mut self, n: usize) {
        if self.diverged {
            self.copy(n);
        }
        self.at += n;
        debug_assert!(self.at <= self.data.len());
    }

    /// Copies the next `n` bytes to where what differs from the input is put together.
    fn copy(&mut self, n: usize) {
        let kept = &self.data[self.at..self.at + n];
        self.out.extend_from_slice(kept);
        if let Some(view) = &mut self.view {
            view.extend_from_slice(kept);
        }
    }

    /// Takes the next `n` bytes out.
    pub fn skip(&mut self, n: usize) {
        if n > 0 {
            self.diverge();
            self.at += n;
            debug_assert!(self.at <= self.data.len());
        }
    }

    /// Puts bytes in before what is next.
    pub fn insert(&mut self, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.insert_with().extend_from_slice(bytes);
        }
    }

    /// Inserts bytes of the peer that were removed before, to be parsed as a whole.
    pub fn put_back(&mut self, bytes: &[u8]) {
        self.insert(bytes);
        if let Some(view) = self.view() {
            view.extend_from_slice(bytes);
        }
    }

    /// Where to append bytes that go before what is next.
    pub fn insert_with(&mut self) -> &mut Vec<u8> {
        self.diverge();
        self.out
    }

    /// True when what is to be sent is no longer a prefix of the input.
    pub fn diverged(&self) -> bool {
        self.diverged
    }

    fn diverge(&mut self) {
        if !self.diverged {
            self.diverged = true;
            self.out.extend_from_slice(&self.data[..self.at]);
            if let Some(view) = &mut self.view {
                view.extend_from_slice(&self.data[..self.at]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeping_everything_copies_nothing() {
        let (mut data, mut out) = (*b"abcdef", Vec::new());
        let mut edit = Edit::new(&mut data, &mut out);
        edit.keep(2);
        edit.keep(4);
        assert!(edit.is_done() && !edit.diverged());
        assert!(out.is_empty());
    }

    #[test]
    fn skip_and_insert_diverge_once_and_keep_the_order() {
        let (mut data, mut out) = (*b"abcdef", Vec::new());
        let mut edit = Edit::new(&mut data, &mut out);
        edit.keep(2);
        edit.skip(1);
        edit.insert(b"XY");
        edit.keep(3);
        assert!(edit.is_done() && edit.diverged());
        assert_eq!(out, b"abXYdef");
    }

    #[test]
    fn a_view_holds_what_passes_and_what_is_said_of_the_rest_and_nothing_that_was_put_in() {
        let (mut data, mut out, mut view) = (*b"keepTOKENrest", Vec::new(), b"before ".to_vec());
        let mut edit = Edit::with_view(&mut data, &mut out, Some(&mut view));
        edit.keep(4);
        edit.skip(5);
        edit.insert(b"CREDENTIAL");
        edit.view().unwrap().extend_from_slice(b"*****");
        edit.put_back(b"held");
        edit.keep(4);
        assert_eq!(out, b"keepCREDENTIALheldrest");
        assert_eq!(view, b"before keep*****heldrest");
        let (mut data, mut out) = (*b"ab", Vec::new());
        assert!(Edit::new(&mut data, &mut out).view().is_none());
    }

    #[test]
    fn a_view_of_what_is_kept_whole_is_left_to_the_caller() {
        let (mut data, mut out, mut view) = (*b"ab", Vec::new(), Vec::new());
        let mut edit = Edit::with_view(&mut data, &mut out, Some(&mut view));
        edit.keep(2);
        assert!(!edit.diverged());
        assert_eq!(view, b"");
    }
}
