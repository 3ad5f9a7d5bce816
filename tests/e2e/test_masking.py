"""Masking with real clients: SDKs of model APIs, curl, and `staunch mask try`."""

import json
import ssl
import time

import anthropic
import grpc
import httpx
import httpx2
import openai
import pytest
from support.gateway import KEY, staunch, toml
from support.parts import until
from test_http1 import curl
from test_http2 import Grpc
from websockets.sync.client import connect

# One GPT token each: what a guard that looks at single deltas never sees.
CARD = ["Pay ", "411", "1", " ", "111", "1", " ", "111", "1", " ", "111", "1", " now", ", mail ", "jane", "@", "example", ".com", "."]
MASKED = "Pay 4111 11** **** 1111 now, mail jane************."
SETS = [{"name": "all", "detect": ["personal", "keys"], "members": ["pin"]}]


def masked_route(world, **more) -> dict:
    return world.route("app", world.hypercorn_port, **{"mask": {"down": ["all"]}} | more)


@pytest.fixture(params=["http/1.1", "h2"])
def sdk(world, start, request):
    """A gateway whose route masks, and an HTTP client of its own version."""
    chain, key = world.authority.leaf("masked", ["localhost"])
    route = masked_route(world, sni="localhost", certificate={"chain": chain, "key": key})
    gateway = start(world.config(route, mask=SETS))
    two = request.param == "h2"
    with httpx.Client(verify=ssl.create_default_context(cafile=world.ca), http1=not two, http2=two) as http:
        yield gateway, f"https://localhost:{gateway.port}", http, world.issuer.token()


def test_the_openai_sdk_gets_a_card_over_eleven_tokens_masked(sdk):
    gateway, base, http, token = sdk
    client = openai.OpenAI(base_url=f"{base}/v1", api_key=token, http_client=http, max_retries=0)
    said = [{"role": "system", "content": json.dumps(CARD)}]
    text = ""
    for chunk in client.chat.completions.create(model="m", messages=said, stream=True):
        text += chunk.choices[0].delta.content or ""
    assert text == MASKED
    whole = client.chat.completions.create(model="m", messages=said)
    assert whole.choices[0].message.content == MASKED
    line = gateway.line("request", path="/v1/chat/completions", status=200)
    assert line["masked"] == "down:card=1,email=1", line
    # The second answer's end may be noticed a moment after it was read.
    wanted = 'staunch_masked_total{route="app",direction="down",rule="card"} 2'
    until(lambda: wanted in gateway.metrics())
    metrics = gateway.metrics()
    assert 'staunch_mask_hold_limit_total{route="app",direction="down"} 0' in metrics


def test_the_anthropic_sdk_gets_it_masked(sdk, world, request):
    _, base, http, token = sdk
    # This SDK has an httpx of its own.
    context, two = ssl.create_default_context(cafile=world.ca), request.node.callspec.params["sdk"] == "h2"
    http = httpx2.Client(verify=context, http1=not two, http2=two)
    client = anthropic.Anthropic(base_url=base, api_key=token, http_client=http, max_retries=0)
    request = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "x"}], "system": json.dumps(CARD)}
    with client.messages.stream(**request) as stream:
        assert "".join(stream.text_stream) == MASKED
    assert client.messages.create(**request).content[0].text == MASKED


def test_an_answer_in_a_given_schema_stays_json_and_every_event_too(sdk):
    gateway, base, http, token = sdk
    tokens = ['{"card":', " 411", "1111111", "11111", "1", ', "pin": "12', '34", "note": "a', "t jane@exam", 'ple.com"}']
    masked = {"card": 4111110000001111, "pin": "****", "note": "at jane************"}
    said = [{"role": "system", "content": json.dumps(tokens)}]
    client = openai.OpenAI(base_url=f"{base}/v1", api_key=token, http_client=http, max_retries=0)
    stream = client.chat.completions.create(model="m", messages=said, stream=True)
    assert json.loads("".join(chunk.choices[0].delta.content or "" for chunk in stream)) == masked
    whole = client.chat.completions.create(model="m", messages=said)
    assert json.loads(whole.choices[0].message.content) == masked
    # As frameworks read it: event by event, each JSON, whatever the SDK.
    text = ""
    body, headers = {"model": "m", "messages": said, "stream": True}, {"authorization": f"Bearer {token}"}
    with http.stream("POST", f"{base}/v1/chat/completions", json=body, headers=headers) as answer:
        for line in answer.iter_lines():
            if line.startswith("data: {"):
                text += json.loads(line[6:])["choices"][0]["delta"].get("content") or ""
    assert json.loads(text) == masked


def test_words_that_hold_nothing_are_not_held(sdk):
    _, base, http, token = sdk
    headers = {"authorization": f"Bearer {token}"}
    gaps, last = [], None
    with http.stream("GET", f"{base}/events?8", headers=headers) as answer:
        for line in answer.iter_lines():
            if line.startswith("data:"):
                now = time.monotonic()
                gaps += [now - last] if last else []
                last = now
    assert len(gaps) == 7 and max(gaps) < 0.5, gaps


def test_the_stored_credential_comes_back_masked_and_identity_is_asked_for(sdk):
    _, base, http, token = sdk
    answer = http.get(f"{base}/look", headers={"authorization": f"Bearer {token}", "range": "bytes=0-3"})
    headers = answer.json()["headers"]
    assert headers["accept-encoding"] == "identity" and "range" not in headers
    assert KEY not in answer.text and headers["authorization"].startswith("Bearer " + KEY[:2])
    assert set(headers["authorization"][-8:]) == {"*"}


@pytest.mark.parametrize("version", ["--http1.1", "--http2"])
def test_what_cannot_be_masked_does_not_pass(world, start, version):
    routes = [masked_route(world, mask={"down": ["all"], "up": ["all"]}), world.route("api", world.nginx_port, mask={"down": ["all"]})]
    gateway = start(world.config(*routes, mask=SETS))
    token = world.issuer.token()
    more = ["-H", "Content-Encoding: gzip", "-d", "x", version, "-w", "%{http_code}"]
    answer = curl(gateway, world, "app", "/look", *more, token=token)
    assert answer.stdout.endswith(b"415") and b"unmaskable" in answer.stdout, answer.stdout
    upgrade = ["-H", "Connection: Upgrade", "-H", "Upgrade: other", "--http1.1", "-w", "%{http_code}"]
    assert curl(gateway, world, "app", "/ws", *upgrade, token=token).stdout.endswith(b"415")
    answer = curl(gateway, world, "api", "/gzipped", version, "-w", "%{http_code}", token=token)
    assert answer.stdout.endswith(b"502") and b"unmaskable_answer" in answer.stdout, answer.stdout


def test_a_websocket_is_masked_both_ways_with_a_client_that_would_compress(world, start):
    chain, key = world.authority.leaf("masked-ws", ["localhost"])
    route = masked_route(world, sni="localhost", certificate={"chain": chain, "key": key})
    gateway = start(world.config(route, mask=SETS))
    context = ssl.create_default_context(cafile=world.ca)
    headers = {"Authorization": f"Bearer {world.issuer.token()}"}
    with connect(f"wss://localhost:{gateway.port}/ws", ssl=context, additional_headers=headers) as socket:
        socket.send("card 4111 1111 1111 1111 and")
        assert socket.recv(5) == "card 4111 11** **** 1111 and"
        socket.send(json.dumps({"pin": 1234, "n": 1}))
        assert json.loads(socket.recv(5)) == {"pin": 1000, "n": 1}
    assert gateway.line("request", path="/ws")["masked"] == "down:card=1,members-all=1"


def test_requests_are_masked_too_and_observing_changes_nothing(world, start):
    body = json.dumps({"pin": "1234", "text": "ssn 536-90-4399", "n": 1})
    for mode, pin, ssn in [("mask", "****", "536-**-****"), ("observe", "1234", "536-90-4399")]:
        route = world.route("app", world.hypercorn_port, mask={"up": ["all"], "mode": mode})
        gateway = start(world.config(route, mask=SETS))
        more = ["-H", "Content-Type: application/json", "-d", body, "--http1.1"]
        answer = curl(gateway, world, "app", "/echo", *more, token=world.issuer.token())
        seen = json.loads(answer.stdout)
        assert (seen["pin"], seen["text"], seen["n"]) == (pin, f"ssn {ssn}", 1), mode
        prefix = "" if mode == "mask" else "observed "
        assert gateway.line("request", path="/echo")["masked"] == f"up:{prefix}ssn=1,members-all=1"


def test_mask_try_shows_what_would_be_masked(world, tmp_path):
    (tmp_path / "stored.key").write_text(KEY)
    (tmp_path / "stored.key").chmod(0o600)
    config = world.config(masked_route(world), mask=SETS) | {"listener": [{"address": "127.0.0.1:0"}]}
    lines = []
    for name, value in config.items():
        for table in value if isinstance(value, list) else [value]:
            lines += [f"[[{name}]]" if isinstance(value, list) else f"[{name}]"]
            lines += [f"{key} = {toml(one)}" for key, one in table.items()]
    (tmp_path / "gateway.toml").write_text("\n".join(lines))
    delta = [json.dumps({"choices": [{"index": 0, "delta": {"content": word}}]}) for word in CARD]
    (tmp_path / "stream.txt").write_text("".join(f"data: {event}\n\n" for event in delta))
    answer = staunch("mask", "try", str(tmp_path / "stream.txt"), "-c", str(tmp_path / "gateway.toml"), "-r", "app")
    assert answer.returncode == 0, answer.stderr
    text = "".join(json.loads(line[6:])["choices"][0]["delta"]["content"] for line in answer.stdout.splitlines() if line)
    assert text == MASKED
    told = answer.stderr.decode()
    assert "2 values; of 20 events, " in told and "card" in told, told
    held = [line.split() for line in told.splitlines() if line.endswith((" card, and overwritten", " email, and overwritten"))]
    # From the third digit of the fifth token until the word behind the number, and from the @ to the end, where no host goes on.
    assert [(line[2], line[3], line[-3]) for line in held] == [("5", "13", "card,"), ("16", "the", "email,")], told
    checked = staunch("check", "-c", str(tmp_path / "gateway.toml"))
    assert "card             may pass: its first six digits" in checked.stdout.decode(), checked.stdout


def test_grpc_messages_are_masked_and_a_compressed_one_ends_its_call_alone(world, start):
    route = world.route("grpc", world.grpc_port, mask={"down": ["all"], "up": ["all"]})
    gateway = start(world.config(route, mask=SETS))
    with Grpc(gateway, world, world.issuer.token()) as rpc:
        # Field 5 of a message in field 2; what follows reads as a letter. The server puts it into capitals.
        message = b"\x12\x1a\x2a\x10jane@example.com\x4a\x06behind"
        masked = b"\x12\x1a\x2a\x10JANE************\x4a\x06BEHIND"
        assert list(rpc.chat(iter([message] * 3), metadata=rpc.metadata, timeout=10)) == [masked] * 3
        answer = rpc.unary(b"4111111111111111", metadata=rpc.metadata, timeout=10)
        assert answer.startswith(b"411111******1111|Bearer ") and KEY.encode() not in answer
        for unmaskable in {"compression": grpc.Compression.Gzip}, {}:
            with pytest.raises(grpc.RpcError):
                rpc.unary(b"jane@example.com" * 3000, metadata=rpc.metadata, timeout=10, **unmaskable)
        assert list(rpc.chat(iter([message]), metadata=rpc.metadata, timeout=10)) == [masked]
    line = gateway.line("request", path="/test.Echo/Chat")
    assert "email=3" in line["masked"], line
