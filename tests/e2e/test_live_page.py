"""The live page in a real browser: with and without JavaScript, by keyboard, under axe, and from another site."""

import http.server
import json
import os
import re
import threading

import pytest
from support import parts
from support.gateway import staunch
from support.parts import PARTS, TOOLS
from support.process import run
from support.recordings import Auditors
from test_life import client, local
from test_operator import KEY, Operator, Stream, look


def browse(scenario: str, base: str, out, *more: str) -> dict:
    """What a scenario of `parts/page.mjs` saw."""
    env = os.environ | {"NODE_PATH": str(TOOLS / "node_modules")}
    done = run(["node", str(PARTS / "page.mjs"), scenario, base, str(out), *more], 90, env=env)
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    seen = json.loads(done.stdout)
    assert seen.pop("errors") == [], "the page has errors of its own"
    return seen


@pytest.fixture
def shown(world, start):
    """A gateway with a live stream, and where its page is."""
    gateway = start(world.config(local(world, "shown")))
    stream = Stream(world, gateway, world.issuer.token())
    yield gateway, stream, f"http://127.0.0.1:{gateway.admin}"
    for session in Operator(gateway).sessions():
        Operator(gateway).post(f"/api/sessions/{session['id']}/end")


def test_without_javascript_a_session_is_found_read_and_ended(shown, tmp_path):
    gateway, stream, base = shown
    seen = browse("plain", base, tmp_path)
    assert "TLSv1.3" in seen["list"] and "app" in seen["list"] and "without JavaScript" in seen["list"]
    assert "No session to show" in seen["filtered"]
    for told in ("Client leg", "Upstream leg", "TLSv1.3", "TLS_AES", "certificate chain and name", "not recorded", "corp"):
        assert told in seen["session"], told
    assert "was ended" in seen["ended"]
    parts.until(lambda: stream.ended)
    assert gateway.line("order", order="end")["reason"] == "looked wrong"


def test_with_javascript_figures_move_and_focus_stays(shown, tmp_path):
    seen = browse("live", shown[2], tmp_path)
    assert seen["focused"].startswith("/sessions/") and seen["title"].startswith("Session ")
    assert seen["age"].startswith("updated ") and seen["still"] and seen["told"].startswith("paused")


def test_every_page_is_accessible_in_light_and_dark_on_a_telephone_and_on_paper(world, start, tmp_path):
    auditors = Auditors(tmp_path / "auditors")
    gateway = start(world.config(local(world, "shown-all"), recording=auditors.section()))
    operator, token = Operator(gateway), world.issuer.token()
    # Something on every page: a recording, a refusal, a revocation, a live session with requests.
    assert look(world, gateway, token).status_code == 200 and look(world, gateway, world.issuer.forged()).status_code == 401
    assert operator.post("/api/revoke", subject="nobody", issuer="corp").status_code == 200
    stream = Stream(world, gateway, token)
    parts.until(lambda: operator.get("/api/recordings")["recordings"])
    out = os.environ.get("STAUNCH_SCREENSHOTS", tmp_path)
    assert browse("accessible", f"http://127.0.0.1:{gateway.admin}", out)["found"] == {}
    for session in operator.sessions():
        operator.post(f"/api/sessions/{session['id']}/end")
    parts.until(lambda: stream.ended)


def test_a_login_by_key_has_forms_of_its_own_and_ends(world, start, tmp_path):
    key = tmp_path / "admin.key"
    key.touch(mode=0o600)
    key.write_text(KEY)
    gateway = start(world.config(local(world, "shown-key")) | {"admin": {"key": f"file:{key}"}})
    seen = browse("login", f"http://127.0.0.1:{gateway.admin}", tmp_path, KEY)
    assert seen["led"] == "/login" and "the key is not" in seen["wrong"]
    assert seen["inside"] == "Sessions" and seen["cookie"] == {"httpOnly": True, "sameSite": "Strict"}
    assert seen["status"] == 403 and seen["outside"] == "/login" and "has expired" in seen["expired"]
    assert gateway.line("order", order="login")["operator"] == "key"
    assert gateway.line("order", order="refused")["reason"] .startswith("a log-in: the key is not")


@pytest.fixture
def recorded(world, start, tmp_path):
    """A gateway that has recorded a request of ann's, and the auditors' keys."""
    auditors = Auditors(tmp_path / "auditors")
    gateway = start(world.config(local(world, "shown-recorded"), recording=auditors.section()))
    with client(world) as http:
        headers = {"Authorization": f"Bearer {world.issuer.token()}"}
        assert http.post(f"https://localhost:{gateway.port}/look", headers=headers, content=b"what was said").status_code == 200
    closed = gateway.line("session closed", route="app")
    keys = [next(line for line in open(file) if line.startswith("AGE-SECRET-KEY-1")).strip() for file in auditors.files]
    yield gateway, closed["session"], keys


def test_recordings_are_found_and_read_with_a_key_that_stays_nowhere(recorded, tmp_path):
    gateway, session, (right, _) = recorded
    stranger = Auditors(tmp_path / "strangers")
    wrong = next(line for line in open(stranger.files[0]) if line.startswith("AGE-SECRET-KEY-1")).strip()
    seen = browse("recordings", f"http://127.0.0.1:{gateway.admin}", tmp_path, f"{wrong} {right}")
    assert seen.pop("found") == [], "under axe"
    for how in ("script", "plain"):
        one = seen[how]
        assert session in one["list"] and "ann" in one["list"] and "No recording to show" in one["filtered"]
        assert "session opened" in one["one"] and "what was said" not in one["one"].split("Transcript")[0], one["one"]
        assert "opens nothing of this recording" in one["refused"]
        assert "POST" in one["opened"] and "what was said" in one["opened"], one["opened"]
        assert not one["kept"] and "what was said" not in one["after"].split("Transcript")[0]
    assert len([line for line in gateway.lines() if line["event"] == "order" and line["order"] == "transcript"]) == 3
    said = gateway.process.text()
    assert right not in said and wrong not in said and right[20:40] not in said


def test_recordings_have_json_twins_and_clear_faults(recorded):
    gateway, session, (right, _) = recorded
    operator = Operator(gateway)
    listed = operator.get("/api/recordings?q=app")
    assert [one["session"] for one in listed["recordings"]] == [session] and listed["matching"] == 1
    one = operator.get(f"/api/recordings/{session}")
    assert one["subject"].startswith("ann") and one["facts"][0]["event"] == "session opened"
    assert right not in json.dumps(one)
    path = f"/api/recordings/{session}/transcript"
    items = operator.post(path, identity=right).json()["items"]
    assert [item["kind"] for item in items if item["kind"] in ("request", "response")] == ["request", "response"], items
    for path, body, status, code in [
        (path, {"identity": "AGE-SECRET-KEY-1NONSENSE"}, 400, "bad_identity"),
        (path, {"identity": 7}, 400, "bad_request"),
        (path, {}, 400, "bad_request"),
        ("/api/recordings/0000000000000000/transcript", {"identity": right}, 404, "unknown_recording"),
        ("/api/recordings/..%2f..%2fetc/transcript", {"identity": right}, 400, "bad_request"),
    ]:
        answer = operator.post(path, **body)
        assert answer.status_code == status, (path, answer.text)
        assert answer.json()["error"]["code"] == code
        assert right not in answer.text
    assert operator.http.get("/api/recordings?page=0").status_code == 400
    assert operator.http.get("/events?view=/recordings").status_code == 400


def test_without_recordings_the_page_says_so(shown):
    answer = Operator(shown[0]).http.get("/recordings")
    assert answer.status_code == 200 and "nothing is recorded here" in answer.text
    assert Operator(shown[0]).http.get("/api/recordings").json()["error"]["code"] == "no_recordings"


def test_log_ins_and_orders_stand_in_the_log_of_recordings(world, start, tmp_path):
    """Each kill and login is an audit line, and an entry of the log that auditors verify."""
    auditors, key = Auditors(tmp_path / "auditors"), tmp_path / "admin.key"
    key.touch(mode=0o600)
    key.write_text(KEY)
    config = world.config(local(world, "shown-logged"), recording=auditors.section())
    gateway = start(config | {"admin": {"key": f"file:{key}"}})
    operator = Operator(gateway, Authorization=f"Bearer {KEY}")
    stream = Stream(world, gateway, world.issuer.token())
    [session] = operator.sessions()
    assert operator.http.post("/login", data={"key": KEY}).status_code == 303
    assert operator.http.post("/login", data={"key": "wrong"}).status_code == 401
    assert operator.post(f"/api/sessions/{session['id']}/drain").status_code == 200
    assert operator.post(f"/api/sessions/{session['id']}/end", reason="looked wrong\ntime=0").status_code == 200
    parts.until(lambda: stream.ended and not operator.sessions())
    assert operator.post("/api/revoke", subject=parts.ANN, issuer="corp", reason="stolen laptop").status_code == 200
    assert gateway.stop() == 0
    recordings = gateway.path.parent / "recordings"
    log = b"".join(file.read_bytes() for file in sorted((recordings / "log").rglob("*")) if file.is_file())
    entered = [re.sub(rb" time=\d+.*", b"", line).decode() for line in re.findall(rb"order what=[ -~]+", log)]
    assert set(entered) == {
        "order what=login operator=key reason=operate",
        f"order what=drain operator=key session={session['id']}",
        f"order what=end operator=key session={session['id']} reason=looked_wrong_time_0",
        f"order what=revoke operator=key sessions=0 subject={parts.ANN} issuer=corp reason=stolen_laptop",
    }, entered
    assert [line["order"] for line in gateway.lines() if line["event"] == "order"] == [
        "login", "refused", "drain", "end", "revoke",
    ]  # fmt: skip
    verified = staunch("sessions", "verify", "--directory", str(recordings))
    assert verified.returncode == 0, verified.stdout


FOREIGN = """<!doctype html><title>trying</title><body><script>
const base = "BASE", tries = [
  () => fetch(base + "/api/sessions").then((answer) => answer.text()),
  () => fetch(base + "/api/revoke", { method: "POST", headers: { "Content-Type": "application/json" }, body: '{"group":"agents"}' }).then((answer) => answer.text()),
  () => fetch(base + "/revoke", { method: "POST", mode: "no-cors", body: new URLSearchParams({ group: "agents" }) }).then((answer) => answer.type),
  () => fetch(base + "/api/revoke", { method: "POST", mode: "no-cors", body: '{"group":"agents"}' }).then((answer) => answer.type),
];
(async () => {
  window.seen = { tries: [] };
  for (const one of tries) window.seen.tries.push(await one().catch((error) => "failed"));
  const frame = document.createElement("iframe");
  frame.src = base + "/";
  document.body.append(frame);
  await new Promise((done) => { frame.onload = done; setTimeout(done, 2000); });
  let framed = "blocked";
  try { framed = frame.contentDocument ? frame.contentDocument.body.innerText : "blocked"; } catch {}
  window.seen.framed = framed;
  document.title = "tried";
})();
</script>"""


def test_another_sites_page_learns_and_changes_nothing(shown, tmp_path):
    gateway, stream, base = shown

    class Site(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            body = FOREIGN.replace("BASE", base).encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    site = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Site)
    threading.Thread(target=site.serve_forever, daemon=True).start()
    seen = browse("foreign", base, f"http://localhost:{site.server_port}/")
    site.shutdown()
    assert seen["tries"] == ["failed", "failed", "opaque", "opaque"] and seen["framed"] in ("blocked", "")
    assert Operator(gateway).get("/api/revocations")["revocations"] == []
    assert stream.ended is None and not [line for line in gateway.lines() if line["event"] == "order"]
