"""Requests that cannot be masked: each is answered, with its reason, and nothing else of its connection ends."""

import asyncio
import json
import socket
import ssl

import grpc
import httpx
import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import ResponseReceived, StreamEnded
from support.gateway import KEY
from support.parts import until
from test_http2 import Grpc
from test_masking import SETS, masked_route

JSON = "application/json"
TEXT = "text/plain"
# What the head says, and the body.
UNMASKABLE = [
    *[({"content-encoding": coding}, b"secret") for coding in ["gzip", "br", "zstd", "deflate", "x-own", "identity, gzip"]],
    *[({name: "sha-256=:c2VjcmV0:"}, b"secret") for name in ["content-digest", "repr-digest", "digest", "Content-MD5"]],
    *[({name: "c2VjcmV0"}, b"secret") for name in ["x-amz-checksum-crc32", "x-amz-checksum-sha256", "x-goog-hash"]],
    ({"trailer": "x-end, Content-Digest"}, b"secret"),
    *[({"content-type": f"{TEXT}; charset={charset}"}, b"secret") for charset in ["utf-16", '"UTF-16LE"', "utf-32", "utf-7", "ibm037"]],
    *[({"content-type": kind}, b"secret") for kind in ["application/zip", "application/gzip", "application/x-7z-compressed"]],
    *[({"content-type": kind}, b"secret") for kind in ["application/grpc-web-text", "application/vnd.amazon.eventstream"]],
    ({"content-range": "bytes 0-5/99"}, b"secret"),
    ({"content-type": "multipart/byteranges; boundary=x"}, b"secret"),
    # The head says nothing of it.
    ({"content-type": TEXT}, b"\x1f\x8b\x08\x00secret"),
    ({"content-type": TEXT}, b"\x28\xb5\x2f\xfdsecret"),
    ({"content-type": "application/octet-stream"}, b"PK\x03\x04secret"),
    ({"content-type": TEXT}, "secret".encode("utf-16")),
    ({"content-type": JSON}, '{"secret": 1}'.encode("utf-16-le")),
    ({"content-type": JSON}, '{"secret": 1}'.encode("utf-32-be")),
    ({"content-type": JSON}, b"[" * 200 + b"secret"),
]
# What looks odd and can be followed goes up, overwritten.
FOLLOWED = [
    (JSON, b'{"a": "jane@example.com", "b": [1, }, "pin": "12', b'{"a": "jane************", "b": [1, }, "pin": "**'),
    (JSON, b'{"a": "jane@example.com"} and jane@example.com', b'{"a": "jane************"} and jane************'),
    (TEXT, b"caf\xe9 \xff jane@example.com \xc3", b"caf\xe9 \xff jane************ \xc3"),
    (JSON, b'\xef\xbb\xbf{"pin": "1234"}', b'\xef\xbb\xbf{"pin": "****"}'),
    ("application/x-www-form-urlencoded", b"mail=jane%40example.com&x=1", b"mail=jane**************&x=1"),
    (
        "multipart/form-data; boundary=b",
        b'--b\r\nContent-Disposition: form-data; name="m"\r\n\r\njane@example.com\r\n--b--\r\n',
        b'--b\r\nContent-Disposition: form-data; name="m"\r\n\r\njane************\r\n--b--\r\n',
    ),
    (f"{TEXT}; charset=iso-8859-1", b"\xe4 536-90-4399", b"\xe4 536-**-****"),
]


@pytest.fixture
def masked(world, start):
    chain, key = world.authority.leaf("masked-requests", ["localhost"])
    route = masked_route(world, sni="localhost", certificate={"chain": chain, "key": key}, mask={"up": ["all"]})
    return start(world.config(route, mask=SETS))


@pytest.mark.parametrize("version", ["http/1.1", "h2"])
def test_a_request_that_cannot_be_masked_is_a_415_and_what_is_only_odd_goes_up_overwritten(masked, world, version):
    context, two = ssl.create_default_context(cafile=world.ca), version == "h2"
    headers = {"authorization": f"Bearer {world.issuer.token()}"}
    base = f"https://localhost:{masked.port}"

    async def all_of_them():
        async with httpx.AsyncClient(verify=context, http1=not two, http2=two, headers=headers, timeout=20) as http:
            # An answer that runs beside all refusals: on HTTP/2 on their connection.
            async with http.stream("GET", f"{base}/events?12") as running:
                lines = running.aiter_lines()
                assert await anext(lines) == "data: 0"
                for head, body in UNMASKABLE:
                    answer = await http.post(f"{base}/echo", headers=head, content=body)
                    # On HTTP/2 a client that speaks gRPC hears so in its own way.
                    if answer.headers.get("grpc-status") != "12" or not two:
                        # What explains it on HTTP/2 comes as far as the connection's window has room.
                        told = answer.json()["error"]["code"] if answer.text or not two else "unmaskable"
                        assert (answer.status_code, told) == (415, "unmaskable"), (head, body, answer.text)
                for kind, body, expected in FOLLOWED:
                    answer = await http.post(f"{base}/echoed", headers={"content-type": kind}, content=body)
                    assert answer.content == expected, kind
                rest = [line async for line in lines if line]
                assert rest == [f"data: {n}" for n in range(1, 12)]

    asyncio.run(all_of_them())
    refused = f'staunch_mask_unmaskable_total{{route="app",direction="up"}} {len(UNMASKABLE)}'
    until(lambda: refused in masked.metrics())
    assert not [line for line in masked.lines() if "secret" in json.dumps(line)]


def test_a_digest_in_the_trailers_of_a_request_is_a_415(masked, world):
    head = {"authorization": f"Bearer {world.issuer.token()}", "content-type": TEXT}
    context = ssl.create_default_context(cafile=world.ca)
    with socket.create_connection(("127.0.0.1", masked.port), 20) as tcp, context.wrap_socket(tcp, server_hostname="localhost") as tls:
        fields = "".join(f"{name}: {value}\r\n" for name, value in head.items())
        tls.sendall(f"POST /echo HTTP/1.1\r\nHost: localhost\r\n{fields}Transfer-Encoding: chunked\r\n\r\n4\r\nfine\r\n0\r\n".encode())
        tls.sendall(b"Repr-Digest: sha-256=:c2VjcmV0:\r\n\r\n")
        answer = b""
        while b"unmaskable" not in answer and (more := tls.recv(65536)):
            answer += more
        assert answer.startswith(b"HTTP/1.1 415"), answer
    context.set_alpn_protocols(["h2"])
    with socket.create_connection(("127.0.0.1", masked.port), 20) as tcp, context.wrap_socket(tcp, server_hostname="localhost") as tls:
        http = H2Connection(H2Configuration(client_side=True, header_encoding="utf-8"))
        http.initiate_connection()
        for stream, trailer in [(1, "content-digest"), (3, "x-end")]:
            pseudo = {":method": "POST", ":scheme": "https", ":path": "/echo", ":authority": "localhost"}
            http.send_headers(stream, list((pseudo | head).items()))
            http.send_data(stream, b"fine")
            http.send_headers(stream, [(trailer, "sha-256=:c2VjcmV0:")], end_stream=True)
        tls.sendall(http.data_to_send())
        statuses, ended = {}, set()
        while len(ended) < 2:
            for event in http.receive_data(tls.recv(65536)):
                if isinstance(event, ResponseReceived):
                    statuses[event.stream_id] = dict(event.headers)[":status"]
                elif isinstance(event, StreamEnded):
                    ended.add(event.stream_id)
            tls.sendall(http.data_to_send())
        assert statuses == {1: "415", 3: "200"}


def test_grpc_requests_that_cannot_be_masked_are_unimplemented_and_others_go_on(world, start):
    route = world.route("grpc", world.grpc_port, mask={"up": ["all"], "down": ["all"]})
    gateway = start(world.config(route, mask=SETS))
    with Grpc(gateway, world, world.issuer.token()) as rpc:
        running = rpc.stream(b"8", metadata=rpc.metadata, timeout=20)
        first = next(running)
        for body, more in [(b"jane@example.com" * 3_000, {}), (b"jane@example.com" * 99, {"compression": grpc.Compression.Gzip})]:
            with pytest.raises(grpc.RpcError) as refused:
                rpc.unary(body, metadata=rpc.metadata, timeout=10, **more)
            assert refused.value.code() == grpc.StatusCode.UNIMPLEMENTED, refused.value
        with pytest.raises(grpc.RpcError) as refused:
            rpc.unary(b"x", metadata=(*rpc.metadata, ("content-digest", "sha-256=:c2VjcmV0:")), timeout=10)
        assert refused.value.code() == grpc.StatusCode.UNIMPLEMENTED, refused.value
        assert [first, *running] == [str(n).encode() for n in range(8)]
        answer = rpc.unary(b"4111111111111111", metadata=rpc.metadata, timeout=10)
        assert answer.startswith(b"411111******1111|") and KEY.encode() not in answer


def test_a_websocket_whose_frames_cannot_be_followed_is_cut_with_its_reason(masked, world):
    context = ssl.create_default_context(cafile=world.ca)
    frames = [
        b"\xc1\x86\0\0\0\0secret",  # an extension's bit
        b"\x01\x82\0\0\0\0fi\x81\x86\0\0\0\0secret",  # a message within another
        b"\x80\x86\0\0\0\0secret",  # the rest of none
        b"\x83\x86\0\0\0\0secret",  # a kind that is none
    ]
    for frame in frames:
        with socket.create_connection(("127.0.0.1", masked.port), 20) as tcp, context.wrap_socket(tcp, server_hostname="localhost") as tls:
            upgrade = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            token = f"Authorization: Bearer {world.issuer.token()}\r\n"
            tls.sendall(f"GET /ws HTTP/1.1\r\nHost: localhost\r\n{upgrade}{token}\r\n".encode())
            answer = b""
            while b"\r\n\r\n" not in answer:
                answer += tls.recv(65536)
            assert answer.startswith(b"HTTP/1.1 101"), answer
            tls.sendall(b"\x81\x84\0\0\0\0fine" + frame)
            got = b""
            try:
                while more := tls.recv(65536):
                    got += more
            except (ssl.SSLError, ConnectionResetError):
                pass
            assert b"secret" not in got
    cut = 'staunch_mask_unmaskable_total{route="app",direction="up"} 4'
    until(lambda: cut in masked.metrics())
    lines = [line for line in masked.lines() if line.get("event") == "request" and line["path"] == "/ws"]
    assert len(lines) == 4 and all("up:unmaskable (a WebSocket frame" in line["masked"] for line in lines), lines
