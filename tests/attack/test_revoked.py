"""Somebody whose time is over: certificates that were revoked, and lists of them that nobody renewed."""

import contextlib
import datetime
import os
import signal
import socket
import ssl
import threading
import time

import httpx
import pytest
from support.parts import until

HOUR = datetime.timedelta(hours=1)


class Echo(threading.Thread):
    """A TLS server that says back what it hears."""

    def __init__(self, world):
        super().__init__(daemon=True)
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(*world.upstream_pair)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.start()

    def run(self):
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=self.one, args=(self.listener.accept()[0],), daemon=True).start()

    def one(self, plain):
        with contextlib.suppress(OSError), self.context.wrap_socket(plain, server_side=True) as tls:
            while part := tls.recv(1 << 16):
                tls.sendall(part)


@pytest.fixture(scope="module")
def pairs(world):
    return {name: world.authority.leaf(name, ["ann.clients.test"]) for name in ("here", "gone", "later")}


def gets_in(gateway, world, pair) -> bool:
    context = ssl.create_default_context(cafile=world.ca)
    context.load_cert_chain(*pair)
    try:
        plain = socket.create_connection(("127.0.0.1", gateway.port), 10)
        with context.wrap_socket(plain, server_hostname="raw.gw.test") as tls:
            tls.settimeout(10)
            tls.sendall(b"x")
            return tls.recv(1) == b"x"
    except ssl.SSLError:
        return False


def config(world, port, **more):
    route = world.route(
        "raw", port, protocol="raw", client_certificates="required", client_ca=world.ca,
        certificate_identity={"name": "machines", "subject": ["dns"]},
        allow=[{"issuer": "machines", "subjects": ["ann.clients.test"]}], **more,
    )  # fmt: skip
    del route["inject"]
    whole = world.config(route)
    del whole["issuer"], whole["secrets"]
    return whole


def readiness(gateway):
    answer = httpx.get(f"http://127.0.0.1:{gateway.admin}/readyz")
    return answer.status_code, answer.text


def test_a_list_past_its_next_update_is_relied_on_only_where_that_is_wanted(world, start, pairs, tmp_path):
    """Refuse: nobody gets in, `/readyz` says why, and a new list ends it. Warn: the old list goes on to count."""
    crl = world.authority.revoke(["gone"], ends=datetime.timedelta(seconds=6))
    deadline = time.monotonic() + 7
    echo = Echo(world)
    strict = start(config(world, echo.port, client_crl=crl))
    lenient = start(config(world, echo.port, client_crl=crl, client_crl_expired="warn"))
    for gateway in (strict, lenient):
        assert gets_in(gateway, world, pairs["here"]) and not gets_in(gateway, world, pairs["gone"])
        assert readiness(gateway)[0] == 200
    time.sleep(max(0, deadline - time.monotonic()))

    assert not gets_in(strict, world, pairs["here"])
    code, why = readiness(strict)
    assert code == 503 and "revoked client certificates of route raw" in why, why

    assert gets_in(lenient, world, pairs["here"]) and not gets_in(lenient, world, pairs["gone"])
    assert readiness(lenient)[0] == 200
    # Whoever was revoked since would get in, and whoever starts it then is told so.
    assert any("whoever was revoked since gets in" in line for line in start_again(lenient)), lenient.process.text()

    world.authority.revoke(["gone", "later"], ends=HOUR)
    for gateway in (strict, lenient):
        gateway.signal(signal.SIGHUP)
        until(lambda gateway=gateway: readiness(gateway)[0] == 200 and not gets_in(gateway, world, pairs["later"]))
        assert gets_in(gateway, world, pairs["here"])


def start_again(gateway) -> list[str]:
    """What `staunch check` says of the configuration as it is now."""
    from support.gateway import staunch

    done = staunch("check", "--config", os.fspath(gateway.path))
    return (done.stdout + done.stderr).decode().splitlines()
