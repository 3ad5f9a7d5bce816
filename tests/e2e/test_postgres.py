"""PostgreSQL through the gateway: a real server, psql, pgbench, psycopg."""

import concurrent.futures
import contextlib
import datetime
import hashlib
import ipaddress
import os
import re
import signal
import socket
import ssl
import struct
import threading
import time
from decimal import Decimal

import psycopg
import pytest
from conftest import check_log
from support import parts, postgres
from support.gateway import KEY, Gateway
from support.process import ends, free_port, run

# MiB of the large table; `tests/run` sets 1024, which takes half a minute with a release build.
COPY_MIB = int(os.environ.get("STAUNCH_COPY_MIB", "100"))
SSL_REQUEST = struct.pack("!II", 8, 80877103)
GSSENC_REQUEST = struct.pack("!II", 8, 80877104)
ROUTES = ["scram", "md5", "clear", "trust", "wrong", "down", "notls", "cut", "groups", "cert", "either", "client", "unproven", "demanding"]
NAMES = [f"{name}.pg.test" for name in ROUTES] + ["web.pg.test", "masked.pg.test"]


class Database:
    """The server, and routes to it."""

    def __init__(self, world):
        self.world = world
        self.server = postgres.Server(*world.upstream_pair, KEY)
        self.pair = world.authority.leaf("pg-gateway", NAMES)
        self.machine = world.authority.leaf("pg-machine", ["ann.clients.test"])
        self.stranger = world.authority.leaf("pg-stranger", ["eve.clients.test"])
        # Says "no" to every SSLRequest, and takes note of what comes behind it.
        self.heard = []
        self.refuser = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self.refuse, daemon=True).start()

    def refuse(self):
        with contextlib.suppress(OSError):
            while True:
                plain, _ = self.refuser.accept()
                with plain, contextlib.suppress(OSError):
                    plain.settimeout(5)
                    plain.recv(8)
                    plain.sendall(b"N")
                    self.heard.append(plain.recv(1))

    def route(self, name, user="svc_scram", port=None, **more):
        chain, key = self.pair
        return {
            "name": f"pg-{name}", "sni": f"{name}.pg.test", "protocol": "postgres",
            "upstream": {"address": f"tls://127.0.0.1:{port or self.server.port}", "ca": self.world.ca},
            "certificate": {"chain": chain, "key": key},
            "allow": [{"issuer": "corp", "groups": ["agents"]}],
            "inject": {"user": user, "password": "{secret:stored}"},
            "identity_guc": "staunch.subject", "application_name": "identity",
        } | more  # fmt: skip

    def config(self, **more):
        web = self.world.route("web", self.world.nginx_port, sni="web.pg.test")
        web["certificate"] = dict(zip(("chain", "key"), self.pair, strict=True))
        accounts = [
            {"user": "svc_scram", "password": "{secret:stored}", "subjects": ["nobody"]},
            {"user": "svc_md5", "password": "{secret:stored}", "groups": ["agents"]},
        ]
        machines = {"name": "machines", "subject": ["dns"]}
        routes = [
            *(self.route(name, f"svc_{name}") for name in ("scram", "md5", "clear")),
            self.route("trust", "svc_trust", require_auth="none"),
            # By default a server that asks for no proof of a password is none that knows it.
            self.route("unproven", "svc_trust"),
            self.route("demanding", "svc_md5", require_auth="scram-sha-256"),
            self.route("wrong", inject={"user": "svc_scram", "password": "{secret:stored}-wrong"}),
            self.route("down", port=free_port()),
            self.route("notls", port=self.refuser.getsockname()[1]),
            self.route("cut", on_expiry="cut"),
            self.route("groups", inject=accounts, allow=[{"issuer": "corp"}]),
            self.route(
                "cert", client_certificates="required", client_ca=self.world.ca, certificate_identity=machines,
                allow=[{"issuer": "machines", "subjects": ["ann.clients.test"]}],
            ),
            self.route(
                "either", client_certificates="optional", client_ca=self.world.ca, certificate_identity=machines,
                allow=[{"issuer": "machines", "subjects": ["ann.clients.test"]}, {"issuer": "corp", "groups": ["agents"]}],
            ),
            # Where the identity has a place of its own, the client's name stays.
            {key: value for key, value in self.route("client").items() if key != "application_name"},
            self.route("masked", mask={"down": ["all"], "up": ["up"]}, statements="256B"),
            web,
        ]  # fmt: skip
        masks = [
            {"name": "all", "detect": ["personal", "keys"], "columns": ["salary", "born"], "members": ["pin"]},
            {"name": "up", "detect": ["personal"]},
        ]
        return self.world.config(*routes, **{"mask": masks} | more)

    def stop(self):
        self.refuser.close()
        self.server.stop()


@pytest.fixture(scope="module")
def database(world):
    database = Database(world)
    yield database
    database.stop()


@pytest.fixture(scope="module")
def gateway(database, tmp_path_factory):
    gateway = Gateway(tmp_path_factory.mktemp("gateway"), database.config())
    yield gateway
    code = gateway.stop()
    assert code == 0, gateway.process.text()
    check_log(gateway)


@pytest.fixture
def to(world, gateway):
    """Connection parameters for a route; each test's own gateway may be given."""

    def to(route="scram", token=None, gateway=gateway, **more):
        return {
            "host": f"{route}.pg.test", "hostaddr": "127.0.0.1", "port": gateway.port, "dbname": "postgres",
            "user": "ann", "password": world.issuer.token() if token is None else token,
            "sslmode": "verify-full", "sslrootcert": world.ca, "application_name": "tests", "connect_timeout": 15,
        } | more  # fmt: skip

    return to


def connect(parameters, **more):
    return psycopg.connect(**parameters, autocommit=True, **more)


def tool(name, parameters, *arguments, **more):
    """Runs one of the server package's clients."""
    parameters = dict(parameters)
    env = os.environ | {"PGPASSWORD": parameters.pop("password"), "PGCONNECT_TIMEOUT": "15"}
    line = " ".join(f"{k}={v}" for k, v in parameters.items() if k != "connect_timeout")
    return run([str(postgres.programs() / name), *arguments, "-d", line], env=env, **more)


def psql(parameters, sql):
    return tool("psql", parameters, "-XAtq", "-w", "-c", sql)


def one(parameters, sql):
    with connect(parameters) as connection:
        return connection.execute(sql).fetchone()


def refused(parameters):
    """What the client is told, which must be the gateway's own refusal."""
    with pytest.raises(psycopg.OperationalError) as caught:
        connect(parameters).close()
    return str(caught.value)


# --- what works ---------------------------------------------------------------------------------------------------


def test_psql_gets_in_as_the_stored_user_and_the_server_knows_who_it_is(database, gateway, to):
    sql = "select current_user, current_setting('application_name'), current_setting('staunch.subject'), ssl from pg_stat_ssl where pid = pg_backend_pid()"
    done = psql(to(), sql)
    assert done.stdout.decode().strip() == "svc_scram|" + "|".join([parts.ANN, parts.ANN, "t"]), done.stderr
    opened = gateway.line("session opened", application="tests")
    closed = gateway.line("session closed", session=opened["session"])
    for line in (opened, closed):
        assert (line["database_user"], line["database"]) == ("svc_scram", "postgres")
    assert closed["reason"] == "done" and closed["culprit"] == "nobody", closed
    assert closed["subject"] == parts.ANN and closed["proof"] == "token"
    assert closed["client_version"] == "TLSv1.3" and closed["upstream_verified"] == "chain"
    assert one(to("client"), "select current_setting('application_name')") == ("tests",)


def test_a_client_cannot_begin_as_somebody_else(world, gateway, to):
    sql = "select current_setting('application_name'), current_setting('staunch.subject'), session_user"
    evil = "-c staunch.subject=evil -c application_name=evil"
    assert one(to(user="admin", options=evil), sql) == (parts.ANN, parts.ANN, "svc_scram")
    with connect(to(options=evil)) as connection:
        connection.execute("set staunch.subject = 'evil'")
        connection.execute("discard all")
        assert connection.execute(sql).fetchone() == (parts.ANN, parts.ANN, "svc_scram")
    secure, _ = raw_login(world, gateway, world.issuer.token(), more=(b"Staunch.Subject", b"evil"))
    secure.sendall(message(b"Q", b"select current_setting('staunch.subject')\0"))
    tag, body = receive(secure)
    while tag != b"D":
        tag, body = receive(secure)
    assert parts.ANN.encode() in body, body
    secure.close()


@pytest.mark.parametrize("user", ["scram", "md5", "clear", "trust"])
def test_the_upstream_is_logged_into_as_it_asks(to, user):
    assert one(to(user), "select session_user") == (f"svc_{user}",)


@pytest.mark.parametrize("route", ["unproven", "demanding"])
def test_an_upstream_that_asks_for_too_little_is_not_logged_into(gateway, to, route):
    assert "cannot agree on a login" in refused(to(route))
    line = gateway.line("session closed", route=f"pg-{route}")
    assert (line["reason"], line["culprit"]) == ("dial", "upstream") and "require_auth" in line["detail"], line


@pytest.mark.parametrize("mode", ["simple", "extended", "prepared"])
def test_pgbench(database, to, mode):
    if database.server.admin("select to_regclass('pgbench_accounts') is null") == "t":
        program = [str(database.server.bin / "pgbench"), "-i", "-q", "-h", str(database.server.folder)]
        database.server.must([*program, "-p", str(database.server.port), "-U", "admin", "postgres"])
    parameters = to()
    env = os.environ | {"PGPASSWORD": parameters["password"], "PGSSLMODE": "verify-full"}
    env |= {"PGSSLROOTCERT": parameters["sslrootcert"], "PGHOSTADDR": "127.0.0.1", "PGHOST": parameters["host"]}
    command = [str(database.server.bin / "pgbench"), "-n", "-M", mode, "-c", "4", "-j", "2", "-t", "100"]
    done = run([*command, "-p", str(parameters["port"]), "-U", "ann", "postgres"], env=env)
    text = (done.stdout + done.stderr).decode()
    assert done.returncode == 0 and "actually processed: 400/400" in text, text
    assert "failed transactions: 0 " in text, text


def test_copy_of_a_large_table_both_ways(to):
    block = b"".join(b"%d\t%064x\tsome text that stands in every row\n" % (n, n * n) for n in range(10_000))
    rounds = COPY_MIB * 1024 * 1024 // len(block) + 1
    sent, received = hashlib.sha256(), hashlib.sha256()
    with connect(to()) as connection:
        connection.execute("create temporary table large (n int, h text, t text)")
        with connection.cursor().copy("copy large from stdin") as copy:
            for _ in range(rounds):
                sent.update(block)
                copy.write(block)
        assert connection.execute("select count(*) from large").fetchone() == (rounds * 10_000,)
        with connection.cursor().copy("copy large to stdout") as copy:
            for data in copy:
                received.update(data)
    assert sent.digest() == received.digest()


def test_a_copy_outlives_a_reader_that_pauses_and_stall_alone_decides(database, start, to):
    patient = database.route("scram", timeouts={"idle": "2s", "stall": "60s"})
    strict = database.route("md5", "svc_md5", timeouts={"stall": "2s"})
    gateway = start(database.config(route=[patient, strict], mask=[]))

    def copy(route):
        parameters = " ".join(f"{key}={value}" for key, value in to(route, gateway=gateway).items())
        rows = "copy (select repeat('x', 99) from generate_series(1, 500000)) to stdout"
        command = ["sh", "-c", 'psql "$1" -c "$2" | (sleep 8; wc -l)', "sh", parameters, rows]
        return run(command, 60).stdout.strip()

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        whole, cut = pool.map(copy, ["scram", "md5"])
    assert whole == b"500000"
    assert int(cut) < 500000
    assert gateway.line("session closed", route="pg-md5")["reason"] == "stalled"
    assert gateway.line("session closed", route="pg-scram")["reason"] == "done"


def test_large_values_both_ways(to):
    with connect(to()) as connection:
        value = os.urandom(20_000_000)
        row = connection.execute("select %b::bytea", [value], binary=True).fetchone()
        assert row == (value,)


def test_pipeline_mode(to):
    with connect(to()) as connection:
        with connection.pipeline() as pipeline:
            cursors = [connection.execute("select %s::int * 2", [n]) for n in range(500)]
            pipeline.sync()
            assert [cursor.fetchone()[0] for cursor in cursors] == [n * 2 for n in range(500)]
        # An error in a pipeline ends it up to its Sync, and the session goes on.
        with pytest.raises(psycopg.errors.DivisionByZero), connection.pipeline():
            connection.execute("select 1 / 0")
        assert connection.execute("select 7").fetchone() == (7,)


def test_listen_and_notify_with_the_servers_own_process_numbers(to):
    with connect(to()) as listener, connect(to()) as speaker:
        listener.execute("listen news")
        assert listener.execute("select pg_backend_pid()").fetchone() == (listener.info.backend_pid,)
        speaker.execute("notify news, 'hello'")
        note = next(listener.notifies(timeout=10, stop_after=1))
        assert (note.payload, note.pid) == ("hello", speaker.info.backend_pid)


def test_logical_replication_starts_and_streams(database, to):
    parameters = to(dbname="postgres")
    made = tool("pg_recvlogical", parameters, "--slot=news", "--create-slot", "--plugin=test_decoding", "-w")
    assert made.returncode == 0, made.stderr.decode()
    try:
        database.server.admin("create table heard (n int); insert into heard values (4711)")
        lsn = database.server.admin("select pg_current_wal_lsn()")
        done = tool("pg_recvlogical", parameters, "--slot=news", "--start", "-f", "-", f"--endpos={lsn}", "-w")
        assert done.returncode == 0 and b"n[integer]:4711" in done.stdout, done.stderr.decode()
    finally:
        database.server.admin("select pg_drop_replication_slot('news')")


def test_tls_without_a_request_before_it(to, gateway, world):
    with connect(to(sslnegotiation="direct")) as connection:
        assert connection.execute("select 1").fetchone() == (1,)
    # Such a client must name the protocol, so that no other one's bytes are taken for a login.
    for offers, alert in (([], "no application protocol"), (["h2"], "no application protocol")):
        context = ssl.create_default_context(cafile=world.ca)
        if offers:
            context.set_alpn_protocols(offers)
        with pytest.raises(ssl.SSLError, match=alert), socket.create_connection(("127.0.0.1", gateway.port)) as plain:
            context.wrap_socket(plain, server_hostname="scram.pg.test")


def test_accounts_go_by_group(world, to):
    assert one(to("groups"), "select session_user") == ("svc_md5",)
    text = refused(to("groups", world.issuer.token(parts.STRANGER)))
    assert "policy does not permit" in text, text


def test_a_client_certificate_needs_no_token(database, to):
    chain, key = database.machine
    parameters = to("cert", "", sslcert=chain, sslkey=key)
    sql = "select session_user, current_setting('staunch.subject')"
    assert one(parameters, sql) == ("svc_scram", "ann.clients.test")
    chain, key = database.stranger
    assert "policy does not permit" in refused(to("cert", "", sslcert=chain, sslkey=key))


def test_a_route_may_take_a_certificate_or_a_token(database, to):
    sql = "select current_setting('staunch.subject')"
    chain, key = database.machine
    assert one(to("either", "", sslcert=chain, sslkey=key), sql) == ("ann.clients.test",)
    assert one(to("either"), sql) == (parts.ANN,)


def test_tls_1_2_on_the_client_leg(gateway, to):
    with connect(to(ssl_max_protocol_version="TLSv1.2", application_name="old")) as connection:
        value = "x" * 3_000_000
        assert connection.execute("select %s::text", [value]).fetchone() == (value,)
    line = gateway.line("session closed", application="old")
    assert (line["client_version"], line["upstream_version"]) == ("TLSv1.2", "TLSv1.3")


def test_behind_a_balancer_that_speaks_the_proxy_protocol(database, start, world, to):
    config = database.config()
    config["listener"] = [{"address": f"127.0.0.1:{free_port()}", "proxy_protocol_from": ["127.0.0.0/8"]}]
    gateway = start(config)
    port = int(config["listener"][0]["address"].rsplit(":")[-1])
    plain = socket.create_connection(("127.0.0.1", port), 15)
    plain.sendall(b"PROXY TCP4 192.0.2.7 127.0.0.1 40000 5432\r\n" + SSL_REQUEST)
    assert plain.recv(1) == b"S"
    context = ssl.create_default_context(cafile=world.ca)
    with context.wrap_socket(plain, server_hostname="scram.pg.test") as secure:
        secure.sendall(startup())
        assert receive(secure) == (b"R", struct.pack("!I", 3))
    assert gateway.line("session closed", remote="192.0.2.7:40000")


# --- cancelling ---------------------------------------------------------------------------------------------------


class Sleeper:
    """A statement that runs until it is cancelled, or far too long."""

    def __init__(self, parameters):
        self.connection = connect(parameters)
        self.error = None
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        try:
            self.connection.execute("select pg_sleep(60)")
        except psycopg.Error as error:
            self.error = error

    def runs(self, server):
        pid = self.connection.info.backend_pid
        parts.until(lambda: server.admin(f"select state from pg_stat_activity where pid = {pid}") == "active")
        return pid

    def end(self, server):
        server.admin(f"select pg_terminate_backend({self.connection.info.backend_pid})")
        self.thread.join(10)
        self.connection.close()


def cancel_request(world, gateway, route, pid, secret):
    """A CancelRequest over TLS, as new clients send it."""
    context = ssl.create_default_context(cafile=world.ca)
    plain = socket.create_connection(("127.0.0.1", gateway.port), 15)
    plain.sendall(SSL_REQUEST)
    assert plain.recv(1) == b"S"
    with context.wrap_socket(plain, server_hostname=f"{route}.pg.test") as secure:
        secure.sendall(struct.pack("!IIII", 16, 80877102, pid, secret))
        assert ends(secure)


def test_ones_own_statement_can_be_cancelled(database, gateway, to):
    sleeper = Sleeper(to())
    sleeper.runs(database.server)
    sleeper.connection.cancel_safe(timeout=15)
    sleeper.thread.join(15)
    assert isinstance(sleeper.error, psycopg.errors.QueryCanceled), sleeper.error
    assert sleeper.connection.execute("select 1").fetchone() == (1,)
    sleeper.connection.close()
    assert any("cancelled the statement of session" in line.get("detail", "") for line in gateway.lines())


def raw_login(world, gateway, token, route="scram", more=()):
    """Logs in by hand; returns the connection and the key that the client gets."""
    secure = raw_tls(world, gateway, route)
    secure.sendall(startup(*more))
    assert receive(secure) == (b"R", struct.pack("!I", 3))
    secure.sendall(message(b"p", token.encode() + b"\0"))
    key = None
    while True:
        tag, body = receive(secure)
        assert tag in b"vRSKZN", (tag, body)
        if tag == b"K":
            key = struct.unpack("!II", body)
        if tag == b"Z":
            return secure, key


def raw_tls(world, gateway, route="scram"):
    plain = socket.create_connection(("127.0.0.1", gateway.port), 15)
    plain.sendall(SSL_REQUEST)
    assert plain.recv(1) == b"S"
    context = ssl.create_default_context(cafile=world.ca)
    return context.wrap_socket(plain, server_hostname=f"{route}.pg.test")


def message(tag, body):
    return tag + struct.pack("!I", len(body) + 4) + body


def startup(*more, version=196608):
    body = b"".join(part + b"\0" for part in (b"user", b"ann", b"database", b"postgres", *more)) + b"\0"
    return struct.pack("!II", len(body) + 8, version) + body


def exactly(connection, n):
    data = b""
    while len(data) < n:
        piece = connection.recv(n - len(data))
        assert piece, f"ended after {data!r}"
        data += piece
    return data


def receive(connection):
    head = exactly(connection, 5)
    return head[:1], exactly(connection, struct.unpack("!I", head[1:])[0] - 4)


def fields(body):
    return {part[:1].decode(): part[1:].decode() for part in body.split(b"\0") if part}


def test_nobody_elses_statement_can_be_cancelled(database, world, gateway, to):
    secure, (pid, secret) = raw_login(world, gateway, world.issuer.token())
    secure.sendall(message(b"Q", b"select pg_sleep(60)\0"))
    parts.until(lambda: database.server.admin(f"select state from pg_stat_activity where pid = {pid}") == "active")
    before = database.server.arrivals()
    # A guess, another session's number with one's own secret, and the right key on another route.
    for route, process, key in (("scram", pid, secret ^ 1), ("scram", pid + 1, secret), ("md5", pid, secret)):
        cancel_request(world, gateway, route, process, key)
    # The right key in clear, as clients before libpq 17 send it: not acted on, and counted.
    with socket.create_connection(("127.0.0.1", gateway.port), 15) as plain:
        plain.sendall(struct.pack("!IIII", 16, 80877102, pid, secret))
        assert ends(plain)
    assert database.server.arrivals() == before, "a CancelRequest reached the upstream"
    assert database.server.admin(f"select state from pg_stat_activity where pid = {pid}") == "active"
    assert re.search(r'not_tls_total\{[^}]*"postgres_cancel"\} [1-9]', gateway.metrics()), gateway.metrics()
    # And the right one on its route works.
    cancel_request(world, gateway, "scram", pid, secret)
    tag, body = receive(secure)
    while tag != b"E":
        tag, body = receive(secure)
    assert fields(body)["C"] == "57014", fields(body)
    secure.close()


# --- who is refused -----------------------------------------------------------------------------------------------


def test_bad_identities_are_refused_and_nothing_reaches_the_upstream(database, world, gateway, to):
    brief = world.issuer.token(parts.BRIEF)
    before = database.server.arrivals()
    tokens = {
        "does not verify": [world.issuer.forged(), "nonsense", "a.b.c", world.issuer.token(parts.ELSEWHERE)],
        "policy does not permit": [world.issuer.token(parts.STRANGER)],
    }
    for words, bad in tokens.items():
        for token in bad:
            text = refused(to(token=token))
            assert words in text and "session " in text, text
    assert "no password" in refused(to(token="")), "libpq itself stops"
    # Past its end by more than clocks may differ.
    time.sleep(34)
    assert "has expired" in refused(to(token=brief))
    assert database.server.arrivals() == before
    line = gateway.line("session closed", reason="refused", subject=parts.STRANGER, route="pg-scram")
    assert line["detail"].startswith("no rule of the route names this identity: rule 1: wants group") and line["database"] == "postgres"


def test_sqlstates_of_refusals(world, gateway):
    table = [(world.issuer.forged(), "28P01"), ("", "28P01"), (world.issuer.token(parts.STRANGER), "28000")]
    for token, code in table:
        with raw_tls(world, gateway) as secure:
            secure.sendall(startup())
            assert receive(secure)[0] == b"R"
            secure.sendall(message(b"p", token.encode() + b"\0"))
            tag, body = receive(secure)
            assert tag == b"E" and fields(body)["C"] == code and fields(body)["S"] == "FATAL", fields(body)
            assert ends(secure)


def test_plaintext_is_refused_and_says_why(database, gateway, to):
    before = database.server.arrivals()
    done = psql(to(sslmode="disable"), "select 1")
    assert done.returncode == 2 and b"speaks TLS only" in done.stderr, done.stderr
    assert database.server.arrivals() == before
    assert gateway.line("session closed", reason="not_tls", reason_detail="postgres")


def test_other_routes_are_not_reached_by_this_way(world, gateway):
    plain = socket.create_connection(("127.0.0.1", gateway.port), 15)
    plain.sendall(SSL_REQUEST)
    assert plain.recv(1) == b"S"
    context = ssl.create_default_context(cafile=world.ca)
    with pytest.raises(ssl.SSLError, match="no application protocol"):
        context.wrap_socket(plain, server_hostname="web.pg.test")


@pytest.mark.parametrize("wants", ["max", "min"])
def test_a_client_of_version_3_2_has_it_whatever_the_upstream_speaks(to, database, wants):
    sleeper = Sleeper(to(**{f"{wants}_protocol_version": "3.2"}))
    assert sleeper.connection.info.full_protocol_version == 30002
    # Its key is a longer one.
    sleeper.runs(database.server)
    sleeper.connection.cancel_safe(timeout=15)
    sleeper.thread.join(15)
    assert isinstance(sleeper.error, psycopg.errors.QueryCanceled), sleeper.error
    sleeper.connection.close()


def test_encryption_by_gssapi_is_declined_and_tls_goes_on(world, gateway):
    plain = socket.create_connection(("127.0.0.1", gateway.port), 15)
    for request, answer in ((GSSENC_REQUEST, b"N"), (SSL_REQUEST, b"S")):
        for byte in request:
            plain.sendall(bytes([byte]))
            time.sleep(0.02)
        assert plain.recv(1) == answer
    context = ssl.create_default_context(cafile=world.ca)
    with context.wrap_socket(plain, server_hostname="scram.pg.test") as secure:
        secure.sendall(startup())
        assert receive(secure) == (b"R", struct.pack("!I", 3))


@pytest.mark.parametrize("asked, spoken", [(1, 0), (2, 2), (3, 2), (9999, 2)])
def test_a_newer_minor_version_is_told_the_newest_that_is_spoken(world, gateway, asked, spoken):
    with raw_tls(world, gateway) as secure:
        secure.sendall(startup(b"_pq_.new", b"on", version=0x30000 + asked))
        assert receive(secure) == (b"v", struct.pack("!II", 0x30000 + spoken, 1) + b"_pq_.new\0")
        assert receive(secure) == (b"R", struct.pack("!I", 3))
        secure.sendall(message(b"p", world.issuer.token().encode() + b"\0"))
        while (received := receive(secure))[0] != b"K":
            pass
        assert len(received[1]) == 4 + (32 if spoken else 4)


def test_options_of_the_protocol_go_no_further_and_the_client_is_told_so(world, gateway):
    with raw_tls(world, gateway) as secure:
        secure.sendall(startup(b"_pq_.new", b"on"))
        tag, body = receive(secure)
        assert (tag, body[4:]) == (b"v", struct.pack("!I", 1) + b"_pq_.new\0")
        assert receive(secure)[0] == b"R"
        secure.sendall(message(b"p", world.issuer.token().encode() + b"\0"))
        assert receive(secure) == (b"R", struct.pack("!I", 0))


IN_CLEAR = {
    "bytes behind SSLRequest": SSL_REQUEST + b"\x16",
    "a startup message behind SSLRequest": SSL_REQUEST + startup(),
    "bytes behind GSSENCRequest": GSSENC_REQUEST + SSL_REQUEST,
    "a length of nothing": b"\0\0\0\0",
    "a length too large": b"\0\0\xff\xff\0\3\0\0",
    "version 2": struct.pack("!II", 8, 2 << 16),
    "SSLRequest with a body": struct.pack("!III", 12, 80877103, 0),
    "noise": b"\0\0" + os.urandom(64),
}


@pytest.mark.parametrize("what", IN_CLEAR)
def test_garbage_in_clear(database, gateway, what):
    before = database.server.arrivals()
    with socket.create_connection(("127.0.0.1", gateway.port), 15) as plain:
        plain.sendall(IN_CLEAR[what])
        answer = b""
        with contextlib.suppress(OSError):
            while data := plain.recv(4096):
                answer += data
    assert not answer.startswith((b"S", b"N")) and database.server.arrivals() == before, answer


def test_garbage_in_place_of_tls(database, gateway):
    before = database.server.arrivals()
    for garbage in (SSL_REQUEST, startup(), b"GET / HTTP/1.1\r\n\r\n", os.urandom(100).replace(b"\x16", b"x")):
        with socket.create_connection(("127.0.0.1", gateway.port), 15) as plain:
            plain.sendall(SSL_REQUEST)
            assert plain.recv(1) == b"S"
            plain.sendall(garbage)
            assert ends(plain)
    assert database.server.arrivals() == before


IN_TLS = {
    "SSLRequest": (SSL_REQUEST, None),
    "a length of nothing": (b"\0\0\0\0", None),
    "a length too large": (struct.pack("!II", 10_001, 196608), None),
    "noise": (b"\xff" + os.urandom(50), None),
    "HTTP": (b"GET / HTTP/1.1\r\nHost: scram.pg.test\r\n\r\n", None),
    "no user": (struct.pack("!II", 9, 196608) + b"\0", None),
    "no end": (struct.pack("!II", 14, 196608) + b"user\0a", None),
    "a query behind the startup message": (startup() + message(b"Q", b"select 1\0"), None),
    "a query for a password": (startup(), message(b"Q", b"select 1\0")),
    "a password without its end": (startup(), message(b"p", b"abc")),
    "a password of nothing": (startup(), message(b"p", b"")),
    "a password of two": (startup(), message(b"p", b"a\0b\0")),
    "a password too long": (startup(), b"p" + struct.pack("!I", 16 * 1024 + 6)),
    "a password of 2 GiB": (startup(), b"p\x7f\xff\xff\xff"),
}


@pytest.mark.parametrize("what", IN_TLS)
def test_garbage_inside_tls(database, world, gateway, what):
    before = database.server.arrivals()
    first, second = IN_TLS[what]
    with raw_tls(world, gateway) as secure:
        secure.sendall(first)
        if second is not None:
            assert receive(secure) == (b"R", struct.pack("!I", 3))
            secure.sendall(second)
        tag, body = receive(secure)
        assert tag == b"E" and fields(body)["C"] == "08P01", (tag, fields(body))
        assert ends(secure)
    assert database.server.arrivals() == before


def test_a_query_behind_the_token_is_refused_with_it(database, world, gateway):
    before = database.server.arrivals()
    with raw_tls(world, gateway) as secure:
        secure.sendall(startup())
        receive(secure)
        token = world.issuer.token().encode()
        secure.sendall(message(b"p", token + b"\0") + message(b"Q", b"select 1\0"))
        tag, body = receive(secure)
        assert (tag, fields(body)["C"]) == (b"E", "08P01")
    assert database.server.arrivals() == before


def test_rules_hold_after_the_login_as_well(database, world, gateway):
    token = world.issuer.token()
    for bad in (message(b"p", token.encode() + b"\0"), b"Q\0\0\0\3", b"Q\xff\xff\xff\xff"):
        secure, (pid, _) = raw_login(world, gateway, token)
        secure.sendall(bad)
        tag, body = receive(secure)
        assert (tag, fields(body)["C"]) == (b"E", "08P01"), bad
        assert ends(secure)
        gone = f"select count(*) from pg_stat_activity where pid = {pid}"
        parts.until(lambda gone=gone: database.server.admin(gone) == "0")
    assert "eyJ" not in database.server.text(), "a token reached the upstream"


# --- what the upstream does ---------------------------------------------------------------------------------------


def test_an_upstream_that_does_not_take_the_account_is_named_and_the_account_is_not(to):
    text = refused(to("wrong"))
    assert "upstream 127.0.0.1:" in text and "does not let the gateway in" in text, text
    assert "svc_scram" not in text and KEY not in text and "pg_hba" not in text, text


def test_an_upstream_that_is_down_or_without_tls_is_named(database, to):
    for route in ("down", "notls"):
        assert "cannot be reached or does not verify" in refused(to(route))
    assert all(byte == b"" for byte in database.heard), "something was said in clear"


def test_what_the_upstream_says_of_the_session_reaches_the_client(gateway, to):
    assert 'database "nowhere" does not exist' in refused(to(dbname="nowhere"))
    line = gateway.line("session closed", database="nowhere")
    assert line["reason"] == "dial" and line["culprit"] == "upstream" and "3D000" in line["detail"], line


def test_an_upstream_that_dies_is_told_of(database, world, gateway, to):
    connection = connect(to())
    database.server.admin(f"select pg_terminate_backend({connection.info.backend_pid})")
    with pytest.raises(psycopg.OperationalError, match="terminating connection due to administrator command"):
        connection.execute("select 1")


# --- ends ---------------------------------------------------------------------------------------------------------


def test_expiry_ends_a_session_in_its_own_words(database, world, gateway, to):
    secure, (pid, _) = raw_login(world, gateway, world.issuer.token(parts.BRIEF), "cut")
    tag, body = receive(secure)
    assert (tag, fields(body)["C"]) == (b"E", "57P01") and "permit" in fields(body)["M"], fields(body)
    assert ends(secure)
    assert gateway.line("session closed", reason="expired")["database_user"] == "svc_scram"
    parts.until(lambda: database.server.admin(f"select count(*) from pg_stat_activity where pid = {pid}") == "0")


def test_expiry_ends_a_session_between_messages_of_a_stream(world, gateway):
    secure, _ = raw_login(world, gateway, world.issuer.token(parts.BRIEF), "cut")
    secure.sendall(message(b"Q", b"select repeat('x', 1000) from generate_series(1, 100000000)\0"))
    tag = b""
    while tag != b"E":
        tag, body = receive(secure)
        assert tag in (b"T", b"D", b"E"), tag
    assert fields(body)["C"] == "57P01"
    assert ends(secure)


def test_expiry_cancels_the_statement_that_runs(database, world, gateway):
    secure, (pid, _) = raw_login(world, gateway, world.issuer.token(parts.BRIEF), "cut")
    secure.sendall(message(b"Q", b"select pg_sleep(100)\0"))
    tag, body = receive(secure)
    assert (tag, fields(body)["C"]) == (b"E", "57P01"), fields(body)
    parts.until(lambda: database.server.admin(f"select count(*) from pg_stat_activity where pid = {pid}") == "0")


def test_a_session_outlives_its_token_where_the_route_says_so(world, to):
    with connect(to(token=world.issuer.token(parts.BRIEF))) as connection:
        time.sleep(4)
        assert connection.execute("select 1").fetchone() == (1,)


def test_draining_ends_what_is_idle_and_lets_a_transaction_finish(database, start, to, world):
    gateway = start(database.config(limits={"drain": "20s"}))
    # By hand: a driver that asks while it is told may see the end alone.
    idle, _ = raw_login(world, gateway, world.issuer.token())
    busy = connect(to(gateway=gateway))
    busy.execute("begin")
    gateway.signal(signal.SIGTERM)
    tag, body = receive(idle)
    assert (tag, fields(body)["C"]) == (b"E", "57P01") and "going away" in fields(body)["M"], body
    assert ends(idle)
    assert busy.execute("select 7").fetchone() == (7,)
    busy.execute("commit")
    assert gateway.process.popen.wait(15) == 0, gateway.process.text()
    busy.close()


def test_a_session_and_its_key_survive_a_reload(database, start, to):
    gateway = start(database.config())
    sleeper = Sleeper(to(gateway=gateway))
    sleeper.runs(database.server)
    gateway.signal(signal.SIGHUP)
    parts.until(lambda: "configuration reloaded" in gateway.process.text())
    sleeper.connection.cancel_safe(timeout=15)
    sleeper.thread.join(15)
    assert isinstance(sleeper.error, psycopg.errors.QueryCanceled), sleeper.error
    sleeper.connection.close()


def test_a_session_that_is_not_permitted_any_more_ends_at_the_reload(database, start, to):
    gateway = start(database.config())
    kept, busy = connect(to(gateway=gateway)), connect(to("md5", gateway=gateway))
    kept.execute("begin")
    config = database.config()
    for route in config["route"]:
        if route["name"] in ("pg-scram", "pg-md5"):
            route["allow"] = [{"issuer": "corp", "groups": ["nobody"]}]
    gateway.write(config)
    gateway.signal(signal.SIGHUP)
    parts.until(lambda: "configuration reloaded" in gateway.process.text())
    # It waits outside of a transaction, and ends at once; the other when its transaction is over.
    closed = gateway.line("session closed", route="pg-md5")
    assert (closed["reason"], "reload" in closed["detail"]) == ("expired", True), closed
    with pytest.raises(psycopg.Error):
        busy.execute("select 1")
    assert kept.execute("select 7").fetchone() == (7,)
    with contextlib.suppress(psycopg.Error):
        kept.execute("commit")
    assert gateway.line("session closed", route="pg-scram")["reason"] == "expired"


def test_half_open_connections_are_gone_by_the_deadline(database, start, world):
    gateway = start(database.config(limits={"permit_deadline": "2s"}))
    opened = []
    for step in range(4):
        plain = socket.create_connection(("127.0.0.1", gateway.port), 15)
        if step == 1:
            plain.sendall(SSL_REQUEST[:5])
        if step == 2:
            plain.sendall(SSL_REQUEST)
        opened.append(plain)
    waiting = raw_tls(world, gateway)
    waiting.sendall(startup())
    began = time.monotonic()
    assert receive(waiting)[0] == b"R"
    opened[2].recv(1)
    for connection in (*opened, waiting):
        assert ends(connection)
    assert time.monotonic() - began < 8


# --- masks --------------------------------------------------------------------------------------------------------


def test_rows_are_masked_whatever_the_client_and_stay_of_their_types(database, to, gateway):
    database.server.admin(
        "create table people (name text, card bigint, salary numeric(9,2), born date, facts jsonb, address inet, tags text[])"
    )
    row = """'jane@example.com', 4111111111111111, 4711.50, '1985-03-12', '{"pin": 1234, "is": "4111-1111-1111-1111"}',
        '10.20.30.40', array['4111 1111 1111 1111', 'b']"""
    database.server.admin(f"insert into people select {row} from generate_series(1, 500)")
    database.server.admin("grant select, insert on people to public")
    expected = (
        "jane************", 4111110000001111, 1000, datetime.date(1111, 11, 11),
        {"is": "4111-11**-****-1111", "pin": 1000}, ipaddress.ip_address("10.20.11.11"),
    )  # fmt: skip
    for binary in False, True:
        with connect(to("masked")) as connection, connection.cursor(binary=binary) as cursor:
            # More than five times, so that the statement is prepared and described but once.
            for _ in range(7):
                rows = cursor.execute("select name, card, salary, born, facts, address from people").fetchall()
                assert len(rows) == 500
                if binary:
                    # A number in binary is no text, and is overwritten where its column is named.
                    rows = [(*row[:1], expected[1], *row[2:]) for row in rows]
                    card, born, address = expected[1], datetime.date(2000, 1, 1), ipaddress.ip_address("10.20.30.40")
                    assert set(map(str, rows)) == {str((expected[0], card, Decimal("0.00"), born, expected[4], address))}
                else:
                    assert set(map(str, rows)) == {str((*expected[:2], Decimal("1000.00"), *expected[3:]))}
            tags = cursor.execute("select tags from people limit 1").fetchone()[0]
            assert tags == (["4111 11** **** 1111", "b"] if binary else ["4111 1100 0000 1111", "b"]), tags
    answer = psql(to("masked"), "select name, salary from people limit 1; select 'mail eve@example.com'")
    assert answer.stdout == b"jane************|1000.00\nmail eve************\n", answer.stderr
    line = gateway.line("session closed", route="pg-masked")
    assert line["masked"] > 0, line
    assert 'staunch_masked_total{route="pg-masked",direction="down",rule="columns-all"}' in gateway.metrics()


def test_errors_and_notices_are_masked_and_the_session_goes_on(to):
    with connect(to("masked")) as connection:
        with pytest.raises(psycopg.errors.InvalidTextRepresentation) as caught:
            connection.execute("select ('jane@' || 'example.com')::int")
        assert "jane*" in str(caught.value) and "example" not in str(caught.value)
        heard = []
        connection.add_notice_handler(lambda notice: heard.append(notice.message_primary))
        connection.execute("do $$ begin raise notice 'mail %', 'jane@' || 'example.com'; end $$")
        assert heard == ["mail jane************"]
        connection.execute("listen cards")
        connection.execute("notify cards, 'jane@example.com'")
        assert next(connection.notifies()).payload == "jane************"


def test_statements_and_parameters_are_masked_on_their_way_up(database, to, gateway):
    database.server.admin("create table kept (a text, b text); grant all on kept to public")
    with connect(to("masked")) as connection:
        connection.execute("insert into kept values ('4111 1111 1111 1111', 'x') -- not for jane@example.com")
        connection.execute("insert into kept values (%s, %s)", ("jane@example.com", "4111111111111111"))
        connection.execute('select 1 as "jane@example.com"')
        with connection.cursor(binary=True) as cursor:
            cursor.execute("insert into kept values (%b, %b)", ("jane@example.com", "4111111111111111"))
        with connection.cursor() as cursor, cursor.copy("copy kept from stdin") as copy:
            copy.write("c\t4111 11")
            copy.write("11 1111 1111\n")
    kept = database.server.admin("select a, b from kept").split()
    assert kept == [*"4111 1100 0000 1111|x".split(), *2 * ["jane@xxxxxxx.xxx|4111110000001111"], *"c|4111 1100 0000 1111".split()], kept
    lines = [line for line in gateway.lines() if line["event"] == "statement"]
    assert any("jane@xxxxxxx.xxx" in line["text"] for line in lines), lines
    assert "jane@example" not in gateway.process.text()


def test_what_cannot_be_masked_ends_the_session_and_says_so(to, gateway):
    for sql in "copy people to stdout", "copy (select 1) to stdout (format binary)":
        with connect(to("masked")) as connection, connection.cursor() as cursor:
            with pytest.raises(psycopg.OperationalError), cursor.copy(sql) as copy:
                copy.read()
    line = gateway.line("session closed", route="pg-masked", reason="unmaskable")
    assert "COPY" in line["detail"], line
