"""Another account of the same machine: what it can join, read, hold in the gateway's place, and use."""

import os
import pathlib
import shutil
import signal
import sys
import tempfile

import pytest
from end_to_end import KEY
from support import parts, redis_server
from support.gateway import Gateway
from support.login import Home
from support.parts import until
from support.process import free_port, run

JOIN = """
import socket, sys
for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
    with socket.socket(family) as own:
        own.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        own.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            own.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        try:
            own.bind((address, int(sys.argv[1])))
            own.listen()
            print("joined", address)
        except OSError as error:
            print(type(error).__name__, error.errno)
"""

ASK = """
import socket, sys
try:
    # The reset may be there before the connection is looked at for the first time.
    tcp = socket.create_connection(("127.0.0.1", int(sys.argv[1])), 10)
    tcp.sendall(b"GET /look HTTP/1.1\\r\\nhost: localhost\\r\\nconnection: close\\r\\n\\r\\n")
    answer = b""
    while part := tcp.recv(65536):
        answer += part
    print("answer", answer)
except ConnectionRefusedError:
    raise
except OSError as error:
    print("no answer")
"""

# Whatever a server can say first is said; what comes is printed. Arguments: where to listen, and what to say.
HOLD = """
import os, socket, sys
if sys.argv[1].startswith("/"):
    own = socket.socket(socket.AF_UNIX)
    own.bind(sys.argv[1])
    os.chmod(sys.argv[1], 0o777)
else:
    own = socket.create_server(("127.0.0.1", int(sys.argv[1])))
own.listen()
print("holds", flush=True)
came = b""
for reply in sys.argv[2:]:
    peer = own.accept()[0]
    peer.settimeout(5)
    try:
        came += peer.recv(65536)
        peer.sendall(bytes.fromhex(reply))
        while part := peer.recv(65536):
            came += part
    except OSError:
        pass
    peer.close()
print(came.hex(), flush=True)
"""

# Looks at every process of the machine, and at the files of those that are named.
LOOK = """
import os, sys
words, found = [word.encode() for word in sys.argv[1].split(",")], []
for process in filter(str.isdigit, os.listdir("/proc")):
    for what in ("cmdline", "environ", "maps", "mem"):
        try:
            if int(process) == os.getpid():
                continue
            with open(f"/proc/{process}/{what}", "rb") as file:
                text = file.read(1 << 20)
            found += [(process, what) for word in words if word in text]
        except OSError:
            pass
for path in sys.argv[2:]:
    try:
        with open(path, "rb"):
            found.append(path)
    except PermissionError:
        pass
print(found)
"""


@pytest.fixture
def shared():
    """A folder that every account can enter and write to."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="staunch-attack-"))
    folder.chmod(0o777)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def place(world, tmp_path_factory):
    """A gateway with a tunnel to a web service and a cache, and somebody who is logged in."""
    place = type("Place", (), {})()
    place.redis = redis_server.Server(*world.upstream_pair, world.ca, KEY)
    app = world.route("app", world.hypercorn_port)
    cache = world.route("cache", place.redis.port, protocol="redis", inject={"user": "svc", "password": "{secret:stored}"})
    for route in (app, cache):
        del route["sni"], route["certificate"]
    place.gateway = Gateway(tmp_path_factory.mktemp("neighbour"), world.config(app, cache, tunnel=world.tunnel()))
    # Its modes are what keeps others out, not those of the folders above.
    home = pathlib.Path(tempfile.mkdtemp(prefix="staunch-home-"))
    home.chmod(0o755)
    place.home = Home(home, world)
    place.home.env["CI_SECRET"] = "secret"
    place.home.run("login", *place.home.at(parts.ANN), "--client-credentials", "--client-secret", "env:CI_SECRET")
    place.connect = ["connect", "--gateway", "tunnel.gw.test", "--connect-to", f"127.0.0.1:{place.gateway.port}", "--ca", world.ca]
    yield place
    assert place.gateway.stop() == 0, place.gateway.process.text()
    place.redis.stop()
    shutil.rmtree(home)


def test_a_port_that_the_gateway_holds_cannot_be_joined(place, neighbour):
    for port in (place.gateway.port, place.gateway.admin):
        assert "joined" not in neighbour.run(JOIN, port)


def test_a_port_of_connect_serves_its_own_user_and_nobody_else(place, neighbour):
    port = free_port()
    begun = place.home.begin(*place.connect, "--verbose", f"app={port}")
    until(lambda: f"127.0.0.1:{port}" in begun.text())
    before = len([line for line in place.gateway.lines() if line["event"] == "request"])
    assert neighbour.run(ASK, port) == "no answer"
    until(lambda: f"a program of user {neighbour.uid} connected" in begun.text())
    assert run(["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", f"http://127.0.0.1:{port}/look"]).stdout == b"200"
    until(lambda: len([line for line in place.gateway.lines() if line["event"] == "request"]) == before + 1)
    # Nor can it take the other address of "localhost", where some programs look first.
    assert "joined" not in neighbour.run(JOIN, port)
    begun.popen.send_signal(signal.SIGTERM)
    assert begun.ended() == 0


def test_what_exec_puts_on_sockets_is_out_of_anothers_reach(place, neighbour):
    program = """
import os, pathlib, sys, time, redis
path = pathlib.Path(os.environ["STAUNCH_CACHE_SOCKET"])
client = redis.Redis.from_url(os.environ["REDIS_URL"])
print(client.ping(), oct(path.parent.parent.stat().st_mode), path, flush=True)
time.sleep(60)
"""
    begun = place.home.begin(*place.connect, "cache", "--exec", sys.executable, "-c", program)
    until(lambda: "redis.sock" in begun.text())
    ping, mode, path = begun.text().split()
    assert (ping, mode) == ("True", "0o40700")
    attack = "import os, socket, sys\nfor what in (lambda: socket.socket(socket.AF_UNIX).connect(sys.argv[1]), lambda: os.listdir(os.path.dirname(sys.argv[1]))):\n try: what(); print('in')\n except PermissionError: print('out')"
    assert neighbour.run(attack, path).split() == ["out", "out"]
    begun.popen.send_signal(signal.SIGTERM)
    begun.ended()
    assert not pathlib.Path(path).parent.parent.exists(), "the folder goes with the run"


def test_exec_gives_ports_where_they_are_asked_for(place):
    program = "import os; print(os.environ['REDIS_URL'], os.environ['STAUNCH_CACHE_PORT'])"
    url, port = place.home.run(*place.connect, "cache=0", "--exec", sys.executable, "-c", program).stdout.split()
    assert url == f"redis://127.0.0.1:{port}"


def test_no_secret_can_be_read_of_a_running_program_or_its_files(place, neighbour):
    port = free_port()
    begun = place.home.begin(*place.connect, f"app={port}")
    until(lambda: f"127.0.0.1:{port}" in begun.text())
    kept = place.home.kept()
    secrets = [KEY, *(value for value in kept.values() if isinstance(value, str) and value.startswith("eyJ"))]
    assert len(secrets) > 1, kept
    files = [place.gateway.folder / "stored.key", *place.home.state.iterdir()]
    assert neighbour.run(LOOK, ",".join(secrets), *files) == "[]"
    begun.popen.send_signal(signal.SIGTERM)
    assert begun.ended() == 0


def test_a_login_under_way_cannot_be_used_by_another(place, neighbour, world, tmp_path):
    """The address that begins it would let whoever opens it first log in as somebody else in the victim's name."""
    opener = pathlib.Path(tempfile.mkdtemp(prefix="staunch-opener-"))
    opener.chmod(0o755)
    script = opener / "xdg-open"
    script.write_text('#!/bin/sh\necho "$1" >"$0.asked.new"; mv "$0.asked.new" "$0.asked"; exec sleep 30\n')
    script.chmod(0o755)
    home = Home(tmp_path, world)
    running = home.begin("login", *home.at(parts.CLI), env={"DISPLAY": ":1", "PATH": f"{opener}:{os.environ['PATH']}"})
    asked = opener / "xdg-open.asked"
    until(asked.exists)
    opened = asked.read_text().strip().removeprefix("file://")
    assert neighbour.run(LOOK, "code_challenge=,state=", opened) == "[]"
    running.popen.kill()
    shutil.rmtree(opener)


def test_a_socket_that_another_holds_in_the_upstreams_place_gets_nothing(world, start, neighbour, shared):
    socket = shared / "redis.sock"
    holder = neighbour.begin(HOLD, socket, "2b4f4b0d0a")
    assert holder.stdout.readline() == "holds\n"
    chain, key = world.authority.leaf("held", ["held.gw.test"])
    upstream = {"address": f"unix:{socket}", "peer_user": "root"}
    gateway = start(world.config(world.route(
        "held", 0, upstream=upstream, unsafe_plaintext_upstream=True, protocol="redis",
        certificate={"chain": chain, "key": key}, inject={"user": "svc", "password": "{secret:stored}"},
    )))  # fmt: skip
    cli = ["redis-cli", "--tls", "--cacert", world.ca, "--sni", "held.gw.test", "-h", "127.0.0.1", "-p", str(gateway.port)]
    done = run([*cli, "--no-auth-warning", "-a", world.issuer.token(), "GET", "k"])
    assert b"cannot be reached or does not verify" in done.stdout + done.stderr, done
    came, _ = holder.communicate(timeout=20)
    assert bytes.fromhex(came.strip()) == b""
    assert str(neighbour.uid) in gateway.line("session closed", reason="dial")["detail"]


# AuthenticationCleartextPassword; a MySQL greeting is said by who listens, so that case is in tests/plaintext_upstream.rs.
CLEARTEXT = "520000000800000003"


def test_a_port_that_another_holds_in_the_databases_place_gets_no_password(world, start, neighbour):
    port = free_port()
    holder = neighbour.begin(HOLD, port, CLEARTEXT)
    assert holder.stdout.readline() == "holds\n"
    chain, key = world.authority.leaf("port", ["port.gw.test"])
    gateway = start(world.config(world.route(
        "port", 0, upstream=f"tcp://127.0.0.1:{port}", unsafe_plaintext_upstream=True, protocol="postgres",
        certificate={"chain": chain, "key": key}, inject={"user": "svc", "password": "{secret:stored}"},
    )))  # fmt: skip
    to = f"host=port.gw.test hostaddr=127.0.0.1 port={gateway.port} dbname=postgres user=ann sslmode=verify-full sslrootcert={world.ca}"
    done = run(["psql", "-wAtc", "select 1", to], env=os.environ | {"PGPASSWORD": world.issuer.token()})
    assert b"cannot agree on a login" in done.stderr, done
    came, _ = holder.communicate(timeout=20)
    came = bytes.fromhex(came.strip())
    assert b"user\0svc\0" in came and KEY.encode() not in came
    assert "in clear" in gateway.line("session closed", reason="dial")["detail"]
