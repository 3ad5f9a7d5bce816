//! Transcripts, cut at every offset.
