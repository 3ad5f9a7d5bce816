"""`staunch login`, `token` and `logout` against a certified OIDC server, and the tokens at a running gateway."""

import base64
import concurrent.futures
import hashlib
import html
import json
import os
import pathlib
import re
import resource
import stat
import time
import urllib.parse

import httpx
import pytest
from support import parts
from support.login import Browser, Home, Running
from support.scripted import Scripted
from test_life import client, local

SECRETS = {"CI_SECRET": "secret"}


@pytest.fixture
def home(world, tmp_path):
    return Home(tmp_path, world)


def claims(token: str) -> dict:
    return json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))


def modes(folder: pathlib.Path) -> dict[str, int]:
    return {path.name: stat.S_IMODE(path.stat().st_mode) for path in [folder, *folder.iterdir()]}


def look(world, gateway, token: str) -> httpx.Response:
    with client(world) as http:
        return http.get(f"https://localhost:{gateway.port}/look", headers={"Authorization": f"Bearer {token}"})


def granted(world, grant: str, client_id: str) -> int:
    return len(parts.lines_with(world.issuer.process, f"granted {grant} {client_id}"))


def test_a_browser_login_gives_a_token_that_the_gateway_takes(world, home, start):
    gateway = start(world.config(local(world, "login")))
    opened = home.folder / "opened"
    opener = home.folder / "bin/xdg-open"
    opener.parent.mkdir()
    # What is opened is a file, since arguments can be seen by others.
    opener.write_text(f'#!/bin/sh\nstat -c %a "$1" >{opened}.mode && cat "$1" >{opened}.new && mv {opened}.new {opened}\n')
    opener.chmod(0o755)
    env = {"DISPLAY": ":1", "PATH": f"{opener.parent}:{os.environ['PATH']}"}
    running = home.begin("login", *home.at(parts.CLI), env=env)
    parts.until(opened.exists)
    assert pathlib.Path(f"{opened}.mode").read_text().strip() == "600"
    url = html.unescape(re.search(r'content="0;url=([^"]+)"', opened.read_text())[1])
    assert url == running.address()
    asked = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(url).query))
    assert asked["response_type"] == "code" and asked["code_challenge_method"] == "S256"
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/callback", asked["redirect_uri"])

    answer = Browser(world).visit(url)
    assert answer.startswith(asked["redirect_uri"] + "?")
    page = httpx.get(answer)
    assert page.status_code == 200 and "close this page" in page.text
    code = urllib.parse.parse_qs(urllib.parse.urlsplit(answer).query)["code"][0]
    assert code not in page.text and "eyJ" not in page.text
    assert running.ended() == 0
    assert f"Logged in as ann at {world.issuer.url}" in running.text() and "renewed" in running.text()

    token = home.token()
    assert claims(token)["sub"] == "ann" and claims(token)["aud"] == "staunch"
    assert look(world, gateway, token).status_code == 200
    assert gateway.line("request", subject="ann")["verdict"] == "permitted"
    # For `curl -H @-`: what stands in a command line is seen by everybody on the machine.
    assert home.run("token", "--header").stdout == f"Authorization: Bearer {token}\n"
    assert home.run("token", "--header", "x-api-key").stdout == f"x-api-key: {token}\n"
    assert home.token() == token, "a token that is still good is kept"
    assert modes(home.state) == {
        "staunch": 0o700, "default.lock": 0o600, "default.profile.json": 0o600, "default.tokens.json": 0o600,
    }  # fmt: skip
    said = running.text() + home.run("token").stderr
    kept = home.kept()
    assert all(kept[name] not in said for name in ("access", "id", "refresh")) and "eyJ" not in said


def test_what_is_not_the_answer_is_refused_and_the_login_goes_on(world, home):
    running = home.begin("login", "--no-browser", *home.at(parts.CLI))
    good = Browser(world).visit(running.address())
    place, query = good.split("?")
    pairs = urllib.parse.parse_qsl(query)
    state = dict(pairs)["state"]
    other = urllib.parse.urlencode([(k, v) for k, v in pairs if k != "state"])
    for url, status in [
        (place, 400),
        (f"{place}?{other}", 400),
        (f"{place}?{other}&state={'x' * len(state)}", 400),
        (f"{good}&state={state}", 400),
        (f"{place}?error=access_denied", 400),
        (urllib.parse.urljoin(place, "/favicon.ico"), 404),
    ]:
        assert httpx.get(url).status_code == status, url
    assert httpx.post(good).status_code == 404
    assert httpx.get(good, headers={"Host": "rebound.example"}).status_code == 400
    assert running.popen.poll() is None
    assert httpx.get(good).status_code == 200
    assert running.ended() == 0, running.text()
    with pytest.raises(httpx.ConnectError):
        httpx.get(good)


def test_another_issuers_answer_is_refused(world, home):
    running = home.begin("login", "--no-browser", *home.at(parts.CLI))
    good = Browser(world).visit(running.address())
    assert httpx.get(re.sub(r"iss=[^&]*", "iss=https%3A%2F%2Fother.example", good)).status_code == 200
    assert running.ended() == 1
    assert "another issuer answered" in running.text() and "RFC 9207" in running.text()
    assert not (home.state / "default.tokens.json").exists()


def test_a_refusal_is_told_and_nothing_is_kept(world, home):
    running = home.begin("login", "--no-browser", *home.at(parts.CLI))
    page = httpx.get(Browser(world).visit(running.address(), abort=True))
    assert page.status_code == 200 and "refused" in page.text
    assert running.ended() == 1
    assert "access_denied (End-User aborted interaction)" in running.text()
    assert list(home.state.glob("*.json")) == []
    told = home.run("token", code=1)
    assert told.stdout == "" and "run `staunch login`" in told.stderr


def test_the_second_login_remembers_the_first(world, home):
    home.log_in(parts.CLI, name="ann")
    running = home.begin("login", "--no-browser")
    httpx.get(Browser(world).visit(running.address(), "ann"))
    assert running.ended() == 0, running.text()
    assert claims(home.token())["sub"] == "ann"
    # Another profile knows nothing of it.
    assert "--issuer" in home.run("login", "--profile", "other", code=2).stderr


def test_somebody_else_than_before_is_taken_only_when_it_is_meant(world, home):
    home.log_in(parts.CLI, name="ann")
    running = home.begin("login", "--no-browser")
    httpx.get(Browser(world).visit(running.address(), "bob"))
    assert running.ended() == 1
    assert "This logs in bob; before it was ann." in running.text()
    assert claims(home.token())["sub"] == "ann"
    running = home.begin("login", "--no-browser", "--switch-user")
    httpx.get(Browser(world).visit(running.address(), "bob"))
    assert running.ended() == 0, running.text()
    assert claims(home.token())["sub"] == "bob"


def test_the_id_token_serves_where_the_gateway_lists_its_audience(world, home, start):
    config = world.config(local(world, "login-id"))
    config["issuer"][0]["audience"] = [parts.CLI]
    gateway = start(config)
    home.log_in(parts.CLI, "--use", "id")
    token = home.token()
    assert claims(token)["aud"] == parts.CLI and "nonce" in claims(token)
    assert look(world, gateway, token).status_code == 200
    assert look(world, gateway, home.token("--use", "access")).status_code == 401


def test_refresh_tokens_rotate_and_none_is_lost_between_processes(world, home):
    home.log_in(parts.CLI_BRIEF)
    first, kept = home.token(), home.kept()
    assert home.token() != first, "30 s are less than a token must have left"
    assert home.kept()["refresh"] != kept["refresh"]
    # A refresh token that is used twice ends the whole login at this issuer.
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        tokens = list(pool.map(lambda _: home.token(), range(8)))
    assert len(set(tokens)) == 8
    assert claims(home.token())["sub"] == "ann"


def test_only_one_of_many_processes_refreshes(world, home):
    home.log_in(parts.CLI_MINUTE)
    first = home.token()
    time.sleep(4)
    before = granted(world, "refresh_token", parts.CLI_MINUTE)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        tokens = set(pool.map(lambda _: home.token(), range(8)))
    assert len(tokens) == 1 and tokens != {first}
    assert granted(world, "refresh_token", parts.CLI_MINUTE) == before + 1


def test_logout_revokes_and_removes(world, home):
    home.log_in(parts.CLI_BRIEF)
    kept = home.kept()
    assert "Logged out" in home.run("logout").stderr
    assert not (home.state / "default.tokens.json").exists()
    told = home.run("token", code=1)
    assert told.stdout == "" and "logged out; run `staunch login`" in told.stderr
    # A copy of the token file is of no use either.
    (home.state / "default.tokens.json").touch(mode=0o600)
    (home.state / "default.tokens.json").write_text(json.dumps(kept | {"access_expires": 1}))
    told = home.run("token", code=1)
    assert "invalid_grant" in told.stderr and kept["refresh"] not in told.stderr
    home.run("logout", "--forget")
    assert list(home.state.glob("*.json")) == []
    assert "was not logged in" in home.run("logout").stderr


def test_logout_removes_even_if_the_issuer_cannot_be_told(world, home):
    home.log_in(parts.CLI)
    profile = home.state / "default.profile.json"
    settings = json.loads(profile.read_text())
    kept = home.kept()
    settings["issuer"]["issuer"] = kept["issuer"] = "https://127.0.0.1:1"
    profile.write_text(json.dumps(settings))
    (home.state / "default.tokens.json").write_text(json.dumps(kept))
    told = home.run("logout", code=1)
    assert "issuer https://127.0.0.1:1" in told.stderr and "removed here" in told.stderr
    assert not (home.state / "default.tokens.json").exists()


def test_a_device_logs_in_with_a_code(world, home, start):
    gateway = start(world.config(local(world, "device")))
    running = home.begin("login", "--device", *home.at(parts.CLI))
    address, code = running.address(), running.code()
    assert Browser(world).visit(address, "dora", code) is None
    assert running.ended() == 0, running.text()
    assert "Logged in as dora" in running.text()
    token = home.token()
    assert look(world, gateway, token).status_code == 200
    assert claims(token)["sub"] == "dora" and home.kept()["refresh"]


def test_a_device_that_is_refused_or_forgotten_is_told_so(world, home):
    refused = home.begin("login", "--device", *home.at(parts.CLI))
    forgotten = home.begin("login", "--profile", "hasty", "--device", *home.at(parts.CLI_HASTY))
    Browser(world).visit(refused.address(), code=refused.code(), abort=True)
    began = time.monotonic()
    assert forgotten.ended() == 1
    assert time.monotonic() - began < 8
    assert "nobody typed the code in while it was good" in forgotten.text()
    assert refused.ended() == 1
    assert "access_denied" in refused.text()
    assert list(home.state.glob("*.json")) == []


def test_a_program_logs_in_with_its_secret(world, home, start):
    gateway = start(world.config(local(world, "program")))
    place = [*home.at(parts.ANN), "--client-credentials"]
    told = home.run("login", *place, "--client-secret", "hunter2", code=2)
    assert "env:NAME" in told.stderr and "hunter2" not in told.stderr
    assert "--client-secret" in home.run("login", *place, code=2).stderr
    assert "CI_SECRET" in home.run("login", *place, "--client-secret", "env:CI_SECRET", code=2).stderr
    wrong = home.run("login", *place, "--client-secret", "env:CI_SECRET", code=1, env={"CI_SECRET": "wrong-canary"})
    assert "invalid_client" in wrong.stderr and "wrong-canary" not in wrong.stderr

    home.run("login", *place, "--client-secret", "env:CI_SECRET", env=SECRETS)
    assert look(world, gateway, home.token()).status_code == 200
    assert '"secret"' not in "".join(path.read_text() for path in home.state.iterdir()).replace('client_secret"', "")

    secret = home.folder / "secret"
    secret.write_text("secret\n")
    brief = [*home.at(parts.BRIEF), "--client-credentials", "--client-secret", f"file:{secret}", "--profile", "brief"]
    secret.chmod(0o644)
    assert "chmod 600" in home.run("login", *brief, code=1).stderr
    secret.chmod(0o600)
    home.run("login", *brief)
    first = home.token("--profile", "brief")
    assert home.token("--profile", "brief") != first


def test_a_token_file_is_read_each_time(world, home, start):
    gateway = start(world.config(local(world, "token-file")))
    path = home.folder / "projected"
    assert "projected" in home.run("login", "--token-file", str(path), code=1).stderr
    path.write_text(world.issuer.token() + "\n")
    home.run("login", "--token-file", str(path))
    assert look(world, gateway, home.token()).status_code == 200
    path.write_text(world.issuer.token(parts.STRANGER))
    assert claims(home.token())["groups"] == ["visitors"]
    path.write_text(world.issuer.token(parts.BRIEF))
    time.sleep(4)
    told = home.run("token", code=1)
    assert "expired" in told.stderr and "eyJ" not in told.stderr
    home.run("logout")
    assert "logged out" in home.run("token", code=1).stderr and path.exists()


def test_an_issuer_without_the_right_certificate_is_not_believed(world, home):
    arguments = home.at(parts.CLI)
    told = home.run("login", "--no-browser", *arguments[:-2], code=1)
    assert f"issuer {world.issuer.url}" in told.stderr and "certificate" in told.stderr.lower()
    plain = [a.replace("https:", "http:") for a in arguments]
    assert 'write "https://' in home.run("login", *plain, code=2).stderr


@pytest.fixture
def scripted(world, tmp_path):
    issuer = Scripted(world.issuer.chain, world.issuer.key)
    yield issuer
    issuer.stop()


def browser_login(home, scripted, *arguments, env=None) -> Running:
    """A login at the scripted issuer; its person needs no forms."""
    running = home.begin("login", "--no-browser", *home.at("cli", scripted.url), *arguments, env=env or {})
    asked = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(running.address()).query))
    scripted.nonce, scripted.query = scripted.nonce or asked["nonce"], asked
    answer = urllib.parse.urlencode({"code": "code-canary", "state": asked["state"]})
    assert httpx.get(f"{asked['redirect_uri']}?{answer}").status_code == 200
    return running


def test_an_id_token_with_another_nonce_is_refused(home, scripted):
    scripted.nonce = "another"
    running = browser_login(home, scripted)
    assert running.ended() == 1
    assert "nonce" in running.text() and list(home.state.glob("*.json")) == []


def test_what_an_issuer_does_wrong_is_named_and_no_secret_is_repeated(home, scripted):
    long = "x" * 2000
    for answer, why in [
        ((400, {"error": "invalid_grant", "error_description": f"code-canary \x1b[2J {long}"}), "invalid_grant"),
        ((200, {"access_token": "at-canary", "token_type": "DPoP"}), "another type than Bearer"),
        ((200, {"access_token": "at-canary\x1b", "token_type": "Bearer", "scope": "x"}), "other characters"),
        ((200, {"access_token": "at-canary", "token_type": "Bearer"}), "no ID token"),
        ((200, ["at-canary"]), "RFC 6749 section 5.1"),
        ((302, {}), "redirects are not followed"),
        ((503, "down"), "status 503"),
    ]:
        scripted.token = [answer]
        running = browser_login(home, scripted)
        assert running.ended() == 1, running.text()
        text = running.text()
        assert why in text and f"issuer {scripted.url}" in text, text
        assert "canary" not in text.replace("127.0.0.1", "") and "\x1b" not in text and len(text) < 4000
    assert list(home.state.glob("*.json")) == []


def test_an_issuer_that_says_the_wrong_things_of_itself_is_refused(home, scripted):
    for more, why in [
        ({"issuer": "https://other.example"}, "is for"),
        ({"token_endpoint": "http://127.0.0.1:1/token"}, "token_endpoint that is no https URL"),
        ({"authorization_endpoint": "javascript:alert(1)"}, "authorization_endpoint is no https URL"),
        ({"authorization_endpoint": None}, "it has no authorization_endpoint"),
        ({"code_challenge_methods_supported": ["plain"]}, "PKCE with S256"),
        ({"token_endpoint": None}, "it has no token_endpoint, so nobody logs in there"),
        ({"token_endpoint": 7}, "OpenID Connect Discovery asks for"),
    ]:
        scripted.more = more
        told = home.run("login", "--no-browser", *home.at("cli", scripted.url), code=1)
        assert why in told.stderr and f"issuer {scripted.url}" in told.stderr, told.stderr
    assert scripted.asked == []


def test_what_is_asked_for_reaches_the_issuer_as_it_takes_it(home, scripted):
    scripted.more = {
        "authorization_endpoint": f"{scripted.url}/authorize?tenant=7",
        "token_endpoint_auth_methods_supported": ["client_secret_post"],
        "scopes_supported": ["openid", "offline_access"],
    }
    running = browser_login(
        home, scripted, "--audience", "gw", "--resource", "https://gw.example", "--client-secret", "env:CI_SECRET",
        env={"CI_SECRET": "se cret&"},
    )  # fmt: skip
    assert running.ended() == 0, running.text()
    query, form = scripted.query, scripted.asked[0]
    assert query["tenant"] == "7" and query["audience"] == "gw" and query["resource"] == "https://gw.example"
    assert query["scope"] == "openid offline_access" and query["prompt"] == "consent"
    assert form["client_secret"] == "se cret&" and form["client_id"] == "cli" and form["code"] == "code-canary"
    assert form["redirect_uri"] == query["redirect_uri"] and form["resource"] == "https://gw.example"
    digest = hashlib.sha256(form["code_verifier"].encode()).digest()
    assert base64.urlsafe_b64encode(digest).rstrip(b"=").decode() == query["code_challenge"]
    scripted.nonce = None
    running = browser_login(home, scripted, "--prompt", "select_account", env={"CI_SECRET": "se cret&"})
    assert running.ended() == 0 and scripted.query["prompt"] == "select_account"


def test_opaque_tokens_are_told_of_and_one_that_stays_is_used_again(home, scripted):
    scripted.token = [scripted.tokens(access="opaque-1", expires_in=30, refresh_token="rt-1")]
    running = browser_login(home, scripted)
    assert running.ended() == 0, running.text()
    assert "no JWT" in running.text()
    # No new refresh token: the old one stays (RFC 6749 section 6).
    for n in (2, 3):
        scripted.token = [(200, {"access_token": f"opaque-{n}", "token_type": "bearer", "expires_in": "30"})]
        assert home.token() == f"opaque-{n}"
        assert scripted.asked[-1]["refresh_token"] == "rt-1"


def test_while_the_issuer_is_down_what_is_left_of_a_token_serves(home, scripted):
    scripted.token = [scripted.tokens(access="opaque-1", expires_in=6, refresh_token="rt-1")]
    assert browser_login(home, scripted).ended() == 0
    scripted.token = [(503, "down")] * 10
    told = home.run("token")
    assert told.stdout == "opaque-1\n" and "warning: issuer" in told.stderr
    time.sleep(6)
    told = home.run("token", code=1)
    assert told.stdout == "" and "503" in told.stderr


def test_a_token_that_cannot_be_kept_serves_once_and_harms_nothing(home, scripted):
    scripted.token = [scripted.tokens(access="opaque-1", expires_in=30, refresh_token="rt-1")]
    assert browser_login(home, scripted).ended() == 0
    before = home.kept()
    scripted.token = [scripted.tokens(access="opaque-2", refresh_token="rt-2")]
    # As on a full disk: no file may grow.
    full = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (8, 8))
    told = home.run("token", preexec_fn=full, restore_signals=False)
    assert told.stdout == "opaque-2\n" and "tokens.json cannot be written" in told.stderr
    assert home.kept() == before and len(list(home.state.iterdir())) == 3


def test_somebody_elses_id_token_is_refused_at_refresh(home, scripted):
    scripted.token = [scripted.tokens(access="opaque-1", expires_in=1, refresh_token="rt-1")]
    assert browser_login(home, scripted).ended() == 0
    time.sleep(1.1)
    scripted.token = [scripted.tokens(access="opaque-2", sub="eve")]
    assert "somebody else" in home.run("token", code=1).stderr


def test_a_device_slows_down_when_it_is_told_to(home, scripted):
    pending, slow = ((400, {"error": error}) for error in ("authorization_pending", "slow_down"))
    scripted.nonce = None
    scripted.token = [pending, (503, "busy"), slow, scripted.tokens(access="opaque-1")]
    running = home.begin("login", "--device", *home.at("cli", scripted.url))
    assert running.ended(40) == 0, running.text()
    gaps = [later - earlier for earlier, later in zip(scripted.times, scripted.times[1:])]
    # 1 s as the issuer said, then twice that, then 5 s more.
    for gap, least in zip(gaps, (1, 2, 7), strict=True):
        assert least <= gap < least + 2, gaps
