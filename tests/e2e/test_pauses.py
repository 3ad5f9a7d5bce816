"""Peers that pause reading lose nothing; refusals reach real clients that send a whole body first."""

import http.client
import hashlib
import os
import pathlib
import socket
import ssl
import subprocess
import threading
import time

import pytest
import requests
from support import parts
from test_tls import Sink, client_context, raw_config, raw_route

# Above what the kernel allows without an acknowledgement (30 s), below the route's `stall`.
PAUSE = 42
BLOCK = os.urandom(1 << 16)
BLOCKS = 320


@pytest.fixture(scope="module")
def ann(world):
    return world.authority.leaf("ann", ["ann.clients.test"])


def digest_after_pause(connection):
    """Reads a little, rests, and reads on to the end."""
    digest = hashlib.sha256(connection.recv(1 << 14))
    time.sleep(PAUSE)
    while data := connection.recv(1 << 16):
        digest.update(data)
    return digest.hexdigest()


def send_blocks(connection, blocks):
    for _ in range(blocks):
        connection.sendall(BLOCK)


def connect_slowly(gateway, context):
    """A client whose kernel takes little for it."""
    plain = socket.socket()
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
    plain.settimeout(2 * PAUSE)
    plain.connect(("127.0.0.1", gateway.port))
    return context.wrap_socket(plain, server_hostname="raw.gw.test", suppress_ragged_eofs=False)


# Much: the gateway itself must wait. Little: all of it fits into kernels' buffers, and the session is over before it is read.
@pytest.mark.parametrize("blocks", [BLOCKS, 12])
def test_a_peer_that_pauses_for_longer_than_a_partition_may_last_gets_every_byte(world, start, ann, blocks):
    wanted, got = hashlib.sha256(BLOCK * blocks).hexdigest(), {}

    def download(connection):
        connection.recv(1)
        send_blocks(connection, blocks)
        connection.unwrap()

    def upload(connection):
        connection.settimeout(2 * PAUSE)
        got["up"] = digest_after_pause(connection)

    down, up = Sink(world, download), Sink(world, upload)
    up.listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
    timeouts = {"stall": "100s"}
    reads = start(raw_config(world, raw_route(world, down.port, timeouts=timeouts)))
    writes = start(raw_config(world, raw_route(world, up.port, timeouts=timeouts)))
    context = client_context(world, ann)

    def reader():
        with connect_slowly(reads, context) as connection:
            connection.sendall(b"x")
            got["down"] = digest_after_pause(connection)

    def writer():
        with connect_slowly(writes, context) as connection:
            send_blocks(connection, blocks)
            try:
                connection.unwrap()
            except ssl.SSLError:
                # The upstream closes without a word of its own.
                pass

    threads = [threading.Thread(target=one) for one in (reader, writer)]
    [thread.start() for thread in threads]
    [thread.join(3 * PAUSE) for thread in threads]
    parts.until(lambda: len(got) == 2)
    assert got == {"down": wanted, "up": wanted}


def refused_by_requests(gateway, world, body):
    url = f"https://app.gw.test:{gateway.port}/upload"
    session = requests.Session()
    session.trust_env = False
    return session.post(url, data=body, headers={"authorization": "Bearer a.b.c"}, verify=world.ca, timeout=20)


@pytest.fixture
def named(monkeypatch):
    """Names of the gateway's lead to it."""
    real = socket.getaddrinfo

    def found(host, *rest, **more):
        return real("127.0.0.1" if str(host).endswith(".gw.test") else host, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", found)


@pytest.mark.parametrize("size,times", [(1 << 20, 30), (20 << 20, 8)])
def test_no_refusal_is_lost_behind_a_large_body(world, gateway, named, tmp_path, size, times):
    body = bytes(size)
    for _ in range(times):
        assert refused_by_requests(gateway, world, body).status_code == 401
    context = ssl.create_default_context(cafile=world.ca)
    for _ in range(times):
        client = http.client.HTTPSConnection("app.gw.test", gateway.port, context=context, timeout=20)
        client.request("POST", "/upload", body, {"authorization": "Bearer a.b.c"})
        assert client.getresponse().status == 401
        client.close()
    file = pathlib.Path(tmp_path / "body")
    file.write_bytes(body)
    for _ in range(times):
        command = [
            "curl", "-sS", "--http1.1", "--cacert", world.ca, "--resolve", f"app.gw.test:{gateway.port}:127.0.0.1",
            "-H", "authorization: Bearer a.b.c", "-H", "expect:", "--data-binary", f"@{file}", "-o", os.devnull,
            "-w", "%{http_code}", f"https://app.gw.test:{gateway.port}/upload",
        ]  # fmt: skip
        assert subprocess.run(command, capture_output=True, timeout=30, text=True).stdout == "401"


def test_a_flood_of_refused_uploads_stays_bounded(world, start):
    gateway = start(world.config(world.route("app", world.hypercorn_port)))
    context = ssl.create_default_context(cafile=world.ca)
    before, sockets = gateway.rss(), []
    for _ in range(300):
        client = http.client.HTTPSConnection("127.0.0.1", gateway.port, timeout=20)
        plain = socket.create_connection(("127.0.0.1", gateway.port), 20)
        client.sock = context.wrap_socket(plain, server_hostname="app.gw.test")
        sockets.append(client)
        client.putrequest("POST", "/upload")
        client.putheader("authorization", "Bearer a.b.c")
        client.putheader("content-length", str(1 << 40))
        client.endheaders()
    # None of them ends, and each goes on sending.
    until = time.monotonic() + 4
    while time.monotonic() < until:
        for client in sockets:
            try:
                client.sock.settimeout(0.01)
                client.sock.send(BLOCK[:16384])
            except OSError:
                pass
    descriptors = len(os.listdir(f"/proc/{gateway.process.popen.pid}/fd"))
    # 64 for each of two workers, and what is young.
    assert descriptors < 200, descriptors
    assert gateway.rss() - before < 40 << 20
    [client.close() for client in sockets]
