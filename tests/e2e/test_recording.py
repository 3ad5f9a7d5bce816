"""Recorded sessions: real clients, then what an auditor finds, with a key and without one."""

import contextlib
import datetime
import json
import os
import re
import socket
import ssl
import subprocess

import httpx
import pytest
import test_tunnel
from conftest import recorded_place
from support import mariadb, parts, postgres
from support.gateway import BINARY, KEY, Gateway
from support.parts import until
from support.process import Process, free_port, run
from support.recordings import Auditors, Recordings
from support.redis_server import Server as RedisServer
from support.redis_server import program
from test_http1 import curl
from test_tls import Sink, client_context, echo

COOKIE = "cookie-canary-51f3"


class Place:
    """A gateway that records every route strictly, and all that stands behind it."""

    def __init__(self, world, folder):
        self.world = world
        self.auditors = Auditors(folder / "auditors")
        self.pair = world.authority.leaf("recorded", ["redis.gw.test", "pg.gw.test", "localhost"])
        self.redis = RedisServer(*world.upstream_pair, world.ca, KEY)
        self.postgres = postgres.Server(*world.upstream_pair, KEY)
        self.echo = Sink(world, echo)
        self.machine = world.authority.leaf("recorded-machine", ["ann.clients.test"])
        self.gateway = Gateway(folder, self.config())
        self.recordings = Recordings(folder / "recordings", self.auditors.files[0])

    def database(self, name, port, user, **more):
        chain, key = self.pair
        return {
            "name": name, "sni": f"{name}.gw.test", "protocol": name,
            "upstream": {"address": f"tls://127.0.0.1:{port}", "ca": self.world.ca},
            "certificate": {"chain": chain, "key": key},
            "allow": [{"issuer": "corp", "groups": ["agents"]}],
            "inject": {"user": user, "password": "{secret:stored}"},
        } | more  # fmt: skip

    def config(self, **more):
        world = self.world
        routes = [
            world.route("api", world.nginx_port),
            world.route("app", world.hypercorn_port, redact=["cookie"]),
            world.route("grpc", world.grpc_port),
            self.database("redis", self.redis.port, "svc"),
            self.database("postgres", self.postgres.port, "svc_scram", sni="pg.gw.test", statements="256B"),
        ]
        return world.config(*routes, tunnel=world.tunnel(), recording=self.auditors.section(), **more)

    def stop(self):
        for server in (self.redis, self.postgres):
            server.stop()


@pytest.fixture(scope="module")
def place(world, tmp_path_factory):
    yield from recorded_place(Place, world, tmp_path_factory, "recorded")


def closed(place, **where):
    """The newest session with these values, once it is over: not the one before it while it is not."""

    def find():
        found = place.recordings.sessions(**where)
        return found[-1] if found and all(session["state"] == "complete" for session in found) else None

    return until(find)


def planes(place, session):
    return place.recordings.plane(session, "up"), place.recordings.plane(session, "down")


def test_http_1_1_is_recorded_as_the_client_saw_it_without_its_secrets(place, world):
    token = world.issuer.token()
    sent = ["-H", f"Cookie: session={COOKIE}", "-H", "X-Ask: what-was-asked", "--data", "body-of-a-request"]
    answer = curl(place.gateway, world, "app", "/look", "--http1.1", *sent, token=token)
    assert json.loads(answer.stdout)["headers"]["authorization"] == f"Bearer {KEY}"
    session = closed(place, route="app")
    up, down = planes(place, session)
    head, body = up.split(b"\r\n\r\n")
    assert head.startswith(b"POST /look HTTP/1.1\r\n") and body == b"body-of-a-request", up
    assert b"X-Ask: what-was-asked" in head
    assert b"\r\nAuthorization: " + b"*" * len(f"Bearer {token}") in head
    assert b"\r\nCookie: " + b"*" * len(f"session={COOKIE}") in head
    assert KEY.encode() not in up and token.encode() not in up + down and COOKIE.encode() not in up
    assert down.startswith(b"HTTP/1.1 200 ") and down.endswith(answer.stdout), down
    facts = place.recordings.facts(session)
    events = [fact["event"] for fact in facts]
    assert events == ["session opened", "session permitted", "request", "certificates", "session closed"], facts
    assert facts[2]["status"] == "200", facts
    line = facts[-1]
    assert (line["subject"], line["reason"], line["client_version"]) == (parts.ANN, "done", "TLSv1.3"), line
    assert line["upstream_version"] == "TLSv1.3" and int(line["down_bytes"]) > 0, line
    shown = place.recordings.show(session)
    assert "no identity opens it" in shown and "what-was-asked" not in shown


def test_requests_that_are_refused_before_the_permit_stand_before_what_is_permitted(place, world):
    with httpx.Client(verify=ssl.create_default_context(cafile=world.ca)) as client:
        url, names = f"https://127.0.0.1:{place.gateway.port}", {"sni_hostname": "api.gw.test"}
        for headers in ({}, {"authorization": f"Bearer {world.issuer.token()}"}):
            client.get(f"{url}/hello.txt", headers={"host": "api.gw.test"} | headers, extensions=names)
    session = closed(place, route="api")
    up, down = planes(place, session)
    assert up.count(b"GET /hello.txt HTTP/1.1\r\n") == 2, up
    assert down.index(b"HTTP/1.1 401 ") < down.index(b"HTTP/1.1 200 "), down


def test_who_is_never_permitted_leaves_facts_and_no_bytes(place, world):
    assert curl(place.gateway, world, "grpc", "/never", "--http1.1", "-H", "X-Canary: unpermitted-body").returncode in (0, 22)
    session = closed(place, route="grpc")
    assert (session["up_bytes"], session["down_bytes"]) == (0, 0), session
    _, request, certificates, line = place.recordings.facts(session)
    assert certificates["event"] == "certificates", certificates
    # No upstream was reached.
    shown = place.recordings.show(session)
    assert "\n    by=gateway " in shown and 'key="ECDSA P-256" names=api.gw.test,' in shown and "by=upstream" not in shown, shown
    # As days.
    [days] = re.findall(r" not_after=(\S+) not_before=(\S+) ", shown)
    assert all(datetime.date.fromisoformat(day) for day in days), days
    assert (request["refusal"], line["reason"]) == ("no_token", "refused")


def test_who_is_refused_for_long_is_refused_on_and_its_lines_are_recorded(place, world):
    """More than is held before a permit: nothing of the session is hidden, and it cannot be permitted any more."""
    url, names = f"https://127.0.0.1:{place.gateway.port}", {"sni_hostname": "api.gw.test"}
    with httpx.Client(verify=ssl.create_default_context(cafile=world.ca)) as client:

        def get(path, **headers):
            return client.get(f"{url}/{path}", headers={"host": "api.gw.test", "x-filler": "f" * 4_000} | headers, extensions=names).status_code

        assert [get("first-of-many")] + [get(f"refused-{n}") for n in range(40)] == [401] * 41
        # What would be forwarded now could not be recorded from its beginning; on a connection of its own it can.
        token = {"authorization": f"Bearer {world.issuer.token()}"}
        assert (get("after-all", **token), get("hello.txt", **token)) == (503, 200)
    session = until(lambda: [s for s in place.recordings.sessions(route="api", requests="42") if s["state"] == "complete"])[-1]
    assert (session["up_bytes"], session["down_bytes"]) == (0, 0), session
    facts = place.recordings.facts(session)
    paths = [fact.get("path", "") for fact in facts]
    assert paths.index("/first-of-many") < paths.index("/refused-39") < paths.index("/after-all"), paths
    assert facts[-1]["reason"] == "limit", facts[-1]
    assert place.recordings.verify("--identity", place.recordings.identity).returncode == 0


def test_http_2_is_recorded_with_its_heads_decoded(place, world):
    token = world.issuer.token()
    sent = ["-H", f"Cookie: session={COOKIE}", "--data", "second-body"]
    answer = curl(place.gateway, world, "app", "/look?h2", "--http2", *sent, token=token)
    session = closed(place, route="app")
    up, down = planes(place, session)
    assert up.startswith(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), up[:40]
    assert b"/look?h2" in up and b"second-body" in up and b"*" * len(f"Bearer {token}") in up, up
    assert token.encode() not in up + down and COOKIE.encode() not in up and KEY.encode() not in up
    assert answer.stdout in down


def test_a_stream_of_events_and_a_large_body_are_recorded_byte_for_byte(place, world):
    token = world.issuer.token()
    events = curl(place.gateway, world, "app", "/events?5", "--http1.1", token=token).stdout
    up, down = planes(place, closed(place, route="app"))
    assert events and b"".join(down.split(b"\r\n\r\n", 1)[1:]).count(b"data:") == events.count(b"data:")
    body = os.urandom(3_000_000)
    file = place.gateway.folder / "large"
    file.write_bytes(body)
    curl(place.gateway, world, "app", "/upload", "--http1.1", "-H", "Expect:", "--data-binary", f"@{file}", token=token)
    up, _ = planes(place, closed(place, route="app"))
    assert up.endswith(body), len(up)


def test_tls_1_2_clients_are_recorded(place, world):
    token = world.issuer.token()
    answer = curl(place.gateway, world, "api", "/hello.txt", "--http1.1", "--tls-max", "1.2", token=token)
    assert answer.stdout == b"hello from nginx\n", answer.stderr
    up, down = planes(place, closed(place, route="api"))
    assert up.startswith(b"GET /hello.txt ") and down.endswith(b"hello from nginx\n"), (up, down)


def test_redis_is_recorded_without_its_login(place, world):
    for more in ([], ["-3"]):
        token = world.issuer.token()
        base = [program("redis-cli"), "--tls", "--cacert", world.ca, "--sni", "redis.gw.test", "-p", str(place.gateway.port)]
        said = run([*base, *more, "SET", "key", "value-of-redis"], env=os.environ | {"REDISCLI_AUTH": token})
        assert said.stdout.decode().strip() == "OK", said
        up, down = planes(place, closed(place, route="redis"))
        assert b"value-of-redis" in up and b"+OK\r\n" in down, (up, down)
        assert b"*" * len(token) in up and token.encode() not in up and KEY.encode() not in up + down
        place.recordings.hold_none_of(token)


def test_postgresql_is_recorded_without_its_login(place, world):
    token = world.issuer.token()
    place_ = {"host": "pg.gw.test", "hostaddr": "127.0.0.1", "port": place.gateway.port, "dbname": "postgres"}
    more = {"user": "ann", "sslmode": "verify-full", "sslrootcert": world.ca}
    words = " ".join(f"{key}={value}" for key, value in (place_ | more).items())
    psql = [str(postgres.programs() / "psql"), "-XAtq", "-w", words, "-c", "select 'literal-in-sql', 40 + 2"]
    said = run(psql, env=os.environ | {"PGPASSWORD": token})
    assert said.stdout == b"literal-in-sql|42\n", said
    session = closed(place, route="postgres")
    up, down = planes(place, session)
    assert b"select 'literal-in-sql', 40 + 2" in up and b"literal-in-sql" in down, (up, down)
    assert token.encode() not in up and KEY.encode() not in up + down


def test_mysql_is_recorded_without_its_login(place, world, start, tmp_path):
    server = mariadb.Server(*world.upstream_pair, KEY)
    try:
        route = place.database("mysql", server.port, "svc", sni="localhost")
        listener = {"version": "10.11.6-MariaDB", "route": "mysql"}
        gateway = start(world.config(route, mysql=listener, recording=place.auditors.section()))
        token = world.issuer.token()
        said = run([
            mariadb.program("mariadb"), "--no-defaults", "--protocol=tcp", "-h", "localhost", "-P", str(gateway.port), "-u", "x",
            "--ssl", f"--ssl-ca={world.ca}", "--ssl-verify-server-cert", f"--password={token}", "-N", "-e", "select 'literal-in-mysql'",
        ])  # fmt: skip
        assert said.stdout == b"literal-in-mysql\n", said
        here = Recordings(gateway.folder / "recordings", place.auditors.files[0])
        session = until(lambda: [session for session in here.sessions(route="mysql") if session["state"] == "complete"])[0]
        up, down = here.plane(session, "up"), here.plane(session, "down")
        assert b"select 'literal-in-mysql'" in up and b"literal-in-mysql" in down, (up, down)
        assert token.encode() not in up and KEY.encode() not in up + down
    finally:
        server.stop()


def test_what_comes_through_a_tunnel_is_recorded_behind_its_head(place, world):
    token = world.issuer.token()
    answer = test_tunnel.curl(place.gateway, world, "http://api/hello.txt", token=token)
    assert answer.stdout == b"hello from nginx\n", answer.stderr
    up, down = planes(place, closed(place, tunnel="true"))
    assert up.startswith(b"GET /hello.txt ") and b"CONNECT" not in up, up
    assert token.encode() not in up + down


def test_verification_is_good_and_no_secret_stands_in_any_file(place, world):
    until(lambda: all(session["state"] == "complete" for session in place.recordings.sessions()))
    for identity in ([], ["--identity", place.auditors.files[1]]):
        verified = place.recordings.verify(*identity)
        assert verified.returncode == 0, verified.stdout.decode()
    # How every token begins: fewer bytes would stand in ciphertext by chance.
    head = world.issuer.token()[:16]
    place.recordings.hold_none_of(KEY, COOKIE, head, "literal-in-sql", "hello from nginx", "body-of-a-request")
    metrics = place.gateway.metrics()
    assert 'staunch_recording_sessions_total{recorded="yes"}' in metrics and 'staunch_recording_failing{what="log"} 0' in metrics


# --- what goes wrong ----------------------------------------------------------------------------------------------


def small(world, place, name="raw", **section):
    """A route whose upstream sends back what it gets, recorded in small segments."""
    chain, key = world.gateway_pair
    route = {
        "name": name, "sni": "raw.gw.test", "protocol": "raw",
        "upstream": {"address": f"tls://127.0.0.1:{place.echo.port}", "ca": world.ca},
        "certificate": {"chain": chain, "key": key},
        "client_certificates": "required", "client_ca": world.ca,
        "certificate_identity": {"name": "machines", "subject": ["dns"]}, "allow": [{"issuer": "machines"}],
    }  # fmt: skip
    config = world.config(route, recording=place.auditors.section(**({"segment_size": "4MiB"} | section)))
    del config["issuer"], config["secrets"]
    return config


def dial(world, place, gateway):
    context = client_context(world)
    context.load_cert_chain(*place.machine)
    tcp = socket.create_connection(("127.0.0.1", gateway.port), timeout=10)
    # An end without close_notify must be an error here, not an end.
    return context.wrap_socket(tcp, server_hostname="raw.gw.test", suppress_ragged_eofs=False)


def test_recordings_are_made_beside_a_configuration_that_is_named_without_a_folder(place, tmp_path):
    text, admin = place.gateway.path.read_text(), free_port()
    text = text.replace(f":{place.gateway.port}", f":{free_port()}").replace(f":{place.gateway.admin}", f":{admin}")
    (tmp_path / "staunch.toml").write_text(text)
    (tmp_path / "stored.key").write_text("a stored key")
    (tmp_path / "stored.key").chmod(0o600)
    tmp_path.chmod(0o700)
    checked = run([BINARY, "check", "--config", "staunch.toml"], cwd=tmp_path)
    assert checked.returncode == 0, checked
    gateway = Process([BINARY, "serve", "--config", "staunch.toml"], tmp_path / "log", admin, cwd=tmp_path)
    until(lambda: (tmp_path / "recordings/log/checkpoint").exists())
    assert gateway.stop() == 0, gateway.text()
    assert Recordings(tmp_path / "recordings", place.auditors.files[0]).verify().returncode == 0


def test_a_byte_that_is_changed_is_found_and_named(world, place, start):
    gateway = start(small(world, place))
    with dial(world, place, gateway) as connection:
        connection.sendall(b"said-once")
        assert connection.recv(100) == b"said-once"
    here = Recordings(gateway.folder / "recordings", place.auditors.files[0])
    until(lambda: here.sessions(route="raw"))
    assert gateway.stop() == 0
    assert here.verify("--identity", here.identity).returncode == 0
    segment = max((here.folder / "segments").glob("*.seg"), key=lambda path: path.stat().st_size)
    bytes_ = bytearray(segment.read_bytes())
    at = len(bytes_) // 2
    bytes_[at] ^= 1
    segment.write_bytes(bytes_)
    found = here.verify()
    assert found.returncode == 1 and segment.name in found.stdout.decode(), found.stdout.decode()


def test_a_full_disk_refuses_new_sessions_and_ends_live_ones_with_nothing_unrecorded(world, place, start, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir(mode=0o700)
    # Room for the two segments of a worker, and a little more.
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=10m,mode=700", "tmpfs", str(disk)], check=True)
    try:
        config = small(world, place, directory=str(disk / "recordings"))
        config["workers"] = {"count": 1, "pin": False}
        gateway = start(config)
        here = Recordings(disk / "recordings", place.auditors.files[0])
        got = bytearray()
        with dial(world, place, gateway) as connection:
            with contextlib.suppress(OSError):
                for _ in range(1000):
                    connection.sendall(os.urandom(16384))
                    answer = 0
                    while answer < 16384:
                        more = connection.recv(65536)
                        assert more
                        got += more
                        answer += len(more)
        closed_ = gateway.line("session closed", route="raw")
        assert (closed_["reason"], closed_["culprit"]) == ("recording", "gateway"), closed_
        assert len(got) > 2_000_000
        until(lambda: gateway.get("/readyz") == 503)
        assert 'staunch_recording_failing{what="space"} 1' in gateway.metrics()
        with pytest.raises(OSError):
            refused = dial(world, place, gateway)
            refused.sendall(b"x")
            assert refused.recv(1), "the end of the connection"
            raise AssertionError("a session that cannot be recorded")
        session = here.sessions(route="raw")[0]
        assert here.plane(session, "down").startswith(bytes(got))
        gateway.stop()
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)
