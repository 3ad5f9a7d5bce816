"""Why was I refused? What the client is told, what the log says, `whoami`, `check --token`, and `connect` before it runs a program."""

import os
import sys

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
    assert "as services give out" in gateway.line("request", status=401)["detail"]
    assert "sk-somebodys" not in gateway.process.text()


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
    assert "no JWT" in home.run("login", "--token-file", str(tmp_path / "key")).stderr
    assert "use" not in home.run("whoami").stdout or "token of your issuer" in home.run("whoami").stdout


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
