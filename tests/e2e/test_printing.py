"""Standard output that nobody reads, or that cannot be written: every command that prints ends without a word, or says why."""

import json
import os
import re
import subprocess

import pytest
from support import parts
from support.gateway import BINARY, Gateway
from support.login import Home
from support.parts import until
from support.recordings import Auditors, Recordings
from test_http1 import curl

# Commands that only begin something, and say nothing that a program would read.
OTHERS = {"serve", "login", "logout", "connect", "revoke", "help", "man"}
ENDED_BY_SIGPIPE = 141


class Place:
    """A gateway with one recorded session, and somebody who has a token."""

    def __init__(self, world, folder):
        self.folder, self.home = folder, Home(folder, world)
        self.auditors = Auditors(folder / "auditors")
        mask = [{"name": "all", "detect": ["keys"]}]
        route = world.route("app", world.hypercorn_port, mask={"down": ["all"]})
        self.gateway = Gateway(folder, world.config(route, recording=self.auditors.section(), mask=mask))
        self.recordings = Recordings(folder / "recordings", self.auditors.files[0])
        self.token = folder / "token"
        self.token.touch(mode=0o600)
        self.token.write_text(world.issuer.token())
        self.home.env["CI_SECRET"] = "secret"
        self.home.run("login", *self.home.at(parts.ANN), "--client-credentials", "--client-secret", "env:CI_SECRET")
        answer = curl(self.gateway, world, "app", "/echo", "--http1.1", "-d", "printed", token=world.issuer.token())
        assert answer.stdout == b"printed", answer
        until(lambda: [session["state"] for session in self.recordings.sessions()] == ["complete"])
        self.session = self.recordings.sessions()[0]["session"]
        (folder / "body.json").write_text(json.dumps({"text": "a body"}))

    def commands(self):
        at, key = ["-d", str(self.recordings.folder)], ["--identity", self.recordings.identity]
        config, out = str(self.gateway.path), self.folder / "out"
        out.mkdir(exist_ok=True)
        of = ["sessions"]
        return {
            "check": [["check", "--config", config], ["check", "--config", config, "--json"], ["check", "--config", config, "--token", str(self.token)]],
            "mask": [["mask", "try", "--config", config, "--route", "app", str(self.folder / "body.json")]],
            "schema": [["schema"], ["schema", "--markdown"]],
            "completions": [["completions", "bash"]],
            "token": [["token"]],
            "whoami": [["whoami"]],
            "audit": [["audit", "keygen"]],
            "sessions": [
                [*of, "list", *at], [*of, "list", *at, "--output", "csv"], [*of, "show", self.session, *at, *key], [*of, "show", self.session, *at, *key, "--json"],
                [*of, "show", self.session, *at, *key, "--raw", "down"], [*of, "replay", self.session, *at, *key], [*of, "export", self.session, *at, *key, "-o", "-"],
                [*of, "verify", *at, *key], [*of, "verify", *at, "--json"], [*of, "hold", self.session, *at, "--reason", "a test"], [*of, "release", self.session, *at, "--reason", "a test"],
            ],
            "evidence": [["evidence", "--from", "1h", *at, "--unsigned", "-o", str(out / f"report-{len(list(out.iterdir()))}")]],
            "top": [["top", "--once", "--admin", f"127.0.0.1:{self.gateway.admin}"]],
            "init": [["init", f"gw-{len(list(self.folder.iterdir()))}", "--protect", "redis", "--issuer", "https://idp.example.com", "--client-id", "cli", "--group", "ml", "--upstream", "redis.internal:6379", "--user", "svc", "--secret", "env:SVC"]],
            "demo": [["demo", "--once"]],
        }  # fmt: skip


@pytest.fixture(scope="module")
def place(world, tmp_path_factory):
    folder = tmp_path_factory.mktemp("printing")
    os.chmod(folder, 0o700)
    place = Place(world, folder)
    yield place
    assert place.gateway.stop() == 0


def begin(place, words, stdout):
    env = place.home.env | {"SVC": "a-secret"}
    return subprocess.run([BINARY, *words], env=env, cwd=place.folder, stdin=subprocess.DEVNULL, stdout=stdout, stderr=subprocess.PIPE, text=True, timeout=60, check=False)


def test_the_list_of_commands_is_whole(place):
    told = subprocess.run([BINARY, "--help"], capture_output=True, text=True, check=True).stdout
    there = set(re.findall(r"^  ([a-z]+) ", told.split("Commands:")[1].split("Options:")[0], re.M))
    assert there - OTHERS == set(place.commands()), there


def test_a_command_whose_reader_has_gone_ends_without_a_word(place):
    for words in [words for all_ in place.commands().values() for words in all_]:
        reader, writer = os.pipe()
        os.close(reader)
        done = begin(place, words, writer)
        os.close(writer)
        said = [line for line in done.stderr.splitlines() if "pipe" in line.lower() or line.startswith(("staunch:", "thread"))]
        assert not said and done.returncode in (0, ENDED_BY_SIGPIPE), (words, done)
        # What is only printed had nobody to print it for; an order was carried out.
        assert done.returncode == ENDED_BY_SIGPIPE or words[:2] == ["sessions", "release"], (words, done)


def test_a_command_whose_output_cannot_be_written_says_so(place):
    for words in [words for all_ in place.commands().values() for words in all_]:
        with open("/dev/full", "w") as full:
            done = begin(place, words, full)
        assert done.returncode == 1 and "standard output: " in done.stderr, (words, done)
        if words == ["audit", "keygen"]:
            assert "Public key" not in done.stderr, done
