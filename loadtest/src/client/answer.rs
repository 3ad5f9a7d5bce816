//! What comes back, on each protocol.

use crate::upstream::Stream;
use bytes::{Bytes, BytesMut};
use std::io;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// HTTP/1.1, as far as the load speaks it.
pub(crate) struct Http1 {
    pub(super) io: Box<dyn Stream>,
    buffer: BytesMut,
}

/// What is left of an answer.
pub(crate) enum Body<'a> {
    /// Until the end.
    Raw(&'a mut Box<dyn Stream>, BytesMut),
    /// So many bytes.
    Length(&'a mut Http1, u64),
    /// Chunk by chunk; `true` when the last has come.
    Chunked(&'a mut Http1, bool),
    Http2(h2::RecvStream, bool),
}

/// How much is read at a time.
pub(super) const READ: usize = 64 * 1024;

pub(super) fn status(code: u16) -> io::Result<()> {
    if code == 200 { Ok(()) } else { Err(io::Error::other(format!("the answer is {code}, not 200"))) }
}

impl Http1 {
    pub(super) fn new(io: Box<dyn Stream>) -> Self {
        Http1 { io, buffer: BytesMut::new() }
    }

    pub(super) async fn send(&mut self, head: &str) -> io::Result<()> {
        self.io.write_all(head.as_bytes()).await?;
        self.io.flush().await
    }

    async fn more(&mut self) -> io::Result<()> {
        self.buffer.reserve(READ);
        match self.io.read_buf(&mut self.buffer).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }

    /// Takes everything up to and with `mark`.
    async fn until(&mut self, mark: &[u8]) -> io::Result<BytesMut> {
        loop {
            if let Some(at) = self.buffer.windows(mark.len()).position(|w| w == mark) {
                return Ok(self.buffer.split_to(at + mark.len()));
            }
            self.more().await?;
        }
    }

    pub(super) async fn answer(&mut self) -> io::Result<Body<'_>> {
        let head = self.until(b"\r\n\r\n").await?;
        let head = String::from_utf8_lossy(&head).to_ascii_lowercase();
        let code = head.get(9..12).and_then(|code| code.parse().ok());
        status(code.ok_or_else(|| io::Error::other("no status line"))?)?;
        let field = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        if field("transfer-encoding:").is_some_and(|value| value == "chunked") {
            return Ok(Body::Chunked(self, false));
        }
        let length = field("content-length:").and_then(|value| value.parse().ok());
        let length = length.ok_or_else(|| io::Error::other("an answer without a length"))?;
        Ok(Body::Length(self, length))
    }
}

impl Body<'_> {
    /// The next bytes; `None` at the end.
    pub(crate) async fn next(&mut self) -> io::Result<Option<Bytes>> {
        match self {
            Body::Raw(io, buffer) => {
                buffer.reserve(READ);
                let n = io.read_buf(buffer).await?;
                Ok((n > 0).then(|| buffer.split().freeze()))
            }
            Body::Length(_, 0) | Body::Chunked(_, true) => Ok(None),
            Body::Length(http, left) => {
                if http.buffer.is_empty() {
                    http.more().await?;
                }
                let taken = http.buffer.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= taken as u64;
                Ok(Some(http.buffer.split_to(taken).freeze()))
            }
            Body::Chunked(http, over) => {
                let line = http.until(b"\r\n").await?;
                let line = String::from_utf8_lossy(&line);
                let length = usize::from_str_radix(line.trim(), 16)
                    .map_err(|_| io::Error::other(format!("a chunk of length {line:?}")))?;
                while http.buffer.len() < length + 2 {
                    http.more().await?;
                }
                let chunk = http.buffer.split_to(length + 2).freeze();
                *over = length == 0;
                Ok((length > 0).then(|| chunk.slice(..length)))
            }
            Body::Http2(body, grpc) => {
                if let Some(data) = body.data().await {
                    let data = data.map_err(io::Error::other)?;
                    body.flow_control().release_capacity(data.len()).map_err(io::Error::other)?;
                    return Ok(Some(data));
                }
                if *grpc {
                    let trailers = body.trailers().await.map_err(io::Error::other)?;
                    if trailers.as_ref().and_then(|t| t.get("grpc-status")).is_none_or(|s| s != "0") {
                        return Err(io::Error::other("a gRPC answer without status 0"));
                    }
                }
                Ok(None)
            }
        }
    }

    /// Everything that is left.
    pub(crate) async fn all(mut self) -> io::Result<Vec<u8>> {
        let mut all = Vec::new();
        while let Some(part) = self.next().await? {
            all.extend_from_slice(&part);
        }
        Ok(all)
    }
}
