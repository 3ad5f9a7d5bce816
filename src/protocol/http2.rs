//! Temporary.
#![allow(missing_docs)]
use super::*;
#[derive(Default)]
pub struct Limits {
    pub head: usize,
    pub fields: usize,
    pub streams: u32,
    pub extra: u8,
}
pub struct Http2 {
    r: Request,
}
impl Http2 {
    pub fn new(_: Limits) -> Self {
        Http2 { r: Request::default() }
    }
    pub fn tick(&mut self, _: u64) {}
}
impl Http for Http2 {
    fn up(&mut self, _: &mut Edit<'_>) -> Result<Up, Fault> {
        Ok(Up::Wait)
    }
    fn request(&self) -> &Request {
        &self.r
    }
    fn permit(&mut self, _: &mut Edit<'_>, _: &Rewrite<'_>) {}
    fn refuse(&mut self, _: &Refusal) {}
    fn down(&mut self, _: &mut Edit<'_>) -> Result<(), Fault> {
        Ok(())
    }
    fn event(&mut self) -> Option<Event> {
        None
    }
    fn wants_up(&self) -> bool {
        false
    }
    fn wants_down(&self) -> bool {
        false
    }
    fn up_ended(&mut self) -> Result<(), Fault> {
        Ok(())
    }
    fn down_ended(&mut self) -> Result<(), Fault> {
        Ok(())
    }
    fn drain(&mut self) {}
    fn cut(&mut self, _: Key) -> bool {
        false
    }
    fn in_flight(&self) -> usize {
        0
    }
    fn is_over(&self) -> bool {
        false
    }
    fn is_tunnel(&self) -> bool {
        false
    }
}
