"""The gateway under test: the real binary with a configuration file."""

import contextlib
import json
import os
import pathlib
import signal
import ssl
import time

import httpx

from .process import Process, free_port, run
from .parts import until

ROOT = pathlib.Path(__file__).resolve().parents[3]
BINARY = os.environ.get("STAUNCH_BIN", str(ROOT / "target/release/staunch"))
KEY = "sk-stored-credential-canary-8261"


def toml(value) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{json.dumps(k)} = {toml(v)}" for k, v in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(toml(v) for v in value) + "]"
    return json.dumps(value)


class Gateway:
    scheme, trust = "http", True

    def __init__(self, folder: pathlib.Path, config: dict, port: int | None = None, admin: int | None = None, ready: int = 200, ca: str | None = None, **more):
        """`ca`: the authority of the operator's listener, where that speaks TLS."""
        self.folder, self.config = folder, config
        if ca:
            self.scheme, self.trust = "https", ssl.create_default_context(cafile=ca)
        self.path = folder / "staunch.toml"
        (folder / "stored.key").touch(mode=0o600)
        (folder / "stored.key").write_text(KEY + "\n")
        command = [BINARY, "serve", "--config", str(self.path), "--log-format", "json"]
        for attempt in range(3):
            self.port, self.admin = port or free_port(), admin or free_port()
            self.write(config)
            try:
                self.process = Process(command, folder / "staunch.log", self.admin, **more)
                break
            except RuntimeError as error:
                # Another program took the port meanwhile.
                if attempt == 2 or "in use" not in str(error):
                    raise
        try:
            until(lambda: self.get("/readyz") == ready, 30)
        except AssertionError:
            self.process.stop()
            raise AssertionError(f"not ready:\n{self.process.text()}") from None

    def write(self, config: dict) -> None:
        config = dict(config)
        listener = {"address": f"127.0.0.1:{self.port}"}
        for key in ("tunnel", "mysql", "proxy_protocol_from", "default_route", "postgres_cancel_in_clear"):
            if value := config.pop(key, None):
                listener[key] = value
        config = {"listener": [listener]} | config
        config["admin"] = {"address": f"127.0.0.1:{self.admin}"} | config.get("admin", {})
        lines = []
        for name, value in config.items():
            tables = value if isinstance(value, list) else [value]
            mark = f"[[{name}]]" if isinstance(value, list) else f"[{name}]"
            for table in tables:
                lines += [mark] + [f"{json.dumps(k)} = {toml(v)}" for k, v in table.items()] + [""]
        self.path.write_text("\n".join(lines))

    def get(self, path: str) -> int | None:
        with contextlib.suppress(httpx.HTTPError):
            return httpx.get(self.operator(path), verify=self.trust).status_code
        return None

    def metrics(self) -> str:
        return httpx.get(self.operator("/metrics"), verify=self.trust).text

    def operator(self, path: str) -> str:
        """The URL of the operator's listener."""
        return f"{self.scheme}://localhost:{self.admin}{path}"

    def lines(self) -> list[dict]:
        """All log lines of what has happened so far: they are written at most 50 ms later, on a machine that has time."""
        time.sleep(0.25)
        return self.lines_by_now()

    def lines_by_now(self) -> list[dict]:
        """All log lines that are written."""
        return [json.loads(line) for line in self.process.text().splitlines() if line.startswith("{")]

    def line(self, event: str, **wanted) -> dict:
        """Waits for a log line."""

        def find():
            for line in self.lines_by_now():
                if line.get("event") == event and all(line.get(k) == v for k, v in wanted.items()):
                    return line
            return None

        return until(find)

    def signal(self, which: int) -> None:
        self.process.popen.send_signal(which)

    def stop(self) -> int:
        return self.process.stop(signal.SIGTERM)

    def rss(self) -> int:
        """Resident memory in bytes."""
        status = pathlib.Path(f"/proc/{self.process.popen.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) * 1024


def staunch(*arguments: str, seconds: float = 60):
    return run([BINARY, *arguments], seconds)
