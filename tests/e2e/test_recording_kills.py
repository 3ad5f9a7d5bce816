"""The gateway is killed while clients of several protocols write and read: what any of them saw is in the recording."""

import contextlib
import os
import random
import signal
import socket
import ssl
import struct
import threading
import time

import httpx
import psycopg
import pytest
from support import postgres
from support.bridge import Bridge
from support.gateway import KEY, Gateway
from support.parts import until
from support.recordings import Auditors, Recordings
from test_tls import Sink

KILLS = int(os.environ.get("STAUNCH_KILLS", "8" if os.environ.get("STAUNCH_QUICK") else "40"))
# So many into one directory, which is then read as a whole.
BATCH = 25


class Place:
    """Upstreams of four protocols, and clients that say numbers in them until they are cut off."""

    def __init__(self, world, folder):
        self.world, self.auditors = world, Auditors(folder / "auditors")
        self.postgres = postgres.Server(*world.upstream_pair, KEY)
        self.arrived = []
        self.echo = Sink(world, self.serve)
        self.pair = world.authority.leaf("kills", ["raw.gw.test", "pg.gw.test", "h1.gw.test", "h2.gw.test"])
        self.machine = world.authority.leaf("kills-machine", ["ann.clients.test"])

    def serve(self, connection):
        got = bytearray()
        self.arrived.append(got)
        while data := connection.recv(1 << 18):
            got += data
            connection.sendall(data)

    def config(self, record, durability):
        world, (chain, key) = self.world, self.pair
        own = {"certificate": {"chain": chain, "key": key}, "record": record}
        raw = world.route("raw", self.echo.port, protocol="raw", **own) | {
            "client_certificates": "required", "client_ca": world.ca,
            "certificate_identity": {"name": "machines", "subject": ["dns"]}, "allow": [{"issuer": "machines"}],
        }  # fmt: skip
        del raw["inject"]
        database = world.route("pg", self.postgres.port, protocol="postgres", **own)
        routes = [
            world.route("h1", world.hypercorn_port, **own),
            world.route("h2", world.hypercorn_port, **own),
            database | {"inject": {"user": "svc_scram", "password": "{secret:stored}"}},
            raw,
        ]
        return world.config(*routes, recording=self.auditors.section(segment_size="4MiB", durability=durability))

    def bridge(self, gateway, name, *alpn):
        context = ssl.create_default_context(cafile=self.world.ca)
        if alpn:
            context.set_alpn_protocols(alpn)
        if name == "raw":
            context.load_cert_chain(*self.machine)
        return Bridge(gateway.port, context, f"{name}.gw.test")

    def say_raw(self, bridge, mark):
        with socket.create_connection(("127.0.0.1", bridge.port), 10) as connection:
            for n in range(100_000):
                piece = f"{mark}{n:08}".encode() * 8_000
                reader = threading.Thread(target=self.read, args=(connection, len(piece)))
                reader.start()
                connection.sendall(piece)
                reader.join()

    def read(self, connection, length):
        with contextlib.suppress(OSError):
            while length > 0 and (more := connection.recv(1 << 16)):
                length -= len(more)

    def say_http(self, bridge, mark, version):
        headers = {"host": f"h{version}.gw.test", "authorization": f"Bearer {self.world.issuer.token()}"}
        with httpx.Client(http1=version == 1, http2=version == 2, headers=headers, timeout=10) as client:
            for n in range(100_000):
                client.post(f"http://127.0.0.1:{bridge.port}/echo", content=f"{mark}{n:08}".encode() * 500)

    def say_postgres(self, bridge, mark):
        words = f"host=127.0.0.1 port={bridge.port} dbname=postgres user=ann sslmode=disable"
        with psycopg.connect(words, password=self.world.issuer.token(), autocommit=True) as connection:
            for n in range(100_000):
                connection.execute(f"select repeat('{mark}{n:08}', 500)").fetchall()

    def round(self, gateway, wait):
        """All of them speak for a while; then the gateway is killed. Gives what each client and the raw server saw."""
        bridges = {
            "raw": self.bridge(gateway, "raw"), "h1": self.bridge(gateway, "h1", "http/1.1"),
            "h2": self.bridge(gateway, "h2", "h2"), "pg": self.bridge(gateway, "pg", "postgresql"),
        }  # fmt: skip
        say = {"raw": self.say_raw, "pg": self.say_postgres}
        say |= {f"h{version}": lambda bridge, mark, version=version: self.say_http(bridge, mark, version) for version in (1, 2)}
        marks = {name: os.urandom(8).hex() for name in bridges}

        def run(name):
            with contextlib.suppress(OSError, httpx.HTTPError, psycopg.Error):
                say[name](bridges[name], marks[name])

        threads = [threading.Thread(target=run, args=(name,)) for name in bridges]
        for thread in threads:
            thread.start()
        time.sleep(wait)
        gateway.signal(signal.SIGKILL)
        gateway.process.popen.wait()
        for thread in threads:
            thread.join()
        for bridge in bridges.values():
            until(lambda bridge=bridge: all(talk.over for talk in bridge.talks))
            bridge.stop()
        return [(name, marks[name].encode(), bytes(talk.got)) for name, bridge in bridges.items() for talk in bridge.talks]


@pytest.fixture(scope="module")
def place(world, tmp_path_factory):
    place = Place(world, tmp_path_factory.mktemp("kills"))
    yield place
    place.postgres.stop()


def is_torn(segment) -> bool:
    """The file ends within a frame, as config/recording-format.md has them."""
    bytes_ = segment.read_bytes()
    if len(bytes_) < 96:
        return True
    at = 96 + sum(struct.unpack(">II", bytes_[80:88]))
    while at < len(bytes_):
        if len(bytes_) - at < 32:
            return True
        at += 32 + struct.unpack(">I", bytes_[at : at + 4])[0]
    return at > len(bytes_)


# With `commit` a thread writes and acknowledges, as it does where a disk makes writers wait.
@pytest.mark.parametrize(
    ("record", "durability", "kills"),
    [("strict", "process", KILLS), ("strict", "commit", KILLS // 4), ("async", "process", KILLS // 4)],
)
def test_what_anybody_saw_before_the_gateway_was_killed_is_recorded(place, tmp_path, record, durability, kills):
    chooser, torn, compared = random.Random(4711), 0, {"raw": 0, "h1": 0, "h2": 0, "pg": 0}
    for batch in range(0, kills, BATCH):
        folder = tmp_path / str(batch)
        folder.mkdir(mode=0o700)
        place.arrived.clear()
        seen, before = [], set()
        for _ in range(min(BATCH, kills - batch)):
            gateway = Gateway(folder, place.config(record, durability))
            seen += place.round(gateway, (0.1 if durability == "process" else 0.3) + chooser.random() * 0.2)
            files = set((folder / "recordings/segments").glob("*.seg"))
            torn += any(is_torn(file) for file in files - before)
            before = files
        gateway = Gateway(folder, place.config(record, durability))
        here = Recordings(folder / "recordings", place.auditors.files[0])
        try:
            until(lambda here=here: here.verify("--identity", here.identity).returncode == 0, 30)
        finally:
            assert gateway.stop() == 0
        planes = {}
        for session in here.sessions():
            if session["up_bytes"]:
                planes.setdefault(session["route"], []).append((here.plane(session, "up"), here.plane(session, "down")))
        for name, mark, got in seen:
            # Who was cut off before anything came back saw nothing.
            if mark not in got:
                continue
            found = [(up, down) for up, down in planes.get(name, []) if mark in up]
            if record == "async" and not found:
                continue
            [(up, down)] = found
            begin = got.find(down[:24]) if name == "pg" else 0
            seen_of_it = got[max(begin, 0) :]
            if record == "strict":
                assert begin >= 0 and down.startswith(seen_of_it), (name, mark, len(got), len(down))
                # What came back had gone up before, so it was recorded before.
                last = seen_of_it.rfind(mark)
                assert seen_of_it[last : last + 24] in up or len(seen_of_it) - last < 24, (name, mark)
            else:
                assert down.startswith(seen_of_it) or seen_of_it.startswith(down), (name, mark)
            compared[name] += 1
        if record == "strict":
            ups = [up for up, _ in planes.get("raw", [])]
            assert all(any(up.startswith(bytes(got)) for up in ups) for got in place.arrived if got)
    print(f"{record}, {durability}: {kills} kills, {torn} of them with a torn tail, compared {compared}")
    least = kills // 10 if (record, durability) == ("strict", "process") else 0
    assert min(compared.values()) >= least, compared
    # A disk may take its time for each sync, but not all of it.
    assert sum(compared.values()) > 0 or record == "async", compared
