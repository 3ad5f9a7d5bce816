"""MySQL's protocol through the gateway: a real MariaDB, its client, PyMySQL, MySQL's own connector."""

import concurrent.futures
import contextlib
import datetime
import io
import hashlib
import pathlib
import socket
import ssl
import struct
import tempfile
import threading
import time
from decimal import Decimal

import mysql.connector
import pymysql
import pytest
from conftest import check_log
from pymysql.constants import CLIENT
from support import mariadb, parts
from support.gateway import KEY, Gateway
from support.process import ends, free_port, run

ROUTES = ["shop", "cut", "groups", "wrong", "down", "notls", "stranger", "files", "cert", "logged", "ed"]
NAMES = [f"{name}.my.test" for name in ROUTES] + ["localhost", "masked.my.test"]
SSL = 1 << 11
CHANGE_USER, QUERY, QUIT, PING = 0x11, 0x03, 0x01, 0x0E


class Database:
    """The server, and routes to it."""

    def __init__(self, world):
        self.world = world
        self.server = mariadb.Server(*world.upstream_pair, KEY)
        self.pair = world.authority.leaf("my-gateway", NAMES)
        self.machine = world.authority.leaf("my-machine", ["ann.clients.test"])
        # Greets without TLS, and takes note of what comes.
        self.heard = []
        self.refuser = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self.refuse, daemon=True).start()

    def refuse(self):
        with contextlib.suppress(OSError):
            while True:
                plain, _ = self.refuser.accept()
                with plain, contextlib.suppress(OSError):
                    plain.settimeout(5)
                    plain.sendall(greeting(0xF7FF & ~SSL))
                    self.heard.append(plain.recv(64))

    def route(self, name, user="svc", port=None, **more):
        chain, key = self.pair
        return {
            "name": f"my-{name}", "sni": f"{name}.my.test", "protocol": "mysql",
            "upstream": {"address": f"tls://127.0.0.1:{port or self.server.port}", "ca": self.world.ca},
            "certificate": {"chain": chain, "key": key},
            "allow": [{"issuer": "corp", "groups": ["agents"]}],
            "inject": {"user": user, "password": "{secret:stored}"},
        } | more  # fmt: skip

    def config(self, **more):
        accounts = [
            {"user": "svc", "password": "{secret:stored}", "subjects": ["nobody"]},
            {"user": "ro", "password": "{secret:stored}", "groups": ["agents"]},
        ]
        routes = [
            self.route("shop"),
            self.route("cut", on_expiry="cut"),
            self.route("groups", inject=accounts),
            self.route("wrong", user="nobody"),
            self.route("down", port=free_port()),
            self.route("notls", port=self.refuser.getsockname()[1]),
            # A certificate for another name than the one that is dialled.
            self.route("stranger", upstream={"address": f"tls://127.0.0.1:{self.server.port}", "ca": self.world.ca, "sni": "other.test"}),
            self.route("files", local_files=True),
            self.route("ed", user="ed"),
            self.route("logged", statements="64B", local_files=True),
            self.route(
                "cert", client_certificates="required", client_ca=self.world.ca,
                certificate_identity={"name": "machines", "subject": ["dns"]}, allow=[{"issuer": "machines"}],
            ),
            self.route("masked", mask={"down": ["all"], "up": ["up"]}, statements="256B", local_files=True),
        ]  # fmt: skip
        masks = [
            {"name": "all", "detect": ["personal", "keys"], "columns": ["salary", "born"]},
            {"name": "up", "detect": ["personal"]},
        ]
        config = self.world.config(*routes, mask=masks)
        config["mysql"] = {"version": "10.11.6-MariaDB", "route": "my-shop"}
        return config | more


def greeting(capabilities):
    payload = b"\x0a8.0.0\0" + struct.pack("<I", 1) + b"A" * 8 + b"\0" + struct.pack("<H", capabilities) + b"\x2d"
    payload += struct.pack("<HH", 2, 0x08 | 0x0080) + b"\x15" + bytes(10) + b"B" * 12 + b"\0mysql_native_password\0"
    return struct.pack("<I", len(payload))[:3] + b"\0" + payload


@pytest.fixture(scope="module")
def database(world):
    database = Database(world)
    yield database
    database.server.stop()


@pytest.fixture(scope="module")
def gateway(database, tmp_path_factory):
    gateway = Gateway(tmp_path_factory.mktemp("mysql"), database.config())
    yield gateway
    assert gateway.stop() == 0, gateway.process.text()
    check_log(gateway)


def client(gateway, world, *arguments, token=None, name="localhost", user="whoever", seconds=60, **more):
    """MariaDB's own."""
    command = [
        mariadb.program("mariadb"), "--no-defaults", "--protocol=tcp", "-h", name, "-P", str(gateway.port), "-u", user,
        "--ssl", f"--ssl-ca={world.ca}", "--ssl-verify-server-cert", f"--password={token or ''}", *arguments,
    ]  # fmt: skip
    return run(command, seconds, **more)


class Named(ssl.SSLContext):
    """Asks for a name of our own, whatever the address."""

    name = "shop.my.test"

    def wrap_socket(self, sock, server_hostname=None, **more):
        return super().wrap_socket(sock, server_hostname=self.name, **more)


def connect(gateway, world, route="shop", token=None, **more):
    """PyMySQL, to a route by its name."""
    context = Named(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(world.ca)
    context.name = f"{route}.my.test"
    if pair := more.pop("pair", None):
        context.load_cert_chain(*pair)
    token = world.issuer.token() if token is None else token
    return pymysql.connect(
        host="127.0.0.1", port=gateway.port, user="whoever", password=token, ssl=context, connect_timeout=20, **more
    )


def one(connection, sql, *arguments):
    with connection.cursor() as cursor:
        cursor.execute(sql, *arguments)
        return cursor.fetchone()[0]


def test_mariadbs_client_sends_the_token_as_its_password(gateway, database, world):
    token = world.issuer.token()
    answer = client(gateway, world, "-BN", "-e", "select current_user(), 6*7", token=token)
    assert answer.stdout == b"svc@127.0.0.1\t42\n", answer.stderr
    line = gateway.line("session closed", route="my-shop", database_user="svc")
    assert (line["subject"], line["issuer"], line["reason"]) == (parts.ANN, "corp", "done"), (line["reason"], line["culprit"], line.get("detail"))
    assert line["client_version"].startswith("TLSv1.") and line["upstream_version"] == "TLSv1.3"
    assert token not in database.server.general()


def test_pymysql_by_name_with_database_charset_and_transactions(gateway, world):
    with connect(gateway, world, database="shop", charset="utf8mb4") as connection:
        assert one(connection, "select database()") == "shop"
        with connection.cursor() as cursor:
            cursor.execute("create or replace table things (id int primary key, name varchar(40))")
            cursor.executemany("insert into things values (%s, %s)", [(n, f"thing {n} ÿ€") for n in range(500)])
            connection.rollback()
            cursor.execute("select count(*) from things")
            assert cursor.fetchone() == (0,)
            cursor.execute("insert into things values (1, 'a')")
        connection.commit()
        assert one(connection, "select name from things") == "a"
        with pytest.raises(pymysql.err.ProgrammingError):
            one(connection, "select nonsense from nowhere")
        assert one(connection, "select 1") == 1
        connection.ping(reconnect=False)
    line = gateway.line("session closed", database="shop")
    assert line["database_user"] == "svc" and line["application"]


def test_several_results_of_one_query(gateway, world):
    with connect(gateway, world, client_flag=CLIENT.MULTI_STATEMENTS) as connection, connection.cursor() as cursor:
        cursor.execute("select 1; select 2, 3; do 0; select 'four'")
        results = [cursor.fetchall()]
        while cursor.nextset():
            results.append(tuple(cursor.fetchall()))
        assert results == [((1,),), ((2, 3),), (), (("four",),)]
        cursor.execute("select 5")
        assert cursor.fetchone() == (5,)


def connector(gateway, world, token=None, **more):
    """MySQL's own connector, which sends no name to an address: the listener's route."""
    return mysql.connector.connect(
        host="127.0.0.1", port=gateway.port, user="whoever", password=token or world.issuer.token(), ssl_ca=world.ca,
        ssl_verify_cert=True, auth_plugin="mysql_clear_password", use_pure=True, **more,
    )  # fmt: skip


def test_mysqls_connector_prepares_statements(gateway, world):
    with connector(gateway, world, database="shop") as connection:
        with connection.cursor(prepared=True) as cursor:
            cursor.execute("create or replace table blobs (id int primary key, data longblob)")
        with connection.cursor(prepared=True) as cursor:
            for n in range(50):
                cursor.execute("insert into blobs values (?, ?)", (n, bytes([n]) * 1000))
        connection.commit()
        with connection.cursor(prepared=True) as cursor:
            cursor.execute("select data from blobs where id = ?", (7,))
            assert cursor.fetchall() == [(bytes([7]) * 1000,)]
            cursor.execute("select id from blobs where id < ? order by id", (3,))
            assert cursor.fetchall() == [(0,), (1,), (2,)]


def test_packets_beyond_16_mib_both_ways(gateway, world):
    noise = hashlib.sha256(b"x").digest() * (20 * 1024 * 32)
    with connect(gateway, world, database="shop") as connection, connection.cursor() as cursor:
        cursor.execute("create or replace table large (data longblob)")
        cursor.execute("insert into large values (%s)", (noise,))
        cursor.execute("select sha2(data, 256), data from large")
        digest, data = cursor.fetchone()
        assert digest == hashlib.sha256(noise).hexdigest() and data == noise
        assert one(connection, "select 1") == 1


def test_a_dump_of_a_database(gateway, world):
    with connect(gateway, world, database="shop") as connection, connection.cursor() as cursor:
        cursor.execute("create or replace table kept (id int)")
        cursor.execute("insert into kept select seq from seq_1_to_1000")
        connection.commit()
    command = [
        mariadb.program("mariadb-dump"), "--no-defaults", "--protocol=tcp", "-h", "localhost", "-P", str(gateway.port), "-u", "x",
        "--ssl", f"--ssl-ca={world.ca}", f"--password={world.issuer.token()}", "shop", "kept",
    ]  # fmt: skip
    answer = run(command)
    assert answer.returncode == 0 and b"(1000)" in answer.stdout, answer.stderr


def test_the_identity_stands_among_the_connections_attributes(gateway, world):
    with connect(gateway, world, program_name="reports") as connection:
        sql = "select attr_value from performance_schema.session_connect_attrs where processlist_id = connection_id() and attr_name = %s"
        assert one(connection, sql, ("staunch_subject",)) == parts.ANN
        assert one(connection, sql, ("program_name",)) == "reports"


def test_accounts_go_by_the_identity(gateway, world):
    with connect(gateway, world, "groups") as connection:
        assert one(connection, "select current_user()") == "ro@127.0.0.1"
        with pytest.raises(pymysql.err.OperationalError):
            one(connection, "insert into shop.things values (9, 'x')")


def test_an_account_that_signs_with_ed25519(gateway, world):
    with connect(gateway, world, "ed") as connection:
        assert one(connection, "select current_user()") == "ed@127.0.0.1"


def test_a_client_certificate_is_enough(gateway, database, world):
    with connect(gateway, world, "cert", token="", pair=database.machine) as connection:
        assert one(connection, "select current_user()") == "svc@127.0.0.1"
    assert gateway.line("session closed", route="my-cert")["proof"] == "certificate"


@pytest.mark.parametrize("who", ["nothing", "garbage", "forged", "elsewhere", "expired", "stranger"])
def test_refusals_say_why_and_reach_no_server(gateway, database, world, who):
    token = {
        "nothing": lambda: "",
        "garbage": lambda: "not-a-token",
        "forged": world.issuer.forged,
        "elsewhere": lambda: world.issuer.token(parts.ELSEWHERE),
        "expired": lambda: expired(world),
        "stranger": lambda: world.issuer.token(parts.STRANGER),
    }[who]()
    before = database.server.arrivals()
    with pytest.raises(pymysql.err.OperationalError) as error:
        connect(gateway, world, token=token)
    number, words = error.value.args
    assert number == 1045 and "session " in words, words
    assert token == "" or token not in words
    assert database.server.arrivals() == before


def expired(world):
    token = world.issuer.token(parts.BRIEF)
    time.sleep(3 + 31)
    return token


@pytest.mark.parametrize(("route", "words"), [("wrong", "does not let"), ("down", "cannot be reached"), ("notls", "cannot be reached"), ("stranger", "cannot be reached")])
def test_what_is_wrong_with_an_upstream(gateway, database, world, route, words):
    with pytest.raises(pymysql.err.OperationalError) as error:
        connect(gateway, world, route)
    assert error.value.args[0] == 1429 and words in error.value.args[1], error.value
    assert "nobody" not in error.value.args[1]
    if route == "notls":
        assert all(heard == b"" for heard in database.heard), "something was said in clear"


def test_a_database_that_is_not_there(gateway, world):
    with pytest.raises(pymysql.err.OperationalError) as error:
        connect(gateway, world, database="nowhere")
    assert error.value.args[0] == 1049


def test_local_files_are_sent_only_where_the_route_allows_it(gateway, world, tmp_path):
    table = tmp_path / "rows.txt"
    table.write_text("".join(f"{n}\tname {n}\n" for n in range(200_000)))
    load = f"load data local infile '{table}' into table shop.rows"
    for route, allowed in (("shop", False), ("files", True)):
        with connect(gateway, world, route, local_infile=True) as connection, connection.cursor() as cursor:
            cursor.execute("create or replace table shop.rows (id int, name varchar(40))")
            if not allowed:
                with pytest.raises(pymysql.err.MySQLError):
                    cursor.execute(load)
                assert one(connection, "select 1") == 1
                continue
            cursor.execute(load)
            connection.commit()
            assert one(connection, "select count(*) from shop.rows") == 200_000
            connection.ping(reconnect=False)


def statements(gateway, session):
    return [line for line in gateway.lines() if line["event"] == "statement" and line["session"] == session]


def test_statements_have_lines_in_the_log(gateway, world, tmp_path):
    rows = tmp_path / "rows.txt"
    rows.write_text("1\n2\n3\n")
    with connect(gateway, world, "logged", local_infile=True, client_flag=CLIENT.MULTI_STATEMENTS) as connection:
        with connection.cursor() as cursor:
            cursor.execute("create or replace table shop.logged (id int)")
            cursor.execute("insert into shop.logged values (1), (2)")
            cursor.execute("select id from shop.logged order by id")
            cursor.execute("select 1; select 2, 3; do 0")
            while cursor.nextset():
                pass
            with pytest.raises(pymysql.err.MySQLError):
                cursor.execute("select nonsense")
            cursor.execute("select '" + "€" * 100 + "'")
            cursor.execute("create or replace user tmp@'127.0.0.1' identified by 'pass-canary'")
            cursor.execute("set password for tmp@'127.0.0.1' = password('pass-canary')")
            cursor.execute("drop user tmp@'127.0.0.1'")
            cursor.execute(f"load data local infile '{rows}' into table shop.logged")
        connection.ping(reconnect=False)
    closed = gateway.line("session closed", route="my-logged")
    lines = statements(gateway, closed["session"])
    assert closed["statements"] == len(lines) == lines[-1]["statement"]
    by_text = {line["text"][:30]: line for line in lines}
    assert by_text["insert into shop.logged values"]["rows"] == 2
    assert by_text["select id from shop.logged ord"]["rows"] == 2
    assert by_text["select 1; select 2, 3; do 0"]["results"] == 3
    wrong = by_text["select nonsense"]
    assert (wrong["result"], wrong["sqlstate"], wrong["kind"]) == ("error", "42S22", "query")
    long = by_text["select '" + "€" * 18]
    assert (long["cut"], long["text_bytes"]) == (True, 309) and long["text"].endswith("€")
    assert "pass-canary" not in gateway.process.text()
    assert "identified by ***" in by_text["create or replace user tmp@'12"]["text"]
    assert by_text["load data local infile '" + str(rows)[:6]]["rows"] == 3
    assert all(line["duration_us"] > 0 and line["subject"] == parts.ANN for line in lines)


def test_prepared_statements_are_told_with_their_texts(gateway, database, world):
    config = database.config()
    config["mysql"] = config["mysql"] | {"route": "my-logged"}
    # The connector sends no name: a gateway of its own, whose listener leads to the logged route.
    with tempfile.TemporaryDirectory() as folder:
        own = Gateway(pathlib.Path(folder), config)
        with connector(own, world, database="shop") as connection, connection.cursor(prepared=True) as cursor:
            for n in range(3):
                cursor.execute("select ? + 1", (n,))
                assert cursor.fetchall() == [(n + 1,)]
        closed = own.line("session closed", route="my-logged")
        lines = [line for line in statements(own, closed["session"]) if "+ 1" in line.get("text", "")]
        assert own.stop() == 0
    kinds = [(line["kind"], line["text"], line["name"]) for line in lines]
    name = kinds[0][2]
    assert kinds == [("parse", "select ? + 1", name)] + [("execute", "select ? + 1", name)] * 3
    assert [line.get("rows") for line in lines[1:]] == [1, 1, 1]


def test_kill_query_reaches_the_statement(gateway, world):
    with connect(gateway, world) as slow, connect(gateway, world) as other:
        number = one(slow, "select connection_id()")
        killing = threading.Timer(0.5, lambda: other.cursor().execute(f"kill query {number}"))
        killing.start()
        started = time.monotonic()
        with contextlib.suppress(pymysql.err.MySQLError):
            one(slow, "select sleep(20)")
        assert time.monotonic() - started < 10
        # Its connection is one thread's at a time.
        killing.join(20)
        assert one(slow, "select 1") == 1


def test_a_kill_by_the_number_of_the_greeting_reaches_the_statement(gateway, world):
    """As MariaDB's client sends it at Ctrl-C, and cancel() of other libraries."""
    with connect(gateway, world) as slow, connect(gateway, world) as other:
        assert slow.thread_id() != one(slow, "select connection_id()")
        killing = threading.Timer(0.5, lambda: other.cursor().execute(f"KILL QUERY {slow.thread_id()}"))
        killing.start()
        started = time.monotonic()
        with contextlib.suppress(pymysql.err.MySQLError):
            one(slow, "select sleep(20)")
        assert time.monotonic() - started < 10
        # Its connection is one thread's at a time.
        killing.join(20)
        assert one(slow, "select 1") == 1
        other.kill(slow.thread_id())
        with pytest.raises(pymysql.err.MySQLError):
            one(slow, "select 1")
        assert one(other, "select 1") == 1


def test_a_connector_that_compresses_is_told_so(gateway, world):
    started = time.monotonic()
    with pytest.raises(mysql.connector.Error, match="connect without compression"):
        connector(gateway, world, compress=True)
    assert time.monotonic() - started < 10


def test_fifty_at_once(gateway, world):
    token = world.issuer.token()

    def work(n):
        with connect(gateway, world, token=token) as connection:
            return [one(connection, "select %s + %s", (n, m)) for m in range(20)]

    with concurrent.futures.ThreadPoolExecutor(50) as pool:
        for n, answers in enumerate(pool.map(work, range(50))):
            assert answers == [n + m for m in range(20)]


class Wire:
    """A client by hand."""

    def __init__(self, gateway):
        self.plain = socket.create_connection(("127.0.0.1", gateway.port), 10)
        self.socket = self.plain
        self.socket.settimeout(10)

    def packet(self):
        head = self.exactly(4)
        return head[3], self.exactly(int.from_bytes(head[:3], "little"))

    def exactly(self, n):
        data = b""
        while len(data) < n:
            part = self.socket.recv(n - len(data))
            if not part:
                raise EOFError(data)
            data += part
        return data

    def send(self, sequence, payload):
        self.socket.sendall(len(payload).to_bytes(3, "little") + bytes([sequence]) + payload)

    def secure(self, world, name="shop.my.test"):
        self.send(1, struct.pack("<IIB23x", 0x81AA00 | SSL | 0x80000, 1 << 24, 45))
        context = ssl.create_default_context(cafile=world.ca)
        context.check_hostname = name is not None
        self.socket = context.wrap_socket(self.plain, server_hostname=name)

    def response(self, sequence=2, user=b"x"):
        flags = 0x00AA00 | SSL | 0x80000
        self.send(sequence, struct.pack("<IIB23x", flags, 1 << 24, 45) + user + b"\0\0mysql_clear_password\0")

    def log_in(self, world, token, name="shop.my.test"):
        self.packet()
        self.secure(world, name)
        self.response()
        sequence, asked = self.packet()
        assert (sequence, asked) == (3, b"\xfemysql_clear_password\0")
        self.send(4, token.encode() + b"\0")
        sequence, ok = self.packet()
        assert (sequence, ok[0]) == (5, 0), ok


def test_the_greeting_names_the_version_and_promises_no_compression(gateway):
    wire = Wire(gateway)
    sequence, payload = wire.packet()
    version, rest = payload[1:].split(b"\0", 1)
    assert (sequence, payload[0], version) == (0, 10, b"5.5.5-10.11.6-MariaDB")
    low = int.from_bytes(rest[13:15], "little")
    assert low & SSL and not low & 0x20


def greeted(port):
    """The version and the collation by which clients choose."""
    with socket.create_connection(("127.0.0.1", port), 10) as plain:
        head = plain.recv(4, socket.MSG_WAITALL)
        version, rest = plain.recv(int.from_bytes(head[:3], "little"), socket.MSG_WAITALL)[1:].split(b"\0", 1)
        return version, rest[15]


def test_clients_are_told_the_upstreams_version_and_collation_once_they_are_known(database, world, start):
    gateway = start(database.config(mysql={"route": "my-shop"}))
    assert greeted(gateway.port) == (b"8.0.11-staunch", 45)
    with connect(gateway, world) as connection:
        assert one(connection, "select 1") == 1
    theirs = greeted(database.server.port)
    assert theirs[1] != 45, theirs
    assert greeted(gateway.port) == theirs


def test_a_login_in_clear_is_refused_before_anything_is_asked(gateway, database):
    before = database.server.arrivals()
    wire = Wire(gateway)
    wire.packet()
    wire.send(1, struct.pack("<IIB23x", 0x00A200 | 0x80000, 1 << 24, 45) + b"root\0\0mysql_native_password\0")
    sequence, error = wire.packet()
    assert (sequence, error[0], int.from_bytes(error[1:3], "little")) == (2, 0xFF, 3159)
    assert b"TLS only" in error and ends(wire.socket)
    assert gateway.line("session closed", reason="not_tls", reason_detail="mysql")
    assert database.server.arrivals() == before


@pytest.mark.parametrize(
    "garbage",
    [b"\0\0\0\1", b"\xff\xff\xff\1", b"\x20\0\0\2" + bytes(32), b"\x04\0\0\1\0\0\0\0", b"GET / HTTP/1.1\r\n\r\n", b"\x21\0\0\1" + struct.pack("<I", 0x200 | SSL) + bytes(29)],
)  # fmt: skip
def test_garbage_in_clear_ends_there(gateway, database, garbage):
    before = database.server.arrivals()
    wire = Wire(gateway)
    wire.packet()
    wire.socket.sendall(garbage)
    sequence, error = wire.packet()
    assert (sequence, error[0]) == (2, 0xFF)
    assert ends(wire.socket)
    assert database.server.arrivals() == before


@pytest.mark.parametrize("garbage", [b"\0\0\0\2", b"\x05\0\0\2abcde", b"\x05\0\0\7abcde", b"\xff\xff\xff\2", b"\x01\0\0\2\x03\x01\0\0\0\x0e"])
def test_garbage_inside_tls_ends_there(gateway, database, world, garbage):
    before = database.server.arrivals()
    wire = Wire(gateway)
    wire.packet()
    wire.secure(world)
    wire.socket.sendall(garbage)
    sequence, error = wire.packet()
    assert (sequence, error[0], int.from_bytes(error[1:3], "little")) == (3, 0xFF, 1043)
    assert ends(wire.socket)
    assert database.server.arrivals() == before


def test_commands_behind_the_login_before_its_answer_are_refused(gateway, database, world):
    before = database.server.arrivals()
    wire = Wire(gateway)
    wire.packet()
    wire.secure(world)
    wire.response()
    wire.packet()
    token = world.issuer.token().encode() + b"\0"
    wire.socket.sendall(len(token).to_bytes(3, "little") + b"\4" + token + b"\1\0\0\0" + bytes([PING]))
    assert wire.packet()[1][0] == 0xFF and ends(wire.socket)
    assert database.server.arrivals() == before


def test_another_user_means_another_connection(gateway, database, world):
    wire = Wire(gateway)
    wire.log_in(world, world.issuer.token())
    wire.send(0, bytes([CHANGE_USER]) + b"root\0\x05token-canary\0\x2d\0mysql_clear_password\0")
    sequence, error = wire.packet()
    assert (sequence, error[0], int.from_bytes(error[1:3], "little")) == (1, 0xFF, 1047)
    assert b"COM_CHANGE_USER" in error and ends(wire.socket)
    assert "token-canary" not in database.server.general()
    assert gateway.line("session closed", reason="protocol", route="my-shop")["culprit"] == "client"


def test_a_cursors_rows_pass_and_are_not_among_the_statements(gateway, world):
    wire = Wire(gateway)
    wire.log_in(world, world.issuer.token(), "logged.my.test")
    wire.send(0, b"\x16select seq from shop.seq_1_to_9")
    ok = wire.packet()[1]
    number = ok[1:5]
    assert ok[0] == 0, ok
    # A column, and the end of the columns.
    wire.packet(), wire.packet()
    # With a cursor for reading (CURSOR_TYPE_READ_ONLY): the rows wait at the server.
    wire.send(0, b"\x17" + number + b"\1" + struct.pack("<I", 1))
    packets = [wire.packet()[1] for _ in range(3)]
    assert packets[0] == b"\1" and packets[2][0] == 0xFE, packets
    for rows in (4, 4, 1):
        wire.send(0, b"\x1c" + number + struct.pack("<I", 4))
        packets = [wire.packet()[1] for _ in range(rows + 1)]
        assert packets[-1][0] == 0xFE and all(packet[0] == 0 for packet in packets[:-1]), packets
    wire.send(0, bytes([QUIT]))
    assert ends(wire.socket)
    line = gateway.line("statement", kind="execute", text="select seq from shop.seq_1_to_9")
    assert line["result"] == "done" and "rows" not in line, line
    assert len(statements(gateway, line["session"])) == 2


def test_packets_out_of_order_end_the_session(gateway, world):
    wire = Wire(gateway)
    wire.log_in(world, world.issuer.token())
    wire.send(0, bytes([PING]))
    assert wire.packet() == (1, b"\0\0\0\x02\0\0\0")
    wire.send(5, bytes([CHANGE_USER]) + b"root\0")
    assert wire.packet()[1][0] == 0xFF and ends(wire.socket)


def test_byte_by_byte(gateway, world):
    wire = Wire(gateway)
    wire.log_in(world, world.issuer.token())
    wire.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    query = bytes([QUERY]) + b"select 'byte by byte'"
    for byte in len(query).to_bytes(3, "little") + b"\0" + query:
        wire.socket.sendall(bytes([byte]))
    packets = [wire.packet() for _ in range(5)]
    assert [sequence for sequence, _ in packets] == [1, 2, 3, 4, 5]
    assert packets[3][1] == b"\x0cbyte by byte"
    wire.send(0, bytes([QUIT]))
    assert ends(wire.socket)


def test_a_permit_that_ends_is_told_in_an_error(gateway, world):
    token = world.issuer.token(parts.BRIEF)
    idle = Wire(gateway)
    idle.log_in(world, token, "cut.my.test")
    with connect(gateway, world, "cut", token=token) as busy:
        # In place of an answer that was asked for.
        with pytest.raises(pymysql.err.OperationalError) as error:
            one(busy, "select sleep(20)")
    number, words = error.value.args
    assert number == 1927 and "permit of this session has ended" in words and "session " in words, words
    # By itself to who waits for nothing, with the number of a first packet.
    sequence, told = idle.packet()
    assert (sequence, told[:9]) == (0, b"\xff" + (1927).to_bytes(2, "little") + b"#70100"), told
    assert ends(idle.socket)
    assert gateway.line("session closed", route="my-cut", reason="expired")


def test_no_name_at_all_is_the_listeners_route(gateway, database, world):
    """MariaDB's client sends none though it is given one, and so does a client that is given none."""

    def nameless():
        lines = [line for line in gateway.lines() if line["event"] == "session opened" and "sni" not in line]
        assert all(line["route"] == "my-shop" for line in lines)
        return len(lines)

    before, token = nameless(), world.issuer.token()
    answer = client(gateway, world, "-BN", "-e", "select 'no name'", token=token, name="localhost")
    assert answer.stdout == b"no name\n", answer.stderr
    wire = Wire(gateway)
    wire.log_in(world, token, None)
    wire.send(0, bytes([QUIT]))
    assert ends(wire.socket)
    assert nameless() == before + 2


def test_no_name_at_all_is_refused_where_the_listener_has_no_route(database, world, start):
    before = database.server.arrivals()
    gateway = start(database.config(mysql={"version": "10.11.6-MariaDB"}))
    answer = client(gateway, world, "-e", "select 1", token=world.issuer.token())
    assert answer.returncode == 1 and b"SSL" in answer.stderr, answer.stderr
    assert gateway.line("session closed", reason="no_route")["detail"] == "no name was sent, and the listener's mysql has no route"
    assert database.server.arrivals() == before
    with connect(gateway, world, "shop") as connection:
        assert one(connection, "select 1") == 1


def test_a_wrong_name_is_refused_whatever_the_listeners_route(gateway, world):
    wire = Wire(gateway)
    wire.packet()
    with pytest.raises(ssl.SSLError):
        wire.secure(world, "nowhere.my.test")
    assert gateway.line("session closed", reason="no_route")["detail"] == "no route has this name"


TLS_REQUEST = b"\x20\0\0\1" + struct.pack("<IIB23x", 0x81AA00 | SSL | 0x80000, 1 << 24, 45)


def hello(name):
    """The first flight of a TLS client."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        ssl.create_default_context().wrap_bio(incoming, outgoing, server_hostname=name).do_handshake()
    return outgoing.read()


def test_half_open_logins_are_gone_by_the_deadline_whichever_step_they_stopped_at(database, world, start):
    before = database.server.arrivals()
    gateway = start(database.config(limits={"permit_deadline": "4s"}))

    def stopped(step):
        wire = Wire(gateway)
        wire.begun = time.monotonic()
        wire.packet()
        match step:
            case "half of the request for TLS":
                wire.socket.sendall(TLS_REQUEST[:20])
            case "no hello":
                wire.socket.sendall(TLS_REQUEST)
            case "half a hello":
                wire.socket.sendall(TLS_REQUEST + hello("shop.my.test")[:60])
            case "no login" | "half a login" | "no token" | "half a token":
                wire.secure(world)
        if step == "half a login":
            wire.socket.sendall(b"\x80\0\0\2" + bytes(40))
        if step in ("no token", "half a token"):
            wire.response()
            assert wire.packet()[1][0] == 0xFE
        if step == "half a token":
            wire.socket.sendall(b"\x80\3\0\4" + world.issuer.token().encode()[:80])
        return wire

    in_clear = ("silence", "half of the request for TLS", "no hello", "half a hello")
    inside_tls = ("no login", "half a login", "no token", "half a token")
    wires = [stopped(step) for step in (*in_clear, *inside_tls)]
    for wire in wires:
        assert ends(wire.socket)
    # The last began last: it was waited for until its own deadline, whatever it had said by then.
    assert 3.5 < time.monotonic() - wires[-1].begun < 12
    lines = [line for line in gateway.lines() if line["event"] == "session closed"]
    assert [line["reason"] for line in lines] == ["deadline"] * len(wires), lines
    assert database.server.arrivals() == before


def test_draining_tells_idle_clients_and_lets_busy_ones_finish(database, world, tmp_path):
    gateway = Gateway(tmp_path, database.config())
    with connect(gateway, world) as idle, connect(gateway, world) as busy:
        answers = []
        thread = threading.Thread(target=lambda: answers.append(one(busy, "select sleep(2)")))
        thread.start()
        time.sleep(0.5)
        assert gateway.stop() == 0, gateway.process.text()
        thread.join(10)
        assert answers == [0]
        with pytest.raises(pymysql.err.MySQLError):
            one(idle, "select 1")
    check_log(gateway)


def test_rows_are_masked_in_text_and_in_binary_and_stay_of_their_types(gateway, database, world):
    database.server.admin("create or replace table shop.people (name text, card bigint, salary decimal(9,2), born date)")
    row = "('jane@example.com', 4111111111111111, 4711.50, '1985-03-12')"
    database.server.admin(f"insert into shop.people values {row}, {row}")
    columns = "name, card, salary as pay, born"
    with connect(gateway, world, "masked") as connection, connection.cursor() as cursor:
        cursor.execute(f"select {columns} from shop.people")
        expected = ("jane************", 4111110000001111, Decimal("1000.00"), datetime.date(1111, 11, 11))
        assert cursor.fetchall() == (expected, expected)
        with pytest.raises(pymysql.err.MySQLError) as caught:
            cursor.execute("select * from shop.`nobody@nowhere.example`")
        assert "example" not in str(caught.value)
        assert one(connection, "select 'still here'") == "still here"
    line = gateway.line("session closed", route="my-masked")
    assert line["masked"] >= 8, line


def test_a_column_is_masked_by_the_name_that_a_result_gives_it(gateway, database, world):
    """The table of the guide."""
    database.server.admin("create or replace table shop.paid (name text, salary int)")
    database.server.admin("insert into shop.paid values ('x', 4711)")
    database.server.admin("create or replace view shop.view_of_paid as select salary as pay, name from shop.paid")
    masked = [
        "select salary from paid", "select * from paid", "select p.salary from paid p join paid q using (name)", "select salary from (select * from paid) s",
        "with w as (select salary from paid) select * from w", "select salary as x from paid",
        "select salary from paid union all select 4712", "insert into paid values ('y', 4712) returning salary",
    ]  # fmt: skip
    shown = [
        "select pay from view_of_paid", "select cast(salary as char) from paid", "select max(salary) from paid", "select salary + 0 from paid", "select coalesce(salary, 0) from paid",
        "select 4712 as x union all select salary from paid",
    ]  # fmt: skip
    with connect(gateway, world, "masked", database="shop") as connection, connection.cursor() as cursor:
        for sql, are in [*((sql, True) for sql in masked), *((sql, False) for sql in shown)]:
            cursor.execute(sql)
            rows = str(cursor.fetchall())
            assert ("47" not in rows) == are, (sql, rows)


def test_rows_in_utf_16_end_the_session(gateway, world):
    with connect(gateway, world, "masked") as connection, connection.cursor() as cursor:
        cursor.execute("set character_set_results = utf16")
        with pytest.raises(pymysql.err.MySQLError):
            cursor.execute("select '4111111111111111'")
    line = gateway.line("session closed", route="my-masked", reason="unmaskable")
    assert "character set" in line["detail"], line


def test_rows_of_prepared_statements_are_masked(database, world, start):
    gateway = start(database.config(mysql={"version": "10.11.6-MariaDB", "route": "my-masked"}))
    database.server.admin("create or replace table shop.staff (name text, salary int, born datetime, n bigint)")
    database.server.admin("insert into shop.staff values ('jane@example.com', 4711, now(), 17), (null, 4711, null, 17)")
    with connector(gateway, world, database="shop") as connection, connection.cursor(prepared=True) as cursor:
        cursor.execute("select name, salary, n from staff where n = ? and 'a' = ?", (17, "a"))
        assert cursor.fetchall() == [("jane************", 0, 17), (None, 0, 17)]


def test_parameters_of_prepared_statements_are_masked_on_their_way_up(database, world, start):
    gateway = start(database.config(mysql={"version": "10.11.6-MariaDB", "route": "my-masked"}))
    database.server.admin("create or replace table shop.given (n bigint, a text, b text, c blob, d datetime)")
    card, born = "4111 1111 1111 1111", datetime.datetime(1985, 3, 12, 1, 2, 3)
    with connector(gateway, world, database="shop") as connection, connection.cursor(prepared=True) as cursor:
        for _ in range(2):
            values = (4111111111111111, card, None, b"mail jane@example.com", born)
            cursor.execute("insert into given values (?, ?, ?, ?, ?)", values)
        # Long data: in packets of their own, ahead of the execution.
        cursor.execute("insert into given values (?, ?, ?, ?, ?)", (1, io.BytesIO(f"{card}, ".encode() * 999), card, b"", born))
        connection.commit()
    kept = [row.split("\t") for row in database.server.admin("select * from shop.given").split("\n") if row]
    masked, at = "4111 1100 0000 1111", "1985-03-12 01:02:03"
    assert kept[:2] == [["0", masked, "NULL", "mail jane@xxxxxxx.xxx", at]] * 2, kept
    assert kept[2] == ["1", f"{masked}, " * 999, masked, "", at], kept[2]
    gateway.line("session closed", route="my-masked")


def test_statements_and_files_are_masked_on_their_way_up(gateway, database, world, tmp_path):
    rows = tmp_path / "rows.txt"
    rows.write_text("jane@example.com\n4111 1111 1111 1111\n")
    database.server.admin("create or replace table shop.kept (a text)")
    with connect(gateway, world, "masked", local_infile=True, autocommit=True) as connection, connection.cursor() as cursor:
        cursor.execute("insert into shop.kept values (%s) -- jane@example.com", ("4111111111111111",))
        cursor.execute(f"load data local infile '{rows}' into table shop.kept")
    kept = database.server.admin("select a from shop.kept").split("\n")
    assert [row for row in kept if row] == ["4111110000001111", "jane@xxxxxxx.xxx", "4111 1100 0000 1111"], kept
    gateway.line("session closed", route="my-masked")
    assert "jane@example" not in gateway.process.text()
