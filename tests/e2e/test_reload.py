"""What a reload changes reaches the sessions that live."""

import os
import signal
import ssl
import threading
import time

import httpx
from support import parts
from test_tls import Sink, client_context, connect, echo, raw_config, raw_route


def local(world, **more):
    """A route that plain clients reach as https://localhost."""
    chain, key = world.authority.leaf("reload", ["localhost"])
    more = {"sni": "localhost", "certificate": {"chain": chain, "key": key}} | more
    return world.route("app", world.hypercorn_port, **more)


def reload(gateway, config):
    before = gateway.process.text().count("configuration reloaded")
    gateway.write(config)
    gateway.signal(signal.SIGHUP)
    parts.until(lambda: gateway.process.text().count("configuration reloaded") > before)


def keep_alive(world, http2):
    return httpx.Client(verify=ssl.create_default_context(cafile=world.ca), timeout=20, http2=http2)


def follows(world, start, http2):
    gateway = start(world.config(local(world)))
    url = f"https://localhost:{gateway.port}/look"
    headers = {"Authorization": f"Bearer {world.issuer.token()}"}

    def look():
        answer = http.get(url, headers=headers)
        return answer.status_code, answer.json().get("headers", {}).get("authorization", "")

    with keep_alive(world, http2) as http:
        first = look()
        assert first[0] == 200 and first[1].startswith("Bearer ")
        (gateway.folder / "stored.key").write_text("rotated-key-of-the-upstream\n")
        reload(gateway, world.config(local(world)))
        assert look() == (200, "Bearer rotated-key-of-the-upstream")
        nobody = [{"issuer": "corp", "groups": ["nobody"]}]
        reload(gateway, world.config(local(world, allow=nobody)))
        assert look()[0] == 403
        reload(gateway, world.config(local(world)))
        assert look()[0] == 200
        # The route goes, and its name leads to another: the session is of a route that is no more.
        other = local(world) | {"name": "other"}
        reload(gateway, world.config(other))
        assert look()[0] == 403
        refused = gateway.line("request", status=403, detail="the configuration has no such route any more")
        assert refused["route"] == "app"
    sessions = {line["session"] for line in gateway.lines() if line.get("event") == "session opened"}
    assert len(sessions) == 1, "one connection, kept alive"


def test_a_kept_alive_http1_connection_follows_policy_and_credential(world, start):
    follows(world, start, http2=False)


def test_a_kept_alive_http2_connection_follows_policy_and_credential(world, start):
    follows(world, start, http2=True)


def test_what_is_under_way_ends_as_at_expiry(world, start):
    """A stream of a route that drains finishes; one of a route that cuts is cut by a reload that forbids it."""
    for on_expiry in ("drain", "cut"):
        route = local(world, on_expiry=on_expiry)
        gateway = start(world.config(route))
        headers = {"Authorization": f"Bearer {world.issuer.token()}"}
        with keep_alive(world, http2=False) as http:
            url = f"https://localhost:{gateway.port}/events?30"
            with http.stream("GET", url, headers=headers) as answer:
                events = answer.iter_lines()
                assert answer.status_code == 200 and next(events)
                nobody = [{"issuer": "corp", "groups": ["nobody"]}]
                reload(gateway, world.config(local(world, on_expiry=on_expiry, allow=nobody)))
                try:
                    rest, cut = len(list(events)), False
                except httpx.HTTPError:
                    cut = True
            assert cut == (on_expiry == "cut")
        if on_expiry == "cut":
            gateway.line("session closed", reason="expired")


def test_raw_sessions_are_authorised_again(world, start):
    sink = Sink(world, echo)
    pair = world.authority.leaf("ann-reload", ["ann.clients.test"])
    for case in ("permitted", "forbidden", "gone", "grace"):
        more = {"on_expiry": "grace 1s"} if case == "grace" else {}
        gateway = start(raw_config(world, raw_route(world, sink.port, **more)))
        with connect(gateway, client_context(world, pair)) as client:
            client.sendall(b"before")
            assert client.recv(100) == b"before"
            route = raw_route(world, sink.port, **more)
            if case in ("forbidden", "grace"):
                route["allow"] = [{"issuer": "machines", "subjects": ["bob.clients.test"]}]
            if case == "gone":
                route["name"] = "other"
            reload(gateway, raw_config(world, route))
            if case in ("permitted", "grace"):
                client.sendall(b"after")
                assert client.recv(100) == b"after"
            if case != "permitted":
                client.settimeout(5)
                try:
                    assert client.recv(100) == b"", "an end, not data"
                    raise AssertionError("cut must not look whole")
                except (ssl.SSLEOFError, ConnectionResetError):
                    pass
                closed = gateway.line("session closed", reason="expired")
                wanted = "no such route" if case == "gone" else "no rule of the route"
                assert wanted in closed["detail"] and closed["subject"] == "ann.clients.test"


def test_a_group_that_a_certificate_no_longer_maps_to_is_lost_by_who_has_it(world, start):
    sink = Sink(world, echo)
    pair = world.authority.leaf("ann-reload", ["ann.clients.test"])

    def config(group):
        route = raw_route(world, sink.port)
        route["certificate_identity"] = {
            "name": "machines",
            "subject": ["dns"],
            "groups": [{"dns": "ann.clients.test", "groups": [group]}],
        }
        route["allow"] = [{"issuer": "machines", "groups": ["ops"]}]
        return raw_config(world, route)

    gateway = start(config("ops"))
    with connect(gateway, client_context(world, pair)) as client:
        client.sendall(b"before")
        assert client.recv(100) == b"before"
        reload(gateway, config("guests"))
        ended = threading.Event()
        try:
            client.recv(100)
        except (ssl.SSLEOFError, ConnectionResetError):
            ended.set()
        assert ended.is_set()
    gateway.line("session closed", reason="expired")


def test_what_is_no_file_is_refused_and_a_file_that_hangs_holds_up_the_reload_alone(world, start):
    gateway = start(world.config(world.route("api", world.nginx_port)))
    stored = gateway.folder / "stored.key"
    stored.rename(gateway.folder / "kept.key")
    os.mkfifo(stored, 0o600)
    gateway.signal(signal.SIGHUP)
    assert "is no file" in parts.until(lambda: next((line for line in gateway.process.text().splitlines() if "reload refused" in line), None))
    stored.unlink()
    (gateway.folder / "kept.key").rename(stored)
    # As a file system of another machine does that is gone.
    text = gateway.path.read_text()
    gateway.path.unlink()
    os.mkfifo(gateway.path)
    gateway.signal(signal.SIGHUP)
    time.sleep(0.3)
    assert (gateway.get("/readyz"), gateway.get("/healthz")) == (200, 200)
    writer = os.open(gateway.path, os.O_WRONLY)
    gateway.path.unlink()
    gateway.path.write_text(text)
    gateway.signal(signal.SIGHUP)
    os.write(writer, b"is no configuration")
    os.close(writer)
    # Asked for meanwhile, it is read once more.
    parts.until(lambda: "configuration reloaded" in gateway.process.text())
    gateway.path.unlink()
    os.mkfifo(gateway.path)
    gateway.signal(signal.SIGHUP)
    time.sleep(0.3)
    began = time.monotonic()
    assert gateway.stop() == 0 and time.monotonic() - began < 5
