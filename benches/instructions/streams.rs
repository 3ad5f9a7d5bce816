//! Bytes that pass: records on a raw route, and server-sent events on an HTTP/1.1 route.

use crate::common::{Http, Rig, Wish};
use crate::requests::{self, read_head};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Records of `length` bytes go down a raw route.
pub(crate) async fn records(length: usize, units: u32) {
    let rig = Rig::raw(Wish::default()).await;
    let (mut client, mut upstream) = rig.pair().await;
    let (block, mut buffer) = (vec![0x5a; length], vec![0; length]);
    for _ in 0..units {
        buffer.fill(0);
        upstream.write_all(&block).await.unwrap();
        upstream.flush().await.unwrap();
        client.read_exact(&mut buffer).await.unwrap();
        assert_eq!(buffer, block);
    }
}

/// One token of a language model's answer, as a chunk of its own.
const EVENT: &str = "data: {\"id\":\"chatcmpl-8f2\",\"object\":\"chat.completion.chunk\",\"choices\":\
                     [{\"index\":0,\"delta\":{\"content\":\" river\"}}]}\n\n";

/// Events go down an HTTP/1.1 route, in answer to one permitted request.
pub(crate) async fn events(units: u32) {
    let http = Http::start(requests::wish("http/1.1")).await;
    let request = requests::head1(&http.token(3_600), 0);
    let (mut client, mut upstream) =
        requests::pair(&http, "http/1.1", request.as_bytes(), requests::head_came).await;
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
    upstream.write_all(head.as_bytes()).await.unwrap();
    upstream.flush().await.unwrap();
    assert_eq!(read_head(&mut client).await.as_deref(), Some(head));
    let event = format!("{:x}\r\n{EVENT}\r\n", EVENT.len());
    let mut buffer = vec![0; event.len()];
    for _ in 0..units {
        buffer.fill(0);
        upstream.write_all(event.as_bytes()).await.unwrap();
        upstream.flush().await.unwrap();
        client.read_exact(&mut buffer).await.unwrap();
        assert_eq!(buffer, event.as_bytes());
    }
}
