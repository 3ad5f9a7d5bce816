"""Processes and ports of the tests. Everything listens on loopback and ends with the test that started it."""

import contextlib
import ctypes
import os
import pathlib
import random
import signal
import socket
import subprocess
import time


# Below the ports that the kernel gives to outgoing connections, so that none of those takes one before its server does;
# and each process of a run has its own, so that no other takes one between the look and the server.
WORKERS = 4
_worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % WORKERS
_ports = iter(random.sample(range(20_000 + _worker, 32_000, WORKERS), 12_000 // WORKERS))


def free_port() -> int:
    """A port that nothing listens on, handed out once."""
    for port in _ports:
        with socket.socket() as s, contextlib.suppress(OSError):
            s.bind(("127.0.0.1", port))
            return port
    raise RuntimeError("no free port")


def wait_for_port(port: int, process: subprocess.Popen, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"{process.args} ended with {process.returncode}")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 2):
            return
        time.sleep(0.05)
    raise RuntimeError(f"{process.args} does not listen on {port}")


class Process:
    """A program that runs until it is stopped; its output goes to a file."""

    def __init__(self, command: list[str], log: pathlib.Path, port: int | None = None, env: dict | None = None, **more):
        self.log = log
        with open(log, "wb") as out:
            self.popen = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, env=env, **more
            )
        if port is not None:
            try:
                wait_for_port(port, self.popen)
            except RuntimeError as error:
                self.stop()
                raise RuntimeError(f"{error}\n{log.read_text(errors='replace')}") from None

    def until_answers(self, ask, seconds: float = 30) -> None:
        """Asks again until there is an answer: a server may listen before it serves, or on one of its sockets before the other."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                return ask()
            except AssertionError:
                if self.popen.poll() is not None or time.monotonic() > deadline:
                    raise
                time.sleep(0.05)

    def stop(self, how: int = signal.SIGTERM, seconds: float = 15) -> int:
        if self.popen.poll() is None:
            self.popen.send_signal(how)
        try:
            return self.popen.wait(seconds)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            return self.popen.wait(5)

    def children(self) -> list[int]:
        """Processes that this one started and that live."""
        pid = self.popen.pid
        return [int(child) for child in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    def text(self) -> str:
        return self.log.read_text(errors="replace")


def run(command: list[str], seconds: float = 60, **more) -> subprocess.CompletedProcess:
    """Runs a client to its end."""
    more.setdefault("input", b"")
    return subprocess.run(command, capture_output=True, timeout=seconds, check=False, **more)


def ends(connection) -> bool:
    """True if a connection ends, in whichever way; one that merely stays silent is a failure."""
    try:
        return connection.recv(1) == b""
    except TimeoutError:
        raise AssertionError("the connection stays open and silent") from None
    except OSError:
        return True


def sees_in_place_of(path: str, own: pathlib.Path):
    """For a new process (`preexec_fn`, as root): a mount namespace of its own, in which `own` stands at `path`."""
    libc = ctypes.CDLL(None, use_errno=True)
    new_namespace, private, bind = 0x20000, (1 << 18) | (1 << 14), 1 << 12

    def enter():
        mounted = [
            libc.unshare(new_namespace),
            libc.mount(None, b"/", None, private, None),
            libc.mount(str(own).encode(), path.encode(), None, bind, None),
        ]
        if any(mounted):
            raise OSError(ctypes.get_errno(), "no mount namespace")

    return enter
