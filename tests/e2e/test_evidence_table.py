"""Each line held against what its client and its upstream saw: HTTP/1.1, HTTP/2, raw, databases; every way of ending."""

import contextlib
import re
import socket
import ssl
import struct
import threading

import h2.config
import h2.connection
import h2.events
import pytest
from support.gateway import KEY, Gateway
from test_evidence import request
from test_tls import Sink, client_context, raw_config, raw_route

# An answer's body, and how much of it comes where it is cut; an upload, likewise.
WHOLE, PART, UPLOAD, SOME = 1000, 400, 200_000, 70_000


def reset(connection):
    """Ends a connection so that nobody takes it for an end."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


class Http1:
    """One request of HTTP/1.1, from either side."""

    def __init__(self, connection):
        self.connection, self.text = connection, b""

    def head(self):
        while b"\r\n\r\n" not in self.text:
            if not (piece := self.connection.recv(65536)):
                raise ConnectionError
            self.text += piece
        head, self.text = self.text.split(b"\r\n\r\n", 1)
        return head.decode()

    def asked(self):
        head = self.head()
        self.announced = int(found[1]) if (found := re.search(r"(?i)content-length: (\d+)", head)) else 0
        return head.split()[1]

    def ask(self, world, method, path, announced):
        length = f"Content-Length: {announced}\r\n" if announced is not None else ""
        self.connection.sendall(request(world, f"{method} {path} HTTP/1.1\r\n{length}"))

    def status(self):
        while (status := int(self.head().split()[1])) < 200:
            pass
        return status

    def body(self, most):
        """Reads as much, or until the end, and returns how much that was."""
        count, self.text = len(self.text), b""
        with contextlib.suppress(OSError):
            while count < most and (piece := self.connection.recv(65536)):
                count += len(piece)
        return count

    def answer(self, status, length):
        framing = "Connection: close" if length is None else f"Content-Length: {length}"
        self.connection.sendall(f"HTTP/1.1 {status} Whatever\r\n{framing}\r\n\r\n".encode())

    def hint(self):
        self.connection.sendall(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n")

    def send(self, count, ends=False):
        self.connection.sendall(b"x" * count)


class Http2:
    """The same of HTTP/2."""

    def __init__(self, connection, client=False):
        self.connection, self.stream, self.announced = connection, 1, 0
        self.http = h2.connection.H2Connection(h2.config.H2Configuration(client_side=client))
        self.http.initiate_connection()
        self.path, self.code, self.count, self.over = None, None, 0, False
        self.flush()

    def flush(self):
        self.connection.sendall(self.http.data_to_send())

    def pump(self):
        piece = self.connection.recv(65536)
        if not piece:
            raise ConnectionError
        for event in self.http.receive_data(piece):
            match event:
                case h2.events.RequestReceived():
                    fields = dict(event.headers)
                    self.path, self.announced = fields[b":path"].decode(), int(fields.get(b"content-length", 0))
                case h2.events.ResponseReceived():
                    self.code = int(dict(event.headers)[b":status"])
                case h2.events.DataReceived():
                    self.count += len(event.data)
                    if event.flow_controlled_length:
                        self.http.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                case h2.events.StreamEnded() | h2.events.StreamReset() | h2.events.ConnectionTerminated():
                    self.over = True
        self.flush()

    def asked(self):
        while self.path is None:
            self.pump()
        return self.path

    def ask(self, world, method, path, announced):
        token = f"Bearer {world.issuer.token()}"
        fields = [(":method", method), (":scheme", "https"), (":path", path), (":authority", "app.gw.test"), ("authorization", token)]
        fields += [("content-length", str(announced))] if announced is not None else []
        self.http.send_headers(self.stream, fields, end_stream=announced is None)
        self.flush()

    def status(self):
        while self.code is None:
            self.pump()
        return self.code

    def body(self, most):
        with contextlib.suppress(OSError):
            while self.count < most and not self.over:
                self.pump()
        return self.count

    def answer(self, status, length):
        fields = [(":status", str(status))] + ([("content-length", str(length))] if length is not None else [])
        self.http.send_headers(self.stream, fields, end_stream=length == 0)
        self.flush()

    def hint(self):
        self.http.send_headers(self.stream, [(":status", "103"), ("link", "</x>")])
        self.flush()

    def send(self, count, ends=False):
        while count:
            while not (room := min(count, self.http.local_flow_control_window(self.stream), 16_384)):
                self.pump()
            count -= room
            self.http.send_data(self.stream, b"x" * room, end_stream=ends and not count)
            self.flush()


def speaks_http2(connection):
    return connection.selected_alpn_protocol() == "h2"


class Upstream(Sink):
    """Answers as the path says, and remembers how much of each request's body it saw."""

    def __init__(self, world):
        self.saw = {}
        super().__init__(world, self.serve_one)
        self.context.set_alpn_protocols(["h2", "http/1.1"])

    def serve_one(self, connection):
        connection.settimeout(10)
        http = Http2(connection) if speaks_http2(connection) else Http1(connection)
        path = http.asked()
        kind = path.split("/")[1]
        if kind == "answering":
            self.saw[path] = http.body(SOME)
        elif kind != "early":
            self.saw[path] = http.body(http.announced or 1) if http.announced else 0
        match kind:
            case "whole" | "head" | "upload":
                http.answer(200, WHOLE)
                if kind != "head":
                    http.send(WHOLE, ends=True)
            case "unsized":
                http.answer(200, None)
                http.send(WHOLE, ends=True)
                if not speaks_http2(connection):
                    connection.unwrap()
            case "bare":
                http.answer(200, 0)
            case "hints":
                http.hint()
                http.hint()
                return reset(connection)
            case "part" | "answering":
                http.answer(200, WHOLE)
                http.send(PART)
            case "dies":
                http.answer(200, WHOLE)
                http.send(PART)
                threading.Event().wait(0.15)
                return reset(connection)
            case "nothing":
                return reset(connection)
            case "early":
                http.answer(413, WHOLE)
                http.send(WHOLE, ends=True)
        # Until the gateway has had enough.
        with contextlib.suppress(OSError):
            while connection.recv(65536):
                pass


@pytest.fixture(scope="module")
def upstream(world):
    upstream = Upstream(world)
    yield upstream
    upstream.listener.close()


@pytest.fixture(scope="module")
def evidence(world, upstream, tmp_path_factory):
    gateway = Gateway(tmp_path_factory.mktemp("table"), world.config(world.route("app", upstream.port)))
    yield gateway
    assert gateway.stop() == 0, gateway.process.text()


# What is asked: its path's first part, method, body announced, body sent, how much of the answer is read. What is said of it: status,
# who ended it, bytes up and down; "saw" is what the upstream, or the client, saw.
TABLE = [
    ("whole", "GET", None, 0, WHOLE, 200, "whole", 0, WHOLE),
    ("unsized", "GET", None, 0, WHOLE, 200, "whole", 0, WHOLE),
    ("head", "HEAD", None, 0, 0, 200, "whole", 0, 0),
    ("part", "GET", None, 0, PART, 200, "by_client", 0, "saw"),
    ("dies", "GET", None, 0, WHOLE, 200, "by_upstream", 0, "saw"),
    ("nothing", "GET", None, 0, 0, 502, "by_upstream", 0, 0),
    ("bare", "GET", None, 0, 0, 200, "whole", 0, 0),
    ("hints", "GET", None, 0, 0, 502, "by_upstream", 0, 0),
    ("answering", "POST", UPLOAD, SOME, PART, 200, "by_client", "saw", "saw"),
    ("upload", "POST", UPLOAD, UPLOAD, WHOLE, 200, "whole", "saw", WHOLE),
    ("upload", "POST", UPLOAD, SOME, None, None, "by_client", "saw", 0),
    ("silent", "POST", UPLOAD, UPLOAD, None, None, "by_client", "saw", 0),
    ("early", "POST", UPLOAD, 0, WHOLE, 413, "whole or by_client", 0, WHOLE),
]


def ask(world, gateway, version, path, row):
    """Returns the status and how much of the answer came; then leaves without a word."""
    _, method, announced, sent, most, *_ = row
    context = client_context(world)
    context.set_alpn_protocols([version])
    tcp = socket.create_connection(("127.0.0.1", gateway.port), timeout=10)
    connection = context.wrap_socket(tcp, server_hostname="app.gw.test")
    http = Http2(connection, client=True) if version == "h2" else Http1(connection)
    http.ask(world, method, path, announced)
    http.send(sent, ends=sent == announced)
    status, count = None, 0
    if most is not None:
        status = http.status()
        count = http.body(most)
    else:
        # The upstream has it by then.
        threading.Event().wait(0.3)
    reset(connection)
    return status, count


@pytest.mark.parametrize("version", ["http/1.1", "h2"])
def test_a_line_says_what_both_sides_saw_and_who_ended_it(world, evidence, upstream, version):
    short = version.removeprefix("http/").removeprefix("h")
    results = {}

    def one(number, row):
        path = f"/{row[0]}/{short}/{number}"
        results[path] = row, ask(world, evidence, version, path, row)

    threads = [threading.Thread(target=one, args=item) for item in enumerate(TABLE)]
    [thread.start() for thread in threads]
    [thread.join(20) for thread in threads]
    assert len(results) == len(TABLE)
    for path, (row, (status, saw)) in results.items():
        line = evidence.line("request", path=path)
        *_, expected, ended, up, down = row
        said = (line.get("status"), line["ended"], line["up_bytes"], line["down_bytes"])
        up = upstream.saw[path] if up == "saw" else up
        down = saw if down == "saw" else down
        assert status == expected and line["ended"] in ended.split(" or "), (path, status, line)
        assert said == (expected, line["ended"], up, down), (path, said, (expected, ended, up, down))
        closed = evidence.line("session closed", session=line["session"])
        culprit = {"by_client": "client", "by_upstream": "upstream"}.get(line["ended"])
        assert culprit in (None, closed["culprit"]), (path, closed)


# Ways in which a session ends, with what its line says of it: its client says goodbye, its client dies, its upstream dies.
ENDS = {b"d": ("done", "nobody"), b"c": ("reset", "client"), b"u": ("reset", "upstream")}


def end_and_compare(gateway, client, kind, sides, expected):
    """Ends a session in one of these ways, and holds its line against the bytes up and down that both sides saw."""
    match kind:
        case b"d":
            client.unwrap()
        case b"c":
            reset(client)
        case b"u":
            with contextlib.suppress(OSError):
                client.recv(65536)
    reason, culprit = ENDS[kind]
    line = gateway.line("session closed", reason=reason, culprit=culprit)
    assert (line["up_bytes"], line["down_bytes"]) == sides == expected, (kind, line)


def test_a_raw_session_has_the_bytes_of_both_sides_whoever_ends_it(world, tmp_path):
    saw = {}

    def serve(connection):
        kind = connection.recv(1)
        count = 1
        while count < SOME and (piece := connection.recv(65536)):
            count += len(piece)
        saw[kind] = count
        connection.sendall(b"x" * PART)
        if kind == b"u":
            threading.Event().wait(0.15)
            return reset(connection)
        with contextlib.suppress(OSError):
            while connection.recv(65536):
                pass
            connection.unwrap()

    sink = Sink(world, serve)
    gateway = Gateway(tmp_path, raw_config(world, raw_route(world, sink.port)))
    pair = world.authority.leaf("ann-evidence", ["ann.clients.test"])
    for kind in ENDS:
        plain = socket.create_connection(("127.0.0.1", gateway.port), 10)
        client = client_context(world, pair).wrap_socket(plain, server_hostname="raw.gw.test")
        client.sendall(kind + b"y" * (SOME - 1))
        got = 0
        with contextlib.suppress(OSError):
            while got < PART and (piece := client.recv(65536)):
                got += len(piece)
        end_and_compare(gateway, client, kind, (saw[kind], got), (SOME, PART))
    assert gateway.stop() == 0
    sink.listener.close()


def plain_server(serve):
    """A server without TLS, which runs a function for each connection."""
    listener = socket.create_server(("127.0.0.1", 0))

    def run():
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                threading.Thread(target=serve, args=(connection,), daemon=True).start()

    threading.Thread(target=run, daemon=True).start()
    return listener


def exactly(connection, count):
    text = b""
    while len(text) < count:
        if not (piece := connection.recv(count - len(text))):
            raise ConnectionError(text)
        text += piece
    return text


class RedisTalk:
    """A login, a command with a value of so many bytes, and an answer of which some may be missing."""

    name = "redis"
    more: dict = {}
    listener: dict = {}

    def command(self, *words):
        return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)

    def accept(self, connection):
        exactly(connection, len(self.command(b"AUTH", b"svc", KEY.encode())))
        connection.sendall(b"+OK\r\n")

    def log_in(self, plain, context, token):
        client = context.wrap_socket(plain, server_hostname="table.db.test")
        client.sendall(self.command(b"AUTH", token))
        assert exactly(client, 5) == b"+OK\r\n"
        return client

    def question(self, kind):
        return self.command(b"SET", kind, b"x" * SOME)

    def kind(self, question):
        return question.split(b"\r\n")[4]

    def answer(self):
        return b"$%d\r\n%s\r\n" % (WHOLE, b"y" * WHOLE)


class PostgresTalk:
    """The same in PostgreSQL's messages."""

    name = "postgres"
    more = {"require_auth": "none"}
    listener: dict = {}
    greeting = b"R\0\0\0\x08\0\0\0\0" + b"Z\0\0\0\x05I"

    def accept(self, connection):
        (length,) = struct.unpack(">I", exactly(connection, 4))
        exactly(connection, length - 4)
        connection.sendall(self.greeting)

    def log_in(self, plain, context, token):
        plain.sendall(struct.pack(">II", 8, 80877103))
        assert exactly(plain, 1) == b"S"
        client = context.wrap_socket(plain, server_hostname="table.db.test")
        startup = struct.pack(">I", 196608) + b"user\0ann\0database\0shop\0\0"
        client.sendall(struct.pack(">I", len(startup) + 4) + startup)
        assert exactly(client, 9) == b"R\0\0\0\x08\0\0\0\x03"
        client.sendall(b"p" + struct.pack(">I", len(token) + 5) + token + b"\0")
        assert exactly(client, len(self.greeting)) == self.greeting
        return client

    def question(self, kind):
        text = b"select '" + kind + b"', '" + b"x" * SOME + b"'\0"
        return b"Q" + struct.pack(">I", len(text) + 4) + text

    def kind(self, question):
        return question.split(b"'")[1]

    def answer(self):
        row = b"\0\x01" + struct.pack(">I", WHOLE) + b"y" * WHOLE
        column = b"\0\x01a\0" + b"\0" * 6 + struct.pack(">IhIh", 25, -1, 0xFFFFFFFF, 0)
        messages = [(b"T", column), (b"D", row), (b"C", b"SELECT 1\0"), (b"Z", b"I")]
        return b"".join(kind + struct.pack(">I", len(text) + 4) + text for kind, text in messages)


class MysqlTalk:
    """The same in MySQL's packets."""

    name = "mysql"
    more: dict = {}
    listener = {"mysql": {"route": "table"}}
    # What tests/mysql.rs has: protocol 4.1, plug-ins, attributes, several results, no EOF packets; and TLS.
    flags = 0x01BFA20D
    tls = 1 << 11
    done = b"\0\0\0\x02\0\0\0"

    def packet(self, sequence, payload):
        return struct.pack("<I", len(payload))[:3] + bytes([sequence]) + payload

    def read(self, connection):
        head = exactly(connection, 4)
        return head[3], exactly(connection, int.from_bytes(head[:3], "little"))

    def accept(self, connection):
        flags = struct.pack("<I", self.flags)
        greeting = b"\x0a8.0.36\0\x07\0\0\0AAAAAAAA\0" + flags[:2] + b"\x2d\x02\0" + flags[2:] + b"\x15" + bytes(10)
        connection.sendall(self.packet(0, greeting + b"BBBBBBBBBBBB\0mysql_native_password\0"))
        sequence, login = self.read(connection)
        assert sequence == 1 and b"svc\0" in login
        connection.sendall(self.packet(2, self.done))

    def log_in(self, plain, context, token):
        assert self.read(plain)[0] == 0
        request = struct.pack("<IIB23x", self.flags | self.tls, 1 << 24, 45)
        plain.sendall(self.packet(1, request))
        client = context.wrap_socket(plain, server_hostname="table.db.test")
        client.sendall(self.packet(2, request + b"whoever\0\0sales\0mysql_native_password\0\0"))
        assert self.read(client) == (3, b"\xfemysql_clear_password\0")
        client.sendall(self.packet(4, token + b"\0"))
        sequence, said = self.read(client)
        assert (sequence, said[:1]) == (5, b"\0"), said
        return client

    def question(self, kind):
        return self.packet(0, b"\x03select '" + kind + b"', '" + b"x" * SOME + b"'")

    def kind(self, question):
        return question.split(b"'")[1]

    def answer(self):
        column = b"\x03def\0\0\0\x01a\0\x0c\x2d\0" + struct.pack("<I", WHOLE) + b"\xfd\0\0\0\0\0"
        row = b"\xfc" + struct.pack("<H", WHOLE) + b"y" * WHOLE
        payloads = [b"\x01", column, row, b"\xfe\0\0\x02\0\0\0"]
        return b"".join(self.packet(1 + n, payload) for n, payload in enumerate(payloads))


@pytest.mark.parametrize("talk", [RedisTalk(), PostgresTalk(), MysqlTalk()], ids=lambda talk: talk.name)
def test_a_database_session_has_the_bytes_of_both_sides_whoever_ends_it(world, tmp_path, talk):
    saw = {}

    def serve(connection):
        talk.accept(connection)
        question = exactly(connection, len(talk.question(b"d")))
        saw[talk.kind(question)] = len(question)
        match talk.kind(question):
            case b"d":
                connection.sendall(talk.answer())
            case b"c":
                connection.sendall(talk.answer()[:PART])
            case b"u":
                connection.sendall(talk.answer()[:PART])
                threading.Event().wait(0.15)
                return reset(connection)
        with contextlib.suppress(OSError):
            while connection.recv(65536):
                pass
        connection.close()

    listener = plain_server(serve)
    chain, key = world.authority.leaf(f"table-{talk.name}", ["table.db.test"])
    route = world.route(
        "table", 0, upstream=f"tcp://127.0.0.1:{listener.getsockname()[1]}", unsafe_plaintext_upstream=True, protocol=talk.name,
        sni="table.db.test", certificate={"chain": chain, "key": key}, inject={"user": "svc", "password": "{secret:stored}"}, **talk.more,
    )  # fmt: skip
    gateway = Gateway(tmp_path, world.config(route, **talk.listener))
    context = ssl.create_default_context(cafile=world.ca)
    for kind in ENDS:
        plain = socket.create_connection(("127.0.0.1", gateway.port), 10)
        client = talk.log_in(plain, context, world.issuer.token().encode())
        client.sendall(talk.question(kind))
        expected = len(talk.answer()) if kind == b"d" else PART
        got = len(exactly(client, expected))
        # Both logins are the gateway's own, and no bytes of the session's.
        end_and_compare(gateway, client, kind, (saw[kind], got), (len(talk.question(kind)), expected))
    assert gateway.stop() == 0
    listener.close()
