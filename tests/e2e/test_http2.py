"""HTTP/2 with curl and h2load, gRPC with grpcio."""

import json
import re
import time

import grpc
import pytest
from support import parts
from support.gateway import KEY
from support.process import run
from test_http1 import curl


def test_curl_speaks_http2(gateway, world):
    token = world.issuer.token()
    answer = curl(gateway, world, "api", "/hello.txt", "--http2", "-w", "%{http_version}", token=token)
    assert answer.stdout == b"hello from nginx\n2", answer.stderr
    answer = curl(gateway, world, "app", "/look", "--http2", "-w", "\n%{http_version}", token=token)
    body, version = answer.stdout.rsplit(b"\n", 1)
    assert version == b"2" and json.loads(body)["headers"]["authorization"] == f"Bearer {KEY}"


def test_h2load_finds_no_failed_request(gateway, world):
    command = [
        "h2load", "-n", "2000", "-c", "20", "-m", "20", "--connect-to", f"127.0.0.1:{gateway.port}",
        "-H", f"authorization: Bearer {world.issuer.token()}", "https://api.gw.test/hello.txt",
    ]  # fmt: skip
    answer = run(command)
    counts = re.search(rb"(\d+) succeeded, (\d+) failed, (\d+) errored", answer.stdout)
    assert counts and counts.groups() == (b"2000", b"0", b"0"), answer.stdout
    assert b"status codes: 2000 2xx" in answer.stdout


class Grpc:
    def __init__(self, gateway, world, token):
        credentials = grpc.ssl_channel_credentials(open(world.ca, "rb").read())
        options = [("grpc.ssl_target_name_override", "grpc.gw.test"), ("grpc.default_authority", "grpc.gw.test")]
        self.channel = grpc.secure_channel(f"127.0.0.1:{gateway.port}", credentials, options)
        self.metadata = (("authorization", f"Bearer {token}"),) if token else ()
        raw = {"request_serializer": None, "response_deserializer": None}
        self.unary = self.channel.unary_unary("/test.Echo/Unary", **raw)
        self.stream = self.channel.unary_stream("/test.Echo/Stream", **raw)
        self.chat = self.channel.stream_stream("/test.Echo/Chat", **raw)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.channel.close()


def test_grpc_unary_and_server_stream(gateway, world):
    with Grpc(gateway, world, world.issuer.token()) as rpc:
        answer, call = rpc.unary.with_call(b"hello", metadata=rpc.metadata, timeout=10)
        assert answer == b"hello|Bearer " + KEY.encode()
        assert dict(call.trailing_metadata())["x-trailer"] == "here"
        assert list(rpc.stream(b"5", metadata=rpc.metadata, timeout=10)) == [b"0", b"1", b"2", b"3", b"4"]
        large = b"x" * 3_000_000
        assert rpc.unary(large, metadata=rpc.metadata, timeout=20).startswith(large)
    assert gateway.line("request", kind="grpc", path="/test.Echo/Unary")["http"] == "2"


@pytest.mark.parametrize(
    ("who", "code"),
    [(None, grpc.StatusCode.UNAUTHENTICATED), (parts.STRANGER, grpc.StatusCode.PERMISSION_DENIED)],
)
def test_grpc_refusals_are_grpc_statuses(gateway, world, who, code):
    with Grpc(gateway, world, who and world.issuer.token(who)) as rpc:
        with pytest.raises(grpc.RpcError) as error:
            rpc.unary(b"x", metadata=rpc.metadata, timeout=10)
        assert error.value.code() == code


@pytest.mark.parametrize(("on_expiry", "lives"), [("drain", True), ("cut", False), ("grace 60s", True)])
def test_a_stream_outlives_its_token_or_not_as_the_route_says(world, start, on_expiry, lives):
    gateway = start(world.config(world.route("grpc", world.grpc_port, on_expiry=on_expiry)))
    with Grpc(gateway, world, world.issuer.token(parts.BRIEF)) as rpc:

        def requests():
            for n in range(50):
                yield b"m%d" % n
                time.sleep(0.1)

        got, failed = [], None
        try:
            for answer in rpc.chat(requests(), metadata=rpc.metadata, timeout=30):
                got.append(answer)
        except grpc.RpcError as error:
            failed = error.code()
        if lives:
            assert failed is None and len(got) == 50
        else:
            assert failed is not None and 5 < len(got) < 50


def test_a_refused_stream_leaves_the_others_alone(gateway, world):
    good = world.issuer.token()
    with Grpc(gateway, world, None) as rpc:
        running = rpc.stream(b"20", metadata=(("authorization", f"Bearer {good}"),), timeout=20)
        first = next(running)
        for _ in range(20):
            with pytest.raises(grpc.RpcError):
                rpc.unary(b"y" * 5_000, metadata=(("authorization", "Bearer a.b.c"),), timeout=10)
        assert [first, *running] == [str(n).encode() for n in range(20)]


def test_neither_secret_crosses_grpc(world, start):
    gateway = start(world.config(world.route("grpc", world.grpc_port)))
    token, stranger = world.issuer.token(), world.issuer.token(parts.STRANGER)
    with Grpc(gateway, world, token) as rpc:
        quiet = rpc.channel.unary_unary("/test.Echo/Quiet")
        answer, call = quiet.with_call(b"", metadata=(*rpc.metadata, ("x-canary", "grpc-2718")), timeout=10)
        told = repr((answer, call.initial_metadata(), call.trailing_metadata(), call.details()))
        with pytest.raises(grpc.RpcError) as refused:
            quiet(b"", metadata=(("authorization", f"Bearer {stranger}"),), timeout=10)
        told += repr((refused.value.initial_metadata(), refused.value.trailing_metadata(), refused.value.details()))
    assert "here" in told and KEY not in told, "the client saw the credential"
    seen = parts.until(lambda: parts.lines_with(world.grpc, "grpc-2718"))
    assert KEY in seen[0], "the upstream did not get the stored credential"
    gateway.line("request", verdict="refused")
    for secret in (token, stranger):
        assert secret not in world.grpc.text(), "the upstream saw a token"
        assert secret not in gateway.process.text(), "a token is in the log"
    assert KEY not in gateway.process.text()


@pytest.mark.parametrize("version", ["--http1.1", "--http2"])
def test_a_token_that_is_an_empty_variable_is_told_so(gateway, world, version):
    answer = curl(gateway, world, "api", "/hello.txt", version, "-H", "Authorization: Bearer ", "-w", " %{http_code}")
    assert answer.stdout.endswith(b" 401") and b'"code":"no_token"' in answer.stdout, answer
    padded = ["-H", f"Authorization: Bearer {world.issuer.token()} "]
    answer = curl(gateway, world, "api", "/hello.txt", version, *padded, "-w", " %{http_code}")
    if version == "--http1.1":
        assert answer.stdout == b"hello from nginx\n 200", answer
    else:
        # Malformed by RFC 9113 section 8.2.1, which HTTP/1.1 is not.
        assert answer.stdout.endswith(b" 400") and b'"code":"bad_request"' in answer.stdout, answer
        assert "blank" in gateway.line("request", refusal="bad_request")["detail"]
