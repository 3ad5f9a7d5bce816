"""Time-stamps of the log (RFC 3161): from a real authority, from liars, and what an auditor finds of them."""

import datetime
import http.server
import os
import re
import shutil
import subprocess
import threading
import time

import pytest
from support.gateway import Gateway
from support.parts import until
from support.recordings import Auditors, Recordings
from test_http1 import curl

CONFIG = """
[tsa]
default_tsa = one
[one]
serial = serial
default_policy = 1.2.3.4
digests = sha256
signer_digest = sha256
[stamping]
extendedKeyUsage = critical,timeStamping
keyUsage = critical,digitalSignature
"""


class Authority:
    """`openssl ts` behind a little HTTP server, which can also lie. `how` is what it does next."""

    def __init__(self, folder):
        folder.mkdir(mode=0o700)
        self.folder, self.how, self.first = folder, "stamp", None
        (folder / "config").write_text(CONFIG)
        key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes"
        self.openssl(f"req -x509 -days 2 -subj /CN=root {key} -keyout root.key -out root.pem")
        self.openssl(f"req -subj /CN=stamping {key} -keyout key.pem -out request.pem")
        self.openssl("x509 -req -in request.pem -CA root.pem -CAkey root.key -CAcreateserial -days 2 -extfile config -extensions stamping -out signer.pem")
        self.root = str(folder / "root.pem")
        authority = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                query = self.rfile.read(int(self.headers["content-length"]))
                assert self.headers["content-type"] == "application/timestamp-query"
                status, answer = authority.answer(query)
                self.send_response(status)
                self.send_header("content-type", "application/timestamp-reply")
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/stamp"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def openssl(self, words, **more):
        done = subprocess.run(["openssl", *words.split()], cwd=self.folder, capture_output=True, check=False, **more)
        assert done.returncode == 0, done
        return done.stdout

    def stamp(self, query):
        (self.folder / "q.tsq").write_bytes(query)
        self.openssl("ts -reply -config config -section one -queryfile q.tsq -signer signer.pem -inkey key.pem -out r.tsr")
        return (self.folder / "r.tsr").read_bytes()

    def answer(self, query):
        match self.how:
            case "stamp":
                answer = self.stamp(query)
                self.first = self.first or answer
                return 200, answer
            case "stale":
                return 200, self.first
            case "other authority":
                return 200, self.other.stamp(query)
            case "refusal":
                return 200, bytes([0x30, 5, 0x30, 3, 2, 1, 2])
            case "nonsense":
                return 200, b"<html>not here</html>"
            case "too long":
                return 200, self.stamp(query) + bytes(100_000)
            case "fault":
                return 500, b""
        raise AssertionError(self.how)


LIES = {
    "stale": "its imprint is not that of the checkpoint", "refusal": "refuses (status 2)", "other authority": "its certificate is not believed", "nonsense": "not an answer of RFC 3161", "fault": "it answered 500",
}  # fmt: skip


class Place:
    def __init__(self, world, folder):
        self.world, self.folder = world, folder
        self.authority = Authority(folder / "authority")
        self.authority.other = Authority(folder / "other")
        self.auditors = Auditors(folder / "auditors")
        self.gateway = Gateway(folder, self.config())
        self.recordings = Recordings(folder / "recordings", self.auditors.files[0])

    def config(self):
        asked = {"url": self.authority.url, "authority": self.authority.root, "interval": "1s"}
        return self.world.config(self.world.route("app", self.world.hypercorn_port), recording=self.auditors.section(timestamp=asked))

    def metric(self, name):
        lines = [line for line in self.gateway.metrics().splitlines() if line.startswith(name)]
        return int(lines[0].split()[-1])

    def say(self, text):
        """The log grows by what is recorded of it."""
        token = self.world.issuer.token()
        answer = curl(self.gateway, self.world, "app", "/echo", "--http1.1", "--data", text, token=token)
        assert answer.stdout == text.encode(), answer

    def stamps(self):
        return sorted((self.recordings.folder / "log/timestamps").glob("*.tsr"), key=lambda path: int(path.stem))


@pytest.fixture(scope="module")
def place(world, tmp_path_factory):
    folder = tmp_path_factory.mktemp("stamped")
    os.chmod(folder, 0o700)
    place = Place(world, folder)
    yield place
    if place.gateway.process.popen.poll() is None:
        assert place.gateway.stop() == 0, place.gateway.process.text()


def told(place, *more, root=None):
    """What `verify` with the authority's certificate says, and whether that is good."""
    done = place.recordings.verify("--timestamp-ca", root or place.authority.root, *more)
    return done.returncode == 0, done.stdout.decode() + done.stderr.decode()


def test_the_log_is_stamped_and_openssl_says_the_same(place):
    place.say("said before a stamp")
    until(lambda: place.metric('staunch_recording_timestamp_requests_total{outcome="stamped"}') >= 2)
    # What the metrics say is what the answers say that are kept.
    until(lambda: place.metric("staunch_recording_timestamp_entries") == int(place.stamps()[-1].stem))
    newest = place.metric("staunch_recording_timestamp_last_timestamp_seconds")
    assert abs(newest - time.time()) < 600, newest
    shown = subprocess.run(["openssl", "ts", "-reply", "-in", str(place.stamps()[-1]), "-text"], capture_output=True, text=True, check=False).stdout
    at = re.search(r"Time stamp: (.*) GMT", shown).group(1).split(".")[0]
    at = datetime.datetime.strptime(at, "%b %d %H:%M:%S %Y").replace(tzinfo=datetime.UTC).timestamp()
    # Another may have come between the two looks.
    assert newest <= at <= newest + 600, (newest, shown)
    for answer in place.stamps():
        words = ["openssl", "ts", "-verify", "-in", str(answer), "-CAfile", place.authority.root]
        for what in (["-queryfile", str(answer.with_suffix(".tsq"))], ["-data", str(answer.with_suffix(".note"))]):
            done = subprocess.run([*words, *what], capture_output=True, check=False)
            assert b"Verification: OK" in done.stdout + done.stderr, done
    until(lambda: told(place)[0])
    good, text = told(place)
    assert good and "CN=stamping saw" in text and "openssl ts -verify -queryfile" in text, text
    # Without the authority's certificate it is said that nothing says whose they are.
    stamps = place.recordings.read_log()["timestamps"]
    assert len(stamps) >= 2 and any(stamp["at"] for stamp in stamps.values()), stamps
    plain = place.recordings.verify()
    assert plain.returncode == 0 and b"whose certificate was not checked" in plain.stdout, plain
    good, text = told(place, root=place.authority.other.root)
    assert not good and "its certificate is not believed" in text and "no time-stamp that counts" in text, text


def test_answers_that_are_lies_are_not_kept_and_each_is_told_once(place):
    before, kept = len(place.gateway.process.text()), {path.name for path in place.stamps()}
    refused = place.metric('staunch_recording_timestamp_requests_total{outcome="refused"}')
    for lie, why in LIES.items():
        place.authority.how = lie
        place.say(f"said to a liar: {lie}")
        until(lambda why=why: why in place.gateway.process.text()[before:])
    # The last one stays, and is not told again.
    until(lambda: place.metric('staunch_recording_timestamp_requests_total{outcome="refused"}') >= refused + len(LIES) + 2)
    text = place.gateway.process.text()[before:]
    assert text.count("answer does not count") == len(LIES), text
    assert len({path.name for path in place.stamps()} - kept) <= 1 and place.gateway.get("/readyz") == 200
    place.authority.how = "stamp"
    until(lambda: "the log is time-stamped again" in place.gateway.process.text()[before:])


def test_an_authority_that_is_away_holds_nothing_up(place):
    silent, kept = place.metric('staunch_recording_timestamp_requests_total{outcome="silent"}'), place.metric('staunch_recording_timestamp_requests_total{outcome="stamped"}')
    place.authority.how = "too long"
    place.say("said alone")
    until(lambda: place.metric('staunch_recording_timestamp_requests_total{outcome="silent"}') > silent)
    place.authority.how = "stamp"
    until(lambda: place.metric('staunch_recording_timestamp_requests_total{outcome="stamped"}') > kept)


@pytest.fixture
def copied(place, tmp_path):
    """A copy of the directory that an attacker has, once the gateway is gone."""
    if place.gateway.process.popen.poll() is None:
        until(lambda: told(place)[0])
        assert place.gateway.stop() == 0, place.gateway.process.text()
    folder = tmp_path / "copy"
    shutil.copytree(place.recordings.folder, folder)
    return type("Copied", (), {"recordings": Recordings(folder, place.auditors.files[0]), "authority": place.authority})()


def stamp_files(copied, kind):
    return sorted((copied.recordings.folder / "log/timestamps").glob(f"*.{kind}"), key=lambda path: int(path.stem))


def test_a_stamp_that_is_gone_or_exchanged_is_found(place, copied):
    first, second = stamp_files(copied, "tsr")[:2]
    whole = first.read_bytes()
    first.unlink()
    good, text = told(copied)
    assert not good and f"time-stamp of its first {first.stem} entries; it is missing" in text, text
    # That of another checkpoint; a new one, by another authority, for the right one.
    first.write_bytes(second.read_bytes())
    good, text = told(copied)
    assert not good and "not the answer that the log tells of" in text and first.name in text, text
    first.write_bytes(place.authority.other.stamp(first.with_suffix(".tsq").read_bytes()))
    assert not told(copied)[0]
    first.write_bytes(whole)
    assert told(copied)[0]


@pytest.mark.parametrize("kind", ["note", "tsq", "tsr"])
def test_a_bit_that_is_turned_in_a_stamp_is_found(copied, kind):
    path = stamp_files(copied, kind)[0]
    whole = path.read_bytes()
    for at in range(0, len(whole), max(1, len(whole) // 20)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        found = copied.recordings.verify()
        assert found.returncode == 1 and f"{path.stem}.".encode() in found.stdout, (at, found)


def test_a_log_that_went_on_without_stamps_is_found(copied):
    good, text = told(copied, "--stamped-within", "0s")
    assert not good and "the log went on for" in text, text
    shutil.rmtree(copied.recordings.folder / "log/timestamps")
    good, text = told(copied)
    assert not good and "no time-stamp that counts" in text, text
