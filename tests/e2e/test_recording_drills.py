"""An auditor's drills on the directory of a real gateway: other programs than Staunch's, bytes that change, sessions that are erased."""

import collections
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys

import pytest
from support.gateway import KEY, ROOT, Gateway, staunch
from support.parts import until
from support.recordings import Auditors, Recordings
from test_http1 import curl

READER = ROOT / "tests/e2e/recording_reader.py"


class Place:
    """A gateway that has recorded some sessions over two lives, and that still runs."""

    def __init__(self, world, folder):
        self.auditors = Auditors(folder / "auditors")
        route = world.route("app", world.hypercorn_port)
        config = world.config(route, recording=self.auditors.section(), workers={"count": 1, "pin": False})
        self.folder, self.recordings = folder, Recordings(folder / "recordings", self.auditors.files[0])
        gateway = Gateway(folder, config)
        for n in range(12):
            answer = curl(gateway, world, "app", "/echo", "--http1.1", "--data", f"said-{n}-{'x' * 300}", token=world.issuer.token())
            assert answer.stdout.startswith(f"said-{n}-".encode()), answer
        assert gateway.stop() == 0
        shutil.copy(folder / "recordings/log/checkpoint", folder / "noted")
        shutil.copytree(folder / "recordings", folder / "older")
        self.gateway = Gateway(folder, config)
        curl(self.gateway, world, "app", "/echo", "--http1.1", "--data", "said in its second life", token=world.issuer.token())
        until(lambda: len(self.sessions()) == 13)
        # The log is signed once a second; what is younger than its newest checkpoint is proved by nothing.
        length = (self.recordings.folder / "segments/2.seg").stat().st_size
        entries = self.recordings.folder / "log/tile/entries"
        until(lambda: any(f"chunk segment=2 from=0 to={length}".encode() in path.read_bytes() for path in entries.rglob("*") if path.is_file()))

    def sessions(self):
        return [session for session in self.recordings.sessions() if session["state"] == "complete"]

    def copy(self, tmp_path, name="copy"):
        shutil.copytree(self.recordings.folder, tmp_path / name, ignore=shutil.ignore_patterns("spare-*", "*.new"))
        return Recordings(tmp_path / name, self.recordings.identity)


@pytest.fixture(scope="module")
def place(world, tmp_path_factory):
    folder = tmp_path_factory.mktemp("drills")
    os.chmod(folder, 0o700)
    place = Place(world, folder)
    yield place
    assert place.gateway.stop() == 0


def stopped_copy(place, tmp_path, name="copy"):
    """A copy that verifies: taken between two turns of the log."""

    def take():
        shutil.rmtree(tmp_path / name, ignore_errors=True)
        here = place.copy(tmp_path, name)
        return here if here.verify("--identity", here.identity).returncode == 0 else None

    return until(take)


def test_the_reader_in_python_opens_what_the_gateway_wrote(place, tmp_path):
    here = stopped_copy(place, tmp_path)
    read = subprocess.run([sys.executable, str(READER), str(here.folder), here.identity], capture_output=True, check=False)
    assert read.returncode == 0, read.stdout + read.stderr
    found, sessions = json.loads(read.stdout), here.sessions()
    assert set(found) == {session["session"] for session in sessions} and len(sessions) >= 13
    for session in sessions:
        for plane in ("up", "down"):
            text, bytes_ = found[session["session"]][plane]["text"], here.plane(session, plane)
            # What is no text, or long, is given as its digest.
            assert text in (bytes_.decode(errors="replace"), hashlib.sha256(bytes_).hexdigest()), text


def test_the_log_s_reader_in_python_checks_tree_epochs_chunks_and_segments(place, tmp_path):
    here = stopped_copy(place, tmp_path)
    found = here.read_log()
    assert found["epochs"] >= 1 and found["chunks"] >= 1 and found["segments"] >= 1, found
    # Each thing that it holds against another, changed.
    log, segments = here.folder / "log", here.folder / "segments"
    bundle = max(path for path in (log / "tile/entries").rglob("*") if path.is_file())
    for path, at, why in [
        (log / "checkpoint", -20, "signature"),
        (bundle, -2, "is not the one that was hashed"),
        (segments / "1.seg", 40, "segment 1"),
        (segments / "2.seg", -1, "segment 2"),
    ]:
        whole = bytearray(path.read_bytes())
        whole[at] = whole[at] ^ 1 if path.suffix == ".seg" or path == bundle else ord("B" if whole[at] == ord("A") else "A")
        kept = path.read_bytes()
        path.write_bytes(whole)
        read = subprocess.run([sys.executable, str(ROOT / "tests/e2e/recording_log_reader.py"), str(here.folder)], capture_output=True, text=True, check=False)
        assert read.returncode == 1 and why in read.stderr, (path, read)
        path.write_bytes(kept)
    assert here.read_log() == found


def test_the_commands_of_the_format_s_page_verify_it_without_staunch(place, tmp_path):
    here = stopped_copy(place, tmp_path)
    page = (ROOT / "config/recording-format.md").read_text()
    block = re.findall(r"```sh\n(.*?)```", page, re.S)[-1]
    number = min(int(path.stem) for path in (here.folder / "segments").glob("*.sum"))
    block = block.replace("7.s", f"{number}.s").replace("auditor.key", here.identity)
    assert f"{number}.sum.sig" in block and "age -d" in block
    done = subprocess.run(["bash", "-euo", "pipefail", "-c", block], cwd=here.folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (block, done.stdout, done.stderr)
    for words in ("OK", "Good", "Signature Verified Successfully", "32"):
        assert words in done.stdout, done.stdout


def test_a_bit_that_is_turned_in_any_file_is_found(place, tmp_path):
    good = stopped_copy(place, tmp_path)
    files = [path for path in good.files() if path.parent.name == "segments" and path.suffix in (".seg", ".keys") and path.stat().st_size]
    files += [path for path in good.files() if "tile" in path.parts or path.name == "checkpoint"]
    assert {path.suffix for path in files} >= {".seg", ".keys"} and any("entries" in path.parts for path in files)
    for path in files:
        bytes_ = path.read_bytes()
        for at in {0, len(bytes_) // 2, len(bytes_) - 1}:
            path.write_bytes(bytes_[:at] + bytes([bytes_[at] ^ 1]) + bytes_[at + 1 :])
            # Bytes of a segment that is not complete are proved by an identity alone.
            found = good.verify("--identity", good.identity)
            text = found.stdout.decode() + found.stderr.decode()
            assert found.returncode == 1, (path, at, text)
            assert path.name in text or path.parent.name in text or "log" in text, (path, at, text)
        path.write_bytes(bytes_)
    assert good.verify().returncode == 0


def test_an_older_log_is_found_by_a_checkpoint_that_was_noted(place, tmp_path):
    here = stopped_copy(place, tmp_path)
    assert here.verify("--noted", str(place.folder / "noted")).returncode == 0
    # All of it as it was before: nothing within shows it.
    older = Recordings(place.folder / "older", place.recordings.identity)
    assert older.verify().returncode == 0
    found = older.verify("--noted", str(here.folder / "log/checkpoint"))
    assert found.returncode == 1 and b"entries when this was noted" in found.stdout, found
    other = tmp_path / "nonsense"
    other.write_text("nonsense\n")
    assert b"not a checkpoint" in older.verify("--noted", str(other)).stdout


def test_a_report_s_figures_are_counted_again(place, tmp_path):
    folder = tmp_path / "report"
    made = staunch("evidence", "--directory", str(place.recordings.folder), "--from", "1h", "-o", str(folder))
    assert made.returncode == 0, made
    report = json.loads((folder / "report.json").read_text())
    lines = [json.loads(line) for line in (folder / "sessions.jsonl").read_text().splitlines()]
    assert len(lines) >= 13

    def value(line, path):
        for name in path.split("."):
            line = line.get(name) if isinstance(line, dict) else None
        return line

    for figure in report["figures"]:
        again = collections.Counter()
        for line in lines:
            found = value(line, figure["field"])
            if figure["counted"] == "requests":
                again.update(found or {})
            else:
                again[str(found or "unknown")] += 1
        assert {row["name"]: row["count"] for row in figure["counts"]} == dict(again), figure
    assert len(report["figures"]) >= 10


def test_one_of_many_is_erased_by_the_gateway_that_runs(place, tmp_path):
    here = place.recordings
    sessions = [session for session in here.sessions() if 1 in session["segments"]]
    gone, held, *others = sessions
    assert here.run("hold", held["session"], "--reason", "case 7").returncode == 0
    refused = here.run("erase", held["session"], "--reason", "no")
    assert refused.returncode == 1 and b"is held" in refused.stderr
    before = here.plane(gone, "up")
    erased = here.run("erase", gone["session"], "--reason", "a request of article 17")
    assert erased.returncode == 0, erased
    assert b"said-" in before and "said-" not in here.show(gone, "--identity", here.identity)
    assert here.one(session=gone["session"])["state"].startswith("erased")
    for session in (held, *others):
        assert b"said-" in here.plane(session, "up")
    copy = stopped_copy(place, tmp_path)
    verified = json.loads(copy.verify("--json").stdout)
    assert verified["good"] == {"integrity": True, "completeness": True, "erasure": True}, verified
    assert list(verified["erased"]) == [gone["session"]]
    # Forged: keys that are zero and no entry says so.
    keys = copy.folder / "segments/1.keys"
    keys.write_bytes(keys.read_bytes()[:-88] + bytes(88))
    forged = json.loads(copy.verify("--json").stdout)
    assert forged["good"]["erasure"] is False and forged["good"]["completeness"] is True, forged


def test_secrets_are_on_no_disk_and_in_no_core(place, world):
    head = world.issuer.token()[:16]
    place.recordings.hold_none_of(KEY, KEY.encode().hex(), head, head.encode().hex(), "said-")
    assert "said-" not in place.gateway.process.text()
    limits = open(f"/proc/{place.gateway.process.popen.pid}/limits").read()
    assert re.search(r"Max core file size\s+0\s+0 ", limits), limits
