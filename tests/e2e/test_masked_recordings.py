"""Routes that mask and record: on no disk stands what was masked, and an auditor sees where it stood."""

import json
import os
import re
import socket
import sys
from types import SimpleNamespace

import pytest
import websockets.sync.client
from conftest import recorded_place
from support import mariadb, postgres
from support.gateway import KEY, ROOT, Gateway
from support.parts import until
from support.process import free_port, run
from support.recordings import Auditors, Recordings
from support.redis_server import Server as RedisServer
from support.redis_server import program
from test_http1 import curl
from test_http2 import Grpc
from test_mysql import connect as connect_mysql
from test_recording_protocols import Place as Protocols

CARD, MASKED = b"4111 1111 1111 1111", b"4111 11** **** 1111"
# What goes up to a database stays of its syntax.
SYNTAX = b"4111 1100 0000 1111"
SETS = [{"name": "all", "detect": ["personal", "keys"], "columns": ["salary"]}]
BOTH = {"down": ["all"], "up": ["all"]}


class TwoListeners(Gateway):
    """MySQL's clients wait for the server to begin, so they have a listener of their own."""

    def write(self, config):
        super().write(config)
        self.mysql = SimpleNamespace(port=free_port())
        listener = f'[[listener]]\naddress = "127.0.0.1:{self.mysql.port}"\nmysql = {{ version = "10.11.6-MariaDB", route = "shop" }}\n'
        self.path.write_text(self.path.read_text() + listener)


class Place(Protocols):
    """A gateway that masks and records, and what stands behind it."""

    def __init__(self, world, folder):
        self.world, self.folder, self.bridges = world, folder, []
        self.auditors = Auditors(folder / "auditors")
        self.redis = RedisServer(*world.upstream_pair, world.ca, KEY)
        self.postgres = postgres.Server(*world.upstream_pair, KEY)
        self.mariadb = mariadb.Server(*world.upstream_pair, KEY)
        names = ["redis.gw.test", "pg.gw.test", "shop.my.test"]
        chain, key = world.authority.leaf("masked-recordings", names)

        def database(name, protocol, port, user, **more):
            own = {"certificate": {"chain": chain, "key": key}, "mask": BOTH}
            route = world.route(name, port, protocol=protocol, **own | more)
            return route | {"inject": {"user": user, "password": "{secret:stored}"}}

        config = world.config(
            world.route("api", world.nginx_port, mask={"down": ["all"]}),
            world.route("app", world.hypercorn_port, mask=BOTH),
            world.route("grpc", world.grpc_port, mask=BOTH),
            database("redis", "redis", self.redis.port, "svc", mask={"down": ["all"]}),
            database("pg", "postgres", self.postgres.port, "svc_scram"),
            database("shop", "mysql", self.mariadb.port, "svc", sni="shop.my.test"),
            recording=self.auditors.section(),
            mask=SETS,
        )
        self.gateway = TwoListeners(folder, config)
        self.recordings = Recordings(folder / "recordings", self.auditors.files[0])

    def masked(self, **where):
        """Both planes of the newest session with these values, and what its transcript says was masked."""
        session, up, down = self.recorded(**where)
        items = self.recordings.show(session, "--identity", self.recordings.identity, "--json").splitlines()
        items = [item for item in map(json.loads, items) if item["kind"] == "masked"]
        return session, {"up": up, "down": down}, items

    def stop(self):
        for server in (self.redis, self.postgres, self.mariadb, *self.bridges):
            server.stop()


@pytest.fixture(scope="module")
def place(world, tmp_path_factory):
    yield from recorded_place(Place, world, tmp_path_factory, "masked")


def spans(items, direction):
    found = [span for item in items if item["direction"] == direction for span in item["spans"]]
    return [(span["rule"], span["offset"], span["length"]) for span in found]


def assert_overwritten(body: bytes, found: list, filler=b"*"):
    """These spans are where a body has been overwritten, and all of it."""
    said = sorted(place for _, offset, length in found for place in range(offset, offset + length))
    assert said == [match.start() for match in re.finditer(re.escape(filler), body)], (found, body)


@pytest.mark.parametrize("version", ["--http1.1", "--http2"])
def test_bodies_of_both_directions(place, world, version):
    body = json.dumps({"text": f"pay {CARD.decode()}", "mail": "jane@example.com"})
    more = [version, "-H", "Content-Type: application/json", "-d", body]
    answer = curl(place.gateway, world, "app", "/echo", *more, token=world.issuer.token())
    assert MASKED in answer.stdout
    session, planes, items = place.masked(route="app")
    for direction, plane in planes.items():
        assert CARD not in plane and b"jane@example" not in plane and MASKED in plane, (direction, plane)
    # What came down had been masked before.
    assert {rule for rule, _, _ in spans(items, "up")} == {"card", "email"} and not spans(items, "down")
    assert_overwritten(answer.stdout, spans(items, "up"))
    shown = place.transcript(session)
    assert re.search(r"→ masked request \d+: card 21\+2, card 24\+4, email 49\+12\n", shown), shown
    # Without a key nobody sees where.
    assert "card" not in re.sub(r"masked=\S+", "", place.recordings.show(session))


def test_chunks_and_events_count_as_what_they_carry(place, world):
    said = {"model": "m", "messages": [{"role": "system", "content": json.dumps(["Pay ", "411", "1 1111 ", "1111 1", "111", " now"])}]}
    text = json.dumps(said | {"stream": True})
    more = ["--http1.1", "-N", "-H", "Content-Type: application/json", "-d", text]
    answer = curl(place.gateway, world, "app", "/v1/chat/completions", *more, token=world.issuer.token())
    _, planes, items = place.masked(route="app")
    assert b"transfer-encoding: chunked" in planes["down"].lower()
    assert spans(items, "down"), items
    assert_overwritten(answer.stdout, spans(items, "down"))


def test_a_body_with_thousands_of_values_has_all_its_spans(place, world, tmp_path):
    body = " ".join([CARD.decode()] * 2000)
    (tmp_path / "body").write_text(body)
    more = ["--http1.1", "-H", "Content-Type: text/plain", "-H", "Expect:", "--data-binary", f"@{tmp_path}/body"]
    answer = curl(place.gateway, world, "app", "/echo", *more, token=world.issuer.token())
    _, planes, items = place.masked(route="app")
    assert CARD not in planes["up"] and len(items) > 2
    assert_overwritten(answer.stdout, spans(items, "up"))


def test_frames_of_a_websocket(place, world):
    bridge = place.bridge("app", "http/1.1")
    fields = {"Authorization": f"Bearer {world.issuer.token()}"}
    tcp = socket.create_connection(("127.0.0.1", bridge.port), 10)
    with websockets.sync.client.connect("ws://app.gw.test/ws", sock=tcp, additional_headers=fields, compression=None) as connection:
        connection.send("card 4111 1111 1111 1111 and")
        assert connection.recv(5) == "card 4111 11** **** 1111 and"
    session, planes, items = place.masked(route="app")
    assert CARD not in planes["down"] and MASKED in planes["down"]
    assert [rule for rule, _, _ in spans(items, "up")] == ["card", "card"]
    shown = place.transcript(session)
    assert CARD.decode() not in shown and shown.count(MASKED.decode()) == 2, shown


def test_grpc_messages(place, world):
    message = b"\n\x13" + CARD
    with Grpc(place.gateway, world, world.issuer.token()) as rpc:
        answer = rpc.unary(message, metadata=rpc.metadata, timeout=10)
    assert MASKED in answer
    _, planes, items = place.masked(route="grpc")
    assert CARD not in planes["up"] + planes["down"] and MASKED in planes["up"] and MASKED in planes["down"]
    # Five bytes are before each message.
    assert spans(items, "up") == [("card", 5 + 2 + 7, 2), ("card", 5 + 2 + 10, 4)]


def test_replies_of_redis(place, world):
    bridge = place.bridge("redis")
    lines = f"SET key '{CARD.decode()}'\nGET key\nQUIT\n"
    command = [program("redis-cli"), "-p", str(bridge.port)]
    done = run(command, env=os.environ | {"REDISCLI_AUTH": world.issuer.token()}, input=lines.encode())
    assert MASKED in done.stdout, done
    _, planes, items = place.masked(route="redis")
    assert CARD not in planes["down"] and MASKED in planes["down"]
    assert [(rule, length) for rule, _, length in spans(items, "down")] == [("card", 2), ("card", 4)]


def assert_database(place, route):
    session, planes, items = place.masked(route=route)
    for direction, plane in planes.items():
        assert CARD not in plane and (MASKED if direction == "down" else SYNTAX) in plane, (direction, plane)
        # Both count from behind the login, of which a recording has more or less.
        (rule, first, length), (_, second, more) = spans(items, direction)[:2]
        at = plane.index(MASKED if direction == "down" else SYNTAX) + 7
        assert (rule, length, second - first, more) == ("card", 2, 3, 4), items
        # What ends the login down: ReadyForQuery of PostgreSQL, the OK packet of MySQL.
        down = planes["down"]
        # Before MySQL's stands the packet that asks for the password in clear.
        before = down.index(b"Z\0\0\0\x05I") + 6 if route == "pg" else (first_packet := 4 + down[0]) + 4 + down[first_packet]
        assert at - first == (before if direction == "down" else 0), (at, first, before)
    shown = place.transcript(session)
    assert CARD.decode() not in shown and "← masked" in shown, shown


def test_rows_and_statements_of_postgresql(place, world):
    bridge = place.bridge("pg", "postgresql")
    words = f"host=127.0.0.1 port={bridge.port} dbname=postgres user=ann sslmode=disable"
    psql = [str(postgres.programs() / "psql"), "-XAtq", "-w", words]
    # In two halves, so that the row has what the statement has not.
    script = f"select '4111 1111 ' || '1111 1111' as card; select '{CARD.decode()}';"
    done = run(psql, env=os.environ | {"PGPASSWORD": world.issuer.token()}, input=script.encode())
    assert MASKED in done.stdout, done
    assert_database(place, "pg")


def test_rows_and_statements_of_mysql(place, world):
    with connect_mysql(place.gateway.mysql, world) as connection, connection.cursor() as cursor:
        cursor.execute(f"select concat('4111 1111 ', '1111 1111'), '{CARD.decode()}'")
        assert cursor.fetchone()[0].encode() == MASKED
    assert_database(place, "shop")


def test_a_reader_that_was_written_from_the_format_s_page_finds_each_span_overwritten(place):
    """Every session of this file: what stands in a span is a filler of its protocol, and nothing of a value."""
    until(lambda: all(session["state"] == "complete" for session in place.recordings.sessions()))
    reader = str(ROOT / "tests/e2e/recording_spans.py")
    done = run([sys.executable, reader, str(place.recordings.folder), place.recordings.identity])
    assert done.returncode == 0, done.stdout + done.stderr
    found = [span for session in json.loads(done.stdout).values() for span in session]
    protocols = {(span["protocol"], span["direction"]) for span in found}
    assert protocols, done.stdout
    for span in found:
        fillers = "*" if span["protocol"].startswith("http") or span["direction"] == "down" else "0x"
        assert set(span["bytes"]) <= set(fillers), repr(span)


def test_no_file_of_the_directory_and_no_line_of_the_log_has_a_value(place):
    until(lambda: all(session["state"] == "complete" for session in place.recordings.sessions()))
    place.recordings.hold_none_of(CARD.decode(), "jane@example.com")
    assert CARD.decode() not in place.gateway.process.text()
    assert place.recordings.verify().returncode == 0
