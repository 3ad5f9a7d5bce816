"""The attackers' seats, beside the servers and the gateway of the end-to-end tests."""

import importlib.util
import os
import pathlib
import pwd
import subprocess
import sys

import pytest

END_TO_END = pathlib.Path(__file__).resolve().parents[1] / "e2e"
sys.path.insert(0, str(END_TO_END))

# Under a name of its own: this file has that of the other one.
spec = importlib.util.spec_from_file_location("end_to_end", END_TO_END / "conftest.py")
end_to_end = importlib.util.module_from_spec(spec)
sys.modules["end_to_end"] = end_to_end
spec.loader.exec_module(end_to_end)
world, start = end_to_end.world, end_to_end.start


class Neighbour:
    """Another account of this machine, without any rights of its own."""

    def __init__(self):
        self.uid, self.gid = pwd.getpwnam("nobody")[2:4]

    def run(self, code: str, *arguments: str, seconds: float = 20) -> str:
        """Runs a Python program as that account; returns what it prints."""
        done = self.begin(code, *arguments)
        out, _ = done.communicate(timeout=seconds)
        assert done.returncode == 0, out
        return out.strip()

    def begin(self, code: str, *arguments: str) -> subprocess.Popen:
        return subprocess.Popen(
            ["/usr/bin/python3", "-c", code, *map(str, arguments)], user=self.uid, group=self.gid, extra_groups=[], cwd="/",
            env={"PATH": os.defpath}, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip


@pytest.fixture(scope="session")
def neighbour():
    assert os.getuid() == 0, "another account can only be played by root"
    return Neighbour()
