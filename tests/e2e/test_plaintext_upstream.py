"""Upstreams without TLS: real servers on loopback and on Unix sockets, reached only where it is said twice."""

import contextlib
import hashlib
import os
import select
import signal
import ssl
import threading
import time

import grpc
import httpx
import openai
import psycopg
import pymysql
import pytest
import test_mysql
import websockets.sync.client
from support import parts, plaintext
from support.gateway import KEY, staunch
from support.login import Home
from support.process import free_port
from test_http1 import curl
from test_http2 import Grpc
from test_postgres import connect, psql
from test_redis import Wire, cli, command

NONE = "none (unsafe_plaintext_upstream)"
LARGE_MIB = 100


def clear(world, name, address, **more):
    """A route to an upstream without TLS."""
    return world.route(name, 0, upstream=address, unsafe_plaintext_upstream=True, **more)


def says_so(gateway, session=None, **wanted):
    """Both lines of a session say that its upstream leg has no encryption, and its client leg has it."""
    closed = gateway.line("session closed", **wanted) if session is None else gateway.line("session closed", session=session)
    opened = gateway.line("session opened", session=closed["session"])
    assert opened["upstream_version"] == closed["upstream_version"] == NONE, (opened, closed)
    assert (closed["upstream_cipher"], closed["upstream_verified"]) == ("none", "not_at_all"), closed
    assert closed["client_version"] == "TLSv1.3" and closed["client_cipher"].startswith("TLS_"), closed
    return closed


# --- gRPC -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def host(tmp_path):
    process, port = plaintext.grpc_host(tmp_path)
    yield port
    process.stop()


def test_a_grpc_host_with_an_insecure_port_is_used_over_tls_and_by_token(world, start, host):
    gateway = start(world.config(clear(world, "grpc", f"tcp://127.0.0.1:{host}", alpn="h2")))
    warning = f"nothing encrypts or verifies the way to tcp://127.0.0.1:{host} (unsafe_plaintext_upstream)"
    assert any(line.get("text") == warning and line["level"] == "WARN" for line in gateway.lines())
    with Grpc(gateway, world, world.issuer.token()) as rpc:
        answer, call = rpc.unary.with_call(b"hello", metadata=rpc.metadata, timeout=10)
        assert answer == b"hello|Bearer " + KEY.encode()
        assert dict(call.trailing_metadata())["x-trailer"] == "here"
        assert list(rpc.stream(b"5", metadata=rpc.metadata, timeout=10)) == [b"0", b"1", b"2", b"3", b"4"]
        large = os.urandom(3_000_000)
        assert rpc.unary(large, metadata=rpc.metadata, timeout=20) == large + b"|Bearer " + KEY.encode()
        # Each message is answered before the next is sent: nothing is held back.
        turn = threading.Semaphore(1)

        def messages():
            for n in range(50):
                assert turn.acquire(timeout=10)
                yield b"m%d" % n

        for n, answer in enumerate(rpc.chat(messages(), metadata=rpc.metadata, timeout=30)):
            assert answer == b"M%d" % n
            turn.release()
        assert n == 49
    closed = says_so(gateway, reason="done")
    assert closed["upstream_peer"] == f"127.0.0.1:{host}" and "upstream_alpn" not in closed
    assert gateway.line("request", kind="grpc", path="/test.Echo/Chat")["ended"] == "whole"
    assert "staunch_plaintext_upstream_total 1" in gateway.metrics()


@pytest.mark.parametrize(
    ("who", "code"),
    [(None, grpc.StatusCode.UNAUTHENTICATED), (parts.STRANGER, grpc.StatusCode.PERMISSION_DENIED)],
)
def test_who_may_not_gets_no_connection_to_the_host(world, start, host, who, code):
    gateway = start(world.config(clear(world, "grpc", f"tcp://127.0.0.1:{host}", alpn="h2")))
    with Grpc(gateway, world, who and world.issuer.token(who)) as rpc:
        with pytest.raises(grpc.RpcError) as error:
            rpc.unary(b"x", metadata=rpc.metadata, timeout=10)
        assert error.value.code() == code
    assert "staunch_plaintext_upstream_total 0" in gateway.metrics()
    assert gateway.line("session opened")["upstream_version"] == NONE


def test_a_host_that_is_not_there_is_unavailable(world, start):
    gateway = start(world.config(clear(world, "grpc", f"tcp://127.0.0.1:{free_port()}", alpn="h2")))
    with Grpc(gateway, world, world.issuer.token()) as rpc:
        with pytest.raises(grpc.RpcError) as error:
            rpc.unary(b"x", metadata=rpc.metadata, timeout=10)
        assert error.value.code() == grpc.StatusCode.UNAVAILABLE
    assert "does not accept a connection" in gateway.line("session closed", reason="dial")["detail"]


def test_between_a_client_and_a_host_without_tls_every_byte_on_the_network_is_encrypted(world, start, host, tmp_path):
    """A worker, `staunch connect` on its machine, the gateway on the host's: neither end knows of TLS or tokens."""
    route = clear(world, "agents", f"tcp://127.0.0.1:{host}", alpn="h2")
    del route["sni"], route["certificate"]
    gateway = start(world.config(route, tunnel=world.tunnel()))
    home, port = Home(tmp_path, world), free_port()
    home.env["CI_SECRET"] = "secret"
    home.run("login", *home.at(parts.ANN), "--client-credentials", "--client-secret", "env:CI_SECRET")
    at = ["--gateway", "tunnel.gw.test", "--connect-to", f"127.0.0.1:{gateway.port}", "--ca", world.ca]
    begun = home.begin("connect", *at, f"agents={port}")
    try:
        parts.until(lambda: f"127.0.0.1:{port}" in begun.text())
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            unary, chat = channel.unary_unary("/test.Echo/Unary"), channel.stream_stream("/test.Echo/Chat")
            assert unary(b"hello", timeout=10) == b"hello|Bearer " + KEY.encode()
            large = os.urandom(1_500_000)
            assert list(chat(iter([b"a", large.hex().encode()]), timeout=20)) == [b"A", large.hex().upper().encode()]
    finally:
        begun.popen.send_signal(signal.SIGTERM)
        assert begun.ended(20) == 0, begun.text()
    # A tunnel that only asks whether it would be opened has no upstream leg, and no requests.
    closed = says_so(gateway, route="agents", requests=2)
    assert closed["tunnel"] is True and closed["subject"] == parts.ANN, closed


# --- HTTP -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def nginx(world, tmp_path):
    location = 'location = /seen { default_type text/plain; return 200 "auth=$http_authorization host=$http_host"; }'
    process, port = parts.nginx(tmp_path, *world.upstream_pair, location, listen="")
    (tmp_path / "www/large").write_bytes(b"".join(os.urandom(1 << 20) for _ in range(LARGE_MIB)))
    yield process, port, tmp_path
    process.stop()


def test_files_pass_whole_and_the_credential_is_put_in(world, start, nginx):
    _, port, folder = nginx
    gateway = start(world.config(clear(world, "api", f"tcp://127.0.0.1:{port}", alpn="http/1.1")))
    token = world.issuer.token()
    answer = curl(gateway, world, "api", "/seen", token=token)
    assert answer.stdout.decode() == f"auth=Bearer {KEY} host=127.0.0.1:{port}", answer.stderr
    answer = curl(gateway, world, "api", "/large", token=token, seconds=60)
    assert len(answer.stdout) == LARGE_MIB << 20
    assert hashlib.sha256(answer.stdout).digest() == hashlib.sha256((folder / "www/large").read_bytes()).digest()
    assert curl(gateway, world, "api", "/seen", "-w", "%{http_code}", "-o", "/dev/null").stdout == b"401"
    # HTTP/2 is offered, and what the route says is settled on.
    answer = curl(gateway, world, "api", "/hello.txt", "--http2", "-w", "%{http_version}", token=token)
    assert answer.stdout == b"hello from nginx\n1.1"
    for line in gateway.lines():
        if line.get("event") == "session closed" and line["up_bytes"]:
            says_so(gateway, line["session"])


def test_a_server_that_dies_in_the_middle_does_not_look_done(world, start, nginx):
    process, port, _ = nginx
    gateway = start(world.config(clear(world, "api", f"tcp://127.0.0.1:{port}", alpn="http/1.1")))

    def kill():
        gateway_has_begun = lambda: process.children()
        for child in parts.until(gateway_has_begun):
            time.sleep(0.7)
            os.kill(child, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    answer = curl(gateway, world, "api", "/large", "--limit-rate", "10M", token=world.issuer.token())
    killer.join()
    assert answer.returncode != 0 and len(answer.stdout) < LARGE_MIB << 20, answer.stderr
    assert gateway.line("request", path="/large")["ended"] == "by_upstream"


@pytest.fixture
def app(tmp_path):
    socket = tmp_path / "app.sock"
    process = plaintext.hypercorn(tmp_path, f"unix:{socket}")
    yield process, socket
    process.stop()


def localhost(world, name, address, **more):
    chain, key = world.authority.leaf(f"clear-{name}", ["localhost"])
    return clear(world, name, address, sni="localhost", certificate={"chain": chain, "key": key}, **more)


def test_a_model_service_on_a_unix_socket_streams(world, start, app):
    process, socket = app
    gateway = start(world.config(localhost(world, "app", f"unix:{socket}", alpn="auto")))
    base = f"https://localhost:{gateway.port}"
    trust = ssl.create_default_context(cafile=world.ca)
    with httpx.Client(verify=trust) as http:
        sdk = openai.OpenAI(base_url=f"{base}/v1", api_key=world.issuer.token(), http_client=http)
        messages = [{"role": "user", "content": "How do bytes move?"}]
        chunks = sdk.chat.completions.create(model="m", messages=messages, stream=True)
        assert [chunk.choices[0].delta.content for chunk in chunks] == ["Bytes ", "move ", "in ", "place", "."]
        fields = {"authorization": f"Bearer {world.issuer.token()}"}
        with http.stream("GET", f"{base}/events?10", headers=fields) as answer:
            times = [time.monotonic() for line in answer.iter_lines() if line.startswith("data:")]
        # One each 0.1 s: none waits for another.
        assert len(times) == 10 and all(b - a > 0.05 for a, b in zip(times, times[1:], strict=False)), times
        body = os.urandom(5_000_000)
        digest = http.post(f"{base}/upload", headers=fields, content=body).text
        assert hashlib.sha256(body).hexdigest() in digest
    closed = says_so(gateway, reason="done")
    assert closed["upstream_peer"] == f"unix:{socket}"
    assert KEY not in repr(chunks) and parts.lines_with(process, "/v1/chat/completions")


def test_both_versions_where_the_route_says_that_the_upstream_speaks_both(world, start, app):
    gateway = start(world.config(clear(world, "app", f"unix:{app[1]}", alpn="auto")))
    for option, version in (("--http1.1", b"1.1"), ("--http2", b"2")):
        answer = curl(gateway, world, "app", "/look", option, "-w", "\n%{http_version}", token=world.issuer.token())
        body, spoken = answer.stdout.rsplit(b"\n", 1)
        assert spoken == version and f"Bearer {KEY}".encode() in body, answer.stderr
        assert b'"localhost"' in body


def test_a_websocket_echoes(world, start, app):
    gateway = start(world.config(localhost(world, "app", f"unix:{app[1]}", alpn="http/1.1")))
    trust = ssl.create_default_context(cafile=world.ca)
    fields = {"Authorization": f"token {world.issuer.token()}"}
    url = f"wss://localhost:{gateway.port}/ws"
    with websockets.sync.client.connect(url, ssl=trust, additional_headers=fields) as socket:
        for size in (1, 1000, 200_000):
            socket.send("x" * size)
            assert socket.recv(timeout=10) == "x" * size
    assert gateway.line("request", kind="upgrade", status=101)["ended"] == "whole"


# --- databases ------------------------------------------------------------------------------------------------------


def both_ways(wire, data, expected):
    """Writes and reads at once in one thread: a TLS object must not be used from two."""
    tls, sent, found = wire.tls, 0, bytearray()
    tls.setblocking(False)
    until_then = time.monotonic() + 60
    while len(found) < len(expected):
        assert time.monotonic() < until_then, f"{sent} of {len(data)} went, {len(found)} of {len(expected)} came"
        moved = False
        with contextlib.suppress(ssl.SSLWantReadError, ssl.SSLWantWriteError):
            piece = tls.recv(1 << 16)
            assert piece, f"ended after {len(found)} of {len(expected)}"
            found += piece
            moved = True
        if sent < len(data):
            with contextlib.suppress(ssl.SSLWantReadError, ssl.SSLWantWriteError):
                sent += tls.send(data[sent : sent + (1 << 16)])
                moved = True
        if not moved:
            select.select([tls], [tls] if sent < len(data) else [], [], 0.05)
    tls.settimeout(20)
    same = bytes(found) == expected
    assert same, "other bytes came than were stored"


def test_redis_on_its_socket(world, start):
    server = plaintext.Redis(KEY)
    try:
        chain, key = world.authority.leaf("clear-redis", ["svc.redis.test"])
        route = clear(
            world, "cache", f"unix:{server.socket}", sni="svc.redis.test", protocol="redis",
            certificate={"chain": chain, "key": key}, inject={"user": "svc", "password": "{secret:stored}"},
        )  # fmt: skip
        gateway = start(world.config(route))
        done = cli(world, gateway, "ACL", "WHOAMI")
        assert done.stdout.decode().strip() == "svc", done.stdout + done.stderr
        says_so(gateway, database_user="svc")
        token = world.issuer.token()
        wire = Wire(world, gateway.port)
        wire.say(command("AUTH", token)).hear(b"+OK\r\n")
        # A later login, in order among pipelined commands.
        wire.say(command("SET", "k", "v") + command("AUTH", "ann", token) + command("GET", "k"))
        wire.hear(b"+OK\r\n+OK\r\n$1\r\nv\r\n")
        large = os.urandom(20 << 20)
        both_ways(wire, command("SET", "large", large) + command("GET", "large"), b"+OK\r\n$%d\r\n" % len(large) + large + b"\r\n")
        wire.close()
        refused = cli(world, gateway, "PING", token=world.issuer.token(parts.STRANGER))
        assert b"PONG" not in refused.stdout
    finally:
        server.stop()


@pytest.fixture(scope="module")
def database(world):
    server = plaintext.Postgres(*world.upstream_pair, KEY)
    yield server
    server.stop()


def postgres_gateway(world, start, database, **inject):
    chain, key = world.authority.leaf("clear-pg", ["clear.pg.test"])
    route = clear(
        world, "warehouse", f"unix:{database.socket}", sni="clear.pg.test", protocol="postgres",
        certificate={"chain": chain, "key": key}, inject=inject, identity_guc="staunch.subject",
    )  # fmt: skip
    # A configuration may not hold a secret that nothing uses.
    config = world.config(route)
    if "password" not in inject:
        del config["secrets"]
    gateway = start(config)
    return gateway, {
        "host": "clear.pg.test", "hostaddr": "127.0.0.1", "port": gateway.port, "dbname": "postgres", "user": "ann",
        "password": world.issuer.token(), "sslmode": "verify-full", "sslrootcert": world.ca, "connect_timeout": 15,
    }  # fmt: skip


def test_a_password_never_goes_in_clear_where_there_is_no_tls(world, start, database):
    gateway, to = postgres_gateway(world, start, database, user="svc_clear", password="{secret:stored}")
    done = psql(to, "select 1")
    assert b"cannot agree on a login" in done.stderr, done.stderr
    assert "in clear" in gateway.line("session closed", reason="dial")["detail"]


@pytest.mark.parametrize("user", ["svc_scram", "svc_md5", "svc_trust"])
def test_postgres_on_its_socket_without_tls(world, start, database, user):
    password = {} if user == "svc_trust" else {"password": "{secret:stored}"}
    gateway, to = postgres_gateway(world, start, database, user=user, **password)
    done = psql(to, "select current_user, current_setting('staunch.subject'), inet_server_addr() is null, current_setting('ssl')")
    assert done.stdout.decode().strip() == f"{user}|{parts.ANN}|t|off", done.stderr
    closed = says_so(gateway, database_user=user)
    assert closed["reason"] == "done" and closed["upstream_peer"] == f"unix:{database.socket}"


def test_a_large_copy_passes_and_a_statement_can_be_cancelled(world, start, database):
    gateway, to = postgres_gateway(world, start, database, user="svc_scram", password="{secret:stored}")
    rows = b"".join(b"%d\t%064x\n" % (n, n * n) for n in range(200_000))
    with connect(to) as connection:
        connection.execute("create temporary table large (n int, h text)")
        with connection.cursor().copy("copy large from stdin") as copy:
            copy.write(rows)
        with connection.cursor().copy("copy large to stdout") as copy:
            assert b"".join(bytes(piece) for piece in copy) == rows
        error = []

        def sleep():
            try:
                connection.execute("select pg_sleep(60)")
            except psycopg.Error as caught:
                error.append(caught)

        sleeper = threading.Thread(target=sleep)
        sleeper.start()
        parts.until(lambda: database.admin("select count(*) from pg_stat_activity where query like '%sleep(60)' and state = 'active' and usename = 'svc_scram'") == "1")
        connection.cancel_safe(timeout=15)
        sleeper.join(15)
        assert [type(one) for one in error] == [psycopg.errors.QueryCanceled], error
        assert connection.execute("select 1").fetchone() == (1,)
    assert any("cancelled the statement of session" in line.get("detail", "") for line in gateway.lines())


@pytest.fixture(scope="module")
def shop(world):
    server = plaintext.Mariadb(*world.upstream_pair, KEY)
    yield server
    server.stop()


@pytest.mark.parametrize("kind", ["unix", "tcp"])
def test_mariadb_without_tls(world, start, shop, kind):
    address = f"unix:{shop.socket}" if kind == "unix" else f"tcp://127.0.0.1:{shop.port}"
    chain, key = world.authority.leaf(f"clear-my-{kind}", ["localhost", "shop.my.test"])
    route = clear(
        world, "shop", address, sni="shop.my.test", protocol="mysql", certificate={"chain": chain, "key": key},
        inject={"user": "svc", "password": "{secret:stored}"}, statements="on",
    )  # fmt: skip
    gateway = start(world.config(route, mysql={"version": "10.11.6-MariaDB", "route": "shop"}))
    token = world.issuer.token()
    sql = "select current_user(), (select variable_value from information_schema.session_status where variable_name = 'ssl_cipher')"
    done = test_mysql.client(gateway, world, "-BN", "-e", sql, token=token)
    assert done.stdout.decode() == "svc@localhost\t\n", done.stderr
    closed = says_so(gateway, route="shop")
    peer = address if kind == "unix" else f"127.0.0.1:{shop.port}"
    assert (closed["reason"], closed["database_user"], closed["upstream_peer"]) == ("done", "svc", peer), closed
    with test_mysql.connect(gateway, world, token=token) as connection, connection.cursor() as cursor:
        cursor.execute("create or replace table shop.large (data longblob)")
        noise = hashlib.sha256(b"large").digest() * (20 * 1024 * 32)
        cursor.execute("insert into shop.large values (%s)", (noise,))
        cursor.execute("select data from shop.large")
        assert cursor.fetchone() == (noise,)
        sql = "select attr_value from performance_schema.session_connect_attrs where attr_name = 'staunch_subject' and processlist_id = connection_id()"
        cursor.execute(sql)
        assert cursor.fetchone() == (parts.ANN,)
    with test_mysql.connector(gateway, world, token=token) as connection, connection.cursor(prepared=True) as cursor:
        cursor.execute("select ? + 1", (41,))
        assert cursor.fetchall() == [(42,)]
    assert gateway.line("statement", kind="execute", rows=1)["text"] == "select ? + 1"
    assert token not in shop.general()


def test_mariadb_that_is_not_there_or_does_not_let_the_gateway_in(world, start, shop, tmp_path):
    chain, key = world.authority.leaf("clear-my-faults", ["wrong.my.test", "gone.my.test"])
    more = {"protocol": "mysql", "certificate": {"chain": chain, "key": key}}
    account = {"password": "{secret:stored}"}
    wrong = clear(world, "wrong", f"unix:{shop.socket}", sni="wrong.my.test", inject=account | {"user": "nobody"}, **more)
    gone = clear(world, "gone", f"unix:{tmp_path}/gone.sock", sni="gone.my.test", inject=account | {"user": "svc"}, **more)
    gateway = start(world.config(wrong, gone, mysql={"version": "10.11.6-MariaDB"}))
    for route, words in (("wrong", "does not let the gateway in"), ("gone", "cannot be reached")):
        with pytest.raises(pymysql.err.OperationalError) as error:
            test_mysql.connect(gateway, world, route)
        number, said = error.value.args
        assert number == 1429 and words in said and "nobody" not in said, said


# --- configuration --------------------------------------------------------------------------------------------------


def test_check_prints_it_and_refuses_what_was_said_once_or_leads_elsewhere(world, start):
    gateway = start(world.config(clear(world, "grpc", "tcp://127.0.0.1:1", alpn="h2")))
    done = staunch("check", "--config", str(gateway.path))
    assert done.returncode == 0, done.stderr
    assert b"PLAINTEXT   the upstream leg has no encryption and no verification" in done.stdout, done.stdout
    assert b"nothing encrypts or verifies the way to tcp://127.0.0.1:1" in done.stderr
    text = gateway.path.read_text()
    for old, new, fault in [
        ('"unsafe_plaintext_upstream" = true', "", "has no TLS; write tls://host:port, or add"),
        ("tcp://127.0.0.1:1", "tcp://localhost:1", "only a literal loopback address will do"),
        ("tcp://127.0.0.1:1", "tcp://192.0.2.1:1", "it is not a loopback address"),
        ("tcp://127.0.0.1:1", "tls://127.0.0.1:1", "unsafe_plaintext_upstream has no effect on an upstream with TLS"),
    ]:
        gateway.path.write_text(text.replace(old, new))
        done = staunch("check", "--config", str(gateway.path))
        assert done.returncode == 1 and fault in done.stderr.decode() + done.stdout.decode(), (new, done.stderr)
    # A reload with such a file changes nothing, and one with a good file warns again.
    gateway.signal(signal.SIGHUP)
    parts.until(lambda: any("unsafe_plaintext_upstream" in str(line) and line["level"] == "ERROR" for line in gateway.lines()))
    assert gateway.get("/readyz") == 200
    gateway.path.write_text(text.replace("tcp://127.0.0.1:1", "tcp://127.0.0.1:2"))
    gateway.signal(signal.SIGHUP)
    warning = "nothing encrypts or verifies the way to tcp://127.0.0.1:2 (unsafe_plaintext_upstream)"
    parts.until(lambda: any(line.get("text") == warning for line in gateway.lines()))
