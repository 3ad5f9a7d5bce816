"""Redis through the gateway: a real server, redis-cli, redis-benchmark, redis-py."""

import hashlib
import os
import re
import signal
import socket
import ssl
import time

import pytest
import redis
from conftest import check_log
from support import parts
from support.gateway import KEY, Gateway
from support.process import ends, free_port, run
from support.redis_server import Server, program

# MiB of the large value.
LARGE_MIB = int(os.environ.get("STAUNCH_VALUE_MIB", "100"))
ROUTES = ["svc", "default", "wrong", "down", "cut", "groups", "cert", "either"]
NAMES = [f"{name}.redis.test" for name in [*ROUTES, "masked"]]


class Database:
    """The server, and routes to it."""

    def __init__(self, world):
        self.world = world
        self.server = Server(*world.upstream_pair, world.ca, KEY)
        self.pair = world.authority.leaf("redis-gateway", NAMES)
        self.machine = world.authority.leaf("redis-machine", ["ann.clients.test"])
        self.stranger = world.authority.leaf("redis-stranger", ["eve.clients.test"])

    def route(self, name, port=None, **more):
        chain, key = self.pair
        return {
            "name": f"redis-{name}", "sni": f"{name}.redis.test", "protocol": "redis",
            "upstream": {"address": f"tls://127.0.0.1:{port or self.server.port}", "ca": self.world.ca},
            "certificate": {"chain": chain, "key": key},
            "allow": [{"issuer": "corp", "groups": ["agents"]}],
            "inject": {"user": "svc", "password": "{secret:stored}"},
        } | more  # fmt: skip

    def config(self, **more):
        accounts = [
            {"user": "ro", "password": "{secret:stored}", "groups": ["visitors"]},
            {"user": "svc", "password": "{secret:stored}"},
        ]
        machines = {"name": "machines", "subject": ["dns"]}
        routes = [
            self.route("svc"),
            self.route("default", inject={"password": "{secret:stored}"}),
            self.route("wrong", inject={"user": "svc", "password": "{secret:stored}-wrong"}),
            self.route("down", port=free_port()),
            self.route("cut", on_expiry="cut"),
            self.route("masked", mask={"down": ["all"]}),
            self.route("groups", inject=accounts, allow=[{"issuer": "corp"}]),
            self.route(
                "cert", client_certificates="required", client_ca=self.world.ca, certificate_identity=machines,
                allow=[{"issuer": "machines", "subjects": ["ann.clients.test"]}],
            ),
            self.route(
                "either", client_certificates="optional", client_ca=self.world.ca, certificate_identity=machines,
                allow=[{"issuer": "machines", "subjects": ["ann.clients.test"]}, {"issuer": "corp", "groups": ["agents"]}],
            ),
        ]  # fmt: skip
        masks = [{"name": "all", "detect": ["personal", "keys"], "members": ["pin"]}]
        return self.world.config(*routes, **{"mask": masks} | more)

    def stop(self):
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


class Wire:
    """A connection over which bytes are sent as they are written here."""

    def __init__(self, world, port, route="svc", pair=None):
        context = ssl.create_default_context(cafile=world.ca)
        if pair:
            context.load_cert_chain(*pair)
        plain = socket.create_connection(("127.0.0.1", port), 10)
        self.tls = context.wrap_socket(plain, server_hostname=f"{route}.redis.test")
        self.tls.settimeout(10)

    def say(self, data):
        self.tls.sendall(data)
        return self

    def hear(self, expected):
        """Reads as much as is expected, and compares."""
        found = b""
        while len(found) < len(expected):
            piece = self.tls.recv(len(expected) - len(found))
            if not piece:
                break
            found += piece
        assert found == expected, (found, expected)
        return self

    def line(self):
        found = b""
        while not found.endswith(b"\r\n"):
            piece = self.tls.recv(1)
            assert piece, found
            found += piece
        return found

    def rest(self):
        found = b""
        while piece := self.tls.recv(65536):
            found += piece
        return found

    def close(self):
        self.tls.close()


@pytest.fixture
def wire(world, gateway):
    opened = []

    def wire(route="svc", gateway=gateway, **more):
        opened.append(Wire(world, gateway.port, route, **more))
        return opened[-1]

    yield wire
    for one in opened:
        one.close()


def command(*words):
    words = [word.encode() if isinstance(word, str) else word for word in words]
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)


@pytest.fixture
def client(world, gateway, monkeypatch):
    """redis-py over a route, in either version of the protocol."""
    real, made = socket.getaddrinfo, []

    def resolve(host, *rest, **more):
        host = "127.0.0.1" if isinstance(host, str) and host.endswith(".redis.test") else host
        return real(host, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)

    def client(route="svc", token=None, gateway=gateway, protocol=2, **more):
        settings = {
            "host": f"{route}.redis.test", "port": gateway.port, "ssl": True, "ssl_ca_certs": world.ca,
            "ssl_check_hostname": True, "password": world.issuer.token() if token is None else token, "protocol": protocol,
            "socket_timeout": 60, "retry": None,
        } | more  # fmt: skip
        made.append(redis.Redis(**settings))
        return made[-1]

    yield client
    for one in made:
        one.close()


def cli(world, gateway, *words, token=None, route="svc", more=(), **kwargs):
    token = world.issuer.token() if token is None else token
    base = ["redis-cli", "--tls", "--cacert", world.ca, "--sni", f"{route}.redis.test", "-h", "127.0.0.1"]
    line = [program(base[0]), *base[1:], "-p", str(gateway.port), *more, *words]
    return run(line, env=os.environ | {"REDISCLI_AUTH": token}, **kwargs)


# --- what works ---------------------------------------------------------------------------------------------------


def test_redis_cli_gets_in_as_the_stored_user(world, gateway):
    done = cli(world, gateway, "ACL", "WHOAMI")
    assert done.stdout.decode().strip() == "svc", done.stdout + done.stderr
    assert cli(world, gateway, "ACL", "WHOAMI", more=["-3"]).stdout.decode().strip().strip('"') == "svc"
    assert cli(world, gateway, "ACL", "WHOAMI", route="default").stdout.decode().strip() == "default"
    closed = gateway.line("session closed", database_user="svc")
    assert closed["reason"] == "done" and closed["subject"] == parts.ANN and closed["proof"] == "token", closed
    assert closed["client_version"] == "TLSv1.3" and closed["upstream_verified"] == "chain"
    assert gateway.line("session opened", session=closed["session"])["database_user"] == "svc"
    assert "database" not in closed


@pytest.mark.parametrize("protocol", [2, 3])
def test_redis_py_works_in_both_versions(client, protocol):
    r = client(protocol=protocol, username="whoever", client_name="tests")
    assert r.ping() and r.set("k", "v") and r.get("k") == b"v"
    assert r.acl_whoami() in (b"svc", "svc")
    assert r.client_getname() in (b"tests", "tests")
    assert r.hset("h", mapping={"a": 1, "b": 2}) in (0, 2) and r.hgetall("h") == {b"a": b"1", b"b": b"2"}
    with r.pipeline(transaction=True) as p:
        p.multi()
        p.set("t", 1).incr("t").get("t")
        assert p.execute() == [True, 2, b"2"]
    with r.pipeline(transaction=False) as p:
        for n in range(2000):
            p.set(f"n{n}", n)
        assert all(p.execute())
    assert r.eval("return {1, {2, 3}, redis.call('GET', KEYS[1])}", 1, "k") == [1, [2, 3], b"v"]
    with pytest.raises(redis.ResponseError):
        r.execute_command("NOSUCH")


@pytest.mark.parametrize("protocol", [2, 3])
def test_pub_sub(client, protocol):
    sender, listener = client(protocol=protocol), client(protocol=protocol).pubsub(ignore_subscribe_messages=True)
    listener.subscribe("news")
    listener.psubscribe("n*")
    parts.until(lambda: listener.get_message(timeout=0.2) is None and sender.pubsub_numsub("news")[0][1] == 1)
    for n in range(100):
        assert sender.publish("news", n) == 2
    got, deadline = [], time.monotonic() + 20
    while len(got) < 200 and time.monotonic() < deadline:
        if message := listener.get_message(timeout=1):
            got.append(message)
    assert len(got) == 200
    assert [int(one["data"]) for one in got if one["type"] == "message"] == list(range(100))


def test_redis_benchmark_with_tls(world, gateway):
    base = [program("redis-benchmark"), "--tls", "--cacert", world.ca, "--sni", "svc.redis.test", "-h", "127.0.0.1"]
    tests = ["-t", "ping,set,get,incr,lpush,lrange_100,mset", "-n", "2000", "-c", "10", "-P", "16", "-q"]
    done = run([*base, "-p", str(gateway.port), "-a", world.issuer.token(), *tests], seconds=110)
    text = done.stdout.decode().replace("\r", "\n")
    assert done.returncode == 0 and "rror" not in text, text + done.stderr.decode()
    for name in ("PING_INLINE", "PING_MBULK", "SET", "GET", "INCR", "LPUSH", "MSET"):
        assert re.search(rf"^{name}.*requests per second", text, re.M), text
    # It opens all its connections before the first of them logs in.
    many = run([*base, "-p", str(gateway.port), "-a", world.issuer.token(), "-t", "ping", "-n", "2000", "-c", "200", "-q"], 60)
    assert many.returncode == 0 and b"PING_MBULK" in many.stdout, many.stdout + many.stderr


def test_a_large_value_passes_whole_both_ways(client):
    piece = os.urandom(1 << 20)
    value = b"".join(piece[n % 1000 :] + piece[: n % 1000] for n in range(LARGE_MIB))
    r = client()
    assert r.set("large", value)
    assert hashlib.sha256(r.get("large")).digest() == hashlib.sha256(value).digest()
    assert r.strlen("large") == LARGE_MIB << 20
    r.delete("large")


def test_a_login_among_pipelined_commands_is_answered_in_its_place(world, wire):
    token = world.issuer.token()
    one = wire().say(
        command("AUTH", token) + command("SET", "a", "1") + command("AUTH", "ann", token) + command("GET", "a")
        + command("AUTH", "bad") + command("INCR", "a") + b"AUTH bad\r\nPING\r\n" + command("AUTH")
        + command("HELLO", "2", "AUTH", "x", "bad") + command("ECHO", "end")
    )  # fmt: skip
    one.hear(b"+OK\r\n+OK\r\n+OK\r\n$1\r\n1\r\n")
    assert one.line().startswith(b"-WRONGPASS the token")
    one.hear(b":2\r\n")
    assert one.line().startswith(b"-WRONGPASS the token")
    one.hear(b"+PONG\r\n-ERR wrong number of arguments for 'auth' command\r\n")
    assert one.line().startswith(b"-WRONGPASS the token")
    one.hear(b"$3\r\nend\r\n")
    # A value that looks like an answer is none.
    one.say(command("SET", "x", "-ERR\r\n+OK\r\n") + command("GET", "x")).hear(b"+OK\r\n$11\r\n-ERR\r\n+OK\r\n\r\n")


def test_another_identity_gets_its_own_account_and_one_that_may_not_changes_nothing(world, wire, gateway):
    ann, eve = world.issuer.token(), world.issuer.token(parts.STRANGER)
    who = command("ACL", "WHOAMI")
    one = wire("groups").say(command("AUTH", ann) + who + command("AUTH", eve) + command("SET", "k", "1") + command("AUTH", ann) + who)
    one.hear(b"+OK\r\n$3\r\nsvc\r\n+OK\r\n")
    assert one.line().startswith(b"-NOPERM")
    one.hear(b"+OK\r\n$3\r\nsvc\r\n")
    two = wire("svc").say(command("AUTH", ann) + command("AUTH", eve) + who).hear(b"+OK\r\n")
    assert two.line().startswith(b"-NOPERM the identity is known")
    two.hear(b"$3\r\nsvc\r\n").close()
    one.close()
    assert gateway.line("session closed", route="redis-groups")["identities"] == 2


def test_hello_is_answered_in_the_upstreams_words(world, wire):
    token = world.issuer.token()
    one = wire().say(command("HELLO", "3", "AUTH", "default", token, "SETNAME", "me"))
    assert one.line() == b"%7\r\n"
    one.say(command("CLIENT", "GETNAME"))
    text = b""
    while not text.endswith(b"$2\r\nme\r\n"):
        text += one.line()
    assert b"redis" in text and b":3\r\n" in text
    two = wire().say(command("AUTH", token) + command("HELLO", "2") + command("PING")).hear(b"+OK\r\n*14\r\n")
    assert two.say(command("HELLO", "3", "AUTH", "x", "bad")) and b"server" in two.line() + two.line()


def test_reset_keeps_the_stored_account(world, wire):
    who = command("ACL", "WHOAMI")
    one = wire().say(command("AUTH", world.issuer.token()) + command("MULTI") + who + command("RESET") + who)
    one.hear(b"+OK\r\n+OK\r\n+QUEUED\r\n+RESET\r\n$3\r\nsvc\r\n")
    one.say(command("SUBSCRIBE", "c") + command("RESET") + who)
    one.hear(b"*3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n+RESET\r\n$3\r\nsvc\r\n")


def test_a_subscriber_is_refused_in_order_in_both_versions(world, wire):
    token = world.issuer.token()
    one = wire().say(command("AUTH", token) + command("SUBSCRIBE", "c") + command("AUTH", "bad") + command("PING"))
    one.hear(b"+OK\r\n*3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n")
    assert one.line().startswith(b"-WRONGPASS")
    one.hear(b"*2\r\n$4\r\npong\r\n$0\r\n\r\n")
    three = wire().say(command("AUTH", token) + command("HELLO", "3")).hear(b"+OK\r\n")
    assert three.line() == b"%7\r\n"
    three.say(command("SUBSCRIBE", "c") + command("AUTH", "bad") + command("PING"))
    text = b""
    while not text.endswith(b"+PONG\r\n"):
        text += three.line()
    assert re.search(rb">3\r\n\$9\r\nsubscribe\r\n\$1\r\nc\r\n:1\r\n-WRONGPASS [^\r]*\r\n\+PONG\r\n$", text), text


def test_replies_that_are_off_stay_off(world, wire):
    one = wire().say(command("AUTH", world.issuer.token()) + command("CLIENT", "REPLY", "OFF") + command("SET", "off", "1"))
    one.say(command("AUTH", "bad") + command("CLIENT", "REPLY", "ON") + command("GET", "off") + command("AUTH", "bad"))
    one.hear(b"+OK\r\n+OK\r\n$1\r\n1\r\n")
    assert one.line().startswith(b"-WRONGPASS")


def test_monitor_shows_no_login(world, wire):
    token = world.issuer.token()
    watcher = wire().say(command("AUTH", token) + command("MONITOR")).hear(b"+OK\r\n+OK\r\n")
    other = wire().say(command("HELLO", "3", "AUTH", "x", token) + command("AUTH", token) + command("AUTH", "bad"))
    other.say(command("RESET") + command("GET", "the-end"))
    seen = b""
    while b"the-end" not in seen:
        seen += watcher.line()
    assert KEY.encode() not in seen and token.encode() not in seen and b"STAUNCH" not in seen, seen


def test_an_issuers_new_keys_are_waited_for_in_the_middle_of_a_pipeline(world, wire):
    one = wire().say(command("AUTH", world.issuer.token())).hear(b"+OK\r\n")
    world.issuer.rotate()
    one.say(command("ECHO", "a") + command("AUTH", world.issuer.token()) + command("ECHO", "b"))
    one.hear(b"$1\r\na\r\n+OK\r\n$1\r\nb\r\n")


def test_a_copy_of_the_whole_data_passes(world, gateway, wire, tmp_path):
    wire().say(command("AUTH", world.issuer.token()) + command("SET", "copied", "canary")).hear(b"+OK\r\n+OK\r\n")
    done = cli(world, gateway, more=["--rdb", str(tmp_path / "copy.rdb")])
    assert done.returncode == 0, done.stdout + done.stderr
    copy = (tmp_path / "copy.rdb").read_bytes()
    assert copy.startswith(b"REDIS") and b"copied" in copy and b"canary" in copy


def test_a_certificate_is_enough(database, wire, client):
    who = command("ACL", "WHOAMI")
    wire("cert", pair=database.machine).say(who).hear(b"$3\r\nsvc\r\n")
    wire("either", pair=database.machine).say(who).hear(b"$3\r\nsvc\r\n")
    assert client("either").acl_whoami() in (b"svc", "svc")
    one = wire("cert", pair=database.stranger)
    assert one.line().startswith(b"-NOPERM")
    assert one.say(command("AUTH", "x")).line().startswith(b"-WRONGPASS this route knows clients by certificate")


# --- what is refused ----------------------------------------------------------------------------------------------


def test_nothing_reaches_the_upstream_before_the_permit(world, database, wire):
    before = database.server.arrivals()
    one = wire().say(command("PING") + command("SET", "k", "v") + b"GET k\r\n\r\n" + command("RESET") + command("HELLO", "3"))
    for _ in range(3):
        assert one.line().startswith(b"-NOAUTH ")
    one.hear(b"+RESET\r\n")
    assert one.line().startswith(b"-NOAUTH ")
    one.say(command("HELLO", "4")).hear(b"-NOPROTO unsupported protocol version\r\n")
    one.say(command("QUIT")).hear(b"+OK\r\n")
    assert one.rest() == b""
    assert database.server.arrivals() == before + 1


def test_tokens_that_are_no_good(world, database, wire, gateway, client):
    before = database.server.arrivals()
    brief = world.issuer.token(parts.BRIEF)
    table = [
        ("nonsense", b"-WRONGPASS "), (world.issuer.forged(), b"-WRONGPASS "), ("", b"-WRONGPASS "),
        (world.issuer.token(parts.ELSEWHERE), b"-WRONGPASS "), (world.issuer.token(parts.STRANGER), b"-NOPERM "),
    ]  # fmt: skip
    for token, said in table:
        assert wire().say(command("AUTH", token)).line().startswith(said)
        assert wire().say(command("HELLO", "3", "AUTH", "default", token)).line().startswith(said)
    # Past its end by more than clocks may differ.
    time.sleep(34)
    assert b"expired" in wire().say(command("AUTH", brief)).line()
    with pytest.raises(redis.AuthenticationError):
        client(token="nonsense").ping()
    with pytest.raises(redis.RedisError):
        client(token=world.issuer.token(parts.STRANGER), protocol=3).ping()
    assert database.server.arrivals() == before + 1
    # One that is good may follow, and the server's password is no token.
    one = wire().say(command("AUTH", KEY) + command("AUTH", world.issuer.token()) + command("PING"))
    assert one.line().startswith(b"-WRONGPASS")
    one.hear(b"+OK\r\n+PONG\r\n")


GARBAGE = [
    b"\x00\x01\x02\r\n", b"*99999999999999999999\r\n", b"*2\r\n:1\r\n", b"*2\r\n$-1\r\n", b"*2\r\n$99999999999\r\n",
    b"*2\r\n$4\r\nAUTHxx\r\n", b"*+2\r\n", b"*1\r\n$5\r\nAUTH\x00\r\n", b"POST / HTTP/1.1\r\nHost: x\r\n\r\n", b"*1\rx",
    b"\"AUTH\" x\r\n", b"x" * 70_000,
]  # fmt: skip


@pytest.mark.parametrize("data", GARBAGE, ids=range(len(GARBAGE)))
def test_garbage_ends_the_connection_and_nothing_of_it_goes_up(world, database, wire, data):
    before, token = database.server.arrivals(), world.issuer.token()
    assert wire().say(data).rest().startswith(b"-")
    bad = command("AUTH", "bad")
    assert wire().say(bad + data).rest().startswith(b"-WRONGPASS")
    assert database.server.arrivals() == before + 1
    calls = lambda: re.search(r"total_error_replies:(\d+)", database.server.cli("INFO", "stats"))[1]
    errors = calls()
    told = wire().say(command("AUTH", token)).hear(b"+OK\r\n").say(data).rest()
    assert re.match(rb"-(ERR Protocol error|NOAUTH)", told), told
    assert calls() == errors, "the server was not asked to make sense of it"


def test_an_upstream_that_does_not_let_the_gateway_in(world, wire, gateway):
    token = world.issuer.token()
    told = wire("wrong").say(command("AUTH", token)).rest()
    assert told.startswith(b"-ERR the upstream 127.0.0.1:") and b"let the gateway in" in told and b"svc" not in told
    told = wire("down").say(command("HELLO", "3", "AUTH", "x", token) + command("PING")).rest()
    assert told.startswith(b"-ERR the upstream 127.0.0.1:") and b"cannot be reached" in told
    assert gateway.line("session closed", route="redis-wrong")["reason"] == "dial"


def test_a_login_that_the_upstream_refuses_changes_nothing(world, database, wire, gateway):
    token = world.issuer.token()
    one = wire().say(command("AUTH", token)).hear(b"+OK\r\n")
    database.server.cli("ACL", "SETUSER", "svc", "resetpass", ">other")
    try:
        one.say(command("AUTH", token) + command("ACL", "WHOAMI"))
        assert one.line() == b"-ERR the upstream does not let the gateway in\r\n"
        one.hear(b"$3\r\nsvc\r\n")
        one.close()
        assert gateway.line("login", result="refused_upstream")["database_user"] == "svc"
    finally:
        database.server.cli("ACL", "SETUSER", "svc", "resetpass", f">{KEY}")


def test_other_protocols_are_not_taken_for_commands(world, gateway):
    context = ssl.create_default_context(cafile=world.ca)
    context.set_alpn_protocols(["http/1.1"])
    with socket.create_connection(("127.0.0.1", gateway.port), 10) as plain, pytest.raises(ssl.SSLError):
        context.wrap_socket(plain, server_hostname="svc.redis.test")


# --- its end ------------------------------------------------------------------------------------------------------


def test_expiry_cuts_where_the_route_says_so_and_a_new_token_puts_it_off(world, wire, gateway):
    one = wire("cut").say(command("AUTH", world.issuer.token(parts.BRIEF))).hear(b"+OK\r\n")
    two = wire("cut").say(command("AUTH", world.issuer.token(parts.BRIEF))).hear(b"+OK\r\n")
    two.say(command("AUTH", world.issuer.token())).hear(b"+OK\r\n")
    kept = wire("svc").say(command("AUTH", world.issuer.token(parts.BRIEF))).hear(b"+OK\r\n")
    assert one.line().startswith(b"-NOAUTH the permit of this session has ended")
    assert one.rest() == b""
    time.sleep(0.5)
    two.say(command("PING")).hear(b"+PONG\r\n")
    kept.say(command("PING")).hear(b"+PONG\r\n")
    assert gateway.line("session closed", route="redis-cut", reason="expired")["database_user"] == "svc"


def test_drain_ends_idle_connections_and_lets_others_finish(world, database, start, wire):
    gateway = start(database.config())
    token = world.issuer.token()
    auth = command("AUTH", token)
    idle = wire(gateway=gateway).say(auth).hear(b"+OK\r\n")
    busy = wire(gateway=gateway).say(auth + command("BLPOP", "queue", "0")).hear(b"+OK\r\n")
    multi = wire(gateway=gateway).say(auth + command("MULTI") + command("SET", "m", "1")).hear(b"+OK\r\n+OK\r\n+QUEUED\r\n")
    parts.until(lambda: "blocked_clients:1" in database.server.cli("INFO", "clients"))
    gateway.signal(signal.SIGTERM)
    assert idle.rest() == b""
    multi.say(command("EXEC")).hear(b"*1\r\n+OK\r\n")
    assert multi.rest() == b""
    database.server.cli("RPUSH", "queue", "x")
    busy.hear(b"*2\r\n$5\r\nqueue\r\n$1\r\nx\r\n")
    assert busy.rest() == b""
    assert gateway.process.popen.wait(10) == 0


def test_a_client_that_leaves_takes_its_upstream_connection_along(world, database, wire):
    one = wire().say(command("AUTH", world.issuer.token()) + command("CLIENT", "SETNAME", "leaver") + command("BLPOP", "never", "0"))
    one.hear(b"+OK\r\n+OK\r\n")
    parts.until(lambda: "name=leaver" in database.server.cli("CLIENT", "LIST"))
    one.close()
    parts.until(lambda: "name=leaver" not in database.server.cli("CLIENT", "LIST"))


def test_a_server_that_dies_is_noticed(world, database, start, wire, tmp_path):
    server = Server(*world.upstream_pair, world.ca, KEY)
    gateway = start(database.world.config(database.route("svc", port=server.port)))
    one = wire(gateway=gateway).say(command("AUTH", world.issuer.token()) + command("BLPOP", "never", "0")).hear(b"+OK\r\n")
    server.process.stop(signal.SIGKILL)
    server.stop()
    try:
        assert one.rest().startswith(b"-ERR the connection")
    except (ssl.SSLError, ConnectionError):
        assert ends(one.tls)


@pytest.mark.parametrize("protocol", [2, 3])
def test_replies_are_masked_and_what_is_stored_is_not(client, database, gateway, protocol):
    one = client("masked", protocol=protocol)
    one.set("card", "4111 1111 1111 1111")
    one.hset("jane", mapping={"mail": "jane@example.com", "facts": '{"pin": 1234, "a": "b"}'})
    assert one.get("card") == b"4111 11** **** 1111"
    assert one.hgetall("jane") == {b"mail": b"jane************", b"facts": b'{"pin": 1000, "a": "b"}'}
    with pytest.raises(redis.ResponseError) as caught:
        one.eval("return redis.error_reply('for jane@example.com')", 0)
    assert "jane*" in str(caught.value) and "example" not in str(caught.value)
    with one.pubsub() as listener:
        listener.subscribe("cards")
        parts.until(lambda: listener.get_message(timeout=1))
        one.publish("cards", "jane@example.com")
        message = parts.until(lambda: listener.get_message(timeout=1))
        assert message["data"] == b"jane************", message
    one.close()
    assert database.server.cli("get", "card").strip() == "4111 1111 1111 1111"
    # Several connections were used, and not each of them had a value to mask.
    parts.until(lambda: any(line["event"] == "session closed" and line.get("masked", 0) > 0 for line in gateway.lines()))
