"""A gateway that is full says so in the client's own protocol, and in the log."""

import asyncio
import contextlib
import re
import socket
import ssl
import struct

import h2.config
import h2.connection
import h2.events
import pymysql
import pytest
import test_mysql
import test_postgres
import test_redis

from support.parts import until
from support.process import sees_in_place_of

# The last tenth of a limit is for those who hear that there is no room: one of ten.
LIMIT = 10


def limited(**more):
    return {"connections": LIMIT} | more


@contextlib.contextmanager
def full(world, gateway, held=LIMIT - 1):
    """As many connections as get in, each permitted."""
    token, connections = world.issuer.token(), []
    for _ in range(held):
        connection = tls(world, gateway, "http/1.1")
        connection.sendall(request(token))
        assert b"200 OK" in connection.recv(4096)
        connections.append(connection)
    yield
    for connection in connections:
        connection.close()


def tls(world, gateway, protocol):
    context = ssl.create_default_context(cafile=world.ca)
    context.set_alpn_protocols([protocol])
    plain = socket.create_connection(("127.0.0.1", gateway.port), 10)
    return context.wrap_socket(plain, server_hostname="api.gw.test")


def request(token):
    return f"GET /hello.txt HTTP/1.1\r\nHost: api.gw.test\r\nAuthorization: Bearer {token}\r\n\r\n".encode()


def everything(connection):
    found = b""
    while piece := connection.recv(4096):
        found += piece
    return found


@pytest.fixture
def gateway(world, start):
    return start(world.config(world.route("api", world.nginx_port), limits=limited()))


def test_http1_is_answered_with_503_and_the_connection_closes(world, gateway):
    with full(world, gateway):
        connection = tls(world, gateway, "http/1.1")
        connection.sendall(request(world.issuer.token()))
        answer = everything(connection).decode().lower()
    assert answer.startswith("http/1.1 503 "), answer
    assert "connection: close\r\n" in answer and "retry-after: " in answer, answer
    assert '"code":"overloaded"' in answer, answer
    line = gateway.line("session closed", reason="limit")
    assert line["detail"] == "no room: limits.connections", line
    # There is room again.
    connection = tls(world, gateway, "http/1.1")
    connection.sendall(request(world.issuer.token()))
    assert b"200 OK" in connection.recv(4096)


def test_http2_is_answered_with_503_and_the_connection_goes_away(world, gateway):
    with full(world, gateway):
        connection = tls(world, gateway, "h2")
        client = h2.connection.H2Connection(h2.config.H2Configuration())
        client.initiate_connection()
        fields = [(":method", "GET"), (":scheme", "https"), (":authority", "api.gw.test"), (":path", "/hello.txt")]
        client.send_headers(1, [*fields, ("authorization", f"Bearer {world.issuer.token()}")], end_stream=True)
        connection.sendall(client.data_to_send())
        events = []
        while data := connection.recv(4096):
            events += client.receive_data(data)
    status = next(dict(e.headers)[b":status"] for e in events if isinstance(e, h2.events.ResponseReceived))
    assert status == b"503", events
    assert any(isinstance(e, h2.events.ConnectionTerminated) and e.error_code == 0 for e in events), events


def test_who_may_not_come_in_hears_nothing_of_limits(world, gateway):
    with full(world, gateway):
        connection = tls(world, gateway, "http/1.1")
        connection.sendall(request("nobody"))
        assert connection.recv(4096).startswith(b"HTTP/1.1 401 ")
        connection.close()


def test_beyond_the_limit_connections_are_closed_at_once_and_the_log_says_so_once_a_second(world, gateway):
    with full(world, gateway), contextlib.ExitStack() as opened:
        # The place for refusals is taken by one who says nothing.
        opened.enter_context(socket.create_connection(("127.0.0.1", gateway.port), 10))
        # All before any answer: on a slow machine the place would become free between them.
        more = []
        for _ in range(50):
            # One may be reset before its connecting is over.
            with contextlib.suppress(ConnectionResetError):
                more.append(opened.enter_context(socket.create_connection(("127.0.0.1", gateway.port), 10)))
        for connection in more:
            with contextlib.suppress(ConnectionResetError):
                assert connection.recv(1) == b""
    assert re.search(r'staunch_limits_total\{limit="connections"\} 51\b', gateway.metrics())
    said = [line for line in gateway.lines() if "a limit is reached" in line.get("message", "")]
    # Each of the two workers once, or twice on a slow machine.
    assert 1 <= len(said) <= 4, said
    assert all((line["limit"], line["level"]) == ("connections", "WARN") for line in said), said


def test_raw_bytes_end_with_an_alert(world, start):
    pair = world.authority.leaf("limits-machine", ["ann.clients.test"])
    raw = world.route("raw", world.nginx_port) | {
        "protocol": "raw", "client_certificates": "required", "client_ca": world.ca,
        "certificate_identity": {"name": "machines", "subject": ["dns"]}, "allow": [{"issuer": "machines"}],
    }  # fmt: skip
    del raw["inject"]
    gateway = start(world.config(world.route("api", world.nginx_port), raw, limits=limited()))
    context = ssl.create_default_context(cafile=world.ca)
    context.load_cert_chain(*pair)
    with full(world, gateway):
        plain = socket.create_connection(("127.0.0.1", gateway.port), 10)
        connection = context.wrap_socket(plain, server_hostname="raw.gw.test")
        with pytest.raises(ssl.SSLError, match="(?i)internal.error"):
            connection.recv(1)
    assert gateway.line("session closed", route="raw")["reason"] == "limit"


def test_postgresql_says_53300(world, start):
    database = test_postgres.Database(world)
    try:
        gateway = start(world.config(world.route("api", world.nginx_port), database.route("scram"), limits=limited()))
        arrivals = database.server.arrivals()
        with full(world, gateway), test_postgres.raw_tls(world, gateway) as secure:
            secure.sendall(test_postgres.startup())
            assert test_postgres.receive(secure)[0] == b"R"
            secure.sendall(test_postgres.message(b"p", world.issuer.token().encode() + b"\0"))
            tag, body = test_postgres.receive(secure)
            said = test_postgres.fields(body)
            assert (tag, said["C"], said["S"]) == (b"E", "53300", "FATAL"), said
            assert "at a limit" in said["M"], said
        assert gateway.line("session closed", route="pg-scram")["reason"] == "limit"
        assert database.server.arrivals() == arrivals, "the upstream was dialled"
        test_postgres.raw_login(world, gateway, world.issuer.token())[0].close()
    finally:
        database.stop()


def test_redis_says_an_error_and_leaves(world, start):
    database = test_redis.Database(world)
    try:
        gateway = start(world.config(world.route("api", world.nginx_port), database.route("svc"), limits=limited()))
        with full(world, gateway):
            wire = test_redis.Wire(world, gateway.port)
            token = world.issuer.token().encode()
            wire.say(b"*2\r\n$4\r\nAUTH\r\n$%d\r\n%s\r\n" % (len(token), token))
            assert wire.line() == b"-ERR the gateway is at a limit; try again\r\n"
            assert wire.tls.recv(1) == b""
        assert gateway.line("session closed", route="redis-svc")["reason"] == "limit"
    finally:
        database.stop()


def test_mysql_says_1040(world, start):
    database = test_mysql.Database(world)
    try:
        gateway = start(database.config(limits=limited()))

        held = [test_mysql.connect(gateway, world) for _ in range(LIMIT - 1)]
        with pytest.raises(pymysql.err.OperationalError) as refused:
            test_mysql.connect(gateway, world)
        assert refused.value.args[0] == 1040, refused.value
        assert "at a limit" in refused.value.args[1], refused.value
        held.pop().close()
        gateway.line("session closed", reason="done")
        test_mysql.connect(gateway, world).close()
        for connection in held:
            connection.close()
    finally:
        database.server.stop()



def send_half_a_hello(port, address):
    """A connection from a loopback address that never gets further."""
    half = socket.socket()
    half.bind((address, 0))
    half.settimeout(5)
    half.connect(("127.0.0.1", port))
    half.sendall(bytes.fromhex("1603010200010001fc0303"))
    return half


def closed(metrics, reason):
    return sum(map(int, re.findall(rf'staunch_sessions_closed_total\{{.*reason="{reason}".*\}} (\d+)', metrics)))


def test_half_open_connections_of_forty_addresses_keep_nobody_out(world, start):
    limits = {"connections": 1_000, "permit_deadline": "60s"}
    gateway = start(world.config(world.route("api", world.nginx_port), limits=limits))
    token, held, served = world.issuer.token(), [], 0
    # Each address stays far below its own limit of 256; together they want twice what there is.
    for n in range(2_000):
        with contextlib.suppress(OSError):
            held.append(send_half_a_hello(gateway.port, f"127.0.1.{n % 40 + 1}"))
        if n % 20 == 0:
            connection = tls(world, gateway, "http/1.1")
            connection.sendall(request(token))
            served += connection.recv(4096).startswith(b"HTTP/1.1 200 ")
            connection.close()
    assert served == 100
    metrics = gateway.metrics()
    assert int(re.search(r'staunch_limits_total\{limit="half_open"\} (\d+)', metrics)[1]) > 0
    assert closed(metrics, "evicted") > 0
    assert gateway.line("session closed", reason="evicted")["culprit"] == "gateway"
    assert re.search(r'staunch_limits_total\{limit="connections"\} 0\b', metrics)
    for half in held:
        half.close()


def test_six_hundred_clients_of_one_address_at_once_are_all_served(world, start):
    gateway = start(world.config(world.route("api", world.nginx_port)))
    token = world.issuer.token()
    context = ssl.create_default_context(cafile=world.ca)

    async def one():
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port, ssl=context, server_hostname="api.gw.test", ssl_handshake_timeout=30)  # fmt: skip
        writer.write(request(token))
        status = await reader.readline()
        writer.close()
        return status

    async def all_of_them():
        return await asyncio.gather(*(one() for _ in range(600)), return_exceptions=True)

    answers = asyncio.run(all_of_them())
    assert answers == [b"HTTP/1.1 200 OK\r\n"] * 600, {str(answer) for answer in answers}
    assert closed(gateway.metrics(), "deadline") == 0


def test_connections_that_wait_behind_silent_ones_of_their_address_are_served(world, start):
    limits = {"half_open_per_address": 5, "permit_deadline": "4s"}
    gateway = start(world.config(world.route("api", world.nginx_port), limits=limits))
    with contextlib.ExitStack() as opened:
        silent = [opened.enter_context(socket.create_connection(("127.0.0.1", gateway.port))) for _ in range(5)]
        # Another worker may accept what comes next before them.
        until(lambda: "staunch_sessions_opened_total 5\n" in gateway.metrics())
        plain = socket.create_connection(("127.0.0.1", gateway.port), 10)
        # It is not its turn before one of the others leaves.
        plain.settimeout(0.5)
        context = ssl.create_default_context(cafile=world.ca)
        context.set_alpn_protocols(["http/1.1"])
        with pytest.raises(TimeoutError):
            context.wrap_socket(plain, server_hostname="api.gw.test")
        silent[0].close()
        served = tls(world, gateway, "http/1.1")
        served.sendall(request(world.issuer.token()))
        assert b"200 OK" in served.recv(4096)
        assert re.search(r'staunch_limits_total\{limit="half_open_queued"\} [12]\b', gateway.metrics())


def proxied(gateway, client, options=b""):
    """A connection whose balancer tells this client, with a header of version 2."""
    addresses = socket.inet_aton(client) + socket.inet_aton("192.0.2.9") + struct.pack(">HH", 4711, 443)
    length = struct.pack(">H", len(addresses) + len(options))
    plain = socket.create_connection(("127.0.0.1", gateway.port), 10)
    plain.sendall(b"\r\n\r\n\0\r\nQUIT\n\x21\x11" + length + addresses + options)
    return plain


def test_behind_a_balancer_each_client_has_its_own_limits(world, start):
    config = world.config(world.route("api", world.nginx_port), limits={"connections_per_address": 3})
    config["proxy_protocol_from"] = ["127.0.0.1/32"]
    gateway = start(config)
    context = ssl.create_default_context(cafile=world.ca)
    enter = lambda client: context.wrap_socket(proxied(gateway, client), server_hostname="api.gw.test")
    held = [enter("192.0.2.1") for _ in range(3)]
    with pytest.raises(OSError):
        enter("192.0.2.1")
    line = gateway.line("session closed", reason="limit")
    assert (line["detail"], line["remote"]) == ("no room: limits.connections_per_address", "192.0.2.1:4711"), line
    others = [enter(f"192.0.2.{n}") for n in range(2, 10)]
    held.pop().close()
    gateway.line("session closed", remote="192.0.2.1:4711", route="api")
    enter("192.0.2.1").close()
    for connection in held + others:
        connection.close()


def test_a_proxy_header_with_an_option_of_a_wrong_length_is_refused(world, start):
    config = world.config(world.route("api", world.nginx_port))
    config["proxy_protocol_from"] = ["127.0.0.1/32"]
    gateway = start(config)
    for wrong in [b"\x04", b"\x04\0\x09\0", b"\x01\0\x02h2\x04\xff\xff"]:
        with proxied(gateway, "192.0.2.1", wrong) as plain, contextlib.suppress(ConnectionResetError):
            assert plain.recv(1) == b""
    assert re.search(r'staunch_limits_total\{limit="proxy_protocol"\} 3\b', gateway.metrics())
    assert gateway.line("session closed", reason="protocol")["culprit"] == "client"


def use_memory(folder, limit: int, used: int, reclaimable: int):
    """What both versions of control groups say of a group's memory."""
    for place, files in [
        (folder, {"memory.max": limit, "memory.current": used, "memory.stat": f"anon 1\ninactive_file {reclaimable}"}),
        (
            folder / "memory",
            {"memory.limit_in_bytes": limit, "memory.usage_in_bytes": used, "memory.stat": f"total_inactive_file {reclaimable}"},
        ),
    ]:
        place.mkdir(exist_ok=True)
        for name, content in files.items():
            # Put in place whole: the gateway reads at any moment.
            (folder / ".new").write_text(f"{content}\n")
            (folder / ".new").rename(place / name)


def test_the_memory_of_the_control_group_is_told_and_new_work_refused_before_it_is_used_up(world, start, tmp_path):
    group = tmp_path / "group"
    use_memory(group, 1 << 30, 300 << 20, 100 << 20)
    gateway = start(world.config(world.route("api", world.nginx_port)), preexec_fn=sees_in_place_of("/sys/fs/cgroup", group))

    def told(name: str) -> int:
        return int(float(re.search(rf"^{name} (\S+)$", gateway.metrics(), re.M)[1]))

    assert told("staunch_memory_limit_bytes") == 1 << 30 and told("staunch_memory_used_bytes") == 200 << 20
    # What the kernel takes back at once is not used.
    use_memory(group, 1 << 30, 1000 << 20, 500 << 20)
    assert told("staunch_memory_used_bytes") == 500 << 20 and gateway.get("/readyz") == 200
    use_memory(group, 1 << 30, 1000 << 20, 10 << 20)
    assert told("staunch_memory_used_bytes") == 990 << 20
    until(lambda: gateway.get("/readyz") == 503)

    def refused() -> int:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", gateway.port), 5):
            pass
        return int(re.search(r'^staunch_limits_total\{limit="memory"\} (\d+)$', gateway.metrics(), re.M)[1])

    until(refused)
    use_memory(group, 1 << 30, 300 << 20, 100 << 20)
    until(lambda: gateway.get("/readyz") == 200)
