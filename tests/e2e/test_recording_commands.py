"""Commands that read and change recordings: an auditor who comes later, and Ctrl-C in the middle of each."""

import contextlib
import hashlib
import os
import pty
import random
import re
import shutil
import signal
import subprocess
import time

import pytest
from support.gateway import BINARY, Gateway, staunch
from support.parts import until
from test_recording_faults import Parts, ask


@pytest.fixture(scope="module")
def made(world, tmp_path_factory):
    """A directory with several complete segments, one session through all of them, and two small ones."""
    folder = tmp_path_factory.mktemp("commands")
    folder.chmod(0o700)
    parts = Parts(world, folder)
    gateway = Gateway(folder, parts.config())
    with parts.dial(gateway) as connection:
        for _ in range(28):
            assert len(ask(connection, 1 << 18)) == 1 << 18
    for _ in range(2):
        with parts.dial(gateway) as connection:
            ask(connection, 1_000)
    here = parts.recordings(gateway)
    until(lambda: [session["state"] for session in here.sessions()] == ["complete"] * 3)
    yield parts, gateway, here
    if gateway.process.popen.poll() is None:
        assert gateway.stop() == 0, gateway.process.text()


@pytest.fixture(scope="module")
def later(tmp_path_factory):
    """An auditor whom no configuration names."""
    file = tmp_path_factory.mktemp("later") / "later.txt"
    assert staunch("audit", "keygen", "--output", str(file)).returncode == 0
    return str(file), file.read_text().split("public key: ")[1].split()[0]


def plane(here, session, identity):
    return here.run("show", session["session"], "--raw", "up", "--identity", identity)


def test_an_auditor_who_comes_later_reads_what_was_recorded_before(made, later, tmp_path):
    _, gateway, here = made
    identity, public = later
    small = here.sessions()[-1]
    assert b"no identity opens it" in here.run("show", small["session"], "--identity", identity).stdout
    # Somebody who cannot read lets nobody in, and the log does not say that he did.
    refused = here.run("rewrap", "--identity", identity, "--recipient", public)
    assert refused.returncode == 1 and b"opens no segment" in refused.stderr, refused
    assert not list(here.folder.glob("segments/*.age"))
    done = here.run("rewrap", "--identity", here.identity, "--recipient", public)
    assert done.returncode == 0 and b"of the log" in done.stdout, done
    assert len(plane(here, small, identity).stdout) == 1_000
    assert plane(here, small, identity).stdout == plane(here, small, here.identity).stdout
    assert here.verify("--identity", identity).returncode == 0
    # As age reads it, too.
    for envelope in here.folder.glob("segments/*.age"):
        opened = subprocess.run(["age", "-d", "-i", identity, str(envelope)], capture_output=True, check=False)
        assert len(opened.stdout) == 32, opened
    # The report says who was let in.
    report = tmp_path / "report"
    made_report = staunch("evidence", "--from", "1h", "--directory", str(here.folder), "--output", str(report))
    assert made_report.returncode == 0, made_report
    assert public in (report / "report.json").read_text() and public in (report / "report.html").read_text()
    assert gateway.get("/readyz") == 200


# Each read of a file takes a while: a disk that is slow enough for work to show how far it has come.
SLOW_READS = ["strace", "-f", "-o", "/dev/null", "-e", "trace=read", "-e"]


def on_a_terminal(arguments, milliseconds, output_too=False):
    """What a command writes to a terminal: what goes to standard error, or both."""
    terminal, own = pty.openpty()
    with subprocess.Popen([*SLOW_READS, f"inject=read:delay_enter={milliseconds}000", BINARY, *arguments], stdin=subprocess.DEVNULL, stdout=own if output_too else subprocess.DEVNULL, stderr=own) as process:
        os.close(own)
        written = bytearray()
        # The terminal is gone when nobody has its other end any more.
        with contextlib.suppress(OSError):
            while more := os.read(terminal, 1 << 16):
                written += more
        os.close(terminal)
    assert process.returncode == 0, bytes(written[-500:])
    return written.decode(errors="replace")


def test_long_work_shows_how_far_it_has_come_and_leaves_no_trace_of_it(made, later, tmp_path):
    _, _, running = made
    until(lambda: running.verify().returncode == 0)
    folder = tmp_path / "copy"
    shutil.copytree(running.folder, folder)
    large, small = running.sessions()[0]["session"], running.sessions()[-1]["session"]
    at, key = ["--directory", str(folder)], ["--identity", running.identity]
    for verb, milliseconds, arguments in [
        ("reading segment", 10, ["sessions", "show", large, *at, *key, "--raw", "up"]),
        ("playing segment", 50, ["sessions", "replay", small, *at, *key, "--speed", "0"]),
        ("writing segment", 10, ["sessions", "export", large, *at, *key, "--output", str(tmp_path / "capture")]),
        ("verifying segment", 8, ["sessions", "verify", *at]),
    ]:
        written = on_a_terminal(arguments, milliseconds)
        shown = re.findall(rf"\r\x1b\[K({verb} \d+ of \d+, \d+ s left)", written)
        assert shown and written.endswith("\r\x1b[K"), (verb, written[-300:])
    # Where the result is seen on the same terminal, nothing stands within it.
    written = on_a_terminal(["sessions", "show", small, *at, *key], 50, True)
    assert "\r\x1b[K" not in written[written.index(" fact ") :], written


def digests(folder):
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*") if path.is_file()}


def interrupt(arguments, after):
    """Runs a command and interrupts it; gives its code and how long it ran."""
    begun = time.monotonic()
    process = subprocess.Popen([BINARY, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        process.wait(after)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)
    return process.returncode, time.monotonic() - begun


def test_ctrl_c_leaves_nothing_half(made, later, tmp_path):
    _, gateway, running = made
    if gateway.process.popen.poll() is None:
        assert gateway.stop() == 0
    folder = tmp_path / "copy"
    shutil.copytree(running.folder, folder, ignore=shutil.ignore_patterns("*.age"))
    here = type(running)(folder, running.identity)
    large, small = running.sessions()[0]["session"], running.sessions()[-1]["session"]
    at, key = ["--directory", str(folder)], ["--identity", here.identity]
    chooser, before = random.Random(4711), digests(folder)
    out = tmp_path / "out"
    out.mkdir()
    reading = {
        "verify": ["sessions", "verify", *at, *key],
        "replay": ["sessions", "replay", large, *at, *key, "--speed", "0"],
        "export": ["sessions", "export", large, *at, *key, "--output", str(out / "capture")],
        "evidence": ["evidence", "--from", "1h", *at, *key, "--unsigned", "--output", str(out / "report")],
    }
    for name, arguments in reading.items():
        code, whole = interrupt(arguments, 20)
        assert code == 0, (name, code)
        for path in out.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        for share in [chooser.random() for _ in range(2)] + [0.95]:
            code, _ = interrupt(arguments, whole * share)
            assert (code == 0) == bool(list(out.iterdir())) or name in ("verify", "replay"), (name, share, code, list(out.iterdir()))
            assert digests(folder) == before, (name, share)
            if (out / "report").is_dir():
                assert subprocess.run(["sha256sum", "-c", "--quiet", "report.sum"], cwd=out / "report", check=False).returncode == 0
            for path in out.iterdir():
                shutil.rmtree(path) if path.is_dir() else path.unlink()
    # What changes the directory does it as a whole, or says where to go on.
    identity, public = later
    rewrap = ["sessions", "rewrap", *at, *key, "--recipient", public]
    for share in (0.2, 0.5, 0.8):
        interrupt(rewrap, whole * share / 4)
        envelopes = {path.name for path in folder.glob("segments/*.age")}
        pairs = {name.split(".")[0] for name in envelopes}
        assert envelopes == {f"{number}.{kind}.age" for number in pairs for kind in ("bytes", "facts")}, envelopes
        assert here.verify().returncode == 0
    assert here.run("rewrap", *key, "--recipient", public).returncode == 0
    assert not list(folder.rglob("*.new")), list(folder.rglob("*.new"))
    assert len(here.run("show", small, "--raw", "up", "--identity", identity).stdout) == 1_000
    for after in (0.01, 0.02, 0.05):
        interrupt(["sessions", "erase", large, *at, "--reason", "asked for"], after)
        found = here.verify("--identity", identity)
        assert found.returncode == 0, found.stdout.decode()
    assert here.run("erase", large, "--reason", "asked for").returncode == 0
    assert here.sessions()[0]["state"] == "erased", os.listdir(folder)
