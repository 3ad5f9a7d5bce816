"""Faults of certificate authorities: the last good certificate serves on, and log, `check` and metrics say what is wrong."""

import email.utils
import json
import re
import signal
import time

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from support import parts
from support.acme import Problem
from support.gateway import staunch
from support.process import free_port
from test_acme import config, ordered, shake, small  # noqa: F401

INVALID = {"type": "urn:ietf:params:acme:error:caa", "detail": "CAA forbids it", "status": 403}


def answers(path: str, body, status: int = 200, **headers):
    """An authority that answers this in place of what it would."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return lambda ca: ca.overrides.update({path: (status, headers, content)})


def refuses(*problem, **headers):
    return lambda ca: setattr(ca, "refuse", Problem(*problem, **headers))


def issues(**instead):
    return lambda ca: ca.issue_with.update(instead)


# What, how it comes about, what is said, and for how long at least nothing more is asked.
FAULTS = [
    ("limited", refuses("rateLimited", "too many", 429, Retry_After="7200"), "rateLimited: too many", 7000),
    ("dated", refuses("rateLimited", "too many", 429, Retry_After=email.utils.formatdate(time.time() + 7200, usegmt=True)), "rateLimited", 6000),
    ("down", answers("/order", b"<html>", 500, Content_Type="text/html"), "the authority answered 500", 40),
    ("empty", answers("/directory", {}), "newNonce", 40),
    ("huge", answers("/directory", b"{" + b" " * (1 << 20)), "larger than 262144 bytes", 40),
    ("elsewhere", answers("/order", b"", 302, Location="https://127.0.0.1:1/order"), "redirects are not followed", 40),
    ("invalid", answers("/orders/", {"status": "invalid", "error": INVALID, "identifiers": [], "authorizations": [], "finalize": ""}), "caa: CAA forbids it", 40),
    ("names", issues(names=x509.SubjectAlternativeName([x509.DNSName("other.test")])), "what was issued is not good for names.gw.test", 40),
    ("key", issues(key=ec.generate_private_key(ec.SECP256R1()).public_key()), "its key is not the certificate's", 40),
    ("ended", issues(life=-10), "what was issued has ended already; is the clock", 40),
    ("nothing", answers("/certificates/", b"nothing"), "it holds no certificate in PEM", 40),
    ("nonces", lambda ca: setattr(ca, "rejects", 1 << 30), "badNonce", 40),
    ("deactivated", refuses("unauthorized", "the account is deactivated", 403), "/state/accounts/", 40),
    ("gone", lambda ca: ca.stop(), "no connection", 40),
]  # fmt: skip


def test_the_last_good_certificate_outlives_whatever_is_wrong_with_its_authority(world, start, small, tmp_path):  # noqa: F811
    port = free_port()
    # Suggested for the past: renewed when a tenth of its life is over, which is long enough to begin the faults.
    authorities = {name: small(port, profiles={"short": 45}) for name, *_ in FAULTS}
    for ca in authorities.values():
        ca.window = (-20, -10)
    routes = [ordered(world, name, name, certificate={"profile": "short"}) for name in authorities]
    directories = {name: ca.directory for name, ca in authorities.items()}
    gateway = start(config(world, tmp_path, directories, *routes), port=port)

    def lines(message: str) -> dict:
        return {line["names"]: line for line in gateway.lines_by_now() if message in line.get("message", "")}

    for name, begin, *_ in FAULTS:
        begin(authorities[name])
    failed = "certificate order failed, the old one serves"
    parts.until(lambda: len(lines(failed)) == len(FAULTS), 60)
    found, metrics = lines(failed), gateway.metrics()
    check = staunch("check", "--config", str(gateway.path)).stdout.decode()
    for name, _, words, seconds in FAULTS:
        line = found[f"{name}.gw.test"]
        assert words in line["error"] and line["retry_in"] >= seconds and line["failures"] == 1, line
        assert f'staunch_acme_failures{{route="{name}"}} 1\n' in metrics
        assert re.search(rf'staunch_acme_next_attempt_seconds\{{route="{name}"\}} \d{{10}}\n', metrics)
        assert line["error"] in check, check
        with shake(port, f"{name}.gw.test", authorities[name].root):
            pass
    assert gateway.get("/readyz") == 200


def test_an_account_that_must_be_bound_is_named_where_it_is_not_or_wrongly(world, start, small, tmp_path):  # noqa: F811
    port = free_port()
    unbound, wrong = (small(port, eab={"kid-1": b"k" * 32}) for _ in range(2))
    (tmp_path / "mac").touch(mode=0o600)
    (tmp_path / "mac").write_text("a2tra2tra2tra2tra2tra2tra2tra2tra2tra2tra2s")
    bound = {"directory": wrong.directory, "eab_key_id": "kid-2", "eab_key": "{secret:mac}"}
    directories = {"unbound": unbound.directory, "wrong": bound}
    settings = config(world, tmp_path, directories, *(ordered(world, name, name) for name in directories))
    settings |= {"secrets": {"stored": "file:stored.key", "mac": f"file:{tmp_path}/mac"}}
    gateway = start(settings, port=port, ready=503)

    def errors() -> dict:
        failed = (line for line in gateway.lines() if "order failed" in line.get("message", ""))
        return {line["names"]: line["error"] for line in failed}

    parts.until(lambda: len(errors()) == 2)
    assert "externalAccountRequired" in errors()["unbound.gw.test"] and "eab_key_id" in errors()["unbound.gw.test"]
    assert "unauthorized: the binding is of another key" in errors()["wrong.gw.test"]
    assert "a2tra2" not in gateway.process.text()


def test_a_staging_that_is_out_of_order_keeps_no_certificate_away(world, start, small, tmp_path):  # noqa: F811
    port = free_port()
    ca, staging = small(port), small(port)
    ca.refuse = Problem("serverInternal", "not now", 500)
    staging.refuse = Problem("serverInternal", "not now either", 500)
    directories = {"small": {"directory": ca.directory, "staging": staging.directory}}
    gateway = start(config(world, tmp_path, directories, ordered(world, "api", "small")), port=port, ready=503)
    parts.until(lambda: "not now" in gateway.process.text())
    ca.refuse = None
    # The second attempt, once a reload may hurry it.
    parts.until(lambda: reloaded(gateway), every=1)
    assert "the staging of an ACME authority is out of order" in gateway.process.text()
    with shake(port, "api.gw.test", ca.root):
        pass


def reloaded(gateway) -> bool:
    """Reloads, which hurries an order that failed some seconds ago."""
    gateway.signal(signal.SIGHUP)
    return gateway.get("/readyz") == 200
