"""What a request's line says when its session ends before it: the bytes that each side saw, and who ended it."""

import socket

from support.parts import until
from test_http1 import curl
from test_operator import Operator
from test_tls import client_context


def connect(world, gateway, route="app", alpn="http/1.1"):
    context = client_context(world)
    context.set_alpn_protocols([alpn])
    tcp = socket.create_connection(("127.0.0.1", gateway.port), timeout=10)
    return context.wrap_socket(tcp, server_hostname=f"{route}.gw.test")


def request(world, head: str) -> bytes:
    return (head + f"Host: app.gw.test\r\nAuthorization: Bearer {world.issuer.token()}\r\n\r\n").encode()


def test_a_client_that_leaves_a_stream_has_its_bytes_in_the_line(gateway, world):
    for version in ("--http1.1", "--http2"):
        left = curl(gateway, world, "app", f"/events?{200 if version == '--http2' else 201}", version, "-m", "3", token=world.issuer.token())
        assert left.returncode == 28, left
    for http in ("1.1", "2"):
        line = gateway.line("request", path="/events", http=http)
        assert (line["status"], line["ended"]) == (200, "by_client"), line
        assert line["down_bytes"] > 20, line


def test_an_upload_that_is_cut_has_its_bytes_in_the_line(gateway, world):
    connection = connect(world, gateway)
    connection.sendall(request(world, "POST /upload?cut HTTP/1.1\r\nContent-Length: 5000000\r\n") + b"x" * 3_000_000)
    until(lambda: any(session["up_bytes"] >= 3_000_000 for session in Operator(gateway).sessions()))
    connection.close()
    line = gateway.line("request", path="/upload", ended="by_client")
    assert line["up_bytes"] == 3_000_000, line


def test_a_websocket_without_close_notify_has_its_bytes_in_the_line(gateway, world):
    connection = connect(world, gateway)
    upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
    connection.sendall(request(world, f"GET /echo HTTP/1.1\r\n{upgrade}"))
    head = connection.recv(4096)
    assert head.startswith(b"HTTP/1.1 101 "), head
    connection.sendall(b"\x81\x85\0\0\0\0hello")
    assert connection.recv(100)
    connection.close()
    line = gateway.line("request", path="/echo", status=101)
    assert line["up_bytes"] == 11 and line["down_bytes"] >= 7, line
    assert line["ended"] == "by_client", line
