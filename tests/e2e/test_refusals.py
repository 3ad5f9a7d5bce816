"""Refusals that arrive: every client reads the status, however large the body that it was sending."""

import os
import subprocess
import sys

import pytest
from support.gateway import ROOT
from support.process import run
from test_http1 import curl

TIMES = 5
# Of clients that stay in one process.
MANY = 25


@pytest.fixture(scope="module", params=[1, 20], ids=["1MB", "20MB"])
def upload(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("upload") / "body"
    path.write_bytes(b"x" * request.param * 1_000_000)
    return path


@pytest.mark.parametrize("version", ["--http1.1", "--http2"])
def test_curl_sees_the_refusal_of_an_upload(gateway, world, upload, version):
    for _ in range(TIMES):
        answer = curl(gateway, world, "app", "/upload", version, "-T", str(upload), "-w", " %{http_code}", token="not.a.token")
        assert answer.stdout.endswith(b" 401") and b"invalid_token" in answer.stdout, (answer.stdout, answer.stderr)


NODE_HTTP2 = """
const http2 = require("node:http2"), fs = require("node:fs");
const [ca, port, body] = process.argv.slice(2);
const client = http2.connect(`https://app.gw.test:${port}`, { ca: fs.readFileSync(ca), host: "127.0.0.1", lookup: (h, o, cb) => o.all ? cb(null, [{ address: "127.0.0.1", family: 4 }]) : cb(null, "127.0.0.1", 4) });
const stream = client.request({ ":method": "POST", ":path": "/upload", authorization: "Bearer not.a.token" });
stream.on("response", headers => { console.log(headers[":status"]); stream.on("end", () => client.destroy()); stream.resume(); });
stream.on("error", () => {});
fs.createReadStream(body).pipe(stream);
"""


def test_node_sees_the_refusal_of_an_upload_over_http2(gateway, world, upload, tmp_path):
    script = tmp_path / "upload.js"
    script.write_text(NODE_HTTP2)
    for _ in range(TIMES):
        answer = run(["node", str(script), world.ca, str(gateway.port), str(upload)], 30)
        assert answer.stdout.strip() == b"401", answer


HTTPX = """
import httpx, socket, ssl, sys
ca, port, body, token = sys.argv[1:]
real = socket.create_connection
import httpcore._backends.sync as sync
sync.socket.create_connection = lambda address, *a, **k: real(("127.0.0.1", int(port)), *a, **k)
with httpx.Client(http2=True, http1=False, verify=ssl.create_default_context(cafile=ca), timeout=20) as client:
    answer = client.post(f"https://app.gw.test:{port}/upload", content=open(body, "rb").read(), headers={"authorization": "Bearer " + token})
    print(answer.status_code, answer.json()["error"]["code"])
"""


def test_httpx_which_sends_all_of_a_body_first_sees_the_refusal_over_http2(gateway, world, upload):
    for _ in range(TIMES):
        answer = run([sys.executable, "-c", HTTPX, world.ca, str(gateway.port), str(upload), "not.a.token"], 40)
        assert answer.stdout.strip() == b"401 invalid_token", answer


REQUESTS = """
import http.client, requests, socket, ssl, sys
ca, port, body, times = sys.argv[1:]
real = socket.getaddrinfo
socket.getaddrinfo = lambda host, *a, **k: real("127.0.0.1", *a, **k)
body, seen = open(body, "rb").read(), []
for _ in range(int(times)):
    answer = requests.post(f"https://app.gw.test:{port}/upload", data=body, headers={"authorization": "Bearer not.a.token"}, verify=ca, timeout=20)
    seen.append((answer.status_code, answer.json()["error"]["code"]))
    plain = http.client.HTTPSConnection("app.gw.test", int(port), context=ssl.create_default_context(cafile=ca), timeout=20)
    plain.request("POST", "/upload", body, {"authorization": "Bearer not.a.token"})
    answer = plain.getresponse()
    seen.append((answer.status, "invalid_token" if b"invalid_token" in answer.read() else "no body"))
    plain.close()
print(len(seen), *set(seen))
"""


def test_requests_and_http_client_see_the_refusal_of_an_upload(gateway, world, upload):
    answer = run([sys.executable, "-c", REQUESTS, world.ca, str(gateway.port), str(upload), str(MANY)], 60)
    assert answer.stdout.decode().strip() == f"{2 * MANY} (401, 'invalid_token')", answer


FETCH = """
const dns = require("node:dns"), fs = require("node:fs"), https = require("node:https");
const [port, file, times] = process.argv.slice(2);
dns.lookup = (host, options, done) => options.all ? done(null, [{ address: "127.0.0.1", family: 4 }]) : done(null, "127.0.0.1", 4);
const body = fs.readFileSync(file), headers = { authorization: "Bearer not.a.token" };
const url = `https://app.gw.test:${port}/upload`;
const own = () => new Promise((done, failed) => {
  const request = https.request(url, { method: "POST", headers, agent: false }, answer => { answer.resume(); answer.on("end", () => done(answer.statusCode)); });
  request.on("error", failed);
  request.end(body);
});
(async () => {
  const seen = [];
  for (let n = 0; n < +times; n++) {
    const answer = await fetch(url, { method: "POST", headers, body });
    seen.push(answer.status, (await answer.json()).error.code, await own());
  }
  console.log(seen.length, ...new Set(seen));
})().catch(error => console.log("lost", error.message, error.cause));
"""


def test_fetch_and_nodes_own_client_see_the_refusal_of_an_upload(gateway, world, upload, tmp_path):
    script = tmp_path / "fetch.js"
    script.write_text(FETCH)
    answer = run(["node", str(script), str(gateway.port), str(upload), str(MANY)], 60, env=os.environ | {"NODE_EXTRA_CA_CERTS": world.ca})
    assert answer.stdout.decode().strip() == f"{3 * MANY} 401 invalid_token", answer


@pytest.fixture(scope="module")
def java(tmp_path_factory):
    folder = tmp_path_factory.mktemp("java")
    subprocess.run(["ecj", "-11", "-nowarn", "-proc:none", "-d", folder, ROOT / "tests/parts/Refused.java"], check=True, timeout=60)
    (folder / "hosts").write_text("127.0.0.1 app.gw.test\n")
    return ["java", "-Xshare:auto", "-XX:TieredStopAtLevel=1", f"-Djdk.net.hosts.file={folder / 'hosts'}", "-cp", str(folder), "Refused"]


def test_javas_own_client_sees_the_refusal_of_an_upload_over_both_versions(gateway, world, upload, java):
    url = f"https://app.gw.test:{gateway.port}/upload"
    answer = run([*java, world.ca, url, str(upload), "2"], 60)
    assert answer.stdout.decode().split("\n")[:2] == ["HTTP_1_1 {401=2}", "HTTP_2 {401=2}"], answer
