"""Recordings whose disk is slow, full or broken: nothing that was not recorded has gone on, and what is lost is counted."""

import contextlib
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import threading
import time

import pytest
from support.parts import until
from support.recordings import Auditors, Recordings
from test_tls import Sink, client_context


class Parts:
    """An upstream that sends back what it gets, and what a route to it needs."""

    def __init__(self, world, folder):
        self.world, self.auditors = world, Auditors(folder / "auditors")
        self.echo = Sink(world, self.serve)
        self.machine = world.authority.leaf("faults-machine", ["ann.clients.test"])
        self.arrived = []

    def serve(self, connection):
        """Sends back what it gets, and keeps it."""
        got = bytearray()
        self.arrived.append(got)
        while data := connection.recv(1 << 16):
            got += data
            connection.sendall(data)
        connection.unwrap()

    def config(self, record="strict", *others, **section):
        world, (chain, key) = self.world, self.world.gateway_pair
        route = {
            "name": "raw", "sni": "raw.gw.test", "protocol": "raw", "record": record,
            "upstream": {"address": f"tls://127.0.0.1:{self.echo.port}", "ca": world.ca},
            "certificate": {"chain": chain, "key": key},
            "client_certificates": "required", "client_ca": world.ca,
            "certificate_identity": {"name": "machines", "subject": ["dns"]}, "allow": [{"issuer": "machines"}],
        }  # fmt: skip
        recording = self.auditors.section(**({"segment_size": "4MiB"} | section))
        unrecorded = [route | {"name": name, "sni": f"{name}.gw.test", "record": False} for name in others]
        config = world.config(route, *unrecorded, recording=recording, workers={"count": 1, "pin": False})
        del config["issuer"], config["secrets"]
        return config

    def dial(self, gateway, name="raw.gw.test"):
        context = client_context(self.world)
        context.load_cert_chain(*self.machine)
        tcp = socket.create_connection(("127.0.0.1", gateway.port), timeout=10)
        # An end without close_notify must be an error here, not an end.
        return context.wrap_socket(tcp, server_hostname=name, suppress_ragged_eofs=False)

    def recordings(self, gateway):
        return Recordings(gateway.folder / "recordings", self.auditors.files[0])


@pytest.fixture(scope="module")
def parts_(world, tmp_path_factory):
    return Parts(world, tmp_path_factory.mktemp("faults"))


def ask(connection, size=16_384):
    """Sends noise and reads it back; gives what came, which is less when the connection ends."""
    noise, got = os.urandom(size), bytearray()
    with contextlib.suppress(OSError):
        connection.sendall(noise)
        while len(got) < size and (more := connection.recv(1 << 16)):
            got += more
    assert noise.startswith(got)
    return bytes(got)


@contextlib.contextmanager
def traced_by(gateway, words: list[str]):
    """strace with these words, once it holds every thread of the gateway."""
    process = subprocess.Popen([*words, "-p", str(gateway.process.popen.pid)], stderr=subprocess.PIPE)
    status = f"/proc/{gateway.process.popen.pid}/task"

    def attached():
        threads = [open(f"{status}/{thread}/status").read() for thread in os.listdir(status)]
        return all(f"TracerPid:\t{process.pid}\n" in thread for thread in threads) or process.poll() is not None

    until(attached)
    assert process.poll() is None, process.stderr.read()
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


@contextlib.contextmanager
def injected(gateway, *faults: str):
    """Has the gateway's system calls fail, or wait: `strace -e inject=FAULT`."""
    assert shutil.which("strace"), "missing: strace (tests/run installs it)"
    traced = ",".join(fault.split(":")[0] for fault in faults)
    words = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={traced}", *(f"--inject={fault}" for fault in faults)]
    with traced_by(gateway, words) as process:
        yield process


def complete(here, **where):
    """All sessions with these values, once they are over."""
    return until(lambda: (found := here.sessions(**where)) and all(s["state"] != "unfinished" for s in found) and found)


@pytest.mark.parametrize(
    ("durability", "fault"),
    [("process", "pwritev:error=EIO:when=30"), ("commit", "fdatasync:error=EIO:when=30")],
)
def test_a_write_or_a_sync_that_fails_ends_the_session_and_nothing_unrecorded_goes_on(parts_, start, durability, fault):
    gateway = start(parts_.config(durability=durability))
    here, got = parts_.recordings(gateway), bytearray()
    with injected(gateway, fault), parts_.dial(gateway) as connection:
        for _ in range(60):
            answer = ask(connection)
            got += answer
            if len(answer) < 16_384:
                break
    arrived = parts_.arrived[-1]
    line = gateway.line("session closed", route="raw")
    assert (line["reason"], line["culprit"]) == ("recording", "gateway"), line
    assert "staunch_recording_damaged_segments_total 1" in gateway.metrics()
    # Others are recorded in another segment.
    with parts_.dial(gateway) as connection:
        assert len(ask(connection)) == 16_384
    until(lambda: len(here.sessions()) == 2)
    assert gateway.stop() == 0
    first = here.sessions()[0]
    down, up = here.plane(first, "down"), here.plane(first, "up")
    assert len(got) > 50_000 and down.startswith(got), (len(got), len(down))
    assert up.startswith(arrived), (len(arrived), len(up))
    verified = here.verify("--identity", here.identity)
    assert verified.returncode == 0, verified.stdout.decode()


def test_with_commit_each_write_to_a_socket_waits_for_the_disk(parts_, start, tmp_path):
    gateway = start(parts_.config(durability="commit"))
    log = tmp_path / "calls"
    calls = "trace=pwritev,fdatasync,write,writev,sendto,sendmsg"
    with parts_.dial(gateway) as connection:
        ask(connection)
        words = ["strace", "-f", "-qq", "-y", "-s", "0", "-o", str(log), "-e", calls]
        with traced_by(gateway, words):
            for _ in range(5):
                assert len(ask(connection)) == 16_384
    unsynced, sockets, begun = False, 0, {}
    for line in log.read_text().splitlines():
        # A call during which another thread made one stands in two lines.
        thread = line.split()[0]
        if line.endswith("<unfinished ...>"):
            begun[thread] = line
        elif "resumed>" in line:
            line = begun.pop(thread, "") + line
            if "fdatasync" not in line:
                continue
        if "pwritev" in line and ".seg>" in line:
            unsynced = True
        elif "fdatasync" in line and ".seg>" in line and line.rstrip().endswith("= 0"):
            unsynced = False
        elif re.search(r"(write|writev|sendto|sendmsg)\(\d+<(TCP|socket)", line):
            sockets += 1
            assert not unsynced, f"{line}\nwent before what was appended was on the disk"
    assert sockets >= 10, sockets
    session = complete(parts_.recordings(gateway))[0]
    assert session["down_bytes"] > 6 * 16_384


@pytest.mark.parametrize(
    ("durability", "fault"), [("process", "pwritev:delay_enter=1000000"), ("commit", "fdatasync:delay_enter=500000")]
)
def test_a_disk_that_stalls_holds_up_who_is_strictly_recorded_and_nobody_else_of_the_worker(parts_, start, durability, fault):
    gateway = start(parts_.config("strict", "opt", durability=durability))
    here, beside = parts_.recordings(gateway), []
    done = threading.Event()

    def talk():
        while not done.is_set():
            beside.append(len(ask(other, 100)))

    with parts_.dial(gateway) as connection, parts_.dial(gateway, "opt.gw.test") as other:
        got = ask(connection, 100) + ask(connection, 100)
        assert len(ask(other, 100)) == 100
        with injected(gateway, fault):
            # The first append that takes long may hold up the worker, once.
            got += ask(connection, 100)
            thread = threading.Thread(target=talk)
            thread.start()
            begun = time.monotonic()
            got += ask(connection, 100)
            took = time.monotonic() - begun
            done.set()
            thread.join(30)
        # What goes up waits, and what comes back; a worker that waited would have had time for two of the others.
        assert took > 1.9 and len(beside) > 10 and set(beside) == {100}, (took, beside)
        got += ask(connection, 100)
    if durability == "process":
        assert counted(gateway, "staunch_recording_disk_stalls_total") >= 1
    session = complete(here, route="raw")[0]
    assert session["state"] == "complete", session
    assert len(got) == 500 and (here.plane(session, "up"), here.plane(session, "down")) == (got, got)
    assert gateway.stop() == 0
    assert here.verify("--identity", here.identity).returncode == 0


def test_async_loses_nothing_while_there_is_room(parts_, start):
    gateway = start(parts_.config(record="async"))
    here, got = parts_.recordings(gateway), bytearray()
    with parts_.dial(gateway) as connection:
        for _ in range(100):
            got += ask(connection)
    [session] = complete(here)
    assert session["state"] == "complete", session
    assert len(got) == 100 * 16_384
    assert (here.plane(session, "up"), here.plane(session, "down")) == (got, got)
    assert "staunch_recording_lost_bytes_total 0" in gateway.metrics()
    assert here.verify("--identity", here.identity).returncode == 0


def test_async_segments_are_closed_at_their_age_although_somebody_always_speaks(parts_, start):
    gateway = start(parts_.config("async", segment_age="1s"))
    here = parts_.recordings(gateway)
    with parts_.dial(gateway) as connection:
        begun = time.monotonic()
        while len(list(here.folder.glob("segments/*.sum"))) < 2:
            assert len(ask(connection, 100)) == 100 and time.monotonic() - begun < 12
            time.sleep(0.05)
    until(lambda: [session["state"] for session in here.sessions()] == ["complete"])
    assert gateway.stop() == 0
    assert here.verify("--identity", here.identity).returncode == 0


def test_async_on_a_disk_that_is_too_slow_holds_nobody_up_and_says_how_much_is_lost(parts_, start):
    gateway = start(parts_.config(record="async", queue="1MiB"))
    here, got = parts_.recordings(gateway), bytearray()
    with parts_.dial(gateway) as connection:
        got += ask(connection)
        with injected(gateway, "pwritev:delay_enter=100000"):
            for _ in range(100):
                got += ask(connection)
        time.sleep(1)
        got += ask(connection)
    assert len(got) == 102 * 16_384
    [session] = complete(here)
    assert session["state"] == "gaps", session
    lost = int(re.search(r"staunch_recording_lost_bytes_total (\d+)", gateway.metrics())[1])
    shown = here.show(session, "--identity", here.identity)
    assert lost > 0 and shown.count("not recorded") >= 1, shown[:2000]
    down, up = here.plane(session, "down"), here.plane(session, "up")
    # In order, with holes: the first and the last exchange are there.
    for plane in (down, up):
        assert plane.startswith(got[:16_384]) and plane.endswith(got[-16_384:]) and len(plane) < len(got), len(plane)
    # Down is lost as records, with 22 bytes around the data of each.
    assert lost >= 2 * len(got) - len(down) - len(up), (lost, len(got), len(down), len(up))
    assert here.verify("--identity", here.identity).returncode == 0


def test_async_on_a_disk_that_fails_goes_on_and_counts(parts_, start):
    gateway = start(parts_.config(record="async"))
    with parts_.dial(gateway) as connection:
        assert len(ask(connection)) == 16_384
        with injected(gateway, "pwritev:error=EIO:when=3+"):
            # What is recorded later waits in a queue: the disk fails until it was counted, and nobody who speaks is held up.
            until(lambda: len(ask(connection)) == 16_384 and counted(gateway, "staunch_recording_lost_bytes_total") > 100_000, every=0)
        assert len(ask(connection)) == 16_384
    gateway.line("session closed", route="raw")
    assert counted(gateway, "staunch_recording_damaged_segments_total") >= 1


def counted(gateway, name: str) -> int:
    return int(re.search(rf"^{name} (\d+)$", gateway.metrics(), re.M)[1])


def test_a_disk_that_fills_while_many_speak_holds_all_that_anybody_saw(parts_, start, tmp_path):
    """Eight sessions fill a small disk, with a tap below each end: what went on is in the recording."""
    disk = tmp_path / "disk"
    disk.mkdir(mode=0o700)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m,mode=700", "tmpfs", str(disk)], check=True)
    try:
        begun = len(parts_.arrived)
        gateway = start(parts_.config(directory=str(disk / "recordings")))
        here = Recordings(disk / "recordings", parts_.auditors.files[0])
        seen = [bytearray() for _ in range(8)]

        def talk(got):
            with contextlib.suppress(OSError, ssl.SSLError):
                connection = parts_.dial(gateway)
                for _ in range(300):
                    answer = ask(connection)
                    got += answer
                    if len(answer) < 16_384:
                        return

        threads = [threading.Thread(target=talk, args=(got,)) for got in seen]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        until(lambda: gateway.get("/readyz") == 503)
        gateway.stop()
        planes = [(here.plane(session, "down"), here.plane(session, "up")) for session in here.sessions()]
        assert sum(len(got) for got in seen) > 2_000_000
        for got in filter(None, seen):
            assert any(down.startswith(got) for down, _ in planes), len(got)
        for got in filter(None, parts_.arrived[begun:]):
            assert any(up.startswith(got) for _, up in planes), len(got)
        # Space that comes back lets new sessions in.
        subprocess.run(["mount", "-o", "remount,size=100m", str(disk)], check=True)
        again = start(parts_.config(directory=str(disk / "recordings")))
        with parts_.dial(again) as connection:
            assert len(ask(connection)) == 16_384
        assert again.stop() == 0
        verified = here.verify("--identity", here.identity)
        assert verified.returncode == 0, verified.stdout.decode()
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)
