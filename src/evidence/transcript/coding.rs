//! Content codings, undone.

use std::io::Read;

/// Undoes a content coding, up to `limit` bytes; of a body that is cut, as far as it goes. `None` if it is not known, or
/// nothing comes of it.
pub(super) fn decode(coding: &str, bytes: &[u8], limit: usize) -> Option<Vec<u8>> {
    let limit = limit as u64;
    match coding {
        "gzip" | "x-gzip" => read(flate2::read::MultiGzDecoder::new(bytes), limit),
        // Zlib, by the book; raw deflate, as some servers send it (RFC 9110 section 8.4.1.2).
        "deflate" => read(flate2::read::ZlibDecoder::new(bytes), limit)
            .or_else(|| read(flate2::read::DeflateDecoder::new(bytes), limit)),
        "br" => read(brotli_decompressor::Decompressor::new(bytes, 4096), limit),
        "zstd" => read(ruzstd::decoding::StreamingDecoder::new(bytes).ok()?, limit),
        _ => None,
    }
}

fn read(reader: impl Read, limit: u64) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let result = reader.take(limit).read_to_end(&mut out);
    (result.is_ok() || !out.is_empty()).then_some(out)
}
