"""Every metric moves by what its help says: a table of what is done and how much each sample moves.

A metric of the reference without a row fails, and so does a row without a metric.
"""

import contextlib
import ctypes
import hashlib
import json
import os
import pathlib
import platform
import re
import signal
import socket
import ssl
import subprocess
import threading
import time

import httpx
import pytest
from support import parts
from support.gateway import ROOT, Gateway
from test_life import client, local
from test_operator import Stream
from support.recordings import Auditors
from test_signals import push, signalled
from test_tls import Sink, client_context, echo, raw_config, raw_route
from test_tls import connect as raw_connect

class Samples(dict):
    """Sample → value. `sum_of` adds all of a name whose labels hold these."""

    def __init__(self, gateway):
        for line in gateway.metrics().splitlines():
            if not line.startswith("#"):
                name, value = line.rsplit(" ", 1)
                self[name] = float(value)

    def sum_of(self, name: str, *labels: str) -> float:
        found = [v for k, v in self.items() if re.split(r"[{ ]", k)[0] == name and all(one in k for one in labels)]
        return sum(found)


def moves(gateway, do, *wanted: tuple) -> None:
    """Does it and waits until each sample (name, labels …, by) has moved by exactly that; a function judges other moves."""
    before = Samples(gateway)
    do()
    wrong = []

    def is_so():
        after = Samples(gateway)
        wrong.clear()
        for name, *labels, by in wanted:
            moved = after.sum_of(f"staunch_{name}", *labels) - before.sum_of(f"staunch_{name}", *labels)
            if not (by(moved) if callable(by) else moved == by):
                wrong.append((name, labels, by, moved))
        return not wrong

    try:
        parts.until(is_so)
    except AssertionError:
        raise AssertionError(f"did not move as they should: {wrong}") from None


def more(n):
    return n > 0


def ask(world, gateway, token, body=b""):
    with client(world) as http:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return http.post(f"https://localhost:{gateway.port}/look", headers=headers, content=body)


def one_request(world, start, tmp_path):
    """Two requests on a connection of their own, then another with the same token."""
    # Each worker remembers tokens of its own.
    gateway = start(world.config(local(world, "metric-request"), workers={"count": 1, "pin": False}))
    token = world.issuer.token()
    route = 'route="app"'

    def twice():
        # A body that comes with the first bytes of a connection counts, too.
        with client(world) as http:
            for body in (b"x" * 1000, b""):
                headers = {"Authorization": f"Bearer {token}"}
                assert http.post(f"https://localhost:{gateway.port}/look", headers=headers, content=body).status_code == 200

    moves(
        gateway, twice,
        ("accepted_total", 1), ("sessions_opened_total", 1), ("sessions_closed_total", 'reason="done"', route, 1),
        ("sessions", 0), ("handshakes_total", 'leg="client"', 1), ("handshakes_total", 'leg="upstream"', 1),
        ("handshake_seconds_count", 'leg="client"', 1), ("dial_seconds_count", route, 1),
        ("first_byte_seconds_count", route, 2), ("permitted_total", route, 2), ("requests_total", 'status="2xx"', route, 2),
        ("requests_in_flight", 0), ("bytes_total", 'direction="up"', route, lambda n: 1000 <= n < 3000), ("bytes_total", 'direction="down"', route, more),
        ("records_total", 'direction="up"', route, more), ("records_total", 'direction="down"', route, more),
        ("bytes_total", 'route=""', 0), ("relay_polls_total", more), ("token_cache_total", 'outcome="miss"', 1),
        ("log_lines_total", lambda n: n >= 4), ("log_failing", 0), ("refused_total", 0),
    )  # fmt: skip
    # Lines of the start may wait when the first look is taken.
    parts.until(lambda: Samples(gateway).sum_of("staunch_log_waiting_bytes") == 0)
    moves(gateway, lambda: ask(world, gateway, token), ("token_cache_total", 'outcome="hit"', 1), ("permitted_total", 1))
    now = Samples(gateway)
    assert now.sum_of("staunch_build_info") == 1
    assert 0 < now.sum_of("staunch_process_open_descriptors") < now.sum_of("staunch_process_max_descriptors")
    assert now.sum_of("staunch_process_resident_memory_bytes") > 1 << 20
    assert abs(now.sum_of("staunch_process_start_time_seconds") - time.time()) < 60
    assert now.sum_of("staunch_certificate_not_after_seconds", route) > time.time()
    assert 0 <= now.sum_of("staunch_issuer_keys_age_seconds", 'issuer="corp"') < 60


def under_way(world, start, tmp_path):
    """A stream that goes on: its bytes count before it ends. Then the gateway drains."""
    gateway, route = Gateway(tmp_path, world.config(local(world, "metric-stream"))), 'route="app"'
    streams = []
    moves(
        gateway, lambda: streams.append(Stream(world, gateway, world.issuer.token())),
        ("sessions", 1), ("requests_in_flight", route, 1), ("bytes_total", 'direction="down"', route, more),
        ("records_total", 'direction="down"', route, more), ("requests_total", 0), ("sessions_closed_total", 0),
    )  # fmt: skip
    moves(gateway, lambda: gateway.process.popen.send_signal(signal.SIGTERM), ("draining", 1))
    gateway.process.stop()


def refusals(world, start, tmp_path):
    """No token; a group that no rule has; what is not TLS; a handshake that fails."""
    gateway, route = start(world.config(local(world, "metric-refused"))), 'route="app"'
    moves(gateway, lambda: ask(world, gateway, None), ("refused_total", 'reason="no_token"', route, 1), ("permitted_total", 0), ("requests_total", 0))
    outsider = world.issuer.token(parts.STRANGER)
    moves(gateway, lambda: ask(world, gateway, outsider), ("refused_total", 'reason="forbidden"', route, 1))

    def plain():
        with socket.create_connection(("127.0.0.1", gateway.port)) as tcp:
            tcp.sendall(b"GET / HTTP/1.1\r\n\r\n")
            tcp.recv(1000)

    moves(gateway, plain, ("not_tls_total", 'kind="http"', 1), ("sessions_closed_total", 'reason="not_tls"', 'route=""', 1))

    def distrusting():
        with pytest.raises(ssl.SSLError), socket.create_connection(("127.0.0.1", gateway.port)) as tcp:
            ssl.create_default_context().wrap_socket(tcp, server_hostname="localhost")

    moves(gateway, distrusting, ("handshakes_failed_total", 'leg="client"', 1))


def reloads(world, start, tmp_path):
    gateway = start(world.config(local(world, "metric-reload")))
    good = gateway.path.read_text()
    hang_up = lambda: gateway.process.popen.send_signal(signal.SIGHUP)
    moves(gateway, hang_up, ("reload_success", 1), ("reload_time_seconds", more))

    def bad():
        gateway.path.write_text(good + "\nnonsense = 1\n")
        hang_up()

    moves(gateway, bad, ("reload_success", -1))


def honeytoken(world, start, tmp_path):
    laid = world.issuer.token()
    honey = [{"name": "laid out", "token_sha256": hashlib.sha256(laid.encode()).hexdigest(), "action": "watch"}]
    gateway = start(world.config(local(world, "metric-honey")) | {"honeytoken": honey})
    moves(gateway, lambda: ask(world, gateway, laid), ("alarms_total", 1), ("permitted_total", 1))


def security_event(world, start, tmp_path):
    transmitter_less = start(signalled(world, "metric-signals"))
    moves(
        transmitter_less, lambda: push(transmitter_less, "no.such.event"),
        ("security_events_total", 'outcome="refused"', 1), ("security_events_total", 'outcome="revoked"', 0),
    )  # fmt: skip


def masked(world, start, tmp_path):
    chain, key = world.authority.leaf("metric-masked", ["localhost"])
    route = world.route("app", world.hypercorn_port, sni="localhost", certificate={"chain": chain, "key": key}, mask={"down": ["all"]})
    gateway = start(world.config(route, mask=[{"name": "all", "detect": ["personal", "keys"], "members": ["pin"]}]))
    card = {"model": "m", "messages": [{"role": "system", "content": json.dumps(["Pay 4111 1111 1111 1111 now"])}]}

    def speak():
        with client(world) as http:
            headers = {"Authorization": f"Bearer {world.issuer.token()}"}
            answer = http.post(f"https://localhost:{gateway.port}/v1/chat/completions", json=card, headers=headers)
            assert "4111 1111" not in answer.text, answer.text

    of = ('route="app"', 'direction="down"')
    moves(
        gateway, speak,
        ("masked_total", *of, 'rule="card"', 1), ("mask_hold_limit_total", *of, 0), ("mask_unmaskable_total", *of, 0),
    )  # fmt: skip


def unmaskable(world, start, tmp_path):
    """A request whose body no mask can read."""
    chain, key = world.authority.leaf("metric-unmaskable", ["localhost"])
    certificate = {"chain": chain, "key": key}
    route = world.route("app", world.hypercorn_port, sni="localhost", certificate=certificate, mask={"down": ["all"], "up": ["all"]})
    gateway = start(world.config(route, mask=[{"name": "all", "detect": ["personal"]}]))

    def compressed():
        with client(world) as http:
            headers = {"Authorization": f"Bearer {world.issuer.token()}", "Content-Encoding": "gzip"}
            assert http.post(f"https://localhost:{gateway.port}/look", headers=headers, content=b"x").status_code == 415

    moves(
        gateway, compressed, ("mask_unmaskable_total", 'route="app"', 'direction="up"', 1), ("mask_unmaskable_total", 'direction="down"', 0),
        ("refused_total", 'reason="unmaskable"', 'route="app"', 1), ("masked_total", 0),
    )  # fmt: skip


def handed_off(world, start, tmp_path):
    """The kernel spreads connections by hash; whoever has more of them than others hands some on."""
    gateway = start(raw_config(world, raw_route(world, Sink(world, echo).port)) | {"workers": {"count": 4, "pin": False}})
    context, live = client_context(world, world.authority.leaf("handed on", ["ann.clients.test"])), []

    def many():
        for _ in range(40):
            connection = raw_connect(gateway, context)
            connection.sendall(b"x")
            assert connection.recv(1) == b"x"
            live.append(connection)

    moves(gateway, many, ("accepted_total", 40), ("handed_off_total", more), ("sessions", 40))
    [connection.close() for connection in live]


def dialled_ahead(world, start, tmp_path):
    """A request takes the connection that stood; the one that stands in its place is given up when nobody comes."""
    chain, key = world.authority.leaf("metric-ahead", ["localhost"])
    route = world.route("app", world.hypercorn_port, sni="localhost", certificate={"chain": chain, "key": key}, dial_ahead=1)
    gateway = start(world.config(route, workers={"count": 1, "pin": False}))
    token = world.issuer.token()
    ask(world, gateway, token)
    # The first dials for itself, and has another stand behind it.
    parts.until(lambda: Samples(gateway).sum_of("staunch_handshakes_total", 'leg="upstream"') >= 2)
    moves(gateway, lambda: ask(world, gateway, token), ("dialled_ahead_total", 'used="true"', 1), ("requests_total", 'status="2xx"', 1))


def recorded(world, start, tmp_path):
    """Sessions in segments of the smallest size; then the disk is full."""
    disk = tmp_path / "disk"
    disk.mkdir(mode=0o700)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=14m,mode=700", "tmpfs", str(disk)], check=True)
    try:
        section = Auditors(tmp_path / "auditors").section(directory=str(disk / "recordings"), segment_size="4MiB")
        gateway = start(world.config(local(world, "metric-recorded"), workers={"count": 1, "pin": False}, recording=section))
        token, body = world.issuer.token(), os.urandom(900_000)

        def speak():
            for _ in range(6):
                assert ask(world, gateway, token, body).status_code == 200

        moves(
            gateway, speak, ("recording_sessions_total", 'recorded="yes"', 6), ("recording_written_bytes_total", lambda n: n > 6 * len(body)),
            ("recording_segments_total", more), ("recording_refused_total", 0),
        )  # fmt: skip

        def fill():
            with contextlib.suppress(httpx.HTTPError, OSError):
                for _ in range(40):
                    ask(world, gateway, token, body)

        moves(gateway, fill, ("recording_refused_total", more), ("recording_failing", 'what="space"', 1))
        gateway.stop()
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def stalled(world, start, tmp_path):
    """A worker's thread is held for longer than a second while it has work, and let go."""
    gateway = start(raw_config(world, raw_route(world, Sink(world, echo).port)) | {"workers": {"count": 1, "pin": False}})
    tasks = pathlib.Path(f"/proc/{gateway.process.popen.pid}/task")
    [worker] = [task.name for task in tasks.iterdir() if (task / "comm").read_text() == "worker-0\n"]
    libc = ctypes.CDLL(None, use_errno=True)
    libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
    live, over = raw_connect(gateway, client_context(world, world.authority.leaf("busy", ["ann.clients.test"]))), threading.Event()

    def talk():
        with contextlib.suppress(OSError):
            while not over.is_set():
                live.sendall(bytes(65_536))
                got = 0
                while got < 65_536:
                    got += len(live.recv(65_536)) or 65_536

    def trace(request):
        assert libc.ptrace(request, int(worker), None, None) == 0, os.strerror(ctypes.get_errno())

    def hold():
        threading.Thread(target=talk, daemon=True).start()
        # On a machine that has other work it is seldom met awake.
        patience = time.monotonic() + 60
        while time.monotonic() < patience:
            time.sleep(0.003)
            trace(PTRACE_SEIZE)
            trace(PTRACE_INTERRUPT)
            os.waitpid(int(worker), WAIT_ALL)
            # One that sleeps until there is work is not stalled.
            is_asleep = (tasks / worker / "syscall").read_text().split()[0] in EPOLL_WAITS
            if not is_asleep:
                time.sleep(1.8)
            trace(PTRACE_DETACH)
            if not is_asleep:
                return
        raise AssertionError("the worker had no work")

    try:
        moves(gateway, hold, ("worker_stalls_total", 1))
        assert 0 < Samples(gateway).sum_of("staunch_sessions"), "it goes on"
    finally:
        over.set()
        live.close()


EPOLL_WAITS = {"232", "281"} if platform.machine() == "x86_64" else {"22"}
# ptrace(2), waitpid(2).
PTRACE_SEIZE, PTRACE_INTERRUPT, PTRACE_DETACH, WAIT_ALL = 0x4206, 0x4207, 17, 0x40000000


# What is done, and the metrics that it moves.
DEEDS = {
    one_request: """accepted_total sessions_opened_total sessions handshakes_total handshake_seconds dial_seconds first_byte_seconds
        permitted_total requests_total bytes_total records_total relay_polls_total token_cache_total log_lines_total
        log_waiting_bytes build_info process_open_descriptors process_max_descriptors process_resident_memory_bytes
        process_start_time_seconds certificate_not_after_seconds issuer_keys_age_seconds""",
    under_way: "requests_in_flight draining",
    refusals: "refused_total not_tls_total handshakes_failed_total sessions_closed_total",
    reloads: "reload_success reload_time_seconds",
    honeytoken: "alarms_total",
    security_event: "security_events_total",
    masked: "masked_total",
    unmaskable: "mask_unmaskable_total",
    handed_off: "handed_off_total",
    dialled_ahead: "dialled_ahead_total",
    recorded: "recording_sessions_total recording_written_bytes_total recording_segments_total recording_refused_total",
    stalled: "worker_stalls_total",
}  # fmt: skip

# Metrics that need a fault or a peer of their own: the test that brings it about, and holds the metric against it.
ELSEWHERE = {
    "accept_errors_total": "tests/e2e/test_life.py", "limits_total": "tests/e2e/test_limits.py",
    "key_updates_total": "tests/relay.rs", "plaintext_upstream_total": "tests/plaintext_upstream.rs",
    "mask_hold_limit_total": "tests/e2e/test_masking.py", "trace_spans_total": "tests/e2e/test_traces.py", "log_dropped_lines_total": "tests/e2e/test_log.py",
    "log_failing": "tests/e2e/test_log.py", "log_stalls_total": "tests/e2e/test_log.py", "log_errors_total": "tests/e2e/test_log.py",
    "recording_damaged_segments_total": "tests/e2e/test_recording_faults.py",
    "recording_lost_bytes_total": "tests/e2e/test_recording_faults.py",
    "recording_disk_stalls_total": "tests/e2e/test_recording_faults.py",
    "recording_witness_requests_total": "tests/e2e/test_recording_witness.py",
    "recording_witness_entries": "tests/e2e/test_recording_witness.py",
    "recording_witness_last_timestamp_seconds": "tests/e2e/test_recording_witness.py",
    "recording_timestamp_requests_total": "tests/e2e/test_recording_timestamps.py",
    "recording_timestamp_entries": "tests/e2e/test_recording_timestamps.py",
    "recording_timestamp_last_timestamp_seconds": "tests/e2e/test_recording_timestamps.py",
    "recording_failing": "tests/e2e/test_recording.py", "acme_certificate": "tests/e2e/test_acme.py",
    "acme_failures": "tests/e2e/test_acme.py", "acme_next_attempt_seconds": "tests/e2e/test_acme.py",
    "memory_limit_bytes": "tests/e2e/test_limits.py", "memory_used_bytes": "tests/e2e/test_limits.py",
}  # fmt: skip


@pytest.mark.parametrize("deed", DEEDS, ids=lambda deed: deed.__name__)
def test_what_is_done_moves_its_metrics_by_what_their_help_says(world, start, tmp_path, deed):
    deed(world, start, tmp_path)


def test_every_metric_of_the_reference_has_a_row():
    reference = set(re.findall(r"^\| `staunch_(\w+)` \|", (ROOT / "config/reference.md").read_text(), re.M))
    rows = [name for names in DEEDS.values() for name in names.split()] + list(ELSEWHERE)
    assert sorted(rows) == sorted(reference), set(rows) ^ reference
    for name, place in ELSEWHERE.items():
        assert f"staunch_{name}" in pathlib.Path(ROOT / place).read_text(), f"{place} does not look at {name}"
