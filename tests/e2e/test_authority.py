"""Which service a request reaches: a browser that shares one connection among names, curl with another Host."""

import base64
import contextlib
import hashlib
import json
import socket
import ssl
import threading

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from support.process import run
from test_http1 import curl

SEEN = {name: {"header": "x-route", "value": f"secret-of-{name} {{secret:stored}}"} for name in "ab"}


@pytest.fixture
def gateway(world, start):
    """Two routes under one wildcard certificate and one listener."""
    chain, key = world.authority.leaf("wild", ["*.wild.test"])
    routes = [
        world.route(name, world.hypercorn_port)
        | {"sni": f"{name}.wild.test", "certificate": {"chain": chain, "key": key}, "inject": SEEN[name]}
        for name in "ab"
    ]
    gateway = start(world.config(*routes))
    gateway.certificate = chain
    return gateway


PAGE = """<pre id=out></pre><script>
const get = async name => {
  const answer = await fetch(`https://${name}.wild.test:PORT/look`, { headers: { "x-api-key": "TOKEN" } });
  return [name, answer.status, (await answer.json()).headers["x-route"].split(" ")[0]];
};
(async () => {
  let seen;
  try { seen = [await get("a"), await get("b"), await get("a")]; } catch (error) { seen = String(error); }
  document.getElementById("out").textContent = JSON.stringify(seen);
})();
</script>"""


def test_a_browser_that_coalesces_connections_gets_each_name_from_its_own_route(world, gateway, tmp_path):
    page = tmp_path / "page.html"
    page.write_text(PAGE.replace("PORT", str(gateway.port)).replace("TOKEN", world.issuer.token()))
    leaf = x509.load_pem_x509_certificate(open(gateway.certificate, "rb").read())
    public = leaf.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    pin = base64.b64encode(hashlib.sha256(public).digest()).decode()
    answer = run([
        "chromium", "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-web-security",
        f"--user-data-dir={tmp_path / 'profile'}", "--host-resolver-rules=MAP *.wild.test 127.0.0.1",
        f"--ignore-certificate-errors-spki-list={pin}", "--virtual-time-budget=15000", "--dump-dom", page.as_uri(),
    ], 90)  # fmt: skip
    seen = answer.stdout.split(b"id=\"out\">")[1].split(b"</pre>")[0]
    assert json.loads(seen) == [["a", 200, "secret-of-a"], ["b", 200, "secret-of-b"], ["a", 200, "secret-of-a"]]
    # The proof that it did share the connection, and was told.
    refused = gateway.line("request", verdict="refused", status=421)
    assert (refused["route"], refused["refusal"], refused["http"]) == ("a", "misdirected", "2"), refused


@pytest.mark.parametrize("version", ["--http1.1", "--http2"])
def test_curl_is_told_421_for_a_host_of_another_route(world, gateway, version):
    connect = f"::127.0.0.1:{gateway.port}"
    command = ["curl", "-sS", version, "--cacert", world.ca, "--connect-to", connect, "-w", " %{http_code}"]
    command += ["-H", f"Authorization: Bearer {world.issuer.token()}"]
    same = run([*command, "-H", "Host: A.wild.test:1", "https://a.wild.test/look"], 30)
    assert same.stdout.endswith(b" 200"), same.stdout
    assert b'"x-forwarded-host": "A.wild.test:1"' in same.stdout, same.stdout
    for host in ("b.wild.test", "localhost", "x.a.wild.test"):
        other = run([*command, "-H", f"Host: {host}", "https://a.wild.test/look"], 30)
        assert other.stdout.endswith(b" 421") and b'"code":"misdirected"' in other.stdout, other.stdout


@pytest.mark.parametrize("version", ["--http1.1", "--http2"])
@pytest.mark.parametrize("more", [["-X", "TRACE"], ["-X", "POST", "-H", "X-HTTP-Method-Override: TRACE"]])
def test_trace_does_not_return_the_stored_credential(world, start, version, more):
    gateway = start(world.config(world.route("app", world.hypercorn_port)))
    answer = curl(gateway, world, "app", "/look", version, "-i", *more, token=world.issuer.token())
    assert b" 405" in answer.stdout.split(b"\r\n")[0] and b'"code":"method_not_allowed"' in answer.stdout


class Named:
    """An upstream that answers with the name that TLS was begun with, and with the Host of the request."""

    def __init__(self, world):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*world.upstream_pair)
        context.sni_callback = lambda connection, name, _: self.names.append(name)
        self.names, self.hosts = [], []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.context = context
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        with contextlib.suppress(OSError):
            while True:
                plain, _ = self.listener.accept()
                with contextlib.suppress(OSError), self.context.wrap_socket(plain, server_side=True) as secure:
                    head = b""
                    while b"\r\n\r\n" not in head and (piece := secure.recv(65536)):
                        head += piece
                    self.hosts += [line[6:].decode() for line in head.split(b"\r\n") if line.lower().startswith(b"host: ")]
                    if head:
                        secure.sendall(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n")


def test_the_upstreams_host_is_the_name_that_it_is_asked_for_by(world, start):
    upstream = Named(world)
    port = upstream.port
    by_address = world.route("app", port, alpn="http/1.1")
    by_name = by_address["upstream"] | {"sni": "localhost"}
    for more, name, host in [
        ({}, None, f"127.0.0.1:{port}"),
        ({"upstream": by_name}, "localhost", f"localhost:{port}"),
        ({"upstream": by_name, "host": "keep"}, "localhost", "app.gw.test:1"),
    ]:
        gateway = start(world.config(by_address | more))
        answer = curl(gateway, world, "app", "/", "-H", "Host: app.gw.test:1", "-w", "%{http_code}", token=world.issuer.token())
        assert answer.stdout.endswith(b"204"), answer
        assert (upstream.names[-1], upstream.hosts[-1]) == (name, host), more
        gateway.stop()
    upstream.listener.close()
