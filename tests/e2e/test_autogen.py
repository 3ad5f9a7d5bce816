"""AutoGen, unchanged: a team whose model stands behind the gateway, and the distributed runtime through two gateways."""

import json
import os
import signal
import subprocess

import pytest
from conftest import check_log
from support import parts
from support.gateway import KEY, Gateway
from support.login import Home
from support.parts import HERE, TOOLS, until
from support.process import Process, free_port

PYTHON = TOOLS / "autogen/bin/python"


def autogen(script, *arguments, env={}, seconds=90):
    """Runs one of the programs to its end, and returns what it printed."""
    if not PYTHON.exists():
        raise RuntimeError("missing: autogen (PyPI's autogen-agentchat and autogen-ext; tests/run installs them)")
    done = subprocess.run(
        [str(PYTHON), str(HERE / script), *arguments], env=os.environ | env, capture_output=True, text=True, timeout=seconds
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout.splitlines()[-1])


class Edge:
    """A gateway that people reach, one beside AutoGen's host that only the first may use, and somebody who is logged in."""

    def __init__(self, world, folder):
        self.world = world
        pair = lambda name, names: dict(zip(("chain", "key"), world.authority.leaf(name, names), strict=True))
        self.host_port = free_port()
        beside = {
            "name": "host", "sni": "localhost", "hosts": ["127.0.0.1"], "protocol": "http", "alpn": "h2",
            "upstream": f"tcp://127.0.0.1:{self.host_port}", "unsafe_plaintext_upstream": True,
            "certificate": pair("autogen-beside", ["localhost"]),
            "client_certificates": "required", "client_ca": world.ca, "token_slots": [],
            "certificate_identity": {"name": "gateways", "subject": ["dns"]},
            "allow": [{"issuer": "gateways", "subjects": ["edge.test"]}],
        }  # fmt: skip
        (folder / "beside").mkdir()
        self.beside = Gateway(folder / "beside", {"route": [beside], "workers": {"count": 1, "pin": False}})
        model = world.route("model", world.hypercorn_port, sni="localhost")
        model["certificate"] = pair("autogen-edge", ["localhost", "tunnel.gw.test"])
        agents = {
            "name": "agents", "protocol": "http", "alpn": "h2",
            "upstream": {
                "address": f"tls://127.0.0.1:{self.beside.port}", "sni": "localhost", "ca": world.ca,
                "certificate": pair("autogen-client", ["edge.test"]),
            },
            "allow": [{"issuer": "corp", "groups": ["agents"]}],
        }  # fmt: skip
        tunnel = {"sni": "tunnel.gw.test", "certificate": model["certificate"]}
        (folder / "edge").mkdir()
        self.edge = Gateway(folder / "edge", world.config(model, agents, tunnel=tunnel))
        self.home = Home(folder, world)
        self.home.env["CI_SECRET"] = "secret"
        self.log_in(parts.ANN)
        self.folder, self.running = folder, []

    def log_in(self, who, *more):
        self.home.run("login", *self.home.at(who), "--client-credentials", "--client-secret", "env:CI_SECRET", *more)

    def arguments(self, *routes):
        at = ["--gateway", "tunnel.gw.test", "--connect-to", f"127.0.0.1:{self.edge.port}", "--ca", self.world.ca]
        return ["connect", *at, *routes]

    def connect(self, route):
        """Where `staunch connect` serves the route."""
        port = free_port()
        begun = self.home.begin(*self.arguments(f"{route}={port}"))
        self.running.append(begun)
        until(lambda: f"127.0.0.1:{port}" in begun.text() or begun.popen.poll())
        assert begun.popen.poll() is None, begun.text()
        return f"127.0.0.1:{port}"

    def start(self, role, address):
        log = self.folder / f"{role}.log"
        process = Process([str(PYTHON), str(HERE / "autogen_runtime.py"), role, address], log)
        until(lambda: "up" in process.text() or process.popen.poll() is not None)
        assert process.popen.poll() is None, process.text()
        return process

    def stop(self):
        for begun in self.running:
            begun.popen.send_signal(signal.SIGTERM)
            assert begun.ended(40) == 0, begun.text()
        for gateway in (self.edge, self.beside):
            assert gateway.stop() == 0, gateway.process.text()
            check_log(gateway)


@pytest.fixture(scope="module")
def edge(world, tmp_path_factory):
    edge = Edge(world, tmp_path_factory.mktemp("autogen"))
    yield edge
    edge.stop()


def whole_and_in_pieces(told):
    assert [source for source, _ in told["messages"]] == ["user", "writer", "critic"]
    assert all(text == "Bytes move in place." for _, text in told["messages"][1:])
    times = [at for source, _, at in told["pieces"] if source == "writer"]
    # The model sends five words, 50 ms apart.
    assert len(times) == 5 and times[-1] - times[0] > 0.15, times


def test_a_teams_output_streams_with_a_token_for_a_key(edge, world):
    token = world.issuer.token()
    url = f"https://localhost:{edge.edge.port}/v1"
    whole_and_in_pieces(autogen("autogen_team.py", url, token, env={"SSL_CERT_FILE": world.ca}))
    line = edge.edge.line("request", route="model", path="/v1/chat/completions")
    assert (line["verdict"], line["subject"]) == ("permitted", parts.ANN)


def test_a_team_without_tls_and_token_through_connect(edge):
    address = edge.connect("model")
    whole_and_in_pieces(autogen("autogen_team.py", f"http://{address}/v1", "none"))
    assert edge.edge.line("session closed", route="model", tunnel=True, requests=2)["subject"] == parts.ANN


def test_the_distributed_runtime_crosses_two_gateways(edge):
    host = edge.start("host", f"127.0.0.1:{edge.host_port}")
    worker = edge.start("worker", edge.connect("agents"))
    try:
        told = autogen("autogen_runtime.py", "asker", edge.connect("agents"))
        assert told["answers"] == [f"QUESTION {n}" for n in range(20)]
        assert told["news"] == sorted(f"heard news {n}" for n in range(20))
    finally:
        assert worker.stop() == 0, worker.text()
        assert host.stop() == 0, host.text()
    line = edge.edge.line("request", route="agents", kind="grpc")
    assert line["subject"] == parts.ANN and line["path"].startswith("/agents.AgentRpc/")
    # The hop beside the host is what it is, and says so; the one before it is not.
    hop = edge.beside.line("session closed", route="host")
    assert hop["upstream_version"].startswith("none") and hop["client_version"] == "TLSv1.3"
    assert (hop["proof"], hop["subject"]) == ("certificate", "edge.test")
    assert edge.edge.line("session closed", route="agents", upstream_version="TLSv1.3")["tunnel"] is True
    assert KEY not in edge.beside.process.text()


def test_whoever_may_not_is_told_before_anything_runs(edge):
    edge.log_in(parts.STRANGER, "--profile", "stranger")
    told = edge.home.run(*edge.arguments("agents", "--profile", "stranger"), code=1).stderr
    assert "route agents" in told and "forbidden" in told
