//! Why a header block cannot be decoded.

/// A header block that cannot be decoded. All but [`HpackFault::TooLarge`] and [`HpackFault::TooMany`] are connection
/// errors of type COMPRESSION_ERROR (RFC 9113 section 4.3); after these two the decoder still knows the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum HpackFault {
    /// The block ends in the middle of something.
    #[error("truncated header block")]
    Truncated,
    /// An integer of more than five bytes or beyond what anything here can be.
    #[error("integer too large")]
    Integer,
    /// An index that stands for nothing.
    #[error("unknown index")]
    Index,
    /// A Huffman text with wrong padding or the end-of-string symbol in it.
    #[error("malformed Huffman text")]
    Huffman,
    /// A table size beyond what was allowed, or not at the block's start.
    #[error("table size update out of place")]
    TableSize,
    /// More bytes than the limit.
    #[error("header list larger than the limit")]
    TooLarge,
    /// More fields than the limit.
    #[error("more header fields than the limit")]
    TooMany,
}
