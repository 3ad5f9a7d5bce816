"""The log's disk is full, or its reader has stopped: the gateway lives, says so, and comes back."""

import contextlib
import fcntl
import os
import pathlib
import re
import signal
import socket
import ssl
import subprocess
import threading
import time

import httpx
import pytest
from support import parts
from support.gateway import BINARY, Gateway
from support.process import free_port, wait_for_port
from test_tls import Sink, client_context, connect, echo, pairs, raw_route

BUFFER = 64 << 10


class Logging(Gateway):
    """A gateway whose log goes where the test says."""

    def __init__(self, folder, config, out):
        self.folder, self.port, self.admin = folder, free_port(), free_port()
        self.path = folder / "staunch.toml"
        (folder / "stored.key").touch(mode=0o600)
        (folder / "stored.key").write_text("canary\n")
        self.write(config)
        command = [BINARY, "serve", "--config", str(self.path), "--log-format", "json"]
        # Standard error stands where standard output does, as with `serve >log 2>&1`.
        self.popen = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT)
        wait_for_port(self.admin, self.popen)
        parts.until(lambda: self.get("/readyz") == 200)

    def value(self, name) -> float:
        found = re.search(rf"^{re.escape(name)} (\S+)$", self.metrics(), re.M)
        return float(found[1])


class Disk:
    """A disk of one mebibyte."""

    def __init__(self, folder):
        self.folder = folder / "disk"
        self.folder.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "staunch", self.folder], check=True)
        self.ballast, self.log = self.folder / "ballast", self.folder / "log"
        self.out = open(self.log, "wb")

    def fill(self):
        with contextlib.suppress(OSError), open(self.ballast, "wb", buffering=0) as file:
            while True:
                file.write(b"x" * 4096)

    def recover(self):
        self.ballast.unlink()

    def read(self) -> str:
        return self.log.read_text()

    def close(self):
        self.out.close()
        subprocess.run(["umount", "-l", self.folder], check=True)


class Pipe:
    """A pipe of the smallest size, whose reader stops."""

    def __init__(self, folder):
        self.reader, writer = os.pipe()
        fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
        self.out = os.fdopen(writer, "wb")
        self.text, self.going, self.end = bytearray(), threading.Event(), False
        self.going.set()
        self.thread = threading.Thread(target=self.drain, daemon=True)
        self.thread.start()

    def drain(self):
        while not self.end:
            self.going.wait()
            piece = os.read(self.reader, 4096)
            self.text += piece
            if not piece:
                return

    def fill(self):
        self.going.clear()

    def recover(self):
        self.going.set()

    def read(self) -> str:
        return self.text.decode()

    def close(self):
        self.end = True
        self.going.set()
        self.out.close()
        self.thread.join(5)


@pytest.fixture
def logging(world, pairs, tmp_path):
    """Starts gateways with an HTTP route and a raw one that echoes."""
    started = []

    def begin(kind, **log):
        place = kind(tmp_path)
        raw = raw_route(world, Sink(world, echo).port)
        config = world.config(world.route("app", world.hypercorn_port), raw)
        del raw["inject"]
        gateway = Logging(tmp_path, config | {"log": {"buffer": f"{BUFFER >> 10}KiB"} | log}, place.out)
        started.append((gateway, place))
        return gateway, place

    yield begin
    for gateway, place in started:
        place.recover() if not isinstance(place, Disk) or place.ballast.exists() else None
        if gateway.popen.poll() is None:
            gateway.popen.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                gateway.popen.wait(10)
            gateway.popen.kill()
        place.close()


def ask(world, gateway, path="/look", token=None, count=1):
    """HTTP/1.1 requests on one connection; the statuses that come back."""
    context = ssl.create_default_context(cafile=world.ca)
    tcp = socket.create_connection(("127.0.0.1", gateway.port), 10)
    field = f"Authorization: Bearer {token}\r\n" if token else ""
    with context.wrap_socket(tcp, server_hostname="app.gw.test") as tls:
        statuses, file = [], tls.makefile("rb")
        for _ in range(count):
            tls.sendall(f"GET {path} HTTP/1.1\r\nHost: app.gw.test\r\n{field}\r\n".encode())
            status = file.readline()
            if not status:
                break
            statuses.append(int(status.split()[1]))
            length = 0
            while (line := file.readline().strip().lower()) != b"":
                if line.startswith(b"content-length:"):
                    length = int(line.split(b":")[1])
            file.read(length)
        return statuses


def fill_up(world, gateway, token):
    """Permitted requests until one is refused for want of room; how many were served."""
    served = 0
    for _ in range(100):
        for status in ask(world, gateway, "/look?x" + "/x" * 10, token, 20):
            if status == 503:
                return served
            assert status == 200
            served += 1
    raise AssertionError("it never refuses")


@pytest.mark.parametrize("kind", [Disk, Pipe])
def test_a_log_that_takes_nothing_stops_new_work_and_nothing_else(world, pairs, logging, kind):
    gateway, place = logging(kind)
    token = world.issuer.token()
    with connect(gateway, client_context(world, pairs["ann"])) as living:
        living.sendall(b"before")
        assert living.recv(100) == b"before"
        place.fill()
        assert fill_up(world, gateway, token) > 10
        # What was permitted lives; workers, timers and the operator's listener wait for nothing.
        living.sendall(b"still")
        assert living.recv(100) == b"still"
        assert gateway.get("/healthz") == 200
        parts.until(lambda: gateway.get("/readyz") == 503)
        parts.until(lambda: gateway.value("staunch_log_failing") == 1)
        assert gateway.value("staunch_log_waiting_bytes") >= BUFFER
        counter = "staunch_log_errors_total" if kind is Disk else "staunch_log_stalls_total"
        assert gateway.value(counter) >= 1
        # Those who are not permitted are answered, and their lines counted.
        assert ask(world, gateway, token="nobody") == [401]
        parts.until(lambda: gateway.value('staunch_log_dropped_lines_total{kind="unpermitted"}') >= 1)
        place.recover()
        parts.until(lambda: gateway.get("/readyz") == 200)
        assert ask(world, gateway, token=token) == [200]
        living.sendall(b"after")
        assert living.recv(100) == b"after"
    parts.until(lambda: '"event":"lines dropped"' in place.read())
    assert gateway.value('staunch_log_dropped_lines_total{kind="evidence"}') == 0
    served = gateway.value('staunch_requests_total{status="2xx",route="app"}')
    parts.until(lambda: place.read().count('"verdict":"permitted"') == served)
    assert "panicked" not in place.read()


@pytest.mark.parametrize("kind", [Disk, Pipe])
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_signals_are_heeded_while_the_log_takes_nothing(world, logging, kind, how):
    gateway, place = logging(kind)
    place.fill()
    fill_up(world, gateway, world.issuer.token())
    parts.until(lambda: gateway.get("/readyz") == 503)
    began = time.monotonic()
    gateway.popen.send_signal(how)
    assert gateway.popen.wait(30) == 0
    assert time.monotonic() - began < 5, "the log holds up the end"


@pytest.mark.parametrize("kind", [Disk, Pipe])
def test_live_sessions_end_when_the_reserve_is_used_up_too(world, pairs, logging, kind):
    gateway, place = logging(kind, buffer="16KiB")
    context = client_context(world, pairs["ann"])
    with connect(gateway, context) as living, contextlib.ExitStack() as crowd:
        others = [crowd.enter_context(connect(gateway, context)) for _ in range(60)]
        for one in [living, *others]:
            one.sendall(b"x")
            assert one.recv(1) == b"x"
        place.fill()
        fill_up(world, gateway, world.issuer.token())
        living.sendall(b"y")
        assert living.recv(1) == b"y"
        # Their closing lines go into the reserve.
        for one in others:
            one.close()
        living.settimeout(5)
        with contextlib.suppress(OSError):
            assert living.recv(1) == b"", "it lives on without evidence"
        assert gateway.get("/healthz") == 200
        place.recover()
        parts.until(lambda: gateway.get("/readyz") == 200)

    def served():
        with contextlib.suppress(OSError), connect(gateway, context) as again:
            again.sendall(b"z")
            return again.recv(1) == b"z"

    parts.until(served)
    parts.until(lambda: '"reason":"log_full","culprit":"gateway"' in place.read())
    assert gateway.value('staunch_log_dropped_lines_total{kind="evidence"}') == 0


@pytest.mark.parametrize("kind", [Disk, Pipe])
def test_service_goes_before_evidence_where_the_configuration_says_so(world, pairs, logging, kind):
    gateway, place = logging(kind, buffer="16KiB", when_full="drop")
    token, dropped = world.issuer.token(), 'staunch_log_dropped_lines_total{kind="evidence"}'
    with connect(gateway, client_context(world, pairs["ann"])) as living:
        living.sendall(b"x")
        assert living.recv(1) == b"x"
        place.fill()
        for _ in range(30):
            assert ask(world, gateway, "/look?x" + "/x" * 10, token, 20) == [200] * 20
            if gateway.value(dropped) > 0:
                break
        lost = gateway.value(dropped)
        assert lost > 0
        parts.until(lambda: gateway.get("/readyz") == 503)
        living.sendall(b"y")
        assert living.recv(1) == b"y"
        place.recover()
        parts.until(lambda: gateway.get("/readyz") == 200)
    parts.until(lambda: '"event":"lines dropped"' in place.read())
    said = re.search(r'"event":"lines dropped","unpermitted":0,"diagnostics":\d+,"evidence":(\d+)', place.read())
    assert int(said[1]) == gateway.value(dropped) >= lost


def h2_flood(world, gateway, requests):
    """One connection, a long `:path` in the HPACK table, each further request 13 bytes. Bytes that were sent."""
    context = ssl.create_default_context(cafile=world.ca)
    context.set_alpn_protocols(["h2"])
    frame = lambda kind, flags, stream, body: (
        len(body).to_bytes(3) + bytes([kind, flags]) + stream.to_bytes(4) + body
    )
    path = b"/" + b'"' * 3000
    name = b"app.gw.test"
    first = b"\x82\x87\x41" + bytes([len(name)]) + name + b"\x44\x7f" + _integer(len(path) - 127) + path
    sent = 0
    with context.wrap_socket(socket.create_connection(("127.0.0.1", gateway.port), 10), server_hostname="app.gw.test") as tls:
        tls.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, b"") + frame(1, 5, 1, first))
        threading.Thread(target=_read_all, args=(tls,), daemon=True).start()
        stream = 3
        with contextlib.suppress(OSError):
            while stream < 2 * requests:
                batch = b"".join(frame(1, 5, stream + 2 * n, b"\x82\x87\xbe\xbf") for n in range(50))
                tls.sendall(batch)
                sent += len(batch)
                stream += 100
                time.sleep(0.002)
        time.sleep(0.3)
    return sent


def _integer(n):
    """The rest of an HPACK integer (RFC 7541 section 5.1)."""
    out = bytearray()
    while n >= 128:
        out.append(n % 128 + 128)
        n //= 128
    return bytes(out) + bytes([n])


def _read_all(tls):
    with contextlib.suppress(OSError):
        while tls.recv(1 << 16):
            pass


def test_nobody_without_a_permit_fills_the_disk_of_the_log(world, pairs, start):
    gateway = start(world.config(world.route("app", world.hypercorn_port), {k: v for k, v in raw_route(world, 1).items() if k != "inject"}))
    log = pathlib.Path(gateway.process.log)
    size = lambda: (time.sleep(0.2), log.stat().st_size)[1]

    def handshakes():
        """A name without a route, no certificate, no TLS at all, half a hello."""
        sent = 0
        for n in range(300):
            hello = [b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00", b"\0\0\0\x08\x04\xd2\x16\x2f"][n % 3]
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", gateway.port), 5) as tcp:
                tcp.sendall(hello)
                tcp.shutdown(socket.SHUT_WR)
                tcp.recv(100)
            sent += len(hello)
        return sent

    before = size()
    sent = h2_flood(world, gateway, 20_000)
    flooded = size() - before
    assert flooded < 100_000, f"{flooded} bytes of log for {sent} bytes"
    before = size()
    handshakes()
    shaken = size() - before
    assert shaken < 30_000, f"{shaken} bytes of log for 300 connections"
    # Whoever is permitted has all lines, also from the same address.
    for _ in range(20):
        assert ask(world, gateway, token=world.issuer.token()) == [200]
    lines = gateway.lines()
    permitted = [line["session"] for line in lines if line.get("verdict") == "permitted"]
    assert len(permitted) == 20
    for session in permitted:
        events = [line["event"] for line in lines if line.get("session") == session]
        assert [event for event in events if event in ("session opened", "request", "session closed")] == [
            "session opened", "request", "session closed",
        ]  # fmt: skip
    left_out = gateway.line("lines left out", remote="127.0.0.1")
    assert left_out["lines"] > 0
    print(f"flood: {flooded} bytes of log for {sent} bytes; {shaken} for 300 broken handshakes")
