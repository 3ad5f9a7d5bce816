"""Operators log in at their issuer through a browser; what an attacker brings back logs nobody in."""

import re

import pytest
from support import parts
from support.gateway import staunch
from support.login import Browser
from test_life import local
from test_live_page import browse

OPS, VIEWER, OUTSIDER = parts.OPERATORS


@pytest.fixture
def operated(world, start, tmp_path):
    """Starts a gateway whose operators log in as this client of the issuer."""
    secret = tmp_path / "client.secret"
    secret.touch(mode=0o600)
    secret.write_text(parts.WEB_SECRET)
    chain, key = world.authority.leaf("operators login", ["localhost"])
    base = f"https://localhost:{world.issuer.operators_port}"

    def operated(client):
        admin = {
            "certificate": {"chain": chain, "key": key},
            "operate": [{"issuer": "corp", "groups": ["agents"]}],
            "view": [{"issuer": "corp", "groups": ["visitors"]}],
            "login": {"issuer": "corp", "client_id": client, "client_secret": f"file:{secret}", "url": base},
        }
        config = world.config(local(world, "operators-login")) | {"admin": admin}
        return start(config, ca=world.ca, admin=world.issuer.operators_port), base

    return operated


def begun(world, base, name="ann"):
    """A browser in which a log-in was begun, and the URL that the issuer sends it back to."""
    browser = Browser(world)
    back = browser.visit(f"{base}/login/oidc", name=name, stop=f"{base}/login/callback")
    return browser.http, back


def test_a_log_in_at_the_issuer_in_chromium(world, operated, tmp_path):
    gateway, base = operated(OPS)
    seen = browse("issuer", base, tmp_path)
    assert seen["led"] == "/login" and seen["away"] == world.issuer.url and seen["inside"] == "Sessions"
    assert seen["who"] == "ann · operate" and seen["unsigned"] == 403
    [cookie] = seen["cookies"]
    assert cookie == {
        "name": "__Host-staunch_admin", "httpOnly": True, "secure": True, "sameSite": "Strict", "domain": "localhost",
    }  # fmt: skip
    # Who revokes themselves is out at once, login and all.
    assert seen["outside"] == "/login"
    line = gateway.line("order", order="login")
    assert (line["operator"], line["reason"]) == ("ann", "operate") and line["remote"].startswith("127.0.0.1:")
    assert parts.WEB_SECRET not in gateway.process.text()


def test_groups_say_who_may_look_and_who_may_nothing(world, operated):
    gateway, base = operated(VIEWER)
    http, back = begun(world, base)
    entered = http.get(back)
    assert entered.status_code == 200 and 'http-equiv="refresh"' in entered.text
    page = http.get(f"{base}/revocations")
    assert page.status_code == 200 and "ann · view" in page.text and 'action="/revoke"' not in page.text
    assert http.post(f"{base}/api/revoke", json={"subject": "x"}).status_code == 403
    assert gateway.stop() == 0
    gateway, base = operated(OUTSIDER)
    http, back = begun(world, base, "eve")
    entered = http.get(back)
    assert entered.status_code == 403 and "no rule of [admin]" in entered.text
    assert http.get(f"{base}/", follow_redirects=False).status_code == 303
    line = gateway.line("order", order="refused")
    assert line["operator"] == "issuer:corp" and line["reason"].startswith("a log-in: the token verifies")


def test_what_an_attacker_brings_back_logs_nobody_in(world, operated):
    gateway, base = operated(OPS)
    (victim, back), (_, theirs), bare = begun(world, base), begun(world, base, "mallory"), Browser(world).http
    mine = {"Cookie": f"__Host-staunch_login={victim.cookies['__Host-staunch_login']}"}
    state = re.search(r"state=([\w-]+)", back)[1]
    for cookie, url in [
        # A code without the browser that began, and one that was made for another browser: a log-in as somebody else.
        ({}, back),
        (mine, theirs),
        (mine, re.sub(r"state=[\w-]+", "state=x", back)),
        (mine, re.sub(r"iss=[^&]+", "iss=https%3A%2F%2Fevil.test", back)),
        (mine, back + "&code=other"),
        (mine, f"{base}/login/callback"),
    ]:
        answer = bare.get(url, headers=cookie)
        assert answer.status_code == 400 and "begin again" in answer.text, answer.text
        assert "__Host-staunch_admin" not in answer.cookies
    refused = bare.get(f"{base}/login/callback?error=%3Cscript%3E&state={state}", headers=mine)
    assert refused.status_code == 400 and "<script>" not in refused.text
    # A code that the issuer does not know, in the right browser.
    http, back = begun(world, base)
    assert http.get(re.sub(r"code=[^&]+", "code=guessed", back)).status_code == 502
    # The same URL again after it was used: the attempt is over.
    http, back = begun(world, base)
    assert http.get(back).status_code == 200 and http.get(back).status_code == 400
    # Foreign names and pages get nothing, and neither does the cookie's value under the name without TLS.
    cookie = http.cookies["__Host-staunch_admin"]
    assert http.get(f"{base}/", headers={"Host": "evil.example"}).status_code == 421
    assert http.post(f"{base}/api/revoke", json={"subject": "x"}, headers={"Origin": "https://evil.example"}).status_code == 403
    for given in (f"staunch_admin={cookie}", "__Host-staunch_admin=old"):
        assert bare.get(f"{base}/api/sessions", headers={"Cookie": given}).status_code == 401
    assert bare.get(f"{base}/api/sessions", headers={"Cookie": f"__Host-staunch_admin={cookie}"}).status_code == 200
    assert cookie not in gateway.process.text()


def test_the_configuration_of_log_ins_is_checked(world, tmp_path):
    config = tmp_path / "c.toml"
    chain, key = world.authority.leaf("operators checked", ["localhost"])
    issuer = '[[issuer]]\nname = "corp"\noidc = "https://idp.test"\naudience = ["staunch"]\n'
    whole = {
        "certificate": f'{{ chain = "{chain}", key = "{key}" }}',
        "operate": '[{ issuer = "corp", groups = ["a"] }]',
        "login": '{ issuer = "corp", client_id = "x", url = "https://gw.test:9901" }',
    }
    for change, told in [
        ({"certificate": None}, "need TLS"),
        ({"operate": None}, "nobody may log in"),
        ({"login": '{ issuer = "corpse", client_id = "x", url = "https://gw.test" }'}, "no issuer `corpse`"),
        ({"login": '{ issuer = "corp", client_id = "x", url = "http://gw.test" }'}, "where browsers reach"),
        ({"login": '{ issuer = "corp", client_id = "x", url = "https://gw.test/page" }'}, "where browsers reach"),
        ({"login": '{ issuer = "corp", client_id = "x", url = "https://gw.test", scope = "profile" }'}, "openid"),
    ]:
        lines = [f"{name} = {value}" for name, value in (whole | change).items() if value]
        config.write_text("[admin]\n" + "\n".join(lines) + "\n" + issuer)
        checked = staunch("check", "--config", str(config))
        assert checked.returncode == 1 and told in checked.stderr.decode(), checked.stderr.decode()
