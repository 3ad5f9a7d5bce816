"""OpenTelemetry traces: what a collector gets, what the upstream is told, and that nobody waits for a collector that is away."""

import base64
import http.server
import pathlib
import re
import signal
import socket
import ssl
import threading
import time

import pytest
from google.protobuf import json_format
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from support import parts
from support.gateway import staunch
from support.process import free_port
from test_life import client, local
from test_operator import Operator, Stream
from test_postgres import Database, connect
from test_tls import Sink, client_context, echo, raw_config, raw_route
from test_tls import connect as connect_raw

KEY = "collector-key-canary-0123456789"
TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
ERROR = 2


class Collector:
    """Takes OTLP in JSON, read by OpenTelemetry's own schema."""

    def __init__(self, world):
        chain, key = world.upstream_pair
        self.spans, self.keys, self.bodies, self.statuses, self.tries = [], set(), [], [], 0
        collector, port = self, free_port()
        self.url = f"https://localhost:{port}/v1/traces"

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                collector.tries += 1
                status = collector.statuses.pop(0) if collector.statuses else 200
                if status == 200:
                    assert self.headers["Content-Type"] == "application/json" and self.path == "/v1/traces"
                    collector.keys.add(self.headers["Authorization"])
                    collector.bodies.append(body.decode())
                    collector.spans += read(body)
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

            def log_message(self, *_):
                pass

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(chain, key)
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def section(self, world, **more):
        return {"traces": {"url": self.url, "ca": world.ca} | more}

    def named(self, name, count=1, **attributes):
        """Waits for so many spans of a name, with these attributes (`__` for a dot)."""
        wanted = {key.replace("__", "."): value for key, value in attributes.items()}

        def found():
            return [span for span in self.spans if span["name"] == name and wanted.items() <= span["attributes"].items()]

        try:
            parts.until(lambda: len(found()) >= count)
        except AssertionError:
            raise AssertionError(f"{name} {wanted} among {[(one['name'], one['attributes']) for one in self.spans]}") from None
        assert len(found()) == count
        return found()


def read(body: bytes) -> list[dict]:
    """The spans of a request; a field that OpenTelemetry does not know is a fault. Ids are hex in OTLP's JSON, and not base64."""
    text = re.sub(
        r'"((?:trace|span|parentSpan)Id)":\s*"([0-9a-f]+)"',
        lambda one: f'"{one[1]}": "{base64.b64encode(bytes.fromhex(one[2])).decode()}"',
        body.decode(),
    )
    request = json_format.Parse(text, ExportTraceServiceRequest())
    [resource] = request.resource_spans
    assert {one.key: one.value.string_value for one in resource.resource.attributes}["service.name"] == "staunch"

    def value(one):
        kind = one.WhichOneof("value")
        return [value(item) for item in one.array_value.values] if kind == "array_value" else getattr(one, kind)

    def span(one):
        assert len(one.trace_id) == 16 and len(one.span_id) == 8 and one.kind == 2
        assert 0 <= one.end_time_unix_nano - one.start_time_unix_nano < 60e9
        assert abs(one.end_time_unix_nano / 1e9 - time.time()) < 60
        return {
            "name": one.name, "trace": one.trace_id.hex(), "span": one.span_id.hex(), "parent": one.parent_span_id.hex(),
            "attributes": {item.key: value(item.value) for item in one.attributes}, "error": one.status.code == ERROR,
            "links": [(link.trace_id.hex(), link.span_id.hex()) for link in one.links],
        }  # fmt: skip

    return [span(one) for one in resource.scope_spans[0].spans]


@pytest.fixture
def collector(world):
    collector = Collector(world)
    yield collector
    collector.server.shutdown()


def look(world, gateway, token, http2=False, **headers):
    """What the upstream saw of a request."""
    bearer = {"Authorization": f"Bearer {token}"} | {name.replace("_", "-"): value for name, value in headers.items()}
    with client(world, http2=http2) as http:
        answer = http.get(f"https://localhost:{gateway.port}/look?secret=query-canary", headers=bearer)
    return answer.json()["headers"] if answer.status_code == 200 else answer.status_code


@pytest.mark.parametrize("http2", [False, True], ids=["http1", "http2"])
def test_a_clients_trace_goes_on_through_the_gateway(world, start, collector, http2, tmp_path):
    key = tmp_path / "collector.key"
    key.touch(mode=0o600)
    key.write_text(KEY + "\n")
    name, version = f"traced-{http2}", "2" if http2 else "1.1"
    gateway = start(world.config(local(world, name)) | collector.section(world, key=f"file:{key}"))
    token = world.issuer.token()
    ask = lambda **headers: look(world, gateway, token, http2, **headers)
    parent = f"00-{TRACE}-{SPAN}-01"
    seen = ask(traceparent=parent, tracestate="congo=t61rcWkgMzE")
    # Without a trace, one begins; what cannot be continued is not, and takes its state with it.
    begun = [ask(**headers) for headers in ({}, {"traceparent": "nonsense", "tracestate": "a=b"}, {"traceparent": f"00-{'0' * 32}-{SPAN}-01"})]
    # A client that does not want its trace kept is obeyed, and its trace goes on all the same.
    silent = ask(traceparent=f"00-{TRACE}-{SPAN}-00")
    assert silent["traceparent"].startswith(f"00-{TRACE}-") and silent["traceparent"].endswith("-00")
    assert look(world, gateway, world.issuer.token(parts.STRANGER), http2) == 403
    version_, trace, span, flags = seen["traceparent"].split("-")
    assert (version_, trace, flags, seen["tracestate"]) == ("00", TRACE, "01", "congo=t61rcWkgMzE") and span != SPAN
    [request] = collector.named("GET app", staunch__request=seen["x-request-id"])
    assert (request["trace"], request["span"], request["parent"]) == (TRACE, span, SPAN) and not request["error"]
    wanted = {
        "http.request.method": "GET", "url.path": "/look", "http.response.status_code": 200, "network.protocol.version": version,
        "enduser.id": parts.ANN, "staunch.issuer": "corp", "staunch.request": seen["x-request-id"], "staunch.route": "app",
        "staunch.verdict": "permitted",
    }  # fmt: skip
    assert wanted.items() <= request["attributes"].items(), request
    # Its session is a trace of its own, which the request names.
    [session] = collector.named("session app", staunch__session=seen["x-request-id"].split("-")[0])
    assert request["links"] == [(session["trace"], session["span"])] and session["trace"] != TRACE and session["parent"] == ""
    assert session["attributes"]["staunch.client_version"] == "TLSv1.3" and session["attributes"]["staunch.requests"] == 1
    for headers in begun:
        assert re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-01", headers["traceparent"]) and TRACE not in headers["traceparent"]
        assert "tracestate" not in headers
        [one] = collector.named("GET app", staunch__request=headers["x-request-id"])
        assert headers["traceparent"] == f"00-{one['trace']}-{one['span']}-01" and one["parent"] == ""
    # Who is turned away has a span, which is no error of the gateway.
    [refused] = collector.named("GET app", staunch__refusal="forbidden")
    assert refused["attributes"]["http.response.status_code"] == 403 and not refused["error"]
    assert gateway.stop() == 0
    assert not [one for one in collector.spans if one["attributes"].get("staunch.request") == silent["x-request-id"]]
    assert collector.keys == {f"Bearer {KEY}"}
    said = "".join(collector.bodies) + gateway.process.text()
    for secret in (token, KEY, "query-canary"):
        assert secret not in said


def test_the_end_of_the_process_sends_what_is_left(world, start, collector):
    gateway = start(world.config(local(world, "traced-end")) | collector.section(world))
    stream = Stream(world, gateway, world.issuer.token())
    [session] = Operator(gateway).sessions()
    gateway.signal(signal.SIGINT)
    parts.until(lambda: stream.ended)
    gateway.process.popen.wait(20)
    [cut] = collector.named("session app")
    assert cut["attributes"]["staunch.session"] == session["id"]
    collector.named("GET app")


def test_raw_sessions_have_spans_and_so_do_those_that_come_to_nothing(world, start, collector):
    machine = world.authority.leaf("traced machine", ["ann.clients.test"])
    gateway = start(raw_config(world, raw_route(world, Sink(world, echo).port)) | collector.section(world))
    with connect_raw(gateway, client_context(world, machine)) as live:
        live.sendall(b"x")
        assert live.recv(1) == b"x"
    [session] = [one for one in collector.named("session raw") if one["attributes"].get("enduser.id")]
    assert session["attributes"]["enduser.id"] == "ann.clients.test" and session["attributes"]["staunch.up_bytes"] == 1
    with socket.create_connection(("127.0.0.1", gateway.port)) as plain:
        plain.sendall(b"GET / HTTP/1.1\r\n\r\n")
        plain.recv(100)
    [plain] = collector.named("session")
    assert plain["attributes"]["staunch.reason"] == "not_tls" and not plain["error"]


def test_statements_are_spans_of_their_session(world, start, collector):
    database = Database(world)
    try:
        config = world.config(database.route("scram", statements="on")) | collector.section(world)
        gateway = start(config)
        to = {
            "host": "scram.pg.test", "hostaddr": "127.0.0.1", "port": gateway.port, "dbname": "postgres", "user": "ann",
            "password": world.issuer.token(), "sslmode": "verify-full", "sslrootcert": world.ca,
        }  # fmt: skip
        with connect(to) as connection:
            assert connection.execute("SELECT 41 + 1").fetchone() == (42,)
            with pytest.raises(Exception, match="no_such_table"):
                connection.execute("SELECT * FROM no_such_table")
        spans = lambda: [one for one in collector.spans if "db.query.text" in one["attributes"]]
        parts.until(lambda: {"SELECT 41 + 1", "SELECT * FROM no_such_table"} <= {one["attributes"]["db.query.text"] for one in spans()})
        [session] = collector.named("session pg-scram")
        for one in spans():
            assert (one["trace"], one["parent"]) == (session["trace"], session["span"])
            assert one["error"] == ("no_such_table" in one["attributes"]["db.query.text"]), one
        assert {one["attributes"].get("db.response.status_code") for one in spans()} >= {"42P01"}
    finally:
        database.stop()


def spans_total(gateway, outcome):
    found = re.search(rf'staunch_trace_spans_total{{outcome="{outcome}"}} (\d+)', gateway.metrics())
    return int(found[1])


def test_a_collector_that_is_away_holds_nobody_up(world, start, collector):
    collector.statuses = [503, 400]
    gateway = start(world.config(local(world, "traced-away")) | collector.section(world))
    token = world.issuer.token()
    began = time.monotonic()
    assert look(world, gateway, token)["traceparent"]
    assert time.monotonic() - began < 5
    # What may be taken later is sent again; what is refused is dropped, and said once.
    parts.until(lambda: spans_total(gateway, "dropped") > 0)
    assert collector.tries == 2 and collector.spans == []
    collector.statuses = [500]
    look(world, gateway, token)
    parts.until(lambda: collector.tries == 3)
    look(world, gateway, token)
    parts.until(lambda: collector.spans and spans_total(gateway, "exported") > 0)
    parts.until(lambda: "traces are exported again" in gateway.process.text())
    assert gateway.process.text().count("traces cannot be exported") == 1
    assert spans_total(gateway, "rejected") == 0


def test_a_reload_has_traces_go_elsewhere_and_end(world, start, collector):
    config = world.config(local(world, "traced-reload"))
    gateway, token = start(config), world.issuer.token()
    # Off: what the client says passes as it is, and no metric is there.
    assert "traceparent" not in look(world, gateway, token)
    assert look(world, gateway, token, traceparent="as it is")["traceparent"] == "as it is"
    assert "trace_spans_total" not in gateway.metrics()
    second = Collector(world)
    for section, is_traced in [(collector.section(world), True), (second.section(world), True), (second.section(world, share=0.0), False), ({}, None)]:
        gateway.write(config | section)
        reloads = gateway.process.text().count("configuration reloaded")
        gateway.signal(signal.SIGHUP)
        parts.until(lambda: gateway.process.text().count("configuration reloaded") > reloads)
        seen = look(world, gateway, token)
        assert ("traceparent" in seen) == (is_traced is not None)
        if is_traced is False:
            assert seen["traceparent"].endswith("-00")
        if is_traced:
            at = collector if section == collector.section(world) else second
            at.named("GET app", staunch__request=seen["x-request-id"])
    assert len([name for name in open_threads(gateway) if name == "traces"]) <= 1
    second.server.shutdown()


def open_threads(gateway):
    return [file.read_text().strip() for file in pathlib.Path(f"/proc/{gateway.process.popen.pid}/task").glob("*/comm")]


def test_the_configuration_of_traces_is_checked(world, tmp_path):
    config = tmp_path / "c.toml"
    for section, told in [
        ('url = "http://localhost:4318/v1/traces"', "no https URL"),
        ('url = "https://localhost:4318/v1/traces"\nca = "absent.pem"', "absent.pem"),
        ('url = "https://localhost:4318/v1/traces"\nkey = "canary-in-the-file"', "named by where it stands"),
        ('url = "https://localhost:4318/v1/traces"\nshare = 1.5', "write a number from 0 to 1"),
        ('url = "https://localhost:4318/v1/traces"\nratio = 1', "ratio"),
        ('ca = "x"', "url"),
    ]:
        config.write_text(f"[traces]\n{section}\n")
        checked = staunch("check", "--config", str(config))
        assert checked.returncode == 1 and told in checked.stderr.decode(), checked.stderr.decode()
