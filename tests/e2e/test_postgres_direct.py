"""An upstream of PostgreSQL 17 or later whose TLS begins at once: no SSLRequest, no byte in clear."""

import contextlib
import hashlib
import socket
import threading

import psycopg
import pytest
from conftest import check_log
from support import parts, postgres
from support.gateway import KEY, Gateway
from test_postgres import SSL_REQUEST, Sleeper, connect, one, psql, refused

ACCOUNTS = ["scram", "md5", "clear", "trust"]
NAMES = [f"{name}.direct.test" for name in (*ACCOUNTS, "asked", "other")]
# What a TLS record of a handshake begins with.
HANDSHAKE = b"\x16\x03\x01"


class Between:
    """Stands before the server, passes on every byte, and keeps what each connection begins with."""

    def __init__(self, port):
        self.server, self.port, self.begun = socket.create_server(("127.0.0.1", 0)), port, []
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self.server.accept()
                upstream = socket.create_connection(("127.0.0.1", self.port))
                threading.Thread(target=self.passes, args=(client, upstream, True), daemon=True).start()
                threading.Thread(target=self.passes, args=(upstream, client, False), daemon=True).start()

    def passes(self, reader, writer, note):
        with contextlib.suppress(OSError):
            while data := reader.recv(1 << 16):
                if note:
                    self.begun.append(data[:8])
                    note = False
                writer.sendall(data)
        with contextlib.suppress(OSError):
            writer.shutdown(socket.SHUT_WR)

    def address(self) -> str:
        return f"tls://127.0.0.1:{self.server.getsockname()[1]}"


class Database:
    """The server, and routes to it."""

    def __init__(self, world):
        self.world = world
        self.server = postgres.Server(*world.upstream_pair, KEY, postgres.newer())
        self.between = Between(self.server.port)
        self.pair = world.authority.leaf("direct-gateway", NAMES)

    def route(self, name, user="svc_scram", **upstream):
        chain, key = self.pair
        return {
            "name": f"direct-{name}", "sni": f"{name}.direct.test", "protocol": "postgres",
            "upstream": {"address": self.between.address(), "ca": self.world.ca, "negotiation": "direct"} | upstream,
            "certificate": {"chain": chain, "key": key},
            "allow": [{"issuer": "corp", "groups": ["agents"]}],
            "inject": {"user": user, "password": "{secret:stored}"},
            "identity_guc": "staunch.subject", "require_auth": "none" if user == "svc_trust" else "scram-sha-256, md5, password",
        }  # fmt: skip

    def config(self):
        routes = [self.route(name, f"svc_{name}") for name in ACCOUNTS]
        routes.append(self.route("asked", negotiation="request"))
        # TLS and the right certificate, and another protocol.
        routes.append(self.route("other", address=f"tls://127.0.0.1:{self.world.nginx_port}"))
        return self.world.config(*routes)

    def stop(self):
        self.between.server.close()
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
    assert "eyJ" not in database.server.text(), "a token reached the upstream"


@pytest.fixture
def begun(database):
    """What the test's connections began with on their way up."""
    database.between.begun.clear()
    return database.between.begun


@pytest.fixture
def to(world, gateway):
    """Connection parameters for a route."""

    def to(route="scram", **more):
        return {
            "host": f"{route}.direct.test", "hostaddr": "127.0.0.1", "port": gateway.port, "dbname": "postgres",
            "user": "ann", "password": world.issuer.token(), "sslmode": "verify-full", "sslrootcert": world.ca,
            "application_name": "direct", "connect_timeout": 15,
        } | more  # fmt: skip

    return to


def directly(begun, connections=1):
    return len(begun) == connections and all(data.startswith(HANDSHAKE) for data in begun)


def test_the_server_is_one_that_takes_tls_at_once(database):
    assert int(database.server.admin("show server_version_num")) >= 170_000


@pytest.mark.parametrize("account", ACCOUNTS)
def test_the_login_stands_inside_tls_from_the_first_byte_on(gateway, to, begun, account):
    sql = "select session_user, current_setting('staunch.subject'), ssl, version from pg_stat_ssl where pid = pg_backend_pid()"
    assert one(to(account), sql) == (f"svc_{account}", parts.ANN, True, "TLSv1.3")
    assert directly(begun), begun
    line = gateway.line("session closed", route=f"direct-{account}")
    assert (line["upstream_version"], line["upstream_verified"], line["reason"]) == ("TLSv1.3", "chain", "done"), line


def test_a_client_that_asks_first_and_one_that_does_not(to, begun):
    asked = psql(to(), "select 1")
    assert asked.stdout == b"1\n", asked.stderr
    assert one(to(sslnegotiation="direct"), "select 2") == (2,)
    assert directly(begun, 2), begun


def test_a_cancel_request_goes_the_same_way(database, to, begun):
    sleeper = Sleeper(to())
    sleeper.runs(database.server)
    sleeper.connection.cancel_safe(timeout=15)
    sleeper.thread.join(15)
    assert isinstance(sleeper.error, psycopg.errors.QueryCanceled), sleeper.error
    assert sleeper.connection.execute("select 1").fetchone() == (1,)
    sleeper.connection.close()
    assert directly(begun, 2), begun


def test_a_table_arrives_whole_both_ways(to, begun):
    block = b"".join(b"%d\t%064x\tsome text that stands in every row\n" % (n, n * n) for n in range(100_000))
    received = hashlib.sha256()
    with connect(to()) as connection:
        connection.execute("create temporary table large (n int, h text, t text)")
        with connection.cursor().copy("copy large from stdin") as copy:
            copy.write(block)
        with connection.cursor().copy("copy large to stdout") as copy:
            for data in copy:
                received.update(data)
    assert received.digest() == hashlib.sha256(block).digest()
    assert directly(begun), begun


def test_the_same_server_may_be_asked_first(to, begun):
    assert one(to("asked"), "select session_user") == ("svc_scram",)
    assert begun == [SSL_REQUEST], begun


def test_a_server_of_another_protocol_is_not_logged_in_to(world, gateway, to):
    text = refused(to("other"))
    assert f"upstream 127.0.0.1:{world.nginx_port}" in text and "cannot be reached or does not verify" in text, text
    line = gateway.line("session closed", route="direct-other")
    assert (line["reason"], line["culprit"]) == ("dial", "upstream"), line
