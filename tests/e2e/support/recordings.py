"""A directory of recordings, as auditors see it."""

import json
import pathlib
import subprocess
import sys

from .gateway import ROOT, staunch


class Auditors:
    """Two auditors' keys, made with `staunch audit keygen`."""

    def __init__(self, folder: pathlib.Path):
        folder.mkdir(mode=0o700, exist_ok=True)
        self.files, self.public = [], []
        for name in ("one", "two"):
            file = folder / f"auditor-{name}.txt"
            made = staunch("audit", "keygen", "--output", str(file))
            assert made.returncode == 0, made
            self.files.append(str(file))
            self.public.append(file.read_text().split("public key: ")[1].split()[0])

    def section(self, **more) -> dict:
        return {"directory": "recordings", "auditors": self.public} | more


class Recordings:
    def __init__(self, folder: pathlib.Path, identity: str):
        self.folder, self.identity = folder, identity

    def run(self, command: str, *arguments: str):
        return staunch("sessions", command, *arguments, "--directory", str(self.folder))

    def sessions(self, **where) -> list[dict]:
        filters = [word for field, value in where.items() for word in ("--where", f"{field}={value}")]
        listed = self.run("list", "--output", "json", *filters)
        assert listed.returncode == 0, listed
        return [json.loads(line) for line in listed.stdout.splitlines()]

    def one(self, **where) -> dict:
        found = self.sessions(**where)
        assert len(found) == 1, found
        return found[0]

    def plane(self, session: dict, direction: str) -> bytes:
        shown = self.run("show", session["session"], "--raw", direction, "--identity", self.identity)
        assert shown.returncode == 0, shown
        return shown.stdout

    def show(self, session: dict, *arguments: str) -> str:
        shown = self.run("show", session["session"], *arguments)
        assert shown.returncode == 0, shown
        return shown.stdout.decode()

    def facts(self, session: dict) -> "list[dict]":
        """The lines of the log that the recording has, in clear."""
        found = []
        for line in self.show(session).splitlines():
            if " fact " in line:
                words = line.split(" fact ", 1)[1].split()
                event = [word for word in words if "=" not in word]
                found.append({"event": " ".join(event)} | dict(word.split("=", 1) for word in words if "=" in word))
        return found

    def verify(self, *arguments: str):
        return self.run("verify", *arguments)

    def read_log(self, *witnesses: str) -> dict:
        """What the reader of the log finds that is written from the format's page; it must find nothing wrong."""
        reader = str(ROOT / "tests/e2e/recording_log_reader.py")
        read = subprocess.run([sys.executable, reader, str(self.folder), *witnesses], capture_output=True, check=False)
        assert read.returncode == 0, read.stdout + read.stderr
        return json.loads(read.stdout)

    def files(self) -> list[pathlib.Path]:
        return [path for path in self.folder.rglob("*") if path.is_file()]

    def hold_none_of(self, *secrets: str) -> None:
        """No file holds one of these."""
        for path in self.files():
            try:
                bytes_ = path.read_bytes()
            except FileNotFoundError:
                # A tile of the log that a fuller one has replaced meanwhile, which holds its hashes.
                continue
            for secret in secrets:
                assert secret.encode() not in bytes_, (path, secret)
