"""Over every protocol: a revocation ends what is live, whether it moves bytes or not, and refuses what comes; a honeytoken is an alarm."""

import base64
import contextlib
import hashlib
import json
import socket
import ssl
import threading

import grpc
import httpx
import psycopg
import pymysql
import pytest
import websockets.exceptions
import websockets.sync.client
from support import mariadb, parts, postgres
from support.gateway import KEY
from support.redis_server import Server as RedisServer
from test_http2 import Grpc
from test_mysql import Named
from test_operator import Operator
from test_tls import Sink, client_context, connect, echo, raw_route

NAMES = ["pg.gw.test", "shop.gw.test", "redis.gw.test", "localhost"]
MACHINE = "ann.clients.test"


class Place:
    """Servers of every protocol."""

    def __init__(self, world):
        self.world = world
        self.postgres = postgres.Server(*world.upstream_pair, KEY)
        self.mariadb = mariadb.Server(*world.upstream_pair, KEY)
        self.redis = RedisServer(*world.upstream_pair, world.ca, KEY)
        self.echo = Sink(world, echo)
        self.pair = world.authority.leaf("revoked-gateway", NAMES)
        self.machine = world.authority.leaf("revoked-machine", [MACHINE])

    def configs(self):
        world = self.world
        own = {"certificate": dict(zip(("chain", "key"), self.pair, strict=True))}

        def database(name, protocol, port, user):
            return world.route(name, port, protocol=protocol, inject={"user": user, "password": "{secret:stored}"}, **own)

        raw, tunnelled = raw_route(world, self.echo.port), world.route("inner", self.echo.port, protocol="raw")
        for name in ("sni", "certificate", "inject"):
            del tunnelled[name]
        del raw["inject"]
        return world.config(
            world.route("app", world.hypercorn_port, sni="localhost", **own),
            world.route("grpc", world.grpc_port),
            database("pg", "postgres", self.postgres.port, "svc_scram"),
            database("redis", "redis", self.redis.port, "svc"),
            raw,
            tunnelled,
            tunnel=world.tunnel(),
        ), world.config(
            # Where the server speaks first, that is all that the port is for.
            database("shop", "mysql", self.mariadb.port, "svc"),
            mysql={"version": "10.11.6-MariaDB", "route": "shop"},
        )  # fmt: skip

    def stop(self):
        for server in (self.postgres, self.mariadb, self.redis):
            server.stop()


@pytest.fixture(scope="module")
def place(world):
    place = Place(world)
    yield place
    place.stop()


class Clients:
    """Clients of every protocol. Each opens a session that was served once, and returns what runs until that session ends."""

    def __init__(self, place, gateway, shop, token):
        self.place, self.world, self.gateway, self.at_shop, self.token = place, place.world, gateway, shop, token
        self.bearer = {"Authorization": f"Bearer {token}"}
        self.url = f"https://localhost:{gateway.port}"

    @property
    def context(self):
        # Clients write into the context that they are given.
        return client_context(self.world)

    def http(self, path, http2):
        client = httpx.Client(verify=self.context, http1=not http2, http2=http2, timeout=60)
        request = client.build_request("GET", self.url + path, headers=self.bearer)
        answer = client.send(request, stream=True)
        assert answer.status_code == 200, answer.status_code
        chunks = answer.iter_raw()
        next(chunks)
        return lambda: [None for _ in chunks]

    def http_1_live(self):
        return self.http("/events?600", False)

    def http_2_live(self):
        return self.http("/events?600", True)

    def http_1_silent(self):
        tls = self.tls("localhost")
        tls.sendall(f"GET /look HTTP/1.1\r\nHost: localhost:{self.gateway.port}\r\nAuthorization: Bearer {self.token}\r\n\r\n".encode())
        assert tls.recv(1 << 16).startswith(b"HTTP/1.1 200")
        return lambda: self.drain(tls)

    def grpc_live(self):
        rpc = Grpc(self.gateway, self.world, self.token)
        answers = rpc.chat((b"x" for _ in iter(threading.Event().wait, True)), metadata=rpc.metadata)
        assert rpc.unary(b"hello", metadata=rpc.metadata, timeout=20).startswith(b"hello")
        return lambda rpc=rpc: [None for _ in answers]

    def websocket_silent(self):
        url = f"wss://localhost:{self.gateway.port}/socket"
        talk = websockets.sync.client.connect(url, ssl=self.context, additional_headers=self.bearer, open_timeout=20).__enter__()
        talk.send("hello")
        talk.recv(20)
        return talk.recv

    def database(self, user="ann", password=None):
        return psycopg.connect(
            host="pg.gw.test", hostaddr="127.0.0.1", port=self.gateway.port, dbname="postgres", user=user, password=password or self.token,
            sslmode="verify-full", sslrootcert=self.world.ca, connect_timeout=20, autocommit=True,
        )  # fmt: skip

    def postgres_live(self):
        connection = self.database()
        connection.execute("select 1")
        return lambda: connection.execute("select pg_sleep(60)")

    def postgres_silent(self):
        connection = self.database()
        connection.execute("select 1")
        return lambda: list(connection.notifies())

    def shop(self, user="whoever", password=None):
        context = Named(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(self.world.ca)
        context.name = "shop.gw.test"
        connection = pymysql.connect(
            host="127.0.0.1", port=self.at_shop.port, user=user, password=password or self.token, ssl=context, connect_timeout=20
        )
        connection.cursor().execute("select 1")
        return connection

    def mysql_live(self):
        connection = self.shop()
        return lambda: connection.cursor().execute("select sleep(60)")

    def mysql_silent(self):
        connection = self.shop()
        return lambda: connection._rfile.read(1) and None

    def redis(self, *words):
        tls = self.tls("redis.gw.test")
        tls.sendall(f"AUTH {self.token}\r\n".encode())
        said = tls.recv(100)
        assert said == b"+OK\r\n", said
        tls.sendall(b" ".join(words) + b"\r\n")
        assert tls.recv(100)
        return lambda: self.drain(tls)

    def redis_live(self):
        return self.redis(b"SUBSCRIBE", b"news")

    def redis_silent(self):
        return self.redis(b"PING")

    def raw_silent(self):
        tls = connect(self.gateway, client_context(self.world, self.place.machine))
        return self.echoed(tls)

    def tunnel_silent(self):
        tls = self.tls("tunnel.gw.test")
        tls.sendall(f"CONNECT inner:1 HTTP/1.1\r\nHost: inner:1\r\nProxy-Authorization: Bearer {self.token}\r\n\r\n".encode())
        said = tls.recv(1000)
        assert said.startswith(b"HTTP/1.1 200"), said
        return self.echoed(tls)

    def echoed(self, tls):
        tls.sendall(b"x")
        assert tls.recv(1) == b"x"
        return lambda: self.drain(tls)

    def tls(self, name):
        plain = socket.create_connection(("127.0.0.1", self.gateway.port), 20)
        plain.settimeout(60)
        return self.context.wrap_socket(plain, server_hostname=name, suppress_ragged_eofs=False)

    @staticmethod
    def drain(connection):
        while connection.recv(1 << 16):
            pass


KINDS = [name for name in vars(Clients) if name.endswith(("_live", "_silent"))]


# How clients name an end that is none of theirs.
CUT = (OSError, EOFError, httpx.TransportError, grpc.RpcError, psycopg.Error, pymysql.Error, websockets.exceptions.WebSocketException)


class Watched(threading.Thread):
    """Runs what ends with a session."""

    def __init__(self, wait):
        super().__init__(daemon=True)
        self.wait, self.ended = wait, False
        self.start()

    def run(self):
        # What is not caught here (a timeout of our own) is no end of the session.
        with contextlib.suppress(*CUT):
            self.wait()
        self.ended = True


@pytest.mark.parametrize("by", ["subject", "token_id", "group", "issuer", "serial"])
def test_every_session_ends_and_nobody_gets_in_again(world, place, start, by):
    gateways = [start(config) for config in place.configs()]
    operators = [Operator(gateway) for gateway in gateways]
    token = world.issuer.token()
    clients = Clients(place, *gateways, token)
    watched = {kind: Watched(getattr(clients, kind)()) for kind in KINDS}
    bystander = Watched(Clients(place, *gateways, world.issuer.token(parts.BRIEF)).http_1_silent())
    sessions = [one for operator in operators for one in operator.sessions("?per_page=100")]
    assert len(sessions) == len(KINDS) + 1, [(one["route"], one["client"]["alpn"]) for one in sessions]
    assert all(one["identity"] for one in sessions)
    assert not [kind for kind, one in watched.items() if one.ended]
    [raw] = [one for one in sessions if one["route"] == "raw"]
    jti = json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))["jti"]
    # Names of the token, and of the certificate.
    of_token, of_certificate = {
        "subject": ({"subject": parts.ANN}, {"subject": MACHINE}),
        "token_id": ({"token_id": jti}, None),
        "group": ({"group": "agents"}, None),
        "issuer": ({"issuer": "corp"}, {"issuer": "machines"}),
        "serial": (None, {"serial": raw["identity"]["serial"]}),
    }[by]
    shut_out = [kind for kind in KINDS if (of_certificate if kind == "raw_silent" else of_token)]
    ended = 0
    for operator, is_main in zip(operators, (True, False), strict=True):
        # The gateway of the shop has no certificates.
        for target in filter(None, (of_token, of_certificate if is_main else None)):
            ended += operator.post("/api/revoke", reason="left", **target).json()["sessions"]
    is_bystanders = by in ("group", "issuer")
    assert ended == len(shut_out) + is_bystanders
    parts.until(lambda: all(watched[kind].ended for kind in shut_out), 30)
    assert [kind for kind in KINDS if not watched[kind].ended] == [kind for kind in KINDS if kind not in shut_out]
    parts.until(lambda: bystander.ended or not is_bystanders)
    assert bystander.ended == is_bystanders
    let_in = []
    for kind in shut_out:
        with contextlib.suppress(AssertionError, *CUT):
            getattr(clients, kind)()
            let_in.append(kind)
    assert let_in == []
    for operator in operators:
        for one in operator.sessions("?per_page=100"):
            operator.post(f"/api/sessions/{one['id']}/end")
    lines = [line for gateway in gateways for line in gateway.lines() if line["event"] == "session closed"]
    assert len([line for line in lines if line["reason"] == "revoked"]) >= len(shut_out)


def alarms(gateways):
    return [line for gateway in gateways for line in gateway.lines() if line["event"] == "alarm"]


@pytest.mark.parametrize("shown, action", [("token", "cut"), ("subject", "watch")])
def test_a_honeytoken_raises_one_alarm_in_each_session(world, place, start, shown, action):
    token = world.issuer.token()
    laid = {"token_sha256": hashlib.sha256(token.encode()).hexdigest()} if shown == "token" else {"subject": parts.ANN}
    honeytoken = {"name": "in the wiki", "action": action} | laid
    gateways = [start(config | {"honeytoken": [honeytoken]}) for config in place.configs()]
    clients, kept = Clients(place, *gateways, token), {}
    kinds = [kind for kind in KINDS if kind != "raw_silent"]
    for kind in kinds:
        with contextlib.suppress(AssertionError, *CUT):
            kept[kind] = getattr(clients, kind)()
    assert list(kept) == ([] if action == "cut" else kinds)
    # A client whose connection is cut may come again.
    parts.until(lambda: len(alarms(gateways)) >= len(kinds))
    found = alarms(gateways)
    assert len({line["session"] for line in found}) == len(found)
    opened = [line for gateway in gateways for line in gateway.lines() if line["event"] == "session opened"]
    silent = {line.get("route") for line in opened} - {line.get("route") for line in opened for one in found if one["session"] == line["session"]}
    assert not silent, "no alarm on these routes"
    assert all((line["honeytoken"], line["action"]) == ("in the wiki", action) for line in found)
    assert all(line.get("subject") == (parts.ANN if shown == "subject" else None) for line in found)
    for gateway in gateways:
        for one in Operator(gateway).sessions("?per_page=100"):
            Operator(gateway).post(f"/api/sessions/{one['id']}/end")


def test_a_user_of_a_database_that_nobody_uses_is_an_alarm_whatever_the_password(world, place, start):
    honeytoken = {"name": "old account", "database_user": "svc_backup"}
    gateways = [start(config | {"honeytoken": [honeytoken]}) for config in place.configs()]
    clients = Clients(place, *gateways, world.issuer.token())
    good, bad = clients.token, "hunter2-hunter2"

    def redis(line):
        tls = clients.tls("redis.gw.test")
        tls.sendall(line.encode() + b"\r\n")
        clients.drain(tls)

    # Whoever logs in under another name is no alarm, and another name later in the session is one.
    def later():
        tls = clients.tls("redis.gw.test")
        tls.sendall(f"AUTH ann {good}\r\n".encode())
        assert tls.recv(100) == b"+OK\r\n" and alarms(gateways) == known
        tls.sendall(f"AUTH svc_backup {good}\r\n".encode())
        clients.drain(tls)

    for use in (
        lambda: clients.database("svc_backup", good).execute("select 1"),
        lambda: clients.database("svc_backup", bad),
        lambda: clients.shop("svc_backup", good),
        lambda: clients.shop("svc_backup", bad),
        lambda: redis(f"AUTH svc_backup {good}"),
        lambda: redis(f"AUTH svc_backup {bad}"),
        lambda: redis(f"HELLO 3 AUTH svc_backup {good}"),
        later,
    ):
        known = alarms(gateways)
        # It ends: what is cut has no session that could be used.
        with contextlib.suppress(*CUT):
            use()
        parts.until(lambda: len(alarms(gateways)) == len(known) + 1)
