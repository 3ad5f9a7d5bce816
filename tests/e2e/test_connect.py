"""`staunch connect`: programs that know neither TLS nor tokens, through a real gateway to real servers."""

import contextlib
import hashlib
import os
import shlex
import signal
import socket
import ssl
import stat
import struct
import sys
import threading
import time

import grpc
import httpx
import openai
import psycopg
import pymysql
import pytest
import redis
from conftest import check_log
from support import mariadb, parts, postgres, redis_server
from support.gateway import KEY, Gateway
from support.login import Home
from support.parts import until
from support.process import Process, ends, free_port, run

NOISE = hashlib.sha256(b"noise").digest() * 32 * 1024  # 1 MiB
MIB = int(os.environ.get("STAUNCH_CONNECT_MIB", "100"))


class Bytes:
    """A TLS server for a raw route: what it does depends on the first byte."""

    def __init__(self, pair):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*pair)
        self.context, self.accepted = context, 0
        self.server = socket.create_server(("127.0.0.1", 0))
        self.port = self.server.getsockname()[1]
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        with contextlib.suppress(OSError):
            while True:
                plain, _ = self.server.accept()
                self.accepted += 1
                threading.Thread(target=self.one, args=(plain,), daemon=True).start()

    def one(self, plain):
        with contextlib.suppress(OSError), self.context.wrap_socket(plain, server_side=True) as tls:
            tls.settimeout(60)
            match tls.recv(1):
                case b"":  # somebody who leaves
                    tls.unwrap()
                case b"d":  # digest what comes until the end, then send as much
                    digest, size = hashlib.sha256(), 0
                    while part := tls.recv(1 << 16):
                        digest.update(part)
                        size += len(part)
                    tls.sendall(digest.digest())
                    for _ in range(size >> 20):
                        tls.sendall(NOISE)
                    tls.unwrap()
                case b"c":  # cut in the middle
                    tls.sendall(b"half of it")
                    time.sleep(0.3)
                    tls.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


class Place:
    """Servers, a gateway with a tunnel to all of them, and somebody who is logged in."""

    def __init__(self, world, folder):
        self.world = world
        self.postgres = postgres.Server(*world.upstream_pair, KEY)
        self.redis = redis_server.Server(*world.upstream_pair, world.ca, KEY)
        self.mariadb = mariadb.Server(*world.upstream_pair, KEY)
        self.bytes = Bytes(world.upstream_pair)

        def nameless(name, port, protocol="http", inject=None, **more):
            route = world.route(name, port) | {"protocol": protocol} | more
            del route["sni"], route["certificate"], route["inject"]
            return route | ({"inject": inject} if inject else {})

        key = {"header": "authorization", "value": "Bearer {secret:stored}"}
        account = {"user": "svc_scram", "password": "{secret:stored}"}
        self.config = world.config(
            nameless("app", world.hypercorn_port, inject=key),
            nameless("grpc", world.grpc_port, inject=key),
            nameless("pg", self.postgres.port, "postgres", account, identity_guc="staunch.subject"),
            nameless("cache", self.redis.port, "redis", {"user": "svc", "password": "{secret:stored}"}),
            nameless("shop", self.mariadb.port, "mysql", {"user": "svc", "password": "{secret:stored}"}),
            nameless("bytes", self.bytes.port, "raw"),
            nameless("closed", world.nginx_port, inject=key, allow=[{"issuer": "corp", "groups": ["nobody"]}]),
            tunnel=world.tunnel(),
        )
        self.gateway = Gateway(folder, self.config)
        self.home = Home(folder, world)
        self.log_in()

    def log_in(self, who=parts.ANN, *more):
        place = [*self.home.at(who), "--client-credentials", "--client-secret", "env:CI_SECRET", *more]
        self.home.run("login", *place, env={"CI_SECRET": "secret"})
        # It renews its own tokens with that secret.
        self.home.env["CI_SECRET"] = "secret"

    def arguments(self, *routes):
        at = ["--gateway", "tunnel.gw.test", "--connect-to", f"127.0.0.1:{self.gateway.port}", "--ca", self.world.ca]
        return ["connect", *at, *routes]

    def stop(self):
        assert self.gateway.stop() == 0, self.gateway.process.text()
        check_log(self.gateway)
        self.postgres.stop()
        self.redis.stop()
        self.mariadb.stop()


@pytest.fixture(scope="module")
def place(world, tmp_path_factory):
    place = Place(world, tmp_path_factory.mktemp("connect"))
    yield place
    place.stop()


@pytest.fixture
def connect(place):
    """Starts `staunch connect`, and checks that it ends well and says nothing secret."""
    running = []

    def connect(*routes, **ports):
        ports = {name: free_port() for name in routes}
        begun = place.home.begin(*place.arguments("--verbose", *(f"{name}={port}" for name, port in ports.items())))
        running.append(begun)
        until(lambda: all(f"127.0.0.1:{port}" in begun.text() for port in ports.values()) or begun.popen.poll())
        assert begun.popen.poll() is None, begun.text()
        begun.ports = ports
        return begun

    yield connect
    for begun in running:
        begun.popen.send_signal(signal.SIGTERM)
        assert begun.ended(20) == 0, begun.text()
        assert "eyJ" not in begun.text() and KEY not in begun.text()


@contextlib.contextmanager
def alone(place, folder, *routes, config=None):
    """`staunch connect` with a gateway of its own, which may come and go; yields both, the latter as a place is given."""
    gateway = Gateway(folder, config or place.config)
    ports = {name: free_port() for name in routes}
    arguments = place.arguments("--verbose", *(f"{name}={port}" for name, port in ports.items()))
    arguments[arguments.index("--connect-to") + 1] = f"127.0.0.1:{gateway.port}"
    begun = place.home.begin(*arguments)
    begun.ports = ports
    try:
        until(lambda: all(f"127.0.0.1:{port}" in begun.text() for port in ports.values()))
        yield gateway, begun
    finally:
        begun.popen.send_signal(signal.SIGINT)
        assert begun.ended(20) == 0, begun.text()
        gateway.process.stop()


def mariadb_client(where, sql):
    """MariaDB's own, in clear and without a password. `where`: a port, or a socket's path."""
    at = [f"--socket={where}"] if isinstance(where, str) else ["--protocol=tcp", "-h", "127.0.0.1", "-P", str(where)]
    return run([mariadb.program("mariadb"), "--no-defaults", *at, "--skip-ssl", "-u", "whoever", "-BN", "-e", sql], 60)


def test_each_route_is_printed_with_what_uses_it(place, connect):
    begun = connect("app", "pg", "cache", "shop", "bytes")
    port = begun.ports
    text = begun.text()
    assert f"OPENAI_BASE_URL=http://127.0.0.1:{port['app']}/v1" in text
    assert f'psql "host=127.0.0.1 port={port["pg"]} dbname=postgres sslmode=disable"' in text
    assert f"mariadb --host=127.0.0.1 --port={port['shop']} --skip-ssl" in text
    assert f"redis-cli -h 127.0.0.1 -p {port['cache']}" in text
    assert f"bytes (raw): 127.0.0.1:{port['bytes']}" in text


def test_the_lines_for_databases_work_as_they_are_printed(place, connect):
    lines = connect("pg", "cache", "shop").text().splitlines()
    for program, arguments, answer in (
        ("psql", ["-w", "-Atc", "select 42"], "42"),
        ("redis-cli", ["ping"], "PONG"),
        ("mariadb", ["-BN", "-e", "select 42"], "42"),
    ):
        line = next(line for line in lines if line.startswith(f"    {program} "))
        done = run([*shlex.split(line), *arguments], env=os.environ | {"PGUSER": "whoever"})
        assert done.stdout.decode().strip() == answer, done.stderr


def test_psql_needs_no_password_and_no_tls(place, connect):
    port = connect("pg").ports["pg"]
    for mode in ("disable", "prefer"):
        where = f"host=127.0.0.1 port={port} dbname=postgres user=whoever sslmode={mode}"
        answer = run(["psql", "-w", "-Atc", "select current_user, current_setting('staunch.subject')", where])
        assert answer.stdout.decode().strip() == f"svc_scram|{parts.ANN}", answer.stderr
    line = place.gateway.line("session closed", route="pg", database="postgres")
    assert (line["tunnel"], line["subject"], line["database_user"]) == (True, parts.ANN, "svc_scram")


def test_a_query_is_cancelled_through_a_tunnel_of_its_own(place, connect):
    port = connect("pg").ports["pg"]
    with psycopg.connect(f"host=127.0.0.1 port={port} dbname=postgres sslmode=disable") as connection:
        threading.Timer(0.5, connection.cancel).start()
        with pytest.raises(psycopg.errors.QueryCanceled):
            connection.execute("select pg_sleep(20)")


def test_mysqls_clients_need_no_password_and_no_tls(place, connect):
    port = connect("shop").ports["shop"]
    sql = "select current_user(), (select attr_value from performance_schema.session_connect_attrs where attr_name = 'staunch_subject' and processlist_id = connection_id())"
    answer = mariadb_client(port, sql)
    assert answer.stdout.decode() == f"svc@127.0.0.1\t{parts.ANN}\n", answer.stderr
    noise = hashlib.sha256(b"large").digest() * (20 * 1024 * 32)
    # Whatever password is sent is thrown away.
    with pymysql.connect(host="127.0.0.1", port=port, user="root", password="any", database="shop") as connection:
        with connection.cursor() as cursor:
            cursor.execute("create or replace table large (data longblob)")
            cursor.execute("insert into large values (%s)", (noise,))
            cursor.execute("select data from large")
            assert cursor.fetchone() == (noise,)
        with pytest.raises(pymysql.err.MySQLError), connection.cursor() as cursor:
            cursor.execute("select nonsense")
        connection.ping(reconnect=False)
    line = place.gateway.line("session closed", route="shop", database="shop")
    assert (line["tunnel"], line["subject"], line["database_user"], line["reason"]) == (True, parts.ANN, "svc", "done")


def test_the_way_to_the_gateway_is_post_quantum(place, connect):
    port = connect("shop").ports["shop"]
    assert mariadb_client(port, "select 1").stdout == b"1\n"
    line = place.gateway.line("session closed", route="shop", database_user="svc")
    assert (line["client_version"], line["client_group"]) == ("TLSv1.3", "X25519MLKEM768"), line


def test_a_mysql_client_that_says_nothing_is_gone_by_the_deadline(place, world, tmp_path):
    route = next(route for route in place.config["route"] if route["name"] == "shop")
    config = world.config(route, tunnel=world.tunnel(), limits={"permit_deadline": "2s"})
    with alone(place, tmp_path, "shop", config=config) as (gateway, begun):
        started = time.monotonic()
        with socket.create_connection(("127.0.0.1", begun.ports["shop"])) as local:
            local.settimeout(10)
            greeting = local.recv(1 << 12)
            assert greeting[3:5] == b"\0\x0a" and b"-staunch\0" in greeting
            local.sendall(b"\x40\0\0\1" + bytes(20))
            assert ends(local)
        assert 1.9 < time.monotonic() - started < 8
        assert gateway.line("session closed", route="shop", reason="deadline")["tunnel"] is True


def test_redis_and_its_cli(place, connect):
    port = connect("cache").ports["cache"]
    answer = run(["redis-cli", "-h", "127.0.0.1", "-p", str(port), "set", "connect", "through"])
    assert answer.stdout == b"OK\n", answer.stderr
    with redis.Redis(port=port, protocol=3) as client:
        assert client.get("connect") == b"through"


def test_the_openai_sdk_streams_and_any_key_will_do(place, connect):
    port = connect("app").ports["app"]
    client = openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none", max_retries=0)
    stream = client.chat.completions.create(model="m", messages=[{"role": "user", "content": "hi"}], stream=True)
    assert "".join(chunk.choices[0].delta.content for chunk in stream) == "Bytes move in place."
    seen = httpx.get(f"http://127.0.0.1:{port}/look").json()
    assert seen["headers"]["authorization"] == f"Bearer {KEY}"


def test_a_grpc_channel_without_tls(place, connect):
    port = connect("grpc").ports["grpc"]
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        unary, chat = channel.unary_unary("/test.Echo/Unary"), channel.stream_stream("/test.Echo/Chat")
        assert unary(b"hello", timeout=10) == b"hello|Bearer " + KEY.encode()
        assert list(chat(iter([b"a", b"b"]), timeout=10)) == [b"A", b"B"]


def test_large_transfers_arrive_whole_and_each_direction_ends_by_itself(place, connect):
    port = connect("bytes").ports["bytes"]
    with socket.create_connection(("127.0.0.1", port)) as local:
        local.settimeout(60)
        local.sendall(b"d")
        digest = hashlib.sha256()
        for _ in range(MIB):
            local.sendall(NOISE)
            digest.update(NOISE)
        local.shutdown(socket.SHUT_WR)
        came = b""
        while len(came) < 32:
            came += local.recv(32 - len(came))
        assert came == digest.digest()
        down = hashlib.sha256()
        while part := local.recv(1 << 16):
            down.update(part)
        assert down.digest() == digest.digest()


def test_what_is_cut_does_not_look_like_an_end(place, connect):
    port = connect("bytes").ports["bytes"]
    with socket.create_connection(("127.0.0.1", port)) as local:
        local.settimeout(10)
        local.sendall(b"c")
        assert local.recv(10) == b"half of it"
        with pytest.raises(ConnectionResetError):
            local.recv(1)


def test_health_probes_open_nothing(place, connect):
    port = connect("bytes", "pg").ports
    before = len([line for line in place.gateway.lines() if line.get("event") == "session opened"])
    for _ in range(20):
        for where in port.values():
            socket.create_connection(("127.0.0.1", where)).close()
    time.sleep(0.3)
    after = len([line for line in place.gateway.lines() if line.get("event") == "session opened"])
    assert after == before
    # One that stays and waits for the server to begin gets its tunnel.
    accepted = place.bytes.accepted
    with socket.create_connection(("127.0.0.1", port["bytes"])):
        until(lambda: place.bytes.accepted > accepted)


def test_it_outlives_a_gateway_that_restarts(place, world, tmp_path):
    gateway = Gateway(tmp_path, place.config)
    port = free_port()
    arguments = place.arguments(f"app={port}")
    arguments[arguments.index("--connect-to") + 1] = f"127.0.0.1:{gateway.port}"
    begun = place.home.begin(*arguments)
    try:
        until(lambda: f"127.0.0.1:{port}" in begun.text())
        assert httpx.get(f"http://127.0.0.1:{port}/look").status_code == 200
        assert gateway.stop() == 0
        answers = []
        asking = threading.Thread(target=lambda: answers.append(httpx.get(f"http://127.0.0.1:{port}/look", timeout=20)))
        asking.start()
        time.sleep(1)
        gateway.process = Process([*gateway.process.popen.args], tmp_path / "again.log", gateway.admin)
        asking.join(20)
        assert answers and answers[0].status_code == 200
        assert gateway.stop() == 0
        # Away for good: the program is told, in its protocol.
        gone = httpx.get(f"http://127.0.0.1:{port}/look", timeout=30)
        assert gone.status_code == 502
        # Standard error names the culprit right behind that.
        until(lambda: "tunnel.gw.test" in begun.text())
    finally:
        begun.popen.send_signal(signal.SIGINT)
        assert begun.ended(20) == 0


def test_mysqls_clients_are_told_in_an_error_that_the_gateway_is_away(place, tmp_path):
    with alone(place, tmp_path, "shop") as (gateway, begun):
        port = begun.ports["shop"]
        assert gateway.stop() == 0
        told = mariadb_client(port, "select 1")
        said = told.stderr.decode()
        assert told.returncode == 1 and said.startswith("ERROR 1429 (HY000)"), said
        assert "staunch connect, route shop: " in said and "refused" in said and "#" not in said, said
        # By hand: one packet in place of the greeting, and the end.
        with socket.create_connection(("127.0.0.1", port)) as local:
            local.settimeout(30)
            came = b""
            while part := local.recv(1 << 16):
                came += part
        assert came[:7] == (len(came) - 4).to_bytes(3, "little") + b"\0\xff" + (1429).to_bytes(2, "little")
        with pytest.raises(pymysql.err.OperationalError) as error:
            pymysql.connect(host="127.0.0.1", port=port, user="whoever", connect_timeout=30)
        assert error.value.args[0] == 1429, error.value


def test_mysqls_clients_are_told_in_an_error_that_the_gateway_refuses(place, tmp_path):
    with alone(place, tmp_path, "shop") as (gateway, begun):
        route = next(route for route in place.config["route"] if route["name"] == "shop")
        closed = route | {"allow": [{"issuer": "corp", "groups": ["nobody"]}]}
        others = [other for other in place.config["route"] if other is not route]
        gateway.write(place.config | {"route": [*others, closed]})
        gateway.signal(signal.SIGHUP)
        until(lambda: "configuration reloaded" in gateway.process.text())
        told = mariadb_client(begun.ports["shop"], "select 1").stderr.decode()
        assert told.startswith("ERROR 1429 (HY000)") and "forbidden" in told, told


def test_what_is_asked_of_the_gateway_at_the_start_ends_cleanly(place, tmp_path):
    routes = ["app", "grpc", "pg", "cache", "shop", "bytes"]
    with alone(place, tmp_path, *routes) as (gateway, _):
        for route in routes:
            line = gateway.line("session closed", route=route)
            assert (line["reason"], line["tunnel"]) == ("done", True), line
        assert "truncated" not in gateway.process.text()


def test_a_start_without_the_gateway_learns_later_what_a_route_speaks(place, tmp_path):
    gateway = Gateway(tmp_path, place.config)
    assert gateway.stop() == 0
    ports = {name: free_port() for name in ("pg", "shop")}
    arguments = place.arguments(*(f"{name}={port}" for name, port in ports.items()))
    arguments[arguments.index("--connect-to") + 1] = f"127.0.0.1:{gateway.port}"
    begun = place.home.begin(*arguments)
    try:
        until(lambda: f"shop: 127.0.0.1:{ports['shop']}" in begun.text())
        assert "is away" in begun.text() and "psql" not in begun.text()
        # Nobody knows yet in which protocol to say it.
        told = mariadb_client(ports["shop"], "select 1").stderr.decode()
        assert "ERROR 2013" in told, told
        gateway.process = Process([*gateway.process.popen.args], tmp_path / "again.log", gateway.admin)
        until(lambda: gateway.get("/readyz") == 200)
        for _ in range(2):
            assert mariadb_client(ports["shop"], "select current_user()").stdout == b"svc@127.0.0.1\n"
        where = f"host=127.0.0.1 port={ports['pg']} dbname=postgres user=x sslmode=disable"
        assert run(["psql", "-w", "-Atc", "select 7", where]).stdout == b"7\n"
        # Each is printed again, once, with what uses it.
        assert begun.text().count(f"shop (mysql): 127.0.0.1:{ports['shop']}\n    mariadb ") == 1, begun.text()
        assert begun.text().count(f"pg (postgres): 127.0.0.1:{ports['pg']}\n    psql ") == 1, begun.text()
        assert gateway.stop() == 0
        assert "ERROR 1429" in mariadb_client(ports["shop"], "select 1").stderr.decode()
        told = run(["psql", "-w", "-Atc", "select 7", where]).stderr.decode()
        assert "staunch connect, route pg: " in told, told
    finally:
        begun.popen.send_signal(signal.SIGINT)
        assert begun.ended(20) == 0
        gateway.process.stop()


def test_a_program_is_not_run_while_the_gateway_is_away(place, tmp_path):
    ran = tmp_path / "ran"
    arguments = place.arguments("bytes", "--exec", sys.executable, "-c", f"open({str(ran)!r}, 'w')")
    arguments[arguments.index("--connect-to") + 1] = f"127.0.0.1:{free_port()}"
    told = place.home.run(*arguments, code=1).stderr
    assert "the program was not run" in told and not ran.exists()


def test_a_route_that_one_may_not_use_is_told_at_once(place):
    for route in ("closed", "nowhere"):
        told = place.home.run(*place.arguments(route), code=1).stderr
        assert f"route {route}" in told and "forbidden" in told, told


def test_who_is_not_logged_in_is_told_what_to_do(place):
    told = place.home.run(*place.arguments("app", "--profile", "nobody"), code=1).stderr
    assert "staunch login --profile nobody" in told


@pytest.mark.parametrize("place_", ["0.0.0.0:1", "[::]:1", "192.0.2.1:1", "example.com:1"])
def test_places_that_others_could_reach_are_a_usage_error(place, place_):
    told = place.home.run(*place.arguments(f"app={place_}"), code=2).stderr
    assert "app=" in told or "place" in told, told


def test_a_name_that_is_no_tunnel_and_a_gateway_that_does_not_verify(place, world):
    arguments = place.arguments("app")
    arguments[arguments.index("tunnel.gw.test")] = "api.gw.test"
    told = place.home.run(*arguments, code=1).stderr
    assert "tunnel name" in told, told
    arguments = place.arguments("app")
    # The system's authorities do not vouch for it.
    at = arguments.index("--ca")
    del arguments[at : at + 2]
    told = place.home.run(*arguments, code=1).stderr
    assert "invalid peer certificate" in told, told


def test_a_unix_socket_is_its_owners_alone(place, tmp_path):
    path = tmp_path / ".s.PGSQL.5432"
    begun = place.home.begin(*place.arguments(f"pg=unix:{path}"))
    until(lambda: "psql" in begun.text())
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    answer = run(["psql", "-w", "-Atc", "select 1", f"host={tmp_path} port=5432 dbname=postgres user=x"])
    assert answer.stdout == b"1\n", answer.stderr
    begun.popen.send_signal(signal.SIGTERM)
    assert begun.ended() == 0
    assert not path.exists()


def test_mariadbs_client_on_a_unix_socket(place, tmp_path):
    path = tmp_path / "shop.sock"
    begun = place.home.begin(*place.arguments(f"shop=unix:{path}"))
    until(lambda: f"mariadb --socket={path}" in begun.text())
    assert mariadb_client(str(path), "select 42").stdout == b"42\n"
    begun.popen.send_signal(signal.SIGTERM)
    assert begun.ended() == 0


def test_exec_runs_a_program_that_finds_its_routes(place):
    code = """
import os, urllib.request, subprocess, sys
base = os.environ["OPENAI_BASE_URL"]
assert base == f"http://{os.environ['STAUNCH_APP_ADDRESS']}/v1", base
print(urllib.request.urlopen(base.removesuffix("/v1") + "/look").status)
print(subprocess.run(["psql", "-w", "-Atc", "select 7", "dbname=postgres user=x"], capture_output=True, text=True))
sys.exit(42)
"""
    done = place.home.run(*place.arguments("app", "pg", "--exec", sys.executable, "-c", code), code=42)
    assert "200" in done.stdout and "stdout='7\\n'" in done.stdout, done.stdout + done.stderr
    assert "PGPASSWORD" not in done.stdout


def test_exec_passes_signals_on_and_ends_with_the_program(place, tmp_path):
    code = "import signal, sys, time; signal.signal(15, lambda *_: sys.exit(9)); print('up', flush=True); time.sleep(30)"
    begun = place.home.begin(*place.arguments("app", "--exec", sys.executable, "-c", code))
    until(lambda: "up" in begun.text())
    begun.popen.send_signal(signal.SIGTERM)
    assert begun.ended() == 9
    gone = place.home.run(*place.arguments("app", "--exec", str(tmp_path / "no-such-program")), code=1).stderr
    assert "no-such-program" in gone


def test_a_second_signal_ends_what_is_still_open(place):
    port = free_port()
    begun = place.home.begin(*place.arguments(f"bytes={port}"))
    until(lambda: f"127.0.0.1:{port}" in begun.text())
    accepted = place.bytes.accepted
    with socket.create_connection(("127.0.0.1", port)) as local:
        local.sendall(b"d")
        until(lambda: place.bytes.accepted > accepted)
        begun.popen.send_signal(signal.SIGTERM)
        until(lambda: "no new connections" in begun.text())
        with pytest.raises(OSError):
            socket.create_connection(("127.0.0.1", port), 1)
        assert begun.popen.poll() is None
        begun.popen.send_signal(signal.SIGTERM)
        assert begun.ended() == 1


def test_a_token_that_ends_sends_http_clients_through_a_new_tunnel(place):
    place.log_in(parts.BRIEF, "--profile", "brief")
    port = free_port()
    begun = place.home.begin(*place.arguments(f"app={port}", "--profile", "brief"))
    until(lambda: f"127.0.0.1:{port}" in begun.text())
    with httpx.Client() as client:
        until_then = time.monotonic() + 7
        while time.monotonic() < until_then:
            assert client.get(f"http://127.0.0.1:{port}/look").status_code == 200
            time.sleep(0.2)
    begun.popen.send_signal(signal.SIGTERM)
    assert begun.ended() == 0, begun.text()
