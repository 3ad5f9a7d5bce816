"""Upstreams that are down, wrong or dying; clients that leave; and how large and how many it can be."""

import asyncio
import glob
import hashlib
import json
import os
import select
import signal
import socket
import ssl
import struct
import subprocess
import threading
import time

import grpc
import pytest
from support import parts
from support.certs import DAY, Authority
from support.process import ends, free_port, sees_in_place_of
from test_http1 import curl
from test_http2 import Grpc
from test_life import local
from test_tls import Sink, client_context, connect, echo, pairs, raw_config, raw_route

QUICK = bool(os.environ.get("STAUNCH_QUICK"))
GIB = 1 << (26 if QUICK else 30)


def test_an_upstream_that_cannot_be_had_is_a_502_that_names_it(world, start, tmp_path):
    plain = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=lambda: [c[0].sendall(b"HTTP/1.1 400 Bad\r\n\r\n") for c in iter(plain.accept, None)], daemon=True).start()
    (tmp_path / "expired").mkdir()
    expired, _ = parts.nginx(tmp_path / "expired", *world.authority.leaf("expired", ["127.0.0.1"], -DAY)), None
    stranger = Authority(tmp_path, "somebody else")
    (tmp_path / "stranger").mkdir()
    unknown = parts.nginx(tmp_path / "stranger", *stranger.leaf("stranger", ["127.0.0.1"]))
    cases = {
        "down": free_port(),
        "plain": plain.getsockname()[1],
        "expired": expired[1],
        "unknown": unknown[1],
        "misnamed": world.nginx_port,
    }
    chain, key = world.authority.leaf("faults", [f"{name}.gw.test" for name in cases])
    routes = [world.route(name, port, certificate={"chain": chain, "key": key}) for name, port in cases.items()]
    routes[-1]["upstream"]["sni"] = "other.example"
    gateway = start(world.config(*routes))
    token = world.issuer.token()
    try:
        for name in cases:
            answer = curl(gateway, world, name, "/hello.txt", "-w", "%{http_code}", token=token)
            assert answer.stdout.endswith(b"502"), (name, answer.stdout, answer.stderr)
            assert b"bad_gateway" in answer.stdout
        dialled = lambda: [line for line in gateway.lines() if line.get("reason") == "dial"]
        closed = parts.until(lambda: len(dialled()) == len(cases) and dialled())
        assert all(line["culprit"] == "upstream" for line in closed)
    finally:
        expired[0].stop()
        unknown[0].stop()
        plain.close()


def test_an_upstream_that_dies_in_mid_stream_never_looks_finished(world, start):
    def die(connection):
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\nsome")
        # Gone without close_notify.
        os.close(connection.detach())

    sink = Sink(world, die)
    sink.context.set_alpn_protocols(["http/1.1"])
    route = local(world, "dies") | {"upstream": {"address": f"tls://127.0.0.1:{sink.port}", "ca": world.ca}}
    gateway = start(world.config(route))
    fields = f"GET / HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {world.issuer.token()}\r\n\r\n".encode()
    context = client_context(world)
    for _ in range(50):
        with connect(gateway, context, "localhost") as connection:
            connection.sendall(fields)
            with pytest.raises(ssl.SSLEOFError):
                while connection.recv(4096):
                    pass
                pytest.fail("a clean end")
    parts.until(lambda: "staunch_sessions{worker=\"0\"} 0" in gateway.metrics())


@pytest.mark.parametrize("version", ["--http1.1", "--http2"])
def test_a_killed_nginx_never_looks_finished(world, start, tmp_path, version):
    nginx, port = parts.nginx(tmp_path, *world.upstream_pair, "location /large { limit_rate 1m; }", "ssl http2")
    with open(tmp_path / "www" / "large", "wb") as file:
        file.truncate(50 << 20)
    gateway = start(world.config(world.route("api", port)))
    name, out = "api.gw.test", tmp_path / "got"
    command = [
        "curl", "-sS", version, "--cacert", world.ca, "--connect-to", f"{name}:443:127.0.0.1:{gateway.port}",
        "-H", f"Authorization: Bearer {world.issuer.token()}", "-o", str(out), f"https://{name}/large",
    ]  # fmt: skip
    try:
        for _ in range(5):
            out.unlink(missing_ok=True)
            with subprocess.Popen(command, stderr=subprocess.PIPE) as curl:
                parts.until(lambda: out.exists() and out.stat().st_size > 100_000, every=0.01)
                # Its master starts another.
                os.kill(nginx.children()[0], signal.SIGKILL)
                _, said = curl.communicate(timeout=5)
            # PARTIAL_FILE, RECV_ERROR, HTTP2, HTTP2_STREAM: never 0.
            assert curl.returncode in (18, 56, 16, 92), (curl.returncode, said)
            assert out.stat().st_size < 50 << 20
            parts.until(lambda: nginx.children())
    finally:
        nginx.stop()


def test_a_killed_grpc_server_is_an_error_of_its_streams(world, start, tmp_path):
    server, port = parts.grpc_server(tmp_path, *world.upstream_pair)
    gateway = start(world.config(world.route("grpc", port)))
    with Grpc(gateway, world, world.issuer.token()) as rpc:
        running = rpc.stream(b"1000", metadata=rpc.metadata, timeout=30)
        assert next(running) == b"0"
        server.stop(signal.SIGKILL)
        began = time.monotonic()
        with pytest.raises(grpc.RpcError) as error:
            for _ in running:
                pass
        assert time.monotonic() - began < 12
        assert error.value.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INTERNAL), error.value
    gateway.line("session closed", culprit="upstream")


def test_a_client_that_leaves_a_blocked_upload_ends_its_upstream_at_once(world, start):
    accepted, ended = threading.Event(), []

    def stalled(connection):
        accepted.set()
        # Reads nothing; the poll tells of the end.
        watch = select.poll()
        watch.register(connection, select.POLLRDHUP | select.POLLHUP | select.POLLERR)
        if watch.poll(20_000):
            ended.append(time.monotonic())

    sink = Sink(world, stalled)
    sink.context.set_alpn_protocols(["http/1.1"])
    route = local(world, "blocked") | {"upstream": {"address": f"tls://127.0.0.1:{sink.port}", "ca": world.ca}}
    gateway = start(world.config(route))
    connection = connect(gateway, client_context(world), "localhost")
    head = f"POST / HTTP/1.1\r\nHost: localhost\r\nX-Api-Key: {world.issuer.token()}\r\nContent-Length: 1000000000\r\n\r\n"
    connection.sendall(head.encode())
    assert accepted.wait(10)
    connection.setblocking(False)
    quiet = time.monotonic()
    block = bytes(65536)
    while time.monotonic() - quiet < 0.5:
        try:
            connection.send(block)
            quiet = time.monotonic()
        except ssl.SSLWantWriteError:
            time.sleep(0.01)
    gone = time.monotonic()
    # A killed process with unread bytes, or one that gives up at once: by RST.
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    os.close(connection.detach())
    parts.until(lambda: ended, every=0.001)
    # The next that would end it is `stall`, after two minutes.
    assert ended[0] - gone < 2
    assert gateway.line("session closed", reason="reset")["culprit"] == "client"


def test_a_client_that_leaves_ends_its_upstream_at_once(world, start):
    left = []

    def stream(connection):
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        try:
            while connection.recv(1):
                pass
        except OSError:
            pass
        left.append(time.monotonic())

    sink = Sink(world, stream)
    sink.context.set_alpn_protocols(["http/1.1"])
    route = local(world, "leaves") | {"upstream": {"address": f"tls://127.0.0.1:{sink.port}", "ca": world.ca}}
    gateway = start(world.config(route))
    connection = connect(gateway, client_context(world), "localhost")
    connection.sendall(f"GET / HTTP/1.1\r\nHost: localhost\r\nX-Api-Key: {world.issuer.token()}\r\n\r\n".encode())
    connection.recv(100)
    gone = time.monotonic()
    os.close(connection.detach())
    parts.until(lambda: left, every=0.001)
    assert left[0] - gone < 2


@pytest.mark.timeout(400)
def test_a_large_download_and_upload_arrive_whole(gateway, world):
    path = world.folder / "www" / "large"
    digest = hashlib.sha256()
    with open(path, "wb") as file:
        block = os.urandom(1 << 20)
        for n in range(GIB >> 20):
            piece = n.to_bytes(4, "big") + block[4:]
            file.write(piece)
            digest.update(piece)
    for version in ("--http1.1", "--http2"):
        out = world.folder / "got"
        answer = curl(gateway, world, "api", "/large", version, "-o", str(out), token=world.issuer.token(), seconds=100)
        assert answer.returncode == 0, answer.stderr
        got = hashlib.sha256()
        with open(out, "rb") as file:
            while piece := file.read(1 << 20):
                got.update(piece)
        assert got.digest() == digest.digest(), version
        out.unlink()
    expected = digest.hexdigest()
    for version in ("--http1.1", "--http2"):
        upload = [version, "-T", str(path), "-X", "POST"]
        answer = curl(gateway, world, "app", "/upload", *upload, token=world.issuer.token(), seconds=110)
        assert json.loads(answer.stdout) == {"sha256": expected, "length": GIB}, (version, answer.stderr)
    path.unlink()


def test_a_stalled_client_holds_its_upstream_back(world, start, pairs):
    sent = []

    def flood(connection):
        block = bytes(1 << 20)
        try:
            while True:
                connection.sendall(block)
                sent.append(1)
        except OSError:
            pass

    gateway = start(raw_config(world, raw_route(world, Sink(world, flood).port)))
    before = gateway.rss()
    held = [connect(gateway, client_context(world, pairs["ann"])) for _ in range(100)]
    time.sleep(3)
    grown = gateway.rss() - before
    assert grown < 100 * 128 * 1024, f"{grown >> 10} KiB for 100 stalled clients"
    for connection in held:
        connection.close()


def test_two_thousand_streams_run_at_once(world, start):
    streams, events = (200, 10) if QUICK else (2000, 10)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*world.upstream_pair)
    context.set_alpn_protocols(["http/1.1"])

    async def upstream(reader, writer):
        try:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
            for n in range(events):
                writer.write(b"9\r\ndata: %d\n\n\r\n" % n)
                await writer.drain()
                await asyncio.sleep(1)
            writer.write(b"0\r\n\r\n")
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass

    async def one(gateway, token, trust):
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port, ssl=trust, server_hostname="localhost")
        writer.write(f"GET /s HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200"), head
        body = await reader.readuntil(b"0\r\n\r\n")
        writer.close()
        return body.count(b"data: ")

    async def all_of_them():
        server = await asyncio.start_server(upstream, "127.0.0.1", 0, ssl=context, backlog=4096)
        port = server.sockets[0].getsockname()[1]
        route = local(world, "many") | {"upstream": {"address": f"tls://127.0.0.1:{port}", "ca": world.ca}}
        limits = {"half_open_per_address": 0, "permit_deadline": "60s"}
        gateway = await asyncio.to_thread(start, world.config(route | {"timeouts": {"connect": "60s"}}, limits=limits))
        token = await asyncio.to_thread(world.issuer.token)
        trust = ssl.create_default_context(cafile=world.ca)
        before, tasks = gateway.rss(), []
        for n in range(streams):
            tasks.append(asyncio.create_task(one(gateway, token, trust)))
            if n % 20 == 0:
                await asyncio.sleep(0.01)
        await asyncio.sleep(3)
        peak = gateway.rss()
        counts = await asyncio.gather(*tasks)
        server.close()
        return counts, (peak - before) / streams

    counts, each = asyncio.run(all_of_them())
    assert counts == [events] * streams
    assert each < 64 * 1024, f"{each / 1024:.1f} KiB for each stream"


def test_the_upstream_sees_the_gateways_certificate_and_its_key_is_pinned(world, start, pairs):
    import base64

    from cryptography import x509
    from cryptography.hazmat.primitives import serialization

    def who(connection):
        connection.sendall(repr(connection.getpeercert()["subject"]).encode())
        connection.unwrap()

    sink = Sink(world, who)
    sink.context.load_verify_locations(world.ca)
    sink.context.verify_mode = ssl.CERT_REQUIRED
    chain, key = world.authority.leaf("gateway-client", ["gateway.example"])
    leaf = x509.load_pem_x509_certificate(open(world.upstream_pair[0], "rb").read())
    spki = leaf.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    pins = {
        "good": base64.b64encode(hashlib.sha256(spki).digest()).decode(),
        "bad": base64.b64encode(hashlib.sha256(b"another key").digest()).decode(),
    }
    for name, pin in pins.items():
        route = raw_route(world, sink.port)
        route["upstream"] |= {"certificate": {"chain": chain, "key": key}, "pin": f"sha256/{pin}"}
        gateway = start(raw_config(world, route))
        with connect(gateway, client_context(world, pairs["ann"])) as connection:
            if name == "good":
                assert b"gateway.example" in connection.recv(1000)
            else:
                assert ends(connection), "bytes of an upstream whose key is not the pinned one"
        line = gateway.line("session closed")
        assert (line["reason"] == "dial") == (name == "bad"), line
        if name == "good":
            assert line["upstream_verified"] == "chain_and_pin"


def test_an_upstream_that_never_answers_takes_the_time_to_connect_once(world, start):
    silent = socket.create_server(("127.0.0.1", 0))
    route = world.route("silent", silent.getsockname()[1]) | {"timeouts": {"connect": "4s"}}
    chain, key = world.authority.leaf("silent", ["silent.gw.test"])
    gateway = start(world.config(route | {"certificate": {"chain": chain, "key": key}}))
    began = time.monotonic()
    # The client offers both versions of HTTP: the upstream is asked which it speaks, and dialled after that.
    answer = curl(gateway, world, "silent", "/", "-w", "%{http_code}", token=world.issuer.token())
    assert answer.stdout.endswith(b"502"), (answer.stdout, answer.stderr)
    assert 3.9 < time.monotonic() - began < 7.5
    silent.close()


def use_resolver_of(folder, address):
    """For a new process: names are asked for at `address`."""
    (folder / "resolv.conf").write_text(f"nameserver {address}\noptions timeout:30 attempts:5\n")
    return sees_in_place_of("/etc/resolv.conf", folder / "resolv.conf")


def test_a_name_server_that_hangs_costs_few_threads_and_does_not_hold_up_the_end(world, start, tmp_path):
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("127.0.53.1", 53))
    names = [f"host-{n}" for n in range(30)]
    chain, key = world.authority.leaf("names", [f"{name}.gw.test" for name in names])
    routes = [
        world.route(name, 443, certificate={"chain": chain, "key": key}, timeouts={"connect": "1s"})
        | {"upstream": {"address": f"tls://{name}.example:443", "ca": world.ca}}
        for name in names
    ]
    gateway = start(world.config(world.route("api", world.nginx_port), *routes), preexec_fn=use_resolver_of(tmp_path, "127.0.53.1"))
    token = world.issuer.token()
    threads = lambda: len(os.listdir(f"/proc/{gateway.process.popen.pid}/task"))
    before = threads()

    def ask(name):
        answer = curl(gateway, world, name, "/", "--http1.1", "-w", "%{http_code}", token=token)
        assert answer.stdout.endswith(b"502"), (name, answer.stdout, answer.stderr)

    asking = [threading.Thread(target=ask, args=(name,)) for name in names * 2]
    for thread in asking:
        thread.start()
    for thread in asking:
        thread.join()
    assert threads() - before <= 8
    # What needs no name goes on.
    assert curl(gateway, world, "api", "/hello.txt", "-w", "%{http_code}", token=token).stdout.endswith(b"200")
    began = time.monotonic()
    assert gateway.stop() == 0
    assert time.monotonic() - began < 8
    server.close()


def test_a_socket_that_somebody_else_listens_on_gets_nothing(world, start, tmp_path):
    path = tmp_path / "upstream.sock"
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(path))
    server.listen()
    route = world.route("local", 0) | {
        "upstream": {"address": f"unix:{path}", "peer_user": str(os.getuid() + 1)},
        "unsafe_plaintext_upstream": True, "alpn": "http/1.1",
    }  # fmt: skip
    chain, key = world.authority.leaf("local", ["local.gw.test"])
    gateway = start(world.config(route | {"certificate": {"chain": chain, "key": key}}))
    answer = curl(gateway, world, "local", "/", "--http1.1", "-w", "%{http_code}", token=world.issuer.token())
    assert answer.stdout.endswith(b"502"), (answer.stdout, answer.stderr)
    assert server.accept()[0].recv(1) == b""
    line = gateway.line("session closed", reason="dial")
    assert f"served by the user with id {os.getuid()}" in line["detail"], line
    # The right one is spoken to.
    route["upstream"]["peer_user"] = "root" if os.getuid() == 0 else str(os.getuid())
    threading.Thread(target=lambda: server.accept()[0].sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"), daemon=True).start()
    gateway = start(world.config(route | {"certificate": {"chain": chain, "key": key}}))
    answer = curl(gateway, world, "local", "/", "--http1.1", token=world.issuer.token())
    assert answer.stdout == b"ok", answer


def test_a_wall_clock_that_jumps_ends_what_has_expired(world, start, pairs, tmp_path):
    clock = tmp_path / "clock"
    clock.write_text("+0")
    # The wall clock alone: the steady one of a machine that slept, or whose clock was set, shows nothing of it.
    jumping = os.environ | {
        "LD_PRELOAD": glob.glob("/usr/lib/*/faketime/libfaketimeMT.so.1")[0],
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_CACHE_DURATION": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    route = raw_route(world, Sink(world, echo).port, on_expiry="cut")
    # In the sandbox the library could not read its file any more.
    gateway = start(raw_config(world, route) | {"system": {"sandbox": "off"}}, env=jumping)
    with connect(gateway, client_context(world, pairs["ann"])) as connection:
        connection.sendall(b"x")
        assert connection.recv(1) == b"x"
        clock.write_text("+40d")
        # It is looked at every 30 s.
        connection.settimeout(40)
        assert ends(connection)
    assert gateway.line("session closed")["reason"] == "expired"
