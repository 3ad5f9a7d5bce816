//! Configuration: no text makes the reader panic.

/// One input.
pub fn run(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = staunch::config::parse(text);
    }
}
