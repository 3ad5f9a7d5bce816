//! Limits of an HTTP/1.1 connection.

/// Limits of one connection.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Bytes of a request head, the empty line included. Default 32 KiB: tokens with group claims reach 16.
    pub head_bytes: usize,
    /// Fields of a request head. Default 100; above 128 has no effect.
    pub fields: usize,
    /// Requests under way at once, refused ones included. Default 16.
    pub pipelined: usize,
    /// Bytes of one chunk extension. Default 256: no client in use sends any.
    pub chunk_extension: usize,
    /// Bytes of a trailer section. Default 8 KiB.
    pub trailer_bytes: usize,
    /// Bytes of a response head. Default 64 KiB.
    pub response_head_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            head_bytes: 32 << 10,
            fields: 100,
            pipelined: 16,
            chunk_extension: 256,
            trailer_bytes: 8 << 10,
            response_head_bytes: 64 << 10,
        }
    }
}
