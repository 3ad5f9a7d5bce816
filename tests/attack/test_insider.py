"""Somebody with a token of his own: whose name the evidence has, and what of his work it hides."""

import os
import socket
import ssl

import pytest
from end_to_end import KEY
from support import parts, postgres, redis_server
from support.process import run


def command(*words):
    words = [word.encode() for word in words]
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)


class Wire:
    def __init__(self, world, port, name):
        context = ssl.create_default_context(cafile=world.ca)
        plain = socket.create_connection(("127.0.0.1", port), 10)
        self.tls = context.wrap_socket(plain, server_hostname=name)

    def ask(self, *words):
        """Sends a command; returns the reply's line."""
        self.tls.sendall(command(*words))
        line = b""
        while not line.endswith(b"\r\n"):
            piece = self.tls.recv(1)
            assert piece, line
            line += piece
        return line


@pytest.fixture
def cache(world, start):
    server = redis_server.Server(*world.upstream_pair, world.ca, KEY)
    chain, key = world.authority.leaf("evidence", ["evidence.gw.test"])
    account = {"user": "svc", "password": "{secret:stored}"}
    route = world.route("evidence", server.port, protocol="redis", certificate={"chain": chain, "key": key}, inject=account)
    yield start(world.config(route))
    server.stop()


def test_a_token_that_is_refused_names_nobody_in_the_end(world, cache):
    wire = Wire(world, cache.port, "evidence.gw.test")
    victim, own = world.issuer.token(parts.STRANGER), world.issuer.token()
    # Before the permit, and again within the session.
    assert wire.ask("AUTH", victim).startswith(b"-")
    assert wire.ask("AUTH", own) == b"+OK\r\n"
    assert wire.ask("AUTH", victim).startswith(b"-")
    assert wire.ask("SET", "stolen", "1") == b"+OK\r\n"
    assert wire.ask("QUIT") == b"+OK\r\n"
    closed = cache.line("session closed")
    assert closed["subject"] == parts.ANN, closed
    of_victim = [line for line in cache.lines() if line.get("subject") == parts.STRANGER]
    assert of_victim and all((line["event"], line["result"]) == ("login", "not_permitted") for line in of_victim), of_victim


def test_a_login_that_a_transaction_swallows_changes_nobody(world, cache):
    wire = Wire(world, cache.port, "evidence.gw.test")
    assert wire.ask("AUTH", world.issuer.token()) == b"+OK\r\n"
    assert wire.ask("MULTI") == b"+OK\r\n"
    wire.ask("AUTH", world.issuer.token(parts.BRIEF))
    wire.ask("DISCARD")
    wire.ask("QUIT")
    assert cache.line("session closed")["subject"] == parts.ANN


def test_the_session_has_a_name_in_the_log_while_it_lives(world, cache):
    wire = Wire(world, cache.port, "evidence.gw.test")
    assert wire.ask("AUTH", world.issuer.token()) == b"+OK\r\n"
    # What is written now is there even if the gateway is killed in the next moment.
    assert cache.line("session permitted")["subject"] == parts.ANN
    cache.process.popen.kill()
    cache.process.popen.wait()
    assert any(line["event"] == "session permitted" for line in cache.lines())


def test_text_that_looks_like_a_token_hides_no_statement(world, start):
    server = postgres.Server(*world.upstream_pair, KEY)
    try:
        chain, key = world.authority.leaf("stated", ["stated.gw.test"])
        gateway = start(world.config(world.route(
            "stated", server.port, protocol="postgres", certificate={"chain": chain, "key": key}, statements="on",
            inject={"user": "svc_scram", "password": "{secret:stored}"},
        )))  # fmt: skip
        to = f"host=stated.gw.test hostaddr=127.0.0.1 port={gateway.port} dbname=postgres user=x sslmode=verify-full sslrootcert={world.ca}"
        token = world.issuer.token()
        sql = f"select 1 as eyJhaaaaaaaaaaa_ssn; select '{token}'"
        done = run(["psql", "-wAtc", sql, to], env=os.environ | {"PGPASSWORD": token})
        assert done.returncode == 0, done.stderr
        texts = " ".join(str(line) for line in gateway.lines() if line["event"] == "statement")
        assert "eyJhaaaaaaaaaaa_ssn" in texts and token not in texts
        # The word is no token, and the look at the end for tokens in the log must not take it for one.
        gateway.stop()
        log = gateway.process.log
        log.write_text(log.read_text().replace("eyJhaaaaaaaaaaa_ssn", ""))
    finally:
        server.stop()
