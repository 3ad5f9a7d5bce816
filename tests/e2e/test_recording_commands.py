"""Commands that read and change recordings: an auditor who comes later, and Ctrl-C in the middle of each."""

import hashlib
import os
import random
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
