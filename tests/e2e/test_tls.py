"""TLS as OpenSSL speaks it, on both legs; raw routes with client certificates."""

import asyncio
import hashlib
import os
import random
import re
import socket
import ssl
import subprocess
import threading
import time

import pytest
from support import parts
from support.process import ends, free_port, run


@pytest.fixture(scope="module")
def pairs(world):
    """Client certificates: permitted, unknown to the policy, revoked."""
    return {
        "ann": world.authority.leaf("ann", ["ann.clients.test"]),
        "eve": world.authority.leaf("eve", ["eve.clients.test"]),
        "gone": world.authority.leaf("gone", ["ann.clients.test"]),
    }


def raw_route(world, port, **more):
    return world.route(
        "raw",
        port,
        protocol="raw",
        client_certificates="required",
        client_ca=world.ca,
        certificate_identity={"name": "machines", "subject": ["dns"]},
        allow=[{"issuer": "machines", "subjects": ["ann.clients.test"]}],
        **more,
    )


def raw_config(world, route):
    config = world.config(route)
    del config["issuer"], config["secrets"]
    del route["inject"]
    return config


class Sink(threading.Thread):
    """A TLS upstream that runs a function for each connection."""

    def __init__(self, world, serve, minimum=ssl.TLSVersion.TLSv1_3, maximum=ssl.TLSVersion.TLSv1_3, ciphers=None):
        super().__init__(daemon=True)
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version, self.context.maximum_version = minimum, maximum
        self.context.load_cert_chain(*world.upstream_pair)
        if ciphers:
            self.context.set_ciphers(ciphers)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port, self.serve, self.served = self.listener.getsockname()[1], serve, 0
        self.start()

    def run(self):
        while True:
            try:
                plain, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.one, args=(plain,), daemon=True).start()

    def one(self, plain):
        try:
            with self.context.wrap_socket(plain, server_side=True) as secure:
                self.served += 1
                self.serve(secure)
        except OSError:
            pass


def echo(connection):
    while data := connection.recv(65536):
        connection.sendall(data)
    connection.unwrap()


def client_context(world, pair=None, **limits):
    context = ssl.create_default_context(cafile=world.ca)
    for name, value in limits.items():
        setattr(context, name, value)
    if pair:
        context.load_cert_chain(*pair)
    return context


def connect(gateway, context, name="raw.gw.test"):
    # An end without close_notify must be an error here, not an end.
    plain = socket.create_connection(("127.0.0.1", gateway.port), 20)
    return context.wrap_socket(plain, server_hostname=name, suppress_ragged_eofs=False)


def exchange(gateway, context, data, steps, name="raw.gw.test"):
    """Sends DATA in pieces of the lengths that STEPS gives, while it reads as much; returns what came back."""

    async def both():
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", gateway.port, ssl=context, server_hostname=name, limit=1 << 20
        )

        async def send():
            at = 0
            while at < len(data):
                step = steps()
                writer.write(data[at : at + step])
                await writer.drain()
                at += step

        sender = asyncio.create_task(send())
        got = await reader.readexactly(len(data))
        await sender
        writer.close()
        return got

    return asyncio.run(asyncio.wait_for(both(), 30))


def s_client(gateway, world, *arguments, name="raw.gw.test", text=b"hello\n", wait=1.0):
    """OpenSSL's client: sends TEXT, waits, closes; returns all that it printed."""
    command = [
        "openssl", "s_client", "-connect", f"127.0.0.1:{gateway.port}", "-servername", name, "-CAfile", world.ca,
        "-verify_return_error", *arguments,
    ]  # fmt: skip
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    for piece in text if isinstance(text, list) else [text]:
        try:
            process.stdin.write(piece)
            process.stdin.flush()
        except BrokenPipeError:
            break
        time.sleep(wait)
    out, _ = process.communicate(timeout=20)
    return out.decode(errors="replace")


AEADS = ["ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-ECDSA-CHACHA20-POLY1305"]
SUITES = ["TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"]


def cert(pair):
    return ["-cert", pair[0], "-key", pair[1]]


def test_each_suite_of_each_version_carries_data(world, start, pairs):
    gateway = start(raw_config(world, raw_route(world, Sink(world, echo).port)))
    for cipher in AEADS:
        out = s_client(gateway, world, "-tls1_2", "-cipher", cipher, *cert(pairs["ann"]), text=b"via12\n", wait=0.4)
        assert out.count("via12") >= 1 and cipher in out, out
    for suite in SUITES:
        out = s_client(gateway, world, "-tls1_3", "-ciphersuites", suite, *cert(pairs["ann"]), text=b"via13\n", wait=0.4)
        assert out.count("via13") >= 1 and suite in out, out

    def suites():
        return {line["client_cipher"] for line in gateway.lines() if line["event"] == "session closed"}

    # The last session closes when the client has gone.
    parts.until(lambda: len(suites()) == 6)
    assert set(SUITES) <= suites(), suites()


@pytest.mark.parametrize("cipher", AEADS)
def test_an_upstream_of_tls12_is_relayed_to_both_versions(world, start, pairs, cipher):
    old = ssl.TLSVersion.TLSv1_2
    gateway = start(raw_config(world, raw_route(world, Sink(world, echo, old, old, cipher).port)))
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        context = client_context(world, pairs["ann"], maximum_version=version, minimum_version=version)
        data = os.urandom(300_000)
        assert exchange(gateway, context, data, lambda: 50_000) == data


def test_openssl_renews_keys_both_ways_in_mid_stream(world, start, pairs):
    gateway = start(raw_config(world, raw_route(world, Sink(world, echo).port)))
    text = [b"before\n", b"k\n", b"between\n", b"K\n", b"after\n"]
    out = s_client(gateway, world, "-tls1_3", *cert(pairs["ann"]), text=text, wait=0.4)
    assert out.count("KEYUPDATE") == 2, out
    assert all(word in out for word in ("before", "between", "after")), out


def test_client_certificates_decide(world, start, pairs):
    sink = Sink(world, echo)
    crl = world.authority.revoke(["gone"])
    gateway = start(raw_config(world, raw_route(world, sink.port, client_crl=crl)))
    with connect(gateway, client_context(world, pairs["ann"])) as connection:
        connection.sendall(b"x")
        assert connection.recv(1) == b"x"
    for who, alert in (("eve", "ACCESS_DENIED"), ("gone", "CERTIFICATE_REVOKED"), (None, "CERTIFICATE_REQUIRED")):
        with pytest.raises(ssl.SSLError) as error:
            with connect(gateway, client_context(world, who and pairs[who])) as connection:
                connection.sendall(b"x")
                connection.recv(1)
        assert alert in str(error.value), who
    assert sink.served == 1, "somebody else reached the upstream"


def test_a_certificate_is_an_identity_on_http_too(world, start, pairs):
    route = world.route(
        "opt",
        world.hypercorn_port,
        client_certificates="optional",
        client_ca=world.ca,
        certificate_identity={"name": "machines", "subject": ["dns"], "groups": [{"dns": "*.clients.test", "groups": ["m"]}]},
        allow=[{"issuer": "machines", "groups": ["m"]}, {"issuer": "corp", "groups": ["agents"]}],
    )
    gateway = start(world.config(route))
    base = ["curl", "-sS", "--cacert", world.ca, "--connect-to", f"opt.gw.test:443:127.0.0.1:{gateway.port}", "-o", "/dev/null", "-w", "%{http_code}"]
    with_certificate = run([*base, "--cert", pairs["ann"][0], "--key", pairs["ann"][1], "https://opt.gw.test/look"])
    with_token = run([*base, "-H", f"Authorization: Bearer {world.issuer.token()}", "https://opt.gw.test/look"])
    without = run([*base, "https://opt.gw.test/look"])
    assert (with_certificate.stdout, with_token.stdout, without.stdout) == (b"200", b"200", b"401")
    assert gateway.line("request", proof="certificate")["subject"] == "ann.clients.test"


def test_what_is_not_tls12_or_later_for_a_known_name_is_refused(world, start, pairs):
    gateway = start(raw_config(world, raw_route(world, Sink(world, echo).port)))
    out = s_client(gateway, world, "-tls1_1", "-cipher", "ALL:@SECLEVEL=0", wait=0.2)
    assert "alert protocol version" in out.lower() or "alert number 70" in out, out
    out = s_client(gateway, world, name="unknown.gw.test", wait=0.2)
    assert "unrecognized name" in out, out
    with socket.create_connection(("127.0.0.1", gateway.port), 5) as plain:
        plain.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        answer = plain.recv(4096)
        assert answer.startswith(b"HTTP/1.1 400 ") and b"TLS 1.2" in answer
    for garbage in (b"SSH-2.0-x\r\n", b"\x00\x00\x00\x08\x04\xd2\x16\x2f", b"\x01" + os.urandom(100)):
        with socket.create_connection(("127.0.0.1", gateway.port), 15) as plain:
            plain.sendall(garbage)
            assert plain.recv(4096) == b""
    kinds = {line.get("reason_detail") for line in gateway.lines() if line.get("reason") == "not_tls"}
    assert {"http", "ssh", "postgres"} <= kinds


def test_an_application_protocol_nobody_shares_is_refused(world, start):
    gateway = start(world.config(world.route("api", world.nginx_port)))
    out = s_client(gateway, world, "-alpn", "imap", name="api.gw.test", wait=0.2)
    assert "no application protocol" in out, out


def test_random_cuts_down_to_one_byte_arrive_equal(world, start, pairs):
    gateway = start(raw_config(world, raw_route(world, Sink(world, echo).port)))
    for seed in range(30):
        dice = random.Random(seed)
        data = dice.randbytes(dice.randrange(1, 60_000))
        steps = lambda dice=dice: dice.choice([1, 1, 2, 7, 100, 5_000, 40_000])
        got = exchange(gateway, client_context(world, pairs["ann"]), data, steps)
        assert hashlib.sha256(got).digest() == hashlib.sha256(data).digest(), f"seed {seed}"


def test_half_open_connections_are_gone_at_the_deadline_and_good_ones_are_served(world, start, pairs):
    route = raw_route(world, Sink(world, echo).port)
    limits = {"permit_deadline": "3s", "half_open_per_address": 0, "connections_per_address": 0}
    gateway = start(raw_config(world, route) | {"limits": limits})
    hello = bytes.fromhex("1603010200010001fc0303")
    before, count = gateway.rss(), 5_000
    idle = [socket.create_connection(("127.0.0.1", gateway.port), 5) for _ in range(count)]
    for n, half in enumerate(idle):
        half.sendall([b"", hello, b"\x16"][n % 3])
    began = time.monotonic()
    parts.until(lambda: _sessions(gateway) >= count)
    assert gateway.rss() - before < count * 24 * 1024
    with connect(gateway, client_context(world, pairs["ann"])) as connection:
        connection.sendall(b"x")
        assert connection.recv(1) == b"x"
    for half in idle:
        half.settimeout(max(0.1, 6 - (time.monotonic() - began)))
        # An alert may come first; then the end.
        while half.recv(100):
            pass
    assert time.monotonic() - began < 6


def test_the_limit_per_address_keeps_others_out_and_recovers(world, start, pairs):
    config = raw_config(world, raw_route(world, Sink(world, echo).port))
    gateway = start(config | {"limits": {"connections_per_address": 3}})
    held = [connect(gateway, client_context(world, pairs["ann"])) for _ in range(3)]
    assert refused(gateway, client_context(world, pairs["ann"]))
    held.pop().close()
    parts.until(lambda: _works(gateway, world, pairs))
    for connection in held:
        connection.close()
    assert "staunch_limits_total" in gateway.metrics()


def _sessions(gateway) -> int:
    return sum(int(n) for n in re.findall(r"^staunch_sessions\{.*\} (\d+)$", gateway.metrics(), re.M))


def refused(gateway, context) -> bool:
    """True if the gateway ends the connection, at its handshake or behind it."""
    try:
        connection = connect(gateway, context)
    except TimeoutError:
        raise AssertionError("the connection stays open and silent") from None
    except OSError:
        return True
    return ends(connection)


def _works(gateway, world, pairs):
    try:
        with connect(gateway, client_context(world, pairs["ann"])) as connection:
            connection.sendall(b"x")
            return connection.recv(1) == b"x"
    except OSError:
        return False


def test_the_proxy_protocol_tells_the_client_from_trusted_networks_only(world, start, pairs):
    route = raw_route(world, Sink(world, echo).port)
    config = raw_config(world, route)
    gateway = start(config)
    config = raw_config(world, raw_route(world, route["upstream"]["address"].rsplit(":", 1)[1]))
    config["listener"] = [{"address": "", "proxy_protocol_from": ["127.0.0.0/8"]}]
    port = free_port()
    config["listener"][0]["address"] = f"127.0.0.1:{port}"
    behind = start(config)
    behind.port = port
    v1 = b"PROXY TCP4 192.0.2.7 192.0.2.1 4242 443\r\n"
    v2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c" + bytes([192, 0, 2, 8, 192, 0, 2, 1]) + b"\x10\x92\x01\xbb"
    for header, address in ((v1, "192.0.2.7:4242"), (v2, "192.0.2.8:4242")):
        plain = socket.create_connection(("127.0.0.1", port), 10)
        plain.sendall(header)
        with client_context(world, pairs["ann"]).wrap_socket(plain, server_hostname="raw.gw.test") as connection:
            connection.sendall(b"x")
            assert connection.recv(1) == b"x"
        behind.line("session closed", remote=address)
    # Without the header, and where nobody asked for one, it is refused.
    assert refused(behind, client_context(world, pairs["ann"]))
    with socket.create_connection(("127.0.0.1", gateway.port), 10) as plain:
        plain.sendall(v1)
        assert plain.recv(10) == b""


def test_key_updates_without_data_are_put_up_with_32_times(world, start, pairs):
    gateway = start(raw_config(world, raw_route(world, Sink(world, echo).port)))
    out = s_client(gateway, world, "-tls1_3", *cert(pairs["ann"]), text=[b"hello\n"] + [b"k\n"] * 40, wait=0.02)
    assert out.count("KEYUPDATE") > 32
    closed = gateway.line("session closed", reason="record")
    assert closed["culprit"] == "client" and "key updates" in closed["detail"]


def test_upstream_sessions_are_resumed_with_tickets_that_came_after_the_hand_over(world, start, pairs):
    gateway = start(raw_config(world, raw_route(world, Sink(world, echo).port)))
    for _ in range(4):
        assert exchange(gateway, client_context(world, pairs["ann"]), b"x" * 1000, lambda: 1000) == b"x" * 1000
    lines = parts.until(lambda: (c := [x for x in gateway.lines() if x["event"] == "session closed"])[3:] and c)
    assert [line["upstream_resumed"] for line in lines] == [False, True, True, True]


def test_a_route_that_requires_post_quantum_refuses_who_cannot(world, start, pairs):
    gateway = start(raw_config(world, raw_route(world, Sink(world, echo).port, pq="require")))
    out = s_client(gateway, world, "-tls1_3", "-groups", "X25519", *cert(pairs["ann"]), wait=0.2)
    assert "handshake failure" in out, out
    assert gateway.line("session closed", reason="handshake")["culprit"] == "client"


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_a_ticket_of_one_route_does_not_resume_on_another(world, start, tmp_path, version):
    gateway = start(world.config(world.route("api", world.nginx_port), world.route("app", world.hypercorn_port)))
    ticket = str(tmp_path / "ticket")
    # Without SNI in the session, OpenSSL offers it anywhere; a request makes the gateway send its ticket.
    once = [f"-tls{version.replace('.', '_')}", "-alpn", "http/1.1", "-ign_eof"]
    request = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    visit = lambda name, *more: s_client(gateway, world, *once, *more, name=name, text=request, wait=0.3)
    visit("api.gw.test", "-sess_out", ticket)
    same = visit("api.gw.test", "-sess_in", ticket)
    other = visit("app.gw.test", "-sess_in", ticket)
    assert f"Reused, TLSv{version}" in same and f"New, TLSv{version}" in other, (same, other)


class Server:
    """`openssl s_server`: what it is told on its standard input goes to the client."""

    def __init__(self, world, folder, *arguments):
        chain, key = world.upstream_pair
        command = ["openssl", "s_server", "-accept", "127.0.0.1:0", "-cert", chain, "-key", key, "-msg", *arguments]
        self.log = folder / "s_server.log"
        with open(self.log, "wb") as out:
            self.popen = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=out, stderr=subprocess.STDOUT)
        # It says which port it got.
        found = parts.until(lambda: re.search(r"ACCEPT 127\.0\.0\.1:(\d+)", self.text()))
        self.port = int(found[1])

    def text(self) -> str:
        return self.log.read_text(errors="replace")

    def say(self, text: bytes):
        self.popen.stdin.write(text)
        self.popen.stdin.flush()

    def heard(self, text: str):
        parts.until(lambda: text in self.text())

    def stop(self):
        self.popen.kill()
        self.popen.wait(10)
        self.popen.stdin.close()


@pytest.fixture
def s_server(world, tmp_path):
    servers = []

    def start(*arguments) -> Server:
        servers.append(Server(world, tmp_path, *arguments))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_openssl_as_upstream(world, start, pairs, s_server, version):
    server = s_server(f"-tls{version.replace('.', '_')}")
    gateway = start(raw_config(world, raw_route(world, server.port)))
    with connect(gateway, client_context(world, pairs["ann"])) as connection:
        for n in range(3):
            connection.sendall(b"up %d\n" % n)
            server.heard(f"up {n}")
            server.say(b"down %d\n" % n)
            assert connection.recv(100) == b"down %d\n" % n
        # Q at the start of a line closes the socket without close_notify.
        server.say(b"Q\n")
        with pytest.raises(ssl.SSLEOFError):
            left = connection.recv(100)
            pytest.fail(f"{left!r} instead of an unclean end")
    line = gateway.line("session closed", reason="truncated", culprit="upstream")
    assert line["upstream_version"] == f"TLSv{version}" and line["upstream_verified"] == "chain", line


def test_openssl_as_upstream_renews_keys_both_ways_in_mid_stream(world, start, pairs, s_server):
    server = s_server("-tls1_3")
    gateway = start(raw_config(world, raw_route(world, server.port)))
    updates = lambda direction: len(re.findall(rf"{direction} TLS 1.3, Handshake \[length 0005\], KeyUpdate", server.text()))
    with connect(gateway, client_context(world, pairs["ann"])) as connection:

        def both_ways(word: str):
            connection.sendall(f"up {word}\n".encode())
            server.heard(f"up {word}")
            server.say(f"down {word}\n".encode())
            assert connection.recv(100) == f"down {word}\n".encode()

        both_ways("before")
        # k renews its own key.
        server.say(b"k\n")
        both_ways("between")
        assert (updates(">>>"), updates("<<<")) == (1, 0)
        # K asks for ours, too; the answer goes out under the old key.
        server.say(b"K\n")
        parts.until(lambda: updates("<<<") == 1)
        both_ways("after")
        for n in range(5):
            server.say(b"K\n")
            both_ways(f"again {n}")
        # The last answer to it may be on its way.
        parts.until(lambda: (updates(">>>"), updates("<<<")) == (7, 6))


# What all may have of them unless configured, here.
HALF_OPEN = 2560


def test_ten_thousand_half_open_connections_keep_nobody_else_out(world, start, pairs):
    config = raw_config(world, raw_route(world, Sink(world, echo).port))
    gateway = start(config | {"limits": {"permit_deadline": "5s", "half_open": HALF_OPEN}})
    hello = bytes.fromhex("1603010200010001fc0303")
    began, before, crowd = time.monotonic(), gateway.rss(), []
    for n in range(10_000):
        one = socket.socket()
        one.bind((f"127.0.1.{n % 10 + 1}", 0))
        one.settimeout(5)
        one.connect(("127.0.0.1", gateway.port))
        crowd.append(one)
        try:
            one.sendall([b"", hello, b"\x16"][n % 3])
        except OSError:
            pass
        if n % 500 == 0:
            with connect(gateway, client_context(world, pairs["ann"])) as connection:
                connection.sendall(b"x")
                assert connection.recv(1) == b"x"
    # HALF_OPEN are let in, and nothing is kept of the others.
    grown = gateway.rss() - before
    assert grown < HALF_OPEN * 24 * 1024, f"{grown >> 10} KiB"
    taken = time.monotonic()
    for one in crowd:
        assert ends_somehow(one), "a half-open connection stays"
        one.close()
    assert time.monotonic() - taken < 6 and time.monotonic() - began < 60
    kept_out = re.findall(r'staunch_limits_total\{limit="half_open"\} (\d+)', gateway.metrics())
    assert sum(map(int, kept_out)) >= 10_000 - HALF_OPEN * 2


def ends_somehow(connection) -> bool:
    """Reads whatever comes before the end, which must come within seconds."""
    connection.settimeout(7)
    try:
        while connection.recv(100):
            pass
    except TimeoutError:
        return False
    except OSError:
        pass
    return True
