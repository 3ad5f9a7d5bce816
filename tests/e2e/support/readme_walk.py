"""Somebody who has README and a new machine: types its first commands as they stand.

    unshare --net --mount python readme_walk.py ROOT FOLDER

ROOT is a Debian in which the package is installed; what is typed is read from the README in it. The network is this program's own, so
that names and ports are those of README: an issuer at https://idp.example.com, and a model service at https://api.openai.com. Prints the
seconds of each step, as JSON.
"""

import http.server
import json
import os
import pathlib
import re
import shutil
import ssl
import subprocess
import sys
import threading
import time
import types

import httpx

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from support import parts  # noqa: E402
from support.certs import Authority  # noqa: E402
from support.login import Browser, Running  # noqa: E402
from support.process import wait_for_port  # noqa: E402

KEY = "sk-readme-canary-5512"
HOSTS = "127.0.0.1 localhost idp.example.com\n127.0.0.2 api.openai.com\n"


class Model(http.server.BaseHTTPRequestHandler):
    """Answers with the credential that it saw."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        body = json.dumps({"object": "list", "data": [{"id": self.headers["authorization"], "path": self.path}]}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def typed(readme: str) -> list[str]:
    """The commands under the heading of the first answer."""
    section = readme.split("## Three commands to a first answer", 1)[1]
    block = re.search(r"^```console\n(.*?)^```", section, re.M | re.S)[1]
    return [line.removeprefix("$ ") for line in block.splitlines()]


def main():
    root, folder = map(pathlib.Path, sys.argv[1:])
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    (folder / "hosts").write_text(HOSTS)
    shutil.copy(folder / "hosts", root / "etc/hosts")
    subprocess.run(["mount", "--bind", str(folder / "hosts"), "/etc/hosts"], check=True)
    authority = Authority(folder)
    # As a company has it: its own authority among the system's.
    shutil.copy(authority.path, root / "usr/local/share/ca-certificates/company.crt")
    subprocess.run(["chroot", str(root), "update-ca-certificates"], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    chain, key = authority.leaf("idp", ["idp.example.com"])
    (folder / "jwks.json").write_text(json.dumps({"keys": [parts.signing_key("key-1")]}))
    environment = os.environ | {
        "CLIENTS": "[]", "NATIVE": '["staunch-cli"]', "STAUNCH_TOOLS": str(parts.TOOLS), "ISSUER": "https://idp.example.com",
    }  # fmt: skip
    issuer = parts.Process(
        ["node", str(parts.PARTS / "issuer.mjs"), "443", chain, key, str(folder / "jwks.json")], folder / "issuer.log", 443, environment
    )
    model = http.server.ThreadingHTTPServer(("127.0.0.2", 443), Model)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.leaf("model", ["api.openai.com"]))
    model.socket = context.wrap_socket(model.socket, server_side=True)
    threading.Thread(target=model.serve_forever, daemon=True).start()

    init, serve, curl = typed((root / "usr/share/doc/staunch/README.md").read_text())
    home = {"HOME": "/root", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
    chroot = [shutil.which("chroot"), str(root), "/bin/sh", "-c"]
    began, times = time.monotonic(), {}
    running = Running([*chroot, f"cd /root; {init}"], folder / "init.out", home | {"OPENAI_API_KEY": KEY})
    browser = Browser(types.SimpleNamespace(ca=str(authority.path)))
    assert httpx.get(browser.visit(running.address(), "ann")).status_code == 200
    assert running.ended() == 0, running.text()
    times["init and login"] = time.monotonic() - began
    gateway = parts.Process([*chroot, f"cd /root; exec {serve}"], folder / "serve.out", env=home)
    try:
        wait_for_port(8443, gateway.popen)
        times["the gateway listens"] = time.monotonic() - began
        answer = subprocess.run([*chroot, f"cd /root; {curl} -sS"], env=home, capture_output=True, text=True, timeout=30)
        times["first answer"] = time.monotonic() - began
        assert answer.returncode == 0 and f"Bearer {KEY}" in answer.stdout and "/v1/models" in answer.stdout, answer
    finally:
        code = gateway.stop()
        issuer.stop()
    assert code == 0, gateway.text()
    print(json.dumps({step: round(seconds, 2) for step, seconds in times.items()}))


if __name__ == "__main__":
    main()
