"""Certificates by ACME: ordered, kept, renewed and swapped, with Debian's pebble and with a small strict authority."""

import datetime
import pathlib
import re
import signal
import socket
import ssl
import stat
import time

import httpx
import pytest
from support import parts
from support.acme import Pebble, Problem, SmallAuthority
from support.gateway import staunch
from support.process import free_port


def ordered(world, name: str, acme, **more) -> dict:
    """A route whose certificate is ordered."""
    certificate = {"acme": acme} | more.pop("certificate", {})
    return world.route(name, world.nginx_port, certificate=certificate, **more)


def shake(port: int, name: str | None, root: str, alpn=("http/1.1",)):
    """A verified TLS connection."""
    context = ssl.create_default_context(cafile=root)
    context.set_alpn_protocols(list(alpn))
    if name is None:
        context.check_hostname = False
    tcp = socket.create_connection(("127.0.0.1", port), 10)
    return context.wrap_socket(tcp, server_hostname=name)


def serial(port: int, name: str, root: str) -> str:
    with shake(port, name, root) as tls:
        return tls.getpeercert()["serialNumber"]


def request(tls, world, name: str) -> bytes:
    token = world.issuer.token()
    head = f"GET /hello.txt HTTP/1.1\r\nhost: {name}\r\nauthorization: Bearer {token}\r\nconnection: close\r\n\r\n"
    tls.sendall(head.encode())
    answer = b""
    while block := tls.recv(65536):
        answer += block
    return answer


@pytest.fixture
def pebble(world, tmp_path):
    """pebble, for a gateway on a port that was chosen before."""
    servers = []

    def start(port, http_port=None, **more):
        folder = tmp_path / "pebble"
        folder.mkdir()
        servers.append(Pebble(folder, world.authority, port, http_port or free_port(), **more))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


@pytest.fixture
def small(world, tmp_path):
    authorities = []

    def start(port, **more):
        authorities.append(SmallAuthority(tmp_path, world.authority, port, **more))
        return authorities[-1]

    yield start
    for authority in authorities:
        authority.stop()


def config(world, tmp_path, directories: dict, *routes, **more) -> dict:
    authorities = {
        name: {"directory": one} if isinstance(one, str) else one for name, one in directories.items()
    }
    for one in authorities.values():
        one["ca"] = world.ca
    acme = {"state": str(tmp_path / "state"), "contact": ["ops@gw.test"], "authority": authorities}
    return world.config(*routes, acme=acme | more)


def test_pebble_issues_by_tls_alpn_and_the_certificate_outlives_it(world, start, pebble, tmp_path):
    port = free_port()
    ca = pebble(port)
    settings = config(world, tmp_path, {"pebble": ca.directory}, ordered(world, "api", "pebble"))
    gateway = start(settings, port=port)
    root = ca.root(world.authority)
    assert b"hello from nginx" in request(shake(port, "api.gw.test", root), world, "api.gw.test")
    obtained = next(line for line in gateway.lines() if line.get("message") == "certificate obtained")
    assert obtained["names"] == "api.gw.test" and obtained["authority"] == "pebble"
    # The authority came in before all routes, and leaves its line.
    assert gateway.line("session closed", detail="an ACME challenge was answered")["reason"] == "done"
    # Afterwards nobody gets an answer to the challenge's protocol, and other names are as unknown as before.
    for name, alpn in (("api.gw.test", "acme-tls/1"), ("other.gw.test", "acme-tls/1"), ("other.gw.test", "http/1.1")):
        with pytest.raises(ssl.SSLError, match="UNRECOGNIZED_NAME"):
            shake(port, name, root, [alpn])
    kept = [path for path in (tmp_path / "state").rglob("*")]
    assert len([path for path in kept if path.suffix == ".pem"]) == 1
    for path in [tmp_path / "state", *kept]:
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path
    first = serial(port, "api.gw.test", root)
    assert re.search(r'staunch_acme_certificate\{route="api"\} 1\n', gateway.metrics())
    assert re.search(r'staunch_certificate_not_after_seconds\{route="api"\} \d{10}\n', gateway.metrics())
    # Another gateway stays away from the directory.
    second = tmp_path / "second.toml"
    text = gateway.path.read_text().replace(str(port), str(free_port())).replace(str(gateway.admin), str(free_port()))
    second.write_text(text.replace("file:stored.key", f"file:{gateway.folder}/stored.key"))
    refused = staunch("serve", "--config", str(second))
    assert refused.returncode == 1 and b"another gateway orders certificates" in refused.stderr, refused
    check = staunch("check", "--config", str(gateway.path)).stdout.decode()
    assert "certificate for api.gw.test, until " in check and "renewed by pebble" in check, check
    # With the authority down, what was kept serves from the first moment.
    assert gateway.stop() == 0
    ca.process.stop()
    again = start(settings, port=port)
    assert serial(port, "api.gw.test", root) == first
    assert "certificate ordered" not in again.process.text()


def test_pebble_issues_by_http_on_a_port_that_serves_nothing_else(world, start, pebble, tmp_path):
    port, http = free_port(), free_port()
    ca = pebble(port, http)
    route = ordered(world, "api", ["pebble"], certificate={"challenge": "http-01"})
    tunnel = {"sni": "tunnel.gw.test", "certificate": {"acme": "pebble"}}
    settings = config(world, tmp_path, {"pebble": ca.directory}, route, http=f"127.0.0.1:{http}")
    gateway = start(settings | {"tunnel": tunnel}, port=port)
    for name in ("api.gw.test", "tunnel.gw.test"):
        serial(port, name, ca.root(world.authority))
    assert 'staunch_acme_certificate{route="tunnel:tunnel.gw.test"} 1\n' in gateway.metrics()
    for path in ("/", "/.well-known/acme-challenge/x", "/hello.txt"):
        assert httpx.get(f"http://127.0.0.1:{http}{path}").status_code == 404
    # The port stays as it is: to move it needs a restart.
    gateway.write(config(world, tmp_path, {"pebble": ca.directory}, route, http=f"127.0.0.1:{free_port()}"))
    gateway.signal(signal.SIGHUP)
    parts.until(lambda: "[acme] http changed, which needs a restart" in gateway.process.text())


def test_pebble_issues_a_wildcard_by_dns_and_the_records_are_removed(world, start, pebble, tmp_path):
    port = free_port()
    ca = pebble(port)
    hook = tmp_path / "hook"
    hook.write_text(
        f"""#!/bin/sh
        set -e
        echo "$@" >> {tmp_path}/calls
        case "$1" in present) to=set-txt ;; cleanup) to=clear-txt ;; esac
        curl -sf -d "{{\\"host\\": \\"$2.\\", \\"value\\": \\"$3\\"}}" http://127.0.0.1:{ca.dns_control}/$to
        """
    )
    hook.chmod(0o755)
    route = ordered(world, "api", "pebble", sni=["*.gw.test"], certificate={"challenge": "dns-01"})
    start(config(world, tmp_path, {"pebble": ca.directory}, route, dns_hook=[str(hook)]), port=port)
    serial(port, "any.gw.test", ca.root(world.authority))
    calls = (tmp_path / "calls").read_text().split()
    # An order that fails on a busy machine is tried again: each time the record goes that was made.
    orders = len(calls) // 6
    assert orders >= 1 and calls[0::3] == ["present", "cleanup"] * orders, calls
    assert set(calls[1::3]) == {"_acme-challenge.gw.test"} and calls[2::6] == calls[5::6], calls


def test_without_an_authority_the_gateway_runs_says_what_is_wrong_and_tries_again(world, start, small, tmp_path):
    port = free_port()
    ca = small(port)
    ca.refuse = Problem("rateLimited", "too many orders\x1b[31m", 429, Retry_After="3")
    staging = small(port)
    staging.refuse = Problem("unauthorized", "not even there", 403)
    usual = world.route("app", world.nginx_port)
    directory = {"directory": ca.directory, "staging": staging.directory}
    settings = config(world, tmp_path, {"small": directory}, ordered(world, "api", "small"), usual)
    gateway = start(settings, port=port, ready=503)
    # The usual route is served; the one without a certificate is refused, and the log says why.
    with shake(port, "app.gw.test", world.ca) as tls:
        assert b"hello from nginx" in request(tls, world, "app.gw.test")
    failed = parts.until(
        lambda: next((line for line in gateway.lines() if "order failed" in line.get("message", "")), None)
    )
    assert failed["level"] == "ERROR" and failed["names"] == "api.gw.test" and failed["failures"] == 1
    assert failed["error"] == "small: rateLimited: too many orders [31m" and 40 <= failed["retry_in"] <= 80
    with pytest.raises(ssl.SSLError):
        shake(port, "api.gw.test", world.ca)
    closed = gateway.line("session closed", reason="no_certificate")
    assert closed["culprit"] == "gateway" and "there is no certificate yet: small: rateLimited" in closed["detail"]
    ready = httpx.get(f"http://127.0.0.1:{gateway.admin}/readyz")
    assert ready.status_code == 503 and "route api: there is no certificate yet: small: rateLimited" in ready.text
    metrics = gateway.metrics()
    assert 'staunch_acme_certificate{route="api"} 0\n' in metrics and 'staunch_acme_failures{route="api"} 1\n' in metrics
    assert re.search(r'staunch_acme_next_attempt_seconds\{route="api"\} \d{10}\n', metrics)
    check = staunch("check", "--config", str(gateway.path)).stdout.decode()
    assert "certificate for api.gw.test: none yet" in check and "1 order(s) since the last success" in check, check
    # A restart does not hurry it.
    assert gateway.stop() == 0
    asked = len(ca.asked)
    gateway = start(settings, port=port, ready=503)
    time.sleep(0.5)
    assert len(ca.asked) == asked
    # A reload does; the authority's staging is asked first once an order has failed, and spares the authority itself.
    failed_at = datetime.datetime.fromisoformat(failed["time"]).timestamp()
    time.sleep(max(0, 6.2 - (time.time() - failed_at)))
    ca.refuse = None
    gateway.signal(signal.SIGHUP)
    parts.until(lambda: "at its staging: unauthorized: not even there" in gateway.process.text())
    assert len(ca.asked) == asked and len(staging.asked) == 1
    staging.refuse = None
    time.sleep(6.2)
    gateway.signal(signal.SIGHUP)
    parts.until(lambda: gateway.get("/readyz") == 200)
    assert serial(port, "api.gw.test", ca.root)
    assert 'staunch_acme_failures{route="api"} 0\n' in gateway.metrics()


def test_renewal_follows_the_authoritys_suggestion_names_what_it_replaces_and_cuts_no_stream(
    world, start, small, tmp_path
):
    port = free_port()
    ca = small(port, profiles={"shortlived": 40})
    ca.window = (-20, -10)
    # Four nonces in a row are refused: more than one order bears.
    ca.rejects = 4
    certificate = {"profile": "shortlived", "names": ["127.0.0.1"]}
    route = ordered(world, "api", "small", certificate=certificate)
    settings = config(world, tmp_path, {"small": ca.directory}, route, default_route="api")
    settings["default_route"] = settings["acme"].pop("default_route")
    gateway = start(settings, port=port)
    stream = shake(port, "api.gw.test", ca.root)
    first = stream.getpeercert()
    assert ("IP Address", "127.0.0.1") in first["subjectAltName"]
    # Suggested for the past: renewed as soon as it is a tenth of its life old.
    parts.until(lambda: len([order for order in ca.orders if "id" in order]) >= 2)
    assert ca.asked[1]["replaces"] == ca.orders[0]["id"] and "replaces" not in ca.asked[0]
    assert all(order["profile"] == "shortlived" for order in ca.asked)
    assert len(ca.accounts) == 1 and next(iter(ca.accounts.values()))["text"]["contact"] == ["mailto:ops@gw.test"]
    parts.until(lambda: serial(port, "api.gw.test", ca.root) != first["serialNumber"])
    # Who sends no name is shown it, too: it is good for the address.
    with shake(port, None, ca.root) as tls:
        assert ("IP Address", "127.0.0.1") in tls.getpeercert()["subjectAltName"]
    # The connection of before the swap goes on.
    assert b"hello from nginx" in request(stream, world, "api.gw.test")
    suggested = [line for line in gateway.lines() if line.get("message") == "certificate renewal suggested"]
    assert suggested and suggested[0]["authority"] == "small"
    assert suggested[0]["explanation"].startswith("https://ca.test/why") and "\x1b" not in suggested[0]["explanation"]


def test_a_second_gateway_with_the_same_state_is_kept_out_and_the_first_goes_on(world, start, small, tmp_path):
    port = free_port()
    ca = small(port)
    gateway = start(config(world, tmp_path, {"small": ca.directory}, ordered(world, "api", "small")), port=port)
    text = gateway.path.read_text().replace(str(port), str(free_port())).replace(str(gateway.admin), str(free_port()))
    second = gateway.folder / "second.toml"
    second.write_text(text)
    done = staunch("serve", "--config", str(second))
    assert done.returncode == 1 and b"another gateway orders certificates with this directory" in done.stderr, done.stderr
    assert staunch("check", "--config", str(second)).returncode == 0, "it only reads"
    assert serial(port, "api.gw.test", ca.root) and len(ca.asked) == 1


def test_short_lives_are_renewed_at_half_without_a_suggestion(world, start, small, tmp_path):
    port = free_port()
    ca = small(port)
    ca.life = 4
    began = time.monotonic()
    start(config(world, tmp_path, {"small": ca.directory}, ordered(world, "api", "small")), port=port)
    parts.until(lambda: len([order for order in ca.orders if "id" in order]) >= 3)
    assert 2 < time.monotonic() - began < 20


def test_the_next_authority_is_asked_when_one_refuses_and_accounts_are_bound(world, start, small, tmp_path):
    port = free_port()
    first, second = small(port), small(port, eab={"kid-1": b"k" * 32})
    first.refuse = Problem("rejectedIdentifier", "not here", 400)
    secrets = {"stored": "file:stored.key", "mac": f"file:{tmp_path}/mac"}
    (tmp_path / "mac").touch(mode=0o600)
    (tmp_path / "mac").write_text("a2tra2tra2tra2tra2tra2tra2tra2tra2tra2tra2s\n")
    bound = {"directory": second.directory, "eab_key_id": "kid-1", "eab_key": "{secret:mac}"}
    directories = {"first": first.directory, "second": bound}
    settings = config(world, tmp_path, directories, ordered(world, "api", ["first", "second"]))
    gateway = start(settings | {"secrets": secrets}, port=port)
    serial(port, "api.gw.test", second.root)
    obtained = next(line for line in gateway.lines() if line.get("message") == "certificate obtained")
    assert obtained["authority"] == "second" and len(first.asked) == 1
    # Away from the second: what it issued serves until the first has issued, at once.
    first.refuse = None
    gateway.write(config(world, tmp_path, {"first": first.directory}, ordered(world, "api", "first")))
    gateway.signal(signal.SIGHUP)
    parts.until(lambda: any("id" in order for order in first.orders))
    parts.until(lambda: serial_or_none(port, first.root))
    assert "k" * 32 not in gateway.process.text()


def serial_or_none(port: int, root: str) -> str | None:
    try:
        return serial(port, "api.gw.test", root)
    except ssl.SSLError:
        return None


def test_an_account_that_the_authority_forgot_is_made_again(world, start, small, tmp_path):
    port = free_port()
    ca = small(port)
    ca.life = 6
    gateway = start(config(world, tmp_path, {"small": ca.directory}, ordered(world, "api", "small")), port=port)

    def obtained():
        return sum(line.get("message") == "certificate obtained" for line in gateway.lines())

    # Between two orders: one that is under way would lose its account in the middle, and be tried again after a minute.
    before = obtained()
    parts.until(lambda: obtained() > before)
    ca.accounts.clear()
    before = obtained()
    parts.until(lambda: obtained() > before)
    assert len(ca.accounts) == 1


def test_state_that_cannot_be_used_is_named_and_ordered_anew(world, start, small, tmp_path):
    port = free_port()
    ca = small(port)
    settings = config(world, tmp_path, {"small": ca.directory}, ordered(world, "api", "small"))
    gateway = start(settings, port=port)
    assert gateway.stop() == 0
    kept = next(pathlib.Path(tmp_path / "state").rglob("*.pem"))
    kept.write_text("nothing")
    gateway = start(settings, port=port)
    warning = next(line for line in gateway.lines() if "orders a new certificate" in line.get("text", ""))
    assert kept.name in warning["text"]
    assert len([order for order in ca.orders if "id" in order]) == 2
