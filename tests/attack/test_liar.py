"""An upstream that lies: what its words and answers do to the log, to the client and to others on the gateway."""

import contextlib
import socket
import ssl
import struct
import threading

import pytest
from end_to_end import KEY

# A megabyte of what swells when it is escaped.
WORDS = b"\x01\xe2\x80\xae" * 250_000
# What a line may hold of them, with all that stands in it besides.
LINE = 6_000
SSL_REQUEST = b"\0\0\0\x08\x04\xd2\x16\x2f"


class Liar:
    """A server that answers each connection with `answer`, a function of the TCP socket and of what wraps it in TLS."""

    def __init__(self, world, answer):
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(*world.upstream_pair)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.serve, args=[answer], daemon=True).start()

    def serve(self, answer):
        with contextlib.suppress(OSError):
            while True:
                tcp, _ = self.listener.accept()
                threading.Thread(target=self.one, args=[tcp, answer], daemon=True).start()

    def one(self, tcp, answer):
        tcp.settimeout(20)
        with contextlib.suppress(OSError, AssertionError), tcp:
            answer(tcp, lambda: self.context.wrap_socket(tcp, server_side=True))

    def stop(self):
        self.listener.close()


@pytest.fixture
def liar(world):
    started = []

    def start(answer):
        started.append(Liar(world, answer))
        return started[-1]

    yield start
    for one in started:
        one.stop()


def drain(tls):
    with contextlib.suppress(OSError):
        while tls.recv(65536):
            pass


def postgres(tcp, wrap):
    assert tcp.recv(8) == SSL_REQUEST
    tcp.sendall(b"S")
    tls = wrap()
    tls.recv(4096)
    fields = b"SFATAL\0C28P01" + WORDS[:400] + b"\0M" + WORDS + b"\0\0"
    tls.sendall(b"E" + struct.pack(">I", len(fields) + 4) + fields)
    drain(tls)


def mysql(tcp, wrap):
    # An ERR packet in place of a greeting: nothing is encrypted yet.
    payload = b"\xff\x15\x04" + WORDS
    tcp.sendall(struct.pack("<I", len(payload))[:3] + b"\0" + payload)
    drain(tcp)


def redis(tcp, wrap):
    tls = wrap()
    tls.recv(4096)
    tls.sendall(b"-ERR " + WORDS.replace(b"\x01", b"x") + b"\r\n")
    drain(tls)


def http_1(tcp, wrap):
    tls = wrap()
    tls.recv(65536)
    tls.sendall(b"HTTP/1.1 200 " + b"\x01" * 30_000 + b"\r\n\r\n")
    drain(tls)


def log_in_postgres(world, port):
    tcp = socket.create_connection(("127.0.0.1", port), 20)
    tcp.sendall(SSL_REQUEST)
    assert tcp.recv(1) == b"S"
    tls = ssl.create_default_context(cafile=world.ca).wrap_socket(tcp, server_hostname="lied.gw.test")
    startup = b"\0\x03\0\0user\0ann\0database\0sales\0\0"
    tls.sendall(struct.pack(">I", len(startup) + 4) + startup)
    tls.recv(9)
    token = world.issuer.token().encode() + b"\0"
    tls.sendall(b"p" + struct.pack(">I", len(token) + 4) + token)
    return tls


def log_in_mysql(world, port):
    tcp = socket.create_connection(("127.0.0.1", port), 20)
    greeting = tcp.recv(4096)
    assert greeting[4] == 10
    flags = struct.pack("<IIB23x", 0x01BF_AA0D, 1 << 24, 45)
    tcp.sendall(struct.pack("<I", len(flags))[:3] + b"\1" + flags)
    tls = ssl.create_default_context(cafile=world.ca).wrap_socket(tcp, server_hostname="lied.gw.test")
    rest = flags + b"ann\0\0sales\0mysql_native_password\0\0"
    tls.sendall(struct.pack("<I", len(rest))[:3] + b"\2" + rest)
    tls.recv(4096)
    token = world.issuer.token().encode() + b"\0"
    tls.sendall(struct.pack("<I", len(token))[:3] + b"\4" + token)
    return tls


def log_in_redis(world, port):
    tcp = socket.create_connection(("127.0.0.1", port), 20)
    tls = ssl.create_default_context(cafile=world.ca).wrap_socket(tcp, server_hostname="lied.gw.test")
    token = world.issuer.token().encode()
    tls.sendall(b"*2\r\n$4\r\nAUTH\r\n$%d\r\n%s\r\n" % (len(token), token))
    return tls


def ask_http(world, port):
    tcp = socket.create_connection(("127.0.0.1", port), 20)
    tls = ssl.create_default_context(cafile=world.ca).wrap_socket(tcp, server_hostname="lied.gw.test")
    token = world.issuer.token().encode()
    tls.sendall(b"GET / HTTP/1.1\r\nHost: lied.gw.test\r\nAuthorization: Bearer %s\r\nConnection: close\r\n\r\n" % token)
    return tls


@pytest.mark.parametrize(
    ("protocol", "answer", "log_in"),
    [
        ("postgres", postgres, log_in_postgres),
        ("mysql", mysql, log_in_mysql),
        ("redis", redis, log_in_redis),
        ("http", http_1, ask_http),
    ],
)
def test_words_of_servers_are_bounded_in_lines_and_in_what_clients_are_told(world, start, liar, protocol, answer, log_in):
    server = liar(answer)
    chain, key = world.authority.leaf("lied", ["lied.gw.test"])
    more = {} if protocol == "http" else {"inject": {"user": "svc", "password": "{secret:stored}"}}
    route = world.route("lied", server.port, protocol=protocol, certificate={"chain": chain, "key": key}, **more)
    gateway = start(world.config(route, **({"mysql": {"route": "lied"}} if protocol == "mysql" else {})))
    client = log_in(world, gateway.port)
    client.settimeout(20)
    told = b""
    with contextlib.suppress(OSError):
        while piece := client.recv(65536):
            told += piece
    assert told and len(told) < LINE, len(told)
    assert b"\xe2\x80\xae" not in told and KEY.encode() not in told
    closed = gateway.line("session closed")
    assert closed["culprit"] == "upstream" or closed["reason"] == "dial", closed
    lines = [line for line in gateway.process.text().splitlines() if line.startswith("{")]
    assert max(map(len, lines)) < LINE, max(lines, key=len)[:300]
    # Nothing of it turns a terminal's text around.
    assert "\u202e" not in gateway.process.text()
