//! Staunch.
fn main() {}
