"""Witnesses: a gateway that cosigns another's log, and what shows when that log is rolled back, forked, or signed by somebody else."""

import base64
import hashlib
import json
import os
import shutil
import signal
import ssl
import urllib.error
import urllib.request

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from support.gateway import Gateway
from support.parts import until
from support.process import free_port
from support.recordings import Auditors, Recordings
from test_http1 import curl


def ed25519(verifier: str) -> Ed25519PublicKey:
    """The key of `name+id+key`, whose number is checked as the specification has it."""
    name, number, key = verifier.strip().split("+", 2)
    key = base64.b64decode(key)
    assert hashlib.sha256(name.encode() + b"\n" + key).hexdigest()[:8] == number
    return Ed25519PublicKey.from_public_bytes(key[1:])


def leaf(entry: bytes) -> bytes:
    return hashlib.sha256(b"\0" + entry).digest()


def root(hashes: list) -> bytes:
    """RFC 6962 section 2.1."""
    if len(hashes) <= 1:
        return hashes[0] if hashes else hashlib.sha256(b"").digest()
    middle = 1 << ((len(hashes) - 1).bit_length() - 1)
    return hashlib.sha256(b"\1" + root(hashes[:middle]) + root(hashes[middle:])).digest()


def consistency(hashes: list, old: int, known=True) -> list:
    """RFC 6962 section 2.1.2."""
    if old == len(hashes):
        return [] if known else [root(hashes)]
    middle = 1 << ((len(hashes) - 1).bit_length() - 1)
    if old <= middle:
        return [*consistency(hashes[:middle], old, known), root(hashes[middle:])]
    return [*consistency(hashes[middle:], old - middle, False), root(hashes[:middle])]


def note(origin: str, hashes: list, *signers) -> str:
    """A checkpoint, signed by log keys as c2sp.org/signed-note has it."""
    body = f"{origin}\n{len(hashes)}\n{base64.b64encode(root(hashes)).decode()}\n"
    lines = ""
    for name, key in signers:
        number = hashlib.sha256(f"{name}\n".encode() + b"\1" + key.public_key().public_bytes_raw()).digest()[:4]
        lines += f"— {name} {base64.b64encode(number + key.sign(body.encode())).decode()}\n"
    return f"{body}\n{lines}"


def verifier(name: str, key: bytes, algorithm: int = 1) -> str:
    """`name+id+key` of a public key."""
    key = bytes([algorithm]) + key
    number = hashlib.sha256(name.encode() + b"\n" + key).hexdigest()[:8]
    return f"{name}+{number}+{base64.b64encode(key).decode()}"


class Log:
    """A log that is no gateway's."""

    def __init__(self, origin="example.com/log"):
        self.origin, self.key = origin, Ed25519PrivateKey.generate()

    @property
    def verifier(self):
        return verifier(self.origin, self.key.public_key().public_bytes_raw())

    def hashes(self, size, mark=b""):
        return [leaf(mark + str(n).encode()) for n in range(size)]

    def request(self, old, hashes, proof=None, signers=None) -> str:
        proof = ([] if not 0 < old <= len(hashes) else consistency(hashes, old)) if proof is None else proof
        lines = "".join(f"{base64.b64encode(one).decode()}\n" for one in proof)
        return f"old {old}\n{lines}\n{note(self.origin, hashes, *(signers or [(self.origin, self.key)]))}"


class Place:
    """A gateway that witnesses, and one that records and asks it."""

    def __init__(self, world, folder):
        self.world, self.folder = world, folder
        self.auditors = Auditors(folder / "auditors")
        self.log, self.port = Log(), free_port()
        (folder / "b").mkdir()
        (folder / "a").mkdir(mode=0o700)
        self.b = Gateway(folder / "b", self.witness_config([]))
        self.key = (folder / "b/witness/witness.pub").read_text()
        self.a = Gateway(folder / "a", self.config())
        self.recordings = Recordings(folder / "a/recordings", self.auditors.files[0])
        public = (folder / "a/recordings/log/log.pub").read_text().strip()
        self.b.write(self.witness_config([public, self.log.verifier]))
        self.b.signal(signal.SIGHUP)
        until(lambda: "configuration reloaded" in self.b.process.text())

    def witness_config(self, logs):
        chain, key = self.world.upstream_pair
        witness = {
            "address": f"127.0.0.1:{self.port}", "directory": "witness", "name": "b.gw.test/witness",
            "certificate": {"chain": chain, "key": key}, "logs": logs,
        }  # fmt: skip
        return self.world.config(self.world.route("app", self.world.hypercorn_port), witness=witness)

    def config(self):
        asked = {"key": self.key.strip(), "url": f"https://127.0.0.1:{self.port}", "ca": self.world.ca, "interval": "1s"}
        section = self.auditors.section(witness=[asked])
        return self.world.config(self.world.route("app", self.world.hypercorn_port), recording=section)

    def ask(self, path, body=None):
        context = ssl.create_default_context(cafile=self.world.ca)
        data = body.encode() if body is not None else None
        request = urllib.request.Request(f"https://127.0.0.1:{self.port}/{path}", data=data, method="POST" if body is not None else "GET")
        try:
            with urllib.request.urlopen(request, context=context, timeout=10) as answer:
                return answer.status, answer.headers, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.headers, error.read().decode()
        except urllib.error.URLError:
            # Cut off in the middle of what is too long.
            return None, None, None

    def add(self, request):
        return self.ask("add-checkpoint", request)

    def metric(self, name, **labels):
        marks = [f'{key}="{value}"' for key, value in labels.items()]
        for line in self.a.metrics().splitlines():
            if line.startswith(f"{name}{{") and all(mark in line for mark in marks):
                return int(line.split()[-1])
        return 0


@pytest.fixture(scope="module")
def place(world, tmp_path_factory):
    folder = tmp_path_factory.mktemp("witness")
    os.chmod(folder, 0o700)
    place = Place(world, folder)
    yield place
    for gateway in (place.a, place.b):
        if gateway.process.popen.poll() is None:
            assert gateway.stop() == 0, gateway.process.text()


def verify(place, recordings=None, *more):
    return (recordings or place.recordings).verify("--witness", place.key.strip(), *more)


def size(recordings) -> int:
    """Entries of the log."""
    return int((recordings.folder / "log/checkpoint").read_text().splitlines()[1])


def checkpoint(place) -> str:
    """What the witness shows of the gateway's log."""
    origin = (place.recordings.folder / "log/checkpoint").read_text().splitlines()[0]
    status, _, text = place.ask(f"{hashlib.sha256(origin.encode()).hexdigest()}/checkpoint")
    assert status == 200, text
    return text


def test_a_gateway_s_log_is_cosigned_by_another_and_the_cosignature_is_the_specification_s(place, world):
    answer = curl(place.a, world, "app", "/echo", "--http1.1", "--data", "said before a witness", token=world.issuer.token())
    assert answer.stdout == b"said before a witness", answer
    until(lambda: place.metric("staunch_recording_witness_requests_total", outcome="cosigned") >= 1)
    until(lambda: place.metric("staunch_recording_witness_entries", witness="b.gw.test/witness") == size(place.recordings))
    # Read and verified by another program, from the specifications alone.
    text = checkpoint(place)
    body, _, lines = text.partition("\n\n")
    body += "\n"
    (line,) = [line for line in lines.splitlines() if line.startswith("— b.gw.test/witness ")]
    number, time, signature = (lambda raw: (raw[:4], int.from_bytes(raw[4:12], "big"), raw[12:]))(base64.b64decode(line.split()[-1]))
    assert number.hex() == place.key.split("+")[1]
    assert place.metric("staunch_recording_witness_last_timestamp_seconds", witness="b.gw.test/witness") >= time
    ed25519(place.key).verify(signature, f"cosignature/v1\ntime {time}\n{body}".encode())
    # What the gateway keeps is that, too.
    (kept,) = (place.recordings.folder / "log/witnesses").iterdir()
    assert kept.name == number.hex() and "— b.gw.test/witness " in kept.read_text()
    found = verify(place)
    assert found.returncode == 0 and b"b.gw.test/witness has cosigned" in found.stdout, found
    key = place.folder / "witness.pub"
    key.write_text(place.key)
    read = place.recordings.read_log(str(key))["witnesses"]["b.gw.test/witness"]
    assert read["size"] >= 3 and read["time"] >= time, read
    noted = place.folder / "from-the-witness"
    noted.write_text(text)
    assert place.recordings.verify("--noted", str(noted)).returncode == 0


def test_a_verifier_wants_as_many_witnesses_as_it_is_told(place):
    stranger = Ed25519PrivateKey.generate().public_key().public_bytes_raw()
    other = verifier("c.gw.test/witness", stranger, 4)
    found = verify(place, None, "--witness", other)
    assert found.returncode == 1 and b"1 of 2 witnesses have cosigned" in found.stdout, found
    assert verify(place, None, "--witness", other, "--witnesses-required", "1").returncode == 0
    assert verify(place, None, "--witnesses-required", "2").returncode == 2
    assert verify(place, None, "--witness", (place.recordings.folder / "log/log.pub").read_text().strip()).returncode == 2
    # The key may be given as its file.
    assert place.recordings.verify("--witness", str(place.folder / "b/witness/witness.pub")).returncode == 0


def test_a_log_of_another_program_is_witnessed_and_each_attack_has_its_answer(place):
    log = place.log
    hashes, forked = log.hashes(300), log.hashes(300, b"forked ")
    stranger = Log("example.com/other")
    assert place.add(stranger.request(0, hashes))[0] == 404
    assert place.ask(f"{hashlib.sha256(log.origin.encode()).hexdigest()}/checkpoint")[0] == 404
    # Signed by somebody else, and in the log's name.
    assert place.add(log.request(0, hashes[:5], signers=[("example.com/other", stranger.key)]))[0] == 403
    assert place.add(log.request(0, hashes[:5], signers=[(log.origin, stranger.key)]))[0] == 403
    good = log.request(0, hashes[:5])
    broken = good[:-20] + ("A" if good[-20] != "A" else "B") + good[-19:]
    assert place.add(broken)[0] == 403
    assert place.add(log.request(0, hashes[:5], proof=[b"\0" * 32]))[0] == 422
    status, _, line = place.add(good)
    assert status == 200 and line.startswith("— b.gw.test/witness ") and line.endswith("\n"), line
    # Rolled back, forked, with the wrong proof, or none.
    status, headers, size = place.add(good)
    assert (status, size, headers["content-type"]) == (409, "5\n", "text/x.tlog.size")
    assert place.add(log.request(5, hashes[:3], proof=[]))[0] == 400
    assert place.add(log.request(3, hashes[:4]))[0::2] == (409, "5\n")
    assert place.add(log.request(5, forked[:9]))[0] == 422
    assert place.add(log.request(5, hashes[:9], proof=[]))[0] == 422
    assert place.add(log.request(5, hashes[:9], proof=[b"\1" * 32] * 4))[0] == 422
    assert place.add(log.request(5, forked[:5]))[0] == 422
    for nonsense in ("", "old 5\n", "old 05\n\n" + good.split("\n\n", 1)[1], good.replace("\n\n", "\n", 1), "old 5\n" + "x\n" * 70 + "\nx"):
        assert place.add(nonsense)[0] == 400, nonsense
    assert place.add("old 5\n" * 20_000)[0] in (413, None)
    # All of that left what it has seen as it was.
    assert place.add(log.request(5, hashes[:5]))[0] == 200
    assert place.add(log.request(5, hashes))[0] == 200
    shown = place.ask(f"{hashlib.sha256(log.origin.encode()).hexdigest()}/checkpoint")[2]
    assert shown.splitlines()[1] == "300"
    assert len([line for line in shown.splitlines() if line.startswith("— ")]) == 2, shown


def test_a_witness_that_is_away_holds_nothing_up_and_is_asked_again(place, world):
    place.b.process.popen.send_signal(signal.SIGSTOP)
    silent = place.metric("staunch_recording_witness_requests_total", outcome="silent")
    try:
        for n in range(3):
            answer = curl(place.a, world, "app", "/echo", "--http1.1", "--data", f"said alone {n}", token=world.issuer.token())
            assert answer.stdout == f"said alone {n}".encode(), answer
        assert place.a.get("/readyz") == 200
        until(lambda: place.metric("staunch_recording_witness_requests_total", outcome="silent") > silent)
    finally:
        place.b.process.popen.send_signal(signal.SIGCONT)
    until(lambda: "a witness cosigns again" in place.a.process.text())
    found = verify(place)
    assert found.returncode == 0, found.stdout.decode()


def test_a_log_that_was_rolled_back_or_forked_is_refused_and_the_auditor_sees_it(place, world):
    # The host's state of a moment, which somebody puts back later.
    assert place.a.stop() == 0
    older = place.folder / "older"
    shutil.copytree(place.recordings.folder, older)
    place.a = Gateway(place.folder / "a", place.config())
    curl(place.a, world, "app", "/echo", "--http1.1", "--data", "what shall be forgotten", token=world.issuer.token())
    # So much that the log that was put back is shorter for a while.
    for n in range(3):
        before = size(place.recordings)
        curl(place.a, world, "app", "/echo", "--http1.1", "--data", f"and this {n}", token=world.issuer.token())
        until(lambda: size(place.recordings) > before)
    until(lambda: int(checkpoint(place).splitlines()[1]) == size(place.recordings))
    assert place.a.stop() == 0
    noted = place.folder / "noted"
    noted.write_text(checkpoint(place))
    shutil.rmtree(place.recordings.folder)
    shutil.copytree(older, place.recordings.folder)
    # Nothing within shows it; what the witness shows does.
    assert place.recordings.verify().returncode == 0
    found = place.recordings.verify("--noted", str(noted))
    assert found.returncode == 1 and b"entries when this was noted" in found.stdout, found
    place.a = Gateway(place.folder / "a", place.config())
    text = until(lambda: (text := place.a.process.text()) and "a witness refuses the log of recordings" in text and text)
    (line,) = [json.loads(line) for line in text.splitlines() if "a witness refuses" in line]
    assert "rolled back" in json.dumps(line) and line["witness"] == "b.gw.test/witness", line
    assert place.metric("staunch_recording_witness_requests_total", outcome="refused") >= 1
    # It goes on beyond what the witness has seen: another log with the same key.
    seen = int(noted.read_text().splitlines()[1])
    while (entries := size(place.recordings)) <= seen:
        curl(place.a, world, "app", "/echo", "--http1.1", "--data", "in its place", token=world.issuer.token())
        until(lambda: size(place.recordings) > entries)
    before = place.metric("staunch_recording_witness_requests_total", outcome="refused")
    until(lambda: place.metric("staunch_recording_witness_requests_total", outcome="refused") > before)
    assert place.metric("staunch_recording_witness_requests_total", outcome="silent") == 0, place.a.process.text()
    assert checkpoint(place) == noted.read_text(), "the witness has seen one log"
    assert "what shall be forgotten" not in place.a.process.text()
    found = place.recordings.verify("--noted", str(noted))
    assert found.returncode == 1 and b"are not those that were signed when this was noted" in found.stdout, found
    # And from within: the log goes on without its witness.
    found = verify(place, None, "--witnessed-within", "1s")
    assert found.returncode == 1 and b"the log went on for" in found.stdout, found
