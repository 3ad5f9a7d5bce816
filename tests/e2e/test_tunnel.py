"""The tunnel with a client that knows it as an HTTPS proxy: curl."""

import json

import pytest
from conftest import check_log
from support.gateway import KEY, Gateway
from support.process import run


@pytest.fixture(scope="module")
def tunnelled(world, tmp_path_factory):
    """Routes without names of their own, and one with."""

    def nameless(name, port):
        route = world.route(name, port)
        del route["sni"], route["certificate"]
        return route

    routes = [nameless("app", world.hypercorn_port), nameless("api", world.nginx_port)]
    raw = nameless("raw", world.nginx_port) | {"protocol": "raw"}
    del raw["inject"]
    certified = world.route("opt", world.nginx_port, client_certificates="required", client_ca=world.ca)
    config = world.config(*routes, raw, certified, tunnel=world.tunnel())
    gateway = Gateway(tmp_path_factory.mktemp("tunnel"), config)
    yield gateway
    assert gateway.stop() == 0, gateway.process.text()
    check_log(gateway)


def curl(gateway, world, url, *arguments, token=None):
    proxy = f"https://tunnel.gw.test:{gateway.port}"
    command = ["curl", "-sS", "--proxytunnel", "-x", proxy, "--proxy-cacert", world.ca]
    command += ["--resolve", f"tunnel.gw.test:{gateway.port}:127.0.0.1"]
    if token:
        command += ["--proxy-header", f"Proxy-Authorization: Bearer {token}"]
    return run([*command, *arguments, url], 30)


def test_requests_inside_have_the_stored_key_whatever_the_client_sends(tunnelled, world):
    token = world.issuer.token()
    answer = curl(tunnelled, world, "http://app/look", "-H", "Authorization: Bearer dummy", token=token)
    seen = json.loads(answer.stdout)
    assert seen["headers"]["authorization"] == f"Bearer {KEY}", answer.stderr
    assert token not in answer.stdout.decode()
    line = tunnelled.line("session closed", route="app")
    assert (line["tunnel"], line["proof"], line["issuer"], line["requests"]) == (True, "token", "corp", 1)
    opened = tunnelled.line("session opened", session=line["session"])
    assert (opened["tunnel"], opened["sni"]) == (True, "tunnel.gw.test")


def test_http_2_with_prior_knowledge(tunnelled, world):
    answer = curl(tunnelled, world, "http://api/hello.txt", "--http2-prior-knowledge", token=world.issuer.token())
    assert answer.stdout == b"hello from nginx\n", answer.stderr
    assert tunnelled.line("request", path="/hello.txt", http="2")["status"] == 200


def test_a_raw_route_carries_plain_http_without_looking(tunnelled, world):
    answer = curl(tunnelled, world, "http://raw/hello.txt", token=world.issuer.token())
    assert answer.stdout == b"hello from nginx\n", answer.stderr


@pytest.mark.parametrize(
    ("target", "token", "status"),
    [("nowhere", True, 403), ("127.0.0.1", True, 403), ("opt", True, 403), ("app", False, 407)],
)
def test_refusals(tunnelled, world, target, token, status):
    answer = curl(tunnelled, world, f"http://{target}/", token=world.issuer.token() if token else None)
    assert answer.returncode == 56 and f"response {status}" in answer.stderr.decode(), answer.stderr


def test_somebody_else_is_not_let_in(tunnelled, world):
    answer = curl(tunnelled, world, "http://app/look", token=world.issuer.forged())
    assert "response 407" in answer.stderr.decode()


def test_the_tunnels_certificate_is_watched(tunnelled):
    assert 'staunch_certificate_not_after_seconds{route="tunnel:tunnel.gw.test"}' in tunnelled.metrics()
