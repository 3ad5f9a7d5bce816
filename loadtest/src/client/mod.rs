//! The near end: connections, and what is asked on them.

mod answer;
mod door;

pub(crate) use answer::Body;
pub(crate) use door::Door;

use crate::order::{Order, Receipt, Style};
use crate::upstream::{Stream, put};
use answer::{Http1, READ, status};
use bytes::{Bytes, BytesMut};
use h2::client::SendRequest;
use std::io;
use tokio::io::AsyncWriteExt;

/// An open connection.
pub(crate) enum Connection {
    Raw(Box<dyn Stream>),
    Http1(Http1),
    Http2(SendRequest<Bytes>, bool),
}

impl Connection {
    /// How events stand on this connection.
    pub(crate) fn style(&self) -> Style {
        match self {
            Connection::Http1(_) | Connection::Http2(_, false) => Style::Sse,
            Connection::Raw(_) | Connection::Http2(_, true) => Style::Framed,
        }
    }

    /// Another handle to the same connection, where streams share one.
    pub(crate) fn share(&self) -> Option<Connection> {
        match self {
            Connection::Http2(send, grpc) => Some(Connection::Http2(send.clone(), *grpc)),
            _ => None,
        }
    }

    /// Asks, and waits for the head of the answer. An answer that is not 200 is an error.
    pub(crate) async fn ask(&mut self, door: &Door, order: &Order, who: usize) -> io::Result<Body<'_>> {
        let token = door.token(who);
        match self {
            Connection::Raw(io) => {
                io.write_all(&order.head()).await?;
                io.flush().await?;
                Ok(Body::Raw(io, BytesMut::with_capacity(READ)))
            }
            Connection::Http1(http) => {
                http.send(&door.head("GET", order, token, None)).await?;
                http.answer().await
            }
            Connection::Http2(send, grpc) => {
                let request = door.request(order, token, *grpc, !*grpc)?;
                *send = send.clone().ready().await.map_err(io::Error::other)?;
                let (answer, _) = send.send_request(request, true).map_err(io::Error::other)?;
                let answer = answer.await.map_err(io::Error::other)?;
                status(answer.status().as_u16())?;
                let grpc = answer.headers().get("content-type").is_some_and(|t| t == "application/grpc");
                Ok(Body::Http2(answer.into_body(), grpc))
            }
        }
    }

    /// Sends the records of an order, and compares what the upstream says it got.
    pub(crate) async fn upload(&mut self, door: &Door, order: &Order, who: usize) -> io::Result<()> {
        let token = door.token(who);
        let mut record = crate::order::record(order.size);
        let answer = match self {
            Connection::Raw(io) => {
                io.write_all(&order.head()).await?;
                for n in 0..order.count {
                    crate::order::number(&mut record, n);
                    io.write_all(&record).await?;
                }
                io.flush().await?;
                Body::Raw(io, BytesMut::new()).all().await?
            }
            Connection::Http1(http) => {
                http.io.write_all(door.head("POST", order, token, Some(order.bytes())).as_bytes()).await?;
                for n in 0..order.count {
                    crate::order::number(&mut record, n);
                    http.io.write_all(&record).await?;
                }
                http.io.flush().await?;
                http.answer().await?.all().await?
            }
            Connection::Http2(send, grpc) => {
                let request = door.request(order, token, *grpc, false)?;
                *send = send.clone().ready().await.map_err(io::Error::other)?;
                let (answer, mut body) = send.send_request(request, false).map_err(io::Error::other)?;
                for n in 0..order.count {
                    crate::order::number(&mut record, n);
                    let last = n + 1 == order.count;
                    put(&mut body, Bytes::copy_from_slice(&record), last).await.map_err(io::Error::other)?;
                }
                let answer = answer.await.map_err(io::Error::other)?;
                status(answer.status().as_u16())?;
                Body::Http2(answer.into_body(), false).all().await?
            }
        };
        let (got, sent) = (String::from_utf8_lossy(&answer), Receipt::expected(order));
        if got != sent {
            return Err(io::Error::other(format!("the upstream got {got:?} and not {sent:?}")));
        }
        Ok(())
    }
}
