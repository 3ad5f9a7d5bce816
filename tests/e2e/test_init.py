"""`staunch init`: three commands from an issuer and a key to a first answer, for each kind of service; it never overwrites."""

import contextlib
import json
import os
import pty
import re
import stat
import subprocess
import sys
import termios
import time
import tomllib

import grpc
import httpx
import pytest
from conftest import check_log
from support import mariadb, parts, postgres, redis_server
from support.acme import Pebble
from support.gateway import BINARY, KEY, ROOT
from support.login import Browser, Home
from support.parts import until
from support.process import Process, free_port
from support.scripted import Scripted
from test_guides import ARGUMENT

SEEN = "$http_authorization $http_x_api_key $http_api_key"
LIST = f'{{"object":"list","data":[{{"id":"{SEEN}","object":"model"}}],"models":[{{"model":"{SEEN}"}}]}}'
TOOLS = ROOT / "tests/.tools"


@pytest.fixture(scope="module")
def models(world, tmp_path_factory):
    """Model services, which answer with the credential that they saw."""
    locations = "".join(
        f"location = {path} {{ default_type application/json; return 200 '{LIST}'; }}\n"
        for path in ("/v1/models", "/openai/v1/models", "/openai/models", "/api/tags")
    )
    gemini = '{"models":[{"name":"models/$http_x_goog_api_key"}]}'
    locations += f"location = /v1beta/models {{ default_type application/json; return 200 '{gemini}'; }}\n"
    process, port = parts.nginx(tmp_path_factory.mktemp("models"), *world.upstream_pair, locations)
    yield f"127.0.0.1:{port}"
    process.stop()


class Hour:
    """Somebody in a home of their own who types what is printed."""

    def __init__(self, world, folder):
        self.world, self.folder, self.home = world, folder, Home(folder, world)
        self.secret = folder / "key-from-the-service"
        self.secret.write_text(KEY + "\n")
        self.secret.chmod(0o600)
        self.gateway = None

    def init(self, kind: str, *more: str, upstream: str | None = None, code: int = 0) -> str:
        where = ["--upstream", upstream, "--upstream-ca", self.world.ca] if upstream else []
        self.port = free_port()
        done = self.home.run(
            "init", "--protect", kind, "--issuer", self.world.issuer.url, "--issuer-ca", self.world.ca, "--group", "agents",
            "--client-id", parts.ANN, "--port", str(self.port), *where, *more, cwd=self.folder, code=code,
        )  # fmt: skip
        assert KEY not in done.stdout + done.stderr
        self.printed = done.stdout
        return done.stdout + done.stderr

    def serve(self):
        """The first printed command; the tests' gateways need their operator's listener elsewhere."""
        path = self.folder / "staunch/staunch.toml"
        self.admin = free_port()
        path.write_text(path.read_text() + f'\n[admin]\naddress = "127.0.0.1:{self.admin}"\n')
        command = self.command("Start the gateway").split()
        env = self.home.env
        self.gateway = Process(command + ["--log-format", "json"], self.folder / "log", self.admin, env, cwd=self.folder)

        def ready():
            with contextlib.suppress(httpx.HTTPError):
                return httpx.get(f"http://127.0.0.1:{self.admin}/readyz").status_code == 200

        until(ready)

    def log_in(self):
        """The second printed command, for a program instead of a person."""
        command = self.command("Log in").split()[1:]
        self.home.run(*command, "--client-credentials", "--client-secret", "env:CI_SECRET", env={"CI_SECRET": "secret"})
        self.home.env["CI_SECRET"] = "secret"

    def command(self, title: str) -> str:
        found = re.search(rf"^# {re.escape(title)}[^\n]*\n(.+?)\n\n", self.printed, re.M | re.S)
        assert found, self.printed
        return found[1]

    def type(self, title: str) -> str:
        """What a printed command answers."""
        assert not ARGUMENT.search(self.command(title)), "a token in a command line"
        path = f"{os.path.dirname(sys.executable)}:{self.home.env['PATH']}"
        done = subprocess.run(
            ["bash", "-c", self.command(title)], cwd=self.folder, env=self.home.env | {"PATH": path}, timeout=60,
            stdin=subprocess.DEVNULL, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, f"{self.command(title)}\n{done.stdout}{done.stderr}\n{self.gateway.text()}"
        return done.stdout

    def stop(self):
        if self.gateway:
            assert self.gateway.stop() == 0, self.gateway.text()
            check_log_of(self.gateway)


def check_log_of(process):
    class Log:
        pass

    log = Log()
    log.process = process
    check_log(log)


@pytest.fixture
def hour(world, tmp_path):
    hour = Hour(world, tmp_path)
    yield hour
    hour.stop()


def key_of(hour):
    return ["--secret", f"file:{hour.secret}"]


@pytest.mark.parametrize(
    "kind, seen",
    [
        ("openai", f'"id":"Bearer {KEY}  "'), ("anthropic", f'"id":" {KEY} "'), ("azure", f'"id":"  {KEY}"'),
        ("ollama", f'"id":"Bearer {KEY}  "'), ("gemini", f'"name":"models/{KEY}"'),
    ],
)  # fmt: skip
def test_a_model_service_answers_the_printed_requests(hour, models, kind, seen):
    hour.init(kind, *key_of(hour), upstream=models)
    hour.serve()
    hour.log_in()
    answer = hour.type("The first request, with curl")
    assert seen in answer and "eyJ" not in answer
    (hour.folder / "node_modules").symlink_to(TOOLS / "node_modules")
    credential = seen.split('"')[3].strip()
    for library in LIBRARIES[kind]:
        said = hour.type(f"With the {library}")
        # google-genai shows none of the models that this service has, but has asked it with the stored key.
        assert credential in said or (kind == "gemini" and said.startswith("[")), said
    until(lambda: hour.gateway.text().count('"event":"request"') == 1 + len(LIBRARIES[kind]))


LIBRARIES = {
    "openai": ["Python SDK", "Node SDK"], "anthropic": ["Python SDK", "Node SDK"], "azure": ["Python SDK", "Node SDK"],
    "gemini": ["Python SDK"], "ollama": ["Python library"],
}  # fmt: skip


@pytest.mark.parametrize("kind, blocks", [("azure", 0), ("gemini", 1), ("ollama", 2)])
def test_the_guide_of_models_shows_code_that_runs(hour, models, kind, blocks):
    hour.init(kind, *key_of(hour), upstream=models)
    hour.serve()
    hour.log_in()
    code = re.findall(r"^```python\n(.*?)^```", (ROOT / "config/models.md").read_text(), re.M | re.S)[blocks]
    calls = code.count(".list()")
    assert calls and "https://GW" in code
    token = f"token = {hour.home.token()!r}\n"
    environment = hour.home.env | {"SSL_CERT_FILE": str(hour.folder / "staunch/ca.pem")}
    program = token + code.replace("GW", f"localhost:{hour.port}")
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr

    def asked() -> list[int]:
        lines = map(json.loads, hour.gateway.text().splitlines())
        return [line["status"] for line in lines if line.get("event") == "request"]

    until(lambda: len(asked()) == calls)
    assert asked() == [200] * calls


KINDS = ["openai", "anthropic", "azure", "gemini", "ollama", "grpc", "postgres", "mysql", "redis", "raw"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_certificate_by_acme_is_written_for_each_kind(hour, kind):
    secret = key_of(hour) if kind not in ("ollama", "raw") else []
    user = ["--user", "svc"] if kind in ("postgres", "mysql") else []
    upstream = [] if kind in ("openai", "anthropic", "gemini", "ollama") else ["--upstream", "service.internal:443"]
    done = hour.home.run(
        "init", "--protect", kind, "--issuer", hour.world.issuer.url, "--issuer-ca", hour.world.ca, "--name", "gw.example.com",
        "--acme", "--acme-contact", "ops@example.com", *secret, *user, *upstream, cwd=hour.folder,
    )  # fmt: skip
    read = tomllib.loads((hour.folder / "staunch/staunch.toml").read_text())
    shown = read["listener"][0]["tunnel"] if kind == "raw" else read["route"][0]
    https = read["listener"][0]["address"].endswith(":443")
    assert shown["certificate"] == {"acme": "letsencrypt"} | ({} if https else {"challenge": "http-01"})
    assert ("http" in read["acme"]) != https and not (hour.folder / "staunch/ca.pem").exists()
    assert "ca.pem" not in done.stdout and "letsencrypt is asked" in done.stdout


def test_a_certificate_comes_from_pebble_and_the_printed_request_is_answered(hour, world, models, tmp_path):
    (tmp_path / "pebble").mkdir()
    http = free_port()
    ca = Pebble(tmp_path / "pebble", world.authority, free_port(), http)
    try:
        hour.init(
            "openai", *key_of(hour), "--name", "ai.gw.test", "--acme", ca.directory, "--acme-ca", world.ca, upstream=models
        )
        path = hour.folder / "staunch/staunch.toml"
        text = path.read_text().replace('"[::]:80"', f'"127.0.0.1:{http}"').replace("[::]", "127.0.0.1")
        path.write_text(text)
        hour.serve()
        hour.log_in()
        until(lambda: "certificate obtained" in hour.gateway.text(), 30)
        # The test's names lead nowhere, and pebble's root is nobody's.
        printed = hour.command("The first request")
        here = f"curl --cacert {ca.root(world.authority)} --resolve ai.gw.test:{hour.port}:127.0.0.1"
        hour.printed = hour.printed.replace(printed, printed.replace("curl", here, 1))
        assert KEY in hour.type("The first request, with curl")
    finally:
        ca.stop()


@pytest.mark.parametrize(
    "changed, said",
    [
        ({"--issuer": "idp.example.com"}, 'write "https://idp.example.com"'),
        ({"--issuer": "http://idp.example.com"}, 'always https; write "https://idp.example.com"'),
        ({"--issuer-ca": "nowhere.pem"}, "--issuer-ca: there is no file "),
        ({"--upstream": "https://db.example.com/v1"}, 'write "tls://db.example.com:443"; paths are the clients\' own'),
        ({"--upstream": "postgres://me:hidden@db/app"}, "give --user and --secret"),
        ({"--upstream": "tcp://10.0.0.1:5432"}, 'is not on this machine; write "tls://10.0.0.1:5432"'),
        ({"--upstream": "db.example.com:99999"}, "99999 is no port"),
        ({"--secret": "file:./nowhere"}, "nowhere: there is no such file"),
        ({"--secret": "env:NOWHERE"}, "NOWHERE is not set"),
        # The secret itself in the place of where it stands.
        ({"--secret": "sk-hidden"}, "write env:NAME or file:PATH"),
        ({"--secret": "Bearer sk-hidden"}, "write env:NAME or file:PATH"),
        ({"--secret": "env:sk-hidden"}, "that stands there is not set"),
        ({"--secret": "file:sk-hidden"}, "no file of the name"),
        ({"--issuer": "https://idp.example.com?secret=hidden"}, "write https://host[:port][/path]"),
        ({"--acme": "ftp://me:hidden@ca.example.com", "--name": "gw.example.com"}, "or a directory's URL"),
        ({"--name": "https://gw.example.com"}, 'write "gw.example.com"'),
        ({"--name": "10.0.0.1"}, "clients of an address send none"),
        ({"--name": "*.example.com"}, "write one of those it stands for"),
        ({"--issuer": "https://me:hidden@idp.example.com"}, "write https://host[:port][/path]"),
        ({"--issuer": "https://idp.example.com:99999"}, "write https://host[:port][/path]"),
        ({"--port": "0"}, "0 is not in 1..=65535"),
        ({"--protect": "openai", "--secret": "env:QUOTED"}, "quotes stand around it"),
        ({"--protect": "grpc", "--upstream": "g:1", "--secret": "env:WITH_SCHEME"}, "would be sent twice"),
        ({"--protect": "gemini", "--secret": "env:ASSIGNED"}, "a variable's name stands in front of it"),
        ({"--acme": "letsencrypt", "--name": "gw.example.com", "--acme-contact": "somebody"}, "write \"mailto:ops@example.com\""),
        ({"--protect": "postgress"}, "'postgres'"),
        ({"--acme": "zerossl"}, "no authority issues for localhost"),
        ({"--acme": "zerossl", "--name": "gw.example.com"}, "write letsencrypt, or a directory's URL"),
    ],
)
def test_a_mistake_is_answered_with_what_to_write_and_leaves_nothing(hour, changed, said):
    arguments = {
        "--protect": "postgres", "--issuer": hour.world.issuer.url, "--issuer-ca": hour.world.ca, "--user": "svc",
        "--upstream": "db.example.com", "--secret": f"file:{hour.secret}",
    } | changed  # fmt: skip
    keys = {"QUOTED": '"sk-hidden"', "WITH_SCHEME": "Bearer sk-hidden", "ASSIGNED": "GEMINI_API_KEY=hidden"}
    words = (word for pair in arguments.items() for word in pair)
    done = hour.home.run("init", *words, code=2, cwd=hour.folder, env=keys)
    assert said in done.stderr and "hidden" not in done.stderr, done.stderr
    assert not (hour.folder / "staunch").exists()


def test_everything_is_written_for_whom_it_is(hour, models):
    hour.init("openai", *key_of(hour), upstream=models)
    folder = hour.folder / "staunch"
    modes = {p.relative_to(folder).as_posix(): stat.S_IMODE(p.stat().st_mode) for p in folder.rglob("*")}
    assert modes == {
        "staunch.toml": 0o644, "ca.pem": 0o644, "gateway.pem": 0o644, "gateway.key": 0o600, "secrets": 0o700,
        "secrets/openai.key": 0o600,
    }  # fmt: skip
    text = (folder / "staunch.toml").read_text()
    assert KEY not in text and tomllib.loads(text)["route"][0]["allow"] == [{"issuer": "corp", "groups": ["agents"]}]
    assert "route openai (http)" in hour.printed, "what `check` says"
    for line in text.splitlines():
        assert len(line) <= 140, line


def test_nothing_is_ever_overwritten(hour, models):
    hour.init("openai", *key_of(hour), upstream=models)
    before = {p: p.read_bytes() for p in (hour.folder / "staunch").rglob("*") if p.is_file()}
    assert "nothing is overwritten" in hour.init("openai", *key_of(hour), upstream=models, code=2)
    assert {p: p.read_bytes() for p in (hour.folder / "staunch").rglob("*") if p.is_file()} == before
    other = hour.folder / "mine"
    other.mkdir()
    (other / "notes").write_text("mine")
    assert "nothing is overwritten" in hour.init("openai", "mine", *key_of(hour), upstream=models, code=2)
    assert [p.name for p in other.iterdir()] == ["notes"]


def test_postgres_mysql_and_redis_answer_the_printed_commands(world, tmp_path_factory):
    database = postgres.Server(*world.upstream_pair, KEY)
    shop = mariadb.Server(*world.upstream_pair, KEY)
    cache = redis_server.Server(*world.upstream_pair, world.ca, KEY)
    wanted = [
        ("postgres", database, "svc_scram", "psql", "svc_scram", "psycopg"),
        ("mysql", shop, "svc", "mariadb", "svc@", "PyMySQL"),
        ("redis", cache, "svc", "redis-cli", "PONG", "redis-py"),
    ]
    for kind, server, user, tool, answer, library in wanted:
        hour = Hour(world, tmp_path_factory.mktemp(kind))
        try:
            hour.init(kind, "--user", user, *key_of(hour), upstream=f"127.0.0.1:{server.port}")
            hour.serve()
            hour.log_in()
            assert answer in hour.type(f"The first request, with {tool}"), kind
            assert (answer if answer != "PONG" else "True") in hour.type(f"With {library}"), kind
            for driver, program in NODE.get(kind, {}).items():
                done = of_the_guide(hour, kind, program)
                assert done.returncode == 0 and answer in done.stdout, f"{driver}\n{done.stdout}{done.stderr}"
        finally:
            hour.stop()
    for server in (database, shop, cache):
        server.stop()


# What stands around the lines for Node in the guides; `LINE` is the guide's own.
NODE = {
    "mysql": {
        "mysql2": 'import mysql2 from "mysql2/promise"; const c = await LINE;'
        ' console.log((await c.query("select current_user()"))[0]); await c.end();'
    },
    "redis": {
        "node-redis": 'import { createClient } from "redis"; const c = LINE; await c.connect(); console.log(await c.ping()); await c.close();',
        "ioredis": 'import Redis from "ioredis"; const c = LINE; console.log(await c.ping()); c.disconnect();',
    },
}  # fmt: skip


def of_the_guide(hour, kind: str, program: str) -> subprocess.CompletedProcess:
    """Runs the guide's line for Node, with this test's name and port."""
    begins = "createClient(" if "createClient }" in program else "new Redis(" if "ioredis" in program else "mysql2.createConnection("
    guide = (ROOT / f"config/{kind}.md").read_text()
    line = next(line for line in guide.splitlines() if line.startswith(begins)).split("  //")[0]
    line = re.sub(r"[a-z]+\.gw\.example\.com", "localhost", line)
    line = re.sub(r"port: \d+", f"port: {hour.port}", line)
    (hour.folder / "node_modules").unlink(missing_ok=True)
    (hour.folder / "node_modules").symlink_to(TOOLS / "node_modules")
    environment = hour.home.env | {"NODE_EXTRA_CA_CERTS": str(hour.folder / "staunch/ca.pem")}
    text = f"const token = {json.dumps(hour.home.token())};" + program.replace("LINE", line)
    command = ["node", "--input-type=module", "-e", text]
    return subprocess.run(command, cwd=hour.folder, env=environment, capture_output=True, text=True, timeout=60)


def test_a_grpc_service_answers(hour, world):
    hour.init("grpc", *key_of(hour), upstream=f"127.0.0.1:{world.grpc_port}")
    hour.serve()
    hour.log_in()
    assert hour.type("The first request, with grpcurl").split() == ["test.Echo"]
    assert hour.type("With Python").strip() == r"b'\x08\x01'"
    authority = grpc.ssl_channel_credentials((hour.folder / "staunch/ca.pem").read_bytes())
    with grpc.secure_channel(f"localhost:{hour.port}", authority) as channel:
        unary = channel.unary_unary("/test.Echo/Unary")
        answer = unary(b"hello", metadata=[("authorization", f"Bearer {hour.home.token()}")], timeout=10)
    assert answer == b"hello|Bearer " + KEY.encode()


def test_any_service_is_reached_through_connect(hour, models):
    hour.init("raw", upstream=models)
    hour.serve()
    hour.log_in()
    running = hour.home.begin(*hour.command("The first request").replace("staunch/ca.pem", f"{hour.folder}/staunch/ca.pem").split()[1:])
    port = until(lambda: (m := re.search(r"raw \(raw\): 127\.0\.0\.1:(\d+)", running.text())) and m[1])
    assert httpx.get(f"http://127.0.0.1:{port}/v1/models").status_code == 200
    running.popen.terminate()
    assert running.ended() == 0


def test_with_login_three_commands_are_enough(hour, world, models):
    port = free_port()
    arguments = [
        "init", str(hour.folder / "staunch"), "--protect", "openai", "--issuer", world.issuer.url, "--issuer-ca", world.ca,
        "--client-id", parts.CLI, "--port", str(port), "--upstream", models, "--upstream-ca", world.ca, *key_of(hour), "--login",
    ]  # fmt: skip
    running = hour.home.begin(*arguments)
    assert httpx.get(Browser(world).visit(running.address(), "ann")).status_code == 200
    assert running.ended() == 0, running.text()
    hour.printed = running.text()
    assert "# Log in" not in hour.printed
    hour.serve()
    assert KEY in hour.type("The first request, with curl")


def test_an_issuer_is_written_as_it_calls_itself_and_one_that_is_silent_warns(hour, world, models):
    again = ["--upstream", models, "--upstream-ca", world.ca, *key_of(hour), "--issuer-ca", world.ca]
    for number, written in enumerate((f"{world.issuer.url}/", f"{world.issuer.url}/.well-known/openid-configuration")):
        folder = hour.folder / f"gw-{number}"
        hour.home.run("init", str(folder), "--protect", "openai", "--issuer", written, *again)
        assert tomllib.loads((folder / "staunch.toml").read_text())["issuer"][0]["oidc"] == world.issuer.url
    silent = f"https://127.0.0.1:{free_port()}"
    done = hour.home.run("init", str(hour.folder / "silent"), "--protect", "openai", "--issuer", silent, *again)
    assert "warning: issuer" in done.stderr and (hour.folder / "silent/staunch.toml").exists()


def test_an_issuer_of_workloads_is_one_and_keys_that_stand_elsewhere_are_named(hour, world, models):
    """GitHub's and clusters' issuers have no token endpoint; Google's keys, and those of many clusters, stand on another host."""
    issuer = Scripted(world.issuer.chain, world.issuer.key)
    try:
        command = ["init", "--protect", "openai", "--issuer", issuer.url, "--issuer-ca", world.ca, *key_of(hour)]
        for number, (keys, hosts, said) in enumerate((
            (f"{issuer.url}/keys", None, None),
            ("https://www.googleapis.com/oauth2/v3/certs", ["www.googleapis.com"], "keys stand at www.googleapis.com"),
            ("https://10.0.0.1:6443/openid/v1/jwks", ["10.0.0.1:6443"], "keys stand at 10.0.0.1:6443"),
            ("http://10.0.0.1/jwks", None, "no https URL of its keys"),
        )):  # fmt: skip
            issuer.more = {"token_endpoint": None, "authorization_endpoint": None, "jwks_uri": keys}
            done = hour.home.run(command[0], f"gw-{number}", *command[1:], cwd=hour.folder)
            read = tomllib.loads((hour.folder / f"gw-{number}/staunch.toml").read_text())
            assert read["issuer"][0].get("jwks_hosts") == hosts, done.stderr
            assert said in done.stderr if said else not done.stderr, done.stderr
    finally:
        issuer.stop()


def test_a_public_name_listens_for_everybody_and_says_what_dns_must_do(hour, models):
    hour.init("openai", *key_of(hour), "--name", "ai.gw.example.com", upstream=models)
    read = tomllib.loads((hour.folder / "staunch/staunch.toml").read_text())
    assert read["listener"][0]["address"] == f"[::]:{hour.port}" and read["route"][0]["sni"] == "ai.gw.example.com"
    assert "ai.gw.example.com must lead here" in hour.printed
    assert "clients of an address send none" in hour.init("openai", "other", *key_of(hour), "--name", "10.0.0.1", code=2)


def test_without_a_terminal_all_that_is_missing_is_named_and_nothing_is_written(hour):
    done = hour.home.run("init", "--protect", "mysql", code=2, cwd=hour.folder)
    for flag in ("--issuer", "--upstream", "--user", "--secret"):
        assert flag in done.stderr, done.stderr
    literal = hour.home.run("init", "--protect", "openai", "--secret", "sk-on-the-command-line", code=2, cwd=hour.folder)
    assert "env:NAME" in literal.stderr and not (hour.folder / "staunch").exists()


class Screen:
    """`init` at a terminal."""

    def __init__(self, hour, *more: str):
        self.pid, self.terminal = pty.fork()
        if self.pid == 0:
            os.chdir(hour.folder)
            os.execve(BINARY, [BINARY, "init", *more], hour.home.env)
        self.text, self.read = b"", b""

    def until(self, word: bytes):
        deadline = time.monotonic() + 20
        while word not in self.text and time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                block = os.read(self.terminal, 65536)
                self.text, self.read = self.text + block, self.read + block
        assert word in self.text, self.read
        self.text = self.text.split(word, 1)[1]

    def answer(self, question: bytes, answer: bytes):
        self.until(question)
        # Behind the question the terminal is made silent where it must be.
        self.until(b": ")
        time.sleep(0.05)
        os.write(self.terminal, answer)

    def shows_what_is_typed(self) -> bool:
        return bool(termios.tcgetattr(self.terminal)[3] & termios.ECHO)

    def end(self) -> int:
        with contextlib.suppress(OSError):
            while block := os.read(self.terminal, 65536):
                self.read += block
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def test_at_a_terminal_it_asks_and_shows_no_secret(hour, world):
    screen = Screen(hour, "--issuer-ca", world.ca)
    for question, answer in zip((b"protected", b"issues", b"not shown", b"groups"), ("anthropic", world.issuer.url, KEY, "agents, ops")):
        screen.answer(question, answer.encode() + b"\n")
    assert screen.end() == 0 and b"/v1/models" in screen.read, screen.read
    assert KEY.encode() not in screen.read
    text = (hour.folder / "staunch/staunch.toml").read_text()
    assert tomllib.loads(text)["route"][0]["allow"][0]["groups"] == ["agents", "ops"]
    assert (hour.folder / "staunch/secrets/anthropic.key").read_text() == KEY


def test_at_a_terminal_a_wrong_answer_is_asked_for_again(hour, world):
    screen = Screen(hour, "--issuer-ca", world.ca)
    wrong = [
        (b"protected", b"opnai", b"is none of these"), (b"protected", b"openai", None),
        (b"issues", b"https://me:hunter2@idp", b"is no issuer"), (b"issues", b"https://idp:99999", b"is no issuer"),
        (b"issues", b"\xff\xfe", b"no text in UTF-8"),
        (b"issues", f'"{world.issuer.url}/.well-known/openid-configuration/"'.encode(), None),
        (b"not shown", b"", b"nothing to store"), (b"not shown", b"Bearer sk-1", b"sent twice"),
        (b"not shown", b"'sk-1'", b"quotes stand around it"), (b"not shown", b"env:NOWHERE", b"NOWHERE is not set"),
        # A character that was taken back, and a line.
        (b"not shown", b"nonsense\x15sk-12\x7f\xc3\xbc\x7f3", None), (b"groups", b"agents", None),
    ]  # fmt: skip
    for question, answer, said in wrong:
        screen.answer(question, answer + b"\n")
        if said:
            screen.until(said)
    assert screen.end() == 0, screen.read
    assert (hour.folder / "staunch/secrets/openai.key").read_text() == "sk-13"
    assert tomllib.loads((hour.folder / "staunch/staunch.toml").read_text())["issuer"][0]["oidc"] == world.issuer.url
    assert b"sk-1" not in screen.read


@pytest.mark.parametrize("key", [b"\x03", b"\x04", b"\x1c"], ids=["interrupt", "end", "quit"])
def test_whoever_leaves_at_the_secret_has_a_terminal_that_shows_again_what_is_typed(hour, world, key):
    screen = Screen(hour, "--issuer-ca", world.ca, "--protect", "openai", "--issuer", world.issuer.url)
    screen.until(b": ")
    until(lambda: not screen.shows_what_is_typed())
    os.write(screen.terminal, b"" if key == b"\x04" else b"sk-1")
    os.write(screen.terminal, key)
    until(screen.shows_what_is_typed)
    assert screen.end() == 1 and b"nothing was written" in screen.read
    assert not (hour.folder / "staunch").exists()
