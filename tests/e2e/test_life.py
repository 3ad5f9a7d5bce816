"""A gateway's life: reload, drain, stop, shortages, and the command line."""

import os
import re
import resource
import signal
import socket
import ssl
import subprocess
import threading
import time

import httpx
import pytest
from support import parts
from support.gateway import BINARY, staunch
from support.process import Process, free_port
from test_http2 import Grpc
from test_tls import Sink, client_context, connect, echo, pairs, raw_config, raw_route


def local(world, folder_name="local"):
    """A route that plain clients reach as https://localhost."""
    chain, key = world.authority.leaf(folder_name, ["localhost"])
    return world.route("app", world.hypercorn_port, sni="localhost", certificate={"chain": chain, "key": key})


def client(world, **more):
    return httpx.Client(verify=ssl.create_default_context(cafile=world.ca), timeout=20, **more)


class Traffic(threading.Thread):
    """Requests one after another, each on a new connection, until it is stopped."""

    def __init__(self, world, gateway, token):
        super().__init__(daemon=True)
        self.world, self.url, self.token = world, f"https://localhost:{gateway.port}/look", token
        self.done, self.failed, self.stopping = 0, [], False
        self.start()

    def run(self):
        while not self.stopping:
            try:
                with client(self.world) as http:
                    for _ in range(3):
                        answer = http.get(self.url, headers={"Authorization": f"Bearer {self.token()}"})
                        if answer.status_code != 200:
                            self.failed.append(answer.text)
                        self.done += 1
            except httpx.HTTPError as error:
                self.failed.append(repr(error))

    def finish(self) -> int:
        self.stopping = True
        self.join(20)
        assert self.failed == [], self.failed[:3]
        return self.done


def test_keys_rotate_while_traffic_runs_and_a_dead_issuer_harms_nobody(world, start):
    gateway = start(world.config(local(world, "rotate")))
    tokens = [world.issuer.token()]
    traffic = Traffic(world, gateway, lambda: tokens[-1])
    parts.until(lambda: traffic.done > 5)
    world.issuer.rotate()
    tokens.append(world.issuer.token())
    done = traffic.done
    parts.until(lambda: traffic.done > done + 5)
    world.issuer.stop()
    done = traffic.done
    parts.until(lambda: traffic.done > done + 10)
    world.issuer.start()
    assert traffic.finish() > 20


def test_reload_swaps_whole_and_keeps_the_old_when_the_new_is_bad(world, start):
    gateway = start(world.config(local(world, "reload")))
    token = world.issuer.token()
    traffic = Traffic(world, gateway, lambda: token)
    good = gateway.path.read_text()
    for n in range(20):
        if n % 2:
            gateway.path.write_text(good.replace("agents", "others") + "\n[nonsense]\nx = 1\n")
        gateway.signal(signal.SIGHUP)
        time.sleep(0.05)
        gateway.path.write_text(good)
    assert traffic.finish() > 5
    assert any("reload refused" in str(line) for line in gateway.lines())
    # A good change takes effect for new connections.
    gateway.path.write_text(good.replace('"agents"', '"nobody"'))
    gateway.signal(signal.SIGHUP)

    def refused():
        with client(world) as http:
            answer = http.get(f"https://localhost:{gateway.port}/look", headers={"Authorization": f"Bearer {token}"})
            return answer.status_code == 403

    parts.until(refused)
    assert "staunch_reload" in gateway.metrics()


def test_term_lets_streams_finish_and_then_exits_0(world, start):
    gateway = start(world.config(local(world, "drain")))
    with client(world) as http:
        fields = {"Authorization": f"Bearer {world.issuer.token()}"}
        with http.stream("GET", f"https://localhost:{gateway.port}/events?20", headers=fields) as answer:
            lines = answer.iter_lines()
            got = [next(lines)]
            gateway.signal(signal.SIGTERM)
            parts.until(lambda: gateway.get("/readyz") == 503)
            with pytest.raises(ConnectionError):
                socket.create_connection(("127.0.0.1", gateway.port), 1)
            got += list(lines)
    assert [line for line in got if line] == [f"data: {n}" for n in range(20)]
    assert gateway.process.popen.wait(10) == 0


def test_term_lets_an_open_grpc_stream_finish(world, start):
    gateway = start(world.config(world.route("grpc", world.grpc_port)))
    with Grpc(gateway, world, world.issuer.token()) as rpc:
        running = rpc.stream(b"40", metadata=rpc.metadata, timeout=20)
        got = [next(running)]
        gateway.signal(signal.SIGTERM)
        parts.until(lambda: gateway.get("/readyz") == 503)
        got += list(running)
        assert got == [str(n).encode() for n in range(40)]
        # Its last stream is over: the connection must not keep the gateway, though the channel is still open.
        assert gateway.process.popen.wait(10) == 0
    assert gateway.line("session closed")["reason"] == "done"


def test_term_lets_an_http2_stream_finish(world, start):
    gateway = start(world.config(world.route("app", world.hypercorn_port)))
    name = "app.gw.test"
    command = [
        "curl", "-sSN", "--http2", "--cacert", world.ca, "--connect-to", f"{name}:443:127.0.0.1:{gateway.port}",
        "-H", f"Authorization: Bearer {world.issuer.token()}", "-w", "%{http_version}", f"https://{name}/events?20",
    ]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as curl:
        got = curl.stdout.readline()
        gateway.signal(signal.SIGTERM)
        rest, said = curl.communicate(timeout=20)
    assert curl.returncode == 0, said
    lines = [line for line in (got + rest).decode().split("\n") if line]
    assert lines == [f"data: {n}" for n in range(20)] + ["2"]
    assert gateway.process.popen.wait(10) == 0


@pytest.mark.parametrize("again", [signal.SIGTERM, signal.SIGINT, None])
def test_the_deadline_or_a_second_signal_cuts_what_lives_and_exits_1(world, start, pairs, again):
    config = raw_config(world, raw_route(world, Sink(world, echo).port))
    gateway = start(config | {"limits": {"drain": "1s" if again is None else "60s"}})
    with connect(gateway, client_context(world, pairs["ann"])) as connection:
        connection.sendall(b"x")
        assert connection.recv(1) == b"x"
        began = time.monotonic()
        gateway.signal(signal.SIGTERM)
        if again is not None:
            time.sleep(0.3)
            gateway.signal(again)
        assert gateway.process.popen.wait(10) == 1
        assert time.monotonic() - began < 5
        # Cut must not look like an end.
        with pytest.raises(OSError):
            left = connection.recv(1)
            pytest.fail(f"{left!r} instead of a cut")
    assert gateway.line("session closed", reason="drained")["culprit"] == "gateway"


def test_a_worker_that_polls_busily_sleeps_when_its_sessions_are_still(world, start, pairs):
    config = raw_config(world, raw_route(world, Sink(world, echo).port))
    config["workers"] = {"count": 1, "pin": False, "busy_poll": "100ms"}
    gateway = start(config)

    def ticks(work, seconds):
        cpu = lambda: sum(map(int, open(f"/proc/{gateway.process.popen.pid}/stat").read().split()[13:15]))
        used, end = cpu(), time.monotonic() + seconds
        while time.monotonic() < end:
            work()
        return cpu() - used

    with connect(gateway, client_context(world, pairs["ann"])) as connection:
        def talk():
            connection.sendall(b"x")
            assert connection.recv(1) == b"x"
            time.sleep(0.01)

        talk()
        # Of 100 ticks. Others want a core as well.
        assert ticks(talk, 1) > 30, "it sleeps between two messages"
        time.sleep(0.2)
        assert ticks(lambda: time.sleep(0.1), 1) < 20, "it stays awake for a session that is still"
        talk()


def test_out_of_descriptors_it_pauses_and_recovers(world, start, pairs):
    def few():
        resource.setrlimit(resource.RLIMIT_NOFILE, (80, 80))

    config = raw_config(world, raw_route(world, Sink(world, echo).port))
    config["workers"] = {"count": 1, "pin": False}
    gateway = start(config | {"limits": {"connections": 10_000, "half_open_per_address": 0}}, preexec_fn=few)
    with connect(gateway, client_context(world, pairs["ann"])) as living:
        crowd = [socket.create_connection(("127.0.0.1", gateway.port), 5) for _ in range(100)]
        living.sendall(b"still here")
        assert living.recv(100) == b"still here"
        cpu = lambda: sum(map(int, open(f"/proc/{gateway.process.popen.pid}/stat").read().split()[13:15]))
        used = cpu()
        time.sleep(1)
        assert cpu() - used < 50, "it spins"
        for one in crowd:
            one.close()
        began = time.monotonic()

        def served():
            try:
                with connect(gateway, client_context(world, pairs["ann"])) as connection:
                    connection.sendall(b"x")
                    return connection.recv(1) == b"x"
            except OSError:
                return False

        parts.until(served)
        assert time.monotonic() - began < 8
    assert 'staunch_accept_errors_total{kind="descriptors"}' in gateway.metrics()


def test_the_operator_sees_health_and_metrics(world, start):
    gateway = start(world.config(local(world, "operator")))
    assert gateway.get("/healthz") == 200
    limits = open(f"/proc/{gateway.process.popen.pid}/limits").read()
    assert [line.split()[4] for line in limits.splitlines() if line.startswith("Max core file")] == ["0"]
    with client(world) as http:
        http.get(f"https://localhost:{gateway.port}/look", headers={"X-Api-Key": world.issuer.token()})
    text = parts.until(lambda: "staunch_requests_total" in gateway.metrics() and gateway.metrics())
    for name in ("staunch_sessions", "staunch_handshake_seconds_bucket", "staunch_certificate", "staunch_build_info"):
        assert name in text, name
    rebound = httpx.get(f"http://127.0.0.1:{gateway.admin}/metrics", headers={"Host": "evil.example"})
    assert rebound.status_code == 421


def test_a_second_gateway_on_a_taken_port_refuses_to_start_and_names_who_has_it(world, start, tmp_path):
    first = start(world.config(local(world, "first")))
    for own, foreign in (("port", "admin"), ("admin", "port")):
        text = first.path.read_text()
        # The other address of the second is its own.
        text = text.replace(f":{getattr(first, foreign)}", f":{free_port()}")
        path = first.folder / f"second-{own}.toml"
        path.write_text(text)
        answer = staunch("serve", "--config", str(path), seconds=20)
        said = answer.stderr.decode()
        assert answer.returncode == 1, said
        assert f"127.0.0.1:{getattr(first, own)}" in said, said
        assert f"process {first.process.popen.pid} (" in said, said
    assert first.get("/readyz") == 200


def test_check_reports_every_fault_with_its_line(world, tmp_path):
    path = tmp_path / "bad.toml"
    path.write_text('[[listener]]\naddres = "x"\naddress = "nowhere"\n[[route]]\nname = "a"\n')
    answer = staunch("check", "--config", str(path))
    text = answer.stderr.decode()
    assert answer.returncode == 1
    assert f"{path}:2: unknown key `addres`" in text and "`address`" in text
    assert staunch("serve").returncode == 2
    assert staunch("check", "--config", "/nonexistent").returncode == 1


def test_the_demo_is_as_told():
    answer = staunch("demo", "--once")
    assert answer.returncode == 0, answer.stdout.decode()
    assert b"every step passed its check" in answer.stdout
    folder = re.search(rb"files\s+(\S+)", answer.stdout)
    assert folder and not os.path.exists(folder[1]), "the demo left its folder behind"


def test_a_demo_that_is_ended_within_its_tour_says_so(tmp_path):
    demo = Process([BINARY, "demo"], tmp_path / "demo.txt", start_new_session=True)
    try:
        parts.until(lambda: demo.children() and "files" in demo.text())
    finally:
        # Mostly before the gateway listens: what the tour waits for then never comes.
        code = demo.stop(signal.SIGTERM, seconds=5)
    assert code == 130, demo.text()
    assert demo.text().endswith("ended before the tour was over\n"), demo.text()
    assert not os.path.exists(re.search(r"files\s+(\S+)", demo.text())[1]), "the demo left its folder behind"


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_demo_that_is_ended_puts_its_files_away_and_stops_its_gateway(tmp_path, how):
    """Whoever stops processes tells the demo alone: the gateway beside it must hear of it."""
    demo = Process([BINARY, "demo"], tmp_path / "demo.txt", start_new_session=True)
    try:
        parts.until(lambda: "https://model.localhost" in demo.text().partition("Ctrl-C ends the demo")[2])
        folder = re.search(r"files\s+(\S+)", demo.text())[1]
        gateways = demo.children()
        assert len(gateways) == 1 and os.path.exists(folder)
    finally:
        code = demo.stop(how)
    assert code == 0
    assert not os.path.exists(folder), "the demo left its folder behind"
    assert not os.path.exists(f"/proc/{gateways[0]}"), "the demo left its gateway behind"
