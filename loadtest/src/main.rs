//! Load tools for Staunch.
fn main() {}
