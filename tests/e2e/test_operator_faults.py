"""Ten faults by hand: what an operator or a program does wrong is answered in words for people on pages, and in JSON for programs."""

import html
import re

import httpx
import pytest
from support import parts
from support.gateway import Gateway
from test_life import client, local
from test_operator import KEY, Operator, Stream

PAGE, JSON = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}, {"Accept": "application/json"}
GONE = "00000000000000ff"


@pytest.fixture(scope="module")
def keyed(world, tmp_path_factory):
    """A gateway that asks for a key, with a live stream."""
    folder = tmp_path_factory.mktemp("keyed")
    key = folder / "admin.key"
    key.touch(mode=0o600)
    key.write_text(KEY + "\n")
    gateway = Gateway(folder, world.config(local(world, "keyed")) | {"admin": {"key": f"file:{key}"}})
    yield gateway
    gateway.process.stop()


def logged_in(gateway) -> tuple[dict, str]:
    """The cookie of a log-in, and the token of its forms."""
    base = f"http://127.0.0.1:{gateway.admin}"
    entered = httpx.post(f"{base}/login", data={"key": KEY})
    assert entered.status_code == 303
    cookie = {"Cookie": entered.headers["set-cookie"].partition(";")[0]}
    page = httpx.get(f"{base}/revocations", headers=cookie)
    return cookie, re.search(r'name="form_token" value="([^"]+)"', page.text)[1]


def words(answer) -> str:
    """What a person reads; the answer must be a whole page of ours."""
    assert answer.headers["content-type"] == "text/html; charset=utf-8", answer.text
    assert "<title>" in answer.text and "<h1>" in answer.text and 'rel="stylesheet"' in answer.text
    return html.unescape(re.sub(r"<[^>]+>", " ", answer.text))


# Method, path, headers and body: status, code for programs, words for both.
FAULTS = {
    "bad key": ("GET", "/api/sessions", {"Authorization": "Bearer wrong"}, {}, 401, "bad_key", "not that of this gateway"),
    "no login": ("GET", "/api/sessions", {}, {}, 401, "no_login", "log in first"),
    "expired login": ("GET", "/api/sessions", {"Cookie": "staunch_admin=old"}, {}, 401, "expired_login", "has expired"),
    "unknown session": ("POST", f"/api/sessions/{GONE}/end", "key", {"json": {}}, 404, "unknown_session", "may have ended"),
    "foreign host": ("GET", "/api/sessions", "key Host evil.example", {}, 421, "foreign_host", "Host must be localhost"),
    "foreign origin": ("POST", "/api/revoke", "key Origin https://evil.example", {"json": {}}, 403, "foreign_origin", "another site"),
    "revoke without a field": ("POST", "/api/revoke", "key", {"json": {}}, 400, "bad_request", "name whom to revoke"),
    "email that is none": ("POST", "/api/revoke", "key", {"json": {"email": "ann"}}, 400, "bad_request", "an address, with @"),
    "email of a sign alone": ("POST", "/api/revoke", "key", {"json": {"email": "@"}}, 400, "bad_request", "an address, with @"),
    "a name twice": ("POST", "/api/revoke", "key Content-Type application/json", {"content": '{"subject": "a", "subject": "b"}'}, 400, "bad_request", "duplicate field"),
    "malformed JSON": ("POST", "/api/revoke", "key Content-Type application/json", {"content": "{"}, 400, "bad_request", "no JSON"),
    "form as order": ("POST", "/api/revoke", "key", {"data": {"subject": "x"}}, 415, "not_json", "application/json"),
    "method": ("DELETE", f"/api/sessions/{GONE}", "key", {}, 405, "method_not_allowed", "does not take that method"),
    "method of an order": ("GET", "/api/revoke", "key", {}, 405, "method_not_allowed", "does not take that method"),
    "body": ("POST", "/api/revoke", "key", {"json": {"subject": "x" * 20_000}}, 413, "too_large", "at most 16384 bytes"),
    "no such address": ("GET", "/api/nothing", "key", {}, 404, "not_found", "nothing at this address"),
    "path that is no text": ("GET", "/api/sessions/%ff", "key", {}, 400, "bad_request", "cannot be read"),
}


def headers_of(written) -> dict:
    if isinstance(written, dict):
        return written
    _, *more = written.split(" ", 2)
    return {"Authorization": f"Bearer {KEY}"} | ({more[0]: more[1]} if more else {})


@pytest.mark.parametrize("fault", FAULTS)
def test_a_program_is_told_what_was_wrong(keyed, fault):
    method, path, headers, body, status, code, told = FAULTS[fault]
    answer = httpx.request(method, f"http://127.0.0.1:{keyed.admin}{path}", headers=JSON | headers_of(headers), **body)
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert error["code"] == code and told in error["message"] and KEY not in answer.text
    assert status != 405 or answer.headers["allow"] in ("GET, HEAD", "GET,HEAD", "POST"), answer.headers
    assert status != 401 or answer.headers["www-authenticate"].startswith("Bearer")
    # Browsers' own requests of the API are programs', too.
    again = httpx.request(method, f"http://127.0.0.1:{keyed.admin}{path}", headers=PAGE | headers_of(headers), **body)
    assert again.json() == answer.json()


def test_a_person_is_told_what_was_wrong(world, keyed):
    base = f"http://127.0.0.1:{keyed.admin}"
    cookie, token = logged_in(keyed)
    browser = PAGE | cookie
    form = {"form_token": token}
    stream = Stream(world, keyed, world.issuer.token())
    [session] = Operator(keyed, Authorization=f"Bearer {KEY}").sessions()
    end = f"/sessions/{session['id']}/end"

    def ask(method, path, headers=browser, **more):
        answer = httpx.request(method, base + path, headers=headers, **more)
        assert KEY not in answer.text
        return answer

    # Who is not logged in is led to where that is done, and told why.
    for headers, place in [(PAGE, "/login"), (PAGE | {"Cookie": "staunch_admin=old"}, "/login?expired")]:
        led = ask("GET", "/routes", headers)
        assert (led.status_code, led.headers["location"]) == (303, place)
    assert "has expired; log in again" in words(ask("GET", "/login?expired", PAGE))
    for status, told, answer in [
        (401, "not that of this gateway", ask("POST", "/login", PAGE, data={"key": "wrong"})),
        (404, "may have ended", ask("GET", f"/sessions/{GONE}")),
        (404, "may have ended", ask("POST", f"/sessions/{GONE}/end", data=form)),
        (400, "16 digits", ask("GET", "/sessions/xyz")),
        (421, "Host must be localhost", ask("GET", "/", browser | {"Host": "evil.example"})),
        (403, "another site", ask("POST", "/revoke", browser | {"Origin": "https://evil.example"}, data=form | {"subject": "x"})),
        (403, "another site", ask("POST", "/revoke", browser | {"Sec-Fetch-Site": "cross-site"}, data=form | {"subject": "x"})),
        (403, "not of this login", ask("POST", "/revoke", data={"subject": "x"})),
        (403, "not of this login", ask("POST", end, data={"form_token": token[::-1], "reason": "x"})),
        (400, "name whom to revoke", ask("POST", "/revoke", data=form)),
        (400, "at most 300 bytes", ask("POST", end, data=form | {"reason": "x" * 301})),
        (405, "does not take that method", ask("DELETE", "/routes")),
        (405, "does not take that method", ask("GET", "/revoke")),
        (413, "at most 16384 bytes", ask("POST", "/revoke", data=form | {"subject": "x" * 20_000})),
        (404, "nothing at this address", ask("GET", "/nothing")),
        (400, "sort is one of", ask("GET", "/?sort=colour")),
        (400, "page is a number", ask("GET", "/recordings?page=x")),
    ]:
        assert answer.status_code == status and told in words(answer), (status, told, answer.status_code, answer.text)
    assert stream.ended is None, "no fault ended a session"
    # A session that ends meanwhile, between the page and its form.
    assert ask("POST", end, data=form | {"reason": "first"}).status_code == 200
    parts.until(lambda: stream.ended)
    again = ask("POST", end, data=form | {"reason": "second"})
    assert again.status_code == 404 and f"there is no live session {session['id']}" in words(again)


def test_whoever_may_only_look_is_told_so(world, start):
    chain, key = world.authority.leaf("viewers", ["localhost"])
    admin = {
        "certificate": {"chain": chain, "key": key},
        "view": [{"issuer": "corp", "groups": ["visitors"]}],
    }
    gateway = start(world.config(local(world, "viewed")) | {"admin": admin}, ca=world.ca)
    viewer = world.issuer.token(parts.STRANGER)
    with client(world, base_url=f"https://localhost:{gateway.admin}") as http:
        bearer = {"Authorization": f"Bearer {viewer}"}
        for path in (f"/api/sessions/{GONE}/end", f"/api/sessions/{GONE}/drain", "/api/revoke"):
            told = http.post(path, json={"subject": "x"} if path.endswith("revoke") else {}, headers=bearer)
            assert told.status_code == 403 and told.json()["error"]["code"] == "view_only", told.text
        entered = http.post("/login", data={"key": viewer})
        assert entered.status_code == 303
        form = re.search(r'name="form_token" value="([^"]+)"', http.get("/").text)[1]
        told = http.post(f"/sessions/{GONE}/end", data={"form_token": form, "reason": "x"}, headers=PAGE)
        assert told.status_code == 403 and "you may look and not give orders" in words(told)
        assert len([line for line in gateway.lines() if line["event"] == "order" and line["order"] == "refused"]) == 4
