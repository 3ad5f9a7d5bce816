"""People who log in: the command line in a home of its own, and a browser that fills in the issuer's forms."""

import html
import json
import os
import pathlib
import re
import ssl
import subprocess
import urllib.parse

import httpx

from .gateway import BINARY
from .parts import until


class Home:
    """A user's home, and `staunch` as that user runs it."""

    def __init__(self, folder: pathlib.Path, world):
        self.folder, self.world, self.count = folder, world, 0
        self.state = folder / ".local/state/staunch"
        self.env = {"PATH": os.environ["PATH"], "HOME": str(folder)}

    def run(self, *arguments: str, code: int = 0, env: dict = {}, **more) -> subprocess.CompletedProcess:
        """Runs to the end; the exit code is checked."""
        done = subprocess.run(
            [BINARY, *arguments], env=self.env | env, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=60, **more,
        )  # fmt: skip
        assert done.returncode == code, done.stdout + done.stderr
        return done

    def begin(self, *arguments: str, env: dict = {}) -> "Running":
        self.count += 1
        return Running([BINARY, *arguments], self.folder / f"begun-{self.count}", self.env | env)

    def token(self, *arguments: str) -> str:
        done = self.run("token", *arguments)
        assert done.stdout.endswith("\n") and done.stdout.count("\n") == 1
        return done.stdout.strip()

    def at(self, client: str, issuer: str | None = None) -> list[str]:
        """Arguments of a first login."""
        return ["--issuer", issuer or self.world.issuer.url, "--client-id", client, "--ca", self.world.ca]

    def kept(self, profile: str = "default") -> dict:
        return json.loads((self.state / f"{profile}.tokens.json").read_text())

    def log_in(self, client: str, *arguments: str, name: str = "ann") -> "Running":
        """A whole login with a browser."""
        running = self.begin("login", "--no-browser", *self.at(client), *arguments)
        assert httpx.get(Browser(self.world).visit(running.address(), name)).status_code == 200
        assert running.ended() == 0, running.text()
        return running


class Running:
    """A command that waits for somebody."""

    def __init__(self, command: list[str], log: pathlib.Path, env: dict):
        self.log = log
        with open(log, "wb") as out:
            self.popen = subprocess.Popen(command, env=env, stdin=subprocess.DEVNULL, stdout=out, stderr=out)

    def text(self) -> str:
        return self.log.read_text()

    def address(self) -> str:
        """The first URL that it prints on a line of its own."""
        return self._find(r"^ +(https://\S+)$")

    def code(self) -> str:
        """The code that a person types in."""
        return self._find(r"^ +([A-Z0-9]{2,}-[A-Z0-9-]+)$")

    def _find(self, pattern: str) -> str:
        def look():
            found = re.search(pattern, self.text(), re.M)
            assert found or self.popen.poll() is None, self.text()
            return found and found[1]

        return until(look)

    def ended(self, seconds: float = 30) -> int:
        try:
            return self.popen.wait(seconds)
        finally:
            self.popen.kill()


class Browser:
    """Follows redirects and fills in forms until it is sent to plain http, which only loopback redirects are."""

    def __init__(self, world):
        self.http = httpx.Client(verify=ssl.create_default_context(cafile=world.ca), timeout=20)

    def visit(self, url: str, name: str = "ann", code: str | None = None, abort: bool = False, stop: str = "http://") -> str | None:
        """The address that it ends at, which begins with `stop` (plain http: loopback); None if it ends at a page."""
        answer = self.http.get(url)
        for _ in range(20):
            if answer.is_redirect:
                target = urllib.parse.urljoin(str(answer.url), answer.headers["location"])
                if target.startswith(stop):
                    return target
                answer = self.http.get(target)
                continue
            text = answer.text
            form = re.search(r'<form[^>]* action="([^"]+)"', text)
            # The form comes again, with the outcome in red, when a code is of no use any more.
            if not form or answer.status_code != 200 or 'class="red"' in text:
                return None
            place = urllib.parse.urljoin(str(answer.url), html.unescape(form[1]))
            fields = {n: html.unescape(v) for n, v in re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', text)}
            leave = re.search(r'href="([^"]+/abort)"', text)
            if abort and leave:
                answer = self.http.get(urllib.parse.urljoin(str(answer.url), html.unescape(leave[1])))
                continue
            if 'name="login"' in text:
                fields |= {"login": name, "password": "any"}
            if 'name="user_code"' in text and "user_code" not in fields:
                fields["user_code"] = code
            answer = self.http.post(place, data=fields)
        raise AssertionError(f"no end:\n{answer.text}")
