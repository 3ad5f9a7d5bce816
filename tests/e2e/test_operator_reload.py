"""A reload says anew who may look and give orders: also to those who are logged in, and to pages that are open."""

import os
import re
import signal
import socket
import ssl
import threading

import httpx
import pytest
from support import parts
from test_life import client, local
from test_live_page import browse
from test_operator import KEY

GONE = "00000000000000ff"
AGENTS = {"issuer": "corp", "groups": ["agents"]}
NOBODY = {"issuer": "corp", "groups": ["nobody"]}


def reload(gateway, config: dict, said: str = "configuration reloaded") -> None:
    """Writes a configuration, and has it read; `said`: the message that tells what came of it."""
    before = len([line for line in gateway.lines() if said in line.get("message", "")])
    gateway.write(config)
    gateway.signal(signal.SIGHUP)
    parts.until(lambda: len([line for line in gateway.lines() if said in line.get("message", "")]) > before)


class Looker(threading.Thread):
    """An open page's events, until they end."""

    def __init__(self, world, gateway, headers):
        super().__init__(daemon=True)
        self.world, self.url, self.headers = world, gateway.operator("/events?view=/"), headers
        self.got, self.ended = 0, False
        self.start()
        parts.until(lambda: self.got > 0)

    def run(self):
        with client(self.world) as http, http.stream("GET", self.url, headers=self.headers) as answer:
            for _ in answer.iter_raw():
                self.got += 1
        self.ended = True


def test_a_role_that_a_reload_takes_away_is_gone_for_tokens_logins_and_open_pages(world, start):
    chain, key = world.authority.leaf("reloaded-operators", ["localhost"])

    def config(**rules):
        return world.config(local(world, "reloaded")) | {"admin": {"certificate": {"chain": chain, "key": key}} | rules}

    gateway = start(config(operate=[AGENTS]), ca=world.ca)
    bearer = {"Authorization": f"Bearer {world.issuer.token()}"}
    with client(world, base_url=gateway.operator("")) as http:
        entered = http.post("/login", data={"key": world.issuer.token()})
        cookie = {"Cookie": entered.headers["set-cookie"].partition(";")[0]}
        http.cookies.clear()
        form = re.search(r'name="form_token" value="([^"]+)"', http.get("/revocations", headers=cookie).text)[1]

        def ask(method, path, headers, **more):
            answer = http.request(method, path, headers=headers, **more)
            is_told = "error" in answer.text and answer.headers["content-type"] == "application/json"
            return answer.status_code, answer.json()["error"]["code"] if is_told else None

        assert ask("POST", f"/api/sessions/{GONE}/end", bearer, json={}) == (404, "unknown_session")
        assert ask("POST", f"/api/sessions/{GONE}/end", cookie, json={}) == (404, "unknown_session")
        looker = Looker(world, gateway, cookie)
        # From operate to view: pages stay open, orders are refused.
        reload(gateway, config(operate=[NOBODY], view=[AGENTS]))
        for proof in (bearer, cookie):
            assert ask("GET", "/api/sessions", proof) == (200, None)
            assert ask("POST", f"/api/sessions/{GONE}/end", proof, json={}) == (403, "view_only")
            assert ask("GET", f"/api/sessions/{GONE}/activity", proof) == (403, "view_only")
        assert ask("POST", "/revoke", cookie, data={"form_token": form, "subject": "x"}) == (403, None)
        assert "button class=\"danger\"" not in http.get("/revocations", headers=cookie).text
        got = looker.got
        parts.until(lambda: looker.got > got)
        # To nothing: who is logged in is out, and a page that is open ends.
        reload(gateway, config(operate=[NOBODY]))
        assert ask("GET", "/api/sessions", bearer) == (403, "not_an_operator")
        assert ask("GET", "/api/sessions", cookie) == (403, "not_an_operator")
        assert http.get("/", headers=cookie).headers["location"] == "/login"
        parts.until(lambda: looker.ended)
        # A reload that is refused changes nobody's role.
        reload(gateway, config(operate=[{"issuer": "nobody's", "groups": ["agents"]}]), "reload refused")
        assert ask("GET", "/api/sessions", bearer) == (403, "not_an_operator")
        reload(gateway, config(operate=[AGENTS]))
        assert ask("POST", f"/api/sessions/{GONE}/end", bearer, json={}) == (404, "unknown_session")
    assert [line for line in gateway.lines() if line.get("order") == "refused"]


def test_a_reload_replaces_the_key_and_ends_logins_by_the_old_one(world, start, tmp_path):
    key = tmp_path / "admin.key"
    key.touch(mode=0o600)
    key.write_text(KEY)
    config = world.config(local(world, "reloaded-key")) | {"admin": {"key": f"file:{key}"}}
    gateway = start(config)
    bearer = lambda key: {"Authorization": f"Bearer {key}"}  # noqa: E731
    ask = lambda headers, path="/api/sessions": httpx.get(gateway.operator(path), headers=headers).status_code  # noqa: E731
    entered = httpx.post(gateway.operator("/login"), data={"key": KEY})
    cookie = {"Cookie": entered.headers["set-cookie"].partition(";")[0]}
    # The same key: whoever is logged in stays.
    reload(gateway, config)
    assert (ask(bearer(KEY)), ask(cookie)) == (200, 200)
    assert ask(bearer(KEY) | {"Host": "gateway.example"}) == 421
    another = "another-operator-key-0123456789"
    key.write_text(another)
    reload(gateway, config | {"admin": config["admin"] | {"hosts": ["gateway.example"]}})
    assert (ask(bearer(KEY)), ask(cookie), ask(bearer(another))) == (401, 401, 200)
    assert ask(bearer(another) | {"Host": "gateway.example"}) == 200
    # Without a key the machine's owner needs none, and a cookie of before is nothing.
    reload(gateway, config | {"admin": {}})
    assert (ask({}), ask(cookie), ask({"Host": "gateway.example"})) == (200, 200, 421)
    reload(gateway, config)
    assert (ask({}), ask(cookie), ask(bearer(another))) == (401, 401, 200)
    assert KEY not in gateway.process.text() and another not in gateway.process.text()


def test_a_reload_shows_the_operators_new_certificate(world, start, tmp_path):
    chain, key = world.authority.leaf("renewed-operators", ["localhost"])
    files = tmp_path / "pair"
    files.mkdir()

    def put(chain, key):
        for name, text in (("chain.pem", chain), ("key.pem", key)):
            new = files / f"{name}.new"
            new.touch(mode=0o600)
            new.write_text(open(text).read())
            os.replace(new, files / name)

    def shown() -> bytes:
        with socket.create_connection(("127.0.0.1", gateway.admin)) as tcp:
            with ssl.create_default_context(cafile=world.ca).wrap_socket(tcp, server_hostname="localhost") as tls:
                return tls.getpeercert(True)

    put(chain, key)
    pair = {"chain": str(files / "chain.pem"), "key": str(files / "key.pem")}
    config = world.config(local(world, "renewed")) | {"admin": {"certificate": pair, "operate": [AGENTS]}}
    gateway = start(config, ca=world.ca)
    before = shown()
    put(*world.authority.leaf("renewed-again", ["localhost"]))
    reload(gateway, config)
    assert shown() != before and gateway.get("/healthz") == 200


def test_what_a_reload_cannot_change_is_named(world, start):
    config = world.config(local(world, "unchanged"))
    gateway = start(config)
    reload(gateway, config | {"log": {"filter": "warn"}, "workers": {"count": 1, "pin": False}})
    warned = [line["message"] for line in gateway.lines() if "needs a restart" in line.get("message", "")]
    assert [text.partition(" ")[0] for text in warned] == ["[log]", "[workers]"], warned
    chain, key = world.authority.leaf("unchanged-operators", ["localhost"])
    for admin in ({"address": "127.0.0.2:9"}, {"certificate": {"chain": chain, "key": key}}):
        reload(gateway, config | {"admin": admin}, "reload refused: address of [admin]")
    assert "staunch_reload_success 0" in gateway.metrics()
    reload(gateway, config)
    assert gateway.get("/readyz") == 200


def test_an_open_page_leads_to_the_log_in_when_its_login_has_ended(world, start, tmp_path):
    key = tmp_path / "admin.key"
    key.touch(mode=0o600)
    key.write_text(KEY)
    gateway = start(world.config(local(world, "ended-login")) | {"admin": {"key": f"file:{key}"}})
    seen = browse("ended", f"http://127.0.0.1:{gateway.admin}", tmp_path, KEY)
    assert seen["inside"] == "Traffic" and seen["outside"] == "/login?expired" and "has expired" in seen["told"]
    assert seen["found"] == {}
