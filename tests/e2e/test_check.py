"""`staunch check`: warnings that look like warnings, `--strict`; and what the gateway says of an upstream that was named wrongly."""

import datetime
import pathlib
import socketserver
import subprocess
import threading

import pytest
from support.certs import Authority
from support.gateway import BINARY
from test_life import client, local


def check(path: pathlib.Path, *more: str) -> subprocess.CompletedProcess:
    command = [BINARY, "check", "--config", str(path), *more]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture(scope="module")
def made(tmp_path_factory, world):
    """A configuration as `init` writes it, and certificates for more than that."""
    base = tmp_path_factory.mktemp("made")
    (base / "key").touch(mode=0o600)
    (base / "key").write_text("sk-stored")
    folder = base / "gw"
    arguments = ["--issuer", world.issuer.url, "--issuer-ca", world.ca, "--group", "ml", "--secret", f"file:{base}/key"]
    subprocess.run([BINARY, "init", str(folder), "--protect", "openai", *arguments], check=True, capture_output=True)
    authority = Authority(folder)
    authority.leaf("more", ["second.localhost", "tunnel.localhost"])
    authority.leaf("soon", ["localhost"], datetime.timedelta(days=3, hours=1))
    return folder


def test_what_init_writes_is_fine_also_strictly(made):
    done = check(made / "staunch.toml", "--strict")
    assert done.returncode == 0 and done.stderr == "" and "route openai (http)" in done.stdout


RULE = 'allow = [{ issuer = "corp", groups = ["ml"] }]'
HTTP = 'protocol = "http"'
UPSTREAM = 'upstream = "tls://api.openai.com:443"'
HERE = 'unsafe_plaintext_upstream = true\nalpn = "http/1.1"\nupstream = "tcp://127.0.0.1:1"'
BALANCER = 'proxy_protocol_from = ["0.0.0.0/0"]\naddress = "127'
SECOND = f"""
[[route]]
name = "second"
sni = "second.localhost"
protocol = "http"
host = "keep"
{UPSTREAM}
certificate = {{ chain = "more.pem", key = "more.key" }}
{RULE}
"""
TUNNEL = """
[[listener]]
address = "[::]:9443"
tunnel = { sni = "tunnel.localhost", certificate = { chain = "more.pem", key = "more.key" } }
"""


@pytest.mark.parametrize(
    "changes, more, said",
    [
        ({'audience = ["staunch"]': 'audience = ["account"]'}, "", '"account" is an audience'),
        ({'audience = ["staunch"]': 'audience = ["staunch", "api"]'}, "", "name the one that is meant"),
        ({'groups_claim = "groups"': 'groups_claim = ""'}, "", "groups_claim is empty"),
        ({'"Bearer {secret:stored}"': '"Bearer sk-live"', "[secrets]": "", "stored =": "#"}, "", "a secret stands here itself"),
        ({RULE: RULE.replace("ml", "*")}, "", "is compared as it stands"),
        ({RULE: RULE.replace('groups = ["ml"]', 'claims = { email = "a@b.example" }')}, "", "email_verified"),
        ({}, SECOND, "clients choose its virtual host"),
        ({}, TUNNEL, "can be reached from elsewhere"),
        ({HTTP: f'{HTTP}\nclient_certificates = "optional"\nclient_ca = "ca.pem"'}, "", "a token alone"),
        ({UPSTREAM: HERE}, "", "nothing encrypts"),
        ({'address = "127': BALANCER}, "", "nearly everybody"),
        ({}, '[admin]\nrevocations = "absent/revocations.jsonl"\n', "make it: mkdir -m 700"),
        ({'"gateway.pem", key = "gateway.key"': '"soon.pem", key = "soon.key"'}, "", "ends in 3 days"),
    ],
)
def test_each_warning_looks_like_one_and_counts_with_strict(made, changes, more, said):
    text = (made / "staunch.toml").read_text() + more
    for old, new in changes.items():
        assert old in text, old
        text = text.replace(old, new)
    path = made / "changed.toml"
    path.write_text(text)
    done = check(path)
    lines = done.stderr.splitlines()
    assert done.returncode == 0 and "route openai" in done.stdout, done.stderr
    assert all(": warning: " in line for line in lines) and any(said in line for line in lines), done.stderr
    strict = check(path, "--strict")
    assert strict.returncode == 1 and strict.stdout == "" and "count as faults (--strict)" in strict.stderr


@pytest.mark.parametrize(
    "more, said",
    [
        ('[[issuer]]\nname = "b"\noidc = "https://me:hidden@idp.test"\naudience = ["x"]', 'https://…@idp.test" is no https URL'),
        ('[[issuer]]\nname = "b"\noidc = "https://idp.test/?key=hidden"\naudience = ["x"]', "has a query or a fragment"),
        ('[issuer.signals]\naudience = ["x"]\npoll = "https://me:hidden@idp.test/poll"', '@idp.test/poll" is no https URL'),
        ('[traces]\nurl = "https://me:hidden@collector.test"', '@collector.test" is no https URL'),
        ('[recording]\ndirectory = "r"\nauditors = []\ntimestamp = { url = "https://me:hidden@tsa.test", authority = "ca.pem" }', "no URL of an authority"),
        ('[[listener]]\naddress = "me:hidden@gw.test:443"', "is no address with a port"),
    ],
)
def test_a_url_with_a_password_is_named_without_it(made, more, said):
    path = made / "url.toml"
    path.write_text((made / "staunch.toml").read_text() + "\n" + more)
    done = check(path)
    assert done.returncode == 1 and said in done.stderr and "hidden" not in done.stderr, done.stderr


class Banner(socketserver.BaseRequestHandler):
    """A server that speaks something else than TLS."""

    def handle(self):
        self.request.recv(4096)
        self.request.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")


def test_an_upstream_that_speaks_no_tls_or_has_another_authority_is_explained(world, start):
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Banner) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        plain = local(world, "plain") | {"upstream": {"address": f"tls://127.0.0.1:{server.server_address[1]}", "ca": world.ca}}
        foreign = world.route("api", world.nginx_port, upstream=f"tls://127.0.0.1:{world.nginx_port}")
        gateway = start(world.config(plain, foreign))
        token = world.issuer.token()
        for host, said in (("localhost", "does not speak TLS on this port"), ("api.gw.test", "the `ca` of this route's upstream")):
            with client(world) as http:
                url = f"https://localhost:{gateway.port}/"
                extensions = {"sni_hostname": host}
                answer = http.get(url, headers={"Authorization": f"Bearer {token}", "Host": host}, extensions=extensions)
            assert answer.status_code == 502, answer.text
            lines = [line for line in gateway.lines() if said in str(line)]
            assert lines, gateway.process.text()
        server.shutdown()
