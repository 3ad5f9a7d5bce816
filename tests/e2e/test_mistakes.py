"""Ordinary mistakes on the way from an issuer and a key to an answer: each ends with a sentence that says what to do instead.

Those at `init` stand in test_init.py, those in a configuration in test_check.py and beside the code that reads it, those at a browser's
login in test_login.py, at the installation in test_packages.py.
"""

import json
import pathlib
import subprocess
import sys

import pytest
from support import parts
from support.gateway import BINARY, KEY
from support.login import Home
from support.parts import until
from support.process import Process, free_port

GATEWAY = "tunnel.gw.test"


class Place:
    """A folder as `init` leaves it, a gateway that serves it, and somebody who is logged in."""

    def __init__(self, world, folder: pathlib.Path):
        self.world, self.folder, self.home = world, folder, Home(folder, world)
        (folder / "model.key").touch(mode=0o600)
        (folder / "model.key").write_text(KEY)
        self.port, self.admin = free_port(), free_port()
        self.home.run(
            "init", "gw", "--protect", "openai", "--issuer", world.issuer.url, "--issuer-ca", world.ca, "--group", "agents",
            "--port", str(self.port), "--upstream", f"127.0.0.1:{world.nginx_port}", "--upstream-ca", world.ca,
            "--secret", f"file:{folder}/model.key", cwd=folder,
        )  # fmt: skip
        self.config = folder / "gw/staunch.toml"
        chain, key = world.gateway_pair
        tunnel = f'tunnel = {{ sni = "{GATEWAY}", certificate = {{ chain = "{chain}", key = "{key}" }} }}\n'
        closed = f'''
            [[route]]
            name = "closed"
            protocol = "raw"
            upstream = {{ address = "tls://127.0.0.1:{world.nginx_port}", ca = "{world.ca}" }}
            allow = [{{ issuer = "corp", groups = ["others"] }}]
        '''
        text = self.config.read_text().replace("[[listener]]\n", f"[[listener]]\n{tunnel}")
        self.config.write_text(f'{text}{closed}\n[admin]\naddress = "127.0.0.1:{self.admin}"\n')
        command = [BINARY, "serve", "--config", str(self.config), "--log-format", "json"]
        self.gateway = Process(command, folder / "log", self.port)
        self.home.run(*self.log_in(), env={"CI_SECRET": "secret"})
        self.home.env["CI_SECRET"] = "secret"
        self.ca = str(folder / "gw/ca.pem")

    def log_in(self) -> list[str]:
        return ["login", *self.home.at(parts.ANN), "--client-credentials", "--client-secret", "env:CI_SECRET"]

    def run(self, *command: str, **more) -> subprocess.CompletedProcess:
        return subprocess.run(
            command, env=self.home.env, cwd=self.folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30, **more
        )

    def stop(self):
        assert self.gateway.stop() == 0, self.gateway.text()


@pytest.fixture(scope="module")
def place(world, tmp_path_factory):
    place = Place(world, tmp_path_factory.mktemp("mistakes"))
    yield place
    place.stop()


SERVE = [
    ("the file is not there", ["serve", "--config", "nowhere.toml"], 1, "`staunch init` writes one"),
    ("the folder is named", ["serve", "--config", "gw"], 1, "name the file in it, such as gw/staunch.toml"),
    ("nothing is named", ["serve"], 2, "--config <FILE>"),
    ("a command that is none", ["server"], 2, "a similar subcommand exists: 'serve'"),
    ("an option of init's", ["serve", "--config", "gw/staunch.toml", "--port", "8443"], 2, "unexpected argument '--port'"),
]


@pytest.mark.parametrize("what, line, code, said", SERVE, ids=[row[0] for row in SERVE])
def test_at_serve(place, what, line, code, said):
    done = place.run(BINARY, *line)
    assert done.returncode == code and said in done.stderr and "panicked" not in done.stderr, done.stderr


def copy(folder: pathlib.Path, name: str, source: str, mode: int) -> None:
    (folder / name).touch(mode=mode)
    (folder / name).write_text(pathlib.Path(source).read_text())


IN_THE_FILE = [
    ("the port is taken", "listener", [], "Address already in use (os error 98) by process"),
    ("the operator's port is taken", "admin", [], "cannot listen for the operator"),
    ("an address of another machine's", "both", [("127.0.0.1:PORT", "192.0.2.1:PORT")], "this machine has no such address"),
    ("a key that all can read", "both", [("gateway.key", "open.key")], "is open to others (mode 644); chmod 600 it"),
    ("another certificate's key", "both", [("gateway.key", "other.key")], "is not the key of"),
    ("chain and key swapped", "both", [("gateway.key", "gateway.pem")], "chain and key are swapped"),
    ("no key", "both", [("gateway.key", "absent.key")], "absent.key cannot be read: No such file"),
    ("no secret", "both", [("openai.key", "absent.key")], "the file that stands here cannot be read"),
    ("a variable that is not set", "both", [("file:secrets/openai.key", "env:NOT_SET")], "the environment variable that stands here is not set"),
    ("revocations that are none", "both", [("[admin]", "[admin]\nrevocations = \"gateway.pem\"")], "line 1 is not as staunch wrote it; move it away"),
    ("a mistyped key", "both", [("upstream = ", "upstreem = ")], "upstreem"),
]


@pytest.mark.parametrize("what, moved, changes, said", IN_THE_FILE, ids=[row[0] for row in IN_THE_FILE])
def test_in_what_serve_reads(place, what, moved, changes, said):
    folder = place.config.parent
    copy(folder, "open.key", f"{folder}/gateway.key", 0o644)
    copy(folder, "other.key", place.world.gateway_pair[1], 0o600)
    # The listener of the place itself has the port, unless it is changed.
    ports = {"PORT": str(place.port if moved == "listener" else free_port())}
    text = place.config.read_text().replace(f"127.0.0.1:{place.port}", "127.0.0.1:PORT")
    if moved != "admin":
        text = text.replace(f"127.0.0.1:{place.admin}", f"127.0.0.1:{free_port()}")
    # The tunnel's own certificate stays as it is.
    text = text.replace(place.world.gateway_pair[1], "TUNNEL")
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new)
    path = folder / "mistake.toml"
    path.write_text(text.replace("TUNNEL", place.world.gateway_pair[1]).replace("PORT", ports["PORT"]))
    done = place.run(BINARY, "serve", "--config", str(path))
    assert done.returncode == 1 and said in done.stderr, done.stderr


AT = ["--issuer", "ISSUER", "--client-id", parts.ANN, "--ca", "CA"]
SECRET = ["--client-credentials", "--client-secret", "env:CI_SECRET"]
LOGIN = [
    ("no scheme", ["--issuer", "idp.example.com", "--client-id", "x"], 2, 'write "https://idp.example.com"'),
    ("http", ["--issuer", "http://idp.example.com", "--client-id", "x"], 2, "an issuer's URL is always https"),
    ("a slash behind", [*AT, "--issuer", "ISSUER/", *SECRET], 1, 'is for "ISSUER"; give --issuer exactly so'),
    ("the document's URL", [*AT, "--issuer", "ISSUER/.well-known/openid-configuration", *SECRET], 2, 'write the issuer: "ISSUER"'),
    ("what is no issuer", [*AT, "--issuer", "https://127.0.0.1:NGINX", *SECRET], 1, "what stands in a token's `iss`, path and all"),
    ("what is no TLS", [*AT, "--issuer", "https://127.0.0.1:ADMIN", *SECRET], 1, "does not speak TLS on this port"),
    ("nobody there", [*AT, "--issuer", "https://127.0.0.1:FREE", *SECRET], 1, "Connection refused"),
    ("a private authority", ["--issuer", "ISSUER", "--client-id", parts.ANN, *SECRET], 1, "name its authority with `ca` (commands: --ca FILE)"),
    ("no client", ["--issuer", "ISSUER", "--ca", "CA"], 2, "--client-id ID"),
    ("another client", [*AT, "--client-id", "nobody", *SECRET], 1, "does it know --client-id"),
    ("a secret as it is", [*AT, "--client-credentials", "--client-secret", "hunter2"], 2, "write env:NAME or file:PATH"),
    ("a variable that is not set", [*AT, "--client-credentials", "--client-secret", "env:NOT_SET"], 2, "NOT_SET is not set"),
    ("no token file", ["--token-file", "nowhere"], 1, "nowhere: No such file"),
    ("a redirect to elsewhere", [*AT, "--redirect", "https://app.example.com/cb"], 2, "write http://127.0.0.1[:port][/path]"),
    ("a mistyped option", [*AT, "--scopes", "openid"], 2, "a similar argument exists: '--scope'"),
]


def test_tokens_before_a_login(place):
    for command in ("token", "whoami", "logout"):
        done = place.run(BINARY, command, "--profile", "fresh")
        assert done.stdout == "" and "staunch login --profile fresh" in done.stderr or command == "logout", done.stderr


def filled(place, text: str) -> str:
    words = {
        "ISSUER": place.world.issuer.url, "CA": place.world.ca, "NGINX": str(place.world.nginx_port), "ADMIN": str(place.admin),
        "FREE": str(free_port()), "PORT": str(place.port),
    }  # fmt: skip
    for word, value in words.items():
        text = value if text == word else text.replace(word, value) if word != "CA" else text
    return text


@pytest.mark.parametrize("what, line, code, said", LOGIN, ids=[row[0] for row in LOGIN])
def test_at_login(place, what, line, code, said):
    # What stands twice, the later counts.
    line = line if line.count("--issuer") < 2 else line[2:]
    line = line if line.count("--client-id") < 2 else line[:2] + line[4:]
    done = place.run(BINARY, "login", "--profile", "mistaken", *(filled(place, word) for word in line))
    assert done.returncode == code and filled(place, said) in done.stderr, done.stderr
    assert "hunter2" not in done.stderr


TUNNEL = ["--connect-to", "127.0.0.1:PORT", "--ca", "CA", "--gateway", GATEWAY]
RUN = ["--exec", "true"]
CONNECT = [
    ("a mistyped route", [*TUNNEL, "opena", *RUN], 1, "a route of another name is refused in the same words"),
    ("a route of others", [*TUNNEL, "closed", *RUN], 1, "policy does not permit it"),
    ("a URL", ["--gateway", f"https://{GATEWAY}", "openai", *RUN], 2, f"write {GATEWAY}"),
    ("a colon for an equals sign", [*TUNNEL, "openai:8080", *RUN], 2, "write openai=8080"),
    ("a route's name", ["--connect-to", "127.0.0.1:PORT", "--ca", "gw/ca.pem", "--gateway", "localhost", "openai", *RUN], 1, "gateway localhost"),
    ("a port that is taken", [*TUNNEL, "openai=PORT"], 1, "write another port, or 0 for any that is free"),
    ("a port that is none", [*TUNNEL, "openai=99999"], 2, "write a port"),
    ("an address for everybody", [*TUNNEL, "openai=0.0.0.0:8080"], 2, "write a loopback address"),
    ("a private authority", ["--connect-to", "127.0.0.1:PORT", "--gateway", GATEWAY, "openai", *RUN], 1, "name its authority with --ca FILE"),
    ("nobody there", ["--connect-to", "127.0.0.1:FREE", "--ca", "CA", "--gateway", GATEWAY, "openai", *RUN], 1, "the program was not run"),
    ("a name that is none", ["--ca", "CA", "--gateway", "gw.nowhere.invalid", "openai", *RUN], 1, "the program was not run"),
    ("not logged in", [*TUNNEL, "--profile", "fresh", "openai", *RUN], 1, "staunch login --profile fresh"),
    ("a program that is none", [*TUNNEL, "openai", "--exec", "no-such-program"], 1, "no-such-program: No such file"),
    ("no gateway", ["openai"], 2, "--gateway"),
    ("no route", TUNNEL, 2, "<ROUTE"),
]


@pytest.mark.parametrize("what, line, code, said", CONNECT, ids=[row[0] for row in CONNECT])
def test_at_connect(place, what, line, code, said):
    done = place.run(BINARY, "connect", *(filled(place, word) for word in line))
    assert done.returncode == code and said in done.stderr, done.stderr


CURL = [
    ("http", "http://localhost:PORT/", [], 400, "Use https:// instead of http://"),
    ("no token", None, [], 401, "send it as 'Authorization: Bearer <token>'"),
    ("the service's key", None, ["-H", "Authorization: Bearer sk-proj-0123456789abcdef"], 401, "use a token of your issuer"),
    ("a token for another service", None, ["-H", "Authorization: Bearer ELSEWHERE"], 401, "does not verify for this route"),
    ("a token of another group's", None, ["-H", "Authorization: Bearer STRANGER"], 403, "this route's policy does not permit it"),
    ("a forged token", None, ["-H", "Authorization: Bearer FORGED"], 401, "does not verify"),
    ("half a token", None, ["-H", "Authorization: Bearer HALF"], 401, "does not verify"),
    ("no word before it", None, ["-H", "Authorization: TOKEN"], 401, "send it as 'Authorization: Bearer <token>'"),
    ("single quotes around $()", None, ["-H", "Authorization: Bearer $(staunch token)"], 401, "send it as"),
    ("quotes within", None, ["-H", 'Authorization: Bearer "TOKEN"'], 401, "send it as"),
    ("as a password", None, ["-u", "ann:TOKEN"], 401, "send it as"),
    ("in the query", "https://localhost:PORT/hello.txt?key=TOKEN", [], 401, "send it as"),
    ("another Host", None, ["-H", "Authorization: Bearer TOKEN", "-H", "Host: api.openai.com"], 421, "does not lead to the host"),
]


@pytest.mark.parametrize("what, url, line, status, said", CURL, ids=[row[0] for row in CURL])
def test_at_curl(place, what, url, line, status, said):
    issuer, token = place.world.issuer, place.home.token()
    words = {
        "ELSEWHERE": lambda: issuer.token(parts.ELSEWHERE), "STRANGER": lambda: issuer.token(parts.STRANGER),
        "FORGED": issuer.forged, "HALF": lambda: token[: len(token) // 2], "TOKEN": lambda: token,
    }  # fmt: skip
    line = [*line, url or "https://localhost:PORT/hello.txt"]
    for word, value in words.items():
        line = [text.replace(word, value()) if word in text else text for text in line]
    line = [text.replace("PORT", str(place.port)) for text in line]
    done = place.run("curl", "-sS", "--cacert", place.ca, "-w", "\n%{http_code}", *line)
    body, code = done.stdout.rsplit("\n", 1)
    assert (int(code), said in body) == (status, True), done.stdout + done.stderr
    assert "eyJ" not in body and "sk-proj" not in body
    # Each refusal by its id stands in the log, with what the answer does not say.
    if status in (401, 403):
        session = json.loads(body)["error"]["id"].split("-")[0]
        until(lambda: session in place.gateway.text())


OPENAI = "import openai; c = openai.OpenAI(max_retries=0, timeout=10{}); print(c.models.list())"
ANTHROPIC = "import anthropic; c = anthropic.Anthropic(max_retries=0, timeout=10{}); print(c.models.list())"
SDK = [
    ("http", OPENAI, {"OPENAI_BASE_URL": "http://localhost:PORT/v1"}, "Use https:// instead of http://"),
    ("no authority", OPENAI, {"SSL_CERT_FILE": ""}, "Connection error"),
    ("another port", OPENAI, {"OPENAI_BASE_URL": "https://localhost:FREE/v1"}, "Connection error"),
    ("another name", OPENAI, {"OPENAI_BASE_URL": "https://127.0.0.1:PORT/v1"}, "Connection error"),
    ("no /v1", OPENAI, {"OPENAI_BASE_URL": "https://localhost:PORT"}, "404"),
    ("the service's key", OPENAI, {"OPENAI_API_KEY": "sk-proj-0123456789abcdef"}, "use a token of your issuer"),
    ("a word for a key", OPENAI, {"OPENAI_API_KEY": "none"}, "Error code: 401"),
    ("a token of another group's", OPENAI, {"OPENAI_API_KEY": "STRANGER"}, "this route's policy does not permit it"),
    ("a token for another service", OPENAI, {"OPENAI_API_KEY": "ELSEWHERE"}, "does not verify for this route"),
    ("a forged token, at Anthropic's", ANTHROPIC, {"ANTHROPIC_API_KEY": "FORGED"}, "does not verify for this route"),
    ("the service's key, at Anthropic's", ANTHROPIC, {"ANTHROPIC_API_KEY": "sk-ant-api03-0123456789"}, "use a token of your issuer"),
]


@pytest.mark.parametrize("what, program, changed, said", SDK, ids=[row[0] for row in SDK])
def test_at_an_sdk(place, what, program, changed, said):
    issuer = place.world.issuer
    words = {"STRANGER": lambda: issuer.token(parts.STRANGER), "ELSEWHERE": lambda: issuer.token(parts.ELSEWHERE), "FORGED": issuer.forged}
    environment = {
        "SSL_CERT_FILE": place.ca, "OPENAI_BASE_URL": "https://localhost:PORT/v1", "OPENAI_API_KEY": place.home.token(),
        "ANTHROPIC_BASE_URL": "https://localhost:PORT", "ANTHROPIC_API_KEY": "none",
    } | changed  # fmt: skip
    fill = lambda text: words[text]() if text in words else text.replace("PORT", str(place.port)).replace("FREE", str(free_port()))
    environment = {name: fill(value) for name, value in environment.items() if value}
    done = subprocess.run(
        [sys.executable, "-c", program.format("")], env=place.home.env | environment, capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 1 and said in done.stderr.splitlines()[-1], done.stderr
