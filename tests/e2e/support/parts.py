"""The real counterparts: an OIDC server, nginx, an ASGI application under hypercorn, a gRPC server."""

import base64
import json
import os
import pathlib
import ssl
import sys
import time

import httpx
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from .certs import Authority
from .process import Process, free_port

HERE = pathlib.Path(__file__).resolve().parent
PARTS = HERE.parent.parent / "parts"
TOOLS = HERE.parent.parent / ".tools"

# subject.group.audience.seconds
ANN = "ann.agents.staunch.600"
DAN = "dan.agents.staunch.600"
BRIEF = "brief.agents.staunch.3"
STRANGER = "eve.visitors.staunch.600"
ELSEWHERE = "ann.agents.elsewhere.600"

# Programs with which people log in, the same way; a fifth part is for how many seconds a device code is good.
CLI = "cli.agents.staunch.600"
CLI_BRIEF = "cli.agents.staunch.30"
CLI_MINUTE = "cli.agents.staunch.63"
CLI_HASTY = "cli.agents.staunch.600.3"


# Where operators log in by their browser: who may give orders, who may look, who may nothing.
OPERATORS = ["ops.agents.staunch.600", "look.visitors.staunch.600", "out.others.staunch.600"]
WEB_SECRET = "web secret:/"


def signing_key(kid: str) -> dict:
    numbers = ec.generate_private_key(ec.SECP256R1()).private_numbers()
    text = lambda n: base64.urlsafe_b64encode(n.to_bytes(32, "big")).rstrip(b"=").decode()
    public = numbers.public_numbers
    return {
        "kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": kid,
        "x": text(public.x), "y": text(public.y), "d": text(numbers.private_value),
    }  # fmt: skip


class Issuer:
    """npm's oidc-provider, a certified OIDC server."""

    def __init__(self, folder: pathlib.Path, authority: Authority):
        self.folder, self.authority, self.port = folder, authority, free_port()
        self.url = f"https://127.0.0.1:{self.port}"
        self.chain, self.key = authority.leaf("issuer", ["127.0.0.1"])
        # The operator's listener of the gateway that people log in to.
        self.operators_port = free_port()
        self.rotations = 0
        self.process = None
        self.rotate()

    def rotate(self) -> None:
        """Starts anew with another signing key."""
        self.stop()
        self.rotations += 1
        (self.folder / "jwks.json").write_text(json.dumps({"keys": [signing_key(f"key-{self.rotations}")]}))
        self.start()

    def start(self) -> None:
        clients = json.dumps([ANN, DAN, BRIEF, STRANGER, ELSEWHERE])
        redirect = f"https://localhost:{self.operators_port}/login/callback"
        web = json.dumps([{"id": name, "redirect": redirect} for name in OPERATORS])
        native = json.dumps([CLI, CLI_BRIEF, CLI_MINUTE, CLI_HASTY])
        command = ["node", str(PARTS / "issuer.mjs"), str(self.port), self.chain, self.key]
        command.append(str(self.folder / "jwks.json"))
        env = os.environ | {"CLIENTS": clients, "NATIVE": native, "WEB": web, "STAUNCH_TOOLS": str(TOOLS)}
        self.process = Process(command, self.folder / "issuer.log", self.port, env)

    def stop(self) -> None:
        if self.process:
            self.process.stop()

    def token(self, client: str = ANN) -> str:
        answer = httpx.post(
            f"{self.url}/token",
            auth=(client, "secret"),
            data={"grant_type": "client_credentials"},
            verify=ssl.create_default_context(cafile=self.authority.path),
        )
        assert answer.status_code == 200, answer.text
        return answer.json()["access_token"]

    def forged(self) -> str:
        """A token like the issuer's, `kid` and all, signed by somebody else."""
        head, claims, _ = self.token().split(".")
        stranger = ec.generate_private_key(ec.SECP256R1())
        der = stranger.sign(f"{head}.{claims}".encode(), ec.ECDSA(hashes.SHA256()))
        signature = b"".join(n.to_bytes(32, "big") for n in decode_dss_signature(der))
        return f"{head}.{claims}." + base64.urlsafe_b64encode(signature).rstrip(b"=").decode()


def nginx(folder: pathlib.Path, chain: str, key: str, locations: str = "", listen: str = "ssl", protocols: str = "TLSv1.2 TLSv1.3"):
    """nginx with static files below FOLDER/www; returns (process, port)."""
    port = free_port()
    (folder / "www").mkdir(exist_ok=True)
    (folder / "www" / "hello.txt").write_text("hello from nginx\n")
    config = folder / "nginx.conf"
    # Started by root, nginx would change to a user who cannot read the tests' folder.
    user = "user root;" if os.getuid() == 0 else ""
    config.write_text(
        f"""
        {user} daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log stderr info;
        events {{ worker_connections 4096; }}
        http {{
          access_log {folder}/nginx-access.log; client_max_body_size 0;
          client_body_temp_path {folder}/t1; proxy_temp_path {folder}/t2; fastcgi_temp_path {folder}/t3;
          uwsgi_temp_path {folder}/t4; scgi_temp_path {folder}/t5;
          keepalive_requests 1000000;
          server {{
            listen 127.0.0.1:{port} {listen};
            ssl_certificate {chain}; ssl_certificate_key {key}; ssl_protocols {protocols};
            root {folder}/www;
            location / {{ }}
            {locations}
          }}
        }}
        """
    )
    command = ["/usr/sbin/nginx", "-e", str(folder / "nginx-error.log"), "-c", str(config)]
    return Process(command, folder / "nginx.log", port), port


def hypercorn(folder: pathlib.Path, chain: str, key: str):
    """The ASGI application of app.py; returns (process, port)."""
    port = free_port()
    command = [
        sys.executable, "-m", "hypercorn", "--bind", f"127.0.0.1:{port}", "--certfile", chain, "--keyfile", key,
        "--access-logfile", "-", "support.app:app",
    ]  # fmt: skip
    env = os.environ | {"PYTHONPATH": str(HERE.parent)}
    return Process(command, folder / "hypercorn.log", port, env), port


def grpc_server(folder: pathlib.Path, chain: str, key: str):
    """The gRPC server of grpc_host.py; returns (process, port)."""
    port = free_port()
    command = [sys.executable, str(HERE / "grpc_host.py"), str(port), chain, key]
    return Process(command, folder / "grpc.log", port), port


def until(condition, seconds: float = 30, every: float = 0.05):
    """Waits for a condition and returns what it returned."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(every)
    raise AssertionError(f"not within {seconds} s")


def lines_with(process: Process, word: str) -> list[str]:
    """Lines of a program's output that hold a word."""
    return [line for line in process.text().splitlines() if word in line]
