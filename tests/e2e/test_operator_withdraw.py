"""Revocations taken back: by program, by form and at the command line; and requests that are refused before their body is sent."""

import re
import socket

import httpx
import pytest
from support import parts
from support.gateway import staunch
from test_life import local
from test_operator import KEY, Stream, look
from test_operator_faults import logged_in

# As the tests' issuer calls whom it makes a token for.
ANN = "ann.agents.staunch.600"


@pytest.fixture
def revoked(world, start, tmp_path):
    """A gateway that keeps revocations, with a token that is shut out."""
    (tmp_path / "admin.key").touch(mode=0o600)
    (tmp_path / "admin.key").write_text(KEY + "\n")
    kept = tmp_path / "revocations.jsonl"
    admin = {"revocations": str(kept), "key": f"file:{tmp_path}/admin.key"}
    config = world.config(local(world, f"withdrawn-{tmp_path.name[-8:]}")) | {"admin": admin}
    gateway, token = start(config), world.issuer.token()
    with httpx.Client(base_url=f"http://127.0.0.1:{gateway.admin}", headers={"Authorization": f"Bearer {KEY}"}) as operator:
        stream = Stream(world, gateway, token)
        answer = operator.post("/api/revoke", json={"subject": ANN, "reason": "stolen laptop"})
        assert answer.status_code == 200 and answer.json()["sessions"] == 1, answer.text
        parts.until(lambda: stream.ended)
        assert look(world, gateway, token).status_code == 401
        yield gateway, operator, token, answer.json()["id"], config


def test_a_revocation_is_taken_back_and_stays_so_over_a_restart(world, start, revoked):
    gateway, operator, token, id, config = revoked
    shown = operator.get(f"/api/revocations/{id}").json()
    assert (shown["id"], shown["subject"]) == (id, ANN)
    assert [one["id"] for one in operator.get("/api/revocations").json()["revocations"]] == [id]
    # Another one of the same person stands for itself.
    other = operator.post("/api/revoke", json={"subject": ANN, "issuer": "corp"}).json()["id"]
    assert other != id
    answer = operator.request("DELETE", f"/api/revocations/{id}", json={"reason": "it was found"})
    assert answer.status_code == 200 and answer.json() == {"id": id, "kept": True}, answer.text
    assert look(world, gateway, token).status_code == 401
    assert operator.delete(f"/api/revocations/{other}").status_code == 200
    assert look(world, gateway, token).status_code == 200
    # Nobody who came after that is ended by what was taken back.
    stream = Stream(world, gateway, token)
    assert operator.post("/api/revoke", json={"subject": "bob"}).json()["sessions"] == 0
    assert not stream.ended
    line = gateway.line("order", order="withdraw")
    assert (line["subject"], line["reason"], line["operator"]) == (ANN, "it was found", "key")
    again = operator.delete(f"/api/revocations/{id}")
    assert again.status_code == 404 and again.json()["error"]["code"] == "unknown_revocation"
    [session] = operator.get("/api/sessions").json()["sessions"]
    operator.post(f"/api/sessions/{session['id']}/end", json={})
    parts.until(lambda: stream.ended)
    assert gateway.stop() == 0
    restarted = start(config)
    assert look(world, restarted, token).status_code == 200


def test_the_form_of_the_page_takes_back_and_nobody_elses_does(world, revoked):
    gateway, operator, token, id, _ = revoked
    base, (cookie, form_token) = f"http://127.0.0.1:{gateway.admin}", logged_in(gateway)
    assert f'href="/revocations/{id}"' in httpx.get(f"{base}/revocations", headers=cookie).text
    page = httpx.get(f"{base}/revocations/{id}", headers=cookie)
    assert page.status_code == 200 and f'action="/revocations/{id}/withdraw"' in page.text and form_token in page.text
    withdraw = f"{base}/revocations/{id}/withdraw"
    for fields, more in [
        ({}, {}),
        ({"form_token": "x"}, {}),
        ({"form_token": form_token}, {"Origin": "https://evil.example"}),
        ({"form_token": form_token}, {"Sec-Fetch-Site": "cross-site"}),
    ]:
        assert httpx.post(withdraw, data=fields, headers=cookie | more).status_code == 403
    foreign = httpx.delete(f"{base}/api/revocations/{id}", headers=cookie | {"Sec-Fetch-Site": "cross-site"})
    assert foreign.status_code == 403 and foreign.json()["error"]["code"] == "foreign_origin"
    assert httpx.get(f"{base}/revocations/0123456789abcdef", headers=cookie).status_code == 404
    assert httpx.put(f"{base}/api/revocations/{id}", headers=cookie).headers["allow"] == "GET, HEAD, DELETE"
    assert look(world, gateway, token).status_code == 401
    done = httpx.post(withdraw, data={"form_token": form_token, "reason": "found"}, headers=cookie)
    assert done.status_code == 200 and "was taken back" in done.text
    assert look(world, gateway, token).status_code == 200


def test_the_command_line_lists_and_takes_back(world, revoked, tmp_path):
    gateway, operator, token, id, _ = revoked
    at = ["--admin", f"127.0.0.1:{gateway.admin}", "--key-file", str(tmp_path / "admin.key")]
    listed = staunch("revoke", "--list", *at)
    assert re.fullmatch(rf"{id} subject={re.escape(ANN)} until \S+\n", listed.stdout.decode()), listed
    for mistake, code in [
        (["--withdraw", "x"], 2),
        (["--withdraw", "../../../sessions"], 2),
        (["--withdraw", id, "--subject", ANN], 2),
        (["--withdraw", id, "--list"], 2),
        (["--withdraw", "0123456789abcdef"], 1),
    ]:
        done = staunch("revoke", *mistake, *at)
        assert done.returncode == code and b"panicked" not in done.stderr, done
    done = staunch("revoke", "--withdraw", id, "--reason", "found", *at)
    assert done.returncode == 0 and f"revocation {id} taken back".encode() in done.stdout, done.stderr
    assert look(world, gateway, token).status_code == 200
    assert staunch("revoke", "--list", *at).stdout == b"nobody is revoked\n"
    again = staunch("revoke", "--subject", ANN, *at)
    assert f"--withdraw {id}".encode() in again.stdout


def test_a_body_that_is_too_large_is_refused_before_it_is_asked_for(world, revoked):
    gateway, *_ = revoked
    head = f"POST /api/revoke HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {KEY}\r\ncontent-type: application/json\r\n"
    for length, answer in [(1 << 20, b"HTTP/1.1 413 "), (2, b"HTTP/1.1 100 Continue")]:
        with socket.create_connection(("127.0.0.1", gateway.admin), 10) as tcp:
            tcp.sendall(f"{head}content-length: {length}\r\nexpect: 100-continue\r\n\r\n".encode())
            said = tcp.recv(65536)
            assert said.startswith(answer) and (b"connection: close" in said.lower()) == (length > 2), said
            if length == 2:
                tcp.sendall(b"{}")
                assert tcp.recv(65536).startswith(b"HTTP/1.1 400 ")


def test_what_is_refused_with_its_body_unread_ends_its_connection_and_says_so(revoked):
    gateway, *_ = revoked
    for method, path in [("POST", "/api/sessions"), ("POST", "/api/nothing"), ("PUT", "/api/revoke"), ("POST", "/api/revoke")]:
        with socket.create_connection(("127.0.0.1", gateway.admin), 10) as tcp:
            # The body is announced and comes later.
            tcp.sendall(f"{method} {path} HTTP/1.1\r\nhost: evil.example\r\ncontent-length: 2\r\n\r\n".encode())
            said = b""
            while part := tcp.recv(65536):
                said += part
            assert said.startswith(b"HTTP/1.1 4") and b"connection: close" in said.lower(), said
