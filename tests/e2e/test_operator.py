"""The operator's API: what it shows of live sessions, orders, revocations, and ten faults with clear answers."""

import contextlib
import hashlib
import os
import re
import signal
import socket
import subprocess
import threading
import time

import httpx
import pytest
from support import parts
from support.gateway import staunch
from support.process import free_port
from test_life import client, local
from test_tls import Sink, client_context, connect, echo, raw_config, raw_route

KEY = "operator-key-canary-0123456789"


class Operator:
    """Somebody who asks a gateway's operator listener."""

    def __init__(self, gateway, **headers):
        self.gateway, self.base = gateway, f"http://127.0.0.1:{gateway.admin}"
        self.http = httpx.Client(base_url=self.base, headers=headers, timeout=10)

    def get(self, path):
        answer = self.http.get(path)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def sessions(self, query=""):
        return self.get(f"/api/sessions{query}")["sessions"]

    def post(self, path, **body):
        return self.http.post(path, json=body)


class Stream(threading.Thread):
    """Reads a server's events through the gateway until they end."""

    def __init__(self, world, gateway, token):
        super().__init__(daemon=True)
        self.world, self.gateway, self.token, self.got, self.ended = world, gateway, token, 0, None
        self.start()
        parts.until(lambda: self.got > 0)

    def run(self):
        url = f"https://localhost:{self.gateway.port}/events?600"
        try:
            with client(self.world) as http:
                with http.stream("GET", url, headers={"Authorization": f"Bearer {self.token}"}) as answer:
                    for _ in answer.iter_raw():
                        self.got += 1
            self.ended = "whole"
        except httpx.HTTPError as error:
            self.ended = repr(error)


def look(world, gateway, token):
    with client(world) as http:
        return http.get(f"https://localhost:{gateway.port}/look", headers={"Authorization": f"Bearer {token}"})


@pytest.fixture(scope="module")
def machine(world):
    return world.authority.leaf("operated", ["ann.clients.test"])


def raw_gateway(world, start, **more):
    return start(raw_config(world, raw_route(world, Sink(world, echo).port)) | more)


def test_a_live_stream_is_shown_with_both_legs_and_ended_with_a_reason(world, start):
    gateway = start(world.config(local(world, "operated-http")))
    operator = Operator(gateway)
    stream = Stream(world, gateway, world.issuer.token())
    [session] = operator.sessions()
    for leg in (session["client"], session["upstream"]):
        assert (leg["tls"], leg["version"], leg["resumed"]) == (True, "TLSv1.3", False), leg
        assert leg["cipher"].startswith("TLS_") and leg["group"]
    assert session["upstream"]["verified"] == "chain"
    assert session["upstream"]["certificate"]["name"] == "localhost" or session["upstream"]["certificate"]["days_left"] > 0
    assert session["client"]["verified"] == "not_asked" and session["client"]["certificate"] is None
    assert (session["route"], session["protocol"], session["stage"]) == ("app", "http", "relay")
    assert session["identity"]["issuer"] == "corp" and session["identity"]["proof"] == "token"
    assert (session["requests"], session["under_way"], session["recorded"]) == (1, 1, False)
    assert session["down_bytes"] > 0 and "TLS 1.3" in session["badges"] and "not recorded" in session["badges"]
    one = operator.get(f"/api/sessions/{session['id']}")
    assert one["id"] == session["id"] and one["client"]["gateway_certificate"]["days_left"] > 0
    # What moves is told within a second.
    before = operator.get(f"/api/sessions/{session['id']}")["down_bytes"]
    parts.until(lambda: operator.get(f"/api/sessions/{session['id']}")["down_bytes"] > before)
    ended = time.monotonic()
    answer = operator.post(f"/api/sessions/{session['id']}/end", reason="exfiltration")
    assert answer.status_code == 200 and answer.json() == {"session": session["id"], "order": "end"}
    parts.until(lambda: stream.ended)
    assert stream.ended != "whole" and time.monotonic() - ended < 8
    line = gateway.line("order", order="end")
    assert (line["operator"], line["session"], line["reason"]) == ("loopback", session["id"], "exfiltration")
    closed = gateway.line("session closed", session=session["id"])
    assert (closed["reason"], closed["culprit"]) == ("operator", "gateway")
    assert operator.sessions() == []
    assert operator.post(f"/api/sessions/{session['id']}/end").json()["error"]["code"] == "unknown_session"


def test_requests_are_shown_as_they_end_to_whoever_watches(world, start):
    gateway = start(world.config(local(world, "operated-activity")))
    operator, token = Operator(gateway), world.issuer.token()
    with client(world) as http:
        bearer = {"Authorization": f"Bearer {token}"}
        assert http.get(f"https://localhost:{gateway.port}/look?secret=query-canary", headers=bearer).status_code == 200
        [session] = operator.sessions()
        place = f"/api/sessions/{session['id']}"
        # What ended before anybody looked is in the log alone.
        assert operator.get(f"{place}/activity") == {"activity": []}
        for path in ("/look?secret=query-canary", "/missing"):
            http.get(f"https://localhost:{gateway.port}{path}", headers=bearer)
        shown = operator.get(f"{place}/activity")["activity"]
        assert [(one["event"], one["method"], one["path"]) for one in shown] == [
            ("request", "GET", "/missing"), ("request", "GET", "/look"),
        ]  # fmt: skip
        assert shown[1]["status"] == 200 and shown[1]["subject"] == parts.ANN and shown[1]["at"].endswith("Z")
        assert "query-canary" not in str(shown) and token not in str(shown)
        page = operator.http.get(f"/sessions/{session['id']}").text
        assert "GET /missing" in page and "query-canary" not in page
        # The policy says yes again: the session goes on.
        answer = operator.post(f"{place}/reauthorise", reason="drill")
        assert answer.json() == {"session": session["id"], "order": "reauthorise"}
        assert gateway.line("order", order="reauthorise")["reason"] == "drill"
        assert http.get(f"https://localhost:{gateway.port}/look", headers=bearer).status_code == 200
    assert operator.http.post(f"{place}/activity", json={}).status_code == 405
    assert operator.http.post(f"{place}/explode", json={}).status_code == 405
    assert operator.http.get("/api/sessions/00000000000000ff/activity").status_code == 404


def test_a_page_shows_a_request_as_soon_as_it_is_over(world, start):
    gateway = start(world.config(local(world, "operated-at-once")))
    operator, bearer = Operator(gateway), {"Authorization": f"Bearer {world.issuer.token()}"}
    with client(world) as http:
        ask = lambda path: http.get(f"https://localhost:{gateway.port}{path}", headers=bearer)
        ask("/look")
        [session] = operator.sessions()
        with operator.http.stream("GET", "/events", params={"view": f"/sessions/{session['id']}"}) as events:
            lines, waited = events.iter_lines(), []
            assert "None has ended" in next(lines)
            for n in range(6):
                began = time.monotonic()
                ask(f"/round/{n}")
                assert any(f"/round/{n}" in line for line in lines)
                waited.append(time.monotonic() - began)
    # Not with the next figures, a second apart: most of them, for a machine that is away for a moment.
    assert sorted(waited)[3] < 0.7, waited


def test_a_neighbour_on_the_machine_looks_and_gives_no_orders(world, start):
    """Another user, who reaches the loopback port as everybody does."""
    other = ["setpriv", "--reuid=65534", "--clear-groups"] if os.getuid() == 0 else ["sudo", "-n", "-u", "nobody"]
    body = ["-H", "Content-Type: application/json", "-d", '{"subject": "ann"}']

    def ask(gateway, path, *more, user=()):
        command = [*user, "curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", *more]
        return subprocess.run([*command, f"http://127.0.0.1:{gateway.admin}{path}"], capture_output=True, text=True, timeout=20).stdout

    gateway = start(world.config(local(world, "operated-neighbour")))
    assert ask(gateway, "/api/revoke", *body) == "200"
    assert ask(gateway, "/api/sessions", user=other) == "200"
    assert ask(gateway, "/api/revoke", *body, user=other) == "403"
    assert ask(gateway, "/revoke", "-d", "subject=ann", user=other) == "403"
    assert gateway.line("order", order="refused")["reason"] == "the role is view"
    gateway = start(world.config(local(world, "operated-shared")) | {"admin": {"loopback": "anyone"}})
    assert ask(gateway, "/api/revoke", *body, user=other) == "200"


@pytest.mark.parametrize("stage", ["handshake", "sniff", "identify"])
def test_a_session_that_is_not_permitted_yet_ends_at_once_too(world, start, stage):
    gateway = start(world.config(local(world, f"early-{stage}")))
    operator = Operator(gateway)
    connection = socket.create_connection(("127.0.0.1", gateway.port), 20)
    if stage != "handshake":
        connection = client_context(world).wrap_socket(connection, server_hostname="localhost")
    if stage == "identify":
        connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert connection.recv(1000).startswith(b"HTTP/1.1 401")
    [session] = parts.until(lambda: [one for one in operator.sessions() if one["stage"] == stage])
    assert operator.post(f"/api/sessions/{session['id']}/end", reason="unknown").status_code == 200
    with contextlib.suppress(OSError):
        while connection.recv(1 << 16):
            pass
    # Without the order, the deadline would end it.
    assert gateway.line("session closed", session=session["id"])["reason"] == "operator"


def test_a_drain_lets_the_answer_finish(world, start):
    gateway = start(world.config(local(world, "operated-drain")))
    operator, token = Operator(gateway), world.issuer.token()
    with client(world) as http:
        url = f"https://localhost:{gateway.port}"
        with http.stream("GET", f"{url}/events?12", headers={"Authorization": f"Bearer {token}"}) as answer:
            [session] = operator.sessions()
            assert operator.post(f"/api/sessions/{session['id']}/drain").status_code == 200
            assert answer.read().endswith(b"data: 11\n\n")
    gateway.line("session closed", session=session["id"])


@pytest.mark.parametrize("by", ["subject", "token_id", "group", "issuer"])
def test_a_revoked_token_ends_its_session_and_gets_none_again(world, start, by, tmp_path):
    kept = tmp_path / "revocations.jsonl"
    config = world.config(local(world, f"operated-{by}")) | {"admin": {"revocations": str(kept)}}
    gateway = start(config)
    operator, token = Operator(gateway), world.issuer.token()
    stream = Stream(world, gateway, token)
    [session] = operator.sessions()
    who = session["identity"]
    value = {"group": who["groups"][0]}.get(by, who.get(by))
    assert value is not None, f"the issuer's tokens have no {by}"
    answer = operator.post("/api/revoke", **{by: value}, reason="stolen laptop")
    assert answer.status_code == 200 and answer.json()["sessions"] == 1 and answer.json()["kept"] is True
    parts.until(lambda: stream.ended)
    assert stream.ended != "whole"
    # It stands until the token's own end, at least.
    assert answer.json()["until"] > who["expires"]
    refused = look(world, gateway, token)
    assert refused.status_code == 401 and refused.json()["error"]["code"] == "invalid_token"
    line = gateway.line("order", order="revoke")
    assert (line[by], line["sessions"], line["reason"]) == (value, 1, "stolen laptop")
    assert gateway.line("session closed", session=session["id"])["reason"] == "revoked"
    assert gateway.line("request", verdict="refused")["detail"] == "revoked by an operator or the issuer"
    [revocation] = operator.get("/api/revocations")["revocations"]
    assert revocation[by] == value
    # Somebody else gets in, where the revocation does not name all.
    if by == "token_id":
        assert look(world, gateway, world.issuer.token()).status_code == 200
    # A reload does not forget it, and neither does a restart.
    gateway.signal(signal.SIGHUP)
    parts.until(lambda: "configuration reloaded" in gateway.process.text())
    assert look(world, gateway, token).status_code == 401
    assert gateway.stop() == 0
    again = start(config)
    assert look(world, again, token).status_code == 401
    assert [one[by] for one in Operator(again).get("/api/revocations")["revocations"]] == [value]


def test_a_certificate_is_revoked_by_its_serial_and_a_restart_remembers(world, start, machine, tmp_path):
    kept = tmp_path / "revocations.jsonl"
    gateway = raw_gateway(world, start, admin={"revocations": str(kept)})
    operator = Operator(gateway)
    live = connect(gateway, client_context(world, machine))
    live.sendall(b"x")
    assert live.recv(1) == b"x"
    [session] = operator.sessions()
    assert session["client"]["verified"] == "chain"
    assert session["client"]["certificate"]["name"] == "ann.clients.test"
    serial = session["identity"]["serial"]
    spelt = ":".join(re.findall("..", serial.rjust(len(serial) + len(serial) % 2, "0").upper()))
    answer = operator.post("/api/revoke", serial=spelt)
    assert answer.status_code == 200 and answer.json()["sessions"] == 1 and answer.json()["kept"] is True
    with pytest.raises(OSError):
        assert live.recv(1) != b""

    def is_refused():
        with contextlib.suppress(OSError):
            again = connect(gateway, client_context(world, machine))
            again.sendall(b"x")
            return again.recv(1) == b""
        return True

    assert is_refused()
    assert gateway.stop() == 0
    assert serial in kept.read_text()
    gateway = raw_gateway(world, start, admin={"revocations": str(kept)})
    assert is_refused()
    assert [one["serial"] for one in Operator(gateway).get("/api/revocations")["revocations"]] == [serial]


def test_many_sessions_are_listed_by_page_and_fall_silent_at_once(world, start, machine):
    """Every session has a byte under way each 10 ms; the last that comes is timed from the order."""
    many = 150
    gateway = raw_gateway(world, start)
    operator, context = Operator(gateway), client_context(world, machine)
    last, stopping = [0.0] * many, threading.Event()

    def chat(n):
        with contextlib.suppress(OSError), connect(gateway, context) as live:
            while not stopping.is_set():
                live.sendall(b"x")
                if not live.recv(1):
                    return
                last[n] = time.monotonic()
                time.sleep(0.01)

    threads = [threading.Thread(target=chat, args=(n,), daemon=True) for n in range(many)]
    for thread in threads:
        thread.start()
    parts.until(lambda: all(last))
    first = operator.get("/api/sessions?per_page=100&sort=up&order=desc")
    assert (first["matching"], first["pages"], len(first["sessions"])) == (many, 2, 100)
    assert len(operator.sessions("?per_page=100&page=2")) == many - 100
    assert operator.get("/api/sessions?subject=nobody")["matching"] == 0
    assert operator.get("/api/sessions?q=ANN.clients&crypto=tls13")["matching"] == many
    [route] = operator.get("/api/routes")["routes"]
    assert (route["sessions"], route["plaintext_upstream"]) == (many, False)
    certificates = operator.get("/api/certificates")["certificates"]
    assert {one["shown_by"] for one in certificates} == {"gateway", "client", "upstream"}
    ordered = time.monotonic()
    assert operator.post("/api/revoke", subject="ann.clients.test").json()["sessions"] == many
    for thread in threads:
        thread.join(10)
    stopping.set()
    silence = max(last) - ordered
    print(f"silent {silence * 1000:.0f} ms after the order to revoke, {many} sessions")
    assert silence < 0.5


def test_refusals_are_remembered_and_metrics_are_summed_up(world, start):
    gateway = start(world.config(local(world, "operated-refusals")))
    operator = Operator(gateway)
    assert look(world, gateway, world.issuer.forged()).status_code == 401
    with socket.create_connection(("127.0.0.1", gateway.port)) as plain:
        plain.sendall(b"GET / HTTP/1.1\r\n\r\n")
        plain.recv(100)
    parts.until(lambda: len(operator.get("/api/refusals")["refusals"]) >= 2)
    refusals = operator.get("/api/refusals")["refusals"]
    assert {one["reason"] for one in refusals} >= {"invalid_token", "not_tls"}
    assert next(one for one in refusals if one["reason"] == "not_tls")["detail"] == "http"
    summary = operator.get("/api/metrics-summary")
    assert summary["totals"]["refused"]["invalid_token"] == 1 and summary["totals"]["closed"]["not_tls"] == 1
    assert summary["points"][-1]["sessions"] >= 0


def test_faults_have_clear_answers(world, start):
    key_file = world.folder / "admin.key"
    key_file.touch(mode=0o600)
    key_file.write_text(KEY + "\n")
    gateway = start(world.config(local(world, "operated-faults")) | {"admin": {"key": f"file:{key_file}"}})
    base = f"http://127.0.0.1:{gateway.admin}"
    key = {"Authorization": f"Bearer {KEY}"}
    end = "/api/sessions/00000000000000ff/end"

    def ask(method, path, headers=key, **more):
        answer = httpx.request(method, base + path, headers=headers, **more)
        assert KEY not in answer.text
        return answer.status_code, answer.json()["error"]["code"] if "error" in answer.text else answer.text

    for wanted, got in [
        ((401, "no_login"), ask("GET", "/api/sessions", {})),
        ((401, "bad_key"), ask("GET", "/api/sessions", {"Authorization": "Bearer wrong"})),
        ((401, "bad_key"), ask("POST", end, {"Authorization": f"Basic {KEY}"}, json={})),
        ((401, "expired_login"), ask("GET", "/api/sessions", {"Cookie": "staunch_admin=old"})),
        ((404, "unknown_session"), ask("POST", end, json={})),
        ((404, "unknown_session"), ask("GET", "/api/sessions/00000000000000ff")),
        ((400, "bad_request"), ask("POST", "/api/sessions/x/end", json={})),
        ((403, "foreign_origin"), ask("POST", end, key | {"Origin": "https://evil.example"}, json={})),
        ((403, "foreign_origin"), ask("GET", "/api/sessions", key | {"Origin": "null"})),
        ((403, "foreign_origin"), ask("POST", end, key | {"Sec-Fetch-Site": "cross-site"}, json={})),
        ((415, "not_json"), ask("POST", end, data={"reason": "x"})),
        ((400, "bad_request"), ask("POST", end, key | {"Content-Type": "application/json"}, content="{")),
        ((400, "bad_request"), ask("POST", end, json={"reason": 1})),
        ((400, "bad_request"), ask("POST", end, json={"reason": "x" * 301})),
        ((413, "too_large"), ask("POST", end, json={"reason": "x" * 20_000})),
        ((400, "bad_request"), ask("POST", "/api/revoke", json={})),
        ((400, "bad_request"), ask("POST", "/api/revoke", json={"user": "ann"})),
        ((400, "bad_request"), ask("POST", "/api/revoke", json={"serial": "no hex"})),
        ((422, "unknown_issuer"), ask("POST", "/api/revoke", json={"issuer": "corpse"})),
        ((400, "bad_request"), ask("GET", "/api/sessions?sort=colour")),
    ]:
        assert got == wanted
    assert ask("GET", "/api/sessions", key | {"Host": "evil.example"})[0] == 421
    assert ask("DELETE", "/api/sessions")[0] == 405
    assert ask("POST", "/metrics")[0] == 405
    # Probes and scrapers need no key.
    assert gateway.get("/readyz") == 200 and gateway.get("/metrics") == 200
    assert KEY not in gateway.process.text()


def test_routes_tell_the_health_of_their_upstreams_and_what_ends_when(world, start):
    chain, key = world.authority.leaf("unhealthy", ["localhost"])
    nobody = world.route("app", free_port(), sni="localhost", certificate={"chain": chain, "key": key})
    gateway = start(world.config(nobody))
    [route] = Operator(gateway).get("/api/routes")["routes"]
    assert (route["health"], route["dial"]["count"], route["last_dial_fault"]) == ("not_dialled", 0, None)
    assert look(world, gateway, world.issuer.token()).status_code == 502
    [route] = Operator(gateway).get("/api/routes")["routes"]
    assert (route["health"], route["dial"]["failed"], route["last_dialled"]) == ("unreachable", 1, None)
    assert "cannot be reached" in route["last_dial_fault"]["detail"] or "refused" in route["last_dial_fault"]["detail"].lower()
    gateway = start(world.config(local(world, "healthy")))
    operator, stream = Operator(gateway), Stream(world, gateway, world.issuer.token())
    [route] = operator.get("/api/routes")["routes"]
    assert (route["health"], route["dial"]["count"], route["dial"]["failed"]) == ("reached", 1, 0)
    assert 0 < route["dial"]["p50"] <= route["dial"]["p99"] < 10 and route["last_dialled"].endswith("Z")
    assert route["certificate_days_left"] > 0 and route["upstream_certificate_days_left"] > 0
    page = operator.http.get("/routes").text
    assert "reached" in page and "99 of 100" in page and "upstream’s" in page
    [session] = operator.sessions()
    operator.post(f"/api/sessions/{session['id']}/end")
    parts.until(lambda: stream.ended)


def test_a_short_or_readable_key_is_refused(world, tmp_path):
    config = tmp_path / "c.toml"
    key = tmp_path / "admin.key"
    config.write_text('[admin]\nkey = "file:admin.key"\n')
    for mode, text, told in [(0o600, "hunter2", "fewer than 16 bytes"), (0o644, KEY, "chmod 600")]:
        key.write_text(text)
        key.chmod(mode)
        checked = staunch("check", "--config", str(config))
        errors = checked.stderr.decode()
        assert checked.returncode == 1 and told in errors and text not in errors, errors


def test_the_command_line_revokes_and_shows_both_legs(world, start):
    gateway = start(world.config(local(world, "operated-cli")))
    at = ["--admin", f"127.0.0.1:{gateway.admin}"]
    stream = Stream(world, gateway, world.issuer.token())
    shown = staunch("top", "--once", *at)
    assert shown.returncode == 0, shown.stderr
    heads, row = shown.stdout.decode().splitlines()[-2:]
    assert "CLIENT LEG" in heads and row.count("TLSv1.3") == 2 and "app" in row
    nobody = staunch("revoke", "--subject", "ann", "--issuer", "corpse", *at)
    assert nobody.returncode == 1 and b"there is no issuer" in nobody.stderr
    assert staunch("revoke", *at).returncode == 2
    done = staunch("revoke", "--group", "agents", "--reason", "drill", *at)
    assert done.returncode == 0 and done.stdout.startswith(b"1 sessions ended"), done.stderr
    parts.until(lambda: stream.ended)
    assert gateway.line("order", order="revoke")["reason"] == "drill"
    away = staunch("top", "--once", "--admin", "127.0.0.1:1")
    assert away.returncode == 1 and b"does not answer" in away.stderr


def test_the_command_line_comes_over_tls_with_a_token(world, start, tmp_path):
    chain, key = world.authority.leaf("operators-cli", ["localhost"])
    rules = {"certificate": {"chain": chain, "key": key}, "operate": [{"issuer": "corp", "groups": ["agents"]}]}
    gateway = start(world.config(local(world, "operated-cli")) | {"admin": rules}, ca=world.ca)
    token = tmp_path / "token"
    token.touch(mode=0o600)
    token.write_text(world.issuer.token() + "\n")
    here = ["--admin", f"https://localhost:{gateway.admin}", "--admin-ca", world.ca]
    stream = Stream(world, gateway, world.issuer.token(parts.BRIEF))

    def run(*words, code=0):
        done = staunch(*words)
        assert done.returncode == code and token.read_text().strip() not in (done.stdout + done.stderr).decode(), done
        return (done.stdout + done.stderr).decode()

    shown = run("top", "--once", *here, "--key-file", str(token))
    assert f"localhost:{gateway.admin}: 1 live" in shown and parts.BRIEF in shown
    assert "1 sessions ended" in run("revoke", "--subject", parts.BRIEF, "--reason", "left", *here, "--key-file", str(token))
    parts.until(lambda: stream.ended)
    assert gateway.line("order", order="revoke")["operator"] == parts.ANN
    # What is missing is said.
    assert "log in first" in run("top", "--once", *here, code=1)
    assert "certificate" in run("top", "--once", *here[:2], "--key-file", str(token), code=1)
    assert f"write https://localhost:{gateway.admin}" in run("top", "--once", "--admin", f"localhost:{gateway.admin}", code=1)
    for wrong in ("9901", "ftp://localhost:1", "https://me:hidden@localhost:1", "localhost:1/path"):
        told = run("top", "--once", "--admin", wrong, code=2)
        assert "write host:port or https://host:port" in told and "hidden" not in told, told


def test_a_list_of_revoked_certificates_that_arrives_ends_live_sessions(world, start):
    mine, other = (world.authority.leaf(name, ["ann.clients.test"]) for name in ("listed", "unlisted"))
    world.authority.leaf("long gone", ["bob.clients.test"])
    route = raw_route(world, Sink(world, echo).port, client_crl=world.authority.revoke(["long gone"]))
    gateway = start(raw_config(world, route))
    lives = [connect(gateway, client_context(world, pair)) for pair in (mine, other)]
    for live in lives:
        live.sendall(b"x")
        assert live.recv(1) == b"x"
    serial = f"{world.authority.serials['listed']:x}"
    assert serial in {session["identity"]["serial"] for session in Operator(gateway).sessions()}
    world.authority.revoke(["long gone", "listed"])
    gateway.signal(signal.SIGHUP)
    with pytest.raises(OSError):
        assert lives[0].recv(1) != b""
    lives[1].sendall(b"y")
    assert lives[1].recv(1) == b"y"
    line = gateway.line("order", order="revoke")
    assert (line["operator"], line["serial"], line["sessions"]) == ("crl", serial, 1)
    assert gateway.line("session closed", reason="revoked")["subject"] == "ann.clients.test"
    lives[1].close()


def test_operators_come_over_tls_with_their_own_tokens_as_what_the_rules_say(world, start):
    chain, key = world.authority.leaf("operators", ["localhost"])
    rules = {
        "certificate": {"chain": chain, "key": key},
        "operate": [{"issuer": "corp", "groups": ["agents"]}],
        "view": [{"issuer": "corp", "groups": ["visitors"]}],
    }
    gateway = start(world.config(local(world, "operated-tls")) | {"admin": rules}, ca=world.ca)
    token, viewer = world.issuer.token(), world.issuer.token(parts.STRANGER)
    base = f"https://localhost:{gateway.admin}"

    def ask(method, path, proof=None, **more):
        headers = {"Authorization": f"Bearer {proof}"} if proof else {}
        with client(world) as http:
            answer = http.request(method, base + path, headers=headers | more.pop("headers", {}), **more)
        assert token not in answer.text and viewer not in answer.text
        return answer

    def code(answer):
        return answer.status_code, answer.json()["error"]["code"]

    stream = Stream(world, gateway, token)
    [session] = ask("GET", "/api/sessions", viewer).json()["sessions"]
    end = f"/api/sessions/{session['id']}/end"
    assert code(ask("GET", "/api/sessions")) == (401, "no_login")
    assert code(ask("GET", "/api/sessions", "nonsense")) == (401, "bad_token")
    assert code(ask("GET", "/api/sessions", world.issuer.forged())) == (401, "bad_token")
    assert code(ask("GET", "/api/sessions", world.issuer.token(parts.ELSEWHERE))) == (401, "bad_token")
    assert code(ask("POST", end, viewer, json={})) == (403, "view_only")
    assert gateway.line("order", order="refused")["operator"] == "eve.visitors.staunch.600"
    # A browser: the log-in takes a token, the cookie is for TLS only, and a viewer's page has no form that gives orders.
    entered = ask("POST", "/login", data={"key": viewer})
    assert entered.status_code == 303 and "; Secure" in entered.headers["set-cookie"]
    assert entered.headers["set-cookie"].startswith("__Host-staunch_admin=")
    cookie = {"Cookie": entered.headers["set-cookie"].partition(";")[0]}
    page = ask("GET", f"/sessions/{session['id']}", headers=cookie)
    assert page.status_code == 200 and "Client leg" in page.text and "End now" not in page.text
    assert page.headers["strict-transport-security"]
    assert ask("POST", f"/sessions/{session['id']}/end", headers=cookie, data={"reason": "x"}).status_code == 403
    assert stream.ended is None
    # An operator ends it by revoking themselves, and is shut out here, too.
    assert ask("POST", "/api/revoke", token, json={"group": "agents"}).json()["sessions"] == 1
    parts.until(lambda: stream.ended)
    assert code(ask("GET", "/api/sessions", token)) == (401, "revoked")
    # Plain HTTP gets nothing.
    with pytest.raises(httpx.HTTPError):
        httpx.get(f"http://127.0.0.1:{gateway.admin}/healthz")


def test_a_honeytoken_raises_an_alarm_and_is_cut_or_watched(world, start):
    laid, watched = world.issuer.token(), world.issuer.token()
    digest = lambda token: hashlib.sha256(token.encode()).hexdigest()
    honey = [
        {"name": "in the wiki", "token_sha256": digest(laid)},
        {"name": "in the build", "token_sha256": digest(watched), "action": "watch"},
        {"name": "old account", "subject": parts.STRANGER, "issuer": "corp"},
    ]
    gateway = start(world.config(local(world, "honey")) | {"honeytoken": honey})

    def shown(token):
        try:
            return look(world, gateway, token).status_code
        except httpx.HTTPError:
            return "cut"

    assert shown(world.issuer.token()) == 200
    assert not [line for line in gateway.lines() if line["event"] == "alarm"]
    assert shown(laid) in (401, "cut")
    line = gateway.line("alarm", honeytoken="in the wiki")
    assert (line["level"], line["action"]) == ("ERROR", "cut") and line["remote"].startswith("127.0.0.1:")
    assert shown(watched) == 200
    assert gateway.line("alarm", honeytoken="in the build")["action"] == "watch"
    assert shown(world.issuer.token(parts.STRANGER)) in (403, "cut")
    assert gateway.line("alarm", honeytoken="old account")["subject"] == parts.STRANGER
    assert "staunch_alarms_total 3" in gateway.metrics()
    # No flood of refusals hides it.
    with client(world) as http:
        for _ in range(150):
            with contextlib.suppress(httpx.HTTPError):
                http.get(f"https://localhost:{gateway.port}/look", headers={"Authorization": "Bearer none"})
    assert shown(laid) in (401, "cut")
    parts.until(lambda: len([line for line in gateway.lines() if line.get("honeytoken") == "in the wiki"]) == 2)


def test_a_honeytoken_is_an_alarm_at_the_operators_listener_too(world, start):
    laid, watched = world.issuer.token(), world.issuer.token()
    digest = lambda token: hashlib.sha256(token.encode()).hexdigest()
    honey = [
        {"name": "in the wiki", "token_sha256": digest(laid)},
        {"name": "in the build", "token_sha256": digest(watched), "action": "watch"},
        {"name": "old account", "subject": parts.STRANGER},
    ]
    rules = {"operate": [{"issuer": "corp", "groups": ["agents"]}]}
    gateway = start(world.config(local(world, "honey-operator")) | {"honeytoken": honey, "admin": rules})

    def ask(token):
        return httpx.get(gateway.operator("/api/sessions"), headers={"Authorization": f"Bearer {token}"}).status_code

    assert ask(world.issuer.token()) == 200
    assert not [line for line in gateway.lines() if line["event"] == "alarm"]
    assert ask(laid) == 401 and gateway.line("alarm", honeytoken="in the wiki")["remote"].startswith("127.0.0.1:")
    assert httpx.post(gateway.operator("/login"), data={"key": laid}).status_code == 401
    assert ask(watched) == 200 and gateway.line("alarm", honeytoken="in the build")["action"] == "watch"
    assert ask(world.issuer.token(parts.STRANGER)) == 403
    assert gateway.line("alarm", honeytoken="old account")["subject"] == parts.STRANGER
    assert "staunch_alarms_total 4" in gateway.metrics() and laid not in gateway.process.text()


def test_an_admin_listener_that_others_reach_must_ask_who_they_are(world, tmp_path):
    config = tmp_path / "c.toml"
    chain, key = world.authority.leaf("asked", ["localhost"])
    tls = f'certificate = {{ chain = "{chain}", key = "{key}" }}'
    for lines, told in [
        (['address = "0.0.0.0:9901"'], "is not loopback"),
        (['address = "0.0.0.0:9901"', tls], "is not loopback"),
        ([tls, 'operate = [{ issuer = "corp", groups = ["a"] }]'], "no issuer `corp`"),
        ([tls, 'view = [{ issuer = "corp" }]'], "lets in everybody"),
    ]:
        config.write_text("[admin]\n" + "\n".join(lines) + "\n")
        checked = staunch("check", "--config", str(config))
        assert checked.returncode == 1 and told in checked.stderr.decode(), checked.stderr.decode()
