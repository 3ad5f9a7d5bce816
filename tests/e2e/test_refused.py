"""Why was I refused? What the client is told, what the log says, `whoami`, `check --token`, and `connect` before it runs a program."""

import base64
import json
import os
import sys
import time

import pytest
from support import parts
from support.gateway import KEY
from support.login import Home
from support.process import free_port
from test_life import client, local


@pytest.fixture
def gateway(world, start):
    closed = {"name": "closed", "protocol": "http", "upstream": {"address": f"tls://127.0.0.1:{world.nginx_port}", "ca": world.ca}}
    closed["allow"] = [{"issuer": "corp", "groups": ["nobody"]}]
    return start(world.config(local(world, "refused"), closed, tunnel=world.tunnel()))


def ask(world, gateway, token: str):
    with client(world) as http:
        return http.get(f"https://localhost:{gateway.port}/look", headers={"Authorization": f"Bearer {token}"})


@pytest.mark.parametrize(
    "who, status, said",
    [
        (parts.ELSEWHERE, 401, 'audience is not accepted: aud is "elsewhere"; corp accepts "staunch"'),
        (parts.STRANGER, 403, 'rule 1: wants group "agents", has "visitors"'),
    ],
)
def test_the_log_says_what_was_there_and_what_would_do(world, gateway, who, status, said):
    answer = ask(world, gateway, world.issuer.token(who))
    assert answer.status_code == status
    line = gateway.line("request", status=status)
    assert said in line["detail"], line
    assert line.get("groups") == (["visitors"] if status == 403 else None)
    assert line["session"] in answer.json()["error"]["id"]


def test_a_key_of_the_services_is_named_as_one(world, gateway):
    answer = ask(world, gateway, "sk-somebodys-own-key-4711")
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (401, "service_key") and "use a token of your issuer" in error["message"]
    assert "as OpenAI gives out" in gateway.line("request", status=401)["detail"]
    assert "sk-somebodys" not in gateway.process.text()


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def made(world, header: dict, **claims) -> str:
    """A token that nobody signed."""
    now = int(time.time())
    claims = {"iss": world.issuer.url, "aud": "staunch", "sub": "ann", "iat": now, "exp": now + 600} | claims
    head = {"alg": "ES256", "kid": "k", "typ": "JWT"} | header
    return ".".join(b64(json.dumps(part).encode()) for part in (head, claims)) + "." + b64(b"signature")


SAML = b'<saml2:Assertion xmlns:saml2="urn:oasis:names:tc:SAML:2.0:assertion" ID="canary-assertion" Version="2.0"/>'

ENCRYPTED = b'{"alg":"dir","enc":"A256GCM"}'

SENT = {
    "GitHub's": (lambda world: "gho_16C7e42F292c6912E7710c838347Ae178B4a", "service_key", "as GitHub gives out; use a token of your issuer"),
    "Anthropic's": (lambda world: "sk-ant-api03-canary-0123456789", "service_key", "as Anthropic gives out"),
    "Google's": (lambda world: "AIzaSyA1234567890abcdefghijklmnopqrstuv", "service_key", "as Google gives out"),
    "AWS's": (lambda world: "AKIAIOSFODNN7EXAMPLE", "service_key", "as AWS gives out"),
    "opaque": (lambda world: "8d6f9a9c-3f58-4a5e-9d4b-1c1f6d0a1b2c", "service_key", "as a JWT (login --audience)"),
    "SAML": (lambda world: base64.b64encode(SAML).decode(), "invalid_token", "a SAML assertion or response; log in by OpenID Connect"),
    "JWE": (lambda world: b64(ENCRYPTED) + "..aXY.Y2FuYXJ5LWNpcGhlcg.dGFn", "invalid_token", "an encrypted token (JWE)"),
    "HS256": (lambda world: made(world, {"alg": "HS256"}), "invalid_token", "a shared secret is never taken"),
    "none": (lambda world: made(world, {"alg": "none"}), "invalid_token", "an unsigned token is never taken"),
    "a slash": (lambda world: made(world, {}, iss=f"{world.issuer.url}/"), "invalid_token", "only the / at the end differs"),
    "audiences": (lambda world: made(world, {}, aud=["a", "b"]), "invalid_token", 'aud is ["a","b"]; corp accepts "staunch"'),
    "ID token": (lambda world: made(world, {}, aud="cli", nonce="n"), "invalid_token", "it looks like an ID token: send the access token"),
    "expired": (lambda world: made(world, {}, exp=1_700_000_000), "expired_token", "s ago; tolerance 30 s"),
    "a text": (lambda world: made(world, {}, exp="1700000000"), "invalid_token", 'exp is "1700000000", and a number of seconds'),
    "ahead": (lambda world: made(world, {}, nbf=int(time.time()) + 900), "invalid_token", "s ahead; tolerance 30 s; compare the clocks"),
    "logout": (lambda world: made(world, {"typ": "logout+jwt"}), "invalid_token", 'typ is "logout+jwt"'),
    "DPoP": (lambda world: made(world, {}, cnf={"jkt": "x"}), "invalid_token", "ask for a token without DPoP"),
    "cut": (lambda world: made(world, {}).rpartition(".")[0], "invalid_token", "copy the whole token"),
}


def test_the_log_and_check_name_what_was_sent_and_what_would_do(world, gateway, tmp_path):
    home, path = Home(tmp_path, world), tmp_path / "token"
    for what, (make, code, said) in SENT.items():
        token = make(world)
        path.write_text(token)
        answer = ask(world, gateway, token)
        assert (answer.status_code, answer.json()["error"]["code"]) == (401, code), (what, answer.text)
        assert answer.json()["error"]["message"]
        requests = [line for line in gateway.lines() if line.get("event") == "request"]
        detail = next(line["detail"] for line in requests if line["session"] in answer.json()["error"]["id"])
        assert said in detail, (what, detail)
        checked = home.run("check", "--config", str(gateway.path), "--token", str(path), code=1).stdout
        assert said.replace('"', "") in checked.replace("\\", "").replace('"', ""), (what, checked)
        secret = max(token.split("."), key=len)
        assert secret not in checked and secret not in gateway.process.text(), what


def test_what_stands_around_a_token_is_named_before_it_is_sent(world, gateway, tmp_path):
    home, path = Home(tmp_path, world), tmp_path / "token"
    token = world.issuer.token(parts.ANN)
    for text, said in (
        (f"Bearer {token}", "send the token alone"),
        (json.dumps({"access_token": token, "token_type": "Bearer"}), "send what stands in its access_token"),
        (f'"{token}"', "quotes around it"),
        ("$TOKEN", "a variable that nothing was put in for"),
        ("", "nothing was sent"),
        (token.replace(".", ".\n", 1), "line breaks"),
    ):
        path.write_text(text)
        checked = home.run("check", "--config", str(gateway.path), "--token", str(path), code=1).stdout
        assert said in checked and token[:40] not in checked, checked


def test_missing_groups_are_explained_by_the_claims_that_are_there(world, gateway, tmp_path):
    home, path = Home(tmp_path, world), tmp_path / "token"
    path.write_text(made(world, {}, realm_access={"roles": ["agents"]}))
    checked = home.run("check", "--config", str(gateway.path), "--token", str(path), code=1).stdout
    assert 'groups    none: the token has no claim "groups"; names stand in realm_access.roles' in checked, checked


def test_whoami_says_who_and_asks_the_gateway(world, gateway, tmp_path):
    home = Home(tmp_path, world)
    home.env["CI_SECRET"] = "secret"
    home.run("login", *home.at(parts.ANN), "--client-credentials", "--client-secret", "env:CI_SECRET")
    said = home.run("whoami").stdout
    assert "audience  staunch" in said and "groups    agents" in said and world.issuer.url in said and "eyJ" not in said
    # The tunnel's name leads nowhere here: hosts that nobody resolves are the point of the next test.
    away = home.run("whoami", "--gateway", "tunnel.gw.test", "--ca", world.ca, "--route", "app", code=1)
    assert "gateway tunnel.gw.test:443" in away.stderr
    (tmp_path / "key").write_text("sk-live")
    assert "no token (JWT)" in home.run("login", "--token-file", str(tmp_path / "key")).stderr
    assert "token of your issuer" in home.run("whoami").stdout


def test_check_says_what_a_token_opens_without_a_socket(world, gateway, tmp_path):
    home = Home(tmp_path, world)
    for who, code, wanted in (
        (parts.ANN, 0, ["route app: open, by rule 1", 'route closed: no: rule 1: wants group "nobody", has "agents"']),
        (parts.STRANGER, 1, ['route app: no: rule 1: wants group "agents", has "visitors"']),
        (parts.ELSEWHERE, 1, ['aud is "elsewhere"; corp accepts "staunch"']),
    ):
        path = tmp_path / "token"
        token = world.issuer.token(who)
        path.write_text(token + "\n")
        said = home.run("check", "--config", str(gateway.path), "--token", str(path), code=code).stdout
        assert all(text in said for text in wanted), said
        assert token not in said and "eyJ" not in said and KEY not in said
    path.write_text("sk-live-123")
    said = home.run("check", "--config", str(gateway.path), "--token", str(path), code=1).stdout
    assert "use a token of your issuer" in said and "sk-live" not in said


def test_a_program_is_not_run_without_its_gateway(world, tmp_path):
    home = Home(tmp_path, world)
    home.env["CI_SECRET"] = "secret"
    home.run("login", *home.at(parts.ANN), "--client-credentials", "--client-secret", "env:CI_SECRET")
    ran = tmp_path / "ran"
    program = ["--exec", sys.executable, "-c", f"open({str(ran)!r}, 'w')"]
    for more in (["--connect-to", f"127.0.0.1:{free_port()}"], []):
        at = ["--gateway", "tunnel.mistyped.invalid", "--ca", world.ca, *more]
        done = home.run("connect", *at, "app", *program, code=1)
        assert "the program was not run" in done.stderr and not ran.exists()


def test_a_token_file_that_others_can_write_is_refused(world, tmp_path):
    home = Home(tmp_path, world)
    path = tmp_path / "token"
    path.write_text(world.issuer.token())
    path.chmod(0o644)
    home.run("login", "--token-file", str(path))
    path.chmod(0o666)
    assert "chmod go-w" in home.run("token", code=1).stderr
    if os.getuid() == 0:
        path.chmod(0o600)
        os.chown(path, 1234, -1)
        assert "belongs to another user" in home.run("token", code=1).stderr
