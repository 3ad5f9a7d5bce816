"""An issuer's security events (OpenID CAEP) end live sessions; what an attacker sends ends none."""

import base64
import http.server
import json
import queue
import ssl
import threading
import time
import uuid

import httpx
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from support import parts
from support.gateway import staunch
from support.process import free_port
from test_life import local
from test_operator import Operator, Stream, look

CAEP = "https://schemas.openid.net/secevent/caep/event-type/"
AUDIENCE = "https://gw.test/signals"
PUSH_KEY, POLL_KEY = "push-key-canary-0123456789", "poll-key-canary-0123456789"


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class Transmitter:
    """Signs as the issuer does: with the keys that it publishes."""

    def __init__(self, world):
        self.world = world
        self.jwk = json.loads((world.folder / "jwks.json").read_text())["keys"][0]
        number = int.from_bytes(base64.urlsafe_b64decode(self.jwk["d"] + "=="), "big")
        self.key = ec.derive_private_key(number, ec.SECP256R1())

    def sub_id(self):
        return {"format": "iss_sub", "iss": self.world.issuer.url, "sub": parts.ANN}

    def sign(self, claims: dict, key=None, **head) -> str:
        header = {"alg": "ES256", "kid": self.jwk["kid"], "typ": "secevent+jwt"} | head
        text = f"{b64(json.dumps(header).encode())}.{b64(json.dumps(claims).encode())}"
        der = (key or self.key).sign(text.encode(), ec.ECDSA(hashes.SHA256()))
        return f"{text}.{b64(b''.join(n.to_bytes(32, 'big') for n in decode_dss_signature(der)))}"

    def claims(self, event="session-revoked", payload=None, **more) -> dict:
        base = {
            "iss": self.world.issuer.url, "aud": AUDIENCE, "iat": int(time.time()), "jti": str(uuid.uuid4()),
            "sub_id": self.sub_id(), "events": {CAEP + event: payload or {}},
        }  # fmt: skip
        return {name: value for name, value in (base | more).items() if value is not None}

    def event(self, *args, **more) -> str:
        return self.sign(self.claims(*args, **more))


def push(gateway, token, kind="application/secevent+jwt", **headers):
    url = f"http://127.0.0.1:{gateway.admin}/api/events/caep"
    return httpx.post(url, content=token, headers={"Content-Type": kind} | headers)


def err(answer):
    return answer.status_code, answer.json()["err"]


def signalled(world, name, **signals):
    config = world.config(local(world, name))
    config["issuer"][0]["signals"] = {"audience": [AUDIENCE]} | signals
    return config


@pytest.fixture(scope="module")
def transmitter(world):
    return Transmitter(world)


@pytest.mark.parametrize("event", ["session-revoked", "credential-change", "token-claims-change"])
def test_a_pushed_event_ends_the_session_and_refuses_the_token(world, start, transmitter, event):
    gateway = start(signalled(world, f"signals-{event}"))
    token = world.issuer.token()
    stream = Stream(world, gateway, token)
    [session] = Operator(gateway).sessions()
    ended = time.monotonic()
    answer = push(gateway, transmitter.event(event, {"reason_admin": {"en": "laptop lost"}}))
    assert (answer.status_code, answer.content) == (202, b"")
    parts.until(lambda: stream.ended)
    assert stream.ended != "whole" and time.monotonic() - ended < 8
    line = gateway.line("order", order="revoke")
    assert (line["operator"], line["subject"], line["issuer"], line["sessions"]) == ("issuer:corp", parts.ANN, "corp", 1)
    assert line["reason"] == f"{event}: laptop lost"
    assert gateway.line("session closed", session=session["id"])["reason"] == "revoked"
    assert look(world, gateway, token).status_code == 401
    # Somebody else is let in.
    assert look(world, gateway, world.issuer.token(parts.BRIEF)).status_code == 200
    assert 'staunch_security_events_total{issuer="corp",outcome="revoked"} 1' in gateway.metrics()


def test_subjects_by_token_and_by_what_this_gateway_cannot_match(world, start, transmitter):
    gateway = start(signalled(world, "signals-subjects"))
    token, other = world.issuer.token(), world.issuer.token()
    jti = json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))["jti"]
    by_id = {"format": "jwt_id", "iss": world.issuer.url, "jti": jti}
    assert push(gateway, transmitter.event(sub_id=by_id)).status_code == 202
    assert look(world, gateway, token).status_code == 401 and look(world, gateway, other).status_code == 200
    for subject in [
        None,
        {"format": "phone_number", "phone_number": "+12065550100"},
        {"format": "complex", "tenant": {"format": "opaque", "id": "t"}},
        {"format": "email"},
        {"format": "email", "email": "ann"},
    ]:
        answer = push(gateway, transmitter.event(sub_id=subject))
        assert err(answer) == (400, "invalid_request"), answer.text
    # The events of drafts name the subject within.
    drafted = transmitter.claims(payload={"subject": {"format": "opaque", "id": parts.ANN}}, sub_id=None)
    assert push(gateway, transmitter.sign(drafted)).status_code == 202
    assert look(world, gateway, other).status_code == 401
    for claim in ({"jti": 5}, {"iat": "now"}, {"aud": [AUDIENCE, 5]}):
        answer = push(gateway, transmitter.event(**claim))
        assert err(answer) == (400, "invalid_request") and f"claim {next(iter(claim))} has the wrong type" in answer.text


def test_an_event_that_comes_late_stands_as_long_as_another(world, start, transmitter):
    gateway = start(signalled(world, "signals-late"))
    assert push(gateway, transmitter.event(iat=int(time.time()) - 40 * 86_400)).status_code == 202
    [revocation] = Operator(gateway).get("/api/revocations")["revocations"]
    assert revocation["at"] < revocation["until"] and revocation["until"] > gateway.line("order", order="revoke")["time"]


def test_an_event_that_tests_the_stream_or_is_unknown_changes_nothing(world, start, transmitter):
    gateway = start(signalled(world, "signals-nothing"))
    token = world.issuer.token()
    verification = {"https://schemas.openid.net/secevent/ssf/event-type/verification": {"state": "x"}}
    for events in [verification, {"https://example.com/unknown": {}}, {CAEP + "device-compliance-change": {}}]:
        assert push(gateway, transmitter.event(events=events)).status_code == 202
    assert look(world, gateway, token).status_code == 200
    assert 'staunch_security_events_total{issuer="corp",outcome="ignored"} 3' in gateway.metrics()


def test_a_replayed_event_shuts_out_nobody_who_logged_in_since(world, start, transmitter):
    gateway = start(signalled(world, "signals-replay"))
    # Older than the tolerance for clocks.
    event = transmitter.event(iat=int(time.time()) - 120)
    assert push(gateway, event).status_code == 202
    token = world.issuer.token()
    stream = Stream(world, gateway, token)
    assert push(gateway, event).status_code == 202
    # Another id, the same old event: the time of the event counts, not when it came.
    assert push(gateway, transmitter.event(iat=int(time.time()) - 120)).status_code == 202
    assert look(world, gateway, token).status_code == 200 and stream.ended is None
    metrics = gateway.metrics()
    assert 'staunch_security_events_total{issuer="corp",outcome="repeated"} 1' in metrics
    assert 'staunch_security_events_total{issuer="corp",outcome="revoked"} 2' in metrics
    [session] = Operator(gateway).sessions()
    assert Operator(gateway).post(f"/api/sessions/{session['id']}/end").status_code == 200


def test_what_an_attacker_sends_ends_no_session(world, start, transmitter):
    key_file = world.folder / "push.key"
    key_file.touch(mode=0o600)
    key_file.write_text(PUSH_KEY + "\n")
    gateway = start(signalled(world, "signals-attacked", push_key=f"file:{key_file}"))
    token = world.issuer.token()
    stream = Stream(world, gateway, token)
    key = {"Authorization": f"Bearer {PUSH_KEY}"}
    good = transmitter.event()
    stranger = ec.generate_private_key(ec.SECP256R1())
    make, sign = transmitter.claims, transmitter.sign
    head, claims, signature = good.split(".")
    other = json.dumps(json.loads(base64.urlsafe_b64decode(claims + "==")) | {"jti": "other"}).encode()
    for wanted, answer in [
        ((401, "authentication_failed"), push(gateway, good)),
        ((401, "authentication_failed"), push(gateway, good, Authorization="Bearer wrong")),
        ((401, "authentication_failed"), push(gateway, good, Authorization=f"Bearer {token}")),
        ((400, "invalid_request"), push(gateway, good, "application/json", **key)),
        ((400, "invalid_request"), push(gateway, good, "text/plain", **key)),
        ((400, "invalid_key"), push(gateway, sign(make(), stranger), **key)),
        ((400, "invalid_key"), push(gateway, f"{head}.{b64(other)}.{signature}", **key)),
        ((400, "invalid_key"), push(gateway, sign(make(), alg="HS256"), **key)),
        ((400, "invalid_key"), push(gateway, f"{b64(json.dumps({'alg': 'none', 'typ': 'secevent+jwt'}).encode())}.{claims}.", **key)),
        ((400, "invalid_key"), push(gateway, sign(make(), stranger, jwk={"kty": "EC"}, kid=transmitter.jwk["kid"]), **key)),
        ((400, "invalid_request"), push(gateway, sign(make(), typ="JWT"), **key)),
        ((400, "invalid_request"), push(gateway, sign(make(), typ="at+jwt"), **key)),
        ((400, "invalid_request"), push(gateway, sign(make(), crit=["b64"]), **key)),
        ((400, "invalid_request"), push(gateway, token, **key)),
        ((400, "invalid_issuer"), push(gateway, sign(make(iss="https://evil.test")), **key)),
        ((400, "invalid_audience"), push(gateway, sign(make(aud="staunch")), **key)),
        ((400, "invalid_request"), push(gateway, sign(make(aud=None)), **key)),
        ((400, "invalid_request"), push(gateway, sign(make(jti=None)), **key)),
        ((400, "invalid_request"), push(gateway, sign(make(iat=int(time.time()) + 300)), **key)),
        ((400, "invalid_request"), push(gateway, sign(make(exp=int(time.time()) + 300)), **key)),
        ((400, "invalid_request"), push(gateway, sign(make(events={})), **key)),
        ((400, "access_denied"), push(gateway, sign(make(sub_id={"format": "iss_sub", "iss": "https://other.test", "sub": parts.ANN})), **key)),
        ((400, "invalid_request"), push(gateway, b"", **key)),
        ((400, "invalid_request"), push(gateway, b"\xff\x00", **key)),
    ]:
        assert err(answer) == wanted, answer.text
        assert PUSH_KEY not in answer.text
    assert push(gateway, "x" * 20_000, **key).status_code == 413
    assert push(gateway, good, **key, Origin="https://evil.example").status_code == 403
    assert push(gateway, good, **key, Host="evil.example").status_code == 421
    # An event is no bearer token, for a stream and for an operator.
    for claims in [make(), make(aud="staunch", sub=parts.ANN), make(aud="staunch", sub=parts.ANN, exp=int(time.time()) + 300)]:
        for typ in ["secevent+jwt", "JWT", "at+jwt"]:
            assert look(world, gateway, sign(claims, typ=typ)).status_code == 401, (claims, typ)
    assert stream.ended is None and look(world, gateway, token).status_code == 200
    refused = gateway.line("order", order="refused")
    assert refused["reason"].startswith("a security event: ") and refused["remote"].startswith("127.0.0.1:")
    assert PUSH_KEY not in gateway.process.text() and good.split(".")[2] not in gateway.process.text()
    # And the transmitter itself is heard.
    assert push(gateway, good, **key).status_code == 202
    parts.until(lambda: stream.ended)


def test_events_are_taken_of_no_issuer_that_the_configuration_does_not_name(world, start, transmitter):
    gateway = start(world.config(local(world, "signals-off")))
    assert err(push(gateway, transmitter.event())) == (400, "invalid_issuer")


class Endpoint:
    """A transmitter that is polled (RFC 8936): holds its answer back until there is an event."""

    def __init__(self, world):
        chain, key = world.upstream_pair
        self.waiting, self.polls, self.status = queue.Queue(), [], 200
        endpoint, port = self, free_port()
        self.url = f"https://127.0.0.1:{port}/poll"

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                endpoint.polls.append(
                    (self.headers.get("Authorization"), json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                )
                sets = {}
                try:
                    sets |= endpoint.waiting.get(timeout=2)
                except queue.Empty:
                    pass
                body = json.dumps({"sets": sets}).encode()
                self.send_response(endpoint.status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(chain, key)
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


def test_polled_events_are_obeyed_and_acknowledged(world, start, transmitter):
    endpoint = Endpoint(world)
    key_file = world.folder / "poll.key"
    key_file.touch(mode=0o600)
    key_file.write_text(POLL_KEY)
    gateway = start(signalled(world, "signals-polled", poll=endpoint.url, poll_key=f"file:{key_file}"))
    token = world.issuer.token()
    stream = Stream(world, gateway, token)
    forged = transmitter.sign(transmitter.claims(), ec.generate_private_key(ec.SECP256R1()))
    endpoint.waiting.put({"bad-1": forged, "good-1": transmitter.event("credential-change")})
    parts.until(lambda: stream.ended)
    told = lambda name: [body[name] for _, body in list(endpoint.polls) if name in body]
    parts.until(lambda: told("ack"))
    assert told("ack") == [["good-1"]]
    assert told("setErrs")[0]["bad-1"]["err"] == "invalid_key"
    proof, first = endpoint.polls[0]
    assert proof == f"Bearer {POLL_KEY}" and first["returnImmediately"] is False
    assert gateway.line("order", order="revoke")["operator"] == "issuer:corp"
    assert look(world, gateway, token).status_code == 401
    assert POLL_KEY not in gateway.process.text()
    endpoint.server.shutdown()


def test_an_endpoint_that_fails_is_told_once_and_asked_again(world, start, transmitter):
    endpoint = Endpoint(world)
    endpoint.status = 500
    gateway = start(signalled(world, "signals-failing", poll=endpoint.url))
    token = world.issuer.token()
    parts.until(lambda: len(endpoint.polls) >= 2)
    endpoint.status = 200
    endpoint.waiting.put({"good-2": transmitter.event()})
    parts.until(lambda: look(world, gateway, token).status_code == 401)
    assert gateway.process.text().count("security events cannot be polled") == 1
    endpoint.server.shutdown()


def test_the_configuration_of_signals_is_checked(world, tmp_path):
    config = tmp_path / "c.toml"
    issuer = '[[issuer]]\nname = "corp"\noidc = "https://idp.test"\naudience = ["staunch"]\nsignals = '
    for signals, told in [
        ("{ audience = [] }", "could be anybody's"),
        ("{ }", "audience"),
        ('{ audience = ["a"], poll = "http://idp.test/poll" }', "no https URL"),
        ('{ audience = ["a"], poll_key = "env:STAUNCH_ABSENT" }', "is not set"),
        ('{ audience = ["a"], push_key = "canary-in-the-file" }', "named by where it stands"),
        ('{ audience = ["a"], pull = "x" }', "pull"),
    ]:
        config.write_text(issuer + signals + "\n")
        checked = staunch("check", "--config", str(config))
        assert checked.returncode == 1 and told in checked.stderr.decode(), checked.stderr.decode()
