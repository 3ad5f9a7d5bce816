"""HTTP/1.1 with curl, the OpenAI SDK and a WebSocket client."""

import asyncio
import json
import socket
import ssl
import time

import httpx
import openai
import pytest
import websockets
from support import parts
from support.gateway import KEY
from support.process import run


def curl(gateway, world, route, path, *arguments, token=None, seconds=30):
    name = f"{route}.gw.test"
    command = ["curl", "-sS", "--cacert", world.ca, "--connect-to", f"{name}:443:127.0.0.1:{gateway.port}"]
    if token:
        command += ["-H", f"Authorization: Bearer {token}"]
    return run([*command, *arguments, f"https://{name}{path}"], seconds)


def test_curl_gets_a_file_from_nginx(gateway, world):
    token = world.issuer.token()
    # By the second it sends `Connection: TE`.
    for arguments in ([], ["--tr-encoding"]):
        answer = curl(gateway, world, "api", "/hello.txt", "--http1.1", *arguments, token=token)
        assert answer.stdout == b"hello from nginx\n", answer.stderr
    line = gateway.line("request", path="/hello.txt", http="1.1")
    assert (line["status"], line["verdict"], line["issuer"]) == (200, "permitted", "corp")


def test_the_upstream_sees_the_stored_key_and_never_the_token(gateway, world):
    token = world.issuer.token()
    for slot in ("Authorization: Bearer ", "Authorization: token ", "X-Api-Key: ", "api-key: "):
        answer = curl(gateway, world, "app", "/look", "-H", slot + token)
        headers = json.loads(answer.stdout)["headers"]
        assert headers["authorization"] == f"Bearer {KEY}", slot
        assert token not in answer.stdout.decode(), slot
        assert headers["x-forwarded-proto"] == "https" and headers["x-forwarded-for"] == "127.0.0.1"


@pytest.mark.parametrize(
    ("fields", "status", "code"),
    [
        (lambda w: [], 401, "no_token"),
        (lambda w: ["Authorization: Bearer not.a.token"], 401, "invalid_token"),
        (lambda w: ["Authorization: Bearer " + w.issuer.token()[:-4] + "AAAA"], 401, "invalid_token"),
        (lambda w: ["Authorization: Bearer " + w.issuer.forged()], 401, "invalid_token"),
        (lambda w: ["Authorization: Bearer " + w.issuer.token(parts.ELSEWHERE)], 401, "invalid_token"),
        (lambda w: ["Authorization: Bearer " + w.issuer.token(parts.STRANGER)], 403, "forbidden"),
        (
            lambda w: ["Authorization: Bearer " + w.issuer.token(), "X-Api-Key: " + w.issuer.token(parts.STRANGER)],
            400,
            "two_tokens",
        ),
    ],
)
def test_refusals_say_why_and_carry_an_id_that_is_in_the_log(gateway, world, fields, status, code):
    arguments = [argument for field in fields(world) for argument in ("-H", field)]
    answer = curl(gateway, world, "app", "/look", "-D", "-", *arguments)
    head, body = answer.stdout.split(b"\r\n\r\n", 1)
    error = json.loads(body)["error"]
    assert head.startswith(f"HTTP/2 {status}".encode()) or head.startswith(f"HTTP/1.1 {status}".encode()), head
    assert error["code"] == code
    assert b"www-authenticate: Bearer" in head
    line = gateway.line("request", request=error["id"])
    assert (line["verdict"], line["refusal"]) == ("refused", code)
    assert KEY.encode() not in answer.stdout


def test_a_token_is_good_for_thirty_seconds_beyond_its_end_and_no_longer(gateway, world):
    token, issued = world.issuer.token(parts.BRIEF), time.monotonic()
    look = lambda: curl(gateway, world, "app", "/look", "-w", "\n%{http_code}", token=token).stdout.decode().rsplit("\n", 1)
    lifetime, skew = int(parts.BRIEF.rsplit(".", 1)[1]), 30
    time.sleep(lifetime + 2)
    assert look()[1] == "200", "clocks may differ by as much"
    time.sleep(issued + lifetime + skew + 2 - time.monotonic())
    body, status = look()
    assert (status, json.loads(body)["error"]["code"]) == ("401", "expired_token"), body
    assert gateway.line("request", refusal="expired_token")["verdict"] == "refused"


def client(gateway, world, **more):
    """An httpx client whose names all lead to the gateway."""
    context = ssl.create_default_context(cafile=world.ca)
    return httpx.Client(verify=context, **more)


def test_the_openai_sdk_streams_and_does_not(world, start):
    chain, key = world.authority.leaf("local", ["localhost"])
    route = world.route("app", world.hypercorn_port, sni="localhost", certificate={"chain": chain, "key": key})
    gateway = start(world.config(route))
    with client(gateway, world) as http:
        sdk = openai.OpenAI(
            base_url=f"https://localhost:{gateway.port}/v1", api_key=world.issuer.token(), http_client=http
        )
        messages = [{"role": "user", "content": "How do bytes move?"}]
        whole = sdk.chat.completions.create(model="m", messages=messages)
        assert whole.choices[0].message.content == "Bytes move in place."
        chunks = sdk.chat.completions.create(model="m", messages=messages, stream=True)
        words = [chunk.choices[0].delta.content for chunk in chunks]
        assert words == ["Bytes ", "move ", "in ", "place", "."]
        refused = openai.OpenAI(base_url=sdk.base_url, api_key="nonsense", http_client=http, max_retries=0)
        with pytest.raises(openai.AuthenticationError) as error:
            refused.chat.completions.create(model="m", messages=messages)
        assert error.value.status_code == 401


def test_a_websocket_echoes_and_is_refused_without_a_token(world, start):
    chain, key = world.authority.leaf("local-ws", ["localhost"])
    route = world.route("app", world.hypercorn_port, sni="localhost", certificate={"chain": chain, "key": key})
    gateway = start(world.config(route))
    context = ssl.create_default_context(cafile=world.ca)
    url = f"wss://localhost:{gateway.port}/ws"

    async def talk():
        fields = {"Authorization": f"token {world.issuer.token()}"}
        async with websockets.connect(url, ssl=context, additional_headers=fields) as socket:
            for size in (1, 1000, 200_000):
                await socket.send("x" * size)
                assert await socket.recv() == "x" * size
            await socket.send(b"\x00\xff")
            assert await socket.recv() == b"\x00\xff"
        with pytest.raises(websockets.InvalidStatus) as refused:
            await websockets.connect(url, ssl=context)
        assert refused.value.response.status_code == 401

    asyncio.run(asyncio.wait_for(talk(), 20))
    assert gateway.line("request", kind="upgrade", status=101)["ended"] == "whole"


def test_a_websocket_that_the_upstream_refuses_is_no_tunnel(world, start):
    chain, key = world.authority.leaf("local-no-ws", ["localhost"])
    route = world.route("app", world.hypercorn_port, sni="localhost", certificate={"chain": chain, "key": key})
    gateway = start(world.config(route))
    context = ssl.create_default_context(cafile=world.ca)

    async def talk():
        fields = {"Authorization": f"Bearer {world.issuer.token()}"}
        with pytest.raises(websockets.InvalidStatus) as refused:
            await websockets.connect(
                f"wss://localhost:{gateway.port}/refused", ssl=context, additional_headers=fields
            )
        assert refused.value.response.status_code == 403

    asyncio.run(asyncio.wait_for(talk(), 20))
    assert gateway.line("request", kind="upgrade", status=403)["verdict"] == "permitted"
    # What follows a refused upgrade is a request like any other: without a token it gets nowhere.
    upgrade = "GET /refused HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    upgrade += "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n"
    upgrade += f"X-Api-Key: {world.issuer.token()}\r\n\r\n"
    hidden = "GET /look HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    plain = socket.create_connection(("127.0.0.1", gateway.port), 20)
    with context.wrap_socket(plain, server_hostname="localhost", suppress_ragged_eofs=False) as connection:
        connection.sendall((upgrade + hidden).encode())
        got = b""
        try:
            while data := connection.recv(65536):
                got += data
        except ssl.SSLEOFError:
            pass
    assert got.startswith(b"HTTP/1.1 403 "), got
    assert b" 200 " not in got and got.count(b"HTTP/1.1 ") <= 2, got
    if got.count(b"HTTP/1.1 ") == 2:
        assert b"HTTP/1.1 401 " in got, got


def test_neither_secret_crosses_a_websocket(world, start):
    chain, key = world.authority.leaf("local-canary", ["localhost"])
    route = world.route("app", world.hypercorn_port, sni="localhost", certificate={"chain": chain, "key": key})
    gateway = start(world.config(route))
    context, token = ssl.create_default_context(cafile=world.ca), world.issuer.token()

    async def talk():
        fields = {"Authorization": f"Bearer {token}", "X-Canary": "websocket-3141"}
        url = f"wss://localhost:{gateway.port}/ws"
        async with websockets.connect(url, ssl=context, additional_headers=fields) as socket:
            await socket.send("x")
            return await socket.recv(), socket.response

    answer, response = asyncio.run(asyncio.wait_for(talk(), 20))
    seen = parts.until(lambda: parts.lines_with(world.hypercorn, "websocket-3141"))
    assert KEY in seen[0], "the upstream did not get the stored credential"
    assert token not in world.hypercorn.text(), "the upstream saw the token"
    assert KEY not in answer and KEY not in str(response) + str(response.headers), "the client saw the credential"
    gateway.line("request", kind="upgrade")
    assert KEY not in gateway.process.text() and token not in gateway.process.text()
